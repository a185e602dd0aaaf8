package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A line is the stream of SMS commands with its consumer and someone who publishes to it.
type line struct {
	*testing.T
	nats           *otposttest.Server
	sms, challenge *bus.Bus
	operator       *bus.Bus
}

func newLine(t *testing.T, options ...otposttest.NATSOption) *line {
	t.Helper()
	t.Parallel()
	n := otposttest.NATS(t, append([]otposttest.NATSOption{otposttest.WithLazySync()}, options...)...)
	return &line{T: t, nats: n, sms: n.Bus(t, bus.RoleSMS), challenge: n.Bus(t, bus.RoleChallenge), operator: n.Bus(t, bus.RoleOperator)}
}

// quickAcks gives unacknowledged messages back after a second.
func quickAcks(s *bus.StreamSettings) { s.AckWait = time.Second }

// consume runs a handler until stop, which waits for it to have drained, or the test's end.
func (l *line) consume(handler bus.Handler, change ...func(*bus.Consumption)) (stop func()) {
	l.Helper()
	c := bus.Consumption{Stream: bus.StreamWork, Consumer: "sms", Handler: handler, Lanes: 1}
	for _, f := range change {
		f(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.sms.Consume(ctx, c) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				l.Error(err)
			}
		case <-time.After(patience):
			l.Error("the consumer did not stop")
		}
	})
	l.Cleanup(stop)
	return stop
}

func (l *line) publish(bodies ...string) {
	l.Helper()
	var out []bus.Out
	for _, b := range bodies {
		out = append(out, bus.Out{Subject: "otpost.work.sms", Data: []byte(b), ID: b[:min(len(b), 100)]})
	}
	if err := l.challenge.Publish(l.Context(), out...); err != nil {
		l.Fatal(err)
	}
}

// left is how many messages a stream holds.
func (l *line) left(stream string) uint64 {
	l.Helper()
	s, err := l.operator.JetStream().Stream(l.Context(), stream)
	if err != nil {
		l.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// unsettled is how many messages were delivered to the SMS worker and not acknowledged.
func (l *line) unsettled() int {
	l.Helper()
	c, err := l.operator.JetStream().Consumer(l.Context(), bus.StreamWork, "sms")
	if err != nil {
		l.Fatal(err)
	}
	return c.CachedInfo().NumAckPending
}

func (l *line) emptied() {
	l.Helper()
	otposttest.Eventually(l, "the stream to be empty", func() bool { return l.left(bus.StreamWork) == 0 })
}

func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("message ", i)
	}
	return out
}

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func settleAll(batch []*bus.Msg, o bus.Outcome) {
	for _, m := range batch {
		m.Settle(o)
	}
}

func TestBatchesFormWhileTheHandlerIsBusy(t *testing.T) {
	l := newLine(t)
	sizes, release := make(chan int, 100), make(chan struct{})
	l.consume(func(_ context.Context, batch []*bus.Msg) {
		sizes <- len(batch)
		<-release
		settleAll(batch, bus.Done())
	}, func(c *bus.Consumption) { c.MaxBatch = 60 })
	l.publish("first")
	if n := receive(t, "the first batch", sizes); n != 1 {
		t.Errorf("an idle handler gets %d messages", n)
	}
	l.publish(numbered(80)...) // 60 to fill the queue, and some that wait behind it
	otposttest.Eventually(t, "all to be delivered", func() bool { return l.unsettled() == 81 })
	if err := l.sms.Conn().FlushTimeout(patience); err != nil { // what was delivered has arrived
		t.Fatal(err)
	}
	close(release)
	if n := receive(t, "the second batch", sizes); n != 60 {
		t.Errorf("a batch of %d, want 60, the cap", n)
	}
	for rest := 20; rest > 0; { // in as many batches as the buffer needs to come after
		rest -= receive(t, "the rest", sizes)
	}
	l.emptied()
	if len(sizes) != 0 {
		t.Errorf("%d batches too many", len(sizes))
	}
}

func TestNothingIsAcknowledgedBeforeItIsSettled(t *testing.T) {
	l := newLine(t)
	got := make(chan []*bus.Msg, 1)
	l.consume(func(_ context.Context, batch []*bus.Msg) { got <- batch }) // settles later
	l.publish("a")
	batch := receive(t, "the message", got)
	if n := l.left(bus.StreamWork); n != 1 {
		t.Errorf("%d messages in the stream before it is settled", n)
	}
	batch[0].Settle(bus.Done())
	batch[0].Settle(bus.Dead("too late")) // the first call counts
	l.emptied()
	if n := l.left(bus.StreamDead); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func TestARetryComesBackAfterItsDelay(t *testing.T) {
	l := newLine(t)
	const delay = 400 * time.Millisecond
	type seen struct {
		tries int
		at    time.Time
	}
	got := make(chan seen, 10)
	l.consume(func(_ context.Context, batch []*bus.Msg) {
		for _, m := range batch {
			got <- seen{m.Tries, time.Now()}
			if m.Tries == 1 {
				m.Settle(bus.Retry(delay, "not now"))
				continue
			}
			m.Settle(bus.Drop("done elsewhere"))
		}
	})
	l.publish("a")
	first, second := receive(t, "the first try", got), receive(t, "the second", got)
	if first.tries != 1 || second.tries != 2 || second.at.Sub(first.at) < delay {
		t.Errorf("tries %d and %d, %s apart", first.tries, second.tries, second.at.Sub(first.at))
	}
	l.emptied()
	if n := l.left(bus.StreamDead); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func TestOnePoisonousMessageHarmsNoOther(t *testing.T) {
	l := newLine(t)
	l.publish("1", "2", "poison", "4", "5")
	var handled atomic.Int64
	l.consume(func(_ context.Context, batch []*bus.Msg) {
		for i, m := range batch {
			if string(m.Data) == "poison" {
				panic("cannot digest")
			}
			if i == 0 || len(batch) == 1 { // some are settled before the panic, some after
				handled.Add(1)
				m.Settle(bus.Done())
			}
		}
		for _, m := range batch[1:] {
			handled.Add(1)
			m.Settle(bus.Done())
		}
	})
	l.emptied()
	if handled.Load() != 4 {
		t.Errorf("%d were handled, want each of 4 once", handled.Load())
	}
	letters, n, err := l.operator.DeadLetters(t.Context(), 0, 10)
	if err != nil || n != 1 || string(letters[0].Body) != "poison" || letters[0].Reason != "handling it panicked" {
		t.Errorf("dead are %+v, %v", letters, err)
	}
}

func TestDrainFinishesWhatIsInHandAndTakesNoMore(t *testing.T) {
	l := newLine(t)
	began, release := make(chan struct{}, 10), make(chan struct{})
	var handled atomic.Int64
	var ended atomic.Bool
	stop := l.consume(func(ctx context.Context, batch []*bus.Msg) {
		began <- struct{}{}
		<-release
		if ctx.Err() != nil {
			t.Error("the handler's context ended while it worked")
		}
		handled.Add(int64(len(batch)))
		settleAll(batch, bus.Done())
	})
	l.publish("in hand")
	receive(t, "the handler", began)
	stopped := make(chan struct{})
	go func() { stop(); ended.Store(true); close(stopped) }()
	// the drain has begun when the pull is gone: what is published now stays
	otposttest.Eventually(t, "the pull to end", func() bool {
		c, err := l.operator.JetStream().Consumer(t.Context(), bus.StreamWork, "sms")
		return err == nil && c.CachedInfo().NumWaiting == 0
	})
	l.publish("too late")
	if ended.Load() {
		t.Error("it returned with a message in hand")
	}
	close(release)
	receive(t, "the drain", stopped)
	if handled.Load() != 1 {
		t.Errorf("%d were handled", handled.Load())
	}
	otposttest.Eventually(t, "the acknowledgement", func() bool { return l.left(bus.StreamWork) == 1 })
}

func TestALongHandlerKeepsItsMessage(t *testing.T) {
	l := newLine(t, otposttest.WithStreams(quickAcks))
	var seen atomic.Int64
	entered := make(chan time.Time, 10)
	l.consume(func(_ context.Context, batch []*bus.Msg) {
		seen.Add(int64(len(batch)))
		entered <- time.Now()
		time.Sleep(2500 * time.Millisecond) // the work itself: two and a half times as long as an acknowledgement may take
		settleAll(batch, bus.Done())
	}, func(c *bus.Consumption) { c.Lanes = 2 })
	l.publish("a")
	l.emptied()
	if seen.Load() != 1 {
		t.Errorf("it was delivered %d times while it was worked on", seen.Load())
	}
}

func TestConsumptionSurvivesARestartOfNATS(t *testing.T) {
	l := newLine(t, otposttest.WithStreams(quickAcks))
	var mu sync.Mutex
	seen := map[string]int{}
	l.consume(func(_ context.Context, batch []*bus.Msg) {
		mu.Lock()
		for _, m := range batch {
			seen[string(m.Data)]++
		}
		mu.Unlock()
		settleAll(batch, bus.Done())
	})
	bodies := numbered(300)
	publishSoon := func(b string) {
		otposttest.Eventually(t, "a publish", func() bool {
			return l.challenge.Publish(t.Context(), bus.Out{Subject: "otpost.work.sms", Data: []byte(b), ID: b}) == nil
		})
	}
	for i, b := range bodies {
		if i == 100 {
			l.nats.Restart(t)
		}
		publishSoon(b)
	}
	otposttest.Eventually(t, "every message to be handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == len(bodies)
	})
	otposttest.Eventually(t, "the operator's connection", func() bool { return l.operator.Connected() == nil })
	l.emptied()
}

func TestStoppingWhileNATSIsAwayEnds(t *testing.T) {
	l := newLine(t)
	got := make(chan []*bus.Msg, 1)
	stop := l.consume(func(_ context.Context, batch []*bus.Msg) { got <- batch })
	l.publish("a")
	batch := receive(t, "the message", got)
	l.nats.Stop(t)
	settleAll(batch, bus.Done()) // fails, and must not keep anybody
	stop()
	l.nats.Start(t)
	otposttest.Eventually(t, "the connection", func() bool { return l.operator.Connected() == nil })
	if n := l.left(bus.StreamWork); n != 1 {
		t.Errorf("%d messages, want the one that was not acknowledged", n)
	}
}

func TestConsumeWaitsForItsConsumer(t *testing.T) {
	l := newLine(t, otposttest.WithoutStreams())
	if err := l.sms.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "run otpost migrate") {
		t.Errorf("healthy without a consumer: %v", err)
	}
	got := make(chan string, 10)
	l.consume(func(_ context.Context, batch []*bus.Msg) {
		for _, m := range batch {
			got <- string(m.Data)
			m.Settle(bus.Done())
		}
	})
	declare := func() {
		t.Helper()
		if err := l.operator.Declare(t.Context(), bus.DefaultStreamSettings()); err != nil {
			t.Fatal(err)
		}
	}
	declare()
	l.publish("early")
	receive(t, "a message from a consumer that came late", got)
	if err := l.sms.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.operator.JetStream().DeleteConsumer(t.Context(), bus.StreamWork, "sms"); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Fatal(err)
	}
	declare()
	l.publish("late")
	receive(t, "a message from a consumer that was made anew", got)
}
