package letter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/delivery"
)

// HTTPConfig says which print service letters are handed to.
type HTTPConfig struct {
	// URL takes the letters. Anything but https is for one's own machine: the token, addresses and codes travel with every request.
	URL         string
	Token       string        // sent as a bearer token (RFC 6750, section 2.1)
	Timeout     time.Duration // of one hand-over from the first byte to the last; bounded by the caller's context as well; default 30 s
	Connections int           // open at most, and kept open while idle; default 8
	Logger      *slog.Logger  // default slog.Default()
	Now         func() time.Time
}

const (
	defaultHTTPTimeout     = 30 * time.Second
	defaultHTTPConnections = 8
	httpConnectTimeout     = 5 * time.Second
	httpIdleTimeout        = 30 * time.Second
	maxHTTPHeader          = 32 << 10 // octets of an answer
	maxHTTPBody            = 64 << 10 // octets of an answer
	maxRetryAfter          = 24 * time.Hour
)

// HTTP hands letters to a print service: it posts each as application/pdf with the delivery's reference as Idempotency-Key, and takes the id out of
// the JSON object that answers, as {"id": "…"}. It is safe for concurrent use.
type HTTP struct {
	target    string
	token     string
	timeout   time.Duration
	transport *http.Transport
	client    http.Client
	now       func() time.Time
}

var _ delivery.Provider = (*HTTP)(nil)

// NewHTTP checks c and returns a provider. It sends nothing; a wrong token shows at the first letter. Its error names the field at fault and quotes
// no secret.
func NewHTTP(c HTTPConfig) (*HTTP, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("print service: URL must be an absolute http or https URL without a user")
	}
	if !bearer(c.Token) {
		return nil, errors.New("print service: Token must be set, and of the characters of a bearer token")
	}
	h := &HTTP{target: u.String(), token: c.Token, timeout: c.Timeout, now: c.Now}
	switch {
	case c.Timeout < 0:
		return nil, errors.New("print service: Timeout must not be negative")
	case c.Timeout == 0:
		h.timeout = defaultHTTPTimeout
	}
	switch {
	case c.Connections < 0:
		return nil, errors.New("print service: Connections must not be negative")
	case c.Connections == 0:
		c.Connections = defaultHTTPConnections
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if h.now == nil {
		h.now = time.Now
	}
	if u.Scheme != "https" && !loopback(u.Hostname()) {
		c.Logger.Warn("print service: the token, addresses and codes travel in clear text", "host", u.Host)
	}
	// HTTP/1.1 only: there, a connection carries one request at a time, so that whether a request was handed to one is a clear yes or no.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	h.transport = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: httpConnectTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    httpConnectTimeout,
		MaxConnsPerHost:        c.Connections,
		MaxIdleConnsPerHost:    c.Connections,
		IdleConnTimeout:        httpIdleTimeout,
		MaxResponseHeaderBytes: maxHTTPHeader,
		DisableCompression:     true, // answers are small
		Protocols:              protocols,
	}
	// A redirect would take the letter and the token to wherever an answer points.
	h.client = http.Client{Transport: h.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return h, nil
}

// bearer reports whether s is a b68token with at least one character (RFC 6750, section 2.1).
func bearer(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !bytes.ContainsRune([]byte("-._~+/="), rune(c)) {
			return false
		}
	}
	return s != ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Name returns "http".
func (h *HTTP) Name() string { return "http" }

// Close closes idle connections. Letters under way go on; call it when there are none.
func (h *HTTP) Close() { h.transport.CloseIdleConnections() }

// Send posts the letter. One whose code has expired is Permanent, unsent.
//
// Errors are *delivery.Error. Nothing was sent when no connection could be had (Transient); from the moment that one carries the request until a readable
// answer is in, the outcome is unknown (Ambiguous); an answer is judged by its status (see judge). The words of an answer are not kept: they may quote
// the letter.
func (h *HTTP) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	if err := checkDocument(m); err != nil {
		return delivery.Accepted{}, err
	}
	if !m.ExpiresAt.After(h.now()) {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Permanent, Reason: "the code has expired"}
	}
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	// handed is true from the moment that the transport gives the request to a connection: from then on the service may have it. The transport makes
	// another attempt at a POST only when the one before wrote nothing.
	var handed atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { handed.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { handed.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.target, bytes.NewReader(m.Document))
	if err != nil {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Configuration, Reason: "the print service's URL makes no request", Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	req.Header.Set("Content-Type", "application/pdf")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Idempotency-Key", m.Reference)
	req.Header.Set("User-Agent", "otpost")
	resp, err := h.client.Do(req)
	if err != nil {
		return delivery.Accepted{}, unanswered(err, handed.Load())
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return delivery.Accepted{}, h.refused(resp)
	}
	id, err := readID(resp.Body)
	if err != nil {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Ambiguous, Reason: "unreadable answer", Err: err}
	}
	return delivery.Accepted{Reference: id}, nil
}

// readID reads the id out of an answer, which must be one JSON object within bounds.
func readID(body io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxHTTPBody+1))
	if err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	if len(text) > maxHTTPBody {
		return "", fmt.Errorf("the answer is longer than %d octets", maxHTTPBody)
	}
	var answer struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", errors.New("the answer is not a JSON object with a text \"id\"") // without what the service said
	}
	if answer.ID == "" {
		return "", errors.New("the answer has no id")
	}
	return answer.ID, nil
}

// refused describes an answer that is not a success, and reads what little of it lets the connection be used again.
func (h *HTTP) refused(resp *http.Response) *delivery.Error {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxHTTPBody))
	e := judge(resp.StatusCode)
	e.Code = "HTTP " + strconv.Itoa(resp.StatusCode)
	if e.Class == delivery.Transient {
		e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), h.now())
	}
	return e
}

// judge sorts statuses (RFC 9110, section 15). 409 and 422 are those of the Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header, section
// 2.7): a request with the key is still being worked on, and the key came with another letter before.
func judge(status int) *delivery.Error {
	class, reason := delivery.Permanent, "letter refused: "+http.StatusText(status)
	switch {
	case status == http.StatusUnauthorized, status == http.StatusPaymentRequired, status == http.StatusForbidden,
		status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		class, reason = delivery.Configuration, "request refused: "+http.StatusText(status)
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		class, reason = delivery.Transient, "letter put off: "+http.StatusText(status)
	case status >= 500: // it may have been processed before the failure
		class, reason = delivery.Ambiguous, "failure at the print service: "+http.StatusText(status)
	case status < 400: // a redirect, which is not followed
		class, reason = delivery.Configuration, "the URL does not lead to the print service"
	}
	return &delivery.Error{Class: class, Reason: reason}
}

// unanswered describes a request that got no answer.
func unanswered(err error, handed bool) *delivery.Error {
	late := errors.Is(err, context.DeadlineExceeded)
	// The URL may hold a key in its query.
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	e := &delivery.Error{Class: delivery.Transient, Err: err}
	_, unresolved := errors.AsType[*net.DNSError](err)
	switch {
	case handed && (late || errors.Is(err, context.Canceled)):
		e.Class, e.Reason = delivery.Ambiguous, "no answer in time"
	case handed:
		e.Class, e.Reason = delivery.Ambiguous, "the connection broke before an answer came"
	case unresolved:
		e.Reason = "the host's name could not be resolved"
	case late:
		e.Reason = "no connection in time"
	default:
		e.Reason = "could not connect"
	}
	return e
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3); zero when there is none to be read.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
