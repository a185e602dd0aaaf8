package main

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// hotpValue is what a token with the secret shows at a counter.
func hotpValue(t testing.TB, secret []byte, counter int64) string {
	t.Helper()
	v, err := otp.HOTP{Algorithm: "SHA1", Digits: 6}.Value(secret, counter)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What an operator imports is enrolled by its serial number, or is a factor at once where the file names its user.
func TestImportOfTokens(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification, bus.RoleEnrolment)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys, "OTPOST_APP": "demo"}}
	free, given, odd := []byte("12345678901234567890"), []byte("abcdefghijklmnopqrst"), []byte("a secret that is of nobody")
	key := otposttest.NewYubiKey(t)
	file := write(t, "tokens.csv", fmt.Sprintf(`kind,serial,user,label,secret_hex,secret_base32,counter,digits,period,public_id,private_id,aes_key
hotp,A-1,,,%x,,7,,,,,
hotp,A-2,bob,on the key ring,,%s,,,,,,
totp,T-1,bob,,%x,,,8,60,,,
yubikey,Y-1,,,,,,,,%s,%x,%x
`, free, base32.StdEncoding.EncodeToString(given), odd, key.PublicID, key.PrivateID, key.Key))
	secrets := []string{hex.EncodeToString(free), base32.StdEncoding.EncodeToString(given), hex.EncodeToString(odd), hex.EncodeToString(key.Key), hex.EncodeToString(key.PrivateID[:])}
	hidden := func(out string) string {
		t.Helper()
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(out), strings.ToLower(secret)) {
				t.Errorf("it shows a secret:\n%s", out)
			}
		}
		return out
	}
	count := func(table string) int { return otposttest.Get[int](t, s.db, "SELECT count(*) FROM "+table) }

	dry := hidden(sh.ok("factor", "import", "--file="+file, "--dry-run"))
	if !strings.Contains(dry, "4 tokens: 2 free, 2 of users. Nothing was stored") || count("hardware_tokens")+count("factors")+count("audit") != 0 {
		t.Errorf("a dry run leaves %d tokens, %d factors, %d lines and says:\n%s", count("hardware_tokens"), count("factors"), count("audit"), dry)
	}
	out := hidden(sh.ok("factor", "import", "--file="+file))
	has(t, out, "hotp", "A-1", "SHA1, 6 digits, counter 7")
	has(t, out, "hotp", "A-2", "bob", "on the key ring", "SHA1, 6 digits, counter 0")
	has(t, out, "totp", "T-1", "bob", "SHA1, 8 digits, 60 s")
	has(t, out, "yubikey", "Y-1", "public id "+key.PublicID)
	if !strings.HasSuffix(out, "\n4 tokens: 2 free, 2 of users.\n") {
		t.Errorf("it says:\n%s", out)
	}
	// Nothing of a file is taken where one of its tokens is there already, by whatever name.
	more := "kind,serial,secret_hex,public_id,private_id,aes_key\nhotp,A-9," + secrets[0] + ",,,\nhotp,A-2," + secrets[0] + ",,,\nyubikey,Y-9,," + key.PublicID + "," + secrets[4] + "," + secrets[3] + "\n"
	for _, flag := range []string{"--dry-run", "--free"} {
		sh.fails(1, []string{"2 of the tokens are there already: A-2, Y-9"}, "factor", "import", "--file="+write(t, "again.csv", more), flag)
	}
	if n := count("hardware_tokens"); n != 4 {
		t.Errorf("%d tokens after a refused import, want 4", n)
	}
	list := sh.ok("factor", "tokens")
	for serial, state := range map[string]string{"A-1": " free\n", "Y-1": " free\n", "A-2": ":", "T-1": ":"} {
		i := strings.Index(list, serial)
		if line, _, _ := strings.Cut(list[max(i, 0):], "\n"); i < 0 || !strings.Contains(line+"\n", state) || strings.Contains(line, "free") != strings.Contains(state, "free") {
			t.Errorf("the list says of %s: %q", serial, line)
		}
	}

	// Bob's are factors: both serve at a login.
	if out := sh.ok("factor", "list", "--user=bob"); !strings.Contains(out, "on the key ring") || strings.Count(out, " active ") != 2 || !strings.Contains(out, " A-2\n") ||
		!strings.Contains(out, " T-1\n") {
		t.Errorf("bob has:\n%s", out)
	}
	login := s.begin("bob", map[string]any{"channel": "hotp"})
	if r := s.verify(login.Challenge, "bob", hotpValue(t, given, 0)); r.Result != "verified" || r.Factor != "hotp" {
		t.Errorf("bob's token: %+v", r)
	}
	value, err := otp.TOTP{Algorithm: "SHA1", Digits: 8, Period: 60}.Value(odd, otp.TOTP{Algorithm: "SHA1", Digits: 8, Period: 60}.Step(s.clock.Now()))
	if err != nil {
		t.Fatal(err)
	}
	login = s.begin("bob", map[string]any{"channel": "totp"}, "2")
	if r := s.verify(login.Challenge, "bob", value); r.Result != "verified" || r.Factor != "totp" {
		t.Errorf("bob's other token: %+v", r)
	}
	// Alice enrols what is free. A value from before the counter of the file proves nothing.
	begun, problem := request[event.FactorBeginReply](s, event.VerbFactorBegin, map[string]any{"user": "alice", "session": "s", "kind": "hotp", "serial": "A-1"})
	if problem != "" {
		t.Fatal(problem)
	}
	confirm := func(code string) (reply event.FactorConfirmReply, problem string) {
		return request[event.FactorConfirmReply](s, event.VerbFactorConfirm, map[string]any{"ceremony": begun.Ceremony, "session": "s", "code": code})
	}
	if _, problem := confirm(hotpValue(t, free, 6)); problem != "wrong_code" {
		t.Errorf("a used value: %q", problem)
	}
	if r, problem := confirm(hotpValue(t, free, 7)); problem != "" || len(r.BackupCodes) != 10 {
		t.Errorf("the next value: %+v %s", r, problem)
	}
	if begun, problem = request[event.FactorBeginReply](s, event.VerbFactorBegin, map[string]any{"user": "carol", "session": "s", "kind": "yubikey", "serial": "Y-1"}); problem != "" {
		t.Fatal(problem)
	}
	if _, problem := confirm(key.Press()); problem != "" {
		t.Errorf("carol's key: %s", problem)
	}
	if list := sh.ok("factor", "tokens"); strings.Contains(list, "free") {
		t.Errorf("after all:\n%s", list)
	}
	for user, want := range map[string]int{"bob": 2, "alice": 0} {
		audit := hidden(sh.ok("audit", "--user="+user))
		if n := strings.Count(audit, "  operator  factor.added  "); n != want {
			t.Errorf("%d lines of the operator about %s, want %d:\n%s", n, user, want, audit)
		}
	}
	if n := otposttest.Get[int](t, s.db, "SELECT count(*) FROM users WHERE user_id = 'bob' AND activated_at IS NOT NULL AND epoch = 2"); n != 1 {
		t.Error("bob is not activated, or his trusted devices still hold")
	}
}

// A token serves one user after another, and no value of one serves the next: not where the factor was removed, and not where its row is gone.
func TestReleaseOfTokens(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification, bus.RoleEnrolment)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys, "OTPOST_APP": "demo"}}
	secret, key := []byte("12345678901234567890"), otposttest.NewYubiKey(t)
	sh.ok("factor", "import", "--file="+write(t, "tokens.csv", fmt.Sprintf(`kind,serial,user,secret_hex,counter,public_id,private_id,aes_key
hotp,A-1,,%x,7,,,
yubikey,Y-1,,,,%s,%x,%x
totp,T-1,bob,%x,,,,
`, secret, key.PublicID, key.PrivateID, key.Key, secret)))
	release := []string{"factor", "tokens", "release", "--kind=hotp", "A-1"}
	sh.fails(1, []string{"free already"}, release...)
	sh.fails(1, []string{"no such token"}, "factor", "tokens", "release", "--kind=yubikey", "A-1")

	// takes enrols the token: of a used value nothing comes, the next is good. It returns the factor.
	takes := func(user string, used, next int64) string {
		t.Helper()
		begun := must[event.FactorBeginReply](s, event.VerbFactorBegin, owned(user, map[string]any{"kind": "hotp", "serial": "A-1", "reauthenticated_at": s.now()}))
		answer := map[string]any{"ceremony": begun.Ceremony, "session": "session of " + user, "code": hotpValue(t, secret, used)}
		if _, problem := request[event.FactorConfirmReply](s, event.VerbFactorConfirm, answer); problem != "wrong_code" {
			t.Errorf("%s enrols it with value %d, which is used: %q", user, used, problem)
		}
		r := s.confirm(user, begun.Ceremony, hotpValue(t, secret, next))
		if r.State == "confirmed" {
			must[event.BackupAcknowledgeReply](s, event.VerbBackupAcknowledge, owned(user, map[string]any{"how": "saved"}))
		}
		return r.Factor
	}
	logsIn := func(user string, counter int64) {
		t.Helper()
		c := s.begin(user, map[string]any{"channel": "hotp"}, fmt.Sprint(counter))
		if r := s.verify(c.Challenge, user, hotpValue(t, secret, counter)); r.Result != "verified" {
			t.Errorf("%s logs in with value %d: %+v", user, counter, r)
		}
	}

	app := s.enrol("alice")
	s.clock.Advance(25 * time.Hour)
	factor := takes("alice", 6, 7)
	logsIn("alice", 9)
	sh.fails(1, []string{"a factor still"}, release...)
	must[event.FactorListReply](s, event.VerbFactorRemove, owned("alice", map[string]any{"factor": factor, "reauthenticated_at": s.now(), "code": app.next()}))
	if p := refused(s, event.VerbFactorBegin, owned("carol", map[string]any{"kind": "hotp", "serial": "A-1"})); p != "invalid" {
		t.Errorf("a token that was not released is enrolled: %s", p)
	}
	if out := sh.ok(release...); out != "The token hotp A-1 is free.\n" {
		t.Errorf("it says %q", out)
	}
	if list := sh.ok("factor", "tokens"); strings.Count(list, " free\n") != 2 || list != sh.ok("factor", "tokens", "list") {
		t.Errorf("after the release:\n%s", list)
	}

	takes("carol", 9, 10)
	logsIn("carol", 12)
	s.signal(event.UserDeleted, map[string]any{"user": "carol"})
	s.hears(event.UserErased, "carol")
	sh.ok(release...)
	takes("dave", 12, 13)
	for _, user := range []string{"alice", "carol"} {
		if audit := sh.ok("audit", "--user="+user); strings.Count(audit, "operator  token.released  ") != 1 || !strings.Contains(audit, `"serial": "A-1"`) {
			t.Errorf("the audit says of %s:\n%s", user, audit)
		}
	}

	// A time-based token has no way back into the stock.
	sh.fails(1, []string{"a factor still"}, "factor", "tokens", "release", "--kind=totp", "T-1")
	s.db.Exec(t, `UPDATE factors SET state = 'removed', removed_at = now() WHERE kind = 'totp' AND user_id = 'bob'`)
	if out := sh.ok("factor", "tokens", "release", "--kind=totp", "T-1"); !strings.Contains(out, "import it again") {
		t.Errorf("it says %q", out)
	}
	sh.ok("factor", "import", "--user=erin", "--file="+write(t, "again.csv", fmt.Sprintf("kind,serial,secret_hex\ntotp,T-1,%x\n", secret)))
}

// One file of PSKC, encrypted, whose only token is given to a user.
func TestImportOfPSKC(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	db.App(t, "demo")
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator"), "OTPOST_KEYS": otposttest.Keys(t), "OTPOST_APP": "demo"}}
	file, err := filepath.Abs("../../pkg/seeds/testdata/rfc6030-figure6.xml") // the key and the secret are in RFC 6030, section 6.1
	if err != nil {
		t.Fatal(err)
	}
	const key = "12345678901234567890123456789012"
	sh.fails(1, []string{"pre-shared key"}, "factor", "import", "--file="+file)
	sh.env["OTPOST_PRE_SHARED_KEY_FILE"] = write(t, "key", "12345678901234567890123456789013\n")
	sh.fails(1, []string{"--file"}, "factor", "import", "--file="+file)
	sh.env["OTPOST_PRE_SHARED_KEY_FILE"] = write(t, "key", key+"\n")
	out := sh.ok("factor", "import", "--file="+file, "--user=u-1")
	has(t, out, "hotp", "987654321", "u-1", "SHA1, 8 digits, counter 0")
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM factors WHERE kind = 'hotp' AND user_id = 'u-1' AND state = 'active' AND digits = 8 AND last_step = -1"); n != 1 {
		t.Error("it is no factor of the user")
	}
	sh.fails(1, []string{"there already: 987654321"}, "factor", "import", "--file="+file)
}

func TestImportsRefused(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	db.App(t, "demo")
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator"), "OTPOST_KEYS": otposttest.Keys(t), "OTPOST_APP": "demo"}}
	const secret = "3132333435363738393031323334353637383930"
	csv := func(rows ...string) string {
		return "--file=" + write(t, "bad.csv", "kind,serial,user,secret_hex\n"+strings.Join(rows, "\n")+"\n")
	}
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"--file", "no such file"}, []string{"--file=/nowhere/tokens.csv"}},
		{[]string{"line 3", "A-2", "secret_hex"}, []string{csv("hotp,A-1,,"+secret, "hotp,A-2,,not hexadecimal")}},
		{[]string{"line 3", "A-1", "line 2"}, []string{csv("hotp,A-1,,"+secret, "hotp,A-1,,"+secret)}},
		{[]string{"line 2", "T-1", "user"}, []string{csv("totp,T-1,," + secret)}},
		{[]string{"line 2", "T-1", "user"}, []string{csv("totp,T-1,u," + secret), "--free"}},
		{[]string{"--user", "2 tokens"}, []string{csv("hotp,A-1,,"+secret, "hotp,A-2,,"+secret), "--user=u"}},
		{[]string{"--user", "--free"}, []string{csv("hotp,A-1,," + secret), "--user=u", "--free"}},
		{[]string{"--user", "control"}, []string{csv("hotp,A-1,," + secret), "--user=a\nb"}},
		{[]string{"not encrypted"}, []string{csv("hotp,A-1,," + secret), "--passphrase=hunter2"}},
		{[]string{"--pre-shared-key"}, []string{csv("hotp,A-1,," + secret), "--pre-shared-key=hunter2"}},
		{[]string{"document type"}, []string{"--file=" + write(t, "bomb.xml", `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><KeyContainer>&a;</KeyContainer>`)}},
		{[]string{"no seeds"}, []string{csv()}},
		{[]string{"ghost"}, []string{csv("hotp,A-1,," + secret), "--app=ghost"}},
	} {
		status, _, stderr := run1(t.Context(), sh.env, append([]string{"factor", "import"}, c.args...)...)
		if strings.Contains(stderr, "hunter2") || strings.Contains(stderr, secret) || status != 1 {
			t.Errorf("%q: exit %d: %s", c.args, status, stderr)
		}
		sh.fails(1, c.words, append([]string{"factor", "import"}, c.args...)...)
	}
	if n := otposttest.Get[int](t, db, "SELECT (SELECT count(*) FROM hardware_tokens) + (SELECT count(*) FROM factors) + (SELECT count(*) FROM audit)"); n != 0 {
		t.Errorf("refused imports left %d rows", n)
	}
}

// One token, without a file of seeds.
func TestFactorAddToken(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys, "OTPOST_APP": "demo"}}
	secret, key := []byte("12345678901234567890"), otposttest.NewYubiKey(t)
	base32File := write(t, "base32", base32.StdEncoding.EncodeToString(secret)+"\n")
	sh.ok("factor", "add", "hotp", "--user=alice", "--serial=A-1", "--secret-file="+base32File, "--counter=3", "--label=token")
	sh.ok("factor", "add", "hotp", "--user=bob", "--serial=A-2", "--secret-file="+write(t, "hex", fmt.Sprintf("%x\n", secret)), "--encoding=hex")
	yubikey := write(t, "yubikey", fmt.Sprintf("%x,\n%x\n", key.PrivateID, key.Key))
	sh.ok("factor", "add", "yubikey", "--user=carol", "--serial=12345678", "--public-id="+key.PublicID, "--secret-file="+yubikey)
	for user, code := range map[string]string{"alice": hotpValue(t, secret, 3), "bob": hotpValue(t, secret, 0), "carol": key.Press()} {
		c := s.begin(user, nil)
		if r := s.verify(c.Challenge, user, code); r.Result != "verified" {
			t.Errorf("%s: %+v", user, r)
		}
		if audit := sh.ok("audit", "--user="+user); strings.Count(audit, "operator  factor.added") != 1 {
			t.Errorf("the audit says:\n%s", audit)
		}
	}
	if out := sh.ok("factor", "list", "--user=carol"); !strings.Contains(out, "yubikey") {
		t.Errorf("carol has:\n%s", out)
	}
	sh.fails(1, []string{"there already: A-1"}, "factor", "add", "hotp", "--user=alice", "--serial=A-1", "--secret-file="+base32File)
	sh.fails(1, []string{"there already: 2"}, "factor", "add", "yubikey", "--user=dave", "--serial=2", "--public-id="+key.PublicID, "--secret-file="+yubikey)
	sh.fails(1, []string{"secret_hex"}, "factor", "add", "hotp", "--user=alice", "--serial=A-3", "--secret-file="+base32File, "--encoding=hex")
	sh.fails(1, []string{"digits"}, "factor", "add", "hotp", "--user=alice", "--serial=A-3", "--secret-file="+base32File, "--digits=9")
	sh.fails(1, []string{"counter"}, "factor", "add", "hotp", "--user=alice", "--serial=A-3", "--secret-file="+base32File, "--counter=-1")
	sh.fails(1, []string{"--secret-file"}, "factor", "add", "yubikey", "--user=dave", "--serial=2", "--public-id=cccccccccccc", "--secret-file="+base32File)
	sh.fails(1, []string{"public_id"}, "factor", "add", "yubikey", "--user=dave", "--serial=2", "--public-id=nomodhex", "--secret-file="+yubikey)
	sh.fails(1, []string{"--secret-file", "too long"}, "factor", "add", "hotp", "--user=alice", "--serial=A-3", "--secret-file="+write(t, "long", strings.Repeat("A", 5000)))
}

// Keys of the former version get what is new, and what was there stays.
func TestKeysInitMissing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	sh := shell{t, map[string]string{"OTPOST_KEYS": dir}}
	sh.ok("keys", "init")
	before := files(t, dir)
	for path := range before {
		name := filepath.Base(path)
		if strings.Contains(path, "/enrolment/") || strings.Contains(path, "/letter/") || strings.HasPrefix(name, "ceremony") ||
			strings.HasPrefix(name, "destination-letter") || strings.HasSuffix(path, "/verification/index.json") {
			if err := os.Remove(filepath.Join(dir, strings.TrimPrefix(path, "the store"))); err != nil {
				t.Fatal(err)
			}
			delete(before, path)
		}
	}
	for _, role := range []string{"enrolment", "letter"} {
		if err := os.Remove(filepath.Join(dir, role)); err != nil {
			t.Fatal(err)
		}
	}
	sh.fails(1, []string{"exist"}, "keys", "init")
	if out := sh.ok("keys", "init", "--missing"); !strings.Contains(out, filepath.Join(dir, "enrolment", "ceremony.json")+"\n") {
		t.Errorf("it says:\n%s", out)
	}
	after := files(t, dir)
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) <= len(before) {
		t.Errorf("%d files before, %d after", len(before), len(after))
	}
	if out := sh.ok("keys", "list"); !strings.Contains(out, "ceremony") || !strings.Contains(out, "destination-letter") {
		t.Errorf("the keys are:\n%s", out)
	}
}
