package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file asks for every path of the HTTP edge, and holds the answers to what all of this host must have.

const pageCookie = "__Host-otpost-page"

// A shot is one request, and what came of it. Nothing is followed and no cookie is kept.
type shot struct {
	*http.Response
	body string
}

// bare follows nothing and keeps nothing.
var bare = func() *http.Client {
	c := otposttest.Insecure()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}()

// shoot sends a request with a cookie of a visit, none where it is empty. header is names and values in turn.
func (e *edge) shoot(method, path, cookie string, form url.Values, header ...string) shot {
	e.s.t.Helper()
	req, err := http.NewRequestWithContext(e.s.t.Context(), method, e.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		e.s.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	res, err := bare.Do(req)
	if err != nil {
		e.s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		e.s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return shot{res, string(body)}
}

// cookie is the one of the visitor's visit, as a header has it.
func (v *visitor) cookie() string {
	for _, c := range v.Cookies(v.URL) {
		if c.Name == pageCookie {
			return c.Name + "=" + c.Value
		}
	}
	v.e.s.t.Fatal("the browser has no visit")
	return ""
}

// token is what the forms of the visitor's pages carry.
func (v *visitor) token() string {
	v.e.s.t.Helper()
	forms := v.Forms("")
	if len(forms) == 0 {
		v.e.s.t.Fatalf("%s has no form:\n%s", v.URL.Path, v.Text())
	}
	return forms[0].Values.Get("csrf")
}

// routes are the paths that the sources of a part of the gateway name, by method.
func routes(t *testing.T, part string) (out map[string][]string) {
	t.Helper()
	paths, err := filepath.Glob("../gateway/" + part + "/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("sources of %s: %v", part, err)
	}
	calls := regexp.MustCompile(`\.(get|post|setting|Handle|HandleFunc)\("(?:(GET|POST) )?(/[^"]*)"( ?\+ ?method)?`)
	questions := regexp.MustCompile(`questionRoutes\("(/[a-z]+)"`)
	seen := map[string]map[string]bool{"GET": {}, "POST": {}}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range calls.FindAllStringSubmatch(string(b), -1) {
			path := strings.ReplaceAll(m[3], "{link}", "0000000000000000000000000000000000000000000")
			methods := []string{"GET", "POST"}
			switch {
			case m[2] != "":
				methods = []string{m[2]}
			case m[1] == "get", m[1] == "setting":
				methods = []string{"GET"}
			case m[1] == "post":
				methods = []string{"POST"}
			}
			for _, method := range methods {
				seen[method][path+map[bool]string{true: "email"}[m[4] != ""]] = true
			}
		}
		for _, m := range questions.FindAllStringSubmatch(string(b), -1) {
			for _, below := range []string{"", "/resend", "/ways"} {
				seen["GET"][m[1]+below], seen["POST"][m[1]+below] = true, true
			}
		}
	}
	out = map[string][]string{}
	for method, paths := range seen {
		out[method] = slices.Sorted(maps.Keys(paths))
		if len(out[method]) < 5 {
			t.Fatalf("of %s only %v were found", part, out)
		}
	}
	return out
}

// A hardening holds answers to what every one of this host must have.
type hardening struct {
	*testing.T
	nonces map[string]bool // that were seen
	host   string
}

// holds fails the test unless an answer has every header of security, and nothing that a browser should not run.
func (h *hardening) holds(what string, s shot) {
	h.Helper()
	bad := func(format string, args ...any) {
		h.Helper()
		h.Errorf("%s (%d): %s", what, s.StatusCode, fmt.Sprintf(format, args...))
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "max-age=31536000; includeSubDomains", "X-Robots-Tag": "noindex, nofollow",
	} {
		if got := s.Header.Values(name); len(got) != 1 || got[0] != want {
			bad("%s is %q", name, got)
		}
	}
	if cache := s.Header.Get("Cache-Control"); cache != "no-store" && !(s.StatusCode == 200 && strings.HasPrefix(cache, "public, max-age=")) {
		bad("Cache-Control is %q", cache)
	}
	policy := s.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "base-uri 'none'") ||
		!strings.Contains(policy, "form-action ") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, "http:") {
		bad("the policy is %q", policy)
	}
	if m := regexp.MustCompile(`script-src 'nonce-([A-Za-z0-9+/_=-]{22,})';`).FindStringSubmatch(policy); m != nil {
		if h.nonces[m[1]] {
			bad("the nonce was there before")
		}
		h.nonces[m[1]] = true
		h.clean(what, s, m[1])
	} else if strings.Contains(s.Header.Get("Content-Type"), "html") && s.body != "" {
		h.clean(what, s, "none")
	}
	for _, line := range s.Header.Values("Set-Cookie") {
		if !regexp.MustCompile(`^__Host-otpost-[a-z-]+=[A-Za-z0-9_-]*; Path=/; (Max-Age=0; )?HttpOnly; Secure; SameSite=Lax$`).MatchString(line) {
			bad("it sets the cookie %s", line)
		}
	}
	if to := s.Header.Get("Location"); to != "" && !regexp.MustCompile(`^(/([A-Za-z0-9.][A-Za-z0-9/.%?=_-]*)?|https://shop\.example/[a-z-]+\?otpost_result=[A-Za-z0-9_-]{43})$`).MatchString(to) {
		bad("it leads to %s", to)
	}
	if server := s.Header.Get("Server") + s.Header.Get("X-Powered-By"); server != "" {
		bad("it tells that it is %s", server)
	}
}

// clean fails the test if a page has a script or a style that does not carry the nonce, or anything inline that runs or loads.
func (h *hardening) clean(what string, s shot, nonce string) {
	h.Helper()
	if !strings.Contains(s.Header.Get("Content-Type"), "html") {
		return
	}
	for z := html.NewTokenizer(strings.NewReader(s.body)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			return
		}
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
			continue
		}
		tag := z.Token()
		has := map[string]string{}
		for _, a := range tag.Attr {
			has[a.Key] = a.Val
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcdoc" || strings.HasPrefix(strings.ToLower(strings.TrimSpace(a.Val)), "javascript:") {
				h.Errorf("%s: <%s %s=%q>", what, tag.Data, a.Key, a.Val)
			}
		}
		switch tag.Data {
		case "script", "style":
			if has["nonce"] != nonce || tag.Data == "script" && !strings.HasPrefix(has["src"], "/static/") {
				h.Errorf("%s: <%s> with %v", what, tag.Data, has)
			}
		case "iframe", "object", "embed", "base", "frame", "applet":
			h.Errorf("%s has <%s>", what, tag.Data)
		case "img":
			if !strings.HasPrefix(has["src"], "data:image/") {
				h.Errorf("%s has a picture of %.40s", what, has["src"])
			}
		case "form":
			if !strings.HasPrefix(has["action"], "/") && has["action"] != "" || strings.HasPrefix(has["action"], "//") || !strings.EqualFold(has["method"], "post") && has["method"] != "dialog" {
				h.Errorf("%s has a form of %v", what, has)
			}
		case "a":
			if to := has["href"]; !regexp.MustCompile(`^(/([^/\\]|$)|#|https://shop\.example/|otpauth://)`).MatchString(to) {
				h.Errorf("%s has a link to %q", what, to)
			}
		}
	}
}

// Every path, whoever asks for it and however it is answered, has the headers of security; and no form that is empty brings any page down.
func TestEveryAnswerIsHardened(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	h := &hardening{T: t, nonces: map[string]bool{}, host: e.URL}
	s.enrol("alice")
	login := s.begin("dora", bySMS(3))

	pages, support := routes(t, "pages"), routes(t, "desk")
	for method, paths := range pages {
		for _, path := range append(paths, support[method]...) {
			h.holds(method+" "+path+" of a stranger", e.shoot(method, path, "", url.Values{}))
			h.holds(method+" "+path+" with a cookie of nobody", e.shoot(method, path, pageCookie+"=x; __Host-otpost-desk=y", url.Values{"csrf": {"x"}}))
		}
	}
	for user, page := range map[string]string{
		"alice": event.PageSettings, "bob": event.PageSetup, "carol": event.PageRecovery, "dora": event.PageChallenge, "erin": event.PageBackupCodes, "frank": event.PageDeactivate,
	} {
		more := map[string]any{}
		if page == event.PageChallenge {
			more["challenge"] = login.Challenge
		}
		v := e.visit(user, page, more)
		for _, method := range []string{"GET", "POST"} {
			for i, path := range pages[method] {
				if path == "/leave" || path == "/" {
					continue
				}
				if i%20 == 0 { // a visit has its limits
					v.again(page, more)
				}
				form := url.Values{"csrf": {v.token()}}
				got := e.shoot(method, path, v.cookie(), form)
				what := method + " " + path + " in a visit for " + page
				if h.holds(what, got); got.StatusCode >= 500 || got.StatusCode == http.StatusForbidden || got.StatusCode == http.StatusTooManyRequests {
					t.Errorf("%s is answered %d:\n%s", what, got.StatusCode, got.body)
				}
				if method == "GET" && got.StatusCode == http.StatusOK && strings.Contains(got.body, "[common.") {
					t.Errorf("%s lacks a text:\n%s", what, got.body)
				}
			}
		}
		cookie, token := v.cookie(), v.token()
		h.holds("to leave "+page, e.shoot("POST", "/leave", cookie, url.Values{"csrf": {token}}))
		for _, method := range []string{"GET", "POST"} { // what has ended shows no page
			for i, path := range pages[method] {
				if i%6 != len(page)%6 || path == "/" || strings.HasPrefix(path, "/p/") {
					continue
				}
				got := e.shoot(method, path, cookie, url.Values{"csrf": {token}})
				if h.holds(method+" "+path+" after the end", got); got.StatusCode != http.StatusGone || strings.Contains(got.body, user) {
					t.Errorf("%s %s after the end of a visit for %s: %d\n%s", method, path, page, got.StatusCode, got.body)
				}
			}
		}
	}

	ann := s.agent(e.URL, "ann")
	at := ""
	for _, c := range ann.Cookies(ann.URL) {
		at += c.Name + "=" + c.Value + "; "
	}
	token := ann.Forms("")[0].Values.Get("csrf")
	for method, paths := range support {
		for _, path := range paths {
			if path == "/support/sign-out" {
				continue
			}
			for what, form := range map[string]url.Values{"without a token": {}, "with its token": {"csrf": {token}}} {
				got := e.shoot(method, path, at, form)
				if h.holds(method+" "+path+" of an agent "+what, got); got.StatusCode >= 500 {
					t.Errorf("%s %s of an agent %s is answered %d", method, path, what, got.StatusCode)
				}
			}
		}
	}

	for _, path := range []string{
		"/v1/verify", "/v1/nothing", "/v1/", "/v1", "/openapi.yaml", "/events/v1/", "/events/v1/..%2f..%2fapp.sql", "/static/", "/static/x/app.css", "/static/x/../../web.go",
		"/static/..%2f..%2fweb.go", "//settings", "/settings//x", "/settings/../leave", "/./p/x", "/settings/", "/nothing", "/favicon.ico", "/robots.txt", "/.well-known/x", "/%00",
		"/%2e%2e/%2e%2e/etc/passwd", "/p/", "/p/a/b", "/p/%2F%2Fevil.example", "/\\evil.example", "//evil.example/%2e%2e", "/?otpost_result=x", "/settings;x=1",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "TRACE"} {
			got := e.shoot(method, path, "", nil)
			if h.holds(method+" "+path, got); got.StatusCode >= 500 || strings.Contains(got.body, "package ") || strings.Contains(got.body, "root:") {
				t.Errorf("%s %s is answered %d\n%.300s", method, path, got.StatusCode, got.body)
			}
		}
	}
}
