package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/apps"
	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
	"github.com/otpost/otpost/services/gateway/api"
	"github.com/otpost/otpost/services/gateway/ask"
)

// A bench is the API with real NATS and Postgres around it, and a worker that answers "verify" as the test says.
type bench struct {
	*testing.T
	db     *otposttest.DB
	clock  *otposttest.Clock
	app    postgres.App
	key    string
	url    string
	api    *api.API
	visits *visits
	worker *worker

	mu      sync.Mutex
	signals []signal
	deaf    bool // signals cannot be published
}

type signal struct {
	app  string
	name event.SignalName
	id   string
	body []byte
}

// A worker answers requests of the verb verify.
type worker struct {
	mu     sync.Mutex
	calls  []string // app and body of each
	answer func(r *bus.Request)
}

func (w *worker) set(answer func(r *bus.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

func (w *worker) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.calls...)
}

const verdict = `{"result":"wrong","attempts_left":4,"retry_after":0}`

// visits plays the hosted pages.
type visits struct {
	mu    sync.Mutex
	asked []event.PageSessionRequest
	reply event.PageResultReply
	err   error
}

func (v *visits) Create(_ context.Context, _ postgres.App, r event.PageSessionRequest) (string, time.Time, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, r)
	return "https://auth.example/p/token", time.Date(2026, 11, 21, 17, 2, 0, 0, time.UTC), v.err
}

func (v *visits) Redeem(_ context.Context, _ postgres.App, token string) (event.PageResultReply, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if token != "good" {
		return event.PageResultReply{}, postgres.ErrNoResult
	}
	return v.reply, v.err
}

func newBench(t *testing.T, change ...func(*api.Config)) *bench {
	t.Helper()
	b := &bench{T: t, db: otposttest.Postgres(t), clock: otposttest.NewClock(), visits: &visits{}, worker: &worker{}}
	b.app = b.db.App(t, "demo")
	b.key = b.newKey(b.app, time.Time{})
	nats := otposttest.NATS(t)
	b.worker.set(func(r *bus.Request) { r.Reply([]byte(verdict)) })
	b.serve(nats.Bus(t, bus.RoleVerification))
	gateway := nats.Bus(t, bus.RoleGateway)
	cfg := api.Config{
		Asker: &ask.Asker{Bus: gateway}, Keys: postgres.NewAppKeys(b.db.Role("gateway")), Apps: apps.New(postgres.NewApps(b.db.Role("gateway")), otposttest.Logger(t).Logger),
		Requests: postgres.NewHTTPRequests(b.db.Role("gateway")), Visits: b.visits, Ring: otposttest.Ring(t, keyring.Gateway),
		Metrics: telemetry.NewMetrics(telemetry.NewRegistry()), Logger: otposttest.Logger(t).Logger, Now: b.clock.Now, Every: 10 * time.Millisecond,
		Signals: func(ctx context.Context, app string, name event.SignalName, id string, body []byte) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.deaf {
				return context.DeadlineExceeded
			}
			b.signals = append(b.signals, signal{app, name, id, body})
			return gateway.Publish(ctx, bus.Out{Subject: event.SignalSubject(app, name), ID: id, Data: body})
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if b.api, err = api.New(cfg); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.api)
	t.Cleanup(server.Close)
	b.url = server.URL
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.api.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	otposttest.Eventually(t, "the worker answers", func() bool {
		_, err := cfg.Asker.Raw(t.Context(), "demo", event.VerbVerify, []byte(`"is it there?"`))
		return err == nil
	})
	b.worker.mu.Lock()
	b.worker.calls = nil
	b.worker.mu.Unlock()
	return b
}

func (b *bench) serve(conn *bus.Bus) {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- conn.Serve(ctx, bus.Service{Name: "verification", Version: "1.0.0", Verbs: map[string]func(*bus.Request){
			event.VerbVerify: func(r *bus.Request) {
				b.worker.mu.Lock()
				answer := b.worker.answer
				b.worker.calls = append(b.worker.calls, r.App+" "+string(r.Data))
				b.worker.mu.Unlock()
				go answer(r)
			},
		}})
	}()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

// newKey makes a key of an app.
func (b *bench) newKey(app postgres.App, expires time.Time) string {
	b.Helper()
	key := otp.NewAPIKey()
	digest, _ := otp.APIKeyDigest(key)
	if _, err := postgres.NewAppKeys(b.db.Role("operator")).Create(b.Context(), b.clock.Now(), app.ID, "", digest, expires); err != nil {
		b.Fatal(err)
	}
	return key
}

// A result is an answer over HTTP.
type result struct {
	status int
	header http.Header
	body   []byte
}

func (r result) problem(t *testing.T) (p event.HTTPProblem) {
	t.Helper()
	if r.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d is no problem: %s", r.status, r.body)
	}
	if err := otposttest.Contract("http.problem", r.body); err != nil {
		t.Errorf("%s: %v", r.body, err)
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != r.status || p.Type != api.ProblemType(otp.Reason(p.Code)) || p.RequestID != r.header.Get("X-Request-Id") {
		t.Errorf("%d with %+v", r.status, p)
	}
	return p
}

// send sends any request. Headers are pairs; one whose value is "-" is left out.
func (b *bench) send(method, path, body string, headers ...string) result {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.key)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i+1] == "-" {
			r.Header.Del(headers[i])
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return result{resp.StatusCode, resp.Header, answer}
}

// post sends a request to a path of the table and holds the answer to openapi.yaml.
func (b *bench) post(path, body string, headers ...string) result {
	b.Helper()
	got := b.send(http.MethodPost, path, body, headers...)
	if err := otposttest.ByOpenAPI(http.MethodPost, path, []byte(body), got.status, got.header, got.body); err != nil {
		b.Errorf("%s: %v\n%s", path, err, got.body)
	}
	return got
}

// fails sends a request that must be refused for a reason.
func (b *bench) fails(reason otp.Reason, path, body string, headers ...string) event.HTTPProblem {
	b.Helper()
	got := b.send(http.MethodPost, path, body, headers...)
	p := got.problem(b.T)
	if p.Code != string(reason) || got.status != api.Kinds()[reason].Status {
		b.Errorf("POST %s %v: %d %s, not %s", path, headers, got.status, p.Code, reason)
	}
	return p
}

const (
	verifyPath = "/v1/verify"
	answerBody = `{"challenge":"0193503c-7a80-7c1e-9d2a-3f1be2a45c07","session":"s-9f3c","code":"123456"}`
)
