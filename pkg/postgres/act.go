package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/otpost/otpost/pkg/otp"
)

// Enrolments is the store of the enrolment worker.
type Enrolments struct{ db *DB }

// NewEnrolments returns the store.
func NewEnrolments(db *DB) *Enrolments { return &Enrolments{db} }

// An Act is one change of what a user has: everything that is read and written in it stands or falls together, and acts of one user take turns with each
// other and with answers, because each holds the account's row.
type Act struct {
	Who Account
	Now time.Time

	ctx    context.Context
	tx     *sqlx.Tx
	budget otp.Budget
	events []OutboxEvent
}

// Act runs fn in one transaction that holds the account, which it makes where there is none, and returns the events that fn told, which are in the outbox
// then. An error undoes all of it. fn runs again where the database ends the transaction for a deadlock: it must set anew whatever it hands out.
func (s *Enrolments) Act(ctx context.Context, now time.Time, a Account, fn func(*Act) error) (events []OutboxEvent, err error) {
	return s.db.act(ctx, now, a, fn)
}

// act is what the Act of each store does.
func (d *DB) act(ctx context.Context, now time.Time, a Account, fn func(*Act) error) (events []OutboxEvent, err error) {
	err = d.tx(ctx, "act", func(tx *sqlx.Tx) error {
		budgets, err := lockAccounts(ctx, tx, now, []Account{a})
		if err != nil {
			return err
		}
		act := &Act{Who: a, Now: now, ctx: ctx, tx: tx, budget: budgets[a]}
		if err := fn(act); err != nil {
			return err
		}
		events = act.events
		return insertOutbox(ctx, tx, now, events)
	})
	if err != nil {
		return nil, err // what was not committed did not happen
	}
	return events, nil
}

// View runs fn in one transaction that holds nothing and writes nothing but lines of the audit; an unknown user stays unknown.
func (s *Enrolments) View(ctx context.Context, now time.Time, a Account, fn func(*Act) error) error {
	return s.db.tx(ctx, "view", func(tx *sqlx.Tx) error {
		act := &Act{Who: a, Now: now, ctx: ctx, tx: tx}
		var row struct {
			Failures  int          `db:"failures"`
			WaitUntil sql.NullTime `db:"wait_until"`
			LockedAt  sql.NullTime `db:"locked_at"`
		}
		if _, err := act.find(&row, "account_read", a.AppID, a.User); err != nil {
			return err
		}
		act.budget = otp.Budget{Failures: row.Failures, WaitUntil: nullTime(row.WaitUntil), Locked: row.LockedAt.Valid}
		return fn(act)
	})
}

// Budget is what the account has left.
func (a *Act) Budget() otp.Budget { return a.budget }

// Spend stores what the account has left from now on.
func (a *Act) Spend(b otp.Budget) error {
	a.budget = b
	var wait, locked sql.NullTime
	if !b.WaitUntil.IsZero() {
		wait = sql.NullTime{Time: b.WaitUntil, Valid: true}
	}
	if b.Locked {
		locked = sql.NullTime{Time: a.Now, Valid: true}
	}
	_, err := a.exec("account_spend", a.Who.AppID, a.Who.User, b.Failures, wait, locked, a.Now)
	return err
}

// Tell puts an event into the outbox.
func (a *Act) Tell(events ...OutboxEvent) { a.events = append(a.events, events...) }

// exec runs a named statement and tells how many rows it touched.
func (a *Act) exec(name string, args ...any) (int, error) {
	res, err := a.tx.ExecContext(a.ctx, query(name), args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}

// find reads one row of a named statement into dst; found is false where there is none.
func (a *Act) find(dst any, name string, args ...any) (found bool, err error) {
	switch err := a.tx.GetContext(a.ctx, dst, query(name), args...); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// list reads all rows of a named statement into dst.
func (a *Act) list(dst any, name string, args ...any) error {
	if err := a.tx.SelectContext(a.ctx, dst, query(name), args...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func nullable(t time.Time) sql.NullTime { return sql.NullTime{Time: t, Valid: !t.IsZero()} }

func nullText(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

func nullNumber(n int) sql.NullInt64 { return sql.NullInt64{Int64: int64(n), Valid: n != 0} }
