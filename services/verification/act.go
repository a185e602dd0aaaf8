package verification

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is how requests that are no answer to a challenge are carried out: each in a transaction of its own.

const (
	maxActs   = 32               // requests of this kind under way at once
	actWithin = 10 * time.Second // bounds one
)

// handler makes a verb's handler of a function that may take its time, with a bound on how many run at once.
func (w *Worker) handler(fn func(context.Context, *bus.Request) (any, error)) func(*bus.Request) {
	return func(r *bus.Request) {
		select {
		case w.acts <- struct{}{}:
		default:
			r.Fail(busy("too many requests are waiting; send this one again"))
			return
		}
		go func() {
			defer func() { <-w.acts }()
			defer func() {
				if p := recover(); p != nil {
					w.Logger.Error("a request panicked", "app", r.App, "panic", fmt.Sprint(p))
					r.Fail(otp.AsProblem(errPanicked))
				}
			}()
			ctx, cancel := context.WithTimeout(context.Background(), actWithin)
			defer cancel()
			reply, err := fn(ctx, r)
			if err != nil {
				r.Fail(w.problem(r, err))
				return
			}
			r.Reply(event.Encode(reply))
		}()
	}
}

// verb makes a verb's handler of a function over an app's parsed request.
func verb[T any, P event.Checked[T]](w *Worker, fn func(context.Context, postgres.App, T) (any, error)) func(*bus.Request) {
	return w.handler(func(ctx context.Context, r *bus.Request) (any, error) {
		req, p := event.Parse[T, P](r.Data)
		if p != nil {
			return nil, p
		}
		app, err := w.app(ctx, r.App)
		if err != nil {
			return nil, err
		}
		return fn(ctx, app, req)
	})
}

// app finds the app of a request. Its errors are problems.
func (w *Worker) app(ctx context.Context, name string) (postgres.App, error) {
	app, err := w.apps.Get(ctx, name)
	switch {
	case errors.Is(err, postgres.ErrNoApp):
		return app, &otp.Problem{Reason: otp.UnknownApp, Message: "there is no app of this name"}
	case err != nil:
		return app, busy("the database cannot be reached; send the request again")
	}
	return app, nil
}

// problem is what may be told of an error.
func (w *Worker) problem(r *bus.Request, err error) *otp.Problem {
	if p, ok := errors.AsType[*otp.Problem](err); ok {
		return p
	}
	if postgres.Unreachable(err) || errors.Is(err, context.DeadlineExceeded) {
		w.Logger.Warn("a request could not be carried out, its app is told to ask again", "app", r.App, "error", err)
		return busy("the request could not be carried out now; send it again")
	}
	w.Logger.Error("a request failed", "app", r.App, "error", err)
	return otp.AsProblem(err)
}

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
