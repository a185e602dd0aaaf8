package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// A Receipt is what became of one delivery: as the channel's worker tells it, or as the gateway passes it on from the provider.
type Receipt struct {
	Challenge uuid.UUID   // the zero id where a report names no delivery that is known
	Number    int         // of the delivery, from 1
	Channel   otp.Channel // that the delivery must be of; empty for any, where the provider names it
	State     otp.DeliveryState
	Provider  string
	Reference string
	Reason    string
	Class     string // of a failure
	Report    bool   // the provider's own word, which counts for the deliveries that are this provider's
}

func (r Receipt) key() DeliveryKey { return DeliveryKey{r.Challenge, r.Number} }

// failed reports whether the receipt says that the message did not arrive, and why that would be left.
func (r Receipt) failed() (why string, ok bool) {
	switch {
	case r.State == otp.DeliveryUndelivered, r.State == otp.DeliveryFailed && r.Report:
		return WhyUndelivered, true
	case r.State == otp.DeliveryFailed:
		return WhyRefused, true
	case r.State == otp.DeliveryUnconfirmed && r.Class != "":
		return WhyLost, true
	}
	return "", false
}

// A Recorded receipt is what the database holds after it.
type Recorded struct {
	Known          bool   // false for a delivery that is not there (any more)
	Stray          string // why the receipt counts for nothing: unknown or other_provider; late where another delivery has taken the place
	Changed        bool   // the receipt was news
	AppID          int
	App            string // its name
	User           string
	Session, Login string
	Delivery       otp.DeliveryState
	Channel        otp.Channel
	Provider       string
	Country        string
	AcceptedAt     time.Time // zero where it was not
	DeliveredAt    time.Time
	Abandoned      bool // another delivery has taken its place
	Last           bool // it is the challenge's last
	ExpiresAt      time.Time
	Challenge      otp.State
	EndedAt        time.Time
	cost           int64             // of the delivery
	was            otp.DeliveryState // before it changed
	DueAt          time.Time         // when it is given up unless it is said to be delivered; zero for never, and where this receipt does not bear on it

	known bool // how it stands was on record before another took its place: who says it again is not late
}

// Record writes a batch of receipts, each of another delivery, says what follows those that failed, and ends the challenges that nothing can reach any
// more. due says when a delivery that was accepted is given up; zero for never. The same receipt again changes nothing and is answered alike.
func (s *Challenges) Record(ctx context.Context, now time.Time, receipts []Receipt, due func(Recorded) time.Time, next Follow) (
	out []Recorded, followed []Followed, err error,
) {
	var failed []uuid.UUID
	for _, r := range receipts {
		if _, ok := r.failed(); ok && r.Challenge != uuid.Nil {
			failed = append(failed, r.Challenge)
		}
	}
	err = s.db.tx(ctx, "record receipts", func(tx *sqlx.Tx) error {
		if len(failed) > 0 { // challenges before deliveries, as whoever ends a challenge and withdraws its deliveries does
			if _, err := tx.ExecContext(ctx, query(guarded("challenges_lock")), pq.Array(failed)); err != nil {
				return fmt.Errorf("lock challenges: %w", err)
			}
		}
		changed, err := writeReceipts(ctx, tx, now, receipts)
		if err != nil {
			return err
		}
		if out, err = receiptContext(ctx, tx, receipts, changed); err != nil {
			return err
		}
		if err := setDue(ctx, tx, receipts, out, due); err != nil {
			return err
		}
		why := map[DeliveryKey]string{}
		for i, r := range receipts {
			if reason, ok := r.failed(); ok && out[i].Known && out[i].Stray == "" && out[i].Delivery == r.State {
				why[r.key()] = reason
			}
		}
		if followed, err = follow(ctx, tx, now, why, next); err != nil {
			return err
		}
		if len(failed) > 0 {
			var ended []uuid.UUID
			if err := tx.SelectContext(ctx, &ended, query("challenges_undeliverable"), pq.Array(failed), now); err != nil {
				return fmt.Errorf("end undeliverable: %w", err)
			}
			for i := range out {
				for _, id := range ended {
					if receipts[i].Challenge == id {
						out[i].Challenge, out[i].EndedAt = otp.Undeliverable, now
					}
				}
			}
		}
		if err := keepStrays(ctx, tx, now, receipts, out); err != nil {
			return err
		}
		return addStats(ctx, tx, receiptStats(receipts, out, now))
	})
	if err != nil {
		return nil, nil, err
	}
	return out, followed, nil
}

func writeReceipts(ctx context.Context, tx *sqlx.Tx, now time.Time, receipts []Receipt) (map[DeliveryKey]otp.DeliveryState, error) {
	n := len(receipts)
	ids, states, providers := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	references, reasons, classes := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	channels := make(pq.StringArray, n)
	numbers, reports := make(pq.Int64Array, n), make(pq.BoolArray, n)
	for i, r := range receipts {
		ids[i], numbers[i], states[i], providers[i] = r.Challenge.String(), int64(r.Number), string(r.State), r.Provider
		references[i], reasons[i], classes[i], reports[i], channels[i] = r.Reference, r.Reason, r.Class, r.Report, string(r.Channel)
	}
	var rows []struct {
		ID      uuid.UUID `db:"challenge_id"`
		Attempt int       `db:"attempt"`
		Was     string    `db:"was"`
	}
	if err := tx.SelectContext(ctx, &rows, query(guarded("receipts_record")), ids, numbers, states, providers, references, reasons, classes, now,
		reports, channels); err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	changed := make(map[DeliveryKey]otp.DeliveryState, len(rows))
	for _, r := range rows {
		changed[DeliveryKey{r.ID, r.Attempt}] = otp.DeliveryState(r.Was)
	}
	return changed, nil
}

// receiptContext reads what the database holds of each receipt's delivery.
func receiptContext(ctx context.Context, tx *sqlx.Tx, receipts []Receipt, changed map[DeliveryKey]otp.DeliveryState) ([]Recorded, error) {
	keys := make([]DeliveryKey, len(receipts))
	for i, r := range receipts {
		keys[i] = r.key()
	}
	ids, numbers := deliveryArrays(keys)
	var rows []struct {
		ID            uuid.UUID    `db:"id"`
		AppID         int          `db:"app_id"`
		App           string       `db:"app"`
		User          string       `db:"user_id"`
		Session       string       `db:"session"`
		Login         string       `db:"login"`
		State         string       `db:"state"`
		EndedAt       sql.NullTime `db:"ended_at"`
		ExpiresAt     time.Time    `db:"expires_at"`
		Deliveries    int          `db:"deliveries"`
		Attempt       int          `db:"attempt"`
		DeliveryState string       `db:"delivery_state"`
		Channel       string       `db:"channel"`
		Provider      string       `db:"provider"`
		Country       string       `db:"country"`
		Class         string       `db:"class"`
		Cost          int64        `db:"cost"`
		AcceptedAt    sql.NullTime `db:"accepted_at"`
		DeliveredAt   sql.NullTime `db:"delivered_at"`
		AbandonedAt   sql.NullTime `db:"abandoned_at"`
		UpdatedAt     time.Time    `db:"updated_at"`
	}
	if err := tx.SelectContext(ctx, &rows, query("receipts_context"), ids, numbers); err != nil {
		return nil, fmt.Errorf("read context: %w", err)
	}
	found := make(map[DeliveryKey]Recorded, len(rows))
	for _, r := range rows {
		found[DeliveryKey{r.ID, r.Attempt}] = Recorded{
			Known: true, AppID: r.AppID, App: r.App, User: r.User, Session: r.Session, Login: r.Login, Delivery: otp.DeliveryState(r.DeliveryState),
			Channel: otp.Channel(r.Channel), Provider: r.Provider, Country: r.Country, cost: r.Cost, AcceptedAt: nullTime(r.AcceptedAt),
			DeliveredAt: nullTime(r.DeliveredAt), Abandoned: r.AbandonedAt.Valid, Last: r.Attempt == r.Deliveries, ExpiresAt: r.ExpiresAt,
			Challenge: otp.State(r.State), EndedAt: nullTime(r.EndedAt), known: r.AbandonedAt.Valid && !r.UpdatedAt.After(r.AbandonedAt.Time),
		}
	}
	out := make([]Recorded, len(receipts))
	for i, r := range receipts {
		rec := found[r.key()]
		if r.Channel != "" && rec.Channel != r.Channel { // what one channel's worker says of another's delivery
			rec = Recorded{}
		}
		rec.was, rec.Changed = changed[r.key()]
		switch {
		case !r.Report:
		case !rec.Known:
			rec.Stray = "unknown"
		case r.Provider != rec.Provider && r.Provider != "":
			rec.Stray = "other_provider"
		case rec.Abandoned && (rec.Changed || !rec.known || rec.Delivery != r.State):
			rec.Stray = "late"
		}
		out[i] = rec
	}
	return out, nil
}

// setDue says until when the receipts of deliveries are waited for that a provider has taken just now.
func setDue(ctx context.Context, tx *sqlx.Tx, receipts []Receipt, out []Recorded, due func(Recorded) time.Time) error {
	var keys []DeliveryKey
	var times pq.StringArray
	for i, r := range receipts {
		if r.State != otp.DeliveryAccepted || !out[i].Known || out[i].Delivery != otp.DeliveryAccepted || out[i].Abandoned || !out[i].Last ||
			out[i].Stray != "" || out[i].Challenge != otp.Open {
			continue
		}
		if r.Report && !out[i].Changed { // the provider is at it, as is known: that is no reason to wait longer
			continue
		}
		if at := due(out[i]); !at.IsZero() {
			keys, times = append(keys, r.key()), append(times, stamp(at))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	ids, numbers := deliveryArrays(keys)
	var rows []struct {
		ID      uuid.UUID `db:"challenge_id"`
		Attempt int       `db:"attempt"`
		DueAt   time.Time `db:"due_at"`
	}
	if err := tx.SelectContext(ctx, &rows, query("deliveries_due_set"), ids, numbers, times); err != nil {
		return fmt.Errorf("set due: %w", err)
	}
	set := make(map[DeliveryKey]time.Time, len(rows))
	for _, r := range rows {
		set[DeliveryKey{r.ID, r.Attempt}] = r.DueAt
	}
	for i, r := range receipts {
		if slices.Contains(keys, r.key()) {
			out[i].DueAt = set[r.key()]
		}
	}
	return nil
}

// keepStrays writes down the reports that belong to no delivery that waits for them.
func keepStrays(ctx context.Context, tx *sqlx.Tx, now time.Time, receipts []Receipt, out []Recorded) error {
	var why, provider, reference, challenge, state, reason pq.StringArray
	var number pq.Int64Array
	var digest pq.ByteaArray
	for i, r := range receipts {
		if out[i].Stray == "" {
			continue
		}
		id := ""
		if r.Challenge != uuid.Nil {
			id = r.Challenge.String()
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d %q %q", r.Provider, r.Reference, id, r.Number, r.State, out[i].Stray))
		why, provider, reference = append(why, out[i].Stray), append(provider, r.Provider), append(reference, r.Reference)
		challenge, number = append(challenge, id), append(number, int64(r.Number))
		state, reason, digest = append(state, string(r.State)), append(reason, r.Reason), append(digest, sum[:])
	}
	if len(why) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, query("stray_receipts_add"), why, provider, reference, challenge, number, state, reason, digest, now); err != nil {
		return fmt.Errorf("keep stray receipts: %w", err)
	}
	return nil
}
