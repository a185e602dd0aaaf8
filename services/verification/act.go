package verification

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is how requests that are no answer to a challenge are carried out: each in a transaction of its own.

// An act is one such request in the making. The user's account is held.
type act struct {
	*postgres.Act
	app  postgres.App
	told *report
}

// act carries fn out and sends the events of it once it is committed. fn may run again: it must set anew whatever it hands out.
func (w *Worker) act(ctx context.Context, app postgres.App, user, session string, fn func(*act) error) error {
	events, err := w.store.Act(ctx, w.Now(), postgres.Account{AppID: app.ID, User: user}, func(p *postgres.Act) error {
		r := &report{app: app.Name, keys: w.Keys, now: p.Now, About: event.About{User: user, Session: session}}
		if err := fn(&act{Act: p, app: app, told: r}); err != nil {
			return err
		}
		if r.failed != nil {
			return r.failed
		}
		p.Tell(r.Events...)
		for _, n := range r.Notices {
			if err := p.Notify(n.Notice, n.Detail); err != nil {
				return err
			}
		}
		for _, e := range r.Audit {
			if err := p.Audit(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.outbox.Send(events)
	return nil
}

// wrong counts a wrong answer and returns how long the account has to wait now.
func (a *act) wrong() (wait time.Duration, err error) {
	b := a.Budget().Fail(a.Now)
	if b.Locked {
		a.told.locked(uuid.Must(uuid.NewV7()).String()+"/account-locked", b.Failures)
	}
	return b.Wait(a.Now), a.Spend(b)
}

// right gives the budget back: an existing factor was proven.
func (a *act) right() error { return a.Spend(a.Budget().Succeed()) }
