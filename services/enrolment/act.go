package enrolment

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// An act is one change in the making: the rows, and who makes it.
type act struct {
	*postgres.Act
	worker  *Worker
	caller  caller
	client  *event.Client     // whom a code is asked for by, where that is known
	written []postgres.Unsent // messages to send once it is committed
	sent    []string          // numbers that the guard against pumping hears of then
	back    []returned        // codes that came back from such numbers
}

// policy is the app's.
func (a *act) policy() otp.FactorPolicy { return a.caller.app.Policy.Factors }

// mayAnswer refuses while the account's budget does. Every guess of this worker counts against it.
func (a *act) mayAnswer() error {
	switch wait := a.Budget().Wait(a.Now); {
	case a.Budget().Locked:
		return &otp.Problem{Reason: otp.AccountLocked, Message: "the account is locked after too many wrong answers; an operator can unlock it"}
	case wait > 0:
		return &otp.Problem{Reason: otp.RateLimited, Message: "the account must wait after wrong answers", RetryAfter: wait}
	}
	return nil
}

// wrong counts a wrong answer and returns the budget after it. A right answer to a ceremony is not counted: what it proves is new, or is a way around the
// factors, and must not wipe out what was guessed at them.
func (a *act) wrong() (otp.Budget, error) {
	was := a.Budget()
	b := was.Fail(a.Now)
	if err := a.Spend(b); err != nil {
		return b, err
	}
	if !b.Locked || was.Locked {
		return b, nil
	}
	a.tell(event.AccountLocked, event.AccountLockedData{User: a.Who.User, Failures: b.Failures})
	if err := a.audit("account.locked", note{}); err != nil {
		return b, err
	}
	return b, a.Notify(otp.NoticeAccountLocked, nil)
}

// note is what the audit and the notices say of a change beside its name.
type note struct {
	factor  uuid.UUID
	session string
	client  *event.Client
	detail  map[string]any
}

// audit writes a line of the audit.
func (a *act) audit(action string, n note) error {
	keys := a.worker.Keys
	user, err := keys.AuditKey("user", a.caller.app.Name, a.Who.User)
	if err != nil {
		return err
	}
	e := postgres.AuditEntry{User: user, Actor: a.caller.actor(), Action: action, Factor: n.factor}
	if n.session != "" {
		if e.Session, err = keys.AuditKey("session", a.caller.app.Name, n.session); err != nil {
			return err
		}
	}
	if n.client != nil && n.client.IP != "" {
		if e.IP, err = keys.AuditKey("ip", a.caller.app.Name, n.client.IP); err != nil {
			return err
		}
	}
	if len(n.detail) > 0 {
		if e.Detail, err = json.Marshal(n.detail); err != nil {
			return fmt.Errorf("audit detail: %w", err)
		}
	}
	return a.Audit(e)
}

// tell puts an event into the outbox.
func (a *act) tell(name event.Name, data any) {
	a.Tell(outbox.Entry(event.Event{
		App: a.caller.app.Name, Name: name, ID: uuid.Must(uuid.NewV7()).String() + "/" + string(name), Time: a.Now, Data: data,
	}))
}

// notify leaves a notice to the user.
func (a *act) notify(n otp.Notice, d event.NoticeDetail) error {
	b, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	return a.Notify(n, b)
}

// changed is what every change of active factors brings with it: trusted devices end, and so does what other sessions have begun, as it was begun with
// other factors in view.
func (a *act) changed(reason, session string) error {
	if err := a.RaiseEpoch(); err != nil {
		return err
	}
	if err := a.CancelCeremoniesBut(session); err != nil {
		return err
	}
	_, err := a.revoke(reason, uuid.Nil, "", session)
	return err
}

// endChallenges ends what was opened for a factor that is gone: its code would let in who has the lost phone, or the number's new owner.
func (a *act) endChallenges() error {
	ended, err := a.VoidChallenges()
	for _, c := range ended {
		id := c.ID.String()
		a.Tell(outbox.Entry(event.Event{
			App: a.caller.app.Name, Name: event.ChallengeEnded, ID: id + "/ended", Subject: id, Time: a.Now,
			Data: event.Ended{About: event.About{User: a.Who.User, Session: c.Session, Login: c.Login, Test: c.Test}, Challenge: id, Reason: string(otp.Cancelled)},
		}))
	}
	return err
}

// revoke ends the trust in devices, in one, in those of one session or in all, and tells the app and the audit of each. It was asked for in a session, if in
// any.
func (a *act) revoke(reason string, only uuid.UUID, of, session string) ([]postgres.Device, error) {
	gone, err := a.RevokeDevices(reason, only, of)
	if err != nil {
		return nil, err
	}
	for _, d := range gone {
		if err := a.audit("device.revoked", note{factor: d.ID, session: session, detail: map[string]any{"reason": reason}}); err != nil {
			return nil, err
		}
		a.tell(event.DeviceRevoked, event.DeviceData{User: a.Who.User, Session: d.Session, Device: d.ID.String(), Label: d.Label, Reason: reason})
	}
	return gone, nil
}

// reauthenticated holds the app to having seen the password not long ago.
func (a *act) reauthenticated(at string) error {
	within := a.policy().ReauthWithin
	t := event.ParseTime(at)
	if at == "" || a.Now.Sub(t) > within || t.Sub(a.Now) > clockSkew {
		return &otp.Problem{
			Reason: otp.ReauthRequired, Field: "reauthenticated_at",
			Message: "reauthenticated_at must say that the password was entered within the last " + otp.ShortDuration(within),
		}
	}
	return nil
}

// clockSkew is how far ahead of ours an app's clock may be.
const clockSkew = 30 * time.Second
