package sms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"

	"github.com/twilio/twilio-go/client"

	"github.com/otpost/otpost/pkg/delivery"
)

// An exchange is one request to Twilio and its answer.
//
// twilio-go's API takes no context and drops what a refusal carries beside its body. So every send gets a client of twilio-go of its own, whose
// HTTP client sends through the exchange: it binds the request to the context, points it at the base URL, and keeps what was learned. Those
// objects are a few words each; the connections are the provider's and shared.
//
// The request handler is made by hand rather than by twilio-go's constructor, which would let TWILIO_EDGE and TWILIO_REGION in the environment
// move requests to another host.
type exchange struct {
	handler client.RequestHandler
	client  client.Client
	http    http.Client

	ctx       context.Context
	transport http.RoundTripper
	base      *url.URL

	// handed is true from the moment that the transport gives the request to a connection. From then on the server may have it.
	handed     atomic.Bool
	status     int    // of the answer; 0 until its header is in
	retryAfter string // the answer's header
}

func newExchange(ctx context.Context, t *Twilio) *exchange {
	x := &exchange{transport: t.transport, base: t.base}
	x.client = client.Client{Credentials: t.credentials, HTTPClient: &x.http}
	x.client.SetAccountSid(t.account)
	x.http = http.Client{Transport: x, CheckRedirect: noRedirect}
	x.handler.Client = &x.client
	x.ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: x.wantsConn, GotConn: x.gotConn})
	return x
}

// noRedirect keeps credentials and codes from being sent to wherever an answer points.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// wantsConn is called at each attempt. The transport makes another attempt at a POST only when the one before wrote nothing, as happens
// when the server had closed an idle connection.
func (x *exchange) wantsConn(string) { x.handed.Store(false) }

// gotConn marks the request as handed over. The trace's WroteRequest would be later and nearer to the truth, but it is called from another
// goroutine, which a dying context may overtake: the request would be on its way and look unsent.
func (x *exchange) gotConn(httptrace.GotConnInfo) { x.handed.Store(true) }

// RoundTrip sends req within the exchange's context and reads the answer whole, so that its connection can be used again: twilio-go leaves
// the bodies of refusals open.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.WithContext(x.ctx)
	if x.base != nil {
		target := *x.base
		target.Path += req.URL.Path
		req.URL, req.Host = &target, ""
	}
	resp, err := x.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.status = resp.StatusCode
	x.retryAfter = resp.Header.Get("Retry-After")
	body, err := readBounded(resp)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

var errTwilioBody = fmt.Errorf("twilio: the answer is longer than %d octets", maxTwilioBody)

func readBounded(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > maxTwilioBody {
		return nil, errTwilioBody
	}
	var body bytes.Buffer
	if resp.ContentLength > 0 {
		body.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	if _, err := body.ReadFrom(io.LimitReader(resp.Body, maxTwilioBody+1)); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if body.Len() > maxTwilioBody {
		return nil, errTwilioBody
	}
	return body.Bytes(), nil
}

// unanswered describes a request that got no answer.
func (x *exchange) unanswered(err error) *delivery.Error {
	e := &delivery.Error{Class: delivery.Ambiguous, Err: err}
	late := errors.Is(err, context.DeadlineExceeded)
	if refusal, ok := errors.AsType[*client.TwilioRestError](err); ok { // twilio-go refused to send
		v, _ := judge(http.StatusBadRequest, refusal.Code)
		e.Class, e.Reason = v.class, v.reason
		return e
	}
	if x.handed.Load() {
		e.Reason = "the connection broke before an answer came"
		if late || errors.Is(err, context.Canceled) {
			e.Reason = "no answer in time"
		}
		return e
	}
	e.Class = delivery.Transient
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.Reason = "the host's name could not be resolved"
	case late:
		e.Reason = "no connection in time"
	default:
		e.Reason = "could not connect"
	}
	return e
}
