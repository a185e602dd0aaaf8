package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file attacks the HTTP edge: as a stranger, as another site, as another app, and as a user within a visit of their own.

// A form is taken from the page that has served it, in the same visit, and from nowhere else.
func TestForgedForms(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	alice, bob := e.visit("alice", event.PageSettings, nil), e.visit("bob", event.PageSettings, nil)
	language := func() string {
		return otposttest.Get[string](t, s.db, `SELECT locale FROM page_sessions WHERE user_id = 'alice'`)
	}
	before := language()
	good := url.Values{"csrf": {alice.token()}, "language": {"ja"}, "path": {"/settings"}}
	with := func(token string) url.Values {
		return url.Values{"csrf": {token}, "language": {"ja"}, "path": {"/settings"}}
	}
	for name, c := range map[string]struct {
		method, path, cookie string
		form                 url.Values
		header               []string
		status               int
	}{
		"no token":                      {form: url.Values{"language": {"ja"}}, status: 403},
		"an empty token":                {form: with(""), status: 403},
		"a token of another visit":      {form: with(bob.token()), status: 403},
		"half a token":                  {form: with(alice.token()[:20]), status: 403},
		"the cookie for a token":        {form: with(strings.TrimPrefix(alice.cookie(), pageCookie+"=")), status: 403},
		"the token in the address":      {path: "/language?csrf=" + alice.token(), form: url.Values{"language": {"ja"}}, status: 403},
		"a cookie of another visit":     {cookie: bob.cookie(), form: good, status: 403},
		"no cookie":                     {cookie: "a=b", form: good, status: 401},
		"another site":                  {form: good, header: []string{"Sec-Fetch-Site", "cross-site"}, status: 403},
		"a neighbour":                   {form: good, header: []string{"Sec-Fetch-Site", "same-site"}, status: 403},
		"another origin":                {form: good, header: []string{"Origin", "https://evil.example"}, status: 403},
		"another host":                  {form: good, header: []string{"Host", "evil.example"}, status: 421},
		"a GET":                         {method: "GET", path: "/language?" + good.Encode(), status: 404},
		"a PUT":                         {method: "PUT", form: good, status: 405},
		"a method in disguise":          {method: "GET", path: "/language?_method=POST&" + good.Encode(), header: []string{"X-HTTP-Method-Override", "POST"}, status: 404},
		"JSON":                          {form: url.Values{}, header: []string{"Content-Type", "text/plain"}, status: 403},
		"parts":                         {form: good, header: []string{"Content-Type", "multipart/form-data; boundary=x"}, status: 403},
		"too much":                      {form: url.Values{"csrf": {alice.token()}, "language": {"ja"}, "x": {strings.Repeat("x", 70000)}}, status: 413},
		"what cannot be read":           {form: good, header: []string{"Content-Type", "a/b/c"}, status: 400},
		"too much, of a stranger":       {cookie: "a=b", form: url.Values{"x": {strings.Repeat("x", 70000)}}, status: 413},
		"a look, which changes nothing": {method: "HEAD", path: "/settings", status: 200},
	} {
		method, path, cookie := "POST", "/language", alice.cookie()
		if c.method != "" {
			method = c.method
		}
		if c.path != "" {
			path = c.path
		}
		if c.cookie != "" {
			cookie = c.cookie
		}
		got := e.shoot(method, path, cookie, c.form, c.header...)
		if got.StatusCode != c.status || language() != before {
			t.Errorf("%s: %d, and the language is %s\n%s", name, got.StatusCode, language(), got.body)
		}
		if strings.Contains(got.body, "evil.example") {
			t.Errorf("%s is answered with the host that it named:\n%s", name, got.body)
		}
	}
	if got := e.shoot("POST", "/language", alice.cookie(), good, "Origin", e.URL, "Sec-Fetch-Site", "same-origin"); got.StatusCode != 303 || language() != "ja" {
		t.Errorf("its own form: %d, and the language is %s", got.StatusCode, language())
	}

	// Who hammers on a visit waits, and others do not.
	for n := 0; ; n++ {
		got := e.shoot("POST", "/language", alice.cookie(), good)
		if got.StatusCode == http.StatusTooManyRequests {
			if n < 30 || got.Header.Get("Retry-After") == "" {
				t.Errorf("after %d forms: %v", n, got.Header)
			}
			break
		}
		if n > 100 {
			t.Fatal("there is no limit")
		}
	}
	if bob.Open("/settings"); bob.Status != 200 {
		t.Errorf("of another visit: %d", bob.Status)
	}
	s.clock.Advance(5 * time.Second)
	if got := e.shoot("POST", "/language", alice.cookie(), good); got.StatusCode != 303 {
		t.Errorf("a while later: %d", got.StatusCode)
	}
}

// Links are made of the public address whatever a request names as its host; they open in one browser, once; and with a cookie of its own, whatever was there before.
func TestLinksAndCookiesOfVisits(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	v := e.visit("alice", event.PageSettings, nil)
	body := map[string]any{"user": "alice", "session": "s", "page": "settings", "return_url": returnTo}
	status, _, text := e.post("/v1/page-sessions", body, "X-Forwarded-Host", "evil.example", "Forwarded", "host=evil.example;proto=http", "X-Forwarded-Proto", "http", "X-Original-URL", "/x")
	var made event.PageSessionReply
	if err := json.Unmarshal(text, &made); err != nil || status != 200 || !regexp.MustCompile("^"+regexp.QuoteMeta(e.URL)+"/p/[A-Za-z0-9_-]{43}$").MatchString(made.URL) {
		t.Fatalf("a link: %d %s", status, text)
	}
	link := strings.TrimPrefix(made.URL, e.URL)

	// A look at the link, a guess, or another host does not spend it.
	for _, c := range []shot{
		e.shoot("HEAD", link, "", nil), e.shoot("OPTIONS", link, "", nil), e.shoot("POST", link, "", url.Values{}), e.shoot("GET", link, "", nil, "Host", "evil.example"),
		e.shoot("GET", link+"x", "", nil), e.shoot("GET", link[:len(link)-1], "", nil), e.shoot("GET", link+"/", "", nil), e.shoot("GET", "/p/%20"+link[3:], "", nil),
	} {
		if c.StatusCode < 400 || len(c.Cookies()) != 0 {
			t.Errorf("%s %s is answered %d with %v", c.Request.Method, c.Request.URL.Path, c.StatusCode, c.Cookies())
		}
	}

	// Session fixation: a cookie that an attacker has planted, made up or of a visit of their own, is replaced, and what it was for goes on without this user.
	mallory := e.visit("mallory", event.PageSettings, nil)
	planted := mallory.cookie()
	opened := e.shoot("GET", link, planted+"; "+pageCookie+"=made-up", nil)
	if opened.StatusCode != 303 || opened.Header.Get("Location") != "/settings" || len(opened.Cookies()) != 1 {
		t.Fatalf("the link: %d %v", opened.StatusCode, opened.Header)
	}
	cookie := pageCookie + "=" + opened.Cookies()[0].Value
	if cookie == planted || len(opened.Cookies()[0].Value) != 43 || strings.Contains(link, opened.Cookies()[0].Value) {
		t.Error("the cookie was known before")
	}
	if got := e.shoot("GET", "/settings", cookie, nil); got.StatusCode != 200 || strings.Contains(got.body, "mallory") {
		t.Errorf("the visit: %d\n%s", got.StatusCode, got.body)
	}
	if got := e.shoot("GET", "/settings", planted, nil); got.StatusCode != 200 || !strings.Contains(got.body, "mallory@example.com") || strings.Contains(got.body, "alice") {
		t.Errorf("the other's visit: %d\n%s", got.StatusCode, got.body)
	}
	for _, c := range []string{pageCookie + "=" + link[3:], pageCookie + "=", pageCookie + "=made-up", "otpost-page=" + opened.Cookies()[0].Value, pageCookie + `="` + opened.Cookies()[0].Value + `x"`} {
		if got := e.shoot("GET", "/settings", c, nil); got.StatusCode != 401 {
			t.Errorf("with the cookie %.30s…: %d", c, got.StatusCode)
		}
	}

	// Nor does a result of one visit say anything of another: it names whose it is, and the app compares.
	mallory.Fill("/leave", nil)
	if r := mallory.result(); r.User != "mallory" || r.Session != "session of mallory" {
		t.Errorf("a result: %+v", r)
	}

	// A number of a request is taken where it is one.
	for given, kept := range map[string]bool{"abc-1._X": true, "": false, "a b": false, "<script>": false, "a\tb": false, strings.Repeat("x", 65): false, "é": false, `x"y`: false} {
		for _, path := range []string{"/settings", "/v1/verify", "/nothing"} {
			got := e.shoot("GET", path, "", nil, "X-Request-Id", given).Header.Values("X-Request-Id")
			if len(got) != 1 || (got[0] == given) != kept || !regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(got[0]) {
				t.Errorf("%s with the number %q is answered with %q", path, given, got)
			}
		}
	}
	// What no client library would send.
	conn, err := tls.Dial("tcp", strings.TrimPrefix(e.URL, "https://"), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the server is the test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(otposttest.Patience))
	if _, err := fmt.Fprintf(conn, "GET /settings HTTP/1.1\r\nHost: %s\r\nHost: evil.example\r\nX-Request-Id: a\x01b\r\nConnection: close\r\n\r\n", strings.TrimPrefix(e.URL, "https://")); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || strings.Contains(string(answer), "\x01") {
		t.Errorf("two hosts and a control character: %v\n%s", err, answer)
	}

	// What has expired shows no page, and takes no form.
	form := url.Values{"csrf": {v.token()}, "language": {"ja"}}
	s.clock.Advance(31 * time.Minute)
	for _, got := range []shot{e.shoot("GET", "/settings", v.cookie(), nil), e.shoot("POST", "/language", v.cookie(), form), e.shoot("POST", "/leave", v.cookie(), form)} {
		if got.StatusCode != http.StatusGone || strings.Contains(got.body, "alice") {
			t.Errorf("%s %s of a visit that has expired: %d\n%s", got.Request.Method, got.Request.URL.Path, got.StatusCode, got.body)
		}
	}
}

// Pages lead back to where the operator lets them, and to no other place that a form or an address could name.
func TestPagesLeadNowhereElse(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	for _, field := range []string{"return_url", "reauthenticate_url"} {
		for _, bad := range []string{
			"https://evil.example/", "https://shop.example.evil.example/", "https://shop.example@evil.example/", "https://evil.example/https://shop.example/", "//shop.example/",
			"http://shop.example/", "https://shop.example:444/", "https://shop.example\\@evil.example/", "javascript:alert(1)//https://shop.example/", "data:text/html,x",
			"https://shop.example/#x", "https://shop.example/..//evil", "https://shop.example/%2e%2e/x", "https://sub.shop.example/", "https://shop.example%2eevil.example/", "/in",
			"https://shop.example/a b", "https://shop.example/\r\nX: y", " https://shop.example/", "https://shop.exämple/", "https:shop.example/", "https:///shop.example/",
		} {
			body := map[string]any{"user": "alice", "session": "s", "page": "settings", "return_url": returnTo, "reauthenticate_url": "https://shop.example/password"}
			body[field] = bad
			if status, _, text := e.post("/v1/page-sessions", body); status < 400 || status > 499 || !strings.Contains(string(text), field) {
				t.Errorf("%s %q: %d %s", field, bad, status, text)
			}
		}
	}

	v := e.visit("alice", event.PageSettings, map[string]any{"return_url": "https://shop.example/in?b=2&a=%3C&otpost_result=old"})
	for _, path := range []string{"//evil.example", "/\\evil.example", "/\t/evil.example", "https://evil.example", "/settings?x=1", "/../x", "", "/%0d%0aX:y", "javascript:x"} {
		got := e.shoot("POST", "/language", v.cookie(), url.Values{"csrf": {v.token()}, "language": {"en"}, "path": {path}})
		if to := got.Header.Get("Location"); got.StatusCode != 303 || to != "/settings" {
			t.Errorf("back to %q leads to %q", path, to)
		}
	}
	for page, want := range map[string]string{
		"settings": "settings", "recovery": "recovery", "": "settings", "https://evil.example": "settings", "setup&x=y": "settings", "challenge": "recovery", "<script>": "settings",
	} {
		v.Open("/reauthenticate?page=" + url.QueryEscape(page))
		if !slices.Contains(v.Links(), "https://shop.example/password?otpost_page="+want) {
			t.Errorf("for the page %q the password is asked for at %v", page, v.Links())
		}
	}
	v.Open("/settings")
	v.Fill("/leave", nil)
	if q := v.URL.Query(); v.URL.Host != "shop.example" || !strings.HasPrefix(v.URL.RawQuery, "b=2&a=%3C&otpost_result=") || len(q["otpost_result"]) != 1 || q.Get("otpost_result") == "old" {
		t.Errorf("the way back is %s", v.URL)
	}
	// Who has shown a password only is not led to where more would take a second factor.
	login := s.begin("dora", bySMS(3))
	d := e.challenged("dora", login.Challenge)
	for _, page := range []string{"settings", "setup", "deactivate", "backup_codes", "challenge", ""} {
		d.Open("/reauthenticate?page=" + page)
		if !slices.Contains(d.Links(), "https://shop.example/password?otpost_page=recovery") {
			t.Errorf("for the page %q the password is asked for at %v", page, d.Links())
		}
	}
}

// What one app has, another one does not get at: neither its results, nor its challenges, nor its visits.
func TestAppsAreApart(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	operator := s.db.Role(string(bus.RoleOperator))
	app := s.db.App(t, "other", func(a *postgres.App) { a.DisplayName = "The Other" })
	key := otp.NewAPIKey()
	digest, _ := otp.APIKeyDigest(key)
	if _, err := postgres.NewAppKeys(operator).Create(t.Context(), s.clock.Now(), app.ID, "", digest, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := postgres.NewPages(operator).Set(t.Context(), s.clock.Now(), postgres.AppPages{AppID: app.ID, ReturnURLs: []string{"https://other.example/"}}); err != nil {
		t.Fatal(err)
	}
	as := []string{"Authorization", "Bearer " + key}
	s.enrol("alice")

	// A result.
	v := e.visit("alice", event.PageSettings, nil)
	cookie := v.cookie()
	v.Fill("/leave", nil)
	token := v.URL.Query().Get("otpost_result")
	if status, _, text := e.post("/v1/page-results", map[string]any{"result": token}, as...); status != 404 || strings.Contains(string(text), "alice") {
		t.Errorf("another app redeems a result: %d %s", status, text)
	}
	if r := v.result(); r.User != "alice" {
		t.Errorf("then its own app: %+v", r)
	}
	// Where it leads back to.
	body := map[string]any{"user": "alice", "session": "session of alice", "page": "settings", "return_url": returnTo, "account": "someone"}
	if status, _, text := e.post("/v1/page-sessions", body, as...); status != 422 && status != 400 {
		t.Errorf("another app leads back to this one: %d %s", status, text)
	}
	// A visit to its own user of the same name shows nothing of this one's, in a browser that has been in both.
	body["return_url"] = "https://other.example/in"
	open := func(body map[string]any) *otposttest.Browser {
		t.Helper()
		status, _, text := e.post("/v1/page-sessions", body, as...)
		var made event.PageSessionReply
		if err := json.Unmarshal(text, &made); err != nil || status != 200 {
			t.Fatalf("a visit of another app: %d %s", status, text)
		}
		b := otposttest.NewBrowser(t)
		b.Open(made.URL)
		return b
	}
	b := open(body)
	b.Says("The Other")
	if page := string(b.Body); b.Status != 200 || strings.Contains(page, "phone") || strings.Contains(page, "shop.example") || !strings.Contains(b.Header.Get("Content-Security-Policy"), "form-action 'self' https://other.example;") {
		t.Errorf("the other app's page: %d %v\n%s", b.Status, b.Header, b.Text())
	}
	if got := e.shoot("GET", "/settings", cookie, nil); strings.Contains(got.body, "The Other") {
		t.Error("an old visit shows the other app")
	}
	// A challenge of this app's user, for a visit of the other one.
	login := s.begin("dora", bySMS(3))
	c := open(map[string]any{"user": "dora", "session": "session of dora", "page": "challenge", "challenge": login.Challenge, "return_url": "https://other.example/in"})
	if c.Status != 200 || strings.Contains(c.Text(), login.To) || len(c.Forms("/challenge")) != 0 {
		t.Errorf("a challenge of another app: %d\n%s", c.Status, c.Text())
	}
	// And one of another user of the same app's, where the app has mixed them up.
	m := e.visit("mallory", event.PageChallenge, map[string]any{"challenge": login.Challenge})
	if m.hides(login.To, phone(3)); len(m.Forms("/challenge")) != 0 {
		t.Errorf("a challenge of another user:\n%s", m.Text())
	}
	got := e.shoot("POST", "/challenge", m.cookie(), url.Values{"csrf": {m.token()}, "code": {s.code(phone(3))}})
	if got.StatusCode == 303 || s.attempts(login.Challenge) != 0 {
		t.Errorf("the code of another user's challenge: %d, %d attempts\n%s", got.StatusCode, s.attempts(login.Challenge), got.body)
	}
	if strings.Contains(s.log.Logs(), token) || strings.Contains(s.log.Logs(), strings.TrimPrefix(cookie, pageCookie+"=")) {
		t.Error("the log has a token")
	}
}

// What people and apps call things is text, wherever it is shown: it neither becomes a part of the page nor turns round what stands beside it.
func TestTextOfOthersIsText(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	const script, hebrew = `</title><script>alert(1)</script><img src=x onerror=a(2)>"'`, "שלום"
	h := &hardening{T: t, nonces: map[string]bool{}}
	s.enrol("alice")
	for _, f := range s.factors("alice").Factors {
		must[event.FactorListReply](s, event.VerbFactorRename, map[string]any{"user": "alice", "factor": f.Factor, "label": script, "session": "session of alice"})
	}
	for account, shown := range map[string]bool{script: true, hebrew: true, "{{.Nonce}}": true, "a\u202eb": false, "a\u2066b": false, "a\nb": false, "a\x00b": false, "\u200b": false, strings.Repeat("x", 65): false} {
		body := map[string]any{"user": "alice", "session": "session of alice", "page": "settings", "return_url": returnTo, "account": account, "reauthenticated_at": s.now()}
		if status, _, text := e.post("/v1/page-sessions", body); (status == 200) != shown {
			t.Errorf("the account %q: %d %s", account, status, text)
		}
		if !shown {
			continue
		}
		v := e.visit("alice", event.PageSettings, map[string]any{"account": account})
		factor := v.Forms("/settings/rename/choose")[0].Values
		for _, path := range []string{"/settings", "/setup", "/settings/activity", "/settings/rename", "/settings/remove", "/deactivate", "/reauthenticate", "/nothing?x=" + url.QueryEscape(script)} {
			if path == "/settings/rename" {
				e.shoot("POST", "/settings/rename/choose", v.cookie(), factor)
			}
			got := e.shoot("GET", path, v.cookie(), nil, "User-Agent", script, "Accept-Language", script)
			h.holds(path, got)
			if strings.Contains(got.body, "<script>alert") || strings.Contains(got.body, "<img src=x") {
				t.Errorf("%s has the text as a part of the page:\n%s", path, got.body)
			}
			if got.StatusCode == 200 && !strings.Contains(got.body, "<bdi>"+html.EscapeString(account)+"</bdi>") {
				t.Errorf("%s does not say %q by itself", path, account)
			}
		}
	}
}

// One answered challenge serves one act, however many forms of however many tabs come with it at once; and none in another visit.
func TestAProofOfAPageServesOneAct(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	a := s.enrol("alice")
	a.next()
	v, other := e.visit("alice", event.PageSettings, nil), e.visit("alice", event.PageSettings, nil)
	change := func(v *visitor) shot {
		return e.shoot("POST", "/settings/recovery/change", v.cookie(), url.Values{"csrf": {v.token()}, "what": {"country"}})
	}
	if got := change(v); got.StatusCode != 303 || got.Header.Get("Location") != "/prove" {
		t.Fatalf("before the proof: %d %v", got.StatusCode, got.Header)
	}
	v.Open("/prove")
	token := v.token()
	v.Fill("/prove", map[string]string{"code": a.value()})
	v.At("/settings/recovery/country")
	if got := change(other); got.Header.Get("Location") != "/prove" {
		t.Errorf("in another visit the proof serves too: %d %v", got.StatusCode, got.Header)
	}
	countries := []string{"CZ", "DE", "ES", "FR", "IT", "JP"}
	answers := make([]shot, len(countries))
	var all sync.WaitGroup
	start := make(chan struct{})
	for i, country := range countries {
		all.Go(func() {
			<-start
			answers[i] = e.shoot("POST", "/settings/recovery/country", v.cookie(), url.Values{"csrf": {token}, "country": {country}})
		})
	}
	close(start)
	all.Wait()
	set := must[event.PreferencesReply](s, event.VerbRecoveryPreferences, map[string]any{"user": "alice"}).Country
	for i, got := range answers {
		switch {
		case got.StatusCode == 303 && got.Header.Get("Location") == "/settings/recovery":
			if set != countries[i] {
				t.Errorf("%s was set, and %s is", countries[i], set)
			}
		case got.StatusCode == http.StatusConflict, got.StatusCode == 303 && got.Header.Get("Location") == "/prove":
		default:
			t.Errorf("%s: %d %v\n%s", countries[i], got.StatusCode, got.Header, got.body)
		}
	}
	if done := s.actions("recovery.preferences_changed"); len(done) != 1 || !slices.Contains(countries, set) {
		t.Errorf("with one proof went %v, and the country is %q", done, set)
	}
}
