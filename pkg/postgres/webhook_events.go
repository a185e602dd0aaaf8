package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// WebhookEvents is the gateway's store of events on their way to webhooks.
type WebhookEvents struct{ db *DB }

// NewWebhookEvents returns the store.
func NewWebhookEvents(db *DB) *WebhookEvents { return &WebhookEvents{db} }

// A WebhookEvent is an event of an app.
type WebhookEvent struct {
	App     string
	ID      string
	Name    string
	Payload []byte    // the CloudEvent, as it is posted
	At      time.Time // when it was published: webhooks that were made later do not get it
}

// ErrWebhookGone says that a webhook was removed while events were written for it. Writing them again succeeds.
var ErrWebhookGone = errors.New("a webhook was removed meanwhile")

// Any reports whether there is a webhook at all, enabled or not.
func (s *WebhookEvents) Any(ctx context.Context) (bool, error) {
	var there bool
	if err := s.db.x.GetContext(ctx, &there, query("webhook_any")); err != nil {
		return false, fmt.Errorf("look for webhooks: %w", err)
	}
	return there, nil
}

// Write makes a row of each event for each webhook that it goes to, all of them or, with an error, none, and returns how many are new. It returns
// ErrWebhookGone where one was removed just then. Refused tells whether the rows themselves were at fault.
func (s *WebhookEvents) Write(ctx context.Context, now time.Time, events []WebhookEvent) (int, error) {
	n := len(events)
	apps, ids, names, payloads, at := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n), make(pq.ByteaArray, n), make(pq.StringArray, n)
	for i, e := range events {
		apps[i], ids[i], names[i], payloads[i], at[i] = e.App, e.ID, e.Name, e.Payload, stamp(e.At)
	}
	written, err := execCount(ctx, s.db, "webhook_write", apps, ids, names, payloads, at, now)
	if Constraint(err) == "webhook_events_webhook_id_fkey" {
		return 0, ErrWebhookGone
	}
	return written, err
}

// Targets returns the enabled webhooks that have events due, with their secrets.
func (s *WebhookEvents) Targets(ctx context.Context, now time.Time) ([]Webhook, error) {
	var rows []struct {
		ID       uuid.UUID `db:"id"`
		AppID    int       `db:"app_id"`
		App      string    `db:"app"`
		URL      string    `db:"url"`
		Private  bool      `db:"private"`
		Sealed   []byte    `db:"sealed"`
		Previous []byte    `db:"previous"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("webhook_targets"), now); err != nil {
		return nil, fmt.Errorf("look for events that are due: %w", err)
	}
	out := make([]Webhook, len(rows))
	for i, r := range rows {
		out[i] = Webhook{ID: r.ID, AppID: r.AppID, App: r.App, URL: r.URL, Private: r.Private, Sealed: r.Sealed, Previous: r.Previous}
	}
	return out, nil
}

// A ClaimedEvent is one that this process alone sends, until its lease ends.
type ClaimedEvent struct {
	Webhook uuid.UUID `db:"webhook_id"`
	ID      string    `db:"event_id"`
	Name    string    `db:"name"`
	Payload []byte    `db:"payload"`
	Tries   int       `db:"tries"` // this one included
	Lease   time.Time `db:"-"`
}

// Room is how many events of one webhook to claim, at most.
type Room struct {
	Webhook uuid.UUID
	Events  int
}

// Claim takes events that are due, those that have been so for longest first, for lease, which is at most WebhookLease. Who dies with some in hand leaves
// them to whoever claims next after that.
func (s *WebhookEvents) Claim(ctx context.Context, now time.Time, lease time.Duration, rooms []Room) ([]ClaimedEvent, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	ids, most := make(pq.StringArray, len(rooms)), make(pq.Int64Array, len(rooms))
	for i, r := range rooms {
		ids[i], most[i] = r.Webhook.String(), int64(r.Events)
	}
	until := now.Add(min(lease, WebhookLease)).Truncate(time.Microsecond) // as the database keeps it
	var out []ClaimedEvent
	if err := s.db.x.SelectContext(ctx, &out, query(guarded("webhook_claim")), ids, most, now, until); err != nil {
		return nil, fmt.Errorf("claim events: %w", err)
	}
	for i := range out {
		out[i].Lease = until
	}
	return out, nil
}

// Delivered removes an event that its target has taken.
func (s *WebhookEvents) Delivered(ctx context.Context, e ClaimedEvent) error {
	_, err := execCount(ctx, s.db, "webhook_delivered", e.Webhook, e.ID)
	return err
}

// Failed puts a claimed event back until next. It changes nothing where the event is not this claim's any more.
func (s *WebhookEvents) Failed(ctx context.Context, now, next time.Time, e ClaimedEvent, reason string) error {
	_, err := execCount(ctx, s.db, "webhook_failed", e.Webhook, e.ID, e.Tries, e.Lease, "pending", next, reason, now)
	return err
}

// GiveUp makes a claimed event a dead one, for the operator to see. It changes nothing where Failed does not.
func (s *WebhookEvents) GiveUp(ctx context.Context, now time.Time, e ClaimedEvent, reason string) error {
	_, err := execCount(ctx, s.db, "webhook_failed", e.Webhook, e.ID, e.Tries, e.Lease, "dead", now, reason, now)
	return err
}

// Disable stops a webhook, as the operator's Webhooks.Disable does.
func (s *WebhookEvents) Disable(ctx context.Context, now time.Time, id uuid.UUID, why string) error {
	_, err := execCount(ctx, s.db, "webhook_disable", id, now, why)
	return err
}

// Overdue gives up to limit events up that have been due since before a time, and returns how many those were.
func (s *WebhookEvents) Overdue(ctx context.Context, now, before time.Time, reason string, limit int) (int, error) {
	return execCount(ctx, s.db, "webhook_overdue", before, now, reason, limit)
}

// Forget removes up to limit events that were given up before a time, and returns how many those were.
func (s *WebhookEvents) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	return execCount(ctx, s.db, "webhook_forget", before, limit)
}

// Backlog returns how many events wait to be taken, and how many were given up.
func (s *WebhookEvents) Backlog(ctx context.Context) (pending, dead int, err error) {
	var row struct {
		Pending int `db:"pending"`
		Dead    int `db:"dead"`
	}
	if err := s.db.x.GetContext(ctx, &row, query("webhook_backlog")); err != nil {
		return 0, 0, fmt.Errorf("count events of webhooks: %w", err)
	}
	return row.Pending, row.Dead, nil
}
