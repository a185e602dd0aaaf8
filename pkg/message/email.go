package message

import (
	"fmt"
	"strings"

	"github.com/otpost/otpost/pkg/otp"
)

// An EmailMessage is a rendered email, of a code or a notice: the subject and the two parts of a multipart/alternative body.
type EmailMessage struct {
	Subject string // one line, not yet encoded for a header
	Text    string // text/plain, UTF-8; lines end with LF
	HTML    string // text/html, UTF-8
	Locale  string // BCP 47, the language it is written in
}

// Email renders an email with a code. Its error wraps [ErrInput] when the input is to blame, and holds no code.
//
// The subject begins with the code. It can be read off a notification or the list of messages without opening anything, and it is
// what mail programs fill in from. Leaving it out would hide little: a locked screen that shows the subject shows the start of
// the text as well, and relays that log subjects log a code that is worth nothing a few minutes later or in another session.
func (c *Catalog) Email(in Input) (EmailMessage, error) {
	l := c.locale(in.Locale, in.Fallback)
	v, err := in.values(l)
	if err != nil {
		return EmailMessage{}, err
	}
	w, err := in.wording()
	if err != nil {
		return EmailMessage{}, err
	}
	if own := c.own(in.AppKey, otp.Email, w.template, l.name); own != nil {
		return own.email(c, l, w, &v)
	}
	fill := func(id phraseID) string { return l.phrases[id].fill(&v) }
	p := page{
		Lang:      l.name,
		Subject:   fill(w.subject),
		Preheader: fill(preheader),
		Heading:   fill(w.heading),
		Words:     []string{fill(w.intro)},
		Code:      v[code],
		Notes:     []string{v[expires], fill(keepSecret)},
		Last:      fill(w.ignore),
	}
	if in.Transaction != nil {
		p.Rows = []row{{fill(labelAmount), v[amount]}, {fill(labelPayee), v[payee]}}
	}
	return c.email(&p)
}

// A page is what the email templates show, from top to bottom.
type page struct {
	Lang, Subject, Preheader string

	Heading string
	Rows    []row
	Words   []string // a paragraph each
	Code    string   // stands by itself below Words; empty for none
	Notes   []string // a line each, below the code
	Last    string   // in small letters: what to do if it was somebody else
}

type row struct{ Label, Value string }

func (c *Catalog) email(p *page) (EmailMessage, error) {
	var text, html strings.Builder
	if err := c.text.Execute(&text, p); err != nil {
		return EmailMessage{}, fmt.Errorf("render the text of an email: %w", err)
	}
	if err := c.html.Execute(&html, p); err != nil {
		return EmailMessage{}, fmt.Errorf("render the HTML of an email: %w", err)
	}
	return EmailMessage{Subject: p.Subject, Text: text.String(), HTML: html.String(), Locale: p.Lang}, nil
}
