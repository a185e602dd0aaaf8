package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// ErrNoAccount says that nothing is known of a user yet.
var ErrNoAccount = errors.New("nothing is known of this user")

// Factors is the operator's store of factors and accounts.
type Factors struct{ db *DB }

// NewFactors returns the store.
func NewFactors(db *DB) *Factors { return &Factors{db} }

// A NewFactor is a factor to be stored. Sealed is its secret or address.
type NewFactor struct {
	ID uuid.UUID
	Account
	Kind   otp.FactorKind
	Label  string
	Sealed []byte
	Mask   string
	TOTP   otp.TOTP // of kind totp
}

// A StoredFactor is a factor as people may see it.
type StoredFactor struct {
	ID         uuid.UUID
	Kind       otp.FactorKind
	Label      string
	State      string
	Mask       string
	CreatedAt  time.Time
	LastUsedAt time.Time // zero for never
}

// Add stores a factor, active at once.
func (s *Factors) Add(ctx context.Context, now time.Time, f NewFactor) error {
	var algorithm sql.NullString
	var digits, period sql.NullInt32
	if f.Kind == otp.FactorTOTP {
		algorithm = sql.NullString{String: f.TOTP.Algorithm, Valid: true}
		digits, period = sql.NullInt32{Int32: int32(f.TOTP.Digits), Valid: true}, sql.NullInt32{Int32: int32(f.TOTP.Period), Valid: true}
	}
	if _, err := s.db.x.ExecContext(ctx, query("factor_insert"), f.ID, f.AppID, f.User, string(f.Kind), f.Label, f.Sealed, f.Mask, algorithm,
		digits, period, now); err != nil {
		return fmt.Errorf("store factor: %w", err)
	}
	return nil
}

// List returns a user's factors, oldest first.
func (s *Factors) List(ctx context.Context, a Account) ([]StoredFactor, error) {
	var rows []struct {
		ID         uuid.UUID    `db:"id"`
		Kind       string       `db:"kind"`
		Label      string       `db:"label"`
		State      string       `db:"state"`
		Mask       string       `db:"mask"`
		CreatedAt  time.Time    `db:"created_at"`
		LastUsedAt sql.NullTime `db:"last_used_at"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("factor_list"), a.AppID, a.User); err != nil {
		return nil, fmt.Errorf("list factors: %w", err)
	}
	out := make([]StoredFactor, len(rows))
	for i, r := range rows {
		out[i] = StoredFactor{
			ID: r.ID, Kind: otp.FactorKind(r.Kind), Label: r.Label, State: r.State, Mask: r.Mask, CreatedAt: r.CreatedAt, LastUsedAt: nullTime(r.LastUsedAt),
		}
	}
	return out, nil
}

// Unlock gives an account its whole budget back. It returns ErrNoAccount for a user of whom nothing is known.
func (s *Factors) Unlock(ctx context.Context, now time.Time, a Account) error {
	var failures int
	if err := s.db.x.GetContext(ctx, &failures, query("account_unlock"), a.AppID, a.User, now); err != nil {
		if missing(err) {
			return ErrNoAccount
		}
		return fmt.Errorf("unlock account: %w", err)
	}
	return nil
}
