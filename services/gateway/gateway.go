// Package gateway is the HTTP edge: the JSON API, the hosted pages, the support desk, webhooks, and what providers tell of deliveries.
//
// What it promises: it acts for an app only with the app's key, for a user only within a visit that the app has opened for them, for a support agent only
// as the agent. It holds no key of codes and reaches no table of the workers': all that it does it asks of them over NATS. What an app or a browser sends is
// bounded in size, time and rate before anything is done for it. Any number of these processes may run; none remembers anything that another would need.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otpost/otpost/pkg/apps"
	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
	"github.com/otpost/otpost/services/gateway/api"
	"github.com/otpost/otpost/services/gateway/ask"
	"github.com/otpost/otpost/services/gateway/callback"
	"github.com/otpost/otpost/services/gateway/desk"
	"github.com/otpost/otpost/services/gateway/pages"
	"github.com/otpost/otpost/services/gateway/web"
	"github.com/otpost/otpost/services/gateway/webhook"
)

// Config is what the gateway is made of.
type Config struct {
	DB      *postgres.DB  // connected as role gateway
	Bus     *bus.Bus      // connected as role gateway
	Keys    *keyring.Ring // of role gateway
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	Now     func() time.Time

	Public  *url.URL       // where people reach the pages: scheme, host and port
	Proxies []netip.Prefix // that may say in X-Forwarded-For where a request comes from
	Desk    desk.Connect   // how a support agent is connected; nil for no desk
	Webhook webhook.Config // what it does not name is taken from above
	SweepBy time.Duration  // how often what has expired is removed

	Callbacks []callback.Source // the providers that tell receipts
}

// check returns an error that names the first setting that is wrong.
func (c Config) check() error {
	switch {
	case c.Public == nil || c.Public.Host == "" || (c.Public.Path != "" && c.Public.Path != "/") || c.Public.RawQuery != "" || c.Public.User != nil:
		return errors.New("public-url: must be an origin such as https://auth.example")
	case c.Public.Scheme == "http" && !local(c.Public.Hostname()):
		return errors.New("public-url: must be of https; http is for localhost only")
	case c.Public.Scheme != "http" && c.Public.Scheme != "https":
		return errors.New("public-url: must be of https")
	case c.SweepBy < time.Second:
		return errors.New("sweep-every: must be at least 1s")
	}
	return nil
}

func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

// A Gateway serves. Run must be running for as long as its Handler is in use.
type Gateway struct {
	Config
	apps     *apps.Cache
	pages    *pages.Pages
	api      *api.API
	desk     *desk.Desk
	webhooks *webhook.Worker
	handler  http.Handler
}

// New returns a Gateway, or the first setting that is wrong.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	public := *cfg.Public
	public.Path = ""
	cfg.Public = &public
	g := &Gateway{Config: cfg, apps: apps.New(postgres.NewApps(cfg.DB), cfg.Logger)}
	asker := &ask.Asker{Bus: cfg.Bus}
	var err error
	g.pages, err = pages.New(pages.Config{
		Asker: asker, Apps: g.apps, Looks: postgres.NewPages(cfg.DB), Store: postgres.NewVisits(cfg.DB), Keys: cfg.Keys, Public: cfg.Public,
		Proxies: cfg.Proxies, Logger: cfg.Logger, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	g.api, err = api.New(api.Config{
		Asker: asker, Keys: postgres.NewAppKeys(cfg.DB), Apps: g.apps, Requests: postgres.NewHTTPRequests(cfg.DB), Visits: g.pages, Ring: cfg.Keys,
		Signals: g.signal, Proxies: cfg.Proxies, Metrics: cfg.Metrics, Logger: cfg.Logger, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	hooks := cfg.Webhook
	hooks.DB, hooks.Bus, hooks.Keys, hooks.Metrics, hooks.Logger, hooks.Now = cfg.DB, cfg.Bus, cfg.Keys, cfg.Metrics, cfg.Logger, cfg.Now
	if g.webhooks, err = webhook.New(hooks); err != nil {
		return nil, err
	}
	callbacks, err := callback.New(callback.Config{
		Sources: cfg.Callbacks, PublicURL: cfg.Public, Publish: g.report, Metrics: cfg.Metrics, Logger: cfg.Logger, Now: cfg.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("callbacks: %w", err)
	}
	guard := web.Guard{Public: cfg.Public}
	mux := http.NewServeMux()
	mux.Handle("/v1/", g.api)
	mux.Handle("GET /openapi.yaml", g.api)
	mux.Handle("GET /events/v1/", g.api) // the schemas that it refers to
	mux.Handle(callback.Prefix, callbacks)
	mux.Handle("GET /static/", guard.Wrap(web.Static()))
	mux.Handle("/", guard.Wrap(g.pages.Handler()))
	if cfg.Desk != nil {
		g.desk, err = desk.New(desk.Config{
			Sessions: postgres.NewDesks(cfg.DB), Keys: cfg.Keys, Connect: cfg.Desk, Apps: postgres.NewApps(cfg.DB), Public: cfg.Public,
			Proxies: cfg.Proxies, Logger: cfg.Logger, Now: cfg.Now,
		})
		if err != nil {
			return nil, err
		}
		mux.Handle("/support", guard.Wrap(g.desk))
		mux.Handle("/support/", guard.Wrap(g.desk))
	}
	g.handler = g.observed(mux, guard)
	return g, nil
}

// Handler serves everything.
func (g *Gateway) Handler() http.Handler { return g.handler }

// Run does what goes on beside requests, until ctx ends and what was in hand is done.
func (g *Gateway) Run(ctx context.Context) error {
	var parts errgroup.Group
	parts.Go(func() error { return g.apps.Run(ctx) })
	parts.Go(func() error { return g.webhooks.Run(ctx) })
	parts.Go(func() error { return g.api.Run(ctx) })
	parts.Go(func() error { g.sweep(ctx); return nil })
	if g.desk != nil {
		parts.Go(func() error { return g.desk.Run(ctx) })
	}
	return parts.Wait()
}

// sweep removes what has expired.
func (g *Gateway) sweep(ctx context.Context) {
	tick := time.NewTicker(g.SweepBy)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := g.pages.Sweep(ctx); err != nil && ctx.Err() == nil {
			g.Logger.Warn("removing page sessions that are over failed, it is tried again", "error", err)
		}
	}
}

// signal publishes a signal of an app that came over HTTP.
func (g *Gateway) signal(ctx context.Context, app string, name event.SignalName, id string, data []byte) error {
	return g.Bus.Publish(ctx, bus.Out{Subject: event.SignalSubject(app, name), ID: id, Data: data})
}

// report passes on what a provider tells of a delivery.
func (g *Gateway) report(ctx context.Context, id string, r event.Report) error {
	return g.Bus.Publish(ctx, bus.Out{Subject: event.ReportSubject, ID: id, Data: r.Encode()})
}

// observed numbers, bounds, logs and counts requests, and sets the headers that every answer has: also of those that the mux gives itself. Of a path it logs
// the pattern that took it: a path may hold the token of a link.
func (g *Gateway) observed(mux *http.ServeMux, guard web.Guard) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		number := web.RequestID(r)
		r.Header.Set("X-Request-Id", number)
		w.Header().Set("X-Request-Id", number)
		guard.Base(w.Header())
		seen := &recorder{ResponseWriter: w}
		ctx, cancel := context.WithTimeout(r.Context(), requestWithin)
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // it is what net/http panics with
					panic(p)
				}
				g.Logger.Error("a request panicked", "request", number, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if seen.status == 0 {
					http.Error(seen, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
				}
			}
			_, pattern := mux.Handler(r)
			g.Metrics.HTTPRequests.WithLabelValues(route(pattern), strconv.Itoa(seen.code()/100)+"xx").Observe(time.Since(began).Seconds())
			g.Logger.Debug("request", "request", number, "method", r.Method, "pattern", pattern, "status", seen.code(),
				"took", time.Since(began).Round(time.Microsecond))
		}()
		mux.ServeHTTP(seen, r.WithContext(ctx))
	})
}

// route is the part of the gateway that a pattern leads to.
func route(pattern string) string {
	switch _, path, _ := strings.Cut(pattern, "/"); {
	case strings.HasPrefix(path, "v1/"), path == "openapi.yaml", strings.HasPrefix(path, "events/"):
		return "api"
	case strings.HasPrefix(path, "callbacks/"):
		return "callbacks"
	case strings.HasPrefix(path, "support"):
		return "support"
	case strings.HasPrefix(path, "static/"):
		return "static"
	}
	return "pages"
}

// requestWithin bounds one request.
const requestWithin = 15 * time.Second

// A recorder remembers the status of a response.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}
