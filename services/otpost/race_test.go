package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// The tests of this file are about what must hold when things happen at once or stop half-way. scripts/check-guards takes away what each one tests, in a
// build of its own, and sees it fail.

func TestSameEventThrice(t *testing.T) {
	s := newSystem(t)
	// Before the worker starts, so that repeats stand in one batch; the third has another time, the fourth comes later, the fifth as a request.
	s.publish("login-1", "alice", bySMS(1))
	s.publish("login-1", "alice", bySMS(1))
	if _, err := s.js.Publish(t.Context(), event.LoginSubject("demo"), s.login("login-1", "alice", s.clock.Now().Add(-3*time.Second), bySMS(1))); err != nil {
		t.Fatal(err)
	}
	s.publish("login-2", "bob", bySMS(2)) // another one in the same batch
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	first, bob := s.issued("alice"), s.issued("bob")
	code := s.code(phone(1))
	s.publish("login-1", "alice", bySMS(1))
	body := bySMS(1)
	body["id"], body["user"], body["session"] = "login-1", "alice", "session of alice"
	again, problem := request[event.LoginReply](s, event.VerbLogin, body)
	if problem != "" || again.Challenge != first.Challenge {
		t.Fatalf("the same login by request gave %+v %s, want challenge %s", again, problem, first.Challenge)
	}
	s.heard.Wait(t, event.ChallengeSent, func(e otposttest.Event) bool { return e.Subject == bob.Challenge })

	// A login that comes after all of these has been sent: whatever the repeats brought was sent before it.
	s.publish("login-3", "carol", bySMS(3))
	s.code(phone(3))
	if n := s.messages(phone(1)); n != 1 {
		t.Errorf("%d messages were sent, want 1", n)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges WHERE user_id = 'alice'`); n != 1 {
		t.Errorf("%d challenges were stored, want 1", n)
	}
	for _, e := range s.heard.All() {
		if e.Name == event.ChallengeIssued {
			if i := otposttest.Decode[event.Issued](t, e); i.User == "alice" && i.Challenge != first.Challenge {
				t.Errorf("a second challenge was issued: %s", i.Challenge)
			}
		}
	}
	if letters := s.dead(); len(letters) > 0 {
		t.Errorf("dead letters: %+v", letters)
	}
	if r := s.verify(first.Challenge, "alice", code); r.Result != "verified" {
		t.Errorf("the one code is %s", r.Result)
	}
}

// The worker's process is killed after it has committed and before NATS has heard of it.
func TestWorkerKilledBetweenCommitAndAck(t *testing.T) {
	t.Parallel()
	for _, role := range []bus.Role{bus.RoleChallenge, bus.RoleSMS} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, shortAckWait(2*time.Second))
			others := []bus.Role{bus.RoleVerification}
			if role == bus.RoleSMS {
				others = append(others, bus.RoleChallenge)
			}
			s.run(others...)
			g := newGate(t, strings.TrimPrefix(s.nats.URL(), "nats://"))
			lost := s.start(role, g.url(), leases(role)...)
			stream := map[bus.Role]string{bus.RoleChallenge: bus.StreamLogins, bus.RoleSMS: bus.StreamWork}[role]
			otposttest.Eventually(t, "it has asked for work", func() bool { // with the gate shut it cannot any more
				c, err := s.operator().JetStream().Consumer(t.Context(), stream, string(role))
				return err == nil && c.CachedInfo().NumWaiting > 0
			})
			g.close()
			for n := range 5 {
				s.publish(fmt.Sprint("login-", n), fmt.Sprint("user-", n), bySMS(n))
			}
			committed := `SELECT count(*) FROM challenges`
			if role == bus.RoleSMS {
				committed = `SELECT count(*) FROM deliveries WHERE state = 'accepted'`
			}
			otposttest.Eventually(t, "the work is committed", func() bool { return otposttest.Get[int](t, s.db, committed) == 5 })
			lost.kill()

			s.start(role, "", leases(role)...)
			if role == bus.RoleChallenge {
				s.run(bus.RoleSMS)
			}
			for n := range 5 {
				user := fmt.Sprint("user-", n)
				c := s.issued(user)
				s.heard.Wait(t, event.ChallengeSent, func(e otposttest.Event) bool { return e.Subject == c.Challenge })
				if r := s.verify(c.Challenge, user, s.code(phone(n))); r.Result != "verified" {
					t.Errorf("%s: %s", user, r.Result)
				}
				if got := s.messages(phone(n)); got != 1 {
					t.Errorf("%s got %d messages, want 1", user, got)
				}
			}
			if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges`); n != 5 {
				t.Errorf("%d challenges, want 5", n)
			}
			if letters := s.dead(); len(letters) > 0 {
				t.Errorf("dead letters: %+v", letters)
			}
		})
	}
}

// leases shortens what a channel worker waits for.
func leases(role bus.Role) []string {
	if role == bus.RoleSMS {
		return []string{"--lease", "3s", "--send-timeout", "2s"}
	}
	return nil
}

// Processes are killed at any instant under load. Nothing is lost; what may have been sent twice is what was being handed over in that
// instant, and it is counted.
func TestKilledUnderLoad(t *testing.T) {
	const logins = 300
	s := newSystem(t, shortAckWait(2*time.Second))
	s.box.SetTwilioFaults(func(inbox.TwilioRequest) *inbox.TwilioFault { return &inbox.TwilioFault{Delay: 3 * time.Millisecond} })
	s.run(bus.RoleVerification)
	s.start(bus.RoleChallenge, "")
	s.start(bus.RoleSMS, "", append(leases(bus.RoleSMS), "--concurrency=8")...)
	doomed := []*process{s.start(bus.RoleChallenge, ""), s.start(bus.RoleSMS, "", append(leases(bus.RoleSMS), "--concurrency=8")...)}
	var killed sync.WaitGroup
	for n := range logins {
		s.publish(fmt.Sprint("login-", n), fmt.Sprint("user-", n), bySMS(n))
		if n == logins/3 || n == logins/2 {
			p := doomed[0]
			doomed = doomed[1:]
			killed.Go(p.kill)
		}
	}
	killed.Wait()
	twice := 0
	for n := range logins {
		user := fmt.Sprint("user-", n)
		if r := s.verify(s.issued(user).Challenge, user, s.code(phone(n))); r.Result != "verified" {
			t.Errorf("%s: %s", user, r.Result)
		}
		switch got := s.messages(phone(n)); got {
		case 1:
		case 2:
			twice++
		default:
			t.Errorf("%s got %d messages", user, got)
		}
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges`); n != logins {
		t.Errorf("%d challenges, want %d", n, logins)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM deliveries WHERE unsure > 0`); n < twice {
		t.Errorf("%d were sent twice, %d are on record as unsure", twice, n)
	}
	t.Logf("%d of %d went out twice, by a worker that was killed in the middle of a hand-over", twice, logins)
}

// atOnce calls fn n times at once and counts what it returns.
func atOnce(n int, fn func(i int) string) map[string]int {
	var mu sync.Mutex
	var all sync.WaitGroup
	ready := make(chan struct{})
	counts := map[string]int{}
	for i := range n {
		all.Go(func() {
			<-ready
			r := fn(i)
			mu.Lock()
			defer mu.Unlock()
			counts[r]++
		})
	}
	close(ready)
	all.Wait()
	return counts
}

func TestWrongAnswersAtOnce(t *testing.T) {
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification, bus.RoleVerification)
	s.publish("login", "alice", bySMS(1))
	c, code := s.issued("alice"), s.code(phone(1))
	wrong := wrongCode(code)
	counts := atOnce(200, func(int) string { return answerOnce(s, c.Challenge, "alice", wrong) })
	if counts["wrong"] != s.app.Policy.Attempts || counts["wrong"]+counts["exhausted"]+counts["unavailable"] != 200 {
		t.Errorf("200 wrong answers at once: %v, want %d of them compared and the rest refused", counts, s.app.Policy.Attempts)
	}
	if r := s.verify(c.Challenge, "alice", code); r.Result != "exhausted" {
		t.Errorf("a right answer after that is %s, want exhausted", r.Result)
	}
	if reason := s.ended(c.Challenge); reason != "exhausted" {
		t.Errorf("it ended as %s", reason)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT failures FROM accounts WHERE user_id = 'alice'`); n != s.app.Policy.Attempts {
		t.Errorf("%d failures are on the account, want %d", n, s.app.Policy.Attempts)
	}
}

// answerOnce returns the result of an answer, or the code of its problem.
func answerOnce(s *system, challenge, user, code string) string {
	r, problem := request[event.VerifyReply](s, event.VerbVerify, map[string]any{"challenge": challenge, "session": "session of " + user, "code": code})
	if problem != "" {
		return problem
	}
	return r.Result
}

func TestRightAnswersAtOnce(t *testing.T) {
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification, bus.RoleVerification)
	s.publish("login", "alice", bySMS(1))
	c, code := s.issued("alice"), s.code(phone(1))
	counts := atOnce(100, func(int) string { return answerOnce(s, c.Challenge, "alice", code) })
	if counts["verified"] != 1 || counts["verified"]+counts["unknown"]+counts["unavailable"] != 100 {
		t.Errorf("100 right answers at once: %v, want 1 verified and the rest unknown", counts)
	}
	s.heard.Wait(t, event.ChallengeVerified, nil)
	s.publish("later", "bob", bySMS(2)) // what else there was to hear of alice has been heard when bob's is
	s.verify(s.issued("bob").Challenge, "bob", s.code(phone(2)))
	s.heard.Wait(t, event.ChallengeVerified, func(e otposttest.Event) bool { return otposttest.Decode[event.VerifiedData](t, e).User == "bob" })
	verified := 0
	for _, e := range s.heard.Of(c.Challenge) {
		if e.Name == event.ChallengeVerified {
			verified++
		}
	}
	if verified != 1 {
		t.Errorf("challenge.verified was heard %d times, want once", verified)
	}
}

// addTOTP gives a user an authenticator app.
func (s *system) addTOTP(user string) (secret []byte) {
	s.t.Helper()
	secret, id := otp.NewTOTPSecret(), uuid.New()
	sealed, err := otposttest.Ring(s.t, keyring.Operator).SealSecret("demo", user, id.String(), secret)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := postgres.NewFactors(s.db.Role("operator")).Add(s.t.Context(), s.clock.Now(), postgres.NewFactor{
		ID: id, Account: postgres.Account{AppID: s.app.ID, User: user}, Kind: otp.FactorTOTP, Sealed: sealed, TOTP: otp.DefaultTOTP(),
	}); err != nil {
		s.t.Fatal(err)
	}
	return secret
}

// One TOTP value answers several challenges of its user at once: its step is accepted once.
func TestTOTPStepOnce(t *testing.T) {
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification, bus.RoleVerification)
	secret := s.addTOTP("alice")
	var challenges []string
	for n := range 3 {
		last := ""
		s.publish(fmt.Sprint("login-", n), "alice", nil)
		if n > 0 {
			last = challenges[n-1]
		}
		var c event.Issued
		s.heard.Wait(t, event.ChallengeIssued, func(e otposttest.Event) bool {
			c = otposttest.Decode[event.Issued](t, e)
			return c.Login == fmt.Sprint("login-", n) && c.Challenge != last
		})
		if c.Factor != "totp" || c.To != "" {
			t.Fatalf("issued %+v, want totp without an address", c)
		}
		challenges = append(challenges, c.Challenge)
	}
	value, err := otp.DefaultTOTP().Value(secret, otp.DefaultTOTP().Step(s.clock.Now()))
	if err != nil {
		t.Fatal(err)
	}
	counts := atOnce(9, func(i int) string { return answerOnce(s, challenges[i%3], "alice", value) })
	if counts["verified"] != 1 {
		t.Errorf("one TOTP value for three challenges at once: %v, want 1 verified", counts)
	}
	// The next step is accepted on another challenge, once the wait that the replays brought is over.
	s.clock.Advance(2 * time.Minute)
	value, err = otp.DefaultTOTP().Value(secret, otp.DefaultTOTP().Step(s.clock.Now()))
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]int{}
	for _, c := range challenges {
		results[answerOnce(s, c, "alice", value)]++
	}
	if results["verified"] != 1 {
		t.Errorf("a later step: %v, want 1 verified", results)
	}
}

func TestExpiredWhileQueuedIsNeverSent(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	stop := s.run(bus.RoleChallenge)
	s.run(bus.RoleVerification)
	s.publish("login", "alice", bySMS(1))
	c := s.issued("alice")
	stop() // its sweeper would withdraw the delivery: the channel's worker must see by itself
	s.clock.Advance(s.app.Policy.Life + time.Second)
	if r := s.verify(c.Challenge, "alice", "123456"); r.Result != "expired" {
		t.Errorf("an answer to it is %s, want expired", r.Result)
	}
	s.run(bus.RoleSMS)
	outcome := `SELECT state FROM deliveries WHERE state NOT IN ('queued', 'sending')`
	otposttest.Eventually(t, "the delivery has an outcome", func() bool {
		return otposttest.Get[int](t, s.db, `SELECT count(*) FROM (`+outcome+`) AS o`) == 1
	})
	if state := otposttest.Get[string](t, s.db, outcome); state != "expired" {
		t.Errorf("the delivery is %s, want expired", state)
	}
	if n := s.messages(phone(1)); n != 0 {
		t.Errorf("%d messages went out for an expired challenge", n)
	}
	s.run(bus.RoleChallenge)
	if reason := s.ended(c.Challenge); reason != "expired" {
		t.Errorf("it ended as %s, want expired", reason)
	}
}
