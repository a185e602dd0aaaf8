package challenge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// Sweep says how the sweeper works. The zero value of a field takes its default.
type Sweep struct {
	Every           time.Duration // how often; default 2 s
	Grace           time.Duration // how long a delivery may have no outcome before its command is published again; default 30 s, doubled each time
	Keep            time.Duration // how long ended challenges are kept; default 7 days, at least 1 day
	PartitionsAhead int           // days; default 3
}

func (s *Sweep) complete() error {
	orDefault(&s.Every, 2*time.Second)
	orDefault(&s.Grace, 30*time.Second)
	orDefault(&s.Keep, 7*24*time.Hour)
	orDefault(&s.PartitionsAhead, 3)
	switch {
	case s.Every < 10*time.Millisecond || s.Every > time.Minute:
		return fmt.Errorf("sweep-every: must be 10ms to 1m, not %s", s.Every)
	case s.Grace < time.Second:
		return fmt.Errorf("sweep-grace: must be at least 1s, not %s", s.Grace)
	case s.Keep < 24*time.Hour:
		return fmt.Errorf("keep: must be at least 24h, not %s", s.Keep)
	case s.PartitionsAhead < 1 || s.PartitionsAhead > 60:
		return fmt.Errorf("partitions-ahead: must be 1 to 60, not %d", s.PartitionsAhead)
	}
	return nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

const (
	sweepLimit  = 1000                // rows of one statement
	loginMemory = 24 * time.Hour      // how long the id of a login is known
	statsMemory = 30 * 24 * time.Hour // how long the counts of deliveries are kept
	upkeepEvery = time.Minute
	recent      = time.Hour // how far back every round looks for what has expired; upkeep looks at all that is kept
)

// sweep ends what has expired and publishes what was left behind, until ctx ends. One worker does it at a time, whoever comes first.
func (w *Worker) sweep(ctx context.Context) error {
	var kept time.Time
	for {
		pause := w.Sweep.Every/2 + rand.N(w.Sweep.Every)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		work := context.WithoutCancel(ctx)
		_, err := w.store.Alone(work, func() error {
			err := errors.Join(w.expire(work, w.Now().Add(-recent)), w.republish(work), w.overdue(work), w.convert(work), w.judgePrefixes(work))
			if now := w.Now(); now.Sub(kept) >= upkeepEvery {
				kept = now
				err = errors.Join(err, w.upkeep(work, now))
			}
			return err
		})
		if err != nil {
			w.Logger.Warn("sweeping failed, it goes on with the next round", "error", err)
		}
	}
}

// expire ends challenges of logins after since whose time is over.
func (w *Worker) expire(ctx context.Context, since time.Time) error {
	for {
		now := w.Now()
		events, err := w.store.Expire(ctx, now, since, sweepLimit, func(e postgres.Ended) postgres.OutboxEvent {
			return outbox.Entry(ended(e.App, e.ID, event.About{User: e.User, Session: e.Session, Login: e.Login, Test: e.Test}, otp.Expired, now))
		})
		if err != nil {
			return err
		}
		w.Metrics.Challenges.WithLabelValues(string(otp.Expired)).Add(float64(len(events)))
		w.outbox.Send(events)
		if len(events) < sweepLimit {
			return nil
		}
	}
}

// republish publishes anew the commands of deliveries that have had no outcome in time. Whoever gets one claims it first, so that none is sent twice.
func (w *Worker) republish(ctx context.Context) error {
	late, err := w.store.Overdue(ctx, w.Now(), w.Sweep.Grace, sweepLimit)
	if err != nil || len(late) == 0 {
		return err
	}
	ids := make([]uuid.UUID, len(late))
	for i, l := range late {
		ids[i] = l.Challenge
	}
	found, err := w.store.Details(ctx, ids)
	if err != nil {
		return err
	}
	past, err := w.store.DeliveriesOf(ctx, ids)
	if err != nil {
		return err
	}
	var out []bus.Out
	for _, l := range late {
		c := found[l.Challenge]
		c.Deliveries = upTo(past[l.Challenge], l.Number)
		app, err := w.apps.ByID(ctx, c.AppID)
		if err != nil {
			return fmt.Errorf("the app of an overdue delivery: %w", err)
		}
		if len(c.Deliveries) == 0 {
			continue
		}
		if cmd, ok := w.command(app, c, c.Deliveries[len(c.Deliveries)-1]); ok {
			out = append(out, commandOut(cmd, fmt.Sprintf("/again-%d", l.Swept)))
		}
	}
	w.Logger.Warn("deliveries without an outcome are published again", "count", len(out))
	return w.Bus.Publish(ctx, out...)
}

// upTo returns the deliveries up to the one of a number, if that is there.
func upTo(all []postgres.Delivery, number int) []postgres.Delivery {
	i := slices.IndexFunc(all, func(d postgres.Delivery) bool { return d.Number == number })
	return all[:i+1]
}

// convert counts the codes that came back.
func (w *Worker) convert(ctx context.Context) error {
	for {
		n, err := w.store.Convert(ctx, sweepLimit, w.appName, w.returned(ctx))
		if err != nil || n < sweepLimit {
			return err
		}
	}
}

// upkeep makes partitions ahead, drops those behind, and forgets old logins.
func (w *Worker) upkeep(ctx context.Context, now time.Time) error {
	made, err := w.store.EnsurePartitions(ctx, now, w.Sweep.PartitionsAhead)
	if err != nil {
		return err
	}
	if err := w.expire(ctx, now.Add(-w.Sweep.Keep)); err != nil {
		return err
	}
	dropped := 0
	for {
		n, err := w.store.DropPartition(ctx, now.Add(-w.Sweep.Keep))
		dropped += n
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if err := w.store.ForgetDelivery(ctx, now.Add(-statsMemory), now.Add(-w.Sweep.Keep)); err != nil {
		return err
	}
	if err := w.pumping.Forget(ctx, now); err != nil {
		return err
	}
	for {
		n, err := w.store.ForgetLimits(ctx, now.Add(-loginMemory), sweepLimit)
		if err != nil {
			return err
		}
		if n < sweepLimit {
			break
		}
	}
	forgotten := 0
	for {
		n, err := w.store.Forget(ctx, now.Add(-loginMemory), sweepLimit)
		forgotten += n
		if err != nil {
			return err
		}
		if n < sweepLimit {
			break
		}
	}
	if made+dropped+forgotten > 0 {
		w.Logger.Info("upkeep", "partitions_made", made, "partitions_dropped", dropped, "logins_forgotten", forgotten)
	}
	return nil
}
