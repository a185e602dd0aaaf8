package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// Whoever looks for a code that did not arrive asks with what is at hand: the id of a ceremony, of a recovery, of a message, or a delivery's reference.
func TestStatusOfWhatEnrolmentSends(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.SupportApproval = true }))
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification, bus.RoleEnrolment)
	s.recoverable("alice", 1)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_APP": "demo"}}
	ask := func(id string) string {
		t.Helper()
		out := sh.ok("status", id)
		for _, secret := range []string{phone(1), phone(2), "alice@", "session of"} {
			if strings.Contains(out, secret) {
				t.Errorf("it shows %q:\n%s", secret, out)
			}
		}
		return out
	}
	// until asks until a delivery has gone out: what the provider calls it is there then.
	until := func(id string, cells ...string) (out string) {
		t.Helper()
		row := regexp.MustCompile(`(?m)^` + strings.Join(cells, `\s+`) + `\s+(accepted|delivered)\s+(twilio|smtp)\s+\S+\s+1\s+20`)
		otposttest.Eventually(t, strings.Join(cells, " "), func() bool {
			out = ask(id)
			return row.MatchString(out)
		})
		return out
	}

	// A number that is to become a factor.
	b := must[event.FactorBeginReply](s, event.VerbFactorBegin, owned("alice", map[string]any{"kind": "sms", "address": phone(2), "reauthenticated_at": s.now()}))
	out := until(b.Ceremony+"-1", b.Ceremony+"-1", "add_factor", "sms", `\S+`)
	for _, row := range [][]string{{"ceremony", b.Ceremony}, {"user", "alice"}, {"kind", "factor sms"}, {"state", "open"}, {"attempts", "0 of 5"}, {"sends", "1"}} {
		has(t, out, row...)
	}
	s.clock.Advance(31 * time.Second)
	must[event.ResendReply](s, event.VerbFactorResend, map[string]any{"ceremony": b.Ceremony, "session": "session of alice"})
	has(t, until("<"+b.Ceremony+"-2@mail.example>", b.Ceremony+"-2", "add_factor", "sms", `\S+`), "sends", "2")
	if out := ask(must[event.FactorBeginReply](s, event.VerbFactorBegin, owned("alice", map[string]any{"kind": "totp", "reauthenticated_at": s.now()})).Ceremony); !strings.HasSuffix(out, "\nNothing was sent for it.\n") {
		t.Errorf("of an authenticator app it says:\n%s", out)
	}

	// A recovery that waits for a second agent, and what was sent once there was one.
	begun, problem := support[event.RecoveryReply](s, "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "alice", "reason": "ticket 1", "methods": []string{"email", "phone"}})
	if problem != "" {
		t.Fatal(problem)
	}
	out = ask(begun.Recovery)
	for _, row := range [][]string{
		{"recovery", begun.Recovery}, {"begun by", "agent ann"}, {"reason", "ticket 1"}, {"state", "approval"}, {"code by", "email", "a•••@rescue.example", "not sent"},
	} {
		has(t, out, row...)
	}
	if !strings.HasSuffix(out, "\nNo code is sent until another agent runs: otpost support approve "+begun.Recovery+"\n") {
		t.Errorf("it says:\n%s", out)
	}
	if _, problem := support[event.RecoveryReply](s, "bob", event.SupportApprove, map[string]any{"app": "demo", "recovery": begun.Recovery}); problem != "" {
		t.Fatal(problem)
	}
	message := otposttest.Get[string](t, s.db, `SELECT id::text FROM recovery_codes WHERE method = 'phone'`)
	out = until(begun.Recovery, message+"-1", "recovery", "sms", `\S+`)
	has(t, out, "approved by", "agent bob")
	has(t, out, "code by", "phone", `+1•••••0001`, "sent once, expires")
	s.clock.Advance(31 * time.Second)
	must[event.ResendReply](s, event.VerbRecoveryResend, map[string]any{"recovery": begun.Recovery, "session": "session of alice", "method": "phone"})
	again := otposttest.Get[string](t, s.db, `SELECT id::text FROM recovery_codes WHERE method = 'phone'`)
	out = until(begun.Recovery, again+"-1", "recovery", "sms", `\S+`)
	if again == message || !strings.Contains(out, message+"-1") {
		t.Errorf("what was sent first is missing:\n%s", out)
	}
	has(t, out, "code by", "phone", `+1•••••0001`, "sent 2 times, expires")
	until(begun.Recovery, `\S+-1`, "notice", "email", `\S+`) // it holds the code that stops the recovery
	for _, id := range []string{message, again + "-1"} {
		out = ask(id)
		for _, row := range [][]string{{"message", strings.TrimSuffix(id, "-1")}, {"user", "alice"}, {"purpose", "recovery"}, {"to", "sms"}, {"recovery", begun.Recovery}} {
			has(t, out, row...)
		}
	}

	// Another app learns nothing of it, and what is no id is said to be none.
	s.db.App(t, "other")
	for _, id := range []string{b.Ceremony, begun.Recovery, message} {
		sh.fails(1, []string{"no challenge, recovery, ceremony or message of this id"}, "status", id, "--app=other")
	}
	for _, bad := range []string{"4711", b.Ceremony + "-x", b.Ceremony + "-", "urn:uuid:" + b.Ceremony, b.Ceremony + "0"} {
		sh.fails(1, []string{"must be a UUID or a delivery's reference"}, "status", bad)
	}
}

// What enrolment counts: requests by their result, and what waits.
func TestMetricsOfEnrolment(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.SupportApproval = true }))
	// A notice that nobody has written, of five minutes ago.
	s.db.Exec(t, `INSERT INTO notices (id, app_id, user_id, notice, at) VALUES (gen_random_uuid(), $1, 'alice', 'factor_added', $2)`, s.app.ID, s.clock.Now().Add(-5*time.Minute))
	sweeper, err := s.db.SQL(otposttest.Owner).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer sweeper.Close()
	if _, err := sweeper.ExecContext(t.Context(), `SELECT pg_advisory_lock(hashtext('otpost.janitor'))`); err != nil {
		t.Fatal(err)
	}
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification, bus.RoleEnrolment)
	otposttest.Eventually(t, "the old notice is seen although nobody sweeps", func() bool {
		age := testutil.ToFloat64(s.metrics.NoticeAge)
		return testutil.ToFloat64(s.metrics.Notices) == 1 && age >= 300 && age < 400
	})
	if _, err := sweeper.ExecContext(t.Context(), `SELECT pg_advisory_unlock(hashtext('otpost.janitor'))`); err != nil {
		t.Fatal(err)
	}
	s.recoverable("alice", 1)
	if problem := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": "0193503c-7a80-7c1e-9d2a-3f1be2a45c07", "session": "s", "code": "123456"}); problem != "unknown_ceremony" {
		t.Errorf("confirming nothing: %q", problem)
	}
	if _, problem := support[event.RecoveryReply](s, "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "alice", "reason": "ticket 1"}); problem != "" {
		t.Fatal(problem)
	}
	for name, want := range map[[2]string]float64{{"factor.begin", "ok"}: 1, {"factor.confirm", "unknown_ceremony"}: 1, {"support.begin", "ok"}: 1, {"recovery.address", "ok"}: 2} {
		if n := testutil.ToFloat64(s.metrics.Requests.WithLabelValues(name[0], name[1])); n != want {
			t.Errorf("%v was counted %v times, want %v", name, n, want)
		}
	}
	otposttest.Eventually(t, "the recovery is seen, and no notice waits", func() bool {
		s.clock.Advance(11 * time.Second) // until it counts again
		return testutil.ToFloat64(s.metrics.Recoveries.WithLabelValues("approval")) == 1 && testutil.ToFloat64(s.metrics.Notices) == 0 &&
			testutil.ToFloat64(s.metrics.NoticeAge) == 0
	})
}
