package message

import (
	"fmt"
	"strings"
)

// An EmailMessage is a rendered email: the subject and the two parts of a multipart/alternative body.
type EmailMessage struct {
	Subject string // one line, not yet encoded for a header
	Text    string // text/plain, UTF-8; lines end with LF
	HTML    string // text/html, UTF-8
	Locale  string // BCP 47, the language it is written in
}

// Email renders an email. Its error wraps [ErrInput] when the input is to blame, and holds no code.
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
	fill := func(id phraseID) string { return l.phrases[id].fill(&v) }
	p := page{
		Lang:       l.name,
		Subject:    fill(subject),
		Preheader:  fill(preheader),
		Heading:    fill(headingLogin),
		Intro:      fill(introLogin),
		Ignore:     fill(ignoreLogin),
		Code:       v[code],
		Expires:    v[expires],
		KeepSecret: fill(keepSecret),
	}
	if in.Transaction != nil {
		p.Heading, p.Intro, p.Ignore = fill(headingTransaction), fill(introTransaction), fill(ignoreTransaction)
		p.Transaction = &pageTransaction{
			AmountLabel: fill(labelAmount), Amount: v[amount],
			PayeeLabel: fill(labelPayee), Payee: v[payee],
		}
	}
	var text, html strings.Builder
	if err := c.text.Execute(&text, p); err != nil {
		return EmailMessage{}, fmt.Errorf("render the text of an email: %w", err)
	}
	if err := c.html.Execute(&html, p); err != nil {
		return EmailMessage{}, fmt.Errorf("render the HTML of an email: %w", err)
	}
	return EmailMessage{Subject: p.Subject, Text: text.String(), HTML: html.String(), Locale: l.name}, nil
}

// A page is what the email templates show.
type page struct {
	Lang, Subject, Preheader, Heading, Intro, Code, Expires, KeepSecret, Ignore string

	Transaction *pageTransaction
}

type pageTransaction struct{ AmountLabel, Amount, PayeeLabel, Payee string }
