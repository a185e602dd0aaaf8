package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// An OutboxEvent is an event that must go out although no message of a stream would bring it again.
type OutboxEvent struct {
	ID, Subject string
	Payload     []byte
}

// Outbox is the store of events that are committed and may not have gone out.
type Outbox struct{ db *DB }

// NewOutbox returns the store.
func NewOutbox(db *DB) *Outbox { return &Outbox{db} }

// Sent removes events that a stream has taken.
func (o *Outbox) Sent(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if _, err := o.db.x.ExecContext(ctx, query("outbox_delete"), pq.StringArray(ids)); err != nil {
		return fmt.Errorf("empty outbox: %w", err)
	}
	return nil
}

// outboxPage bounds the events that are read at once.
const outboxPage = 500

// Left hands publish what the role's processes left in the outbox before a time, oldest first and page by page, and removes what publish
// took: it returns an error or nil for each event. What was not taken goes to the end of the queue. Left returns how many events were
// published; it does nothing where another process is at it.
func (o *Outbox) Left(ctx context.Context, now, before time.Time, publish func([]OutboxEvent) []error) (n int, err error) {
	_, err = o.db.alone(ctx, "outbox_lock", "outbox_unlock", func() error {
		for {
			var rows []struct {
				ID      string `db:"id"`
				Subject string `db:"subject"`
				Payload []byte `db:"payload"`
			}
			if err := o.db.x.SelectContext(ctx, &rows, query("outbox_left"), before, outboxPage); err != nil {
				return fmt.Errorf("read what is left in the outbox: %w", err)
			}
			if len(rows) == 0 {
				return nil
			}
			events := make([]OutboxEvent, len(rows))
			for i, r := range rows {
				events[i] = OutboxEvent(r)
			}
			var sent, kept []string
			for i, err := range publish(events) {
				if err == nil {
					sent = append(sent, events[i].ID)
				} else {
					kept = append(kept, events[i].ID)
				}
			}
			n += len(sent)
			if err := o.Sent(ctx, sent); err != nil {
				return err
			}
			if len(kept) > 0 {
				if _, err := o.db.x.ExecContext(ctx, query("outbox_postpone"), pq.StringArray(kept), now); err != nil {
					return fmt.Errorf("put events back into the outbox: %w", err)
				}
			}
		}
	})
	return n, err
}

// insertOutbox writes events with the change that they tell of.
func insertOutbox(ctx context.Context, tx *sqlx.Tx, now time.Time, events []OutboxEvent) error {
	if len(events) == 0 {
		return nil
	}
	n := len(events)
	ids, subjects, payloads := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.ByteaArray, n)
	for i, e := range events {
		ids[i], subjects[i], payloads[i] = e.ID, e.Subject, e.Payload
	}
	if _, err := tx.ExecContext(ctx, query("outbox_insert"), ids, subjects, payloads, now); err != nil {
		return fmt.Errorf("write outbox: %w", err)
	}
	return nil
}
