package otposttest

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/embedded"
)

// A Server is the NATS of one test, with otpost's accounts, users, permissions and streams.
type Server struct {
	cfg     embedded.NATSConfig
	server  *embedded.NATS
	store   string
	clients []*nats.Conn // of apps and agents, which Restart waits for
}

type natsOptions struct {
	apps     []string
	agents   []string
	sync     string
	streams  bus.StreamSettings
	declared bool
}

// A NATSOption changes how NATS sets the server up.
type NATSOption func(*natsOptions)

// WithApps makes accounts for these apps in the place of "demo".
func WithApps(apps ...string) NATSOption { return func(o *natsOptions) { o.apps = apps } }

// WithAgents makes accounts for these support agents in the place of "ann" and "bob".
func WithAgents(agents ...string) NATSOption { return func(o *natsOptions) { o.agents = agents } }

// WithLazySync flushes streams once a minute, where a test is about speed and not about what survives.
func WithLazySync() NATSOption { return func(o *natsOptions) { o.sync = "1m" } }

// WithStreams changes the settings of the streams.
func WithStreams(change func(*bus.StreamSettings)) NATSOption {
	return func(o *natsOptions) { change(&o.streams) }
}

// WithoutStreams declares nothing.
func WithoutStreams() NATSOption { return func(o *natsOptions) { o.declared = false } }

// NATS starts a server that ends with the test, on a free port of the loopback address. By default it flushes before each
// acknowledgement, has the app "demo" and the support agents "ann" and "bob", and holds all streams and consumers.
func NATS(t testing.TB, options ...NATSOption) *Server {
	t.Helper()
	o := natsOptions{apps: []string{"demo"}, agents: []string{"ann", "bob"}, sync: "always", streams: bus.DefaultStreamSettings(), declared: true}
	o.streams.MaxBytes = 256 << 20 // reserved on disk, stream by stream
	for _, option := range options {
		option(&o)
	}
	dir := t.TempDir()
	n := &Server{store: filepath.Join(dir, "store")}
	s := bus.ServerSettings{StoreDir: n.store, SyncInterval: o.sync, Users: map[bus.Role]string{}}
	for _, r := range bus.Roles() {
		s.Users[r] = natsPassword(string(r))
	}
	for _, app := range o.apps {
		s.Apps = append(s.Apps, bus.App{Name: app, Password: natsPassword("app_" + app)})
	}
	s.Agents = map[string]string{}
	for _, agent := range o.agents {
		s.Agents[agent] = natsPassword(bus.AgentUser(agent))
	}
	text, err := bus.ServerConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	n.cfg = embedded.NATSConfig{Dir: dir, ConfigText: text, Logger: Logger(t).Logger}
	n.Start(t)
	t.Cleanup(func() { n.Stop(t) })
	if !o.declared {
		return n
	}
	operator := n.Bus(t, bus.RoleOperator)
	if err := operator.Declare(t.Context(), o.streams); err != nil {
		t.Fatal(err)
	}
	for _, app := range o.apps {
		if err := operator.DeclareApp(t.Context(), app, o.streams.Replicas); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func natsPassword(user string) string { return "test password of " + user }

// URL is where clients connect.
func (n *Server) URL() string { return n.server.URL() }

// StoreDir is where the streams lie.
func (n *Server) StoreDir() string { return n.store }

// Password returns the password of a role's user.
func (n *Server) Password(role bus.Role) string { return natsPassword(string(role)) }

// AppUser returns the user of an app and its password.
func (n *Server) AppUser(app string) (user, password string) {
	return "app_" + app, natsPassword("app_" + app)
}

// AgentPassword returns the password of a support agent's user, which is bus.AgentUser(agent).
func (n *Server) AgentPassword(agent string) string { return natsPassword(bus.AgentUser(agent)) }

// Bus connects as a role. The connection ends with the test.
func (n *Server) Bus(t testing.TB, role bus.Role) *bus.Bus {
	t.Helper()
	b, err := bus.Connect(bus.Config{URL: n.URL(), Role: role, Password: n.Password(role), Logger: Logger(t).Logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := b.Close(ctx); err != nil && !errors.Is(err, nats.ErrConnectionClosed) { // that is what was wanted
			t.Errorf("close the connection of %s: %v", role, err)
		}
	})
	Eventually(t, "a connection to NATS as "+string(role), func() bool { return b.Connected() == nil })
	return b
}

// App connects as an app does: a plain client with the app's user, that comes back after a restart.
func (n *Server) App(t testing.TB, app string) *nats.Conn {
	t.Helper()
	user, password := n.AppUser(app)
	return n.client(t, app, user, password)
}

// Agent connects as a support agent does: a plain client with the agent's user, that comes back after a restart. Requests go to
// event.SupportSubject with the agent's own name.
func (n *Server) Agent(t testing.TB, agent string) *nats.Conn {
	t.Helper()
	return n.client(t, agent, bus.AgentUser(agent), n.AgentPassword(agent))
}

// client connects as an app or an agent.
func (n *Server) client(t testing.TB, name, user, password string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(n.URL(), nats.Name(name), nats.UserInfo(user, password), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			Logger(t).Warn("the client reports", "client", name, "error", err)
		}))
	if err != nil {
		t.Fatalf("connect %s: %v", user, err)
	}
	t.Cleanup(nc.Close)
	n.clients = append(n.clients, nc)
	return nc
}

// Stop ends the server in order; what its streams hold stays.
func (n *Server) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.server.Stop(ctx); err != nil {
		t.Errorf("%v", err)
	}
}

// Start starts the server, the second time on the port and the streams of the first.
func (n *Server) Start(t testing.TB) {
	t.Helper()
	server, err := embedded.StartNATS(t.Context(), n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.server, n.cfg.Port = server, server.Port()
}

// Restart stops the server and starts it again under the feet of its clients. It returns when the clients of apps and agents are back with
// their subscriptions: what is published before that, they do not hear.
func (n *Server) Restart(t testing.TB) {
	t.Helper()
	n.Stop(t)
	n.Start(t)
	for _, nc := range n.clients {
		Eventually(t, "a client to be back", func() bool { return nc.IsClosed() || nc.IsConnected() && nc.FlushTimeout(time.Second) == nil })
	}
}
