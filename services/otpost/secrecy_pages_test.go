package main

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// Of what passes through the HTTP edge nothing secret is left in clear: neither in any row that ever was in the database, nor in the streams' files, the log
// at its most talkative, the events. Links, cookies, tokens of forms and results, keys of apps and passwords of agents are nowhere; what a visit or an
// answer must remember of a secret, such as that of an authenticator app, the codes on the screen, the token of a browser that is trusted, is sealed.
func TestNothingTellsAVisit(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.keepRows()
	s.run(factorRoles...)
	e := s.edge()
	q := &quarry{secrets: map[string]string{}, short: map[string][]string{}, addresses: map[string]string{}}
	q.secret("the app's key", e.key)
	enters := func(v *visitor, what, link string) {
		q.secret("link of "+what, strings.TrimPrefix(link, e.URL+"/p/"))
		q.secret("cookie of "+what, strings.TrimPrefix(v.cookie(), pageCookie+"="))
		q.secret("token of the forms of "+what, v.token())
	}

	for _, user := range []string{"alice", "bob"} { // two, since a short code alone may be an accident
		// A factor is set up; the secret and the codes are shown for as long as they are.
		v := e.visit(user, event.PageSetup, nil)
		link := v.link(event.PageSetup, nil)
		v.Open(link)
		enters(v, "the setup of "+user, link)
		v.opens("/setup/app")
		a := v.reads()
		q.secret("secret of the app of "+user, a.secret, v.Element("secret"), strings.ToLower(a.secret))
		value := a.value()
		q.short["value that confirms an app"] = append(q.short["value that confirms an app"], value)
		v.fills("/setup/app", "code", value)
		codes := v.backupCodes()
		if len(codes) != otp.BackupCodeCount {
			t.Fatalf("%d backup codes", len(codes))
		}
		q.backup("backup code of "+user, codes)
		v.keepsCodes()
		v.Fill("/setup/done", nil)
		enrolled := v.URL.Query().Get("otpost_result")
		q.secret("result of the setup of "+user, enrolled)
		if r := v.result(); r.Outcome != event.OutcomeEnrolled {
			t.Errorf("the setup of %s: %+v", user, r)
		}

		// The codes are shown again.
		v = e.visit(user, event.PageBackupCodes, nil)
		v.Fill("/settings/codes", nil)
		if again := v.backupCodes(); len(again) < len(codes) || !slices.Equal(again[:len(codes)], codes) { // once for the eye, once to be copied
			t.Errorf("the codes of %s are shown as %v", user, again)
		}

		// A login is answered, wrongly first, and its browser trusted.
		right := a.next()
		v = e.visit(user, event.PageChallenge, map[string]any{"challenge": s.ask("login of "+user, user, nil).Challenge})
		wrong := strings.Repeat("0", 4) + codes[0][4:]
		q.short["value that answers"] = append(q.short["value that answers"], right)
		q.secret("a backup code of "+user+" with a slip", wrong)
		v.Fill("/challenge", map[string]string{"code": wrong})
		v.says(http.StatusUnprocessableEntity)
		v.Fill("/challenge", map[string]string{"code": right, "trust": "yes"})
		token := v.URL.Query().Get("otpost_result")
		q.secret("result of the challenge of "+user, token)
		if user == "bob" { // alice's waits, with the token of her browser in it
			r := v.result()
			if r.Device == "" {
				t.Fatalf("bob's browser is not trusted: %+v", r)
			}
			q.device(t, "token of the browser of "+user, r.Device)
		}

		// An answer with a secret is kept for whoever asks again with the same key.
		body := map[string]any{"user": "idle " + user, "session": "s", "kind": "totp", "label": "phone", "reauthenticated_at": s.now()}
		name := "a key of " + user + "'s that nobody else has"
		var secret string
		for range 2 {
			status, header, text := e.post("/v1/factor.begin", body, "Idempotency-Key", name)
			secret = between(string(text), `"secret":"`, `"`)
			if status != http.StatusOK || secret == "" {
				t.Fatalf("begun over HTTP: %d %v %s", status, header, text)
			}
		}
		q.secret("secret that an answer told "+user, strings.ReplaceAll(secret, " ", ""), secret)
		q.secret("idempotency key of "+user, name)

		// What strangers try is not written down either.
		q.secret("a link that "+user+" has guessed", strings.Repeat(user[:1]+"9", 22))
		e.shoot("GET", "/p/"+strings.Repeat(user[:1]+"9", 22), pageCookie+"="+strings.Repeat(user[:1]+"8", 22), nil)
		q.secret("a cookie that "+user+" has guessed", strings.Repeat(user[:1]+"8", 22))
		e.shoot("POST", "/v1/verify", "", url.Values{}, "Authorization", "Bearer otpost_"+strings.Repeat(user[:1]+"7", 22))
		q.secret("a key that "+user+" has guessed", strings.Repeat(user[:1]+"7", 22))
		q.users++
	}

	// An agent is signed in.
	ann := s.agent(e.URL, "ann")
	look(ann, "alice")
	q.secret("password of an agent", s.nats.AgentPassword("ann"))
	for _, c := range ann.Cookies(ann.URL) {
		q.secret("cookie "+c.Name+" of an agent", c.Value)
	}
	b := otposttest.NewBrowser(t)
	b.Open(e.URL + "/support/sign-in")
	b.Fill("/support/sign-in", map[string]string{"agent": "bob", "password": "nobody's password of yesterday"})
	q.secret("password that was wrong", "nobody's password of yesterday")

	for table, want := range map[string]int{"page_sessions": 8, "page_results": 1, "http_requests": 2, "desk_sessions": 1} {
		if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM `+table); n < want {
			t.Errorf("there are %d rows in %s: nothing could be found", n, table)
		}
	}
	places := map[string]string{"the database": s.db.Dump(t), "the log": s.log.Logs()}
	for _, e := range s.heard.All() {
		places["the events"] += string(e.Raw) + "\n"
	}
	s.conn.Close()
	s.nats.Stop(t) // what it holds is in its files
	defer s.nats.Start(t)
	maps.Copy(places, files(t, s.nats.StoreDir()))
	for _, hit := range q.found(places) {
		t.Errorf("found: %s", hit)
	}
	// What is looked for would be found.
	for what, word := range map[string]string{"the database": "page_results", "the log": "pattern"} {
		if !strings.Contains(places[what], word) {
			t.Errorf("%s has no %q", what, word)
		}
	}
	s.db.Exec(t, `UPDATE page_sessions SET account = $1 WHERE user_id = 'alice'`, q.secrets["secret of the app of alice"])
	if hits := q.found(map[string]string{"the database": s.db.Dump(t)}); !slices.Contains(hits, "secret of the app of alice in the database") {
		t.Errorf("a secret that is there is not found: %v", hits)
	}
}

// between is what stands between two texts; empty where they are not there.
func between(s, before, after string) string {
	_, rest, _ := strings.Cut(s, before)
	out, _, found := strings.Cut(rest, after)
	if !found {
		return ""
	}
	return out
}
