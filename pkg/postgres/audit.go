package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// An AuditEntry says who did what to whose factor. People, sessions and addresses are in it as keyed digests only.
type AuditEntry struct {
	ID      int64
	At      time.Time
	AppID   int
	User    uuid.UUID // digest
	Actor   string    // user, app, operator, system, or agent:<name>
	Action  string    // such as factor.added
	Factor  uuid.UUID // or what else the action is about; zero for none
	Session uuid.UUID // digest; zero for none
	IP      uuid.UUID // digest; zero for none
	Role    string    // of the process that wrote it
	Detail  []byte    // JSON object
}

func insertAudit(ctx context.Context, tx *sqlx.Tx, e AuditEntry) error {
	null := func(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }
	detail := e.Detail
	if len(detail) == 0 || string(detail) == "null" { // a map without entries
		detail = []byte("{}")
	}
	if _, err := tx.ExecContext(ctx, query("audit_add"), e.At, e.AppID, e.User, e.Actor, e.Action, null(e.Factor), null(e.Session),
		null(e.IP), string(detail)); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

// Audit adds a line to the audit.
func (a *Act) Audit(e AuditEntry) error {
	e.At, e.AppID = a.Now, a.Who.AppID
	return insertAudit(a.ctx, a.tx, e)
}

// Activity returns up to limit lines about the user that are of one of the actions and before the line with the given number, or the last where that is 0;
// newest first. users are the user's digest under each key. What was before the person was erased is left out, should they have come back. Address and role
// are for operators only, and empty.
func (a *Act) Activity(users []uuid.UUID, actions []string, before int64, limit int) ([]AuditEntry, error) {
	return auditLines(a.ctx, a.tx, "activity_of", a.Who.AppID, pq.Array(users), pq.Array(actions), before, limit)
}

// Audits reads the audit, for the operator.
type Audits struct{ db *DB }

// NewAudits returns the store.
func NewAudits(db *DB) *Audits { return &Audits{db} }

// Of returns up to limit lines about a user after the line with the given number, oldest first. users are the user's digest under each key.
func (s *Audits) Of(ctx context.Context, app int, users []uuid.UUID, after int64, limit int) ([]AuditEntry, error) {
	return s.lines(ctx, "audit_of", app, users, after, limit)
}

// Before returns the last limit lines about a user before the line with the given number, or of all where it is 0, oldest first. users are the user's digest
// under each key.
func (s *Audits) Before(ctx context.Context, app int, users []uuid.UUID, before int64, limit int) ([]AuditEntry, error) {
	lines, err := s.lines(ctx, "audit_before", app, users, before, limit)
	slices.Reverse(lines)
	return lines, err
}

func (s *Audits) lines(ctx context.Context, statement string, app int, users []uuid.UUID, number int64, limit int) ([]AuditEntry, error) {
	return auditLines(ctx, s.db.x, statement, app, pq.Array(users), number, limit)
}

func auditLines(ctx context.Context, q sqlx.QueryerContext, statement string, app int, args ...any) ([]AuditEntry, error) {
	var rows []struct {
		ID      int64         `db:"id"`
		At      time.Time     `db:"at"`
		User    uuid.UUID     `db:"user_key"`
		Actor   string        `db:"actor"`
		Action  string        `db:"action"`
		Factor  uuid.NullUUID `db:"factor"`
		Session uuid.NullUUID `db:"session_key"`
		IP      uuid.NullUUID `db:"ip_key"`
		Role    string        `db:"role"`
		Detail  []byte        `db:"detail"`
	}
	if err := sqlx.SelectContext(ctx, q, &rows, query(statement), append([]any{app}, args...)...); err != nil {
		return nil, fmt.Errorf("read audit: %w", err)
	}
	out := make([]AuditEntry, len(rows))
	for i, r := range rows {
		out[i] = AuditEntry{
			ID: r.ID, At: r.At, AppID: app, User: r.User, Actor: r.Actor, Action: r.Action, Factor: r.Factor.UUID, Session: r.Session.UUID, IP: r.IP.UUID,
			Role: r.Role, Detail: r.Detail,
		}
	}
	return out, nil
}
