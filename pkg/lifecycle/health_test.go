package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestHealth(t *testing.T) {
	health := NewHealth("nats", "postgres")
	h := health.Handler(nil)
	want := func(status int, body string) {
		t.Helper()
		if code, got := get(t, h, "/readyz"); code != status || strings.TrimSpace(got) != body {
			t.Errorf("/readyz: %d %s, want %d %s", code, got, status, body)
		}
		if code, _ := get(t, h, "/healthz"); code != http.StatusOK {
			t.Errorf("/healthz: %d", code)
		}
	}
	want(503, `{"ready":false,"checks":{"nats":"starting","postgres":"starting"}}`)
	health.Set("postgres", nil)
	health.Set("nats", errors.New("connecting"))
	want(503, `{"ready":false,"checks":{"nats":"connecting","postgres":"ok"}}`)
	health.Set("nats", nil)
	want(200, `{"ready":true,"checks":{"nats":"ok","postgres":"ok"}}`)
	health.Set("nats", errors.New("ok"))
	if health.Ready() {
		t.Error("an error whose text is \"ok\" passes")
	}
	health.Set("nats", errors.New(strings.Repeat("é", 150)+"\nsecond line"))
	_, body := get(t, h, "/readyz")
	var r readiness
	if err := json.Unmarshal([]byte(body), &r); err != nil || r.Checks["nats"] != strings.Repeat("é", 100) {
		t.Errorf("long state: %q, %v", r.Checks["nats"], err)
	}

	var zero Health
	if !zero.Ready() {
		t.Error("the zero value is not ready")
	}
	zero.Set("x", errors.New("down"))
	if zero.Ready() {
		t.Error("the zero value does not take checks")
	}
}

func TestMetricsPage(t *testing.T) {
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "otpost_test_total"})
	reg.MustRegister(counter)
	counter.Inc()
	h := new(Health).Handler(reg)
	if code, body := get(t, h, "/metrics"); code != 200 || !strings.Contains(body, "otpost_test_total 1") {
		t.Errorf("/metrics: %d %s", code, body)
	}
	if code, _ := get(t, new(Health).Handler(nil), "/metrics"); code != 404 {
		t.Errorf("/metrics without a registry: %d", code)
	}
}

// TestServer holds a request open across the order to stop: it must be answered.
func TestServer(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := &Server{Name: "test", Listen: "127.0.0.1:0", Logger: quiet(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "answer")
	})}
	c := s.Component()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	type answer struct {
		body string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		resp, err := client.Get("http://" + s.listener.Addr().String())
		if err != nil {
			answered <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answered <- answer{string(body), err}
	}()
	<-entered
	cancel()
	// The listener closes first; once it refuses, the shutdown has begun.
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", s.listener.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the listener stays open")
		}
	}
	close(release)
	if a := <-answered; a.err != nil || a.body != "answer" {
		t.Errorf("request in hand: %+v", a)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run = %v", err)
	}

	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := (&Server{Name: "test", Listen: busy.Addr().String(), Logger: quiet()}).Component()
	if err := taken.Start(t.Context()); err == nil || !strings.Contains(err.Error(), busy.Addr().String()) {
		t.Errorf("Start on a busy address: %v", err)
	}
}
