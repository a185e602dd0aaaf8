package lifecycle

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health is what a process tells of itself: whether it is alive, and whether it is ready for work and, if not, why. The zero value has
// no checks and is ready. It is safe for concurrent use.
type Health struct {
	mu     sync.Mutex
	checks map[string]check
}

type check struct {
	passes bool
	state  string // "ok" or what is amiss
}

// NewHealth returns a Health that is not ready until each of the named checks has been set to pass.
func NewHealth(checks ...string) *Health {
	h := &Health{checks: map[string]check{}}
	for _, name := range checks {
		h.checks[name] = check{state: "starting"}
	}
	return h
}

// Set states the outcome of a check: nil is a pass. The text of err is shown on /readyz, so it must hold nothing secret; what follows its
// first line, or 200 bytes, is cut off.
func (h *Health) Set(name string, err error) {
	state := "ok"
	if err != nil {
		state, _, _ = strings.Cut(err.Error(), "\n")
		state = strings.ToValidUTF8(state[:min(len(state), 200)], "")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]check{}
	}
	h.checks[name] = check{passes: err == nil, state: state}
}

// Ready reports whether every check passes.
func (h *Health) Ready() bool { return h.report().Ready }

// readiness is the body of /readyz.
type readiness struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"`
}

func (h *Health) report() readiness {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := readiness{Ready: true, Checks: make(map[string]string, len(h.checks))}
	for name, c := range h.checks {
		r.Checks[name] = c.state
		r.Ready = r.Ready && c.passes
	}
	return r
}

// Handler serves, by GET:
//
//   - /healthz: 200 for as long as the process answers at all. It asks nothing of NATS or Postgres, whose absence a restart would not mend.
//   - /readyz: 200 if every check passes, else 503; the body names each check and its state.
//   - /metrics: what reg gathers, in Prometheus's text format. Without reg there is no such page.
func (h *Health) Handler(reg prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := h.report()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !r.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(r) // fails only if the caller has gone
	})
	if reg != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	}
	return mux
}
