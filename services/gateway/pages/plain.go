package pages

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is the pages that say one thing, of a visit or outside one: what went wrong above all.

// fail shows an error.
func (v *visit) fail(err error) {
	if errors.Is(err, postgres.ErrVisitChanged) {
		v.plain(http.StatusConflict, plainPage{Title: "common.over_title", Text: "common.changed", Icon: "wait", Again: v.again()})
		return
	}
	v.p.fail(v.w, v.r, err, v.row.AppID, v.row.Locale, v.again())
}

// again is the page to look at again after an error.
func (v *visit) again() string {
	if v.r.Method == http.MethodGet {
		return v.r.URL.Path
	}
	return first[v.row.Page]
}

func (v *visit) plain(status int, page plainPage) {
	page.app, page.locale, page.to = v.row.AppID, v.row.Locale, v.row.ReturnURL
	v.p.plain(v.w, v.r, status, page)
}

// A plainPage says one thing and leads on. Title and Text are names of texts.
type plainPage struct {
	Title, Text, Icon string
	Again             string // a path to try again
	Request           string // number of the request, for a fault of ours
	To                string // where the way back to the app leads
	App               string

	app    int
	locale string
	to     string
}

// plain shows a page outside a visit.
func (p *Pages) plain(w http.ResponseWriter, r *http.Request, status int, page plainPage) {
	look := web.Look{Name: "otpost"}
	theme := web.Theme("")
	page.App, page.To = "", page.to
	if page.app != 0 {
		if app, err := p.Apps.ByID(r.Context(), page.app); err == nil {
			look.Name, page.App = app.DisplayName, app.DisplayName
		}
		if l, err := p.Looks.Get(r.Context(), page.app); err == nil {
			look.Accent, look.Logo, theme = l.Accent, logo(l), web.Theme(l.Accent)
		}
	}
	if page.App == "" {
		page.App = look.Name
	}
	locale := p.texts.Match(page.locale, r.Header.Get("Accept-Language"))
	err := p.templates.Show(w, status, "common/plain", web.Page{Look: look, Lang: locale.Tag, Nonce: web.Nonce(r.Context()), Theme: theme, Data: page})
	if err != nil {
		p.Logger.Error("showing a page failed", "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// fail shows an error outside a visit. What is no problem of the workers' is logged, and told by a number only.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error, app int, locale, again string) {
	page := plainPage{Title: "common.busy_title", Text: "common.busy", Icon: "wait", Again: again, app: app, locale: locale}
	problem, known := errors.AsType[*otp.Problem](err)
	switch {
	case known && (problem.Reason == otp.Busy || problem.Reason == otp.Conflict), postgres.Unreachable(err), errors.Is(err, context.DeadlineExceeded):
		if problem != nil && problem.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(otp.Seconds(problem.RetryAfter)))
		}
		p.plain(w, r, http.StatusServiceUnavailable, page)
	default:
		page.Title, page.Text, page.Icon, page.Request = "common.wrong_title", "common.wrong", "alert", w.Header().Get("X-Request-Id")
		p.Logger.Error("a page failed", "page", r.Pattern, "request", page.Request, "error", err) // of a link the path is the token
		p.plain(w, r, http.StatusInternalServerError, page)
	}
}
