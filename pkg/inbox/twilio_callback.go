package inbox

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the algorithm is Twilio's
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of status callbacks.
const (
	callbackConcurrency = 32
	callbackAttempts    = 3
	callbackTimeout     = 5 * time.Second
	callbackBackoff     = 200 * time.Millisecond // before the second attempt; doubled before each later one
)

// A step is a state that a message or a call goes through.
type step struct {
	status string
	code   int  // what went wrong, if that is told: a message's ErrorCode, a call's SipResponseCode
	told   bool // by callback
}

// messageSteps are the states of a message after queued: sent, then the fault's outcome.
func messageSteps(f Fault) []step {
	final := step{statusDelivered, 0, true}
	if f.Outcome == statusUndelivered || f.Outcome == statusFailed {
		code, err := strconv.Atoi(f.OutcomeCode)
		if err != nil {
			code = 30008
		}
		final = step{f.Outcome, code, true}
	}
	return []step{{statusSent, 0, true}, final}
}

// follow settles what was taken, in the background when someone wants to hear of it or it takes time.
func (in *Inbox) follow(t taken) {
	switch {
	case t.fault.Lost || t.fault.Outcome == outcomeNone:
	case t.target == "" && t.fault.ReceiptDelay <= 0:
		in.settle(t)
	case in.pending.Add(1) > int64(in.cfg.Max):
		in.pending.Add(-1)
		in.counts.callbacksFailed.Add(1)
		in.log.Warn("status callbacks dropped: too many are waiting", "message", t.what.sid())
		t.target = ""
		in.settle(t)
	default:
		in.spawn(func() {
			defer in.pending.Add(-1)
			in.pause(t.fault.ReceiptDelay, nil)
			in.settle(t)
		})
	}
}

// settle takes a message or a call through its states and tells them: in their order, or the last one first.
func (in *Inbox) settle(t taken) {
	if !t.fault.Reversed {
		for n, s := range t.steps {
			t.what.advance(s.status, s.code)
			in.tellStep(t, n)
		}
		return
	}
	for _, s := range t.steps {
		t.what.advance(s.status, s.code)
	}
	for n := range slices.Backward(t.steps) {
		in.tellStep(t, n)
	}
}

// tellStep posts step n to the sender's URL, if it has one and wants to hear of the step, as often as the fault says.
func (in *Inbox) tellStep(t taken, n int) {
	if t.target == "" || !t.steps[n].told {
		return
	}
	form := t.what.callbackForm(n, t.steps[n])
	for range 1 + max(t.fault.Repeat, 0) {
		in.callBack(t.message.Provider, t.what.sid(), t.target, form)
	}
}

// callBack posts one status to the sender's URL and gives up after callbackAttempts. Twilio promises no delivery either.
func (in *Inbox) callBack(name, sid, target string, form url.Values) {
	if !loopbackURL(target) {
		in.counts.callbacksFailed.Add(1)
		in.log.Warn("status callback refused: its target is not a loopback address", "message", sid)
		return
	}
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	case <-in.ctx.Done():
		return
	}
	backoff := callbackBackoff
	for attempt := 1; ; attempt++ {
		err := in.postCallback(target, form)
		if err == nil {
			in.counts.callbacks.Add(1)
			in.calledBack(name)
			return
		}
		if in.ctx.Err() != nil {
			return
		}
		if attempt == callbackAttempts {
			in.counts.callbacksFailed.Add(1)
			in.log.Warn("status callback given up", "message", sid, "attempts", attempt, "error", err)
			return
		}
		in.pause(backoff, nil)
		backoff *= 2
	}
}

func (m *twilioMessage) callbackForm(_ int, told step) url.Values {
	m.mu.Lock()
	defer m.mu.Unlock()
	form := url.Values{
		"AccountSid": {m.AccountSID}, "ApiVersion": {twilioAPIVersion}, "From": {m.sender}, "To": {m.To},
		"MessageSid": {m.SID}, "MessageStatus": {told.status}, "SmsSid": {m.SID}, "SmsStatus": {told.status},
	}
	if m.MessagingServiceSID != "" {
		form.Set("MessagingServiceSid", m.MessagingServiceSID)
	}
	if strings.HasPrefix(m.To, whatsAppPrefix) {
		form.Set("ChannelPrefix", "whatsapp")
		form.Set("ChannelToAddress", strings.TrimPrefix(m.To, whatsAppPrefix))
	}
	if told.code != 0 {
		form.Set("ErrorCode", strconv.Itoa(told.code))
	}
	return form
}

func (in *Inbox) postCallback(target string, form url.Values) error {
	ctx, cancel := context.WithTimeout(in.ctx, callbackTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("making the status callback: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	req.Header.Set("User-Agent", "TwilioProxy/1.1")
	req.Header.Set("X-Twilio-Signature", TwilioSignature(in.cfg.TwilioAuthToken, target, form))
	res, err := in.callbacks.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, whose query is the app's business
		}
		return fmt.Errorf("posting the status callback: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("status callback answered with %d", res.StatusCode)
	}
	return nil
}

// TwilioSignature is the value of X-Twilio-Signature for a form posted to target: the HMAC-SHA1, keyed with the auth token, of the whole
// URL followed by each field's name and value in the order of names, in base64.
// See https://www.twilio.com/docs/usage/webhooks/webhooks-security.
func TwilioSignature(authToken, target string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(authToken))
	_, _ = io.WriteString(mac, target) // a hash takes everything
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			_, _ = io.WriteString(mac, name+value)
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// newCallbackClient makes a client that cannot leave the machine: it dials loopback addresses only, follows no redirect and knows no
// proxy.
func newCallbackClient() *http.Client {
	dialer := &net.Dialer{Timeout: callbackTimeout}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				if !loopbackHost(host) {
					return nil, fmt.Errorf("not a loopback address")
				}
				if _, err := netip.ParseAddr(host); err == nil {
					return dialer.DialContext(ctx, network, address)
				}
				// A name below localhost is this machine (RFC 6761, section 6.3); asking a resolver could say otherwise.
				conn, err := dialer.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
				if err != nil {
					conn, err = dialer.DialContext(ctx, network, net.JoinHostPort("::1", port))
				}
				return conn, err
			},
			MaxIdleConnsPerHost: callbackConcurrency,
			IdleConnTimeout:     30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func loopbackURL(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && loopbackHost(u.Hostname())
}

// loopbackHost reports whether host, without a port, names this machine and nothing else.
func loopbackHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}
