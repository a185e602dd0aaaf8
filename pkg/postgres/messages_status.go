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

// This file tells an operator what became of what was to be sent: for a challenge, a ceremony, a recovery or a single message.

// ErrNothing says that an app has nothing of this id, or nothing any more.
var ErrNothing = errors.New("nothing of this id")

// Statuses is the operator's view of what was sent. It shows masks, never addresses, and nothing that a code is derived from.
type Statuses struct{ db *DB }

// NewStatuses returns the store.
func NewStatuses(db *DB) *Statuses { return &Statuses{db} }

// A Standing is what one id names; exactly one of its pointers is set. A ceremony has the id of the message that carries its code, and goes before it.
type Standing struct {
	Challenge *Challenge // with its deliveries
	Ceremony  *CeremonyStatus
	Recovery  *RecoveryStatus
	Message   *MessageStatus
	Sent      []Sent // what was sent for it, oldest first, unless it is a challenge
}

// A CeremonyStatus is how a ceremony stands.
type CeremonyStatus struct {
	ID          uuid.UUID    `db:"id"`
	User        string       `db:"user_id"`
	Kind        string       `db:"kind"` // of the factor; or deactivate, reset_email, reset_phone
	State       string       `db:"state"`
	Mask        string       `db:"mask"` // empty where no code is sent
	Attempts    int          `db:"attempts"`
	MaxAttempts int          `db:"max_attempts"`
	Sends       int          `db:"sends"`
	CreatedAt   time.Time    `db:"created_at"`
	ExpiresAt   time.Time    `db:"expires_at"`
	EndedAt     sql.NullTime `db:"ended_at"`
}

// A RecoveryStatus is how a recovery stands.
type RecoveryStatus struct {
	ID          uuid.UUID      `db:"id"`
	User        string         `db:"user_id"`
	State       string         `db:"state"`
	BegunBy     string         `db:"begun_by"` // the support agent; empty for the user
	ApprovedBy  string         `db:"approved_by"`
	Reason      string         `db:"reason"`
	Proofs      pq.StringArray `db:"proofs"`
	Attempts    int            `db:"attempts"`
	MaxAttempts int            `db:"max_attempts"`
	CreatedAt   time.Time      `db:"created_at"`
	ExpiresAt   time.Time      `db:"expires_at"`
	EffectiveAt sql.NullTime   `db:"effective_at"`
	EndedAt     sql.NullTime   `db:"ended_at"`
	Codes       []CodeStatus   `db:"-"`
}

// A CodeStatus is how one code of a recovery stands.
type CodeStatus struct {
	Method    otp.ProofKind
	Mask      string
	Sends     int // 0 while the recovery waits for an approval
	ExpiresAt time.Time
	ProvenAt  time.Time // zero for not yet
}

// A MessageStatus is one message to one address.
type MessageStatus struct {
	ID        uuid.UUID     `db:"id"`
	User      string        `db:"user_id"`
	Channel   string        `db:"channel"`
	Purpose   string        `db:"purpose"`
	Mask      string        `db:"mask"`
	CodeID    uuid.NullUUID `db:"code_id"`
	CreatedAt time.Time     `db:"created_at"`
	ExpiresAt time.Time     `db:"expires_at"`
	Recovery  uuid.UUID     `db:"-"` // that it belongs to; zero for none
}

// Sent is one delivery of a message.
type Sent struct {
	Message uuid.UUID
	Purpose string // of the message
	Delivery
}

// Find returns what an id names for an app, or ErrNothing.
func (s *Statuses) Find(ctx context.Context, app int, id uuid.UUID) (Standing, error) {
	c, err := NewChallenges(s.db).Status(ctx, app, id)
	if err == nil {
		return Standing{Challenge: &c}, nil
	}
	if !errors.Is(err, ErrNoChallenge) {
		return Standing{}, err
	}
	for _, look := range []func(context.Context, int, uuid.UUID) (Standing, error){s.recovery, s.ceremony, s.message} {
		if found, err := look(ctx, app, id); !missing(err) {
			return found, err
		}
	}
	return Standing{}, ErrNothing
}

func (s *Statuses) ceremony(ctx context.Context, app int, id uuid.UUID) (Standing, error) {
	var c CeremonyStatus
	if err := s.db.x.GetContext(ctx, &c, query("status_ceremony"), id, app); err != nil {
		return Standing{}, fmt.Errorf("read ceremony: %w", err)
	}
	var messages []MessageStatus
	if err := s.db.x.SelectContext(ctx, &messages, query("status_message"), id, app); err != nil {
		return Standing{}, fmt.Errorf("read its message: %w", err)
	}
	sent, err := s.sent(ctx, messages)
	return Standing{Ceremony: &c, Sent: sent}, err
}

func (s *Statuses) recovery(ctx context.Context, app int, id uuid.UUID) (Standing, error) {
	var r RecoveryStatus
	if err := s.db.x.GetContext(ctx, &r, query("status_recovery"), id, app); err != nil {
		return Standing{}, fmt.Errorf("read recovery: %w", err)
	}
	var codes []struct {
		ID         uuid.UUID    `db:"id"`
		Method     string       `db:"method"`
		Mask       string       `db:"mask"`
		Sends      int          `db:"sends"`
		NextSendAt time.Time    `db:"next_send_at"`
		ExpiresAt  time.Time    `db:"expires_at"`
		ProvenAt   sql.NullTime `db:"proven_at"`
	}
	if err := s.db.x.SelectContext(ctx, &codes, query("recovery_codes_of"), id); err != nil {
		return Standing{}, fmt.Errorf("read its codes: %w", err)
	}
	for _, c := range codes {
		r.Codes = append(r.Codes, CodeStatus{
			Method: otp.ProofKind(c.Method), Mask: c.Mask, Sends: c.Sends, ExpiresAt: c.ExpiresAt, ProvenAt: nullTime(c.ProvenAt),
		})
	}
	var messages []MessageStatus
	if err := s.db.x.SelectContext(ctx, &messages, query("status_recovery_messages"), app, r.User, id); err != nil {
		return Standing{}, fmt.Errorf("read its messages: %w", err)
	}
	sent, err := s.sent(ctx, messages)
	return Standing{Recovery: &r, Sent: sent}, err
}

func (s *Statuses) message(ctx context.Context, app int, id uuid.UUID) (Standing, error) {
	var m MessageStatus
	if err := s.db.x.GetContext(ctx, &m, query("status_message"), id, app); err != nil {
		return Standing{}, fmt.Errorf("read message: %w", err)
	}
	err := s.db.x.GetContext(ctx, &m.Recovery, query("status_recovery_of"), app, m.User, m.CodeID, m.Purpose == "recovery", m.ID)
	if err != nil && !missing(err) {
		return Standing{}, fmt.Errorf("read its recovery: %w", err)
	}
	sent, err := s.sent(ctx, []MessageStatus{m})
	return Standing{Message: &m, Sent: sent}, err
}

// sent returns the deliveries of messages. What is older than deliveries are kept is missing.
func (s *Statuses) sent(ctx context.Context, messages []MessageStatus) ([]Sent, error) {
	ids, purposes := make([]string, len(messages)), make(map[uuid.UUID]string, len(messages))
	for i, m := range messages {
		ids[i], purposes[m.ID] = m.ID.String(), m.Purpose
	}
	var rows []struct {
		Message uuid.UUID `db:"challenge_id"`
		deliveryRow
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("status_deliveries"), pq.Array(ids)); err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	out := make([]Sent, len(rows))
	for i, r := range rows {
		out[i] = Sent{Message: r.Message, Purpose: purposes[r.Message], Delivery: r.delivery()}
	}
	return out, nil
}

// SecurityKeys tells how many security keys the users of an app have enrolled.
func (s *Statuses) SecurityKeys(ctx context.Context, app int) (n int, err error) {
	if err := s.db.x.GetContext(ctx, &n, query("keys_enrolled"), app); err != nil {
		return 0, fmt.Errorf("count security keys: %w", err)
	}
	return n, nil
}

// A Backlog is what waits for enrolment.
type Backlog struct {
	Notices    int
	Oldest     time.Time      // of the notices; zero where there is none
	Recoveries map[string]int // under way, by state
}

// Backlog tells what waits.
func (s *Enrolments) Backlog(ctx context.Context) (Backlog, error) {
	var notices struct {
		Count  int          `db:"count"`
		Oldest sql.NullTime `db:"oldest"`
	}
	if err := s.db.x.GetContext(ctx, &notices, query("backlog_notices")); err != nil {
		return Backlog{}, fmt.Errorf("count notices: %w", err)
	}
	var recoveries []struct {
		State string `db:"state"`
		Count int    `db:"count"`
	}
	if err := s.db.x.SelectContext(ctx, &recoveries, query("backlog_recoveries")); err != nil {
		return Backlog{}, fmt.Errorf("count recoveries: %w", err)
	}
	out := Backlog{Notices: notices.Count, Oldest: nullTime(notices.Oldest), Recoveries: make(map[string]int, len(recoveries))}
	for _, r := range recoveries {
		out.Recoveries[r.State] = r.Count
	}
	return out, nil
}
