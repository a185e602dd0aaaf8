package inbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// ProviderWebhook is the name of the simulated webhook where it is addressed by none.
const ProviderWebhook = "webhook"

const maxWebhookBytes = 256 << 10

// Codes of the simulated webhook's refusals, by the class that it tells of them.
var webhookClasses = map[string]string{
	"invalid-address": "permanent", "opted-out": "rejected", "throttled": "transient", "no-credit": "configuration",
}

// webhookMagic are recipients that make the simulated webhook fail, as Twilio's test numbers and the magic mailboxes do there.
var webhookMagic = map[string]Fault{
	"+15005550001": {Code: "invalid-address"},
	"+15005550003": {Code: "no-credit"},
	"+15005550004": {Code: "opted-out"},
	"+15005550010": {Outcome: statusUndelivered, OutcomeCode: "invalid-address"},
	"+15005550011": {Outcome: statusFailed, OutcomeCode: "unknown"},
	"+15005550012": {Outcome: outcomeNone},
	"+15005550013": {Code: "throttled", RetryAfter: 2 * time.Second},
	"+15005550014": {Status: http.StatusServiceUnavailable},
	"bounce":       {Code: "invalid-address"},
	"busy":         {Code: "throttled"},
}

// WebhookSecret returns the secret of the simulated webhook, "whsec_…": posts to it and its receipts are signed with it.
func (in *Inbox) WebhookSecret() string { return in.cfg.WebhookSecret }

func newWebhookSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return "whsec_" + base64.StdEncoding.EncodeToString(b[:])
}

// routeWebhook adds /webhook: a sender of somebody's own that takes messages of any channel.
func (in *Inbox) routeWebhook(mux *http.ServeMux) {
	mux.HandleFunc("POST /webhook", in.takeWebhook)
}

// A webhookPost is what is posted to /webhook.
type webhookPost struct {
	ID        string    `json:"id"`
	Token     string    `json:"token"`
	Channel   string    `json:"channel"`
	To        string    `json:"to"`
	From      string    `json:"from"`
	Subject   string    `json:"subject"`
	Text      string    `json:"text"`
	HTML      string    `json:"html"`
	Code      string    `json:"code"`
	Locale    string    `json:"locale"`
	Country   string    `json:"country"`
	ExpiresAt time.Time `json:"expires_at"`
}

// A webhookRefusal is the body of an answer that refuses a message.
type webhookRefusal struct {
	Class  string `json:"class,omitempty"`
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func (in *Inbox) takeWebhook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebhookBytes))
	if err != nil {
		writeJSON(w, http.StatusRequestEntityTooLarge, webhookRefusal{"rejected", "too-long", "the message is too long"})
		return
	}
	signer, err := standardwebhooks.NewWebhook(in.cfg.WebhookSecret)
	if err != nil || signer.Verify(body, r.Header) != nil {
		writeJSON(w, http.StatusUnauthorized, webhookRefusal{"configuration", "signature", "the signature is not the secret's, or too old"})
		return
	}
	m, err := readWebhook(body, r.Header.Get(standardwebhooks.HeaderWebhookID))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, webhookRefusal{"rejected", "malformed", err.Error()})
		return
	}
	name := in.nameOf(r, ProviderWebhook)
	fault := in.fault(name, m.To)
	if fault.None() {
		local, _, _ := strings.Cut(m.To, "@")
		fault = webhookMagic[strings.ToLower(local)]
	}
	in.pause(fault.Delay, r.Context().Done())
	switch {
	case fault.Drop:
		in.refused(name)
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	case fault.refuses():
		in.refused(name)
		writeWebhookFault(w, m, fault)
		return
	}
	reference := uuid.NewString()
	in.took(name, m.To, m.Text)
	if !fault.Lost {
		in.Add(Message{
			Channel: m.Channel, Provider: name, From: m.From, To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML, Reference: reference,
		})
	}
	in.followWebhook(name, m, reference, fault)
	if fault.AcceptThenDrop {
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, http.StatusAccepted, map[string]string{"reference": reference})
}

// readWebhook reads a message. Unknown members are none of its business: senders may come to say more.
func readWebhook(body []byte, id string) (m webhookPost, err error) {
	if err := json.Unmarshal(body, &m); err != nil {
		return m, errors.New("the body is not one JSON object of a message")
	}
	switch {
	case m.ID == "" || m.ID != id:
		return m, errors.New("id is not that of the header webhook-id")
	case !slices.Contains(channels, m.Channel):
		return m, errors.New("channel is none that there is")
	case m.Channel == Email && !strings.Contains(m.To, "@") || m.Channel != Email && !e164.MatchString(m.To):
		return m, errors.New("to is no address of the channel")
	case m.Text == "":
		return m, errors.New("text is missing")
	case m.Channel == Email && m.Subject == "":
		return m, errors.New("subject is missing")
	case m.ExpiresAt.IsZero():
		return m, errors.New("expires_at is missing")
	}
	return m, nil
}

// writeWebhookFault refuses with the fault's code and its class, or with a bare HTTP status where it has no code.
func writeWebhookFault(w http.ResponseWriter, m webhookPost, f Fault) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	if f.Code == "" {
		w.WriteHeader(f.Status)
		return
	}
	refusal := webhookRefusal{webhookClasses[f.Code], f.Code, f.Message}
	if refusal.Reason == "" {
		refusal.Reason = "no way to reach " + m.To + " with " + m.Text // a sender must not log it
	}
	if f.Status == 0 {
		f.Status = http.StatusUnprocessableEntity
		switch refusal.Class {
		case "transient":
			f.Status = http.StatusTooManyRequests
		case "configuration":
			f.Status = http.StatusForbidden
		}
	}
	writeJSON(w, f.Status, refusal)
}

// followWebhook tells that the message is on its way, and how it ended.
func (in *Inbox) followWebhook(name string, m webhookPost, reference string, f Fault) {
	if m.Token == "" {
		return // nobody waits for a receipt
	}
	state, code := statusDelivered, ""
	if f.Outcome == statusUndelivered || f.Outcome == statusFailed {
		if state, code = f.Outcome, f.OutcomeCode; code == "" {
			code = "unknown"
		}
	}
	in.tell(name, reference, in.cfg.WebhookReceiptURL, f, []receipt{
		in.webhookReceipt(m, reference, statusAccepted, ""), in.webhookReceipt(m, reference, state, code),
	})
}

// webhookReceipt makes a receipt, signed as the messages are. Told again it has the same webhook-id.
func (in *Inbox) webhookReceipt(m webhookPost, reference, state, code string) receipt {
	type told struct {
		Token     string    `json:"token"`
		Reference string    `json:"reference"`
		State     string    `json:"state"`
		Code      string    `json:"code,omitempty"`
		Reason    string    `json:"reason,omitempty"`
		Permanent bool      `json:"permanent,omitempty"`
		At        time.Time `json:"at"`
	}
	t := told{Token: m.Token, Reference: reference, State: state, Code: code, Permanent: code == "invalid-address", At: in.cfg.Now().UTC()}
	if code != "" {
		t.Reason = "the message did not arrive: " + code
	}
	return receipt{state, func(ctx context.Context, target string) (*http.Request, error) {
		body, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		signer, err := standardwebhooks.NewWebhook(in.cfg.WebhookSecret)
		if err != nil {
			return nil, err
		}
		id, at := reference+"-"+state, time.Now() // the receiver judges its age by the time of day, as the library does here
		signature, err := signer.Sign(id, at, body)
		if err != nil {
			return nil, err
		}
		req, err := postRequest(ctx, target, "application/json", body)
		if err != nil {
			return nil, err
		}
		req.Header.Set(standardwebhooks.HeaderWebhookID, id)
		req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
		req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
		return req, nil
	}}
}

func postRequest(ctx context.Context, target, contentType string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	return req, nil
}
