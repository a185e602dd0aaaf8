package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type pumpingCmd struct {
	Report pumpingReportCmd `cmd:"" help:"Tell which prefixes looked pumped, why, and what it did or would have done."`
	Block  pumpingBlockCmd  `cmd:"" help:"Send nothing to the phones of a prefix for a while, whatever the app's policy says."`
	Lift   pumpingLiftCmd   `cmd:"" help:"End the block of a prefix."`
}

// Help tells what the guard is.
func (pumpingCmd) Help() string {
	return `Whoever earns by messages that arrive has codes sent that nobody types. The guard looks at the numbers that begin alike: how many are neighbours,
how many codes come back, how many are new. An app's policy says what follows: otpost app policy set APP --pumping=off, shadow (it only tells) or block.
Numbers that are known to be safe are exempt: otpost destination add.`
}

type pumpingReportCmd struct {
	databaseFlags
	App   string        `help:"Of this app alone."`
	Since time.Duration `default:"168h" help:"How far back it goes; at most 2160h."`
}

// Run prints the report.
func (c *pumpingReportCmd) Run(r *run) error {
	if c.Since <= 0 || c.Since > postgres.BlockMemory {
		return fmt.Errorf("--since: must be above 0 and at most %s", postgres.BlockMemory)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		all, err := postgres.NewApps(db).List(r.ctx)
		if err != nil {
			return err
		}
		names, known := map[int]postgres.App{}, c.App == ""
		for _, a := range all {
			names[a.ID], known = a, known || a.Name == c.App
		}
		if !known {
			return named(c.App, postgres.ErrNoApp)
		}
		now := time.Now()
		blocks, err := postgres.NewPumping(db).Blocks(r.ctx, now.Add(-c.Since))
		if err != nil {
			return err
		}
		const form, named = "%s  %-8s  %-19s  %-26s  %s\n", 14
		shown := 0
		for _, b := range blocks {
			app := names[b.AppID]
			if c.App != "" && app.Name != c.App {
				continue
			}
			if shown++; shown == 1 {
				if _, err := fmt.Fprintf(r.stdout, form, cell("APP", named, 0), "PREFIX", "SINCE (UTC)", "UNTIL", "MODE"); err != nil {
					return err
				}
			}
			if _, err := fmt.Fprintf(r.stdout, form, cell(app.Name, named, 0), b.Digits, b.Since.UTC().Format(time.DateTime), blockEnd(b, now),
				blockMode(b, app)); err != nil {
				return err
			}
			for _, text := range blockStory(b) {
				if err := below(r.stdout, named+2, text); err != nil {
					return err
				}
			}
		}
		if shown == 0 {
			_, err = fmt.Fprintf(r.stdout, "no prefix has looked pumped within %s\n", c.Since)
		}
		return err
	})
}

// blockStory tells why a prefix is blocked, what was seen of its numbers, and what the block did; a line for each.
func blockStory(b postgres.PrefixBlock) []string {
	seen := ""
	if w := b.Window; w.Sends > 0 {
		seen = fmt.Sprintf("%s; came back: %s; with neighbours: %s", plural(w.Sends, "message", "messages"), outOf(w.Verified, w.Mature), outOf(w.Crowd, w.Numbers))
	}
	return []string{strings.Join(b.Why, "; "), seen, fmt.Sprintf("stopped: %d; let pass: %d", b.Stopped, b.Passed)}
}

// blockEnd tells when a block is or was over.
func blockEnd(b postgres.PrefixBlock, now time.Time) string {
	switch {
	case !b.LiftedAt.IsZero():
		return "lifted " + b.LiftedAt.UTC().Format(time.DateTime)
	case b.Active(now):
		return b.Until.UTC().Format(time.DateTime)
	default:
		return "over " + b.Until.UTC().Format(time.DateTime)
	}
}

// blockMode tells what a block does: what the app's policy says now holds.
func blockMode(b postgres.PrefixBlock, app postgres.App) string {
	now := app.Policy.Delivery.Pumping
	switch {
	case b.Manual:
		return "by hand"
	case now != b.Mode:
		return fmt.Sprintf("%s (then %s)", now, b.Mode)
	default:
		return string(b.Mode)
	}
}

func outOf(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(n)/float64(of))
}

// prefixFlags name a prefix of an app.
type prefixFlags struct {
	databaseFlags
	App    string `required:"" help:"Name of the app."`
	Prefix string `required:"" help:"What the numbers begin with: + and the calling code and the first three digits behind, as in the report."`
}

var prefixForm = regexp.MustCompile(`^\+[0-9]{2,7}$`)

func (f prefixFlags) with(r *run, fn func(*postgres.Pumping, postgres.Prefix) error) error {
	if !prefixForm.MatchString(f.Prefix) {
		return errors.New("--prefix: must be + and 2 to 7 digits")
	}
	if p := otp.LocatePhone(f.Prefix + strings.Repeat("0", 6)); p.Prefix != f.Prefix { // all numbers are counted by prefixes of one form
		return fmt.Errorf("--prefix: is not one that numbers are counted by; that of such numbers begins with %s", p.Prefix)
	}
	return withDB(f.databaseFlags, func(db *postgres.DB) error {
		a, err := postgres.NewApps(db).Get(r.ctx, f.App)
		if err != nil {
			return named(f.App, err)
		}
		return fn(postgres.NewPumping(db), postgres.Prefix{AppID: a.ID, Digits: f.Prefix})
	})
}

type pumpingBlockCmd struct {
	prefixFlags
	For time.Duration `default:"4h" help:"How long; 1m to 720h."`
}

// Run blocks a prefix.
func (c *pumpingBlockCmd) Run(r *run) error {
	if c.For < time.Minute || c.For > 30*24*time.Hour {
		return errors.New("--for: must be 1m to 720h")
	}
	return c.with(r, func(store *postgres.Pumping, p postgres.Prefix) error {
		now := time.Now()
		b := postgres.PrefixBlock{Prefix: p, Since: now, Until: now.Add(c.For), Why: []string{"an operator has blocked it"}}
		if err := store.Block(r.ctx, b); err != nil {
			return fmt.Errorf("%s: %w", p.Digits, err)
		}
		_, err := fmt.Fprintf(r.stdout, "%s of app %s is blocked until %s UTC; workers know within some seconds\n", p.Digits, c.App,
			b.Until.UTC().Format(time.DateTime))
		return err
	})
}

type pumpingLiftCmd struct{ prefixFlags }

// Run lifts a block.
func (c *pumpingLiftCmd) Run(r *run) error {
	return c.with(r, func(store *postgres.Pumping, p postgres.Prefix) error {
		if err := store.Lift(r.ctx, time.Now(), p); err != nil {
			return fmt.Errorf("%s: %w", p.Digits, err)
		}
		_, err := fmt.Fprintf(r.stdout, "%s of app %s is not blocked any more; the guard leaves it alone for two hours\n", p.Digits, c.App)
		return err
	})
}
