package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
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

// status asks where a challenge stands.
func (s *system) status(challenge string) event.StatusReply {
	s.t.Helper()
	r, problem := request[event.StatusReply](s, event.VerbStatus, map[string]any{"challenge": challenge})
	if problem != "" {
		s.t.Fatalf("status: %s", problem)
	}
	return r
}

// sent waits for an event about a delivery of a challenge.
func (s *system) sent(name event.Name, challenge string, attempt int) event.Delivery {
	s.t.Helper()
	var d event.Delivery
	s.heard.Wait(s.t, name, func(e otposttest.Event) bool {
		if e.Subject != challenge {
			return false
		}
		d = otposttest.Decode[event.Delivery](s.t, e)
		return d.Attempt == attempt
	})
	return d
}

func TestResend(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification)
	defer s.endsOnce()
	c := s.begin("alice", map[string]any{"to": map[string]any{"sms": phone(1), "email": address(1)}})
	ref := map[string]any{"challenge": c.Challenge, "session": "session of alice"}
	resend := func(channel string) (event.ResendReply, string, int) {
		t.Helper()
		body := map[string]any{"challenge": c.Challenge, "session": "session of alice"}
		if channel != "" {
			body["channel"] = channel
		}
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.conn.Request(event.RPCSubject("demo", event.VerbResend), b, otposttest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		var granted event.ResendReply
		var refused event.ErrorReply
		if err := errors.Join(json.Unmarshal(m.Data, &granted), json.Unmarshal(m.Data, &refused)); err != nil {
			t.Fatalf("%v in %s", err, m.Data)
		}
		if e := refused.Error; e.Code != "" {
			return granted, e.Code, e.RetryAfter
		}
		return granted, "", 0
	}
	granted := func(channel string, left, wait int, mask string) {
		t.Helper()
		if r, problem, _ := resend(channel); problem != "" || r.SendsLeft != left || r.RetryAfter != wait || r.To != mask {
			t.Errorf("resend: %+v %s, want %d left, %d s, to %s", r, problem, left, wait, mask)
		}
	}
	code := s.code(phone(1))
	s.expect("a wrong answer", "wrong", 4, s.verify(c.Challenge, "alice", wrongCode(code)))
	if _, problem, wait := resend(""); problem != "rate_limited" || wait != 30 {
		t.Errorf("a resend at once: %s, %d s", problem, wait)
	}
	s.clock.Advance(20 * time.Second)
	if _, problem, wait := resend("email"); problem != "rate_limited" || wait != 10 {
		t.Errorf("a resend too early, by another channel: %s, %d s", problem, wait)
	}
	s.clock.Advance(10 * time.Second)
	counts := atOnce(10, func(int) string {
		_, problem, _ := resend("")
		return problem
	})
	if counts[""] != 1 || counts["rate_limited"] != 9 {
		t.Errorf("ten resends at once: %v, want one granted", counts)
	}
	s.sent(event.ChallengeSent, c.Challenge, 2)
	s.clock.Advance(30 * time.Second)
	granted("email", 2, 30, "u•••@example.com")
	if mailed := s.mail(address(1)).Code(); mailed != code {
		t.Error("the mail has another code than the text message")
	}
	s.clock.Advance(30 * time.Second)
	granted("", 1, 30, "u•••@example.com") // where it went last
	s.sent(event.ChallengeSent, c.Challenge, 4)
	s.clock.Advance(30 * time.Second)
	granted("sms", 0, 0, "+1•••••0001")
	s.sent(event.ChallengeSent, c.Challenge, 5)
	s.clock.Advance(30 * time.Second)
	if _, problem, wait := resend("sms"); problem != "rate_limited" || wait != 0 {
		t.Errorf("a resend past the last: %s, %d s", problem, wait)
	}
	texts, mails := s.box.List(inbox.Filter{To: phone(1)}), s.box.List(inbox.Filter{To: address(1)})
	if len(texts) != 3 || len(mails) != 2 {
		t.Errorf("%d text messages and %d mails went out, want 3 and 2", len(texts), len(mails))
	}
	for _, m := range append(texts, mails...) {
		if m.Code() != code {
			t.Error("a resend brought another code")
		}
	}

	st := s.status(c.Challenge)
	if st.State != "open" || st.AttemptsLeft != 4 || st.SendsLeft != 0 || len(st.Deliveries) != 5 || st.User != "alice" {
		t.Errorf("status %+v", st)
	}
	for i, d := range st.Deliveries {
		to, provider := "+1•••••0001", "twilio"
		if i == 2 || i == 3 {
			to, provider = "u•••@example.com", "smtp"
		}
		if d.Attempt != i+1 || d.State != "accepted" || d.To != to || d.Provider != provider || d.Provider == "twilio" && !strings.HasPrefix(d.Reference, "SM") {
			t.Errorf("delivery %+v", d)
		}
	}
	s.expect("the code, after five sends", "verified", 3, s.verify(c.Challenge, "alice", code))
	s.refuses("a resend after that", event.VerbResend, "challenge_ended", ref)

	only := s.begin("bob", bySMS(2))
	s.clock.Advance(30 * time.Second)
	s.refuses("a resend without an address", event.VerbResend, "invalid", map[string]any{
		"challenge": only.Challenge, "session": "session of bob", "channel": "email",
	})
	// Only what had an address may be sent, and it is sent by name where the challenge's own factor sends nothing.
	s.addTOTP("carol")
	app := s.begin("carol", bySMS(3))
	body := map[string]any{"challenge": app.Challenge, "session": "session of carol"}
	s.refuses("a resend of a value that is never sent", event.VerbResend, "invalid", body)
	body["channel"] = "sms"
	if _, problem := request[event.ResendReply](s, event.VerbResend, body); problem != "" {
		t.Errorf("a resend by another way: %s", problem)
	}
	if r := s.verify(app.Challenge, "carol", s.code(phone(3))); r.Result != "verified" || r.Factor != "sms" {
		t.Errorf("the code of it: %+v", r)
	}
}

func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification)
	defer s.endsOnce()
	for user, to := range map[string]map[string]any{"texted": {"sms": "+15005550001"}, "mailed": {"email": "bounce@example.com"}} {
		c := s.begin(user, map[string]any{"to": to})
		d := s.sent(event.ChallengeUndeliverable, c.Challenge, 1)
		if d.User != user || d.Reason == "" || strings.Contains(d.Reason, "5550001") || strings.Contains(d.Reason, "bounce") {
			t.Errorf("undeliverable: %+v", d)
		}
		if reason := s.ended(c.Challenge); reason != "undeliverable" {
			t.Errorf("it ended as %s", reason)
		}
		s.expect("an answer to it", "cancelled", 0, s.verify(c.Challenge, user, "123456"))
		st := s.status(c.Challenge)
		if st.State != "undeliverable" || st.Reason != "undeliverable" || len(st.Deliveries) != 1 || st.Deliveries[0].State != "failed" {
			t.Errorf("status %+v", st)
		}
		s.refuses("a resend", event.VerbResend, "challenge_ended", map[string]any{"challenge": c.Challenge, "session": "session of " + user})
	}
}

// A provider's bad days, each for a number of its own.
func TestTroubledProvider(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var mu sync.Mutex
	asked := map[string][]time.Time{}
	validity := map[string]string{}
	s.box.SetTwilioFaults(func(r inbox.TwilioRequest) *inbox.TwilioFault {
		mu.Lock()
		defer mu.Unlock()
		asked[r.To] = append(asked[r.To], time.Now())
		validity[r.To] = r.Form.Get("ValidityPeriod")
		n := len(asked[r.To])
		switch {
		case r.To == phone(1) && n <= 2:
			return &inbox.TwilioFault{Status: 503, Code: 20503}
		case r.To == phone(2):
			return &inbox.TwilioFault{AcceptThenDrop: true}
		case r.To == phone(3) && n == 1:
			return &inbox.TwilioFault{AcceptThenDrop: true}
		case r.To == phone(4) && n == 1:
			return &inbox.TwilioFault{Status: 429, RetryAfter: 2 * time.Second}
		}
		return nil
	})
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	defer s.endsOnce()
	c := make([]event.LoginReply, 6)
	for n := 1; n <= 5; n++ {
		c[n] = s.begin(fmt.Sprint("user-", n), bySMS(n))
	}
	tries := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return len(asked[phone(n)])
	}
	for n, want := range map[int]struct{ tries, messages int }{1: {3, 1}, 3: {2, 2}, 4: {2, 1}, 5: {1, 1}} {
		s.sent(event.ChallengeSent, c[n].Challenge, 1)
		if tries(n) != want.tries || s.messages(phone(n)) != want.messages {
			t.Errorf("number %d: %d tries and %d messages, want %d and %d", n, tries(n), s.messages(phone(n)), want.tries, want.messages)
		}
	}
	// Whoever never learns whether a message went out sends it once more, and then tells that nothing is sure.
	if d := s.sent(event.ChallengeSent, c[2].Challenge, 1); !strings.HasPrefix(d.Reason, "unconfirmed") {
		t.Errorf("told of an unsure delivery: %+v", d)
	}
	if tries(2) != 2 || s.messages(phone(2)) != 2 {
		t.Errorf("an unsure delivery: %d tries, %d messages, want two of each", tries(2), s.messages(phone(2)))
	}
	if st := s.status(c[2].Challenge); st.State != "open" || st.Deliveries[0].State != "unconfirmed" {
		t.Errorf("status of it: %+v", st)
	}
	for n := 1; n <= 5; n++ {
		codes := map[string]bool{}
		for _, m := range s.box.List(inbox.Filter{To: phone(n)}) {
			codes[m.Code()] = true
		}
		if len(codes) != 1 {
			t.Errorf("number %d got %d codes", n, len(codes))
		}
		s.expect("the code", "verified", 4, s.verify(c[n].Challenge, fmt.Sprint("user-", n), s.code(phone(n))))
	}
	mu.Lock()
	defer mu.Unlock()
	if gap := asked[phone(4)][1].Sub(asked[phone(4)][0]); gap < 2*time.Second {
		t.Errorf("a throttled request came again after %s, asked were 2s", gap)
	}
	if validity[phone(5)] != "300" {
		t.Errorf("the provider may keep a message for %q seconds, want 300", validity[phone(5)])
	}
}

// The providers are away when the code is due, and come back.
func TestProvidersAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	reserve := func() string {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}
	web, mail := reserve(), reserve()
	s.box.TwilioURL, s.box.SMTP = "http://"+web+"/twilio", mail
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification)
	texted := s.begin("texted", bySMS(1))
	mailed := s.begin("mailed", map[string]any{"to": map[string]any{"email": address(1)}})
	for channel, c := range map[string]event.LoginReply{"sms": texted, "email": mailed} {
		otposttest.Eventually(t, "tries by "+channel, func() bool {
			return otposttest.Get[int](t, s.db, `SELECT tries FROM deliveries WHERE challenge_id = $1`, c.Challenge) >= 2
		})
	}

	listen := func(addr string) net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	server := &http.Server{Handler: s.box.Handler(), ReadHeaderTimeout: time.Second}
	var served sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	webListener, mailListener := listen(web), listen(mail)
	served.Go(func() { _ = server.Serve(webListener) })
	served.Go(func() { _ = s.box.ServeSMTP(ctx, mailListener) })
	t.Cleanup(func() {
		stop()
		_ = server.Close()
		served.Wait()
	})
	s.expect("by text message", "verified", 4, s.verify(texted.Challenge, "texted", s.code(phone(1))))
	s.expect("by mail", "verified", 4, s.verify(mailed.Challenge, "mailed", s.mail(address(1)).Code()))
	s.sent(event.ChallengeSent, texted.Challenge, 1)
	s.sent(event.ChallengeSent, mailed.Challenge, 1)
	if s.messages(phone(1)) != 1 || s.messages(address(1)) != 1 {
		t.Errorf("%d text messages and %d mails, want one of each", s.messages(phone(1)), s.messages(address(1)))
	}
}

func TestReceiptsTwice(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS)
	defer s.endsOnce()
	c := s.begin("alice", bySMS(1))
	s.sent(event.ChallengeSent, c.Challenge, 1)
	worker := s.nats.Bus(t, bus.RoleSMS)
	tell := func(id, challenge string, state otp.DeliveryState) {
		t.Helper()
		r := event.Receipt{
			Challenge: uuid.MustParse(challenge), Attempt: 1, Channel: otp.SMS, Provider: "twilio", State: state, Reference: "SM1", At: s.clock.Now(),
		}
		if err := worker.Publish(t.Context(), bus.Out{Subject: event.ReceiptSubject(otp.SMS), ID: id, Data: r.Encode()}); err != nil {
			t.Fatal(err)
		}
	}
	// In a bad order, and each twice: what is better informed stays.
	for n, state := range []otp.DeliveryState{otp.DeliveryAccepted, otp.DeliveryDelivered, otp.DeliveryDelivered, otp.DeliveryAccepted, otp.DeliveryFailed} {
		tell(fmt.Sprint("again-", n), c.Challenge, state)
	}
	tell("stranger", uuid.NewString(), otp.DeliveryDelivered)
	marker := s.begin("bob", bySMS(2))
	s.sent(event.ChallengeSent, marker.Challenge, 1)
	tell("marker", marker.Challenge, otp.DeliveryDelivered)
	s.sent(event.ChallengeDelivered, marker.Challenge, 1)
	ids := map[event.Name][]string{}
	for _, e := range s.heard.Of(c.Challenge) {
		if !slices.Contains(ids[e.Name], e.ID) {
			ids[e.Name] = append(ids[e.Name], e.ID)
		}
	}
	for name, list := range ids {
		if len(list) != 1 {
			t.Errorf("%s was told under %d ids", name, len(list))
		}
	}
	if len(ids[event.ChallengeDelivered]) != 1 || len(ids[event.ChallengeUndeliverable]) != 0 {
		t.Errorf("told were %v", ids)
	}
	if st := s.status(c.Challenge); st.State != "open" || st.Deliveries[0].State != "delivered" {
		t.Errorf("status %+v", st)
	}
	if letters := s.dead(); len(letters) != 1 || !strings.Contains(letters[0].Reason, "no such delivery") {
		t.Errorf("dead letters %+v", letters)
	}
	// The carrier gives up on the only delivery: nothing will reach the user any more.
	lost := s.begin("carol", map[string]any{"to": map[string]any{"sms": "+15005550012"}})
	s.sent(event.ChallengeSent, lost.Challenge, 1)
	tell("lost", lost.Challenge, otp.DeliveryUndelivered)
	s.sent(event.ChallengeUndeliverable, lost.Challenge, 1)
	if reason := s.ended(lost.Challenge); reason != "undeliverable" {
		t.Errorf("it ended as %s", reason)
	}
}

func TestWhatPeopleGet(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) {
			a.Origin, a.DisplayName, a.Locale = "https://shop.example:8443", "Krámek", "de"
		})
	})
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail)
	texts := map[string]string{}
	for n, locale := range []string{"cs", "en-GB", "xx", ""} {
		data := bySMS(n)
		if locale != "" {
			data["locale"] = locale
		}
		s.begin("reader "+locale, data)
		code := s.code(phone(n))
		text := s.box.List(inbox.Filter{To: phone(n)})[0].Text
		lines := strings.Split(text, "\n")
		if last := lines[len(lines)-1]; last != "@shop.example #"+code {
			t.Errorf("%q: the last line is not the one of WebOTP", locale)
		}
		if !strings.Contains(text, "Krámek") {
			t.Errorf("%q: the message does not name the app", locale)
		}
		texts[locale] = strings.ReplaceAll(text, code, "CODE")
	}
	if texts["cs"] == texts["en-GB"] || texts["en-GB"] == texts[""] || texts["xx"] != texts[""] {
		t.Errorf("languages: %q", texts)
	}
	if !strings.Contains(texts["cs"], "kód") {
		t.Errorf("in Czech: %q", texts["cs"])
	}

	c := s.begin("mailed", map[string]any{"locale": "cs", "to": map[string]any{"email": address(1)}})
	m := s.mail(address(1))
	if m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Message-Id") != "<"+c.Challenge+"-1@shop.example>" {
		t.Errorf("Auto-Submitted %q, Message-ID %q", m.Header.Get("Auto-Submitted"), m.Header.Get("Message-Id"))
	}
	if !strings.HasPrefix(m.Header.Get("Content-Type"), "multipart/alternative") || m.Text == "" || m.HTML == "" || m.Subject == "" {
		t.Errorf("content type %q, %d bytes of text, %d of HTML", m.Header.Get("Content-Type"), len(m.Text), len(m.HTML))
	}
	if code := m.Code(); code == "" || !strings.Contains(m.Text, code) || !strings.Contains(m.HTML, code) {
		t.Error("one of the parts has no code")
	}
	if m.Header.Get("Content-Language") != "cs" || m.From != "no-reply@shop.example" {
		t.Errorf("language %q, from %q", m.Header.Get("Content-Language"), m.From)
	}
}

// The stream loses the commands and a process dies before it has published: the sweeper finds both.
func TestSweeper(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification)
	defer s.endsOnce()
	c := s.begin("alice", bySMS(1))
	operator := s.nats.Bus(t, bus.RoleOperator)
	work, err := operator.JetStream().Stream(t.Context(), bus.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	queued := func() uint64 {
		info, err := work.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	otposttest.Eventually(t, "the command is queued", func() bool { return queued() == 1 })
	if err := work.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n, grace := range []time.Duration{30 * time.Second, 60 * time.Second} { // twice: it is not sent twice
		s.clock.Advance(grace + time.Second)
		otposttest.Eventually(t, "the command is published again", func() bool { return queued() == uint64(n+1) })
	}
	s.run(bus.RoleSMS)
	s.expect("the code of a lost command", "verified", 4, s.verify(c.Challenge, "alice", s.code(phone(1))))
	otposttest.Eventually(t, "the commands are settled", func() bool { return queued() == 0 })
	if n := s.messages(phone(1)); n != 1 {
		t.Errorf("%d messages went out, want 1", n)
	}

	left := event.Event{
		App: "demo", Name: event.ChallengeSkipped, ID: "left behind", Time: s.clock.Now(),
		Data: event.Skipped{User: "u", Session: "s", Login: "l", Reason: "no_factor"},
	}
	s.db.Exec(t, `INSERT INTO outbox (id, subject, payload, created_at, role) VALUES ($1, $2, $3, $4, 'otpost_challenge')`, left.ID, event.EventSubject("demo", left.Name),
		left.Encode(), s.clock.Now().Add(-6*time.Second))
	if e := s.heard.Wait(t, event.ChallengeSkipped, nil); e.ID != left.ID {
		t.Errorf("heard %s", e.ID)
	}
	otposttest.Eventually(t, "the outbox is empty", func() bool { return otposttest.Get[int](t, s.db, `SELECT count(*) FROM outbox`) == 0 })
}
