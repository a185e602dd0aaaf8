package inbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/inbox"
)

const (
	vonageKey       = "abcd1234"
	vonageSecret    = "Abcdef0123456789"
	vonageSigSecret = "a signature secret of thirty-two"
)

// listener is an app that gets receipts.
type listener struct {
	*httptest.Server
	got chan heard
}

type heard struct {
	method string
	header http.Header
	query  url.Values
	body   []byte
}

// listen starts an app that answers as answer says, with 204 where that is nil.
func listen(t *testing.T, answer http.HandlerFunc) listener {
	t.Helper()
	l := listener{got: make(chan heard, 64)}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.got <- heard{r.Method, r.Header, r.URL.Query(), body}
		if answer != nil {
			answer(w, r)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l listener) next(t *testing.T) heard {
	t.Helper()
	select {
	case h := <-l.got:
		return h
	case <-time.After(10 * time.Second):
		t.Fatal("no receipt came")
		return heard{}
	}
}

func vonageForm(change ...string) url.Values {
	form := url.Values{
		"api_key": {vonageKey}, "api_secret": {vonageSecret}, "from": {"Shop"}, "to": {"14155550100"}, "text": {"Your code is 123456"}, "client-ref": {"tok-1"},
	}
	for i := 0; i < len(change); i += 2 {
		form.Set(change[i], change[i+1])
		if change[i+1] == "" {
			form.Del(change[i])
		}
	}
	return form
}

type vonageParts struct {
	Count    string `json:"message-count"`
	Messages []struct {
		To     string `json:"to"`
		ID     string `json:"message-id"`
		Status string `json:"status"`
		Error  string `json:"error-text"`
		Ref    string `json:"client-ref"`
	} `json:"messages"`
}

func sendVonage(t *testing.T, base string, form url.Values, headers ...string) (*http.Response, vonageParts) {
	t.Helper()
	res, body := do(t, "POST", base+"/vonage/sms/json", form.Encode(), append(headers, "Content-Type", "application/x-www-form-urlencoded")...)
	var parts vonageParts
	if err := json.Unmarshal([]byte(body), &parts); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return res, parts
}

func TestVonageAccepts(t *testing.T) {
	in, server := serve(t, inbox.Config{VonageKey: vonageKey, VonageSecret: vonageSecret})
	res, parts := sendVonage(t, server.URL+"/at/second", vonageForm())
	if res.StatusCode != 200 || parts.Count != "1" || len(parts.Messages) != 1 || parts.Messages[0].Status != "0" || parts.Messages[0].To != "14155550100" ||
		parts.Messages[0].Ref != "tok-1" {
		t.Fatalf("%d %+v", res.StatusCode, parts)
	}
	got := in.List(inbox.Filter{})
	if len(got) != 1 || got[0].To != "+14155550100" || got[0].From != "Shop" || got[0].Channel != inbox.SMS || got[0].Provider != "second" ||
		got[0].Reference != parts.Messages[0].ID || got[0].Code() != "123456" || in.Sent("second") != 1 {
		t.Errorf("inbox: %+v, %d sent", got, in.Sent("second"))
	}
	for _, c := range []struct {
		text, kind, arrives string
		parts               int
	}{
		{strings.Repeat("a", 161), "", strings.Repeat("a", 161), 2},
		{strings.Repeat("č", 71), "unicode", strings.Repeat("č", 71), 2},
		{"Kód: 1234 €č", "text", "K?d: 1234 €?", 1}, // what is not in the alphabet is lost
	} {
		_, parts := sendVonage(t, server.URL, vonageForm("text", c.text, "type", c.kind))
		if parts.Count != strconv.Itoa(c.parts) || len(parts.Messages) != c.parts {
			t.Errorf("%.10s: %+v, want %d parts", c.text, parts, c.parts)
		}
		if got := in.List(inbox.Filter{Limit: 1})[0].Text; got != c.arrives {
			t.Errorf("%q arrived as %q", c.text, got)
		}
	}
}

func TestVonageRefuses(t *testing.T) {
	in, server := serve(t, inbox.Config{VonageKey: vonageKey, VonageSecret: vonageSecret, VonageSignatureSecret: vonageSigSecret})
	signed := func(at time.Time, change ...string) url.Values {
		form := vonageForm("api_secret", "", "text", "a=b&c", "timestamp", strconv.FormatInt(at.Unix(), 10))
		form.Set("sig", inbox.VonageSignature(vonageSigSecret, form))
		for i := 0; i < len(change); i += 2 {
			form.Set(change[i], change[i+1])
		}
		return form
	}
	now := time.Now()
	for _, c := range []struct {
		name, status string
		form         url.Values
	}{
		{"signed", "0", signed(now)},
		{"signed, in small letters", "0", signed(now, "sig", strings.ToLower(signed(now).Get("sig")))},
		{"tampered", "14", signed(now, "text", "a=b&d")},
		{"old", "14", signed(now.Add(-time.Hour))},
		{"signed and secret", "32", signed(now, "api_secret", vonageSecret)},
		{"no key", "2", vonageForm("api_key", "")},
		{"wrong key", "4", vonageForm("api_key", "other")},
		{"wrong secret", "4", vonageForm("api_secret", "other")},
		{"no secret", "4", vonageForm("api_secret", "")},
		{"no to", "2", vonageForm("to", "")},
		{"no from", "2", vonageForm("from", "")},
		{"no text", "2", vonageForm("text", "")},
		{"to is none", "3", vonageForm("to", "0155")},
		{"sender is none", "15", vonageForm("from", "no such sender!")},
		{"type is none", "3", vonageForm("type", "smoke")},
		{"ttl too short", "3", vonageForm("ttl", "19999")},
		{"ttl too long", "3", vonageForm("ttl", "604800001")},
		{"reference too long", "3", vonageForm("client-ref", strings.Repeat("x", 101))},
		{"callback is none", "23", vonageForm("callback", "callback")},
		{"callback too long", "23", vonageForm("callback", "https://app.example/"+strings.Repeat("x", 81))},
		{"text too long", "12", vonageForm("text", strings.Repeat("é", 3201))},
		{"magic: not valid", "3", vonageForm("to", "15005550001")},
		{"magic: prefix", "6", vonageForm("to", "15005550002")},
		{"magic: sender", "15", vonageForm("to", "15005550003")},
		{"magic: barred", "7", vonageForm("to", "15005550004")},
		{"magic: out of use", "33", vonageForm("to", "15005550009")},
		{"magic: throttled", "1", vonageForm("to", "15005550013")},
	} {
		res, parts := sendVonage(t, server.URL, c.form)
		if res.StatusCode != 200 || len(parts.Messages) != 1 || parts.Messages[0].Status != c.status || (parts.Messages[0].Error == "") != (c.status == "0") {
			t.Errorf("%s: %d %+v, want status %s", c.name, res.StatusCode, parts, c.status)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 2 {
		t.Errorf("%d messages in the inbox, 2 were taken", n)
	}
	if tally := in.Tallies()["vonage"]; tally.Accepted != 2 || tally.Refused != 6 {
		t.Errorf("counts %+v", tally)
	}
	form := vonageForm("to", "15005550014").Encode()
	if res, _ := do(t, "POST", server.URL+"/vonage/sms/json", form, "Content-Type", "application/x-www-form-urlencoded"); res.StatusCode != 503 {
		t.Errorf("magic: out of order: %d", res.StatusCode)
	}
}

// Signatures that Vonage's own libraries are tested with; the fields are those of a message that came in.
func TestVonageSignature(t *testing.T) {
	params := url.Values{
		"message-timestamp": {"2013-11-21 15:27:30"}, "messageId": {"020000001B0FE827"}, "msisdn": {"14843472194"}, "text": {"Test again"},
		"timestamp": {"1385047698"}, "to": {"13239877404"}, "type": {"text"}, "sig": {"no matter"},
	}
	if got := inbox.VonageSignature("my_secret_key_for_testing", params); got != "DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330" {
		t.Errorf("signature %s", got)
	}
}

func TestVonageReceipts(t *testing.T) {
	for _, method := range []string{inbox.VonageGET, inbox.VonagePOST, inbox.VonagePOSTJSON} {
		t.Run(method, func(t *testing.T) {
			app := listen(t, nil)
			in, server := serve(t, inbox.Config{
				VonageKey: vonageKey, VonageSecret: vonageSecret, VonageSignatureSecret: vonageSigSecret, VonageReceiptMethod: method,
				VonageReceiptURL: app.URL + "/callbacks/{provider}?by=default",
			})
			for _, c := range []struct {
				form     url.Values
				statuses []string
				code     string
			}{
				{vonageForm(), []string{"accepted", "delivered"}, "0"},
				{vonageForm("to", "15005550010", "callback", app.URL+"/own"), []string{"accepted", "failed"}, "3"},
				{vonageForm("to", "15005550011"), []string{"accepted", "rejected"}, "6"},
			} {
				_, parts := sendVonage(t, server.URL, c.form)
				for i, status := range c.statuses {
					got := app.next(t)
					params := got.query
					switch method {
					case inbox.VonagePOST:
						params, _ = url.ParseQuery(string(got.body))
					case inbox.VonagePOSTJSON:
						flat := map[string]string{}
						if err := json.Unmarshal(got.body, &flat); err != nil {
							t.Fatal(err)
						}
						params = url.Values{}
						for name, value := range flat {
							params.Set(name, value)
						}
					}
					params.Del("by") // of the URL, and not Vonage's
					want := "0"
					if i == 1 {
						want = c.code
					}
					if params.Get("status") != status || params.Get("err-code") != want || params.Get("messageId") != parts.Messages[0].ID ||
						params.Get("msisdn") != c.form.Get("to") || params.Get("to") != "Shop" || params.Get("client-ref") != "tok-1" ||
						params.Get("api-key") != vonageKey || params.Get("sig") != inbox.VonageSignature(vonageSigSecret, params) {
						t.Errorf("%s to %s: %v", got.method, c.form.Get("to"), params)
					}
				}
			}
			waitFor(t, "counted receipts", func() bool { return in.Tallies()["vonage"].Callbacks == 6 })
		})
	}
}

// waitFor polls until holds does.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting in vain for %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// Every field of a fault does what it says, for both simulators that tell receipts by the same code.
func TestVonageAndWebhookFaults(t *testing.T) {
	app := listen(t, nil)
	in, server := serve(t, inbox.Config{
		VonageKey: vonageKey, VonageSecret: vonageSecret, VonageReceiptURL: app.URL, WebhookSecret: webhookSecret, WebhookReceiptURL: app.URL,
	})
	try := func(kind string) (status int, code string, err error) { // one message, without a helper that fails the test when the connection breaks
		path, body, header := "/vonage/sms/json", vonageForm().Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		if kind == "webhook" {
			path = "/webhook"
			body, header = signedPost(t, webhookBody())
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		var said struct {
			Code     string
			Messages []struct{ Status string }
		}
		_ = json.NewDecoder(res.Body).Decode(&said)
		if len(said.Messages) > 0 {
			said.Code = said.Messages[0].Status
		}
		return res.StatusCode, said.Code, nil
	}
	state := func(h heard) string {
		form, _ := url.ParseQuery(string(h.body))
		var told struct{ State string }
		_ = json.Unmarshal(h.body, &told)
		return form.Get("status") + told.State
	}
	codes := map[string]string{"vonage": "7", "webhook": "opted-out"}
	ends := map[string]string{"vonage": "failed", "webhook": "undelivered"} // how each says that the outcome is undelivered
	for _, kind := range []string{"vonage", "webhook"} {
		ok := map[string]int{"vonage": 200, "webhook": 202}[kind]
		for _, c := range []struct {
			name     string
			fault    inbox.Fault
			status   int // 0: no answer
			code     string
			kept     bool
			receipts []string
		}{
			{"none", inbox.Fault{Delay: time.Millisecond}, ok, "", true, []string{"accepted", "delivered"}},
			{"drop", inbox.Fault{Drop: true}, 0, "", false, nil},
			{"accept, then drop", inbox.Fault{AcceptThenDrop: true}, 0, "", true, []string{"accepted", "delivered"}},
			{"status", inbox.Fault{Status: 429, RetryAfter: time.Second}, 429, "", false, nil},
			{"status and code", inbox.Fault{Status: 418, Code: codes[kind]}, 418, codes[kind], false, nil},
			{"lost", inbox.Fault{Lost: true}, ok, "", false, nil},
			{"no receipt", inbox.Fault{Outcome: "none"}, ok, "", true, nil},
			{"undelivered", inbox.Fault{Outcome: "undelivered", ReceiptDelay: time.Millisecond}, ok, "", true, []string{"accepted", ends[kind]}},
			{"twice", inbox.Fault{Repeat: 1}, ok, "", true, []string{"accepted", "accepted", "delivered", "delivered"}},
			{"reversed", inbox.Fault{Reversed: true}, ok, "", true, []string{"delivered", "accepted"}},
		} {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				in.Clear()
				in.SetFaults(inbox.FaultRule{Provider: kind, To: "+1415*", Fault: c.fault})
				status, code, err := try(kind)
				if status != c.status || (err != nil) != (c.status == 0) || c.code != "" && code != c.code {
					t.Errorf("answered %d, %q, %v", status, code, err)
				}
				if kept := len(in.List(inbox.Filter{})) == 1; kept != c.kept {
					t.Errorf("in the inbox: %v", kept)
				}
				for _, want := range c.receipts {
					if got := state(app.next(t)); got != want {
						t.Errorf("receipt %q, want %q", got, want)
					}
				}
			})
		}
	}
	select {
	case h := <-app.got:
		t.Errorf("a receipt that nobody asked for: %s", h.body)
	default:
	}
}

// A receipt is told again when it was not heard, and to no other machine at all.
func TestReceiptsAreTriedAgainAndStayHere(t *testing.T) {
	failures := make(chan struct{}, 1)
	failures <- struct{}{}
	app := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-failures:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, "ok")
		}
	})
	in, server := serve(t, inbox.Config{VonageKey: vonageKey, VonageSecret: vonageSecret})
	sendVonage(t, server.URL, vonageForm("callback", app.URL))
	for _, want := range []string{"accepted", "accepted", "delivered"} {
		if form, _ := url.ParseQuery(string(app.next(t).body)); form.Get("status") != want {
			t.Errorf("receipt %q, want %q", form.Get("status"), want)
		}
	}
	sendVonage(t, server.URL, vonageForm("callback", "http://192.0.2.1/callback"))
	waitFor(t, "two receipts that were given up", func() bool { return in.Counts().CallbacksFailed == 2 })
	sendVonage(t, server.URL, vonageForm("callback", app.URL, "status-report-req", "false"))
	select {
	case h := <-app.got:
		t.Errorf("a receipt that nobody asked for: %s", h.body)
	default:
	}
}
