package inbox_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/otpost/otpost/pkg/inbox"
)

const webhookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func webhookBody(change ...any) map[string]any {
	body := map[string]any{
		"id": uuid.NewString() + "-1", "token": "tok-1", "channel": "sms", "to": "+14155550100", "from": "Shop", "text": "Your code is 123456", "code": "123456",
		"locale": "en", "country": "US", "expires_at": time.Now().Add(time.Minute),
	}
	for i := 0; i < len(change); i += 2 {
		body[change[i].(string)] = change[i+1]
	}
	return body
}

// signedPost is the body of a post and its header.
func signedPost(t *testing.T, m map[string]any) (string, http.Header) {
	t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	id, _ := m["id"].(string)
	signature, err := signer.Sign(id, now, body)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("webhook-signature", signature)
	return string(body), header
}

func postWebhook(t *testing.T, base string, m map[string]any, spoil func(http.Header)) (int, map[string]string) {
	t.Helper()
	body, header := signedPost(t, m)
	if spoil != nil {
		spoil(header)
	}
	var headers []string
	for name := range header {
		headers = append(headers, name, header.Get(name))
	}
	res, text := do(t, "POST", base+"/webhook", body, headers...)
	said := map[string]string{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return res.StatusCode, said
}

func TestWebhookAccepts(t *testing.T) {
	app := listen(t, nil)
	in, server := serve(t, inbox.Config{WebhookSecret: webhookSecret, WebhookReceiptURL: app.URL + "/callbacks/{provider}"})
	status, said := postWebhook(t, server.URL+"/at/own", webhookBody(), nil)
	if status != 202 || said["reference"] == "" {
		t.Fatalf("%d %v", status, said)
	}
	got := in.List(inbox.Filter{})
	if len(got) != 1 || got[0].To != "+14155550100" || got[0].From != "Shop" || got[0].Channel != inbox.SMS || got[0].Provider != "own" ||
		got[0].Reference != said["reference"] || got[0].Code() != "123456" {
		t.Errorf("inbox: %+v", got)
	}
	verifier, err := standardwebhooks.NewWebhook(in.WebhookSecret())
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"accepted", "delivered"} {
		h := app.next(t)
		var told struct{ Token, Reference, State string }
		if err := json.Unmarshal(h.body, &told); err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(h.body, h.header); err != nil || told.Token != "tok-1" || told.Reference != said["reference"] || told.State != state {
			t.Errorf("receipt %s: %v", h.body, err)
		}
	}
	postWebhook(t, server.URL, webhookBody("channel", "email", "to", "ann@mail.example", "subject", "Code", "html", "<p>123456</p>", "token", ""), nil)
	got = in.List(inbox.Filter{Channel: inbox.Email})
	if len(got) != 1 || got[0].Subject != "Code" || got[0].HTML != "<p>123456</p>" || got[0].Provider != "webhook" {
		t.Errorf("inbox: %+v", got)
	}
}

func TestWebhookRefuses(t *testing.T) {
	in, server := serve(t, inbox.Config{WebhookSecret: webhookSecret})
	old := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	for _, c := range []struct {
		name   string
		body   map[string]any
		spoil  func(http.Header)
		status int
		class  string
	}{
		{"no signature", webhookBody(), func(h http.Header) { h.Del("webhook-signature") }, 401, "configuration"},
		{"another's signature", webhookBody(), func(h http.Header) { h.Set("webhook-signature", "v1,c2ln") }, 401, "configuration"},
		{"another id", webhookBody(), func(h http.Header) { h.Set("webhook-id", "other") }, 401, "configuration"},
		{"an old one", webhookBody(), func(h http.Header) { h.Set("webhook-timestamp", old) }, 401, "configuration"},
		{"no id", webhookBody("id", ""), nil, 401, "configuration"},
		{"no channel", webhookBody("channel", ""), nil, 400, "rejected"},
		{"to is none", webhookBody("to", "ann"), nil, 400, "rejected"},
		{"to is of another channel", webhookBody("channel", "email"), nil, 400, "rejected"},
		{"no text", webhookBody("text", ""), nil, 400, "rejected"},
		{"no subject", webhookBody("channel", "email", "to", "ann@mail.example"), nil, 400, "rejected"},
		{"no end", webhookBody("expires_at", time.Time{}), nil, 400, "rejected"},
		{"not an object of a message", webhookBody("text", 5), nil, 400, "rejected"},
		{"magic: invalid", webhookBody("to", "+15005550001"), nil, 422, "permanent"},
		{"magic: out of credit", webhookBody("to", "+15005550003"), nil, 403, "configuration"},
		{"magic: opted out", webhookBody("to", "+15005550004"), nil, 422, "rejected"},
		{"magic: throttled", webhookBody("to", "+15005550013"), nil, 429, "transient"},
		{"magic: out of order", webhookBody("to", "+15005550014"), nil, 503, ""},
		{"magic: no mailbox", webhookBody("channel", "email", "to", "Bounce@mail.example", "subject", "Code"), nil, 422, "permanent"},
	} {
		if status, said := postWebhook(t, server.URL, c.body, c.spoil); status != c.status || said["class"] != c.class {
			t.Errorf("%s: %d %v, want %d %s", c.name, status, said, c.status, c.class)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 0 {
		t.Errorf("%d refused messages are in the inbox", n)
	}
}
