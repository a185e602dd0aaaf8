// Package delivery is what the channel workers share: from a command to a code or a notice, a message, a provider and an outcome.
//
// What it promises: a message goes to a provider once. A delivery is claimed in Postgres before it is sent and its outcome is on record before anybody is
// told. Only where a process died, or a provider's answer was lost, between the two, the same message is sent at most once more, and that is
// counted. What has expired is never sent. Codes and addresses are in memory only.
//
// What became of a challenge's delivery is told by a receipt as well. Of all others (codes of ceremonies and recoveries, notices) the row is the only
// record.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// Purpose binds a sealed destination to what it was sealed for: messages to a user, whatever they say.
const Purpose = "challenge"

// Config is what a channel's worker is made of.
type Config struct {
	Channel      otp.Channel
	Providers    []Provider     // in the order in which they are tried where a command names none; a later one only where the earlier did not take the message
	Render       Renderer       // command and code to message
	RenderNotice NoticeRenderer // nil where the channel carries no notices: one that comes is a dead letter
	Complete     Completer      // the rest of a rendered message, where that depends on where and when it goes; nil for none
	Words        *Words         // the apps' own, which the caller keeps fresh; nil for otpost's own only
	Timeout      time.Duration  // of one hand-over; default 10 s
	Lease        time.Duration  // how long a claim stands before the delivery counts as abandoned; default Timeout + 5 s; longer than all Providers may take
	Concurrency  int            // hand-overs at once; default 64
	Bus          *bus.Bus
	Store        *postgres.Deliveries
	Keys         *keyring.Ring
	Metrics      *telemetry.Metrics
	Logger       *slog.Logger
	Now          func() time.Time
}

// A Worker carries out the commands of one channel.
type Worker struct {
	Config
	slots    chan struct{}
	outcomes *bus.Batcher[settled] // to be recorded
	recorded *bus.Batcher[settled] // to be told; apart, so that Postgres knows of an outcome while NATS cannot be reached
}

// A job is one command in hand.
type job struct {
	msg    *bus.Msg
	cmd    event.Command
	unsure bool // it may have gone out before
	tries  int  // the number of its claim; postgres.NoClaim before it has one
}

func (j job) key() postgres.DeliveryKey {
	return postgres.DeliveryKey{Challenge: j.cmd.Challenge, Number: j.cmd.Attempt}
}

// NewWorker completes the configuration.
func NewWorker(cfg Config) (*Worker, error) {
	if len(cfg.Providers) == 0 {
		return nil, errors.New("no provider is configured")
	}
	orDefault(&cfg.Timeout, 10*time.Second)
	orDefault(&cfg.Lease, cfg.Timeout+5*time.Second)
	orDefault(&cfg.Concurrency, 64)
	if most := cfg.Timeout * time.Duration(len(cfg.Providers)); cfg.Lease <= most {
		return nil, fmt.Errorf("the lease of %s must be longer than what the providers may take together, %s", cfg.Lease, most)
	}
	for i, p := range cfg.Providers {
		if slices.ContainsFunc(cfg.Providers[:i], func(o Provider) bool { return o.Name() == p.Name() }) {
			return nil, fmt.Errorf("two providers are named %s", p.Name())
		}
	}
	w := &Worker{Config: cfg, slots: make(chan struct{}, cfg.Concurrency)}
	w.outcomes = bus.NewBatcher(256, 2, w.record, w.poisoned)
	w.recorded = bus.NewBatcher(256, 2, w.tell, w.poisoned)
	return w, nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run works until ctx ends and all that was in hand is settled.
func (w *Worker) Run(ctx context.Context) error {
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() { _ = w.outcomes.Run(behind) })
	done.Go(func() { _ = w.recorded.Run(behind) })
	err := w.Bus.Consume(ctx, bus.Consumption{
		Stream: bus.StreamWork, Consumer: string(w.Channel), Handler: w.handle, MaxBatch: w.Concurrency, Lanes: 2,
	}) // it returns when every command is settled: nothing is left in the batchers
	stop()
	done.Wait()
	return err
}

// handle claims a batch and sends what it was granted, each message on its own.
func (w *Worker) handle(ctx context.Context, batch []*bus.Msg) {
	now := w.Now()
	jobs := make([]job, 0, len(batch))
	for _, m := range batch {
		cmd, err := event.ParseCommand(m.Data)
		cmd.ExpiresAt = guardedExpiry(cmd.ExpiresAt)
		switch {
		case err != nil:
			m.Settle(bus.Dead(err.Error()))
		case cmd.Channel != w.Channel:
			m.Settle(bus.Dead(fmt.Sprintf("a command for %s came to %s", cmd.Channel, w.Channel)))
		case w.expired(cmd, now):
			w.finish(settled{job: job{msg: m, cmd: cmd, tries: postgres.NoClaim}, outcome: w.outcome(cmd, otp.DeliveryExpired, "", "expired before it was sent")})
		default:
			jobs = append(jobs, job{msg: m, cmd: cmd, tries: postgres.NoClaim})
		}
	}
	short, long := w.byLease(jobs)
	for _, g := range []struct {
		lease time.Duration
		jobs  []job
	}{{w.Lease, long}, {w.shortLease(), short}} {
		for len(g.jobs) > 0 {
			n := w.takeSlots(len(g.jobs))
			w.claim(ctx, g.lease, g.jobs[:n])
			g.jobs = g.jobs[n:]
		}
	}
}

// shortLease is how long a claim stands of a message that goes to one provider only. Where the lease has to cover several providers, a code that people wait
// for would else wait for all of them when a worker dies.
func (w *Worker) shortLease() time.Duration { return min(w.Lease, w.Timeout+5*time.Second) }

func (w *Worker) byLease(jobs []job) (short, long []job) {
	for _, j := range jobs {
		if len(j.cmd.Providers) == 1 {
			short = append(short, j)
		} else {
			long = append(long, j)
		}
	}
	return short, long
}

// takeSlots waits for a slot and takes as many as are free, up to most.
func (w *Worker) takeSlots(most int) int {
	w.slots <- struct{}{}
	for n := 1; n < most; n++ {
		select {
		case w.slots <- struct{}{}:
		default:
			return n
		}
	}
	return most
}

// claim claims jobs that have a slot each, and sends those that were granted. A claim is made only when sending can begin at once, so that its lease need
// not cover a wait.
func (w *Worker) claim(ctx context.Context, lease time.Duration, jobs []job) {
	free := func() { <-w.slots }
	kept := len(jobs) // slots that are still this function's to free
	defer func() {
		for range kept {
			free()
		}
	}()
	keys := make([]postgres.DeliveryKey, len(jobs))
	for i, j := range jobs {
		keys[i] = j.key()
	}
	claims, err := w.Store.Claim(ctx, w.Now(), lease, keys)
	if err != nil {
		w.Logger.Warn("claiming deliveries failed, they will come again", "count", len(jobs), "error", err)
		for _, j := range jobs {
			j.msg.Settle(bus.Retry(bus.Backoff(j.msg.Tries), "database"))
		}
		return
	}
	for i, j := range jobs {
		if !claims[i].Granted {
			w.notGranted(j, claims[i])
			continue
		}
		j.unsure, j.tries = claims[i].Unsure > 0, claims[i].Tries
		if j.unsure {
			w.Metrics.DeliveriesUnsure.WithLabelValues(string(w.Channel), w.firstOf(j.cmd)).Inc()
			w.Logger.Warn("a delivery may have gone out before and is sent once more", "delivery", j.cmd.Reference())
		}
		kept--
		go func() {
			defer free()
			w.send(ctx, j)
		}()
	}
}

// expired is the guard that nothing is sent that is worth nothing any more.
func (w *Worker) expired(cmd event.Command, now time.Time) bool {
	return !now.Before(cmd.ExpiresAt)
}

// notGranted settles a command whose delivery is not to be sent now.
func (w *Worker) notGranted(j job, c postgres.Claim) {
	switch {
	case !c.Known && !j.cmd.OfChallenge(): // its user was erased meanwhile: of them nothing is kept, not among the dead letters either
		j.msg.Settle(bus.Drop("the database has no such delivery any more"))
	case !c.Known:
		j.msg.Settle(bus.Dead("the database has no such delivery"))
	case c.State == otp.DeliverySending && c.Lease > 0:
		j.msg.Settle(bus.Retry(c.Lease, "another worker is sending it"))
	case c.State == otp.DeliverySending: // tried twice, and nothing is known of either
		w.unconfirmed(j, w.firstOf(j.cmd))
	case c.State == otp.DeliveryQueued: // released since the claim
		j.msg.Settle(bus.Retry(bus.Backoff(j.msg.Tries), "claimed by another worker"))
	default: // it has its outcome: tell it again, in case that the first telling was lost
		c.Outcome.DeliveryKey = j.key()
		w.finish(settled{job: j, outcome: c.Outcome, recorded: true})
	}
}

// send hands one message over.
func (w *Worker) send(ctx context.Context, j job) {
	defer func() {
		if p := recover(); p != nil {
			w.Logger.Error("sending panicked", "delivery", j.cmd.Reference(), "panic", fmt.Sprint(p))
			w.finish(settled{job: j, dead: "sending it panicked", outcome: w.outcome(j.cmd, otp.DeliveryFailed, "", "internal error")})
		}
	}()
	m, err := w.compose(j.cmd)
	if errors.Is(err, keyring.ErrUnknownKey) {
		w.again(ctx, j, "", &Error{Class: Transient, Reason: "this worker does not have the key yet", Err: err})
		return
	}
	if err != nil {
		w.Logger.Error("a message could not be made", "delivery", j.cmd.Reference(), "error", err)
		w.finish(settled{job: j, dead: err.Error(), outcome: w.outcome(j.cmd, otp.DeliveryFailed, "", "the message could not be made")})
		return
	}
	chain := w.chain(j.cmd)
	if len(chain) == 0 { // a worker that was started later, or is of another configuration, may have it
		w.undecided(ctx, j, j.cmd.Providers[0], &Error{Class: Transient, Reason: "this worker does not have the provider"})
		return
	}
	var refused *Error
	var name string
	for _, p := range chain {
		now := w.Now()
		if w.expired(j.cmd, now) {
			w.finish(settled{job: j, outcome: w.outcome(j.cmd, otp.DeliveryExpired, name, "expired before it was sent")})
			return
		}
		name = p.Name()
		accepted, err := w.try(ctx, p, &m, j.cmd.ExpiresAt.Sub(now))
		if err == nil {
			o := w.outcome(j.cmd, otp.DeliveryAccepted, name, "")
			o.Reference = oneLine(accepted.Reference)
			w.finish(settled{job: j, outcome: o})
			return
		}
		refused = AsError(err)
		said := "a provider did not take a message"
		if refused.Class == Ambiguous {
			said = "nobody knows whether a provider took a message"
		}
		w.Logger.Warn(said, "delivery", j.cmd.Reference(), "provider", name, "class", refused.Class.String(),
			"provider_code", refused.Code, "reason", refused.Reason)
		if refused.Class == Ambiguous || refused.Class == Permanent {
			break
		}
	}
	switch refused.Class {
	case Transient, Ambiguous:
		w.undecided(ctx, j, name, refused)
	default:
		w.failed(j, name, refused)
	}
}

// chain returns the providers that a command names and this worker has, or all of them where it names none.
func (w *Worker) chain(cmd event.Command) []Provider {
	if len(cmd.Providers) == 0 {
		return w.Providers
	}
	out := make([]Provider, 0, len(cmd.Providers))
	for _, name := range cmd.Providers {
		if i := slices.IndexFunc(w.Providers, func(p Provider) bool { return p.Name() == name }); i >= 0 {
			out = append(out, w.Providers[i])
		}
	}
	return out
}

// undecided says what becomes of a delivery after trouble that may pass. Where there is another way to go, that is taken at once; otherwise the same is
// tried again.
func (w *Worker) undecided(ctx context.Context, j job, provider string, e *Error) {
	switch {
	case e.Class == Transient && j.cmd.Next:
		w.failed(j, provider, e)
	case e.Class == Transient:
		w.again(ctx, j, provider, e)
	case j.cmd.Next && !j.unsure:
		o := w.outcome(j.cmd, otp.DeliveryUnconfirmed, provider, "nobody knows whether it was taken: "+describe(e))
		o.Class = event.ClassAmbiguous
		w.finish(settled{job: j, outcome: o})
	default:
		w.ambiguous(ctx, j, provider, e)
	}
}

// unconfirmed ends a delivery that was tried twice, and nothing is known of either.
func (w *Worker) unconfirmed(j job, provider string) {
	o := w.outcome(j.cmd, otp.DeliveryUnconfirmed, provider, "sent twice without an answer")
	if j.cmd.Next {
		o.Class = event.ClassAmbiguous
	}
	w.finish(settled{job: j, outcome: o})
}

// firstOf is the provider that a command goes to first.
func (w *Worker) firstOf(cmd event.Command) string {
	if len(cmd.Providers) > 0 {
		return cmd.Providers[0]
	}
	return w.Providers[0].Name()
}

// failed ends a delivery that certainly did not go out.
func (w *Worker) failed(j job, provider string, e *Error) {
	o := w.outcome(j.cmd, otp.DeliveryFailed, provider, describe(e))
	o.Class = e.Class.String()
	w.finish(settled{job: j, outcome: o})
}

func (w *Worker) try(ctx context.Context, p Provider, m *Message, life time.Duration) (Accepted, error) {
	ctx, cancel := context.WithTimeout(ctx, max(min(w.Timeout, life), 0))
	defer cancel()
	began := time.Now()
	a, err := p.Send(ctx, m)
	w.Metrics.DeliverySeconds.WithLabelValues(string(w.Channel), p.Name()).Observe(time.Since(began).Seconds())
	return a, err
}

// again gives a delivery back that certainly did not go out, for another try while the message is worth anything.
func (w *Worker) again(ctx context.Context, j job, provider string, e *Error) {
	left := j.cmd.ExpiresAt.Sub(w.Now())
	delay := max(pause(j.msg.Tries, left), e.RetryAfter)
	if delay >= left {
		o := w.outcome(j.cmd, otp.DeliveryFailed, provider, "no provider took it in time: "+describe(e))
		o.Class = e.Class.String()
		w.finish(settled{job: j, outcome: o})
		return
	}
	_ = w.persist(ctx, "releasing a delivery", func(ctx context.Context) error {
		return w.Store.Release(ctx, w.Now(), j.key(), j.tries)
	})
	j.msg.Settle(bus.Retry(delay, describe(e)))
}

// maxPause bounds the time between two tries of a message that lives for days.
const maxPause = 15 * time.Minute

// pause is how long a delivery that certainly did not go out waits for its next try. What lives for minutes is tried every few seconds. What lives for
// days goes on doubling its pauses, up to a hundredth of the life that is left: a provider that is away for a weekend is not asked ten thousand times.
func pause(tries int, left time.Duration) time.Duration {
	usual := bus.Backoff(tries)
	return max(usual, min(bus.Backoff(1)<<min(max(tries-1, 0), 20), left/100, maxPause))
}

// ambiguous orders the one further try of a delivery that may have gone out, or ends it after that.
func (w *Worker) ambiguous(ctx context.Context, j job, provider string, e *Error) {
	if j.unsure {
		w.unconfirmed(j, provider)
		return
	}
	_ = w.persist(ctx, "marking an unsure delivery", func(ctx context.Context) error {
		return w.Store.Unsure(ctx, w.Now(), j.key(), j.tries)
	})
	j.msg.Settle(bus.Retry(bus.Backoff(j.msg.Tries), "nobody knows whether it was taken: "+describe(e)))
}
