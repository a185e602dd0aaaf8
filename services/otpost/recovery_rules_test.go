package main

import (
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file tries what must not work with recoveries: bad input, proofs at once, too many, too late, and any order of requests.

// recoveryState is all that a recovery could change, as one text.
func (s *system) recoveryState() string {
	s.t.Helper()
	return otposttest.Get[string](s.t, s.db, `SELECT concat_ws('|',
		(SELECT string_agg(r::text, ',' ORDER BY id) FROM recoveries r), (SELECT string_agg(c::text, ',' ORDER BY id) FROM recovery_codes c),
		(SELECT string_agg(c::text, ',' ORDER BY id) FROM contacts c), (SELECT string_agg(c::text, ',' ORDER BY id) FROM ceremonies c),
		(SELECT string_agg(concat(id, state), ',' ORDER BY id) FROM factors), (SELECT string_agg(concat(user_id, position, used_at), ',' ORDER BY user_id, position) FROM backup_codes),
		(SELECT string_agg(concat(user_id, epoch, country, region, passphrase), ',' ORDER BY user_id) FROM users),
		(SELECT string_agg(concat(user_id, failures), ',' ORDER BY user_id) FROM accounts), (SELECT count(*) FROM audit), (SELECT count(*) FROM messages))`)
}

// Every refusal says why and changes nothing.
func TestRecoveryRequestsRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleVerification, bus.RoleEnrolment)
	const unknown = "0198a7c0-0000-7000-8000-000000000000"
	s.recoverable("alice", 1) // has a recovery under way
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", map[string]any{"methods": []string{"email"}}))
	s.recoverable("bert", 2) // could begin one
	s.enrol("carol")         // has set no address
	s.prefer("dora", map[string]any{"country": "US"})
	s.contact("dora", "email", "dora@rescue.example") // has an address and no factor
	s.contact("dora", "phone", phone(4))
	s.prefer("emil", map[string]any{"country": "US"})
	s.contact("emil", "phone", phone(5)) // has moved to where only email is allowed
	s.prefer("emil", map[string]any{"country": "DE"})
	s.enrol("emil")
	open := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, owned("fritz", map[string]any{
		"method": "email", "address": "fritz@rescue.example", "reauthenticated_at": s.now(),
	}))
	asks, _ := support[event.RecoveryReply](s, "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "bert", "reason": "asked"})
	otposttest.Eventually(t, "the notices are written", func() bool { return otposttest.Get[int](t, s.db, `SELECT count(*) FROM notices`) == 0 })

	proven := func(more map[string]any) map[string]any {
		body := owned("alice", map[string]any{"reauthenticated_at": s.now()})
		for k, v := range more {
			body[k] = v
		}
		return body
	}
	home := map[string]any{"name": "Dora", "line1": "1 Main St", "city": "Austin", "region": "TX", "postal_code": "78701", "country": "US"}
	before := s.recoveryState()
	for _, tt := range []struct {
		name, verb string
		body       map[string]any
		want       string
	}{
		{"preferences without the password", event.VerbRecoveryPreferences, owned("dora", map[string]any{"country": "CZ"}), "reauthentication_required"},
		{"preferences without a factor's code", event.VerbRecoveryPreferences, proven(map[string]any{"remove": []string{"email"}}), "reauthentication_required"},
		{"preferences of no session", event.VerbRecoveryPreferences, map[string]any{"user": "dora", "country": "CZ"}, "invalid"},
		{"preferences during a recovery", event.VerbRecoveryPreferences, proven(map[string]any{"remove": []string{"email"}, "code": "123456"}), "conflict"},
		{"an address during a recovery", event.VerbRecoveryAddress, proven(map[string]any{"method": "email", "address": "a@rescue.example", "code": "123456"}), "conflict"},
		{"a country that is none", event.VerbRecoveryPreferences, owned("dora", map[string]any{"country": "XX", "reauthenticated_at": s.now()}), "invalid"},
		{"a short passphrase", event.VerbRecoveryPreferences, owned("dora", map[string]any{"passphrase": "hunter2", "reauthenticated_at": s.now()}), "invalid"},
		{"an address without the password", event.VerbRecoveryAddress, owned("dora", map[string]any{"method": "email", "address": "d@rescue.example"}), "reauthentication_required"},
		{"a method of another country", event.VerbRecoveryAddress, owned("fritz", map[string]any{"method": "phone", "address": phone(9), "reauthenticated_at": s.now()}), "not_allowed"},
		{"a letter to another country", event.VerbRecoveryAddress, owned("fritz", map[string]any{"method": "letter", "postal": home, "reauthenticated_at": s.now()}), "not_allowed"},
		{"a letter to an email address", event.VerbRecoveryAddress, owned("dora", map[string]any{"method": "letter", "address": "d@rescue.example", "reauthenticated_at": s.now()}), "invalid"},
		{
			"a second code within a moment", event.VerbRecoveryAddress, owned("fritz", map[string]any{"method": "email", "address": "f@rescue.example", "reauthenticated_at": s.now()}),
			"rate_limited",
		},
		{"confirm an unknown ceremony", event.VerbRecoveryConfirm, map[string]any{"ceremony": unknown, "session": "session of fritz", "code": "123456"}, "unknown_ceremony"},
		{"confirm in another session", event.VerbRecoveryConfirm, map[string]any{"ceremony": open.Ceremony, "session": "session of dora", "code": "123456"}, "unknown_ceremony"},
		{"confirm a factor with it", event.VerbFactorConfirm, map[string]any{"ceremony": open.Ceremony, "session": "session of fritz", "code": "123456"}, "unknown_ceremony"},
		{"begin without the password", event.VerbRecoveryBegin, owned("bert", nil), "reauthentication_required"},
		{"begin for nobody without the password", event.VerbRecoveryBegin, owned("nobody", nil), "reauthentication_required"},
		{
			"begin with a password of long ago", event.VerbRecoveryBegin,
			owned("bert", map[string]any{"reauthenticated_at": event.Time(s.clock.Now().Add(-6 * time.Minute))}), "reauthentication_required",
		},
		{"begin without an address", event.VerbRecoveryBegin, s.lost("carol", nil), "no_factor"},
		{"begin without a factor", event.VerbRecoveryBegin, s.lost("dora", nil), "no_factor"},
		{"begin for nobody", event.VerbRecoveryBegin, s.lost("nobody", nil), "no_factor"},
		{"begin a second one", event.VerbRecoveryBegin, s.lost("alice", nil), "conflict"},
		{"begin beside support", event.VerbRecoveryBegin, s.lost("bert", nil), "conflict"},
		{"begin by a method that is not allowed", event.VerbRecoveryBegin, s.lost("emil", nil), "not_allowed"},
		{"begin by a method twice", event.VerbRecoveryBegin, s.lost("emil", map[string]any{"methods": []string{"email", "email"}}), "invalid"},
		{"prove an unknown one", event.VerbRecoveryProve, proof("alice", unknown, "email", "123456"), "unknown_recovery"},
		{"prove in another session", event.VerbRecoveryProve, proof("bert", begun.Recovery, "email", s.resetCode(begun.Recovery, "email")), "unknown_recovery"},
		{
			"prove in another session with a password of long ago", event.VerbRecoveryProve,
			mergeWord("reauthenticated_at", event.Time(s.clock.Now().Add(-6*time.Minute)), proof("bert", begun.Recovery, "email", s.resetCode(begun.Recovery, "email"))),
			"unknown_recovery",
		},
		{"prove by a method not chosen", event.VerbRecoveryProve, proof("alice", begun.Recovery, "phone", "123456"), "not_allowed"},
		{"prove by what is no proof", event.VerbRecoveryProve, proof("alice", begun.Recovery, "totp", "123456"), "invalid"},
		{"prove with a word", event.VerbRecoveryProve, proof("alice", begun.Recovery, "email", "sesame"), "invalid"},
		{"prove with half a backup code", event.VerbRecoveryProve, proof("alice", begun.Recovery, "backup_code", "ABCD-EFGHJ"), "invalid"},
		{"prove what waits for support", event.VerbRecoveryProve, proof("bert", asks.Recovery, "email", "123456"), "approval_required"},
		{"resend an unknown one", event.VerbRecoveryResend, map[string]any{"recovery": unknown, "session": "session of alice", "method": "email"}, "unknown_recovery"},
		{"resend in another session", event.VerbRecoveryResend, map[string]any{"recovery": begun.Recovery, "session": "session of bert", "method": "email"}, "unknown_recovery"},
		{"resend what was not chosen", event.VerbRecoveryResend, map[string]any{"recovery": begun.Recovery, "session": "session of alice", "method": "phone"}, "not_allowed"},
		{"resend at once", event.VerbRecoveryResend, map[string]any{"recovery": begun.Recovery, "session": "session of alice", "method": "email"}, "rate_limited"},
		{"resend before it is approved", event.VerbRecoveryResend, map[string]any{"recovery": asks.Recovery, "session": "session of bert", "method": "email"}, "approval_required"},
		{"cancel in another session", event.VerbRecoveryCancel, map[string]any{"user": "alice", "session": "another session"}, "reauthentication_required"},
		{"cancel support's without the password", event.VerbRecoveryCancel, owned("bert", nil), "reauthentication_required"},
		{"cancel nothing", event.VerbRecoveryCancel, owned("carol", nil), "unknown_recovery"},
		{"cancel nobody's", event.VerbRecoveryCancel, owned("nobody", nil), "unknown_recovery"},
		{"cancel nobody's by code", event.VerbRecoveryCancel, map[string]any{"user": "nobody", "code": "12345678"}, "unknown_recovery"},
		{"cancel with nothing", event.VerbRecoveryCancel, map[string]any{"user": "alice"}, "invalid"},
	} {
		if got := refused(s, tt.verb, tt.body); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if after := s.recoveryState(); after != before {
			t.Fatalf("%s changed something:\n%s\n%s", tt.name, before, after)
		}
	}
	for _, tt := range []struct {
		name, agent, verb string
		body              map[string]any
		want              string
	}{
		{"support begins for nobody", "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "nobody", "reason": "asked"}, "no_factor"},
		{"support begins without a reason", "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "carol"}, "invalid"},
		{"support begins a second one", "bob", event.SupportBegin, map[string]any{"app": "demo", "user": "bert", "reason": "asked"}, "conflict"},
		{"support approves its own", "ann", event.SupportApprove, map[string]any{"app": "demo", "recovery": asks.Recovery}, "not_allowed"},
		{"support refuses its own", "ann", event.SupportRefuse, map[string]any{"app": "demo", "recovery": asks.Recovery}, "not_allowed"},
		{"support approves the user's", "ann", event.SupportApprove, map[string]any{"app": "demo", "recovery": begun.Recovery}, "conflict"},
		{"support approves an unknown one", "bob", event.SupportApprove, map[string]any{"app": "demo", "recovery": unknown}, "unknown_recovery"},
		{"support cancels an unknown one", "bob", event.SupportCancel, map[string]any{"app": "demo", "recovery": unknown}, "unknown_recovery"},
		{"support of another app", "bob", event.SupportApprove, map[string]any{"app": "other", "recovery": asks.Recovery}, "unknown_app"},
	} {
		if _, got := support[event.RecoveryReply](s, tt.agent, tt.verb, tt.body); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if after := s.recoveryState(); after != before {
			t.Fatalf("%s changed something:\n%s\n%s", tt.name, before, after)
		}
	}
	for _, user := range []string{"nobody", "carol"} {
		if r := s.standing(user); string(event.Encode(r)) != `{"state":"none","needed":0}` {
			t.Errorf("%s has %+v", user, r)
		}
	}
}

// What runs out: a code, whose method then sends another; the attempts; the time; and how many may be begun in a day.
func TestRecoveryRunsOut(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveriesPerDay = 2 }))
	s.run(bus.RoleVerification, bus.RoleEnrolment)
	a := s.recoverable("alice", 1)
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	resend := map[string]any{"recovery": begun.Recovery, "session": "session of alice", "method": "phone"}
	first, mailed := s.resetCode(begun.Recovery, "phone"), s.resetCode(begun.Recovery, "email")
	s.clock.Advance(31 * time.Second)
	if r := must[event.ResendReply](s, event.VerbRecoveryResend, resend); r.SendsLeft != 3 || r.RetryAfter != 30 || s.resetCode(begun.Recovery, "phone") != first {
		t.Errorf("sent again: %+v, want the same code", r)
	}
	s.clock.Advance(10 * time.Minute)
	if r := s.prove("alice", begun.Recovery, "phone", first); r.Result != "wrong" {
		t.Errorf("the code of a message is %s after ten minutes", r.Result)
	}
	must[event.ResendReply](s, event.VerbRecoveryResend, resend)
	if second := s.resetCode(begun.Recovery, "phone"); second == first {
		t.Error("a code that has expired was sent again")
	} else if r := s.prove("alice", begun.Recovery, "phone", second); r.Result != "proven" || r.AttemptsLeft != 8 {
		t.Errorf("the next code: %+v", r)
	}
	if p := refused(s, event.VerbRecoveryResend, resend); p != "conflict" {
		t.Errorf("the code of a method that is proven again: %s", p)
	}
	for left := 7; left >= 0; left-- { // a backup code serves once, and a used one counts like a wrong one
		s.clock.Advance(time.Hour)
		r := s.prove("alice", begun.Recovery, "email", wrongCode(mailed))
		if want := map[bool]string{true: "cancelled", false: "proving"}[left == 0]; r.Result != "wrong" || r.AttemptsLeft != left || r.State != want {
			t.Errorf("a wrong proof with %d left: %+v", left, r)
		}
	}
	e := s.heard.Wait(t, event.RecoveryCancelled, nil)
	if by := otposttest.Decode[event.RecoveryData](t, e).By; by != "system" {
		t.Errorf("it was cancelled by %s", by)
	}
	if f := s.factors("alice"); len(f.Factors) != 1 || f.BackupCodesLeft != 10 {
		t.Errorf("left are %+v", f)
	}

	s.clock.Advance(time.Hour)
	second := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", map[string]any{"methods": []string{"phone"}}))
	if r := s.prove("alice", second.Recovery, "backup_code", a.codes[3]); r.Result != "proven" || r.Needed != 1 {
		t.Errorf("a backup code: %+v", r)
	}
	s.hears(event.BackupCodeUsed, "alice")
	if n := s.factors("alice").BackupCodesLeft; n != 9 {
		t.Errorf("%d backup codes are left, want 9", n)
	}
	s.clock.Advance(10 * time.Minute)
	e = s.heard.Wait(t, event.RecoveryExpired, nil)
	if e.Subject != second.Recovery {
		t.Errorf("%s expired", e.Subject)
	}
	if p := refused(s, event.VerbRecoveryProve, proof("alice", second.Recovery, "phone", "123456")); p != "unknown_recovery" {
		t.Errorf("a proof after it expired: %s", p)
	}
	if p := refused(s, event.VerbRecoveryBegin, s.lost("alice", nil)); p != "rate_limited" {
		t.Errorf("a third one within a day: %s", p)
	}
	s.clock.Advance(24 * time.Hour)
	third := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	if r := s.prove("alice", third.Recovery, "backup_code", a.codes[3]); r.Result != "wrong" {
		t.Errorf("a backup code twice: %+v", r)
	}
}

// However often a right proof comes at once, it is one proof: of a recovery that takes two, one code alone carries out nothing.
func TestProofsAtOnce(t *testing.T) {
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = 0 }))
	s.run(bus.RoleVerification, bus.RoleEnrolment, bus.RoleEnrolment)
	a := s.recoverable("alice", 1)
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	give := func(method, code string) string {
		r, problem := request[event.RecoveryProveReply](s, event.VerbRecoveryProve, proof("alice", begun.Recovery, method, code))
		if problem != "" {
			return problem
		}
		return r.Result + " " + r.State
	}
	code := s.resetCode(begun.Recovery, "email")
	counts := atOnce(40, func(int) string { return give("email", code) })
	if counts["proven proving"] != 1 || counts["proven proving"]+counts["conflict"]+counts["unavailable"] != 40 {
		t.Errorf("40 times the same proof at once: %v, want it proven once", counts)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT cardinality(proofs) * 100 + attempts FROM recoveries`); n != 101 {
		t.Errorf("proofs and attempts are %d, want one and one", n)
	}
	// The second proof, by two methods at once: one of them completes it.
	code = s.resetCode(begun.Recovery, "phone")
	counts = atOnce(20, func(i int) string {
		if i%2 == 0 {
			return give("phone", code)
		}
		return give("backup_code", a.codes[0])
	})
	if counts["proven completed"] != 1 || counts["proven proving"]+counts["wrong proving"] != 0 {
		t.Errorf("the second proof: %v, want the recovery completed once", counts)
	}
	s.hears(event.RecoveryCompleted, "alice")
	if f := s.factors("alice"); len(f.Factors) != 0 {
		t.Errorf("left are %+v", f)
	}
}
