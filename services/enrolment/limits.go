package enrolment

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file holds the codes that enrolment sends to the limits that hold for logins, in the same counters: whoever is kept from flooding a number by logging in
// must not do it by adding factors.

// A sending is a message that is about to be written. Its zero values are of the first message of its code.
type sending struct {
	code    uuid.UUID // that it carries: what the order of its route is drawn for
	earlier int       // messages that carried it before
	channel otp.Channel
	sealed  []byte
}

// permit counts messages that are about to be written, or refuses all of them with an *otp.Problem. sent is false for one to a test destination, which nothing
// is ever sent to. A letter has bounds of its own. All that an act sends is counted at once: one after the other, the counters of two acts would wait for
// each other.
func (a *act) permit(messages ...sending) (sent []bool, err error) {
	sent = make([]bool, len(messages))
	var limits [][]postgres.Limit
	for i, m := range messages {
		var some []postgres.Limit
		if sent[i], some, err = a.bounds(m); err != nil {
			return nil, err
		}
		if len(some) > 0 {
			limits = append(limits, some)
		}
	}
	if len(limits) == 0 {
		return sent, nil
	}
	verdicts, raised, err := a.Charge(limits...)
	if err != nil {
		return nil, err
	}
	for _, r := range raised {
		a.Tell(outbox.Entry(limit.Alarm(a.caller.app.Name, r)))
	}
	for _, v := range verdicts {
		if v.Refused() {
			return nil, &otp.Problem{Reason: otp.RateLimited, Message: "too many codes were sent: wait for as long as retry_after says", RetryAfter: v.Wait}
		}
	}
	return sent, nil
}

// bounds are what a message counts in.
func (a *act) bounds(m sending) (sent bool, limits []postgres.Limit, err error) {
	if !m.channel.Valid() {
		return true, nil, nil
	}
	t, address, err := a.target(m)
	switch {
	case err != nil:
		return false, nil, err
	case t.Test != nil:
		return false, nil, nil
	case t.Barred, !t.Safe && !a.worker.watch.Permits(a.caller.app, t.Phone.Prefix):
		return false, nil, &otp.Problem{Reason: otp.BlockedDestination, Message: "no code may be sent to this address"}
	}
	if watched(t) {
		a.sent = append(a.sent, address)
	}
	if m.earlier > 0 { // the pause is between messages of different beginnings; within one its own holds
		for i := range t.Limits {
			t.Limits[i].Bound.Cooldown = 0
		}
	}
	return true, t.Limits, nil
}

func (a *act) target(m sending) (t *limit.Target, address string, err error) {
	g, app := *a.worker.gate, a.caller.app
	if address, err = g.Open(app.Name, a.Who.User, m.channel, m.sealed); err != nil {
		return nil, "", err
	}
	g.Carrier = func(app postgres.App, ch otp.Channel, country string, code uuid.UUID) (string, int64) {
		return a.worker.carrier(app, ch, country, code, m.earlier)
	}
	s := limit.Sending{App: app, User: a.Who.User, Channel: m.channel, Address: address, Challenge: m.code}
	if a.client != nil {
		if s.IP, err = g.AddressKey(app.Name, a.client.IP); err != nil {
			return nil, "", err
		}
	}
	t, err = g.Target(s)
	return t, address, err
}

// watched reports whether the guard against pumping looks at a target: at phones that are neither listed nor barred by what they are.
func watched(t *limit.Target) bool {
	return t.Test == nil && !t.Safe && !t.Barred && t.Phone.Prefix != ""
}

// A returned code came back from a number that it was sent to at a time.
type returned struct {
	number string
	at     time.Time
}

// note tells the guard what an act has sent to phones and what came back from them. It is called after the commit. Notices are none of its business: no code
// comes back from them.
func (w *Worker) note(a *act) {
	for _, number := range a.sent {
		w.watch.Sent(a.caller.app, number, a.Now)
	}
	for _, r := range a.back {
		w.watch.Returned(a.caller.app, r.number, r.at)
	}
}

// answers reports whether an answer is the code of a message, in constant time: of a test destination its fixed one.
func (a *act) answers(m postgres.Message, answer string) (bool, error) {
	c, _ := m.Code()
	var t *limit.Target
	var address string
	if channel := otp.Channel(m.Channel); channel.Valid() {
		var err error
		switch t, address, err = a.target(sending{code: c.ID, channel: channel, sealed: m.Sealed}); {
		case errors.Is(err, keyring.ErrOpen): // its key is gone; the code is good all the same
		case err != nil:
			return false, err
		case t.Test != nil:
			return a.worker.Keys.FitsTest(a.caller.app.Name, t.Test, answer)
		}
	}
	same, err := a.worker.sameCode(a.caller.app.Name, c, answer)
	if same && t != nil && watched(t) {
		a.back = append(a.back, returned{address, m.CreatedAt})
	}
	return same, err
}
