package main

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// forms are the ways in which a text may lie in a file: as it is, in hexadecimal (bytea in a dump), and in base64 (bytes in JSON) of either alphabet
// at each of the three places where it may begin.
func forms(text string) []string {
	out := []string{text, hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text)))}
	for shift := range 3 {
		whole := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + text))
		// the characters at either end hold bits of the neighbours
		first, last := (8*shift+5)/6, 8*(shift+len(text))/6
		out = append(out, whole[first:last], strings.NewReplacer("+", "-", "/", "_").Replace(whole[first:last]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// find returns the names of the places that hold one of the texts in any form.
func find(places, texts map[string]string) (hits []string) {
	type wanted struct{ what, form string }
	width := 8 // what forms are looked up by: with hundreds of them, one pass over a place is much faster than one for each
	for _, text := range texts {
		for _, form := range forms(text) {
			width = min(width, len(form))
		}
	}
	by := map[string][]wanted{}
	for what, text := range texts {
		for _, form := range forms(text) {
			by[form[:width]] = append(by[form[:width]], wanted{what, form})
		}
	}
	for where, content := range places {
		for i := 0; i+width <= len(content); i++ {
			for _, w := range by[content[i:i+width]] {
				if strings.HasPrefix(content[i:], w.form) {
					hits = append(hits, w.what+" in "+where)
				}
			}
		}
	}
	slices.Sort(hits)
	return slices.Compact(hits)
}

// files reads every file below a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[filepath.Join("the store", name)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Nothing at rest and nothing told holds a code, a secret or a whole address: neither the database nor the streams' files, the logs at their most
// talkative, the events, the processes' own pages. Codes have ten digits here, so that a find is no accident.
func TestNothingTellsACode(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) {
			a.Policy.Digits, a.Policy.Cooldown, a.Origin = 10, 10*time.Second, "https://shop.example"
		})
	})
	stop := []func(){s.run(bus.RoleChallenge), s.run(bus.RoleSMS), s.run(bus.RoleEmail), s.run(bus.RoleVerification)}
	var processes []*process
	for _, role := range workers {
		processes = append(processes, s.start(role, ""))
	}

	const users = 15
	secrets, addresses := map[string]string{}, map[string]string{}
	var asked []struct{ challenge, user, to, code string }
	for n := range users {
		sms, mail := fmt.Sprint("texted-", n), fmt.Sprint("mailed-", n)
		s.publish(sms, sms, bySMS(n))
		s.publish(mail, mail, map[string]any{"to": map[string]any{"email": address(n)}, "transaction": map[string]any{"amount": "1 EUR", "payee": "Shop"}})
		addresses["number "+phone(n)], addresses["mailbox "+address(n)] = phone(n), address(n)
		for user, to := range map[string]string{sms: phone(n), mail: address(n)} {
			asked = append(asked, struct{ challenge, user, to, code string }{s.issued(user).Challenge, user, to, ""})
		}
	}
	addresses["a number that is refused"] = "+15005550001"
	s.publish("lost", "lost", map[string]any{"to": map[string]any{"sms": "+15005550001"}})
	s.publish("bad", "bad", map[string]any{"to": map[string]any{"email": "Eve <eve.secret@example.com>"}})
	addresses["a mailbox that is no address"] = "eve.secret@example.com"
	s.heard.Wait(t, event.ChallengeUndeliverable, nil)
	s.heard.Wait(t, event.ChallengeRefused, nil)

	pay := map[string]any{"transaction": map[string]any{"amount": "1 EUR", "payee": "Shop"}}
	for i := range asked {
		a := &asked[i]
		a.code = s.mail(a.to).Code()
		if len(a.code) != 10 {
			t.Fatalf("a code of %d digits", len(a.code))
		}
		secrets["code of "+a.user] = a.code
		more := map[string]any{}
		if strings.HasPrefix(a.user, "mailed") {
			more = pay
		}
		s.expect("a wrong answer", "wrong", 4, s.answer(a.challenge, a.user, wrongCode(a.code), more))
		more["request"] = "r"
		if i%3 != 0 {
			s.expect("the right answer", "verified", 3, s.answer(a.challenge, a.user, a.code[:5]+" "+a.code[5:], more))
		}
		delete(more, "request")
	}
	s.clock.Advance(10 * time.Second)
	for i := 0; i < len(asked); i += 3 {
		a := asked[i]
		if _, problem := request[event.ResendReply](s, event.VerbResend, map[string]any{"challenge": a.challenge, "session": "session of " + a.user}); problem == "rate_limited" {
			continue // a process's clock stands earlier than this test's
		} else if problem != "" {
			t.Errorf("resend: %s", problem)
		}
		otposttest.Eventually(t, "the resend", func() bool { return s.messages(a.to) == 2 })
	}
	totp := s.addTOTP("app-user")
	secrets["TOTP secret"], secrets["TOTP secret as base32"] = string(totp), base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(totp)
	c := s.begin("app-user", nil)
	value, err := otp.DefaultTOTP().Value(totp, otp.DefaultTOTP().Step(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if r := s.verify(c.Challenge, "app-user", value); r.Result != "verified" {
		t.Errorf("TOTP: %s", r.Result)
	}

	places := map[string]string{"the database": s.db.Dump(t), "the log": s.log.Logs()}
	for i, p := range processes {
		_, metrics := p.page("/metrics")
		_, ready := p.page("/readyz")
		places["the log of "+string(workers[i])] = p.out.String()
		places["the pages of "+string(workers[i])] = metrics + ready
	}
	for i, e := range s.heard.All() {
		places[fmt.Sprintf("event %d, %s", i, e.Name)] = string(e.Raw)
	}
	for _, l := range s.dead() {
		places[fmt.Sprint("dead letter ", l.ID)] = l.Reason
	}
	for i := range processes {
		processes[i].kill()
	}
	for _, end := range stop {
		end()
	}
	s.conn.Close()
	s.nats.Stop(t) // what it holds is in its files
	defer s.nats.Start(t)
	store := files(t, s.nats.StoreDir())
	size := 0
	for name, content := range store {
		places[name] = content
		size += len(content)
	}
	for _, hit := range find(places, secrets) {
		t.Errorf("found: %s", hit)
	}
	// An app vouches for an address in the clear, in its own login event: that stream is the one place where one may lie.
	logins := filepath.Join("streams", bus.StreamLogins)
	left := 0
	for _, hit := range find(places, addresses) {
		if strings.Contains(hit, logins) {
			left++
			continue
		}
		t.Errorf("found: %s", hit)
	}
	t.Logf("%d codes, %d addresses, %d places, of which %d files with %d bytes; %d addresses were left in the files of %s", len(secrets), len(addresses),
		len(places), len(store), size, left, bus.StreamLogins)

	// The search finds what is there.
	if len(secrets) < 2*users || !strings.Contains(places["the database"], asked[0].challenge) || len(store) == 0 || len(s.box.List(inbox.Filter{})) < 2*users {
		t.Fatal("there was nothing to search or nothing to search for")
	}
	planted := t.TempDir()
	if err := os.CopyFS(planted, os.DirFS(s.nats.StoreDir())); err != nil {
		t.Fatal(err)
	}
	code := map[string]string{"code": asked[0].code}
	var file string
	for name := range store {
		if strings.HasSuffix(name, ".blk") {
			file = strings.TrimPrefix(name, "the store/")
		}
	}
	whole, err := os.ReadFile(filepath.Join(planted, file))
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string]string{
		"plain": asked[0].code, "in hexadecimal": hex.EncodeToString([]byte("code " + asked[0].code + ".")),
		"in base64": base64.StdEncoding.EncodeToString([]byte("a code: " + asked[0].code + ".")),
	} {
		half := len(whole) / 2
		if err := os.WriteFile(filepath.Join(planted, file), slices.Concat(whole[:half], []byte(form), whole[half:]), 0o600); err != nil {
			t.Fatal(err)
		}
		if hits := find(files(t, planted), code); len(hits) != 1 || !strings.HasSuffix(hits[0], file) {
			t.Errorf("a code planted %s was found in %q", name, hits)
		}
	}
}
