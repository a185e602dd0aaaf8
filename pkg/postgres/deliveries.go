package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// Deliveries is the store of a channel's worker.
type Deliveries struct{ db *DB }

// NewDeliveries returns the store.
func NewDeliveries(db *DB) *Deliveries { return &Deliveries{db} }

// A DeliveryKey names a delivery.
type DeliveryKey struct {
	Challenge uuid.UUID
	Number    int
}

// A Claim is the answer to a worker that wants to send.
type Claim struct {
	Granted bool
	Known   bool              // false where there is no such delivery for this role
	State   otp.DeliveryState // as it stands
	Tries   int               // times that it was claimed, this one included
	Unsure  int               // 1 where it may have gone out before
	Lease   time.Duration     // of a delivery that another process is sending: what is left of its lease
	Outcome DeliveryOutcome   // of a delivery that has one
}

// A DeliveryOutcome is what became of a delivery.
type DeliveryOutcome struct {
	DeliveryKey
	State     otp.DeliveryState
	Provider  string
	Reference string // the provider's own id
	Reason    string
	Class     string    // of a failure: what may be done about it, as package event names it
	At        time.Time // when it was recorded
	Tries     int       // of the claim that it came of, or NoClaim
	App       string    // whose challenge it is of, for the counts; empty for what is not counted
}

// NoClaim stands for the number of a claim where an outcome needed none.
const NoClaim = -1

// Claim takes deliveries for sending. A delivery is granted to one process at a time; one whose process said nothing for a lease is granted once more.
func (s *Deliveries) Claim(ctx context.Context, now time.Time, lease time.Duration, keys []DeliveryKey) ([]Claim, error) {
	ids, numbers := deliveryArrays(keys)
	var granted []struct {
		ID      uuid.UUID `db:"challenge_id"`
		Attempt int       `db:"attempt"`
		Tries   int       `db:"tries"`
		Unsure  int       `db:"unsure"`
	}
	if err := s.db.x.SelectContext(ctx, &granted, query(guarded("deliveries_claim")), ids, numbers, now, lease.Seconds()); err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	mine := make(map[DeliveryKey]Claim, len(granted))
	for _, r := range granted {
		mine[DeliveryKey{r.ID, r.Attempt}] = Claim{Granted: true, Known: true, State: otp.DeliverySending, Tries: r.Tries, Unsure: r.Unsure}
	}
	out := make([]Claim, len(keys))
	var rest []int
	given := make(map[DeliveryKey]bool, len(keys))
	for i, k := range keys {
		if c, ok := mine[k]; ok && !given[k] { // the second of two like keys in a batch gets nothing
			out[i], given[k] = c, true
			continue
		}
		rest = append(rest, i)
	}
	if len(rest) == 0 {
		return out, nil
	}
	return out, s.explain(ctx, now, lease, keys, rest, out)
}

// explain fills the claims that were not granted.
func (s *Deliveries) explain(ctx context.Context, now time.Time, lease time.Duration, keys []DeliveryKey, rest []int, out []Claim) error {
	asked := make([]DeliveryKey, len(rest))
	for j, i := range rest {
		asked[j] = keys[i]
	}
	ids, numbers := deliveryArrays(asked)
	var rows []struct {
		ID        uuid.UUID    `db:"challenge_id"`
		Attempt   int          `db:"attempt"`
		State     string       `db:"state"`
		Provider  string       `db:"provider"`
		Reference string       `db:"reference"`
		Reason    string       `db:"reason"`
		Class     string       `db:"class"`
		UpdatedAt time.Time    `db:"updated_at"`
		ClaimedAt sql.NullTime `db:"claimed_at"`
		Unsure    int          `db:"unsure"`
		Tries     int          `db:"tries"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("deliveries_state"), ids, numbers); err != nil {
		return fmt.Errorf("read deliveries: %w", err)
	}
	found := make(map[DeliveryKey]Claim, len(rows))
	for _, r := range rows {
		c := Claim{Known: true, State: otp.DeliveryState(r.State), Unsure: r.Unsure, Tries: r.Tries}
		if c.State == otp.DeliverySending {
			c.Lease = max(0, r.ClaimedAt.Time.Add(lease).Sub(now))
		}
		k := DeliveryKey{r.ID, r.Attempt}
		c.Outcome = DeliveryOutcome{DeliveryKey: k, State: c.State, Provider: r.Provider, Reference: r.Reference, Reason: r.Reason, Class: r.Class, At: r.UpdatedAt}
		found[k] = c
	}
	for _, i := range rest {
		out[i] = found[keys[i]]
	}
	return nil
}

// Finish records outcomes of deliveries. One that has an outcome already keeps it, and one that another has claimed since is left to that.
func (s *Deliveries) Finish(ctx context.Context, now time.Time, outcomes []DeliveryOutcome) error {
	n := len(outcomes)
	ids, numbers, states := make(pq.StringArray, n), make(pq.Int64Array, n), make(pq.StringArray, n)
	providers, references, reasons := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	tries, classes, apps := make(pq.Int64Array, n), make(pq.StringArray, n), make(pq.StringArray, n)
	for i, o := range outcomes {
		ids[i], numbers[i], states[i] = o.Challenge.String(), int64(o.Number), string(o.State)
		providers[i], references[i], reasons[i], tries[i] = o.Provider, o.Reference, o.Reason, int64(o.Tries)
		classes[i], apps[i] = o.Class, o.App
	}
	if _, err := s.db.x.ExecContext(ctx, query("deliveries_finish"), ids, numbers, states, providers, references, reasons, tries, now, classes, apps); err != nil {
		return fmt.Errorf("record outcomes: %w", err)
	}
	return nil
}

// Release gives back a delivery that is known not to have gone out. tries is that of the claim.
func (s *Deliveries) Release(ctx context.Context, now time.Time, key DeliveryKey, tries int) error {
	return s.mark(ctx, "release a delivery", "deliveries_release", now, key, tries)
}

// Unsure marks a delivery that may have gone out, so that its one further try need not wait for the lease. tries is that of the claim.
func (s *Deliveries) Unsure(ctx context.Context, now time.Time, key DeliveryKey, tries int) error {
	return s.mark(ctx, "mark an unsure delivery", "deliveries_unsure", now, key, tries)
}

func (s *Deliveries) mark(ctx context.Context, what, statement string, now time.Time, key DeliveryKey, tries int) error {
	ids, numbers := deliveryArrays([]DeliveryKey{key})
	if _, err := s.db.x.ExecContext(ctx, query(statement), ids, numbers, pq.Int64Array{int64(tries)}, now); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func deliveryArrays(keys []DeliveryKey) (pq.StringArray, pq.Int64Array) {
	ids, numbers := make(pq.StringArray, len(keys)), make(pq.Int64Array, len(keys))
	for i, k := range keys {
		ids[i], numbers[i] = k.Challenge.String(), int64(k.Number)
	}
	return ids, numbers
}
