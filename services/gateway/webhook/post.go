package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/otpost/otpost/pkg/postgres"
)

// retries are the pauses before the second try and those after it, as Standard Webhooks 1.0.0 suggests ("Deliverability and reliability"): ten tries in
// some 75 hours. After the last one an event is given up.
var retries = [...]time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

const (
	// maxRetryAfter bounds what a target may ask for in Retry-After.
	maxRetryAfter = 24 * time.Hour
	// maxBody bounds how much of an answer's body is read, in bytes, so that the connection may serve again. None of it is looked at.
	maxBody = 4 << 10
	// jitter is by how much a pause is shortened or lengthened at random, so that what failed together does not come back together.
	jitter = 0.1
)

// next returns the pause before the try after so many, and false where there is none any more. Where the target asked for a longer one, it is that.
func next(tries int, asked time.Duration) (time.Duration, bool) {
	if tries > len(retries) {
		return 0, false
	}
	d := retries[max(tries, 1)-1]
	d += time.Duration((2*rand.Float64() - 1) * jitter * float64(d))
	return max(d, min(asked, maxRetryAfter)), true
}

// An answer is what came of one post.
type answer struct {
	status     int           // 0 where there was none
	retryAfter time.Duration // as the target asked for it
	took       time.Duration
	reason     string // why it was not taken: our own words, never the target's
}

func (a answer) taken() bool { return a.status >= 200 && a.status <= 299 }

// gone reports whether the target wants no more.
func (a answer) gone() bool { return a.status == http.StatusGone }

// busy reports whether the target asks to be spared for a while (Standard Webhooks 1.0.0, "Delivery success and failure").
func (a answer) busy() bool {
	switch a.status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// post posts an event once.
func (w *Worker) post(ctx context.Context, h postgres.Webhook, e postgres.ClaimedEvent) answer {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	now := w.Now()
	signatures, err := w.signatures(h, e, now)
	if err != nil {
		w.Logger.Error("an event cannot be signed", "webhook", h.ID, "event", e.ID, "error", err)
		return answer{reason: "its secret cannot be opened"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(e.Payload))
	if err != nil {
		return answer{reason: "its URL is not understood"}
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("User-Agent", "otpost")
	req.Header.Set(headerID, e.ID)
	req.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(headerSignature, signatures)
	c := w.strict
	if reachOf(h.Private) == private {
		c = w.inside
	}
	began := time.Now()
	res, err := c.Do(req)
	took := time.Since(began)
	if err != nil {
		return answer{took: took, reason: w.why(err)}
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxBody)
	_ = res.Body.Close()
	a := answer{status: res.StatusCode, took: took, retryAfter: retryAfter(res.Header.Get("Retry-After"), now)}
	if !a.taken() {
		a.reason = fmt.Sprintf("it answered %d", res.StatusCode)
	}
	return a
}

// signatures are those of the secret and of the one before, while that signs too.
func (w *Worker) signatures(h postgres.Webhook, e postgres.ClaimedEvent, now time.Time) (string, error) {
	var all []string
	for _, sealed := range [][]byte{h.Sealed, h.Previous} {
		if sealed == nil {
			continue
		}
		s, err := open(w.Keys, h.ID, sealed)
		if err != nil {
			return "", err
		}
		all = append(all, s.sign(e.ID, now, e.Payload))
	}
	return strings.Join(all, " "), nil
}

// retryAfter reads the header of the name: seconds, or a time (RFC 9110, section 10.2.3). What is neither is nothing.
func retryAfter(text string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(text); err == nil && s >= 0 {
		return time.Duration(min(s, int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}

// why puts a failure to get an answer into words that hold nothing of what the target said, nor its URL, which may hold a secret of the app's.
func (w *Worker) why(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errAddress):
		return "its address is private or reserved; see --allow-private"
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %s", w.Timeout)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return "its host's name is not known"
		}
		return "its host's name could not be looked up"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not valid"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "it does not speak TLS"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "it refused the connection"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it cut the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "its host cannot be reached"
	}
	return "the connection failed, or it does not speak HTTP"
}

// record writes down what came of a post.
func (w *Worker) record(ctx context.Context, h postgres.Webhook, e postgres.ClaimedEvent, a answer) (result string, err error) {
	if a.taken() {
		return resultDelivered, w.store.Delivered(ctx, e)
	}
	now := w.Now()
	wait, more := next(e.Tries, a.retryAfter)
	switch {
	case a.gone():
		w.Logger.Warn("a webhook's target wants no more events, the webhook is disabled", "webhook", h.ID, "app", h.App)
		if err := w.store.Disable(ctx, now, h.ID, "its target answered 410 Gone"); err != nil {
			return resultGone, err
		}
		if more {
			return resultGone, w.store.Failed(ctx, now, now.Add(wait), e, a.reason)
		}
		return resultGone, w.store.GiveUp(ctx, now, e, a.reason)
	case !more:
		w.Logger.Warn("an event was given up", "webhook", h.ID, "app", h.App, "event", e.ID, "name", e.Name, "tries", e.Tries, "reason", a.reason)
		return resultDead, w.store.GiveUp(ctx, now, e, a.reason)
	}
	w.Logger.Debug("an event was not taken", "webhook", h.ID, "event", e.ID, "tries", e.Tries, "reason", a.reason, "again", wait)
	return resultFailed, w.store.Failed(ctx, now, now.Add(wait), e, a.reason)
}
