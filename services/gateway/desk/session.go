package desk

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

const (
	cookieName = "__Host-otpost-desk"
	formCookie = "__Host-otpost-desk-form" // before the sign-in, so that its form has a token too
)

// A visit is one request of an agent who is signed in.
type visit struct {
	d      *Desk
	w      http.ResponseWriter
	r      *http.Request
	id     [32]byte // digest of the cookie
	cookie string
	row    postgres.DeskSession
	state  state
	locale *web.Locale
}

// A state is what the desk remembers of a session from page to page. It is kept sealed.
type state struct {
	App   string `json:"app,omitzero"` // of the last search
	User  string `json:"user,omitzero"`
	Flash string `json:"flash,omitzero"` // name of a text that the next page shows
}

// A handler is one page of a session. An error that it returns is shown.
type handler func(ctx context.Context, v *visit) error

// session finds the session of a request and, of a form, sees that its own page has sent it.
func (d *Desk) session(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		v, err := d.find(ctx, w, r)
		if errors.Is(err, postgres.ErrNoDesk) {
			web.DropCookie(w, cookieName)
			http.Redirect(w, r, "/support/sign-in", http.StatusSeeOther)
			return
		}
		if err != nil {
			d.fail(w, r, err)
			return
		}
		if r.Method == http.MethodPost && !web.ValidForm(r, v.cookie) {
			d.plain(w, r, http.StatusForbidden, plainData{Title: "common.forged_title", Text: "common.forged", Icon: "alert"})
			return
		}
		switch err := h(ctx, v); {
		case errors.Is(err, ErrRefused), errors.Is(err, postgres.ErrNoDesk): // NATS knows the agent no more, or the session ended meanwhile
			if err := d.end(ctx, w, v.id); err != nil {
				d.fail(w, r, err)
				return
			}
			http.Redirect(w, r, "/support/sign-in", http.StatusSeeOther)
		case err != nil:
			d.fail(w, r, err)
		}
	})
}

func (d *Desk) find(ctx context.Context, w http.ResponseWriter, r *http.Request) (*visit, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil, postgres.ErrNoDesk
	}
	v := &visit{d: d, w: w, r: r, cookie: cookie.Value, id: web.Digest(cookie.Value)}
	now := d.Now()
	if v.row, err = d.Sessions.Use(ctx, now, now.Add(-idleLife), v.id); err != nil {
		return nil, err
	}
	v.locale = d.texts.Match(v.row.Locale, r.Header.Get("Accept-Language"))
	if v.row.State == nil {
		return v, nil
	}
	text, err := d.Keys.Open(keyring.Page, v.row.State, bound("state", v.id, v.row.Agent))
	if errors.Is(err, keyring.ErrOpen) {
		return v, nil // its key is gone: the desk remembers nothing, and goes on
	}
	if err != nil {
		return nil, fmt.Errorf("open the state of a desk session: %w", err)
	}
	if err := json.Unmarshal(text, &v.state); err != nil {
		return nil, fmt.Errorf("read the state of a desk session: %w", err)
	}
	return v, nil
}

// bound is what a value of a session is sealed for: its use, the cookie and the agent. A row that is copied to another session's opens nothing.
func bound(what string, id [32]byte, agent string) []byte {
	return []byte("otpost/desk/v1/" + what + "/" + base64.RawURLEncoding.EncodeToString(id[:]) + "/" + agent)
}

// save stores what the desk remembers.
func (v *visit) save(ctx context.Context) error {
	text, err := json.Marshal(v.state)
	if err != nil {
		return fmt.Errorf("write the state of a desk session: %w", err)
	}
	if v.row.State, err = v.d.Keys.Seal(keyring.Page, text, bound("state", v.id, v.row.Agent)); err != nil {
		return err
	}
	return v.d.Sessions.Save(ctx, v.id, v.row)
}

// goTo saves and leads to another page, as is right after a form (303).
func (v *visit) goTo(ctx context.Context, path string) error {
	if err := v.save(ctx); err != nil {
		return err
	}
	http.Redirect(v.w, v.r, path, http.StatusSeeOther) //nolint:gosec // one of the desk's own pages: what a form says is held to a list
	return nil
}

// form is a field of the posted form, without the space around it.
func (v *visit) form(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }

// ask asks as the agent, over their own connection. Another process may have signed them in: then they are connected here with the password of the session.
func ask[Reply any](ctx context.Context, v *visit, verb string, request any) (Reply, error) {
	var reply Reply
	agent := v.d.held(v.id)
	if agent == nil {
		password, err := v.d.Keys.Open(keyring.Page, v.row.Sealed, bound("password", v.id, v.row.Agent))
		if errors.Is(err, keyring.ErrOpen) {
			return reply, ErrRefused // its key is gone: the agent signs in anew
		}
		if err != nil {
			return reply, fmt.Errorf("open the password of a desk session: %w", err)
		}
		if agent, err = v.d.Connect(ctx, v.row.Agent, string(password)); err != nil {
			return reply, err
		}
		agent = v.d.keep(v.id, agent)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return reply, fmt.Errorf("encode %s: %w", verb, err)
	}
	answer, err := agent.Ask(ctx, verb, body)
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return reply, fmt.Errorf("decode the reply of %s: %w", verb, err)
	}
	return reply, nil
}

// show shows a page of the session: 200, or 422 where the form that led here was wrong. at is where the page can be asked for again.
func (v *visit) show(ctx context.Context, name, at string, data any, wrong ...web.FieldError) error {
	page := web.Page{
		Look: look(v.locale), Lang: v.locale.Tag, Langs: v.d.langs(), LangAt: "/support/language", Nonce: web.Nonce(ctx), CSRF: web.CSRF(v.cookie), Path: at,
		Theme: web.Theme(""), Wide: true, Errors: wrong, Signed: v.row.Agent, Data: data,
	}
	if v.state.Flash != "" {
		page.Flash, v.state.Flash = v.state.Flash, ""
		if err := v.save(ctx); err != nil {
			return err
		}
	}
	status := http.StatusOK
	if len(wrong) > 0 {
		status = http.StatusUnprocessableEntity
	}
	v.d.show(v.w, status, name, page)
	return nil
}

// wrong is the error of a field, said by a text; without a field, of the form.
func (v *visit) wrong(field, id string, pairs ...any) web.FieldError {
	return web.FieldError{Field: field, Text: v.locale.T(id, pairs...)}
}

func (d *Desk) langs() []*web.Locale {
	out := make([]*web.Locale, 0, len(web.Locales()))
	for _, tag := range web.Locales() {
		out = append(out, d.texts.Locale(tag))
	}
	return out
}

// pagesAgain are the pages that a choice of language leads back to.
var pagesAgain = []string{"/support/search", "/support/user", "/support/begin"}

// chooseLanguage sets the session's language and shows the same page again.
func (d *Desk) chooseLanguage(ctx context.Context, v *visit) error {
	if chosen := v.form("language"); slices.Contains(web.Locales(), chosen) {
		v.row.Locale = chosen
	}
	back := v.form("path")
	if !slices.Contains(pagesAgain, back) {
		back = "/support/search"
	}
	return v.goTo(ctx, back)
}
