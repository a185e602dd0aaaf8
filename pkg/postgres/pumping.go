package postgres

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/pumping"
)

// This file counts what is sent to numbers that begin alike. It is written to beside what is sent, not with it: who decides logins notes in memory what was
// sent, and hands it over every few seconds. What a killed process has noted is lost, and a guard that looks at an hour does not miss it.

// prefixSlot is how long what is counted together is sent within.
const prefixSlot = 5 * time.Minute

// How long the guard remembers.
const (
	pastHours   = 48                  // what was sent, for the comparison with the past
	rangeMemory = 30 * 24 * time.Hour // a number that nothing was sent to for longer is new, unless its neighbours were
)

// A Prefix is what numbers of an app begin with.
type Prefix struct {
	AppID  int
	Digits string // in E.164, as otp.LocatePhone tells it
}

// A PrefixSend is a message to a phone.
type PrefixSend struct {
	Prefix
	Behind int       // digits of the number behind the prefix
	Range  uuid.UUID // the keyed digest of all of the number but its last three digits
	Place  int       // of the number within the range
	At     time.Time
}

// A PrefixStop counts messages that a block concerned.
type PrefixStop struct{ Stopped, Passed int }

// A PrefixWindow is what was counted of a prefix.
type PrefixWindow struct {
	Prefix
	pumping.Window
}

// Pumping is the store of the guard against pumping. Workers count, judge and read; the operator's role reads, blocks and lifts.
type Pumping struct{ db *DB }

// NewPumping returns the store.
func NewPumping(db *DB) *Pumping { return &Pumping{db} }

// Note counts messages that were sent, and those that blocks concerned at now.
func (s *Pumping) Note(ctx context.Context, now time.Time, sends []PrefixSend, stops map[Prefix]PrefixStop) error {
	return s.db.tx(ctx, "count what is sent to prefixes", func(tx *sqlx.Tx) error {
		if err := noteSends(ctx, tx, sends); err != nil || len(stops) == 0 {
			return err
		}
		var apps, stopped, passed pq.Int64Array
		var prefixes pq.StringArray
		for p, n := range stops {
			apps, prefixes = append(apps, int64(p.AppID)), append(prefixes, p.Digits)
			stopped, passed = append(stopped, int64(n.Stopped)), append(passed, int64(n.Passed))
		}
		if _, err := tx.ExecContext(ctx, query("prefix_blocks_count"), apps, prefixes, stopped, passed, now); err != nil {
			return fmt.Errorf("count stops: %w", err)
		}
		return nil
	})
}

// A prefixRange is a range as it is held in a transaction.
type prefixRange struct {
	PrefixSend
	hour                  int64
	now, past, back, seen pumping.Range
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// turn goes to an hour. One that lies before, as of a clock that is behind, is counted as the present one.
func (r *prefixRange) turn(hour int64) {
	switch {
	case hour <= r.hour:
		return
	case hour == r.hour+1:
		r.past = r.now
	default:
		r.past = pumping.Range{}
	}
	r.hour, r.now, r.back = hour, pumping.Range{}, pumping.Range{}
}

func noteSends(ctx context.Context, tx *sqlx.Tx, sends []PrefixSend) error {
	if len(sends) == 0 {
		return nil
	}
	ranges, err := lockRanges(ctx, tx, sends)
	if err != nil {
		return err
	}
	counts := map[prefixCount]*counted{}
	for _, m := range sends {
		r := ranges[m.Range]
		if r == nil {
			r = &prefixRange{hour: hourOf(m.At)}
			ranges[m.Range] = r
		}
		r.PrefixSend = m
		r.turn(hourOf(m.At))
		if !r.now.Add(m.Place) {
			continue
		}
		c := of(counts, m.Prefix, m.At)
		c.sends++
		if r.seen.Add(m.Place) {
			c.fresh++
		}
	}
	if err := writeRanges(ctx, tx, ranges); err != nil {
		return err
	}
	return addPrefixCounts(ctx, tx, counts)
}

func lockRanges(ctx context.Context, tx *sqlx.Tx, sends []PrefixSend) (map[uuid.UUID]*prefixRange, error) {
	ids := make([]uuid.UUID, len(sends))
	for i, m := range sends {
		ids[i] = m.Range
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	var rows []struct {
		Digest uuid.UUID `db:"digest"`
		Hour   int64     `db:"hour"`
		Now    []byte    `db:"now_bits"`
		Past   []byte    `db:"past_bits"`
		Back   []byte    `db:"back_bits"`
		Seen   []byte    `db:"seen"`
	}
	if err := tx.SelectContext(ctx, &rows, query("prefix_ranges_lock"), pq.Array(ids)); err != nil {
		return nil, fmt.Errorf("take ranges: %w", err)
	}
	out := make(map[uuid.UUID]*prefixRange, len(ids))
	for _, r := range rows {
		held := &prefixRange{hour: r.Hour}
		for _, part := range []struct {
			to   *pumping.Range
			from []byte
		}{{&held.now, r.Now}, {&held.past, r.Past}, {&held.back, r.Back}, {&held.seen, r.Seen}} {
			var err error
			if *part.to, err = pumping.Unpack(part.from); err != nil {
				return nil, fmt.Errorf("take ranges: %w", err)
			}
		}
		out[r.Digest] = held
	}
	return out, nil
}

func writeRanges(ctx context.Context, tx *sqlx.Tx, ranges map[uuid.UUID]*prefixRange) error {
	var digests, prefixes pq.StringArray
	var apps, digits, hours, numbers, sequences, crowds pq.Int64Array
	var now, past, back, seen pq.ByteaArray
	for id, r := range ranges {
		both := r.now.Or(r.past)
		n, sequence, crowd := both.Neighbours()
		digests, apps, prefixes = append(digests, id.String()), append(apps, int64(r.AppID)), append(prefixes, r.Digits)
		digits, hours = append(digits, int64(r.Behind)), append(hours, r.hour)
		now, past, back, seen = append(now, r.now.Pack()), append(past, r.past.Pack()), append(back, r.back.Pack()), append(seen, r.seen.Pack())
		numbers, sequences, crowds = append(numbers, int64(n)), append(sequences, int64(sequence)), append(crowds, int64(crowd))
	}
	if _, err := tx.ExecContext(ctx, query("prefix_ranges_write"), digests, apps, prefixes, digits, hours, now, past, back, seen, numbers, sequences,
		crowds); err != nil {
		return fmt.Errorf("write ranges: %w", err)
	}
	return nil
}

// prefixCount names a row of counts, counted what is added to it.
type (
	prefixCount struct {
		Prefix
		slot time.Time
	}
	counted struct{ sends, fresh, verified int64 }
)

func of(counts map[prefixCount]*counted, p Prefix, at time.Time) *counted {
	k := prefixCount{p, at.UTC().Truncate(prefixSlot)}
	if counts[k] == nil {
		counts[k] = &counted{}
	}
	return counts[k]
}

func addPrefixCounts(ctx context.Context, tx *sqlx.Tx, counts map[prefixCount]*counted) error {
	var apps, sends, fresh, verified pq.Int64Array
	var prefixes, slots pq.StringArray
	for k, c := range counts {
		apps, prefixes, slots = append(apps, int64(k.AppID)), append(prefixes, k.Digits), append(slots, stamp(k.slot))
		sends, fresh, verified = append(sends, c.sends), append(fresh, c.fresh), append(verified, c.verified)
	}
	if len(apps) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, query("prefix_counts_add"), apps, prefixes, slots, sends, fresh, verified); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	return nil
}

// Returned counts messages whose codes came back by now, within the transaction that takes them.
func (s *Pumping) Returned(ctx context.Context, t Tx, now time.Time, returns []PrefixSend) error {
	if len(returns) == 0 {
		return nil
	}
	ranges, err := lockRanges(ctx, t.tx, returns)
	if err != nil {
		return err
	}
	counts := map[prefixCount]*counted{}
	for _, m := range returns {
		r := ranges[m.Range]
		if r == nil { // what was sent is not written yet, or the number's key has gone
			r = &prefixRange{hour: hourOf(now)}
			ranges[m.Range] = r
		}
		r.PrefixSend = m
		r.turn(hourOf(now))
		if r.back.Add(m.Place) {
			of(counts, m.Prefix, m.At).verified++
		}
	}
	if err := writeRanges(ctx, t.tx, ranges); err != nil {
		return err
	}
	return addPrefixCounts(ctx, t.tx, counts)
}

// NoteReturns is Returned in a transaction of its own.
func (s *Pumping) NoteReturns(ctx context.Context, now time.Time, returns []PrefixSend) error {
	return s.db.tx(ctx, "count what comes back", func(tx *sqlx.Tx) error { return s.Returned(ctx, Tx{tx}, now, returns) })
}

// Windows returns what was counted of every prefix that something was sent to within the last hour, and of each app what went before: in a window,
// Mature and Verified.
func (s *Pumping) Windows(ctx context.Context, now time.Time) (windows []PrefixWindow, before map[int]pumping.Window, err error) {
	from := now.Add(-pumping.Span).Truncate(prefixSlot)
	mature := now.Add(-pumping.Lag).Truncate(prefixSlot) // slots from before have ended a lag ago
	var rows []struct {
		AppID    int    `db:"app_id"`
		Prefix   string `db:"prefix"`
		Sends    int    `db:"sends"`
		Fresh    int    `db:"fresh"`
		Mature   int    `db:"mature"`
		Verified int    `db:"verified"`
		Numbers  int    `db:"numbers"`
		Sequence int    `db:"sequence"`
		Crowd    int    `db:"crowd"`
		Digits   int    `db:"digits"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("prefix_windows"), from, mature, hourOf(now)-1); err != nil {
		return nil, nil, fmt.Errorf("read prefixes: %w", err)
	}
	var apps, ofApp pq.Int64Array
	var prefixes pq.StringArray
	windows = make([]PrefixWindow, len(rows))
	for i, r := range rows {
		w := pumping.Window{
			Sends: r.Sends, New: r.Fresh, Mature: r.Mature, Verified: r.Verified, Numbers: r.Numbers, Sequence: r.Sequence, Crowd: r.Crowd,
		}
		if r.Digits > 0 {
			w.Room = math.Pow10(r.Digits)
		}
		windows[i] = PrefixWindow{Prefix{r.AppID, r.Prefix}, w}
		ofApp, prefixes = append(ofApp, int64(r.AppID)), append(prefixes, r.Prefix)
		if len(apps) == 0 || apps[len(apps)-1] != int64(r.AppID) {
			apps = append(apps, int64(r.AppID))
		}
	}
	if len(rows) == 0 {
		return nil, nil, nil
	}
	return windows, before, s.pasts(ctx, from, windows, &before, apps, ofApp, prefixes)
}

func (s *Pumping) pasts(ctx context.Context, until time.Time, windows []PrefixWindow, before *map[int]pumping.Window, apps, ofApp pq.Int64Array,
	prefixes pq.StringArray,
) error {
	from := until.Add(-pastHours * time.Hour)
	var whole []struct {
		AppID    int       `db:"app_id"`
		Sends    int       `db:"sends"`
		Verified int       `db:"verified"`
		First    time.Time `db:"first"`
	}
	if err := s.db.x.SelectContext(ctx, &whole, query("prefix_app_pasts"), apps, from, until); err != nil {
		return fmt.Errorf("read the past of apps: %w", err)
	}
	*before = make(map[int]pumping.Window, len(whole))
	for _, a := range whole {
		(*before)[a.AppID] = pumping.Window{Mature: a.Sends, Verified: a.Verified, PastHours: int(until.Sub(a.First) / time.Hour)}
	}
	var rows []struct {
		AppID  int    `db:"app_id"`
		Prefix string `db:"prefix"`
		Sends  int    `db:"sends"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("prefix_pasts"), ofApp, prefixes, from, until); err != nil {
		return fmt.Errorf("read the past of prefixes: %w", err)
	}
	sends := make(map[Prefix]int, len(rows))
	for _, r := range rows {
		sends[Prefix{r.AppID, r.Prefix}] = r.Sends
	}
	for i := range windows {
		windows[i].PastHours, windows[i].PastSends = (*before)[windows[i].AppID].PastHours, sends[windows[i].Prefix]
	}
	return nil
}
