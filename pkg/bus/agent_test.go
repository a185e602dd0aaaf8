package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// An agent is let in at once or not at all, and may ask under no other name.
func TestConnectAgent(t *testing.T) {
	t.Parallel()
	server := otposttest.NATS(t, otposttest.WithoutStreams())
	connect := func(ctx context.Context, url, agent, password string) (*bus.Bus, error) {
		return bus.ConnectAgent(ctx, bus.Config{URL: url, Password: password, Logger: otposttest.Logger(t).Logger}, agent)
	}
	for _, wrong := range [][2]string{{"ann", "wrong"}, {"ann", server.AgentPassword("bob")}, {"nobody", server.AgentPassword("ann")}, {"ann", ""}} {
		if b, err := connect(t.Context(), server.URL(), wrong[0], wrong[1]); !errors.Is(err, bus.ErrRefused) || b != nil {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := connect(t.Context(), "nats://127.0.0.1:1", "ann", server.AgentPassword("ann")); !errors.Is(err, bus.ErrNotConnected) || errors.Is(err, bus.ErrRefused) {
		t.Errorf("where there is no server: %v", err)
	}
	ann, err := connect(t.Context(), server.URL(), "ann", server.AgentPassword("ann"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := ann.AskAs(ctx, "bob", event.SupportFind, []byte(`{}`)); err == nil || otp.AsProblem(err).Reason != otp.Busy {
		t.Errorf("as another agent: %v", err)
	}
	if ann.Ended() {
		t.Error("it has ended by itself")
	}
	closing, stop := context.WithTimeout(t.Context(), otposttest.Patience)
	defer stop()
	if err := ann.Close(closing); err != nil || !ann.Ended() {
		t.Errorf("after closing: %v", err)
	}
}
