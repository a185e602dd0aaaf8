package challenge

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file counts what is sent of a challenge after its first message, by the same limits as that.

// A send is one more message of a challenge.
type send struct {
	app       postgres.App
	challenge postgres.Challenge
	next      postgres.NewDelivery
}

// mayResend is nil where the limits let a code be sent again, else the problem that says why not.
func (w *Worker) mayResend(tx postgres.Tx, now time.Time, app postgres.App, c postgres.Challenge, n postgres.NewDelivery) error {
	s := send{app, c, n}
	limits, p, err := w.bounds(s)
	switch {
	case err != nil:
		return err
	case p != nil:
		return p
	}
	// The transaction's own context ends it; the statement's time-out bounds this.
	verdicts, err := w.store.Charge(context.Background(), tx, now, func(r postgres.Raised) postgres.OutboxEvent {
		return outbox.Entry(limit.Alarm(app.Name, r))
	}, limits)
	switch {
	case err != nil:
		return err
	case verdicts[0].Refused():
		return &otp.Problem{Reason: otp.RateLimited, Message: words(string(otp.RateLimited)), RetryAfter: verdicts[0].Wait}
	}
	w.watchSent(now, []send{s}, []*otp.Problem{nil})
	return nil
}

// chargeFirst counts, for each of several messages, the first of its ways that may be gone, and returns its index; -1 for none. All counters are taken
// together: one after the other, those of two transactions would wait for each other.
func (w *Worker) chargeFirst(tx postgres.Tx, now time.Time, ways [][]send) ([]int, error) {
	limits := make([][][]postgres.Limit, len(ways))
	index := make([][]int, len(ways)) // of the ways that are judged
	apps := map[uuid.UUID]string{}    // whose a counter is
	for i, list := range ways {
		for j, s := range list {
			some, p, err := w.bounds(s)
			if err != nil {
				return nil, err
			}
			if p != nil {
				continue
			}
			limits[i], index[i] = append(limits[i], some), append(index[i], j)
			for _, m := range some {
				apps[m.Key] = s.app.Name
			}
		}
	}
	chosen, err := w.store.ChargeFirst(context.Background(), tx, now, func(r postgres.Raised) postgres.OutboxEvent {
		return outbox.Entry(limit.Alarm(apps[r.Limit.Key], r))
	}, limits)
	if err != nil {
		return nil, err
	}
	var gone []send
	for i, k := range chosen {
		if k >= 0 {
			chosen[i] = index[i][k]
			gone = append(gone, ways[i][chosen[i]])
		}
	}
	w.watchSent(now, gone, make([]*otp.Problem, len(gone)))
	return chosen, nil
}

// bounds are what a further message of a challenge counts in; none for a test destination, and where it may not be sent at all.
func (w *Worker) bounds(s send) ([]postgres.Limit, *otp.Problem, error) {
	c, n := s.challenge, s.next
	if c.Test {
		return nil, nil, nil
	}
	sealed, _, ok := c.Destination(n.Channel)
	if !ok {
		return nil, nil, nil // whoever stores it finds that out
	}
	address, err := w.gate.Open(s.app.Name, c.User, n.Channel, sealed)
	if err != nil { // its key is gone: nobody could send to it, and it must not hold up the others of its batch
		w.Logger.Error("the address of a challenge cannot be opened", "challenge", c.ID, "error", err)
		return nil, &otp.Problem{Reason: otp.BlockedDestination, Message: words(string(otp.BlockedDestination))}, nil
	}
	g := *w.gate
	g.Carrier = func(postgres.App, otp.Channel, string, uuid.UUID) (string, int64) { return n.Provider, n.Cost }
	t, err := g.Target(limit.Sending{App: s.app, User: c.User, Channel: n.Channel, Address: address, IP: c.IPKey, Challenge: c.ID})
	if err != nil {
		return nil, nil, err
	}
	if t.Barred || t.Test != nil || !w.watchSend(s, t) { // by a policy, or as a test destination, that came after the challenge
		return nil, &otp.Problem{Reason: otp.BlockedDestination, Message: words(string(otp.BlockedDestination))}, nil
	}
	for i := range t.Limits {
		t.Limits[i].Bound.Cooldown = 0 // it is between challenges; within one the policy's own holds
	}
	return t.Limits, nil, nil
}
