package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// A Receipt is what became of one delivery.
type Receipt struct {
	Challenge uuid.UUID
	Number    int // of the delivery, from 1
	State     otp.DeliveryState
	Provider  string
	Reference string
	Reason    string
}

// A Recorded receipt is what the database holds after it.
type Recorded struct {
	Known          bool   // false for a delivery that is not there (any more)
	App            string // its name
	User           string
	Session, Login string
	Delivery       otp.DeliveryState
	Challenge      otp.State
	EndedAt        time.Time
}

// Record writes a batch of receipts, each of another delivery, and ends the challenges that nothing can reach any more. The same receipt again changes
// nothing and is answered alike.
func (s *Challenges) Record(ctx context.Context, now time.Time, receipts []Receipt) ([]Recorded, error) {
	n := len(receipts)
	ids, states, providers := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	references, reasons, numbers := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.Int64Array, n)
	var failed []uuid.UUID
	for i, r := range receipts {
		ids[i], numbers[i], states[i], providers[i] = r.Challenge.String(), int64(r.Number), string(r.State), r.Provider
		references[i], reasons[i] = r.Reference, r.Reason
		if r.State == otp.DeliveryFailed || r.State == otp.DeliveryUndelivered {
			failed = append(failed, r.Challenge)
		}
	}
	out := make([]Recorded, n)
	err := s.db.tx(ctx, "record receipts", func(tx *sqlx.Tx) error {
		if len(failed) > 0 { // challenges before deliveries, as whoever ends a challenge and withdraws its deliveries does
			if _, err := tx.ExecContext(ctx, query("challenges_lock"), pq.Array(failed)); err != nil {
				return fmt.Errorf("lock challenges: %w", err)
			}
		}
		if _, err := tx.ExecContext(ctx, query("receipts_record"), ids, numbers, states, providers, references, reasons, now); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if len(failed) > 0 {
			if _, err := tx.ExecContext(ctx, query("challenges_undeliverable"), pq.Array(failed), now); err != nil {
				return fmt.Errorf("end undeliverable: %w", err)
			}
		}
		var rows []struct {
			ID            uuid.UUID    `db:"id"`
			App           string       `db:"app"`
			User          string       `db:"user_id"`
			Session       string       `db:"session"`
			Login         string       `db:"login"`
			State         string       `db:"state"`
			EndedAt       sql.NullTime `db:"ended_at"`
			Attempt       int          `db:"attempt"`
			DeliveryState string       `db:"delivery_state"`
		}
		if err := tx.SelectContext(ctx, &rows, query("receipts_context"), ids, numbers); err != nil {
			return fmt.Errorf("read context: %w", err)
		}
		type key struct {
			id uuid.UUID
			n  int
		}
		found := make(map[key]Recorded, len(rows))
		for _, r := range rows {
			found[key{r.ID, r.Attempt}] = Recorded{
				Known: true, App: r.App, User: r.User, Session: r.Session, Login: r.Login,
				Delivery: otp.DeliveryState(r.DeliveryState), Challenge: otp.State(r.State), EndedAt: nullTime(r.EndedAt),
			}
		}
		for i, r := range receipts {
			out[i] = found[key{r.Challenge, r.Number}]
		}
		return nil
	})
	return out, err
}
