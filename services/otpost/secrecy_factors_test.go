package main

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
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
)

// This file looks for what the life of factors must not leave anywhere, as TestNothingTellsACode does for logins.

// A quarry is what is looked for. Whatever is long enough that a find is no accident is looked for alone. Codes of six digits are not: of each kind there is
// one of each of two users, and only both of a kind in one place are a find. In a dump, a log or the streams' files a few hundred runs of six digits stand
// alone; one in a few thousand codes would be among them, and both of two one time in some ten millions.
type quarry struct {
	secrets   map[string]string   // by what it is
	short     map[string][]string // codes of six digits, by kind
	addresses map[string]string
}

// found returns what of the quarry lies in the places.
func (q *quarry) found(places map[string]string) []string {
	hits := append(find(places, q.secrets), find(places, q.addresses)...)
	for kind, codes := range q.short {
		for where, content := range places {
			if !slices.ContainsFunc(codes, func(code string) bool { return !tells(content, code) }) {
				hits = append(hits, kind+" in "+where)
			}
		}
	}
	slices.Sort(hits)
	return slices.Compact(hits)
}

// tells reports whether a short code lies in a place: its digits with neither a letter nor a digit beside them, since no code lies within a number or a
// random text, or a form in which they do not show.
func tells(content, code string) bool {
	within := func(i int) bool { // a character of a longer number or text stands at i
		return i >= 0 && i < len(content) && (content[i] >= '0' && content[i] <= '9' || content[i]|0x20 >= 'a' && content[i]|0x20 <= 'z')
	}
	for _, written := range []string{code, code[:3] + " " + code[3:], code[:3] + "-" + code[3:]} {
		for from := 0; ; from++ {
			i := strings.Index(content[from:], written)
			if i < 0 {
				break
			}
			if from += i; !within(from-1) && !within(from+len(written)) {
				return true
			}
		}
	}
	return slices.ContainsFunc(forms(code), func(form string) bool { return form != code && strings.Contains(content, form) })
}

// secret enters a secret, as it is and in the other ways in which it may be written.
func (q *quarry) secret(what, text string, others ...string) {
	if len(text) < 6 {
		panic(what + " is too short to be looked for")
	}
	q.secrets[what] = text
	for i, other := range others {
		q.secrets[fmt.Sprintf("%s, written another way (%d)", what, i+1)] = other
	}
}

// backup enters backup codes.
func (q *quarry) backup(what string, codes []string) {
	for i, c := range codes {
		plain := strings.ReplaceAll(c, "-", "")
		q.secret(fmt.Sprintf("%s %d", what, i+1), c, plain, strings.ToLower(c), strings.ToLower(plain))
	}
}

// device enters a trusted device's token. Its id is told; the rest is a bearer token.
func (q *quarry) device(t testing.TB, what, token string) {
	t.Helper()
	_, secret, ok := otp.ParseDeviceToken(token)
	if !ok {
		t.Fatalf("%s is no token", what)
	}
	q.secret(what, token[len(token)-40:], string(secret[:]))
}

// number enters a phone number; a mask of it shows the last four digits.
func (q *quarry) number(what, number string) { q.addresses[what] = strings.TrimPrefix(number, "+1") }

// mailbox enters an email address by its local part, which a mask hides but for the first character.
func (q *quarry) mailbox(what, address string) {
	q.addresses[what], _, _ = strings.Cut(address, "@")
}

// A walker goes through the whole life of factors, and enters into the quarry what must stay secret of it.
type walker struct {
	s        *system
	q        *quarry
	user     string
	n        int
	secret   []byte // of the authenticator app
	backups  []string
	recovery string // the last
	letter   string // its code by letter
}

func (w *walker) own(more map[string]any) map[string]any {
	return owned(w.user, mergeAll(map[string]any{"reauthenticated_at": event.Time(time.Now())}, more))
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
	if p := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": b.Ceremony, "session": "session of " + w.user, "code": wrongCode(value)}); p != "wrong_code" {
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
	b = must[event.FactorBeginReply](s, event.VerbFactorBegin, owned(w.user+", undecided", map[string]any{"kind": "sms", "address": phone(300 + w.n), "locale": "en"}))
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
	v, err := setting.Value(w.secret, setting.Step(time.Now())+int64(ahead))
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
	first := s.answer(c.Challenge, w.user, w.code("value of an app", w.value(1)), map[string]any{"trust_device": map[string]any{"label": "laptop"}, "request": "r"})
	if first.Result != "verified" || first.Device == "" {
		s.t.Fatalf("the app's value: %s", first.Result)
	}
	q.device(s.t, w.name("token of a trusted device"), first.Device)
	second := s.comes("login of a trusted device of "+w.user, w.user, first.Device, nil)
	if second.Reason != "trusted_device" || second.Device == "" {
		s.t.Fatalf("a trusted device: %s %s", second.Outcome, second.Reason)
	}
	q.device(s.t, w.name("next token of a trusted device"), second.Device)
	// The app's own event holds the token until it is taken: a stream of which this test looks only at what is left in the end.
	s.publish("event of a trusted device of "+w.user, w.user, map[string]any{"device": second.Device})
	s.skipped("event of a trusted device of " + w.user)
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
	b := must[event.RecoveryReply](s, event.VerbRecoveryBegin, owned(w.user, map[string]any{"client": map[string]any{"ip": "203.0.113.7"}}))
	codes = map[string]string{}
	for _, method := range []string{"email", "phone", "letter"} {
		codes[method] = s.resetCode(b.Recovery, method)
	}
	w.code(fmt.Sprint("recovery code by email, ", no), codes["email"])
	w.code(fmt.Sprint("recovery code by phone, ", no), codes["phone"])
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

// keepRows has the database keep every row as it is written, whatever becomes of it.
func (s *system) keepRows() {
	s.t.Helper()
	s.db.Exec(s.t, `CREATE TABLE kept (of text, line jsonb)`)
	s.db.Exec(s.t, `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
		$$ BEGIN INSERT INTO public.kept VALUES (TG_TABLE_NAME, to_jsonb(NEW)); RETURN NULL; END $$`)
	s.db.Exec(s.t, `DO $$
		DECLARE t regclass;
		BEGIN
			FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'kept' LOOP
				EXECUTE format('CREATE TRIGGER keep AFTER INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION keep()', t);
			END LOOP;
		END $$`)
}

// statistics is what so many workers tell every app of themselves, their last errors with it.
func (s *system) statistics(workers int) (text string) {
	s.t.Helper()
	box := s.conn.NewInbox()
	replies, err := s.conn.SubscribeSync(box)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.conn.PublishRequest("$SRV.STATS", box, nil); err != nil {
		s.t.Fatal(err)
	}
	for range workers {
		m, err := replies.NextMsg(otposttest.Patience)
		if err != nil {
			s.t.Fatalf("statistics: %v", err)
		}
		text += string(m.Data) + "\n"
	}
	return text
}

// lastOfLine is the value of a metric, which is a number and nothing that anybody was told.
var lastOfLine = regexp.MustCompile(`(?m) [^ \n"]+$`)

// Of a factor's whole life, from its begin to its recovery, nothing secret is left: neither in any row that ever was in the database nor in the streams'
// files, the logs at their most talkative, the events, the processes' own pages. What a printer is to print is where it has to be.
func TestNothingTellsAFactor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait, p.RecoveriesPerDay = 0, 10 }))
	s.keepRows()
	requests, channels := []bus.Role{bus.RoleChallenge, bus.RoleVerification, bus.RoleEnrolment}, []bus.Role{bus.RoleSMS, bus.RoleEmail, bus.RoleLetter}
	processes := map[bus.Role]*process{}
	start := func(roles []bus.Role) (stop func()) {
		for _, role := range roles {
			processes[role] = s.spawn(role, "")
		}
		stop = s.run(roles...)
		for _, role := range roles {
			otposttest.Eventually(t, string(role)+" is ready", func() bool { return s.ready(processes[role]) })
		}
		return stop
	}
	stop := []func(){start(requests)}

	q := &quarry{secrets: map[string]string{}, short: map[string][]string{}, addresses: map[string]string{}}
	rows, seeds, keys, walkers := "kind,serial,secret_hex,public_id,private_id,aes_key\n", [][]byte{}, []*otposttest.YubiKey{}, []*walker{}
	for n, user := range []string{"first", "second"} {
		seed, key := otp.NewTOTPSecret(), otposttest.NewYubiKey(t)
		rows += fmt.Sprintf("hotp,H-%s,%x,,,\nyubikey,Y-%s,,%s,%x,%x\n", user, seed, user, key.PublicID, key.PrivateID, key.Key)
		seeds, keys, walkers = append(seeds, seed), append(keys, key), append(walkers, &walker{s: s, q: q, user: user, n: n})
		q.secret("seed of a token of "+user, string(seed), hex.EncodeToString(seed), base32.StdEncoding.EncodeToString(seed))
		q.secret("key of a YubiKey of "+user, string(key.Key), hex.EncodeToString(key.Key), otposttest.ModHex(key.Key))
		q.secret("private id of a YubiKey of "+user, string(key.PrivateID[:]), hex.EncodeToString(key.PrivateID[:]), otposttest.ModHex(key.PrivateID[:]))
	}
	operator := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys, "OTPOST_APP": "demo"}}
	printed := operator.ok("factor", "import", "--log-level=debug", "--file="+write(t, "tokens.csv", rows))
	for i, w := range walkers {
		w.contacts()
		w.enrol(seeds[i], keys[i])
		w.use()
		w.change()
		w.lose()
	}

	// All that is to be sent waits in the stream now; nothing has taken it.
	waiting := files(t, s.nats.StoreDir())
	stop = append(stop, start(channels))
	settled := func() bool {
		return otposttest.Get[int](t, s.db, `SELECT (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending')) + (SELECT count(*) FROM notices)`) == 0
	}
	otposttest.Eventually(t, "all is sent", settled)
	for _, w := range walkers {
		w.recover()
	}
	otposttest.Eventually(t, "all is told", settled)

	places := map[string]string{"the database": s.db.Dump(t), "the log": s.log.Logs(), "what the import printed": printed}
	for _, args := range [][]string{{"audit", "--user=first"}, {"audit", "--user=second"}, {"factor", "list", "--user=first"}, {"factor", "tokens"}} {
		places["what the operator's commands print"] += operator.ok(args...)
	}
	places["what every app can ask of the workers"] = s.statistics(2 * len(requests))
	for role, p := range processes {
		_, metrics := p.page("/metrics")
		_, ready := p.page("/readyz")
		places["the log of "+string(role)] = p.out.String()
		places["the pages of "+string(role)] = lastOfLine.ReplaceAllString(metrics, "") + ready
	}
	for _, e := range s.heard.All() {
		places["the events"] += string(e.Raw) + "\n"
	}
	for _, l := range s.dead() {
		places["the dead letters"] += l.Reason + "\n"
	}
	letters, err := filepath.Glob(filepath.Join(s.spool, "*"))
	if err != nil {
		t.Fatal(err)
	}
	places["the names of the letters"] = strings.Join(letters, "\n")
	for _, p := range processes {
		p.kill()
	}
	for _, end := range stop {
		end()
	}
	s.conn.Close()
	s.nats.Stop(t)
	defer s.nats.Start(t)
	for name, content := range files(t, s.nats.StoreDir()) {
		places[name] = content
	}
	for name, content := range waiting {
		places[name+", before the workers of channels were there"] = content
	}
	for _, hit := range q.found(places) {
		if strings.Contains(hit, "trusted device") && strings.Contains(hit, filepath.Join("streams", bus.StreamLogins)) {
			t.Logf("left in the files of the app's own events: %s", hit)
			continue
		}
		t.Errorf("found: %s", hit)
	}
	size := 0
	for _, content := range places {
		size += len(content)
	}
	t.Logf("%d secrets, %d addresses, %d kinds of short codes in %d places with %d bytes, %d of them in the database", len(q.secrets), len(q.addresses), len(q.short),
		len(places), size, len(places["the database"]))
	findsAll(t, s, q, walkers, places, letters)
}

// findsAll shows that the search would have found it: that people got what was looked for, that the places hold what happened, and that what is planted in them
// is found in each form.
func findsAll(t *testing.T, s *system, q *quarry, walkers []*walker, places map[string]string, letters []string) {
	t.Helper()
	got := ""
	for _, m := range s.box.List(inbox.Filter{}) {
		got += m.To + "\n" + m.Subject + "\n" + m.Text + "\n"
	}
	for _, kind := range []string{
		"code that confirms a reset email", "code that confirms a reset phone", "code that confirms sms", "code that confirms email", "code that confirms nothing",
		"recovery code by email, 3", "recovery code by phone, 3",
	} {
		if codes := q.short[kind]; len(codes) != 2 || !tells(got, codes[0]) || !tells(got, codes[1]) {
			t.Errorf("%s: %d were looked for, and people did not get them", kind, len(codes))
		}
	}
	for _, w := range walkers {
		if hits := find(map[string]string{"": got}, map[string]string{"": q.secrets[w.name("code that stops recovery 3")]}); len(hits) != 1 {
			t.Errorf("%s was not told the code that stops the recovery", w.user)
		}
	}
	if len(letters) < 2 {
		t.Errorf("%d letters were printed", len(letters))
	}
	for where, words := range map[string][]string{
		"the database":                          {"recovery.completed", "first", "second", "recovery_codes", "device_tokens"},
		"the events":                            {"recovery.completed", "backup_code.used", "challenge.skipped"},
		"what every app can ask of the workers": {"enrolment", "verification", "num_requests"},
		"what the operator's commands print":    {"recovery.completed", "H-first", "factor.added"},
		"the log of enrolment":                  {"level=INFO"},
		"the pages of verification":             {"otpost_"},
	} {
		for _, word := range words {
			if !strings.Contains(places[where], word) {
				t.Errorf("%s has no %q", where, word)
			}
		}
	}
	work := ""
	for name, content := range places {
		if strings.Contains(name, bus.StreamWork) && strings.HasSuffix(name, "before the workers of channels were there") {
			work += content
		}
	}
	if !strings.Contains(work, "add_factor") || !strings.Contains(work, "notice") || !strings.Contains(work, "letter") {
		t.Error("the stream of commands held none when it was looked at")
	}

	plant := func(what string, form func(string) string) {
		t.Helper()
		for name, planted := range map[string]struct {
			texts []string
			hit   string
		}{
			"a secret": {[]string{q.secrets["private id of a YubiKey of first"]}, "private id of a YubiKey of first"},
			"a token":  {[]string{q.secrets["token of a trusted device of second"]}, "token of a trusted device of second"},
			"a number": {[]string{q.addresses["number of first"]}, "number of first"},
			"codes":    {q.short["code that confirms sms"], "code that confirms sms"},
		} {
			content := places["the events"]
			half := content[len(content)/2:]
			content = strings.TrimSuffix(content, half)
			for _, text := range planted.texts {
				content += form(text)
			}
			content += half
			if hits := q.found(map[string]string{"here": content}); !slices.Contains(hits, planted.hit+" in here") {
				t.Errorf("%s planted %s: found %q", name, what, hits)
			}
		}
	}
	plant("plain", func(text string) string { return "<" + text + ">" })
	plant("in hexadecimal", func(text string) string { return hex.EncodeToString([]byte("it is " + text + ".")) })
	plant("in base64", func(text string) string { return base64.URLEncoding.EncodeToString([]byte("it is " + text + ".")) })
	if hits := q.found(map[string]string{"here": "<" + q.short["code that confirms sms"][0] + ">"}); len(hits) != 0 {
		t.Errorf("one short code alone: %q", hits)
	}
	// In a row and in a line of the log as well.
	s.db.Exec(t, `UPDATE users SET region = $1 WHERE user_id = 'first'`, walkers[0].letter)
	s.db.Exec(t, `UPDATE users SET region = 'NM'`)
	if hits := q.found(map[string]string{"the database": s.db.Dump(t)}); len(hits) == 0 {
		t.Error("a code that was in a row for a moment is not found")
	}
}
