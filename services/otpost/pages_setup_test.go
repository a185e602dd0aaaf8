package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is the pages that set up a factor, as a browser without scripts sees them.

// setsUp opens the wizard for a user in a new browser. more changes the request of the visit.
func (e *edge) setsUp(user string, more map[string]any) *visitor {
	e.s.t.Helper()
	return e.visit(user, event.PageSetup, more)
}

// opens goes to a page, which must be there and say the texts.
func (v *visitor) opens(path string, texts ...string) {
	v.e.s.t.Helper()
	v.Open(path)
	v.shows(http.StatusOK, path, texts...)
}

// fills sends a form with what is typed into it, name and value in turn.
func (v *visitor) fills(path string, typed ...string) {
	v.e.s.t.Helper()
	values := map[string]string{}
	for i := 0; i+1 < len(typed); i += 2 {
		values[typed[i]] = typed[i+1]
	}
	v.Fill(path, values)
}

// shows fails the test unless the browser is at a page with a status and texts, and no text is missing of it.
func (v *visitor) shows(status int, path string, texts ...string) {
	v.e.s.t.Helper()
	v.At(path)
	v.says(status, texts...)
	v.hides("[setup.", "[common.", "ZgotmplZ")
}

// reads takes the secret of the page into an authenticator app.
func (v *visitor) reads() *authenticator {
	v.e.s.t.Helper()
	return &authenticator{s: v.e.s, secret: strings.ReplaceAll(v.Element("secret"), " ", "")}
}

var backupCodeForm = regexp.MustCompile(`\b[0-9A-Z]{4}-[0-9A-Z]{5}-[0-9A-Z]{4}\b`)

// backupCodes are those that the page shows.
func (v *visitor) backupCodes() []string { return backupCodeForm.FindAllString(v.Text(), -1) }

// keepsCodes has the codes printed, and finishes.
func (v *visitor) keepsCodes() {
	v.e.s.t.Helper()
	v.shows(http.StatusOK, "/setup/codes")
	v.fills("/setup/codes/print")
	v.opens("/setup/codes")
	v.fills("/setup/codes")
	v.shows(http.StatusOK, "/setup/done", "Your account is protected")
}

// An authenticator app: the secret, the code, and what can be wrong with it.
func TestSetupPageOfAnApp(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RPID, p.Origins = "shop.example", []string{"https://shop.example"} }))
	s.run(factorRoles...)
	v := s.edge().setsUp("alice", nil)
	v.shows(200, "/setup", "Protect your account", "Authenticator app", "Text message", "Email")
	v.hides("/setup/key") // the pages are none of the relying party's: what a key says here would be refused
	v.Open("/setup/key")
	v.shows(200, "/setup")
	v.opens("/setup/app", "Scan this picture", "Google Authenticator", "KeePassXC")
	a := v.reads()
	opens := func(link string) bool {
		return strings.HasPrefix(link, "otpauth://totp/App%20demo:alice@example.com?") && strings.Contains(link, "secret="+a.secret)
	}
	if !strings.Contains(string(v.Body), `src="data:image/svg`) || !slices.ContainsFunc(v.Links(), opens) {
		t.Error("the page lacks the picture, or the link that opens an app")
	}
	v.opens("/setup/app")
	if v.reads().secret != a.secret {
		t.Error("the page loaded anew shows another secret")
	}
	v.fills("/language", "language", "cs")
	if v.shows(200, "/setup/app", "Naskenujte"); v.reads().secret != a.secret {
		t.Error("in another language the secret is another")
	}
	v.fills("/language", "language", "en")

	value := a.value()
	for _, bad := range []struct{ code, label, says string }{
		{wrongCode(value), "", "That code is wrong. You have 4 more tries."},
		{"my code", "", "Enter the 6 digits of the code."},
		{value, strings.Repeat("x", 65), "at most 64 characters"},
		{value, "a\u202eb", "at most 64 characters"},
	} {
		v.fills("/setup/app", "code", bad.code, "label", bad.label)
		v.shows(http.StatusUnprocessableEntity, "/setup/app", bad.says)
		v.hides(`value="` + bad.code)
	}
	v.fills("/setup/app", "code", value[:3]+" "+value[3:], "label", "work <phone>")
	v.shows(200, "/setup/codes", "Keep your backup codes")
	v.hides(a.secret)
	if codes := v.backupCodes(); len(codes) != 10 {
		t.Fatalf("the page shows the backup codes %q", codes)
	}
	if l := s.factors("alice"); len(l.Factors) != 1 || l.Factors[0].Label != "work <phone>" || l.Activated {
		t.Errorf("listed: %+v", l)
	}
	v.opens("/setup/app")
	if v.reads().secret == a.secret {
		t.Error("the secret is still known after it was confirmed")
	}
}

// Finish stays closed until the codes have been saved, printed or copied, and says so to whoever tries.
func TestSetupPageOfBackupCodes(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	for how, keep := range map[string]func(*testing.T, *visitor){
		"saved": func(t *testing.T, v *visitor) {
			codes := v.backupCodes()
			v.fills("/setup/codes/save")
			if v.Status != 200 || v.Header.Get("Content-Disposition") != `attachment; filename=App-demo-backup-codes.txt` ||
				v.Header.Get("Content-Type") != "text/plain; charset=utf-8" || v.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("saved: %d %v", v.Status, v.Header)
			}
			lines := strings.Split(strings.TrimSuffix(string(v.Body), "\r\n"), "\r\n")
			if len(lines) != 15 || lines[0] != "Backup codes for "+s.app.DisplayName || lines[1] != "Account: saved@example.com" || !slices.Equal(lines[5:], codes) {
				t.Errorf("the file is\n%s", v.Body)
			}
		},
		"printed": func(t *testing.T, v *visitor) {
			codes := v.backupCodes()
			v.fills("/setup/codes/print")
			if v.shows(200, "/setup/codes/print", "Print this page"); !slices.Equal(v.backupCodes(), codes) {
				t.Errorf("the sheet shows %q, want %q", v.backupCodes(), codes)
			}
		},
		"copied": func(t *testing.T, v *visitor) {
			v.Post("/setup/codes/copy", v.Forms("/setup/codes/copy")[0].Values, "Accept", "application/json")
			if v.Status != http.StatusNoContent || len(v.Body) > 0 {
				t.Errorf("a script is answered %d %s", v.Status, v.Body)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			s, e := s.in(t), &edge{s: s.in(t), URL: e.URL, key: e.key}
			v := e.setsUp(how, nil)
			v.opens("/setup/app")
			v.fills("/setup/app", "code", v.reads().value())
			if !strings.Contains(string(v.Body), `aria-disabled="true"`) {
				t.Error("the button is open before the codes are kept")
			}
			v.fills("/setup/codes")
			v.shows(http.StatusUnprocessableEntity, "/setup/codes", "Save, print or copy the codes first")
			if s.factors(how).Activated {
				t.Error("the factor counts before the codes are kept")
			}
			keep(t, v)
			v.opens("/setup/codes")
			finish := v.Forms("/setup/codes")[0]
			v.Send(finish, nil)
			v.shows(200, "/setup/done", "Your account is protected")
			if l := s.factors(how); !l.Activated || l.BackupCodesLeft != 10 {
				t.Errorf("listed: %+v", l)
			}
			v.Send(finish, nil) // twice
			v.shows(200, "/setup/done")
			if v.Open("/setup/codes"); len(v.backupCodes()) > 0 {
				t.Error("the backup codes are shown after they were kept")
			}
			v.opens("/setup/done")
			v.fills("/setup/done")
			if r := v.result(); r.Outcome != event.OutcomeEnrolled || r.User != how || r.Page != event.PageSetup || r.Session != v.session {
				t.Errorf("the result: %+v", r)
			}
			if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM audit WHERE action = 'backup_codes.acknowledged' AND detail->>'how' = $1`, how); n != 1 {
				t.Errorf("the audit tells %d times that the codes were %s", n, how)
			}
		})
	}
}

// Who goes away at the backup codes finds them again, with the password; another session does not.
func TestSetupPagesBrokenOff(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	v := e.setsUp("bob", nil)
	v.opens("/setup/app")
	v.fills("/setup/app", "code", v.reads().value())
	codes := v.backupCodes()
	v.Open("/setup")
	v.shows(200, "/setup/codes")
	v.fills("/leave")
	if r := v.result(); r.Outcome != event.OutcomeCancelled {
		t.Errorf("left at the codes: %+v", r)
	}

	v = e.setsUp("bob", map[string]any{"reauthenticated_at": nil})
	v.shows(200, "/setup", "You are nearly there")
	v.fills("/setup/codes/show")
	if v.shows(200, "/reauthenticate"); !slices.Contains(v.Links(), "https://shop.example/password?otpost_page=setup") {
		t.Errorf("the page leads to %q, not to the password", v.Links())
	}
	v = e.setsUp("bob", nil)
	v.fills("/setup/codes/show")
	if v.shows(200, "/setup/codes"); !slices.Equal(v.backupCodes(), codes) {
		t.Errorf("the codes are %q now, want %q", v.backupCodes(), codes)
	}

	other := e.setsUp("bob", map[string]any{"session": "another"})
	other.fills("/setup/codes/show")
	other.shows(200, "/setup", "Protect your account")
	other.hides("You are nearly there", codes[0])
	other.opens("/setup/app")
	other.fills("/setup/app", "code", other.reads().value())
	other.keepsCodes()
	// The first session's factor gave way, and its codes are worth nothing: the page must not let the user think otherwise.
	v.fills("/setup/codes/print")
	v.opens("/setup/codes")
	v.fills("/setup/codes")
	v.shows(http.StatusUnprocessableEntity, "/setup/codes", "this did not count", "Add another way")
	if l := s.factors("bob"); len(l.Factors) != 1 || !l.Activated {
		t.Errorf("the user has %+v", l)
	}
}

// A number, and a mailbox after it in the same visit: addresses that are none, codes that are wrong, too late, or sent again.
func TestSetupPagesOfAddresses(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	v := s.edge().setsUp("carol", nil)
	v.opens("/setup/text", "Your phone number")
	for _, bad := range []struct{ typed, says string }{
		{"", "Enter your phone number."},
		{"0602 123 456", "Begin with + and the country code."},
		{"+1 415", "not a whole phone number"},
		{"+1 415 CALL ME", "not a whole phone number"},
		{`"><b>`, "Begin with +"},
	} {
		v.fills("/setup/text", "address", bad.typed)
		v.shows(http.StatusUnprocessableEntity, "/setup/text", bad.says)
		if typed := v.Forms("/setup/text")[0].Values.Get("address"); typed != bad.typed {
			t.Errorf("%q comes back as %q", bad.typed, typed)
		}
	}
	v.fills("/setup/text", "address", "001 (415) 556-0001", "label", "private")
	v.shows(200, "/setup/code", "+1•••••0001", "Possible in")
	v.hides(phone(1), "556-0001")
	v.fills("/setup/code/resend")
	v.shows(http.StatusUnprocessableEntity, "/setup/code/resend", "Try again in")
	v.opens("/setup/code/resend", "Enter the code") // in another language
	v.opens("/setup/text", "Enter the code sent to +1•••••0001")
	v.fills("/setup/text", "address", phone(2))
	v.shows(http.StatusUnprocessableEntity, "/setup/text", "Try again in")
	code := s.code(phone(1))
	v.opens("/setup/code")
	v.fills("/setup/code", "code", wrongCode(code))
	v.shows(http.StatusUnprocessableEntity, "/setup/code", "You have 4 more tries.")
	s.clock.Advance(31 * time.Second)
	v.fills("/setup/code/resend")
	v.shows(200, "/setup/code", "on its way again")
	otposttest.Eventually(t, "the code comes again", func() bool { return s.messages(phone(1)) == 2 })
	v.fills("/setup/code", "code", code)
	v.keepsCodes()

	v.opens("/setup", "Add another way", "you have 1")
	v.opens("/setup/email")
	v.fills("/setup/email", "address", "carol at shop")
	v.shows(http.StatusUnprocessableEntity, "/setup/email", "not a whole email address")
	v.fills("/setup/email", "address", "carol@post.example")
	v.shows(200, "/setup/code", "c•••@post.example")
	code = s.code("carol@post.example")
	for i := range 5 {
		s.clock.Advance(65 * time.Second) // wrong answers cost time
		v.fills("/setup/code", "code", wrongCode(code))
		v.shows(http.StatusUnprocessableEntity, "/setup/code", []string{"4 more tries.", "3 more tries.", "2 more tries.", "1 more try.", "Have a new one sent."}[i])
	}
	v.fills("/setup/email", "address", "carol@post.example")
	v.shows(200, "/reauthenticate") // meanwhile the password was entered too long ago
	if l := s.factors("carol"); len(l.Factors) != 1 || l.Factors[0].Kind != "sms" || l.Factors[0].Label != "private" || !l.Activated {
		t.Errorf("listed: %+v", l)
	}
}

// A security key, and answers of keys that are not to be taken.
func TestSetupPageOfAKey(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	public := ""
	e := s.edge(func(c *gateway.Config) {
		c.Public = &url.URL{Scheme: "https", Host: "localhost:" + c.Public.Port()}
		public = c.Public.String()
	})
	s.app.Policy.Factors.RPID, s.app.Policy.Factors.Origins = "localhost", []string{public}
	if err := postgres.NewApps(s.db.Role("operator")).Update(t.Context(), s.app); err != nil {
		t.Fatal(err)
	}
	s.run(factorRoles...)
	otposttest.Eventually(t, "the gateway to have read the policy", func() bool { return strings.Contains(e.setsUp("dave", nil).Text(), "Security key") })
	v := e.setsUp("dave", nil)
	v.shows(200, "/setup", "Security key")

	key := otposttest.NewAuthenticator(t)
	v.opens("/setup/key", "Set up a security key")
	options := v.keyOptions()
	if v.opens("/setup/key"); string(v.keyOptions()) != string(options) {
		t.Error("the page loaded anew asks the key something else")
	}
	for _, bad := range []struct{ credential, says string }{
		{"", "JavaScript"},
		{"none", "could not be accepted"},
		{"{}", "could not be accepted"},
		{string(key.Create(t, options, "https://localhost.evil.example")), "could not be accepted"},
	} {
		v.fills("/setup/key", "credential", bad.credential)
		v.shows(http.StatusUnprocessableEntity, "/setup/key", bad.says)
	}
	if v.opens("/setup/key"); string(v.keyOptions()) == string(options) {
		t.Error("after an answer that was refused the key is asked the same")
	}
	credential := string(key.Create(t, v.keyOptions(), public))
	v.fills("/setup/key", "credential", credential, "label", "blue key")
	v.keepsCodes()
	v.opens("/setup/key")
	v.fills("/setup/key", "credential", credential) // replayed
	v.shows(http.StatusUnprocessableEntity, "/setup/key", "could not be accepted")
	v.fills("/setup/key", "credential", string(otposttest.NewAuthenticator(t).Create(t, v.keyOptions(), public)))
	v.shows(200, "/setup/done", "Your security key is set up.")
	if l := s.factors("dave"); len(l.Factors) != 2 || l.Factors[0].Label != "blue key" || l.Factors[1].Label != "Security key 2" {
		t.Errorf("listed: %+v", l)
	}
}

// keyOptions are what the page asks a security key.
func (v *visitor) keyOptions() json.RawMessage {
	v.e.s.t.Helper()
	return json.RawMessage(v.Forms("/setup/key")[0].Attr["data-options"])
}

// Two tabs, late answers, guesses, and forms that are not the page's own.
func TestSetupPagesUnderAttack(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	v := s.edge().setsUp("frank", nil)
	v.opens("/setup/app")
	first, tab := v.reads(), v.Forms("/setup/app")[0]
	v.opens("/setup") // in another tab: the choice drops the secret
	v.opens("/setup/app")
	v.Send(tab, map[string]string{"code": first.value()})
	v.shows(http.StatusUnprocessableEntity, "/setup/app", "no longer good")
	late := v.reads()
	s.clock.Advance(s.app.Policy.Factors.CeremonyLife)
	v.fills("/setup/app", "code", late.value())
	v.shows(http.StatusUnprocessableEntity, "/setup/app", "no longer good")
	if now := v.reads().secret; now == first.secret || now == late.secret {
		t.Error("a secret that was left, or has expired, is shown again")
	}
	for i := range 5 {
		s.clock.Advance(65 * time.Second) // wrong answers cost time
		late = v.reads()
		v.fills("/setup/app", "code", wrongCode(late.value()))
		v.shows(http.StatusUnprocessableEntity, "/setup/app", []string{"4 more", "3 more", "2 more", "1 more", "Too many wrong codes. You can begin anew in"}[i])
	}
	v.hides(`name="code"`)
	s.clock.Advance(2 * time.Minute)
	if v.opens("/setup/app"); v.reads().secret == late.secret {
		t.Error("a secret that was guessed at too often is shown again")
	}
	for name, form := range map[string]url.Values{
		"without a token": {"code": {"123456"}}, "with the token of another cookie": {"code": {"123456"}, "csrf": {web.CSRF("another")}},
	} {
		if v.Post("/setup/app", form); v.Status != http.StatusForbidden {
			t.Errorf("a form %s is answered %d", name, v.Status)
		}
	}
	if logs := s.log.Logs(); strings.Contains(logs, first.secret) || strings.Contains(logs, late.secret) {
		t.Error("a secret is in the logs")
	}
}

// With a factor the password must be fresh, there is an end to how many there are, and from the settings the wizard leads back there.
func TestSetupPagesOfAFurtherFactor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.MaxFactors = 2 }))
	s.run(factorRoles...)
	s.enrol("grace")
	e := s.edge()
	v := e.setsUp("grace", map[string]any{"reauthenticated_at": event.Time(s.clock.Now().Add(-5 * time.Minute))})
	for _, path := range []string{"/setup", "/setup/app", "/setup/text", "/setup/email", "/setup/key"} {
		v.Open(path)
		v.shows(200, "/reauthenticate", "Confirm your password")
	}
	v = e.visit("grace", event.PageSettings, nil)
	v.opens("/setup", "Add another way", "Back to the security settings")
	v.opens("/setup/app")
	v.fills("/setup/app", "code", v.reads().value())
	v.shows(200, "/settings", "Your authenticator app is set up.", "Authenticator app 2")
	v.Open("/setup/app")
	v.shows(http.StatusUnprocessableEntity, "/setup/app", "as many ways as")
	if l := s.factors("grace"); len(l.Factors) != 2 {
		t.Errorf("listed: %+v", l.Factors)
	}
}
