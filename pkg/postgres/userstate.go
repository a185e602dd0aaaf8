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

// This file reads what decisions about a user rest on: the account with its lock, the user's factors and preferences, the open challenges.

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

// usersAtLogin reads what users have to prove with and what they prefer; budget, open challenges and device are left to others.
func usersAtLogin(ctx context.Context, tx *sqlx.Tx, users []Account) (map[Account]UserState, error) {
	apps, names := accountArrays(distinct(users))
	var rows []struct {
		AppID       int            `db:"app_id"`
		User        string         `db:"user_id"`
		Preferred   uuid.NullUUID  `db:"preferred"`
		Fallbacks   pq.StringArray `db:"fallbacks"`
		Locale      string         `db:"locale"`
		ID          uuid.NullUUID  `db:"id"`
		Kind        sql.NullString `db:"kind"`
		State       sql.NullString `db:"state"`
		Mask        sql.NullString `db:"mask"`
		Digits      sql.NullInt32  `db:"digits"`
		Sealed      []byte         `db:"sealed"`
		BackupCodes bool           `db:"backup_codes"`
	}
	if err := tx.SelectContext(ctx, &rows, query("users_at_login"), apps, names); err != nil {
		return nil, fmt.Errorf("read users and factors: %w", err)
	}
	out := make(map[Account]UserState, len(rows))
	for _, r := range rows {
		k := Account{r.AppID, r.User}
		u, known := out[k]
		if !known {
			u = UserState{Preferred: r.Preferred.UUID, Fallbacks: kinds(r.Fallbacks), Locale: r.Locale, BackupCodes: r.BackupCodes}
		}
		switch otp.FactorState(r.State.String) {
		case otp.FactorActive:
			u.Factors = append(u.Factors, Factor{
				ID: r.ID.UUID, Kind: otp.FactorKind(r.Kind.String), Mask: r.Mask.String, Digits: int(r.Digits.Int32), Sealed: r.Sealed,
			})
		case otp.FactorSuspended:
			u.Suspended = true
		}
		out[k] = u
	}
	return out, nil
}

func kinds(names []string) []otp.FactorKind {
	out := make([]otp.FactorKind, len(names))
	for i, n := range names {
		out[i] = otp.FactorKind(n)
	}
	return out
}

func openChallenges(ctx context.Context, tx *sqlx.Tx, now time.Time, users []Account) (map[Account][]OpenChallenge, error) {
	apps, names := accountArrays(users)
	var rows []struct {
		AppID   int       `db:"app_id"`
		User    string    `db:"user_id"`
		ID      uuid.UUID `db:"id"`
		Session string    `db:"session"`
		Login   string    `db:"login"`
		Test    bool      `db:"test"`
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
		out[k] = append(out[k], OpenChallenge{ID: r.ID, Session: r.Session, Login: r.Login, Test: r.Test})
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
