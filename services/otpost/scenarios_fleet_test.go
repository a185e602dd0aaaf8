package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/route"
)

// This file is where the scenarios of delivery happen: workers built as their commands build them, from files of providers, a gateway that receipts come
// in by, and one inbox that plays every provider.

// yamlMap is a map of the files of providers and callbacks.
type yamlMap = map[string]any

// Prices of one message, in the operator's currency. They are made up; only their order matters: the primary is the cheapest way over the phone.
var prices = map[string]float64{"primary": 0.006, "backup": 0.008, "vonage": 0.009, "voice": 0.014, "relay": 0.0001}

// signature is what the simulated Vonage signs receipts with.
const signature = "0123456789abcdef0123456789abcdef"

// A fleet is otpost with simulated providers of each scenario's own: none feels what befalls another's.
type fleet struct {
	*system
	pace   pace
	edge   string // the gateway's address
	routes *postgres.Routes
	said   *slog.Logger // warnings
	codes  sync.Map     // of *sentCode, by the address that it goes to; phones and mailboxes alike
}

// newFleet prepares a system for scenarios; start brings it to life.
func newFleet(t *testing.T, apps []string, options ...func(*systemOptions)) *fleet {
	t.Helper()
	options = append(options, func(o *systemOptions) { o.nats = append(o.nats, otposttest.WithApps(append(apps, "demo")...)) })
	f := &fleet{system: newSystem(t, options...)}
	f.routes = postgres.NewRoutes(f.db.Role(string(bus.RoleOperator)))
	f.said = slog.New(slog.NewTextHandler(&testOutput{t: t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	in := inbox.New(inbox.Config{VonageSignatureSecret: signature, Max: 1_000_000, MaxBytes: 4 << 30})
	web := httptest.NewServer(in.Handler())
	t.Cleanup(func() {
		in.Close()
		web.Close()
	})
	sid, token := in.TwilioCredentials()
	f.box = &otposttest.Mailbox{Inbox: in, URL: web.URL, AccountSID: sid, AuthToken: token}
	f.collect()
	return f
}

// testOutput keeps warnings until the test has failed: a scenario's faults make thousands.
type testOutput struct {
	t     *testing.T
	mu    sync.Mutex
	lines [][]byte
	once  sync.Once
}

const mostLines = 100

// Write keeps the last lines.
func (o *testOutput) Write(p []byte) (int, error) {
	o.once.Do(func() {
		o.t.Cleanup(func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.t.Failed() {
				for _, l := range o.lines {
					o.t.Logf("%s", l)
				}
			}
		})
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines) == mostLines {
		o.lines = slices.Delete(o.lines, 0, 1)
	}
	o.lines = append(o.lines, slices.Clone(p))
	return len(p), nil
}

// A sentCode is one login's code and what came of it.
type sentCode struct {
	due time.Time // when the login was to be published: what it waits for beyond that counts

	mu       sync.Mutex
	arrivals []inbox.Message
	first    chan struct{} // closed when the first message has arrived
}

// collect notes what arrives in the inbox, for as long as the test goes on.
func (f *fleet) collect() {
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		last := ""
		for {
			changed := f.box.Changed()
			for _, m := range slices.Backward(f.box.List(inbox.Filter{After: inbox.AfterMessage(last)})) {
				last = m.ID
				if c, ok := f.codes.Load(m.To); ok {
					c.(*sentCode).arrived(m)
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	f.t.Cleanup(func() {
		stop()
		done.Wait()
	})
}

func (c *sentCode) arrived(m inbox.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arrivals = append(c.arrivals, m); len(c.arrivals) == 1 {
		close(c.first)
	}
}

// start builds the workers with the providers of the scenarios, sets the routes, and runs all until the test ends. phones starts the worker of phones, which
// reads its providers from the file, where that is to be a process of its own; nil for none.
func (f *fleet) start(scenarios []*scenario, phones func(file string)) {
	f.t.Helper()
	handler := f.gatewayServer()
	var phoneProviders, relays, callbacks []yamlMap
	for _, sc := range scenarios {
		phoneProviders = append(phoneProviders, f.providersOf(sc)...)
		relays = append(relays, f.relay(sc.name))
		callbacks = append(callbacks, f.callbacksOf(sc)...)
	}
	send := deliveryFlags{SendTimeout: 10 * time.Second, Lease: 15 * time.Second, Concurrency: 1024}
	file := f.file("sms.yaml", yamlMap{"providers": phoneProviders})
	if phones == nil {
		phones = func(string) {
			f.begin(bus.RoleSMS, (&smsCmd{deliveryFlags: send, providersFlags: providersFlags{file}}).build)
		}
	}
	phones(file)
	f.begin(bus.RoleEmail, (&emailCmd{
		deliveryFlags: send, providersFlags: providersFlags{f.file("email.yaml", yamlMap{"providers": relays})},
	}).build)
	for _, sc := range scenarios {
		f.setRoutes(sc)
	}
	// Before its first login it reads the routes.
	f.begin(bus.RoleChallenge, (&challengeCmd{SweepEvery: 2 * time.Second, SweepGrace: 30 * time.Second, Keep: 168 * time.Hour, PartitionsAhead: 2}).build)
	f.begin(bus.RoleVerification, (&verificationCmd{}).build)
	edge := &gatewayCmd{gatewayFlags: gatewayFlags{
		PublicURL: f.edge, Callbacks: f.file("callbacks.yaml", yamlMap{"callbacks": callbacks}), WebhookConcurrency: 8, WebhookTimeout: time.Second,
	}}
	f.begin(bus.RoleGateway, func(p parts) (runner, error) {
		g, err := edge.gateway(p)
		if err == nil {
			h := g.Handler()
			handler.Store(&h)
		}
		return g, err
	})
	f.awaitServices(bus.RoleChallenge, bus.RoleVerification)
}

// gatewayServer listens where receipts are to come, before there is a gateway: providers are told the address.
func (f *fleet) gatewayServer() *atomic.Pointer[http.Handler] {
	var handler atomic.Pointer[http.Handler]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	f.t.Cleanup(server.Close)
	f.edge = server.URL
	return &handler
}

// begin builds a worker as its command does, prepares it and runs it until the test ends.
func (f *fleet) begin(role bus.Role, build func(parts) (runner, error)) {
	f.t.Helper()
	r, err := build(parts{
		db: f.db.Role(string(role)), bus: f.nats.Bus(f.t, role), keys: otposttest.Ring(f.t, keyring.Role(role)), metrics: f.metrics, log: f.said,
	})
	if err == nil {
		if p, ok := r.(preparer); ok {
			err = p.Prepare(f.t.Context())
		}
	}
	if err != nil {
		f.t.Fatalf("%s: %v", role, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	f.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			f.t.Errorf("%s: %v", role, err)
		}
	})
}

// file writes a file of settings.
func (f *fleet) file(name string, doc yamlMap) string {
	f.t.Helper()
	text, err := yaml.Marshal(doc)
	if err != nil {
		f.t.Fatal(err)
	}
	path := filepath.Join(f.t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// timeout is how long a provider has to answer. Over it nobody knows what came of a message, so a crowded machine must not make a provider exceed it.
func (f *fleet) timeout() string {
	if f.pace.strict {
		return "2s"
	}
	return "8s"
}

// twilio is an entry of a provider that Twilio is simulated for.
func (f *fleet) twilio(sc, kind, channel string) yamlMap {
	name := sc + "-" + kind
	return yamlMap{
		"name": name, "channel": channel, "kind": "twilio", "timeout": f.timeout(), "concurrency": 256, "cost": yamlMap{"default": prices[kind]},
		"twilio": yamlMap{
			"account_sid": f.box.AccountSID, "auth_token": f.box.AuthToken, "from": []string{"+15005550006"}, "base_url": f.box.URL + "/at/" + name + "/twilio",
			"callback": f.edge + "/callbacks/" + name,
		},
	}
}

// providersOf are a scenario's ways to phones.
func (f *fleet) providersOf(sc *scenario) []yamlMap {
	key, secret := f.box.VonageCredentials()
	third := sc.name + "-vonage"
	return []yamlMap{
		f.twilio(sc.name, "primary", "sms"), f.twilio(sc.name, "backup", "sms"),
		{
			"name": third, "channel": "sms", "kind": "vonage", "timeout": f.timeout(), "concurrency": 256, "cost": yamlMap{"default": prices["vonage"]},
			"vonage": yamlMap{
				"api_key": key, "api_secret": secret, "from": "Demo", "base_url": f.box.URL + "/at/" + third + "/vonage", "callback": f.edge + "/callbacks/" + third,
			},
		},
		f.twilio(sc.name, "voice", "voice"),
	}
}

// callbacksOf are what the gateway knows of them.
func (f *fleet) callbacksOf(sc *scenario) (out []yamlMap) {
	for _, kind := range []string{"primary", "backup", "voice"} {
		out = append(out, yamlMap{"name": sc.name + "-" + kind, "kind": "twilio", "auth_token": f.box.AuthToken})
	}
	return append(out, yamlMap{"name": sc.name + "-vonage", "kind": "vonage", "signature_secret": signature, "signature_method": "sha256"})
}

// relay starts a scenario's mail relay and returns its entry.
func (f *fleet) relay(sc string) yamlMap {
	f.t.Helper()
	name := sc + "-relay"
	l, err := new(net.ListenConfig).Listen(f.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.box.ServeSMTPAs(ctx, name, l) }()
	f.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	})
	host, port := split(f.t, l.Addr().String())
	return yamlMap{
		"name": name, "channel": "email", "kind": "smtp", "timeout": "5s", "cost": yamlMap{"default": prices["relay"]},
		"smtp": yamlMap{"host": host, "port": port, "tls": "none", "from": "Demo <no-reply@shop.example>"},
	}
}

// setRoutes sets a scenario's routes as an operator does, and makes its app.
func (f *fleet) setRoutes(sc *scenario) {
	f.t.Helper()
	app := f.db.App(f.t, sc.name, func(a *postgres.App) {
		a.Policy.Life, a.Policy.Delivery.Fallback = time.Minute, sc.fallback
		if sc.life > 0 {
			a.Policy.Life = sc.life
		}
	})
	sc.app = app.ID
	named := func(kinds ...string) (names []string) {
		for _, k := range kinds {
			names = append(names, sc.name+"-"+k)
		}
		return names
	}
	policy := sc.policy
	if policy == "" {
		policy = route.Fixed
	}
	routes := []route.Route{{Channel: otp.SMS, Policy: policy, Providers: named("primary", "backup"), ReceiptTimeout: sc.patience}}
	if sc.third {
		routes[0].Providers = named("primary", "backup", "vonage")
	}
	if len(sc.fallback) > 0 {
		routes = append(routes, route.Route{Channel: otp.Voice, Policy: route.Fixed, Providers: named("voice"), ReceiptTimeout: sc.patience},
			route.Route{Channel: otp.Email, Policy: route.Fixed, Providers: named("relay")})
	}
	for _, r := range routes {
		if err := f.routes.Set(f.t.Context(), time.Now(), postgres.Route{AppID: app.ID, Route: r}); err != nil {
			f.t.Fatal(err)
		}
	}
	var err error
	sc.conn = f.nats.App(f.t, sc.name)
	if sc.js, err = jetstream.New(sc.conn, jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
		f.t.Errorf("%s: publish a login: %v", sc.name, err)
	})); err != nil {
		f.t.Fatal(err)
	}
}

// simulated is what the providers of a scenario have seen, by kind.
func (f *fleet) simulated(sc *scenario) map[string]inbox.Tally {
	out := map[string]inbox.Tally{}
	all := f.box.Tallies()
	for kind := range prices {
		if t, ok := all[fmt.Sprintf("%s-%s", sc.name, kind)]; ok {
			out[kind] = t
		}
	}
	return out
}
