package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file counts what became of what was sent, by slots of five minutes.

// slotSize is how long what is counted together is sent within.
const slotSize = 5 * time.Minute

// A DeliveryStat is what is added to the counts of a slot, or what they come to.
type DeliveryStat struct {
	Slot time.Time
	App  string // its name
	Lane
	Sent, Accepted int64
	Delivered      int64
	Failed         int64 // refused or undelivered
	Late           int64 // given up for want of a receipt
	Verified       int64
	DeliveredMS    int64 // from accepted to delivered, over all that were delivered
	Cost           int64 // millionths of the operator's currency
}

func receiptStats(receipts []Receipt, out []Recorded, now time.Time) (stats []DeliveryStat) {
	for i, r := range receipts {
		rec := out[i]
		if !r.Report || !rec.Changed || !rec.Known {
			continue
		}
		stat := DeliveryStat{Slot: now.Truncate(slotSize), App: rec.App, Lane: Lane{rec.Channel, rec.Country, rec.Provider}}
		if rec.was == otp.DeliveryQueued || rec.was == otp.DeliverySending { // the receipt is there before the worker's own word, which then counts no more
			stat.Sent, stat.Accepted, stat.Cost = 1, 1, rec.cost
		}
		switch r.State {
		case otp.DeliveryAccepted:
			if stat.Sent == 0 {
				continue
			}
		case otp.DeliveryDelivered:
			stat.Delivered = 1
			if !rec.AcceptedAt.IsZero() {
				stat.DeliveredMS = max(0, rec.DeliveredAt.Sub(rec.AcceptedAt).Milliseconds())
			}
		case otp.DeliveryUndelivered, otp.DeliveryFailed:
			stat.Failed = 1
		default:
			continue
		}
		stats = append(stats, stat)
	}
	return stats
}

func lateStats(followed []Followed, now time.Time) (stats []DeliveryStat) {
	for _, f := range followed {
		if f.Repeat {
			continue
		}
		stats = append(stats, DeliveryStat{
			Slot: now.Truncate(slotSize), App: f.App, Lane: Lane{f.Left.Channel, f.Left.Country, f.Left.Provider}, Late: 1,
		})
	}
	return stats
}

// addStats adds to the counts, those of one slot and lane together.
func addStats(ctx context.Context, tx *sqlx.Tx, stats []DeliveryStat) error {
	type key struct {
		slot time.Time
		app  string
		lane Lane
	}
	sums := map[key]DeliveryStat{}
	for _, d := range stats {
		k := key{d.Slot.UTC(), d.App, d.Lane}
		s := sums[k]
		s.Sent, s.Accepted, s.Cost = s.Sent+d.Sent, s.Accepted+d.Accepted, s.Cost+d.Cost
		s.Delivered, s.Failed, s.Late = s.Delivered+d.Delivered, s.Failed+d.Failed, s.Late+d.Late
		s.Verified, s.DeliveredMS = s.Verified+d.Verified, s.DeliveredMS+d.DeliveredMS
		sums[k] = s
	}
	if len(sums) == 0 {
		return nil
	}
	var slots, apps, channels, countries, providers pq.StringArray
	var sent, accepted, delivered, failed, late, verified, ms, cost pq.Int64Array
	for k, s := range sums {
		slots, apps = append(slots, stamp(k.slot)), append(apps, k.app)
		channels, countries, providers = append(channels, string(k.lane.Channel)), append(countries, k.lane.Country), append(providers, k.lane.Provider)
		sent, accepted, cost = append(sent, s.Sent), append(accepted, s.Accepted), append(cost, s.Cost)
		delivered, failed, late = append(delivered, s.Delivered), append(failed, s.Failed), append(late, s.Late)
		verified, ms = append(verified, s.Verified), append(ms, s.DeliveredMS)
	}
	if _, err := tx.ExecContext(ctx, query("delivery_stats_add"), slots, apps, channels, countries, providers, sent, accepted, delivered, failed,
		late, verified, ms, cost); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	return nil
}

// A Conversion is a challenge that a sent code has verified, with the delivery that the code is taken to have come by.
type Conversion struct {
	Challenge
	By Delivery
}

// Convert takes up to limit verified challenges that wait to be counted, and counts them for the lane that their code came by. name names an app by its
// number. What it takes it takes once.
func (s *Challenges) Convert(ctx context.Context, limit int, name func(appID int) string, also func(tx Tx, c []Conversion) error) (n int, err error) {
	err = s.db.tx(ctx, "count conversions", func(tx *sqlx.Tx) error {
		var ids []uuid.UUID
		if err := tx.SelectContext(ctx, &ids, query("conversions_take"), limit); err != nil {
			return fmt.Errorf("take: %w", err)
		}
		if n = len(ids); n == 0 {
			return nil
		}
		found, err := details(ctx, tx, ids)
		if err != nil {
			return err
		}
		past, err := deliveriesOfEach(ctx, tx, ids)
		if err != nil {
			return err
		}
		var all []Conversion
		var stats []DeliveryStat
		for id, c := range found {
			by, ok := cameBy(past[id])
			if !ok {
				continue
			}
			all = append(all, Conversion{c, by})
			stats = append(stats, DeliveryStat{
				Slot: by.CreatedAt.Truncate(slotSize), App: name(c.AppID), Lane: Lane{by.Channel, by.Country, by.Provider}, Verified: 1,
			})
		}
		if also != nil {
			if err := also(Tx{tx}, all); err != nil {
				return err
			}
		}
		return addStats(ctx, tx, stats)
	})
	return n, err
}

// cameBy guesses which delivery brought the code: the last that is said to have arrived, else the last that a provider took and nobody gave up, else the
// last that a provider took.
func cameBy(all []Delivery) (by Delivery, ok bool) {
	best := 0
	for _, d := range all {
		score := 0
		switch {
		case d.State == otp.DeliveryDelivered:
			score = 3
		case d.State == otp.DeliveryAccepted && d.AbandonedAt.IsZero():
			score = 2
		case d.State == otp.DeliveryAccepted || d.State == otp.DeliveryUnconfirmed:
			score = 1
		}
		if score >= best && score > 0 {
			by, best, ok = d, score, true
		}
	}
	return by, ok && by.Provider != ""
}

// DeliveriesOf returns the deliveries of each challenge, in the order of their numbers.
func (s *Challenges) DeliveriesOf(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID][]Delivery, error) {
	return deliveriesOfEach(ctx, s.db.x, ids)
}

// ForgetDelivery deletes counts of hours before stats, and receipts that belonged nowhere from before strays.
func (s *Challenges) ForgetDelivery(ctx context.Context, stats, strays time.Time) error {
	if _, err := s.db.x.ExecContext(ctx, query("delivery_stats_forget"), stats); err != nil {
		return fmt.Errorf("forget counts: %w", err)
	}
	if _, err := s.db.x.ExecContext(ctx, query("stray_receipts_forget"), strays); err != nil {
		return fmt.Errorf("forget stray receipts: %w", err)
	}
	return nil
}
