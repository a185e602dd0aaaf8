// Package bus is otpost's way over NATS: connecting as a role, declaring streams, consuming in batches, publishing with acknowledgement,
// serving requests, and dead letters.
//
// What it promises: a message is acknowledged only after its handler said what became of it; a handler that panics, or a process that dies,
// leaves the message to be delivered again; a message that cannot be processed ends as a dead letter and never silently. What it does not:
// a message may be handled more than once, so every handler is idempotent by id.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/telemetry"
)

// Config says how a role connects.
type Config struct {
	URL      string // nats://host:port, several separated by commas
	Role     Role   // also the NATS user where User is empty
	User     string
	Password string
	CAFile   string // PEM of the authority to trust for TLS; empty for the system's
	Logger   *slog.Logger
	Metrics  *telemetry.Metrics // may be nil
}

// A Bus is one connection to NATS as one role.
type Bus struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	role    Role
	log     *slog.Logger
	metrics *telemetry.Metrics
	failure atomic.Pointer[error] // of the last try to connect
}

// ErrNotConnected says that NATS cannot be reached at the moment.
var ErrNotConnected = errors.New("not connected to NATS")

const (
	publishTimeout = 5 * time.Second
	maxPending     = 16384 // publishes without an acknowledgement yet
	longestWait    = 5 * time.Second
)

// Connect starts connecting and returns at once: it goes on trying, with backoff, until Close. Connected tells how it stands. An error means that the
// configuration is wrong.
func Connect(cfg Config) (*Bus, error) {
	user := cfg.User
	if user == "" {
		user = string(cfg.Role)
	}
	b := &Bus{role: cfg.Role, log: cfg.Logger, metrics: cfg.Metrics}
	opts := []nats.Option{
		nats.Name("otpost " + string(cfg.Role)),
		nats.UserInfo(user, cfg.Password),
		nats.CustomInboxPrefix(cfg.Role.InboxPrefix()),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(pause),
		nats.ReconnectBufSize(-1), // what cannot be sent now fails now; whoever sent it tries again
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.IgnoreAuthErrorAbort(), // a server that is being set up refuses at first
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.failure.Store(&err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("disconnected from NATS", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.log.Info("connected to NATS again", "server", nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			b.log.Error("NATS reports", "error", err, "subject", subject)
		}),
	}
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	nc, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	b.nc, b.js = nc, js
	return b, nil
}

// pause is how long to wait before the n-th reconnection: doubled each time, half of it at random so that processes do not come back in step.
func pause(n int) time.Duration {
	d := min(longestWait, 100*time.Millisecond<<min(n, 6))
	return d/2 + rand.N(d/2)
}

// Connected returns nil while there is a connection.
func (b *Bus) Connected() error {
	if b.nc.IsConnected() {
		return nil
	}
	if err := b.failure.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotConnected, *err)
	}
	return ErrNotConnected
}

// Healthy returns nil while NATS answers and holds the streams and consumers that the role pulls from. It fails before `otpost migrate` has declared them.
func (b *Bus) Healthy(ctx context.Context) error {
	if err := b.Connected(); err != nil {
		return err
	}
	for _, c := range consumers {
		if c.role != b.role {
			continue
		}
		if _, err := b.js.Consumer(ctx, c.stream, c.name); err != nil {
			return fmt.Errorf("consumer %s of %s: %w; run otpost migrate", c.name, c.stream, err)
		}
	}
	return nil
}

// Close sends what is buffered and ends the connection.
func (b *Bus) Close(ctx context.Context) error {
	defer b.nc.Close()
	if b.nc.IsConnected() {
		if err := b.nc.FlushWithContext(ctx); err != nil {
			return fmt.Errorf("close NATS: %w", err)
		}
	}
	return nil
}

// Conn returns the connection itself, for what this package has no word for.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// JetStream returns the connection's JetStream, for the operator's commands.
func (b *Bus) JetStream() jetstream.JetStream { return b.js }
