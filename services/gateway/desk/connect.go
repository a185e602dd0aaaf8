package desk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/otpost/otpost/pkg/bus"
)

// Connect connects to NATS as a support agent. It returns ErrRefused where NATS does not know the agent with this password, and ErrUnreachable where it
// could not be asked. The agent's name has been checked: it is one token of a subject.
type Connect func(ctx context.Context, agent, password string) (Agent, error)

// An Agent is one agent's connection.
type Agent interface {
	// Ask sends a request of support as the agent. The error holds an *otp.Problem: the worker's answer, or otp.Busy where nobody answers in time.
	Ask(ctx context.Context, verb string, body []byte) ([]byte, error)
	// Ended reports whether the connection is over for good, as it is when NATS knows the agent no more.
	Ended() bool
	Close()
}

// Errors of Connect.
var (
	ErrRefused     = errors.New("no such agent, or another password")
	ErrUnreachable = errors.New("NATS cannot be asked who an agent is")
)

// OverNATS connects agents to the servers of url. caFile is the authority of their certificates, empty for the system's.
func OverNATS(url, caFile string, log *slog.Logger) Connect {
	return func(ctx context.Context, agent, password string) (Agent, error) {
		b, err := bus.ConnectAgent(ctx, bus.Config{URL: url, CAFile: caFile, Password: password, Logger: log}, agent)
		switch {
		case errors.Is(err, bus.ErrRefused):
			return nil, ErrRefused
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return connection{b, agent}, nil
	}
}

type connection struct {
	bus   *bus.Bus
	agent string
}

// Ask implements Agent.
func (c connection) Ask(ctx context.Context, verb string, body []byte) ([]byte, error) {
	return c.bus.AskAs(ctx, c.agent, verb, body)
}

// Ended implements Agent.
func (c connection) Ended() bool { return c.bus.Ended() }

// Close implements Agent.
func (c connection) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.bus.Close(ctx) // the connection is closed either way
}
