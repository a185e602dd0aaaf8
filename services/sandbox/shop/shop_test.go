package shop_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFromSignUpToSecondFactor(t *testing.T) {
	b := newBench(t).browser()
	who := b.signUp("Ann@Example.com ")
	visit := b.otpost.lastVisit(t)
	for name, want := range map[string]any{
		"page": "setup", "account": ann, "locale": "cs-CZ", "return_url": public + "/return", "reauthenticate_url": public + "/password",
		"reauthenticated_at": "2026-11-22T12:00:00Z", "challenge": nil,
	} {
		if visit[name] != want {
			t.Errorf("the page is asked for with %s %v, want %v", name, visit[name], want)
		}
	}
	if !strings.HasPrefix(b.leads(), b.otpost.URL+"/p/") {
		t.Errorf("the set-up leads to %s", b.leads())
	}
	b.otpost.enrol(who)
	b.get("/return?otpost_result=" + b.otpost.result(visit, "enrolled", nil)).wantsLead("/account")
	b.get("/account").wants(200, "Your second factor is set up").wants(200, "authenticator app and text message").wants(200, "Backup codes left: 10")
	b.get("/account")
	if strings.Contains(b.body, "is set up") {
		t.Error("the note is shown twice")
	}
	session := visit["session"]
	b.send("/account", "/sign-out").wantsLead("/")
	b.get("/").wants(200, "You are signed out.")
	signals := b.otpost.requests("signals/session.signed_out")
	if len(signals) != 1 || signals[0].body["user"] != who || signals[0].body["session"] != session || !strings.HasPrefix(signals[0].key, "signal-") {
		t.Errorf("signals of the sign-out: %v", signals)
	}

	b.signIn("  ANN@example.com")
	login := b.otpost.requests("login")[0].body
	if login["user"] != who || login["session"] == session || login["locale"] != "cs-CZ" || login["transaction"] != nil || login["to"] != nil || login["device"] != nil {
		t.Errorf("login %v", login)
	}
	if client, _ := login["client"].(map[string]any); client["ip"] != "192.0.2.1" || client["user_agent"] != "Browser/1" {
		t.Errorf("client %v", login["client"])
	}
	visit = b.otpost.lastVisit(t)
	if visit["page"] != "challenge" || visit["challenge"] != "c-1" || visit["session"] != login["session"] {
		t.Errorf("the challenge's page is asked for with %v", visit)
	}
	before := b.cookies["__Host-shop-session"]
	if b.isIn() {
		t.Fatal("the password alone signed in")
	}
	b.get("/return?otpost_result=" + b.otpost.result(visit, "verified", nil)).wantsLead("/account")
	if b.cookies["__Host-shop-session"] == before {
		t.Error("the cookie from before the second factor is that from after it")
	}
	b.get("/account").wants(200, `<dd id="proven">password and one-time code</dd>`)
	old := b.bench.browser()
	old.cookies["__Host-shop-session"] = before
	if old.isIn() {
		t.Error("the cookie from before the second factor is signed in")
	}
}

// What is half signed in opens nothing but the way on and the way out.
func TestHalfSignedIn(t *testing.T) {
	b := newBench(t).browser()
	b.enrolled(ann)
	b.signIn(ann)
	for _, path := range []string{"/account", "/welcome", "/account/password", "/account/delete", "/buy/lamp"} {
		b.get(path).wantsLead("/second-step")
	}
	before := len(b.otpost.requests("page-sessions"))
	for _, path := range []string{"/security", "/account/password", "/account/delete", "/sign-out-everywhere", "/buy/lamp"} {
		b.send("/second-step", path, "page", "settings", "password", password, "new-password", "another password").wantsLead("/second-step")
	}
	b.get("/password?otpost_page=settings").wants(404, "nothing here")
	b.send("/second-step", "/password", "page", "deactivate", "password", password).wants(404, "nothing here")
	if after := len(b.otpost.requests("page-sessions")); after != before {
		t.Errorf("half signed in, %d pages were opened", after-before)
	}

	b.send("/second-step", "/second-step")
	if visit := b.otpost.lastVisit(t); visit["page"] != "challenge" || visit["challenge"] != "c-1" {
		t.Errorf("to continue leads to %v", visit)
	}
	b.get("/return?otpost_result=" + b.otpost.result(b.otpost.lastVisit(t), "cancelled", nil)).wantsLead("/second-step")
	b.otpost.answer("status", func(w http.ResponseWriter, _ map[string]any) bool {
		_, _ = w.Write([]byte(`{"state":"expired"}`))
		return true
	})
	b.send("/second-step", "/second-step")
	if visit := b.otpost.lastVisit(t); visit["challenge"] != "c-2" {
		t.Errorf("to continue after the challenge has ended leads to %v", visit)
	}
	b.get("/return?otpost_result=" + b.otpost.result(b.otpost.lastVisit(t), "failed", nil)).wantsLead("/sign-in")
	b.get("/sign-in").wants(200, "The second step did not succeed")
	b.get("/second-step").wantsLead("/sign-in")

	b.signIn(ann)
	b.pass(31 * time.Minute)
	b.get("/second-step").wantsLead("/sign-in")
}

// Recovery from within the challenge: the password again where it is too long ago, and after it what otpost says.
func TestRecovery(t *testing.T) {
	b := newBench(t).browser()
	who := b.enrolled(ann)
	b.signIn(ann)
	b.pass(10 * time.Minute)
	b.get("/password?otpost_page=recovery").wants(200, "Enter your password")
	b.send("/password?otpost_page=recovery", "/password", "page", "recovery", "password", "wrong password").wants(422, "This is not your password")
	b.send("/password?otpost_page=recovery", "/password", "page", "recovery", "password", password)
	visit := b.otpost.lastVisit(t)
	if visit["page"] != "recovery" || visit["reauthenticated_at"] != "2026-11-22T12:10:00Z" || visit["challenge"] != nil {
		t.Errorf("recovery is asked for with %v", visit)
	}
	b.get("/return?otpost_result=" + b.otpost.result(visit, "cancelled", nil)).wantsLead("/second-step")
	if b.isIn() {
		t.Fatal("a recovery that was left signed in")
	}
	ticket := b.otpost.result(visit, "recovered", nil)
	b.get("/return?otpost_result=" + ticket) // the factors are still there, whatever the ticket says
	if b.isIn() || b.otpost.lastVisit(t)["page"] != "challenge" {
		t.Fatal("a recovery signed in, and otpost was not asked")
	}
	b.get("/return?otpost_result=" + b.otpost.result(b.otpost.lastVisit(t), "recovered", nil)) // the challenge was given up for it
	if b.isIn() || b.otpost.lastVisit(t)["challenge"] != "c-3" {
		t.Fatalf("a recovery from the challenge led to %v", b.otpost.lastVisit(t))
	}
	b.otpost.mu.Lock()
	delete(b.otpost.enrolled, who)
	b.otpost.mu.Unlock()
	b.get("/return?otpost_result=" + b.otpost.result(visit, "recovered", nil)).wantsLead("/account")
	b.get("/account").wants(200, "Set up a second factor")
}

// Session fixation: a result counts for the browser, the user, the session and the challenge that it is about.
func TestResultsOfOthers(t *testing.T) {
	bench := newBench(t)
	mallory := bench.browser()
	mallory.enrolled("mallory@example.com")
	mallory.signIn("mallory@example.com")
	hers := mallory.otpost.lastVisit(t)
	victim := bench.browser()
	victim.enrolled(ann)
	victim.signIn(ann)
	his := victim.otpost.lastVisit(t)

	for name, with := range map[string]map[string]any{
		"another user's":          {"user": hers["user"], "session": hers["session"], "challenge": hers["challenge"]},
		"of another user only":    {"user": hers["user"]},
		"of another session":      {"session": hers["session"]},
		"of another challenge":    {"challenge": hers["challenge"]},
		"of no challenge":         {"challenge": ""},
		"of another page":         {"page": "settings", "outcome": "done"},
		"of a page that verified": {"page": "settings", "outcome": "verified"},
		"failed":                  {"page": "recovery", "outcome": "cancelled"},
	} {
		victim.get("/return?otpost_result=" + bench.otpost.result(his, "verified", with))
		if victim.isIn() {
			t.Fatalf("a result %s signed the browser in", name)
		}
	}
	his = victim.otpost.lastVisit(t) // some of these made the shop ask otpost anew
	bench.otpost.answer("login", func(http.ResponseWriter, map[string]any) bool { t.Error("asked for a login"); return false })
	stranger := bench.browser()
	stranger.get("/return?otpost_result=" + bench.otpost.result(his, "verified", nil)).wantsLead("/account")
	if n := len(bench.otpost.requests("page-results")); stranger.isIn() || n != 8+2 { // of two enrolments, and the eight above
		t.Errorf("a browser without a session had a result redeemed (%d)", n)
	}

	ticket := bench.otpost.result(his, "verified", nil)
	victim.get("/return?otpost_result=" + ticket)
	if !victim.isIn() {
		t.Fatal("the right result did not sign in")
	}
	mallory.get("/return?otpost_result=" + ticket).wantsLead("/account") // a replay
	if mallory.isIn() {
		t.Error("a result that was used signed another in")
	}
	victim.get("/return?otpost_result=" + ticket).wantsLead("/account")
	victim.get("/account").wants(200, "is over or was used already")
}

// Two tickets of one challenge at once sign in once: each gives a cookie away, and one of them would be nobody's.
func TestResultsAtOnce(t *testing.T) {
	b := newBench(t).browser()
	b.enrolled(ann)
	b.signIn(ann)
	visit := b.otpost.lastVisit(t)
	cookie := b.cookies["__Host-shop-session"]
	fresh := make(chan string, 8)
	var all sync.WaitGroup
	for range cap(fresh) {
		one := b.bench.browser()
		one.cookies["__Host-shop-session"] = cookie
		ticket := b.otpost.result(visit, "verified", nil)
		all.Go(func() {
			one.get("/return?otpost_result=" + ticket)
			fresh <- one.cookies["__Host-shop-session"]
		})
	}
	all.Wait()
	close(fresh)
	in := 0
	for c := range fresh {
		one := b.bench.browser()
		one.cookies["__Host-shop-session"] = c
		if c != cookie && one.isIn() {
			in++
		}
	}
	if in != 1 {
		t.Errorf("%d sessions came of one sign-in", in)
	}
}

func TestTrustedBrowser(t *testing.T) {
	b := newBench(t).browser()
	who := b.enrolled(ann)
	b.signIn(ann)
	b.otpost.mu.Lock()
	b.otpost.trusted["token ☃"] = who
	b.otpost.mu.Unlock()
	b.get("/return?otpost_result=" + b.otpost.result(b.otpost.lastVisit(t), "verified", map[string]any{"device": "token ☃"})).wantsLead("/account")

	delete(b.cookies, "__Host-shop-session") // the browser was closed
	b.signIn(ann).wantsLead("/account")
	b.get("/account").wants(200, "you trust this browser").wants(200, `<dd id="proven">password</dd>`)
	logins := b.otpost.requests("login")
	if logins[len(logins)-1].body["device"] != "token ☃" {
		t.Errorf("the login named the device %v", logins[len(logins)-1].body["device"])
	}
	delete(b.cookies, "__Host-shop-session")
	b.signIn(ann).wantsLead("/account") // with the token that the last login brought

	b.otpost.answer("login", func(w http.ResponseWriter, _ map[string]any) bool { // its answer was lost, and the repeated one has no token
		_, _ = w.Write([]byte(`{"outcome":"skipped","reason":"trusted_device"}`))
		return true
	})
	delete(b.cookies, "__Host-shop-session")
	b.signIn(ann).wantsLead("/account")
	if renewals := b.otpost.requests("device.renew"); len(renewals) != 1 || renewals[0].body["device"] != "token ☃++" {
		t.Errorf("renewals %v", renewals)
	}
	b.otpost.answer("login", nil)
	b.otpost.mu.Lock()
	b.otpost.trusted["renewed"] = who
	b.otpost.mu.Unlock()
	delete(b.cookies, "__Host-shop-session")
	b.signIn(ann).wantsLead("/account")

	b.send("/account", "/account/password", "password", password, "new-password", "another password").wantsLead("/account")
	if b.cookies["__Host-shop-device"] != "" {
		t.Error("the browser keeps its token after a change of password")
	}
}

func TestRefusedAndUnavailable(t *testing.T) {
	b := newBench(t).browser()
	b.enrolled(ann)
	for reply, want := range map[string]string{
		`{"outcome":"refused","reason":"rate_limited","message":"…","retry_after":42}`: "Try again in 42 seconds",
		`{"outcome":"refused","reason":"locked","message":"…"}`:                        "locked after too many wrong codes",
		`{"outcome":"refused","reason":"stale","message":"…","retry_after":1200}`:      "Try again in 20 minutes",
		`{"outcome":"something new"}`:                                                  "You cannot sign in right now",
	} {
		b.otpost.answer("login", func(w http.ResponseWriter, _ map[string]any) bool { _, _ = w.Write([]byte(reply)); return true })
		b.signIn(ann).wants(http.StatusForbidden, want)
		if b.isIn() {
			t.Fatalf("%s signed in", reply)
		}
	}
	b.otpost.answer("login", func(w http.ResponseWriter, _ map[string]any) bool { problem(w, 503, "unavailable"); return true })
	before := len(b.otpost.requests("login"))
	b.signIn(ann).wants(http.StatusServiceUnavailable, "We cannot check your second factor")
	if b.isIn() {
		t.Fatal("otpost did not answer, and the password signed in")
	}
	tries := b.otpost.requests("login")[before:]
	if len(tries) != 2 || tries[0].body["id"] != tries[1].body["id"] || tries[0].key != tries[1].key {
		t.Errorf("a login without an answer was asked for as %v", tries)
	}
	b.otpost.answer("login", nil)
	b.otpost.answer("page-sessions", func(w http.ResponseWriter, _ map[string]any) bool { problem(w, 500, "internal"); return true })
	b.signIn(ann).wants(http.StatusServiceUnavailable, "We cannot check your second factor")
	if b.isIn() {
		t.Fatal("without a page the password signed in")
	}
	b.otpost.answer("page-sessions", func(w http.ResponseWriter, _ map[string]any) bool {
		_, _ = w.Write([]byte(`{"url":"https://evil.example/p/x"}`))
		return true
	})
	b.signIn(ann).wants(http.StatusServiceUnavailable, "We cannot check your second factor")
}
