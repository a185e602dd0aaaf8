package main

import (
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A number that takes no messages does not end a challenge that could still go by email.
func TestBadNumberLeavesTheOtherChannel(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification)
	s.publish("login", "alice", map[string]any{"channel": "sms", "to": map[string]any{"sms": "+15005550009", "email": "alice@example.com"}})
	c := s.issued("alice")
	s.heard.Wait(t, event.ChallengeUndeliverable, nil)
	s.clock.Advance(s.app.Policy.Cooldown)
	r, problem := request[event.ResendReply](s, event.VerbResend, map[string]any{
		"challenge": c.Challenge, "session": "session of alice", "channel": "email",
	})
	if problem != "" || r.To != "a•••@example.com" {
		t.Fatalf("resend by email: %+v %s", r, problem)
	}
	code := s.code("alice@example.com")
	v, problem := request[event.VerifyReply](s, event.VerbVerify, map[string]any{
		"challenge": c.Challenge, "session": "session of alice", "code": code, "factor": "sms", // one challenge has one code
	})
	if v.Result != "verified" || v.Factor != "email" {
		t.Errorf("the code: %+v %s", v, problem)
	}
}

// Nobody gets a code for a challenge that was answered another way before it was sent.
func TestAnsweredBeforeItWasSent(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification)
	secret := s.addTOTP("alice")
	data := bySMS(1)
	data["channel"] = "sms"
	s.publish("login", "alice", data)
	c := s.issued("alice")
	value, err := otp.DefaultTOTP().Value(secret, otp.DefaultTOTP().Step(s.clock.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if r := s.verify(c.Challenge, "alice", value); r.Result != "verified" {
		t.Fatalf("the authenticator: %+v", r)
	}
	s.run(bus.RoleSMS)
	s.publish("later", "bob", bySMS(2))
	s.code(phone(2))
	if n := s.messages(phone(1)); n != 0 {
		t.Errorf("%d codes were sent for a challenge that is over", n)
	}
}

// A worker that comes up while it cannot read the apps loses no event.
func TestNoEventIsLostWhileTheAppsCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	stop := s.run(bus.RoleChallenge)
	s.publish("login", "alice", bySMS(1))
	c := s.issued("alice")
	stop()
	lock := s.db.SQL(otposttest.Owner)
	tx, err := lock.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE apps`); err != nil {
		t.Fatal(err)
	}
	s.run(bus.RoleSMS)
	s.code(phone(1))
	time.AfterFunc(time.Second, func() { _ = tx.Rollback() })
	s.run(bus.RoleChallenge)
	s.heard.Wait(t, event.ChallengeSent, func(e otposttest.Event) bool { return e.Subject == c.Challenge })
	s.clock.Advance(s.app.Policy.Life + time.Second)
	if reason := s.ended(c.Challenge); reason != "expired" {
		t.Errorf("it ended as %s", reason)
	}
}
