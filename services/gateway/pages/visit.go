package pages

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/ask"
	"github.com/otpost/otpost/services/gateway/web"
)

// A visit is one request of a user's visit.
type visit struct {
	p      *Pages
	w      http.ResponseWriter
	r      *http.Request
	row    postgres.Visit
	app    postgres.App
	look   postgres.AppPages
	state  state
	locale *web.Locale
	cookie string
}

// A state is what the pages remember of a visit from step to step. It is kept sealed, and only while the visit lasts.
type state struct {
	Flash     string          `json:"flash,omitzero"` // name of a text that the next page shows
	Challenge *challengeState `json:"challenge,omitzero"`
	Prove     *proveState     `json:"prove,omitzero"`
	Setup     *setupState     `json:"setup,omitzero"`
	Settings  *settingsState  `json:"settings,omitzero"`
	Recovery  *recoveryState  `json:"recovery,omitzero"`
	Recovered bool            `json:"recovered,omitzero"` // a recovery has taken effect in this visit: there is no factor any more
}

// A handler is one page of a visit. An error that it returns is shown: an *otp.Problem by its reason, any other as a fault of ours.
type handler func(ctx context.Context, v *visit) error

// handler finds the visit of a request and, of a form, sees that its own page has sent it.
func (p *Pages) handler(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		v, err := p.find(ctx, w, r)
		switch {
		case errors.Is(err, postgres.ErrNoVisit):
			p.plain(w, r, http.StatusUnauthorized, plainPage{Title: "common.no_visit_title", Text: "common.no_visit", Icon: "wait"})
			return
		case err != nil:
			p.fail(w, r, err, 0, "", "")
			return
		}
		if !v.row.EndedAt.IsZero() || !p.Now().Before(v.row.ExpiresAt) {
			v.plain(http.StatusGone, plainPage{Title: "common.over_title", Text: "common.over", Icon: "wait"})
			return
		}
		if !v.within(r.URL.Path) {
			http.Redirect(w, r, first[v.row.Page], http.StatusSeeOther)
			return
		}
		web.SetPolicy(w.Header(), web.Nonce(ctx), v.targets()...)
		if wait, ok := p.limits.take(p.Now(), v.row.ID, r.Method); !ok {
			w.Header().Set("Retry-After", strconv.Itoa(otp.Seconds(wait)))
			v.plain(http.StatusTooManyRequests, plainPage{Title: "common.busy_title", Text: "common.busy", Icon: "wait", Again: v.again()})
			return
		}
		if r.Method == http.MethodPost && !web.ValidForm(r, v.cookie) {
			v.plain(http.StatusForbidden, plainPage{Title: "common.forged_title", Text: "common.forged", Icon: "alert", Again: r.URL.Path})
			return
		}
		if err := h(ctx, v); err != nil {
			v.fail(err)
		}
	})
}

func (p *Pages) find(ctx context.Context, w http.ResponseWriter, r *http.Request) (*visit, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil, postgres.ErrNoVisit
	}
	v := &visit{p: p, w: w, r: r, cookie: cookie.Value}
	if v.row, err = p.Store.ByCookie(ctx, web.Digest(cookie.Value)); err != nil {
		return nil, err
	}
	if v.app, err = p.Apps.ByID(ctx, v.row.AppID); err != nil {
		return nil, err
	}
	if v.look, err = p.Looks.Get(ctx, v.row.AppID); err != nil {
		return nil, err
	}
	v.locale = p.texts.Match(v.row.Locale, r.Header.Get("Accept-Language"))
	if v.row.State == nil {
		return v, nil
	}
	text, err := p.Keys.Open(keyring.Page, v.row.State, v.bound())
	if err != nil {
		return nil, fmt.Errorf("open the state of a page session: %w", err)
	}
	if err := json.Unmarshal(text, &v.state); err != nil {
		return nil, fmt.Errorf("read the state of a page session: %w", err)
	}
	return v, nil
}

// bound is what a visit's state is sealed for.
func (v *visit) bound() []byte { return []byte("otpost/visit/v1/" + v.row.ID.String()) }

// targets are the origins that forms of the visit may lead to.
func (v *visit) targets() []string {
	var out []string
	for _, u := range []string{v.row.ReturnURL, v.row.ReauthenticateURL} {
		if o := web.Origin(u); o != "" && (len(out) == 0 || out[0] != o) {
			out = append(out, o)
		}
	}
	return out
}

// owner is the user and the session that acts of the visit belong to.
func (v *visit) owner() event.Owner { return event.Owner{User: v.row.User, Session: v.row.Session} }

// client is the browser, for the audit.
func (v *visit) client() *event.Client {
	agent := v.r.UserAgent()
	return &event.Client{IP: web.ClientIP(v.r, v.p.Proxies), UserAgent: strings.ToValidUTF8(agent[:min(len(agent), 256)], "")}
}

// form is a field of the posted form, without the space around it.
func (v *visit) form(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }

// t is a text in the visit's language.
func (v *visit) t(id string, pairs ...any) string { return v.locale.T(id, pairs...) }

// call asks the workers for the visit's app.
func call[Reply any](ctx context.Context, v *visit, verb string, request any) (Reply, error) {
	return ask.Of[Reply](ctx, v.p.Asker, v.app.Name, verb, request)
}

// reason is why the workers refused; empty for any other error.
func reason(err error) otp.Reason {
	if p, ok := errors.AsType[*otp.Problem](err); ok {
		return p.Reason
	}
	return ""
}

// reauthenticated is when the app last saw the password, as requests carry it; empty where it never did.
func (v *visit) reauthenticated() string { return event.OptionalTime(v.row.Reauthenticated) }

// fresh reports whether the password was entered so lately that a weakening act may go on it.
func (v *visit) fresh() bool {
	return v.p.Now().Sub(v.row.Reauthenticated) < v.app.Policy.Factors.ReauthWithin-reauthMargin
}

// save stores the state. postgres.ErrVisitChanged stands for another tab that was quicker.
func (v *visit) save(ctx context.Context) error {
	text, err := json.Marshal(v.state)
	if err != nil {
		return fmt.Errorf("write the state of a page session: %w", err)
	}
	if v.row.State, err = v.p.Keys.Seal(keyring.Page, text, v.bound()); err != nil {
		return err
	}
	if err := v.p.Store.Save(ctx, v.p.Now(), v.row); err != nil {
		return err
	}
	v.row.Revision++
	return nil
}

// goTo saves the state and leads to another page, as is right after a form (303).
func (v *visit) goTo(ctx context.Context, path string) error {
	if err := v.save(ctx); err != nil {
		return err
	}
	http.Redirect(v.w, v.r, path, http.StatusSeeOther) //nolint:gosec // a path of ours: the one that a form names is checked
	return nil
}

// page is what every page of the visit has. What has just been done is said once.
func (v *visit) page(data any, wrong ...web.FieldError) web.Page {
	return web.Page{
		Look: v.paint(), Lang: v.locale.Tag, Langs: v.p.langs(), Nonce: web.Nonce(v.r.Context()), CSRF: web.CSRF(v.cookie), Path: v.r.URL.Path,
		Theme: web.Theme(v.look.Accent), Errors: wrong, Signed: v.row.Account, Back: v.row.ReturnURL, Data: data,
	}
}

func (v *visit) paint() web.Look {
	return web.Look{Name: v.app.DisplayName, Accent: v.look.Accent, Logo: logo(v.look)}
}

// show shows a page of the visit: 200, or 422 where the form that led here was wrong. change may alter what every page has.
func (v *visit) show(ctx context.Context, name string, data any, wrong []web.FieldError, change ...func(*web.Page)) error {
	page := v.page(data, wrong...)
	if v.state.Flash != "" {
		page.Flash, v.state.Flash = v.state.Flash, ""
		if err := v.save(ctx); err != nil {
			return err
		}
	}
	for _, c := range change {
		c(&page)
	}
	status := http.StatusOK
	if len(wrong) > 0 {
		status = http.StatusUnprocessableEntity
	}
	return v.p.templates.Show(v.w, status, name, page)
}

// wrong is the error of a field, said by a text.
func (v *visit) wrong(field, id string, pairs ...any) []web.FieldError {
	return []web.FieldError{{Field: field, Text: v.t(id, pairs...)}}
}

// span says a wait that the workers ask for.
func (v *visit) span(d time.Duration) string { return v.locale.Span(d) }

// pathForm is a page's path. Browsers read what else begins with a slash in many ways, as another host among them.
var pathForm = regexp.MustCompile(`^(/[a-z]+)+$`)

// chooseLanguage sets the visit's language and shows the same page again.
func (p *Pages) chooseLanguage(ctx context.Context, v *visit) error {
	chosen := v.form("language")
	for _, tag := range web.Locales() {
		if tag == chosen {
			v.row.Locale = tag
		}
	}
	back := v.form("path")
	if !pathForm.MatchString(back) {
		back = first[v.row.Page]
	}
	return v.goTo(ctx, back)
}

// needPassword leads to where the app asks for the password, for the sake of a page that the user then comes back to.
func (v *visit) needPassword(page string) error {
	http.Redirect(v.w, v.r, "/reauthenticate?page="+page, http.StatusSeeOther)
	return nil
}

// reauthenticateData is for the page that says that the password is needed.
type reauthenticateData struct{ To string }

// reauthenticate says that the app must ask for the password, and leads there. The app makes a new visit then; this one goes on until it ends by itself.
func (p *Pages) reauthenticate(ctx context.Context, v *visit) error {
	page := v.r.URL.Query().Get("page")
	if first[page] == "" || !v.within(first[page]) { // an app may forget that who answers a challenge has shown no factor: it is not asked for more than that
		page = v.row.Page
	}
	if page == event.PageChallenge { // which needs no password
		page = event.PageRecovery
	}
	var data reauthenticateData
	if v.row.ReauthenticateURL != "" {
		data.To = withQuery(v.row.ReauthenticateURL, "otpost_page", page)
	}
	return v.show(ctx, "common/reauthenticate", data, nil)
}

// langs are the languages to choose from.
func (p *Pages) langs() []*web.Locale {
	out := make([]*web.Locale, 0, len(web.Locales()))
	for _, tag := range web.Locales() {
		out = append(out, p.texts.Locale(tag))
	}
	return out
}
