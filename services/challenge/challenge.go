// Package challenge is the worker that decides logins: login events and requests in, challenges and delivery commands out. It also
// resends, cancels and tells the status of challenges, lets trusted devices pass, records what became of deliveries, and sweeps up what was left behind.
//
// What it promises: an accepted login is decided once, however often it is delivered, and neither a killed worker nor a lost message loses
// it. What it holds: keys to seal addresses and to make ids, and the number of the code key; it cannot derive a code.
package challenge

import (
	"context"
	"errors"
	"fmt"
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
	DB      *postgres.DB // connected as role challenge
	Bus     *bus.Bus     // connected as role challenge
	Keys    *keyring.Ring
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	Now     func() time.Time
	Version string // semantic version, for discovery

	Sweep Sweep
}

// A Worker decides logins. Any number of them may run.
type Worker struct {
	Config
	store  *postgres.Challenges
	apps   *apps.Cache
	routes *routes.Cache
	listed *apps.Destinations
	gate   *limit.Gate
	outbox *outbox.Publisher
	logins *bus.Batcher[*login] // those that came by request
	desk   *requests.Desk       // all other requests

	pumping  *postgres.Pumping
	watch    *watch.Watch
	judgedAt time.Time // when the sweeper, if it is this worker, last judged prefixes
}

// maxBatch bounds the logins decided in one transaction.
const maxBatch = 500

// New returns a Worker.
func New(cfg Config) (*Worker, error) {
	if err := cfg.Sweep.complete(); err != nil {
		return nil, err
	}
	w := &Worker{
		Config: cfg, store: postgres.NewChallenges(cfg.DB), apps: apps.New(postgres.NewApps(cfg.DB), cfg.Logger),
		outbox: outbox.New(cfg.Bus, postgres.NewOutbox(cfg.DB), cfg.Logger, cfg.Now),
		routes: routes.New(cfg.DB, cfg.Logger, cfg.Now),
	}
	w.listed = apps.NewDestinations(postgres.NewDestinations(cfg.DB), cfg.Logger)
	w.gate = limit.New(cfg.Keys, delivery.Purpose, w.listed.Find, func(app postgres.App, ch otp.Channel, country string, challenge uuid.UUID) (string, int64) {
		return w.routes.First(app.ID, ch, country, challenge)
	})
	w.pumping, w.watch = postgres.NewPumping(cfg.DB), watch.New(cfg.DB, cfg.Keys, cfg.Logger, cfg.Now)
	w.desk = requests.New(requests.Config{Apps: w.apps, Metrics: cfg.Metrics, Logger: cfg.Logger})
	w.logins = bus.NewBatcher(maxBatch, 2, w.admit, func(l *login, panicked any) {
		w.Logger.Error("a login panicked", "app", l.App, "panic", fmt.Sprint(panicked))
		l.request.Fail(otp.AsProblem(requests.ErrPanicked))
	})
	return w, nil
}

// Prepare makes what the worker needs before its first login: the partitions of today, and what is known of providers, routes and blocked prefixes.
func (w *Worker) Prepare(ctx context.Context) error {
	if _, err := w.store.EnsurePartitions(ctx, w.Now(), w.Sweep.PartitionsAhead); err != nil {
		return err
	}
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

// Run works until ctx ends and what was in hand is done. The parts stop in the order in which they feed each other.
func (w *Worker) Run(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var behind errgroup.Group
	behind.Go(func() error { return w.apps.Run(background) })
	behind.Go(func() error { return w.outbox.Run(background) })
	behind.Go(func() error { return w.routes.Run(background) })
	behind.Go(func() error { return w.listed.Run(background) })
	behind.Go(func() error { return w.watch.Run(background) })

	deciding, stopDeciding := context.WithCancel(background)
	defer stopDeciding()
	decided := make(chan error, 1)
	go func() { decided <- w.logins.Run(deciding) }()

	front, ctx := errgroup.WithContext(ctx)
	front.Go(func() error {
		return w.Bus.Consume(ctx, bus.Consumption{Stream: bus.StreamLogins, Consumer: "challenge", Handler: w.handleLogins, MaxBatch: maxBatch})
	})
	front.Go(func() error {
		return w.Bus.Consume(ctx, bus.Consumption{Stream: bus.StreamReceipts, Consumer: "challenge", Handler: w.handleReceipts, MaxBatch: maxBatch})
	})
	front.Go(func() error {
		return w.Bus.Consume(ctx, bus.Consumption{Stream: bus.StreamTimers, Consumer: "challenge", Handler: w.handleDue, MaxBatch: maxBatch})
	})
	front.Go(func() error { return w.serve(ctx) })
	front.Go(func() error { return w.sweep(ctx) })
	err := front.Wait()
	stopDeciding()
	err = errors.Join(err, <-decided)
	w.desk.Drain()
	stopBackground()
	return errors.Join(err, behind.Wait())
}

func (w *Worker) serve(ctx context.Context) error {
	verbs := w.desk.Handlers("", map[string]requests.Answer{
		event.VerbResend:      requests.Parsed(w.desk, event.ParseResend, w.resend),
		event.VerbCancel:      requests.Parsed(w.desk, event.ParseCancel, w.cancel),
		event.VerbStatus:      requests.Parsed(w.desk, event.ParseStatus, w.status),
		event.VerbDeviceRenew: requests.Verb(w.desk, w.renew),
	})
	verbs[event.VerbLogin] = w.login // many are decided together
	return w.Bus.Serve(ctx, bus.Service{
		Name: "challenge", Version: w.Version, Description: "otpost: issues, resends and cancels challenges, tells their status, renews trusted devices",
		Verbs: verbs,
	})
}
