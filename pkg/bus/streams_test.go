package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otposttest"
)

func appStream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestOneAppCannotFillTheQueueOfAll(t *testing.T) {
	t.Parallel()
	const most = 25
	n := otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithApps("demo", "other"), otposttest.WithStreams(func(s *bus.StreamSettings) { s.PerApp = most }))
	flooder, other := appStream(t, n.App(t, "demo")), appStream(t, n.App(t, "other"))
	for i := range most {
		if _, err := flooder.Publish(t.Context(), "otpost.app.demo.login", fmt.Append(nil, i)); err != nil {
			t.Fatalf("login %d: %v", i, err)
		}
	}
	_, err := flooder.Publish(t.Context(), "otpost.app.demo.login", []byte("too many"))
	if e, ok := errors.AsType[*jetstream.APIError](err); !ok || !strings.Contains(e.Description, "maximum messages per subject exceeded") {
		t.Errorf("one more is answered %v", err)
	}
	if _, err := other.Publish(t.Context(), "otpost.app.other.login", []byte("a login")); err != nil {
		t.Errorf("the other app: %v", err)
	}
	s, err := n.Bus(t, bus.RoleOperator).JetStream().Stream(t.Context(), bus.StreamLogins)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != most+1 {
		t.Errorf("the stream holds %d logins, want %d: none was dropped for another", n, most+1)
	}
	// one that is worked off makes room
	if err := s.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := flooder.Publish(t.Context(), "otpost.app.demo.login", nil); err != nil {
		t.Errorf("after one was worked off: %v", err)
	}
}

func TestAnAppCannotHideTheLoginsOfAnotherByNamingTheirIDs(t *testing.T) {
	t.Parallel()
	n := otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithApps("demo", "other"))
	attacker, victim := appStream(t, n.App(t, "demo")), appStream(t, n.App(t, "other"))
	if _, err := attacker.Publish(t.Context(), "otpost.app.demo.login", nil, jetstream.WithMsgID("login-42")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	otposttest.Eventually(t, "the victim's login to be taken", func() bool {
		ack, err := victim.Publish(t.Context(), "otpost.app.other.login", nil, jetstream.WithMsgID("login-42"))
		if err != nil {
			t.Fatal(err)
		}
		return !ack.Duplicate
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("an id that another app used was hidden for %s", took)
	}
}

// A signal must not be lost, nor may one app keep those of others out.
func TestSignalsOfOneAppCannotFillTheQueueOfAll(t *testing.T) {
	t.Parallel()
	const most = 3
	n := otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithApps("demo", "other"), otposttest.WithStreams(func(s *bus.StreamSettings) { s.PerApp = most }))
	flooder, other := appStream(t, n.App(t, "demo")), appStream(t, n.App(t, "other"))
	names := []string{"password.changed", "session.signed_out", "device.erased", "user.deleted"}
	for _, name := range names {
		for i := range most {
			if _, err := flooder.Publish(t.Context(), "otpost.app.demo.signal."+name, fmt.Append(nil, i)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		_, err := flooder.Publish(t.Context(), "otpost.app.demo.signal."+name, []byte("too many"))
		if e, ok := errors.AsType[*jetstream.APIError](err); !ok || !strings.Contains(e.Description, "maximum messages per subject exceeded") {
			t.Errorf("one more %s is answered %v", name, err)
		}
		if _, err := other.Publish(t.Context(), "otpost.app.other.signal."+name, nil); err != nil {
			t.Errorf("the other app's %s: %v", name, err)
		}
	}
	for _, made := range []string{"made.up", "user", "user.deleted.1"} {
		if _, err := flooder.Publish(t.Context(), "otpost.app.demo.signal."+made, nil, jetstream.WithRetryAttempts(0)); !errors.Is(err, jetstream.ErrNoStreamResponse) {
			t.Errorf("a signal %s is answered %v", made, err)
		}
	}
	s, err := n.Bus(t, bus.RoleOperator).JetStream().Stream(t.Context(), bus.StreamSignals)
	if err != nil {
		t.Fatal(err)
	}
	info := s.CachedInfo()
	if want := uint64(len(names) * (most + 1)); info.State.Msgs != want {
		t.Errorf("the stream holds %d signals, want %d", info.State.Msgs, want)
	}
	if d := bus.DefaultStreamSettings(); info.Config.MaxAge != d.EventsAge || info.Config.Retention != jetstream.WorkQueuePolicy {
		t.Errorf("signals wait for %s, want %s", info.Config.MaxAge, d.EventsAge)
	}
}

func TestDeclaringAgainLosesNothing(t *testing.T) {
	l := newLine(t)
	l.publish("a")
	s := bus.DefaultStreamSettings()
	s.MaxBytes, s.EventsAge, s.AckWait, s.PerApp = 64<<20, 48*time.Hour, 7*time.Second, 9
	if err := l.operator.Declare(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if n := l.left(bus.StreamWork); n != 1 {
		t.Errorf("%d messages after it", n)
	}
	js := l.operator.JetStream()
	events, err := js.Stream(t.Context(), bus.StreamEvents)
	if err != nil || events.CachedInfo().Config.MaxAge != s.EventsAge || events.CachedInfo().Config.MaxBytes != s.MaxBytes {
		t.Errorf("the events' stream is not brought to the settings (%v)", err)
	}
	c, err := js.Consumer(t.Context(), bus.StreamWork, "sms")
	if err != nil || c.CachedInfo().Config.AckWait != s.AckWait {
		t.Errorf("the consumer is not brought to the settings (%v)", err)
	}
	if err := l.operator.DeclareApp(t.Context(), "no app", 1); err == nil {
		t.Error("a consumer for what is no app's name")
	}
}

func TestStreamSettingsCheck(t *testing.T) {
	for name, change := range map[string]func(*bus.StreamSettings){
		"stream-replicas":       func(s *bus.StreamSettings) { s.Replicas = 2 },
		"stream-work-age":       func(s *bus.StreamSettings) { s.WorkMaxAge = time.Minute },
		"stream-events-age":     func(s *bus.StreamSettings) { s.EventsAge = time.Minute },
		"stream-dead-age":       func(s *bus.StreamSettings) { s.DeadAge = time.Hour },
		"stream-max-bytes":      func(s *bus.StreamSettings) { s.MaxBytes = 1 },
		"ack-wait":              func(s *bus.StreamSettings) { s.AckWait = time.Millisecond },
		"stream-duplicates":     func(s *bus.StreamSettings) { s.Duplicates = s.AckWait - 1 },
		"stream-logins-per-app": func(s *bus.StreamSettings) { s.PerApp = 0 },
		"max-in-hand":           func(s *bus.StreamSettings) { s.MaxInHand = 0 },
	} {
		s := bus.DefaultStreamSettings()
		change(&s)
		if err := s.Check(); err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := bus.DefaultStreamSettings().Check(); err != nil {
		t.Error(err)
	}
}
