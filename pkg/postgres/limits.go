package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is the counters of what is sent. Every worker counts in the same rows, in the transaction that stores what is to be sent: what was not
// stored was not counted, and what is counted stays so when the user begins anew from somewhere else.
//
// The rows of a transaction are taken in the order of their keys, in one statement, after the accounts and before everything else, so that batches wait for
// each other and never deadlock; they are held until the commit. A refusal counts nothing: it has sent nothing, and if it counted, whoever floods could keep
// the user that is flooded out for as long as the flood lasts. A flood that is refused costs no message; it leaves a row for each
// counter that it named, which goes after a day.

// A Limit is one thing that is bounded, and what a message counts in it.
type Limit struct {
	Key   uuid.UUID // a keyed digest; equal for equal things
	Scope string    // what it bounds, for metrics and for the choice of what to do; no part of a key
	Bound otp.Bound
	N     int64  // what one message counts: 1, or its cost
	Warn  int64  // of spending: the day's count from which on a warning is raised, and an alarm where the limit refuses; 0 for neither
	AppID int    // of spending: the app, for the alarm
	Of    string // of spending: the country, for the alarm
	Quiet bool   // what it counts begins no cooldown: a code that follows need not wait for it
}

// A Verdict tells whether a message may be sent now.
type Verdict struct {
	Wait  time.Duration // 0 for now
	Limit Limit         // that must be waited for longest
}

// Refused reports whether the message must not be sent.
func (v Verdict) Refused() bool { return v.Wait > 0 }

// Alarms of a limit on spending, as bits of what was told of a day.
const (
	toldWarning int64 = 1 << iota
	toldReached
)

// A Ledger is the counters that a transaction holds. Its zero value, and nil, hold none. What is counted in it is written by its store's transaction, if
// that commits.
type Ledger struct {
	now    time.Time
	rows   map[uuid.UUID]otp.Tally
	dirty  map[uuid.UUID]bool
	raised []Raised
}

// A Raised alarm of a day's spending is raised once a day, whoever raises it.
type Raised struct {
	AppID   int
	Limit   Limit
	Reached bool // or only nearly
	Spent   int64
	At      time.Time
}

// Judge tells whether a message that counts in all of the limits may be sent. It counts nothing. Every limit must be one that the ledger was opened for:
// what it does not hold it refuses, since nobody could count it.
func (l *Ledger) Judge(limits []Limit) (v Verdict) {
	for _, m := range limits {
		if m.Bound.Zero() {
			continue
		}
		t, held := l.tally(m.Key)
		wait := time.Minute
		if held {
			wait = t.Wait(l.now, m.Bound, m.N)
		}
		if wait > v.Wait {
			v = Verdict{Wait: wait, Limit: m}
		}
	}
	return v
}

// Count counts a message that is sent, and raises the warning of a limit that is nearly reached by it.
func (l *Ledger) Count(limits []Limit) {
	for _, m := range limits {
		t, held := l.tally(m.Key)
		if !held || m.Bound.Zero() {
			continue
		}
		last := t.Last
		if t = t.Count(l.now, m.N); m.Quiet {
			t.Last = last
		}
		l.rows[m.Key], l.dirty[m.Key] = t, true
		if m.Warn > 0 && t.DayN >= m.Warn {
			l.raise(m, toldWarning)
		}
	}
}

// uncount takes back what a message has counted that is not sent after all.
func (l *Ledger) uncount(limits []Limit) {
	for _, m := range limits {
		if t, held := l.tally(m.Key); held && !m.Bound.Zero() {
			t.MinuteN, t.HourN, t.DayN = t.MinuteN-m.N, t.HourN-m.N, t.DayN-m.N
			l.rows[m.Key] = t
		}
	}
}

// Reached raises the alarm of a limit that has refused a message.
func (l *Ledger) Reached(m Limit) { l.raise(m, toldReached) }

// raise notes that an alarm of today is raised, unless it was.
func (l *Ledger) raise(m Limit, bit int64) {
	t, held := l.tally(m.Key)
	if !held {
		return
	}
	if t = rolled(t, l.now); t.Told&bit != 0 {
		return
	}
	t.Told |= bit
	l.rows[m.Key], l.dirty[m.Key] = t, true
	l.raised = append(l.raised, Raised{AppID: m.AppID, Limit: m, Reached: bit == toldReached, Spent: t.DayN, At: l.now})
}

func (l *Ledger) takeRaised() (out []Raised) {
	if l != nil {
		out, l.raised = l.raised, nil
	}
	return out
}

func rolled(t otp.Tally, now time.Time) otp.Tally {
	last := t.Last
	t = t.Count(now, 0)
	t.Last = last // nothing was sent
	return t
}

func (l *Ledger) tally(key uuid.UUID) (t otp.Tally, held bool) {
	if l == nil {
		return t, false
	}
	t, held = l.rows[key]
	return t, held
}

type tallyRow struct {
	Key     uuid.UUID    `db:"key"`
	Minute  int64        `db:"minute"`
	MinuteN int64        `db:"minute_n"`
	Hour    int64        `db:"hour"`
	HourN   int64        `db:"hour_n"`
	Day     int64        `db:"day"`
	DayN    int64        `db:"day_n"`
	LastAt  sql.NullTime `db:"last_at"`
	Told    int64        `db:"told"`
}

func unbounded(limits []Limit) bool {
	return !slices.ContainsFunc(limits, func(m Limit) bool { return !m.Bound.Zero() })
}

// openLedger takes the counters of all the limits until the end of the transaction. Without a bound there is nothing to take.
func openLedger(ctx context.Context, tx *sqlx.Tx, now time.Time, limits []Limit) (*Ledger, error) {
	keys := make([]uuid.UUID, 0, len(limits))
	for _, m := range limits {
		if !m.Bound.Zero() {
			keys = append(keys, m.Key)
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	slices.SortFunc(keys, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	keys = slices.Compact(keys)
	var rows []tallyRow
	if err := tx.SelectContext(ctx, &rows, query(guarded("limits_lock")), pq.Array(keys), now.Unix()/86400); err != nil {
		return nil, fmt.Errorf("take limits: %w", err)
	}
	l := &Ledger{now: now, rows: make(map[uuid.UUID]otp.Tally, len(rows)), dirty: map[uuid.UUID]bool{}}
	for _, r := range rows {
		l.rows[r.Key] = otp.Tally{
			Minute: r.Minute, MinuteN: r.MinuteN, Hour: r.Hour, HourN: r.HourN, Day: r.Day, DayN: r.DayN, Last: nullTime(r.LastAt), Told: r.Told,
		}
	}
	return l, nil
}

// close writes what was counted.
func (l *Ledger) close(ctx context.Context, tx *sqlx.Tx) error {
	if l == nil || len(l.dirty) == 0 {
		return nil
	}
	n := len(l.dirty)
	keys, lasts := make(pq.StringArray, 0, n), make(pq.StringArray, 0, n)
	var cols [7]pq.Int64Array
	for key := range l.dirty {
		t, last := l.rows[key], ""
		if !t.Last.IsZero() {
			last = stamp(t.Last)
		}
		keys, lasts = append(keys, key.String()), append(lasts, last)
		for i, v := range [...]int64{t.Minute, t.MinuteN, t.Hour, t.HourN, t.Day, t.DayN, t.Told} {
			cols[i] = append(cols[i], v)
		}
	}
	if _, err := tx.ExecContext(ctx, query("limits_write"), keys, cols[0], cols[1], cols[2], cols[3], cols[4], cols[5], lasts, cols[6]); err != nil {
		return fmt.Errorf("write limits: %w", err)
	}
	return nil
}

// Charge judges messages that are to be sent within a transaction that is under way, in order, and counts those that may be. It takes all the counters at
// once, as Record and its like must: taken one by one, those of two transactions would wait for each other. It stands after the locks of challenges and
// deliveries and before those of anything else. alarm makes the event of what it has raised, which is left in the outbox.
func (s *Challenges) Charge(ctx context.Context, t Tx, now time.Time, alarm func(Raised) OutboxEvent, messages ...[]Limit) ([]Verdict, error) {
	out, raised, err := charge(ctx, t.tx, now, messages)
	if err != nil || len(raised) == 0 {
		return out, err
	}
	events := make([]OutboxEvent, len(raised))
	for i, r := range raised {
		events[i] = alarm(r)
	}
	return out, insertOutbox(ctx, t.tx, now, events)
}

func charge(ctx context.Context, tx *sqlx.Tx, now time.Time, messages [][]Limit) ([]Verdict, []Raised, error) {
	out := make([]Verdict, len(messages))
	l, err := openLedger(ctx, tx, now, slices.Concat(messages...))
	if err != nil || l == nil {
		return out, nil, err
	}
	for i, limits := range messages {
		if out[i] = l.Judge(limits); !out[i].Refused() {
			l.Count(limits)
		} else if m := out[i].Limit; m.Warn > 0 {
			l.Reached(m)
		}
	}
	return out, l.takeRaised(), l.close(ctx, tx)
}

// ChargeFirst judges, for each of several messages, the ways that it could go, in their order, and counts the first that may be. chosen has the index of each
// message's way, or -1 where none may. All counters of all ways are taken at once, as in Charge.
func (s *Challenges) ChargeFirst(ctx context.Context, t Tx, now time.Time, alarm func(Raised) OutboxEvent, messages [][][]Limit) (chosen []int, err error) {
	l, err := openLedger(ctx, t.tx, now, slices.Concat(slices.Concat(messages...)...))
	if err != nil {
		return nil, err
	}
	chosen = make([]int, len(messages))
	for i, ways := range messages {
		chosen[i] = -1
		for j, limits := range ways {
			v := l.Judge(limits)
			if !v.Refused() {
				l.Count(limits)
				chosen[i] = j
				break
			}
			if v.Limit.Warn > 0 {
				l.Reached(v.Limit)
			}
		}
	}
	if err := l.close(ctx, t.tx); err != nil {
		return nil, err
	}
	var events []OutboxEvent
	for _, r := range l.takeRaised() {
		events = append(events, alarm(r))
	}
	if len(events) == 0 {
		return chosen, nil
	}
	return chosen, insertOutbox(ctx, t.tx, now, events)
}

// Charge judges messages of the act, in order, and counts those that may be sent. All that one act sends is charged at once, as in Challenges.Charge. raised
// are alarms to be told.
func (a *Act) Charge(messages ...[]Limit) (verdicts []Verdict, raised []Raised, err error) {
	return charge(a.ctx, a.tx, a.Now, messages)
}

// Withhold marks a delivery of a message as delivered that is not sent, since it is for a test destination.
func (a *Act) Withhold(id uuid.UUID, number int) error {
	_, err := a.exec("message_withhold", id, number, a.Now)
	return err
}

// ForgetLimits removes up to limit counters of days before the one of before, and tells how many those were.
func (s *Challenges) ForgetLimits(ctx context.Context, before time.Time, limit int) (int, error) {
	res, err := s.db.x.ExecContext(ctx, query("limits_forget"), before.Unix()/86400, limit)
	if err != nil {
		return 0, fmt.Errorf("forget limits: %w", err)
	}
	n, err := res.RowsAffected()
	return int(n), err
}
