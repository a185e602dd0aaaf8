package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is the page of a login's challenge, as a browser without scripts sees it.

// challenged opens the page of a login's challenge.
func (e *edge) challenged(user, challenge string) *visitor {
	e.s.t.Helper()
	v := e.visit(user, event.PageChallenge, map[string]any{"challenge": challenge})
	v.At("/challenge")
	return v
}

// says fails the test unless the page has the status and the texts.
func (v *visitor) says(status int, texts ...string) {
	v.e.s.t.Helper()
	if v.Status != status {
		v.e.s.t.Fatalf("%s is answered %d, want %d:\n%s", v.URL.Path, v.Status, status, v.Text())
	}
	v.Says(texts...)
}

// hides fails the test if the page has any of the texts, in whatever place.
func (v *visitor) hides(texts ...string) {
	v.e.s.t.Helper()
	for _, hidden := range texts {
		if strings.Contains(string(v.Body), hidden) {
			v.e.s.t.Errorf("%s holds %q:\n%s", v.URL.Path, hidden, v.Body)
		}
	}
}

// failed goes back to the app from a challenge that has ended.
func (v *visitor) failed(challenge string) {
	v.e.s.t.Helper()
	v.Fill("/challenge/end", nil)
	if r := v.result(); r.Outcome != event.OutcomeFailed || r.Challenge != challenge || r.AMR != nil || r.Factor != "" || r.Device != "" {
		v.e.s.t.Errorf("the result of a challenge that has ended: %+v", r)
	}
}

// A code that came by message is answered, wrongly, in a form that nobody could take for one, and rightly; the app learns of it, and the browser is trusted.
func TestPageOfAChallenge(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	login := s.begin("alice", bySMS(1))
	code := s.code(phone(1))
	v := e.challenged("alice", login.Challenge)
	v.says(http.StatusOK, "Enter your code", "We sent a code to "+login.To, "The code is valid for another", "Possible in", "Trust this browser for 30 days")
	v.hides(login.Challenge, phone(1), code)

	wrong := wrongCode(code)
	for _, bad := range []struct{ typed, says string }{
		{"", "Enter the code."}, {"hello", "does not look like a code"}, {code[1:], "has 6 digits"}, {code + "1", "has 6 digits"},
	} {
		v.Fill("/challenge", map[string]string{"code": bad.typed, "trust": "yes"})
		v.says(http.StatusUnprocessableEntity, bad.says)
		if len(v.Forms("/challenge")[0].Values["trust"]) == 0 {
			t.Errorf("after %q the box is not ticked any more", bad.typed)
		}
	}
	if n := s.attempts(login.Challenge); n != 0 {
		t.Errorf("what is no code has taken %d attempts", n)
	}
	v.Fill("/challenge", map[string]string{"code": wrong})
	v.says(http.StatusUnprocessableEntity, "That code is not right", "4 attempts left")
	v.hides(wrong)

	form := v.Forms("/challenge")[0]
	for range 3 { // sent three times by an impatient user
		v.Send(form, map[string]string{"code": wrong})
		v.says(http.StatusUnprocessableEntity, "3 attempts left")
	}
	v.Send(form, map[string]string{"code": wrong, "csrf": "forged"})
	v.says(http.StatusForbidden)
	if n := s.attempts(login.Challenge); n != 2 {
		t.Errorf("two wrong answers have taken %d attempts", n)
	}
	v.Open("/challenge")
	v.Fill("/language", map[string]string{"language": "de"})
	v.says(http.StatusOK, "Code eingeben", "Diesem Browser 30 Tage lang vertrauen")
	v.Fill("/challenge", map[string]string{"code": " " + code[:3] + " " + code[3:] + "-", "trust": "yes"})
	r := v.result()
	if r.Outcome != event.OutcomeVerified || r.User != "alice" || r.Session != v.session || r.Challenge != login.Challenge || r.Factor != "sms" ||
		len(r.AMR) == 0 || r.VerifiedAt == "" || r.Device == "" {
		t.Errorf("the result: %+v", r)
	}
	if next := s.comes("the next day", "alice", r.Device, bySMS(1)); next.Outcome != event.OutcomeSkipped {
		t.Errorf("the browser that is trusted: %+v", next)
	}
	v.Open(e.URL + "/challenge")
	if v.Status == http.StatusOK {
		t.Errorf("the page of a visit that is over:\n%s", v.Text())
	}
}

// A challenge that cannot be answered any more says why, and leads back to the app.
func TestPageOfAChallengeThatHasEnded(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	for i, end := range []struct {
		name, says string
		end        func(s *system, v *visitor, r event.LoginReply)
	}{
		{"exhausted", "Too many wrong codes", func(s *system, v *visitor, r event.LoginReply) {
			wrong := wrongCode(s.loginCode(r.Challenge))
			for i := range 5 {
				if i == 4 { // the account would have to wait now, were it not the last
					s.clock.Advance(time.Minute)
				}
				v.Fill("/challenge", map[string]string{"code": wrong})
			}
		}},
		{"cancelled", "This was cancelled", func(s *system, _ *visitor, r event.LoginReply) {
			must[event.CancelReply](s, event.VerbCancel, map[string]any{"challenge": r.Challenge, "session": "session of cancelled"})
		}},
		{"superseded", "A newer request", func(s *system, _ *visitor, _ event.LoginReply) {
			for _, id := range []string{"a", "b", "c"} {
				s.clock.Advance(time.Second)
				s.begin("superseded", bySMS(2), id)
			}
		}},
		{"verified", "This has been confirmed already", func(s *system, v *visitor, r event.LoginReply) {
			s.expect("by the app itself", "verified", 4, s.answer(r.Challenge, v.user, s.loginCode(r.Challenge), nil))
		}},
		{"expired", "The time is up", func(s *system, _ *visitor, _ event.LoginReply) { s.clock.Advance(s.app.Policy.Life) }},
	} {
		t.Run(end.name, func(t *testing.T) {
			s, e := s.in(t), &edge{s: s.in(t), URL: e.URL, key: e.key}
			login := s.begin(end.name, bySMS(i))
			v := e.challenged(end.name, login.Challenge)
			form := v.Forms("/challenge")[0]
			end.end(s, v, login)
			v.Send(form, map[string]string{"code": s.loginCode(login.Challenge)})
			v.says(http.StatusOK, end.says, "App demo")
			v.Open("/challenge") // in another tab
			v.says(http.StatusOK, end.says)
			v.hides(login.Challenge)
			v.failed(login.Challenge)
		})
	}
	t.Run("of another user", func(t *testing.T) {
		s, e := s.in(t), &edge{s: s.in(t), URL: e.URL, key: e.key}
		login := s.begin("bob", bySMS(20))
		for _, v := range []*visitor{
			e.challenged("mallory", login.Challenge),
			e.visit("bob", event.PageChallenge, map[string]any{"challenge": login.Challenge, "session": "another"}),
			e.challenged("mallory", uuid.Must(uuid.NewV7()).String()),
		} {
			v.says(http.StatusOK, "There is nothing to confirm")
			v.hides(login.To)
			v.Fill("/challenge/end", nil)
			if r := v.result(); r.Outcome != event.OutcomeFailed {
				t.Errorf("a challenge of somebody else: %+v", r)
			}
		}
		s.expect("its own user", "verified", 4, s.answer(login.Challenge, "bob", s.loginCode(login.Challenge), nil))
	})
}

// Whoever guesses waits, whatever challenge it is at, and is locked out in the end; the page says for how long.
func TestPageOfAChallengeThatMustWait(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	guess := func(v *visitor, challenge string) {
		v.Fill("/challenge", map[string]string{"code": wrongCode(s.loginCode(challenge))})
	}
	first := s.begin("alice", bySMS(1), "1")
	second := s.begin("alice", bySMS(1), "2")
	v := e.challenged("alice", first.Challenge)
	for range 4 {
		guess(v, first.Challenge)
	}
	w := e.challenged("alice", second.Challenge)
	guess(w, second.Challenge)
	w.says(http.StatusUnprocessableEntity, "4 attempts left", "You can go on in", "30 seconds")
	w.Fill("/challenge", map[string]string{"code": s.loginCode(second.Challenge)})
	w.says(http.StatusUnprocessableEntity, "too many wrong codes", "You can go on in", "30 seconds")
	s.db.Exec(t, `UPDATE accounts SET failures = 99, wait_until = NULL WHERE user_id = 'alice'`)
	guess(w, second.Challenge)
	w.says(http.StatusOK, "Your two-step sign-in is locked", "Contact App demo to unlock it.")
	w.failed(second.Challenge)
}

// Users answer in another way than they are asked, and have codes sent anew.
func TestPageOfAChallengeInAnotherWay(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	secret := s.addTOTP("alice")
	codes := s.giveBackupCodes("alice", 2)
	login := s.begin("alice", map[string]any{"to": map[string]any{"sms": phone(1), "email": address(1)}, "channel": "sms"})
	v := e.challenged("alice", login.Challenge)
	v.Fill("/challenge/resend", nil)
	v.says(http.StatusUnprocessableEntity, "too soon to send the code again", "30 seconds")
	s.clock.Advance(s.app.Policy.Cooldown)
	v.Fill("/challenge/resend", nil)
	v.At("/challenge")
	v.says(http.StatusOK, "The code is on its way.")

	v.Open("/challenge/ways")
	v.says(http.StatusOK, "Authenticator app", "Email", "Backup code", "I can’t use any of these")
	v.Fill("/challenge/ways", map[string]string{"way": "email"})
	v.says(http.StatusUnprocessableEntity, "too soon to send the code again")
	v.Fill("/challenge/ways", map[string]string{"way": "webauthn"})
	v.says(http.StatusUnprocessableEntity, "no longer available")
	s.clock.Advance(s.app.Policy.Cooldown)
	v.Fill("/challenge/ways", map[string]string{"way": "email"})
	v.At("/challenge")
	v.says(http.StatusOK, "The code is on its way.", "We sent a code to u")
	if !strings.Contains(s.mail(address(1)).Text, s.loginCode(login.Challenge)) {
		t.Error("the mail does not hold the code")
	}
	v.Open("/challenge/ways")
	v.Fill("/challenge/ways", map[string]string{"way": "totp"})
	v.says(http.StatusOK, "Open your authenticator app", "for App demo")
	v.Fill("/challenge", map[string]string{"code": wrongCode(s.totpValue(secret))})
	v.says(http.StatusUnprocessableEntity, "Open your authenticator app", "4 attempts left")
	v.Open("/challenge/ways")
	v.Fill("/challenge/ways", map[string]string{"way": "email"}) // as it is asked: nothing is sent for that
	v.says(http.StatusOK, "We sent a code to u")
	v.Open("/challenge/ways")
	v.Fill("/challenge/ways", map[string]string{"way": "backup_code"})
	v.says(http.StatusOK, "Enter a backup code")
	v.Fill("/challenge", map[string]string{"code": strings.ToLower(otp.GroupBackupCode(codes[0]))})
	if r := v.result(); r.Outcome != event.OutcomeVerified || r.Factor != "backup_code" || r.Device != "" {
		t.Errorf("with a backup code: %+v", r)
	}
}

// A security key signs for the challenge, and what it has signed serves once.
func TestPageOfAChallengeByKey(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withKeys)
	s.run(factorRoles...)
	e := s.edge()
	key := otposttest.NewAuthenticator(t)
	s.giveKey("alice", key)
	login := s.begin("alice", nil)
	v := e.challenged("alice", login.Challenge)
	v.says(http.StatusOK, "Use your security key", "Security keys need JavaScript")
	sign := func() string {
		options := json.RawMessage(v.Forms("/challenge")[0].Attr["data-options"])
		return string(key.Get(t, options, keyOrigin))
	}
	for _, bad := range []string{"", "{", "[]", `"x"`, `{"a":1,"a":2}`, `{"id":"x"}`, strings.Repeat("{", 100)} {
		v.Fill("/challenge", map[string]string{"credential": bad})
		if v.Status != http.StatusUnprocessableEntity {
			t.Fatalf("%s is answered %d:\n%s", bad, v.Status, v.Text())
		}
	}
	stale := sign()
	v.Open("/challenge")
	v.Fill("/challenge", map[string]string{"credential": stale})
	v.says(http.StatusUnprocessableEntity, "That key was not accepted")
	v.Fill("/challenge", map[string]string{"credential": sign(), "trust": "yes"})
	if r := v.result(); r.Outcome != event.OutcomeVerified || r.Factor != "webauthn" || r.Device == "" {
		t.Errorf("with a key: %+v", r)
	}
}

// What a user agrees to is shown as the app has said it, whatever is in it, and no browser is trusted with that.
func TestPageOfAPayment(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	login := s.begin("alice", map[string]any{
		"to": map[string]any{"sms": phone(1)}, "transaction": map[string]any{"amount": "39.99 EUR", "payee": "<b>Bob & Co</b>"},
	})
	v := e.challenged("alice", login.Challenge)
	v.says(http.StatusOK, "Confirm this payment", "39.99 EUR", "<b>Bob & Co</b>")
	v.hides("Trust this browser", "<b>Bob")
	form := v.Forms("/challenge")[0]
	form.Fields = append(form.Fields, "trust")
	v.Send(form, map[string]string{"code": s.code(phone(1)), "trust": "yes"})
	if r := v.result(); r.Outcome != event.OutcomeVerified || r.Device != "" {
		t.Errorf("a payment: %+v", r)
	}
}

// Who has shown a password only does not get at the factors by a detour: with one added there, the challenge could be answered.
func TestPageOfAChallengeLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	s.addTOTP("alice")
	login := s.begin("alice", nil)
	v := e.challenged("alice", login.Challenge)
	csrf := v.Forms("/challenge")[0].Values.Get("csrf")
	for _, path := range []string{"/setup", "/setup/app", "/setup/key", "/settings", "/settings/codes", "/settings/remove", "/deactivate", "/prove"} {
		v.Open(path)
		v.At("/challenge")
		v.Post(path, url.Values{"csrf": {csrf}})
		if v.Status < http.StatusBadRequest {
			v.At("/challenge")
		}
	}
	w := e.visit("alice", event.PageRecovery, nil)
	for _, path := range []string{"/setup", "/setup/app", "/settings", "/settings/recovery", "/deactivate", "/prove", "/challenge"} {
		w.Open(path)
		w.At("/recovery")
	}
}

// A phone that can be called is one more way to have the code, as is WhatsApp where there is a provider; what it came over last is no other way.
func TestPageOfACall(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	calls := postgres.ProviderRow{Channel: otp.Voice, Name: "calls", Kind: "twilio"}
	if err := postgres.NewRoutes(s.db.Role("sms")).Register(t.Context(), s.clock.Now(), []postgres.ProviderRow{calls}); err != nil {
		t.Fatal(err)
	}
	s.run(factorRoles...)
	e := s.edge()
	login := s.begin("alice", bySMS(1))
	if st := s.status(login.Challenge); !slices.Equal(st.Channels, []string{"sms", "voice"}) {
		t.Errorf("the code can be sent over %v", st.Channels)
	}
	v := e.challenged("alice", login.Challenge)
	v.Open("/challenge/ways")
	v.says(http.StatusOK, "Phone call", "We call you and read out a code")
	v.hides("WhatsApp", "Text message")
	v.Fill("/challenge/ways", map[string]string{"way": "whatsapp"})
	v.says(http.StatusUnprocessableEntity, "no longer available")
	v.Fill("/challenge/ways", map[string]string{"way": "voice"})
	v.says(http.StatusUnprocessableEntity, "too soon to send the code again")
	s.clock.Advance(s.app.Policy.Cooldown)
	v.Fill("/challenge/ways", map[string]string{"way": "voice"})
	v.At("/challenge")
	v.says(http.StatusOK, "We are calling "+login.To, "Call me again", "until your phone rings")
	v.hides("so we are")
	v.Open("/challenge/ways")
	v.says(http.StatusOK, "Text message")
	v.hides("Phone call")
	if st := s.status(login.Challenge); st.Channel != "voice" || st.SendsLeft == 0 {
		t.Errorf("after a call was asked for: %+v", st)
	}
	s.clock.Advance(s.app.Policy.Cooldown)
	v.Open("/challenge")
	v.Fill("/challenge/resend", nil)
	v.says(http.StatusOK, "We are calling "+login.To)
	v.Fill("/challenge", map[string]string{"code": s.loginCode(login.Challenge)})
	if r := v.result(); r.Outcome != event.OutcomeVerified || r.Factor != "sms" {
		t.Errorf("with a code that a call said: %+v", r)
	}

	asked := s.begin("bob", map[string]any{"to": map[string]any{"sms": phone(2)}, "channel": "voice"})
	if asked.Channel != "voice" || asked.Factor != "sms" {
		t.Errorf("a login that asks for a call: %+v", asked)
	}
	e.challenged("bob", asked.Challenge).says(http.StatusOK, "We are calling "+asked.To)
	for st := s.status(asked.Challenge); st.SendsLeft > 0; st = s.status(asked.Challenge) {
		s.clock.Advance(s.app.Policy.Cooldown)
		must[event.ResendReply](s, event.VerbResend, map[string]any{"challenge": asked.Challenge, "session": "session of bob"})
	}
	if st := s.status(asked.Challenge); st.Channels != nil {
		t.Errorf("no sends are left, and yet it could be sent over %v", st.Channels)
	}
	must[event.CancelReply](s, event.VerbCancel, map[string]any{"challenge": asked.Challenge, "session": "session of bob"})
}

// Where the code took another way by itself, the page says so, and over which it could be had again.
func TestPageOfAChallengeThatFellBack(t *testing.T) {
	t.Parallel()
	r := newRouted(t, []otp.Channel{otp.Voice, otp.Email})
	r.run(bus.RoleChallenge)
	e := r.edge()
	for n, c := range []struct {
		name  string
		voice inbox.Fault
		says  []string
		ways  []string
		not   string
	}{
		{
			"a call that rings",
			inbox.Fault{Outcome: "none"},
			[]string{"The text message did not arrive, so we are trying another way.", "We are calling +1", "Call me again"},
			[]string{"Text message", "Email"},
			"Phone call",
		},
		{
			"a call that was taken",
			inbox.Fault{},
			[]string{"The text message did not arrive", "We called +1"},
			[]string{"Text message", "Email"},
			"Phone call",
		},
		{
			"a mail in the end",
			inbox.Fault{Status: 503},
			[]string{"The text message did not arrive", "We sent a code to u", "spam folder"},
			[]string{"Text message", "Phone call"},
			"Email",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, user := r.at(t), c.name
			e := &edge{s: r.system, URL: e.URL, key: e.key}
			r.fault("primary", phone(n), inbox.Fault{Status: 400, Code: "21614"})
			r.fault("calls", phone(n), c.voice)
			login := r.begin(user, map[string]any{"to": map[string]any{"sms": phone(n), "email": address(n)}})
			var v *visitor
			otposttest.Eventually(t, "what became of the code", func() bool {
				if v == nil {
					v = e.challenged(user, login.Challenge)
				}
				v.Open("/challenge")
				return strings.Contains(v.Text(), c.says[len(c.says)-1])
			})
			v.says(http.StatusOK, c.says...)
			v.Open("/challenge/ways")
			v.says(http.StatusOK, c.ways...)
			v.hides(c.not)
			v.Open("/challenge")
			v.Fill("/language", map[string]string{"language": "de"})
			v.says(http.StatusOK, "Die SMS ist nicht angekommen, deshalb versuchen wir es auf einem anderen Weg.")
			v.Fill("/challenge", map[string]string{"code": r.loginCode(login.Challenge)})
			if got := v.result(); got.Outcome != event.OutcomeVerified {
				t.Errorf("the code that took another way: %+v", got)
			}
		})
	}
}
