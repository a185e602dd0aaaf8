package sms

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/otpost/otpost/pkg/delivery"
)

// What the providers over HTTP share that have no library: a bounded transport, one request with its answer, and what an answer without a code of the
// provider's means.

const (
	defaultTimeout     = 10 * time.Second
	defaultConnections = 64
	connectTimeout     = 5 * time.Second
	idleTimeout        = 30 * time.Second // shorter than common servers', so that a send rarely meets a connection about to be closed
	maxAnswerHeader    = 32 << 10         // octets
	maxAnswerBody      = 64 << 10         // octets; no provider says as much about one message
	userAgent          = "otpost"

	// minLife is what must be left of a message's life to be sent at all: with less, nobody could use its code.
	minLife = time.Second
)

// httpLimits are the settings that every provider over HTTP has.
type httpLimits struct {
	timeout     time.Duration
	connections int
	log         *slog.Logger
	now         func() time.Time
}

// check fills in defaults. kind begins its errors.
func (l *httpLimits) check(kind string) error {
	switch {
	case l.timeout < 0:
		return fmt.Errorf("%s: Timeout must not be negative", kind)
	case l.timeout == 0:
		l.timeout = defaultTimeout
	}
	switch {
	case l.connections < 0:
		return fmt.Errorf("%s: Connections must not be negative", kind)
	case l.connections == 0:
		l.connections = defaultConnections
	}
	if l.log == nil {
		l.log = slog.Default()
	}
	if l.now == nil {
		l.now = time.Now
	}
	return nil
}

// newTransport keeps connections open and bounded. It speaks HTTP/1.1 only: there, a connection carries one request at a time, so that whether a request
// was handed to one is a clear yes or no. Answers are bounded by the context of each send, hence no time-out of headers here.
func newTransport(connections int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		MaxConnsPerHost:        connections,
		MaxIdleConnsPerHost:    connections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true, // answers are small
		Protocols:              protocols,
	}
}

// An answer is what a provider said to one request.
type answer struct {
	status     int // of HTTP
	retryAfter string
	body       []byte
	err        error // what broke while the body was read; body is empty then
}

// post sends one request by POST and reads its answer whole, so that the connection can be used again. It follows no redirect: neither credentials nor
// codes go to wherever an answer points. Without an answer its error is Transient when no connection took the request, and Ambiguous from that moment on.
func post(ctx context.Context, transport http.RoundTripper, target *url.URL, header http.Header, body []byte) (answer, *delivery.Error) {
	// handed is true from the moment that the transport gives the request to a connection. The transport makes another attempt only when the one before
	// wrote nothing, as happens when the server had closed an idle connection; GetConn tells of each. The trace's WroteRequest would be nearer to the
	// truth than GotConn, but it is called from another goroutine, which a dying context may overtake: the request would be on its way and look unsent.
	var handed atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { handed.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { handed.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return answer{}, &delivery.Error{Class: delivery.Configuration, Reason: "the URL is not understood"} // the cause would quote it
	}
	req.Header = header
	req.Header.Set("User-Agent", userAgent)
	res, err := transport.RoundTrip(req)
	if err != nil {
		return answer{}, unanswered(err, handed.Load())
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, retryAfter: res.Header.Get("Retry-After")}
	a.body, a.err = io.ReadAll(io.LimitReader(res.Body, maxAnswerBody+1))
	if a.err == nil && len(a.body) > maxAnswerBody {
		a.err = fmt.Errorf("the answer is longer than %d octets", maxAnswerBody)
	}
	if a.err != nil {
		a.body = nil
	}
	return a, nil
}

// unanswered describes a request that got no answer. handed says whether a connection took it.
func unanswered(err error, handed bool) *delivery.Error {
	e := &delivery.Error{Class: delivery.Ambiguous, Err: err}
	late := errors.Is(err, context.DeadlineExceeded)
	if handed {
		e.Reason = "the connection broke before an answer came"
		if late || errors.Is(err, context.Canceled) {
			e.Reason = "no answer in time"
		}
		return e
	}
	e.Class = delivery.Transient
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		e.Reason = "the host's name could not be resolved"
		return e
	}
	e.Reason = "could not connect"
	if late {
		e.Reason = "no connection in time"
	}
	return e
}

// judgeHTTP sorts an answer that carries no code of the provider's own, by its HTTP status (RFC 9110, section 15), which is not one of the 200s.
func judgeHTTP(status int) verdict {
	said := http.StatusText(status)
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusGone:
		return verdict{delivery.Configuration, "request refused: " + said}
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return verdict{delivery.Transient, "request put off: " + said}
	}
	switch {
	case status >= 500: // it may have been processed before the failure
		return verdict{delivery.Ambiguous, strings.TrimSuffix("failure at the provider: "+said, ": ")}
	case status >= 400:
		return verdict{delivery.Rejected, strings.TrimSuffix("request refused: "+said, ": ")}
	default: // a redirect, which is not followed: the URL leads elsewhere
		return verdict{delivery.Configuration, "the URL does not lead to the provider's API"}
	}
}

// expiring is the refusal of a message whose life is as good as over. It is not the address's fault.
func expiring() *delivery.Error {
	return &delivery.Error{Class: delivery.Rejected, Reason: "the code is about to expire"}
}

// basicAuth is the value of the header Authorization (RFC 7617, section 2).
func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// baseURL reads an absolute http or https URL without query, user and fragment, and takes slashes off its end. field begins its errors.
func baseURL(field, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%s must be an absolute http or https URL without user, query and fragment", field)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

// inClear reports whether what is sent to u can be read on its way.
func inClear(u *url.URL) bool { return u.Scheme != "https" && !loopback(u.Hostname()) }

var (
	digitGroups = regexp.MustCompile(`[0-9](?:[\s().-]{0,2}[0-9])+`) // of which numbers and codes consist
	addresses   = regexp.MustCompile(`\S+@\S+`)
)

const maxSaid = 120 // characters kept of what a provider wrote

// withoutPrivate returns what a provider wrote about an error without what it may quote of the message: the text, addresses, and digits.
func withoutPrivate(said string, m *delivery.Message) string {
	for _, quoted := range []string{m.Text, m.HTML, m.Subject, m.To, m.Code} {
		if quoted != "" {
			said = strings.ReplaceAll(said, quoted, "…")
		}
	}
	said = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(said, " "))
	said = addresses.ReplaceAllString(digitGroups.ReplaceAllString(said, "…"), "…")
	if runes := []rune(said); len(runes) > maxSaid {
		said = string(runes[:maxSaid]) + "…"
	}
	return strings.TrimSpace(said)
}
