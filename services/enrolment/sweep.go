package enrolment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// Sweep says how the sweeper works. The zero value of a field takes its default.
type Sweep struct {
	Every time.Duration // how often notices are written and what is due is done; default 500 ms
	Grace time.Duration // how long a message may be unsent before its command is published again; default 30 s, doubled each time
}

func (s *Sweep) complete() error {
	if s.Every == 0 {
		s.Every = 500 * time.Millisecond
	}
	if s.Grace == 0 {
		s.Grace = 30 * time.Second
	}
	switch {
	case s.Every < 10*time.Millisecond || s.Every > time.Minute:
		return fmt.Errorf("sweep-every: must be 10ms to 1m, not %s", s.Every)
	case s.Grace < time.Second:
		return fmt.Errorf("sweep-grace: must be at least 1s, not %s", s.Grace)
	}
	return nil
}

const (
	sweepLimit  = 500
	unsentEvery = 5 * time.Second
	upkeepEvery = 30 * time.Second
	countEvery  = 10 * time.Second
)

// sweep writes notices, carries out recoveries that are due, and finds messages that were left behind, until ctx ends. One worker does it at a time, whoever
// comes first.
func (w *Worker) sweep(ctx context.Context) error {
	var looked, kept, counted time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(w.Sweep.Every/2 + rand.N(w.Sweep.Every)):
		}
		work := context.WithoutCancel(ctx)
		if now := w.Now(); now.Sub(counted) >= countEvery { // every worker: the one that sweeps may be the one that hangs
			counted = now
			if err := w.countBacklog(work, now); err != nil {
				w.Logger.Warn("what waits could not be counted", "error", err)
			}
		}
		_, err := w.store.Alone(work, func() error {
			err := errors.Join(w.writeNotices(work), w.recoveriesDue(work))
			now := w.Now()
			if now.Sub(looked) >= min(unsentEvery, w.Sweep.Grace) {
				looked = now
				err = errors.Join(err, w.resendUnsent(work))
			}
			if now.Sub(kept) >= upkeepEvery {
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

// countBacklog tells the metrics what waits.
func (w *Worker) countBacklog(ctx context.Context, now time.Time) error {
	b, err := w.store.Backlog(ctx)
	if err != nil {
		return err
	}
	age := time.Duration(0)
	if b.Notices > 0 {
		age = max(0, now.Sub(b.Oldest))
	}
	w.Metrics.Notices.Set(float64(b.Notices))
	w.Metrics.NoticeAge.Set(age.Seconds())
	for _, state := range []otp.RecoveryState{otp.RecoveryApproval, otp.RecoveryProving, otp.RecoveryWaiting} {
		w.Metrics.Recoveries.WithLabelValues(string(state)).Set(float64(b.Recoveries[string(state)]))
	}
	return nil
}

func (w *Worker) resendUnsent(ctx context.Context) error {
	late, err := w.store.Unsent(ctx, w.Now(), w.Sweep.Grace, sweepLimit)
	if err != nil {
		return err
	}
	w.dispatch(ctx, late)
	return nil
}

// How long what is over is kept.
const (
	keepCeremonies = 24 * time.Hour
	keepConfirmed  = 24 * time.Hour      // a first factor whose backup codes nobody acknowledged
	keepRemoved    = 7 * 24 * time.Hour  // removed factors and contacts, for the notices
	keepRecoveries = 90 * 24 * time.Hour // ended ones
)

// upkeep is the janitor: it removes what nobody needs any more.
func (w *Worker) upkeep(ctx context.Context, now time.Time) error {
	n, err := w.store.Upkeep(ctx, now, postgres.Kept{
		Ceremonies: now.Add(-keepCeremonies), Confirmed: now.Add(-keepConfirmed), Removed: now.Add(-keepRemoved), Recoveries: now.Add(-keepRecoveries),
	}, sweepLimit)
	if n > 0 {
		w.Logger.Debug("upkeep removed rows", "count", n)
	}
	return err
}
