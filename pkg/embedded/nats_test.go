package embedded_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/goleak"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/embedded"
)

func TestNATSKeepsStreamsOverRestart(t *testing.T) {
	noLeaks(t)
	cfg := natsConfig(t, "demo")
	n := startNATS(t, cfg)
	js := jetStream(t, connect(t, n, "operator"))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTPOST_LOGINS", Subjects: []string{"otpost.app.*.login"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := jetStream(t, connect(t, n, "app_demo")).Publish(t.Context(), "otpost.app.demo.login", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(cfg.Dir, "nats.conf"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("configuration file: %v, %v; want mode 0600", info.Mode(), err)
	}
	stopNATS(t, n)
	if _, err := net.Dial("tcp", strings.TrimPrefix(n.URL(), "nats://")); err == nil {
		t.Error("it still listens after Stop")
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}

	cfg.Port = n.Port()
	n = startNATS(t, cfg)
	if n.Port() != cfg.Port {
		t.Errorf("port is %d, want %d", n.Port(), cfg.Port)
	}
	stream, err := jetStream(t, connect(t, n, "operator")).Stream(t.Context(), "OTPOST_LOGINS")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil || string(msg.Data) != "kept" {
		t.Errorf("message 1 after the restart: %v, %v", msg, err)
	}
	stopNATS(t, n)
}

func TestNATSRefuses(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := natsConfig(t)
	running := startNATS(t, cfg)
	defer stopNATS(t, running)

	notADirectory := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notADirectory, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	past, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()

	for _, tc := range []struct {
		name string
		ctx  context.Context
		with func(*embedded.NATSConfig)
		is   error
		says string
	}{
		{"a busy port", t.Context(), func(c *embedded.NATSConfig) { c.Port = l.Addr().(*net.TCPAddr).Port }, embedded.ErrPortBusy, "127.0.0.1:"},
		{"a directory in use", t.Context(), func(c *embedded.NATSConfig) { c.Dir = cfg.Dir }, embedded.ErrInUse, cfg.Dir},
		{"a broken configuration", t.Context(), func(c *embedded.NATSConfig) { c.ConfigText = "accounts {" }, nil, "read configuration"},
		{"an unknown setting", t.Context(), func(c *embedded.NATSConfig) { c.ConfigText += "\nno_such_setting: 1\n" }, nil, "no_such_setting"},
		{"a store that is a file", t.Context(), func(c *embedded.NATSConfig) {
			c.ConfigText = settings(t, notADirectory)
		}, nil, "JetStream"},
		{"an ended context", past, func(*embedded.NATSConfig) {}, context.DeadlineExceeded, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := natsConfig(t)
			tc.with(&c)
			n, err := embedded.StartNATS(tc.ctx, c)
			if err == nil {
				stopNATS(t, n)
				t.Fatal("it started")
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("error %q is not %q", err, tc.is)
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %q does not say %q", err, tc.says)
			}
			if left, _ := filepath.Glob(filepath.Join(c.Dir, "nats.conf.*")); len(left) > 0 {
				t.Errorf("files left: %q", left)
			}
			if tc.is == nil { // the directory and its lock must be free again
				good := natsConfig(t)
				good.Dir = c.Dir
				stopNATS(t, startNATS(t, good))
			}
		})
	}
}

func TestNATSKnowsNobodyWithoutPassword(t *testing.T) {
	noLeaks(t)
	n := startNATS(t, natsConfig(t, "demo"))
	defer stopNATS(t, n)
	for name, opt := range map[string]nats.Option{
		"anonymous":      nats.Name(""),
		"wrong password": nats.UserInfo("operator", "wrong"),
		"no such user":   nats.UserInfo("app_other", "secret of app_other"),
	} {
		nc, err := nats.Connect(n.URL(), opt)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want an authorization error", name, err)
		}
	}
}

// TestReloadAddsAnAppWhileAnotherTalks holds the promise that a new app costs the others no connection, and no request that was taken: what
// comes amid a reload is refused at once or answered.
func TestReloadAddsAnAppWhileAnotherTalks(t *testing.T) {
	noLeaks(t)
	cfg := natsConfig(t, "demo")
	n := startNATS(t, cfg)
	defer stopNATS(t, n)
	operator := connect(t, n, "operator")
	js := jetStream(t, operator)
	for name, subject := range map[string]string{"OTPOST_LOGINS": "otpost.app.*.login", "OTPOST_EVENTS": "otpost.app.*.event.>"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	verification := connect(t, n, "verification")
	service, err := micro.AddService(verification, micro.Config{Name: "verification", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "otpost.app.*.rpc.verify",
		Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond([]byte(r.Subject())) }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Stop()

	demo := connect(t, n, "app_demo")
	demoJS := jetStream(t, demo)
	var reconnects, requests, refused, logins atomic.Int64
	for _, nc := range []*nats.Conn{operator, verification, demo} {
		nc.SetDisconnectErrHandler(func(*nats.Conn, error) { reconnects.Add(1) })
	}
	talk, enough := context.WithCancel(t.Context())
	var talkers sync.WaitGroup
	talkers.Go(func() {
		for talk.Err() == nil {
			_, err := demo.Request("otpost.app.demo.rpc.verify", nil, 5*time.Second)
			if errors.Is(err, nats.ErrNoResponders) {
				refused.Add(1)
				continue
			}
			if err != nil {
				t.Errorf("request during reload: %v", err)
				return
			}
			requests.Add(1)
		}
	})
	talkers.Go(func() {
		for talk.Err() == nil {
			if _, err := demoJS.Publish(t.Context(), "otpost.app.demo.login", nil); err != nil {
				t.Errorf("login during reload: %v", err)
				return
			}
			logins.Add(1)
		}
	})

	for i, apps := range [][]string{{"demo", "shop"}, {"demo"}, {"demo", "shop", "third"}} {
		before := requests.Load() + logins.Load()
		if err := n.Reload(natsText(t, cfg.Dir, apps...)); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
		eventually(t, "more talk after the reload", func() bool { return t.Failed() || requests.Load()+logins.Load() > before+20 })
	}
	enough()
	talkers.Wait()
	t.Logf("%d requests, %d refused, %d logins", requests.Load(), refused.Load(), logins.Load())
	if reconnects.Load() != 0 {
		t.Errorf("%d connections ended by the reloads", reconnects.Load())
	}

	shop := connect(t, n, "app_shop")
	if m, err := shop.Request("otpost.app.shop.rpc.verify", nil, 5*time.Second); err != nil || string(m.Data) != "otpost.app.shop.rpc.verify" {
		t.Errorf("the new app's request: %v, %v", m, err)
	}
	if _, err := jetStream(t, shop).Publish(t.Context(), "otpost.app.shop.login", nil); err != nil {
		t.Errorf("the new app's login: %v", err)
	}
	events, err := shop.SubscribeSync("otpost.app.shop.event.>")
	if err == nil {
		err = shop.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "OTPOST_EVENTS", jetstream.ConsumerConfig{
		Durable: "shop", FilterSubject: "otpost.app.shop.event.>", AckPolicy: jetstream.AckExplicitPolicy,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := jetStream(t, verification).Publish(t.Context(), "otpost.app.shop.event.challenge.verified", []byte("yes")); err != nil {
		t.Fatal(err)
	}
	if m, err := events.NextMsg(5 * time.Second); err != nil || string(m.Data) != "yes" {
		t.Errorf("the new app's event: %v, %v", m, err)
	}
	consumer, err := jetStream(t, shop).Consumer(t.Context(), "OTPOST_EVENTS", "shop")
	if err != nil {
		t.Fatalf("the new app's consumer: %v", err)
	}
	if m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second)); err != nil || string(m.Data()) != "yes" || m.DoubleAck(t.Context()) != nil {
		t.Errorf("the new app's event from its consumer: %v, %v", m, err)
	}

	for name, text := range map[string]string{"broken": "accounts {", "another store": settings(t, t.TempDir())} {
		if err := n.Reload(text); err == nil {
			t.Errorf("a reload with %s configuration succeeded", name)
		}
	}
	kept, err := os.ReadFile(filepath.Join(cfg.Dir, "nats.conf"))
	if err != nil || !strings.Contains(string(kept), "APP_third") {
		t.Errorf("after failed reloads the file is not the last good one (%v)", err)
	}
	if _, err := shop.Request("otpost.app.shop.rpc.verify", nil, 5*time.Second); err != nil {
		t.Errorf("request after failed reloads: %v", err)
	}
}

func natsConfig(t *testing.T, apps ...string) embedded.NATSConfig {
	t.Helper()
	dir := t.TempDir()
	return embedded.NATSConfig{Dir: dir, ConfigText: natsText(t, dir, apps...), Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func natsText(t *testing.T, dir string, apps ...string) string {
	t.Helper()
	return settings(t, filepath.Join(dir, "store"), apps...)
}

func settings(t *testing.T, store string, apps ...string) string {
	t.Helper()
	s := bus.ServerSettings{StoreDir: store, BcryptCost: 4, Users: map[bus.Role]string{}}
	for _, r := range bus.Roles() {
		s.Users[r] = "secret of " + string(r)
	}
	for _, a := range apps {
		s.Apps = append(s.Apps, bus.App{Name: a, Password: "secret of app_" + a})
	}
	text, err := bus.ServerConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func startNATS(t *testing.T, cfg embedded.NATSConfig) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stopNATS(t *testing.T, n *embedded.NATS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, n *embedded.NATS, user string) *nats.Conn {
	t.Helper()
	opts := []nats.Option{nats.UserInfo(user, "secret of "+user)}
	if !strings.HasPrefix(user, "app_") {
		opts = append(opts, nats.CustomInboxPrefix(bus.Role(user).InboxPrefix()))
	}
	nc, err := nats.Connect(n.URL(), opts...)
	if err != nil {
		t.Fatalf("connect %s: %v", user, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func jetStream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// eventually polls until ok or fails after half a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
	}
}

// noLeaks fails the test if it leaves goroutines behind. Call it first: cleanups run last to first.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}
