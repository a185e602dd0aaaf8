package letter

import (
	"errors"
	"fmt"
	"os"
	"unicode"

	"codeberg.org/go-pdf/fpdf"
	"github.com/go-fonts/liberation/liberationsansbold"
	"github.com/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font/sfnt"
)

// maxFont bounds the operator's font file in octets; Japanese ones have 4 to 12 MB.
const maxFont = 32 << 20

// A face is one font with all that is needed to print in it.
type face struct {
	family        string
	regular, bold []byte // TrueType; bold is nil where the outlines of the regular one are drawn thicker
	has           *sfnt.Font
}

// Fonts are what letters are printed in: Liberation Sans (Latin, Greek, Cyrillic), which is part of the program, and a Japanese font where the
// operator gave one. It is safe for concurrent use.
type Fonts struct{ faces []face }

// LoadFonts reads the Japanese font from a TrueType file, such as Debian's /usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf; with "" there is
// none. Its outlines must be of the TrueType kind, and it must have kana and the commonest kanji: anything else is refused here, not at the first
// letter.
func LoadFonts(japanese string) (*Fonts, error) {
	latin, err := newFace("latin", liberationsansregular.TTF, liberationsansbold.TTF)
	if err != nil {
		return nil, err
	}
	f := &Fonts{faces: []face{latin}}
	if japanese == "" {
		return f, nil
	}
	text, err := readFont(japanese)
	if err != nil {
		return nil, err
	}
	cjk, err := newFace("japanese", text, nil)
	if err != nil {
		return nil, fmt.Errorf("letter: the font %s: %w", japanese, err)
	}
	var b sfnt.Buffer
	for _, r := range "日本あア、。" {
		if !cjk.covers(&b, r) {
			return nil, fmt.Errorf("letter: the font %s is not a Japanese one: it lacks %q", japanese, r)
		}
	}
	f.faces = append(f.faces, cjk)
	return f, nil
}

func readFont(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("letter: reading the Japanese font: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFont {
		return nil, fmt.Errorf("letter: the Japanese font %s is not a file of at most %d MB", path, maxFont>>20)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("letter: reading the Japanese font: %w", err)
	}
	return text, nil
}

// newFace checks that both the reader of characters and the writer of PDFs can work with a font; bold may be nil.
func newFace(family string, regular, bold []byte) (f face, err error) {
	if len(regular) < 4 || string(regular[:4]) != "\x00\x01\x00\x00" && string(regular[:4]) != "true" {
		return f, errors.New("not a TrueType font (a collection or one with PostScript outlines cannot be printed)")
	}
	has, err := sfnt.Parse(regular)
	if err != nil {
		return f, fmt.Errorf("not a sound font: %w", err)
	}
	f = face{family: family, regular: regular, bold: bold, has: has}
	defer func() { // the writer trusts the tables of a font
		if p := recover(); p != nil {
			err = fmt.Errorf("not a sound font: %v", p)
		}
	}()
	pdf := fpdf.New("P", "mm", "A4", "")
	pdf.AddUTF8FontFromBytes(family, "", regular)
	pdf.SetFont(family, "", 10)
	pdf.GetStringWidth("0")
	return f, pdf.Error()
}

// covers reports whether the face has a glyph for r. The writer of PDFs knows no characters beyond the Basic Multilingual Plane.
func (f *face) covers(b *sfnt.Buffer, r rune) bool {
	if r == 0 || r > 0xFFFE {
		return false
	}
	i, err := f.has.GlyphIndex(b, r)
	return err == nil && i != 0
}

// Japanese reports whether letters can be written in Japanese.
func (f *Fonts) Japanese() bool { return len(f.faces) > 1 }

// A MissingError says that a text has characters that no font has. It does not quote them: they may be of an address.
type MissingError struct{ Count int }

func (e *MissingError) Error() string {
	return fmt.Sprintf("letter: %d characters are in none of the fonts", e.Count)
}

// Check returns a *MissingError if some characters of the texts cannot be printed. They would come out as boxes, and a letter whose address is
// half boxes goes nowhere.
func (f *Fonts) Check(texts ...string) error {
	var b sfnt.Buffer
	missing := 0
	for _, t := range texts {
		for _, r := range t {
			if f.pick(&b, r, 0) < 0 {
				missing++
			}
		}
	}
	if missing > 0 {
		return &MissingError{Count: missing}
	}
	return nil
}

// pick returns the index of the face that prints r, prefer first, or -1.
func (f *Fonts) pick(b *sfnt.Buffer, r rune, prefer int) int {
	if !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) {
		return -1
	}
	if f.faces[prefer].covers(b, r) {
		return prefer
	}
	for i := range f.faces {
		if i != prefer && f.faces[i].covers(b, r) {
			return i
		}
	}
	return -1
}

// A run is a stretch of text in one face.
type run struct {
	face int
	text string
}

// runs splits text, which Check has passed, by face. A space stays with what stands before it.
func (f *Fonts) runs(b *sfnt.Buffer, text string, prefer int) []run {
	var out []run
	for i, r := range text {
		k := f.pick(b, r, prefer)
		if n := len(out); n > 0 && (out[n-1].face == k || r == ' ') {
			out[n-1].text = text[i-len(out[n-1].text):i] + string(r)
		} else {
			out = append(out, run{face: k, text: string(r)})
		}
	}
	return out
}
