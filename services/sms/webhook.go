package sms

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otp"
)

// WebhookConfig says where messages are posted to, and how they are signed.
type WebhookConfig struct {
	Name    string      // of the provider in events, rows and metrics; default "webhook"
	Channel otp.Channel // that the messages are of: sms, voice, whatsapp or email; told to the target
	URL     string      // https, or http on one's own machine; it may have a query
	Secret  string      // "whsec_" and 24 to 64 octets in base64: what posts are signed with (Standard Webhooks 1.0.0)
	From    string      // told as sender where Message.Sender is empty; may be empty

	Timeout     time.Duration // of one send from the first byte to the last; bounded by the caller's context as well; default 10 s
	Connections int           // open at most, and kept open while idle; default 64
	Logger      *slog.Logger  // default slog.Default()
	Now         func() time.Time
}

// Bounds of a webhook's secret, in octets (Standard Webhooks 1.0.0, "Signature scheme").
const (
	minWebhookSecret = 24
	maxWebhookSecret = 64
)

// Webhook hands messages to a sender of the operator's own, by one signed POST of JSON for each. It is safe for concurrent use, and serves any channel
// whose address is a text.
//
// The body is an object with these members; those without a value are left out:
//
//	id          stable for the delivery; the same when it is sent again, and the same as the header webhook-id
//	token       what a receipt is to bring back; absent where none is waited for
//	channel     sms, voice, whatsapp or email
//	to          E.164 with "+", or a mail address
//	from        the sender that is asked for
//	subject     of email
//	text        the message; for email its text/plain part
//	html        of email
//	code        the digits by themselves, for those who fill in a template
//	locale      BCP 47
//	country     of the number, ISO 3166-1 alpha-2
//	expires_at  RFC 3339; after it the message is worth nothing
//
// Any 2xx means that the target has taken the message; its body may be {"reference": "<the target's id, up to 100 characters>"}. Any other answer is a
// refusal. Its body may be {"class": "permanent|rejected|transient|configuration", "code": "…", "reason": "…"}, which says what may be done about it as
// delivery.Class does; without it the HTTP status says it. Retry-After is honoured.
type Webhook struct {
	name      string
	channel   otp.Channel
	from      string
	target    *url.URL
	signer    *standardwebhooks.Webhook
	limits    httpLimits
	transport *http.Transport
}

var _ delivery.Provider = (*Webhook)(nil)

// NewWebhook checks c and returns a provider. It sends nothing. Its error names the field at fault and quotes neither the secret nor the URL, which may hold
// one.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	w := &Webhook{name: c.Name, channel: c.Channel, from: c.From, limits: httpLimits{c.Timeout, c.Connections, c.Logger, c.Now}}
	if w.name == "" {
		w.name = "webhook"
	}
	switch {
	case !otp.ValidProvider(w.name):
		return nil, errors.New("webhook: Name must have 1 to 32 of a-z, 0-9 and -, and begin with a letter or digit")
	case !c.Channel.Valid():
		return nil, errors.New("webhook: Channel must be sms, voice, whatsapp or email")
	}
	target, err := url.Parse(c.URL)
	switch {
	case err != nil || target.Scheme != "https" && target.Scheme != "http" || target.Host == "" || target.Fragment != "" || target.User != nil:
		return nil, errors.New("webhook: URL must be an absolute https URL without user and fragment")
	case inClear(target):
		return nil, errors.New("webhook: URL must be https: codes travel with every request")
	}
	w.target = target
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.Secret, "whsec_"))
	if err != nil || !strings.HasPrefix(c.Secret, "whsec_") || len(key) < minWebhookSecret || len(key) > maxWebhookSecret {
		return nil, fmt.Errorf("webhook: Secret must be whsec_ and %d to %d octets in base64", minWebhookSecret, maxWebhookSecret)
	}
	if w.signer, err = standardwebhooks.NewWebhookRaw(key); err != nil {
		return nil, errors.New("webhook: Secret cannot be signed with")
	}
	if err := w.limits.check("webhook"); err != nil {
		return nil, err
	}
	w.transport = newTransport(w.limits.connections)
	return w, nil
}

// Name returns the provider's name.
func (w *Webhook) Name() string { return w.name }

// Close closes idle connections. Sends under way go on; call it when there are none.
func (w *Webhook) Close() { w.transport.CloseIdleConnections() }

// webhookMessage is the body of a post. Those who read it may be told more; nothing is ever taken away.
type webhookMessage struct {
	ID        string    `json:"id"`
	Token     string    `json:"token,omitempty"`
	Channel   string    `json:"channel"`
	To        string    `json:"to"`
	From      string    `json:"from,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	Text      string    `json:"text"`
	HTML      string    `json:"html,omitempty"`
	Code      string    `json:"code,omitempty"`
	Locale    string    `json:"locale,omitempty"`
	Country   string    `json:"country,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Send posts a message. One with under a second to live is Rejected, unsent.
//
// Errors are *delivery.Error. Nothing was sent when no connection could be had (Transient); from the moment that one carries the request until an answer is
// in, the outcome is unknown (Ambiguous). The webhook-id is Message.Reference, by which the target may tell a message that it has taken already.
func (w *Webhook) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	now := w.limits.now()
	if m.ExpiresAt.Sub(now) < minLife {
		return delivery.Accepted{}, expiring()
	}
	from := m.Sender
	if from == "" {
		from = w.from
	}
	body, err := json.Marshal(webhookMessage{
		ID: m.Reference, Token: m.Token, Channel: string(w.channel), To: m.To, From: from, Subject: m.Subject, Text: m.Text, HTML: m.HTML, Code: m.Code,
		Locale: m.Locale, Country: m.Country, ExpiresAt: m.ExpiresAt.UTC(),
	})
	if err != nil {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Rejected, Reason: "the message cannot be written as JSON"} // the cause would quote it
	}
	signature, err := w.signer.Sign(m.Reference, now, body)
	if err != nil {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Configuration, Reason: "the message cannot be signed", Err: err}
	}
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}
	header.Set(standardwebhooks.HeaderWebhookID, m.Reference)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	ctx, cancel := context.WithTimeout(ctx, w.limits.timeout)
	defer cancel()
	a, failure := post(ctx, w.transport, w.target, header, body)
	if failure != nil {
		return delivery.Accepted{}, failure
	}
	if a.status >= 200 && a.status <= 299 {
		return delivery.Accepted{Reference: webhookReference(a.body)}, nil
	}
	return delivery.Accepted{}, w.refusal(a, m)
}

const maxWebhookReference = 100 // characters

// webhookReference reads the target's id of a message. One that is none is no matter: the message was taken.
func webhookReference(body []byte) string {
	var said struct {
		Reference string `json:"reference"`
	}
	if json.Unmarshal(body, &said) != nil || len(said.Reference) > maxWebhookReference || !printable.MatchString(said.Reference) {
		return ""
	}
	return said.Reference
}

var (
	printable = regexp.MustCompile(`^[!-~]*$`)
	// webhookCode has at most five digits in a row, so that neither a number nor a code can pass for one.
	webhookCode    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._:-]{0,39}$`)
	manyDigits     = regexp.MustCompile(`[0-9]{6}`)
	webhookClasses = map[string]delivery.Class{
		"transient": delivery.Transient, "permanent": delivery.Permanent, "configuration": delivery.Configuration, "rejected": delivery.Rejected,
	}
)

// refusal turns an answer that is not 2xx into a delivery error.
func (w *Webhook) refusal(a answer, m *delivery.Message) *delivery.Error {
	j := judgeHTTP(a.status)
	e := &delivery.Error{Class: j.class, Code: "HTTP " + strconv.Itoa(a.status), Reason: j.reason, Err: a.err}
	var said struct {
		Class  string `json:"class"`
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
	if a.status >= 400 && json.Unmarshal(a.body, &said) == nil {
		if class, known := webhookClasses[said.Class]; known {
			e.Class = class
		}
		if webhookCode.MatchString(said.Code) && !manyDigits.MatchString(said.Code) && (m.Code == "" || !strings.Contains(said.Code, m.Code)) {
			e.Code = said.Code
		}
		if reason := withoutPrivate(said.Reason, m); reason != "" {
			e.Reason = reason
		}
	}
	if e.Class == delivery.Transient {
		e.RetryAfter = retryAfter(a.retryAfter, w.limits.now())
	}
	return e
}
