package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is the operator's stock of hardware tokens: what was imported, and which of it is somebody's.

// A NewToken is a hardware token to be imported. Sealed is its secret, bound to the app and the token's id, and to no user.
type NewToken struct {
	ID        uuid.UUID // also of the factor that is imported with it
	Kind      otp.FactorKind
	Serial    string
	Sealed    []byte
	PublicID  string // of a Yubico OTP, modhex
	Algorithm string // of HOTP and TOTP
	Digits    int
	Period    int   // seconds, of TOTP
	Used      int64 // of HOTP: how many of its values count as used
	Assigned  bool  // it is one of the factors that are imported with it
}

// KnownTokensError names tokens that were imported before, or whose public id a factor has.
type KnownTokensError struct{ Serials []string }

// maxNamed bounds the serial numbers in an error's text.
const maxNamed = 20

func (e *KnownTokensError) Error() string {
	named, more := e.Serials, ""
	if len(named) > maxNamed {
		named, more = named[:maxNamed], fmt.Sprintf(" and %d more", len(e.Serials)-maxNamed)
	}
	return fmt.Sprintf("%d of the tokens are there already: %s%s", len(e.Serials), strings.Join(named, ", "), more)
}

// tokensAtOnce bounds the rows of one statement.
const tokensAtOnce = 2000

// Import stores tokens of an app, and as factors those that are somebody's already: all of them or, with an error, none. It returns a *KnownTokensError
// where some are there already.
func (s *Factors) Import(ctx context.Context, now time.Time, app int, tokens []NewToken, factors []NewFactor) error {
	return s.db.tx(ctx, "import tokens", func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, query(guarded("imports_lock"))); err != nil {
			return fmt.Errorf("wait for another import: %w", err)
		}
		if err := refuseKnown(ctx, tx, app, tokens); err != nil {
			return err
		}
		for some := range slices.Chunk(tokens, tokensAtOnce) {
			if err := insertTokens(ctx, tx, now, app, some); err != nil {
				return err
			}
		}
		if err := s.hold(ctx, tx, factors); err != nil {
			return err
		}
		for _, f := range factors {
			if err := addFactor(ctx, tx, now, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// Known returns the *KnownTokensError that Import would return, or nil.
func (s *Factors) Known(ctx context.Context, app int, tokens []NewToken) error {
	return refuseKnown(ctx, s.db.x, app, tokens)
}

func refuseKnown(ctx context.Context, x sqlx.QueryerContext, app int, tokens []NewToken) error {
	kinds, serials, ids := make([]string, len(tokens)), make([]string, len(tokens)), make([]string, len(tokens))
	for i, t := range tokens {
		kinds[i], serials[i], ids[i] = string(t.Kind), t.Serial, t.PublicID
	}
	var known []string
	if err := sqlx.SelectContext(ctx, x, &known, query("tokens_known"), app, pq.Array(kinds), pq.Array(serials), pq.Array(ids)); err != nil {
		return fmt.Errorf("look for known tokens: %w", err)
	}
	if len(known) > 0 {
		return &KnownTokensError{Serials: known}
	}
	return nil
}

func insertTokens(ctx context.Context, tx *sqlx.Tx, now time.Time, app int, tokens []NewToken) error {
	n := len(tokens)
	ids, kinds, serials, sealed := make([]string, n), make([]string, n), make([]string, n), make([][]byte, n)
	publicIDs, algorithms, assigned := make([]string, n), make([]string, n), make([]bool, n)
	digits, periods, counters := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, t := range tokens {
		ids[i], kinds[i], serials[i], sealed[i] = t.ID.String(), string(t.Kind), t.Serial, t.Sealed
		publicIDs[i], algorithms[i], assigned[i] = t.PublicID, t.Algorithm, t.Assigned
		digits[i], periods[i], counters[i] = int64(t.Digits), int64(t.Period), t.Used-1
	}
	if _, err := tx.ExecContext(ctx, query("tokens_add"), app, now, pq.Array(ids), pq.Array(kinds), pq.Array(serials), pq.Array(sealed), pq.Array(publicIDs),
		pq.Array(algorithms), pq.Array(digits), pq.Array(periods), pq.Array(counters), pq.Array(assigned)); err != nil {
		return fmt.Errorf("insert tokens: %w", err)
	}
	return nil
}

// A StoredToken is a hardware token as people may see it.
type StoredToken struct {
	ID         uuid.UUID
	Kind       otp.FactorKind
	Serial     string
	PublicID   string
	AssignedAt time.Time // zero for a free one
	ImportedAt time.Time
}

// Tokens returns the tokens of an app, by kind and serial number.
func (s *Factors) Tokens(ctx context.Context, app int) ([]StoredToken, error) {
	var rows []struct {
		ID         uuid.UUID    `db:"id"`
		Kind       string       `db:"kind"`
		Serial     string       `db:"serial"`
		PublicID   string       `db:"public_id"`
		AssignedAt sql.NullTime `db:"assigned_at"`
		ImportedAt time.Time    `db:"imported_at"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("tokens_list"), app); err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	out := make([]StoredToken, len(rows))
	for i, r := range rows {
		out[i] = StoredToken{
			ID: r.ID, Kind: otp.FactorKind(r.Kind), Serial: r.Serial, PublicID: r.PublicID, AssignedAt: nullTime(r.AssignedAt), ImportedAt: r.ImportedAt,
		}
	}
	return out, nil
}

// What Release refuses.
var (
	ErrNoToken   = errors.New("there is no such token")
	ErrTokenFree = errors.New("the token is free already")
	ErrTokenHeld = errors.New("the token is a factor still")
)

// Release takes a token back whose factor was removed, for the next user. Of hotp and yubikey it is free again, and no value that the factor has accepted
// is good for the next one. A time-based token cannot be enrolled by its serial number, so it is forgotten and may be imported anew. It returns ErrNoToken,
// ErrTokenFree, or ErrTokenHeld where the factor is not removed.
func (s *Factors) Release(ctx context.Context, now time.Time, app int, kind otp.FactorKind, serial string) error {
	return s.db.tx(ctx, "release token", func(tx *sqlx.Tx) error {
		var t struct {
			ID     uuid.UUID     `db:"id"`
			Factor uuid.NullUUID `db:"factor_id"`
		}
		switch err := tx.GetContext(ctx, &t, query("token_hold"), app, string(kind), serial); {
		case missing(err):
			return ErrNoToken
		case err != nil:
			return fmt.Errorf("lock token: %w", err)
		case !t.Factor.Valid:
			return ErrTokenFree
		}
		var f struct {
			State string `db:"state"`
			Last  int64  `db:"last_step"`
		}
		switch err := tx.GetContext(ctx, &f, query("token_factor"), t.Factor.UUID); {
		case missing(err): // the janitor was there, and the token has the counter
			f.Last = -1
		case err != nil:
			return fmt.Errorf("look for the token's factor: %w", err)
		case f.State != string(otp.FactorRemoved):
			return ErrTokenHeld
		}
		var err error
		if kind == otp.FactorTOTP {
			_, err = tx.ExecContext(ctx, query("token_forget"), t.ID)
		} else {
			_, err = tx.ExecContext(ctx, query("token_release"), t.ID, f.Last)
		}
		if err != nil {
			return fmt.Errorf("update token: %w", err)
		}
		return auditRelease(ctx, tx, now, app, t.Factor.UUID, kind, serial)
	})
}

// auditRelease writes the line under whoever had the token. The audit itself knows whose the factor was, also where the factor or the user are gone.
func auditRelease(ctx context.Context, tx *sqlx.Tx, now time.Time, app int, factor uuid.UUID, kind otp.FactorKind, serial string) error {
	var user uuid.UUID // nobody, where no line tells
	if err := tx.GetContext(ctx, &user, query("audit_whose_factor"), factor); err != nil && !missing(err) {
		return fmt.Errorf("look for whom the token was of: %w", err)
	}
	detail, err := json.Marshal(map[string]any{"kind": kind, "serial": serial})
	if err != nil {
		return err
	}
	return insertAudit(ctx, tx, AuditEntry{At: now, AppID: app, User: user, Actor: operator, Action: "token.released", Factor: factor, Detail: detail})
}
