// Package api is the JSON API: what apps ask over NATS they can ask over HTTP, with the same bodies and the same replies.
//
// What it promises: a request is carried out for the app whose key it carries and for no other; bodies are forwarded as they came, so that whatever is checked
// is checked by the workers, once; a request with an Idempotency-Key is carried out once and answered alike for a day; whatever is refused is refused with a
// problem (RFC 9457) whose code is the reason that NATS tells. A key that is revoked serves for three seconds at most. Rates are counted in memory: each
// process has its own count. A process that dies on the way loses the answer and not the request: the same request may be sent again.
package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/apps"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
	"github.com/otpost/otpost/schemas"
	"github.com/otpost/otpost/services/gateway/ask"
	"github.com/otpost/otpost/services/gateway/web"
)

// requestWithin bounds one request, from its first byte to its answer.
const requestWithin = 10 * time.Second

// Visits makes links to the hosted pages and redeems what comes of them.
type Visits interface {
	// Create makes a link for a request that has been checked. It returns an *otp.Problem where the app is to blame.
	Create(ctx context.Context, app postgres.App, r event.PageSessionRequest) (url string, expires time.Time, err error)
	// Redeem returns postgres.ErrNoResult for a token that is unknown, redeemed, expired or another app's.
	Redeem(ctx context.Context, app postgres.App, token string) (event.PageResultReply, error)
}

// Config is what the API is made of.
type Config struct {
	Asker    *ask.Asker
	Keys     *postgres.AppKeys
	Apps     *apps.Cache
	Requests *postgres.HTTPRequests
	Visits   Visits
	Ring     *keyring.Ring // of role gateway
	// Signals publishes the event of a signal. The id tells repeats within the stream's window.
	Signals func(ctx context.Context, app string, name event.SignalName, id string, event []byte) error
	Proxies []netip.Prefix // that may say in X-Forwarded-For where a request comes from
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	Now     func() time.Time

	Rate  float64       // requests of an app in a second; 200 where it is 0
	Burst int           // requests of an app at once; 400 where it is 0
	Every time.Duration // between clean-ups; 10 s where it is 0
}

// API serves. Run must be running for as long as it is in use.
type API struct {
	Config
	routes   map[string]Route
	keys     *knownKeys
	apps     *buckets[int]
	failures byAddress
}

// New returns an API, or what is wrong with its settings.
func New(cfg Config) (*API, error) {
	if cfg.Asker == nil || cfg.Keys == nil || cfg.Apps == nil || cfg.Requests == nil || cfg.Visits == nil || cfg.Ring == nil || cfg.Signals == nil {
		return nil, errors.New("api: a part is missing")
	}
	if cfg.Rate == 0 {
		cfg.Rate = 200
	}
	if cfg.Burst == 0 {
		cfg.Burst = 400
	}
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Rate < 0 || cfg.Burst < 0 || cfg.Every < 0 {
		return nil, errors.New("api: rates must be above 0")
	}
	a := &API{
		Config: cfg, routes: make(map[string]Route, len(table)), keys: &knownKeys{good: map[[32]byte]knownKey{}, used: map[uuid.UUID]time.Time{}},
		apps: newBuckets[int](cfg.Rate, cfg.Burst, 0), failures: newByAddress(),
	}
	for _, r := range table {
		a.routes[r.Path] = r
	}
	return a, nil
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := web.RequestID(r)
	h := w.Header()
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // it is what net/http panics with
				panic(p)
			}
			a.Logger.Error("a request panicked", "request", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			a.write(w, id, answer{Problem: describe(otp.AsProblem(nil))})
		}
	}()
	if file, ok := document(r.URL.Path); ok {
		a.serveDocument(w, r, id, file)
		return
	}
	h.Set("Cache-Control", "no-store")
	done, err := a.serve(w, r, id)
	if err != nil {
		done = a.failed(id, r.URL.Path, err)
	}
	a.write(w, id, done)
}

// serve carries out one request.
func (a *API) serve(w http.ResponseWriter, r *http.Request, id string) (answer, error) {
	route, ok := a.routes[r.URL.Path]
	switch {
	case !ok:
		return answer{}, &otp.Problem{Reason: event.NotFound, Message: "there is no such path; GET /openapi.yaml tells what there is"}
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return answer{}, &otp.Problem{Reason: event.MethodNotAllowed, Message: "the path takes POST only"}
	}
	// Whatever was begun is brought to its end, also where the app has gone: it will ask again for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestWithin)
	defer cancel()
	app, err := a.authenticate(ctx, r)
	if err != nil {
		return answer{}, err
	}
	if wait, ok := a.apps.take(a.Now(), app.ID); !ok {
		return answer{}, &otp.Problem{Reason: otp.RateLimited, Message: "the app sends more requests than it may", RetryAfter: wait}
	}
	key, p := idempotencyKey(r.Header)
	if p != nil {
		return answer{}, p
	}
	body, err := readBody(w, r)
	if err != nil {
		return answer{}, err
	}
	c := call{id: id, app: app, body: body, key: key}
	if key != "" {
		return a.once(ctx, route, c)
	}
	return a.carryOut(ctx, route, c), nil
}

// carryOut carries out a request and tells how it went.
func (a *API) carryOut(ctx context.Context, route Route, c call) answer {
	body, err := route.act(ctx, a, c)
	if err != nil {
		return a.failed(c.id, route.Path, err)
	}
	return answer{Status: route.Status, Body: body}
}

// failed is the answer to a request that could not be carried out. What is nobody's business but ours is logged.
func (a *API) failed(id, path string, err error) answer {
	p := describe(asProblem(err))
	switch {
	case p.Code == string(otp.Internal):
		a.Logger.Error("a request over HTTP failed", "request", id, "path", path, "error", err)
	case p.Status >= http.StatusInternalServerError:
		a.Logger.Warn("a request over HTTP could not be answered", "request", id, "path", path, "error", err)
	}
	return answer{Status: p.Status, Problem: p}
}

// readBody reads a JSON body, bounded in size and time.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	encoding := r.Header.Get("Content-Encoding")
	if err != nil || kind != "application/json" || charset != "" && charset != "utf-8" || encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, &otp.Problem{Reason: event.UnsupportedMediaType, Message: "the Content-Type must be application/json, in UTF-8 and not packed"}
	}
	conn := http.NewResponseController(w)
	if conn.SetReadDeadline(time.Now().Add(requestWithin)) == nil {
		defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, event.MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, &otp.Problem{Reason: event.TooLarge, Message: fmt.Sprintf("the body must have at most %d bytes", event.MaxBody)}
	}
	if err != nil {
		return nil, otp.InvalidField("body", "could not be read to its end")
	}
	return body, nil
}

// write writes an answer.
func (a *API) write(w http.ResponseWriter, id string, done answer) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if done.replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	if p := done.Problem; p != nil {
		p.RequestID = id
		done.Status, done.Body = p.Status, event.Encode(p)
		h.Set("Content-Type", "application/problem+json")
		if p.RetryAfter > 0 {
			h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
		}
		if p.Status == http.StatusUnauthorized {
			h.Set("WWW-Authenticate", `Bearer realm="otpost"`)
		}
		a.Metrics.APIRequests.WithLabelValues(p.Code).Inc()
	} else {
		a.Metrics.APIRequests.WithLabelValues("ok").Inc()
	}
	h.Set("Content-Length", strconv.Itoa(len(done.Body)))
	w.WriteHeader(done.Status)
	_, _ = w.Write(done.Body)
}

// document returns the file of the contract that a path names: openapi.yaml, and the schemas that it refers to.
func document(path string) (file string, ok bool) {
	if path == "/openapi.yaml" {
		return path, true
	}
	name, found := strings.CutPrefix(path, "/events/v1/")
	return "events/v1/" + name, found && strings.HasSuffix(name, ".json") && fs.ValidPath(name) && !strings.Contains(name, "/")
}

func (a *API) serveDocument(w http.ResponseWriter, r *http.Request, id, file string) {
	body, kind := schemas.OpenAPI, "application/yaml" // RFC 9512
	if file != "/openapi.yaml" {
		var err error
		if body, err = schemas.Events.ReadFile(file); err != nil {
			a.write(w, id, answer{Problem: describe(&otp.Problem{Reason: event.NotFound, Message: "there is no such schema"})})
			return
		}
		kind = "application/schema+json"
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		a.write(w, id, answer{Problem: describe(&otp.Problem{Reason: event.MethodNotAllowed, Message: "the path takes GET only"})})
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=300")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}
