package callback

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/telemetry"
)

const (
	authToken       = "0123456789abcdef0123456789abcdef"
	oldToken        = "ffffffffffffffffffffffffffffffff"
	signatureSecret = "a signature secret of Vonage"
	token           = "AbC-_0123456789"
	ofMail          = "0199a5c0-1111-7222-8333-444455556666-2"
)

var webhookKey = bytes.Repeat([]byte{7}, 32)

func webhookSecret() string { return "whsec_" + base64.StdEncoding.EncodeToString(webhookKey) }

// now is the clock of these tests.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A bench is a handler with what it passed on.
type bench struct {
	*Handler
	t    testing.TB
	logs bytes.Buffer

	mu      sync.Mutex
	reports []event.Report
	ids     []string
	publish Publish // in place of noting down
}

func newBench(t testing.TB) *bench {
	d := &bench{t: t}
	public, _ := url.Parse("https://auth.example")
	h, err := New(Config{
		Sources: []Source{
			{Name: "twilio-eu", Kind: Twilio, Secrets: []string{authToken, oldToken}},
			{Name: "twilio-far", Kind: Twilio, Secrets: []string{authToken}, URL: "https://edge.example:8443/in/twilio/"},
			{Name: "vonage", Kind: Vonage, Secrets: []string{signatureSecret}},
			{Name: "vonage-old", Kind: Vonage, Secrets: []string{signatureSecret}, Method: MD5Hash},
			{Name: "own", Kind: Webhook, Secrets: []string{webhookSecret()}},
			{Name: "relay", Kind: DSN, Secrets: []string{webhookSecret()}},
		},
		PublicURL: public, Publish: d.note, Metrics: telemetry.NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.NewTextHandler(&d.logs, nil)),
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Handler = h
	return d
}

func (d *bench) note(ctx context.Context, id string, r event.Report) error {
	if d.publish != nil {
		return d.publish(ctx, id, r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports, d.ids = append(d.reports, r), append(d.ids, id)
	return nil
}

// got returns what was passed on since it was asked last.
func (d *bench) got() []event.Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.reports
	d.reports = nil
	return r
}

func (d *bench) serve(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result()
}

func (d *bench) counted(provider, result string) float64 {
	return testutil.ToFloat64(d.Metrics.Callbacks.WithLabelValues(provider, result))
}

func (d *bench) want(resp *http.Response, status int) {
	d.t.Helper()
	if resp.StatusCode != status {
		body, _ := io.ReadAll(resp.Body)
		d.t.Errorf("answered with %d %q, want %d", resp.StatusCode, strings.TrimSpace(string(body)), status)
	}
}

func post(path, kind, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://evil.example"+path, strings.NewReader(body)) // the Host header is nobody's word
	r.Header.Set("Content-Type", kind)
	return r
}

// twilioPost is what Twilio posts for a status callback at an address.
func twilioPost(path, address, secret string, form url.Values) *http.Request {
	r := post(path, formType+"; charset=UTF-8", form.Encode())
	r.Header.Set("X-Twilio-Signature", inbox.TwilioSignature(secret, address, form))
	return r
}

// vonageSigned adds a signature, of HMAC-SHA256.
func vonageSigned(values url.Values) url.Values {
	values = maps.Clone(values)
	if values.Get("timestamp") == "" {
		values.Set("timestamp", strconv.FormatInt(now.Unix(), 10))
	}
	var text string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text += "&" + name + "=" + strings.NewReplacer("&", "_", "=", "_").Replace(values.Get(name))
	}
	mac := hmac.New(sha256.New, []byte(signatureSecret))
	mac.Write([]byte(text))
	values.Set("sig", strings.ToUpper(hex.EncodeToString(mac.Sum(nil))))
	return values
}

// webhookPost is a post signed by Standard Webhooks.
func webhookPost(path, kind, body string, at time.Time) *http.Request {
	r := post(path, kind, body)
	w, _ := standardwebhooks.NewWebhookRaw(webhookKey)
	signature, _ := w.Sign("msg_1", at, []byte(body))
	r.Header.Set(standardwebhooks.HeaderWebhookID, "msg_1")
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return r
}
