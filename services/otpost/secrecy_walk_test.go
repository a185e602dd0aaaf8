package main

import (
	"encoding/base32"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A walker goes through the whole life of factors, and enters into the quarry what must stay secret of it.
type walker struct {
	s        *system
	q        *quarry
	user     string
	where    string // the workers are: inside or processes
	n        int    // no other walker's
	secret   []byte // of the authenticator app
	backups  []string
	recovery string // the last
	letter   string // its code by letter
}

func (w *walker) own(more map[string]any) map[string]any {
	return owned(w.user, mergeAll(map[string]any{"reauthenticated_at": event.Time(w.now())}, more))
}

// now is the time of the user's workers.
func (w *walker) now() time.Time {
	if w.where == inside {
		return w.s.clock.Now()
	}
	return time.Now()
}

func mergeAll(base, more map[string]any) map[string]any {
	maps.Copy(base, more)
	return base
}

func (w *walker) name(what string) string { return what + " of " + w.user }

// mail is an address of the user's whose mask tells nothing of its local part.
func (w *walker) mail(purpose string) string {
	return fmt.Sprintf("%s.quillwort%d@post.example", purpose, w.n)
}

func (w *walker) code(kind, code string) string {
	kind += ", " + w.where
	w.q.short[kind] = append(w.q.short[kind], code)
	return code
}

// spare takes a backup code.
func (w *walker) spare() string {
	last := len(w.backups) - 1
	c := w.backups[last]
	w.backups = w.backups[:last]
	return c
}

func (w *walker) confirmed(ceremony, code string) event.FactorConfirmReply {
	w.s.t.Helper()
	return must[event.FactorConfirmReply](w.s, event.VerbFactorConfirm, map[string]any{"ceremony": ceremony, "session": "session of " + w.user, "code": code})
}

// contacts sets all that a reset takes: a country, a passphrase, and an address of each kind.
func (w *walker) contacts() {
	s, q := w.s, w.q
	s.t.Helper()
	passphrase := fmt.Sprintf("seventeen purple herons %d", w.n)
	q.secret(w.name("passphrase"), passphrase, strings.ReplaceAll(passphrase, " ", ""))
	must[event.PreferencesReply](s, event.VerbRecoveryPreferences, w.own(map[string]any{"country": "US", "region": "NM", "passphrase": passphrase}))
	for method, to := range map[string]string{"email": w.mail("reset"), "phone": phone(100 + w.n)} {
		a := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, w.own(map[string]any{"method": method, "address": to, "locale": "en"}))
		code := w.code("code that confirms a reset "+method, s.derived("m.id = $1", a.Ceremony))
		body := map[string]any{"ceremony": a.Ceremony, "session": "session of " + w.user}
		if p := refused(s, event.VerbRecoveryConfirm, mergeAll(maps.Clone(body), map[string]any{"code": wrongCode(code)})); p != "wrong_code" {
			s.t.Errorf("a wrong code: %s", p)
		}
		must[event.PreferencesReply](s, event.VerbRecoveryConfirm, mergeAll(body, map[string]any{"code": code}))
	}
	q.mailbox(w.name("reset email"), w.mail("reset"))
	q.number(w.name("reset phone"), phone(100+w.n))
	home := map[string]any{
		"name": fmt.Sprintf("Philomena Featherstone %d", w.n), "line1": fmt.Sprintf("%d Zanzibar Alley", 4711+w.n), "line2": "c/o Bartholomew Oglethorpe",
		"city": "Truth or Consequences", "region": "NM", "postal_code": fmt.Sprintf("87901-234%d", w.n), "country": "US",
	}
	for _, part := range []string{"name", "line1", "line2", "city", "postal_code"} {
		q.addresses[w.name("postal address: "+part)] = home[part].(string)
	}
	must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, w.own(map[string]any{"method": "letter", "postal": home}))
	// What is refused is not quoted either.
	q.addresses["a mailbox that is no address"] = "eve.unwelcome@mail.example"
	if p := refused(s, event.VerbRecoveryAddress, w.own(map[string]any{"method": "email", "address": "Eve <eve.unwelcome@mail.example>"})); p != "invalid" {
		s.t.Errorf("an address that is none: %s", p)
	}
}

// enrol adds an authenticator app, a number, a mailbox and the two hardware tokens, and begins what it never confirms.
func (w *walker) enrol(hotp []byte, key *otposttest.YubiKey) {
	s, q := w.s, w.q
	s.t.Helper()
	begin := func(more map[string]any) event.FactorBeginReply {
		s.t.Helper()
		return must[event.FactorBeginReply](s, event.VerbFactorBegin, w.own(more))
	}
	app := func(what string) (event.FactorBeginReply, []byte) {
		b := begin(map[string]any{"kind": "totp", "label": what})
		text := strings.ReplaceAll(b.Secret, " ", "")
		raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
		if err != nil || len(raw) != 20 || !strings.Contains(b.URI, text) {
			s.t.Fatalf("a secret of %d octets: %v", len(raw), err)
		}
		q.secret(w.name("secret of "+what), text, b.Secret, strings.ToLower(text), string(raw))
		return b, raw
	}
	app("an app that is never confirmed")
	b, raw := app("the app")
	w.secret = raw
	value := w.code("value that confirms an app", w.value(0))
	wrong := map[string]any{"ceremony": b.Ceremony, "session": "session of " + w.user, "code": wrongCode(value)}
	if p := refused(s, event.VerbFactorConfirm, wrong); p != "wrong_code" {
		s.t.Errorf("a wrong value: %s", p)
	}
	w.backups = w.confirmed(b.Ceremony, value).BackupCodes
	if len(w.backups) != otp.BackupCodeCount {
		s.t.Fatalf("%d backup codes", len(w.backups))
	}
	q.backup(w.name("backup code"), w.backups)
	must[event.BackupAcknowledgeReply](s, event.VerbBackupAcknowledge, owned(w.user, map[string]any{"how": "copied"}))

	for kind, to := range map[string]string{"sms": phone(200 + w.n), "email": w.mail("factor")} {
		b := begin(map[string]any{"kind": kind, "address": to, "locale": "en"})
		w.confirmed(b.Ceremony, w.code("code that confirms "+kind, s.derived("m.id = $1", b.Ceremony)))
	}
	// Another user changes their mind: within a moment the same one gets no second code.
	b = must[event.FactorBeginReply](s, event.VerbFactorBegin, owned(w.user+", undecided", map[string]any{
		"kind": "sms", "address": phone(300 + w.n), "locale": "en",
	}))
	w.code("code that confirms nothing", s.derived("m.id = $1", b.Ceremony))
	q.number(w.name("number"), phone(200+w.n))
	q.number(w.name("number that is never confirmed"), phone(300+w.n))
	q.mailbox(w.name("mailbox"), w.mail("factor"))

	b = begin(map[string]any{"kind": "hotp", "serial": "H-" + w.user})
	w.confirmed(b.Ceremony, w.code("value of a token", hotpValue(s.t, hotp, 0)))
	b = begin(map[string]any{"kind": "yubikey", "serial": "Y-" + w.user})
	typed := key.Press()
	q.secret(w.name("what the YubiKey typed"), typed[len(key.PublicID):])
	w.confirmed(b.Ceremony, typed)
}

// value is what the app shows some steps from now. A step serves once; the next one is accepted ahead of its time, by the policy's skew.
func (w *walker) value(ahead int) string {
	w.s.t.Helper()
	setting := otp.DefaultTOTP()
	v, err := setting.Value(w.secret, setting.Step(w.now())+int64(ahead))
	if err != nil {
		w.s.t.Fatal(err)
	}
	return v
}

// use logs in: with the app, whose browser is trusted then; from that browser, by request and by event; and with a backup code.
func (w *walker) use() {
	s, q := w.s, w.q
	s.t.Helper()
	c := s.ask("login with the app of "+w.user, w.user, map[string]any{"channel": "totp"})
	first := s.answer(c.Challenge, w.user, w.code("value of an app", w.value(1)), map[string]any{
		"trust_device": map[string]any{"label": "laptop"}, "request": "r",
	})
	if first.Result != "verified" || first.Device == "" {
		s.t.Fatalf("the app's value: %s", first.Result)
	}
	q.device(s.t, w.name("token of a trusted device"), first.Device)
	second := s.comes("login of a trusted device of "+w.user, w.user, first.Device, nil)
	if second.Reason != "trusted_device" || second.Device == "" {
		s.t.Fatalf("a trusted device: %s %s", second.Outcome, second.Reason)
	}
	q.device(s.t, w.name("next token of a trusted device"), second.Device)
	// The app's own event holds the token until it is taken.
	s.publish("event of a trusted device of "+w.user, w.user, map[string]any{"device": second.Device})
	s.skipped("event of a trusted device of " + w.user)
	// One that names nobody becomes a dead letter, which holds what the app has sent: only that stream does, and its reason does not.
	s.publish("event of nobody, from the trusted device of "+w.user, "", map[string]any{"device": second.Device})
	renewed := must[event.DeviceRenewReply](s, event.VerbDeviceRenew, owned(w.user, map[string]any{"device": second.Device}))
	q.device(s.t, w.name("renewed token of a trusted device"), renewed.Device)

	c = s.ask("login with a backup code of "+w.user, w.user, nil)
	code := w.spare()
	if r := s.answer(c.Challenge, w.user, "0000-00000-0000", nil); r.Result != "wrong" {
		s.t.Errorf("no backup code: %s", r.Result)
	}
	if r := s.answer(c.Challenge, w.user, strings.ToLower(code), nil); r.Result != "verified" {
		s.t.Errorf("a backup code: %s", r.Result)
	}
}

// change does what asks for the password and a code: backup codes shown and renewed, a factor removed, another passphrase, a deactivation begun.
func (w *walker) change() {
	s, q := w.s, w.q
	s.t.Helper()
	must[event.BackupCodesReply](s, event.VerbBackupView, w.own(nil))
	w.backups = nil
	for _, c := range must[event.BackupCodesReply](s, event.VerbBackupRegenerate, w.own(nil)).Codes {
		w.backups = append(w.backups, c.Code)
	}
	q.backup(w.name("new backup code"), w.backups)
	for _, f := range s.factors(w.user).Factors {
		if f.Kind == "email" {
			must[event.FactorListReply](s, event.VerbFactorRemove, w.own(map[string]any{"factor": f.Factor, "code": w.spare()}))
		}
	}
	must[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, w.own(map[string]any{"code": w.spare()}))
	passphrase := fmt.Sprintf("eighteen scarlet bitterns %d", w.n)
	q.secret(w.name("new passphrase"), passphrase)
	must[event.PreferencesReply](s, event.VerbRecoveryPreferences, w.own(map[string]any{"passphrase": passphrase, "code": w.spare()}))
}

// reset begins a recovery and enters its codes.
func (w *walker) reset(no int) (recovery string, codes map[string]string) {
	s := w.s
	s.t.Helper()
	b := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost(w.user, map[string]any{"client": map[string]any{"ip": "203.0.113.7"}}))
	codes = map[string]string{}
	for _, method := range []string{"email", "phone", "letter"} {
		codes[method] = s.resetCode(b.Recovery, method)
	}
	w.code(fmt.Sprint("recovery code by email ", no), codes["email"])
	w.code(fmt.Sprint("recovery code by phone ", no), codes["phone"])
	l, stop := codes["letter"], s.stopCode(b.Recovery)
	w.q.secret(w.name(fmt.Sprint("code of letter ", no)), l, l[:4]+" "+l[4:7]+" "+l[7:])
	w.q.secret(w.name(fmt.Sprint("code that stops recovery ", no)), stop, stop[:4]+" "+stop[4:])
	return b.Recovery, codes
}

func (w *walker) proves(recovery, method, code, want string) {
	w.s.t.Helper()
	if r := w.s.prove(w.user, recovery, method, code); r.Result != want {
		w.s.t.Errorf("%s is %s, want %s", method, r.Result, want)
	}
}

// lose begins three resets: one is stopped with the code of the notice, one from the session, and of the third a proof is given.
func (w *walker) lose() {
	s := w.s
	s.t.Helper()
	id, codes := w.reset(1)
	w.proves(id, "email", wrongCode(codes["email"]), "wrong")
	w.proves(id, "email", codes["email"], "proven")
	must[event.RecoveryReply](s, event.VerbRecoveryCancel, map[string]any{"user": w.user, "code": s.stopCode(id)})
	id, codes = w.reset(2)
	w.proves(id, "phone", codes["phone"], "proven")
	must[event.RecoveryReply](s, event.VerbRecoveryCancel, owned(w.user, nil))
	w.recovery, codes = w.reset(3)
	w.letter = codes["letter"]
	wrong := "nineteen azure cormorants" // may be right elsewhere
	w.q.secret("a wrong passphrase", wrong)
	w.proves(w.recovery, "passphrase", wrong, "wrong")
	w.proves(w.recovery, "passphrase", fmt.Sprintf("eighteen scarlet bitterns %d", w.n), "proven")
	if _, problem := support[event.SupportFindReply](s, "ann", event.SupportFind, map[string]any{"app": "demo", "user": w.user}); problem != "" {
		s.t.Errorf("support: %s", problem)
	}
}

// recover gives the second proof: all factors are gone.
func (w *walker) recover() {
	w.s.t.Helper()
	if r := w.s.prove(w.user, w.recovery, "letter", w.letter); r.State != "completed" {
		w.s.t.Errorf("the second proof: %+v", r)
	}
	w.s.hears(event.RecoveryCompleted, w.user)
}
