package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// Errors of visits.
var (
	ErrNoVisit      = errors.New("no such page session")                   // unknown, or the link was used or has expired
	ErrVisitChanged = errors.New("the page session has changed meanwhile") // in another tab, or it has ended
	ErrNoResult     = errors.New("no such page result")                    // unknown, redeemed, expired, or another app's
)

// A Visit is a user's visit to the hosted pages: a page session. Link and cookie are secrets of which the database has the SHA-256 only.
type Visit struct {
	ID                uuid.UUID
	AppID             int
	User              string
	Session           string // the app's own
	Page              string
	Account           string // what pages call the user; empty for none
	Locale            string
	ReturnURL         string
	ReauthenticateURL string // empty for none
	Reauthenticated   time.Time
	Challenge         uuid.UUID // of page challenge; zero for none
	State             []byte    // sealed; nil for none
	Revision          int
	CreatedAt         time.Time
	ExpiresAt         time.Time
	EndedAt           time.Time
}

type visitRow struct {
	ID                uuid.UUID     `db:"id"`
	AppID             int           `db:"app_id"`
	User              string        `db:"user_id"`
	Session           string        `db:"session"`
	Page              string        `db:"page"`
	Account           string        `db:"account"`
	Locale            string        `db:"locale"`
	ReturnURL         string        `db:"return_url"`
	ReauthenticateURL string        `db:"reauthenticate_url"`
	Reauthenticated   *time.Time    `db:"reauthenticated_at"`
	Challenge         uuid.NullUUID `db:"challenge"`
	State             []byte        `db:"state"`
	Revision          int           `db:"revision"`
	CreatedAt         time.Time     `db:"created_at"`
	ExpiresAt         time.Time     `db:"expires_at"`
	EndedAt           *time.Time    `db:"ended_at"`
}

func (r visitRow) visit() Visit {
	v := Visit{
		ID: r.ID, AppID: r.AppID, User: r.User, Session: r.Session, Page: r.Page, Account: r.Account, Locale: r.Locale, ReturnURL: r.ReturnURL,
		ReauthenticateURL: r.ReauthenticateURL, Challenge: r.Challenge.UUID, State: r.State, Revision: r.Revision, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
	}
	if r.Reauthenticated != nil {
		v.Reauthenticated = *r.Reauthenticated
	}
	if r.EndedAt != nil {
		v.EndedAt = *r.EndedAt
	}
	return v
}

// Visits keeps page sessions and their results, for the gateway.
type Visits struct{ db *DB }

// NewVisits returns the store.
func NewVisits(db *DB) *Visits { return &Visits{db} }

// Create stores a visit whose link is good until linkExpires.
func (s *Visits) Create(ctx context.Context, v Visit, link [32]byte, linkExpires time.Time) error {
	var reauthenticated *time.Time
	if !v.Reauthenticated.IsZero() {
		reauthenticated = &v.Reauthenticated
	}
	challenge := uuid.NullUUID{UUID: v.Challenge, Valid: v.Challenge != uuid.Nil}
	if _, err := s.db.x.ExecContext(ctx, query("visit_add"), v.ID, v.AppID, v.User, v.Session, v.Page, v.Account, v.Locale, v.ReturnURL, v.ReauthenticateURL,
		reauthenticated, challenge, link[:], linkExpires, v.CreatedAt, v.ExpiresAt); err != nil {
		return fmt.Errorf("create page session: %w", err)
	}
	return nil
}

// Open spends a link and binds the visit to a cookie. ErrNoVisit stands for a link that is unknown, spent or expired.
func (s *Visits) Open(ctx context.Context, now time.Time, link, cookie [32]byte) (Visit, error) {
	return s.one(ctx, guarded("visit_open"), link[:], cookie[:], now)
}

// ByLink finds the visit of a link, spent or not, for as long as it is kept. It can return ErrNoVisit.
func (s *Visits) ByLink(ctx context.Context, link [32]byte) (Visit, error) {
	return s.one(ctx, "visit_by_link", link[:])
}

// ByCookie finds the visit of a cookie, ended and expired ones too, for as long as it is kept. It can return ErrNoVisit.
func (s *Visits) ByCookie(ctx context.Context, cookie [32]byte) (Visit, error) {
	return s.one(ctx, "visit_by_cookie", cookie[:])
}

func (s *Visits) one(ctx context.Context, statement string, args ...any) (Visit, error) {
	var row visitRow
	if err := s.db.x.GetContext(ctx, &row, query(statement), args...); err != nil {
		if missing(err) {
			return Visit{}, ErrNoVisit
		}
		return Visit{}, fmt.Errorf("get page session: %w", err)
	}
	return row.visit(), nil
}

// Save stores a visit's state and locale, unless it has changed since it was read: ErrVisitChanged.
func (s *Visits) Save(ctx context.Context, now time.Time, v Visit) error {
	res, err := s.db.x.ExecContext(ctx, query(guarded("visit_save")), v.ID, v.Revision, v.State, v.Locale, now)
	if err != nil {
		return fmt.Errorf("save page session: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrVisitChanged
	}
	return nil
}

// A PageResult is what a visit came to. Digest is the SHA-256 of the token that redeems it once.
type PageResult struct {
	Digest    [32]byte
	Sealed    []byte
	ExpiresAt time.Time
}

// End ends a visit and stores its result. Of several ends at once one succeeds, the others get ErrVisitChanged.
func (s *Visits) End(ctx context.Context, now time.Time, v Visit, result PageResult) error {
	return s.db.tx(ctx, "end page session", func(tx *sqlx.Tx) error {
		res, err := tx.ExecContext(ctx, query(guarded("visit_end")), v.ID, now)
		if err != nil {
			return err
		}
		if n, _ := res.RowsAffected(); n == 0 {
			return ErrVisitChanged
		}
		_, err = tx.ExecContext(ctx, query("result_add"), result.Digest[:], v.AppID, v.User, result.Sealed, now, result.ExpiresAt)
		return err
	})
}

// EndVisits ends the user's visits that were made up to a time, without a result: those of a session, or all where none is named.
func (a *Act) EndVisits(made time.Time, session string) error {
	_, err := a.exec("visits_end", a.Who.AppID, a.Who.User, a.Now, made, nullText(session))
	return err
}

// Redeem takes a result, once. It can return ErrNoResult.
func (s *Visits) Redeem(ctx context.Context, now time.Time, app int, digest [32]byte) (sealed []byte, err error) {
	var row struct {
		Sealed []byte `db:"sealed"`
		Good   bool   `db:"good"`
	}
	if err := s.db.x.GetContext(ctx, &row, query(guarded("result_redeem")), digest[:], app, now); err != nil {
		if missing(err) {
			return nil, ErrNoResult
		}
		return nil, fmt.Errorf("redeem page result: %w", err)
	}
	if !row.Good {
		return nil, ErrNoResult
	}
	return row.Sealed, nil
}

// sweepVisits is how many rows one statement removes at most, so that none holds its locks for long.
const sweepVisits = 1000

// Sweep removes all visits that expired before visitsBefore, and all results that expired before now.
func (s *Visits) Sweep(ctx context.Context, visitsBefore, now time.Time) error {
	return errors.Join(s.sweep(ctx, "visits_sweep", visitsBefore), s.sweep(ctx, "results_sweep", now))
}

func (s *Visits) sweep(ctx context.Context, statement string, before time.Time) error {
	for {
		res, err := s.db.x.ExecContext(ctx, query(statement), before, sweepVisits)
		if err != nil {
			return fmt.Errorf("sweep page sessions: %w", err)
		}
		if n, _ := res.RowsAffected(); n < sweepVisits {
			return nil
		}
	}
}
