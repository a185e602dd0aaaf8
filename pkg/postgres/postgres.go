// Package postgres is where otpost's truth lives and the only place that speaks SQL.
//
// Each store is what one role does, and connects as that role: a store's method that the role has no grant for fails. An exported method
// owns its transaction; helpers take one. Rows have private types here; what leaves the package are the domain's words.
//
// Rows are locked in one order everywhere, accounts first, so that batches of different workers wait for each other and never deadlock:
// accounts by (app, user), then users, then logins by key, then challenges by id, then deliveries, then ceremonies and recoveries, then factors,
// backup codes and devices, then limits by key, all of a transaction in one statement. Admit takes limits before it stores its logins: nobody who has stored
// any waits for limits. Whatever concerns a user's factors takes the account's row first, in every role.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// Settings of every connection, in milliseconds where they are times. A worker would rather fail a batch and take it again than hang.
var sessionSettings = map[string]string{
	"statement_timeout":                   "10000",
	"lock_timeout":                        "3000",
	"idle_in_transaction_session_timeout": "15000",
	"application_name":                    "otpost",
	"timezone":                            "UTC",
	"binary_parameters":                   "yes", // one round trip a statement, and no copy of bytea as text
	"connect_timeout":                     "5",   // seconds
}

// A DB is a pool of connections as one role.
type DB struct{ x *sqlx.DB }

// Open prepares a pool for a postgres:// URL; it does not connect. Settings that the URL makes itself are kept. connections bounds the pool.
func Open(rawURL string, connections int) (*DB, error) {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, errors.New("database URL: must be of the form postgres://user:password@host/database") // the cause would quote the password
	}
	q := u.Query()
	for k, v := range sessionSettings {
		if !q.Has(k) {
			q.Set(k, v)
		}
	}
	u.RawQuery = q.Encode()
	connector, err := pq.NewConnector(u.String())
	if err != nil {
		return nil, errors.New("database URL: is not understood; check its parameters")
	}
	db := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &DB{x: db}, nil
}

// Ping connects where there is no connection yet and asks for an answer.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.x.PingContext(ctx); err != nil {
		return fmt.Errorf("reach postgres: %w", err)
	}
	return nil
}

// Close ends all connections.
func (d *DB) Close() error { return d.x.Close() }

// tx runs fn in one transaction and commits it; any error rolls it back. Where the database ends it for a deadlock, it is run anew: fn must bear that.
func (d *DB) tx(ctx context.Context, what string, fn func(*sqlx.Tx) error) error {
	const runs = 3
	for run := 1; ; run++ {
		err := d.tx1(ctx, what, fn)
		if e, ok := errors.AsType[*pq.Error](err); !ok || e.Code != deadlock || run == runs {
			return err
		}
	}
}

// A Tx is a transaction that a callback of a store takes part in: it serves to call further methods of the store within it.
type Tx struct{ tx *sqlx.Tx }

// deadlock is the SQLSTATE of a transaction that was ended so that another could go on.
const deadlock = "40P01"

// lockTimeout is the SQLSTATE of a statement that waited for a lock for too long.
const lockTimeout = "55P03"

func (d *DB) tx1(ctx context.Context, what string, fn func(*sqlx.Tx) error) error {
	tx, err := d.x.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: begin: %w", what, err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	if err := fn(tx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: commit: %w", what, err)
	}
	return nil
}

// Refused reports whether the database refused the rows themselves (a constraint, a value out of range, a bad encoding): the same rows will
// be refused again, and other rows of the same batch may be good. Any other failure says nothing about the rows and may pass.
func Refused(err error) bool {
	e, ok := errors.AsType[*pq.Error](err)
	if !ok {
		return false
	}
	switch e.Code.Class() {
	case "22": // data exception
		return true
	case "23": // integrity constraint violation; without a constraint's name it is a partition that is not there yet
		return e.Constraint != "" || e.Column != ""
	}
	return false
}

// Unreachable reports whether the failure is of the connection or the server, or of others in the way, and not of the statement: the same may succeed later.
func Unreachable(err error) bool {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		class := e.Code.Class()
		return class == "08" || class == "57" || class == "53" || e.Code == deadlock || e.Code == lockTimeout
	}
	var ne net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.As(err, &ne) || errors.Is(err, sql.ErrConnDone)
}

// Constraint returns the name of the constraint that a change would have broken, "" for any other error.
func Constraint(err error) string {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return e.Constraint
	}
	return ""
}

// stamp writes a time for an array parameter.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999Z07:00") }

// texts makes a list of SQL array elements from any string-like values.
func texts[S ~string](in []S) pq.StringArray {
	out := make(pq.StringArray, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

func missing(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// nullTime returns the time of a nullable column, zero for null.
func nullTime(t sql.NullTime) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time
}
