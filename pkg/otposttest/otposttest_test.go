package otposttest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otposttest"
)

func TestDatabasesAreApart(t *testing.T) {
	one, two := otposttest.Postgres(t), otposttest.Postgres(t)
	one.App(t, "demo")
	if n := otposttest.Get[int](t, two, "SELECT count(*) FROM apps"); n != 0 {
		t.Errorf("an app of one database is seen in %d rows of another", n)
	}
	if dump := one.Dump(t); !strings.Contains(dump, "App demo") {
		t.Error("the dump does not hold the app")
	}
	if err := one.Role("sms").Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOwnPostgresKeepsItsDataOverARestart(t *testing.T) {
	db := otposttest.OwnPostgres(t)
	db.App(t, "demo")
	db.Restart(t)
	otposttest.Eventually(t, "the pool to reach Postgres again", func() bool { return db.Owner().Ping(t.Context()) == nil })
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM apps"); n != 1 {
		t.Errorf("%d apps after a restart, want 1", n)
	}
}

func TestEventsReachAnAppOverARestart(t *testing.T) {
	n := otposttest.NATS(t, otposttest.WithApps("demo", "other"))
	b := n.Bus(t, bus.RoleChallenge)
	heard := otposttest.Events(t, n.App(t, "demo"), "demo")
	send := func(app, id string) {
		e := event.Event{App: app, Name: event.ChallengeSkipped, ID: id, Subject: id, Time: time.Now(), Data: event.Skipped{Reason: "no_factor"}}
		otposttest.Eventually(t, "the event to be published", func() bool {
			return b.Publish(t.Context(), bus.Out{Subject: event.EventSubject(app, e.Name), ID: id, Data: e.Encode()}) == nil
		})
	}
	is := func(id string) func(otposttest.Event) bool {
		return func(e otposttest.Event) bool { return e.ID == id }
	}
	send("other", "theirs")
	send("demo", "first")
	e := heard.Wait(t, event.ChallengeSkipped, is("first"))
	if got := otposttest.Decode[event.Skipped](t, e).Reason; got != "no_factor" {
		t.Errorf("reason %q", got)
	}
	n.Restart(t)
	send("demo", "second")
	if app := otposttest.Events(t, n.App(t, "demo"), "demo"); len(app.All()) != 0 {
		t.Error("a new listener hears old events")
	}
	send("demo", "third")
	heard.Wait(t, event.ChallengeSkipped, is("third"))
	if len(heard.Of("theirs")) != 0 {
		t.Error("an app hears another's events")
	}
}

func TestClock(t *testing.T) {
	c := otposttest.NewClock()
	from := c.Now()
	if d := time.Since(from); d < 0 || d > time.Minute || from.Truncate(time.Millisecond) != from {
		t.Errorf("the clock starts at %v", from)
	}
	if got := c.Advance(time.Hour); got != from.Add(time.Hour) || c.Now() != got {
		t.Errorf("an hour on it stands at %v", got)
	}
}

func TestInboxKeysAndLog(t *testing.T) {
	in := otposttest.Inbox(t)
	if in.AccountSID == "" || in.SMTP == "" || !strings.HasPrefix(in.URL, "http://127.0.0.1:") {
		t.Errorf("the inbox is at %q, %q", in.URL, in.SMTP)
	}
	challenge, verification := otposttest.Ring(t, keyring.Verification), otposttest.Ring(t, keyring.SMS)
	a, errA := challenge.CodeKeyID()
	b, errB := verification.CodeKeyID()
	if errA != nil || errB != nil || a != b {
		t.Errorf("two roles hold code keys %d (%v) and %d (%v)", a, errA, b, errB)
	}
	otposttest.Logger(t).Debug("a line", "code", "123456")
	if !strings.Contains(otposttest.Logger(t).Logs(), "code=123456") {
		t.Error("the log lacks a line or redacts it")
	}
}
