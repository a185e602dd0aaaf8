package challenge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// actWithin bounds one request that is no login.
const actWithin = 10 * time.Second

// act makes a verb's handler of a function that may take its time, with a bound on how many run at once.
func (w *Worker) act(fn func(ctx context.Context, r *bus.Request) ([]byte, error)) func(*bus.Request) {
	return func(r *bus.Request) {
		select {
		case w.acts <- struct{}{}:
		default:
			r.Fail(busy())
			return
		}
		go func() {
			defer func() { <-w.acts }()
			ctx, cancel := context.WithTimeout(context.Background(), actWithin)
			defer cancel()
			body, err := fn(ctx, r)
			if err != nil {
				r.Fail(w.problem(r, err))
				return
			}
			r.Reply(body)
		}()
	}
}

// problem is what may be told of an error.
func (w *Worker) problem(r *bus.Request, err error) *otp.Problem {
	switch p, ok := errors.AsType[*otp.Problem](err); {
	case ok:
		return p
	case errors.Is(err, postgres.ErrNoChallenge):
		return &otp.Problem{Reason: otp.UnknownChallenge, Message: "there is no such challenge for this app and session"}
	case postgres.Unreachable(err):
		return appProblem(err)
	}
	w.Logger.Error("a request failed", "app", r.App, "error", err)
	return otp.AsProblem(err)
}

// app finds the app of a request.
func (w *Worker) app(ctx context.Context, name string) (postgres.App, error) {
	app, err := w.apps.Get(ctx, name)
	if err != nil {
		return app, appProblem(err)
	}
	return app, nil
}

// find reads the challenge that a request names by id and session.
func (w *Worker) find(ctx context.Context, app postgres.App, ref event.Reference) (postgres.Challenge, error) {
	found, err := w.store.Details(ctx, []uuid.UUID{ref.Challenge})
	if err != nil {
		return postgres.Challenge{}, err
	}
	c, ok := found[ref.Challenge]
	if !ok || c.AppID != app.ID || c.Session != ref.Session {
		return postgres.Challenge{}, postgres.ErrNoChallenge
	}
	return c, nil
}

// resend sends the same code once more.
func (w *Worker) resend(ctx context.Context, r *bus.Request) ([]byte, error) {
	ref, p := event.ParseResend(r.App, r.Data)
	if p != nil {
		return nil, p
	}
	app, err := w.app(ctx, r.App)
	if err != nil {
		return nil, err
	}
	c, err := w.find(ctx, app, ref)
	if err != nil {
		return nil, err
	}
	ch := ref.Channel
	if ch == "" {
		var ok bool
		if ch, ok = c.Factor.Channel(); !ok {
			return nil, otp.InvalidField("channel", fmt.Sprintf("must be named: a %s challenge has none of its own", c.Factor))
		}
	}
	now := w.Now()
	granted, err := w.store.Resend(ctx, now, c, ch, app.Policy.Cooldown)
	if err != nil {
		return nil, err
	}
	cmd, _ := command(app, c, ch, granted.Number) // Resend has seen that there is an address
	if err := w.Bus.Publish(ctx, commandOut(cmd, "")); err != nil {
		w.Logger.Warn("a resend could not be published, the sweeper will do it", "delivery", cmd.Reference(), "error", err)
	}
	_, mask, _ := c.Destination(ch)
	wait := 0
	if granted.SendsLeft > 0 {
		wait = otp.Seconds(app.Policy.Cooldown)
	}
	return event.Encode(event.ResendReply{SendsLeft: granted.SendsLeft, RetryAfter: wait, To: mask}), nil
}

// cancel ends a challenge.
func (w *Worker) cancel(ctx context.Context, r *bus.Request) ([]byte, error) {
	ref, p := event.ParseCancel(r.App, r.Data)
	if p != nil {
		return nil, p
	}
	app, err := w.app(ctx, r.App)
	if err != nil {
		return nil, err
	}
	now := w.Now()
	events, err := w.store.Cancel(ctx, now, app.ID, ref.Challenge, ref.Session, func(user, login string) postgres.OutboxEvent {
		return outbox.Entry(ended(r.App, ref.Challenge, about(user, ref.Session, login), otp.Cancelled, now))
	})
	if err != nil {
		return nil, err
	}
	w.outbox.Send(events)
	w.Metrics.Challenges.WithLabelValues(string(otp.Cancelled)).Add(float64(len(events)))
	return event.Encode(event.CancelReply{Result: string(otp.Cancelled)}), nil
}

// status tells where a challenge stands.
func (w *Worker) status(ctx context.Context, r *bus.Request) ([]byte, error) {
	ref, p := event.ParseStatus(r.App, r.Data)
	if p != nil {
		return nil, p
	}
	app, err := w.app(ctx, r.App)
	if err != nil {
		return nil, err
	}
	c, err := w.store.Status(ctx, app.ID, ref.Challenge)
	if err != nil {
		return nil, err
	}
	return event.Encode(statusReply(c, w.Now())), nil
}

func statusReply(c postgres.Challenge, now time.Time) event.StatusReply {
	state := c.State
	if state == otp.Open && !now.Before(c.ExpiresAt) {
		state = otp.Expired // the sweeper is on its way
	}
	s := event.StatusReply{
		Challenge: c.ID.String(), State: string(state), User: c.User, Channel: string(c.Factor), CreatedAt: event.Time(c.CreatedAt),
		ExpiresAt: event.Time(c.ExpiresAt), EndedAt: event.OptionalTime(c.EndedAt), AttemptsLeft: c.MaxAttempts - c.Attempts,
		SendsLeft: c.MaxSends - c.Sends, Deliveries: make([]event.StatusDelivery, len(c.Deliveries)),
	}
	if state.Ended() {
		s.Reason = string(state)
	}
	for i, d := range c.Deliveries {
		s.Deliveries[i] = event.StatusDelivery{
			Attempt: d.Number, Channel: string(d.Channel), Provider: d.Provider, Reference: d.Reference, State: string(d.State), Reason: d.Reason,
			To: d.Mask, CreatedAt: event.Time(d.CreatedAt), UpdatedAt: event.Time(d.UpdatedAt),
		}
	}
	return s
}
