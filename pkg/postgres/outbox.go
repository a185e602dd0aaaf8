package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

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

// Left hands publish what has stood in the outbox since before a time, oldest first, and removes what publish took. It returns how many those were.
func (o *Outbox) Left(ctx context.Context, before time.Time, publish func([]OutboxEvent) error) (n int, err error) {
	err = o.db.tx(ctx, "publish what is left in the outbox", func(tx *sqlx.Tx) error {
		var rows []struct {
			ID      string `db:"id"`
			Subject string `db:"subject"`
			Payload []byte `db:"payload"`
		}
		if err := tx.SelectContext(ctx, &rows, query("outbox_left"), before); err != nil || len(rows) == 0 {
			return err
		}
		events, ids := make([]OutboxEvent, len(rows)), make(pq.StringArray, len(rows))
		for i, r := range rows {
			events[i], ids[i] = OutboxEvent(r), r.ID
		}
		if err := publish(events); err != nil {
			return err
		}
		n = len(rows)
		_, err := tx.ExecContext(ctx, query("outbox_delete"), ids)
		return err
	})
	return n, err
}
