package shop

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

var (
	//go:embed pages/*.html
	pageFiles embed.FS
	//go:embed files/*
	staticFiles embed.FS
	//go:embed art/*.svg
	artFiles embed.FS

	templates = parsePages("home", "sign-up", "sign-in", "second-step", "password", "welcome", "account", "change-password", "delete", "buy", "message")
)

func parsePages(names ...string) map[string]*template.Template {
	out := map[string]*template.Template{}
	for _, name := range names {
		out[name] = template.Must(template.New("layout.html").Funcs(template.FuncMap{"list": list}).
			ParseFS(pageFiles, "pages/layout.html", "pages/"+name+".html"))
	}
	return out
}

// Logo is the shop's logo with its name, for otpost's pages to show above the forms: SVG, which minds light and dark by itself.
func Logo() []byte {
	b, err := staticFiles.ReadFile("files/wordmark.svg")
	if err != nil {
		panic(err) // it is embedded
	}
	return b
}

// Accent is the shop's colour, for otpost's pages.
const Accent = "#2c6e5a"

// art is the picture of a product.
func art(id string) template.HTML {
	b, err := artFiles.ReadFile("art/" + id + ".svg")
	if err != nil {
		panic(err) // it is embedded
	}
	return template.HTML(b) //nolint:gosec // ours, embedded
}

// frame is what every page has.
type frame struct {
	CSRF   string
	Inbox  string
	State  string // "", "half" or "full"
	Note   string
	Warn   bool // the note is of something that did not go well
	Fault  bool // the page shows a fault: its title says so, for who listens to it
	Body   any
	Public string
}

// form is what the forms show.
type form struct {
	Email, Page                                string
	Fault, EmailFault, PasswordFault, NewFault string
}

func (f form) faulty() bool     { return f.Fault+f.EmailFault+f.PasswordFault+f.NewFault != "" }
func (p purchase) faulty() bool { return p.Fault != "" }

// show renders a page.
func (s *Shop) show(v *visit, status int, page string, body any) {
	// A visitor gets a cookie, so that the forms here can be told from those of other sites; it signs nobody in. Only a GET brings one: a form of another site
	// comes without cookies (SameSite), and an answer that set one would put it in the place of the user's own.
	if v.cookie == "" && v.r.Method == http.MethodGet {
		v.signedIn(fmt.Sprintf("%x", randomBytes(16)))
	}
	f := frame{CSRF: s.csrf(v.cookie), Inbox: s.cfg.InboxURL, Body: body}
	if b, ok := body.(interface{ faulty() bool }); ok {
		f.Fault = b.faulty()
	}
	switch v.session.state {
	case half:
		f.State = "half"
	case full:
		f.State = "full"
	}
	if name := cookieOf(v.r, noteCookie); name != "" {
		f.Note, f.Warn = notes[name].text, notes[name].warn
		dropCookie(v.w, noteCookie)
	}
	var b bytes.Buffer
	if err := templates[page].Execute(&b, f); err != nil {
		s.log.Error("rendering a page of the shop", "page", page, "error", err)
		http.Error(v.w, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes())
}

// notes are what the next page says about what has just happened. The browser carries the name of one, never a text.
var notes = map[string]struct {
	text string
	warn bool
}{
	"enrolled":              {text: "Your second factor is set up. From now on we ask for it when you sign in."},
	"deactivated":           {text: "You have no second factor any more."},
	"recovered":             {text: "Your old factors are void. Set up a new one."},
	"password_changed":      {text: "Your password is changed. You are signed out everywhere else, and no browser is trusted any more."},
	"signed_out":            {text: "You are signed out."},
	"signed_out_everywhere": {text: "You are signed out everywhere, and no browser is trusted any more."},
	"deleted":               {text: "Your account is deleted."},
	"bought":                {text: "Thank you! Your order is placed."},
	"not_bought":            {text: "The purchase was not confirmed. Nothing was ordered.", warn: true},
	"failed":                {text: "The second step did not succeed. Please sign in again.", warn: true},
	"stale":                 {text: "That step is over or was used already. Please try again.", warn: true},
	"foreign":               {text: "That step belongs to another sign-in. Nothing was changed here.", warn: true},
}

// note has the next page say something; a name that is none says nothing.
func note(v *visit, name string) {
	if _, ok := notes[name]; ok {
		setCookie(v.w, noteCookie, name, time.Minute)
	}
}

// message is a page that only says something.
type message struct{ Title, Text string }

func (s *Shop) fail(v *visit, status int, title, text string) {
	s.show(v, status, "message", message{title, text})
}

func (s *Shop) notFound(v *visit) {
	s.fail(v, http.StatusNotFound, "There is nothing here", "The page may have moved, or never was.")
}

// broken answers for a fault of the shop itself.
func (s *Shop) broken(v *visit, err error) {
	s.log.Error("serving the shop", "path", v.r.URL.Path, "error", err)
	s.fail(v, http.StatusInternalServerError, "Something broke", "It is our fault, not yours. Please try again in a moment.")
}

// unavailable answers when otpost has not: nobody gets further without it.
func (s *Shop) unavailable(v *visit, err error) {
	if hasCode(err, "rate_limited") {
		s.fail(v, http.StatusTooManyRequests, "Too fast", "Please wait a moment, then try again.")
		return
	}
	v.w.Header().Set("Retry-After", "10")
	s.fail(v, http.StatusServiceUnavailable, "We cannot check your second factor",
		"The service that does it does not answer just now. Please try again in a moment.")
}

// tooMany shows a form again to who has tried too often.
func (s *Shop) tooMany(v *visit, page string, f form, wait time.Duration) {
	v.w.Header().Set("Retry-After", fmt.Sprint(int(wait.Seconds())))
	f.Fault = "There were too many tries. Try again in " + inWords(wait) + "."
	s.show(v, http.StatusTooManyRequests, page, f)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// static serves a file that is the same for everybody.
func static(name, kind string) http.HandlerFunc {
	b, err := staticFiles.ReadFile("files/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, name, time.Time{}, strings.NewReader(string(b)))
	}
}
