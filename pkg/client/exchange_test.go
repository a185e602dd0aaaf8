package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/client"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge})
	c := s.connect(t, client.WithTries(1))
	for sentinel, code := range sentinels {
		s.answers(func(_ string, r *bus.Request) {
			r.Fail(&otp.Problem{Reason: code, Message: "user must\nnot be empty", RetryAfter: 1500 * time.Millisecond})
		})
		_, err := c.Resend(t.Context(), client.Resend{Challenge: "c", Session: "s"})
		e, ok := errors.AsType[*client.Error](err)
		if !ok || !errors.Is(err, sentinel) || e.Code != code || e.Message != "user must\nnot be empty" || e.RetryAfter != 2*time.Second {
			t.Errorf("%s comes as %+v", code, err)
		}
		if want := "resend: " + string(code) + ": user must\nnot be empty"; err == nil || err.Error() != want {
			t.Errorf("%s reads %q", code, err)
		}
		for other := range sentinels {
			if other != sentinel && errors.Is(err, other) {
				t.Errorf("%s is also %v", code, other)
			}
		}
	}
}

func TestRepliesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge})
	c := s.connect(t)
	s.answers(func(_ string, r *bus.Request) { r.Reply([]byte(`{"outcome":7}`)) })
	if _, err := c.Login(t.Context(), client.Login{User: "u", Session: "s"}); err == nil || !strings.HasPrefix(err.Error(), "login: read the reply: ") {
		t.Errorf("a reply of another form: %v", err)
	}
	s.answers(func(_ string, r *bus.Request) {
		r.Reply([]byte(`{"outcome":"issued","challenge":"c","a_later_field":{"a":[1]},"methods":["carrier_pigeon"]}`))
	})
	got, err := c.Login(t.Context(), client.Login{User: "u", Session: "s"})
	if err != nil || got.Outcome != client.Issued || got.Methods[0] != "carrier_pigeon" {
		t.Errorf("what a later release adds: %+v, %v", got, err)
	}
}

func TestRequestsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge})
	s.answers(func(_ string, r *bus.Request) { t.Errorf("%s was sent", r.Data) })
	c := s.connect(t)
	_, err := c.Login(t.Context(), client.Login{User: "u\xff", Session: "s"})
	if !errors.Is(err, client.ErrInvalid) || strings.Contains(err.Error(), "\xff") {
		t.Errorf("a text that is no UTF-8: %v", err)
	}
	if _, err = c.Verify(t.Context(), client.Verify{Challenge: "c", Session: "s", Credential: json.RawMessage(`{"a":`)}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("a credential that is no JSON: %v", err)
	}
}

// asked counts what a stand is asked, and remembers it.
type asked struct {
	mu     sync.Mutex
	bodies []string
}

func (a *asked) add(r *bus.Request) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bodies = append(a.bodies, string(r.Data))
	return len(a.bodies)
}

func (a *asked) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.bodies...)
}

// An unanswered request is sent again where it has an id, and each time with the same one.
func TestLostRepliesAreAskedForAgain(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge, bus.RoleVerification})
	c := s.connect(t, client.WithTimeout(3*time.Second))
	for name, ask := range map[string]func() error{
		"login": func() error {
			_, err := c.Login(t.Context(), client.Login{User: "u", Session: "s"})
			return err
		},
		"verify": func() error {
			v, err := c.Verify(t.Context(), client.Verify{Challenge: "c", Session: "s", Code: "123456"})
			if v.Result != client.Verified {
				t.Errorf("the verdict is %q", v.Result)
			}
			return err
		},
	} {
		var seen asked
		s.answers(func(_ string, r *bus.Request) {
			if seen.add(r) == 2 {
				r.Reply([]byte(`{"outcome":"issued","result":"verified"}`))
			}
		})
		if err := ask(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var ids [2]struct{ ID, Request string }
		for i, body := range seen.all() {
			if err := json.Unmarshal([]byte(body), &ids[i]); err != nil {
				t.Fatal(err)
			}
		}
		if ids[0] != ids[1] || len(ids[0].ID+ids[0].Request) != 36 {
			t.Errorf("%s was sent as %q", name, seen.all())
		}
	}
}

// What would do something else the second time is sent once, whatever becomes of it.
func TestActsAreNotRepeated(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge, bus.RoleEnrolment})
	c := s.connect(t, client.WithTimeout(300*time.Millisecond))
	for name, act := range map[string]func() error{
		"factor.begin": func() error {
			_, err := c.BeginFactor(t.Context(), client.BeginFactor{User: "u", Session: "s", Kind: client.KindTOTP})
			return err
		},
		"device.renew": func() error {
			_, err := c.RenewDevice(t.Context(), client.RenewDevice{User: "u", Session: "s", Device: "token"})
			return err
		},
		"recovery.prove": func() error {
			_, err := c.ProveRecovery(t.Context(), client.ProveRecovery{Recovery: "r", Session: "s", Method: client.MethodEmail, Code: "1"})
			return err
		},
	} {
		var seen asked
		s.answers(func(_ string, r *bus.Request) { seen.add(r) })
		if err := act(); !errors.Is(err, client.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) || len(seen.all()) != 1 {
			t.Errorf("%s without an answer was sent %d times: %v", name, len(seen.all()), err)
		}
		s.answers(func(_ string, r *bus.Request) {
			seen.add(r)
			r.Fail(&otp.Problem{Reason: otp.Busy, Message: "later"})
		})
		if err := act(); !errors.Is(err, client.ErrUnavailable) || len(seen.all()) != 2 {
			t.Errorf("%s refused was sent %d times: %v", name, len(seen.all())-1, err)
		}
	}
}

func TestUnavailableIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleEnrolment})
	c := s.connect(t)
	for _, tc := range []struct {
		name  string
		after time.Duration // what otpost asks to wait for
		fails int           // how often it says so
		calls int
		ok    bool
	}{
		{"once", 0, 1, 2, true},
		{"three times", 0, 3, 3, false},
		{"longer than is left", 2 * time.Hour, 1, 1, false},
		{"longer than anybody waits", time.Minute, 1, 1, false},
	} {
		var seen asked
		s.answers(func(_ string, r *bus.Request) {
			if seen.add(r) <= tc.fails {
				r.Fail(&otp.Problem{Reason: otp.Busy, Message: "later", RetryAfter: tc.after})
				return
			}
			r.Reply([]byte(`{"factors":[],"activated":false,"backup_codes_left":0}`))
		})
		hour, cancel := context.WithTimeout(t.Context(), time.Hour)
		_, err := c.Factors(hour, "u")
		cancel()
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, client.ErrUnavailable) || len(seen.all()) != tc.calls {
			t.Errorf("%s: asked %d times, %v", tc.name, len(seen.all()), err)
		}
	}
	var seen asked
	s.answers(func(_ string, r *bus.Request) {
		seen.add(r)
		r.Fail(&otp.Problem{Reason: otp.RateLimited, Message: "slow down", RetryAfter: time.Second})
	})
	if _, err := c.Factors(t.Context(), "u"); !errors.Is(err, client.ErrRateLimited) || len(seen.all()) != 1 {
		t.Errorf("any other refusal was asked for %d times: %v", len(seen.all()), err)
	}
}

// Where nobody is there, nothing was carried out: even an act waits a little for somebody to come.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	_, err := s.connect(t, client.WithTries(2)).BeginFactor(t.Context(), client.BeginFactor{User: "u", Session: "s", Kind: client.KindTOTP})
	if !errors.Is(err, client.ErrUnavailable) || !errors.Is(err, nats.ErrNoResponders) || errors.Is(err, client.ErrNoAnswer) {
		t.Errorf("nobody there: %v", err)
	}
	var seen asked
	s.answers(func(_ string, r *bus.Request) {
		seen.add(r)
		r.Reply([]byte(`{"ceremony":"c","kind":"totp","expires_at":"2026-11-21T17:00:00Z"}`))
	})
	patient := s.connect(t, client.WithTries(1000), client.WithTimeout(otposttest.Patience))
	done := make(chan error, 1)
	go func() {
		_, err := patient.BeginFactor(t.Context(), client.BeginFactor{User: "u", Session: "s", Kind: client.KindTOTP})
		done <- err
	}()
	s.serve(t, bus.RoleEnrolment)
	if err := <-done; err != nil || len(seen.all()) != 1 {
		t.Errorf("somebody comes: asked %d times, %v", len(seen.all()), err)
	}
}

func TestTheCallersContextCounts(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge})
	c := s.connect(t)
	x, cancel := context.WithCancel(t.Context())
	var seen asked
	s.answers(func(_ string, r *bus.Request) {
		seen.add(r)
		cancel()
	})
	if _, err := c.Login(x, client.Login{User: "u", Session: "s"}); !errors.Is(err, context.Canceled) || len(seen.all()) != 1 {
		t.Errorf("cancelled while it waits: asked %d times, %v", len(seen.all()), err)
	}
	x, cancel = context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	s.answers(func(string, *bus.Request) {})
	began := time.Now()
	if _, err := c.Login(x, client.Login{User: "u", Session: "s"}); !errors.Is(err, client.ErrNoAnswer) || time.Since(began) > 2*time.Second {
		t.Errorf("a deadline of 150 ms: %v after %s", err, time.Since(began))
	}
}

func TestAServerThatGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge})
	s.answers(func(_ string, r *bus.Request) { r.Reply([]byte(`{"outcome":"skipped","reason":"no_factor"}`)) })
	nc := s.App(t, "demo")
	shared, err := client.New(nc, "demo", client.WithTries(1))
	if err != nil {
		t.Fatal(err)
	}
	clients := map[string]*client.Client{"its own connection": s.connect(t, client.WithTries(1)), "a shared connection": shared}
	s.Stop(t)
	for name, c := range clients {
		otposttest.Eventually(t, name+" to notice", func() bool {
			x, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.Login(x, client.Login{User: "u", Session: "s"})
			return errors.Is(err, client.ErrUnavailable)
		})
		if _, err := c.PublishLogin(t.Context(), client.Login{User: "u", Session: "s"}); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("publishing over %s: %v", name, err)
		}
	}
	s.Start(t)
	for name, c := range clients {
		otposttest.Eventually(t, name+" to be back", func() bool {
			r, err := c.Login(t.Context(), client.Login{User: "u", Session: "s"})
			return err == nil && r.Outcome == client.Skipped && r.Reason == client.ReasonNoFactor
		})
	}
}

func TestConnecting(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil, otposttest.WithApps("demo", "other"))
	user, password := s.AppUser("demo")
	good := client.Config{URL: s.URL(), App: "demo", User: user, Password: password}
	for name, change := range map[string]func(*client.Config){
		"no app":             func(c *client.Config) { c.App = "" },
		"an app of dots":     func(c *client.Config) { c.App = "demo.rpc" },
		"a wrong password":   func(c *client.Config) { c.Password = "wrong" },
		"no server":          func(c *client.Config) { c.URL = "nats://127.0.0.1:1" },
		"no file of that CA": func(c *client.Config) { c.CAFile = "/nowhere.pem" },
	} {
		cfg := good
		change(&cfg)
		if c, err := client.Connect(t.Context(), cfg); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", name, err)
			_ = c.Close()
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Connect(ended, good); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}

	cfg := good
	cfg.App = "other" // whose subjects the user of demo may not use
	c, err := client.Connect(t.Context(), cfg, client.WithTimeout(300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Login(t.Context(), client.Login{User: "u", Session: "s"}); !errors.Is(err, client.ErrNoAnswer) {
		t.Errorf("another app's subjects: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Login(t.Context(), client.Login{User: "u", Session: "s"}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("after Close: %v", err)
	}

	nc := s.App(t, "demo")
	shared, err := client.New(nc, "demo")
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.Close(); err != nil || nc.IsClosed() {
		t.Errorf("Close ended a connection that is not its own: %v", err)
	}
	if _, err := client.New(nc, "Demo"); err == nil {
		t.Error("an app's name in capitals passes")
	}
}
