package desk

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

// maxPassword is the most bytes of a password.
const maxPassword = 1024

// errOpenServer says that NATS lets anybody in as an agent.
var errOpenServer = errors.New("NATS lets an agent in with any password")

// home leads to where there is something to do.
func (d *Desk) home(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/support/search", http.StatusSeeOther)
}

// signInData is for the page that asks who the agent is.
type signInData struct {
	Agent  string // as it was typed
	Closed bool   // nobody can sign in
}

// signInPage shows the form. Its token belongs to a cookie of its own, which every look at the form makes anew.
func (d *Desk) signInPage(w http.ResponseWriter, r *http.Request) {
	d.askWho(w, r, http.StatusOK, signInData{})
}

func (d *Desk) askWho(w http.ResponseWriter, r *http.Request, status int, data signInData, wrong ...string) {
	cookie, _ := web.Token()
	web.SetCookie(w, formCookie, cookie)
	locale := d.texts.Match("", r.Header.Get("Accept-Language"))
	page := web.Page{
		Look: look(locale), Lang: locale.Tag, Nonce: web.Nonce(r.Context()), CSRF: web.CSRF(cookie), Path: "/support/sign-in", Theme: web.Theme(""), Data: data,
	}
	for _, id := range wrong {
		page.Errors = append(page.Errors, web.FieldError{Text: locale.T(id)})
	}
	d.show(w, status, "desk/signin", page)
}

// signIn has NATS say whether the agent is who they say. Whatever is wrong, the answer is one and takes equally long; only that the desk is closed, or that
// NATS is away, is told apart, which says nothing of any agent.
func (d *Desk) signIn(w http.ResponseWriter, r *http.Request) {
	ctx, began := r.Context(), time.Now()
	before, err := r.Cookie(formCookie)
	if err != nil || !web.ValidForm(r, before.Value) {
		d.askWho(w, r, http.StatusForbidden, signInData{}, "common.forged")
		return
	}
	name, password := strings.ToLower(strings.TrimSpace(r.PostFormValue("agent"))), r.PostFormValue("password")
	ip := web.ClientIP(r, d.Proxies)
	cookie, err := d.admit(ctx, name, password, ip)
	switch {
	case err == nil:
		if old, err := r.Cookie(cookieName); err == nil { // who sat here before
			if err := d.end(ctx, w, web.Digest(old.Value)); err != nil {
				d.Logger.Warn("ending the session before failed, it idles out", "error", err)
			}
		}
		web.DropCookie(w, formCookie)
		web.SetCookie(w, cookieName, cookie)
		d.Logger.Info("a support agent signed in", "agent", name)
		http.Redirect(w, r, "/support/search", http.StatusSeeOther)
	case errors.Is(err, ErrRefused):
		d.Logger.Warn("a sign-in to the support desk failed", "ip", ip)
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(began.Add(d.Delay))):
		}
		d.askWho(w, r, http.StatusUnprocessableEntity, signInData{Agent: name}, "desk.signin_refused")
	case errors.Is(err, errOpenServer):
		d.Logger.Error("the support desk stays closed: NATS lets an agent in with any password; give it users (otpost nats config)")
		d.askWho(w, r, http.StatusServiceUnavailable, signInData{Closed: true})
	default:
		d.fail(w, r, err)
	}
}

// admit signs an agent in and returns the new session's cookie. ErrRefused stands for everything that is wrong with what was typed, and for too many tries.
func (d *Desk) admit(ctx context.Context, name, password, ip string) (cookie string, err error) {
	network := web.Network(ip).String() // who has one address of IPv6 has very many
	bounds := map[string]int{"ip " + network: triesOfIP}
	valid := otp.ValidApp(name) && password != "" && len(password) <= maxPassword // a name with a dot or a star would be another subject
	if valid {
		bounds["agent "+name], bounds["agent "+name+" at "+network] = triesOfAgent, triesHere
	}
	if !d.tries.take(d.Now(), bounds) || !valid {
		return "", ErrRefused
	}
	defer func() {
		if !errors.Is(err, ErrRefused) { // it went right, or nothing was compared
			d.tries.giveBack(bounds)
		}
	}()
	agent, err := d.Connect(ctx, name, password)
	if err != nil {
		return "", err
	}
	// A server without users would let in whoever comes, as whoever they like. It is tried at each sign-in: the server may be another by now.
	stranger, err := d.Connect(ctx, name, rand.Text()+rand.Text())
	if err == nil {
		stranger.Close()
		err = errOpenServer
	}
	if !errors.Is(err, ErrRefused) {
		agent.Close()
		return "", err
	}
	cookie, id := web.Token()
	now := d.Now()
	row := postgres.DeskSession{Agent: name, CreatedAt: now, ExpiresAt: now.Add(sessionLife)}
	if row.Sealed, err = d.Keys.Seal(keyring.Page, []byte(password), bound("password", id, name)); err == nil {
		err = d.Sessions.Create(ctx, id, row)
	}
	if err != nil {
		agent.Close()
		return "", err
	}
	d.keep(id, agent)
	return cookie, nil
}

// signOut ends the session.
func (d *Desk) signOut(ctx context.Context, v *visit) error {
	if err := d.end(ctx, v.w, v.id); err != nil {
		return err
	}
	http.Redirect(v.w, v.r, "/support/sign-in", http.StatusSeeOther)
	return nil
}

// end ends a session: its row, its connection and its cookie.
func (d *Desk) end(ctx context.Context, w http.ResponseWriter, id [32]byte) error {
	d.hangUp(id)
	web.DropCookie(w, cookieName)
	return d.Sessions.End(ctx, id)
}
