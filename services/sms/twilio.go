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

// TwilioConfig says which account sends from which sender, and how.
type TwilioConfig struct {
	AccountSID string // "AC…"; owns the messages
	AuthToken  string // either this,
	APIKey     string // or "SK…" with its secret
	APISecret  string

	From                string // a number in E.164, a short code or a name (alphanumeric sender id); either this
	MessagingServiceSID string // or "MG…", which picks a sender

	// BaseURL is where the API stands; "" for Twilio. A request to https://api.twilio.com/<path> goes to BaseURL/<path>, so that the simulator
	// can stand in. Anything but https is for one's own machine: the credentials travel with every request.
	BaseURL        string
	StatusCallback string        // where Twilio reports what became of a message; "" for nowhere
	Timeout        time.Duration // of one send from the first byte to the last; bounded by the caller's context as well; default 10 s
	Connections    int           // open at most, and kept open while idle; default 64
	Logger         *slog.Logger  // default slog.Default()
	Now            func() time.Time
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

// Twilio sends SMS through Twilio's Messages API. It is safe for concurrent use.
//
// Twilio has no idempotency key for messages: an Ambiguous error may stand for a message that is on its way, and sending it again may deliver
// it twice.
type Twilio struct {
	account     string
	credentials *client.Credentials
	base        *url.URL // nil for Twilio's own
	from        *string  // nil when the service chooses
	service     *string
	callback    *string
	timeout     time.Duration
	transport   *http.Transport
	log         *slog.Logger
	now         func() time.Time
	strange     sync.Map // codes unknown to twilioCodes that have been logged
}

var _ delivery.Provider = (*Twilio)(nil)

var (
	sidPattern        = regexp.MustCompile(`^[A-Z]{2}[0-9A-Za-z]{32}$`)
	secretPattern     = regexp.MustCompile(`^[0-9A-Za-z]+$`) // twilio-go refuses others at every request
	senderPattern     = regexp.MustCompile(`^(\+[1-9][0-9]{6,14}|[0-9]{3,8})$`)
	senderNamePattern = regexp.MustCompile(`^[0-9A-Za-z &+_-]{1,11}$`)
	letterPattern     = regexp.MustCompile(`[A-Za-z]`)
)

// NewTwilio checks c and returns a provider. It sends nothing; wrong credentials show at the first send. Its error names the field at fault
// and quotes no secret.
func NewTwilio(c TwilioConfig) (*Twilio, error) {
	t := &Twilio{account: c.AccountSID, timeout: c.Timeout, log: c.Logger, now: c.Now}
	if err := checkSID("AccountSID", "AC", c.AccountSID); err != nil {
		return nil, err
	}
	var err error
	if t.credentials, err = twilioCredentials(c); err != nil {
		return nil, err
	}
	switch {
	case (c.From == "") == (c.MessagingServiceSID == ""):
		return nil, errors.New("twilio: exactly one of From and MessagingServiceSID must be set")
	case c.From != "":
		if !senderPattern.MatchString(c.From) && !(senderNamePattern.MatchString(c.From) && letterPattern.MatchString(c.From)) {
			return nil, errors.New("twilio: From must be a number in E.164, a short code or a name of up to 11 characters with a letter")
		}
		t.from = &c.From
	default:
		if err := checkSID("MessagingServiceSID", "MG", c.MessagingServiceSID); err != nil {
			return nil, err
		}
		t.service = &c.MessagingServiceSID
	}
	if c.BaseURL != "" {
		if t.base, err = absoluteURL("BaseURL", c.BaseURL); err != nil {
			return nil, err
		}
		if t.base.RawQuery != "" || t.base.User != nil {
			return nil, errors.New("twilio: BaseURL must have no query and no user")
		}
		t.base.Path = strings.TrimRight(t.base.Path, "/")
	}
	if c.StatusCallback != "" {
		if _, err := absoluteURL("StatusCallback", c.StatusCallback); err != nil {
			return nil, err
		}
		t.callback = &c.StatusCallback
	}
	switch {
	case c.Timeout < 0:
		return nil, errors.New("twilio: Timeout must not be negative")
	case c.Timeout == 0:
		t.timeout = defaultTwilioTimeout
	}
	switch {
	case c.Connections < 0:
		return nil, errors.New("twilio: Connections must not be negative")
	case c.Connections == 0:
		c.Connections = defaultTwilioConnections
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	if t.now == nil {
		t.now = time.Now
	}
	if t.base != nil && t.base.Scheme != "https" && !loopback(t.base.Hostname()) {
		t.log.Warn("twilio: credentials and codes travel in clear text to the base URL", "host", t.base.Host)
	}
	t.transport = twilioTransport(c.Connections)
	return t, nil
}

func twilioCredentials(c TwilioConfig) (*client.Credentials, error) {
	switch {
	case c.AuthToken != "" && (c.APIKey != "" || c.APISecret != ""):
		return nil, errors.New("twilio: either AuthToken or APIKey with APISecret may be set, not both")
	case c.AuthToken != "":
		if !secretPattern.MatchString(c.AuthToken) {
			return nil, errors.New("twilio: AuthToken must consist of letters and digits")
		}
		return client.NewCredentials(c.AccountSID, c.AuthToken), nil
	case c.APIKey == "" && c.APISecret == "":
		return nil, errors.New("twilio: AuthToken, or APIKey with APISecret, must be set")
	}
	if err := checkSID("APIKey", "SK", c.APIKey); err != nil {
		return nil, err
	}
	if !secretPattern.MatchString(c.APISecret) {
		return nil, errors.New("twilio: APISecret must consist of letters and digits")
	}
	return client.NewCredentials(c.APIKey, c.APISecret), nil
}

func checkSID(field, prefix, sid string) error {
	if !sidPattern.MatchString(sid) || !strings.HasPrefix(sid, prefix) {
		return fmt.Errorf("twilio: %s must be %q and 32 letters and digits", field, prefix)
	}
	return nil
}

func absoluteURL(field, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
		return nil, fmt.Errorf("twilio: %s must be an absolute http or https URL", field)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
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

// Name returns "twilio".
func (t *Twilio) Name() string { return "twilio" }

// Close closes idle connections. Sends under way go on; call it when there are none.
func (t *Twilio) Close() { t.transport.CloseIdleConnections() }

// Send creates a message at Twilio, which may keep it in its queue for as long as it is worth something, at most ten hours. A message with under a
// second to live is Permanent, unsent: nobody could use its code.
//
// Errors are *delivery.Error. Nothing was sent when no connection could be had (Transient); from the moment that one carries the request until
// a readable answer is in, the outcome is unknown (Ambiguous); an answer is judged by Twilio's code (see twilioCodes).
func (t *Twilio) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	validity := validityPeriod(m.ExpiresAt.Sub(t.now()))
	if validity == 0 {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Permanent, Reason: "the code is about to expire"}
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	x := newExchange(ctx, t)
	created, err := twilioapi.NewApiService(&x.handler).CreateMessage(&twilioapi.CreateMessageParams{
		To: &m.To, Body: &m.Text, From: t.from, MessagingServiceSid: t.service,
		StatusCallback: t.callback, ValidityPeriod: &validity,
	})
	switch {
	case x.status == 0:
		return delivery.Accepted{}, x.unanswered(err)
	case x.status < 200 || x.status > 299:
		return delivery.Accepted{}, t.refused(x, err, m)
	case err != nil || created.Sid == nil || *created.Sid == "":
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Ambiguous, Reason: "unreadable answer", Err: err}
	case created.ErrorCode != nil && *created.ErrorCode != 0:
		return delivery.Accepted{}, t.failure(x, *created.ErrorCode, nil)
	}
	return delivery.Accepted{Reference: *created.Sid}, nil
}

// validityPeriod turns the life left of a code into whole seconds within Twilio's bounds, rounded up; 0 when too little is left to send.
func validityPeriod(left time.Duration) int {
	if left < minValidity*time.Second {
		return 0
	}
	left = min(left, maxValidity*time.Second)
	return int((left + time.Second - 1) / time.Second)
}

// refused turns an error answer into a delivery error.
func (t *Twilio) refused(x *exchange, err error, m *delivery.Message) *delivery.Error {
	answer, ok := errors.AsType[*client.TwilioRestError](err)
	if !ok {
		return t.failure(x, 0, err)
	}
	return t.failure(x, answer.Code, fmt.Errorf("twilio: HTTP status %d, code %d: %s", x.status, answer.Code, withoutAddress(answer.Message, m)))
}

func (t *Twilio) failure(x *exchange, code int, cause error) *delivery.Error {
	v, known := judge(x.status, code)
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

// withoutAddress returns what Twilio wrote about an error without what it quotes: the message's text, and digits, of which numbers consist.
func withoutAddress(said string, m *delivery.Message) string {
	if m.Text != "" {
		said = strings.ReplaceAll(said, m.Text, "…")
	}
	return digitRuns.ReplaceAllString(said[:min(len(said), 300)], "…")
}

var digitRuns = regexp.MustCompile(`[0-9]{2,}`)

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
