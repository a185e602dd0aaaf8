package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

// with returns a login event in which one place was changed. The path's last step is the member; "delete" as the value takes it away.
func with(base map[string]any, path string, value any) []byte {
	var doc map[string]any
	b, _ := json.Marshal(base)
	_ = json.Unmarshal(b, &doc)
	at, steps := doc, strings.Split(path, ".")
	for _, s := range steps[:len(steps)-1] {
		next, ok := at[s].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[s] = next
		}
		at = next
	}
	if last := steps[len(steps)-1]; value == "delete" {
		delete(at, last)
	} else {
		at[last] = value
	}
	b, _ = json.Marshal(doc)
	return b
}

// A badLogin is a login event that must be refused with a word about the field at fault.
type badLogin struct {
	name  string
	body  []byte
	dead  bool // nobody can be told: it becomes a dead letter
	words string
}

func badLogins(now time.Time) []badLogin {
	long := strings.Repeat("x", 129)
	var all []badLogin
	n := 0
	base := func() map[string]any {
		n++
		return map[string]any{
			"specversion": "1.0", "id": fmt.Sprint("bad-", n), "source": "https://shop.example", "type": event.LoginType,
			"time": now.Format(time.RFC3339Nano), "data": map[string]any{"user": fmt.Sprint("victim-", n), "session": "s"},
		}
	}
	raw := func(name, body, words string) {
		all = append(all, badLogin{name: name, body: []byte(body), dead: true, words: words})
	}
	refused := func(name, path string, value any, words string) {
		all = append(all, badLogin{name: name, body: with(base(), path, value), words: words})
	}
	dead := func(name, path string, value any, words string) {
		all = append(all, badLogin{name: name, body: with(base(), path, value), dead: true, words: words})
	}

	raw("nothing", "", "body must not be empty")
	raw("half of JSON", `{"specversion":"1.0","id":`, "body must be valid JSON")
	raw("no JSON", "hello", "body must be valid JSON")
	raw("two documents", `{} {}`, "body must be valid JSON")
	raw("a list", `[]`, "body must be an object")
	raw("a number", `1`, "body must be an object")
	raw("deeply nested", strings.Repeat("[", 20000), "body must be")
	raw("not UTF-8", "{\"specversion\":\"1.0\",\"id\":\"\xff\"}", "body must be valid JSON")
	raw("a megabyte", `{"specversion":"`+strings.Repeat("1", 1<<20-len(`{"specversion":""}`))+`"}`, "body must have at most 65536 bytes, not 1048576")
	raw("a member twice", `{"specversion":"1.0","specversion":"1.0"}`, "specversion is given twice")

	dead("no data", "data", "delete", "data must be given")
	dead("data a text", "data", "user", "data must be an object")
	dead("no user", "data.user", "delete", "data.user must not be empty")
	dead("user null", "data.user", nil, "data.user must not be null")
	dead("user a number", "data.user", 42, "data.user must be a string")
	dead("user with a line break", "data.user", "u\nv", "data.user must not have control characters")
	dead("user too long", "data.user", long, "data.user must have at most 128 characters")

	refused("specversion", "specversion", "0.3", "specversion must be")
	refused("type", "type", "shop.login", "type must be")
	refused("no id", "id", "delete", "id must not be empty")
	refused("id with a control character", "id", "a\x00b", "id must not have control characters")
	refused("id that hides text", "id", "a\u202eb", "id must not have control characters")
	refused("id too long", "id", long, "id must have at most 128 characters")
	refused("no source", "source", "delete", "source must not be empty")
	refused("an hour late", "time", now.Add(-time.Hour).Format(time.RFC3339), "time must lie within 10 minutes of now")
	refused("an hour early", "time", now.Add(time.Hour).Format(time.RFC3339), "time must lie within 10 minutes of now")
	refused("time in words", "time", "yesterday", "time must be a time as RFC 3339 writes it")
	refused("attribute in capitals", "Time", "x", "Time is not a known field")
	refused("unknown field", "data.colour", "red", "data.colour is not a known field")
	refused("session a list", "data.session", []string{"s"}, "data.session must be a string")
	refused("session with a control character", "data.session", "s\x1b[2J", "data.session must not have control characters")
	refused("unknown channel", "data.channel", "pigeon", "data.channel must be one of")
	refused("unknown address", "data.to.fax", "+14155550100", "data.to.fax is not a known field")
	refused("to a list", "data.to", []string{"+14155550100"}, "data.to must be an object")
	refused("number in words", "data.to.sms", "call me", "data.to.sms has letters")
	refused("number without country", "data.to.sms", "4155550100", "data.to.sms must start with +")
	refused("number too short", "data.to.sms", "+1415", "data.to.sms is too short")
	refused("number too long", "data.to.sms", "+1415555010012345678", "data.to.sms")
	refused("number of no country", "data.to.sms", "+9991234567", "data.to.sms has no known country code")
	refused("number with a line break", "data.to.sms", "+14155550100\nX", "data.to.sms")
	refused("number a number", "data.to.sms", 14155550100, "data.to.sms must be a string")
	refused("mail with a line break", "data.to.email", "a@example.com\r\nBcc: b@example.com", "data.to.email has a line break")
	refused("mail with a name", "data.to.email", "Eve <eve@example.com>", "data.to.email has a space")
	refused("mail in brackets", "data.to.email", "<eve@example.com>", "data.to.email must be one bare address")
	refused("two mails", "data.to.email", "a@example.com,b@example.com", "data.to.email must be one bare address")
	refused("mail without a host", "data.to.email", "nobody", "data.to.email is not an email address")
	refused("locale", "data.locale", "c'est", "data.locale must be a language tag")
	refused("client's address", "data.client.ip", "300.1.1.1", "data.client.ip must be an IPv4 or IPv6 address")
	refused("device too long", "data.device", strings.Repeat("d", 513), "data.device must have at most 512 characters")
	refused("transaction without payee", "data.transaction", map[string]any{"amount": "1 EUR"}, "data.transaction.payee must not be empty")
	refused("amount a number", "data.transaction", map[string]any{"amount": 1, "payee": "Shop"}, "data.transaction.amount must be a string")
	return all
}

func TestBadLoginsAmongGoodOnes(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	bad := badLogins(s.clock.Now())
	for i, b := range bad {
		if _, err := s.js.Publish(t.Context(), event.LoginSubject("demo"), b.body); err != nil {
			t.Fatalf("%s: %v", b.name, err)
		}
		s.publish(fmt.Sprint("good-", i), fmt.Sprint("user-", i), bySMS(i))
	}
	began := time.Now()
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	for i := range bad {
		user := fmt.Sprint("user-", i)
		s.issued(user)
		s.code(phone(i))
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the good ones took %s, want less than 2s", took)
	}

	refusals := map[string]event.Refused{}
	dead := 0
	for i, b := range bad {
		if b.dead {
			dead++
			continue
		}
		var envelope struct {
			Data struct{ User string }
		}
		if err := json.Unmarshal(b.body, &envelope); err != nil {
			t.Fatal(err)
		}
		s.heard.Wait(t, event.ChallengeRefused, func(e otposttest.Event) bool {
			r := otposttest.Decode[event.Refused](t, e)
			if r.User != envelope.Data.User {
				return false
			}
			refusals[b.name] = r
			return true
		})
		if r := refusals[b.name]; r.Reason != "invalid" || !strings.Contains(r.Message, b.words) {
			t.Errorf("%d %s: refused as %s, %q, want %q", i, b.name, r.Reason, r.Message, b.words)
		}
	}
	var letters []bus.Letter
	otposttest.Eventually(t, "all dead letters are there", func() bool {
		letters = s.dead()
		return len(letters) >= dead
	})
	if len(letters) != dead {
		t.Errorf("%d dead letters, want %d", len(letters), dead)
	}
	told := map[string]string{}
	for _, l := range letters {
		for _, b := range bad {
			if b.dead && l.Size == len(b.body) && strings.HasPrefix(string(b.body), string(l.Body)) && l.Subject == event.LoginSubject("demo") {
				told[b.name] = l.Reason
			}
		}
	}
	for _, b := range bad {
		if b.dead && !strings.Contains(told[b.name], b.words) {
			t.Errorf("%s: the dead letter says %q, want %q", b.name, told[b.name], b.words)
		}
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges`); n != len(bad) {
		t.Errorf("%d challenges, want one for each of the %d good logins", n, len(bad))
	}
	c := s.issued("user-0")
	if r := s.verify(c.Challenge, "user-0", s.code(phone(0))); r.Result != "verified" {
		t.Errorf("a good one after all is %s", r.Result)
	}
}

// A flood of logins that must be refused does not hold up the good one in its batch.
func TestBadLoginsDelayNobody(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	const flood = 400
	for n := range flood {
		body := s.login(fmt.Sprint("bad-", n), fmt.Sprint("victim-", n), s.clock.Now(), map[string]any{"channel": "pigeon"})
		if _, err := s.js.PublishAsync(event.LoginSubject("demo"), body); err != nil {
			t.Fatal(err)
		}
	}
	<-s.js.PublishAsyncComplete()
	s.publish("good", "alice", bySMS(1))
	began := time.Now()
	s.run(bus.RoleChallenge)
	s.issued("alice")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the good one behind %d bad ones took %s, want less than 2s", flood, took)
	}
	otposttest.Eventually(t, "all are refused", func() bool {
		users := map[string]bool{}
		for _, e := range s.heard.All() {
			if e.Name == event.ChallengeRefused {
				users[otposttest.Decode[event.Refused](t, e).User] = true
			}
		}
		return len(users) == flood
	})
}

func TestStrangersSubjects(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) { o.nats = append(o.nats, otposttest.WithApps("demo", "ghost", "other")) })
	s.db.App(t, "other") // ghost has a user of NATS and is no app
	s.run(bus.RoleChallenge, bus.RoleVerification)

	// An app cannot speak in another's name: the server refuses to take it.
	denied := s.login("stolen", "alice", s.clock.Now(), bySMS(1))
	for _, subject := range []string{event.LoginSubject("other"), event.RPCSubject("other", event.VerbLogin), event.EventSubject("demo", event.ChallengeVerified)} {
		conn := s.nats.App(t, "demo")
		if err := conn.Publish(subject, denied); err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := conn.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publishing on %s: %v, want a permission violation", subject, err)
		}
	}

	// An app that nobody created.
	ghost := s.nats.App(t, "ghost")
	if err := ghost.Publish(event.LoginSubject("ghost"), s.login("boo", "casper", s.clock.Now(), bySMS(2))); err != nil {
		t.Fatal(err)
	}
	var letters []bus.Letter
	otposttest.Eventually(t, "the dead letter", func() bool {
		letters = s.dead()
		return len(letters) > 0
	})
	if l := letters[0]; len(letters) != 1 || l.Subject != event.LoginSubject("ghost") || !strings.Contains(l.Reason, "unknown_app") {
		t.Errorf("dead letters: %+v", letters)
	}
	for verb, body := range validRequests {
		m, err := ghost.Request(event.RPCSubject("ghost", verb), []byte(body), otposttest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if code := m.Header.Get(micro.ErrorCodeHeader); code != "unknown_app" {
			t.Errorf("%s of an unknown app: %q in %s", verb, code, m.Data)
		}
	}
	// What was tried in vain left no trace with the other app.
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges`); n != 0 {
		t.Errorf("%d challenges", n)
	}
	if _, err := s.conn.Request(event.RPCSubject("demo", "frobnicate"), []byte(`{}`), time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("an unknown verb: %v, want no responders", err)
	}
}

// validRequests are one for each verb.
var validRequests = map[string]string{
	event.VerbLogin:  `{"id":"l","user":"u","session":"s"}`,
	event.VerbVerify: `{"challenge":"0193503c-7a80-7c1e-9d2a-3f1be2a45c07","session":"s","code":"123456"}`,
	event.VerbResend: `{"challenge":"0193503c-7a80-7c1e-9d2a-3f1be2a45c07","session":"s"}`,
	event.VerbCancel: `{"challenge":"0193503c-7a80-7c1e-9d2a-3f1be2a45c07","session":"s"}`,
	event.VerbStatus: `{"challenge":"0193503c-7a80-7c1e-9d2a-3f1be2a45c07"}`,
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification)
	type wrong struct {
		path  string
		value any
		words string
	}
	challenge := []wrong{
		{"challenge", "delete", "challenge must not be empty"},
		{"challenge", 7, "challenge must be a string"},
		{"challenge", "7", "challenge must be a UUID"},
		{"challenge", "{0193503c-7a80-7c1e-9d2a-3f1be2a45c07}", "challenge must be a UUID"},
		{"challenge", nil, "challenge must not be null"},
	}
	session := []wrong{
		{"session", "delete", "session must not be empty"},
		{"session", "a\tb", "session must not have control characters"},
		{"session", true, "session must be a string"},
	}
	tables := map[string][][]wrong{
		event.VerbLogin: {session, {
			{"id", "delete", "id must not be empty"},
			{"id", "\x00", "id must not have control characters"},
			{"user", "delete", "user must not be empty"},
			{"user", "\x7f", "user must not have control characters"},
			{"channel", "pigeon", "channel must be one of"},
			{"to.sms", "tomorrow", "to.sms has letters"},
			{"to.email", "Eve <e@example.com>", "to.email has a space"},
			{"transaction.amount", "", "transaction.amount must not be empty"},
		}},
		event.VerbVerify: {challenge, session, {
			{"code", "delete", "code must not be empty"},
			{"code", "", "code must not be empty"},
			{"code", " - ", "code must have 4 to 10 digits"},
			{"code", "12", "code must have 4 to 10 digits"},
			{"code", "12345678901", "code must have 4 to 10 digits"},
			{"code", "12E456", "code must be a code of digits"},
			{"code", "123456\n", "code must be a code of digits"},
			{"code", "½²³⁴⁵⁶", "code must be a code of digits"},
			{"code", 123456, "code must be a string"},
			{"code", strings.Repeat("1 ", 100), "code must have at most 64 characters"},
			{"factor", "knock", "factor must be one of"},
			{"transaction.amount", "1 EUR", "transaction.payee must not be empty"},
			{"request", "a\nb", "request must not have control characters"},
			{"trust_device.label", "", "trust_device.label must not be empty"},
		}},
		event.VerbResend: {challenge, session, {
			{"channel", "totp", "channel must be one of sms, voice, whatsapp, email"}, {"channel", "pigeon", "channel must be one of sms, voice, whatsapp, email"},
		}},
		event.VerbCancel: {challenge, session},
		event.VerbStatus: {challenge, {{"session", "s", "session is not a known field"}}},
	}
	for verb, tables := range tables {
		var base map[string]any
		if err := json.Unmarshal([]byte(validRequests[verb]), &base); err != nil {
			t.Fatal(err)
		}
		ask := func(name string, body []byte, words string) {
			m, err := s.conn.Request(event.RPCSubject("demo", verb), body, otposttest.Patience)
			if err != nil {
				t.Fatalf("%s, %s: %v", verb, name, err)
			}
			var reply event.ErrorReply
			if err := json.Unmarshal(m.Data, &reply); err != nil {
				t.Fatalf("%s, %s: %v in %s", verb, name, err, m.Data)
			}
			if e := reply.Error; e.Code != "invalid" || !strings.Contains(e.Message, words) {
				t.Errorf("%s, %s: %s, want invalid with %q", verb, name, m.Data, words)
			}
			if code, text := m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader); code != reply.Error.Code || text != reply.Error.Message {
				t.Errorf("%s, %s: the headers say %q, %q", verb, name, code, text)
			}
		}
		ask("nothing", nil, "body must not be empty")
		ask("half of JSON", []byte(`{`), "body must be valid JSON")
		ask("a list", []byte(`["x"]`), "body must be an object")
		ask("a megabyte", []byte(`"`+strings.Repeat("x", 1<<20-2)+`"`), "body must have at most 65536 bytes")
		ask("unknown field", with(base, "colour", "red"), "colour is not a known field")
		ask("a name that plays with terminals", with(base, "\x1b[2J", "red"), `"\x1b[2J" is not a known field`)
		for _, table := range tables {
			for _, w := range table {
				ask(fmt.Sprintf("%s=%v", w.path, w.value), with(base, w.path, w.value), w.words)
			}
		}
	}

	// Nothing of it stopped a worker.
	s.run(bus.RoleSMS)
	s.publish("login", "alice", bySMS(1))
	if r := s.verify(s.issued("alice").Challenge, "alice", s.code(phone(1))); r.Result != "verified" {
		t.Errorf("a good one after all is %s", r.Result)
	}
	ctx, cancel := context.WithTimeout(t.Context(), otposttest.Patience)
	defer cancel()
	operator := s.nats.Bus(t, bus.RoleOperator)
	asked := []string{"rpc.verify", "rpc.login", "rpc.resend", "rpc.cancel", "rpc.status"}
	for _, service := range []string{"challenge", "verification"} { // nats micro ls
		m, err := operator.Conn().RequestWithContext(ctx, "$SRV.STATS."+service, nil)
		if err != nil {
			t.Fatal(err)
		}
		var stats micro.Stats
		if err := json.Unmarshal(m.Data, &stats); err != nil || len(stats.Endpoints) == 0 {
			t.Fatalf("statistics of %s: %v in %s", service, err, m.Data)
		}
		for _, e := range stats.Endpoints {
			if verb := e.Subject[strings.LastIndex(e.Subject, ".rpc.")+1:]; slices.Contains(asked, verb) && e.NumRequests < 10 {
				t.Errorf("the statistics of %s know of %d requests", e.Subject, e.NumRequests)
			}
		}
	}
}
