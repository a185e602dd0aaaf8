package main

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type providersListCmd struct{ databaseFlags }

// Run lists the providers that workers have said they have.
func (c *providersListCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		known, err := postgres.NewRoutes(db).Providers(r.ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CHANNEL\tNAME\tKIND\tRECEIPTS\tLAST SEEN\tCOST")
		now := time.Now()
		var quiet []string
		for _, p := range known {
			receipts := "no"
			if p.Receipts {
				receipts = "yes"
			}
			if text := unseen(p, now); text != "" {
				quiet = append(quiet, text)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Channel, p.Name, p.Kind, receipts, moment(p.SeenAt), costText(p.Costs))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if len(known) == 0 {
			quiet = []string{"No worker of a channel has ever started with this database."}
		}
		return remarks(r.stdout, quiet)
	})
}

type providersForgetCmd struct {
	databaseFlags
	Channel string `required:"" enum:"sms,voice,whatsapp,email,letter" help:"Channel: sms, voice, whatsapp, email or letter."`
	Name    string `arg:"" help:"Name of the provider."`
}

// Run removes a provider that no worker has any more. A worker that has it enters it again.
func (c *providersForgetCmd) Run(r *run) error {
	ch := otp.Channel(c.Channel)
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		store := postgres.NewRoutes(db)
		all, err := store.Routes(r.ctx)
		if err != nil {
			return err
		}
		names, err := appNames(r, db)
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.Channel == ch && slices.Contains(s.Providers, c.Name) {
				return fmt.Errorf("%s: the route for %s names it: set that without it first", c.Name, where(names[s.AppID], ch, s.Country))
			}
		}
		if err := store.ForgetProvider(r.ctx, ch, c.Name); err != nil {
			return fmt.Errorf("%s for %s: %w", c.Name, ch, err)
		}
		_, err = fmt.Fprintf(r.stdout, "%s is forgotten; a worker that still has it enters it again within a minute\n", c.Name)
		return err
	})
}
