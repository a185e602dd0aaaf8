package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// natsFlags say how to reach NATS.
type natsFlags struct {
	NATSURL      string `name:"nats-url" required:"" placeholder:"URL" help:"NATS servers, such as nats://10.0.0.5:4222, separated by commas."`
	NATSUser     string `name:"nats-user" help:"NATS user; the role's name where it is not given."`
	NATSPassword string `name:"nats-password" secret:"" help:"Password of the NATS user."`
	NATSCA       string `name:"nats-ca" type:"path" placeholder:"FILE" help:"PEM file of the authority that signed the server's certificate."`
}

func (f natsFlags) connect(role bus.Role, log *slog.Logger, m *telemetry.Metrics) (*bus.Bus, error) {
	if err := checkServers(f.NATSURL); err != nil {
		return nil, err
	}
	return bus.Connect(bus.Config{
		URL: f.NATSURL, Role: role, User: f.NATSUser, Password: f.NATSPassword, CAFile: f.NATSCA, Logger: log, Metrics: m,
	})
}

// checkServers refuses what names no server: a client would go on trying it for ever. It quotes nothing, since a URL may hold a password.
func checkServers(list string) error {
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		bare := err == nil && strings.Count(u.Host, ":") > 1 && !strings.HasPrefix(u.Host, "[") // IPv6 without its brackets
		if err != nil || bare || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return errors.New("must be a URL such as nats://10.0.0.5:4222, or several separated by commas")
		}
	}
	return nil
}

// databaseFlags say how to reach Postgres.
type databaseFlags struct {
	DatabaseURL         string `name:"database-url" required:"" secret:"" placeholder:"URL" help:"Postgres, such as postgres://user:password@host/otpost."`
	DatabaseConnections int    `name:"database-connections" default:"8" help:"Most connections to Postgres."`
}

func (f databaseFlags) open() (*postgres.DB, error) {
	if f.DatabaseConnections < 3 || f.DatabaseConnections > 1000 {
		return nil, fmt.Errorf("--database-connections: must be 3 to 1000, not %d", f.DatabaseConnections)
	}
	db, err := postgres.Open(f.DatabaseURL, f.DatabaseConnections)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	return db, nil
}

// keysFlags say where the keysets are.
type keysFlags struct {
	Keys string `required:"" type:"path" placeholder:"DIR" help:"Directory of the keysets, as otpost keys init made it; only the role's own folder is read."`
}

// workerFlags are what every worker needs.
type workerFlags struct {
	natsFlags
	databaseFlags
	keysFlags
	Health string        `default:"127.0.0.1:0" placeholder:"ADDR" help:"Where /healthz, /readyz and /metrics are served; port 0 takes a free one."`
	Drain  time.Duration `default:"25s" help:"How long finishing what is in hand may take after SIGTERM."`
}

// A runner is what a role does once it is connected.
type runner interface {
	Run(ctx context.Context) error
}

// A preparer has something to do before it can run.
type preparer interface {
	Prepare(ctx context.Context) error
}

// parts are what a role is built from.
type parts struct {
	db      *postgres.DB
	bus     *bus.Bus
	keys    *keyring.Ring
	metrics *telemetry.Metrics
	log     *slog.Logger
}

// A role is one worker within a process: its connections and its work.
type role struct {
	name   bus.Role
	flags  workerFlags
	build  func(parts) (runner, error)
	parts  parts
	worker runner
	health *lifecycle.Health
}

// newRole checks all settings that can be checked without a connection, so that a wrong one ends the process at once with one clear line.
func newRole(name bus.Role, f workerFlags, log *slog.Logger, m *telemetry.Metrics, h *lifecycle.Health, build func(parts) (runner, error)) (*role, error) {
	keys, err := keyring.Load(f.Keys, keyring.Role(name))
	if err != nil {
		return nil, fmt.Errorf("--keys: %w", err)
	}
	db, err := f.open()
	if err != nil {
		return nil, err
	}
	b, err := f.connect(name, log, m)
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("--nats-url: %w", err)
	}
	m.Workers.WithLabelValues(string(name)).Set(1)
	r := &role{name: name, flags: f, build: build, health: h, parts: parts{db: db, bus: b, keys: keys, metrics: m, log: log}}
	if r.worker, err = build(r.parts); err != nil {
		_ = db.Close()
		_ = b.Close(context.Background())
		return nil, err
	}
	return r, nil
}

func (r *role) natsCheck() string     { return string(r.name) + " nats" }
func (r *role) postgresCheck() string { return string(r.name) + " postgres" }

// components are the role's parts of a process, in the order in which they start. They wait for NATS and Postgres for as long as it takes.
func (r *role) components() []lifecycle.Component {
	name := string(r.name)
	return []lifecycle.Component{
		{
			Name: name + " connections",
			Start: func(ctx context.Context) error {
				if err := lifecycle.Backoff(ctx, r.parts.log, "reaching NATS", r.checked(r.natsCheck(), r.parts.bus.Healthy)); err != nil {
					return err
				}
				return lifecycle.Backoff(ctx, r.parts.log, "reaching Postgres", r.checked(r.postgresCheck(), r.parts.db.Migrated))
			},
			Run: r.watch,
			Stop: func(ctx context.Context) error {
				err := r.parts.bus.Close(ctx)
				if e := r.parts.db.Close(); err == nil {
					err = e
				}
				return err
			},
		},
		{
			Name: name,
			Start: func(ctx context.Context) error {
				if p, ok := r.worker.(preparer); ok {
					return lifecycle.Backoff(ctx, r.parts.log, "preparing "+name, p.Prepare)
				}
				return nil
			},
			Run: r.worker.Run,
		},
	}
}

// checked wraps a check so that its result is seen on /readyz.
func (r *role) checked(name string, check func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		err := check(ctx)
		r.health.Set(name, err)
		return err
	}
}

// watch keeps /readyz true to the facts.
func (r *role) watch(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	nats, pg := r.checked(r.natsCheck(), r.parts.bus.Healthy), r.checked(r.postgresCheck(), r.parts.db.Migrated)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = nats(ctx), pg(ctx)
		}
	}
}

// runWorker is the main of a worker's process.
func runWorker(c *run, name bus.Role, f workerFlags, build func(parts) (runner, error)) error {
	reg := telemetry.NewRegistry()
	health := lifecycle.NewHealth()
	log := c.log.With("role", string(name))
	r, err := newRole(name, f, log, telemetry.NewMetrics(reg), health, build)
	if err != nil {
		return err
	}
	health.Set(r.natsCheck(), errStarting)
	health.Set(r.postgresCheck(), errStarting)
	components := append([]lifecycle.Component{healthServer(f.Health, health, reg, log)}, r.components()...)
	log.Info("starting", "version", version)
	return lifecycle.Run(c.ctx, lifecycle.Config{Drain: f.Drain, Logger: log, Health: health}, components...)
}

var errStarting = fmt.Errorf("starting")

func healthServer(addr string, h *lifecycle.Health, reg prometheus.Gatherer, log *slog.Logger) lifecycle.Component {
	return (&lifecycle.Server{Name: "health", Listen: addr, Handler: h.Handler(reg), Logger: log}).Component()
}
