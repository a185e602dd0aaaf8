package shop_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

func TestForms(t *testing.T) {
	b := newBench(t).browser()
	b.signUp(ann)
	b.get("/account")
	token := csrfField.FindStringSubmatch(b.body)[1]
	other := b.bench.browser()
	other.get("/sign-in")
	foreign := csrfField.FindStringSubmatch(other.body)[1]
	for _, csrf := range []string{"", "x", foreign} {
		b.post("/sign-out", "csrf", csrf).wants(http.StatusForbidden, "This form is too old")
	}
	for name, header := range map[string][2]string{ // a browser sends no cookies along, and would keep one that came with the answer
		"of another site":       {"Sec-Fetch-Site", "cross-site"},
		"of another port":       {"Sec-Fetch-Site", "same-site"},
		"of another origin":     {"Origin", "https://evil.example"},
		"of a page that hides ": {"Origin", "null"},
	} {
		r := httptest.NewRequest(http.MethodPost, public+"/sign-out", strings.NewReader(url.Values{"csrf": {token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(header[0], header[1])
		if b.do(r).last.StatusCode != http.StatusForbidden {
			t.Errorf("a form %s was taken: %d", name, b.last.StatusCode)
		}
		bare := b.bench.browser()
		if bare.do(r.Clone(t.Context())); len(bare.cookies) != 0 {
			t.Errorf("a form %s without cookies brings %v", name, bare.cookies)
		}
	}
	if !b.isIn() {
		t.Fatal("a foreign form signed out")
	}
	b.post("/sign-out", "csrf", token, "more", strings.Repeat("x", 17<<10)).wants(http.StatusRequestEntityTooLarge, "could not be read")
	b.post("/sign-out", "csrf", token).wantsLead("/")
	b.post("/sign-in", "csrf", token, "email", ann, "password", password).wants(http.StatusForbidden, "This form is too old")
}

// Whatever a request names, the browser is led to the shop's own pages or to otpost's.
func TestNoOpenRedirect(t *testing.T) {
	b := newBench(t).browser()
	b.signUp(ann)
	for _, page := range []string{"https://evil.example", "//evil.example", "challenge", "../..", "settings/../x"} {
		b.get("/password?otpost_page="+url.QueryEscape(page)).wants(404, "nothing here")
		b.send("/account", "/password", "page", page, "password", password).wants(404, "nothing here")
		b.send("/account", "/security", "page", page).wants(404, "nothing here")
	}
	for _, path := range []string{"/return?otpost_result=x&next=https://evil.example", "/return?return_url=//evil.example", "//evil.example/..", "/sign-in?next=//evil.example"} {
		b.get(path)
		if to := b.last.Header.Get("Location"); to != "" && !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") {
			t.Errorf("%s leads to %s", path, to)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "http://evil.example/account", nil)
	if b.do(r); b.last.Header.Get("Location") != public+"/" {
		t.Errorf("under another host: %d to %s", b.last.StatusCode, b.last.Header.Get("Location"))
	}
	r = httptest.NewRequest(http.MethodPost, "http://evil.example/sign-in", nil)
	if b.do(r); b.last.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a form under another host: %d", b.last.StatusCode)
	}
}

func TestUnknownUserIsAnsweredAlike(t *testing.T) {
	b := newBench(t).browser()
	b.signUp(ann)
	b.send("/account", "/sign-out")
	answer := func(email string) (int, string) {
		b.send("/sign-in", "/sign-in", "email", email, "password", "wrong password")
		body := csrfField.ReplaceAllString(strings.ReplaceAll(b.body, email, ""), "")
		return b.last.StatusCode, body
	}
	status1, known := answer(ann)
	status2, unknown := answer("bea@example.com")
	if status1 != 422 || status2 != 422 || known != unknown {
		t.Errorf("%d and %d:\n%s\n%s", status1, status2, known, unknown)
	}
	if n := len(b.otpost.requests("login")); n != 0 {
		t.Errorf("otpost was asked about %d sign-ins without the password", n)
	}
}

func TestGuessing(t *testing.T) {
	b := newBench(t).browser()
	b.signUp(ann)
	b.send("/account", "/sign-out")
	for range 20 {
		b.signIn(ann).wantsLead("/account") // right ones are no guesses
	}
	b.send("/account", "/sign-out")
	for range 10 {
		b.send("/sign-in", "/sign-in", "email", ann, "password", "wrong password").wants(422, "is not right")
	}
	b.signIn(" Ann@example.com").wants(http.StatusTooManyRequests, "There were too many tries. Try again in ")
	if b.last.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	b.pass(40 * time.Second)
	b.signIn(ann).wantsLead("/account")
	for range 9 {
		b.send("/account/delete", "/account/delete", "password", "wrong password")
	}
	b.send("/account/delete", "/account/delete", "password", password).wants(http.StatusTooManyRequests, "too many tries")
}

func TestLeaving(t *testing.T) {
	bench := newBench(t)
	b, second := bench.browser(), bench.browser()
	who := b.signUp(ann)
	second.signIn(ann).wantsLead("/account")

	before := b.cookies["__Host-shop-session"]
	b.send("/account/password", "/account/password", "password", "wrong password", "new-password", "another password").wants(422, "This is not your password")
	b.send("/account/password", "/account/password", "password", password, "new-password", "short").wants(422, "at least 8 characters")
	b.send("/account/password", "/account/password", "password", password, "new-password", "another password").wantsLead("/account")
	if second.isIn() || !b.isIn() || b.cookies["__Host-shop-session"] == before {
		t.Error("a change of password must end the other sessions, and give this one another cookie")
	}
	if signals := bench.otpost.requests("signals/password.changed"); len(signals) != 1 || signals[0].body["user"] != who {
		t.Errorf("signals of the change of password: %v", signals)
	}
	second.signIn(ann).wants(422, "is not right")
	second.send("/sign-in", "/sign-in", "email", ann, "password", "another password").wantsLead("/account")

	b.send("/account", "/sign-out-everywhere").wantsLead("/")
	if second.isIn() || b.isIn() {
		t.Error("somebody is still signed in")
	}
	signals, revoked := bench.otpost.requests("signals/session.signed_out"), bench.otpost.requests("device.revoke")
	if len(signals) != 1 || signals[0].body["session"] != nil || len(revoked) != 1 || revoked[0].body["all"] != true {
		t.Errorf("signed out everywhere by %v and %v", signals, revoked)
	}

	b.send("/sign-in", "/sign-in", "email", ann, "password", "another password").wantsLead("/account")
	bench.otpost.answer("signals/user.deleted", func(w http.ResponseWriter, _ map[string]any) bool { problem(w, 503, "unavailable"); return true })
	b.send("/account/delete", "/account/delete", "password", "another password").wantsLead("/")
	if b.isIn() {
		t.Error("signed in as who is deleted")
	}
	b.send("/sign-in", "/sign-in", "email", ann, "password", "another password").wants(422, "is not right")

	// otpost was not there. The signal is kept with the change, outlives the process, and is the same one when it goes.
	kept := bench.otpost.requests("signals/user.deleted")[0].key
	bench.otpost.answer("signals/user.deleted", nil)
	bench.open()
	before2 := len(bench.otpost.requests("signals/user.deleted"))
	done := make(chan struct{})
	ctx := t.Context()
	go func() { defer close(done); _ = bench.shop.Run(ctx) }()
	t.Cleanup(func() { <-done })
	deadline := time.After(10 * time.Second)
	for len(bench.otpost.requests("signals/user.deleted")) == before2 {
		select {
		case <-deadline:
			t.Fatal("the signal is not sent again")
		case <-time.After(time.Millisecond):
		}
	}
	if last := bench.otpost.requests("signals/user.deleted"); last[len(last)-1].key != kept {
		t.Error("the signal has another id when it is sent again")
	}
	if again := b.signUp(ann); again == who {
		t.Error("who signs up after a deletion is the same user")
	}
}

func TestBuying(t *testing.T) {
	b := newBench(t).browser()
	b.get("/buy/lamp").wantsLead("/sign-in")
	who := b.signUp(ann)
	b.send("/buy/lamp", "/buy/lamp").wantsLead("/account")
	b.get("/account").wants(200, "Your order is placed").wants(200, "Desk lamp")
	b.otpost.enrol(who)

	b.send("/buy/fern", "/buy/fern")
	logins := b.otpost.requests("login")
	bought, _ := logins[len(logins)-1].body["transaction"].(map[string]any)
	if bought["amount"] != "19.50 EUR" || bought["payee"] != "Demo shop" {
		t.Errorf("the purchase is confirmed as %v", bought)
	}
	visit := b.otpost.lastVisit(t)
	b.get("/return?otpost_result=" + b.otpost.result(visit, "failed", nil)).wantsLead("/buy/fern")
	b.get("/buy/fern").wants(200, "Nothing was ordered")
	b.get("/return?otpost_result=" + b.otpost.result(visit, "verified", nil)).wantsLead("/account") // that purchase is over
	if b.get("/account"); strings.Contains(b.body, "fern") {
		t.Error("a purchase that failed was ordered")
	}

	b.send("/buy/fern", "/buy/fern")
	b.get("/return?otpost_result=" + b.otpost.result(b.otpost.lastVisit(t), "cancelled", nil)).wantsLead("/buy/fern")
	b.send("/buy/fern", "/buy/fern")
	visit = b.otpost.lastVisit(t)
	b.send("/buy/teapot", "/buy/teapot")
	b.get("/return?otpost_result=" + b.otpost.result(visit, "verified", nil)).wantsLead("/account")
	if b.get("/account"); strings.Contains(b.body, "teapot") || strings.Contains(b.body, "fern") {
		t.Error("the proof of one purchase bought another")
	}
	visit = b.otpost.lastVisit(t)
	for range 2 {
		b.get("/return?otpost_result=" + b.otpost.result(visit, "verified", nil)).wantsLead("/account")
	}
	if b.get("/account"); strings.Count(b.body, "Stoneware teapot") != 1 || !strings.Contains(b.body, "confirmed by your second factor") {
		t.Errorf("of one proof came: %s", b.body)
	}
}

func TestUsersFile(t *testing.T) {
	b := newBench(t).browser()
	b.signUp(ann)
	info, err := os.Stat(b.file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the users' file: %v, %v", info, err)
	}
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), password) || !strings.Contains(string(text), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("the users' file: %s", text)
	}
	b.send("/sign-up", "/sign-up", "email", "ANN@example.com", "password", password).wants(422, "There is an account with this address")
	for email, pass := range map[string]string{"ann": password, "bea@example.com": "1234567", "cid@example.com": "cid@example.com", "Dee <dee@example.com>": password} {
		b.send("/sign-up", "/sign-up", "email", email, "password", pass).wants(422, `role="alert"`)
	}
	b.bench.open() // another process: sessions are gone, users are not
	if b.isIn() {
		t.Error("a session outlived the process")
	}
	b.signIn(ann).wantsLead("/account")
}

func TestHeaders(t *testing.T) {
	b := newBench(t).browser()
	for _, path := range []string{"/", "/sign-in", "/style.css", "/logo.svg", "/nothing", "/account", "/return?otpost_result=x"} {
		b.get(path)
		h := b.last.Header
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + b.otpost.URL,
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", path, name, h.Get(name), want)
			}
		}
		if strings.Contains(b.body, "<script") || strings.Contains(b.body, "style=") {
			t.Errorf("%s has what its policy forbids", path)
		}
	}
	if b.get("/healthz").wants(200, "ok"); len(b.last.Cookies()) != 0 {
		t.Error("the health has cookies")
	}
}

func TestSessionsEnd(t *testing.T) {
	b := newBench(t).browser()
	b.signUp(ann)
	for range 7 {
		b.pass(119 * time.Minute)
		if b.clock().Sub(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)) < 12*time.Hour && !b.isIn() {
			t.Fatal("a session in use ended")
		}
	}
	if b.isIn() {
		t.Error("a session lasts for ever")
	}
	b.signIn(ann)
	b.pass(121 * time.Minute)
	if b.isIn() {
		t.Error("an idle session lasts for ever")
	}
}
