package challenge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file waits for receipts: not by sleeping, but by messages that the stream brings when their time has come. What the stream loses the sweeper finds,
// since the time stands in the delivery's row.

// timer sets the time by which a delivery's receipt is to come.
func timer(k postgres.DeliveryKey, at time.Time) bus.Out {
	ref := event.Command{Challenge: k.Challenge, Attempt: k.Number}.Reference()
	return bus.At(event.TimerSubject(ref), event.DueSubject, at, event.Due{Challenge: k.Challenge, Attempt: k.Number}.Encode())
}

// handleDue looks at deliveries whose time has come.
func (w *Worker) handleDue(ctx context.Context, batch []*bus.Msg) {
	var msgs []*bus.Msg
	var keys []postgres.DeliveryKey
	for _, m := range batch {
		d, err := event.ParseDue(m.Data)
		if err != nil {
			m.Settle(bus.Dead(err.Error()))
			continue
		}
		msgs, keys = append(msgs, m), append(keys, postgres.DeliveryKey{Challenge: d.Challenge, Number: d.Attempt})
	}
	if len(keys) == 0 {
		return
	}
	err := w.overtake(ctx, keys)
	switch {
	case postgres.Refused(err) && len(msgs) > 1: // one of them is at fault: each alone, so that it delays no other
		for _, m := range msgs {
			w.handleDue(ctx, []*bus.Msg{m})
		}
		return
	case postgres.Refused(err):
		msgs[0].Settle(bus.Dead("internal: the database refused it: " + postgres.Constraint(err)))
		return
	case err != nil:
		w.Logger.Warn("judging deliveries without a receipt failed, they will come again", "count", len(keys), "error", err)
		for _, m := range msgs {
			m.Settle(bus.Retry(bus.Backoff(m.Tries), "database or publishing"))
		}
		return
	}
	for _, m := range msgs {
		m.Settle(bus.Done())
	}
}

// early is how much before its time a timer may come: the server's clock is not the worker's.
const early = time.Second

// overtake orders what follows deliveries of which no receipt has come in time.
func (w *Worker) overtake(ctx context.Context, keys []postgres.DeliveryKey) error {
	now := w.Now()
	followed, err := w.store.Overtake(ctx, now, early, keys, w.appName, w.next(now))
	if err != nil {
		return err
	}
	if err := w.Bus.Publish(ctx, w.ordered(followed)...); err != nil {
		return fmt.Errorf("publish what follows: %w", err)
	}
	return nil
}

// appName names an app by its number; empty for one that is not known.
func (w *Worker) appName(id int) string {
	a, _ := w.apps.Known(id)
	return a.Name
}

// overdue finds deliveries whose timers were lost.
func (w *Worker) overdue(ctx context.Context) error {
	now := w.Now()
	keys, err := w.store.Due(ctx, now, now.Add(-dueGrace), sweepLimit)
	if err != nil || len(keys) == 0 {
		return err
	}
	w.Logger.Warn("timers of deliveries were lost, they are judged now", "count", len(keys))
	err = w.overtake(ctx, keys)
	if !postgres.Refused(err) {
		return err
	}
	var failed error
	for _, k := range keys { // one of them is at fault, and must not hold up the others
		failed = errors.Join(failed, w.overtake(ctx, []postgres.DeliveryKey{k}))
	}
	return failed
}

// dueGrace is how long after its time a timer may come before it counts as lost.
const dueGrace = 3 * time.Second
