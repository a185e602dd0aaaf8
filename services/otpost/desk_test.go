package main

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/services/gateway"
	"github.com/otpost/otpost/services/gateway/desk"
)

// This file is the support desk, with browsers of agents and the NATS that knows them.

const deskCookie = "__Host-otpost-desk"

// desk starts a gateway with a support desk, and returns its address.
func (s *system) desk(change ...func(*gateway.Config)) string {
	s.t.Helper()
	return s.edge(append(change, func(c *gateway.Config) {
		if c.Desk == nil {
			c.Desk = desk.OverNATS(s.nats.URL(), "", s.log.Logger)
		}
	})...).URL
}

// agent signs an agent in, in a browser of their own.
func (s *system) agent(at, name string) *otposttest.Browser {
	s.t.Helper()
	b := otposttest.NewBrowser(s.t)
	b.Open(at + "/support")
	b.At("/support/sign-in")
	b.Fill("/support/sign-in", map[string]string{"agent": name, "password": s.nats.AgentPassword(name)})
	b.At("/support/search")
	return b
}

func look(b *otposttest.Browser, user string) {
	b.Open("/support/search")
	b.Fill("/support/search", map[string]string{"app": "demo", "user": user})
}

// decide sends the form of a user's page for an act, up to the question whether to go on.
func decide(t *testing.T, b *otposttest.Browser, act string) {
	t.Helper()
	for _, f := range b.Forms("/support/confirm") {
		if f.Values.Get("act") == act {
			b.Send(f, nil)
			return
		}
	}
	t.Fatalf("there is no way to %s:\n%s", act, b.Text())
}

func TestDeskResetByTwoAgents(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	at := s.desk()
	s.recoverable("alice", 1)
	ann, bob := s.agent(at, "ann"), s.agent(at, "bob")

	look(ann, "alice")
	ann.At("/support/user")
	ann.Says("alice", "Authenticator app", "•••@rescue.example", "On")
	if text := ann.Text(); strings.Contains(text, "alice@rescue.example") || strings.Contains(text, phone(1)) {
		t.Errorf("support sees whole addresses:\n%s", text)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM audit WHERE action = 'support.looked' AND actor = 'agent:ann'`); n != 1 {
		t.Errorf("one look is written down %d times", n)
	}
	ann.Open("/support/begin")
	ann.Fill("/support/begin", map[string]string{"reason": " "})
	if ann.Status != http.StatusUnprocessableEntity {
		t.Errorf("without a reason: %d", ann.Status)
	}
	ann.Says("Enter a reason")
	none := ann.Forms("/support/begin")[0]
	none.Values.Del("method")
	ann.Send(none, map[string]string{"reason": "ticket 4711"})
	ann.Says("Choose at least one.")
	ann.Open("/support/begin")
	begin := ann.Forms("/support/begin")[0]
	begin.Values["method"] = []string{"email", "phone"}
	ann.Send(begin, map[string]string{"reason": "ticket 4711"})
	ann.At("/support/user")
	ann.Says("waits for another agent", "You have begun this reset", "not sent")
	id := s.standing("alice").Recovery

	// Her own page offers no approval. A form that does is refused by the worker, in this session and in another of hers.
	for _, hers := range []*otposttest.Browser{ann, s.agent(at, "ann")} {
		look(hers, "alice")
		form := url.Values{
			"csrf": hers.Forms("/support/confirm")[0].Values["csrf"], "app": {"demo"}, "user": {"alice"}, "act": {"approve"}, "recovery": {id},
		}
		hers.Post("/support/decide", form)
		if hers.Status != http.StatusUnprocessableEntity || !strings.Contains(hers.Text(), "begun") || s.standing("alice").State != "approval" {
			t.Fatalf("ann approves her own reset: %d %s\n%s", hers.Status, s.standing("alice").State, hers.Text())
		}
	}
	look(bob, "alice")
	decide(t, bob, "approve")
	bob.Says("Approve this reset?", "alice")
	bob.Fill("/support/decide", nil)
	bob.At("/support/user")
	bob.Says("Approved.", "proves who they are")
	if now := s.standing("alice"); now.State != "proving" {
		t.Fatalf("approved, it is %+v", now)
	}
	want := []string{"agent:ann recovery.begun", "agent:bob recovery.approved"}
	if got := s.actions("recovery."); strings.Join(got[len(got)-2:], ",") != strings.Join(want, ",") {
		t.Errorf("the audit says %v", got)
	}
	if s.messages("alice@rescue.example") == 0 || strings.Contains(string(bob.Body), s.resetCode(id, "phone")) {
		t.Error("an agent sees a code")
	}

	decide(t, bob, "cancel")
	bob.Says("Cancel this reset?")
	question := bob.Forms("/support/decide")[0]
	bob.Send(question, nil)
	bob.Says("Cancelled.")
	bob.Send(question, nil) // once more, from another tab
	bob.Says("This has changed meanwhile.")

	look(bob, "alice")
	bob.Open("/support/begin")
	begin = bob.Forms("/support/begin")[0]
	begin.Values["method"] = []string{"email"}
	bob.Send(begin, map[string]string{"reason": "ticket 4712"})
	look(ann, "alice")
	decide(t, ann, "refuse")
	ann.Fill("/support/decide", nil)
	ann.Says("Refused.")
	look(ann, "nobody")
	ann.Says("There is nothing about this user")
	ann.Open("/support/search")
	ann.Post("/support/search", url.Values{"csrf": ann.Forms("/support/search")[0].Values["csrf"], "app": {"demo.rpc"}, "user": {"alice"}})
	ann.Says("Choose one of the apps.")
}

// Who somebody is NATS says, and nobody else. A session is worth nothing after it has ended.
func TestDeskSignIn(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleEnrolment)
	at := s.desk()
	b := otposttest.NewBrowser(t)
	refusal := ""
	try := func(name, password string) {
		t.Helper()
		b.Open(at + "/support/sign-in")
		b.Fill("/support/sign-in", map[string]string{"agent": name, "password": password})
		if b.Status != http.StatusUnprocessableEntity || s.deskSessions() != 0 {
			t.Fatalf("%q signs in: %d, %d sessions", name, b.Status, s.deskSessions())
		}
		if refusal == "" {
			refusal = b.Element("errors")
		}
		if got := b.Element("errors"); got != refusal {
			t.Errorf("%q is answered %q, others %q", name, got, refusal)
		}
	}
	right := s.nats.AgentPassword("ann")
	operator := s.nats.Password(bus.RoleOperator)
	for _, wrong := range [][2]string{
		{"ann", "wrong"},
		{"ann", s.nats.AgentPassword("bob")},
		{"nobody", right},
		{"ann.rpc", right},
		{"*", right},
		{">", right},
		{"", right},
		{"ann", ""},
		{"operator", operator},
		{"ann", strings.Repeat("x", 1025)},
	} {
		try(wrong[0], wrong[1])
	}
	b.Open(at + "/support/sign-in")
	form := b.Forms("/support/sign-in")[0].Values
	form.Set("agent", "ann")
	form.Set("password", right)
	thief := otposttest.NewBrowser(t)
	thief.Post(at+"/support/sign-in", form)
	if thief.Status != http.StatusForbidden || s.deskSessions() != 0 {
		t.Errorf("a form that was served to another browser signs in: %d", thief.Status)
	}
	b.Post(at+"/support/sign-in", form, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	if b.Status != http.StatusForbidden || s.deskSessions() != 0 {
		t.Errorf("a form of another site signs in: %d", b.Status)
	}

	ann := s.agent(at, "ann")
	row := otposttest.Get[string](t, s.db, `SELECT encode(sealed, 'escape') || agent || encode(cookie_digest, 'hex') FROM desk_sessions`)
	if strings.Contains(row, right) || !strings.Contains(row, "ann") {
		t.Errorf("the session is stored as %q", row)
	}
	look(ann, "alice")
	state := otposttest.Get[string](t, s.db, `SELECT encode(state, 'escape') FROM desk_sessions`)
	if strings.Contains(state, "alice") || strings.Contains(ann.URL.String(), "alice") {
		t.Error("the user's id stands in the open")
	}
	ann.Post("/support/search", url.Values{"app": {"demo"}, "user": {"bert"}})
	if ann.Status != http.StatusForbidden {
		t.Errorf("a form without a token: %d", ann.Status)
	}
	here, _ := url.Parse(at)
	kept := ann.Cookies(here)
	ann.Open("/support/search")
	ann.Fill("/support/language", map[string]string{"language": "cs"})
	ann.At("/support/search")
	if ann.Header.Get("Content-Language") != "cs" {
		t.Errorf("the language is %s", ann.Header.Get("Content-Language"))
	}
	ann.Fill("/support/sign-out", nil)
	ann.At("/support/sign-in")
	if s.deskSessions() != 0 {
		t.Error("the session outlives the sign-out")
	}
	for _, c := range kept {
		again := otposttest.NewBrowser(t)
		again.Post(at+"/support/search", url.Values{}, "Cookie", c.String())
		again.At("/support/sign-in")
	}

	// It ends without use, and by its time.
	idle := s.agent(at, "ann")
	s.clock.Advance(29 * time.Minute)
	idle.Open("/support/search")
	idle.At("/support/search")
	s.clock.Advance(30 * time.Minute)
	idle.Open("/support/search")
	idle.At("/support/sign-in")
}

func (s *system) deskSessions() int {
	return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM desk_sessions`)
}

// The cookie is for this host alone and for no script, and the one before the sign-in is not the one after.
func TestDeskCookies(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	at := s.desk()
	b := otposttest.NewBrowser(t)
	b.Open(at + "/support/sign-in")
	before := b.Header.Get("Set-Cookie")
	client := otposttest.Insecure()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	form := b.Forms("/support/sign-in")[0].Values
	form.Set("agent", "ann")
	form.Set("password", s.nats.AgentPassword("ann"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/support/sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range b.Cookies(req.URL) {
		req.AddCookie(c)
	}
	req.AddCookie(&http.Cookie{Name: deskCookie, Value: "chosen-by-an-attacker"})
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	var session *http.Cookie
	for _, c := range res.Cookies() {
		if c.Name == deskCookie && c.MaxAge >= 0 {
			session = c
		}
	}
	if session == nil {
		t.Fatalf("signed in: %d, cookies %v", res.StatusCode, res.Header.Values("Set-Cookie"))
	}
	if !session.HttpOnly || !session.Secure || session.Path != "/" || session.Domain != "" || session.SameSite != http.SameSiteLaxMode || session.MaxAge != 0 {
		t.Errorf("the cookie is %s", session)
	}
	if session.Value == "chosen-by-an-attacker" || strings.Contains(before, session.Value) {
		t.Error("the session's cookie was known before the sign-in")
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

// Guessing comes to an end for an agent, whatever the address, and is answered as before: the right password too.
func TestDeskGuessing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	at := s.desk()
	b := otposttest.NewBrowser(t)
	try := func(name, password string) {
		t.Helper()
		b.Open(at + "/support/sign-in")
		b.Fill("/support/sign-in", map[string]string{"agent": name, "password": password})
	}
	for range 5 {
		try("ann", "wrong")
	}
	said := b.Element("errors")
	try("ann", s.nats.AgentPassword("ann"))
	if b.Status != http.StatusUnprocessableEntity || b.Element("errors") != said {
		t.Errorf("the sixth try: %d %s", b.Status, b.Text())
	}
	try("bob", s.nats.AgentPassword("bob"))
	b.At("/support/search")
	s.clock.Advance(15 * time.Minute)
	s.agent(at, "ann")
}

// Where NATS lets anybody in, nobody is an agent.
func TestDeskStaysClosed(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	anybody := func(context.Context, string, string) (desk.Agent, error) { return openLine{}, nil }
	at := s.desk(func(c *gateway.Config) { c.Desk = anybody })
	b := otposttest.NewBrowser(t)
	b.Open(at + "/support/sign-in")
	b.Fill("/support/sign-in", map[string]string{"agent": "ann", "password": "anything"})
	if b.Status != http.StatusServiceUnavailable || s.deskSessions() != 0 {
		t.Errorf("a NATS without users: %d", b.Status)
	}
	b.Says("The support desk is closed")
}

// An openLine is a connection to a server that asks nobody who they are.
type openLine struct{}

func (openLine) Ask(context.Context, string, []byte) ([]byte, error) { return nil, os.ErrInvalid }
func (openLine) Ended() bool                                         { return false }
func (openLine) Close()                                              {}

// Another process of the gateway goes on with the session, and a session whose agent NATS knows no more is over. A row that is copied opens nothing.
func TestDeskSessionElsewhere(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleEnrolment)
	known := true
	connect := desk.OverNATS(s.nats.URL(), "", s.log.Logger)
	var line desk.Agent
	at := s.desk(func(c *gateway.Config) {
		c.Desk = func(ctx context.Context, agent, password string) (desk.Agent, error) {
			if !known {
				return nil, desk.ErrRefused
			}
			a, err := connect(ctx, agent, password)
			if err == nil {
				line = a
			}
			return a, err
		}
	})
	ann := s.agent(at, "ann")
	line.Close() // as if it were another process's
	look(ann, "alice")
	ann.At("/support/user")
	known = false
	line.Close()
	ann.Open("/support/user")
	ann.At("/support/sign-in")
	if s.deskSessions() != 0 {
		t.Error("a session outlives its agent")
	}

	known = true
	ann, bob := s.agent(at, "ann"), s.agent(at, "bob")
	line.Close()
	if _, err := otposttest.Ring(t, keyring.Gateway).Open(keyring.Page, otposttest.Get[[]byte](t, s.db, `SELECT sealed FROM desk_sessions WHERE agent = 'ann'`), nil); err == nil {
		t.Error("a password is sealed for nothing in particular")
	}
	s.db.Exec(t, `UPDATE desk_sessions b SET sealed = a.sealed, agent = 'ann' FROM desk_sessions a WHERE a.agent = 'ann' AND b.agent = 'bob'`)
	look(bob, "alice")
	bob.At("/support/sign-in")
	look(ann, "alice")
	ann.At("/support/user")
}
