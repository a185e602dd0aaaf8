package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// This file is what answers are compared with beside a code that was sent, and what each of them takes so that it serves once.

// factorsForAnswers returns the active factors of users that prove without a message, oldest first. No user may be named twice.
func factorsForAnswers(ctx context.Context, tx *sqlx.Tx, users []Account) (map[Account][]OwnedFactor, error) {
	apps, names := accountArrays(users)
	var rows []struct {
		AppID int    `db:"app_id"`
		User  string `db:"user_id"`
		ownedRow
	}
	if err := tx.SelectContext(ctx, &rows, query("factors_for_answers"), apps, names); err != nil {
		return nil, fmt.Errorf("read factors: %w", err)
	}
	out := map[Account][]OwnedFactor{}
	for _, r := range rows {
		k := Account{r.AppID, r.User}
		out[k] = append(out[k], r.factor())
	}
	return out, nil
}

// A BackupUse is what became of a backup code.
type BackupUse struct {
	Spent bool // there was such a code and nobody had used it; now it is used
	Left  int  // codes that are left after it
}

// takeFor takes what the answers of a batch need and puts it into their cases. It asks the database for nothing that no answer needs.
func takeFor(ctx context.Context, tx *sqlx.Tx, now time.Time, take []Taking, cases []Case, owners []Account) error {
	var sessions []uuid.UUID
	var codes backupCodes
	for i, t := range take {
		if t.Session {
			sessions = append(sessions, cases[i].Challenge.ID)
		}
		codes.add(owners[i], t.Backup)
	}
	taken, err := takeSessions(ctx, tx, now, sessions)
	if err != nil {
		return err
	}
	used, err := codes.use(ctx, tx, now)
	if err != nil {
		return err
	}
	for i, t := range take {
		if t.Session {
			cases[i].Session = taken[cases[i].Challenge.ID]
		}
		if len(t.Backup) > 0 {
			cases[i].Backup = used[owners[i]]
		}
	}
	return nil
}

func takeSessions(ctx context.Context, tx *sqlx.Tx, now time.Time, challenges []uuid.UUID) (map[uuid.UUID][]byte, error) {
	if len(challenges) == 0 {
		return nil, nil
	}
	var rows []struct {
		Challenge uuid.UUID `db:"challenge_id"`
		Data      []byte    `db:"data"`
	}
	if err := tx.SelectContext(ctx, &rows, query(guarded("sessions_take")), pq.Array(challenges), now); err != nil {
		return nil, fmt.Errorf("take sessions of security keys: %w", err)
	}
	out := make(map[uuid.UUID][]byte, len(rows))
	for _, r := range rows {
		out[r.Challenge] = r.Data
	}
	return out, nil
}

// backupCodes gathers codes to be used. Of one user there is one code at most, under each of its digests.
type backupCodes struct {
	apps    pq.Int64Array
	users   pq.StringArray
	digests pq.ByteaArray
}

func (b *backupCodes) add(who Account, digests [][]byte) {
	for _, d := range digests {
		b.apps, b.users, b.digests = append(b.apps, int64(who.AppID)), append(b.users, who.User), append(b.digests, d)
	}
}

func (b *backupCodes) use(ctx context.Context, tx *sqlx.Tx, now time.Time) (map[Account]BackupUse, error) {
	if len(b.apps) == 0 {
		return nil, nil
	}
	var rows []struct {
		AppID     int    `db:"app_id"`
		User      string `db:"user_id"`
		Remaining int    `db:"remaining"`
	}
	if err := tx.SelectContext(ctx, &rows, query(guarded("backup_codes_use")), b.apps, b.users, b.digests, now); err != nil {
		return nil, fmt.Errorf("use backup codes: %w", err)
	}
	out := make(map[Account]BackupUse, len(rows))
	for _, r := range rows {
		out[Account{r.AppID, r.User}] = BackupUse{Spent: true, Left: r.Remaining}
	}
	return out, nil
}

// A KeyUse is what a security key has told with its signature.
type KeyUse struct {
	Factor uuid.UUID
	Was    uint32 // the counter that was read before
	Count  uint32
	Record []byte // the credential's, to be kept from now on
}

// advance moves the factors that have proven something, by compare-and-set, and replaces the judgement of each answer that came too late.
func (v *verdicts) advance(ctx context.Context, tx *sqlx.Tx, now time.Time, replayed func(i int) Judgement) error {
	var ids, keys pq.StringArray
	var steps, was, counts pq.Int64Array
	var records pq.ByteaArray
	for _, j := range v.judged {
		if a := j.Advance; a != nil {
			ids, steps = append(ids, a.Factor.String()), append(steps, a.Step)
		}
		if k := j.Key; k != nil {
			keys, was, counts, records = append(keys, k.Factor.String()), append(was, int64(k.Was)), append(counts, int64(k.Count)), append(records, k.Record)
		}
	}
	moved := map[uuid.UUID]bool{}
	move := func(statement string, args ...any) error {
		var done []uuid.UUID
		if err := tx.SelectContext(ctx, &done, query(statement), args...); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		for _, id := range done {
			moved[id] = true
		}
		return nil
	}
	if len(ids) > 0 {
		if err := move(guarded("factors_advance"), ids, steps, now); err != nil {
			return err
		}
	}
	if len(keys) > 0 {
		if err := move("keys_advance", keys, was, counts, records, now); err != nil {
			return err
		}
	}
	for k, j := range v.judged {
		if j.Advance != nil && !moved[j.Advance.Factor] || j.Key != nil && !moved[j.Key.Factor] {
			v.judged[k] = replayed(v.index[k])
		}
	}
	return nil
}
