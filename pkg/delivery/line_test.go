package delivery_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/telemetry"
)

// carrier is a provider that does what the test says.
type carrier func(ctx context.Context) error

func (carrier) Name() string { return "carrier" }

func (c carrier) Send(ctx context.Context, _ *delivery.Message) (delivery.Accepted, error) {
	return delivery.Accepted{Reference: "ref"}, c(ctx)
}

func takes(context.Context) error { return nil }

func newLine(t testing.TB, c carrier, o delivery.LineOptions) *delivery.Line {
	t.Helper()
	l, err := delivery.NewLine(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// life makes a message that lives so long.
func life(d time.Duration) *delivery.Message { return &delivery.Message{ExpiresAt: time.Now().Add(d)} }

// sent fails the test where the message was not taken.
func sent(t testing.TB, l *delivery.Line, m *delivery.Message) {
	t.Helper()
	if a, err := l.Send(t.Context(), m); err != nil || a.Reference != "ref" {
		t.Fatalf("not taken: %+v, %v", a, err)
	}
}

// withheld fails the test where the line did not refuse the message by itself with the code, and returns when it may come again.
func withheld(t testing.TB, l *delivery.Line, m *delivery.Message, code string) time.Duration {
	t.Helper()
	_, err := l.Send(t.Context(), m)
	e, ok := errors.AsType[*delivery.Error](err)
	if !ok || e.Class != delivery.Transient || e.Code != code || e.RetryAfter <= 0 {
		t.Fatalf("want a message withheld for %s, got %+v", code, err)
	}
	return e.RetryAfter
}

// errOf is an error of a class, as providers make them.
func errOf(c delivery.Class) error { return &delivery.Error{Class: c, Code: "1", Reason: "test"} }

// A provider that fails so often in a row rests; then one message tries it, and the others wait for what comes of that.
func TestLineLetsAFailingProviderRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		var answer atomic.Pointer[error]
		failing := errOf(delivery.Transient)
		answer.Store(&failing)
		hold := make(chan struct{}, 100)
		metrics := telemetry.NewMetrics(telemetry.NewRegistry())
		l := newLine(t, func(context.Context) error {
			asked.Add(1)
			<-hold
			return *answer.Load()
		}, delivery.LineOptions{Breaker: delivery.BreakerOptions{Failures: 3, Open: 30 * time.Second}, Channel: otp.Voice, Metrics: metrics})
		state := func(want delivery.BreakerState) {
			t.Helper()
			gauge := testutil.ToFloat64(metrics.ProviderBreaker.WithLabelValues("voice", "carrier"))
			if got := l.State(); got != want || gauge != float64(want) {
				t.Fatalf("the breaker is %d and the gauge %v, want %d", got, gauge, want)
			}
		}
		for range 3 {
			state(delivery.BreakerClosed)
			hold <- struct{}{}
			if _, err := l.Send(t.Context(), life(time.Minute)); !errors.Is(err, failing) {
				t.Fatal(err)
			}
		}
		state(delivery.BreakerOpen)
		time.Sleep(10 * time.Second)
		if left := withheld(t, l, life(time.Minute), delivery.CodeBreaker); left != 20*time.Second {
			t.Errorf("it wakes in %s, want 20s", left)
		}
		if asked.Load() != 3 {
			t.Fatalf("it was asked %d times, want 3", asked.Load())
		}

		for round, result := range []error{failing, nil} { // the first probe fails, and it rests once more
			time.Sleep(31 * time.Second)
			answer.Store(&result)
			before := asked.Load()
			results := make(chan error, 50)
			for range cap(results) {
				go func() {
					_, err := l.Send(t.Context(), life(time.Minute))
					results <- err
				}()
			}
			synctest.Wait() // one is with the provider, the others have their answer
			if asked.Load() != before+1 {
				t.Fatalf("round %d: %d messages tried the provider, want 1", round, asked.Load()-before)
			}
			state(delivery.BreakerHalfOpen)
			hold <- struct{}{}
			var refused int
			for range cap(results) {
				if e, ok := errors.AsType[*delivery.Error](<-results); ok && e.Code == delivery.CodeBreaker {
					refused++
				}
			}
			if refused != cap(results)-1 {
				t.Errorf("round %d: %d messages were withheld, want %d", round, refused, cap(results)-1)
			}
			if want := map[bool]delivery.BreakerState{true: delivery.BreakerClosed, false: delivery.BreakerOpen}[result == nil]; l.State() != want {
				t.Fatalf("round %d: the breaker is %d, want %d", round, l.State(), want)
			}
		}
		state(delivery.BreakerClosed)
		if n := testutil.ToFloat64(metrics.ProviderWithheld.WithLabelValues("voice", "carrier", delivery.CodeBreaker)); n != 1+2*49 {
			t.Errorf("%v messages were counted as withheld, want 99", n)
		}
	})
}

// What counts as a failure of the provider, and what does not.
func TestLineJudgesAProvider(t *testing.T) {
	slow := func(ctx context.Context) error {
		<-ctx.Done()
		return &delivery.Error{Class: delivery.Ambiguous, Reason: "timed out", Err: ctx.Err()}
	}
	always := func(err error) carrier { return func(context.Context) error { return err } }
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name    string
		carrier carrier
		ctx     context.Context
		within  time.Duration // that the caller gives it; 0: as long as it takes
		rests   bool
	}{
		{name: "accepted", carrier: takes},
		{name: "transient", carrier: always(errOf(delivery.Transient)), rests: true},
		{name: "ambiguous", carrier: always(errOf(delivery.Ambiguous)), rests: true},
		{name: "configuration", carrier: always(errOf(delivery.Configuration)), rests: true},
		{name: "of no class", carrier: always(errors.New("odd")), rests: true},
		{name: "permanent", carrier: always(errOf(delivery.Permanent))},
		{name: "rejected", carrier: always(errOf(delivery.Rejected))},
		{name: "its own time-out", carrier: slow, rests: true},
		{name: "its own time-out, just before the caller's", carrier: slow, within: 2001 * time.Millisecond, rests: true},
		{name: "a message that had little time left", carrier: slow, within: 500 * time.Millisecond},
		{name: "a worker that stops", carrier: slow, ctx: gone},
		{name: "a failure told at once, although the worker stops", carrier: always(errOf(delivery.Configuration)), ctx: gone},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLine(t, c.carrier, delivery.LineOptions{Timeout: 2 * time.Second, Breaker: delivery.BreakerOptions{Failures: 2}})
				for range 5 {
					ctx, stop := t.Context(), context.CancelFunc(func() {})
					if c.ctx != nil {
						ctx = c.ctx
					}
					if c.within > 0 {
						ctx, stop = context.WithTimeout(ctx, c.within)
					}
					_, _ = l.Send(ctx, life(time.Hour))
					stop()
				}
				if got := l.State() == delivery.BreakerOpen; got != c.rests {
					t.Errorf("the provider rests: %t, want %t", got, c.rests)
				}
			})
		})
	}
}

// An answer between failures shows that the provider works: only failures in a row count.
func TestLineCountsFailuresInARow(t *testing.T) {
	n := 0
	l := newLine(t, func(context.Context) error {
		if n++; n%3 == 0 {
			return errOf(delivery.Rejected)
		}
		return errOf(delivery.Transient)
	}, delivery.LineOptions{Breaker: delivery.BreakerOptions{Failures: 3}})
	for range 30 {
		_, _ = l.Send(t.Context(), life(time.Minute))
	}
	if l.State() != delivery.BreakerClosed || n != 30 {
		t.Errorf("the breaker is %d after %d messages", l.State(), n)
	}
}

// A burst goes out at once and then the rate holds, by the clock that was handed in; what is refused costs no turn.
func TestLineHoldsTheRate(t *testing.T) {
	clock := otposttest.NewClock()
	metrics := telemetry.NewMetrics(telemetry.NewRegistry())
	l := newLine(t, takes, delivery.LineOptions{Rate: 0.5, Burst: 3, Channel: otp.SMS, Metrics: metrics, Now: clock.Now})
	message := func() *delivery.Message { return &delivery.Message{ExpiresAt: clock.Now().Add(5 * time.Minute)} }
	for range 3 {
		sent(t, l, message())
	}
	for range 10 {
		if wait := withheld(t, l, message(), delivery.CodeRate); wait != 2*time.Second {
			t.Errorf("the next turn is in %s, want 2s", wait)
		}
	}
	clock.Advance(2 * time.Second)
	sent(t, l, message())
	if wait := withheld(t, l, message(), delivery.CodeRate); wait != 2*time.Second {
		t.Errorf("the next turn is in %s, want 2s", wait)
	}
	clock.Advance(time.Hour)
	for range 3 {
		sent(t, l, message())
	}
	withheld(t, l, message(), delivery.CodeRate)
	if n := testutil.ToFloat64(metrics.ProviderWithheld.WithLabelValues("sms", "carrier", delivery.CodeRate)); n != 12 {
		t.Errorf("%v messages were counted as withheld, want 12", n)
	}
}

// A message waits for its turn for a second at most, and for a tenth of its life.
func TestLineWaitsALittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, takes, delivery.LineOptions{Rate: 2, Burst: 1})
		began := time.Now()
		for i, m := range []*delivery.Message{life(time.Hour), life(time.Hour), {}} { // the last has no end
			sent(t, l, m)
			if took := time.Since(began); took != time.Duration(i)*500*time.Millisecond {
				t.Errorf("message %d went after %s", i, took)
			}
		}
		withheld(t, l, life(4*time.Second), delivery.CodeRate) // would wait for half a second
		if took := time.Since(began); took != time.Second {
			t.Errorf("it was withheld after %s, not at once", took-time.Second)
		}
		sent(t, l, life(6*time.Second))

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := l.Send(ctx, life(time.Hour))
		if e, ok := errors.AsType[*delivery.Error](err); !ok || e.Class != delivery.Transient || !errors.Is(err, context.Canceled) {
			t.Errorf("stopped while it waited: %v", err)
		}
		stopped := time.Now()
		sent(t, l, life(time.Hour))
		if took := time.Since(stopped); took != 400*time.Millisecond {
			t.Errorf("the next went after %s, want 400ms: the turn of who left is free again", took)
		}
	})
}

// Never more than so many are with the provider, and who finds no slot in time goes elsewhere.
func TestLineHoldsTheConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		l := newLine(t, func(context.Context) error {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(300 * time.Millisecond)
			now.Add(-1)
			return nil
		}, delivery.LineOptions{Concurrency: 4})
		var done sync.WaitGroup
		var taken, refused atomic.Int32
		for range 40 {
			done.Go(func() {
				_, err := l.Send(t.Context(), life(time.Minute))
				switch e, ok := errors.AsType[*delivery.Error](err); {
				case err == nil:
					taken.Add(1)
				case ok && e.Class == delivery.Transient && e.Code == delivery.CodeRate && e.RetryAfter > 0:
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		done.Wait()
		if most.Load() != 4 || taken.Load() != 16 || refused.Load() != 24 { // four at 0, 0.3, 0.6 and 0.9 s
			t.Errorf("%d at once, %d taken, %d withheld; want 4, 16, 24", most.Load(), taken.Load(), refused.Load())
		}
		for range 4 { // every slot is free again
			done.Go(func() { sent(t, l, life(time.Minute)) })
		}
		done.Wait()
	})
}

// A provider that panics gives its slot back, and fails.
func TestLineOutlivesAPanic(t *testing.T) {
	l := newLine(t, func(context.Context) error { panic("odd") }, delivery.LineOptions{Concurrency: 1, Breaker: delivery.BreakerOptions{Failures: 3}})
	for range 3 {
		func() {
			defer func() { _ = recover() }()
			_, err := l.Send(t.Context(), life(time.Minute))
			t.Errorf("no panic but %v", err)
		}()
	}
	withheld(t, l, life(time.Minute), delivery.CodeBreaker)
}

// What nobody could use any more goes to no provider and tells nothing of one.
func TestLineKeepsWhatIsAboutToExpire(t *testing.T) {
	l := newLine(t, func(context.Context) error { t.Error("it was sent"); return nil }, delivery.LineOptions{})
	_, err := l.Send(t.Context(), life(900*time.Millisecond))
	if e, ok := errors.AsType[*delivery.Error](err); !ok || e.Class != delivery.Rejected {
		t.Errorf("want a rejection, got %v", err)
	}
}

// Any number of messages with any answers leave the line as it was: no slot is lost, and the breaker still opens and closes. For the race detector.
func TestLineUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n, inHand atomic.Int32
		var healthy atomic.Bool
		l := newLine(t, func(ctx context.Context) error {
			if inHand.Add(1) > 8 {
				t.Error("more than eight at once")
			}
			defer inHand.Add(-1)
			i := n.Add(1)
			time.Sleep(time.Duration(i%7) * time.Millisecond)
			if healthy.Load() {
				return nil
			}
			return errOf(delivery.Class(i % 5))
		}, delivery.LineOptions{Rate: 1000, Concurrency: 8, Timeout: time.Second, Breaker: delivery.BreakerOptions{Failures: 2, Open: time.Second}})
		var done sync.WaitGroup
		for range 32 {
			done.Go(func() {
				for range 100 {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
					_, _ = l.Send(ctx, life(time.Minute))
					cancel()
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		done.Wait()
		healthy.Store(true)
		time.Sleep(2 * time.Second)
		for range 20 {
			sent(t, l, life(time.Minute))
		}
		if l.State() != delivery.BreakerClosed || inHand.Load() != 0 {
			t.Errorf("the breaker is %d with %d in hand", l.State(), inHand.Load())
		}
	})
}

func TestLineOptions(t *testing.T) {
	breaker := func(failures int, open time.Duration) delivery.LineOptions {
		return delivery.LineOptions{Breaker: delivery.BreakerOptions{Failures: failures, Open: open}}
	}
	for want, o := range map[string]delivery.LineOptions{
		"Rate: must be 0.01 to 10000 messages a second, or 0 for any number, not -1":    {Rate: -1},
		"Rate: must be 0.01 to 10000 messages a second, or 0 for any number, not 10001": {Rate: 10001},
		"Burst: needs a Rate":                                           {Burst: 3},
		"Burst: must be 1 to 100000 messages, not -3":                   {Rate: 1, Burst: -3},
		"Concurrency: must be 1 to 4096, or 0 for any number, not 4097": {Concurrency: 4097},
		"Timeout: must be 100ms to 1m, not 2m0s":                        {Timeout: 2 * time.Minute},
		"Failures: must be 1 to 1000, or 0 for no breaker, not -1":      breaker(-1, 0),
		"Open: needs Failures":                                          breaker(0, time.Second),
		"Open: must be 1s to 1h, not 1ms":                               breaker(5, time.Millisecond),
	} {
		if _, err := delivery.NewLine(carrier(takes), o); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	l := newLine(t, takes, delivery.LineOptions{Rate: 0.01})
	if l.Name() != "carrier" || l.Longest() != 11*time.Second || l.State() != delivery.BreakerClosed {
		t.Errorf("%s takes %s", l.Name(), l.Longest())
	}
	sent(t, l, &delivery.Message{})
	if wait := withheld(t, l, &delivery.Message{}, delivery.CodeRate); wait.Round(time.Second) != 100*time.Second {
		t.Errorf("the next turn of a rate of 0.01 is in %s", wait)
	}
}

// What a line adds to a hand-over: 6 allocations, most of them the time-out's, and a few microseconds.
func BenchmarkLine(b *testing.B) {
	now := time.Now()
	l := newLine(b, takes, delivery.LineOptions{
		Rate: 10_000, Concurrency: 64, Breaker: delivery.BreakerOptions{Failures: 5}, Channel: otp.SMS,
		Metrics: telemetry.NewMetrics(telemetry.NewRegistry()),
		Now: func() time.Time {
			now = now.Add(time.Second)
			return now
		},
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Send(b.Context(), &delivery.Message{}); err != nil {
			b.Fatal(err)
		}
	}
}
