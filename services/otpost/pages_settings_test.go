package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is the pages on which users look after their factors, as a browser without scripts sees them.

// provesWith answers the question that stands before an act, and comes back to the act's page.
func (v *visitor) provesWith(code, back string) {
	v.e.s.t.Helper()
	v.At("/prove")
	v.Fill("/prove", map[string]string{"code": code})
	v.At(back)
}

// pick sends the form of an action whose hidden field has the value.
func (v *visitor) pick(action, field, value string) {
	v.e.s.t.Helper()
	for _, f := range v.Forms(action) {
		if f.Values.Get(field) == value {
			v.Send(f, nil)
			return
		}
	}
	v.e.s.t.Fatalf("%s has no form for %s with %s = %q:\n%s", v.URL.Path, action, field, value, v.Text())
}

// What is there is shown, is renamed and preferred, and is removed with the password and a code; who is no user of it cannot touch it.
func TestSettingsPagesOfFactors(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.CoolingOff = time.Minute }))
	s.run(factorRoles...)
	e := s.edge()
	v := e.visit("alice", event.PageSettings, nil)
	v.says(http.StatusOK, "Two-step sign-in is off", "Set up two-step sign-in")

	a := s.enrol("alice")
	text := s.enrolAddress("alice", "sms", phone(1)).Factor
	stranger := s.enrol("mallory").factor
	v.Open("/settings")
	v.says(http.StatusOK, "Security settings", "phone", "Authenticator app", "Text message", "Added just now", "not used yet", "Too new to be your only method",
		"10 backup codes left", "No browser is trusted", "Nothing is set", "Sign-in method added", "this session")
	v.hides(phone(1), a.secret)

	v.pick("/settings/rename/choose", "factor", text)
	v.At("/settings/rename")
	for _, bad := range []string{"", strings.Repeat("a", 65), "a\nb"} {
		v.Fill("/settings/rename", map[string]string{"label": bad})
		v.says(http.StatusUnprocessableEntity, "up to 64 characters")
	}
	v.Fill("/settings/rename", map[string]string{"label": `<b>My "phone"</b>`})
	v.At("/settings")
	v.says(http.StatusOK, "The name has been changed.", `<b>My "phone"</b>`)
	v.hides(`<b>My`)
	v.pick("/settings/prefer", "factor", text)
	v.says(http.StatusOK, "We ask for this method first from now on.", "Preferred")

	// The factor of somebody else, or of nobody, is answered like one that is gone.
	for _, other := range []string{stranger, "not an id", "00000000-0000-7000-8000-000000000000"} {
		for _, action := range []string{"/settings/prefer", "/settings/rename/choose", "/settings/remove/choose"} {
			v.Open("/settings")
			v.Send(v.Forms(action)[0], map[string]string{"factor": other})
			v.At("/settings")
			v.says(http.StatusOK, "It was not there any more.")
		}
	}
	if n := len(s.factors("mallory").Factors); n != 1 {
		t.Errorf("a stranger's form has left %d of one factor", n)
	}

	// What would be left is too new; nobody is asked for a code in vain.
	v.Open("/settings")
	v.pick("/settings/remove/choose", "factor", a.factor)
	v.At("/settings/remove")
	v.says(http.StatusOK, "Remove “phone”?", "What would be left was added too short a time ago", "Try again in 60 seconds")
	if len(v.Forms("/settings/remove")) != 0 {
		t.Error("a factor that cannot be removed has a button")
	}

	// One tab chooses a factor, another one another: the first does not remove what it does not show.
	v.Open("/settings")
	v.pick("/settings/remove/choose", "factor", text)
	v.provesWith(a.next(), "/settings/remove")
	v.says(http.StatusOK, `Remove “<b>My "phone"</b>”?`, "You will no longer be able")
	shown := v.Forms("/settings/remove")[0]
	v.Open("/settings")
	v.pick("/settings/rename/choose", "factor", a.factor)
	v.Send(shown, nil)
	v.says(http.StatusConflict, "changed in another tab")
	v.Open("/settings")
	v.pick("/settings/remove/choose", "factor", text) // the code still serves: nothing was done with it
	v.At("/settings/remove")
	v.Fill("/settings/remove", nil)
	v.At("/settings")
	v.says(http.StatusOK, "The method has been removed.")
	if f := s.factors("alice").Factors; len(f) != 1 || f[0].Factor != a.factor {
		t.Errorf("left are %+v", f)
	}
	v.Post("/settings/remove", shown.Values) // once more
	v.says(http.StatusConflict)

	v.Open("/settings")
	v.pick("/settings/remove/choose", "factor", a.factor)
	v.says(http.StatusOK, "It is your last method", "Turn off two-step sign-in")
	v.Open("/settings")
	v.Fill("/leave", nil)
	if r := v.result(); r.Outcome != event.OutcomeDone || r.User != "alice" {
		t.Errorf("the result: %+v", r)
	}
}

// Without the password a moment ago nothing is weakened or shown; the app is asked to ask for it.
func TestSettingsPagesWantThePassword(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	a := s.enrol("alice")
	s.giveToken("alice")
	v := e.visit("alice", event.PageSettings, map[string]any{"reauthenticated_at": event.Time(s.clock.Now().Add(-5 * time.Minute))})
	for _, ask := range []struct{ from, action, page string }{
		{"/settings", "/settings/remove/choose", "settings"},
		{"/settings/codes", "/settings/codes", "backup_codes"},
		{"/settings/recovery", "/settings/recovery/change", "settings"},
		{"/deactivate", "/deactivate", "deactivate"},
	} {
		v.Open(ask.from)
		v.Fill(ask.action, nil)
		v.At("/reauthenticate")
		if to := "https://shop.example/password?otpost_page=" + ask.page; !strings.Contains(string(v.Body), to) {
			t.Errorf("%s does not lead to %s:\n%s", ask.action, to, v.Body)
		}
	}
	for _, path := range []string{"/settings/recovery/passphrase", "/settings/recovery/email", "/settings/recovery/letter", "/settings/recovery/country"} {
		v.Open(path)
		v.At("/settings/recovery")
	}
	csrf := v.Forms("")[0].Values
	for path, form := range map[string]string{
		"/settings/codes/new": "", "/settings/recovery/passphrase": "passphrase=a+long+enough+phrase&again=a+long+enough+phrase",
		"/settings/recovery/country": "country=US", "/settings/recovery/email": "address=a%40b.example", "/deactivate": "sure=yes",
	} {
		values := map[string][]string{"csrf": csrf["csrf"]}
		for pair := range strings.SplitSeq(form, "&") {
			name, value, _ := strings.Cut(pair, "=")
			values[name] = []string{strings.NewReplacer("+", " ", "%40", "@").Replace(value)}
		}
		v.Post(path, values)
		v.At("/reauthenticate")
		v.Post(path, map[string][]string{"sure": {"yes"}})
		v.says(http.StatusForbidden, "Please do that once more")
	}
	if f := s.factors("alice"); len(f.Factors) != 2 || f.BackupCodesLeft != 10 || f.Factors[0].Factor != a.factor {
		t.Errorf("left are %+v", f)
	}
}

var backupCode = regexp.MustCompile(`(?m)^[0-9A-Za-z]{4,}(-[0-9A-Za-z]{4,})+$`)

// Backup codes are shown once for one asking, are forgotten when the user goes on, and are made anew.
func TestSettingsPagesOfBackupCodes(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	a := s.enrol("alice")
	s.answer(s.ask("login", "alice", nil).Challenge, "alice", a.codes[3], nil)
	v := e.visit("alice", event.PageBackupCodes, nil)
	v.At("/settings/codes")
	v.says(http.StatusOK, "9 backup codes left", "we tell you of it", "until 24 hours later")
	v.hides(a.codes...)
	show := v.Forms("/settings/codes")[0]
	for range 2 { // sent twice
		v.Send(show, nil)
		v.At("/settings/codes")
		v.Says(a.codes...)
	}
	if did := s.actions("backup_codes.viewed"); len(did) != 1 || did[0] != "user backup_codes.viewed" {
		t.Errorf("codes that were shown once were asked for by %q", did)
	}
	if used := strings.Count(string(v.Body), "<s>"+a.codes[3]+"</s>"); used != 1 {
		t.Errorf("the used code is struck through %d times", used)
	}
	if text := otposttest.Get[string](t, s.db, `SELECT encode(state, 'escape') FROM page_sessions`); strings.Contains(text, a.codes[0]) {
		t.Error("codes that are shown lie open in the database")
	}
	page := v.Forms("/settings/codes/save")[0]
	v.Send(page, nil)
	file := strings.ReplaceAll(string(v.Body), "\r\n", "\n")
	if got := backupCode.FindAllString(file, -1); len(got) != 9 || strings.Contains(file, a.codes[3]) ||
		v.Header.Get("Content-Disposition") != "attachment; filename=App-demo-backup-codes.txt" {
		t.Errorf("the file %q has %d codes:\n%s", v.Header.Get("Content-Disposition"), len(got), file)
	}
	v.Open("/settings")
	v.says(http.StatusOK, "9 backup codes left", "Backup codes kept", "saved as a file", "Backup codes shown")
	v.Open("/settings/codes")
	v.hides(a.codes...)
	v.Send(page, nil) // they are gone from the visit
	v.At("/settings/codes")
	v.hides(a.codes...)

	v.Open("/settings/codes/new")
	v.says(http.StatusOK, "Make new backup codes?", "The old codes stop working at once")
	v.Fill("/settings/codes/new", nil)
	v.At("/settings/codes")
	v.says(http.StatusOK, "These are your new codes", "10 backup codes left")
	v.hides(a.codes...)
	if got := backupCode.FindAllString(v.Text(), -1); len(got) < 10 {
		t.Errorf("the page has %d new codes:\n%s", len(got), v.Text())
	}
	s.clock.Advance(11 * time.Minute)
	v.Open("/settings/codes")
	if got := backupCode.FindAllString(v.Text(), -1); len(got) != 0 {
		t.Errorf("after eleven minutes %d codes are still shown", len(got))
	}
}

// Trusted browsers are listed and revoked, one and all, and nobody else's.
func TestSettingsPagesOfBrowsers(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	s.enrol("alice")
	s.enrol("mallory")
	one, _ := s.trustedBrowser("alice")
	for range 4 {
		s.trustedBrowser("alice")
	}
	other, _ := s.trustedBrowser("mallory")
	v := e.visit("alice", event.PageSettings, nil)
	if n := len(v.Forms("/settings/devices/revoke")); n != 3 {
		t.Errorf("the first page has %d browsers", n)
	}
	v.Says("Show all")
	v.Open("/settings/devices")
	form := v.Forms("/settings/devices/revoke")[0]
	v.pick("/settings/devices/revoke", "device", one.String())
	v.At("/settings/devices")
	v.says(http.StatusOK, "The browser is no longer trusted.")
	for _, id := range []string{one.String(), other.String(), "no id"} {
		v.Send(form, map[string]string{"device": id})
		v.says(http.StatusOK, "It was not there any more.")
	}
	v.Open("/settings/devices/all")
	v.Fill("/settings/devices/all", nil)
	v.says(http.StatusOK, "No browser is trusted any more.", "Browser no longer trusted", "in the settings")
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM devices WHERE revoked_at IS NULL`); n != 1 {
		t.Errorf("%d browsers are trusted, want mallory's alone", n)
	}
}

// What is set for recovery is shown masked, and changed with the password and a code, one for each change.
func TestSettingsPagesOfRecovery(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	a := s.enrol("alice")
	v := e.visit("alice", event.PageSettings, nil)
	change := func(what string) {
		t.Helper()
		v.Open("/settings/recovery")
		v.pick("/settings/recovery/change", "what", what)
		v.provesWith(a.next(), "/settings/recovery/"+what)
	}
	v.Open("/settings/recovery")
	v.says(http.StatusOK, "Email address", "Passphrase", "Country", "Not set")
	v.hides("Phone number") // of users in the US

	change("country")
	v.Fill("/settings/recovery/country", map[string]string{"country": ""})
	v.says(http.StatusUnprocessableEntity, "Choose your country")
	v.Fill("/settings/recovery/country", map[string]string{"country": "US", "region": "CA"})
	v.says(http.StatusOK, "The country has been set.", "United States, CA", "Phone number", "Letter by post")

	change("email")
	v.Fill("/settings/recovery/email", map[string]string{"address": "nobody"})
	v.says(http.StatusUnprocessableEntity, "such as name@example.com")
	v.Fill("/settings/recovery/email", map[string]string{"address": "alice@rescue.example"})
	v.At("/settings/recovery/code")
	v.hides("alice@rescue.example")
	code := s.code("alice@rescue.example")
	v.Fill("/settings/recovery/code", map[string]string{"code": wrongCode(code)})
	v.says(http.StatusUnprocessableEntity, "This code is not right")
	v.hides(wrongCode(code))
	v.Fill("/settings/recovery/resend", nil)
	v.says(http.StatusUnprocessableEntity, "That was too quick")
	s.clock.Advance(31 * time.Second)
	v.Fill("/settings/recovery/resend", nil)
	v.says(http.StatusOK, "on its way again")
	v.Fill("/settings/recovery/code", map[string]string{"code": code[:3] + " " + code[3:]})
	v.At("/settings/recovery")
	v.says(http.StatusOK, "The address has been confirmed and set.", "a•••")
	v.Open("/settings/recovery/code") // it is used
	v.At("/settings/recovery")

	v.again(event.PageSettings, nil)
	change("passphrase")
	for typed, says := range map[[2]string]string{
		{"short", "short"}: "at least 12 characters", {"twelve letters", "twelve lettres"}: "not the same", {strings.Repeat("x", 129), ""}: "at most 128",
		{"a tab\tin a phrase", ""}: "cannot be typed everywhere",
	} {
		v.Fill("/settings/recovery/passphrase", map[string]string{"passphrase": typed[0], "again": typed[1]})
		v.says(http.StatusUnprocessableEntity, says)
		v.hides(typed[0] + `"`)
	}
	v.Fill("/settings/recovery/passphrase", map[string]string{"passphrase": "correct horse battery staple", "again": "correct horse battery staple"})
	v.says(http.StatusOK, "The passphrase has been set.")

	v.again(event.PageSettings, nil)
	change("letter")
	v.Fill("/settings/recovery/letter", map[string]string{
		"name": "Alice", "line1": "1 Market Street", "city": "San Francisco", "postal_code": "941", "country": "US", "region": "CA",
	})
	v.says(http.StatusUnprocessableEntity, "Postal code: something is missing")
	v.Fill("/settings/recovery/letter", map[string]string{"postal_code": "94105"})
	v.says(http.StatusOK, "The postal address has been set.")
	v.hides("1 Market Street")
	v.Open("/settings/recovery/letter") // the code has served
	v.At("/settings/recovery")

	v.pick("/settings/recovery/remove/choose", "what", "letter")
	v.provesWith(a.next(), "/settings/recovery/remove")
	v.Fill("/settings/recovery/remove", map[string]string{"what": "email"}) // what the page does not show
	v.says(http.StatusConflict)
	v.Open("/settings/recovery/remove")
	v.Fill("/settings/recovery/remove", nil)
	v.says(http.StatusOK, "It has been removed from account recovery.")
	p := must[event.PreferencesReply](s, event.VerbRecoveryPreferences, map[string]any{"user": "alice"})
	if len(p.Contacts) != 1 || p.Contacts[0].Method != "email" || !p.Passphrase || p.Country != "US" || p.Region != "CA" {
		t.Errorf("what is set: %+v", p)
	}

	// While a recovery is under way nothing is changed, and the user is told of it.
	must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	v.Open("/settings")
	v.says(http.StatusOK, "Somebody has asked to reset your two-step sign-in")
	v.Open("/settings/recovery")
	v.says(http.StatusOK, "A reset of your two-step sign-in is under way")
	if n := len(v.Forms("/settings/recovery/change")); n != 0 {
		t.Errorf("%d changes are offered while a recovery is under way", n)
	}
}

// Activity is turned page by page by forms; no mark of a page stands in an address, and one that was made up leads to the first page.
func TestSettingsPagesOfActivity(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	a := s.enrol("alice")
	for i := range 24 {
		must[event.FactorListReply](s, event.VerbFactorRename, map[string]any{"user": "alice", "factor": a.factor, "label": strings.Repeat("x", i+1)})
	}
	v := e.visit("alice", event.PageSettings, nil)
	v.Open("/settings/activity")
	v.says(http.StatusOK, "Sign-in method renamed", "Older")
	v.hides("Sign-in method added")
	older := v.Forms("/settings/activity")[0]
	v.Send(older, nil)
	v.At("/settings/activity")
	v.says(http.StatusOK, "Sign-in method added", "Newest")
	if v.URL.RawQuery != "" {
		t.Errorf("the address has %q", v.URL.RawQuery)
	}
	v.Fill("/settings/activity", nil)
	v.hides("Sign-in method added")
	v.Send(older, map[string]string{"before": "bm9uZQ"})
	v.says(http.StatusOK, "Older")
	v.hides("Newest")
}

// Deactivation asks for the password and a code, asks again, says that it is done, and tells the app.
func TestSettingsPagesOfDeactivation(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	for i, user := range []string{"alice", "bob"} {
		a := s.enrol(user)
		v := e.visit(user, event.PageDeactivate, nil)
		v.At("/deactivate")
		v.says(http.StatusOK, "your password alone opens your account", "First we ask you for a code")
		for _, early := range []string{"/deactivate/confirm", "/deactivate/done"} {
			v.Open(early)
			v.At("/deactivate")
		}
		v.Fill("/deactivate", nil)
		v.provesWith(a.next(), "/deactivate")
		v.says(http.StatusOK, "One question is left")
		forms := v.Forms("/deactivate")
		if user == "alice" { // without scripts
			v.Send(forms[0], nil)
			v.At("/deactivate/confirm")
			v.says(http.StatusOK, "Really turn it off?")
			if len(s.factors(user).Factors) != 1 {
				t.Fatal("the factor was gone before the question was answered")
			}
			ask := v.Forms("/deactivate/confirm")[0]
			v.Send(ask, nil)
			v.At("/deactivate/done")
			v.Send(ask, nil) // sent twice
			if v.Status != http.StatusOK {
				t.Errorf("sent twice: %d", v.Status)
			}
		} else { // what the dialog sends
			v.Send(forms[1], nil)
		}
		if len(s.factors(user).Factors) != 0 {
			t.Fatal("the factors are still there")
		}
		v.Open("/deactivate/done")
		v.says(http.StatusOK, "Two-step sign-in is off", "It is done")
		leave := []string{"/deactivate/done", "/leave"}[i]
		if leave == "/leave" {
			v.Open("/settings")
		}
		v.Fill(leave, nil)
		if r := v.result(); r.Outcome != event.OutcomeDeactivated || r.User != user {
			t.Errorf("the result: %+v", r)
		}
	}
}
