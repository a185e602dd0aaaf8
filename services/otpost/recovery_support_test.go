package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file changes what is set for recovery while there is a factor, and recovers through support.

// Whoever has a factor changes what is set with a code from it, and the address that goes hears of it like the one that comes.
func TestRecoveryPreferencesChanged(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	stop := s.run(bus.RoleEmail, bus.RoleSMS)
	s.run(bus.RoleVerification, bus.RoleEnrolment)
	a := s.recoverable("alice", 1)
	begin := owned("alice", map[string]any{"method": "email", "address": "new@rescue.example", "reauthenticated_at": s.now(), "code": a.next()})
	begin["reauthenticated_at"] = s.now()
	begun := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, begin)
	begin["code"] = wrongCode(a.value())
	s.clock.Advance(time.Minute) // past the wait between two codes
	if p := refused(s, event.VerbRecoveryAddress, begin); p != "wrong_code" {
		t.Errorf("with a wrong code: %s", p)
	}
	otposttest.Eventually(t, "what there was to tell is told", func() bool { return otposttest.Get[int](t, s.db, `SELECT count(*) FROM notices`) == 0 })
	confirm := map[string]any{"ceremony": begun.Ceremony, "session": "session of alice", "code": wrongCode(s.code("new@rescue.example"))}
	if p := refused(s, event.VerbRecoveryConfirm, confirm); p != "wrong_code" {
		t.Errorf("confirmed with a wrong code: %s", p)
	}
	confirm["code"] = s.code("new@rescue.example")
	p := must[event.PreferencesReply](s, event.VerbRecoveryConfirm, confirm)
	if len(p.Contacts) != 2 || p.Contacts[0].Method != "email" || !strings.HasPrefix(p.Contacts[0].To, "n") {
		t.Errorf("contacts are %+v", p.Contacts)
	}
	if got := refused(s, event.VerbRecoveryConfirm, confirm); got != "unknown_ceremony" {
		t.Errorf("confirmed twice: %s", got)
	}
	s.notified("new@rescue.example", "security settings")
	s.notified("alice@rescue.example", "security settings")

	told := s.messages("new@rescue.example")
	p = must[event.PreferencesReply](s, event.VerbRecoveryPreferences, owned("alice", map[string]any{
		"remove": []string{"phone"}, "passphrase": "correct horse battery staple", "code": a.next(), "reauthenticated_at": s.now(),
	}))
	if len(p.Contacts) != 1 || !p.Passphrase {
		t.Errorf("without the number: %+v", p)
	}
	otposttest.Eventually(t, "the address is told", func() bool { return s.messages("new@rescue.example") > told })
	hash := otposttest.Get[string](t, s.db, `SELECT passphrase FROM users WHERE user_id = 'alice'`)
	if !strings.HasPrefix(hash, "$argon2id$") || strings.Contains(hash, "horse") {
		t.Errorf("the passphrase is stored as %.12s", hash)
	}
	if b := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil)); len(b.Methods) != 1 || b.Methods[0].Method != "email" || !b.Passphrase {
		t.Errorf("begun: %+v", b)
	}

	// What has not gone out when a recovery ends stays where it is.
	must[event.RecoveryCancelReply](s, event.VerbRecoveryCancel, owned("alice", nil))
	stop()
	b := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	must[event.RecoveryCancelReply](s, event.VerbRecoveryCancel, owned("alice", nil))
	if now := s.standing("alice"); now.Recovery != b.Recovery || now.Methods[0].State != "expired" {
		t.Errorf("after its end a code that nobody sent is %+v", now)
	}
}

// support asks as an agent does.
func support[T any](s *system, agent, verb string, body any) (reply T, problem string) {
	s.t.Helper()
	if s.agents[agent] == nil {
		if s.agents == nil {
			s.agents = map[string]*nats.Conn{}
		}
		s.agents[agent] = s.nats.Agent(s.t, agent)
	}
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := s.agents[agent].Request(event.SupportSubject(agent, verb), b, otposttest.Patience)
	if err != nil {
		s.t.Fatalf("support %s: %v", verb, err)
	}
	var failed event.ErrorReply
	if err := json.Unmarshal(m.Data, &failed); err == nil && failed.Error.Code != "" {
		return reply, failed.Error.Code
	}
	if strings.Contains(string(m.Data), `"code"`) {
		s.t.Errorf("support %s: a reply speaks of a code: %s", verb, m.Data)
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		s.t.Fatalf("support %s: %v in %s", verb, err, m.Data)
	}
	return reply, ""
}

// An agent begins, another approves, and the user takes it up in a session of their own.
func TestRecoveryBySupport(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	s.recoverable("alice", 1)
	const told = `SELECT count(*) FROM messages WHERE purpose <> 'notice'`
	otposttest.Eventually(t, "what there was to tell is told", func() bool { return otposttest.Get[int](t, s.db, `SELECT count(*) FROM notices`) == 0 })
	before := otposttest.Get[int](t, s.db, told)
	found, problem := support[event.SupportFindReply](s, "ann", event.SupportFind, map[string]any{"app": "demo", "user": "alice"})
	if problem != "" || len(found.Factors) != 1 || !found.Activated || found.BackupCodesLeft != 10 || len(found.Preferences.Contacts) != 2 || found.Recovery.State != "none" {
		t.Errorf("found %+v %s", found, problem)
	}
	if text := string(event.Encode(found)); strings.Contains(text, "alice@rescue") || strings.Contains(text, phone(1)) {
		t.Errorf("support sees whole addresses: %s", text)
	}
	nobody, _ := support[event.SupportFindReply](s, "ann", event.SupportFind, map[string]any{"app": "demo", "user": "nobody"})
	if empty := (event.SupportFindReply{
		Factors: []event.FactorInfo{}, Preferences: event.PreferencesReply{Allowed: []string{"email"}, Contacts: []event.ContactInfo{}}, Recovery: event.RecoveryReply{State: "none"},
	}); string(event.Encode(nobody)) != string(event.Encode(empty)) {
		t.Errorf("nobody is %+v", nobody)
	}
	begin := map[string]any{"app": "demo", "user": "alice", "reason": "lost the phone, called back"}
	begun, problem := support[event.RecoveryReply](s, "ann", event.SupportBegin, begin)
	if problem != "" || begun.State != "approval" || len(begun.Methods) != 2 {
		t.Fatalf("begun %+v %s", begun, problem)
	}
	it := map[string]any{"app": "demo", "recovery": begun.Recovery}
	if p := refused(s, event.VerbRecoveryProve, proof("alice", begun.Recovery, "email", "123456")); p != "approval_required" {
		t.Errorf("a proof before it is approved: %s", p)
	}
	for _, verb := range []string{event.SupportApprove, event.SupportRefuse} {
		if _, p := support[event.RecoveryReply](s, "ann", verb, it); p != "not_allowed" {
			t.Errorf("%s by the agent who began: %s", verb, p)
		}
	}
	if now := s.standing("alice"); now.State != "approval" {
		t.Errorf("after that it is %+v", now)
	}
	if n := otposttest.Get[int](t, s.db, told); n != before {
		t.Errorf("before it is approved %d codes were sent", n-before)
	}
	s.notified("alice@rescue.example", "stop the reset") // the user hears of it before anybody has approved it
	if r, p := support[event.RecoveryReply](s, "bob", event.SupportApprove, it); p != "" || r.State != "proving" {
		t.Fatalf("approved %+v %s", r, p)
	}
	if _, p := support[event.RecoveryReply](s, "bob", event.SupportApprove, it); p != "conflict" {
		t.Errorf("approved twice: %s", p)
	}
	s.hears(event.RecoveryApproved, "alice")
	s.notified("alice@rescue.example", "stop the reset")
	code := digits.FindString(s.notified("alice@rescue.example", "enter this code to continue"))
	if r := s.prove("alice", begun.Recovery, "email", code); r.Result != "proven" {
		t.Errorf("the user's proof: %+v", r)
	}
	other := proof("alice", begun.Recovery, "phone", s.resetCode(begun.Recovery, "phone"))
	other["session"] = "another session"
	if p := refused(s, event.VerbRecoveryProve, other); p != "unknown_recovery" {
		t.Errorf("a proof in another session than the first: %s", p)
	}
	if r := s.prove("alice", begun.Recovery, "phone", s.resetCode(begun.Recovery, "phone")); r.State != "waiting" {
		t.Errorf("the second proof: %+v", r)
	}
	if _, p := support[event.RecoveryReply](s, "bob", event.SupportRefuse, it); p != "conflict" {
		t.Errorf("refused after it was approved: %s", p)
	}
	want := []string{"agent:ann recovery.begun", "agent:bob recovery.approved", "user recovery.proven", "user recovery.proven", "user recovery.waiting"}
	if got := s.actions("recovery."); !slices.Equal(got[len(got)-len(want):], want) {
		t.Errorf("the audit says %v", got)
	}

	s.recoverable("bert", 2)
	begin["user"] = "bert"
	begun, _ = support[event.RecoveryReply](s, "bob", event.SupportBegin, begin)
	if r, p := support[event.RecoveryReply](s, "ann", event.SupportRefuse, map[string]any{"app": "demo", "recovery": begun.Recovery}); p != "" || r.State != "refused" {
		t.Errorf("refused %+v %s", r, p)
	}
	s.hears(event.RecoveryRefused, "bert")
	if r, p := support[event.RecoveryReply](s, "ann", event.SupportStatus, map[string]any{"app": "demo", "user": "bert"}); p != "" || r.State != "refused" {
		t.Errorf("status %+v %s", r, p)
	}
	if err := s.agents["ann"].Publish(event.SupportSubject("bob", event.SupportApprove), nil); err != nil {
		t.Fatal(err)
	}
	otposttest.Eventually(t, "ann may not ask as bob", func() bool {
		err := s.agents["ann"].LastError()
		return err != nil && strings.Contains(strings.ToLower(err.Error()), "permissions violation")
	})
}
