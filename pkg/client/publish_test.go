package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/client"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

func TestPublishLogin(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	c := s.connect(t, client.WithSource("https://shop.example"))
	id, err := c.PublishLogin(t.Context(), client.Login{
		ID: "login-1", User: "u-42", Session: "s-1", Channel: client.KindSMS, To: client.To{SMS: "+14155550100", Email: "user@example.com"}, Locale: "cs",
		Origin: client.Origin{IP: "203.0.113.7", UserAgent: "Firefox"}, Device: "token", Transaction: client.Transaction{Amount: "39.99 EUR", Payee: "Shop"},
	})
	if err != nil || id != "login-1" {
		t.Fatalf("%q, %v", id, err)
	}
	got, p := event.ParseLogin("demo", s.stored(t, bus.StreamLogins, event.LoginSubject("demo")), time.Now())
	if p != nil {
		t.Fatal(p)
	}
	want := event.Login{
		App: "demo", ID: "login-1", Time: got.Time, Phone: "+14155550100", Mail: "user@example.com",
		LoginData: event.LoginData{
			User: "u-42", Session: "s-1", Channel: "sms", To: &event.To{SMS: "+14155550100", Email: "user@example.com"}, Locale: "cs",
			Client: &event.Client{IP: "203.0.113.7", UserAgent: "Firefox"}, Device: "token",
			Transaction: &client.Transaction{Amount: "39.99 EUR", Payee: "Shop"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	made, err := c.PublishLogin(t.Context(), client.Login{User: "u-42", Session: "s-1"})
	if parsed, bad := uuid.Parse(made); err != nil || bad != nil || parsed.Version() != 7 {
		t.Errorf("the id that is made is %q, %v", made, err)
	}
	if got, p := event.ParseLogin("demo", s.stored(t, bus.StreamLogins, event.LoginSubject("demo")), time.Now()); p != nil || got.ID != made || got.To != nil {
		t.Errorf("with an id that is made: %+v, %v", got, p)
	}
}

func TestWhatIsWrongIsNotPublished(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	c := s.connect(t)
	for name, publish := range map[string]func() error{
		"no user": func() error { _, err := c.PublishLogin(t.Context(), client.Login{Session: "s"}); return err },
		"no phone number": func() error {
			_, err := c.PublishLogin(t.Context(), client.Login{User: "u", Session: "s", To: client.To{SMS: "+1"}})
			return err
		},
		"no UTF-8": func() error {
			_, err := c.PublishLogin(t.Context(), client.Login{User: "\xff", Session: "s"})
			return err
		},
		"signal of no user":  func() error { return c.UserDeleted(t.Context(), "") },
		"device by no id":    func() error { return c.DeviceErased(t.Context(), "u", "a token") },
		"a session of lines": func() error { return c.SignedOut(t.Context(), "u", "a\nb") },
	} {
		if err := publish(); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	js := s.operator(t)
	for _, stream := range []string{bus.StreamLogins, bus.StreamSignals} {
		str, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if n := str.CachedInfo().State.LastSeq; n != 0 {
			t.Errorf("%s got %d messages", stream, n)
		}
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	c := s.connect(t)
	const device = "0193503c-7a80-7c1e-9d2a-3f1be2a45c07"
	for _, tc := range []struct {
		name event.SignalName
		send func(context.Context) error
		want event.SignalData
	}{
		{event.PasswordChanged, func(x context.Context) error { return c.PasswordChanged(x, "u-1") }, event.SignalData{User: "u-1"}},
		{event.SessionSignedOut, func(x context.Context) error { return c.SignedOut(x, "u-2", "s-2") }, event.SignalData{User: "u-2", Session: "s-2"}},
		{event.SessionSignedOut, func(x context.Context) error { return c.SignedOut(x, "u-3", "") }, event.SignalData{User: "u-3"}},
		{event.DeviceErased, func(x context.Context) error { return c.DeviceErased(x, "u-4", device) }, event.SignalData{User: "u-4", Device: device}},
		{event.DeviceErased, func(x context.Context) error { return c.DeviceErased(x, "u-5", "") }, event.SignalData{User: "u-5"}},
		{event.UserDeleted, func(x context.Context) error { return c.UserDeleted(x, "u-6") }, event.SignalData{User: "u-6"}},
	} {
		if err := tc.send(t.Context()); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got, p := event.ParseSignal("demo", tc.name, s.stored(t, bus.StreamSignals, event.SignalSubject("demo", tc.name)))
		if p != nil || got.SignalData != tc.want || time.Since(got.Time).Abs() > time.Minute {
			t.Errorf("%s is published as %+v, %v", tc.name, got, p)
		}
	}
}

// A stream that takes no more says so at once, and the app hears that it may come back.
func TestAFullStream(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil, otposttest.WithStreams(func(s *bus.StreamSettings) { s.PerApp = 1 }))
	c := s.connect(t)
	if _, err := c.PublishLogin(t.Context(), client.Login{User: "u", Session: "s"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.PublishLogin(t.Context(), client.Login{User: "u", Session: "s"})
	if e, ok := errors.AsType[*client.Error](err); !ok || !errors.Is(err, client.ErrUnavailable) || e.RetryAfter == 0 {
		t.Errorf("a full stream: %v", err)
	}
}

func TestNoStream(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil, otposttest.WithoutStreams())
	c := s.connect(t, client.WithTimeout(time.Second))
	if err := c.PasswordChanged(t.Context(), "u"); !errors.Is(err, client.ErrUnavailable) && !errors.Is(err, client.ErrNoAnswer) {
		t.Errorf("no stream: %v", err)
	}
}
