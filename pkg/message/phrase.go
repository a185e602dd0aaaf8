package message

import (
	"fmt"
	"slices"
	"strings"
)

// A field is a placeholder of the catalogs; none stands for text without one.
type field int

const (
	none field = iota
	code
	app
	expires
	amount
	payee
	when
	effective
	factor
	label
	reason
	left
	detail
	advice
	cancel
	first
	second
	day
	month
	year
	clock
	date
	until
	secret
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

// beginsWith reports whether the phrase's first character is that of the field's value.
func (p phrase) beginsWith(f field) bool { return p[0].text == "" && p[0].field == f }

// markers stand for the values while a phrase is compiled: each is one character of private use, which no catalog contains.
var markers = struct {
	Code, App, Expires, Amount, Payee                                                   string
	When, Effective, Factor, Label, Reason, Left, Detail, Advice, Cancel, First, Second string
	Day, Month, Year, Time, Date, Until, Secret                                         string
}{
	marker(code), marker(app), marker(expires), marker(amount), marker(payee),
	marker(when), marker(effective), marker(factor), marker(label), marker(reason), marker(left), marker(detail), marker(advice), marker(cancel),
	marker(first), marker(second),
	marker(day), marker(month), marker(year), marker(clock), marker(date), marker(until), marker(secret),
}

// firstMarker begins the Unicode block of private use.
const firstMarker = '\ue000'

func marker(f field) string { return string(firstMarker + rune(f)) }

// cut turns a text with markers into a phrase.
func cut(marked string) (phrase, error) {
	if strings.TrimSpace(marked) == "" {
		return nil, fmt.Errorf("is empty")
	}
	var (
		p     phrase
		start int
	)
	for i, r := range marked {
		switch {
		case r < ' ':
			return nil, fmt.Errorf("has the control character %U", r)
		case r > firstMarker && r < firstMarker+rune(fieldCount):
			p = append(p, segment{text: marked[start:i], field: field(r - firstMarker)})
			start = i + len(string(firstMarker))
		}
	}
	if start < len(marked) {
		p = append(p, segment{text: marked[start:]})
	}
	return p, nil
}
