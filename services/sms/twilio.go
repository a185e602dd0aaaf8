package sms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twilio/twilio-go/client"
	twilioapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/otpost/otpost/pkg/delivery"
)

// TwilioConfig says which account sends from which senders, and how. It serves all three channels of Twilio's: NewTwilio (SMS), NewTwilioVoice and
// NewTwilioWhatsApp.
type TwilioConfig struct {
	Name string // the provider's name in events, rows and metrics; default "twilio", "twilio-voice", "twilio-whatsapp"

	AccountSID string // "AC…"; owns the messages
	AuthToken  string // either this,
	APIKey     string // or "SK…" with its secret
	APISecret  string

	// From are the senders, numbers in E.164 and for SMS also short codes and names (alphanumeric sender ids). Of several, each recipient has one that
	// all messages to them come from. Either this,
	From                []string
	MessagingServiceSID string // or "MG…", which picks a sender; not for calls

	// ContentSID ("HX…") is the content template that a code goes into as its variable 1, for WhatsApp only: outside a session, which the person would
	// have to begin, WhatsApp takes nothing but approved templates. Without it the text is sent as it is, as suits Twilio's sandbox.
	ContentSID string
	// Voices are the voices that speak, by language as Twilio names it, such as "cs-CZ": "Google.cs-CZ-Standard-A". For calls only; a language that is
	// not there is spoken by the voice that the account's text-to-speech settings have for it.
	Voices map[string]string

	// BaseURL is where the API stands; "" for Twilio. A request to https://api.twilio.com/<path> goes to BaseURL/<path>, so that the simulator
	// can stand in. Anything but https is for one's own machine: the credentials travel with every request.
	BaseURL string
	// Callback is the public URL, without query, that Twilio tells receipts to; "" for nowhere. Those of a message go to Callback/<its token>; of one
	// without a token nothing is told.
	Callback    string
	Timeout     time.Duration // of one send from the first byte to the last; bounded by the caller's context as well; default 10 s
	Connections int           // open at most, and kept open while idle; default 64
	Logger      *slog.Logger  // default slog.Default()
	Now         func() time.Time
}

const (
	defaultTwilioTimeout     = 10 * time.Second
	defaultTwilioConnections = 64
	twilioConnectTimeout     = 5 * time.Second
	twilioIdleTimeout        = 30 * time.Second // shorter than common servers', so that a send rarely meets a connection about to be closed
	maxTwilioHeader          = 32 << 10         // octets
	maxTwilioBody            = 64 << 10         // octets; a Message resource has under 4 KB

	// Bounds of ValidityPeriod in seconds (Twilio, Message resource, create a message).
	minValidity = 1
	maxValidity = 36000
)

// Twilio hands messages of one channel to Twilio. It is safe for concurrent use.
//
// Twilio has no idempotency key for messages and calls: an Ambiguous error may stand for a message that is on its way, and sending it again may deliver
// it twice.
type Twilio struct {
	name   string
	create createFunc    // makes the one request of the channel
	life   time.Duration // that a code must have left to be worth sending

	account     string
	credentials *client.Credentials
	base        *url.URL // nil for Twilio's own
	from        []string // none when the service chooses
	service     *string
	content     *string
	voices      map[string]string
	callback    string // "" for nowhere
	timeout     time.Duration
	transport   *http.Transport
	log         *slog.Logger
	now         func() time.Time

	strange sync.Map // codes unknown to the table of codes that have been logged
}

// A createFunc asks Twilio to create a message or a call. left is how long m is still worth something, at least Twilio.life.
type createFunc func(t *Twilio, x *exchange, m *delivery.Message, left time.Duration) (creation, error)

// A creation is what Twilio answered to a request that it did not refuse.
type creation struct {
	sid   *string
	error *int // the code of a message that failed as it was created
}

var _ delivery.Provider = (*Twilio)(nil)

// NewTwilio checks c and returns a provider of SMS. It sends nothing; wrong credentials show at the first send. Its error names the field at fault
// and quotes no secret.
func NewTwilio(c TwilioConfig) (*Twilio, error) {
	t, err := newTwilio(c, "twilio", twilioSMS)
	if err != nil {
		return nil, err
	}
	t.create, t.life = createSMS, minValidity*time.Second
	return t, nil
}

// createSMS asks for a message, which Twilio may keep in its queue for as long as it is worth something, at most ten hours.
func createSMS(t *Twilio, x *exchange, m *delivery.Message, left time.Duration) (creation, error) {
	validity := validityPeriod(left)
	made, err := twilioapi.NewApiService(&x.handler).CreateMessage(&twilioapi.CreateMessageParams{
		To: &m.To, Body: &m.Text, From: t.sender(m, anySender), MessagingServiceSid: t.service, StatusCallback: t.callbackOf(m), ValidityPeriod: &validity,
	})
	if err != nil {
		return creation{}, err
	}
	return creation{made.Sid, made.ErrorCode}, nil
}

// twilioTransport keeps connections open and bounded. It speaks HTTP/1.1 only: there, a connection carries one request at a time, so that
// whether a request was handed to one is a clear yes or no. Answers are bounded by the context of each send, hence no time-out of headers here.
func twilioTransport(connections int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: twilioConnectTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    twilioConnectTimeout,
		MaxConnsPerHost:        connections,
		MaxIdleConnsPerHost:    connections,
		IdleConnTimeout:        twilioIdleTimeout,
		MaxResponseHeaderBytes: maxTwilioHeader,
		DisableCompression:     true, // answers are small
		Protocols:              protocols,
	}
}

// Name returns the configured name.
func (t *Twilio) Name() string { return t.name }

// Close closes idle connections. Sends under way go on; call it when there are none.
func (t *Twilio) Close() { t.transport.CloseIdleConnections() }

// Send creates a message or a call at Twilio. One with too little life left (a second for a message, a call takes longer) is Rejected, unsent: nobody
// could use its code.
//
// Errors are *delivery.Error. Nothing was sent when no connection could be had (Transient); from the moment that one carries the request until
// a readable answer is in, the outcome is unknown (Ambiguous); an answer is judged by Twilio's code (see delivery.TwilioClass).
func (t *Twilio) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	left := m.ExpiresAt.Sub(t.now())
	if left < t.life {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Rejected, Reason: "the code is about to expire"}
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	x := newExchange(ctx, t)
	made, err := t.create(t, x, m, left)
	if unsent, ok := errors.AsType[*delivery.Error](err); ok {
		return delivery.Accepted{}, unsent
	}
	switch {
	case x.status == 0:
		return delivery.Accepted{}, x.unanswered(err)
	case x.status < 200 || x.status > 299:
		return delivery.Accepted{}, t.refused(x, err, m)
	case err != nil || made.sid == nil || *made.sid == "":
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Ambiguous, Reason: "unreadable answer", Err: err}
	case made.error != nil && *made.error != 0:
		return delivery.Accepted{}, t.failure(x, *made.error, m, nil)
	}
	return delivery.Accepted{Reference: *made.sid}, nil
}

// callbackOf is where Twilio tells what becomes of m; nil for nowhere.
func (t *Twilio) callbackOf(m *delivery.Message) *string {
	if t.callback == "" || m.Token == "" {
		return nil
	}
	target := t.callback + "/" + url.PathEscape(m.Token)
	return &target
}

// validityPeriod turns the life left of a code, at least a second, into whole seconds within Twilio's bounds, rounded up.
func validityPeriod(left time.Duration) int { return wholeSeconds(min(left, maxValidity*time.Second)) }

// wholeSeconds rounds up to whole ones.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// refused turns an error answer into a delivery error.
func (t *Twilio) refused(x *exchange, err error, m *delivery.Message) *delivery.Error {
	answer, ok := errors.AsType[*client.TwilioRestError](err)
	if !ok {
		return t.failure(x, 0, m, err)
	}
	return t.failure(x, answer.Code, m, fmt.Errorf("twilio: HTTP status %d, code %d: %s", x.status, answer.Code, withoutAddress(answer.Message, m)))
}

func (t *Twilio) failure(x *exchange, code int, m *delivery.Message, cause error) *delivery.Error {
	v, known := judge(x.status, code)
	if m.Sender != "" && v.class == delivery.Configuration && senderCode(code) {
		v.class = delivery.Rejected // it is the app's sender that is wrong here; other apps' messages go on
	}
	e := &delivery.Error{Class: v.class, Reason: v.reason, Err: cause}
	if code != 0 {
		e.Code = strconv.Itoa(code)
	} else {
		e.Code = "HTTP " + strconv.Itoa(x.status)
	}
	if v.class == delivery.Transient {
		e.RetryAfter = retryAfter(x.retryAfter, t.now())
	}
	if _, logged := t.strange.LoadOrStore(code, true); !known && !logged {
		t.log.Warn("twilio answered with a code that is not in the table", "code", code, "status", x.status, "class", v.class)
	}
	return e
}

// withoutAddress returns what Twilio wrote about an error without what it quotes: the message's text, and digits, of which numbers and codes consist,
// also the single ones that are spoken.
func withoutAddress(said string, m *delivery.Message) string {
	if m.Text != "" {
		said = strings.ReplaceAll(said, m.Text, "…")
	}
	return digitRuns.ReplaceAllString(said[:min(len(said), 300)], "…")
}

var digitRuns = regexp.MustCompile(`[0-9](?:[^0-9A-Za-z]{0,3}[0-9])+`)

// maxRetryAfter bounds what a provider may ask for. The code of a login is worth nothing by then, and what lives longer may as well be tried.
const maxRetryAfter = time.Hour

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3); zero when there is none to be read.
func retryAfter(header string, now time.Time) time.Duration {
	if header == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
