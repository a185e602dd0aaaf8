// Package shop is a small shop with sign-in by password that has its second factors from otpost: a reference for who integrates it, and the demo of
// `otpost up`.
//
// It is written as a stranger would write it. It imports nothing of otpost and speaks to it over the JSON API only; whoever builds a front end in another
// language can follow it file by file:
//
//   - otpost.go: the requests, and how to repeat one whose answer was lost
//   - signin.go: password, second factor, and the way back from otpost's pages
//   - session.go: sessions, their cookies, and what changes when somebody signs in
//   - account.go: the way into otpost's pages, and the password asked for again
//   - leave.go: sign-out, change of password, deletion, and the signals that otpost must hear of them
//   - buy.go: a purchase that is confirmed with the amount in the message
//   - users.go: passwords, and signals kept until they are sent
//   - guard.go: what every request passes: host, origin, CSRF token, headers, limits
//
// What it promises:
//
//   - A password alone opens nothing. Between it and the second factor a session is half signed in, a state of its own that only leads on or back.
//   - What otpost's pages say through the browser is a ticket and no more. The outcome is fetched server to server, and counts only for the user, the session
//     and the challenge that this very browser was sent away with.
//   - When otpost cannot be asked, nobody gets in without a second factor.
//   - It works without script.
//
// It is a demo in this: sessions, orders and limits are in memory, one process serves it, nobody proves that an email address is theirs, and a lost
// password is lost.
package shop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Config says where the shop is and how it reaches otpost. PublicURL, OtpostURL, APIKey and File are required.
type Config struct {
	PublicURL string // the shop's own origin as browsers see it, such as https://shop.example; what it builds URLs from, never a request's Host
	OtpostURL string // where the JSON API is
	PagesURL  string // the origin of otpost's pages as browsers see it; default OtpostURL
	APIKey    string // the app's
	InboxURL  string // where codes of the demo arrive, for the hint at the top of every page; empty for no hint
	File      string // the users, as JSON, mode 0600; made where it is missing

	HTTP   *http.Client // for requests to otpost; default one with a time-out
	Logger *slog.Logger // default slog.Default()
	Now    func() time.Time
}

// A Shop serves the shop. Run sends what otpost could not take at once.
type Shop struct {
	cfg      Config
	host     string // of PublicURL
	log      *slog.Logger
	now      func() time.Time
	otpost   *otpost
	users    *users
	sessions *sessions
	orders   *orders
	limits   limits
	csrfKey  []byte
	handler  http.Handler
	kick     chan struct{} // there are signals to send
}

// New opens the users' file and returns the shop.
func New(cfg Config) (*Shop, error) {
	public, err := origin(cfg.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("shop: public URL: %w", err)
	}
	cfg.PublicURL = strings.TrimSuffix(cfg.PublicURL, "/")
	if _, err := origin(cfg.OtpostURL); err != nil {
		return nil, fmt.Errorf("shop: URL of otpost: %w", err)
	}
	pages, err := origin(cmp.Or(cfg.PagesURL, cfg.OtpostURL))
	if err != nil {
		return nil, fmt.Errorf("shop: URL of otpost's pages: %w", err)
	}
	cfg.PagesURL = pages.String()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Shop{
		cfg: cfg, host: public.Host, log: cmp.Or(cfg.Logger, slog.Default()), now: cfg.Now,
		otpost: newOtpost(cfg.OtpostURL, cfg.APIKey, cfg.HTTP), sessions: newSessions(cfg.Now), orders: newOrders(), limits: newLimits(cfg.Now),
		csrfKey: randomBytes(32), kick: make(chan struct{}, 1),
	}
	if s.users, err = openUsers(cfg.File); err != nil {
		return nil, fmt.Errorf("shop: %w", err)
	}
	s.handler = s.routes()
	return s, nil
}

// ServeHTTP serves the shop.
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Run sends the signals that otpost has not taken yet, until ctx ends.
func (s *Shop) Run(ctx context.Context) error {
	const again = 5 * time.Second
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		s.sendSignals(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
		case <-tick.C:
		}
	}
}

// routes are the shop's addresses. Each says what a session must be to get there.
func (s *Shop) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /{$}":                  s.home,
		"GET /sign-up":              s.signUpForm,
		"POST /sign-up":             s.signUp,
		"GET /sign-in":              s.signInForm,
		"POST /sign-in":             s.signIn,
		"GET /second-step":          s.needs(half, s.secondStep),
		"POST /second-step":         s.needs(half, s.continueSecondStep),
		"GET /return":               s.comeBack, // whoever comes here without a session is shown the way in
		"GET /password":             s.needs(half, s.passwordForm),
		"POST /password":            s.needs(half, s.password),
		"GET /welcome":              s.needs(full, s.welcome),
		"GET /account":              s.needs(full, s.account),
		"POST /security":            s.needs(full, s.security),
		"GET /account/password":     s.needs(full, s.changePasswordForm),
		"POST /account/password":    s.needs(full, s.changePassword),
		"GET /account/delete":       s.needs(full, s.deleteForm),
		"POST /account/delete":      s.needs(full, s.deleteAccount),
		"POST /sign-out":            s.needs(half, s.signOut),
		"POST /sign-out-everywhere": s.needs(full, s.signOutEverywhere),
		"GET /buy/{product}":        s.needs(full, s.buyForm),
		"POST /buy/{product}":       s.needs(full, s.buy),
		"/":                         s.notFound,
	} {
		mux.Handle(pattern, s.visited(h))
	}
	mux.HandleFunc("GET /style.css", static("style.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /logo.svg", static("logo.svg", "image/svg+xml"))
	return s.guarded(mux)
}

// origin parses a URL that must be no more than an origin.
func origin(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("must be of the form https://host or https://host:port")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
