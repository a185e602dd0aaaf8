package message

import (
	"errors"
	"fmt"
	"html/template"
	"strings"

	"github.com/otpost/otpost/pkg/otp"
)

// own are the compiled words of a [Template]. Parts that it does not have are nil.
type own struct{ subject, text, html phrase }

// A place names a message that an app may word: a channel, a purpose of templates, and a locale.
type place struct {
	channel otp.Channel
	purpose string
	locale  string
}

// overrides are the apps' own words, by the app's name in the system. They are replaced as a whole and never changed.
type overrides map[string]map[place]*own

// SetOverrides replaces what all apps have of their own words, at once for every message that is rendered from then on. Templates that [Catalog.Check]
// would refuse whatever the app's name and origin are are left out, and the messages of their places are otpost's own; the error says of which apps they are.
func (c *Catalog) SetOverrides(byApp map[string][]Template) error {
	all := make(overrides, len(byApp))
	var refused []error
	for name, templates := range byApp {
		words := make(map[place]*own, len(templates))
		for _, t := range templates {
			// The shortest name there is: the app's may have grown since the template was set, and that takes no words away.
			if err := c.check(t, Limits{App: "n", Digits: otp.MinDigits}, t.onlyHost()); err != nil {
				refused = append(refused, fmt.Errorf("template of %s for %s, %s, %q: %w", name, t.Channel, t.Purpose, t.Locale, err))
				continue
			}
			o, err := t.lines().compile()
			if err != nil {
				refused = append(refused, err) // not reached: Check compiles
				continue
			}
			words[place{t.Channel, t.Purpose, t.Locale}] = o
		}
		all[name] = words
	}
	c.overrides.Store(&all)
	return errors.Join(refused...)
}

// own returns an app's own words for a message, nil for none: those of the message's language, or else those of every language. WhatsApp takes those of
// SMS where it has none itself.
func (c *Catalog) own(app string, channel otp.Channel, purpose, locale string) *own {
	all := c.overrides.Load()
	if all == nil || app == "" {
		return nil
	}
	words := (*all)[app]
	for _, locale := range [...]string{locale, ""} {
		if o := words[place{channel, purpose, locale}]; o != nil {
			return o
		}
	}
	if channel == otp.WhatsApp {
		return c.own(app, otp.SMS, purpose, locale)
	}
	return nil
}

// An ownPage is what the template of an app's own HTML shows: the app's body, or the text in paragraphs.
type ownPage struct {
	Lang, Subject, Preheader string

	Body       template.HTML
	Paragraphs [][]string // of lines
}

// email writes an email in the app's own words. The preheader is otpost's own: it has the code, for lists of messages and notifications.
func (o *own) email(c *Catalog, l *locale, w *wording, v *values) (EmailMessage, error) {
	m := EmailMessage{Subject: l.phrases[w.subject].fill(v), Text: strings.TrimRight(o.text.fill(v), "\n") + "\n", Locale: l.name}
	if o.subject != nil {
		m.Subject = o.subject.fill(v)
	}
	p := ownPage{Lang: l.name, Subject: m.Subject, Preheader: l.phrases[preheader].fill(v)}
	if o.html == nil {
		for paragraph := range strings.SplitSeq(strings.Trim(m.Text, "\n"), "\n\n") {
			p.Paragraphs = append(p.Paragraphs, strings.Split(strings.Trim(paragraph, "\n"), "\n"))
		}
	} else {
		var escaped values
		for f, s := range v {
			escaped[f] = template.HTMLEscapeString(s)
		}
		p.Body = template.HTML(o.html.fill(&escaped)) //nolint:gosec // the words were checked, and the values stand in texts and are escaped
	}
	var b strings.Builder
	if err := c.ownHTML.Execute(&b, p); err != nil {
		return EmailMessage{}, fmt.Errorf("render the HTML of an email: %w", err)
	}
	m.HTML = b.String()
	return m, nil
}
