package watch

import (
	"fmt"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// What a block does is what the app's mode says now, whatever it said when the block began; what an operator has blocked is blocked.
func TestWhatABlockDoes(t *testing.T) {
	t.Parallel()
	db, clock := otposttest.Postgres(t), otposttest.NewClock()
	app := db.App(t, "demo")
	store, operator := postgres.NewPumping(db.Role("challenge")), postgres.NewPumping(db.Role("operator"))
	w := New(db.Role("challenge"), otposttest.Ring(t, keyring.Challenge), otposttest.Logger(t).Logger, clock.Now)
	now := clock.Now()
	prefix := func(digits string) postgres.Prefix { return postgres.Prefix{AppID: app.ID, Digits: digits} }
	for digits, mode := range map[string]otp.PumpingMode{"+420601": otp.PumpingShadow, "+420602": otp.PumpingBlock, "+420604": otp.PumpingBlock} {
		if err := store.Raise(t.Context(), postgres.PrefixBlock{Prefix: prefix(digits), Since: now, Until: now.Add(time.Hour), Mode: mode}, postgres.OutboxEvent{
			ID: digits, Subject: "otpost.app.demo.event.alarm.raised", Payload: []byte("{}"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := operator.Block(t.Context(), postgres.PrefixBlock{Prefix: prefix("+420603"), Since: now, Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := operator.Lift(t.Context(), now, prefix("+420604")); err != nil {
		t.Fatal(err)
	}
	if err := w.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		prefix    string
		mode      otp.PumpingMode
		later     time.Duration
		ok, stops bool
	}{
		{"+420601", otp.PumpingShadow, 0, true, false},
		{"+420601", otp.PumpingBlock, 0, true, true}, // the operator has read the report
		{"+420602", otp.PumpingShadow, 0, true, false},
		{"+420602", otp.PumpingBlock, 0, true, true},
		{"+420602", otp.PumpingBlock, time.Hour, false, false},
		{"+420602", otp.PumpingOff, 0, false, false},
		{"+420603", otp.PumpingOff, 0, true, true},
		{"+420604", otp.PumpingBlock, 0, false, false}, // lifted
		{"+420605", otp.PumpingBlock, 0, false, false},
		{"", otp.PumpingBlock, 0, false, false}, // a mailbox
	} {
		app.Policy.Delivery.Pumping = tt.mode
		if _, stops, ok := w.Of(app, tt.prefix, now.Add(tt.later)); ok != tt.ok || stops != tt.stops {
			t.Errorf("%s, pumping %s, %s later: blocked %t, stops %t", tt.prefix, tt.mode, tt.later, ok, stops)
		}
	}
	app.Policy.Delivery.Pumping = otp.PumpingShadow
	if !w.Permits(app, "+420601") || w.Permits(app, "+420603") || !w.Permits(app, "+420605") {
		t.Error("it permits what is stopped, or not what is not")
	}
	w.Flush(t.Context())
	blocks, err := store.Blocks(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		want := map[string]postgres.PrefixStop{"+420601": {Passed: 1}, "+420603": {Stopped: 1}}[b.Digits]
		if b.PrefixStop != want {
			t.Errorf("%s has counted %+v, want %+v", b.Digits, b.PrefixStop, want)
		}
	}
}

// What the database does not take is written with the next round, and counted once.
func TestNotesOutliveAnOutage(t *testing.T) {
	t.Parallel()
	db, clock := otposttest.Postgres(t), otposttest.NewClock()
	app := db.App(t, "demo")
	w := New(db.Role("challenge"), otposttest.Ring(t, keyring.Challenge), otposttest.Logger(t).Logger, clock.Now)
	for i := range 30 {
		w.Sent(app, fmt.Sprintf("+4206012345%02d", i), clock.Now())
	}
	w.Sent(app, "+420601234500", clock.Now())
	off := app
	off.Policy.Delivery.Pumping = otp.PumpingOff
	w.Sent(off, "+420602234500", clock.Now())
	gone, err := postgres.Open("postgres://nobody@127.0.0.1:1/none", 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gone.Close() })
	kept := w.store
	w.store = postgres.NewPumping(gone)
	w.Flush(t.Context())
	w.store = kept
	w.Flush(t.Context())
	w.Flush(t.Context())
	windows, _, err := kept.Windows(t.Context(), clock.Now())
	if err != nil || len(windows) != 1 {
		t.Fatalf("counted %+v, %v", windows, err)
	}
	if got := windows[0]; got.Digits != "+420601" || got.Sends != 30 || got.New != 30 || got.Numbers != 30 || got.Sequence != 30 || got.Room != 1e6 {
		t.Errorf("counted %+v", got)
	}
}

func benchWatch(b *testing.B) (*Watch, postgres.App) {
	db := otposttest.Postgres(b)
	return New(db.Role("challenge"), otposttest.Ring(b, keyring.Challenge), otposttest.Logger(b).Logger, time.Now), db.App(b, "demo")
}

// BenchmarkSent is what a message adds to the path of its login.
func BenchmarkSent(b *testing.B) {
	w, app := benchWatch(b)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		w.Sent(app, "+420601234567", now)
		w.sends = w.sends[:0]
	}
}

// BenchmarkFlush is what 500 messages to different numbers, all over a country, add beside it.
func BenchmarkFlush(b *testing.B) {
	w, app := benchWatch(b)
	n := 0
	for b.Loop() {
		for range 500 {
			n++
			w.Sent(app, fmt.Sprintf("+420%09d", 601_000_000+n*7919%200_000_000), time.Now())
		}
		w.Flush(b.Context())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
}
