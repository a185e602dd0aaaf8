package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/otpost/otpost/pkg/otp"
)

// An Ended challenge is one whose end an app must hear of.
type Ended struct {
	ID             uuid.UUID
	App            string // its name
	User           string
	Session, Login string
	Test           bool // to a test destination
}

// Expire ends up to limit challenges of logins after since whose time is over and writes the events that event makes to the outbox.
func (s *Challenges) Expire(ctx context.Context, now, since time.Time, limit int, event func(Ended) OutboxEvent) (events []OutboxEvent, err error) {
	err = s.db.tx(ctx, "expire challenges", func(tx *sqlx.Tx) error {
		var rows []struct {
			ID      uuid.UUID `db:"id"`
			App     string    `db:"app"`
			User    string    `db:"user_id"`
			Session string    `db:"session"`
			Login   string    `db:"login"`
			Test    bool      `db:"test"`
		}
		if err := tx.SelectContext(ctx, &rows, query("challenges_expire"), now, limit, floorID(since), newestOpen(now)); err != nil {
			return err
		}
		ids := make([]uuid.UUID, len(rows))
		events = make([]OutboxEvent, len(rows))
		for i, r := range rows {
			ids[i], events[i] = r.ID, event(Ended(r))
		}
		if err := withdraw(ctx, tx, now, ids, string(otp.Expired)); err != nil {
			return err
		}
		return insertOutbox(ctx, tx, now, events)
	})
	return events, err
}

// An Overdue delivery has had no outcome in time.
type Overdue struct {
	Challenge uuid.UUID   `db:"challenge_id"`
	Number    int         `db:"attempt"`
	Channel   otp.Channel `db:"channel"`
	Swept     int         `db:"swept"` // times that it was found overdue, this one included
}

// Overdue returns up to limit deliveries of open challenges that have had no outcome for longer than grace, doubled each time that they were found.
func (s *Challenges) Overdue(ctx context.Context, now time.Time, grace time.Duration, limit int) ([]Overdue, error) {
	var out []Overdue
	if err := s.db.x.SelectContext(ctx, &out, query("deliveries_overdue"), now, grace.Seconds(), limit, oldestOpen(now), newestOpen(now)); err != nil {
		return nil, fmt.Errorf("look for overdue deliveries: %w", err)
	}
	return out, nil
}

// Forget deletes up to limit logins older than before, whose ids may then be used anew, and tells how many they were.
func (s *Challenges) Forget(ctx context.Context, before time.Time, limit int) (int, error) {
	res, err := s.db.x.ExecContext(ctx, query("logins_forget"), before, limit)
	if err != nil {
		return 0, fmt.Errorf("forget logins: %w", err)
	}
	n, _ := res.RowsAffected()
	return int(n), nil
}

// EnsurePartitions makes the partitions of yesterday to ahead days from now that are not there, and tells how many it made.
func (s *Challenges) EnsurePartitions(ctx context.Context, now time.Time, ahead int) (int, error) {
	var made int
	if err := s.db.x.GetContext(ctx, &made, query("partitions_ensure"), now, ahead); err != nil {
		return 0, fmt.Errorf("make partitions: %w", err)
	}
	return made, nil
}

// DropPartition drops the oldest partition that lies wholly before a time, and tells how many that were: 1 or 0. It gives up soon where others are at work
// on the table.
func (s *Challenges) DropPartition(ctx context.Context, before time.Time) (int, error) {
	var dropped int
	if err := s.db.x.GetContext(ctx, &dropped, query("partitions_drop"), before); err != nil {
		return 0, fmt.Errorf("drop a partition: %w", err)
	}
	return dropped, nil
}

// Alone runs fn while no other sweeper runs, or returns false at once where one does. The lock is the session's, so it goes with a killed process.
func (s *Challenges) Alone(ctx context.Context, fn func() error) (ran bool, err error) {
	return s.db.alone(ctx, "sweeper_lock", "sweeper_unlock", fn)
}

// alone runs fn while the session holds an advisory lock, or returns false at once where another one does.
func (d *DB) alone(ctx context.Context, lock, unlock string, fn func() error) (ran bool, err error) {
	conn, err := d.x.Connx(ctx)
	if err != nil {
		return false, fmt.Errorf("sweep: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.GetContext(ctx, &ran, query(lock)); err != nil || !ran {
		return false, err
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), query(unlock))
	}()
	return true, fn()
}
