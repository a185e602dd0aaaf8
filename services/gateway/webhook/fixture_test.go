package webhook

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// A post is what a target was sent.
type post struct {
	method string
	header http.Header
	body   []byte
}

func (p post) id() string { return p.header.Get("webhook-id") }

// A receiver is the app's server that a webhook leads to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	posts  []post
	now    int // posts under way
	most   int
	answer http.HandlerFunc // 204 where it is nil
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP keeps what came and answers.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // cut off: it was not sent
	}
	r.mu.Lock()
	r.posts = append(r.posts, post{req.Method, req.Header.Clone(), body})
	r.now++
	r.most = max(r.most, r.now)
	answer := r.answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
	}()
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, req)
}

func (r *receiver) answers(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = h
}

func (r *receiver) got() []post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

// wait returns the posts once there are n.
func (r *receiver) wait(t *testing.T, n int) []post {
	t.Helper()
	otposttest.Eventually(t, fmt.Sprintf("%d posts", n), func() bool { return len(r.got()) >= n })
	return r.got()
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// A bench is a gateway's webhooks with all that is around them.
type bench struct {
	*testing.T
	db       *otposttest.DB
	nats     *otposttest.Server
	clock    *otposttest.Clock
	workers  map[bus.Role]*bus.Bus // which publish events
	gateway  *bus.Bus
	operator *postgres.Webhooks
	store    *postgres.WebhookEvents
	metrics  *telemetry.Metrics
	apps     map[string]postgres.App
	events   int
}

func newBench(t *testing.T, apps ...string) *bench {
	t.Helper()
	t.Parallel()
	b := &bench{T: t, db: otposttest.Postgres(t), clock: otposttest.NewClock(), apps: map[string]postgres.App{}}
	b.nats = otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithStreams(func(s *bus.StreamSettings) { s.AckWait = time.Second }))
	b.gateway, b.workers = b.nats.Bus(t, bus.RoleGateway), map[bus.Role]*bus.Bus{}
	b.operator, b.store = postgres.NewWebhooks(b.db.Role("operator")), postgres.NewWebhookEvents(b.db.Role("gateway"))
	b.metrics = telemetry.NewMetrics(telemetry.NewRegistry())
	for _, name := range append(apps, "demo") {
		b.apps[name] = b.db.App(t, name)
	}
	return b
}

func (b *bench) config() Config {
	return Config{
		DB: b.db.Role("gateway"), Bus: b.gateway, Keys: otposttest.Ring(b.T, keyring.Gateway), Metrics: b.metrics, Logger: otposttest.Logger(b.T).Logger,
		Now: b.clock.Now, Poll: 20 * time.Millisecond, Look: 20 * time.Millisecond,
	}
}

// run makes a gateway work until stop, which waits, or the test's end.
func (b *bench) run(change ...func(*Config)) (stop func()) {
	b.Helper()
	c := b.config()
	for _, f := range change {
		f(&c)
	}
	w, err := New(c)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(stop)
	return stop
}

// hook makes a webhook of an app, as the operator does.
func (b *bench) hook(app, url string, change ...func(*postgres.Webhook)) (uuid.UUID, Secret) {
	b.Helper()
	h := postgres.Webhook{ID: uuid.Must(uuid.NewV7()), AppID: b.apps[app].ID, URL: url, Private: true}
	secret := NewSecret()
	var err error
	if h.Sealed, err = Seal(otposttest.Ring(b.T, keyring.Operator), h.ID, secret); err != nil {
		b.Fatal(err)
	}
	for _, f := range change {
		f(&h)
	}
	if err := b.operator.Create(b.Context(), b.clock.Now(), h); err != nil {
		b.Fatal(err)
	}
	return h.ID, secret
}

// publish publishes events of an app, as workers do, and returns their messages.
func (b *bench) publish(app string, n int, name event.Name) (out []bus.Out) {
	b.Helper()
	for range n {
		b.events++
		out = append(out, outbox.Out(event.Event{
			App: app, Name: name, ID: fmt.Sprintf("event/%d", b.events), Subject: "a challenge", Time: b.clock.Now(), Data: event.Ended{Reason: "expired"},
		}))
	}
	role := bus.RoleEnrolment
	switch name {
	case event.ChallengeIssued, event.ChallengeEnded:
		role = bus.RoleChallenge
	case event.ChallengeVerified:
		role = bus.RoleVerification
	}
	if b.workers[role] == nil {
		b.workers[role] = b.nats.Bus(b.T, role)
	}
	if err := b.workers[role].Publish(b.Context(), out...); err != nil {
		b.Fatal(err)
	}
	return out
}

// present puts the clock to a moment that no event of the stream, which has a clock of its own, shares.
func (b *bench) present() {
	b.Helper()
	b.clock.Set(time.Now().Add(2 * time.Millisecond))
	otposttest.Eventually(b.T, "that moment to have passed", func() bool { return time.Since(b.clock.Now()) > time.Millisecond })
}

func (b *bench) rows() int {
	return otposttest.Get[int](b.T, b.db, "SELECT count(*) FROM webhook_events")
}

func (b *bench) empty() {
	b.Helper()
	otposttest.Eventually(b.T, "all events to be taken", func() bool { return b.rows() == 0 })
}

// settled waits until the gateway has worked off what is in the stream.
func (b *bench) settled() {
	b.Helper()
	otposttest.Eventually(b.T, "the stream to be worked off", func() bool {
		c, err := b.gateway.JetStream().Consumer(b.Context(), bus.StreamEvents, consumer)
		if err != nil {
			return false
		}
		i := c.CachedInfo()
		return i.NumPending == 0 && i.NumAckPending == 0
	})
}

// verify reads a post as an app does that uses the library of Standard Webhooks. It knows the real time only.
func verify(p post, secret string) error {
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return w.VerifyIgnoringTimestamp(p.body, p.header)
}

func (b *bench) counted(result string) float64 {
	return testutil.ToFloat64(b.metrics.WebhookEvents.WithLabelValues(result))
}
