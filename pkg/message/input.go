package message

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/otp"
)

// An Input is one code on its way to a person.
type Input struct {
	Purpose     Purpose          // what the code is for; empty for a login
	AppKey      string           // the app's name in the system, by which its own words are found; empty for none
	App         string           // the app's name for people, such as "Shop"; cut after MaxName characters
	Code        string           // otp.MinDigits to otp.MaxDigits ASCII digits
	Locale      string           // BCP 47, as the app or the user asked; may be empty or unknown
	Fallback    string           // BCP 47, the app's default, used when Locale matches no catalog; English is the last resort
	Life        time.Duration    // what is left of the code's life; told in minutes, hours or days, from 1 minute to 60 days
	Origin      string           // the app's web origin, such as "https://shop.example" (see [WebOTPHost]), or empty; for SMS only
	Transaction *otp.Transaction // what the code approves; nil for a plain login
	Hash        string           // of the Android app that is to find the code in a short message (see [ValidHash]), or empty; for SMS only
	Style       Style
}

// Style is what an app's policy says of short messages, calls and WhatsApp messages. The zero value is the default.
type Style struct {
	NoWebOTP     bool // without the WebOTP line, though the app has an origin
	NoKeepSecret bool // without the words not to share the code, but for codes that can take a second factor away
	Fold         bool // an SMS is written with [Fold] where that saves a segment
}

// MaxName is the most characters of an app's name that a message shows.
const MaxName = 64

// values checks the input and makes what people supplied fit to stand in a message.
func (in *Input) values(l *locale) (v values, err error) {
	if !digits(in.Code) {
		return v, fmt.Errorf("%w: the code is not %d to %d digits", ErrInput, otp.MinDigits, otp.MaxDigits)
	}
	v[code] = in.Code
	v[expires] = l.expiry(in.Life)
	if v[app], err = appName(in.App); err != nil {
		return v, err
	}
	if in.Transaction == nil {
		return v, nil
	}
	v[amount], v[payee] = clean(in.Transaction.Amount), clean(in.Transaction.Payee)
	// A transaction is shown whole or not at all: a cut amount is a wrong amount, and the user must see what the code is bound to.
	for _, f := range [...]struct {
		name  string
		field field
	}{{"amount", amount}, {"payee", payee}} {
		switch n := utf8.RuneCountInString(v[f.field]); {
		case n == 0:
			return v, fmt.Errorf("%w: the transaction's %s has nothing to show", ErrInput, f.name)
		case n > otp.MaxTransactionField:
			return v, fmt.Errorf("%w: the transaction's %s has more than %d characters", ErrInput, f.name, otp.MaxTransactionField)
		}
	}
	return v, nil
}

// appName makes an app's name fit to stand in a message.
func appName(s string) (string, error) {
	if s = shorten(clean(s), MaxName); s == "" {
		return "", fmt.Errorf("%w: the app's name has nothing to show", ErrInput)
	}
	return s, nil
}

func digits(s string) bool {
	if len(s) < otp.MinDigits || len(s) > otp.MaxDigits {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// clean makes s one harmless line. White space, line breaks and control characters become single spaces. What cannot be seen (bidi
// controls, zero-width characters, variation selectors, blank fillers, bytes that are not UTF-8) goes, because it serves to disguise.
// An "@" that begins a word goes too: some phones look for "@host #code" after any space or mark, not only on the last line.
func clean(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false  // white space was met since the last character kept
	inWord := false // the last character kept is one of a word
	for _, r := range s {
		switch begins := space || !inWord; {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			space = true
			continue
		case r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
			continue
		case begins && (r == '@' || r == '＠' || r == '﹫'):
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		if !unicode.IsMark(r) || space { // a mark goes with what it stands on
			inWord = wordy(r)
		}
		space = false
		b.WriteRune(r)
	}
	return b.String()
}

// wordy reports whether r is of a word, also where an SMS is written with [Fold].
func wordy(r rune) bool {
	if f := folds[r]; f != "" {
		r, _ = utf8.DecodeLastRuneInString(f)
	}
	return unicode.IsLetter(r) || unicode.IsNumber(r) || r == '_'
}

// plain reports whether s is already as clean would leave it, for the common case of printable ASCII.
func plain(s string) bool {
	last := byte(' ')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || last == ' ' && c == ' ' || c == '@' && !wordy(rune(last)) {
			return false
		}
		last = c
	}
	return last != ' ' || s == ""
}

// shorten cuts s to limit characters. Three dots say so rather than an ellipsis, which is not in the GSM alphabet.
func shorten(s string, limit int) string {
	const dots = "..."
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	n := 0
	for i := range s {
		if n == limit-len(dots) {
			return strings.TrimRight(s[:i], " ") + dots
		}
		n++
	}
	return s
}
