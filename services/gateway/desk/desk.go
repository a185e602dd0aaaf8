// Package desk is the support desk: where agents look for a user, begin a reset, and decide on one that another agent has begun.
//
// What it promises: the desk can do nothing by itself. Who an agent is NATS says, at every sign-in, and whatever is asked is asked over the agent's own
// connection; the gateway's user has no right to any subject of support. A session ends after eight hours, after half an hour without use, and as soon as NATS
// knows the agent no more. User ids stand in no address. What an agent sees is masked by the workers, and every look is written down by them.
package desk

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

//go:embed locales all:templates
var files embed.FS

// Config is what the desk is made of.
type Config struct {
	Sessions *postgres.Desks
	Keys     *keyring.Ring // of role gateway
	Connect  Connect
	Apps     Apps
	Public   *url.URL // where agents reach the desk, below /support
	Proxies  []netip.Prefix
	Logger   *slog.Logger
	Now      func() time.Time
	Delay    time.Duration // how long a sign-in that fails takes at least; 0 for failedWithin
}

// Apps lists the apps, for the choice of one.
type Apps interface {
	List(ctx context.Context) ([]postgres.App, error)
}

// How long things live.
const (
	sessionLife  = 8 * time.Hour
	idleLife     = 30 * time.Minute
	sweepEvery   = time.Minute
	failedWithin = time.Second
)

// Desk serves the support desk below /support. Run must be running for as long as it does.
type Desk struct {
	Config
	texts     *web.Texts
	templates *web.Templates
	mux       *http.ServeMux
	tries     *limiter

	mu    sync.Mutex
	lines map[[32]byte]*line // by the digest of the cookie
}

// A line is the connection of a session in this process.
type line struct {
	agent Agent
	used  time.Time
}

// New reads the texts and templates.
func New(cfg Config) (*Desk, error) {
	texts, err := web.LoadTexts(web.Files(), files)
	if err != nil {
		return nil, fmt.Errorf("desk: %w", err)
	}
	templates, err := web.LoadTemplates(texts, cfg.Now, files)
	if err != nil {
		return nil, fmt.Errorf("desk: %w", err)
	}
	if cfg.Delay == 0 {
		cfg.Delay = failedWithin
	}
	d := &Desk{Config: cfg, texts: texts, templates: templates, mux: http.NewServeMux(), tries: newLimiter(), lines: map[[32]byte]*line{}}
	d.mux.HandleFunc("GET /support", d.home)
	d.mux.HandleFunc("GET /support/sign-in", d.signInPage)
	d.mux.HandleFunc("POST /support/sign-in", d.signIn)
	d.mux.Handle("POST /support/sign-out", d.session(d.signOut))
	d.mux.Handle("POST /support/language", d.session(d.chooseLanguage))
	d.mux.Handle("GET /support/search", d.session(d.searchPage))
	d.mux.Handle("POST /support/search", d.session(d.search))
	d.mux.Handle("GET /support/user", d.session(d.userPage))
	d.mux.Handle("GET /support/begin", d.session(d.beginPage))
	d.mux.Handle("POST /support/begin", d.session(d.begin))
	d.mux.Handle("POST /support/confirm", d.session(d.confirm))
	d.mux.Handle("POST /support/decide", d.session(d.decide))
	d.mux.HandleFunc("/support/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/support", http.StatusSeeOther) })
	return d, nil
}

// ServeHTTP serves the desk's pages.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// Run removes sessions that are over and closes their connections, until ctx ends.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	defer d.closeLines(func(*line) bool { return true })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := d.Now()
		d.closeLines(func(l *line) bool { return now.Sub(l.used) >= idleLife || l.agent.Ended() })
		d.tries.forget(now)
		if err := d.Sessions.Sweep(ctx, now, now.Add(-idleLife)); err != nil && ctx.Err() == nil {
			d.Logger.Warn("removing desk sessions that are over failed, it is tried again", "error", err)
		}
	}
}

// closeLines closes the connections that are over.
func (d *Desk) closeLines(over func(*line) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, l := range d.lines {
		if over(l) {
			l.agent.Close()
			delete(d.lines, id)
		}
	}
}

// hangUp closes the connection of one session.
func (d *Desk) hangUp(id [32]byte) {
	d.mu.Lock()
	l := d.lines[id]
	delete(d.lines, id)
	d.mu.Unlock()
	if l != nil {
		l.agent.Close()
	}
}

// keep takes a connection for a session, and returns the one to use: another request may have been quicker.
func (d *Desk) keep(id [32]byte, a Agent) Agent {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lines[id]; l != nil && !l.agent.Ended() {
		a.Close()
		l.used = d.Now()
		return l.agent
	} else if l != nil {
		l.agent.Close()
	}
	d.lines[id] = &line{agent: a, used: d.Now()}
	return a
}

// held returns the connection of a session, if this process has one that lives.
func (d *Desk) held(id [32]byte) Agent {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lines[id]
	if l == nil || l.agent.Ended() {
		return nil
	}
	l.used = d.Now()
	return l.agent
}

// plainData is for a page that says one thing and leads on. Title and Text are names of texts.
type plainData struct{ Title, Text, Icon, Request string }

// plain shows such a page.
func (d *Desk) plain(w http.ResponseWriter, r *http.Request, status int, data plainData) {
	locale := d.texts.Match("", r.Header.Get("Accept-Language"))
	d.show(w, status, "desk/plain", web.Page{Look: look(locale), Lang: locale.Tag, Nonce: web.Nonce(r.Context()), Theme: web.Theme(""), Data: data})
}

func look(l *web.Locale) web.Look { return web.Look{Name: l.T("desk.name")} }

func (d *Desk) show(w http.ResponseWriter, status int, name string, page web.Page) {
	if err := d.templates.Show(w, status, name, page); err != nil {
		d.Logger.Error("showing a page of the desk failed", "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// fail shows an error. What is no problem of the workers' is logged, and told by a number only.
func (d *Desk) fail(w http.ResponseWriter, r *http.Request, err error) {
	problem, known := errors.AsType[*otp.Problem](err)
	switch {
	case known && problem.Reason == otp.Busy, postgres.Unreachable(err), errors.Is(err, ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		if problem != nil && problem.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(otp.Seconds(problem.RetryAfter)))
		}
		d.plain(w, r, http.StatusServiceUnavailable, plainData{Title: "common.busy_title", Text: "common.busy", Icon: "wait"})
	default:
		number := w.Header().Get("X-Request-Id")
		d.Logger.Error("a page of the desk failed", "path", r.URL.Path, "request", number, "error", err)
		d.plain(w, r, http.StatusInternalServerError, plainData{Title: "common.wrong_title", Text: "desk.wrong", Icon: "alert", Request: number})
	}
}
