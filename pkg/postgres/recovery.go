package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is the recoveries of one user within an act. What is promised of them is held here by conditional statements and in the schema by named
// constraints: one under way at a time, none completed without two proofs, none changed after its end.

// A Recovery is one reset, from its begin to its end.
type Recovery struct {
	ID          uuid.UUID
	Session     string // empty until the user takes up what support has begun
	State       otp.RecoveryState
	BegunBy     string // the support agent; empty for the user
	ApprovedBy  string // the second agent, where one was asked for
	Reason      string // the agent's, or why it ended
	Locale      string
	Proofs      []otp.ProofKind // given so far, in order
	Attempts    int
	MaxAttempts int
	Nonce       []byte // of the code that cancels it
	KeyID       uint32
	CreatedAt   time.Time
	ExpiresAt   time.Time // until then it can be approved, or proven
	EffectiveAt time.Time // zero before it is proven
	EndedAt     time.Time // zero while it is under way
}

type recoveryRow struct {
	ID          uuid.UUID      `db:"id"`
	Session     string         `db:"session"`
	State       string         `db:"state"`
	BegunBy     string         `db:"begun_by"`
	ApprovedBy  string         `db:"approved_by"`
	Reason      string         `db:"reason"`
	Locale      string         `db:"locale"`
	Proofs      pq.StringArray `db:"proofs"`
	Attempts    int            `db:"attempts"`
	MaxAttempts int            `db:"max_attempts"`
	Nonce       []byte         `db:"nonce"`
	KeyID       int64          `db:"key_id"`
	CreatedAt   time.Time      `db:"created_at"`
	ExpiresAt   time.Time      `db:"expires_at"`
	EffectiveAt sql.NullTime   `db:"effective_at"`
	EndedAt     sql.NullTime   `db:"ended_at"`
}

// recovery reads one row of a statement whose first parameters are those given.
func (a *Act) recovery(statement string, args ...any) (Recovery, bool, error) {
	var r recoveryRow
	found, err := a.find(&r, statement, args...)
	out := Recovery{
		ID: r.ID, Session: r.Session, State: otp.RecoveryState(r.State), BegunBy: r.BegunBy, ApprovedBy: r.ApprovedBy, Reason: r.Reason, Locale: r.Locale,
		Attempts: r.Attempts, MaxAttempts: r.MaxAttempts, Nonce: r.Nonce, KeyID: uint32(r.KeyID), //nolint:gosec // written as one
		CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, EffectiveAt: nullTime(r.EffectiveAt), EndedAt: nullTime(r.EndedAt),
	}
	for _, p := range r.Proofs {
		out.Proofs = append(out.Proofs, otp.ProofKind(p))
	}
	return out, found, err
}

// RecoveryOwner tells whose recovery an id names. It is not a claim on it: the answer says only which account to hold.
func (s *Enrolments) RecoveryOwner(ctx context.Context, app int, id uuid.UUID) (user string, found bool, err error) {
	err = s.db.x.GetContext(ctx, &user, query("recovery_owner"), app, id)
	switch {
	case missing(err):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("find recovery: %w", err)
	}
	return user, true, nil
}

// Recovery returns a recovery of the user, or for uuid.Nil the latest: the one under way where there is one.
func (a *Act) Recovery(id uuid.UUID) (r Recovery, found bool, err error) {
	return a.recovery("recovery_read", a.Who.AppID, a.Who.User, uuid.NullUUID{UUID: id, Valid: id != uuid.Nil})
}

// NthRecovery tells when the nth latest recovery of the user was begun, counted from 1; zero where there were fewer. Those that a second agent has refused
// are not counted.
func (a *Act) NthRecovery(n int) (time.Time, error) {
	var at time.Time
	_, err := a.find(&at, "recoveries_nth", a.Who.AppID, a.Who.User, n-1)
	return at, err
}

// ErrUnderWay says that the user has a recovery that has not ended.
var ErrUnderWay = errors.New("a recovery is under way")

// BeginRecovery stores a recovery that begins now, or returns ErrUnderWay.
func (a *Act) BeginRecovery(r Recovery) error {
	_, err := a.exec("recovery_begin", r.ID, a.Who.AppID, a.Who.User, r.Session, string(r.State), r.BegunBy, r.Reason, r.Locale, r.MaxAttempts, r.Nonce,
		int64(r.KeyID), a.Now, r.ExpiresAt)
	if Constraint(err) == "recoveries_one_open" {
		return ErrUnderWay
	}
	return err
}

// ApproveRecovery lets proofs be given until a time, and tells whether the recovery waited for an approval by this agent.
func (a *Act) ApproveRecovery(id uuid.UUID, agent string, until time.Time) (bool, error) {
	n, err := a.exec("recovery_approve", id, a.Who.AppID, a.Who.User, agent, until, a.Now)
	return n == 1, err
}

// ClaimRecovery takes one attempt for one proof that was not given yet. Claim before compare: where found is false, nothing may be compared. A recovery is
// claimed from its own session, and with takeOver from any.
func (a *Act) ClaimRecovery(id uuid.UUID, session string, proof otp.ProofKind, takeOver bool) (r Recovery, found bool, err error) {
	return a.recovery(guarded("recovery_claim"), id, a.Who.AppID, a.Who.User, session, a.Now, string(proof), takeOver)
}

// ProveRecovery adds a proof to a recovery that was claimed and moves it to the state that follows; it is this session's from then on, and the proofs of
// another session are dropped. effective is zero where it goes on proving.
func (a *Act) ProveRecovery(id uuid.UUID, session string, proof otp.ProofKind, next otp.RecoveryState, effective time.Time) (Recovery, error) {
	ended := time.Time{}
	if next.Ended() {
		ended = a.Now
	}
	r, found, err := a.recovery("recovery_prove", id, a.Who.AppID, a.Who.User, string(proof), session, string(next), nullable(effective), nullable(ended))
	if err != nil || !found {
		return r, errOr(err, "recovery %s is not proving any more", id)
	}
	_, err = a.exec("recovery_code_proven", id, string(proof), texts(r.Proofs), a.Now)
	return r, err
}

// CompleteRecovery ends a recovery whose waiting time is over, and tells whether it is.
func (a *Act) CompleteRecovery(id uuid.UUID) (bool, error) {
	n, err := a.exec("recovery_complete", id, a.Who.AppID, a.Who.User, a.Now)
	return n == 1, err
}

// ExpireRecovery ends a recovery that was not approved or proven in time, and tells whether that is so.
func (a *Act) ExpireRecovery(id uuid.UUID) (bool, error) {
	n, err := a.exec("recovery_expire", id, a.Who.AppID, a.Who.User, a.Now)
	return n == 1, err
}

// EndRecovery cancels or refuses a recovery that is in one of the states in from, and tells whether it was.
func (a *Act) EndRecovery(id uuid.UUID, to otp.RecoveryState, reason string, from ...otp.RecoveryState) (bool, error) {
	n, err := a.exec("recovery_end", id, a.Who.AppID, a.Who.User, string(to), reason, a.Now, texts(from))
	return n == 1, err
}

// A DueRecovery has come to the end of its waiting time, or of the time in which it could be approved or proven.
type DueRecovery struct {
	ID  uuid.UUID
	Who Account
}

// DueRecoveries returns up to limit of them, those first that have been due for longest.
func (s *Enrolments) DueRecoveries(ctx context.Context, now time.Time, limit int) ([]DueRecovery, error) {
	var rows []struct {
		ID    uuid.UUID `db:"id"`
		AppID int       `db:"app_id"`
		User  string    `db:"user_id"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("recoveries_due"), now, limit); err != nil {
		return nil, fmt.Errorf("look for recoveries that are due: %w", err)
	}
	out := make([]DueRecovery, len(rows))
	for i, r := range rows {
		out[i] = DueRecovery{ID: r.ID, Who: Account{AppID: r.AppID, User: r.User}}
	}
	return out, nil
}

// A RecoveryCode is one code of a recovery: its method, and the latest message that carries it.
type RecoveryCode struct {
	ID         uuid.UUID // of the message
	Method     otp.ProofKind
	Mask       string
	Sends      int // so far; 0 while the recovery waits for an approval
	NextSendAt time.Time
	ExpiresAt  time.Time
	ProvenAt   time.Time
}

// RecoveryCodes returns the codes of a recovery of the user.
func (a *Act) RecoveryCodes(recovery uuid.UUID) ([]RecoveryCode, error) {
	var rows []struct {
		ID         uuid.UUID    `db:"id"`
		Method     string       `db:"method"`
		Mask       string       `db:"mask"`
		Sends      int          `db:"sends"`
		NextSendAt time.Time    `db:"next_send_at"`
		ExpiresAt  time.Time    `db:"expires_at"`
		ProvenAt   sql.NullTime `db:"proven_at"`
	}
	if err := a.list(&rows, "recovery_codes_of", recovery); err != nil {
		return nil, err
	}
	out := make([]RecoveryCode, len(rows))
	for i, r := range rows {
		out[i] = RecoveryCode{
			ID: r.ID, Method: otp.ProofKind(r.Method), Mask: r.Mask, Sends: r.Sends, NextSendAt: r.NextSendAt, ExpiresAt: r.ExpiresAt,
			ProvenAt: nullTime(r.ProvenAt),
		}
	}
	return out, nil
}

// SetRecoveryCodes replaces the codes of a recovery.
func (a *Act) SetRecoveryCodes(recovery uuid.UUID, codes []RecoveryCode) error {
	if _, err := a.exec("recovery_codes_clear", recovery); err != nil {
		return err
	}
	for _, c := range codes {
		if _, err := a.exec("recovery_code_add", c.ID, recovery, string(c.Method), c.Mask, c.Sends, c.NextSendAt, c.ExpiresAt); err != nil {
			return err
		}
	}
	return nil
}

// ResendRecoveryCode takes one of at most most sends of a code, old, for the message that next names, and tells whether there was one to take.
func (a *Act) ResendRecoveryCode(recovery, old uuid.UUID, next RecoveryCode, most int) (bool, error) {
	n, err := a.exec("recovery_code_resend", recovery, old, next.ID, next.NextSendAt, next.ExpiresAt, most, a.Now)
	return n == 1, err
}

// WithdrawRecoveryCodes keeps the codes of a recovery that has ended from being sent, where no worker has taken them yet.
func (a *Act) WithdrawRecoveryCodes(recovery uuid.UUID) error {
	codes, err := a.RecoveryCodes(recovery)
	if err != nil || len(codes) == 0 {
		return err
	}
	ids := make([]uuid.UUID, len(codes))
	for i, c := range codes {
		ids[i] = c.ID
	}
	_, err = a.exec("recovery_codes_withdraw", pq.Array(ids), a.Now)
	return err
}
