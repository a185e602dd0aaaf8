package challenge

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

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
func (w *Worker) resend(ctx context.Context, app postgres.App, ref event.Reference) (any, error) {
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
	return event.ResendReply{SendsLeft: granted.SendsLeft, RetryAfter: wait, To: mask}, nil
}

// cancel ends a challenge.
func (w *Worker) cancel(ctx context.Context, app postgres.App, ref event.Reference) (any, error) {
	now := w.Now()
	events, err := w.store.Cancel(ctx, now, app.ID, ref.Challenge, ref.Session, func(user, login string) postgres.OutboxEvent {
		return outbox.Entry(ended(app.Name, ref.Challenge, about(user, ref.Session, login), otp.Cancelled, now))
	})
	if err != nil {
		return nil, err
	}
	w.outbox.Send(events)
	w.Metrics.Challenges.WithLabelValues(string(otp.Cancelled)).Add(float64(len(events)))
	return event.CancelReply{Result: string(otp.Cancelled)}, nil
}

// status tells where a challenge stands.
func (w *Worker) status(ctx context.Context, app postgres.App, ref event.Reference) (any, error) {
	c, err := w.store.Standing(ctx, app.ID, ref.Challenge)
	if err != nil {
		return nil, err
	}
	return statusReply(c, w.Now()), nil
}

func statusReply(c postgres.Challenge, now time.Time) event.StatusReply {
	state := c.State
	if state == otp.Open && !now.Before(c.ExpiresAt) {
		state = otp.Expired // the sweeper is on its way
	}
	asNew := fromStored(c)
	s := event.StatusReply{
		Challenge: c.ID.String(), State: string(state), User: c.User, Session: c.Session, Channel: string(c.Factor), To: asNew.Mask(), Digits: typed(asNew),
		Methods: c.Methods, Transaction: c.Transaction, CreatedAt: event.Time(c.CreatedAt), ExpiresAt: event.Time(c.ExpiresAt),
		EndedAt: event.OptionalTime(c.EndedAt), AttemptsLeft: c.MaxAttempts - c.Attempts, SendsLeft: c.MaxSends - c.Sends,
		Deliveries: make([]event.StatusDelivery, len(c.Deliveries)),
	}
	switch {
	case state.Ended():
		s.Reason = string(state)
	case s.SendsLeft > 0:
		s.ResendAfter = otp.Seconds(c.NextSendAt.Sub(now))
	}
	for i, d := range c.Deliveries {
		s.Deliveries[i] = event.StatusDelivery{
			Attempt: d.Number, Channel: string(d.Channel), Provider: d.Provider, Reference: d.Reference, State: string(d.State), Reason: d.Reason,
			To: d.Mask, CreatedAt: event.Time(d.CreatedAt), UpdatedAt: event.Time(d.UpdatedAt),
		}
	}
	return s
}
