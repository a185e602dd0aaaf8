// Package webhook posts events to apps that are not on NATS, signed as Standard Webhooks has it.
//
// What it promises: an event that is published while a webhook is there, is enabled and wants it, is posted until the target takes it, says that it
// wants no more, or has failed to take it in ten tries over three days. The first row of an event is committed before its message is acknowledged, and
// the row stays until the target's answer is there, so a process may be killed between any two instructions: the event is then posted again, under the same
// webhook-id. A target gets an event at least once, and in no order.
//
// What one target does delays no other's events: each has a few posts at once and no more, and those that fail or are slow share a part of all.
package webhook

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// A Config is what the sender is made from. The zero value of a duration or a number takes its default.
type Config struct {
	DB      *postgres.DB  // as role gateway
	Bus     *bus.Bus      // as role gateway
	Keys    *keyring.Ring // with the keyset page
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	Now     func() time.Time

	Concurrency int            // posts at once; default 128
	PerWebhook  int            // of them to one webhook; default 8
	Timeout     time.Duration  // from dialling to the end of the answer; default 10 s
	Poll        time.Duration  // how often events are looked for that are due again, or that another process has written; default 1 s
	Look        time.Duration  // how often it is looked for whether there is any webhook; default 3 s
	RootCAs     *x509.CertPool // of targets; those of the system where it is nil
}

// complete fills in what is not given and names the first setting that is wrong.
func (c *Config) complete() error {
	orDefault(&c.Concurrency, 128)
	orDefault(&c.PerWebhook, 8)
	orDefault(&c.Timeout, 10*time.Second)
	orDefault(&c.Poll, time.Second)
	orDefault(&c.Look, 3*time.Second)
	switch {
	case c.Concurrency < 4 || c.Concurrency > 4096:
		return fmt.Errorf("webhook-concurrency: must be 4 to 4096, not %d", c.Concurrency)
	case c.PerWebhook < 1 || c.PerWebhook > c.Concurrency:
		return fmt.Errorf("webhook-posts: must be 1 to %d, not %d", c.Concurrency, c.PerWebhook)
	case c.Timeout < 100*time.Millisecond || c.Timeout > maxTimeout:
		return fmt.Errorf("webhook-timeout: must be 100ms to %s, not %s", maxTimeout, c.Timeout)
	case c.Poll < 10*time.Millisecond || c.Look < 10*time.Millisecond:
		return fmt.Errorf("webhook-poll: must be at least 10ms")
	}
	return nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// maxTimeout leaves time to record what came of a post before its lease ends.
const maxTimeout = 30 * time.Second

// leaseBeyond is how much longer than its post an event is this process's own.
const leaseBeyond = 15 * time.Second

// A Worker takes events from the stream and posts them. Any number of them may run.
type Worker struct {
	Config
	store  *postgres.WebhookEvents
	strict *http.Client // dials public addresses only
	inside *http.Client // private ones as well
	wake   chan struct{}

	mu    sync.Mutex
	state map[uuid.UUID]*target
	posts sync.WaitGroup
}

// New returns a Worker, or the first setting that is wrong; Run makes it work.
func New(c Config) (*Worker, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	return &Worker{
		Config: c, store: postgres.NewWebhookEvents(c.DB), strict: client(c, public), inside: client(c, private), wake: make(chan struct{}, 1),
		state: map[uuid.UUID]*target{},
	}, nil
}

// Run works until ctx ends and the posts under way have been answered. While there is no webhook it only looks for one now and then: the events in the stream
// are nobody's.
func (w *Worker) Run(ctx context.Context) error {
	defer w.strict.CloseIdleConnections()
	defer w.inside.CloseIdleConnections()
	for w.await(ctx, true) {
		work, stop := context.WithCancel(ctx)
		var parts errgroup.Group
		parts.Go(func() error { return w.take(work) })
		parts.Go(func() error { w.send(work); return nil })
		parts.Go(func() error { w.keep(work); return nil })
		w.await(ctx, false)
		stop()
		err := parts.Wait()
		w.posts.Wait()
		if err != nil {
			return err
		}
		w.tell(0)
	}
	return nil
}

// await returns true once there are webhooks, or there are none; false where ctx ends before.
func (w *Worker) await(ctx context.Context, want bool) bool {
	for ctx.Err() == nil {
		there, err := w.store.Any(ctx)
		switch {
		case err == nil && there == want:
			return true
		case err != nil && ctx.Err() == nil:
			w.Logger.Warn("looking for webhooks failed, it goes on with the next round", "error", err)
		}
		pause(ctx, w.Look/2+rand.N(w.Look))
	}
	return false
}

// pause waits for a time or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

const (
	countEvery = 10 * time.Second
	tidyEvery  = 10 * time.Minute
	tidyLimit  = 1000
	keepDead   = 7 * 24 * time.Hour
	// keepDue is how long an event may be due without anybody trying it, for its target is too slow for what comes or its webhook is disabled.
	keepDue = 4 * 24 * time.Hour
)

// keep is the janitor, and tells the metrics what waits, until ctx ends.
func (w *Worker) keep(ctx context.Context) {
	var tidied time.Time
	for ctx.Err() == nil {
		now := w.Now()
		if pending, _, err := w.store.Backlog(ctx); err == nil {
			w.tell(pending)
		} else if ctx.Err() == nil {
			w.Logger.Warn("events of webhooks could not be counted", "error", err)
		}
		if now.Sub(tidied) >= tidyEvery {
			tidied = now
			if err := w.tidy(ctx, now); err != nil && ctx.Err() == nil {
				w.Logger.Warn("tidying events of webhooks failed, it goes on with the next round", "error", err)
			}
		}
		pause(ctx, countEvery/2+rand.N(countEvery))
	}
}

// tidy gives up what has been due for too long, and forgets what was given up long ago.
func (w *Worker) tidy(ctx context.Context, now time.Time) error {
	for {
		n, err := w.store.Overdue(ctx, now, now.Add(-keepDue), "was due for 4 days and not posted", tidyLimit)
		if err != nil {
			return err
		}
		if n > 0 {
			w.count(resultDead, n)
			w.Logger.Warn("events were due for 4 days and not posted, they were given up", "count", n)
		}
		if n < tidyLimit {
			break
		}
	}
	for {
		n, err := w.store.Forget(ctx, now.Add(-keepDead), tidyLimit)
		if err != nil || n < tidyLimit {
			return err
		}
	}
}

// What became of a post, for the metrics.
const (
	resultDelivered = "delivered"
	resultFailed    = "failed" // it is tried again
	resultDead      = "dead"   // it was given up
	resultGone      = "gone"   // the target wants no more
)

func (w *Worker) count(result string, n int) {
	w.Metrics.WebhookEvents.WithLabelValues(result).Add(float64(n))
}

func (w *Worker) tell(pending int) { w.Metrics.WebhookEventsWaiting.Set(float64(pending)) }
