package inbox_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/inbox"
)

func TestAPI(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	res, body := do(t, "GET", server.URL+"/api/messages", "")
	if res.StatusCode != 200 || strings.TrimSpace(body) != "[]" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("empty: %d %q", res.StatusCode, body)
	}
	first := in.Add(inbox.Message{Channel: inbox.SMS, Provider: "twilio", To: "+14155550100", Text: "1"})
	in.Add(inbox.Message{Channel: inbox.Email, Provider: "smtp", To: "ann@example.com", Text: "2"})
	at := first.At.Add(-time.Second).In(time.FixedZone("", 3600)).Format(time.RFC3339)

	for query, want := range map[string][]string{
		"":                                    {"2", "1"},
		"?to=%2B14155550100":                  {"1"},
		"?to=+14155550100":                    {"1"}, // not escaped
		"?channel=email":                      {"2"},
		"?after=" + first.ID:                  {"2"},
		"?after=" + url.QueryEscape(at):       {"2", "1"},
		"?after=" + at:                        {"2", "1"}, // not escaped
		"?after=2999-01-01T00:00:00Z":         nil,
		"?limit=1":                            {"2"},
		"?channel=sms&to=ann%40example.com":   nil,
		"?to=&channel=&after=&limit=":         {"2", "1"},
		"?to=ANN%40example.com&channel=email": {"2"},
	} {
		res, body := do(t, "GET", server.URL+"/api/messages"+query, "")
		var got []inbox.Message
		if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 {
			t.Errorf("%s: %d, %v", query, res.StatusCode, err)
		}
		if diff := cmp.Diff(want, texts(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}

	for query, field := range map[string]string{
		"?after=yesterday": "after", "?after=00000000-0000-4000-8000-000000000000": "after", "?channel=fax": "channel",
		"?limit=0": "limit", "?limit=all": "limit",
	} {
		res, body := do(t, "GET", server.URL+"/api/messages"+query, "")
		var problem struct{ Field, Detail string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil || res.StatusCode != 400 || problem.Field != field ||
			!strings.HasPrefix(problem.Detail, field) || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", query, res.StatusCode, body)
		}
	}

	if res, _ := do(t, "DELETE", server.URL+"/api/messages", ""); res.StatusCode != 204 || len(in.List(inbox.Filter{})) != 0 {
		t.Errorf("DELETE: %d, %d messages left", res.StatusCode, len(in.List(inbox.Filter{})))
	}
}

func TestMethods(t *testing.T) {
	_, server := serve(t, inbox.Config{})
	for _, c := range []struct{ method, path, allow string }{
		{"POST", "/", "GET, HEAD"},
		{"PUT", "/api/messages", "DELETE, GET, HEAD"},
		{"GET", "/clear", "POST"},
		{"POST", "/healthz", "GET, HEAD"},
	} {
		if res, _ := do(t, c.method, server.URL+c.path, ""); res.StatusCode != 405 || res.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.path, res.StatusCode, res.Header.Get("Allow"))
		}
	}
	r, _ := http.NewRequest("GET", "/", nil)
	r.SetBasicAuth(accountSID, authToken)
	auth := r.Header.Get("Authorization")
	res, _ := do(t, "PUT", server.URL+"/twilio/2010-04-01/Accounts/"+accountSID+"/Messages.json", "", "Authorization", auth)
	if res.StatusCode != 405 || res.Header.Get("Allow") != "POST" {
		t.Errorf("PUT a message: %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
	for path, status := range map[string]int{
		"/healthz": 200, "/assets/inbox.css": 200, "/assets/inbox.js": 200, "/assets/icon.svg": 200,
		"/assets/": 404, "/assets/page.html": 404, "/nothing": 404, "/twilio/nothing": 404, "/messages/x/html": 404,
	} {
		if res, _ := do(t, "GET", server.URL+path, ""); res.StatusCode != status {
			t.Errorf("GET %s: %d, want %d", path, res.StatusCode, status)
		}
	}
}

func TestGuard(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	for host, status := range map[string]int{
		"localhost" + port: 200, "inbox.localhost" + port: 200, "127.0.0.1" + port: 200, "[::1]" + port: 200, "LOCALHOST.": 200,
		"evil.example" + port: 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "192.0.2.1": 403,
	} {
		if res, _ := do(t, "GET", server.URL+"/api/messages", "", "Host", host); res.StatusCode != status {
			t.Errorf("Host %s: %d, want %d", host, res.StatusCode, status)
		}
	}

	in.Add(inbox.Message{Text: "stays"})
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
	} {
		for _, c := range [][2]string{{"DELETE", "/api/messages"}, {"POST", "/clear"}} {
			if res, _ := do(t, c[0], server.URL+c[1], "", headers...); res.StatusCode != 403 {
				t.Errorf("%s with %v: %d", c[0], headers, res.StatusCode)
			}
		}
	}
	if len(in.List(inbox.Filter{})) != 1 {
		t.Fatal("another origin cleared the inbox")
	}
	res, _ := do(t, "POST", server.URL+"/clear", "", "Origin", server.URL, "Sec-Fetch-Site", "same-origin")
	if res.StatusCode != 303 || res.Header.Get("Location") != "/" || len(in.List(inbox.Filter{})) != 0 {
		t.Errorf("the page's own button: %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
}

func TestPage(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	res, body := do(t, "GET", server.URL+"/", "")
	if res.StatusCode != 200 || !strings.Contains(body, "No messages yet") || !strings.Contains(body, "15005550004") {
		t.Errorf("empty page: %d\n%s", res.StatusCode, body)
	}
	policy := res.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy: %s", policy)
	}

	in.Add(inbox.Message{Channel: inbox.SMS, To: "+14155550100", From: "Shop", Text: "<script>alert(1)</script> code 123456"})
	m := in.Add(inbox.Message{Channel: inbox.Email, To: "ann@example.com", Subject: "Code & more", Text: "654321", HTML: "<script>alert(1)</script><b>654321</b>"})
	_, body = do(t, "GET", server.URL+"/", "")
	for _, want := range []string{
		"2 messages", "&lt;script&gt;", "<mark>123456</mark>", `<p class="code">654321</p>`, "Code &amp; more",
		fmt.Sprintf(`<iframe src="/messages/%s/html" sandbox `, m.ID), `data-id="` + m.ID + `"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(body, "<script>alert") || strings.Contains(body, "http://") || strings.Contains(body, "https://") {
		t.Errorf("the page carries a message's script or a third party's address:\n%s", body)
	}

	res, body = do(t, "GET", server.URL+"/messages/"+m.ID+"/html", "")
	policy = res.Header.Get("Content-Security-Policy")
	if body != m.HTML || !strings.HasPrefix(policy, "sandbox; default-src 'none';") || strings.Contains(policy, "allow-scripts") {
		t.Errorf("the email's HTML: %q under %s", body, policy)
	}
}

func TestLivePage(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	res, err := server.Client().Get(server.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	next := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return "end"
	}
	if got := next(); got != "0" {
		t.Errorf("at first: %s", got)
	}
	in.Add(inbox.Message{Text: "1"})
	if got := next(); got != "1" {
		t.Errorf("after a message: %s", got)
	}
	in.Clear()
	if got := next(); got != "0" {
		t.Errorf("after Clear: %s", got)
	}
	in.Close()
	if got := next(); got != "end" {
		t.Errorf("after Close: %s", got)
	}
}
