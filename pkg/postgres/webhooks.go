package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/event"
)

// ErrNoWebhook says that there is no such webhook.
var ErrNoWebhook = errors.New("no such webhook")

// A Webhook is where an app's events are posted. Its secrets are sealed, and bound to its id.
type Webhook struct {
	ID       uuid.UUID
	AppID    int
	App      string
	URL      string
	Events   []string // names, or the beginning of names and ".*"; none for all
	Private  bool     // private and loopback addresses, and http, are allowed
	Sealed   []byte   // the secret that signs
	Previous []byte   // the one before, while it signs too

	PreviousUntil time.Time
	CreatedAt     time.Time
	DisabledAt    time.Time // zero while it is enabled
	DisabledWhy   string
	Pending, Dead int // its events that wait, and those that were given up
}

// Bounds of a webhook's URL, in bytes, and of its list of events.
const (
	maxWebhookURL    = 2000
	maxWebhookEvents = 64
)

// Check returns an error that names the first field that is wrong.
func (w Webhook) Check() error {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || len(w.URL) > maxWebhookURL || strings.ContainsFunc(w.URL, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New("webhook url: must be a URL of at most 2000 bytes, such as https://shop.example/hooks")
	case u.Scheme != "https" && (u.Scheme != "http" || !w.Private):
		return errors.New("webhook url: must begin with https://, or with http:// where private addresses are allowed")
	case u.Hostname() == "" || u.Opaque != "":
		return errors.New("webhook url: must name a host")
	case u.User != nil || u.Fragment != "" || strings.Contains(w.URL, "#"):
		return errors.New("webhook url: must hold neither user and password nor a fragment")
	case len(w.Events) > maxWebhookEvents:
		return fmt.Errorf("webhook events: must be at most %d", maxWebhookEvents)
	}
	known := event.Names()
	for _, form := range w.Events {
		prefix, some := strings.CutSuffix(form, "*")
		if !slices.ContainsFunc(known, func(n event.Name) bool {
			return string(n) == form || some && strings.HasSuffix(prefix, ".") && strings.HasPrefix(string(n), prefix)
		}) {
			return fmt.Errorf("webhook events: %q is no event; name one, such as challenge.verified, or a group, such as recovery.*", form)
		}
	}
	return nil
}

// Webhooks is the operator's store of webhooks.
type Webhooks struct{ db *DB }

// NewWebhooks returns the store.
func NewWebhooks(db *DB) *Webhooks { return &Webhooks{db} }

// Create adds a webhook with its ID, AppID, URL, Events, Private and Sealed. Events that are published from now on go to it.
func (s *Webhooks) Create(ctx context.Context, now time.Time, w Webhook) error {
	if err := w.Check(); err != nil {
		return err
	}
	if _, err := s.db.x.ExecContext(ctx, query("webhook_create"), w.ID, w.AppID, w.URL, texts(w.Events), w.Sealed, w.Private, now); err != nil {
		return fmt.Errorf("create webhook: %w", err)
	}
	return nil
}

// List returns the webhooks of an app, or of all where app is 0, without their secrets.
func (s *Webhooks) List(ctx context.Context, app int) ([]Webhook, error) {
	return s.list(ctx, app, uuid.NullUUID{})
}

// Get returns one webhook without its secrets, or ErrNoWebhook.
func (s *Webhooks) Get(ctx context.Context, id uuid.UUID) (Webhook, error) {
	found, err := s.list(ctx, 0, uuid.NullUUID{UUID: id, Valid: true})
	if err == nil && len(found) == 0 {
		err = ErrNoWebhook
	}
	if err != nil {
		return Webhook{}, err
	}
	return found[0], nil
}

func (s *Webhooks) list(ctx context.Context, app int, id uuid.NullUUID) ([]Webhook, error) {
	var rows []struct {
		ID            uuid.UUID      `db:"id"`
		AppID         int            `db:"app_id"`
		App           string         `db:"app"`
		URL           string         `db:"url"`
		Events        pq.StringArray `db:"events"`
		Private       bool           `db:"private"`
		CreatedAt     time.Time      `db:"created_at"`
		DisabledAt    sql.NullTime   `db:"disabled_at"`
		DisabledWhy   string         `db:"disabled_why"`
		PreviousUntil sql.NullTime   `db:"previous_until"`
		Pending       int            `db:"pending"`
		Dead          int            `db:"dead"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("webhook_list"), app, id); err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	out := make([]Webhook, len(rows))
	for i, r := range rows {
		out[i] = Webhook{
			ID: r.ID, AppID: r.AppID, App: r.App, URL: r.URL, Events: r.Events, Private: r.Private, CreatedAt: r.CreatedAt, Pending: r.Pending, Dead: r.Dead,
			DisabledAt: nullTime(r.DisabledAt), DisabledWhy: r.DisabledWhy, PreviousUntil: nullTime(r.PreviousUntil),
		}
	}
	return out, nil
}

// Rotate puts another secret in the place of a webhook's own, which signs too until then; not at all where then is not after now. A secret that signed
// because of an earlier rotation signs no more. It returns ErrNoWebhook where there is none.
func (s *Webhooks) Rotate(ctx context.Context, now, then time.Time, id uuid.UUID, sealed []byte) error {
	n, err := s.exec(ctx, "webhook_rotate", id, sealed, then, now)
	if err == nil && n == 0 {
		return ErrNoWebhook
	}
	return err
}

// Disable stops a webhook. What waits for it stays, and what is published meanwhile is not for it. It returns ErrNoWebhook where there is none, and
// changes nothing where it is disabled already.
func (s *Webhooks) Disable(ctx context.Context, now time.Time, id uuid.UUID, why string) error {
	return s.toggle(ctx, id, "webhook_disable", now, why)
}

// Enable starts a webhook again: what has waited goes out, and what is published from now on. Errors are those of Disable.
func (s *Webhooks) Enable(ctx context.Context, now time.Time, id uuid.UUID) error {
	return s.toggle(ctx, id, "webhook_enable", now)
}

func (s *Webhooks) toggle(ctx context.Context, id uuid.UUID, name string, args ...any) error {
	n, err := s.exec(ctx, name, append([]any{id}, args...)...)
	if err != nil || n > 0 {
		return err
	}
	_, err = s.Get(ctx, id)
	return err
}

// Remove removes a webhook with all that waits for it or was given up, or returns ErrNoWebhook.
func (s *Webhooks) Remove(ctx context.Context, id uuid.UUID) error {
	n, err := s.exec(ctx, "webhook_remove", id)
	if err == nil && n == 0 {
		return ErrNoWebhook
	}
	return err
}

// A DeadEvent is an event that was given up.
type DeadEvent struct {
	Webhook   uuid.UUID `db:"webhook_id"`
	App       string    `db:"app"`
	ID        string    `db:"event_id"`
	Name      string    `db:"name"`
	Tries     int       `db:"tries"`
	Reason    string    `db:"reason"`     // of the last failure
	CreatedAt time.Time `db:"created_at"` // when it was taken from the stream
	UpdatedAt time.Time `db:"updated_at"` // when it was given up
}

// Dead returns up to limit events of an app's webhooks that were given up, of every app's where app is 0; the first that were come first.
func (s *Webhooks) Dead(ctx context.Context, app, limit int) ([]DeadEvent, error) {
	var out []DeadEvent
	if err := s.db.x.SelectContext(ctx, &out, query("webhook_dead"), app, limit); err != nil {
		return nil, fmt.Errorf("list dead events: %w", err)
	}
	return out, nil
}

// WebhookLease bounds for how long a claim may hold an event: what waits for longer is in nobody's hands.
const WebhookLease = time.Minute

// Retry makes a webhook's events due at once, with all their tries: those that were given up and those that wait for a later try. event is one's id, or
// empty for all. It returns how many those were.
func (s *Webhooks) Retry(ctx context.Context, now time.Time, id uuid.UUID, event string) (int, error) {
	return s.exec(ctx, "webhook_retry", id, event, now, now.Add(WebhookLease))
}

// Drop removes events of a webhook that were given up, one or, where event is empty, all. It returns how many those were.
func (s *Webhooks) Drop(ctx context.Context, id uuid.UUID, event string) (int, error) {
	return s.exec(ctx, "webhook_drop", id, event)
}

func (s *Webhooks) exec(ctx context.Context, name string, args ...any) (int, error) {
	return execCount(ctx, s.db, name, args...)
}

// execCount runs one statement and returns how many rows it changed.
func execCount(ctx context.Context, db *DB, name string, args ...any) (int, error) {
	res, err := db.x.ExecContext(ctx, query(name), args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	n, _ := res.RowsAffected()
	return int(n), nil
}
