package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/pumping"
)

// sendTo is a message to a number of a range, as a worker notes it.
func (b *bench) sendTo(prefix string, place int, at time.Time) postgres.PrefixSend {
	return postgres.PrefixSend{
		Prefix: postgres.Prefix{AppID: b.app.ID, Digits: prefix}, Behind: 6, Range: uuid.NewSHA1(uuid.NameSpaceOID, []byte(prefix)), Place: place, At: at,
	}
}

// What is noted, by whichever worker, is what is judged.
func TestWhatIsSentIsCountedByPrefix(t *testing.T) {
	b := newBench(t)
	store := postgres.NewPumping(b.db.Role("challenge"))
	now := b.clock.Now().Truncate(time.Hour).Add(50 * time.Minute)
	note := func(sends ...postgres.PrefixSend) {
		t.Helper()
		if err := store.Note(t.Context(), now, sends, nil); err != nil {
			t.Fatal(err)
		}
	}
	var sends []postgres.PrefixSend
	for i := range 40 {
		sends = append(sends, b.sendTo("+420601", i, now.Add(-30*time.Minute)))
	}
	note(sends...)                                                                            // at once
	note(b.sendTo("+420601", 0, now), b.sendTo("+420601", 0, now))                            // known
	note(b.sendTo("+420601", 999, now.Add(-3*time.Hour)))                                     // before the window, and a clock that is behind
	note(b.sendTo("+420602", 7, now.Add(-time.Hour)), b.sendTo("+420602", 500, now))          // two hours
	note(b.sendTo("+420603", 1, now.Add(-5*time.Hour)))                                       // nothing of late
	atOnce(8, func(i int) { note(b.sendTo("+420604", i, now), b.sendTo("+420605", i, now)) }) // workers at once, in a row that is not there yet
	note(b.sendTo("+420604", 0, now))

	// Two codes come back from one number, and one from another.
	id := b.issued("u", "a")
	b.delivery(id, 1, otp.DeliveryAccepted)
	b.db.Exec(t, "UPDATE deliveries SET provider = 'p'")
	b.db.Exec(t, "INSERT INTO conversions (challenge_id, at) VALUES ($1, $2)", id, now)
	taken := 0
	_, err := b.challenges.Convert(t.Context(), 10, func(int) string { return "demo" }, func(tx postgres.Tx, all []postgres.Conversion) error {
		taken = len(all)
		at := now.Add(-30 * time.Minute)
		return store.Returned(t.Context(), tx, now, []postgres.PrefixSend{b.sendTo("+420601", 3, at), b.sendTo("+420601", 3, at), b.sendTo("+420601", 4, at)})
	})
	if err != nil || taken != 1 {
		t.Fatalf("%d taken, %v", taken, err)
	}
	windows, before, err := store.Windows(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]pumping.Window{}
	for _, w := range windows {
		got[w.Digits] = w.Window
	}
	if want := (pumping.Window{
		Sends: 40, New: 40, Mature: 40, Verified: 2, Numbers: 41, Sequence: 40, Crowd: 41, Room: 1e6, PastHours: 4, PastSends: 1,
	}); got["+420601"] != want {
		t.Errorf("of +420601 it says %+v, want %+v", got["+420601"], want)
	}
	if w := got["+420602"]; w.Sends != 2 || w.New != 2 || w.Numbers != 2 || w.Sequence != 0 || w.Mature != 1 {
		t.Errorf("of +420602 it says %+v", w)
	}
	if w, there := got["+420603"]; there {
		t.Errorf("of a prefix that nothing was sent to of late it says %+v", w)
	}
	if w := got["+420604"]; w.Sends < 8 || w.New < 8 {
		t.Errorf("of +420604 it says %+v", w)
	}
	if p := before[b.app.ID]; p.Mature != 2 || p.PastHours != 4 {
		t.Errorf("before there was %+v", p)
	}
	if dump := b.db.Dump(t); strings.Contains(dump, "+420601000") {
		t.Error("a number is in the database")
	}

	if err := store.Forget(t.Context(), now.Add(60*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if windows, _, err = store.Windows(t.Context(), now); err != nil || len(windows) > 0 {
		t.Errorf("after forgetting: %+v, %v", windows, err)
	}
}

// A prefix is blocked once, by the guard or by hand, until its time is over or somebody lifts it.
func TestBlocks(t *testing.T) {
	b := newBench(t)
	store, operator := postgres.NewPumping(b.db.Role("challenge")), postgres.NewPumping(b.db.Role("operator"))
	now := b.clock.Now()
	p := postgres.Prefix{AppID: b.app.ID, Digits: "+420601"}
	raise := func(at time.Time) error {
		return store.Raise(t.Context(), postgres.PrefixBlock{
			Prefix: p, Since: at, Until: at.Add(4 * time.Hour), Mode: otp.PumpingShadow, Score: 0.75, Why: []string{"one", "two"},
			Window: pumping.Window{Sends: 100, Mature: 80, Verified: 1, Numbers: 90, Sequence: 70, Crowd: 85},
		}, event("pumping"+at.String(), uuid.New()))
	}
	errs := make([]error, 6)
	atOnce(len(errs), func(i int) { errs[i] = raise(now.Add(time.Duration(i) * time.Millisecond)) })
	if n := len(slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, postgres.ErrBlocked) })); n != 1 {
		t.Fatalf("%d of six at once have blocked the prefix", n)
	}
	b.db.Exec(t, "UPDATE prefix_blocks SET since = $1, until = $2", now, now.Add(4*time.Hour))
	stops := map[postgres.Prefix]postgres.PrefixStop{p: {Stopped: 2, Passed: 3}, {AppID: b.app.ID, Digits: "+1415"}: {Stopped: 1}}
	for range 2 {
		if err := store.Note(t.Context(), now, nil, stops); err != nil {
			t.Fatal(err)
		}
	}
	got, err := operator.Blocks(t.Context(), now)
	if err != nil || len(got) != 1 {
		t.Fatalf("blocked: %+v, %v", got, err)
	}
	if g := got[0]; g.Prefix != p || !g.Active(now) || g.Active(now.Add(4*time.Hour)) || g.Manual || g.Mode != otp.PumpingShadow || len(g.Why) != 2 ||
		g.Window != (pumping.Window{Sends: 100, Mature: 80, Verified: 1, Numbers: 90, Crowd: 85}) || g.PrefixStop != (postgres.PrefixStop{Stopped: 4, Passed: 6}) {
		t.Errorf("blocked: %+v", g)
	}
	if err := operator.Block(t.Context(), postgres.PrefixBlock{Prefix: p, Since: now, Until: now.Add(time.Hour)}); !errors.Is(err, postgres.ErrBlocked) {
		t.Errorf("by hand, beside the guard: %v", err)
	}
	if err := operator.Lift(t.Context(), now.Add(time.Minute), p); err != nil {
		t.Fatal(err)
	}
	if err := operator.Lift(t.Context(), now.Add(time.Minute), p); !errors.Is(err, postgres.ErrNoBlock) {
		t.Errorf("lifted twice: %v", err)
	}
	later := now.Add(2 * time.Minute)
	if err := operator.Block(t.Context(), postgres.PrefixBlock{Prefix: p, Since: later, Until: later.Add(time.Hour)}); err != nil {
		t.Errorf("by hand, after it was lifted: %v", err)
	}
	if err := raise(later.Add(2 * time.Hour)); err != nil {
		t.Errorf("again, when that was over: %v", err)
	}
	if got, err = store.Blocks(t.Context(), postgres.RepeatsSince(later)); err != nil || len(got) != 3 {
		t.Fatalf("blocked: %+v, %v", got, err)
	}
	times, lifted := postgres.Repeats(got, later.Add(3*time.Hour))
	if times[p] != 1 || !lifted[p].Equal(now.Add(time.Minute)) {
		t.Errorf("the guard has blocked it %d times, and it was lifted at %s", times[p], lifted[p])
	}
}
