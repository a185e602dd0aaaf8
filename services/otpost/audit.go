package main

import (
	"errors"
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
	Before  int64  `help:"The last lines before the one of this number, to page back."`
	After   int64  `help:"The first lines after the one of this number, to follow on."`
	Limit   int    `default:"200" help:"Most lines; the newest where neither --before nor --after is given."`
}

// Run tells what the audit knows of a user. It knows people by keyed digests, so it is asked with the name and the key, and can name nobody by itself.
func (c *auditCmd) Run(r *run) error {
	if c.Limit < 1 || c.Limit > 10000 {
		return fmt.Errorf("--limit: must be 1 to 10000, not %d", c.Limit)
	}
	if c.Before != 0 && c.After != 0 {
		return errors.New("--before and --after: give one of them")
	}
	if c.Before < 0 || c.After < 0 {
		return errors.New("--before, --after: must be the number of a line")
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
		lines, more, err := c.page(r, db, app.ID, users)
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
		if err := w.Flush(); err != nil || more == "" {
			return err
		}
		_, err = fmt.Fprintln(r.stdout, more)
		return err
	})
}

// page returns the lines that were asked for, oldest first, and how to see those that are left, if any.
func (c *auditCmd) page(r *run, db *postgres.DB, app int, users []uuid.UUID) (lines []postgres.AuditEntry, more string, err error) {
	audits := postgres.NewAudits(db)
	if c.After != 0 { // one more than is shown tells whether there are more
		if lines, err = audits.Of(r.ctx, app, users, c.After, c.Limit+1); err == nil && len(lines) > c.Limit {
			lines = lines[:c.Limit]
			more = fmt.Sprintf("… newer lines: --after %d", lines[c.Limit-1].ID)
		}
		return lines, more, err
	}
	if lines, err = audits.Before(r.ctx, app, users, c.Before, c.Limit+1); err == nil && len(lines) > c.Limit {
		lines = lines[1:]
		more = fmt.Sprintf("… older lines: --before %d", lines[0].ID)
	}
	return lines, more, err
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
