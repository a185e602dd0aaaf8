package requests_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/requests"
	"github.com/otpost/otpost/pkg/telemetry"
)

// directory knows apps without a database.
type directory func(name string) (postgres.App, error)

func (d directory) Get(_ context.Context, name string) (postgres.App, error) { return d(name) }

// A stand is a desk behind a service of the enrolment worker, and an app that asks it.
type stand struct {
	t       *testing.T
	app     *nats.Conn
	desk    *requests.Desk
	metrics *telemetry.Metrics
	log     *otposttest.Log
	stop    func() // the service
}

func newStand(t *testing.T, change func(*requests.Config), answers func(*requests.Desk) map[string]requests.Answer) *stand {
	t.Helper()
	n := otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithoutStreams())
	s := &stand{t: t, app: n.App(t, "demo"), metrics: telemetry.NewMetrics(telemetry.NewRegistry()), log: otposttest.Logger(t)}
	cfg := requests.Config{
		Apps:    directory(func(name string) (postgres.App, error) { return postgres.App{Name: name}, nil }),
		Metrics: s.metrics, Logger: s.log.Logger,
	}
	change(&cfg)
	s.desk = requests.New(cfg)
	b := n.Bus(t, bus.RoleEnrolment)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	verbs := answers(s.desk)
	go func() {
		done <- b.Serve(ctx, bus.Service{Name: "enrolment", Version: "1.0.0", Verbs: s.desk.Handlers("", verbs)})
	}()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(s.stop)
	otposttest.Eventually(t, "the service to listen", func() bool { return b.Conn().NumSubscriptions() >= 9+len(verbs) })
	if err := b.Conn().FlushTimeout(otposttest.Patience); err != nil {
		t.Fatal(err)
	}
	return s
}

// asks sends a request and returns the reason of the refusal, "ok" for a reply, with the body.
func (s *stand) asks(verb, body string) (reason, reply string) {
	s.t.Helper()
	m, err := s.app.Request(event.RPCSubject("demo", verb), []byte(body), otposttest.Patience)
	if err != nil {
		s.t.Fatalf("%s: %v", verb, err)
	}
	if reason = m.Header.Get(micro.ErrorCodeHeader); reason == "" {
		reason = "ok"
	}
	return reason, string(m.Data)
}

func (s *stand) counted(verb, result string, want float64) {
	s.t.Helper()
	if got := testutil.ToFloat64(s.metrics.Requests.WithLabelValues(verb, result)); got != want {
		s.t.Errorf("%v requests %s are counted as %s, want %v", got, verb, result, want)
	}
}

// What an app is told of each way in which a request can end, and what the log keeps for operators.
func TestWhatAnAppIsTold(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-of-the-database"
	var failing atomic.Pointer[error]
	apps := directory(func(name string) (postgres.App, error) {
		if err := failing.Load(); err != nil {
			return postgres.App{}, *err
		}
		return postgres.App{Name: name}, nil
	})
	s := newStand(t, func(c *requests.Config) { c.Apps, c.Within = apps, 50*time.Millisecond }, func(d *requests.Desk) map[string]requests.Answer {
		return map[string]requests.Answer{
			event.VerbDeviceList: requests.Verb(d, func(ctx context.Context, app postgres.App, r event.DeviceListRequest) (any, error) {
				switch r.User {
				case "problem":
					return nil, fmt.Errorf("look: %w", &otp.Problem{Reason: otp.RateLimited, Message: "too soon", RetryAfter: time.Minute})
				case "challenge":
					return nil, fmt.Errorf("look: %w", postgres.ErrNoChallenge)
				case "fault":
					return nil, errors.New(secret)
				case "panic":
					panic(secret)
				case "slow":
					<-ctx.Done()
					return nil, fmt.Errorf("read: %w", ctx.Err())
				}
				return event.DeviceListReply{Devices: []event.DeviceInfo{{Device: app.Name, Label: r.User}}}, nil
			}),
			event.VerbFactorList: requests.Parsed(d, func(app string, body []byte) (string, *otp.Problem) {
				return app + " " + string(body), nil
			}, func(_ context.Context, app postgres.App, r string) (any, error) { return app.Name + ": " + r, nil }),
		}
	})
	for _, c := range []struct{ user, reason string }{
		{"alice", "ok"},
		{"problem", "rate_limited"},
		{"challenge", "unknown_challenge"},
		{"fault", "internal"},
		{"panic", "internal"},
		{"slow", "unavailable"},
		{"bob", "ok"}, // what went before has harmed nothing
	} {
		reason, reply := s.asks(event.VerbDeviceList, `{"user":"`+c.user+`"}`)
		if reason != c.reason || strings.Contains(reply, secret) {
			t.Errorf("%s is answered %s %s, want %s", c.user, reason, reply, c.reason)
		}
		if c.reason == "ok" && !strings.Contains(reply, `"label":"`+c.user+`"`) {
			t.Errorf("%s is answered %s", c.user, reply)
		}
	}
	if _, reply := s.asks(event.VerbDeviceList, `{"user":"problem"}`); !strings.Contains(reply, `"retry_after":60`) {
		t.Errorf("the problem is told as %s", reply)
	}
	if reason, reply := s.asks(event.VerbDeviceList, `{"user":""}`); reason != "invalid" || !strings.Contains(reply, "user must not be empty") {
		t.Errorf("a request of no good form: %s %s", reason, reply)
	}
	if _, reply := s.asks(event.VerbFactorList, `x`); reply != `"demo: demo x"` {
		t.Errorf("with a parser of its own: %s", reply)
	}
	if n := strings.Count(s.log.Logs(), secret); n != 2 {
		t.Errorf("the log tells of %d of the 2 faults", n)
	}
	failing.Store(new(postgres.ErrNoApp))
	if reason, _ := s.asks(event.VerbDeviceList, `{"user":"alice"}`); reason != "unknown_app" {
		t.Errorf("for an unknown app: %s", reason)
	}
	failing.Store(new(errors.New("connection refused by " + secret)))
	if reason, reply := s.asks(event.VerbDeviceList, `{"user":"alice"}`); reason != "unavailable" || strings.Contains(reply, secret) {
		t.Errorf("without the database: %s %s", reason, reply)
	}
	for result, want := range map[string]float64{
		"ok": 2, "rate_limited": 2, "unknown_challenge": 1, "internal": 2, "unavailable": 2, "invalid": 1, "unknown_app": 1,
	} {
		s.counted(event.VerbDeviceList, result, want)
	}
}

// So many run at once and no more; who comes then is told so at once, and a panic gives its place back.
func TestBound(t *testing.T) {
	t.Parallel()
	const bound = 3
	began, let := make(chan struct{}, 2*bound), make(chan struct{})
	s := newStand(t, func(c *requests.Config) { c.AtOnce = bound }, func(d *requests.Desk) map[string]requests.Answer {
		return map[string]requests.Answer{event.VerbDeviceList: func(_ context.Context, r *bus.Request) (any, error) {
			if string(r.Data) == "panic" {
				panic("cannot digest")
			}
			began <- struct{}{}
			<-let
			return "done", nil
		}}
	})
	for range 2 * bound {
		if reason, _ := s.asks(event.VerbDeviceList, "panic"); reason != "internal" {
			t.Fatalf("a panic is answered %s", reason)
		}
	}
	subject, inbox := event.RPCSubject("demo", event.VerbDeviceList), nats.NewInbox()
	replies, err := s.app.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for range bound {
		if err := s.app.PublishRequest(subject, inbox, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		<-began
	}
	if reason, reply := s.asks(event.VerbDeviceList, "{}"); reason != "unavailable" || !strings.Contains(reply, requests.TooMany) {
		t.Errorf("one more is answered %s %s", reason, reply)
	}
	s.counted(event.VerbDeviceList, "unavailable", 1)

	s.stop() // what was taken is carried out
	drained := make(chan struct{})
	go func() { s.desk.Drain(); close(drained) }()
	for n := range bound {
		select {
		case <-drained:
			t.Fatalf("it is drained with %d requests under way", bound-n)
		default:
		}
		let <- struct{}{}
		if m, err := replies.NextMsg(otposttest.Patience); err != nil || string(m.Data) != `"done"` {
			t.Fatalf("a request that was under way: %v, %v", m, err)
		}
	}
	<-drained
}
