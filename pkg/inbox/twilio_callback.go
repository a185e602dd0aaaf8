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

// follow settles m, in the background when someone wants to hear of it.
func (in *Inbox) follow(m *twilioMessage, callback string, f TwilioFault) {
	switch {
	case callback == "":
		in.settle(m, "", f)
	case in.pending.Add(1) > int64(in.cfg.Max):
		in.pending.Add(-1)
		in.counts.callbacksFailed.Add(1)
		in.log.Warn("status callbacks dropped: too many are waiting", "message", m.SID)
		in.settle(m, "", f)
	default:
		in.spawn(func() {
			defer in.pending.Add(-1)
			in.settle(m, callback, f)
		})
	}
}

// settle takes an accepted message through its states, each told to callback when there is one: sent, then the fault's outcome.
func (in *Inbox) settle(m *twilioMessage, callback string, f TwilioFault) {
	steps := []struct {
		status string
		code   int
	}{{statusSent, 0}, {statusDelivered, 0}}
	switch f.Outcome {
	case outcomeNone:
		return
	case statusUndelivered, statusFailed:
		code := f.OutcomeCode
		if code == 0 {
			code = 30008
		}
		steps[1].status, steps[1].code = f.Outcome, code
	}
	for _, step := range steps {
		m.advance(step.status, step.code)
		if callback != "" {
			in.callBack(m, callback, step.status, step.code)
		}
	}
}

// callBack posts one status to the sender's URL and gives up after callbackAttempts. Twilio promises no delivery either.
func (in *Inbox) callBack(m *twilioMessage, target, status string, code int) {
	if !loopbackURL(target) {
		in.counts.callbacksFailed.Add(1)
		in.log.Warn("status callback refused: its target is not a loopback address", "message", m.SID)
		return
	}
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	case <-in.ctx.Done():
		return
	}
	form := m.callbackForm(status, code)
	backoff := callbackBackoff
	for attempt := 1; ; attempt++ {
		err := in.postCallback(target, form)
		if err == nil {
			in.counts.callbacks.Add(1)
			return
		}
		if in.ctx.Err() != nil {
			return
		}
		if attempt == callbackAttempts {
			in.counts.callbacksFailed.Add(1)
			in.log.Warn("status callback given up", "message", m.SID, "status", status, "attempts", attempt, "error", err)
			return
		}
		in.pause(backoff, nil)
		backoff *= 2
	}
}

func (m *twilioMessage) callbackForm(status string, code int) url.Values {
	m.mu.Lock()
	defer m.mu.Unlock()
	form := url.Values{
		"AccountSid": {m.AccountSID}, "ApiVersion": {twilioAPIVersion}, "From": {m.sender}, "To": {m.To},
		"MessageSid": {m.SID}, "MessageStatus": {status}, "SmsSid": {m.SID}, "SmsStatus": {status},
	}
	if m.MessagingServiceSID != "" {
		form.Set("MessagingServiceSid", m.MessagingServiceSID)
	}
	if code != 0 {
		form.Set("ErrorCode", strconv.Itoa(code))
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
