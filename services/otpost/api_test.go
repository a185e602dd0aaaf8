package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is an app that has no NATS: all that it asks goes over HTTP, to real workers, and every answer is held to schemas/openapi.yaml.

// An apiSide is the app.
type apiSide struct {
	*edge
	done map[string]bool // the operations that were carried out
}

// throughAPI has the requests of a system go over HTTP.
func throughAPI(s *system, e *edge) *apiSide {
	a := &apiSide{edge: e, done: map[string]bool{}}
	s.exchange = func(verb string, body []byte) []byte {
		s.t.Helper()
		status, _, answer := a.send("/v1/"+verb, body)
		if status == http.StatusOK {
			return answer
		}
		var p event.HTTPProblem
		if err := json.Unmarshal(answer, &p); err != nil {
			s.t.Fatal(err)
		}
		return event.EncodeProblem(&otp.Problem{Reason: otp.Reason(p.Code), Field: p.Field, Message: p.Detail, RetryAfter: time.Duration(p.RetryAfter) * time.Second})
	}
	return a
}

// send posts a request and holds it and its answer to openapi.yaml.
func (a *apiSide) send(path string, body []byte, header ...string) (int, http.Header, []byte) {
	a.s.t.Helper()
	status, h, answer := a.post(path, body, header...)
	if err := otposttest.ByOpenAPI(http.MethodPost, path, body, status, h, answer); err != nil {
		a.s.t.Errorf("POST %s: %v\n%s", path, err, answer)
	}
	if status < 300 {
		a.done[path] = true
	}
	return status, h, answer
}

// tell sends a signal and returns the id of its event.
func (a *apiSide) tell(name event.SignalName, data map[string]any) string {
	a.s.t.Helper()
	status, _, answer := a.send("/v1/signals/"+string(name), event.Encode(data))
	var r event.SignalReply
	if err := json.Unmarshal(answer, &r); err != nil || status != http.StatusAccepted {
		a.s.t.Fatalf("%s: %d %s", name, status, answer)
	}
	return r.ID
}

// An app takes its users through logins, factors and recovery, over HTTP alone.
func TestEverythingOverHTTP(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withKeys, policy(func(p *otp.FactorPolicy) { p.RecoveryWait, p.CoolingOff = 0, 0 }))
	s.run(factorRoles...)
	a := throughAPI(s, s.edge())

	a.logins()
	a.factors()
	a.recovery()
	a.signals()
	a.pages()

	for _, path := range []string{"/openapi.yaml", "/events/v1/common.json"} {
		r, err := insecure.Get(a.URL + path) //nolint:noctx // on this machine
		if err != nil {
			t.Fatal(err)
		}
		if _ = r.Body.Close(); r.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %d", path, r.StatusCode)
		}
	}
	for at := range otposttest.Operations() {
		if path, ok := strings.CutPrefix(at, "POST "); ok && !a.done[path] {
			t.Errorf("%s was never carried out", path)
		}
	}
}

// logins brings a code to a phone, answers wrongly and rightly, and has a repeat answered alike.
func (a *apiSide) logins() {
	a.s.t.Helper()
	s, t := a.s, a.s.t
	login := must[event.LoginReply](s, event.VerbLogin, owned("bob", mergeID("l-1", bySMS(1))))
	if login.Outcome != event.OutcomeIssued || login.Channel != "sms" || login.To == "" {
		t.Fatalf("a login: %+v", login)
	}
	if again := must[event.LoginReply](s, event.VerbLogin, owned("bob", mergeID("l-1", bySMS(1)))); again.Challenge != login.Challenge {
		t.Errorf("the same login again: %+v", again)
	}
	code := s.code(phone(1))
	ref := map[string]any{"challenge": login.Challenge, "session": "session of bob"}
	if p := refused(s, event.VerbResend, ref); p != "rate_limited" {
		t.Errorf("sent again at once: %s", p)
	}
	s.clock.Advance(s.app.Policy.Cooldown + time.Second)
	must[event.ResendReply](s, event.VerbResend, ref)
	if status := must[event.StatusReply](s, event.VerbStatus, map[string]any{"challenge": login.Challenge}); status.State != "open" || status.User != "bob" {
		t.Errorf("status: %+v", status)
	}
	if v := s.verify(login.Challenge, "bob", wrongCode(code)); v.Result != event.ResultWrong { // a verdict, no problem
		t.Errorf("a wrong code: %+v", v)
	}

	// The token of a trusted browser is told once; an Idempotency-Key brings it again where the answer was lost.
	body := event.Encode(map[string]any{"challenge": login.Challenge, "session": "session of bob", "code": code, "trust_device": map[string]any{"label": "Firefox"}})
	_, h, first := a.send("/v1/verify", body, "Idempotency-Key", `"answer-1"`)
	var v event.VerifyReply
	if err := json.Unmarshal(first, &v); err != nil || v.Result != "verified" || v.Device == "" || h.Get("Idempotency-Replayed") != "" {
		t.Fatalf("a right code: %s", first)
	}
	if _, h, again := a.send("/v1/verify", body, "Idempotency-Key", "answer-1"); string(again) != string(first) || h.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the same again: %s", again)
	}
	if v := s.verify(login.Challenge, "bob", code); v.Result != event.ResultUnknown {
		t.Errorf("the same code without the key: %+v", v)
	}

	skipped := s.ask("l-2", "bob", mergeWord("device", v.Device, bySMS(1)))
	if skipped.Outcome != event.OutcomeSkipped || skipped.Device == "" {
		t.Errorf("from the trusted browser: %+v", skipped)
	}
	must[event.DeviceRenewReply](s, event.VerbDeviceRenew, owned("bob", map[string]any{"device": skipped.Device}))
	devices := must[event.DeviceListReply](s, event.VerbDeviceList, map[string]any{"user": "bob"}).Devices
	if len(devices) != 1 || devices[0].Label != "Firefox" {
		t.Fatalf("devices: %+v", devices)
	}
	must[event.DeviceListReply](s, event.VerbDeviceRevoke, owned("bob", map[string]any{"device": devices[0].Device}))

	login = s.ask("l-3", "bob", bySMS(1))
	must[event.CancelReply](s, event.VerbCancel, map[string]any{"challenge": login.Challenge, "session": "session of bob"})
	if p := refused(s, event.VerbResend, map[string]any{"challenge": login.Challenge, "session": "session of bob"}); p != "challenge_ended" {
		t.Errorf("sent again after it: %s", p)
	}
	if p := refused(s, event.VerbLogin, owned("bob", nil)); p != "invalid" {
		t.Errorf("a login without an id: %s", p)
	}
}

// factors adds, uses, changes and ends factors.
func (a *apiSide) factors() {
	a.s.t.Helper()
	s, t := a.s, a.s.t
	app := s.enrol("alice")
	if len(app.codes) != 10 {
		t.Fatalf("backup codes: %v", app.codes)
	}
	begun := must[event.FactorBeginReply](s, event.VerbFactorBegin, owned("alice", map[string]any{"kind": "sms", "address": phone(2), "reauthenticated_at": s.now()}))
	s.code(phone(2))
	s.clock.Advance(s.app.Policy.Cooldown + time.Second)
	must[event.ResendReply](s, event.VerbFactorResend, map[string]any{"ceremony": begun.Ceremony, "session": "session of alice"})
	sms := s.confirm("alice", begun.Ceremony, s.code(phone(2)))
	must[event.FactorListReply](s, event.VerbFactorRename, map[string]any{"user": "alice", "factor": sms.Factor, "label": "work"})
	must[event.FactorListReply](s, event.VerbFactorPrefer, map[string]any{"user": "alice", "factor": app.factor})
	if list := must[event.FactorListReply](s, event.VerbFactorList, map[string]any{"user": "alice"}); len(list.Factors) != 2 || !list.Activated {
		t.Errorf("factors: %+v", list)
	}

	// A security key, and a login that it answers.
	key := otposttest.NewAuthenticator(t)
	begun = must[event.FactorBeginReply](s, event.VerbFactorBegin, owned("alice", map[string]any{"kind": "webauthn", "reauthenticated_at": s.now()}))
	must[event.FactorConfirmReply](s, event.VerbFactorConfirm, map[string]any{
		"ceremony": begun.Ceremony, "session": "session of alice", "credential": key.Create(t, []byte(begun.Options), keyOrigin),
	})
	login := s.ask("l-4", "alice", map[string]any{"channel": "webauthn"})
	ref := map[string]any{"challenge": login.Challenge, "session": "session of alice"}
	options := must[event.WebAuthnBeginReply](s, event.VerbWebAuthnBegin, ref)
	ref["credential"] = key.Get(t, []byte(options.Options), keyOrigin)
	if v := must[event.VerifyReply](s, event.VerbVerify, ref); v.Result != "verified" || v.Factor != "webauthn" {
		t.Errorf("a security key: %+v", v)
	}

	seen := owned("alice", map[string]any{"reauthenticated_at": s.now()})
	if r := must[event.BackupCodesReply](s, event.VerbBackupView, seen); len(r.Codes) != 10 {
		t.Errorf("backup codes: %d", len(r.Codes))
	}
	must[event.BackupCodesReply](s, event.VerbBackupRegenerate, seen)

	token := s.giveToken("dave")
	must[event.FactorResyncReply](s, event.VerbFactorResync, owned("dave", map[string]any{
		"factor": token.id.String(), "first": token.value(t, 20), "second": token.value(t, 21),
	}))

	proof := func() map[string]any { return map[string]any{"reauthenticated_at": s.now(), "code": app.next()} }
	if p := refused(s, event.VerbFactorRemove, owned("alice", map[string]any{"factor": sms.Factor})); p != "reauthentication_required" {
		t.Errorf("removed without a proof: %s", p)
	}
	must[event.FactorListReply](s, event.VerbFactorRemove, owned("alice", mergeWord("factor", sms.Factor, proof())))
	if r := must[event.ActivityListReply](s, event.VerbActivityList, owned("alice", nil)); len(r.Activity) < 5 || r.Activity[0].Action != "factor.removed" || !r.Activity[0].Here {
		t.Errorf("activity: %+v", r)
	}
	wish := must[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, owned("alice", proof()))
	must[event.DeactivateConfirmReply](s, event.VerbDeactivateConfirm, map[string]any{"ceremony": wish.Ceremony, "session": "session of alice"})
	if list := must[event.FactorListReply](s, event.VerbFactorList, map[string]any{"user": "alice"}); len(list.Factors) != 0 || list.Activated {
		t.Errorf("after deactivation: %+v", list)
	}
}

// recovery sets one up, has one stopped, and brings a user back by a code and the passphrase.
func (a *apiSide) recovery() {
	a.s.t.Helper()
	s, t := a.s, a.s.t
	const passphrase = "seven wise otters juggle"
	seen := map[string]any{"reauthenticated_at": s.now()}
	must[event.PreferencesReply](s, event.VerbRecoveryPreferences, owned("carol", mergeWord("country", "CZ", mergeWord("passphrase", passphrase, seen))))
	pending := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, owned("carol", mergeWord("method", "email", mergeWord("address", "carol@rescue.example", seen))))
	must[event.PreferencesReply](s, event.VerbRecoveryConfirm, map[string]any{
		"ceremony": pending.Ceremony, "session": "session of carol", "code": s.code("carol@rescue.example"),
	})
	s.enrol("carol")
	begin := map[string]any{"user": "carol", "session": "lost", "methods": []string{"email"}, "reauthenticated_at": s.now()}
	must[event.RecoveryReply](s, event.VerbRecoveryBegin, begin)
	must[event.RecoveryCancelReply](s, event.VerbRecoveryCancel, owned("carol", seen))
	r := must[event.RecoveryReply](s, event.VerbRecoveryBegin, begin)
	again := map[string]any{"recovery": r.Recovery, "session": "lost", "method": "email"}
	s.resetCode(r.Recovery, "email") // waits until it is there
	s.clock.Advance(s.app.Policy.Cooldown + time.Second)
	must[event.ResendReply](s, event.VerbRecoveryResend, again)
	prove := func(method, code string) event.RecoveryProveReply {
		return must[event.RecoveryProveReply](s, event.VerbRecoveryProve, map[string]any{"recovery": r.Recovery, "session": "lost", "method": method, "code": code})
	}
	if v := prove("email", s.resetCode(r.Recovery, "email")); v.Result != event.ResultProven {
		t.Errorf("the code: %+v", v)
	}
	if v := prove("passphrase", "seven wise otters giggle"); v.Result != event.ResultWrong {
		t.Errorf("a wrong passphrase: %+v", v)
	}
	if v := prove("passphrase", passphrase); v.Result != event.ResultProven {
		t.Errorf("the passphrase: %+v", v)
	}
	if r := must[event.RecoveryReply](s, event.VerbRecoveryStatus, map[string]any{"user": "carol"}); r.State != "completed" {
		t.Errorf("after it: %+v", r)
	}
}

// signals tells of users, and sees that it is acted upon.
func (a *apiSide) signals() {
	a.s.t.Helper()
	s, t := a.s, a.s.t
	app := s.enrol("erin")
	login := s.ask("l-5", "erin", nil)
	if v := must[event.VerifyReply](s, event.VerbVerify, map[string]any{
		"challenge": login.Challenge, "session": "session of erin", "code": app.next(), "trust_device": map[string]any{"label": "Firefox"},
	}); v.Device == "" {
		t.Fatalf("a right code: %+v", v)
	}
	a.tell(event.PasswordChanged, map[string]any{"user": "erin"})
	s.heard.Wait(t, event.DeviceRevoked, func(e otposttest.Event) bool {
		d := otposttest.Decode[event.DeviceData](t, e)
		return d.User == "erin" && d.Reason == event.RevokedPasswordChanged
	})
	for _, told := range []struct {
		name event.SignalName
		data map[string]any
	}{
		{event.SessionSignedOut, map[string]any{"user": "erin", "session": "session of erin"}},
		{event.DeviceErased, map[string]any{"user": "erin"}},
	} {
		a.tell(told.name, told.data)
	}
	a.tell(event.UserDeleted, map[string]any{"user": "erin"})
	s.heard.Wait(t, event.UserErased, func(e otposttest.Event) bool { return otposttest.Decode[event.ErasedData](t, e).User == "erin" })
}

// pages leads a user to the pages and hears that they left.
func (a *apiSide) pages() {
	a.s.t.Helper()
	t := a.s.t
	body := owned("frank", map[string]any{"page": event.PageSettings, "return_url": returnTo})
	v := &visitor{Browser: otposttest.NewBrowser(t), e: a.edge, user: "frank", session: "session of frank"}
	status, _, answer := a.send("/v1/page-sessions", event.Encode(body))
	var link event.PageSessionReply
	if err := json.Unmarshal(answer, &link); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	for _, evil := range []string{"https://evil.example/", "https://shop.example.evil.example/", "https://shop.example/../x", "http://shop.example/"} {
		body["return_url"] = evil
		if status, _, answer := a.send("/v1/page-sessions", event.Encode(body)); status != http.StatusBadRequest || !strings.Contains(string(answer), `"field":"return_url"`) {
			t.Errorf("back to %s: %d %s", evil, status, answer)
		}
	}
	v.leave(link.URL)
	result := event.Encode(map[string]any{"result": v.URL.Query().Get("otpost_result")})
	var r event.PageResultReply
	if status, _, answer := a.send("/v1/page-results", result); json.Unmarshal(answer, &r) != nil || status != http.StatusOK || r.User != "frank" || r.Session != "session of frank" {
		t.Errorf("the result: %d %s", status, answer)
	}
	if status, _, _ := a.send("/v1/page-results", result); status != http.StatusNotFound {
		t.Errorf("redeemed twice: %d", status)
	}
}

// leave opens a link and leaves at once.
func (v *visitor) leave(link string) {
	v.Stop = func(u *url.URL) bool { return u.Host == "shop.example" }
	v.Open(link)
	v.Fill("/leave", nil)
}

func TestAppKeyCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	db.App(t, "shop")
	other := db.App(t, "other")
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	store := postgres.NewAppKeys(db.Role("gateway"))
	made := func(out string) (key string, stored postgres.AppKey) {
		t.Helper()
		key, _, _ = strings.Cut(out, "\n")
		digest, ok := otp.APIKeyDigest(key)
		stored, err := store.ByDigest(t.Context(), digest)
		if !ok || err != nil || strings.Count(out, key) != 1 || !strings.Contains(out, stored.ID.String()) {
			t.Fatalf("it prints %q: %v", out, err)
		}
		return key, stored
	}
	first, k1 := made(sh.ok("app", "key", "create", "shop", "--label=the shop"))
	if !k1.ExpiresAt.IsZero() || k1.Label != "the shop" {
		t.Errorf("%+v", k1)
	}
	_, k2 := made(sh.ok("app", "key", "create", "shop", "--expires-in=1h"))
	if d := time.Until(k2.ExpiresAt); d > time.Hour || d < 59*time.Minute {
		t.Errorf("it expires in %s", d)
	}
	out := sh.ok("app", "key", "list", "shop")
	has(t, out, k1.ID.String(), "the shop", "good")
	has(t, out, k2.ID.String(), "-", "good")
	if strings.Contains(out, first[:12]) {
		t.Errorf("it shows a key:\n%s", out)
	}
	_, k3 := made(sh.ok("app", "key", "rotate", "shop", "--overlap=2h", "--label=next"))
	list, err := store.List(t.Context(), k1.AppID)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, k := range list {
		left := time.Until(k.ExpiresAt)
		if k.ID == k1.ID && (left > 2*time.Hour || left < 119*time.Minute) || k.ID == k2.ID && left > time.Hour || k.ID == k3.ID && !k.ExpiresAt.IsZero() {
			t.Errorf("after the rotation: %+v", k)
		}
	}
	if out := sh.ok("app", "key", "rotate", "shop", "--overlap=0s"); !strings.Contains(out, "3 other keys are good until") {
		t.Errorf("it says %q", out)
	}
	has(t, sh.ok("app", "key", "list", "shop"), k1.ID.String(), "the shop", "expired")
	sh.ok("app", "key", "revoke", "shop", k3.ID.String())
	has(t, sh.ok("app", "key", "list", "shop"), k3.ID.String(), "next", "revoked")
	sh.fails(1, []string{"no such key"}, "app", "key", "revoke", other.Name, k1.ID.String())
	sh.fails(1, []string{"otpost app key list"}, "app", "key", "revoke", "shop", first)
	sh.fails(1, []string{"ghost", "no such app"}, "app", "key", "create", "ghost")
	sh.fails(1, []string{"--label"}, "app", "key", "create", "shop", "--label="+strings.Repeat("l", 65))
	sh.fails(1, []string{"--expires-in"}, "app", "key", "create", "shop", "--expires-in=-1h")
	sh.fails(1, []string{"--overlap"}, "app", "key", "rotate", "shop", "--overlap=-1h")
}

func TestAppPagesCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	app := db.App(t, "shop")
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	store := postgres.NewPages(db.Role("gateway"))
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	svg := file("logo.svg", `<svg xmlns="http://www.w3.org/2000/svg"/>`)
	sh.fails(1, []string{"no pages"}, "app", "pages", "show", "shop")
	sh.fails(1, []string{"--return-url"}, "app", "pages", "shop", "--accent=#0a7d4f")
	out := sh.ok("app", "pages", "shop", "--return-url=https://shop.example/", "--return-url=http://localhost:8081", "--accent=#0A7D4F", "--logo="+svg)
	for _, row := range [][]string{
		{"return-url", "https://shop.example/"},
		{"return-url", "http://localhost:8081"},
		{"accent", "#0a7d4f"},
		{"logo", "image/svg+xml, 41 bytes"},
	} {
		has(t, out, row...)
	}
	if shown := sh.ok("app", "pages", "show", "shop"); shown != out {
		t.Errorf("set shows:\n%s\nshow shows:\n%s", out, shown)
	}
	sh.ok("app", "pages", "set", "shop", "--return-url=https://pay.shop.example", "--accent=")
	p, err := store.Get(t.Context(), app.ID)
	if err != nil || !slices.Equal(p.ReturnURLs, []string{"https://pay.shop.example"}) || p.Accent != "" || p.LogoType != postgres.LogoSVG {
		t.Errorf("%+v, %v", p, err)
	}
	sh.ok("app", "pages", "shop", "--logo=")
	if p, _ = store.Get(t.Context(), app.ID); p.LogoType != "" || p.Logo != nil {
		t.Errorf("%+v", p)
	}
	for flag, words := range map[string]string{
		"--return-url=http://shop.example": "https", "--return-url=https://shop.example/?x=1": "query", "--return-url=shop.example": "URL", "--accent=red": "--accent",
		"--logo=" + file("page.html", "<html></html>"): "PNG or SVG", "--logo=" + file("big.svg", "<svg>"+strings.Repeat(" ", 65536)): "64 KiB", "--logo=" + dir + "/none.png": "--logo",
	} {
		sh.fails(1, []string{words}, "app", "pages", "shop", flag)
	}
	sh.fails(1, []string{"nothing to set"}, "app", "pages", "shop")
	sh.fails(1, []string{"ghost"}, "app", "pages", "ghost", "--accent=#000000")
	sh.ok("app", "pages", "remove", "shop")
	sh.fails(1, []string{"no pages"}, "app", "pages", "remove", "shop")
}
