package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrRefused says that NATS knows no such user with this password.
var ErrRefused = errors.New("NATS refuses the user or the password")

// ConnectAgent connects as a support agent, now or not at all: unlike Connect it makes one try, so that a sign-in is answered at once. It returns ErrRefused
// where NATS does not let the agent in; any other error says that NATS could not be asked. A connection that is lost comes back by itself, until NATS
// refuses the agent: then Ended tells so.
func ConnectAgent(ctx context.Context, cfg Config, agent string) (*Bus, error) {
	wait := longestWait
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end))
	}
	b := &Bus{role: RoleAgent, log: cfg.Logger, metrics: cfg.Metrics}
	opts := []nats.Option{
		nats.Name("otpost " + string(RoleAgent)),
		nats.UserInfo(AgentUser(agent), cfg.Password),
		nats.CustomInboxPrefix(RoleAgent.InboxPrefix()),
		nats.Timeout(max(wait, time.Millisecond)),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(pause),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("NATS reports to an agent", "error", err)
		}),
	}
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	nc, err := nats.Connect(cfg.URL, opts...)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return nil, fmt.Errorf("connect an agent: %w", ErrRefused)
	case err != nil:
		return nil, fmt.Errorf("connect an agent: %w: %w", ErrNotConnected, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect an agent: %w", err)
	}
	b.nc, b.js = nc, js
	return b, nil
}

// Ended reports whether the connection is over for good.
func (b *Bus) Ended() bool { return b.nc.IsClosed() }
