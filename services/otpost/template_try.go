package main

import (
	"fmt"
	"io"
	"time"

	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type templateTryCmd struct {
	templateFlags
	wordsFlags
	Amount string `default:"39.99 EUR" help:"Sample amount of a transaction."`
	Payee  string `default:"Corner Books Ltd" help:"Sample payee of a transaction."`
	Hash   string `placeholder:"HASH" help:"Hash of an Android app that is to find the code in an SMS."`
}

// Run shows a message: of the words that are given, or of those that are set, or of otpost's own.
func (c *templateTryCmd) Run(r *run) error {
	t, err := c.template(c.templateFlags)
	if err != nil {
		return err
	}
	catalog, err := message.New()
	if err != nil {
		return err
	}
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		in := sampleOf(a, c.templateFlags)
		in.Hash = c.Hash
		if in.Transaction != nil {
			in.Transaction = &otp.Transaction{Amount: c.Amount, Payee: c.Payee}
		}
		var set []message.Template
		if c.wordsFlags == (wordsFlags{}) {
			list, err := postgres.NewTemplates(db).List(r.ctx, a.ID)
			if err != nil {
				return err
			}
			for _, t := range list {
				set = append(set, template(t))
			}
		} else {
			if err := catalog.Check(t, limits(a)); err != nil {
				return c.byFlag(err)
			}
			set = []message.Template{t}
		}
		if err := catalog.SetOverrides(map[string][]message.Template{a.Name: set}); err != nil {
			r.log.Warn("words that are set are not fit, and not used", "error", err)
		}
		return showSample(r.stdout, catalog, t.Channel, in)
	})
}

// sampleOf returns a code of the kind that is named, as the app's users would get it.
func sampleOf(a postgres.App, place templateFlags) message.Input {
	in := message.Input{
		Purpose: message.Purpose(place.Purpose), AppKey: a.Name, App: a.DisplayName, Code: "1234567890"[:a.Policy.Digits], Locale: place.Locale, Fallback: a.Locale,
		Life: a.Policy.Life, Origin: a.Origin, Style: message.Style(a.Policy.Delivery.Style),
	}
	switch place.Purpose {
	case "transaction":
		in.Purpose, in.Transaction = message.Login, &otp.Transaction{Amount: "39.99 EUR", Payee: "Corner Books Ltd"}
	case "recovery":
		in.Life = 10 * time.Minute
		if place.Channel == string(otp.Email) {
			in.Life = 24 * time.Hour
		}
	}
	return in
}

// showSample prints a message as a catalog renders it, and what an SMS of it takes.
func showSample(w io.Writer, catalog *message.Catalog, channel otp.Channel, in message.Input) error {
	if channel == otp.Email {
		m, err := catalog.Email(in)
		if err != nil {
			return err
		}
		return showMessage(w, m.Subject, m.Text, m.HTML)
	}
	write := map[otp.Channel]func(message.Input) (message.SMSMessage, error){
		otp.SMS: catalog.SMS, otp.Voice: catalog.Voice, otp.WhatsApp: catalog.WhatsApp,
	}[channel]
	m, err := write(in)
	if err != nil {
		return err
	}
	if err := showMessage(w, "", m.Text, ""); err != nil || channel != otp.SMS {
		return err
	}
	encoding, units, segments := message.Segments(m.Text)
	_, err = fmt.Fprintf(w, "\nencoding  %s\nunits     %d\nsegments  %d\n", encoding, units, segments)
	return err
}
