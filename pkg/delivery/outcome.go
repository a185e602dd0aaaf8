package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is what happens once an outcome is known: it is recorded, then told, and only then is the command let go of.

// settled is a job with its outcome, to be recorded and told.
type settled struct {
	job
	outcome  postgres.DeliveryOutcome
	recorded bool   // it is in the database already
	dead     string // why the command is a dead letter as well; empty where it is not
}

func describe(e *Error) string {
	if e.Code == "" {
		return oneLine(e.Reason)
	}
	return oneLine(fmt.Sprintf("%s (%s)", e.Reason, e.Code))
}

// oneLine makes of what a provider said something that can be stored and told: valid, printable, short.
func oneLine(s string) string {
	clean := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if r := []rune(clean); len(r) > maxSaid {
		clean = string(r[:maxSaid])
	}
	return clean
}

// maxSaid bounds, in characters, what is kept of a provider's reference or reason.
const maxSaid = 200

func (w *Worker) outcome(cmd event.Command, s otp.DeliveryState, provider, reason string) postgres.DeliveryOutcome {
	app := ""
	if cmd.OfChallenge() {
		app = cmd.App
	}
	return postgres.DeliveryOutcome{
		App: app, DeliveryKey: postgres.DeliveryKey{Challenge: cmd.Challenge, Number: cmd.Attempt}, State: s, Provider: provider, Reason: reason, At: w.Now(),
	}
}

// finish queues an outcome for record. Where the queue is full it is recorded here and now.
func (w *Worker) finish(s settled) {
	w.Metrics.Deliveries.WithLabelValues(string(w.Channel), orNone(s.outcome.Provider), string(s.outcome.State)).Inc()
	if s.outcome.State == otp.DeliveryAccepted && !s.recorded && s.cmd.OfChallenge() {
		w.Metrics.LoginSeconds.WithLabelValues(string(w.Channel)).Observe(time.Since(s.msg.Received).Seconds())
	}
	if !w.outcomes.Add(s) {
		w.record(context.Background(), []settled{s})
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// record writes a batch of outcomes. What cannot be written is told all the same: the claim's lease then decides. Where nobody is told, because the row is
// all that there is, the command comes again instead.
func (w *Worker) record(ctx context.Context, batch []settled) {
	var write []postgres.DeliveryOutcome
	for _, s := range batch {
		if !s.recorded {
			s.outcome.Tries = s.tries
			write = append(write, s.outcome)
		}
	}
	if len(write) > 0 {
		err := w.persist(ctx, "recording outcomes", func(ctx context.Context) error { return w.Store.Finish(ctx, w.Now(), write) })
		if postgres.Refused(err) && len(batch) > 1 { // one of them is at fault: each alone
			for _, s := range batch {
				w.record(ctx, []settled{s})
			}
			return
		}
		if err != nil {
			batch = slices.DeleteFunc(batch, func(s settled) bool {
				lost := !s.recorded && !s.cmd.OfChallenge()
				if lost {
					s.msg.Settle(bus.Retry(bus.Backoff(s.msg.Tries), "the outcome could not be recorded"))
				}
				return lost
			})
		}
	}
	for _, s := range batch {
		if !w.recorded.Add(s) {
			w.tell(ctx, []settled{s})
		}
	}
}

// tell publishes the receipts of recorded outcomes, and only then lets go of the commands. Only challenges have receipts.
func (w *Worker) tell(ctx context.Context, batch []settled) {
	var out []bus.Out
	for _, s := range batch {
		if !s.cmd.OfChallenge() {
			continue
		}
		out = append(out, bus.Out{
			Subject: event.ReceiptSubject(w.Channel), ID: s.cmd.Reference() + "/" + string(s.outcome.State),
			Data: event.Receipt{
				Challenge: s.cmd.Challenge, Attempt: s.cmd.Attempt, Channel: w.Channel, Provider: s.outcome.Provider, State: s.outcome.State,
				Reference: s.outcome.Reference, Reason: s.outcome.Reason, Class: s.outcome.Class, Unsure: s.unsure, At: s.outcome.At,
			}.Encode(),
		})
	}
	var err error
	if len(out) > 0 {
		err = w.persist(ctx, "telling outcomes", func(ctx context.Context) error { return w.Bus.Publish(ctx, out...) })
	}
	for _, s := range batch {
		switch {
		case err != nil && s.cmd.OfChallenge(): // what is on record is told when the command comes again
			s.msg.Settle(bus.Retry(bus.Backoff(s.msg.Tries), "the outcome could not be told"))
		case s.dead != "":
			s.msg.Settle(bus.Dead(s.dead))
		case s.outcome.State == otp.DeliveryAccepted && !s.recorded:
			s.msg.Settle(bus.Done())
		default:
			s.msg.Settle(bus.Drop(string(s.outcome.State)))
		}
	}
}

// poisoned buries a command whose outcome cannot be recorded or told for a fault of our own.
func (w *Worker) poisoned(s settled, panicked any) {
	w.Logger.Error("an outcome panicked", "delivery", s.cmd.Reference(), "panic", fmt.Sprint(panicked))
	s.msg.Settle(bus.Dead("recording its outcome panicked"))
}

// persistFor is how long a worker holds on to what it knows while NATS or Postgres is away.
const persistFor = 2 * time.Minute

// persist tries again until it succeeds: what a provider took must not be forgotten because a server restarts. It gives up in the end, and then the
// lease decides. What the database refuses for its content is not tried again.
func (w *Worker) persist(ctx context.Context, what string, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, persistFor)
	defer cancel()
	err := lifecycle.Backoff(ctx, w.Logger, what, func(ctx context.Context) error {
		err := fn(ctx)
		if postgres.Refused(err) {
			return lifecycle.Permanent(err)
		}
		return err
	})
	if err != nil {
		w.Logger.Error(what+" was given up", "error", err)
	}
	return err
}
