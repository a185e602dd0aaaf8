package web_test

import (
	"cmp"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/otpost/otpost/services/gateway/web"
)

// guarded answers one request from behind a guard. form is what came through, nil where nothing did.
func guarded(t *testing.T, public string, r *http.Request) (res *http.Response, form url.Values) {
	t.Helper()
	u, err := url.Parse(public)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	web.Guard{Public: u}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		form = url.Values{"nonce": {web.Nonce(r.Context())}}
		_ = r.PostFormValue("field")
		for name, values := range r.PostForm {
			form[name] = values
		}
	})).ServeHTTP(w, r)
	return w.Result(), form
}

const (
	public  = "https://auth.example:8443"
	formOf  = "application/x-www-form-urlencoded"
	strange = "--b\r\nContent-Disposition: form-data; name=\"field\"\r\n\r\nx\r\n--b--\r\n"
)

// What is for another host, came from another site, or is no form of ours is refused before any page sees it.
func TestGuard(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, host, kind, body string
		header                   map[string]string
		status                   int
	}{
		"a page":                            {status: 200},
		"a page, in capitals":               {host: "AUTH.example:8443", status: 200},
		"a form":                            {method: "POST", body: "field=x", status: 200},
		"another host":                      {host: "evil.example", status: 421},
		"another port":                      {host: "auth.example", status: 421},
		"a host with a dot":                 {host: "auth.example.:8443", status: 421},
		"a host below":                      {host: "x.auth.example:8443", status: 421},
		"no host":                           {host: "-", status: 421},
		"what a proxy says of the host":     {header: map[string]string{"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}, status: 200},
		"a form of another site":            {method: "POST", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403},
		"a form of a neighbour":             {method: "POST", header: map[string]string{"Sec-Fetch-Site": "same-site"}, status: 403},
		"a form of nobody":                  {method: "POST", header: map[string]string{"Sec-Fetch-Site": "none"}, status: 403},
		"a form of another origin":          {method: "POST", header: map[string]string{"Origin": "https://evil.example"}, status: 403},
		"a form of another port":            {method: "POST", header: map[string]string{"Origin": "https://auth.example"}, status: 403},
		"a form of another scheme":          {method: "POST", header: map[string]string{"Origin": "http://auth.example:8443"}, status: 403},
		"a form of our origin":              {method: "POST", body: "field=x", header: map[string]string{"Origin": public, "Sec-Fetch-Site": "same-origin"}, status: 200},
		"a form of an origin kept quiet":    {method: "POST", body: "field=x", header: map[string]string{"Origin": "null", "Sec-Fetch-Site": "same-origin"}, status: 200},
		"a page that another site links":    {header: map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, status: 200},
		"a removal from another site":       {method: "DELETE", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403},
		"the largest form":                  {method: "POST", body: "field=" + strings.Repeat("x", web.MaxForm-6), status: 200},
		"a form that is too large":          {method: "POST", body: "field=" + strings.Repeat("x", web.MaxForm-5), status: 413},
		"a form that cannot be read":        {method: "POST", body: "field=%zz", status: 400},
		"a form of nothing known":           {method: "POST", kind: "a/b/c;;", body: "field=x", status: 400},
		"a form in parts":                   {method: "POST", kind: "multipart/form-data; boundary=b", body: strange, status: 200},
		"a large form in parts":             {method: "POST", kind: "multipart/form-data; boundary=b", body: strings.Repeat(strange, 2000), status: 200},
		"JSON that another site could send": {method: "POST", kind: "text/plain", body: `{"field":"x"}`, status: 200},
	} {
		r := httptest.NewRequest(cmp.Or(c.method, http.MethodGet), "/settings?field=from-the-address", strings.NewReader(c.body))
		r.Host = "auth.example:8443"
		switch c.host {
		case "":
		case "-":
			r.Host = ""
		default:
			r.Host = c.host
		}
		r.Header.Set("Content-Type", formOf)
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		res, form := guarded(t, public, r)
		if res.StatusCode != c.status || (form != nil) != (c.status == 200) {
			t.Errorf("%s: %d, and came through: %v", name, res.StatusCode, form != nil)
		}
		if c.status == 200 && c.method == "POST" && form.Has("field") != (c.kind == "") {
			t.Errorf("%s has the field %.20q", name, form["field"])
		}
		if body, _ := io.ReadAll(res.Body); strings.Contains(string(body), "evil") {
			t.Errorf("%s is answered %s", name, body)
		}
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || res.Header.Get("Cache-Control") != "no-store" ||
			res.Header.Get("Referrer-Policy") != "no-referrer" || res.Header.Get("X-Frame-Options") != "DENY" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s is answered with %v", name, res.Header)
		}
		if form != nil && (len(form.Get("nonce")) < 22 || strings.Count(policy, "'nonce-"+form.Get("nonce")+"'") != 2) {
			t.Errorf("%s has the nonce %q in %s", name, form.Get("nonce"), policy)
		}
	}
}

// On a machine without certificates the browser is not told to ask for encryption for ever.
func TestStrictTransport(t *testing.T) {
	t.Parallel()
	for public, want := range map[string]string{"https://auth.example": "max-age=31536000; includeSubDomains", "http://localhost:8080": ""} {
		r := httptest.NewRequest(http.MethodGet, public+"/", nil)
		res, _ := guarded(t, public, r)
		if got := res.Header.Get("Strict-Transport-Security"); res.StatusCode != 200 || got != want {
			t.Errorf("%s: %d %q", public, res.StatusCode, got)
		}
	}
}

// A token serves one cookie, and none serves no cookie.
func TestTokensOfForms(t *testing.T) {
	t.Parallel()
	a, digest := web.Token()
	b, _ := web.Token()
	if a == b || len(a) != 43 || web.Digest(a) != digest || web.CSRF(a) == web.CSRF(b) || strings.Contains(web.CSRF(a), a) {
		t.Errorf("tokens %q and %q", a, b)
	}
	for _, c := range []struct {
		token, cookie string
		valid         bool
	}{{web.CSRF(a), a, true}, {web.CSRF(b), a, false}, {"", a, false}, {a, a, false}, {web.CSRF(a)[:42], a, false}, {web.CSRF(a) + "x", a, false}, {web.CSRF(""), "", false}, {"", "", false}} {
		r := httptest.NewRequest(http.MethodPost, "/?csrf="+url.QueryEscape(web.CSRF(a)), strings.NewReader(url.Values{"csrf": {c.token}}.Encode()))
		r.Header.Set("Content-Type", formOf)
		if got := web.ValidForm(r, c.cookie); got != c.valid {
			t.Errorf("the token %q for the cookie %q: %v", c.token, c.cookie, got)
		}
	}
}

func TestWhereRequestsComeFrom(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want, net string
	}{
		{"203.0.113.7:1", nil, "203.0.113.7", "203.0.113.7/32"},
		{"203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7", "203.0.113.7/32"}, // a stranger says where from
		{"10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1", "198.51.100.1/32"},
		{"10.0.0.1:1", []string{"1.2.3.4, 198.51.100.1"}, "198.51.100.1", "198.51.100.1/32"}, // what the client has made up
		{"10.0.0.1:1", []string{"1.2.3.4", "198.51.100.1, 10.0.0.2"}, "198.51.100.1", "198.51.100.1/32"},
		{"10.0.0.1:1", []string{"10.0.0.9"}, "10.0.0.9", "10.0.0.9/32"},
		{"10.0.0.1:1", []string{"<script>"}, "10.0.0.1", "10.0.0.1/32"},
		{"10.0.0.1:1", []string{"198.51.100.1, "}, "10.0.0.1", "10.0.0.1/32"},
		{"[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1", "198.51.100.1/32"},
		{"[fd00::1]:1", []string{"2001:db8::5:1"}, "2001:db8::5:1", "2001:db8::/64"},
		{"nowhere", nil, "nowhere", "invalid Prefix"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.remote
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		got := web.ClientIP(r, trusted)
		if n := web.Network(got).String(); got != c.want || n != c.net {
			t.Errorf("%s forwarded for %q comes from %s in %s, want %s in %s", c.remote, c.forwarded, got, n, c.want, c.net)
		}
	}
}

// Static files are those of the folder, under one version's address for ever and under any other for the moment.
func TestStaticFiles(t *testing.T) {
	t.Parallel()
	get := func(path string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = path
		w := httptest.NewRecorder()
		web.Static().ServeHTTP(w, r)
		return w.Result()
	}
	for _, path := range []string{
		"/static/", "/static/v", "/static/v/", "/static/v/nothing.css", "/static/v/../locales/common.en.json", "/static/v/../../web.go", "/static/v/../../../../../etc/passwd",
		"/static/v/../templates/layout.html", "/static/v/..\\web.go", "/static/v/%2e%2e/web.go", "/static/v//etc/passwd", "/static/v/app.css/", "/static/v/app.css\x00.js", "/static/v/.",
	} {
		if res := get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%q is answered %d", path, res.StatusCode)
		}
	}
	res := get("/static/older/app.css")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/css; charset=utf-8" || strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("of an older version: %d %v", res.StatusCode, res.Header)
	}
}

// Whatever a browser asks for, there is a language.
func TestLanguages(t *testing.T) {
	t.Parallel()
	texts, err := web.LoadTexts(web.Files(), os.DirFS("../pages"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ chosen, accept, want string }{
		{"", "", "en"},
		{"", "*", "en"},
		{"", "de", "de"},
		{"", "de-AT,en;q=0.5", "de"},
		{"", "tlh, pl;q=0.1", "pl"},
		{"cs", "de", "cs"},
		{"cs-CZ", "", "cs"},
		{"xx", "ja", "ja"},
		{"", "en;q=0, fr", "fr"},
		{"", "../../etc/passwd", "en"},
		{"<script>", "<script>", "en"},
		{"", "de;q=x", "en"},
		{"", ";;;,,,", "en"},
		{"", strings.Repeat("a-", 5000), "en"},
		{"", strings.Repeat("de,", 3000), "de"},
		{"", "\x00\xff", "en"},
		{"", "zh-Hant-TW", "en"},
	} {
		if got := texts.Match(c.chosen, c.accept).Tag; got != c.want {
			t.Errorf("chosen %.20q, accepted %.20q: %s, want %s", c.chosen, c.accept, got, c.want)
		}
	}
	if l := texts.Locale("nothing"); l.Tag != "en" {
		t.Errorf("of no tag: %s", l.Tag)
	}
}

// A cookie is only this host's, only over encryption, and nothing that a script reads.
func TestCookies(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	web.SetCookie(w, "__Host-a", "v")
	web.DropCookie(w, "__Host-b")
	form := regexp.MustCompile(`^__Host-(a=v; Path=/|b=; Path=/; Max-Age=0); HttpOnly; Secure; SameSite=Lax$`)
	for _, c := range w.Result().Header.Values("Set-Cookie") {
		if !form.MatchString(c) {
			t.Errorf("the cookie is %s", c)
		}
	}
}
