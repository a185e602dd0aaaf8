// Package web is what the gateway's pages are made with: security headers, cookies, tokens against forged requests, templates, texts and static files.
//
// What it promises: no page runs a script or a style that is not otpost's own, is framed, cached, or tells another site where the user came from; no form is
// taken that its own page has not served to the same browser; nothing is built from the Host that a request names.
package web

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// MaxForm is the most bytes that a form may have.
const MaxForm = 64 << 10

// contextKey is of values of this package.
type contextKey int

const nonceKey contextKey = iota

// Nonce is the one of the response's Content-Security-Policy, which every script and style of it carries.
func Nonce(ctx context.Context) string {
	nonce, _ := ctx.Value(nonceKey).(string)
	return nonce
}

// Guard is what stands before every page. Public is where people reach the pages; a request that names another host is refused, since whoever can have a
// browser send such a one could make it take another site for this.
type Guard struct {
	Public *url.URL
}

// Base sets the headers of every answer of this host, whatever it is and whoever makes it: pages widen the policy by what they need, and what may be kept
// says so.
func (g Guard) Base(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Cache-Control", "no-store")
	if g.Public.Scheme == "https" {
		h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
}

// Wrap sets the security headers, reads forms within their bounds, and refuses what is not for this host, and forms that another site has sent.
func (g Guard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := rand.Text()
		h := w.Header()
		g.Base(h)
		SetPolicy(h, nonce)
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), publickey-credentials-create=(self), publickey-credentials-get=(self)")
		if !strings.EqualFold(r.Host, g.Public.Host) {
			http.Error(w, "this is "+g.Public.Host, http.StatusMisdirectedRequest)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if !g.own(r) {
				http.Error(w, "this request came from another site", http.StatusForbidden)
				return
			}
			if !readForm(w, r) {
				return
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nonceKey, nonce)))
	})
}

// readForm reads a posted form, once and for all: what is not encoded as this package's forms are holds no field. It reports false where it has answered.
func readForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
	err := r.ParseForm()
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		http.Error(w, "this form is too large", http.StatusRequestEntityTooLarge)
		return false
	}
	if err != nil {
		http.Error(w, "this form cannot be read", http.StatusBadRequest)
		return false
	}
	return true
}

// own reports whether a form was sent from this origin, as far as the browser says. What it does not say, the form's token does.
func (g Guard) own(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "null" || strings.EqualFold(origin, g.Public.Scheme+"://"+g.Public.Host)
}

// SetPolicy sets the Content-Security-Policy. formTargets are origins that a form of the page may lead to, itself aside: browsers hold a redirect after a
// form to it too.
func SetPolicy(h http.Header, nonce string, formTargets ...string) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+nonce+"'; style-src 'self' 'nonce-"+nonce+"'; img-src 'self' data:; "+
		"connect-src 'self'; form-action "+strings.Join(append([]string{"'self'"}, formTargets...), " ")+"; base-uri 'none'; frame-ancestors 'none'")
}

// requestForm is a request's number as clients may give it.
var requestForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// RequestID is a request's number: the client's own (X-Request-Id) where it has the form of one, else a new one.
func RequestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); requestForm.MatchString(id) {
		return id
	}
	return rand.Text()[:16]
}

// Origin is the origin of a URL, such as https://shop.example; empty where it has none.
func Origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Token returns a secret of 256 random bits, for a link or a cookie, and its SHA-256, which is what is kept.
func Token() (token string, digest [32]byte) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	token = base64.RawURLEncoding.EncodeToString(b)
	return token, Digest(token)
}

// Digest is the SHA-256 of a token.
func Digest(token string) [32]byte { return sha256.Sum256([]byte(token)) }

// SetCookie sets a cookie that only this host gets back, over an encrypted connection, and that no script reads. Browsers take localhost for such a one.
func SetCookie(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// DropCookie takes a cookie away.
func DropCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// CSRF is the token of the forms of a browser that has a cookie. It follows from the cookie, so that nobody else can make it.
func CSRF(cookie string) string {
	m := hmac.New(sha256.New, []byte(cookie))
	m.Write([]byte("otpost form v1"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// ValidForm reports whether a posted form carries the token of the cookie.
func ValidForm(r *http.Request, cookie string) bool {
	return cookie != "" && hmac.Equal([]byte(r.PostFormValue("csrf")), []byte(CSRF(cookie)))
}

// ClientIP is where a request comes from. Of X-Forwarded-For it believes what the trusted proxies have added: the last address that is not one of theirs.
func ClientIP(r *http.Request, trusted []netip.Prefix) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		at, err := netip.ParseAddr(host)
		if err != nil || !among(at.Unmap(), trusted) {
			break
		}
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		host = hop.Unmap().String()
	}
	return host
}

// Network is what one client has of addresses: one of IPv4, a /64 of IPv6. It is what rates are counted by; the zero Prefix for what is no address.
func Network(ip string) netip.Prefix {
	at, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 64
	if at = at.Unmap(); at.Is4() {
		bits = 32
	}
	p, _ := at.WithZone("").Prefix(bits)
	return p
}

func among(at netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(at) {
			return true
		}
	}
	return false
}
