package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/postgres"
)

type auditCmd struct {
	databaseFlags
	keysFlags
	userFlags
	Session string `help:"Mark the lines of this session."`
	IP      string `name:"ip" help:"Mark the lines from this address."`
	After   int64  `help:"Only lines after the one of this number."`
	Limit   int    `default:"200" help:"Most lines."`
}

// Run tells what the audit knows of a user. It knows people by keyed digests, so it is asked with the name and the key, and can name nobody by itself.
func (c *auditCmd) Run(r *run) error {
	if c.Limit < 1 || c.Limit > 10000 {
		return fmt.Errorf("--limit: must be 1 to 10000, not %d", c.Limit)
	}
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	digests := func(what, value string) ([]uuid.UUID, error) {
		if value == "" {
			return nil, nil
		}
		return keys.AuditKeys(what, c.App, value)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, _, err := c.account(r, db)
		if err != nil {
			return err
		}
		users, err := digests("user", c.User)
		if err != nil {
			return err
		}
		sessions, err := digests("session", c.Session)
		if err != nil {
			return err
		}
		ips, err := digests("ip", c.IP)
		if err != nil {
			return err
		}
		lines, err := postgres.NewAudits(db).Of(r.ctx, app.ID, users, c.After, c.Limit)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "LINE\tAT\tWHO\tDID\tTO\tSESSION\tIP\tDETAIL")
		for _, l := range lines {
			detail := string(l.Detail)
			if detail == "{}" {
				detail = ""
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.At.UTC().Format(time.RFC3339), l.Actor, l.Action, shownID(l.Factor),
				digestShown(l.Session, sessions), digestShown(l.IP, ips), detail)
		}
		return w.Flush()
	})
}

func shownID(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// digestShown shows a digest by its head, and marks one that was asked for.
func digestShown(id uuid.UUID, asked []uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	for _, a := range asked {
		if a == id {
			return "this"
		}
	}
	return "#" + id.String()[:8]
}
