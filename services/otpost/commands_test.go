package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
	totplib "github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// A shell runs command lines in an environment of its own.
type shell struct {
	t   *testing.T
	env map[string]string
}

// ok runs a command that must succeed and returns what it printed.
func (sh shell) ok(args ...string) string {
	sh.t.Helper()
	status, stdout, stderr := run1(sh.t.Context(), sh.env, args...)
	if status != 0 {
		sh.t.Fatalf("otpost %s: exit %d: %s", strings.Join(args, " "), status, stderr)
	}
	return stdout
}

// fails runs a command that must fail with one line that holds all the words.
func (sh shell) fails(status int, words []string, args ...string) {
	sh.t.Helper()
	got, stdout, stderr := run1(sh.t.Context(), sh.env, args...)
	if got != status || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "otpost") {
		sh.t.Errorf("otpost %s: exit %d, want %d; it printed %q and said %q", strings.Join(args, " "), got, status, stdout, stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr, w) {
			sh.t.Errorf("otpost %s said %q, without %q", strings.Join(args, " "), stderr, w)
		}
	}
}

// has compares a printed table with a row, whatever lies between its cells.
func has(t *testing.T, printed string, cells ...string) {
	t.Helper()
	for i, c := range cells {
		cells[i] = regexp.QuoteMeta(c)
	}
	if !regexp.MustCompile(`(?m)^` + strings.Join(cells, `\s+`) + `(\s|$)`).MatchString(printed) {
		t.Errorf("no row of %q in:\n%s", cells, printed)
	}
}

func TestAppCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	out := sh.ok("app", "create", "shop", "--display-name=The Shop", "--digits=8", "--channels=sms, email", "--life=3m")
	for _, row := range [][]string{{"name", "shop"}, {"display-name", "The Shop"}, {"digits", "8"}, {"channels", "sms,email"}, {"life", "3m"}, {"attempts", "5"}} {
		has(t, out, row...)
	}
	if hint := "otpost app policy set shop --rp-id="; !strings.Contains(out, hint) {
		t.Errorf("it does not say %q:\n%s", hint, out)
	}
	sh.fails(1, []string{"shop"}, "app", "create", "shop")
	if hint := "otpost app policy set shop --countries="; !strings.Contains(out, hint) {
		t.Errorf("it does not say %q:\n%s", hint, out)
	}
	if out := sh.ok("app", "create", "keyed", "--rp-id=keyed.example", "--origins=https://keyed.example"); strings.Contains(out, "security keys") {
		t.Errorf("it says how to allow what is allowed:\n%s", out)
	}
	sh.fails(1, []string{"app name"}, "app", "create", "Shop")
	if strings.Contains(out, "apps/shop.json") {
		t.Errorf("it names a file of no folder that it knows:\n%s", out)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "operator.yaml"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "apps"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, file := sh.ok("app", "create", "beside", "--config="+filepath.Join(dir, "operator.yaml")), filepath.Join(dir, "apps", "beside.json"); !strings.Contains(out, "\n"+file) {
		t.Errorf("it does not name %s:\n%s", file, out)
	}
	sh.ok("app", "create", "another")
	out = sh.ok("app", "list")
	has(t, out, "another", "another", "webauthn,totp,yubikey,hotp,sms,email", "6", "5m", "5")
	has(t, out, "shop", "The Shop", "sms,email", "8", "3m", "5")
	out = sh.ok("app", "policy", "set", "shop", "--life=10m", "--cooldown=1m", "--attempts=10", "--sends=1", "--open-challenges=10", "--totp-skew=0", "--no-factor=refuse",
		"--origin=https://shop.example", "--locale=cs", "--channels=totp")
	has(t, out, "life", "3m → 10m")
	has(t, out, "origin", "- → https://shop.example")
	if !strings.HasSuffix(out, "\n\nset; otpost app show shop shows all settings\n") || strings.Count(out, "\n") != 12 {
		t.Errorf("it does not show what has changed and no more:\n%s", out)
	}
	if out := sh.ok("app", "policy", "set", "shop", "--life=10m"); !strings.HasPrefix(out, "nothing is changed by that;") {
		t.Errorf("where nothing changes it says:\n%s", out)
	}
	out = sh.ok("app", "show", "shop")
	for _, row := range [][]string{
		{"life", "10m"},
		{"cooldown", "1m"},
		{"attempts", "10"},
		{"sends", "1"},
		{"open-challenges", "10"},
		{"totp-skew", "0"},
		{"no-factor", "refuse"},
		{"origin", "https://shop.example"},
		{"locale", "cs"},
		{"channels", "totp"},
		{"digits", "8"},
		{"display-name", "The Shop"},
	} {
		has(t, out, row...)
	}
	out = sh.ok("app", "policy", "set", "shop", "--countries=US, CZ", "--fallback=voice,email", "--limit=user=1/m,2/h,3/d", "--limit=app=9/d", "--limit=ip=",
		"--send-cooldown=30s", "--spend-cap=US=25.00", "--spend-cap=*=0.0079", "--pumping=block", "--no-sms-webotp", "--no-sms-keep-secret", "--sms-fold")
	has(t, out, "limit user", "6/m,20/h,50/d → 1/m,2/h,3/d")
	out = sh.ok("app", "show", "shop")
	for _, row := range [][]string{
		{"countries", "US,CZ"},
		{"fallback", "voice,email"},
		{"limit user", "1/m,2/h,3/d"},
		{"limit destination", "6/m,20/h,50/d"},
		{"limit app", "9/d"},
		{"limit ip", "none"},
		{"send-cooldown", "30s"},
		{"spend-cap", "*=0.0079,US=25.00"},
		{"pumping", "block"},
		{"sms-webotp", "false"},
		{"sms-keep-secret", "false"},
		{"sms-fold", "true"},
	} {
		has(t, out, row...)
	}
	has(t, sh.ok("app", "policy", "set", "shop", "--spend-cap=US=", "--sms-webotp", "--countries="), "spend-cap", "*=0.0079,US=25.00 → *=0.0079")
	out = sh.ok("app", "show", "shop")
	for _, row := range [][]string{{"spend-cap", "*=0.0079"}, {"sms-webotp", "true"}, {"sms-fold", "true"}, {"limit user", "1/m,2/h,3/d"}} {
		has(t, out, row...)
	}
	if out := sh.ok("app", "policy", "set", "--help"); strings.Contains(strings.Join(strings.Fields(out), ""), "SECRET_FILE") {
		t.Errorf("what is true or false is taken for a secret:\n%s", out)
	}
	for bad, name := range map[string]string{
		"--countries=USA": "countries", "--fallback=pigeon": "fallback", "--fallback=letter": "fallback", "--limit=user=0/m": "limit", "--limit=user=6/w": "limit",
		"--limit=user=6/m,7/m": "limit", "--limit=moon=6/m": "moon", "--send-cooldown=2h": "send-cooldown", "--spend-cap=US=1.2345678": "spend-cap", "--spend-cap=usa=1": "spend-cap",
		"--spend-cap=US=-1": "spend-cap", "--pumping=perhaps": "pumping",
	} {
		if name != "moon" {
			name = "otpost app policy set: --" + name
		}
		sh.fails(1, []string{name}, "app", "policy", "set", "shop", bad)
	}
	sh.ok("app", "policy", "set", "shop", "--origin=")
	for _, bad := range []string{
		"digits=3", "digits=11", "life=59s", "life=11m", "life=90500ms", "attempts=0", "attempts=11", "sends=0", "sends=11", "cooldown=9s", "cooldown=11m",
		"open-challenges=0", "open-challenges=11", "totp-skew=3", "totp-skew=-1", "channels=pigeon", "channels=", "channels=sms,sms", "no-factor=perhaps",
		"origin=shop.example", "origin=https://shop.example/login", "locale=c'est", "display-name=", "display-name=" + strings.Repeat("x", 65),
	} {
		name, _, _ := strings.Cut(bad, "=")
		sh.fails(1, []string{"--" + name}, "app", "policy", "set", "shop", "--"+bad)
	}
	for _, bad := range []string{"digits=many", "life=5", "attempts=1.5"} {
		name, _, _ := strings.Cut(bad, "=")
		sh.fails(2, []string{"--" + name}, "app", "policy", "set", "shop", "--"+bad)
	}
	out = sh.ok("app", "policy", "set", "shop", "--max-factors=5", "--totp-algorithm=SHA256", "--totp-digits=8", "--totp-period=60", "--hotp-look-ahead=20",
		"--hotp-resync=200", "--ceremony-life=2m", "--reauth-within=1m", "--cooling-off=0s", "--device-life=2160h", "--device-grace=5s", "--recovery-wait=90m",
		"--recoveries-per-day=1", "--recovery-methods=US=email+phone+letter; DE=; *=email", "--support-approval=false", "--rp-id=shop.example",
		"--origins=https://shop.example, https://pay.shop.example", "--channels=webauthn,yubikey")
	if !strings.HasSuffix(out, "\n\nset; otpost app show shop shows all settings\n\nNobody in DE can recover by themselves.\n") {
		t.Errorf("it says:\n%s", out)
	}
	out = sh.ok("app", "show", "shop")
	for _, row := range [][]string{
		{"max-factors", "5"},
		{"totp-algorithm", "SHA256"},
		{"totp-digits", "8"},
		{"totp-period", "60"},
		{"hotp-look-ahead", "20"},
		{"hotp-resync", "200"},
		{"ceremony-life", "2m"},
		{"reauth-within", "1m"},
		{"cooling-off", "0s"},
		{"device-life", "2160h"},
		{"device-grace", "5s"},
		{"recovery-wait", "1h30m"},
		{"recoveries-per-day", "1"},
		{"recovery-methods", "*=email;DE=;US=email+phone+letter"},
		{"support-approval", "false"},
		{"rp-id", "shop.example"},
		{"origins", "https://shop.example,https://pay.shop.example"},
		{"channels", "webauthn,yubikey"},
		{"life", "10m"},
	} {
		has(t, out, row...)
	}
	if app, err := postgres.NewApps(db.Role("operator")).Get(t.Context(), "shop"); err != nil || app.Policy.Factors.SupportApproval ||
		len(app.Policy.Factors.MethodsFor("DE")) != 0 || len(app.Policy.Factors.MethodsFor("CZ")) != 1 || len(app.Policy.Factors.MethodsFor("US")) != 3 {
		t.Errorf("the policy is stored as %+v (%v)", app.Policy.Factors, err)
	}
	for _, bad := range []string{
		"max-factors=0", "totp-algorithm=MD5", "totp-digits=9", "totp-period=45", "hotp-look-ahead=51", "hotp-resync=9", "ceremony-life=119s", "reauth-within=6m",
		"cooling-off=169h", "device-life=2161h", "device-grace=4s", "recovery-wait=1500ms", "recoveries-per-day=11", "recovery-methods=US", "recovery-methods=us=email;*=email",
		"recovery-methods=US=pigeon;*=email", "recovery-methods=US=email;US=phone;*=email", "recovery-methods=US=email", "recovery-methods=", "rp-id=https://shop.example", "rp-id=", "origins=http://shop.example", "origins=https://other.example",
		"origins=",
	} {
		name, _, _ := strings.Cut(bad, "=")
		if bad == "rp-id=" { // there are origins still
			name = "rp-id"
		}
		sh.fails(1, []string{"--" + name}, "app", "policy", "set", "shop", "--"+bad)
	}
	for bad, words := range map[string]string{
		"origins=http://evil.example": `"http://evil.example" must be of https`, "life=11m": "must be 1m to 10m, not 11m", "life=90500ms": "whole seconds, not 1m30.5s",
		"reauth-within=6m": "must be 1m to 5m, not 6m", "cooling-off=169h": "must be 0s to 168h, not 169h", "recovery-methods=US=email": "'*=email'",
	} {
		name, _, _ := strings.Cut(bad, "=")
		sh.fails(1, []string{name, words}, "app", "policy", "set", "shop", "--"+bad)
	}
	for methods, words := range map[string]string{
		"US=email;*=": "Nobody elsewhere can recover", "*=": "Nobody can recover", "US=;*=": "Nobody can recover", "US=;DE=;*=email": "Nobody in DE, US can recover",
	} {
		if out := sh.ok("app", "policy", "set", "shop", "--recovery-methods="+methods); !strings.Contains(out, "\n"+words+" by themselves.\n") {
			t.Errorf("with %s it says:\n%s", methods, out)
		}
	}
	if out := sh.ok("app", "policy", "set", "shop", "--recovery-methods=US=phone;*=email"); strings.Contains(out, "obody") {
		t.Errorf("where everybody can recover it says:\n%s", out)
	}
	// A security key serves under one domain only.
	insert := `INSERT INTO factors (id, app_id, user_id, kind, label, sealed, mask, last_step, public_id, credential, created_at)
		SELECT gen_random_uuid(), id, 'alice', 'webauthn', '', '', '', -1, $1, '', now() FROM apps WHERE name = 'shop'`
	db.Exec(t, insert, "first")
	db.Exec(t, insert, "second")
	moved := []string{"app", "policy", "set", "shop", "--rp-id=pay.shop.example", "--origins=https://pay.shop.example"}
	sh.fails(1, []string{"--rp-id", `2 security keys are enrolled for "shop.example"`, "--yes"}, moved...)
	has(t, sh.ok("app", "show", "shop"), "rp-id", "shop.example")
	sh.ok("app", "policy", "set", "shop", "--rp-id=shop.example", "--origins=https://shop.example") // the same one, with other pages
	if out := sh.ok(append(moved, "--yes")...); !strings.Contains(out, "\n2 security keys are enrolled for \"shop.example\", and nobody can use") {
		t.Errorf("it says:\n%s", out)
	}
	db.Exec(t, `UPDATE factors SET state = 'removed', removed_at = now() WHERE kind = 'webauthn'`)
	sh.ok("app", "policy", "set", "shop", "--rp-id=", "--origins=")
	sh.fails(1, []string{"nothing to set"}, "app", "policy", "set", "shop")
	sh.fails(1, []string{"ghost"}, "app", "policy", "set", "ghost", "--digits=8")
	sh.fails(1, []string{"ghost"}, "app", "show", "ghost")
	has(t, sh.ok("app", "show", "shop"), "digits", "8")
}

func TestKeysCommands(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	sh := shell{t, map[string]string{"OTPOST_KEYS": dir}}
	out := sh.ok("keys", "init")
	for _, role := range []string{"sms", "email", "letter", "verification", "enrolment", "operator", "challenge"} {
		if !strings.Contains(out, filepath.Join(dir, role)+"\n") {
			t.Errorf("init does not name the folder of %s", role)
		}
	}
	sh.fails(1, []string{"exist"}, "keys", "init")
	if out := sh.ok("keys", "init", "--missing"); out != "Nothing was missing.\n" {
		t.Errorf("of a whole folder init --missing says:\n%s", out)
	}
	for _, lost := range []string{"letter/ceremony.json", "verification/index.json"} {
		if err := os.Remove(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	if out := sh.ok("keys", "init", "--missing"); strings.Count(out, "\n") != 3 || !strings.Contains(out, dir+"/letter/ceremony.json\n") ||
		!strings.Contains(out, dir+"/verification/index.json\n") {
		t.Errorf("init --missing says:\n%s", out)
	}
	elsewhere := shell{t, map[string]string{"OTPOST_KEYS": filepath.Join(t.TempDir(), "wrong")}}
	elsewhere.fails(1, []string{"--keys", "no keysets here", "keys init"}, "keys", "init", "--missing")
	if _, err := os.Stat(elsewhere.env["OTPOST_KEYS"]); !os.IsNotExist(err) {
		t.Errorf("where there were no keys, init --missing made some (%v)", err)
	}
	row := regexp.MustCompile(`(?m)^code\s+(\d+)\s+(.+)$`)
	keys := func() [][]string { return row.FindAllStringSubmatch(sh.ok("keys", "list"), -1) }
	first := keys()
	if len(first) != 1 || first[0][2] != "primary" {
		t.Fatalf("keys at first: %q", first)
	}
	sh.fails(1, []string{"already in use"}, "keys", "promote", "code")
	added := regexp.MustCompile(`Key (\d+)`).FindStringSubmatch(sh.ok("keys", "rotate", "code"))
	if two := keys(); len(two) != 2 || added == nil {
		t.Fatalf("keys after rotate: %q, %q", two, added)
	}
	sh.ok("keys", "promote", "code")
	for _, k := range keys() {
		if primary := k[2] == "primary"; primary != (k[1] == added[1]) {
			t.Errorf("after promote: %q", k)
		}
	}
	sh.fails(1, []string{"in use"}, "keys", "remove", "code", added[1])
	sh.ok("keys", "remove", "code", first[0][1])
	if one := keys(); len(one) != 1 || one[0][1] != added[1] {
		t.Errorf("keys after remove: %q", one)
	}
	sh.fails(2, []string{"keyset"}, "keys", "rotate", "codes")
	for path, content := range files(t, dir) {
		if strings.Contains(content, sh.ok("keys", "list")) {
			t.Errorf("the list is the content of %s", path)
		}
	}
}

func TestFactorCommands(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys, "OTPOST_APP": "demo"}}
	uri := regexp.MustCompile(`(?m)^otpauth://\S+$`)
	for user, setting := range map[string][]string{
		"plain": nil, "strong": {"--algorithm=SHA512", "--digits=8", "--period=60", "--account=strong@example.com", "--label=work"},
	} {
		out := sh.ok(append([]string{"factor", "add", "totp", "--user=" + user}, setting...)...)
		if !strings.Contains(out, "█") {
			t.Error("no QR code is printed")
		}
		key, err := totplib.NewKeyFromURL(uri.FindString(out))
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if account := map[string]string{"plain": "plain", "strong": "strong@example.com"}[user]; key.Issuer() != "App demo" || key.AccountName() != account {
			t.Errorf("the URI is of %s, %s", key.Issuer(), key.AccountName())
		}
		value, err := totp.GenerateCodeCustom(key.Secret(), s.clock.Now(), totp.ValidateOpts{Period: uint(key.Period()), Digits: key.Digits(), Algorithm: key.Algorithm()})
		if err != nil {
			t.Fatal(err)
		}
		c := s.begin(user, nil)
		if c.Channel != "totp" || c.Digits != key.Digits().Length() {
			t.Errorf("issued %+v", c)
		}
		if r := s.verify(c.Challenge, user, value); r.Result != "verified" || r.Factor != "totp" {
			t.Errorf("%s: %+v", user, r)
		}
		if strings.Contains(sh.ok("factor", "list", "--user="+user), key.Secret()) {
			t.Error("the list shows a secret")
		}
	}
	if out := sh.ok("factor", "add", "totp", "--user=quiet", "--no-qr"); strings.Contains(out, "█") || !uri.MatchString(out) {
		t.Errorf("without a QR code it prints:\n%s", out)
	}
	if out := sh.ok("factor", "add", "sms", "--user=reached", "+1 (415) 556-0001", "--label=mobile"); strings.Contains(out, phone(1)) || !strings.Contains(out, "+1•••••0001") {
		t.Errorf("it shows %q", out)
	}
	sh.ok("factor", "add", "email", "--user=reached", address(1))
	out := sh.ok("factor", "list", "--user=reached")
	for _, words := range []string{"sms", "email", "+1•••••0001", "u•••@example.com", "mobile", "never", "active"} {
		if !strings.Contains(out, words) {
			t.Errorf("the list lacks %q:\n%s", words, out)
		}
	}
	c := s.begin("reached", nil) // what is enrolled serves where the app gives no address
	if c.Channel != "sms" || len(c.Methods) != 1 || c.Methods[0] != "email" {
		t.Errorf("issued %+v", c)
	}
	s.expect("by enrolled number", "verified", 4, s.verify(c.Challenge, "reached", s.code(phone(1))))
	c = s.begin("reached", map[string]any{"channel": "email"}, "2")
	s.expect("by enrolled mailbox", "verified", 4, s.verify(c.Challenge, "reached", s.mail(address(1)).Code()))

	status := sh.ok("status", c.Challenge)
	for _, row := range [][]string{{"challenge", c.Challenge}, {"user", "reached"}, {"state", "verified"}, {"attempts", "1 of 5"}, {"sends", "1 of 5"}, {c.Challenge + "-1", "login", "email", "u•••@example.com"}} {
		has(t, status, row...)
	}
	sh.fails(1, []string{"user"}, "factor", "add", "sms", "--user=a\nb", "+14155560002")
	sh.fails(1, []string{": the address must start with +"}, "factor", "add", "sms", "--user=reached", "4155560002")
	sh.fails(1, []string{"address"}, "factor", "add", "email", "--user=reached", "Eve <eve@example.com>")
	sh.fails(1, []string{"digits"}, "factor", "add", "totp", "--user=reached", "--digits=5")
	sh.fails(1, []string{"period"}, "factor", "add", "totp", "--user=reached", "--period=45")
	sh.fails(2, []string{"--algorithm", "SHA1"}, "factor", "add", "totp", "--user=reached", "--algorithm=MD5")
	sh.fails(2, []string{"--user", "OTPOST_USER"}, "factor", "list")
	sh.fails(1, []string{"must be a UUID"}, "status", "last")
	sh.fails(1, []string{"no challenge, recovery, ceremony or message of this id"}, "status", "0193503c-7a80-7c1e-9d2a-3f1be2a45c07")
	sh.env["OTPOST_APP"] = "ghost"
	sh.fails(1, []string{"ghost"}, "factor", "list", "--user=reached")
	sh.fails(1, []string{"ghost"}, "status", c.Challenge)
}

func TestDeadCommands(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) { o.nats = append(o.nats, otposttest.WithApps("demo", "late")) })
	s.run(bus.RoleChallenge, bus.RoleSMS)
	late := s.nats.App(t, "late")
	for _, body := range [][]byte{s.login("login", "alice", s.clock.Now(), bySMS(1)), []byte("\x1b[2Jpoison\x00"), bytes.Repeat([]byte("x"), 300<<10)} {
		if err := late.Publish(event.LoginSubject("late"), body); err != nil {
			t.Fatal(err)
		}
	}
	otposttest.Eventually(t, "the dead letters", func() bool { return len(s.dead()) == 3 })
	var login, poison, large string // their numbers: they came in any order
	for _, l := range s.dead() {
		switch id := strconv.FormatUint(l.ID, 10); {
		case l.Truncated:
			large = id
		case strings.Contains(string(l.Body), "poison"):
			poison = id
		default:
			login = id
		}
	}
	sh := shell{t, map[string]string{"OTPOST_NATS_URL": s.nats.URL(), "OTPOST_NATS_PASSWORD": s.nats.Password(bus.RoleOperator)}}
	out := sh.ok("dead", "list")
	for _, words := range []string{"3 of 3 dead letters", "unknown_app", event.LoginSubject("late"), strconv.Itoa(300 << 10)} {
		if !strings.Contains(out, words) {
			t.Errorf("the list lacks %q:\n%s", words, out)
		}
	}
	if out := sh.ok("dead", "list", "--limit=1", "--from=2"); !strings.Contains(out, "1 of 3 dead letters") {
		t.Errorf("a part of the list:\n%s", out)
	}
	if out := sh.ok("dead", "show", poison); strings.ContainsAny(out, "\x1b\x00") || !strings.Contains(out, "poison") {
		t.Errorf("show prints %q", out)
	}
	sh.fails(1, []string{"only its beginning"}, "dead", "retry", large)
	// What could not be processed can be, once its cause is gone.
	s.db.App(t, "late")
	otposttest.Eventually(t, "the worker knows the app", func() bool {
		m, err := late.Request(event.RPCSubject("late", event.VerbStatus), []byte(validRequests[event.VerbStatus]), time.Second)
		return err == nil && strings.Contains(string(m.Data), "unknown_challenge")
	})
	if out := sh.ok("dead", "retry", login); !strings.Contains(out, login+" is back on "+event.LoginSubject("late")) {
		t.Errorf("retry says %q", out)
	}
	s.code(phone(1))
	sh.ok("dead", "drop", poison, large)
	if out := sh.ok("dead", "list"); !strings.Contains(out, "0 of 0 dead letters") {
		t.Errorf("the list after all:\n%s", out)
	}
	for _, verb := range []string{"show", "retry", "drop"} {
		sh.fails(1, []string{"99: no such dead letter"}, "dead", verb, "99")
	}
	sh.env["OTPOST_NATS_PASSWORD"], sh.env["OTPOST_WAIT"] = "wrong password", "300ms"
	status, _, stderr := run1(t.Context(), sh.env, "dead", "list", "--log-level=error")
	if status != 1 || !strings.Contains(stderr, "reaching NATS") || strings.Contains(stderr, "wrong password") {
		t.Errorf("with a wrong password: %d, %q", status, stderr)
	}
}

func TestNATSCommands(t *testing.T) {
	t.Parallel()
	sh := shell{t, map[string]string{
		"OTPOST_CHALLENGE_PASSWORD": "c", "OTPOST_SMS_PASSWORD": "s", "OTPOST_EMAIL_PASSWORD": "e", "OTPOST_VERIFICATION_PASSWORD": "v",
		"OTPOST_ENROLMENT_PASSWORD": "n", "OTPOST_GATEWAY_PASSWORD": "g", "OTPOST_LETTER_PASSWORD": "l", "OTPOST_OPERATOR_PASSWORD": "o", "OTPOST_BCRYPT_COST": "4",
	}}
	text := sh.ok("nats", "config", "--app-passwords=shop=secret one", "--app-passwords=demo=secret two", "--agent-passwords=ann=secret three", "--nats-port=4333")
	for _, secret := range []string{"secret one", "secret two", "secret three"} {
		if strings.Contains(text, secret) {
			t.Errorf("the configuration holds the password %q in the clear", secret)
		}
	}
	o, err := server.ProcessConfigFile(write(t, "nats.conf", text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if o.Port != 4333 || o.Host != "127.0.0.1" || len(o.Accounts) != 4 || !o.JetStream {
		t.Errorf("port %d, host %s, %d accounts, JetStream %t", o.Port, o.Host, len(o.Accounts), o.JetStream)
	}
	if out := sh.ok("nats", "permissions"); !strings.Contains(out, "otpost.app.*.rpc.verify") {
		t.Errorf("permissions:\n%s", out)
	}
	delete(sh.env, "OTPOST_SMS_PASSWORD")
	sh.fails(2, []string{"--sms-password", "OTPOST_SMS_PASSWORD"}, "nats", "config")
	sh.env["OTPOST_SMS_PASSWORD_FILE"] = write(t, "password", "s\n")
	sh.ok("nats", "config")
	sh.fails(1, []string{"Shop"}, "nats", "config", "--app-passwords=Shop=secret one")
	sh.fails(1, []string{"Ann"}, "nats", "config", "--agent-passwords=Ann=secret three")
}

func TestMigrateCommand(t *testing.T) {
	t.Parallel()
	db, nats := otposttest.Postgres(t), otposttest.NATS(t, otposttest.WithoutStreams())
	sh := shell{t, map[string]string{
		"OTPOST_NATS_URL": nats.URL(), "OTPOST_NATS_PASSWORD": nats.Password(bus.RoleOperator), "OTPOST_DATABASE_URL": db.URL(otposttest.Owner),
	}}
	db.Exec(t, `DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC`)
	if out := sh.ok("migrate"); !strings.Contains(out, "00001_foundation.sql") || !strings.Contains(out, "00002_factors.sql") || !strings.Contains(out, "7 streams, 10 consumers of workers, 0 of apps") {
		t.Errorf("the first says:\n%s", out)
	}
	db.App(t, "demo")
	if out := sh.ok("migrate"); !strings.Contains(out, "nothing to do") || !strings.Contains(out, "1 of apps") {
		t.Errorf("the second says:\n%s", out)
	}
	if err := nats.Bus(t, bus.RoleChallenge).Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	sh.fails(1, []string{"stream-replicas"}, "migrate", "--stream-replicas=2")
	sh.fails(1, []string{"ack-wait"}, "migrate", "--ack-wait=10ms")
}

func TestDestinationCommands(t *testing.T) {
	t.Parallel()
	db, keys := otposttest.Postgres(t), otposttest.Keys(t)
	db.App(t, "shop")
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator"), "OTPOST_KEYS": keys}}
	if out := sh.ok("destination", "add", "--app=shop", "--test=+1 500 555 0006", "--code=123456", "--note=ci"); !strings.Contains(out, "test") || strings.Contains(out, "5550006") {
		t.Errorf("it says:\n%s", out)
	}
	sh.ok("destination", "add", "--app=shop", "--safe=Boss@example.com")
	out := sh.ok("destination", "list")
	has(t, out, "shop", "test", "+1•••••0006", "ci")
	has(t, out, "shop", "safe", "B•••@example.com")
	if dump := db.Dump(t); strings.Contains(dump, "5005550006") || strings.Contains(dump, "123456") || strings.Contains(dump, "oss@") {
		t.Error("the database holds an address or a code")
	}
	sh.fails(1, []string{"--code"}, "destination", "add", "--app=shop", "--test=+15005550006")
	sh.fails(1, []string{"--code"}, "destination", "add", "--app=shop", "--test=+15005550006", "--code=12a4")
	sh.fails(1, []string{"--code"}, "destination", "add", "--app=shop", "--safe=+15005550007", "--code=123456")
	sh.fails(1, []string{"otpost destination add: --safe: has letters"}, "destination", "add", "--app=shop", "--safe=nowhere")
	sh.fails(1, []string{"--test, --safe: give one of them"}, "destination", "add", "--app=shop")
	sh.fails(2, []string{"--test", "--safe"}, "destination", "add", "--app=shop", "--test=+15005550006", "--safe=+15005550007")
	if out := sh.ok("destination", "add", "--help"); strings.Contains(out, "--test=ADDRESS --safe") || strings.Count(out, "--test") != 2 {
		t.Errorf("the help asks for both --test and --safe:\n%s", out)
	}
	sh.fails(1, []string{"moon"}, "destination", "add", "--app=moon", "--safe=+15005550007")
	sh.fails(1, []string{"otpost destination remove: <address>, --test, --safe: give one of them"}, "destination", "remove", "--app=shop")
	sh.fails(1, []string{"give one of them"}, "destination", "remove", "--app=shop", "+15005550006", "--test=+15005550006")
	sh.fails(1, []string{"<address>: has letters"}, "destination", "remove", "--app=shop", "nowhere")
	sh.fails(1, []string{"--safe: +1•••••0006 is listed as a test destination"}, "destination", "remove", "--app=shop", "--safe=+15005550006")
	sh.ok("destination", "remove", "--app=shop", "--test=+15005550006")
	sh.ok("destination", "remove", "--app=shop", "boss+tag@example.com") // the same mailbox
	sh.fails(1, []string{"not listed"}, "destination", "remove", "--app=shop", "boss@example.com")
}

func TestHelpOfEveryCommand(t *testing.T) {
	t.Parallel()
	sh := shell{t, nil}
	if out := sh.ok("version"); !strings.HasPrefix(out, "otpost ") || sh.ok("--version") != out {
		t.Errorf("version prints %q", out)
	}
	setting := regexp.MustCompile(`(?m)^\s+--([a-z][a-z0-9-]+)`)
	for _, command := range []string{
		"", "up", "demo", "challenge", "sms", "email", "verification", "migrate", "keys", "keys init", "keys list", "keys rotate", "keys promote", "keys remove",
		"enrolment", "letter", "factor add hotp", "factor add yubikey", "factor import", "factor tokens", "factor tokens list", "factor tokens release", "audit", "support", "support find", "support begin",
		"support approve", "support refuse", "support cancel", "support status",
		"destination", "destination add", "destination list", "destination remove", "app", "app create", "app list", "app show", "app policy", "app policy set", "factor", "factor add", "factor add totp", "factor add sms", "factor add email",
		"factor list", "account", "account unlock", "status", "dead", "dead list", "dead show", "dead retry", "dead drop", "nats", "nats config",
		"nats permissions", "version",
	} {
		out := sh.ok(append(strings.Fields(command), "--help")...)
		words := strings.Join(strings.Fields(out), " ")
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 120 {
				t.Errorf("help of %q has a line of %d characters: %s", command, n, line)
			}
		}
		for _, m := range setting.FindAllStringSubmatch(out, -1) {
			if name := m[1]; name != "help" && name != "version" {
				if env := "OTPOST_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")); !strings.Contains(words, env) {
					t.Errorf("help of %q does not name %s", command, env)
				}
			}
		}
	}
}

func TestWrongSettings(t *testing.T) {
	t.Parallel()
	keys, spool, open := otposttest.Keys(t), filepath.Join(t.TempDir(), "letters"), t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil { //nolint:gosec // a folder that others can read is what is to be refused
		t.Fatal(err)
	}
	whole := func() map[string]string {
		return map[string]string{
			"OTPOST_NATS_URL": "nats://127.0.0.1:1", "OTPOST_DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/x", "OTPOST_KEYS": keys,
			"OTPOST_TWILIO_ACCOUNT_SID": "AC00000000000000000000000000000000", "OTPOST_TWILIO_AUTH_TOKEN": "hunter2", "OTPOST_TWILIO_FROM": "+15005550006",
			"OTPOST_SMTP_HOST": "127.0.0.1", "OTPOST_SMTP_FROM": "a@example.com", "OTPOST_SPOOL": spool, "OTPOST_SENDER": "Shop, 1 Market Street",
		}
	}
	for _, c := range []struct {
		name, command string
		env           map[string]string // what is changed; empty takes away
		status        int
		words         []string
	}{
		{"no NATS", "challenge", map[string]string{"OTPOST_NATS_URL": ""}, 2, []string{"--nats-url", "OTPOST_NATS_URL"}},
		{"no Postgres", "verification", map[string]string{"OTPOST_DATABASE_URL": ""}, 2, []string{"--database-url", "OTPOST_DATABASE_URL"}},
		{"nothing", "email", map[string]string{"OTPOST_NATS_URL": "", "OTPOST_KEYS": ""}, 2, []string{"--nats-url", "--keys"}},
		{"no relay", "email", map[string]string{"OTPOST_SMTP_HOST": ""}, 1, []string{"--providers", "--smtp-host"}},
		{"keys elsewhere", "challenge", map[string]string{"OTPOST_KEYS": t.TempDir()}, 1, []string{"--keys"}},
		{"wrong NATS", "challenge", map[string]string{"OTPOST_NATS_URL": "::"}, 1, []string{"--nats-url"}},
		{"a page for NATS", "sms", map[string]string{"OTPOST_NATS_URL": "nats://127.0.0.1:4222,http://u:hunter2@127.0.0.1"}, 1, []string{"--nats-url"}},
		{"wrong Postgres", "challenge", map[string]string{"OTPOST_DATABASE_URL": "mysql://u:hunter2@x/y"}, 1, []string{"--database-url"}},
		{"few connections", "challenge", map[string]string{"OTPOST_DATABASE_CONNECTIONS": "1"}, 1, []string{"--database-connections"}},
		{"no number", "challenge", map[string]string{"OTPOST_DATABASE_CONNECTIONS": "many"}, 2, []string{"--database-connections", "OTPOST_DATABASE_CONNECTIONS"}},
		{"no duration", "challenge", map[string]string{"OTPOST_DRAIN": "25"}, 2, []string{"--drain", "OTPOST_DRAIN"}},
		{"keep too short", "challenge", map[string]string{"OTPOST_KEEP": "1h"}, 1, []string{"keep"}},
		{"log level", "challenge", map[string]string{"OTPOST_LOG_LEVEL": "loud"}, 2, []string{"--log-level", "loud"}},
		{"account", "sms", map[string]string{"OTPOST_TWILIO_ACCOUNT_SID": "AC1"}, 1, []string{"account"}},
		{"lease", "sms", map[string]string{"OTPOST_LEASE": "5s"}, 1, []string{"lease"}},
		{"concurrency", "sms", map[string]string{"OTPOST_CONCURRENCY": "0"}, 1, []string{"--concurrency"}},
		{"TLS", "email", map[string]string{"OTPOST_SMTP_TLS": "perhaps"}, 2, []string{"--smtp-tls", "perhaps"}},
		{"sender", "email", map[string]string{"OTPOST_SMTP_FROM": "nobody"}, 1, []string{"from"}},
		{"password alone", "email", map[string]string{"OTPOST_SMTP_PASSWORD": "hunter2"}, 1, []string{"username"}},
		{"enrolment's sweep", "enrolment", map[string]string{"OTPOST_SWEEP_EVERY": "2m"}, 1, []string{"--sweep-every"}},
		{"nowhere to print", "letter", map[string]string{"OTPOST_SPOOL": ""}, 1, []string{"--spool", "--print-url"}},
		{"printed twice", "letter", map[string]string{"OTPOST_PRINT_URL": "https://print.example", "OTPOST_PRINT_TOKEN": "hunter2"}, 1, []string{"--spool", "--print-url"}},
		{"a token for nobody", "letter", map[string]string{"OTPOST_PRINT_TOKEN": "hunter2"}, 1, []string{"--print-token"}},
		{"an open spool", "letter", map[string]string{"OTPOST_SPOOL": open}, 1, []string{"--spool", "0700"}},
		{"no print service", "letter", map[string]string{"OTPOST_SPOOL": "", "OTPOST_PRINT_URL": "print.example", "OTPOST_PRINT_TOKEN": "hunter2"}, 1, []string{"--print-url"}},
		{"no print token", "letter", map[string]string{"OTPOST_SPOOL": "", "OTPOST_PRINT_URL": "https://print.example"}, 1, []string{"--print-token"}},
		{"no sender", "letter", map[string]string{"OTPOST_SENDER": ""}, 2, []string{"--sender"}},
		{"sender's country", "letter", map[string]string{"OTPOST_SENDER_COUNTRY": "USA"}, 1, []string{"--sender-country"}},
		{"no font", "letter", map[string]string{"OTPOST_JAPANESE_FONT": "/nowhere/font.ttf"}, 1, []string{"font", "/nowhere/font.ttf"}},
		{"lease of letters", "letter", map[string]string{"OTPOST_LEASE": "30s"}, 1, []string{"--lease"}},
		{"a file that is not there", "challenge", map[string]string{"OTPOST_NATS_PASSWORD_FILE": "/nowhere/secret"}, 2, []string{"OTPOST_NATS_PASSWORD_FILE", "/nowhere/secret"}},
		{"both", "challenge", map[string]string{"OTPOST_NATS_PASSWORD": "hunter2", "OTPOST_NATS_PASSWORD_FILE": "/nowhere/secret"}, 2, []string{"OTPOST_NATS_PASSWORD", "OTPOST_NATS_PASSWORD_FILE"}},
		{"no YAML", "challenge", map[string]string{"OTPOST_CONFIG": write(t, "bad.yaml", "nats-url: [")}, 2, []string{"bad.yaml"}},
		{"unknown in YAML", "challenge", map[string]string{"OTPOST_CONFIG": write(t, "odd.yaml", "nats-url: nats://x\ncolour: red\n")}, 2, []string{"odd.yaml:2", "colour"}},
		{"wrong in YAML", "challenge", map[string]string{"OTPOST_DRAIN": "", "OTPOST_CONFIG": write(t, "wrong.yaml", "\ndrain: soon\n")}, 2, []string{"wrong.yaml:2", "drain"}},
		{"no such command", "chalenge", nil, 2, []string{"chalenge"}},
	} {
		env := whole()
		for k, v := range c.env {
			env[k] = v
		}
		t.Run(c.name, func(t *testing.T) {
			sh := shell{t, env}
			status, _, stderr := run1(t.Context(), env, c.command)
			if status != c.status || strings.Contains(stderr, "hunter2") {
				t.Errorf("exit %d, want %d: %s", status, c.status, stderr)
			}
			sh.fails(c.status, c.words, c.command)
		})
	}
}

// A worker takes its settings from a YAML file and its secrets from files.
func TestSettingsFromFiles(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleSMS)
	config := write(t, "otpost.yaml", fmt.Sprintf(`
nats:
  url: %s
keys: %s
drain: 5s
sweep-every: 200ms
smtp-host: another command's
`, s.nats.URL(), s.keys))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []bus.Role{bus.RoleChallenge, bus.RoleVerification} {
		env := append(os.Environ(), asCommand+"=1", "OTPOST_CONFIG="+config, "OTPOST_NATS_PASSWORD_FILE="+write(t, "nats", s.nats.Password(role)+"\n"),
			"OTPOST_DATABASE_URL_FILE="+write(t, "database", s.db.URL(string(role))+"\r\n"))
		p := s.launch(exe, env, string(role))
		otposttest.Eventually(t, string(role)+" is ready", func() bool { return s.ready(p) })
	}
	s.awaitServices(bus.RoleChallenge, bus.RoleVerification)
	c := s.begin("alice", bySMS(1))
	s.expect("the code", "verified", 4, s.verify(c.Challenge, "alice", s.code(phone(1))))
}
