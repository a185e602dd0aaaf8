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

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file looks for what the life of factors must not leave anywhere, as TestNothingTellsACode does for logins.

// A quarry is what is looked for. Whatever is long enough that a find is no accident is looked for alone. Codes of six digits are not: of each kind there is
// one of each of two users of the same workers, and only both of a kind in one place are a find. In all places together some 200 different runs of six
// digits stand alone, most of them in times: one such code in 5000 is among them, and both of one of 28 kinds once in about a million runs of the test.
type quarry struct {
	secrets   map[string]string   // by what it is
	short     map[string][]string // codes of six digits, by kind
	addresses map[string]string
	users     int // that have walked
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
	within := func(i int) bool { // a character of a longer number or text stands at i, and not the end of "\n"
		if i > 0 && content[i-1] == '\\' {
			return false
		}
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

// Where workers are.
const (
	inside    = "inside" // the test
	processes = "processes"
)

// walk leads users through the whole life of factors, with workers that are inside or processes, and adds to the places what it sees on the way.
func (s *system) walk(q *quarry, operator shell, places map[string]string, where string, users ...string) (walkers []*walker) {
	t := operator.t
	t.Helper()
	started := map[bus.Role]*process{}
	start := func(roles ...bus.Role) (stop func()) {
		if where == inside {
			return s.run(roles...)
		}
		for _, role := range roles {
			started[role] = s.spawn(role, "")
		}
		for _, role := range roles {
			otposttest.Eventually(t, string(role)+" is ready", func() bool { return s.ready(started[role]) })
		}
		s.awaitServices(roles...)
		return func() {
			for _, role := range roles {
				started[role].kill()
			}
		}
	}
	requests := []bus.Role{bus.RoleChallenge, bus.RoleVerification, bus.RoleEnrolment}
	defer start(requests...)()

	rows, seeds, keys := "kind,serial,secret_hex,public_id,private_id,aes_key\n", [][]byte{}, []*otposttest.YubiKey{}
	for _, user := range users {
		seed, key := otp.NewTOTPSecret(), otposttest.NewYubiKey(t)
		rows += fmt.Sprintf("hotp,H-%s,%x,,,\nyubikey,Y-%s,,%s,%x,%x\n", user, seed, user, key.PublicID, key.PrivateID, key.Key)
		seeds, keys = append(seeds, seed), append(keys, key)
		q.secret("seed of a token of "+user, string(seed), hex.EncodeToString(seed), base32.StdEncoding.EncodeToString(seed))
		q.secret("key of a YubiKey of "+user, string(key.Key), hex.EncodeToString(key.Key), otposttest.ModHex(key.Key))
		q.secret("private id of a YubiKey of "+user, string(key.PrivateID[:]), hex.EncodeToString(key.PrivateID[:]), otposttest.ModHex(key.PrivateID[:]))
	}
	places["what the import printed, "+where] = operator.ok("factor", "import", "--file="+write(t, "tokens.csv", rows))
	for i, user := range users {
		q.users++
		w := &walker{s: s, q: q, user: user, where: where, n: q.users}
		walkers = append(walkers, w)
		w.contacts()
		w.enrol(seeds[i], keys[i])
		w.use()
		w.change()
		w.lose()
	}
	// All that is to be sent waits in the stream now; nothing has taken it.
	for name, content := range files(t, s.nats.StoreDir()) {
		places[name+", before anything was sent, "+where] = content
	}
	defer start(bus.RoleSMS, bus.RoleEmail, bus.RoleLetter)()
	settled := func() bool {
		return otposttest.Get[int](t, s.db, `SELECT (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending')) + (SELECT count(*) FROM notices)`) == 0
	}
	otposttest.Eventually(t, "all is sent", settled)
	for _, w := range walkers {
		w.recover()
	}
	otposttest.Eventually(t, "all is told", settled)
	otposttest.Eventually(t, "the dead letters are there", func() bool { return len(s.dead()) == q.users })
	places["what every app can ask of the workers, "+where] = s.statistics(len(requests))
	for role, p := range started {
		_, metrics := p.page("/metrics")
		_, ready := p.page("/readyz")
		places["the log of "+string(role)] = p.out.String()
		places["the pages of "+string(role)] = lastOfLine.ReplaceAllString(metrics, "") + ready
	}
	return walkers
}

// lastOfLine is the value of a metric, which is a number and nothing that anybody was told.
var lastOfLine = regexp.MustCompile(`(?m) [^ \n"]+$`)

// Of a factor's whole life, from its begin to its recovery, nothing secret is left: neither in any row that ever was in the database nor in the streams'
// files, the logs at their most talkative, the events, the processes' own pages. What a printer is to print is where it has to be.
func TestNothingTellsAFactor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait, p.RecoveriesPerDay, p.CoolingOff = 0, 10, 0 }))
	s.keepRows()
	q := &quarry{secrets: map[string]string{}, short: map[string][]string{}, addresses: map[string]string{}}
	places := map[string]string{}
	operator := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_KEYS": s.keys, "OTPOST_APP": "demo"}}
	// The log of workers inside the test is not redacted; of processes there are the whole output and the pages. So each has two users of its own.
	walkers := s.walk(q, operator, places, inside, "first", "second")
	walkers = append(walkers, s.walk(q, operator, places, processes, "third", "fourth")...)

	places["the database"], places["the log"] = s.db.Dump(t), s.log.Logs()
	for _, args := range [][]string{{"audit", "--user=first"}, {"audit", "--user=third"}, {"factor", "list", "--user=first"}, {"factor", "tokens"}} {
		places["what the operator's commands print"] += operator.ok(args...)
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
	s.conn.Close()
	s.nats.Stop(t) // what it holds is in its files
	defer s.nats.Start(t)
	maps.Copy(places, files(t, s.nats.StoreDir()))
	// The token of a trusted device that an app put into an event of its own lies where that event does: in the logins until it is taken, and in the dead letters.
	left := 0
	for _, hit := range q.found(places) {
		if strings.HasPrefix(hit, "next token of a trusted device") &&
			(strings.Contains(hit, filepath.Join("streams", bus.StreamLogins)) || strings.Contains(hit, filepath.Join("streams", bus.StreamDead))) {
			left++
			continue
		}
		t.Errorf("found: %s", hit)
	}
	if left == 0 {
		t.Error("the dead letters do not hold what apps have sent: then this test need not except them")
	}
	size := 0
	for _, content := range places {
		size += len(content)
	}
	t.Logf("%d secrets, %d addresses, %d kinds of short codes in %d places with %d bytes, %d of them in the database",
		len(q.secrets), len(q.addresses), len(q.short), len(places), size, len(places["the database"]))
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
		"code that confirms a reset email, inside", "code that confirms a reset phone, inside", "code that confirms sms, processes",
		"code that confirms email, processes", "code that confirms nothing, inside", "recovery code by email 3, inside", "recovery code by phone 3, processes",
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
	if len(letters) < len(walkers) {
		t.Errorf("%d letters were printed", len(letters))
	}
	for where, words := range map[string][]string{
		"the database": {"recovery.completed", "second", "fourth", "recovery_codes", "device_tokens"},
		"the events":   {"recovery.completed", "backup_code.used", "challenge.skipped"},
		"what every app can ask of the workers, inside": {"enrolment", "verification", "num_requests"},
		"what the operator's commands print":            {"recovery.completed", "H-first", "factor.added"},
		"the log of enrolment":                          {"level=INFO"},
		"the pages of verification":                     {"otpost_"},
	} {
		for _, word := range words {
			if !strings.Contains(places[where], word) {
				t.Errorf("%s has no %q", where, word)
			}
		}
	}
	for _, where := range []string{inside, processes} {
		work := ""
		for name, content := range places {
			if strings.Contains(name, bus.StreamWork) && strings.HasSuffix(name, "before anything was sent, "+where) {
				work += content
			}
		}
		if !strings.Contains(work, "add_factor") || !strings.Contains(work, "notice") || !strings.Contains(work, "letter") {
			t.Errorf("%s: the stream of commands held none when it was looked at", where)
		}
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
			"codes":    {q.short["code that confirms sms, inside"], "code that confirms sms, inside"},
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
	plant("in a line of their own", func(text string) string { return `code\n` + text + `\n` })
	plant("in hexadecimal", func(text string) string { return hex.EncodeToString([]byte("it is " + text + ".")) })
	plant("in base64", func(text string) string { return base64.URLEncoding.EncodeToString([]byte("it is " + text + ".")) })
	if hits := q.found(map[string]string{"here": "<" + q.short["code that confirms sms, inside"][0] + ">"}); len(hits) != 0 {
		t.Errorf("one short code alone: %q", hits)
	}
	// In a row and in a line of the log as well.
	s.db.Exec(t, `UPDATE users SET region = $1 WHERE user_id = 'first'`, walkers[0].letter)
	s.db.Exec(t, `UPDATE users SET region = 'NM'`)
	if hits := q.found(map[string]string{"the database": s.db.Dump(t)}); len(hits) == 0 {
		t.Error("a code that was in a row for a moment is not found")
	}
}
