package outbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// A bench is a publisher as the verification worker has it, and the app that listens.
type bench struct {
	*testing.T
	db        *otposttest.DB
	nats      *otposttest.Server
	bus       *bus.Bus
	clock     *otposttest.Clock
	heard     *otposttest.Heard
	publisher *outbox.Publisher
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	b := &bench{T: t, db: otposttest.Postgres(t), nats: otposttest.NATS(t, otposttest.WithLazySync()), clock: otposttest.NewClock()}
	b.bus = b.nats.Bus(t, bus.RoleVerification)
	b.heard = otposttest.Events(t, b.nats.App(t, "demo"), "demo")
	b.publisher = b.another()
	return b
}

func (b *bench) another() *outbox.Publisher {
	return outbox.New(b.bus, postgres.NewOutbox(b.db.Role("verification")), otposttest.Logger(b.T).Logger, b.clock.Now)
}

// run makes a publisher work until stop, which waits, or the test's end.
func (b *bench) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.publisher.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.Cleanup(stop)
	return stop
}

// commit writes events to the outbox, as a worker's transaction does.
func (b *bench) commit(n int, at time.Time) (entries []postgres.OutboxEvent) {
	b.Helper()
	for i := range n {
		e := outbox.Entry(event.Event{
			App: "demo", Name: event.ChallengeEnded, ID: fmt.Sprintf("%d/%d", at.UnixNano(), i), Subject: "a challenge", Time: at, Data: event.Ended{Reason: "expired"},
		})
		b.db.Exec(b.T, "INSERT INTO outbox (id, subject, payload, role, created_at) VALUES ($1, $2, $3, 'otpost_verification', $4)", e.ID, e.Subject, e.Payload, at)
		entries = append(entries, e)
	}
	return entries
}

func (b *bench) rows() int { return otposttest.Get[int](b.T, b.db, "SELECT count(*) FROM outbox") }

func TestWhatIsSentGoesOutAndLeavesTheOutbox(t *testing.T) {
	b := newBench(t)
	stop := b.run()
	entries := b.commit(40, b.clock.Now())
	b.publisher.Send(entries)
	for _, want := range entries {
		e := b.heard.Wait(t, event.ChallengeEnded, func(e otposttest.Event) bool { return e.ID == want.ID })
		if string(e.Raw) != string(want.Payload) {
			t.Errorf("heard was %s", e.Raw)
		}
	}
	otposttest.Eventually(t, "the outbox to be empty", func() bool { return b.rows() == 0 })
	entries = b.commit(40, b.clock.Advance(time.Millisecond))
	b.publisher.Send(entries)
	stop() // what was sent by then is out
	if n := b.rows(); n != 0 {
		t.Errorf("%d are left after the drain", n)
	}
	b.publisher.Send(b.commit(1, b.clock.Advance(time.Millisecond))) // too late: it stays for a sweeper
	if n := b.rows(); n != 1 {
		t.Errorf("%d are in the outbox", n)
	}
}

func TestWhatOneProcessLeftAnotherPublishesOnce(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	old, young := b.commit(3, now.Add(-time.Minute)), b.commit(2, now)
	// the process died after the publish and before it emptied the outbox
	if err := b.bus.Publish(t.Context(), bus.Out{Subject: old[0].Subject, ID: old[0].ID, Data: old[0].Payload}); err != nil {
		t.Fatal(err)
	}
	if n, err := b.another().Left(t.Context(), now); err != nil || n != 3 {
		t.Errorf("left were %d, %v", n, err)
	}
	if n := b.rows(); n != len(young) {
		t.Errorf("%d stand in the outbox, want the young ones", n)
	}
	s, err := b.nats.Bus(t, bus.RoleOperator).JetStream().Stream(t.Context(), bus.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 3 {
		t.Errorf("the stream holds %d events, want each of 3 once", n)
	}
}

func TestWithoutNATSNothingLeavesTheOutbox(t *testing.T) {
	b := newBench(t)
	stop := b.run()
	entries := b.commit(5, b.clock.Now())
	b.nats.Stop(t)
	otposttest.Eventually(t, "the connection to be lost", func() bool { return b.bus.Connected() != nil })
	b.publisher.Send(entries)
	stop()
	if n, err := b.publisher.Left(t.Context(), b.clock.Advance(time.Minute)); err != nil || n != 0 {
		t.Errorf("without NATS %d went out, %v", n, err)
	}
	if n := b.rows(); n != 5 {
		t.Errorf("%d of 5 stand in the outbox", n)
	}
	b.nats.Start(t)
	otposttest.Eventually(t, "the connection", func() bool { return b.bus.Connected() == nil })
	if n, err := b.publisher.Left(t.Context(), b.clock.Now()); err != nil || n != 0 {
		t.Errorf("what was just put back went out at once: %d, %v", n, err)
	}
	if n, err := b.publisher.Left(t.Context(), b.clock.Advance(time.Minute)); err != nil || n != 5 || b.rows() != 0 {
		t.Errorf("afterwards %d went out, %v, and %d stand", n, err, b.rows())
	}
}

func TestARunningPublisherFindsWhatADeadProcessLeft(t *testing.T) {
	b := newBench(t)
	b.run()
	young := b.commit(2, b.clock.Now())
	old := b.commit(3, b.clock.Now().Add(-time.Minute)) // nobody sends these
	for _, want := range old {
		b.heard.Wait(t, event.ChallengeEnded, func(e otposttest.Event) bool { return e.ID == want.ID })
	}
	otposttest.Eventually(t, "the old ones to leave the outbox", func() bool { return b.rows() == len(young) })
	b.clock.Advance(time.Minute)
	otposttest.Eventually(t, "the young ones to have become old", func() bool { return b.rows() == 0 })
}

func TestARolePublishesItsOwnEventsOnly(t *testing.T) {
	b := newBench(t)
	b.commit(2, b.clock.Now().Add(-time.Minute))
	b.db.Exec(t, "UPDATE outbox SET role = 'otpost_challenge' WHERE id LIKE '%/0'")
	if n, err := b.publisher.Left(t.Context(), b.clock.Now()); err != nil || n != 1 {
		t.Errorf("published %d, %v; want its own", n, err)
	}
	if role := otposttest.Get[string](t, b.db, "SELECT role FROM outbox"); role != "otpost_challenge" {
		t.Errorf("what is left is of %s", role)
	}
}

func TestAnEventThatNoStreamTakesHoldsNoneUp(t *testing.T) {
	b := newBench(t)
	b.commit(1, b.clock.Now().Add(-time.Hour))
	b.db.Exec(t, "UPDATE outbox SET payload = convert_to(repeat('x', 2 << 20), 'UTF8')") // more than NATS takes
	b.commit(3, b.clock.Now().Add(-time.Minute))
	if n, err := b.publisher.Left(t.Context(), b.clock.Now()); err != nil || n != 3 {
		t.Errorf("published %d, %v; want 3", n, err)
	}
	if at := otposttest.Get[time.Time](t, b.db, "SELECT created_at FROM outbox"); !at.Equal(b.clock.Now()) {
		t.Errorf("what was not taken stands at %s, want the end of the queue", at)
	}
}
