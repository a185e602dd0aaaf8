package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// roomy gives the clock of a test room: a code lives for as long as it may.
func roomy(attempts int) func(*systemOptions) {
	return func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) {
			a.Policy.Life, a.Policy.Attempts, a.Policy.OpenChallenges, a.Policy.Sends = 10*time.Minute, attempts, 10, 10
		})
	}
}

// run1 runs a command line inside the test and returns its exit status and what it said.
func run1(ctx context.Context, env map[string]string, args ...string) (status int, stdout, stderr string) {
	ctx, cancel := context.WithTimeout(ctx, 3*otposttest.Patience) // a worker whose settings are right would not end
	defer cancel()
	var out, problems bytes.Buffer
	status = execute(ctx, args, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, &out, &problems)
	return status, out.String(), problems.String()
}

func TestWaitsOverChallenges(t *testing.T) {
	t.Parallel()
	s := newSystem(t, roomy(3))
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	defer s.endsOnce()
	guess := func(c event.LoginReply, n, left, wait int) {
		t.Helper()
		r := s.verify(c.Challenge, "alice", wrongCode(s.code(phone(n))))
		if r.Result != "wrong" || r.AttemptsLeft != left || r.RetryAfter != wait {
			t.Errorf("a guess: %+v, want wrong with %d attempts left and a wait of %d s", r, left, wait)
		}
	}
	waits := func(c event.LoginReply, n, taken, wait int) {
		t.Helper()
		if r := s.verify(c.Challenge, "alice", s.code(phone(n))); r.Result != "locked" || r.RetryAfter != wait {
			t.Errorf("the right code within the wait: %+v, want locked for %d s", r, wait)
		}
		if got := s.attempts(c.Challenge); got != taken {
			t.Errorf("%d attempts were taken, want %d", got, taken)
		}
		if r := s.beginAny("alice", bySMS(9), fmt.Sprint("within", taken, wait)); r.Outcome != event.OutcomeRefused || r.Reason != "rate_limited" || r.RetryAfter != wait {
			t.Errorf("a login within the wait: %+v, want it rate limited for %d s", r, wait)
		}
	}
	a, b := s.begin("alice", bySMS(1), "a"), s.begin("alice", bySMS(2), "b")
	guess(a, 1, 2, 0)
	guess(a, 1, 1, 0)
	guess(a, 1, 0, 0) // this one is exhausted
	guess(b, 2, 2, 0)
	guess(b, 2, 1, 30)
	waits(b, 2, 2, 30)
	s.publish("by event", "alice", bySMS(9))
	s.heard.Wait(t, event.ChallengeRefused, func(e otposttest.Event) bool {
		r := otposttest.Decode[event.Refused](t, e)
		return r.Login == "by event" && r.Reason == "rate_limited" && r.RetryAfter == 30 && r.Message != ""
	})
	s.clock.Advance(30*time.Second - time.Millisecond)
	waits(b, 2, 2, 1)
	s.clock.Advance(time.Millisecond)
	guess(b, 2, 0, 60)
	s.clock.Advance(60 * time.Second)
	c := s.begin("alice", bySMS(3), "c")
	guess(c, 3, 2, 120)
	s.clock.Advance(2 * time.Minute)
	guess(c, 3, 1, 240)
	waits(c, 3, 2, 240)
	s.clock.Advance(4 * time.Minute)
	s.expect("the right one when the wait is over", "verified", 0, s.verify(c.Challenge, "alice", s.code(phone(3))))
	if n := otposttest.Get[int](t, s.db, `SELECT failures FROM accounts WHERE user_id = 'alice'`); n != 0 {
		t.Errorf("%d failures are left after a right answer", n)
	}
	d := s.begin("alice", bySMS(4), "d")
	guess(d, 4, 2, 0)
	// Another user of the same app has a budget of their own.
	bob := s.begin("bob", bySMS(5))
	s.expect("another user", "verified", 2, s.verify(bob.Challenge, "bob", s.code(phone(5))))
}

func TestLockedAccount(t *testing.T) {
	t.Parallel()
	s := newSystem(t, roomy(5))
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	defer s.endsOnce()
	c, second := s.begin("alice", bySMS(1), "1"), s.begin("alice", bySMS(2), "2")
	s.db.Exec(t, `UPDATE accounts SET failures = 99 WHERE user_id = 'alice'`)
	r := s.verify(c.Challenge, "alice", wrongCode(s.code(phone(1))))
	s.expect("the hundredth failure", "wrong", 0, r)
	if reason := s.ended(c.Challenge); reason != "locked" {
		t.Errorf("its challenge ended as %s", reason)
	}
	locked := otposttest.Decode[event.AccountLockedData](t, s.heard.Wait(t, event.AccountLocked, nil))
	if locked.User != "alice" || locked.Failures != otp.MaxFailures || locked.Challenge != c.Challenge {
		t.Errorf("account.locked says %+v", locked)
	}
	s.clock.Advance(5 * time.Minute) // no wait opens it
	s.expect("the right code", "locked", 0, s.verify(c.Challenge, "alice", s.code(phone(1))))
	if r := s.verify(second.Challenge, "alice", s.code(phone(2))); r.Result != "locked" || s.attempts(second.Challenge) != 0 {
		t.Errorf("the right code of another challenge: %+v, want locked and no attempt taken", r)
	}
	if r := s.beginAny("alice", bySMS(3), "3"); r.Outcome != event.OutcomeRefused || r.Reason != "locked" {
		t.Errorf("a login: %+v, want it refused as locked", r)
	}
	env := map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys}
	if status, _, stderr := run1(t.Context(), env, "account", "unlock", "--app=demo", "--user=nobody"); status != 1 || !strings.Contains(stderr, "nobody") {
		t.Errorf("unlocking nobody: %d, %s", status, stderr)
	}
	status, stdout, stderr := run1(t.Context(), env, "account", "unlock", "--app=demo", "--user=alice")
	if status != 0 || !strings.Contains(stdout, "alice") {
		t.Fatalf("unlock: %d, %s%s", status, stdout, stderr)
	}
	again := s.begin("alice", bySMS(4), "4")
	s.expect("after the unlock", "verified", 4, s.verify(again.Challenge, "alice", s.code(phone(4))))
}

// One who cycles resends, new logins and all that is open compares no more than the budget lets anybody compare.
func TestNobodyBuysGuesses(t *testing.T) {
	t.Parallel()
	s := newSystem(t, roomy(10))
	s.run(bus.RoleChallenge, bus.RoleVerification)
	compared := 0
	var open []string
	sweep := func(round int) {
		if r := s.beginAny("victim", bySMS(1), fmt.Sprint(round)); r.Outcome == event.OutcomeIssued {
			open = append(open, r.Challenge)
		}
		for _, c := range open {
			_, _ = request[event.ResendReply](s, event.VerbResend, map[string]any{"challenge": c, "session": "session of victim"})
			for {
				r := s.verify(c, "victim", "000000")
				if r.Result == "verified" { // one in a million
					t.Skip("guessed it")
				}
				if r.Result != "wrong" {
					break
				}
				compared++
			}
		}
	}
	const step, rounds = 30 * time.Second, 19
	for round := range rounds {
		sweep(round)
		s.clock.Advance(step)
	}
	// At once five, and one more after each wait: 30 s, 1, 2 and 4 minutes fit into nine and a half.
	if compared != 9 {
		t.Errorf("%d guesses were compared in %s, want 9", compared, rounds*step)
	}
	// However long it takes, a hundred are the end.
	for round := rounds; round < rounds+200; round++ {
		s.db.Exec(t, `UPDATE accounts SET wait_until = NULL`)
		before := compared
		if open = open[:0]; round%2 == 0 {
			s.db.Exec(t, `UPDATE challenges SET next_send_at = created_at`)
		}
		sweep(round)
		if compared == before {
			break
		}
	}
	if compared != otp.MaxFailures {
		t.Errorf("%d guesses were compared in all, want %d", compared, otp.MaxFailures)
	}
	s.heard.Wait(t, event.AccountLocked, nil)
}
