package challenge

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
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
		if ch, ok = c.SendChannel(); !ok {
			return nil, otp.InvalidField("channel", fmt.Sprintf("must be named: a %s challenge has none of its own", c.Factor))
		}
	}
	if !c.Test && !w.routes.Serves(ch) {
		return nil, otp.InvalidField("channel", unservedWords)
	}
	now := w.Now()
	granted, err := w.store.Resend(ctx, now, c, ch, app.Policy.Cooldown, func(tx postgres.Tx, c postgres.Challenge) (postgres.NewDelivery, error) {
		n := postgres.NewDelivery{Channel: ch, Country: country(c, ch)}
		n.Provider, n.Cost = w.again(app, c, ch)
		return n, w.mayResend(tx, now, app, c, n)
	})
	if err != nil {
		return nil, err
	}
	d := postgres.Delivery{Number: granted.Number, Channel: ch, Provider: granted.Provider, Country: granted.Country, Cause: granted.Cause}
	c.Deliveries = []postgres.Delivery{d} // what was tried before the user asked again counts no more
	if err := w.dispatch(ctx, app, c, d, now); err != nil {
		w.Logger.Warn("a resend could not be published, the sweeper will do it", "challenge", c.ID, "error", err)
	}
	_, mask, _ := c.Destination(ch)
	wait := 0
	if granted.SendsLeft > 0 {
		wait = otp.Seconds(app.Policy.Cooldown)
	}
	return event.ResendReply{SendsLeft: granted.SendsLeft, RetryAfter: wait, To: mask}, nil
}

// dispatch orders a delivery; of a test destination it tells the app what would have become of it.
func (w *Worker) dispatch(ctx context.Context, app postgres.App, c postgres.Challenge, d postgres.Delivery, now time.Time) error {
	if c.Test {
		var out []bus.Out
		for _, e := range testDelivery(app.Name, about(c.User, c.Session, c.Login), c.ID, d, now) {
			out = append(out, outbox.Out(e))
		}
		return w.Bus.Publish(ctx, out...)
	}
	cmd, _ := w.command(app, c, d) // Resend has seen that there is an address
	return w.Bus.Publish(ctx, commandOut(cmd, ""))
}

// cancel ends a challenge.
func (w *Worker) cancel(ctx context.Context, app postgres.App, ref event.Reference) (any, error) {
	now := w.Now()
	c, err := w.find(ctx, app, ref)
	if err != nil {
		return nil, err
	}
	events, err := w.store.Cancel(ctx, now, app.ID, ref.Challenge, ref.Session, func(user, login string) postgres.OutboxEvent {
		return outbox.Entry(ended(app.Name, ref.Challenge, event.About{User: user, Session: ref.Session, Login: login, Test: c.Test}, otp.Cancelled, now))
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
	return w.statusReply(c, w.Now()), nil
}

func (w *Worker) statusReply(c postgres.Challenge, now time.Time) event.StatusReply {
	state := c.State
	if state == otp.Open && !now.Before(c.ExpiresAt) {
		state = otp.Expired // the sweeper is on its way
	}
	asNew := fromStored(c)
	s := event.StatusReply{
		Challenge: c.ID.String(), State: string(state), User: c.User, Session: c.Session, Channel: channelOf(c), To: asNew.Mask(), Digits: typed(asNew),
		Methods: c.Methods, Transaction: c.Transaction, CreatedAt: event.Time(c.CreatedAt), ExpiresAt: event.Time(c.ExpiresAt),
		EndedAt: event.OptionalTime(c.EndedAt), AttemptsLeft: c.MaxAttempts - c.Attempts, SendsLeft: c.MaxSends - c.Sends,
		Deliveries: make([]event.StatusDelivery, len(c.Deliveries)), Test: c.Test,
	}
	switch {
	case state == otp.Verified: // a success has no reason
	case state.Ended():
		s.Reason = string(state)
	case s.SendsLeft > 0:
		s.ResendAfter, s.Channels = otp.Seconds(c.NextSendAt.Sub(now)), w.channelsOf(c)
	}
	for i, d := range c.Deliveries {
		s.Deliveries[i] = event.StatusDelivery{
			Attempt: d.Number, Channel: string(d.Channel), Provider: d.Provider, Reference: d.Reference, State: string(d.State), Reason: d.Reason,
			To: d.Mask, CreatedAt: event.Time(d.CreatedAt), UpdatedAt: event.Time(d.UpdatedAt), Cause: d.Cause,
			AcceptedAt: event.OptionalTime(d.AcceptedAt), DeliveredAt: event.OptionalTime(d.DeliveredAt), AbandonedAt: event.OptionalTime(d.AbandonedAt),
		}
	}
	return s
}

// channelOf is what a challenge is asked over: the channel of its last send, or its factor where nothing is sent.
func channelOf(c postgres.Challenge) string {
	if ch, ok := c.SendChannel(); ok {
		return string(ch)
	}
	return string(c.Factor)
}

// channelsOf lists the channels over which the challenge's code can be sent. The limits have not been asked: they are judged, and counted, when it is.
func (w *Worker) channelsOf(c postgres.Challenge) (over []string) {
	for _, ch := range otp.Channels() {
		if _, _, ok := c.Destination(ch); ok && w.routes.Serves(ch) {
			over = append(over, string(ch))
		}
	}
	return over
}
