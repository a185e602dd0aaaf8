package message

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

// A locale is one catalog, compiled: phrases cut at their placeholders, and the words for what is left of a code's life, chosen among
// the plural forms by go-i18n (CLDR) once for every number of minutes that can occur.
type locale struct {
	name    string // BCP 47
	phrases [phraseCount]phrase
	expires [maxMinutes + 1]string // by minutes; 0 is not used
}

// maxMinutes is the longest life told. Policy allows a code 10 minutes at most; anything above is told as this, never as longer than it is.
const maxMinutes = 60

// A phraseID names a message of the catalogs.
type phraseID int

const (
	subject phraseID = iota
	smsLogin
	smsTransaction
	preheader
	headingLogin
	introLogin
	ignoreLogin
	headingTransaction
	introTransaction
	ignoreTransaction
	labelAmount
	labelPayee
	keepSecret
	phraseCount
)

var phraseNames = [phraseCount]string{
	"subject", "sms_login", "sms_transaction", "preheader",
	"heading_login", "intro_login", "ignore_login",
	"heading_transaction", "intro_transaction", "ignore_transaction",
	"label_amount", "label_payee", "keep_secret",
}

// expiresName is the one message with plural forms.
const expiresName = "expires"

// A field is a placeholder of the catalogs; none stands for text without one.
type field int

const (
	none field = iota
	code
	app
	expires
	amount
	payee
	fieldCount
)

// values are what placeholders are filled with.
type values [fieldCount]string

// A phrase is text cut at its placeholders. Filling it copies values once and looks into none of them, so a value that itself looks
// like a placeholder stays text.
type phrase []segment

// A segment is literal text followed by a field.
type segment struct {
	text  string
	field field
}

func (p phrase) size(v *values) (n int) {
	for _, s := range p {
		n += len(s.text) + len(v[s.field])
	}
	return n
}

func (p phrase) write(b *strings.Builder, v *values) {
	for _, s := range p {
		b.WriteString(s.text)
		b.WriteString(v[s.field])
	}
}

func (p phrase) fill(v *values) string {
	var b strings.Builder
	b.Grow(p.size(v))
	p.write(&b, v)
	return b.String()
}

// fields returns the phrase's placeholders, sorted: their order in the text is the language's own affair.
func (p phrase) fields() (fields []field) {
	for _, s := range p {
		if s.field != none {
			fields = append(fields, s.field)
		}
	}
	slices.Sort(fields)
	return fields
}

// markers stand for the values while a phrase is compiled: each is one control character, which no catalog contains.
var markers = struct{ Code, App, Expires, Amount, Payee string }{
	marker(code), marker(app), marker(expires), marker(amount), marker(payee),
}

func marker(f field) string { return string(rune(f)) }

func compile(bundle *i18n.Bundle, tag language.Tag) (*locale, error) {
	l := &locale{name: tag.String()}
	localizer := i18n.NewLocalizer(bundle, tag.String())
	// An error comes also when go-i18n found only the English message or only the "other" form: both would be a gap in this catalog.
	localize := func(config *i18n.LocalizeConfig) (string, error) {
		s, err := localizer.Localize(config)
		if err != nil {
			return "", fmt.Errorf("message %q: %w", config.MessageID, err)
		}
		return s, nil
	}
	for id, name := range phraseNames {
		marked, err := localize(&i18n.LocalizeConfig{MessageID: name, TemplateData: markers})
		if err != nil {
			return nil, err
		}
		if l.phrases[id], err = cut(marked); err != nil {
			return nil, fmt.Errorf("message %q: %w", name, err)
		}
	}
	for minutes := 1; minutes <= maxMinutes; minutes++ {
		s, err := localize(&i18n.LocalizeConfig{MessageID: expiresName, PluralCount: minutes})
		if err != nil {
			return nil, err
		}
		l.expires[minutes] = s
	}
	return l, nil
}

// cut turns a text with markers into a phrase.
func cut(marked string) (phrase, error) {
	if strings.TrimSpace(marked) == "" {
		return nil, fmt.Errorf("is empty")
	}
	var p phrase
	for marked != "" {
		i := strings.IndexFunc(marked, func(r rune) bool { return r < ' ' })
		if i < 0 {
			return append(p, segment{text: marked}), nil
		}
		f := field(marked[i])
		if f == none || f >= fieldCount {
			return nil, fmt.Errorf("has the control character %U", marked[i])
		}
		p = append(p, segment{text: marked[:i], field: f})
		marked = marked[i+1:]
	}
	return p, nil
}

// sameShape checks l against English, which is the first of the locales compiled before it: the same placeholders in each message,
// and the code first in every short message, where phones look for it. With that no short message can begin with a name.
func (l *locale) sameShape(before []*locale) error {
	for _, id := range [...]phraseID{smsLogin, smsTransaction} {
		if first := l.phrases[id][0]; first.text != "" || first.field != code {
			return fmt.Errorf("message %q: does not begin with the code", phraseNames[id])
		}
	}
	if len(before) == 0 {
		return nil
	}
	english := before[0]
	for id, p := range l.phrases {
		if !slices.Equal(p.fields(), english.phrases[id].fields()) {
			return fmt.Errorf("message %q: has not the placeholders of the English one", phraseNames[id])
		}
	}
	return nil
}

// expiry words what is left of a code's life: whole minutes, rounded up, at least one.
func (l *locale) expiry(left time.Duration) string {
	switch {
	case left <= time.Minute:
		return l.expires[1]
	case left > (maxMinutes-1)*time.Minute:
		return l.expires[maxMinutes]
	default:
		return l.expires[(left+time.Minute-1)/time.Minute]
	}
}
