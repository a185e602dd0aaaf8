package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type senderCmd struct {
	Set    senderSetCmd    `cmd:"" help:"Set what an app's messages to a country come from."`
	List   senderListCmd   `cmd:"" help:"List an app's senders."`
	Remove senderRemoveCmd `cmd:"" help:"Go back to the provider's own choice."`
}

// Help tells what a sender is.
func (senderCmd) Help() string {
	return `A sender is a number such as +12025550123, or for SMS also a short code or a name of up to 11 characters. In many countries names must be
registered with the networks first, and some, such as the USA, take none. Where an app has no sender for a country and none for all, the provider chooses.`
}

// senderFlags name the messages of an app that a sender is of.
type senderFlags struct {
	appFlags
	Channel string `default:"sms" enum:"sms,voice,whatsapp" help:"Channel: sms, voice or whatsapp."`
	Country string `help:"Country of the number that is reached, such as CZ (ISO 3166-1); every country that has no sender of its own where it is not given."`
}

type senderSetCmd struct {
	senderFlags
	Sender string `required:"" help:"Number, short code or name."`
}

// Run sets a sender.
func (c *senderSetCmd) Run(r *run) error {
	s := postgres.Sender{Channel: otp.Channel(c.Channel), Country: c.Country, Sender: c.Sender}
	if err := s.Check(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		if err := postgres.NewTemplates(db).SetSender(r.ctx, time.Now(), a.ID, s); err != nil {
			return err
		}
		_, err := fmt.Fprintf(r.stdout, "%s of app %s to %s comes from %s\n", s.Channel, a.Name, place(s.Country), s.Sender)
		return err
	})
}

func place(country string) string {
	if country == "" {
		return "every other country"
	}
	return country
}

type senderListCmd struct{ appFlags }

// Run lists senders.
func (c *senderListCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		list, err := postgres.NewTemplates(db).ListSenders(r.ctx, a.ID)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CHANNEL\tCOUNTRY\tSENDER\tSET")
		for _, s := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Channel, dash(s.Country), s.Sender, moment(s.UpdatedAt))
		}
		return w.Flush()
	})
}

type senderRemoveCmd struct{ senderFlags }

// Run takes a sender away.
func (c *senderRemoveCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		if err := postgres.NewTemplates(db).RemoveSender(r.ctx, a.ID, otp.Channel(c.Channel), c.Country); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		_, err := fmt.Fprintf(r.stdout, "removed; %s of app %s to %s comes from the app's sender for every country, or from what the provider chooses\n",
			c.Channel, a.Name, place(c.Country))
		return err
	})
}
