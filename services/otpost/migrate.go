package main

import (
	"context"
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/pkg/postgres"
)

// streamFlags are the settings of the streams.
type streamFlags struct {
	StreamReplicas   int           `default:"1" help:"Copies of each stream: 1, or 3 on a cluster."`
	StreamWorkAge    time.Duration `default:"24h" help:"How long what nobody consumed is kept."`
	StreamEventsAge  time.Duration `default:"168h" help:"How long apps can read events back."`
	StreamDeadAge    time.Duration `default:"168h" help:"How long dead letters are kept."`
	StreamMaxBytes   int64         `default:"1073741824" help:"Most bytes of each of the seven streams; the server sets them aside."`
	StreamDuplicates time.Duration `default:"2m" help:"How long a message id is known to a stream."`
	StreamPerApp     int64         `default:"500000" help:"Most logins of one app that may wait; more are refused."`
	AckWait          time.Duration `default:"10s" help:"How long a message may be in hand before it is delivered again."`
	MaxInHand        int           `default:"10000" help:"Most messages of a consumer that are in hand."`
}

func (f streamFlags) settings() bus.StreamSettings {
	return bus.StreamSettings{
		Replicas: f.StreamReplicas, WorkMaxAge: f.StreamWorkAge, EventsAge: f.StreamEventsAge, DeadAge: f.StreamDeadAge, MaxBytes: f.StreamMaxBytes,
		Duplicates: f.StreamDuplicates, AckWait: f.AckWait, MaxInHand: f.MaxInHand, PerApp: f.StreamPerApp,
	}
}

type migrateCmd struct {
	natsFlags
	databaseFlags
	streamFlags
	Wait time.Duration `default:"30s" help:"How long to wait for NATS and Postgres."`
}

// declareWithin bounds the declaring of streams and consumers: some dozens of requests, each of which a server answers once it has written to its disk.
const declareWithin = 2 * time.Minute

// Run migrates the database as its owner and declares streams and consumers as the NATS operator.
func (c *migrateCmd) Run(r *run) error {
	if err := c.settings().Check(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	waiting, cancel := context.WithTimeout(r.ctx, c.Wait)
	defer cancel()
	db, err := c.open()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := lifecycle.Backoff(waiting, r.log, "reaching Postgres", db.Ping); err != nil {
		return err
	}
	steps, err := db.Migrate(r.ctx) // takes as long as it takes: constraints read what is there
	if err != nil {
		return err
	}
	for _, s := range steps {
		fmt.Fprintf(r.stdout, "migrated  %s\n", s.Name)
	}
	if len(steps) == 0 {
		fmt.Fprintln(r.stdout, "migrated  nothing to do")
	}
	b, err := c.connect(bus.RoleOperator, r.log, nil)
	if err != nil {
		return fmt.Errorf("--nats-url: %w", err)
	}
	defer func() { _ = b.Close(context.WithoutCancel(r.ctx)) }()
	waiting, cancel = context.WithTimeout(r.ctx, c.Wait)
	defer cancel()
	if err := lifecycle.Backoff(waiting, r.log, "reaching NATS", func(context.Context) error { return b.Connected() }); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(r.ctx, declareWithin)
	defer stop()
	if err := b.Declare(ctx, c.settings()); err != nil {
		return err
	}
	apps, err := postgres.NewApps(db).List(ctx)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if err := b.DeclareApp(ctx, a.Name, c.StreamReplicas); err != nil {
			return err
		}
	}
	streams, consumers := bus.Declared()
	fmt.Fprintf(r.stdout, "declared  %d streams, %d consumers of workers, %d of apps\n", streams, consumers, len(apps))
	return nil
}
