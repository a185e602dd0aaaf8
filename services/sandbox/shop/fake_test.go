package shop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otpost/otpost/services/sandbox/shop"
)

// fakeOtpost speaks the wire of the JSON API as far as the shop does. Its pages are played by the test: result says what a visit came to.
type fakeOtpost struct {
	*httptest.Server
	t *testing.T

	mu         sync.Mutex
	enrolled   map[string]bool   // users with a second factor
	trusted    map[string]string // token to user
	answers    map[string]func(w http.ResponseWriter, body map[string]any) bool
	asked      []asked
	visits     []map[string]any          // bodies of page-sessions
	results    map[string]map[string]any // by ticket; gone when redeemed
	kept       map[string][]byte         // answers by Idempotency-Key
	challenges int
}

type asked struct {
	verb, key string
	body      map[string]any
}

const apiKey = "otpost_" + "dGhlIGtleSBvZiB0aGUgc2hvcCBvZiB0aGUgdGVzdCE"

func newFake(t *testing.T) *fakeOtpost {
	f := &fakeOtpost{
		t: t, enrolled: map[string]bool{}, trusted: map[string]string{}, answers: map[string]func(http.ResponseWriter, map[string]any) bool{},
		results: map[string]map[string]any{}, kept: map[string][]byte{},
	}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeOtpost) serve(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	var body map[string]any
	verb, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok || r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer "+apiKey || r.Header.Get("Content-Type") != "application/json" ||
		json.Unmarshal(text, &body) != nil {
		f.t.Errorf("a request that otpost would refuse: %s %s %s", r.Method, r.URL.Path, text)
		problem(w, http.StatusBadRequest, "invalid")
		return
	}
	key := r.Header.Get("Idempotency-Key")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, asked{verb, key, body})
	answer := f.answers[verb]
	if answer != nil && answer(w, body) {
		return
	}
	if again, ok := f.kept[key]; ok && verb != "status" {
		_, _ = w.Write(again)
		return
	}
	reply, status := f.reply(verb, body)
	if status >= 400 {
		problem(w, status, "unknown_result")
		return
	}
	f.kept[key], _ = json.Marshal(reply)
	w.WriteHeader(status)
	_, _ = w.Write(f.kept[key])
}

func (f *fakeOtpost) reply(verb string, body map[string]any) (reply map[string]any, status int) {
	who, _ := body["user"].(string)
	switch verb {
	case "login":
		device, _ := body["device"].(string)
		switch {
		case !f.enrolled[who]:
			return map[string]any{"outcome": "skipped", "reason": "no_factor"}, 200
		case device != "" && f.trusted[device] == who:
			delete(f.trusted, device)
			f.trusted[device+"+"] = who
			return map[string]any{"outcome": "skipped", "reason": "trusted_device", "device": device + "+"}, 200
		}
		f.challenges++
		return map[string]any{"outcome": "issued", "challenge": fmt.Sprintf("c-%d", f.challenges), "channel": "totp", "factor": "totp"}, 200
	case "status":
		return map[string]any{"state": "open"}, 200
	case "page-sessions":
		f.visits = append(f.visits, body)
		return map[string]any{"url": fmt.Sprintf("%s/p/link-%d", f.URL, len(f.visits)), "expires_at": "2026-11-22T00:00:00.000Z"}, 200
	case "page-results":
		ticket, _ := body["result"].(string)
		result, ok := f.results[ticket]
		if !ok {
			return nil, http.StatusNotFound
		}
		delete(f.results, ticket)
		return result, 200
	case "factor.list":
		factors := []any{}
		if f.enrolled[who] {
			factors = append(factors, map[string]any{"kind": "totp", "state": "active"}, map[string]any{"kind": "sms", "state": "active"})
		}
		return map[string]any{"factors": factors, "activated": f.enrolled[who], "backup_codes_left": 10}, 200
	case "device.revoke":
		return map[string]any{"devices": []any{}}, 200
	case "device.renew":
		return map[string]any{"device": "renewed"}, 200
	}
	if strings.HasPrefix(verb, "signals/") {
		return map[string]any{"id": "s"}, 202
	}
	f.t.Errorf("the shop asks for %s", verb)
	return nil, http.StatusNotFound
}

func problem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":"…"}`, status, code)
}

// lastVisit is what the last link into the pages was asked with.
func (f *fakeOtpost) lastVisit(t *testing.T) map[string]any {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.visits) == 0 {
		t.Fatal("the shop asked for no page")
	}
	return f.visits[len(f.visits)-1]
}

// result makes the ticket that a visit ends with.
func (f *fakeOtpost) result(visit map[string]any, outcome string, with map[string]any) (ticket string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := map[string]any{"page": visit["page"], "outcome": outcome, "user": visit["user"], "session": visit["session"]}
	if visit["challenge"] != nil && (outcome == "verified" || outcome == "failed") {
		r["challenge"] = visit["challenge"]
	}
	if outcome == "verified" {
		r["amr"] = []string{"otp"}
	}
	for k, v := range with {
		r[k] = v
	}
	ticket = fmt.Sprintf("ticket-%d", len(f.results)+1000*len(f.visits)+len(f.asked))
	f.results[ticket] = r
	return ticket
}

func (f *fakeOtpost) answer(verb string, with func(w http.ResponseWriter, body map[string]any) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[verb] = with
}

// requests are those of a verb, first to last.
func (f *fakeOtpost) requests(verb string) []asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []asked
	for _, a := range f.asked {
		if a.verb == verb {
			out = append(out, a)
		}
	}
	return out
}

func (f *fakeOtpost) enrol(who string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enrolled[who] = true
}

// A bench is a shop with its otpost and a clock.
type bench struct {
	t      *testing.T
	otpost *fakeOtpost
	shop   *shop.Shop
	file   string
	mu     sync.Mutex
	now    time.Time
}

const public = "http://localhost:8081"

func newBench(t *testing.T) *bench {
	b := &bench{t: t, otpost: newFake(t), file: filepath.Join(t.TempDir(), "shop.json"), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	b.open()
	return b
}

// open starts the shop, or another one on the same file.
func (b *bench) open() {
	b.t.Helper()
	s, err := shop.New(shop.Config{
		PublicURL: public, OtpostURL: b.otpost.URL, APIKey: apiKey, InboxURL: "http://127.0.0.1:8025", File: b.file, Now: b.clock,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.shop = s
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// A browser keeps cookies and follows nothing by itself.
type browser struct {
	*bench
	cookies map[string]string
	from    string // address
	last    *http.Response
	body    string
}

func (b *bench) browser() *browser {
	return &browser{bench: b, cookies: map[string]string{}, from: "192.0.2.1:4000"}
}

// do sends a request as it is, and keeps the cookies that come.
func (b *browser) do(r *http.Request) *browser {
	b.t.Helper()
	r.RemoteAddr = b.from
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.shop.ServeHTTP(w, r)
	b.last, b.body = w.Result(), w.Body.String()
	for _, c := range b.last.Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
			b.t.Errorf("%s %s sets a cookie that is not safe: %s", r.Method, r.URL.Path, c)
		}
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return b
}

func (b *browser) get(path string) *browser {
	b.t.Helper()
	return b.do(httptest.NewRequest(http.MethodGet, public+path, nil))
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// send opens the page of a form and sends it.
func (b *browser) send(page, action string, fields ...string) *browser {
	b.t.Helper()
	b.get(page)
	m := csrfField.FindStringSubmatch(b.body)
	if m == nil {
		b.t.Fatalf("%s: %d, without a form: %s", page, b.last.StatusCode, b.body)
	}
	return b.post(action, append(fields, "csrf", m[1])...)
}

func (b *browser) post(path string, fields ...string) *browser {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, public+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Accept-Language", "cs-CZ,cs;q=0.9,en;q=0.5")
	r.Header.Set("User-Agent", "Browser/1")
	return b.do(r)
}

// leads says where the answer leads to, and fails if it is no redirect.
func (b *browser) leads() string {
	b.t.Helper()
	if b.last.StatusCode != http.StatusSeeOther {
		b.t.Fatalf("%d, want a redirect: %s", b.last.StatusCode, b.body)
	}
	return b.last.Header.Get("Location")
}

func (b *browser) wants(status int, text string) *browser {
	b.t.Helper()
	if b.last.StatusCode != status || !strings.Contains(b.body, text) {
		b.t.Errorf("%d, want %d with %q: %s", b.last.StatusCode, status, text, b.body)
	}
	return b
}

func (b *browser) wantsLead(to string) *browser {
	b.t.Helper()
	if at := b.leads(); at != to {
		b.t.Errorf("leads to %s, want %s", at, to)
	}
	return b
}

const (
	ann      = "ann@example.com"
	password = "correct horse battery"
)

// signUp makes an account and returns what otpost calls its user.
func (b *browser) signUp(email string) (who string) {
	b.t.Helper()
	b.send("/sign-up", "/sign-up", "email", email, "password", password).wantsLead("/welcome")
	b.send("/welcome", "/security", "page", "setup")
	who, _ = b.otpost.lastVisit(b.t)["user"].(string)
	return who
}

// enrolled makes an account with a second factor and signs out.
func (b *browser) enrolled(email string) (who string) {
	b.t.Helper()
	who = b.signUp(email)
	b.otpost.enrol(who)
	b.get("/return?otpost_result=" + b.otpost.result(b.otpost.lastVisit(b.t), "enrolled", nil)).wantsLead("/account")
	b.send("/account", "/sign-out").wantsLead("/")
	return who
}

func (b *browser) signIn(email string) *browser {
	b.t.Helper()
	return b.send("/sign-in", "/sign-in", "email", email, "password", password)
}

// isIn reports whether the browser is signed in.
func (b *browser) isIn() bool {
	b.t.Helper()
	return b.get("/account").last.StatusCode == http.StatusOK
}
