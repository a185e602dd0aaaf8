package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type appKeyCmd struct {
	Create appKeyCreateCmd `cmd:"" help:"Make a key, and print it once."`
	List   appKeyListCmd   `cmd:"" help:"List an app's keys."`
	Revoke appKeyRevokeCmd `cmd:"" help:"End a key at once."`
	Rotate appKeyRotateCmd `cmd:"" help:"Make a new key, and have all others end after a while."`
}

// Help tells what keys are for.
func (appKeyCmd) Help() string {
	return `With a key an app's server uses the JSON API, as Authorization: Bearer otpost_... Whoever has the key is the app. The database keeps a digest of it,
so that nobody can show it again.`
}

// appFlags name an app for a command about it.
type appFlags struct {
	databaseFlags
	Name string `arg:"" help:"Name of the app."`
}

// withApp opens the database and finds the app.
func (f appFlags) withApp(r *run, fn func(*postgres.DB, postgres.App) error) error {
	return withDB(f.databaseFlags, func(db *postgres.DB) error {
		a, err := postgres.NewApps(db).Get(r.ctx, f.Name)
		if err != nil {
			return named(f.Name, err)
		}
		return fn(db, a)
	})
}

type appKeyCreateCmd struct {
	appFlags
	Label     string        `help:"What it is for, to tell several apart; at most 64 characters."`
	ExpiresIn time.Duration `help:"How long it is good, such as 2160h; until it is revoked where it is not given."`
}

// Run makes a key.
func (c *appKeyCreateCmd) Run(r *run) error {
	if c.ExpiresIn < 0 {
		return errors.New("--expires-in: must be above 0")
	}
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		key, digest := newAPIKey()
		now := time.Now()
		var expires time.Time
		if c.ExpiresIn > 0 {
			expires = now.Add(c.ExpiresIn)
		}
		id, err := postgres.NewAppKeys(db).Create(r.ctx, now, a.ID, c.Label, digest, expires)
		if err != nil {
			return keyFlag(err)
		}
		_, err = fmt.Fprintf(r.stdout, "%s\n\nkey %s of app %s: %s. This is shown once.\n", key, id, a.Name, until(expires))
		return err
	})
}

// keyFlag names the flag of what is wrong with a key.
func keyFlag(err error) error {
	if strings.HasPrefix(err.Error(), "label: ") {
		return fmt.Errorf("--%w", err)
	}
	return err
}

func newAPIKey() (key string, digest [32]byte) {
	key = otp.NewAPIKey()
	digest, _ = otp.APIKeyDigest(key)
	return key, digest
}

func until(expires time.Time) string {
	if expires.IsZero() {
		return "good until it is revoked"
	}
	return "good until " + expires.UTC().Format(time.DateTime) + " UTC"
}

type appKeyListCmd struct{ appFlags }

// Run lists keys.
func (c *appKeyListCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		keys, err := postgres.NewAppKeys(db).List(r.ctx, a.ID)
		if err != nil {
			return err
		}
		now := time.Now()
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tLABEL\tSTATE\tCREATED\tEXPIRES\tLAST USED")
		for _, k := range keys {
			state := "good"
			switch {
			case !k.RevokedAt.IsZero():
				state = "revoked"
			case !k.Good(now):
				state = "expired"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, dash(k.Label), state, moment(k.CreatedAt), moment(k.ExpiresAt), moment(k.LastUsedAt))
		}
		return w.Flush()
	})
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateTime)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type appKeyRevokeCmd struct {
	appFlags
	ID string `arg:"" help:"Id of the key, as list shows it."`
}

// Run ends a key.
func (c *appKeyRevokeCmd) Run(r *run) error {
	id, err := uuid.Parse(c.ID)
	if err != nil {
		return errors.New("the id must be one that otpost app key list shows") // not quoted: it may be the key itself
	}
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		if err := postgres.NewAppKeys(db).Revoke(r.ctx, time.Now(), a.ID, id); err != nil {
			return fmt.Errorf("app %s, key %s: %w", a.Name, id, err)
		}
		_, err := fmt.Fprintf(r.stdout, "key %s of app %s is revoked; within three seconds no gateway takes it any more\n", id, a.Name)
		return err
	})
}

type appKeyRotateCmd struct {
	appFlags
	Label   string        `help:"What the new key is for; at most 64 characters."`
	Overlap time.Duration `default:"24h" help:"How long the app's other keys are still good."`
}

// Run replaces the keys of an app.
func (c *appKeyRotateCmd) Run(r *run) error {
	if c.Overlap < 0 {
		return errors.New("--overlap: must not be below 0")
	}
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		key, digest := newAPIKey()
		now := time.Now()
		end := now.Add(c.Overlap)
		id, ended, err := postgres.NewAppKeys(db).Rotate(r.ctx, now, a.ID, c.Label, digest, end)
		if err != nil {
			return keyFlag(err)
		}
		_, err = fmt.Fprintf(r.stdout, "%s\n\nkey %s of app %s: %s. This is shown once.\n%s until %s UTC.\n", key, id, a.Name, until(time.Time{}),
			plural(ended, "other key is good", "other keys are good"), end.UTC().Format(time.DateTime))
		return err
	})
}
