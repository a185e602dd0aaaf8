package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/postgres"
)

type statusCmd struct {
	databaseFlags
	App       string `required:"" help:"Name of the app."`
	Challenge string `arg:"" help:"Id of the challenge."`
}

// Run tells where a challenge stands, as an operator asks who looks for a code that did not arrive.
func (c *statusCmd) Run(r *run) error {
	if err := checkApp(c.App); err != nil {
		return err
	}
	id, err := uuid.Parse(c.Challenge)
	if err != nil {
		return fmt.Errorf("challenge: must be a UUID, not %q", c.Challenge)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := postgres.NewApps(db).Get(r.ctx, c.App)
		if err != nil {
			return named(c.App, err)
		}
		ch, err := postgres.NewChallenges(db).Status(r.ctx, app.ID, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "challenge\t%s\nuser\t%s\nlogin\t%s\nasked for\t%s\nstate\t%s\nattempts\t%d of %d\nsends\t%d of %d\ncreated\t%s\nexpires\t%s\n",
			ch.ID, ch.User, ch.Login, ch.Factor, ch.State, ch.Attempts, ch.MaxAttempts, ch.Sends, ch.MaxSends,
			ch.CreatedAt.Format(time.RFC3339), ch.ExpiresAt.Format(time.RFC3339))
		if !ch.EndedAt.IsZero() {
			fmt.Fprintf(w, "ended\t%s\n", ch.EndedAt.Format(time.RFC3339))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if len(ch.Deliveries) == 0 {
			return nil
		}
		fmt.Fprintln(w, "\nDELIVERY\tCHANNEL\tTO\tSTATE\tPROVIDER\tREFERENCE\tTRIES\tAT\tREASON")
		for _, d := range ch.Deliveries {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", d.Number, d.Channel, d.Mask, d.State, d.Provider, d.Reference, d.Tries,
				d.UpdatedAt.Format(time.RFC3339), d.Reason)
		}
		return w.Flush()
	})
}
