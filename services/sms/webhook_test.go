package sms

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
)

func TestWebhookPostsASignedMessage(t *testing.T) {
	verifier, err := standardwebhooks.NewWebhook(testWhsec)
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	var id string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		if err := verifier.Verify(content, r.Header); err != nil || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" ||
			r.URL.RawQuery != "k=1" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		body, id = nil, r.Header.Get("webhook-id")
		if err := json.Unmarshal(content, &body); err != nil {
			t.Error(err)
		}
		io.WriteString(w, `{"reference":"r-1","more":true}`)
	}))
	defer server.Close()
	m := codeMessage()
	end := m.ExpiresAt.UTC().Format(time.RFC3339Nano)
	mail := codeMessage()
	mail.To, mail.Country, mail.Subject, mail.HTML, mail.Token, mail.Code = "ann@mail.example", "", "Your <code>", "<p>493817</p>", "", ""
	mail.ExpiresAt = m.ExpiresAt
	for _, c := range []struct {
		channel otp.Channel
		m       *delivery.Message
		want    map[string]any
	}{
		{otp.SMS, m, map[string]any{
			"id": m.Reference, "token": testReceipt, "channel": "sms", "to": testNumber, "from": "Shop", "text": testText, "code": "493817", "locale": "en",
			"country": "US", "expires_at": end,
		}},
		{otp.Email, mail, map[string]any{
			"id": m.Reference, "channel": "email", "to": "ann@mail.example", "from": "Shop", "subject": "Your <code>", "text": testText, "html": "<p>493817</p>",
			"locale": "en", "expires_at": end,
		}},
	} {
		w, logged := newTestWebhook(t, server.URL+"/in?k=1", func(w *WebhookConfig) { w.Channel, w.From, w.Name = c.channel, "Shop", "own" })
		accepted, err := w.Send(t.Context(), c.m)
		if err != nil || accepted.Reference != "r-1" || w.Name() != "own" || logged.String() != "" {
			t.Errorf("Send = %+v, %v, logged %s", accepted, err, logged)
		}
		if fmt.Sprint(body) != fmt.Sprint(c.want) || id != c.m.Reference {
			t.Errorf("%s: the server saw\n%v, want\n%v", id, body, c.want)
		}
	}
}

// The simulator takes messages of every channel.
func TestWebhookAndItsSimulator(t *testing.T) {
	in, base := simulate(t, inbox.Config{})
	for _, channel := range otp.Channels() {
		w, _ := newTestWebhook(t, base+"/at/own/webhook", func(c *WebhookConfig) { c.Channel = channel })
		m := codeMessage()
		if channel == otp.Email {
			m.To, m.Subject, m.HTML = "ann@mail.example", "Code", "<p>493817</p>"
		}
		accepted, err := w.Send(t.Context(), m)
		got := in.List(inbox.Filter{Channel: string(channel)})
		if err != nil || len(got) != 1 || got[0].Text != testText || got[0].HTML != m.HTML || got[0].To != m.To || got[0].Provider != "own" ||
			got[0].Reference != accepted.Reference {
			t.Errorf("%s: %+v, %v, inbox %+v", channel, accepted, err, got)
		}
	}
}

func TestWebhookClasses(t *testing.T) {
	in, base := simulate(t, inbox.Config{})
	w, logged := newTestWebhook(t, base+"/webhook")
	for code, class := range map[string]delivery.Class{
		"invalid-address": delivery.Permanent, "opted-out": delivery.Rejected, "throttled": delivery.Transient, "no-credit": delivery.Configuration,
	} {
		in.SetFaults(inbox.FaultRule{Fault: inbox.Fault{Code: code, RetryAfter: 9 * time.Second}})
		_, err := w.Send(t.Context(), codeMessage())
		e := expectFailure(t, err, class, code, logged)
		if (e.RetryAfter == 9*time.Second) != (class == delivery.Transient) || !strings.HasPrefix(e.Reason, "no way to reach") {
			t.Errorf("%s: %+v", code, e)
		}
	}
	in.ClearFaults()
	other, logged := newTestWebhook(t, base+"/webhook", func(c *WebhookConfig) { c.Secret = "whsec_" + strings.Repeat("QUJD", 8) })
	_, err := other.Send(t.Context(), codeMessage())
	expectFailure(t, err, delivery.Configuration, "signature", logged)
}

func TestWebhookAnswers(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		class      delivery.Class
		code       string
		taken      bool
		reference  string
	}{
		{name: "nothing", status: 204, taken: true},
		{name: "a reference", status: 200, body: `{"reference":"r-1"}`, taken: true, reference: "r-1"},
		{name: "no JSON", status: 200, body: "OK", taken: true},
		{name: "a reference that is too long", status: 200, body: `{"reference":"` + strings.Repeat("r", 101) + `"}`, taken: true},
		{name: "a reference with a line break", status: 200, body: `{"reference":"r\n1"}`, taken: true},
		{name: "an endless body", status: 200, body: `{"reference":"r-1"}` + strings.Repeat(" ", maxAnswerBody), taken: true},
		{name: "a class", status: 500, body: `{"class":"permanent","code":"550 5.1.1","reason":"no such mailbox"}`, class: delivery.Permanent, code: "550 5.1.1"},
		{name: "an unknown class", status: 503, body: `{"class":"whatever","code":"x"}`, class: delivery.Transient, code: "x"},
		{name: "ambiguous is no class of refusals", status: 400, body: `{"class":"ambiguous"}`, class: delivery.Rejected, code: "HTTP 400"},
		{name: "the number as code", status: 400, body: `{"code":"14155550100"}`, class: delivery.Rejected, code: "HTTP 400"},
		{name: "the code as code", status: 400, body: `{"code":"x-493817"}`, class: delivery.Rejected, code: "HTTP 400"},
		{name: "an endless code", status: 400, body: `{"code":"` + strings.Repeat("x", 41) + `"}`, class: delivery.Rejected, code: "HTTP 400"},
		{
			name: "a talkative reason", status: 422, body: `{"class":"rejected","reason":"` + testText + ` to ` + testNumber + ` (415-555-0100) or ann@mail.example"}`,
			class: delivery.Rejected, code: "HTTP 422",
		},
		{name: "a redirect that claims to be permanent", status: 302, body: `{"class":"permanent"}`, class: delivery.Configuration, code: "HTTP 302"},
		{name: "an endless refusal", status: 400, body: strings.Repeat("x", maxAnswerBody+1), class: delivery.Rejected, code: "HTTP 400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer server.Close()
			w, logged := newTestWebhook(t, server.URL)
			accepted, err := w.Send(t.Context(), codeMessage())
			if c.taken {
				if err != nil || accepted.Reference != c.reference {
					t.Errorf("Send = %+v, %v", accepted, err)
				}
				return
			}
			expectFailure(t, err, c.class, c.code, logged)
		})
	}
}

func TestNewWebhookNamesTheWrongField(t *testing.T) {
	good := WebhookConfig{Channel: otp.SMS, URL: "https://sender.example/in", Secret: testWhsec}
	for _, c := range []struct {
		field  string
		change func(*WebhookConfig)
	}{
		{"Name", func(c *WebhookConfig) { c.Name = "-own" }},
		{"Channel", func(c *WebhookConfig) { c.Channel = "" }},
		{"Channel", func(c *WebhookConfig) { c.Channel = otp.Letter }},
		{"URL", func(c *WebhookConfig) { c.URL = "" }},
		{"URL", func(c *WebhookConfig) { c.URL = "http://sender.example/in?k=hidden" }},
		{"URL", func(c *WebhookConfig) { c.URL = "https://user:hidden@sender.example/in" }},
		{"Secret", func(c *WebhookConfig) { c.Secret = "" }},
		{"Secret", func(c *WebhookConfig) { c.Secret = strings.TrimPrefix(testWhsec, "whsec_") }},
		{"Secret", func(c *WebhookConfig) { c.Secret = "whsec_aGlkZGVu" }},
		{"Secret", func(c *WebhookConfig) { c.Secret = "whsec_hidden!" }},
		{"Timeout", func(c *WebhookConfig) { c.Timeout = -1 }},
		{"Connections", func(c *WebhookConfig) { c.Connections = -1 }},
	} {
		config := good
		c.change(&config)
		_, err := NewWebhook(config)
		if err == nil || !strings.Contains(err.Error(), c.field) || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "aGlkZGVu") {
			t.Errorf("error %v, want one that names %s", err, c.field)
		}
	}
	w, err := NewWebhook(good)
	if err != nil || w.Name() != "webhook" {
		t.Errorf("%+v, %v", w, err)
	}
}
