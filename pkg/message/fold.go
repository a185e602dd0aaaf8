package message

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// folds are characters outside the GSM alphabet and what is written for them there. Letters with marks are not in it: they fold to the letter itself.
var folds = map[rune]string{
	'Ł': "L", 'ł': "l", 'Đ': "D", 'đ': "d", 'Ħ': "H", 'ħ': "h", 'Ŧ': "T", 'ŧ': "t", 'ı': "i", 'ĸ': "k", 'Œ': "OE", 'œ': "oe", 'ẞ': "ß", 'Ŋ': "N", 'ŋ': "n",
	'Ő': "Ö", 'ő': "ö", 'Ű': "Ü", 'ű': "ü", // nearer to these than to the bare letter
	'“': `"`, '”': `"`, '„': `"`, '‟': `"`, '«': `"`, '»': `"`, '″': `"`,
	'‘': "'", '’': "'", '‚': "'", '‛': "'", '‹': "'", '›': "'", '`': "'", '´': "'", '′': "'", 'ʼ': "'",
	'‐': "-", '‑': "-", '‒': "-", '–': "-", '—': "-", '―': "-", '−': "-",
	'…': "...", '•': "*", '·': ".", '×': "x", '⁄': "/", 'ﬁ': "fi", 'ﬂ': "fl",
}

// Fold writes a text with the characters of the GSM alphabet (3GPP TS 23.038) where one of them looks like what stands there: Latin letters lose the
// marks that the alphabet does not have (ě is written e, while é, ü and ñ stay), typographic quotation marks, dashes, dots and spaces become plain ones.
// It is for the sake of segments: one letter outside the alphabet makes a message take more than twice the room.
//
// Letters of other scripts stay as they are, though some look Latin: who writes "Раураl" in Cyrillic letters must not get "PayPal". What has no
// look-alike stays too, and digits and line breaks are never touched.
func Fold(text string) string {
	if inGSM(text) {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	latin := false // the character before was a Latin letter, whose marks may go
	for _, r := range norm.NFC.String(text) {
		switch {
		case septets[r] > 0:
			b.WriteRune(r)
		case folds[r] != "":
			b.WriteString(folds[r])
		case unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case unicode.Is(unicode.Mn, r):
			if !latin {
				b.WriteRune(r)
			}
			continue // the letter before it counts on
		default:
			b.WriteString(bare(r))
		}
		latin = unicode.Is(unicode.Latin, r)
	}
	return b.String()
}

// bare returns a Latin letter without its marks; any other character as it is.
func bare(r rune) string {
	if !unicode.Is(unicode.Latin, r) {
		return string(r)
	}
	base := r
	for _, d := range norm.NFD.String(string(r)) {
		base = d
		break
	}
	if folds[base] != "" { // "ǿ" and its like
		return folds[base]
	}
	return string(base)
}
