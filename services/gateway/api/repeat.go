package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is the header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): the same request with the same key is carried out once, and answered
// alike.

const (
	// keepAnswers is for how long a repeat is answered from memory.
	keepAnswers = 24 * time.Hour
	// claimLife is after what time a request whose process has died may be carried out anew: no request takes as long.
	claimLife = requestWithin + storeWithin
	// storeWithin bounds the keeping of an answer.
	storeWithin = 5 * time.Second
	// maxSealed is the most bytes that an answer may have to be kept.
	maxSealed = 256 << 10
)

// An answer is what a request is answered with, in the form in which it is kept.
type answer struct {
	Status   int                `json:"status"`
	Body     []byte             `json:"body,omitzero"`
	Problem  *event.HTTPProblem `json:"problem,omitzero"` // in place of a body; its request id is that of the request it answers
	replayed bool
}

// lasting reports whether the same request would be answered alike again. What failed for the moment is not kept, so that it can be tried anew with the same
// key.
func (a answer) lasting() bool {
	return a.Status < http.StatusInternalServerError && a.Status != http.StatusTooManyRequests
}

// idempotencyKey returns the request's key, empty for none. Quotes around it, as the draft wants them (a string of RFC 9651), are no part of it.
func idempotencyKey(h http.Header) (string, *otp.Problem) {
	given := h.Values("Idempotency-Key")
	if len(given) == 0 {
		return "", nil
	}
	key := given[0]
	if len(key) > 2 && strings.HasPrefix(key, `"`) && strings.HasSuffix(key, `"`) {
		key = key[1 : len(key)-1]
	}
	odd := strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
	if len(given) > 1 || key == "" || len(key) > event.MaxIdempotencyKey || odd {
		return "", otp.InvalidField("Idempotency-Key", "must be given once, with 1 to 255 printable ASCII characters")
	}
	return key, nil
}

// once carries a request out, unless it was carried out before: then it is answered as it was.
func (a *API) once(ctx context.Context, route Route, c call) (answer, error) {
	r := postgres.HTTPRequest{AppID: c.app.ID, Key: sha256.Sum256([]byte(c.key)), Request: sha256.Sum256(append([]byte(route.Path+"\n"), c.body...))}
	now := a.Now()
	claim, kept, err := a.Requests.Claim(ctx, now, r, now.Add(claimLife))
	switch {
	case errors.Is(err, postgres.ErrRequestBusy):
		return answer{}, &otp.Problem{Reason: otp.Conflict, Message: "the same request is under way; send it again for its answer", RetryAfter: time.Second}
	case errors.Is(err, postgres.ErrRequestAnother):
		return answer{}, &otp.Problem{Reason: event.IdempotencyMismatch, Message: "the Idempotency-Key came with another request; a new request needs a new one"}
	case err != nil:
		return answer{}, err
	case claim == nil:
		return a.open(r, kept)
	}
	done := a.carryOut(ctx, route, c)
	a.keep(ctx, claim, done)
	return done, nil
}

// keep keeps the answer of a claimed request, or lets the request be carried out anew. Where neither can be written the claim runs out by itself.
func (a *API) keep(ctx context.Context, claim *postgres.RequestClaim, done answer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeWithin)
	defer cancel()
	var err error
	if done.lasting() {
		var sealed []byte
		if sealed, err = a.seal(claim.HTTPRequest, done); err == nil && len(sealed) <= maxSealed {
			err = a.Requests.Answer(ctx, claim, postgres.HTTPAnswer{Status: done.Status, Sealed: sealed}, a.Now().Add(keepAnswers))
			if err == nil {
				return
			}
		}
	}
	if e := a.Requests.Release(ctx, claim); err == nil {
		err = e
	}
	if err != nil {
		a.Logger.Warn("keeping the answer of a request failed; a repeat may be carried out again", "error", err)
	}
}

func (a *API) seal(r postgres.HTTPRequest, done answer) ([]byte, error) {
	text, err := json.Marshal(done)
	if err != nil {
		return nil, err
	}
	return a.Ring.Seal(keyring.Page, text, bound(r))
}

func (a *API) open(r postgres.HTTPRequest, kept postgres.HTTPAnswer) (answer, error) {
	text, err := a.Ring.Open(keyring.Page, kept.Sealed, bound(r))
	if err != nil {
		return answer{}, err
	}
	done := answer{replayed: true}
	return done, json.Unmarshal(text, &done)
}

// bound is what a kept answer is sealed for: it opens for the same app and the same key only.
func bound(r postgres.HTTPRequest) []byte {
	b := binary.BigEndian.AppendUint64([]byte("otpost/http-answer/v1/"), uint64(r.AppID))
	return append(b, r.Key[:]...)
}
