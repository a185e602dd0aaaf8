package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file reads what decisions about a user rest on: the account with its lock, the factors, the open challenges.

func accountsOf(batch []Admission) []Account {
	seen := make(map[Account]bool, len(batch))
	users := make([]Account, 0, len(batch))
	for _, a := range batch {
		if !seen[a.Account] {
			seen[a.Account] = true
			users = append(users, a.Account)
		}
	}
	return users
}

// accountArrays lays accounts out as two array parameters.
func accountArrays(users []Account) (pq.Int64Array, pq.StringArray) {
	apps, names := make(pq.Int64Array, len(users)), make(pq.StringArray, len(users))
	for i, u := range users {
		apps[i], names[i] = int64(u.AppID), u.User
	}
	return apps, names
}

// lockAccounts takes the accounts, in order, until the end of the transaction and returns their budgets.
func lockAccounts(ctx context.Context, tx *sqlx.Tx, now time.Time, users []Account) (map[Account]otp.Budget, error) {
	apps, names := accountArrays(users)
	var rows []struct {
		AppID     int          `db:"app_id"`
		User      string       `db:"user_id"`
		Failures  int          `db:"failures"`
		WaitUntil sql.NullTime `db:"wait_until"`
		LockedAt  sql.NullTime `db:"locked_at"`
	}
	if err := tx.SelectContext(ctx, &rows, query(guarded("accounts_lock")), apps, names, now); err != nil {
		return nil, fmt.Errorf("lock accounts: %w", err)
	}
	out := make(map[Account]otp.Budget, len(rows))
	for _, r := range rows {
		out[Account{r.AppID, r.User}] = otp.Budget{Failures: r.Failures, WaitUntil: nullTime(r.WaitUntil), Locked: r.LockedAt.Valid}
	}
	return out, nil
}

func factorsOf(ctx context.Context, tx *sqlx.Tx, users []Account) (map[Account][]Factor, error) {
	apps, names := accountArrays(users)
	var rows []struct {
		AppID  int           `db:"app_id"`
		User   string        `db:"user_id"`
		ID     uuid.UUID     `db:"id"`
		Kind   string        `db:"kind"`
		Mask   string        `db:"mask"`
		Digits sql.NullInt32 `db:"digits"`
		Sealed []byte        `db:"sealed"`
	}
	if err := tx.SelectContext(ctx, &rows, query("factors_of_users"), apps, names); err != nil {
		return nil, fmt.Errorf("read factors: %w", err)
	}
	out := map[Account][]Factor{}
	seen := map[uuid.UUID]bool{} // a user may be in the batch twice
	for _, r := range rows {
		if seen[r.ID] {
			continue
		}
		seen[r.ID] = true
		k := Account{r.AppID, r.User}
		out[k] = append(out[k], Factor{ID: r.ID, Kind: otp.FactorKind(r.Kind), Mask: r.Mask, Digits: int(r.Digits.Int32), Sealed: r.Sealed})
	}
	return out, nil
}

func openChallenges(ctx context.Context, tx *sqlx.Tx, now time.Time, users []Account) (map[Account][]OpenChallenge, error) {
	apps, names := accountArrays(users)
	var rows []struct {
		AppID   int       `db:"app_id"`
		User    string    `db:"user_id"`
		ID      uuid.UUID `db:"id"`
		Session string    `db:"session"`
		Login   string    `db:"login"`
	}
	if err := tx.SelectContext(ctx, &rows, query("challenges_open_of_users"), apps, names, now, oldestOpen(now), newestOpen(now)); err != nil {
		return nil, fmt.Errorf("read open challenges: %w", err)
	}
	out := map[Account][]OpenChallenge{}
	seen := map[uuid.UUID]bool{}
	for _, r := range rows {
		if seen[r.ID] {
			continue
		}
		seen[r.ID] = true
		k := Account{r.AppID, r.User}
		out[k] = append(out[k], OpenChallenge{ID: r.ID, Session: r.Session, Login: r.Login})
	}
	return out, nil
}

// oldestOpen is the lowest id that an open challenge can have: none lives longer than ten minutes, and an event's time may be ten minutes behind.
func oldestOpen(now time.Time) uuid.UUID { return floorID(now.Add(-25 * time.Minute)) }

// newestOpen is above the highest id that a challenge can have: an event's time may be ten minutes ahead.
func newestOpen(now time.Time) uuid.UUID { return floorID(now.Add(15 * time.Minute)) }

// floorID is the lowest UUIDv7 of a time.
func floorID(t time.Time) uuid.UUID {
	id := otp.ChallengeID(t, [32]byte{})
	id[6], id[8] = 0, 0
	return id
}
