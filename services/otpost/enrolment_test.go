package main

import (
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file follows factors from their begin to their end, over all workers.

// factorRoles are the workers that the life of factors takes.
var factorRoles = []bus.Role{bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification, bus.RoleEnrolment}

// policy changes the app's policy of factors.
func policy(change func(*otp.FactorPolicy)) func(*systemOptions) {
	return func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) { change(&a.Policy.Factors) })
	}
}

// must is request that fails the test on a problem.
func must[T any](s *system, verb string, body any) T {
	s.t.Helper()
	r, problem := request[T](s, verb, body)
	if problem != "" {
		s.t.Fatalf("%s: %s", verb, problem)
	}
	return r
}

// refused is the problem of a request that must have one.
func refused(s *system, verb string, body any) string {
	s.t.Helper()
	r, problem := request[json.RawMessage](s, verb, body)
	if problem == "" {
		s.t.Fatalf("%s was carried out: %s", verb, r)
	}
	return problem
}

// owned is the body of a request by a user in their own session.
func owned(user string, more map[string]any) map[string]any {
	body := map[string]any{"user": user, "session": "session of " + user}
	for k, v := range more {
		body[k] = v
	}
	return body
}

// now is a time for reauthenticated_at.
func (s *system) now() string { return event.Time(s.clock.Now()) }

// An authenticator is a user's authenticator app, which is oathtool.
type authenticator struct {
	s      *system
	secret string // base32
	factor string
	codes  []string // the backup codes that came with it
}

// value is what the app shows.
func (a *authenticator) value() string {
	a.s.t.Helper()
	out, err := exec.CommandContext(a.s.t.Context(), oathtool(a.s.t), "--totp", "--base32", "--now", a.s.clock.Now().UTC().Format("2006-01-02 15:04:05 UTC"), a.secret).Output() //nolint:gosec // a test's own words
	if err != nil {
		a.s.t.Fatalf("oathtool: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// next waits for the next step, whose value nobody has used, and returns it.
func (a *authenticator) next() string {
	a.s.clock.Advance(31 * time.Second)
	return a.value()
}

func oathtool(t testing.TB) string { return tool(t, "oathtool", "oathtool") }

// tool finds a program that tests read our output with; scripts/setup installs its package.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed (Debian: %s)", name, pkg)
		}
		t.Skipf("%s is not installed (Debian: %s)", name, pkg)
	}
	return path
}

// beginApp begins the adding of an authenticator app.
func (s *system) beginApp(user string, more map[string]any) (event.FactorBeginReply, *authenticator) {
	s.t.Helper()
	body := owned(user, map[string]any{"kind": "totp", "label": "phone", "reauthenticated_at": s.now()})
	for k, v := range more {
		body[k] = v
	}
	b := must[event.FactorBeginReply](s, event.VerbFactorBegin, body)
	u, err := url.Parse(b.URI)
	if err != nil {
		s.t.Fatal(err)
	}
	return b, &authenticator{s: s, secret: u.Query().Get("secret")}
}

// confirm proves a factor with a code.
func (s *system) confirm(user, ceremony, code string) event.FactorConfirmReply {
	s.t.Helper()
	return must[event.FactorConfirmReply](s, event.VerbFactorConfirm, map[string]any{"ceremony": ceremony, "session": "session of " + user, "code": code})
}

// enrol gives a user an authenticator app and has them keep the backup codes.
func (s *system) enrol(user string) *authenticator {
	s.t.Helper()
	b, a := s.beginApp(user, nil)
	r := s.confirm(user, b.Ceremony, a.value())
	a.factor, a.codes = r.Factor, r.BackupCodes
	if r.State == "confirmed" {
		must[event.BackupAcknowledgeReply](s, event.VerbBackupAcknowledge, owned(user, map[string]any{"how": "saved"}))
	}
	return a
}

// login asks for a challenge by request.
func (s *system) ask(id, user string, more map[string]any) event.LoginReply {
	s.t.Helper()
	return must[event.LoginReply](s, event.VerbLogin, owned(user, mergeID(id, more)))
}

func mergeID(id string, more map[string]any) map[string]any {
	out := map[string]any{"id": id}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// factors lists a user's factors.
func (s *system) factors(user string) event.FactorListReply {
	s.t.Helper()
	return must[event.FactorListReply](s, event.VerbFactorList, map[string]any{"user": user})
}

// hears waits for an event of a user.
func (s *system) hears(name event.Name, user string) otposttest.Event {
	s.t.Helper()
	return s.heard.Wait(s.t, name, func(e otposttest.Event) bool {
		return otposttest.Decode[struct{ User string }](s.t, e).User == user
	})
}

// notified waits for a message to an address whose text has all the words.
func (s *system) notified(to string, words ...string) string {
	s.t.Helper()
	text := ""
	otposttest.Eventually(s.t, fmt.Sprintf("%s is told of %q", inbox.Filter{To: to}.To, words), func() bool {
		return slices.ContainsFunc(s.box.List(inbox.Filter{To: to}), func(m inbox.Message) bool {
			text = m.Text
			for _, w := range words {
				if !strings.Contains(strings.ToLower(m.Subject+" "+m.Text), strings.ToLower(w)) {
					return false
				}
			}
			return true
		})
	})
	return text
}

// The life of an authenticator app, read and answered by independent programs.
func TestAuthenticatorApp(t *testing.T) {
	t.Parallel()
	zbar := tool(t, "zbarimg", "zbar-tools")
	s := newSystem(t)
	s.run(factorRoles...)
	b, a := s.beginApp("alice", map[string]any{"account": "alice@shop.example"})

	u, err := url.Parse(b.URI)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/"+s.app.DisplayName+":alice@shop.example" || u.Query().Get("issuer") != s.app.DisplayName ||
		len(a.secret) != 32 || strings.Contains(b.URI, "=%3D") {
		t.Errorf("the URI is %s, want issuer, account and an unpadded secret of 160 bits", b.URI)
	}
	if strings.ReplaceAll(b.Secret, " ", "") != a.secret || !regexp.MustCompile(`^([A-Z2-7]{4} ){7}[A-Z2-7]{4}$`).MatchString(b.Secret) {
		t.Errorf("the secret as text is %q, want %s in groups of four", b.Secret, a.secret)
	}
	png := filepath.Join(t.TempDir(), "qr.png")
	if err := os.WriteFile(png, b.QRPNG, 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := exec.CommandContext(t.Context(), zbar, "--quiet", "--raw", "-Sbinary", png).Output() //nolint:gosec // the test's own file
	if err != nil || strings.TrimSpace(string(read)) != b.URI {
		t.Errorf("zbarimg reads %q (%v), want the URI", read, err)
	}
	if !strings.HasPrefix(b.QRSVG, "<svg") {
		t.Errorf("the SVG begins with %.20q", b.QRSVG)
	}

	value := a.value()
	if p := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": b.Ceremony, "session": "session of alice", "code": wrongCode(value)}); p != "wrong_code" {
		t.Errorf("a wrong value: %s", p)
	}
	c := s.confirm("alice", b.Ceremony, value)
	if c.State != "confirmed" || len(c.BackupCodes) != 10 || !regexp.MustCompile(`^[0-9A-Z]{4}-[0-9A-Z]{5}-[0-9A-Z]{4}$`).MatchString(c.BackupCodes[0]) {
		t.Errorf("confirmed: %+v, want a factor that waits, with 10 backup codes in groups", c)
	}
	if p := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": b.Ceremony, "session": "session of alice", "code": value}); p != "unknown_ceremony" {
		t.Errorf("confirmed once more: %s", p)
	}

	// Until the codes are in safety, no login asks for it.
	if r := s.ask("early", "alice", nil); r.Outcome != "skipped" || r.Reason != "no_factor" {
		t.Errorf("a login before the backup codes are kept: %+v", r)
	}
	if l := s.factors("alice"); l.Activated || len(l.Factors) != 1 || l.Factors[0].State != "confirmed" {
		t.Errorf("listed: %+v", l)
	}
	ack := must[event.BackupAcknowledgeReply](s, event.VerbBackupAcknowledge, owned("alice", map[string]any{"how": "printed"}))
	if !ack.Activated || ack.Left != 10 {
		t.Errorf("acknowledged: %+v", ack)
	}
	if d := otposttest.Decode[event.FactorData](t, s.hears(event.FactorAdded, "alice")); d.Factor != c.Factor || d.Kind != "totp" || d.Label != "phone" {
		t.Errorf("factor.added: %+v", d)
	}

	// The step that confirmed it is used up; the next one lets in.
	r := s.ask("login", "alice", nil)
	if r.Outcome != "issued" || r.Factor != "totp" || !slices.Contains(r.Methods, "backup_code") {
		t.Fatalf("a login: %+v, want the app asked for and backup codes among the methods", r)
	}
	if v := s.verify(r.Challenge, "alice", value); v.Result != "wrong" {
		t.Errorf("the step that confirmed the app: %s, want wrong", v.Result)
	}
	if v := s.verify(r.Challenge, "alice", a.next()); v.Result != "verified" || v.Factor != "totp" {
		t.Errorf("the next step: %+v, want verified", v)
	}

	// Several, with labels.
	b2, a2 := s.beginApp("alice", map[string]any{"label": "tablet"})
	if c := s.confirm("alice", b2.Ceremony, a2.value()); c.State != "active" || len(c.BackupCodes) != 0 {
		t.Errorf("a second app: %+v, want it active at once, without backup codes", c)
	}
	l := s.factors("alice")
	if len(l.Factors) != 2 || l.Factors[1].Label != "tablet" || l.Factors[1].State != "active" || l.BackupCodesLeft != 10 {
		t.Errorf("listed: %+v", l)
	}
	if r := s.ask("second", "alice", nil); s.verify(r.Challenge, "alice", a2.next()).Result != "verified" {
		t.Error("the second app does not let in")
	}
}

// A number is proven by the code that goes there, and cannot be all that is left of the factors for a day.
func TestNumberAndAddress(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := s.enrol("alice")
	begin := func(kind, address string) event.FactorBeginReply {
		t.Helper()
		return must[event.FactorBeginReply](s, event.VerbFactorBegin, owned("alice", map[string]any{
			"kind": kind, "address": address, "label": kind, "locale": "en", "reauthenticated_at": s.now(),
		}))
	}
	mail := begin("email", "alice@example.com")
	if mail.To == "" || strings.Contains(mail.To, "alice@") || mail.SendsLeft != 4 {
		t.Errorf("begun: %+v, want a masked address", mail)
	}
	if p := refused(s, event.VerbFactorResend, map[string]any{"ceremony": mail.Ceremony, "session": "session of alice"}); p != "rate_limited" {
		t.Errorf("sent again at once: %s", p)
	}
	code := s.code("alice@example.com")
	s.clock.Advance(31 * time.Second)
	again := must[event.ResendReply](s, event.VerbFactorResend, map[string]any{"ceremony": mail.Ceremony, "session": "session of alice"})
	if again.SendsLeft != 3 {
		t.Errorf("sent again: %+v", again)
	}
	otposttest.Eventually(t, "the second message is there", func() bool { return s.messages("alice@example.com") == 2 })
	if got := s.code("alice@example.com"); got != code {
		t.Errorf("sent again with another code")
	}
	if c := s.confirm("alice", mail.Ceremony, code); c.State != "active" || c.AloneAfter == "" {
		t.Errorf("confirmed: %+v, want it active and cooling off", c)
	}
	s.notified("alice@example.com", "email")

	sms := begin("sms", "+1 415 555 0100")
	c := s.confirm("alice", sms.Ceremony, s.code("+14155550100"))
	s.notified("alice@example.com", "text message") // what was there before hears of what came

	// Taking the app away would leave only what is new.
	remove := func(factor string, more map[string]any) string {
		t.Helper()
		body := owned("alice", map[string]any{"factor": factor, "reauthenticated_at": s.now()})
		for k, v := range more {
			body[k] = v
		}
		_, problem := request[event.FactorListReply](s, event.VerbFactorRemove, body)
		return problem
	}
	if p := remove(a.factor, nil); p != "reauthentication_required" {
		t.Errorf("removed without a code: %s", p)
	}
	if p := remove(a.factor, map[string]any{"code": a.next()}); p != "cooling_off" {
		t.Errorf("removed while the others cool off: %s", p)
	}
	s.clock.Advance(24*time.Hour + time.Minute)
	if p := remove(a.factor, map[string]any{"code": wrongCode(a.value())}); p != "wrong_code" {
		t.Errorf("removed with a wrong code: %s", p)
	}
	if p := remove(a.factor, map[string]any{"code": a.next()}); p != "" {
		t.Fatalf("removed after the cooling-off: %s", p)
	}
	if d := otposttest.Decode[event.FactorData](t, s.hears(event.FactorRemoved, "alice")); d.Factor != a.factor || d.Reason != "removed" {
		t.Errorf("factor.removed: %+v", d)
	}

	// Without an app the code of a challenge in this session is the proof, and it serves once.
	prove := func(id string) string {
		t.Helper()
		seen := s.box.List(inbox.Filter{To: "+14155550100"})[0].ID
		r := s.ask(id, "alice", map[string]any{"channel": "sms"})
		codes := regexp.MustCompile(`^\d{6}`) // a notice begins with the app's name
		otposttest.Eventually(t, "the login's code is there", func() bool {
			code := ""
			for _, m := range s.box.List(inbox.Filter{To: "+14155550100", After: inbox.AfterMessage(seen)}) {
				code += codes.FindString(m.Text)
			}
			return code != "" && s.verify(r.Challenge, "alice", code).Result == "verified"
		})
		return r.Challenge
	}
	proof := prove("proof")
	if p := remove(c.Factor, map[string]any{"challenge": proof}); p != "" {
		t.Fatalf("removed with a verified challenge: %s", p)
	}
	list := s.factors("alice")
	if len(list.Factors) != 1 || list.Factors[0].Kind != "email" {
		t.Fatalf("left: %+v", list)
	}
	if p := remove(list.Factors[0].Factor, map[string]any{"challenge": proof}); p != "last_factor" {
		t.Errorf("the last one removed: %s", p)
	}
	begun := owned("alice", map[string]any{"reauthenticated_at": s.now(), "challenge": proof})
	if p := refused(s, event.VerbDeactivateBegin, begun); p != "wrong_code" {
		t.Errorf("a proof that was spent: %s", p)
	}
}

// Deactivation asks for password, code and confirmation, and leaves nothing.
func TestDeactivation(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := s.enrol("alice")
	body := owned("alice", map[string]any{"code": a.next()})
	if p := refused(s, event.VerbDeactivateBegin, body); p != "reauthentication_required" {
		t.Errorf("without the password: %s", p)
	}
	body["reauthenticated_at"] = event.Time(s.clock.Now().Add(-6 * time.Minute))
	if p := refused(s, event.VerbDeactivateBegin, body); p != "reauthentication_required" {
		t.Errorf("with a password of six minutes ago: %s", p)
	}
	body["reauthenticated_at"] = s.now()
	begun := must[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, body)
	if p := refused(s, event.VerbDeactivateConfirm, map[string]any{"ceremony": begun.Ceremony, "session": "another"}); p != "unknown_ceremony" {
		t.Errorf("confirmed from another session: %s", p)
	}
	if p := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": begun.Ceremony, "session": "session of alice", "code": "123456"}); p != "unknown_ceremony" {
		t.Errorf("confirmed as a factor: %s", p)
	}
	if l := s.factors("alice"); !l.Activated {
		t.Fatal("an intent alone took the factor away")
	}
	if r := must[event.DeactivateConfirmReply](s, event.VerbDeactivateConfirm, map[string]any{"ceremony": begun.Ceremony, "session": "session of alice"}); !r.Deactivated {
		t.Errorf("confirmed: %+v", r)
	}
	s.hears(event.Deactivated, "alice")
	if l := s.factors("alice"); l.Activated || len(l.Factors) != 0 || l.BackupCodesLeft != 0 {
		t.Errorf("left: %+v", l)
	}
	if r := s.ask("after", "alice", nil); r.Outcome != "skipped" {
		t.Errorf("a login afterwards: %+v", r)
	}
	if p := refused(s, event.VerbDeactivateConfirm, map[string]any{"ceremony": begun.Ceremony, "session": "session of alice"}); p != "unknown_ceremony" {
		t.Errorf("confirmed twice: %s", p)
	}
}

// Backup codes are shown again to who has just entered the password, and new ones make the old void.
func TestBackupCodesShownAndRenewed(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := s.enrol("alice")
	if p := refused(s, event.VerbBackupView, owned("alice", nil)); p != "reauthentication_required" {
		t.Errorf("shown without the password: %s", p)
	}
	shown := must[event.BackupCodesReply](s, event.VerbBackupView, owned("alice", map[string]any{"reauthenticated_at": s.now()}))
	for i, c := range shown.Codes {
		if c.Code != a.codes[i] {
			t.Errorf("code %d is shown as another", i+1)
		}
	}
	r := s.ask("login", "alice", nil)
	if v := s.verify(r.Challenge, "alice", strings.ToLower(strings.ReplaceAll(a.codes[3], "-", " "))); v.Result != "verified" || v.Factor != "backup_code" {
		t.Fatalf("a backup code, written another way: %+v", v)
	}
	if d := otposttest.Decode[event.BackupCodeUsedData](t, s.hears(event.BackupCodeUsed, "alice")); d.Left != 9 {
		t.Errorf("backup_code.used: %+v", d)
	}
	r = s.ask("again", "alice", nil)
	if v := s.verify(r.Challenge, "alice", a.codes[3]); v.Result != "wrong" {
		t.Errorf("the same backup code: %+v", v)
	}
	renewed := must[event.BackupCodesReply](s, event.VerbBackupRegenerate, owned("alice", map[string]any{"reauthenticated_at": s.now()}))
	if renewed.Left != 10 || renewed.Codes[0].Code == a.codes[0] {
		t.Errorf("renewed: %d left", renewed.Left)
	}
	s.hears(event.BackupCodesRegenerated, "alice")
	if v := s.verify(r.Challenge, "alice", a.codes[0]); v.Result != "wrong" {
		t.Errorf("a code of before: %+v", v)
	}
	if v := s.verify(r.Challenge, "alice", renewed.Codes[9].Code); v.Result != "verified" {
		t.Errorf("a new code: %+v", v)
	}
}

// totpValue is the value of an app of the default setting.
func totpValue(secret string, at time.Time) (string, error) {
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		return "", err
	}
	return otp.DefaultTOTP().Value(raw, otp.DefaultTOTP().Step(at))
}
