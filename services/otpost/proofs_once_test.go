package main

import (
	"fmt"
	"testing"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is what must hold of proofs wherever and however often they come: each serves once. scripts/check-guards takes away what the tests of things at
// once are about, and sees them fail.

// What enrolment has checked counts as an answer does, and is used up by it.
func TestCheckForAnAct(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withKeys)
	s.run(bus.RoleChallenge, bus.RoleVerification)
	enrolment := s.nats.Bus(t, bus.RoleEnrolment)
	check := func(user, code string) event.CheckReply {
		t.Helper()
		body, err := enrolment.Ask(t.Context(), event.VerbCheck, event.Encode(event.CheckRequest{App: "demo", User: user, Session: "s", Code: code}))
		if err != nil {
			t.Fatal(err)
		}
		r, err := event.ParseCheckReply(body)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	hotp, secret, y, codes := s.giveToken("alice"), s.addTOTP("alice"), s.giveYubiKey("alice"), s.giveBackupCodes("alice", 4)
	pressed := y.Press()
	for _, tt := range []struct {
		kind, code string
		factor     bool
	}{{"hotp", hotp.value(t, 2), true}, {"totp", s.totpValue(secret), true}, {"yubikey", pressed, true}, {"backup_code", codes[0], false}} {
		s.db.Exec(t, `UPDATE accounts SET failures = 3 WHERE user_id = 'alice'`)
		r := check("alice", tt.code)
		if !r.OK || r.Kind != tt.kind || (r.Factor != "") != tt.factor || r.Locked || r.RetryAfter != 0 {
			t.Errorf("by %s: %+v", tt.kind, r)
		}
		if n := otposttest.Get[int](t, s.db, `SELECT coalesce(max(failures), 0) FROM accounts WHERE user_id = 'alice'`); n != 0 {
			t.Errorf("by %s: %d failures are left", tt.kind, n)
		}
		if r := check("alice", tt.code); r.OK || r.Kind != "" {
			t.Errorf("by the same %s again: %+v", tt.kind, r)
		}
		if r := check("bob", tt.code); r.OK {
			t.Errorf("by another's %s: %+v", tt.kind, r)
		}
		s.db.Exec(t, `UPDATE accounts SET failures = 0, wait_until = NULL`)
	}
	c := s.begin("alice", bySMS(1))
	s.expect("at a challenge, what was checked", "wrong", 9, s.verify(c.Challenge, "alice", hotp.value(t, 2)))
	s.expect("the next", "verified", 8, s.verify(c.Challenge, "alice", hotp.value(t, 3)))
	e := s.heard.Wait(t, event.BackupCodeUsed, nil)
	if d := otposttest.Decode[event.BackupCodeUsedData](t, e); d.User != "alice" || d.Session != "s" || d.Login != "" || d.Left != 3 {
		t.Errorf("told %+v", d)
	}
	if s.noticed("alice", otp.NoticeBackupCodeUsed) != 1 || s.noticed("alice", otp.NoticeBackupCodesLow) != 1 {
		t.Error("the user is not told of a backup code")
	}
	// Waits and the lock are the account's.
	for n := range 5 {
		if r := check("alice", "000000"); r.OK || r.RetryAfter != map[int]int{4: 30}[n] {
			t.Errorf("wrong for the %d. time: %+v", n+1, r)
		}
	}
	if r := check("alice", hotp.value(t, 4)); r.OK || r.RetryAfter != 30 || r.Locked {
		t.Errorf("within the wait: %+v", r)
	}
	s.db.Exec(t, `UPDATE accounts SET failures = $1, wait_until = NULL WHERE user_id = 'alice'`, otp.MaxFailures-1)
	if r := check("alice", "000000"); r.OK {
		t.Errorf("the last wrong one: %+v", r)
	}
	if r := check("alice", hotp.value(t, 4)); r.OK || !r.Locked {
		t.Errorf("when locked: %+v", r)
	}
	locked := otposttest.Decode[event.AccountLockedData](t, s.heard.Wait(t, event.AccountLocked, nil))
	if locked.User != "alice" || locked.Session != "s" || locked.Challenge != "" || locked.Failures != otp.MaxFailures {
		t.Errorf("told %+v", locked)
	}
	if s.noticed("alice", otp.NoticeAccountLocked) != 1 || s.audited("alice", "account.locked") != 1 {
		t.Error("the lock is not told")
	}
}

// The same value of a token, at several challenges at once, is accepted once.
func TestCounterOnce(t *testing.T) {
	t.Parallel()
	for kind, give := range map[string]func(*system) func() string{
		"hotp": func(s *system) func() string {
			k, n := s.giveToken("alice"), int64(-1)
			return func() string { n++; return k.value(s.t, n) }
		},
		"yubikey": func(s *system) func() string { return s.giveYubiKey("alice").Press },
	} {
		t.Run(kind, func(t *testing.T) {
			s := newSystem(t, withKeys)
			s.run(bus.RoleChallenge, bus.RoleVerification, bus.RoleVerification)
			next := give(s)
			value := next()
			var challenges []string
			for n := range 4 {
				challenges = append(challenges, s.begin("alice", bySMS(1), fmt.Sprint(n)).Challenge)
			}
			counts := atOnce(len(challenges), func(i int) string { return answerOnce(s, challenges[i], "alice", value) })
			if counts["verified"] != 1 || counts["wrong"] != 3 {
				t.Errorf("one value for four challenges at once: %v, want 1 verified", counts)
			}
			value = next()
			results := map[string]int{}
			for _, c := range challenges {
				results[answerOnce(s, c, "alice", value)]++
			}
			if results["verified"] != 1 {
				t.Errorf("the next value: %v, want 1 verified", results)
			}
		})
	}
}

// One backup code, at several challenges at once, lets one pass.
func TestBackupCodeOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withKeys)
	s.run(bus.RoleChallenge, bus.RoleVerification, bus.RoleVerification)
	codes := s.giveBackupCodes("alice", 10)
	var challenges []string
	for n := range 4 {
		challenges = append(challenges, s.begin("alice", bySMS(1), fmt.Sprint(n)).Challenge)
	}
	counts := atOnce(8, func(i int) string { return answerOnce(s, challenges[i%4], "alice", codes[0]) })
	if counts["verified"] != 1 {
		t.Errorf("one backup code at four challenges: %v, want 1 verified", counts)
	}
	if left := otposttest.Get[int](t, s.db, `SELECT count(*) FROM backup_codes WHERE used_at IS NULL`); left != 9 {
		t.Errorf("%d are left, want 9", left)
	}
}

// What a security key has signed is looked at once. Here it comes with the wrong values of a transaction first, as from somebody who has seen it pass and
// would like to have it count for something else, and then rightly, many at once; the key counts nothing, so that only its session tells.
func TestAssertionOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withKeys)
	s.run(bus.RoleChallenge, bus.RoleVerification, bus.RoleVerification)
	key := otposttest.NewAuthenticator(t)
	key.PasskeyZeroCounter = true
	s.giveKey("alice", key)
	pay := map[string]any{"transaction": map[string]any{"amount": "1 EUR", "payee": "Shop"}}
	data := bySMS(1)
	data["transaction"] = pay["transaction"]
	c := s.begin("alice", data)
	signed := key.Get(t, s.options(c.Challenge, "alice"), keyOrigin)
	s.expect("for other values", "wrong", 9, s.sign(c.Challenge, "alice", signed, map[string]any{"transaction": map[string]any{"amount": "9 EUR", "payee": "Eve"}}))
	counts := atOnce(3, func(int) string { return s.sign(c.Challenge, "alice", signed, pay).Result })
	if counts["wrong"] != 3 {
		t.Errorf("the same again: %v, want all wrong", counts)
	}
	fresh := key.Get(t, s.options(c.Challenge, "alice"), keyOrigin)
	counts = atOnce(6, func(int) string { return s.sign(c.Challenge, "alice", fresh, pay).Result })
	if counts["verified"] != 1 || counts["unknown"] != 5 {
		t.Errorf("a fresh one many times at once: %v, want 1 verified", counts)
	}
}
