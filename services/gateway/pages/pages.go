// Package pages is the hosted pages: where people set up, answer, look after and recover their second factors, so that an app needs no front end of its own
// for it.
//
// What it promises: a link opens once, and what a visit came to is redeemed once; no code, secret or id stands in an address; a visit acts only for the user,
// the app and the session that the app has named when it made the link; nothing that weakens an account passes without the proofs that the workers ask of
// any app. The pages hold no key of codes: whatever they do they ask of the workers, as an app would.
package pages

import (
	"context"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/apps"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/ask"
	"github.com/otpost/otpost/services/gateway/web"
)

//go:embed locales all:templates
var files embed.FS

// Config is what the pages are made of.
type Config struct {
	Asker   *ask.Asker
	Apps    *apps.Cache
	Looks   Looks
	Store   *postgres.Visits
	Keys    *keyring.Ring // of role gateway
	Public  *url.URL      // where people reach the pages
	Proxies []netip.Prefix
	Logger  *slog.Logger
	Now     func() time.Time
}

// Looks tells how an app's pages look and where they may lead.
type Looks interface {
	// Get returns postgres.ErrNoPages for an app that has no pages.
	Get(ctx context.Context, app int) (postgres.AppPages, error)
}

// How long things live.
const (
	linkLife   = 2 * time.Minute
	visitLife  = 30 * time.Minute
	resultLife = 2 * time.Minute
	keepOver   = time.Hour // a visit that is over is known for so long, to lead back to its app

	cookieName = "__Host-otpost-page"
	// reauthMargin is how much sooner than the workers the pages ask for the password anew, so that there is time to act.
	reauthMargin = 15 * time.Second
)

// Pages serves the hosted pages.
type Pages struct {
	Config
	texts     *web.Texts
	templates *web.Templates
	mux       *http.ServeMux
	limits    *limits
}

// New reads the texts and templates.
func New(cfg Config) (*Pages, error) {
	texts, err := web.LoadTexts(web.Files(), files)
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	templates, err := web.LoadTemplates(texts, cfg.Now, files)
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	p := &Pages{Config: cfg, texts: texts, templates: templates, mux: http.NewServeMux(), limits: newLimits()}
	p.mux.HandleFunc("GET /p/{link}", p.open)
	p.mux.Handle("POST /language", p.handler(p.chooseLanguage))
	p.mux.Handle("POST /leave", p.handler(p.leave))
	p.mux.Handle("GET /reauthenticate", p.handler(p.reauthenticate))
	p.challengeRoutes()
	p.proveRoutes()
	p.setupRoutes()
	p.settingsRoutes()
	p.recoveryRoutes()
	p.mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		p.plain(w, r, http.StatusNotFound, plainPage{Title: "common.not_found_title", Text: "common.not_found", Icon: "alert"})
	})
	return p, nil
}

// Handler serves the pages.
func (p *Pages) Handler() http.Handler { return p.mux }

// get and post add a page of a visit.
func (p *Pages) get(path string, h handler)  { p.mux.Handle("GET "+path, p.handler(h)) }
func (p *Pages) post(path string, h handler) { p.mux.Handle("POST "+path, p.handler(h)) }

// Sweep removes visits that are over, and results that nobody has redeemed in time: what those hold is not kept for longer than it is good.
func (p *Pages) Sweep(ctx context.Context) error {
	now := p.Now()
	p.limits.prune(now)
	return p.Store.Sweep(ctx, now.Add(-keepOver), now)
}

// Create makes a link for a user. Its errors are problems where the app is to blame: an address that its operator has not allowed.
func (p *Pages) Create(ctx context.Context, app postgres.App, r event.PageSessionRequest) (link string, expires time.Time, err error) {
	look, err := p.Looks.Get(ctx, app.ID)
	if errors.Is(err, postgres.ErrNoPages) {
		return "", time.Time{}, &otp.Problem{Reason: otp.NotAllowed, Message: "this app has no pages: its operator sets where they lead back to (otpost app pages)"}
	}
	if err != nil {
		return "", time.Time{}, err
	}
	if !look.AllowsReturn(r.ReturnURL) {
		return "", time.Time{}, otp.InvalidField("return_url", "must begin with an address that the app's operator has allowed (otpost app pages)")
	}
	if r.Reauthenticate != "" && !look.AllowsReturn(r.Reauthenticate) {
		return "", time.Time{}, otp.InvalidField("reauthenticate_url", "must begin with an address that the app's operator has allowed (otpost app pages)")
	}
	now := p.Now()
	var reauthenticated time.Time
	if at, err := time.Parse(time.RFC3339, r.Reauthenticated); err == nil {
		reauthenticated = at
		if at.After(now) {
			reauthenticated = now // the app's clock is ahead
		}
	}
	var challenge uuid.UUID
	if r.Challenge != "" {
		if challenge, err = uuid.Parse(r.Challenge); err != nil {
			return "", time.Time{}, otp.InvalidField("challenge", "must be the id of a challenge")
		}
	}
	token, digest := web.Token()
	id, err := uuid.NewV7()
	if err != nil {
		return "", time.Time{}, err
	}
	expires = now.Add(linkLife)
	err = p.Store.Create(ctx, postgres.Visit{
		ID: id, AppID: app.ID, User: r.User, Session: r.Session, Page: r.Page, Account: r.Account, Locale: r.Locale, ReturnURL: r.ReturnURL,
		ReauthenticateURL: r.Reauthenticate, Reauthenticated: reauthenticated, Challenge: challenge, CreatedAt: now, ExpiresAt: now.Add(visitLife),
	}, digest, expires)
	if err != nil {
		return "", time.Time{}, err
	}
	return p.Public.JoinPath("p", token).String(), expires, nil
}

// first is where a visit begins.
var first = map[string]string{
	"setup": "/setup", "challenge": "/challenge", "settings": "/settings", "backup_codes": "/settings/codes", "deactivate": "/deactivate", "recovery": "/recovery",
}

// open spends a link, gives the browser its cookie and leads to the page. The address of the link is left at once: it is worth nothing from now on.
func (p *Pages) open(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // a look at what is there opens nothing
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	cookie, digest := web.Token()
	link := web.Digest(r.PathValue("link"))
	visit, err := p.Store.Open(r.Context(), p.Now(), link, digest)
	if errors.Is(err, postgres.ErrNoVisit) {
		page := plainPage{Title: "common.link_used_title", Text: "common.link_used", Icon: "wait"}
		if visit, err := p.Store.ByLink(r.Context(), link); err == nil {
			page.app, page.locale, page.to = visit.AppID, visit.Locale, visit.ReturnURL
		} else {
			page.Title, page.Text = "common.no_visit_title", "common.no_visit"
		}
		p.plain(w, r, http.StatusGone, page)
		return
	}
	if err != nil {
		p.fail(w, r, err, 0, "", "")
		return
	}
	web.SetCookie(w, cookieName, cookie)
	http.Redirect(w, r, first[visit.Page], http.StatusSeeOther)
}

// logo is an app's logo as a data: URL, empty for none.
func logo(look postgres.AppPages) template.URL {
	if len(look.Logo) == 0 {
		return ""
	}
	return template.URL("data:" + look.LogoType + ";base64," + base64.StdEncoding.EncodeToString(look.Logo)) //nolint:gosec // of a closed set of types, in base64
}
