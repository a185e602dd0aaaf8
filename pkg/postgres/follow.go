package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is what follows a delivery that did not do: the next one of its challenge, over another provider or another channel.

// MaxDeliveries is how many deliveries a challenge has at most, what follows failures included.
const MaxDeliveries = 60

// A NewDelivery is one to be stored.
type NewDelivery struct {
	Challenge uuid.UUID
	Number    int // within the challenge, from 1
	Channel   otp.Channel
	Mask      string
	Provider  string
	Country   string
	Cost      int64  // millionths of the operator's currency
	Cause     string // CauseSend, CauseFailover or CauseFallback
}

func addDeliveries(ctx context.Context, tx *sqlx.Tx, now time.Time, rows []NewDelivery) error {
	n := len(rows)
	if n == 0 {
		return nil
	}
	ids, channels, masks, providers := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	countries, causes := make(pq.StringArray, n), make(pq.StringArray, n)
	numbers, costs := make(pq.Int64Array, n), make(pq.Int64Array, n)
	for i, d := range rows {
		ids[i], numbers[i], channels[i], masks[i], providers[i] = d.Challenge.String(), int64(d.Number), string(d.Channel), d.Mask, d.Provider
		countries[i], costs[i], causes[i] = d.Country, d.Cost, d.Cause
		if d.Cause == "" {
			causes[i] = CauseSend
		}
	}
	if _, err := tx.ExecContext(ctx, query("deliveries_add"), ids, numbers, channels, masks, providers, countries, costs, causes, now); err != nil {
		return fmt.Errorf("store deliveries: %w", err)
	}
	return nil
}

// A Failing is a delivery that another may take the place of.
type Failing struct {
	Challenge Challenge // open, with all its deliveries
	Left      Delivery  // its last one
	Why       string    // refused, lost, undelivered or late
}

// A Followed delivery is what took its place.
type Followed struct {
	Failing
	App    string // its name; set by Overtake
	Next   NewDelivery
	Repeat bool // it took its place before, and nobody has begun to send it: the command may not have been published
}

// A Follow says what follows each of some failing deliveries: channel, provider, country, cost and cause of the next one, without a channel where there is
// no other way. It is called within the transaction that stores what it says, once.
type Follow func(tx Tx, all []Failing) ([]NewDelivery, error)

// follow finds, for each failing delivery that is its challenge's last and has no successor, what takes its place, and stores it. The challenges are
// locked. why has the reason of each.
func follow(ctx context.Context, tx *sqlx.Tx, now time.Time, why map[DeliveryKey]string, next Follow) ([]Followed, error) {
	if len(why) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, 0, len(why))
	for k := range why {
		ids = append(ids, k.Challenge)
	}
	found, err := details(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	past, err := deliveriesOfEach(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	var all []Failing
	var again []Followed
	for k, reason := range why {
		c := found[k.Challenge]
		c.Deliveries = past[k.Challenge]
		i := slices.IndexFunc(c.Deliveries, func(d Delivery) bool { return d.Number == k.Number })
		if c.State != otp.Open || !now.Before(c.ExpiresAt) || i < 0 {
			continue
		}
		switch left := c.Deliveries[i]; {
		case !left.AbandonedAt.IsZero():
			again = append(again, followedBefore(c, i, reason)...)
		case c.LastDelivery == k.Number:
			all = append(all, Failing{Challenge: c, Left: left, Why: reason})
		}
	}
	if len(all) == 0 {
		return again, nil
	}
	slices.SortFunc(all, func(a, b Failing) int { return bytes.Compare(a.Challenge.ID[:], b.Challenge.ID[:]) })
	nexts, err := next(Tx{tx}, all)
	if err != nil {
		return nil, err
	}
	var out []Followed
	for i, n := range nexts {
		f := all[i]
		_, mask, has := f.Challenge.Destination(n.Channel)
		if n.Channel == "" || !has {
			continue
		}
		n.Challenge, n.Number, n.Mask = f.Challenge.ID, f.Left.Number+1, mask
		out = append(out, Followed{Failing: f, Next: n})
	}
	out, err = storeFollowed(ctx, tx, now, out)
	return append(out, again...), err
}

// followedBefore returns what took the place of a challenge's i-th delivery, if that still waits to be sent: whoever stored it may have died before
// anybody heard of it.
func followedBefore(c Challenge, i int, why string) []Followed {
	if i+1 >= len(c.Deliveries) || c.Deliveries[i+1].State != otp.DeliveryQueued {
		return nil
	}
	left, d := c.Deliveries[i], c.Deliveries[i+1]
	c.Deliveries = c.Deliveries[: i+1 : i+1]
	return []Followed{{Failing: Failing{Challenge: c, Left: left, Why: why}, Repeat: true, Next: NewDelivery{
		Challenge: c.ID, Number: d.Number, Channel: d.Channel, Mask: d.Mask, Provider: d.Provider, Country: d.Country, Cost: d.Cost, Cause: d.Cause,
	}}}
}

// storeFollowed writes what follows. Of a delivery that another process has followed meanwhile, nothing is written.
func storeFollowed(ctx context.Context, tx *sqlx.Tx, now time.Time, all []Followed) ([]Followed, error) {
	n := len(all)
	if n == 0 {
		return nil, nil
	}
	ids, channels, factors := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	numbers := make(pq.Int64Array, n)
	for i, f := range all {
		ids[i], numbers[i], channels[i], factors[i] = f.Next.Challenge.String(), int64(f.Next.Number), string(f.Next.Channel), string(f.Next.Channel.Factor())
	}
	var raised []uuid.UUID
	if err := tx.SelectContext(ctx, &raised, query(guarded("challenges_follow")), ids, numbers, channels, factors, now); err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	won := make(map[uuid.UUID]bool, len(raised))
	for _, id := range raised {
		won[id] = true
	}
	kept := all[:0]
	var rows []NewDelivery
	var left []DeliveryKey
	for _, f := range all {
		if won[f.Next.Challenge] {
			kept = append(kept, f)
			rows = append(rows, f.Next)
			left = append(left, DeliveryKey{f.Next.Challenge, f.Left.Number})
		}
	}
	if len(kept) == 0 {
		return nil, nil
	}
	lids, lnumbers := deliveryArrays(left)
	if _, err := tx.ExecContext(ctx, query("deliveries_abandon"), lids, lnumbers, now); err != nil {
		return nil, fmt.Errorf("abandon: %w", err)
	}
	return kept, addDeliveries(ctx, tx, now, rows)
}

// Overtake follows deliveries whose time for a receipt is over, or is within early, and of which none has come. One that was delivered meanwhile, or that
// is not due, is left alone. The same again changes nothing and is answered alike. name names an app by its number.
func (s *Challenges) Overtake(ctx context.Context, now time.Time, early time.Duration, keys []DeliveryKey, name func(appID int) string, next Follow) (
	out []Followed, err error,
) {
	horizon := now.Add(early)
	ids := make([]uuid.UUID, len(keys))
	asked := make(map[DeliveryKey]bool, len(keys))
	for i, k := range keys {
		ids[i], asked[k] = k.Challenge, true
	}
	err = s.db.tx(ctx, "overtake deliveries", func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, query(guarded("challenges_lock")), pq.Array(ids)); err != nil {
			return fmt.Errorf("lock challenges: %w", err)
		}
		aids, anumbers := deliveryArrays(keys)
		if _, err := tx.ExecContext(ctx, query(guarded("deliveries_lock")), aids, anumbers); err != nil {
			return fmt.Errorf("lock deliveries: %w", err)
		}
		past, err := deliveriesOfEach(ctx, tx, ids)
		if err != nil {
			return err
		}
		why := map[DeliveryKey]string{}
		var judged []DeliveryKey
		for id, all := range past {
			for _, d := range all {
				k := DeliveryKey{id, d.Number}
				switch {
				case !asked[k]:
				case !d.AbandonedAt.IsZero():
					why[k] = WhyLate // the timer again: what took its place may not be known yet
				case !d.DueAt.IsZero() && !d.DueAt.After(horizon):
					judged = append(judged, k)
					if d.State == otp.DeliveryAccepted {
						why[k] = WhyLate
					}
				}
			}
		}
		if out, err = follow(ctx, tx, now, why, next); err != nil {
			return err
		}
		for i := range out {
			out[i].App = name(out[i].Challenge.AppID)
		}
		if len(judged) == 0 {
			return nil
		}
		jids, jnumbers := deliveryArrays(judged)
		if _, err := tx.ExecContext(ctx, query("deliveries_due_judged"), jids, jnumbers, horizon); err != nil {
			return fmt.Errorf("mark judged: %w", err)
		}
		return addStats(ctx, tx, lateStats(out, now))
	})
	return out, err
}

// Why a delivery is left.
const (
	WhyRefused     = "refused"     // the provider did not take it
	WhyLost        = "lost"        // nobody knows whether it did
	WhyUndelivered = "undelivered" // it could not deliver it
	WhyLate        = "late"        // it has not said in time that it did
)

// Due returns up to limit deliveries whose time was over at a time and that nobody has judged.
func (s *Challenges) Due(ctx context.Context, now, before time.Time, limit int) ([]DeliveryKey, error) {
	var rows []struct {
		ID      uuid.UUID `db:"challenge_id"`
		Attempt int       `db:"attempt"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("deliveries_due"), before, oldestOpen(now), newestOpen(now), limit); err != nil {
		return nil, fmt.Errorf("look for due deliveries: %w", err)
	}
	out := make([]DeliveryKey, len(rows))
	for i, r := range rows {
		out[i] = DeliveryKey{r.ID, r.Attempt}
	}
	return out, nil
}
