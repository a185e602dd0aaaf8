package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNoDesk says that there is no such session of the support desk: unknown, signed out, expired, or unused for too long.
var ErrNoDesk = errors.New("no such desk session")

// A DeskSession is an agent who is signed in to the support desk. It is known by its cookie, of which the database has the SHA-256 only.
type DeskSession struct {
	Agent     string    `db:"agent"`
	Sealed    []byte    `db:"sealed"` // the agent's NATS password
	State     []byte    `db:"state"`  // sealed; nil for none
	Locale    string    `db:"locale"` // that the agent has chosen; empty for none
	CreatedAt time.Time `db:"created_at"`
	SeenAt    time.Time `db:"seen_at"`
	ExpiresAt time.Time `db:"expires_at"`
}

// Desks keeps the sessions of the support desk, for the gateway.
type Desks struct{ db *DB }

// NewDesks returns the store.
func NewDesks(db *DB) *Desks { return &Desks{db} }

// Create stores a session that has just been used.
func (s *Desks) Create(ctx context.Context, cookie [32]byte, d DeskSession) error {
	if _, err := s.db.x.ExecContext(ctx, query("desk_add"), cookie[:], d.Agent, d.Sealed, d.Locale, d.CreatedAt, d.ExpiresAt); err != nil {
		return fmt.Errorf("create desk session: %w", err)
	}
	return nil
}

// Use finds a session and notes that it is used now. It returns ErrNoDesk for one that has expired, or was not used since idle.
func (s *Desks) Use(ctx context.Context, now, idle time.Time, cookie [32]byte) (DeskSession, error) {
	var d DeskSession
	if err := s.db.x.GetContext(ctx, &d, query("desk_seen"), cookie[:], now, idle); err != nil {
		if missing(err) {
			return d, ErrNoDesk
		}
		return d, fmt.Errorf("get desk session: %w", err)
	}
	return d, nil
}

// Save stores a session's state and locale; of several at once the last one stays. It returns ErrNoDesk where the session has ended.
func (s *Desks) Save(ctx context.Context, cookie [32]byte, d DeskSession) error {
	res, err := s.db.x.ExecContext(ctx, query("desk_save"), cookie[:], d.State, d.Locale)
	if err != nil {
		return fmt.Errorf("save desk session: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoDesk
	}
	return nil
}

// End removes a session, where it is there.
func (s *Desks) End(ctx context.Context, cookie [32]byte) error {
	if _, err := s.db.x.ExecContext(ctx, query("desk_end"), cookie[:]); err != nil {
		return fmt.Errorf("end desk session: %w", err)
	}
	return nil
}

// sweepDesks is how many sessions one sweep removes at most.
const sweepDesks = 1000

// Sweep removes sessions that have expired or were not used since idle.
func (s *Desks) Sweep(ctx context.Context, now, idle time.Time) error {
	if _, err := s.db.x.ExecContext(ctx, query("desks_sweep"), now, idle, sweepDesks); err != nil {
		return fmt.Errorf("sweep desk sessions: %w", err)
	}
	return nil
}
