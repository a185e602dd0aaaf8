package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway"
	"github.com/otpost/otpost/services/gateway/desk"
)

// returnTo is where pages of these tests lead back to: nobody is there, a browser stops before it.
const returnTo = "https://shop.example/signed-in"

// An edge is a gateway of a system, with a key of the app demo.
type edge struct {
	s   *system
	URL string
	key string
}

// edge starts a gateway, over TLS as browsers want it.
func (s *system) edge(change ...func(*gateway.Config)) *edge {
	s.t.Helper()
	var handler atomic.Pointer[http.Handler]
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	s.t.Cleanup(server.Close)
	public, err := url.Parse(server.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := gateway.Config{
		DB: s.db.Role(string(bus.RoleGateway)), Bus: s.nats.Bus(s.t, bus.RoleGateway), Keys: otposttest.Ring(s.t, keyring.Gateway), Metrics: s.metrics,
		Logger: s.log.Logger, Now: s.clock.Now, Public: public, SweepBy: time.Minute, Desk: desk.OverNATS(s.nats.URL(), "", s.log.Logger),
	}
	for _, c := range change {
		c(&cfg)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	h := g.Handler()
	handler.Store(&h)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("gateway: %v", err)
		}
	})
	e := &edge{s: s, URL: server.URL}
	var digest [32]byte
	e.key = otp.NewAPIKey()
	digest, _ = otp.APIKeyDigest(e.key)
	operator := s.db.Role(string(bus.RoleOperator))
	if _, err := postgres.NewAppKeys(operator).Create(s.t.Context(), s.clock.Now(), s.app.ID, "test", digest, time.Time{}); err != nil {
		s.t.Fatal(err)
	}
	err = postgres.NewPages(operator).Set(s.t.Context(), s.clock.Now(), postgres.AppPages{AppID: s.app.ID, ReturnURLs: []string{"https://shop.example/"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// post asks the JSON API and returns the status and the body.
func (e *edge) post(path string, body any, header ...string) (int, http.Header, []byte) {
	e.s.t.Helper()
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			e.s.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(e.s.t.Context(), http.MethodPost, e.URL+path, bytes.NewReader(text))
	if err != nil {
		e.s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+e.key)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := insecure.Do(req)
	if err != nil {
		e.s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		e.s.t.Fatal(err)
	}
	return res.StatusCode, res.Header, out
}

// insecure trusts every certificate: the servers are those of tests.
var insecure = otposttest.Insecure()

// overHTTP asks the JSON API and fails the test unless it answers.
func overHTTP[Reply any](e *edge, path string, body any) Reply {
	e.s.t.Helper()
	status, _, text := e.post(path, body)
	var reply Reply
	if status != http.StatusOK {
		e.s.t.Fatalf("POST %s: %d %s", path, status, text)
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		e.s.t.Fatalf("POST %s: %v in %s", path, err, text)
	}
	return reply
}

// A visitor is a person with a browser, on a visit to the pages.
type visitor struct {
	*otposttest.Browser
	e             *edge
	user, session string
}

// visit opens the pages for a user in a new browser, as the app would, with the password entered just now. more changes the request.
func (e *edge) visit(user, page string, more map[string]any) *visitor {
	e.s.t.Helper()
	v := &visitor{Browser: otposttest.NewBrowser(e.s.t), e: e, user: user, session: "session of " + user}
	v.Stop = func(u *url.URL) bool { return u.Host == "shop.example" }
	v.again(page, more)
	return v
}

// link makes a link for the visitor.
func (v *visitor) link(page string, more map[string]any) string {
	v.e.s.t.Helper()
	body := map[string]any{
		"user": v.user, "session": v.session, "page": page, "account": v.user + "@example.com", "return_url": returnTo,
		"reauthenticate_url": "https://shop.example/password", "reauthenticated_at": v.e.s.now(), "locale": "en",
	}
	for k, value := range more {
		if value == nil {
			delete(body, k)
		} else {
			body[k] = value
		}
	}
	return overHTTP[event.PageSessionReply](v.e, "/v1/page-sessions", body).URL
}

// again opens another visit in the same browser.
func (v *visitor) again(page string, more map[string]any) {
	v.e.s.t.Helper()
	v.Open(v.link(page, more))
}

// result redeems what the visit came to. The browser must have been led back.
func (v *visitor) result() event.PageResultReply {
	v.e.s.t.Helper()
	token := v.URL.Query().Get("otpost_result")
	if v.URL.Host != "shop.example" || token == "" {
		v.e.s.t.Fatalf("the browser is at %s, not back at the app:\n%s", v.URL, v.Text())
	}
	return overHTTP[event.PageResultReply](v.e, "/v1/page-results", map[string]any{"result": token})
}

func TestPagesOpenOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	v := e.visit("alice", event.PageSettings, nil)
	v.At("/settings")
	link := v.link(event.PageSettings, nil)
	v.Open(link)
	v.At("/settings")
	v.Open(link)
	if v.Status != http.StatusGone {
		t.Errorf("a link that was used: %d\n%s", v.Status, v.Text())
	}
	other := otposttest.NewBrowser(t)
	other.Open(link)
	if other.Status != http.StatusGone || len(other.Cookies(other.URL)) != 0 {
		t.Errorf("a link that was used, in another browser: %d", other.Status)
	}
	late := v.link(event.PageSettings, nil)
	s.clock.Advance(3 * time.Minute)
	other.Open(late)
	if other.Status != http.StatusGone {
		t.Errorf("a link of three minutes ago: %d", other.Status)
	}
	v.Open("/settings")
	v.Fill("/leave", nil)
	token := v.URL.Query().Get("otpost_result")
	if r := v.result(); r.Outcome != event.OutcomeDone || r.User != "alice" || r.Session != v.session || r.Page != event.PageSettings {
		t.Errorf("the result: %+v", r)
	}
	if status, _, body := e.post("/v1/page-results", map[string]any{"result": token}); status != http.StatusNotFound {
		t.Errorf("a result that was redeemed: %d %s", status, body)
	}
}

// A visit to the pages is open no longer than what it belongs to: who sits down at the browser after a sign-out, or has used a stolen password, finds it over.
func TestVisitsEndWithTheirSession(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	s.enrol("alice")
	over := func(v *visitor) func() bool {
		return func() bool { v.Open("/settings"); return v.Status == http.StatusGone }
	}
	here, there := e.visit("alice", event.PageSettings, nil), e.visit("alice", event.PageSettings, map[string]any{"session": "another"})
	s.clock.Advance(time.Second)
	s.signal(event.SessionSignedOut, map[string]any{"user": "alice", "session": here.session})
	otposttest.Eventually(t, "the visit of the session is over", over(here))
	here.Post("/settings/codes", nil)
	if here.Status != http.StatusGone {
		t.Errorf("a form of it: %d", here.Status)
	}
	there.Open("/settings")
	there.At("/settings")
	if there.Status != http.StatusOK {
		t.Fatalf("a visit of another session: %d", there.Status)
	}
	s.clock.Advance(time.Second)
	before := s.now()
	s.clock.Advance(time.Second)
	later := e.visit("alice", event.PageSettings, nil)
	s.signalAt(event.PasswordChanged, before, map[string]any{"user": "alice"})
	otposttest.Eventually(t, "visits from before the change are over", over(there))
	later.Open("/settings")
	if later.Status != http.StatusOK {
		t.Errorf("a visit that is newer than the change: %d", later.Status)
	}
}
