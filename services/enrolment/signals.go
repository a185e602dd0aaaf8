package enrolment

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file acts on what apps signal of their users. Each signal may come more than once: what it asks for is then done already.

// handleSignals acts on a batch. Deletions come last: each reads whole partitions, and a changed password must not wait for that.
func (w *Worker) handleSignals(ctx context.Context, batch []*bus.Msg) {
	deletion := func(m *bus.Msg) bool {
		name, _ := event.SignalOf(m.Subject)
		return name == event.UserDeleted
	}
	for _, last := range []bool{false, true} {
		for _, m := range batch {
			if deletion(m) == last {
				m.Settle(w.signal(ctx, m))
			}
		}
	}
}

func (w *Worker) signal(ctx context.Context, m *bus.Msg) bus.Outcome {
	app, ok := event.AppOf(m.Subject)
	name, named := event.SignalOf(m.Subject)
	if !ok || !named {
		return bus.Dead("the subject names no app or no signal")
	}
	s, p := event.ParseSignal(app, name, m.Data)
	if p != nil {
		return bus.Dead(p.Error())
	}
	tenant, err := w.apps.Get(ctx, app)
	switch {
	case errors.Is(err, postgres.ErrNoApp):
		return bus.Dead("there is no app of this name")
	case err != nil:
		return bus.Retry(bus.Backoff(m.Tries), "database")
	}
	if s.Time.IsZero() {
		s.Time = m.Received
	}
	if err := w.follow(ctx, caller{app: tenant}, s); err != nil {
		w.Logger.Warn("a signal could not be followed", "app", app, "signal", name, "error", err)
		if postgres.Refused(err) {
			return bus.Dead("internal: the database refused it: " + postgres.Constraint(err))
		}
		return bus.Retry(bus.Backoff(m.Tries), "database")
	}
	return bus.Done()
}

// follow does what a signal asks for.
func (w *Worker) follow(ctx context.Context, c caller, s event.Signal) error {
	return w.act(ctx, c, s.User, func(a *act) error {
		switch s.Name {
		case event.PasswordChanged:
			if err := a.CancelCeremonies(); err != nil { // begun by whoever had the old one
				return err
			}
			if err := a.EndVisits(s.Time, ""); err != nil { // opened with the old one; of one that is newer than the signal the app knows better
				return err
			}
			return a.distrust(event.RevokedPasswordChanged, uuid.Nil, "")
		case event.SessionSignedOut:
			if err := a.CancelCeremoniesOf(s.Session); err != nil { // all, where none is named
				return err
			}
			if err := a.EndVisits(s.Time, s.Session); err != nil { // who sits down at the browser next must not find the pages open
				return err
			}
			return a.distrust(event.RevokedSignedOut, uuid.Nil, s.Session)
		case event.DeviceErased:
			only := uuid.Nil
			if s.Device != "" {
				only = uuid.MustParse(s.Device)
			}
			return a.distrust(event.RevokedErased, only, "")
		default:
			return a.erase(s)
		}
	})
}

// distrust revokes devices that a signal is about, and tells the user if there were any.
func (a *act) distrust(reason string, only uuid.UUID, session string) error {
	gone, err := a.revoke(reason, only, session, session)
	if err != nil || len(gone) == 0 {
		return err
	}
	return a.notify(otp.NoticeDevicesRevoked, event.NoticeDetail{Reason: reason})
}

// erase removes a person: every row with their id or an address of theirs. The audit keeps digests. A signal that comes late, or once more, must not erase who
// has the same id since: of a user who is new since the signal's time everything stays. Clocks may be apart.
func (a *act) erase(s event.Signal) error {
	p, err := a.Profile()
	if err != nil {
		return err
	}
	if p.CreatedAt.After(s.Time.Add(clockSkew)) {
		a.worker.Logger.Warn("a deletion was skipped: the user is newer than the signal", "app", a.caller.app.Name)
		return a.audit("user.erasure_skipped", note{})
	}
	if err := a.audit("user.erased", note{}); err != nil {
		return err
	}
	signal, err := a.worker.Keys.AuditKey("signal", a.caller.app.Name, s.ID+"\x00"+a.Who.User) // a digest: the app's own id may name the person
	if err != nil {
		return err
	}
	a.Tell(outbox.Entry(event.Event{
		App: a.caller.app.Name, Name: event.UserErased, ID: signal.String() + "/" + string(event.UserErased), Time: a.Now,
		Data: event.ErasedData{User: a.Who.User},
	}))
	return a.Erase()
}
