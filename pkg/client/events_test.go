package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/client"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

// tell publishes an event to the app.
func tell(t *testing.T, js jetstream.JetStream, id string, name event.Name, data any) {
	t.Helper()
	e := event.Event{App: "demo", Name: name, ID: id, Subject: "c-1", Time: time.Now(), Data: data}
	if _, err := js.Publish(t.Context(), event.EventSubject("demo", name), e.Encode()); err != nil {
		t.Fatal(err)
	}
}

// hear runs Events until stop, which returns what it returned, or the test's end.
func hear(t *testing.T, c *client.Client, handle func(context.Context, client.Event) error) (stop func() error) {
	t.Helper()
	x, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Events(x, handle) }()
	stop = func() error {
		cancel()
		err := next(t, done)
		done <- err
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func next[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(otposttest.Patience):
		t.Fatalf("waited %s in vain for a %T", otposttest.Patience, v)
	}
	return v
}

// pending is how many events the app has not handled.
func pending(t *testing.T, js jetstream.JetStream) int {
	t.Helper()
	cons, err := js.Consumer(t.Context(), bus.StreamEvents, "demo")
	if err != nil {
		t.Fatal(err)
	}
	return int(cons.CachedInfo().NumPending) + cons.CachedInfo().NumAckPending
}

func TestEventsAreHandledOnceAndRemembered(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	for i := range 5 { // before anybody listens
		tell(t, js, fmt.Sprint(i), event.ChallengeFailed, event.Failed{AttemptsLeft: i})
	}
	got := make(chan client.Event, 100)
	handle := func(_ context.Context, e client.Event) error {
		got <- e
		return nil
	}
	stop := hear(t, s.connect(t), handle)
	for i := range 5 {
		e := next(t, got)
		if d, ok := e.Data.(client.ChallengeFailed); !ok || e.ID != fmt.Sprint(i) || d.AttemptsLeft != i || e.Tries != 1 {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	otposttest.Eventually(t, "all to be settled", func() bool { return pending(t, js) == 0 })
	if err := stop(); err != nil {
		t.Errorf("Events ended with %v", err)
	}
	hear(t, s.connect(t), handle)
	tell(t, js, "later", "challenge.invented", map[string]any{"new": true})
	if e := next(t, got); e.ID != "later" || e.Name != "challenge.invented" || e.Data != nil || string(e.Raw) != `{"new":true}` {
		t.Errorf("an event of a later release is %+v", e)
	}
}

// What cannot be read comes as it is, and holds up nobody.
func TestEventsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	for _, text := range []string{`no JSON`, `{"id":"e","time":"2026-11-21T17:00:00Z","data":{"attempts_left":"many"}}`} {
		if _, err := js.Publish(t.Context(), event.EventSubject("demo", event.ChallengeFailed), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan client.Event, 10)
	hear(t, s.connect(t), func(_ context.Context, e client.Event) error {
		got <- e
		return nil
	})
	if e := next(t, got); e.Name != event.ChallengeFailed || e.Data != nil || string(e.Raw) != "no JSON" || e.ID != "" {
		t.Errorf("what is no JSON: %+v", e)
	}
	if e := next(t, got); e.ID != "e" || e.Data != nil || string(e.Raw) != `{"attempts_left":"many"}` {
		t.Errorf("data of another form: %+v", e)
	}
}

func TestAnEventThatFailsComesAgain(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	tell(t, js, "bad", event.ChallengeEnded, event.Ended{Reason: "expired"})
	tell(t, js, "good", event.ChallengeEnded, event.Ended{Reason: "expired"})
	got := make(chan client.Event, 10)
	hear(t, s.connect(t), func(_ context.Context, e client.Event) error {
		got <- e
		if e.ID == "bad" && e.Tries == 1 {
			return errors.New("the app's database is away")
		}
		return nil
	})
	began := time.Now()
	for i, want := range []string{"bad", "good", "bad"} {
		if e := next(t, got); e.ID != want || e.Tries != 1+i/2 {
			t.Errorf("number %d is %s, delivered %d times", i, e.ID, e.Tries)
		}
	}
	if waited := time.Since(began); waited < 900*time.Millisecond {
		t.Errorf("it came again after %s", waited)
	}
	otposttest.Eventually(t, "all to be settled", func() bool { return pending(t, js) == 0 })
}

// An event that takes longer than the server waits for a sign of life is given such signs, and does not come a second time meanwhile.
func TestASlowHandlerKeepsItsEvent(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	cons, err := js.Consumer(t.Context(), bus.StreamEvents, "demo")
	if err != nil {
		t.Fatal(err)
	}
	cfg := cons.CachedInfo().Config
	cfg.AckWait = 300 * time.Millisecond
	if _, err := js.UpdateConsumer(t.Context(), bus.StreamEvents, cfg); err != nil {
		t.Fatal(err)
	}
	tell(t, js, "slow", event.ChallengeEnded, event.Ended{Reason: "expired"})
	got := make(chan int, 10)
	for range 2 { // the second would take it
		hear(t, s.connect(t), func(x context.Context, e client.Event) error {
			got <- e.Tries
			select { // the time that it takes is what is tested
			case <-x.Done():
			case <-time.After(4 * cfg.AckWait):
			}
			return nil
		})
	}
	if tries := next(t, got); tries != 1 {
		t.Errorf("the first delivery is number %d", tries)
	}
	otposttest.Eventually(t, "it to be settled", func() bool { return pending(t, js) == 0 })
	if len(got) > 0 {
		t.Errorf("it came again, as number %d", <-got)
	}
}

// Who stops in the middle of an event gives it back at once.
func TestWhoStopsGivesBack(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	tell(t, s.operator(t), "e", event.ChallengeEnded, event.Ended{Reason: "expired"})
	begun := make(chan client.Event, 1)
	stop := hear(t, s.connect(t), func(x context.Context, e client.Event) error {
		begun <- e
		<-x.Done()
		return x.Err()
	})
	next(t, begun)
	if err := stop(); err != nil {
		t.Errorf("Events ended with %v", err)
	}
	got := make(chan client.Event, 1)
	began := time.Now()
	hear(t, s.connect(t), func(_ context.Context, e client.Event) error {
		got <- e
		return nil
	})
	if e := next(t, got); e.ID != "e" || e.Tries != 2 || time.Since(began) > bus.AckWait/2 {
		t.Errorf("%s came as number %d after %s", e.ID, e.Tries, time.Since(began))
	}
}

// What comes to one who has just stopped goes to another at once, and not when the server gives up waiting.
func TestWhatComesToTheStoppedIsGivenBack(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	x, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	c := s.connect(t)
	go func() {
		ended <- c.Events(x, func(context.Context, client.Event) error { return errors.New("an event was handled after the end") })
	}()
	pulls(t, js)
	cancel()
	tell(t, js, "e", event.ChallengeEnded, event.Ended{Reason: "expired"})
	if err := next(t, ended); err != nil {
		t.Errorf("Events ended with %v", err)
	}
	got := make(chan client.Event, 1)
	began := time.Now()
	hear(t, s.connect(t), func(_ context.Context, e client.Event) error {
		got <- e
		return nil
	})
	if e := next(t, got); e.ID != "e" || time.Since(began) > bus.AckWait/2 {
		t.Errorf("%s came as number %d after %s", e.ID, e.Tries, time.Since(began))
	}
}

// pulls waits until somebody asks for events.
func pulls(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	otposttest.Eventually(t, "somebody to ask for events", func() bool {
		cons, err := js.Consumer(t.Context(), bus.StreamEvents, "demo")
		return err == nil && cons.CachedInfo().NumWaiting > 0
	})
}

func TestEventsSurviveARestart(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	got := make(chan string, 10)
	hear(t, s.connect(t), func(_ context.Context, e client.Event) error {
		got <- e.ID
		return nil
	})
	tell(t, js, "before", event.ChallengeEnded, event.Ended{Reason: "expired"})
	if id := next(t, got); id != "before" {
		t.Errorf("the first is %s", id)
	}
	otposttest.Eventually(t, "it to be settled", func() bool { return pending(t, js) == 0 })
	s.Restart(t)
	otposttest.Eventually(t, "the operator to be back", func() bool {
		_, err := js.AccountInfo(t.Context())
		return err == nil
	})
	tell(t, js, "after", event.ChallengeEnded, event.Ended{Reason: "expired"})
	if id := next(t, got); id != "after" {
		t.Errorf("the next is %s", id)
	}
}

func TestEventsEndWhereThereIsNothingToRead(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	never := func(context.Context, client.Event) error { return errors.New("an event came") }

	closed := make(chan error, 1)
	c := s.connect(t)
	go func() { closed <- c.Events(context.Background(), never) }()
	pulls(t, js)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := next(t, closed); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("after Close: %v", err)
	}

	gone := make(chan error, 1)
	c = s.connect(t)
	go func() { gone <- c.Events(context.Background(), never) }()
	pulls(t, js)
	if err := js.DeleteConsumer(t.Context(), bus.StreamEvents, "demo"); err != nil {
		t.Fatal(err)
	}
	if err := next(t, gone); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("without its consumer: %v", err)
	}
	if err := c.Events(t.Context(), never); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("begun without its consumer: %v", err)
	}
}
