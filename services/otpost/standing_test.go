package main

import (
	"slices"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// The status of a challenge is enough to show it to its user, whoever asked for it, and says no more than the login's reply did.
func TestStatusShowsAChallenge(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	pay := otp.Transaction{Amount: "39.99 EUR", Payee: "Shop"}
	sent := s.ask("by SMS", "bob", map[string]any{"to": map[string]any{"sms": phone(1)}, "transaction": pay})
	st := s.status(sent.Challenge)
	cooldown := otp.Seconds(s.app.Policy.Cooldown)
	if st.Session != "session of bob" || st.To != sent.To || st.To == "" || st.Digits != sent.Digits || st.Digits == 0 || !slices.Equal(st.Methods, sent.Methods) ||
		st.Transaction == nil || *st.Transaction != pay || st.ResendAfter != cooldown {
		t.Errorf("%+v stands as %+v", sent, st)
	}
	s.clock.Advance(s.app.Policy.Cooldown - 1500*time.Millisecond)
	if got := s.status(sent.Challenge).ResendAfter; got != 2 {
		t.Errorf("a moment before the cooldown's end it is %d seconds", got)
	}
	s.clock.Advance(1500 * time.Millisecond)
	if got := s.status(sent.Challenge).ResendAfter; got != 0 {
		t.Errorf("after the cooldown it is %d seconds", got)
	}
	for range s.app.Policy.Sends - 1 {
		must[event.ResendReply](s, event.VerbResend, map[string]any{"challenge": sent.Challenge, "session": "session of bob"})
		if left := s.status(sent.Challenge); (left.ResendAfter == cooldown) != (left.SendsLeft > 0) || left.SendsLeft == 0 && left.ResendAfter != 0 {
			t.Errorf("with %d sends left it is %d seconds", left.SendsLeft, left.ResendAfter)
		}
		s.clock.Advance(s.app.Policy.Cooldown)
	}

	s.enrol("alice")
	app := s.ask("by app", "alice", nil)
	st = s.status(app.Challenge)
	if st.Channel != "totp" || st.To != "" || st.Digits != app.Digits || st.Digits == 0 || !slices.Equal(st.Methods, app.Methods) || st.Transaction != nil || st.ResendAfter != 0 {
		t.Errorf("%+v stands as %+v", app, st)
	}
	fresh := s.ask("to be cancelled", "carol", map[string]any{"to": map[string]any{"sms": phone(2)}})
	must[event.CancelReply](s, event.VerbCancel, map[string]any{"challenge": fresh.Challenge, "session": "session of carol"})
	if st = s.status(fresh.Challenge); st.State != string(otp.Cancelled) || st.SendsLeft == 0 || st.ResendAfter != 0 {
		t.Errorf("a cancelled one stands as %+v", st)
	}
}
