// Package requests is how workers carry out requests that take their time, each in a transaction of its own: how many may be under way at once, for how long,
// what becomes of a panic, and what its app is told of an error.
//
// What it promises: every request is answered once, and soon; a fault in one harms no other; an app learns of an error what it can act on and nothing of the
// inside; who stops waits until what was begun has been answered.
package requests

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// Where Config says nothing.
const (
	defaultAtOnce = 32
	defaultWithin = 10 * time.Second
)

// Apps finds apps by name. Its errors are those of [postgres.ErrNoApp], or say that the database could not be asked.
type Apps interface {
	Get(ctx context.Context, name string) (postgres.App, error)
}

// Config is what a Desk is made of.
type Config struct {
	Apps    Apps
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	AtOnce  int           // requests under way; one more is told to come again. 0 for 32
	Within  time.Duration // bounds one request. 0 for 10 s
}

// A Desk carries out a worker's requests.
type Desk struct {
	Config
	slots chan struct{}
}

// New returns a Desk.
func New(cfg Config) *Desk {
	if cfg.AtOnce == 0 {
		cfg.AtOnce = defaultAtOnce
	}
	if cfg.Within == 0 {
		cfg.Within = defaultWithin
	}
	return &Desk{Config: cfg, slots: make(chan struct{}, cfg.AtOnce)}
}

// An Answer makes the reply to a request, or says why there is none. It may take its time, until ctx ends.
type Answer func(ctx context.Context, r *bus.Request) (reply any, err error)

// Verb makes an Answer of a function over the parsed request of an app.
func Verb[T any, P event.Checked[T]](d *Desk, fn func(context.Context, postgres.App, T) (any, error)) Answer {
	return Parsed(d, func(_ string, body []byte) (T, *otp.Problem) { return event.Parse[T, P](body) }, fn)
}

// Parsed is Verb for requests that have a parser of their own, which is told the app's name.
func Parsed[T any](d *Desk, parse func(app string, body []byte) (T, *otp.Problem), fn func(context.Context, postgres.App, T) (any, error)) Answer {
	return func(ctx context.Context, r *bus.Request) (any, error) {
		req, p := parse(r.App, r.Data)
		if p != nil {
			return nil, p
		}
		app, err := d.App(ctx, r.App)
		if err != nil {
			return nil, err
		}
		return fn(ctx, app, req)
	}
}

// Handlers makes a service's handlers of answers. prefix stands before their names in the metrics.
func (d *Desk) Handlers(prefix string, answers map[string]Answer) map[string]func(*bus.Request) {
	out := make(map[string]func(*bus.Request), len(answers))
	for name, fn := range answers {
		out[name] = d.handler(prefix+name, fn)
	}
	return out
}

func (d *Desk) handler(name string, fn Answer) func(*bus.Request) {
	return func(r *bus.Request) {
		select {
		case d.slots <- struct{}{}:
		default:
			d.fail(name, r, Busy(TooMany))
			return
		}
		go func() {
			defer func() { <-d.slots }()
			reply, err := d.carryOut(r, fn)
			if err != nil {
				d.fail(name, r, d.problem(r, err))
				return
			}
			d.Metrics.Requests.WithLabelValues(name, "ok").Inc()
			r.Reply(reply)
		}()
	}
}

// carryOut returns the body of the reply.
func (d *Desk) carryOut(r *bus.Request, fn Answer) (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, fmt.Errorf("%w: %v", ErrPanicked, p)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), d.Within) // one that was taken is carried out, whoever is stopping meanwhile
	defer cancel()
	v, err := fn(ctx, r)
	if err != nil {
		return nil, err
	}
	return event.Encode(v), nil
}

func (d *Desk) fail(name string, r *bus.Request, p *otp.Problem) {
	d.Metrics.Requests.WithLabelValues(name, string(p.Reason)).Inc()
	r.Fail(p)
}

// Drain returns when no request is under way. The service must have stopped: none may come any more.
func (d *Desk) Drain() {
	for range d.AtOnce {
		d.slots <- struct{}{}
	}
}

// App finds the app of a request. Its errors are problems.
func (d *Desk) App(ctx context.Context, name string) (postgres.App, error) {
	app, err := d.Apps.Get(ctx, name)
	if err != nil {
		return app, AppProblem(err)
	}
	return app, nil
}

// AppProblem is what is told where an app was not found.
func AppProblem(err error) *otp.Problem {
	if errors.Is(err, postgres.ErrNoApp) {
		return &otp.Problem{Reason: otp.UnknownApp, Message: "there is no app of this name"}
	}
	return Busy("the database cannot be reached; send the request again")
}

// problem is what may be told of an error.
func (d *Desk) problem(r *bus.Request, err error) *otp.Problem {
	switch p, ok := errors.AsType[*otp.Problem](err); {
	case ok:
		return p
	case errors.Is(err, postgres.ErrNoChallenge):
		return &otp.Problem{Reason: otp.UnknownChallenge, Message: "there is no such challenge for this app and session"}
	case postgres.Unreachable(err), errors.Is(err, context.DeadlineExceeded):
		d.Logger.Warn("a request could not be carried out, its app is told to ask again", "app", r.App, "agent", r.Agent, "error", err)
		return Busy("the request could not be carried out now; send it again")
	}
	d.Logger.Error("a request failed", "app", r.App, "agent", r.Agent, "error", err)
	return otp.AsProblem(err)
}

// ErrPanicked stands for a fault of our own.
var ErrPanicked = errors.New("panicked")

// TooMany are the words of Busy where a queue is full.
const TooMany = "too many requests are waiting; send this one again"

// Busy tells an app to send a request again, a second later.
func Busy(words string) *otp.Problem {
	return &otp.Problem{Reason: otp.Busy, Message: words, RetryAfter: time.Second}
}
