package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kept says from when on what is over is kept.
type Kept struct {
	Ceremonies time.Time // begun since
	Confirmed  time.Time // first factors confirmed since whose backup codes nobody acknowledged
	Removed    time.Time // factors and contacts removed since
	Recoveries time.Time // ended since
}

// Upkeep removes what is over, up to limit rows of each kind, and tells how many rows those were. Each statement stands alone: one that fails keeps none of
// the others from its work.
func (s *Enrolments) Upkeep(ctx context.Context, now time.Time, k Kept, limit int) (int, error) {
	total := 0
	var failed error
	for _, step := range [...]struct {
		name string
		at   time.Time
	}{
		{"upkeep_ceremonies", k.Ceremonies},
		{"upkeep_confirmed", k.Confirmed},
		{"upkeep_removed_factors", k.Removed},
		{"upkeep_removed_contacts", k.Removed},
		{"upkeep_recoveries", k.Recoveries},
		{"upkeep_messages", k.Ceremonies},
		{"upkeep_proofs", k.Ceremonies},
		{"upkeep_devices", k.Removed},
		{"upkeep_sessions", now},
	} {
		res, err := s.db.x.ExecContext(ctx, query(step.name), step.at, limit)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", step.name, err))
			continue
		}
		n, _ := res.RowsAffected()
		total += int(n)
	}
	return total, failed
}

// Alone runs fn while no other enrolment worker's sweeper runs, or returns false at once where one does.
func (s *Enrolments) Alone(ctx context.Context, fn func() error) (ran bool, err error) {
	return s.db.alone(ctx, "janitor_lock", "janitor_unlock", fn)
}

// Erase removes every row of a person. What is left of them are keyed digests. It reads whole partitions, which may take longer than a statement may else.
func (a *Act) Erase() error {
	if _, err := a.tx.ExecContext(a.ctx, query("user_erase_patience")); err != nil {
		return fmt.Errorf("user_erase_patience: %w", err)
	}
	_, err := a.exec("user_erase", a.Who.AppID, a.Who.User)
	return err
}
