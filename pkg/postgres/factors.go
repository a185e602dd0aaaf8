package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// ErrNoAccount says that nothing is known of a user yet.
var ErrNoAccount = errors.New("nothing is known of this user")

// Factors is the operator's store of factors, hardware tokens and accounts. What it changes stands in the audit as done by the operator, in the same
// transaction. The operator's role has no outbox: apps hear of nothing that is done here, users do.
type Factors struct{ db *DB }

// NewFactors returns the store.
func NewFactors(db *DB) *Factors { return &Factors{db} }

// A NewFactor is a factor to be stored. Sealed is its secret or address.
type NewFactor struct {
	ID uuid.UUID
	Account
	Kind     otp.FactorKind
	Label    string
	Sealed   []byte
	Mask     string
	TOTP     otp.TOTP  // of kind totp; of kind hotp its algorithm and digits
	Used     int64     // of kind hotp: how many of its values count as used, so that the next is of this counter
	PublicID string    // of kind yubikey, modhex
	UserKey  uuid.UUID // the user's digest, by which the audit knows people
}

// A StoredFactor is a factor as people may see it.
type StoredFactor struct {
	ID         uuid.UUID
	Kind       otp.FactorKind
	Label      string
	State      string
	Mask       string
	Serial     string // of a hardware token
	CreatedAt  time.Time
	LastUsedAt time.Time // zero for never
}

// Add stores a factor that the operator vouches for: it is active at once, and so is its user, who has no backup codes to save for it. Like every change of
// factors it voids the user's trusted devices and leaves a notice. It returns ErrTaken for a token that is a factor already.
func (s *Factors) Add(ctx context.Context, now time.Time, f NewFactor) error {
	return s.db.tx(ctx, "store factor", func(tx *sqlx.Tx) error {
		if err := s.hold(ctx, tx, []NewFactor{f}); err != nil {
			return err
		}
		return addFactor(ctx, tx, now, f)
	})
}

// hold takes the accounts of users whose factors are to change, where there are any, in the order in which all who hold several take them.
func (s *Factors) hold(ctx context.Context, tx *sqlx.Tx, factors []NewFactor) error {
	accounts := make([]Account, len(factors))
	for i, f := range factors {
		accounts[i] = f.Account
	}
	apps, names := accountArrays(accounts)
	if _, err := tx.ExecContext(ctx, query("accounts_hold"), apps, names); err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	return nil
}

func addFactor(ctx context.Context, tx *sqlx.Tx, now time.Time, f NewFactor) error {
	var algorithm sql.NullString
	var digits, period sql.NullInt32
	last := int64(-1)
	switch f.Kind {
	case otp.FactorTOTP:
		period = sql.NullInt32{Int32: int32(f.TOTP.Period), Valid: true}
		fallthrough
	case otp.FactorHOTP:
		algorithm = sql.NullString{String: f.TOTP.Algorithm, Valid: true}
		digits = sql.NullInt32{Int32: int32(f.TOTP.Digits), Valid: true}
		last = f.Used - 1
	}
	if _, err := tx.ExecContext(ctx, query("factor_insert"), f.ID, f.AppID, f.User, string(f.Kind), f.Label, f.Sealed, f.Mask, algorithm,
		digits, period, last, nullText(f.PublicID), now); err != nil {
		switch Constraint(err) {
		case "factors_public_id_once", "factors_pkey":
			return ErrTaken
		}
		return fmt.Errorf("insert factor: %w", err)
	}
	if _, err := tx.ExecContext(ctx, query("user_vouched_for"), f.AppID, f.User, now); err != nil {
		return fmt.Errorf("activate user: %w", err)
	}
	detail, err := json.Marshal(map[string]any{"kind": f.Kind})
	if err != nil {
		return err
	}
	if err := insertAudit(ctx, tx, AuditEntry{
		At: now, AppID: f.AppID, User: f.UserKey, Actor: operator, Action: "factor.added", Factor: f.ID, Detail: detail,
	}); err != nil {
		return err
	}
	if detail, err = json.Marshal(event.NoticeDetail{Factor: f.Kind, Label: f.Label}); err != nil {
		return err
	}
	return insertNotices(ctx, tx, []Notice{{ID: uuid.Must(uuid.NewV7()), Who: f.Account, Notice: otp.NoticeFactorAdded, Detail: detail, At: now}})
}

// operator is who the audit says that acts of this store are of.
const operator = "operator"

// List returns a user's factors, oldest first.
func (s *Factors) List(ctx context.Context, a Account) ([]StoredFactor, error) {
	var rows []struct {
		ID         uuid.UUID    `db:"id"`
		Kind       string       `db:"kind"`
		Label      string       `db:"label"`
		State      string       `db:"state"`
		Mask       string       `db:"mask"`
		Serial     string       `db:"serial"`
		CreatedAt  time.Time    `db:"created_at"`
		LastUsedAt sql.NullTime `db:"last_used_at"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("factor_list"), a.AppID, a.User); err != nil {
		return nil, fmt.Errorf("list factors: %w", err)
	}
	out := make([]StoredFactor, len(rows))
	for i, r := range rows {
		out[i] = StoredFactor{
			ID: r.ID, Kind: otp.FactorKind(r.Kind), Label: r.Label, State: r.State, Mask: r.Mask, Serial: r.Serial, CreatedAt: r.CreatedAt,
			LastUsedAt: nullTime(r.LastUsedAt),
		}
	}
	return out, nil
}

// Unlock gives an account its whole budget back. user is the user's digest for the audit. It returns ErrNoAccount for a user of whom nothing is known.
func (s *Factors) Unlock(ctx context.Context, now time.Time, a Account, user uuid.UUID) error {
	return s.db.tx(ctx, "unlock account", func(tx *sqlx.Tx) error {
		var failures int
		if err := tx.GetContext(ctx, &failures, query("account_unlock"), a.AppID, a.User, now); err != nil {
			if missing(err) {
				return ErrNoAccount
			}
			return err
		}
		return insertAudit(ctx, tx, AuditEntry{At: now, AppID: a.AppID, User: user, Actor: operator, Action: "account.unlocked"})
	})
}
