package main

import (
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/webhook"
)

type webhookCmd struct {
	Create  webhookCreateCmd  `cmd:"" help:"Post an app's events to a URL."`
	List    webhookListCmd    `cmd:"" help:"List webhooks, with what waits and what was given up."`
	Rotate  webhookRotateCmd  `cmd:"" help:"Sign with a new secret; the old one signs too for a while."`
	Disable webhookDisableCmd `cmd:"" help:"Post nothing for now."`
	Enable  webhookEnableCmd  `cmd:"" help:"Post again. What happened meanwhile is not posted."`
	Remove  webhookRemoveCmd  `cmd:"" help:"Remove a webhook, with all that waits for it."`
	Dead    webhookDeadCmd    `cmd:"" help:"List events that were given up."`
	Retry   webhookRetryCmd   `cmd:"" help:"Post now what was given up or waits for a later try."`
	Drop    webhookDropCmd    `cmd:"" help:"Remove events that were given up, for good."`
}

// webhookArg names a webhook.
type webhookArg struct {
	ID string `arg:"" help:"Its id, as otpost webhook list shows it."`
}

func (a webhookArg) parse() (uuid.UUID, error) {
	id, err := uuid.Parse(a.ID)
	if err != nil {
		return id, fmt.Errorf("%q is no webhook's id: otpost webhook list shows them", a.ID)
	}
	return id, nil
}

// webhookFlags name one webhook of the database.
type webhookFlags struct {
	databaseFlags
	webhookArg
}

// with does something to the webhook.
func (f webhookFlags) with(fn func(*postgres.Webhooks, uuid.UUID) error) error {
	id, err := f.parse()
	if err != nil {
		return err
	}
	return withDB(f.databaseFlags, func(db *postgres.DB) error {
		if err := fn(postgres.NewWebhooks(db), id); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		return nil
	})
}

type webhookCreateCmd struct {
	databaseFlags
	keysFlags
	Events       string `help:"Which events, separated by commas: names, such as challenge.verified, and groups, such as recovery.*; all where it is not given."`
	AllowPrivate bool   `help:"Allow http, and private and loopback addresses: the URL is trusted with what the gateway can reach."`
	App          string `arg:"" help:"Name of the app."`
	URL          string `arg:"" help:"Where events are posted, such as https://shop.example/hooks."`
}

// Run makes a webhook and prints its secret, this once.
func (c *webhookCreateCmd) Run(r *run) error {
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	w := postgres.Webhook{ID: uuid.Must(uuid.NewV7()), URL: c.URL, Events: list(c.Events, ","), Private: c.AllowPrivate}
	if err := w.Check(); err != nil {
		return flagged(err, "webhook url:", "URL:", "webhook events:", "--events:", "where private addresses are allowed", "with --allow-private")
	}
	if u, err := url.Parse(c.URL); err == nil {
		if err := webhook.CheckHost(u.Hostname(), c.AllowPrivate); err != nil {
			return fmt.Errorf("URL: %w; see --allow-private", err)
		}
	}
	secret := webhook.NewSecret()
	if w.Sealed, err = webhook.Seal(keys, w.ID, secret); err != nil {
		return err
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := postgres.NewApps(db).Get(r.ctx, c.App)
		if err != nil {
			return named(c.App, err)
		}
		w.AppID = app.ID
		if err := postgres.NewWebhooks(db).Create(r.ctx, time.Now(), w); err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.stdout, "webhook  %s\nsecret   %s\n\nThe secret is not shown again. The app's server checks signatures with it, as\n"+
			"Standard Webhooks has it; what is published from now on is posted there.\n", w.ID, secret.Text())
		return err
	})
}

type webhookListCmd struct {
	databaseFlags
	App string `arg:"" optional:"" help:"Name of an app; all where it is not given."`
}

// appID returns the number of a named app, 0 where none is named.
func appID(r *run, db *postgres.DB, name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	app, err := postgres.NewApps(db).Get(r.ctx, name)
	return app.ID, named(name, err)
}

// Run lists webhooks.
func (c *webhookListCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := appID(r, db, c.App)
		if err != nil {
			return err
		}
		hooks, err := postgres.NewWebhooks(db).List(r.ctx, app)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "WEBHOOK\tAPP\tURL\tEVENTS\tPRIVATE\tWAITING\tDEAD\tCREATED\tSTATE")
		for _, h := range hooks {
			events, state, private := "all", "enabled", "no"
			if len(h.Events) > 0 {
				events = strings.Join(h.Events, ",")
			}
			if h.Private {
				private = "yes"
			}
			if !h.DisabledAt.IsZero() {
				state = "disabled " + h.DisabledAt.Format(time.DateTime) + ": " + h.DisabledWhy
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", h.ID, h.App, h.URL, events, private, h.Pending, h.Dead, h.CreatedAt.Format(time.DateTime), state)
		}
		return t.Flush()
	})
}

// maxOverlap bounds for how long a replaced secret may sign.
const maxOverlap = 30 * 24 * time.Hour

type webhookRotateCmd struct {
	webhookFlags
	keysFlags
	Overlap time.Duration `default:"24h" help:"How long the old secret signs too; 0s to 720h. 0s after it has leaked."`
}

// Run replaces a secret and prints the new one, this once.
func (c *webhookRotateCmd) Run(r *run) error {
	if c.Overlap < 0 || c.Overlap > maxOverlap {
		return fmt.Errorf("--overlap: must be 0s to 720h, not %s", c.Overlap)
	}
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return c.with(func(hooks *postgres.Webhooks, id uuid.UUID) error {
		secret := webhook.NewSecret()
		sealed, err := webhook.Seal(keys, id, secret)
		if err != nil {
			return err
		}
		now := time.Now()
		if err := hooks.Rotate(r.ctx, now, now.Add(c.Overlap), id, sealed); err != nil {
			return err
		}
		until := "The old secret signs no more."
		if c.Overlap > 0 {
			until = fmt.Sprintf("The old secret signs too for %s: let the app's server know the new one by then.", otp.ShortDuration(c.Overlap))
		}
		_, err = fmt.Fprintf(r.stdout, "secret   %s\n\nIt is not shown again. %s\n", secret.Text(), until)
		return err
	})
}

type webhookDisableCmd struct{ webhookFlags }

// Run disables a webhook.
func (c *webhookDisableCmd) Run(r *run) error {
	return c.with(func(hooks *postgres.Webhooks, id uuid.UUID) error {
		if err := hooks.Disable(r.ctx, time.Now(), id, "by the operator"); err != nil {
			return err
		}
		_, err := fmt.Fprintf(r.stdout, "%s is disabled. What waits for it is kept for 4 days.\n", id)
		return err
	})
}

type webhookEnableCmd struct{ webhookFlags }

// Run enables a webhook.
func (c *webhookEnableCmd) Run(r *run) error {
	return c.with(func(hooks *postgres.Webhooks, id uuid.UUID) error {
		if err := hooks.Enable(r.ctx, time.Now(), id); err != nil {
			return err
		}
		_, err := fmt.Fprintf(r.stdout, "%s is enabled.\n", id)
		return err
	})
}

type webhookRemoveCmd struct{ webhookFlags }

// Run removes a webhook.
func (c *webhookRemoveCmd) Run(r *run) error {
	return c.with(func(hooks *postgres.Webhooks, id uuid.UUID) error {
		if err := hooks.Remove(r.ctx, id); err != nil {
			return err
		}
		_, err := fmt.Fprintf(r.stdout, "%s is gone.\n", id)
		return err
	})
}

type webhookDeadCmd struct {
	databaseFlags
	Limit int    `default:"100" help:"Most to list."`
	App   string `arg:"" optional:"" help:"Name of an app; all where it is not given."`
}

// Run lists events that were given up.
func (c *webhookDeadCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := appID(r, db, c.App)
		if err != nil {
			return err
		}
		dead, err := postgres.NewWebhooks(db).Dead(r.ctx, app, c.Limit)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "WEBHOOK\tAPP\tEVENT\tNAME\tTRIES\tCAME\tGIVEN UP\tREASON")
		for _, e := range dead {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", e.Webhook, e.App, e.ID, e.Name, e.Tries, e.CreatedAt.Format(time.DateTime),
				e.UpdatedAt.Format(time.DateTime), e.Reason)
		}
		return t.Flush()
	})
}

type webhookRetryCmd struct {
	webhookFlags
	Event string `help:"Id of one event; all where it is not given."`
}

// Run makes events due.
func (c *webhookRetryCmd) Run(r *run) error {
	return c.with(func(hooks *postgres.Webhooks, id uuid.UUID) error {
		n, err := hooks.Retry(r.ctx, time.Now(), id, c.Event)
		if err != nil {
			return err
		}
		h, err := hooks.Get(r.ctx, id)
		if err != nil {
			return err
		}
		then := "posted now"
		if !h.DisabledAt.IsZero() {
			then = "posted once the webhook is enabled"
		}
		_, err = fmt.Fprintf(r.stdout, "%s %s.\n", plural(n, "event is", "events are"), then)
		return err
	})
}

type webhookDropCmd struct {
	webhookFlags
	Event string `help:"Id of one event; all that were given up where it is not given."`
}

// Run drops events.
func (c *webhookDropCmd) Run(r *run) error {
	return c.with(func(hooks *postgres.Webhooks, id uuid.UUID) error {
		if _, err := hooks.Get(r.ctx, id); err != nil {
			return err
		}
		n, err := hooks.Drop(r.ctx, id, c.Event)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.stdout, "%s gone.\n", plural(n, "event is", "events are"))
		return err
	})
}
