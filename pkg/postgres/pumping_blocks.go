package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/pumping"
)

// This file keeps which prefixes the guard against pumping, or an operator, has blocked.

const (
	// BlockMemory is how long what was blocked is kept, for the report.
	BlockMemory  = 90 * 24 * time.Hour
	repeatWithin = 7 * 24 * time.Hour // a prefix that is blocked again within is blocked for longer
)

// A PrefixBlock is a prefix that nothing is sent to, or, in the shadow, that nothing would be sent to.
type PrefixBlock struct {
	Prefix
	Since, Until time.Time
	Mode         otp.PumpingMode // the app's when it began
	Manual       bool            // by an operator
	Score        float64
	Why          []string
	Window       pumping.Window // Sends, Mature, Verified, Numbers and Crowd
	PrefixStop
	LiftedAt time.Time // zero for not
}

// Active reports whether the block holds at a time.
func (b PrefixBlock) Active(now time.Time) bool {
	return b.LiftedAt.IsZero() && !b.Since.After(now) && b.Until.After(now)
}

// ErrNoBlock says that the prefix is not blocked, ErrBlocked that it is.
var (
	ErrNoBlock = errors.New("the prefix is not blocked")
	ErrBlocked = errors.New("the prefix is blocked already")
)

// Blocks returns the blocks that end after a time, lifted ones among them, by app, prefix and beginning.
func (s *Pumping) Blocks(ctx context.Context, after time.Time) ([]PrefixBlock, error) {
	var rows []struct {
		AppID    int          `db:"app_id"`
		Prefix   string       `db:"prefix"`
		Since    time.Time    `db:"since"`
		Until    time.Time    `db:"until"`
		Mode     string       `db:"mode"`
		Manual   bool         `db:"manual"`
		Score    float64      `db:"score"`
		Why      string       `db:"why"`
		Sends    int          `db:"sends"`
		Mature   int          `db:"mature"`
		Verified int          `db:"verified"`
		Numbers  int          `db:"numbers"`
		Dense    int          `db:"dense"`
		Stopped  int          `db:"stopped"`
		Passed   int          `db:"passed"`
		LiftedAt sql.NullTime `db:"lifted_at"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("prefix_blocks_recent"), after); err != nil {
		return nil, fmt.Errorf("read blocks: %w", err)
	}
	out := make([]PrefixBlock, len(rows))
	for i, r := range rows {
		out[i] = PrefixBlock{
			Prefix: Prefix{r.AppID, r.Prefix}, Since: r.Since, Until: r.Until, Mode: otp.PumpingMode(r.Mode), Manual: r.Manual, Score: r.Score,
			Window:     pumping.Window{Sends: r.Sends, Mature: r.Mature, Verified: r.Verified, Numbers: r.Numbers, Crowd: r.Dense},
			PrefixStop: PrefixStop{r.Stopped, r.Passed}, LiftedAt: nullTime(r.LiftedAt),
		}
		if r.Why != "" {
			out[i].Why = strings.Split(r.Why, "; ")
		}
	}
	return out, nil
}

// Repeats tells of blocks how often the guard has blocked each prefix within the week before now, and when an operator last lifted one.
func Repeats(blocks []PrefixBlock, now time.Time) (times map[Prefix]int, lifted map[Prefix]time.Time) {
	times, lifted = map[Prefix]int{}, map[Prefix]time.Time{}
	for _, b := range blocks {
		switch {
		case b.LiftedAt.After(lifted[b.Prefix]):
			lifted[b.Prefix] = b.LiftedAt
		case b.LiftedAt.IsZero() && !b.Manual && now.Sub(b.Until) < repeatWithin:
			times[b.Prefix]++
		}
	}
	return times, lifted
}

// RepeatsSince is from when on Repeats has to know the blocks.
func RepeatsSince(now time.Time) time.Time { return now.Add(-repeatWithin) }

// Raise blocks a prefix, with the event that tells of it. It returns ErrBlocked where the prefix is blocked.
func (s *Pumping) Raise(ctx context.Context, b PrefixBlock, event OutboxEvent) error {
	return s.db.tx(ctx, "block a prefix", func(tx *sqlx.Tx) error {
		if err := block(ctx, tx, b); err != nil {
			return err
		}
		return insertOutbox(ctx, tx, b.Since, []OutboxEvent{event})
	})
}

// Block blocks a prefix by hand. It returns ErrBlocked where the prefix is blocked: lift it first.
func (s *Pumping) Block(ctx context.Context, b PrefixBlock) error {
	b.Manual, b.Mode = true, otp.PumpingBlock
	return s.db.tx(ctx, "block a prefix", func(tx *sqlx.Tx) error { return block(ctx, tx, b) })
}

func block(ctx context.Context, tx *sqlx.Tx, b PrefixBlock) error {
	if _, err := tx.ExecContext(ctx, query("prefix_blocks_lock")); err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, query("prefix_block"), b.AppID, b.Digits, b.Since, b.Until, string(b.Mode), b.Manual, b.Score, strings.Join(b.Why, "; "),
		b.Window.Sends, b.Window.Mature, b.Window.Verified, b.Window.Numbers, max(b.Window.Crowd, b.Window.Sequence))
	if err != nil {
		return err
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrBlocked
	}
	return nil
}

// Lift ends the block of a prefix. It returns ErrNoBlock where there is none.
func (s *Pumping) Lift(ctx context.Context, now time.Time, p Prefix) error {
	res, err := s.db.x.ExecContext(ctx, query("prefix_lift"), p.AppID, p.Digits, now)
	if err != nil {
		return fmt.Errorf("lift a block: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoBlock
	}
	return nil
}

// Forget deletes what the guard does not look at any more.
func (s *Pumping) Forget(ctx context.Context, now time.Time) error {
	for _, f := range []struct {
		name   string
		before any
	}{
		{"prefix_counts_forget", now.Add(-(pastHours + 2) * time.Hour)},
		{"prefix_ranges_forget", hourOf(now.Add(-rangeMemory))},
		{"prefix_blocks_forget", now.Add(-BlockMemory)},
	} {
		if _, err := s.db.x.ExecContext(ctx, query(f.name), f.before); err != nil {
			return fmt.Errorf("forget prefixes: %w", err)
		}
	}
	return nil
}
