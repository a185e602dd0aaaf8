package shop

import (
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
)

const maxForm = 16 << 10

// A visit is one request of a browser.
type visit struct {
	w       http.ResponseWriter
	r       *http.Request
	cookie  string // the session's; of a visitor without a session it holds the CSRF token together and nothing else
	session session
}

// A handler answers a visit.
type handler func(*visit)

// guarded wraps everything: what holds for every request, whatever it asks for.
func (s *Shop) guarded(next http.Handler) http.Handler {
	// Forms come from the shop's own pages: by Sec-Fetch-Site, which browsers send and scripts cannot set, else by Origin. The CSRF token is the second lock.
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(&visit{w: w, r: r}, http.StatusForbidden, "This form was not sent from the shop", "Please open the page here and try again.")
	}))
	next = origins.Handler(next)
	policy := "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; " +
		"form-action 'self' " + s.cfg.PagesURL // a form may lead to otpost's pages: browsers hold redirects after a form to this, too
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")        // for browsers that do not know frame-ancestors
		h.Set("Referrer-Policy", "same-origin") // the address one comes back to holds a ticket: no other site is told of it
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
		h.Set("Cache-Control", "no-store")
		if strings.HasPrefix(s.cfg.PublicURL, "https:") {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if r.URL.Path == "/healthz" {
			h.Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("ok\n"))
			return
		}
		// Another Host is somebody else's name for this address, or a forged one. It is believed in nothing.
		if r.Host != s.host {
			if r.Method == http.MethodGet {
				http.Redirect(w, r, s.cfg.PublicURL+"/", http.StatusFound)
				return
			}
			http.Error(w, "this is not the shop's address", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// visited finds the session of a request, and turns away forms without the right CSRF token.
func (s *Shop) visited(next handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{w: w, r: r, cookie: cookieOf(r, sessionCookie)}
		v.session = s.sessions.get(v.cookie)
		if v.session.state != anonymous {
			if _, ok := s.users.get(v.session.user); !ok { // deleted in another process's time
				s.sessions.end(v.cookie)
				v.session = session{}
			}
		}
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				status := http.StatusBadRequest
				if _, large := errors.AsType[*http.MaxBytesError](err); large {
					status = http.StatusRequestEntityTooLarge
				}
				s.fail(v, status, "The form could not be read", "Please go back and try again.")
				return
			}
			if v.cookie == "" || subtle.ConstantTimeCompare([]byte(r.PostForm.Get("csrf")), []byte(s.csrf(v.cookie))) != 1 {
				s.fail(v, http.StatusForbidden, "This form is too old", "Please open the page anew and try again. The shop needs cookies to know you.")
				return
			}
		}
		next(v)
	})
}

// needs lets sessions pass that have come at least so far, and shows the others the way.
func (s *Shop) needs(least state, next handler) handler {
	return func(v *visit) {
		switch {
		case v.session.state >= least:
			next(v)
		case v.session.state == half:
			v.redirect("/second-step")
		default:
			v.redirect("/sign-in")
		}
	}
}

// redirect leads on with a GET, to a path of the shop or to a link that otpost gave: never to anything that a request named.
func (v *visit) redirect(to string) { http.Redirect(v.w, v.r, to, http.StatusSeeOther) }

// signedIn gives the browser the cookie of its new session.
func (v *visit) signedIn(cookie string) {
	v.cookie = cookie
	setCookie(v.w, sessionCookie, cookie, 0)
}

// ip is where the request comes from. Behind a proxy it would be what that proxy says, and only what that one says.
func (v *visit) ip() string {
	host, _, err := net.SplitHostPort(v.r.RemoteAddr)
	if err != nil || net.ParseIP(host) == nil {
		return ""
	}
	return host
}
