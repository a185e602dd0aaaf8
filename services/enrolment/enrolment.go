// Package enrolment is the worker that looks after the life of factors: it adds, proves, lists and removes them, makes backup codes, keeps the list of
// trusted devices, deactivates, recovers, tells people of all of it and writes the audit.
//
// What it promises: a begin is confirmed at most once, by the session that began it; no order of requests leaves a user with half a factor, two resets,
// or a way in without the proofs. All that concerns one user takes its turn: every change holds the account's row. What it holds: the keys to make and open
// secrets and addresses and to derive the codes of its own ceremonies; it cannot derive the code of a login. It compares no code of a factor that is in
// use: it asks the verification worker.
package enrolment

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/otpost/otpost/pkg/apps"
	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/pumping/watch"
	"github.com/otpost/otpost/pkg/requests"
	"github.com/otpost/otpost/pkg/routes"
	"github.com/otpost/otpost/pkg/telemetry"
)

// Config is what the worker is made of.
type Config struct {
	DB      *postgres.DB // connected as role enrolment
	Bus     *bus.Bus     // connected as role enrolment
	Keys    *keyring.Ring
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	Now     func() time.Time
	Version string // semantic version, for discovery

	Sweep Sweep
}

// A Worker looks after factors. Any number of them may run.
type Worker struct {
	Config
	store  *postgres.Enrolments
	apps   *apps.Cache
	routes *routes.Cache
	listed *apps.Destinations
	gate   *limit.Gate
	watch  *watch.Watch
	outbox *outbox.Publisher
	desk   *requests.Desk
}

// New returns a Worker.
func New(cfg Config) (*Worker, error) {
	if err := cfg.Sweep.complete(); err != nil {
		return nil, err
	}
	w := &Worker{
		Config: cfg, store: postgres.NewEnrolments(cfg.DB), apps: apps.New(postgres.NewApps(cfg.DB), cfg.Logger),
		routes: routes.New(cfg.DB, cfg.Logger, cfg.Now),
		outbox: outbox.New(cfg.Bus, postgres.NewOutbox(cfg.DB), cfg.Logger, cfg.Now),
	}
	w.listed = apps.NewDestinations(postgres.NewDestinations(cfg.DB), cfg.Logger)
	w.gate = limit.New(cfg.Keys, delivery.Purpose, w.listed.Find, func(app postgres.App, ch otp.Channel, country string, id uuid.UUID) (string, int64) {
		return w.routes.First(app.ID, ch, country, id)
	})
	w.watch = watch.New(cfg.DB, cfg.Keys, cfg.Logger, cfg.Now)
	w.desk = requests.New(requests.Config{Apps: w.apps, Metrics: cfg.Metrics, Logger: cfg.Logger})
	return w, nil
}

// Prepare reads what the worker decides by before its first request. Without it a test destination would pass for a real one, a blocked prefix for a free
// one, and a message would cost nothing.
func (w *Worker) Prepare(ctx context.Context) error {
	if err := w.apps.Load(ctx); err != nil {
		return err
	}
	if err := w.listed.Load(ctx); err != nil {
		return err
	}
	if err := w.watch.Load(ctx); err != nil {
		return err
	}
	return w.routes.Refresh(ctx)
}

// Run works until ctx ends and what was in hand is done. Prepare comes before it.
func (w *Worker) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var behind errgroup.Group
	behind.Go(func() error { return w.apps.Run(background) })
	behind.Go(func() error { return w.routes.Run(background) })
	behind.Go(func() error { return w.listed.Run(background) })
	behind.Go(func() error { return w.watch.Run(background) })
	behind.Go(func() error { return w.outbox.Run(background) })

	front, ctx := errgroup.WithContext(ctx)
	front.Go(func() error {
		return w.Bus.Consume(ctx, bus.Consumption{Stream: bus.StreamSignals, Consumer: "enrolment", Handler: w.handleSignals, MaxBatch: 64})
	})
	front.Go(func() error { return w.serve(ctx) })
	front.Go(func() error { return w.sweep(ctx) })
	err := front.Wait()
	w.desk.Drain()
	stop()
	return errors.Join(err, behind.Wait())
}

func (w *Worker) serve(ctx context.Context) error {
	return w.Bus.Serve(ctx, bus.Service{
		Name: "enrolment", Version: w.Version, Description: "otpost: the life of factors, trusted devices and recovery",
		Verbs: w.desk.Handlers("", map[string]requests.Answer{
			event.VerbFactorBegin:         verb(w, w.factorBegin),
			event.VerbFactorResend:        verb(w, w.factorResend),
			event.VerbFactorConfirm:       verb(w, w.factorConfirm),
			event.VerbFactorList:          verb(w, w.factorList),
			event.VerbFactorRename:        verb(w, w.factorRename),
			event.VerbFactorPrefer:        verb(w, w.factorPrefer),
			event.VerbFactorRemove:        verb(w, w.factorRemove),
			event.VerbBackupAcknowledge:   verb(w, w.backupAcknowledge),
			event.VerbBackupView:          verb(w, w.backupView),
			event.VerbBackupRegenerate:    verb(w, w.backupRegenerate),
			event.VerbDeviceList:          verb(w, w.deviceList),
			event.VerbDeviceRevoke:        verb(w, w.deviceRevoke),
			event.VerbActivityList:        verb(w, w.activityList),
			event.VerbDeactivateBegin:     verb(w, w.deactivateBegin),
			event.VerbDeactivateConfirm:   verb(w, w.deactivateConfirm),
			event.VerbRecoveryPreferences: verb(w, w.recoveryPreferences),
			event.VerbRecoveryAddress:     verb(w, w.recoveryAddress),
			event.VerbRecoveryConfirm:     verb(w, w.recoveryConfirm),
			event.VerbRecoveryBegin:       verb(w, w.recoveryBegin),
			event.VerbRecoveryResend:      verb(w, w.recoveryResend),
			event.VerbRecoveryProve:       verb(w, w.recoveryProve),
			event.VerbRecoveryStatus:      verb(w, w.recoveryStatus),
			event.VerbRecoveryCancel:      verb(w, w.recoveryCancel),
		}),
		Support: w.desk.Handlers("support.", map[string]requests.Answer{
			event.SupportFind:    support(w, w.supportFind),
			event.SupportBegin:   support(w, w.supportBegin),
			event.SupportApprove: support(w, w.supportApprove),
			event.SupportRefuse:  support(w, w.supportRefuse),
			event.SupportCancel:  support(w, w.supportCancel),
			event.SupportStatus:  support(w, w.supportStatus),
		}),
	})
}

// A request in hand: the app that it is for, and who asks.
type caller struct {
	app    postgres.App
	agent  string // of support; empty for the app itself
	system bool   // nobody asks: it is due
}

// agentPrefix stands before the names of support agents in the audit.
const agentPrefix = "agent:"

// actor names the caller in the audit.
func (c caller) actor() string {
	switch {
	case c.agent != "":
		return agentPrefix + c.agent
	case c.system:
		return "system"
	}
	return "user"
}

func (c caller) account(user string) postgres.Account {
	return postgres.Account{AppID: c.app.ID, User: user}
}

// verb makes a verb's answer of a function over the parsed request.
func verb[T any, P event.Checked[T]](w *Worker, fn func(context.Context, caller, T) (any, error)) requests.Answer {
	return requests.Verb[T, P](w.desk, func(ctx context.Context, app postgres.App, r T) (any, error) {
		return fn(ctx, caller{app: app}, r)
	})
}

// A supportRequest names its app in its body: support looks after several.
type supportRequest[T any] interface {
	event.Checked[T]
	Tenant() string
}

// support makes a support verb's answer. Who the agent is the bus has seen to: the subject names them, and each agent's user may use its own only.
func support[T any, P supportRequest[T]](w *Worker, fn func(context.Context, caller, T) (any, error)) requests.Answer {
	return func(ctx context.Context, r *bus.Request) (any, error) {
		req, p := event.Parse[T, P](r.Data)
		if p != nil {
			return nil, p
		}
		app, err := w.desk.App(ctx, P(&req).Tenant())
		if err != nil {
			return nil, err
		}
		return fn(ctx, caller{app: app, agent: r.Agent}, req)
	}
}

// act changes what a user has, and sends the events and messages of the change once it is committed.
func (w *Worker) act(ctx context.Context, c caller, user string, fn func(*act) error) error {
	var a *act
	events, err := w.store.Act(ctx, w.Now(), c.account(user), func(p *postgres.Act) error {
		a = &act{Act: p, worker: w, caller: c}
		return fn(a)
	})
	if err != nil {
		return err
	}
	w.outbox.Send(events)
	w.note(a)
	w.dispatch(ctx, a.written)
	return nil
}

// view reads what a user has.
func (w *Worker) view(ctx context.Context, c caller, user string, fn func(*act) error) error {
	return w.store.View(ctx, w.Now(), c.account(user), func(p *postgres.Act) error {
		return fn(&act{Act: p, worker: w, caller: c})
	})
}
