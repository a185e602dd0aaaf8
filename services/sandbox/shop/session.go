package shop

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

// A state is how far somebody has come. What a session may do follows from it alone.
type state int

const (
	anonymous state = iota
	// half: the password was right and the second factor has not been given. It leads to the second factor or back out, and opens nothing else. A flag
	// beside "signed in" would have to be asked for everywhere, and be forgotten somewhere.
	half
	full
)

const (
	halfLife = 30 * time.Minute // from the password to the second factor
	idleLife = 2 * time.Hour
	longest  = 12 * time.Hour // however busy
	// maxSessions bounds the memory. Beyond it the one that was idle longest goes.
	maxSessions = 10_000
)

// A session is one browser's sign-in.
type session struct {
	state state
	// id is what otpost calls the session. It is not the cookie: an id is told to others and stands in logs, and whoever has the cookie is signed in.
	id   string
	user string
	// passwordAt is when the password was last entered in this session: what otpost is told as reauthenticated_at.
	passwordAt time.Time
	amr        []string // how the user has proven who they are (RFC 8176)
	skipped    string   // why no second factor was asked for

	// challenge is the one that this browser was sent away with. A result about any other is not for it.
	challenge string
	buying    string // the product that the challenge confirms; empty where it is the sign-in's

	began, seen time.Time
}

// sessions are kept by the SHA-256 of the cookie: a look-up in a map takes as long for a wrong cookie as for a right one, and what is in memory or in a
// dump signs nobody in.
type sessions struct {
	mu  sync.Mutex
	all map[[32]byte]*session
	now func() time.Time
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{all: map[[32]byte]*session{}, now: now}
}

// get returns a copy of the session of a cookie; one without a session is anonymous.
func (s *sessions) get(cookie string) session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.live(cookie); v != nil {
		v.seen = s.now()
		return *v
	}
	return session{}
}

// live finds a session that has not expired; the caller holds mu.
func (s *sessions) live(cookie string) *session {
	key := sha256.Sum256([]byte(cookie))
	v := s.all[key]
	if v == nil {
		return nil
	}
	now := s.now()
	if now.Sub(v.began) > longest || now.Sub(v.seen) > idleLife || (v.state == half && now.Sub(v.began) > halfLife) {
		delete(s.all, key)
		return nil
	}
	return v
}

// replace ends the session of the old cookie and starts the given one under a new cookie. Whoever knew the old cookie, or made the browser use it (session
// fixation), has nothing.
func (s *sessions) replace(old string, with session) (cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(old)))
	s.bound()
	with.began, with.seen = s.now(), s.now()
	cookie = rand.Text() // 130 random bits
	s.all[sha256.Sum256([]byte(cookie))] = &with
	return cookie
}

// change alters the session of a cookie where f agrees, and reports whether it did. What f looks at cannot change in between: of two requests that come at
// once with the same right, one gets it.
func (s *sessions) change(cookie string, f func(*session) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.live(cookie)
	return v != nil && f(v)
}

// promote makes a half signed-in session a whole one under a new cookie, where it still waits for the challenge.
func (s *sessions) promote(cookie, challenge string, f func(*session)) (fresh string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.live(cookie)
	if v == nil || v.state != half || v.challenge != challenge {
		return "", false
	}
	delete(s.all, sha256.Sum256([]byte(cookie)))
	with := *v
	with.state, with.challenge = full, ""
	with.began, with.seen = s.now(), s.now()
	f(&with)
	fresh = rand.Text()
	s.all[sha256.Sum256([]byte(fresh))] = &with
	return fresh, true
}

// end ends a session.
func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(cookie)))
}

// endUser ends all sessions of a user, half signed-in ones too, but for the one of a cookie.
func (s *sessions) endUser(user, except string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := sha256.Sum256([]byte(except))
	for key, v := range s.all {
		if v.user == user && key != keep {
			delete(s.all, key)
		}
	}
}

// bound makes room for one more; the caller holds mu.
func (s *sessions) bound() {
	if len(s.all) < maxSessions {
		return
	}
	var oldest [32]byte
	var seen time.Time
	for key, v := range s.all {
		if seen.IsZero() || v.seen.Before(seen) {
			oldest, seen = key, v.seen
		}
	}
	delete(s.all, oldest)
}

// Cookies. The prefix __Host- holds the browser to Secure, Path=/ and no Domain, so that no other host, a sub-domain neither, can plant one. SameSite is
// Lax and not Strict, because the way back from otpost's pages is a link from another site.
const (
	sessionCookie = "__Host-shop-session"
	deviceCookie  = "__Host-shop-device"
	noteCookie    = "__Host-shop-note"
)

func setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(age.Seconds()), // 0 is until the browser closes
	})
}

func dropCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1})
}

func cookieOf(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil || len(c.Value) > 1024 {
		return ""
	}
	return c.Value
}

// deviceLife is how long the browser keeps the token of a trusted device. otpost decides how long it serves.
const deviceLife = 90 * 24 * time.Hour

// keepDevice keeps the token of a trusted device, in a cookie of its own because it outlives sessions. It changes with each use: the old one is of no more
// use, and trying it again would be taken for theft.
func keepDevice(w http.ResponseWriter, token string) {
	if token != "" {
		setCookie(w, deviceCookie, base64.RawURLEncoding.EncodeToString([]byte(token)), deviceLife)
	}
}

// deviceOf returns the token that the browser keeps, or "".
func deviceOf(r *http.Request) string {
	token, err := base64.RawURLEncoding.DecodeString(cookieOf(r, deviceCookie))
	if err != nil || len(token) > 512 {
		return ""
	}
	return string(token)
}

// csrf is the token of the forms of a browser. It changes with the cookie, so at sign-in.
func (s *Shop) csrf(cookie string) string {
	mac := hmac.New(sha256.New, s.csrfKey)
	mac.Write([]byte("csrf\x00" + cookie))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
