package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// in returns the system for a part of its test.
func (s *system) in(t *testing.T) *system {
	part := *s
	part.t = t
	return &part
}

// begin issues a challenge by request, for a user's first or named login.
func (s *system) begin(user string, data map[string]any, id ...string) event.LoginReply {
	s.t.Helper()
	r := s.beginAny(user, data, id...)
	if r.Outcome != event.OutcomeIssued {
		s.t.Fatalf("login of %s: %+v, want it issued", user, r)
	}
	return r
}

// beginAny asks for a challenge and returns whatever comes of it.
func (s *system) beginAny(user string, data map[string]any, id ...string) event.LoginReply {
	s.t.Helper()
	body := map[string]any{"user": user, "session": "session of " + user, "id": "login of " + user + strings.Join(id, " ")}
	for k, v := range data {
		body[k] = v
	}
	r, problem := request[event.LoginReply](s, event.VerbLogin, body)
	if problem != "" {
		s.t.Fatalf("login of %s: %s", user, problem)
	}
	return r
}

// answer answers a challenge; more changes the request.
func (s *system) answer(challenge, user, code string, more map[string]any) event.VerifyReply {
	s.t.Helper()
	body := map[string]any{"challenge": challenge, "session": "session of " + user, "code": code}
	for k, v := range more {
		body[k] = v
	}
	r, problem := request[event.VerifyReply](s, event.VerbVerify, body)
	if problem != "" {
		s.t.Fatalf("verify: %s", problem)
	}
	return r
}

// expect answers and compares the result and the attempts left.
func (s *system) expect(what, result string, left int, r event.VerifyReply) {
	s.t.Helper()
	if r.Result != result || r.AttemptsLeft != left {
		s.t.Errorf("%s: %s with %d attempts left, want %s with %d", what, r.Result, r.AttemptsLeft, result, left)
	}
}

// refuses asks and expects an error.
func (s *system) refuses(what, verb, code string, body map[string]any) {
	s.t.Helper()
	if _, problem := request[map[string]any](s, verb, body); problem != code {
		s.t.Errorf("%s: %q, want %s", what, problem, code)
	}
}

// attempts is how many attempts of a challenge have been taken.
func (s *system) attempts(challenge string) int {
	s.t.Helper()
	return otposttest.Get[int](s.t, s.db, `SELECT attempts FROM challenges WHERE id = $1`, challenge)
}

// mail waits for the message that a mailbox got.
func (s *system) mail(to string) inbox.Message {
	s.t.Helper()
	var found []inbox.Message
	otposttest.Eventually(s.t, "a message", func() bool {
		found = s.box.List(inbox.Filter{To: to})
		return len(found) > 0
	})
	return found[0]
}

// endsOnce compares all that was heard with the database: a challenge that is over was told of once, as what it is, and an open one not at all.
func (s *system) endsOnce() {
	s.t.Helper()
	rows, err := s.db.SQL(otposttest.Owner).QueryContext(s.t.Context(), `SELECT id::text, state FROM challenges`)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	states := map[string]string{}
	for rows.Next() {
		var id, state string
		if err := rows.Scan(&id, &state); err != nil {
			s.t.Fatal(err)
		}
		states[id] = state
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	ends := func(id string) (told []string) {
		seen := map[string]bool{} // an event may come twice, under one id
		for _, e := range s.heard.Of(id) {
			if seen[e.ID] {
				continue
			}
			seen[e.ID] = true
			switch e.Name {
			case event.ChallengeVerified:
				told = append(told, "verified")
			case event.ChallengeEnded:
				told = append(told, otposttest.Decode[event.Ended](s.t, e).Reason)
			}
		}
		return told
	}
	for id, state := range states {
		if state != string(otp.Open) {
			otposttest.Eventually(s.t, "the end of challenge "+id+" as "+state, func() bool { return len(ends(id)) > 0 })
		}
	}
	for id, state := range states {
		want := []string{state}
		if state == string(otp.Open) {
			want = nil
		}
		if told := ends(id); !slices.Equal(told, want) {
			s.t.Errorf("challenge %s is %s and was told to have ended as %v", id, state, told)
		}
	}
}

func address(n int) string { return fmt.Sprintf("user-%d@example.com", n) }

// totpValue is what an authenticator shows now.
func (s *system) totpValue(secret []byte) string {
	s.t.Helper()
	v, err := otp.DefaultTOTP().Value(secret, otp.DefaultTOTP().Step(s.clock.Now()))
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) { o.nats = append(o.nats, otposttest.WithApps("demo", "other")) })
	s.db.App(t, "other")
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification)
	defer s.endsOnce()

	t.Run("two requests", func(t *testing.T) {
		s := s.in(t)
		c := s.begin("two", bySMS(1))
		if c.Channel != "sms" || c.Factor != "sms" || c.To != "+1•••••0001" || c.Digits != 6 || c.ExpiresAt == "" || len(c.Methods) != 0 {
			t.Errorf("issued %+v", c)
		}
		code := s.code(phone(1))
		r := s.verify(c.Challenge, "two", code)
		if r.Result != "verified" || r.User != "two" || r.Factor != "sms" || !slices.Equal(r.AMR, []string{"otp", "sms"}) || r.VerifiedAt == "" {
			t.Errorf("verdict %+v", r)
		}
		s.expect("the same answer again", "unknown", 0, s.verify(c.Challenge, "two", code))
		s.expect("a wrong answer after that", "unknown", 0, s.verify(c.Challenge, "two", wrongCode(code)))
		ref := map[string]any{"challenge": c.Challenge, "session": "session of two"}
		s.refuses("cancel what is verified", event.VerbCancel, "challenge_ended", ref)
		s.refuses("resend what is verified", event.VerbResend, "challenge_ended", ref)
	})

	t.Run("every channel", func(t *testing.T) {
		s := s.in(t)
		c := s.begin("mailed", map[string]any{"to": map[string]any{"email": address(1)}})
		if c.To != "u•••@example.com" || c.Channel != "email" {
			t.Errorf("issued %+v", c)
		}
		r := s.verify(c.Challenge, "mailed", s.mail(address(1)).Code())
		if r.Result != "verified" || r.Factor != "email" || !slices.Equal(r.AMR, []string{"otp", "email"}) {
			t.Errorf("by mail: %+v", r)
		}
		secret := s.addTOTP("app-user")
		c = s.begin("app-user", nil)
		if c.Channel != "totp" || c.To != "" {
			t.Errorf("issued %+v", c)
		}
		r = s.verify(c.Challenge, "app-user", s.totpValue(secret))
		if r.Result != "verified" || r.Factor != "totp" || !slices.Equal(r.AMR, []string{"otp"}) {
			t.Errorf("by app: %+v", r)
		}
	})

	t.Run("TOTP for a text message", func(t *testing.T) {
		s := s.in(t)
		secret := s.addTOTP("both")
		data := bySMS(2)
		data["channel"] = "sms"
		c := s.begin("both", data)
		if c.Channel != "sms" || !slices.Equal(c.Methods, []string{"totp"}) {
			t.Errorf("issued %+v", c)
		}
		if r := s.verify(c.Challenge, "both", s.totpValue(secret)); r.Result != "verified" || r.Factor != "totp" {
			t.Errorf("verdict %+v", r)
		}
	})

	t.Run("a factor named", func(t *testing.T) {
		s := s.in(t)
		secret := s.addTOTP("named")
		data := bySMS(3)
		data["channel"] = "sms"
		c := s.begin("named", data)
		code := s.code(phone(3))
		s.expect("the code as totp", "wrong", 4, s.answer(c.Challenge, "named", code, map[string]any{"factor": "totp"}))
		s.expect("the value of the app as sms", "wrong", 3, s.answer(c.Challenge, "named", s.totpValue(secret), map[string]any{"factor": "sms"}))
		s.expect("the code as email", "wrong", 2, s.answer(c.Challenge, "named", code, map[string]any{"factor": "email"}))
		s.expect("the code as a backup code", "wrong", 1, s.answer(c.Challenge, "named", code, map[string]any{"factor": "backup_code"}))
		if r := s.answer(c.Challenge, "named", code, map[string]any{"factor": "sms"}); r.Result != "verified" || r.Factor != "sms" {
			t.Errorf("the code as sms: %+v", r)
		}
	})

	t.Run("typed by people", func(t *testing.T) {
		s := s.in(t)
		shift := func(code string, zero rune) string {
			return strings.Map(func(r rune) rune { return zero + r - '0' }, code)
		}
		for n, typed := range []func(string) string{
			func(c string) string { return c[:3] + " " + c[3:] },
			func(c string) string { return c[:3] + "-" + c[3:] },
			func(c string) string { return " " + c + "\u00a0" },
			func(c string) string { return c[:2] + "\u2013" + c[2:4] + " - " + c[4:] },
			func(c string) string { return shift(c, '０') },
			func(c string) string { return shift(c, '٠') },
			func(c string) string { return shift(c[:3], '०') + " " + c[3:] },
		} {
			user := fmt.Sprint("typist-", n)
			c := s.begin(user, bySMS(10+n))
			if r := s.verify(c.Challenge, user, typed(s.code(phone(10+n)))); r.Result != "verified" {
				t.Errorf("form %d is %s", n, r.Result)
			}
		}
	})

	t.Run("cancelled", func(t *testing.T) {
		s := s.in(t)
		c := s.begin("quitter", bySMS(20))
		code := s.code(phone(20))
		ref := map[string]any{"challenge": c.Challenge, "session": "session of quitter"}
		s.refuses("cancel with another session", event.VerbCancel, "unknown_challenge", map[string]any{"challenge": c.Challenge, "session": "x"})
		for range 2 {
			r, problem := request[event.CancelReply](s, event.VerbCancel, ref)
			if problem != "" || r.Result != "cancelled" {
				t.Errorf("cancel: %+v %s", r, problem)
			}
		}
		s.expect("the code after that", "cancelled", 0, s.verify(c.Challenge, "quitter", code))
		s.refuses("resend after that", event.VerbResend, "challenge_ended", ref)
		if n := s.attempts(c.Challenge); n != 0 {
			t.Errorf("%d attempts were taken", n)
		}
		if st, _ := request[event.StatusReply](s, event.VerbStatus, map[string]any{"challenge": c.Challenge}); st.State != "cancelled" || st.Reason != "cancelled" || st.EndedAt == "" {
			t.Errorf("status %+v", st)
		}
	})

	t.Run("strangers", func(t *testing.T) {
		s := s.in(t)
		c := s.begin("owner", bySMS(21))
		code := s.code(phone(21))
		s.expect("another session", "unknown", 0, s.answer(c.Challenge, "owner", code, map[string]any{"session": "another"}))
		s.expect("no such challenge", "unknown", 0, s.answer("0193503c-7a80-7c1e-9d2a-3f1be2a45c07", "owner", code, nil))
		other := s.nats.App(t, "other")
		body := map[string]any{"challenge": c.Challenge, "session": "session of owner"}
		for verb, want := range map[string]string{event.VerbResend: "unknown_challenge", event.VerbCancel: "unknown_challenge", event.VerbStatus: "unknown_challenge", event.VerbVerify: "unknown"} {
			b := map[string]any{"challenge": c.Challenge}
			if verb != event.VerbStatus {
				b["session"] = "session of owner"
			}
			if verb == event.VerbVerify {
				b["code"] = code
			}
			if got := s.asOther(other, verb, b); got != want {
				t.Errorf("%s by another app: %s, want %s", verb, got, want)
			}
		}
		s.refuses("resend with another session", event.VerbResend, "unknown_challenge", map[string]any{"challenge": c.Challenge, "session": "another"})
		if n := s.attempts(c.Challenge); n != 0 {
			t.Errorf("strangers took %d attempts", n)
		}
		s.expect("its owner", "verified", 4, s.verify(c.Challenge, "owner", code))
		s.refuses("a stranger's cancel of a verified one", event.VerbCancel, "unknown_challenge", map[string]any{"challenge": c.Challenge, "session": "another"})
		s.refuses("its owner's", event.VerbCancel, "challenge_ended", body)
	})

	t.Run("transactions", func(t *testing.T) {
		s := s.in(t)
		data := bySMS(22)
		data["transaction"] = map[string]any{"amount": "39.99 EUR", "payee": "Shop"}
		c := s.begin("payer", data)
		code := s.code(phone(22))
		if m := s.box.List(inbox.Filter{To: phone(22)})[0]; !strings.Contains(m.Text, "39.99 EUR") || !strings.Contains(m.Text, "Shop") {
			t.Error("the message does not show the transaction")
		}
		pay := func(amount, payee string) map[string]any {
			return map[string]any{"transaction": map[string]any{"amount": amount, "payee": payee}}
		}
		s.expect("without", "wrong", 4, s.answer(c.Challenge, "payer", code, nil))
		s.expect("another amount", "wrong", 3, s.answer(c.Challenge, "payer", code, pay("3999 EUR", "Shop")))
		s.expect("another payee", "wrong", 2, s.answer(c.Challenge, "payer", code, pay("39.99 EUR", "Shoq")))
		s.expect("the same", "verified", 1, s.answer(c.Challenge, "payer", code, pay("39.99 EUR", "Shop")))
		plain := s.begin("visitor", bySMS(23))
		s.expect("where there was none", "wrong", 4, s.answer(plain.Challenge, "visitor", s.code(phone(23)), pay("39.99 EUR", "Shop")))
		s.expect("none", "verified", 3, s.answer(plain.Challenge, "visitor", s.code(phone(23)), nil))
		// A TOTP value is bound as well.
		secret := s.addTOTP("app-payer")
		bound := s.begin("app-payer", map[string]any{"transaction": map[string]any{"amount": "1 EUR", "payee": "Shop"}})
		s.expect("TOTP without", "wrong", 4, s.answer(bound.Challenge, "app-payer", s.totpValue(secret), nil))
		s.expect("TOTP with", "verified", 3, s.answer(bound.Challenge, "app-payer", s.totpValue(secret), pay("1 EUR", "Shop")))
	})

	t.Run("the same request", func(t *testing.T) {
		s := s.in(t)
		c := s.begin("repeater", bySMS(24))
		code := s.code(phone(24))
		once := map[string]any{"request": "r-1"}
		s.expect("wrong", "wrong", 4, s.answer(c.Challenge, "repeater", wrongCode(code), once))
		s.expect("wrong again", "wrong", 4, s.answer(c.Challenge, "repeater", wrongCode(code), once))
		s.expect("the same id with another answer", "wrong", 3, s.answer(c.Challenge, "repeater", wrongCode(wrongCode(code)), once))
		if n := otposttest.Get[int](t, s.db, `SELECT failures FROM accounts WHERE user_id = 'repeater'`); n != 2 {
			t.Errorf("%d failures on the account, want 2", n)
		}
		first := s.answer(c.Challenge, "repeater", code, map[string]any{"request": "r-2"})
		s.clock.Advance(time.Second)
		again := s.answer(c.Challenge, "repeater", code, map[string]any{"request": "r-2"})
		if first.Result != "verified" || fmt.Sprint(first) != fmt.Sprint(again) {
			t.Errorf("verified as %+v, again as %+v", first, again)
		}
		s.expect("the same id with a wrong answer", "unknown", 0, s.answer(c.Challenge, "repeater", wrongCode(code), map[string]any{"request": "r-2"}))
		s.expect("the same id with another transaction", "unknown", 0, s.answer(c.Challenge, "repeater", code, map[string]any{
			"request": "r-2", "transaction": map[string]any{"amount": "9999 EUR", "payee": "Mallory"},
		}))
		s.expect("another request", "unknown", 0, s.answer(c.Challenge, "repeater", code, map[string]any{"request": "r-3"}))
		s.expect("a stranger's same request", "unknown", 0, s.answer(c.Challenge, "repeater", code, map[string]any{"request": "r-2", "session": "x"}))
		if n := s.attempts(c.Challenge); n != 3 {
			t.Errorf("%d attempts were taken, want 3", n)
		}
	})

	t.Run("exhausted", func(t *testing.T) {
		s := s.in(t)
		c := s.begin("guesser", bySMS(25))
		code := s.code(phone(25))
		for left := 4; left >= 0; left-- {
			s.expect("a guess", "wrong", left, s.verify(c.Challenge, "guesser", wrongCode(code)))
		}
		s.expect("the code after that", "exhausted", 0, s.verify(c.Challenge, "guesser", code))
		failed := 0
		s.heard.Wait(t, event.ChallengeEnded, func(e otposttest.Event) bool { return e.Subject == c.Challenge })
		for _, e := range s.heard.Of(c.Challenge) {
			if e.Name == event.ChallengeFailed {
				failed++
			}
		}
		if failed != 5 {
			t.Errorf("challenge.failed was heard %d times, want 5", failed)
		}
	})
}

// asOther asks as the app "other" and returns the result or the problem's code.
func (s *system) asOther(conn *nats.Conn, verb string, body map[string]any) string {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := conn.Request(event.RPCSubject("other", verb), b, otposttest.Patience)
	if err != nil {
		s.t.Fatalf("%s: %v", verb, err)
	}
	var r struct {
		Result string
		Error  event.ErrorBody
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		s.t.Fatalf("%s: %v in %s", verb, err, m.Data)
	}
	return r.Result + r.Error.Code
}

func TestAnswerAfterExpiry(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	stop := s.run(bus.RoleChallenge)
	s.run(bus.RoleSMS, bus.RoleVerification)
	defer s.endsOnce()
	c := s.begin("alice", bySMS(1))
	code := s.code(phone(1))
	s.heard.Wait(t, event.ChallengeSent, func(e otposttest.Event) bool { return e.Subject == c.Challenge })
	stop() // no sweeper: the row still says open
	s.clock.Advance(s.app.Policy.Life - time.Millisecond)
	s.expect("in the last moment", "wrong", 4, s.verify(c.Challenge, "alice", wrongCode(code)))
	s.clock.Advance(time.Millisecond)
	s.expect("when the time is over", "expired", 0, s.verify(c.Challenge, "alice", code))
	if n := s.attempts(c.Challenge); n != 1 {
		t.Errorf("%d attempts were taken, want 1", n)
	}
	s.run(bus.RoleChallenge)
	if reason := s.ended(c.Challenge); reason != "expired" {
		t.Errorf("it ended as %s", reason)
	}
	s.expect("after its end", "expired", 0, s.verify(c.Challenge, "alice", code))
	ref := map[string]any{"challenge": c.Challenge, "session": "session of alice"}
	s.refuses("resend after that", event.VerbResend, "challenge_ended", ref)
	s.refuses("cancel after that", event.VerbCancel, "challenge_ended", ref)
}

func TestSuperseded(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification)
	defer s.endsOnce()
	var all []event.LoginReply
	for n := range s.app.Policy.OpenChallenges + 1 {
		s.clock.Advance(time.Second)
		all = append(all, s.begin("alice", bySMS(n), fmt.Sprint(n)))
	}
	if reason := s.ended(all[0].Challenge); reason != "superseded" {
		t.Errorf("the oldest ended as %s", reason)
	}
	s.expect("an answer to it", "superseded", 0, s.verify(all[0].Challenge, "alice", "123456"))
	s.refuses("a resend of it", event.VerbResend, "challenge_ended", map[string]any{"challenge": all[0].Challenge, "session": "session of alice"})
	state := otposttest.Get[string](t, s.db, `SELECT state || ' ' || reason FROM deliveries WHERE challenge_id = $1`, all[0].Challenge)
	if state != "expired superseded" {
		t.Errorf("its delivery is %q, want it withdrawn", state)
	}
	s.run(bus.RoleSMS)
	for n := 1; n < len(all); n++ {
		s.expect("a younger one", "verified", 4, s.verify(all[n].Challenge, "alice", s.code(phone(n))))
	}
	if n := s.messages(phone(0)); n != 0 {
		t.Errorf("%d messages of the superseded one went out", n)
	}
	// Those that were verified count no more.
	s.begin("alice", bySMS(9), "later")
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges WHERE state = 'superseded'`); n != 1 {
		t.Errorf("%d challenges were superseded, want 1", n)
	}
}

// Cancelled before its code went out: it never goes out.
func TestCancelledWhileQueued(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) { a.Policy.NoFactor = otp.Refuse })
	})
	s.run(bus.RoleChallenge)
	defer s.endsOnce()
	c := s.begin("alice", bySMS(1))
	if _, problem := request[event.CancelReply](s, event.VerbCancel, map[string]any{"challenge": c.Challenge, "session": "session of alice"}); problem != "" {
		t.Fatal(problem)
	}
	s.begin("bob", bySMS(2))
	s.run(bus.RoleSMS)
	s.code(phone(2))
	otposttest.Eventually(t, "the delivery has an outcome", func() bool {
		return otposttest.Get[string](t, s.db, `SELECT state FROM deliveries WHERE challenge_id = $1`, c.Challenge) == "expired"
	})
	if n := s.messages(phone(1)); n != 0 {
		t.Errorf("%d messages of a cancelled challenge went out", n)
	}
	// A user without a factor is refused or passed, as the app's policy says.
	if r := s.beginAny("nobody", nil); r.Outcome != event.OutcomeRefused || r.Reason != "no_factor" {
		t.Errorf("a user without a factor: %+v", r)
	}
}
