package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Errors of requests that come again.
var (
	ErrRequestBusy    = errors.New("the same request is under way")
	ErrRequestAnother = errors.New("another request has this key")
)

// An HTTPRequest names a request that carried an Idempotency-Key.
type HTTPRequest struct {
	AppID   int
	Key     [32]byte // SHA-256 of the Idempotency-Key
	Request [32]byte // SHA-256 of route and body
}

// A RequestClaim is the right to carry a request out, which one process has at a time.
type RequestClaim struct {
	HTTPRequest
	at time.Time // tells this claim from one that followed it
}

// An HTTPAnswer is what a request was answered with.
type HTTPAnswer struct {
	Status int
	Sealed []byte
}

// HTTPRequests remembers requests that carried an Idempotency-Key, with their answers.
type HTTPRequests struct{ db *DB }

// NewHTTPRequests returns the store.
func NewHTTPRequests(db *DB) *HTTPRequests { return &HTTPRequests{db} }

// Claim takes a request for whoever is first, until the time given: whoever has died on the way does not keep others from it for longer. Where the request was
// answered before, it returns that answer and no claim. It returns ErrRequestBusy where another has the claim, and ErrRequestAnother where the key came with
// another request.
func (s *HTTPRequests) Claim(ctx context.Context, now time.Time, r HTTPRequest, until time.Time) (*RequestClaim, HTTPAnswer, error) {
	now = now.Truncate(time.Microsecond) // as Postgres keeps it
	res, err := s.db.x.ExecContext(ctx, query(guarded("http_request_claim")), r.AppID, r.Key[:], r.Request[:], now, until)
	if err != nil {
		return nil, HTTPAnswer{}, fmt.Errorf("claim request: %w", err)
	}
	if n, _ := res.RowsAffected(); n > 0 {
		return &RequestClaim{HTTPRequest: r, at: now}, HTTPAnswer{}, nil
	}
	var row struct {
		Request []byte        `db:"request"`
		Status  sql.NullInt16 `db:"status"`
		Sealed  []byte        `db:"sealed"`
	}
	if err := s.db.x.GetContext(ctx, &row, query("http_request_find"), r.AppID, r.Key[:]); err != nil {
		if missing(err) { // it was released just now
			return nil, HTTPAnswer{}, ErrRequestBusy
		}
		return nil, HTTPAnswer{}, fmt.Errorf("find request: %w", err)
	}
	switch {
	case !bytes.Equal(row.Request, r.Request[:]):
		return nil, HTTPAnswer{}, ErrRequestAnother
	case !row.Status.Valid:
		return nil, HTTPAnswer{}, ErrRequestBusy
	}
	return nil, HTTPAnswer{Status: int(row.Status.Int16), Sealed: row.Sealed}, nil
}

// Answer keeps the answer of a claimed request until the time given. It does nothing where the claim has gone to another.
func (s *HTTPRequests) Answer(ctx context.Context, c *RequestClaim, a HTTPAnswer, until time.Time) error {
	if _, err := s.db.x.ExecContext(ctx, query("http_request_answer"), c.AppID, c.Key[:], c.at, a.Status, a.Sealed, until); err != nil {
		return fmt.Errorf("keep the answer of a request: %w", err)
	}
	return nil
}

// Release gives a claim up: the same request may be carried out anew. It does nothing where the claim has gone to another.
func (s *HTTPRequests) Release(ctx context.Context, c *RequestClaim) error {
	if _, err := s.db.x.ExecContext(ctx, query("http_request_release"), c.AppID, c.Key[:], c.at); err != nil {
		return fmt.Errorf("release request: %w", err)
	}
	return nil
}

// sweepRequests is how many rows one sweep removes at most.
const sweepRequests = 1000

// Sweep removes requests that have expired, and returns how many.
func (s *HTTPRequests) Sweep(ctx context.Context, now time.Time) (int, error) {
	res, err := s.db.x.ExecContext(ctx, query("http_requests_sweep"), now, sweepRequests)
	if err != nil {
		return 0, fmt.Errorf("sweep requests: %w", err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}
