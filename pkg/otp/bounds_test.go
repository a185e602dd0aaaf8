package otp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	seconds := map[int]int{1: 0, 2: 0, 3: 0, 4: 0, 5: 30, 6: 60, 7: 120, 8: 240, 9: 480, 10: 960, 11: 1920} // from the 12th on 3600
	var b Budget
	for n := 1; n <= MaxFailures; n++ {
		now = now.Add(2 * time.Hour) // every wait is over
		if b.Wait(now) != 0 || b.Locked {
			t.Fatalf("before failure %d: wait %s, locked %v", n, b.Wait(now), b.Locked)
		}
		b = b.Fail(now)
		want, listed := seconds[n]
		if !listed {
			want = 3600
		}
		if got := b.Wait(now); b.Failures != n || got != time.Duration(want)*time.Second || b.Locked != (n == 100) {
			t.Errorf("failure %d: count %d, wait %s (want %d s), locked %v", n, b.Failures, got, want, b.Locked)
		}
		if n >= 5 {
			if got := b.Wait(b.WaitUntil.Add(-time.Nanosecond)); got != time.Nanosecond {
				t.Errorf("failure %d: a nanosecond before the end the wait is %s", n, got)
			}
		}
	}
	if b.Wait(b.WaitUntil) != 0 || b.Wait(b.WaitUntil.Add(time.Hour)) != 0 {
		t.Error("the wait does not end")
	}
	if again := b.Fail(now); !again.Locked || again.Failures != MaxFailures+1 {
		t.Errorf("a failure after the lock: %+v", again)
	}
}

func TestBudgetSucceed(t *testing.T) {
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	var b Budget
	for range 20 {
		b = b.Fail(now)
	}
	b = b.Succeed()
	if b != (Budget{}) {
		t.Errorf("after a success: %+v", b)
	}
	for range FreeFailures {
		b = b.Fail(now)
	}
	if b.Wait(now) != 0 {
		t.Errorf("failures before the success still count: %+v", b)
	}
	if locked := (Budget{Failures: 100, WaitUntil: now, Locked: true}).Succeed(); !locked.Locked {
		t.Error("a success unlocks an account, and only an operator may")
	}
}

func TestPolicyBounds(t *testing.T) {
	if err := DefaultPolicy().Check(); err != nil {
		t.Fatal("the default: ", err)
	}
	for _, c := range []struct {
		name string
		ok   bool
		set  func(*Policy)
	}{
		{"digits", true, func(p *Policy) { p.Digits = 4 }},
		{"digits", true, func(p *Policy) { p.Digits = 10 }},
		{"digits", false, func(p *Policy) { p.Digits = 3 }},
		{"digits", false, func(p *Policy) { p.Digits = 11 }},
		{"life", true, func(p *Policy) { p.Life = time.Minute }},
		{"life", true, func(p *Policy) { p.Life = 10 * time.Minute }},
		{"life", false, func(p *Policy) { p.Life = 59 * time.Second }},
		{"life", false, func(p *Policy) { p.Life = 601 * time.Second }},
		{"life", false, func(p *Policy) { p.Life = time.Minute - 1 }},
		{"life", false, func(p *Policy) { p.Life = 10*time.Minute + 1 }},
		{"life", false, func(p *Policy) { p.Life = 90*time.Second + time.Millisecond }},
		{"life", false, func(p *Policy) { p.Life = -5 * time.Minute }},
		{"attempts", true, func(p *Policy) { p.Attempts = 1 }},
		{"attempts", true, func(p *Policy) { p.Attempts = 10 }},
		{"attempts", false, func(p *Policy) { p.Attempts = 0 }},
		{"attempts", false, func(p *Policy) { p.Attempts = 11 }},
		{"sends", true, func(p *Policy) { p.Sends = 1 }},
		{"sends", true, func(p *Policy) { p.Sends = 10 }},
		{"sends", false, func(p *Policy) { p.Sends = 0 }},
		{"sends", false, func(p *Policy) { p.Sends = 11 }},
		{"cooldown", true, func(p *Policy) { p.Cooldown = 10 * time.Second }},
		{"cooldown", true, func(p *Policy) { p.Cooldown = 10 * time.Minute }},
		{"cooldown", false, func(p *Policy) { p.Cooldown = 9 * time.Second }},
		{"cooldown", false, func(p *Policy) { p.Cooldown = 11 * time.Minute }},
		{"cooldown", false, func(p *Policy) { p.Cooldown = 10*time.Second + 1 }},
		{"open-challenges", true, func(p *Policy) { p.OpenChallenges = 1 }},
		{"open-challenges", true, func(p *Policy) { p.OpenChallenges = 10 }},
		{"open-challenges", false, func(p *Policy) { p.OpenChallenges = 0 }},
		{"open-challenges", false, func(p *Policy) { p.OpenChallenges = 11 }},
		{"totp-skew", true, func(p *Policy) { p.TOTPSkew = 0 }},
		{"totp-skew", true, func(p *Policy) { p.TOTPSkew = 2 }},
		{"totp-skew", false, func(p *Policy) { p.TOTPSkew = -1 }},
		{"totp-skew", false, func(p *Policy) { p.TOTPSkew = 3 }},
		{"channels", true, func(p *Policy) { p.Channels = []FactorKind{FactorEmail} }},
		{"channels", false, func(p *Policy) { p.Channels = nil }},
		{"channels", false, func(p *Policy) { p.Channels = []FactorKind{FactorSMS, FactorSMS} }},
		{"channels", false, func(p *Policy) { p.Channels = []FactorKind{FactorSMS, "fax"} }},
		{"channels", false, func(p *Policy) { p.Channels = []FactorKind{FactorBackupCode} }},
		{"channels", true, func(p *Policy) { p.Channels = []FactorKind{FactorYubikey, FactorHOTP, FactorWebAuthn} }},
		{"channels", false, func(p *Policy) { p.Channels = []FactorKind{FactorKind(Letter)} }},
		{"no-factor", true, func(p *Policy) { p.NoFactor = Refuse }},
		{"no-factor", false, func(p *Policy) { p.NoFactor = "" }},
		{"no-factor", false, func(p *Policy) { p.NoFactor = "pass" }},
	} {
		p := DefaultPolicy()
		c.set(&p)
		err := p.Check()
		if (err == nil) != c.ok {
			t.Errorf("%s in %+v: %v", c.name, p, err)
		}
		if err != nil && !strings.Contains(err.Error(), c.name) {
			t.Errorf("the error does not name %s: %v", c.name, err)
		}
	}
}

func TestTransactionCheck(t *testing.T) {
	for _, c := range []struct {
		t              Transaction
		field, problem string
	}{
		{Transaction{"39.99 EUR", "Shop"}, "", ""},
		{Transaction{strings.Repeat("ž", 64), strings.Repeat("🥕", 64)}, "", ""},
		{Transaction{"1\u00a0200 Kč", "Café"}, "", ""},
		{Transaction{"", "Shop"}, "amount", "must not be empty"},
		{Transaction{"1", ""}, "payee", "must not be empty"},
		{Transaction{}, "amount", "must not be empty"},
		{Transaction{strings.Repeat("ž", 65), "Shop"}, "amount", "must have at most 64 characters"},
		{Transaction{"1", strings.Repeat("p", 65)}, "payee", "must have at most 64 characters"},
		{Transaction{"1\n", "Shop"}, "amount", "must not have control characters"},
		{Transaction{"1", "Sh\u202eop"}, "payee", "must not have control characters"},
		{Transaction{"1", "Sh\xffop"}, "payee", "must be valid UTF-8"},
	} {
		if field, problem := c.t.Check(); field != c.field || problem != c.problem {
			t.Errorf("%q: %q %q", c.t, field, problem)
		}
	}
}

func TestTransactionDigest(t *testing.T) {
	if (*Transaction)(nil).Digest() != nil {
		t.Error("no transaction has a digest")
	}
	seen := map[string]Transaction{}
	for _, tr := range []Transaction{{"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"", ""}, {"ab", "C"}, {"c", "ab"}, {"Caf\u00e9", "x"}, {"Cafe\u0301", "x"}, {"a\x00\x00\x00\x01b", "c"}} {
		d := string(tr.Digest())
		if len(d) != 32 {
			t.Errorf("%q has a digest of %d bytes", tr, len(d))
		}
		if other, twice := seen[d]; twice {
			t.Errorf("%q and %q have one digest", tr, other)
		}
		seen[d] = tr
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]int{0: 0, -time.Hour: 0, 1: 1, time.Second: 1, time.Second + 1: 2, time.Hour: 3600} {
		if got := Seconds(d); got != want {
			t.Errorf("%s: %d, not %d", d, got, want)
		}
	}
}

func TestAsProblem(t *testing.T) {
	p := InvalidField("data.user", "must not be empty")
	if got := AsProblem(fmt.Errorf("take login: %w", p)); got != p || p.Message != "data.user must not be empty" || p.Reason != Invalid {
		t.Errorf("%+v", got)
	}
	if got := AsProblem(errors.New("password is hunter2")); got.Reason != Internal || strings.Contains(got.Error(), "hunter2") {
		t.Errorf("an inner error got out: %v", got)
	}
	if got := EndedProblem(Superseded); got.Reason != ChallengeEnded || !strings.Contains(got.Message, "superseded") {
		t.Errorf("%+v", got)
	}
}
