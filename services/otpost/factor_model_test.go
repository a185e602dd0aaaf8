package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

// No order of requests leaves a user with half a factor, nor with one that another session has slipped in: two sessions, of which either may be a stranger's
// who has the password. The model is small: what is open, what was confirmed and by which session, what is active, and which backup codes are good.
func TestFactorLifeInAnyOrder(t *testing.T) {
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleVerification, bus.RoleEnrolment)
	users := 0
	fewer(t, 12) // each is some dozens of requests
	rapid.Check(t, func(r *rapid.T) {
		users++
		m := &lifeModel{s: s, user: fmt.Sprintf("user-%d", users), apps: map[string]*authenticator{}, factors: map[string]modelFactor{}}
		m.sessions = []string{"session of " + m.user, "a stranger's session"}
		r.Repeat(map[string]func(*rapid.T){
			"begin":       m.begin,
			"confirm":     m.confirm,
			"confirm bad": m.confirmBad,
			"acknowledge": m.acknowledge,
			"view":        m.view,
			"regenerate":  m.regenerate,
			"old code":    m.oldCode,
			"remove":      m.remove,
			"deactivate":  m.deactivate,
			"wait":        func(*rapid.T) { s.clock.Advance(time.Minute) },
			"":            m.check,
		})
	})
}

// fewer has the property tests that follow draw fewer cases, until the test ends, unless somebody asks for another number.
func fewer(t *testing.T, checks int) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	was := f.Value.String()
	if was != f.DefValue {
		return
	}
	if err := f.Value.Set(strconv.Itoa(checks)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(was) })
}

type modelFactor struct {
	state   string // confirmed or active
	session string // that confirmed it
	at      time.Time
}

type lifeModel struct {
	s        *system
	user     string
	sessions []string
	open     string // the ceremony that may be confirmed
	by       string // the session that may
	opened   time.Time
	apps     map[string]*authenticator // by ceremony, which is the factor's id
	factors  map[string]modelFactor
	codes    []string // the backup codes, for whoever may have them
	old      []string // one of each set that was replaced
	tried    bool     // an old one, which costs a failure
}

func (m *lifeModel) session(r *rapid.T) string {
	return rapid.SampledFrom(m.sessions).Draw(r, "session")
}

// active are the active factors, oldest first.
func (m *lifeModel) active() (ids []string) {
	for id, f := range m.factors {
		if f.state == "active" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// waiting tells whether a session has confirmed what is not acknowledged.
func (m *lifeModel) waiting(session string) bool {
	for _, f := range m.factors {
		if f.state == "confirmed" && f.session == session {
			return true
		}
	}
	return false
}

// abandon drops what other sessions have left waiting.
func (m *lifeModel) abandon(session string) {
	for id, f := range m.factors {
		if f.state == "confirmed" && f.session != session {
			delete(m.factors, id)
		}
	}
}

// changed drops what other sessions have begun.
func (m *lifeModel) changed(session string) {
	if m.by != session {
		m.open = ""
	}
}

// renew notes other backup codes.
func (m *lifeModel) renew(codes []string) {
	if len(m.codes) > 0 {
		m.old = append(m.old, m.codes[0])
	}
	m.codes = codes
}

func (m *lifeModel) body(session string, more map[string]any) map[string]any {
	body := map[string]any{"user": m.user, "session": session}
	for k, v := range more {
		body[k] = v
	}
	return body
}

func (m *lifeModel) password(session string, more map[string]any) map[string]any {
	return m.body(session, mergeWord("reauthenticated_at", m.s.now(), more))
}

func (m *lifeModel) begin(r *rapid.T) {
	session := m.session(r)
	body := m.body(session, map[string]any{"kind": "totp"})
	with := rapid.Bool().Draw(r, "password")
	if with {
		body["reauthenticated_at"] = m.s.now()
	}
	b, problem := request[event.FactorBeginReply](m.s, event.VerbFactorBegin, body)
	switch want := len(m.active()) > 0 && !with; {
	case want && problem != "reauthentication_required":
		r.Fatalf("begun without the password: %q", problem)
	case want:
		return
	case problem == "rate_limited" || problem == "too_many":
		return
	case problem != "":
		r.Fatalf("begin: %s", problem)
	}
	_, secret, _ := strings.Cut(b.URI, "secret=")
	secret, _, _ = strings.Cut(secret, "&")
	m.open, m.by, m.opened = b.Ceremony, session, m.s.clock.Now()
	m.apps[b.Ceremony] = &authenticator{s: m.s, secret: secret}
}

// value computes the app's value without a process for each.
func (m *lifeModel) value(ceremony string) string {
	v, err := totpValue(m.apps[ceremony].secret, m.s.clock.Now())
	if err != nil {
		m.s.t.Fatal(err)
	}
	return v
}

func (m *lifeModel) confirm(r *rapid.T) {
	if len(m.apps) == 0 {
		return
	}
	ids := make([]string, 0, len(m.apps))
	for id := range m.apps {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id, session := rapid.SampledFrom(ids).Draw(r, "ceremony"), m.session(r)
	c, problem := request[event.FactorConfirmReply](m.s, event.VerbFactorConfirm, map[string]any{"ceremony": id, "session": session, "code": m.value(id)})
	live := id == m.open && session == m.by && m.s.clock.Now().Before(m.opened.Add(10*time.Minute))
	switch {
	case !live && problem != "unknown_ceremony":
		r.Fatalf("a ceremony that is over, or another's: %q", problem)
	case live && problem == "rate_limited":
		return
	case live && problem != "":
		r.Fatalf("confirm: %s", problem)
	case !live:
		return
	}
	f := modelFactor{state: "active", session: session, at: m.s.clock.Now()}
	if len(m.active()) == 0 {
		f.state = "confirmed"
		if same := slices.Equal(c.BackupCodes, m.codes); same != m.waiting(session) {
			r.Fatalf("the backup codes are those of before: %v, want %v", same, m.waiting(session))
		} else if !same {
			m.renew(c.BackupCodes)
		}
		m.abandon(session)
	} else {
		m.changed(session)
	}
	if c.State != f.state || (f.state == "confirmed") != (len(c.BackupCodes) == 10) {
		r.Fatalf("confirmed as %+v, want %s", c, f.state)
	}
	m.open, m.factors[id] = "", f
}

func (m *lifeModel) confirmBad(r *rapid.T) {
	if m.open == "" {
		return
	}
	_, problem := request[event.FactorConfirmReply](m.s, event.VerbFactorConfirm, map[string]any{
		"ceremony": m.open, "session": m.by, "code": wrongCode(m.value(m.open)),
	})
	switch problem {
	case "wrong_code", "rate_limited":
	case "unknown_ceremony":
		m.open = "" // expired, or its attempts are used up
	default:
		r.Fatalf("a wrong value: %q", problem)
	}
	if n := otposttest.Get[int](m.s.t, m.s.db, `SELECT count(*) FROM ceremonies WHERE user_id = '`+m.user+`' AND state = 'open'`); n == 0 {
		m.open = ""
	}
}

// acknowledge makes active what its own session has confirmed, and nothing else.
func (m *lifeModel) acknowledge(r *rapid.T) {
	session := m.session(r)
	_, problem := request[event.BackupAcknowledgeReply](m.s, event.VerbBackupAcknowledge, m.body(session, map[string]any{"how": "copied"}))
	nothing := len(m.active()) == 0 && !m.waiting(session)
	if nothing != (problem == "no_factor") || problem != "" && problem != "no_factor" {
		r.Fatalf("acknowledged by %s with %v: %q", session, m.factors, problem)
	}
	if nothing {
		return
	}
	if m.waiting(session) {
		m.changed(session)
	}
	m.abandon(session)
	for id, f := range m.factors {
		f.state = "active"
		m.factors[id] = f
	}
}

// view shows the codes that are good, to who may have them.
func (m *lifeModel) view(r *rapid.T) {
	session := m.session(r)
	v, problem := request[event.BackupCodesReply](m.s, event.VerbBackupView, m.password(session, nil))
	if may := len(m.active()) > 0 || m.waiting(session); may != (problem == "") || problem != "" && problem != "no_factor" {
		r.Fatalf("viewed by %s with %v: %q", session, m.factors, problem)
	} else if !may {
		return
	}
	m.same(r, v.Codes)
}

func (m *lifeModel) same(r *rapid.T, shown []event.BackupCodeInfo) {
	for i, c := range shown {
		if len(shown) != len(m.codes) || c.Code != m.codes[i] {
			r.Fatalf("the backup codes are not those that the user was given last")
		}
	}
}

func (m *lifeModel) regenerate(r *rapid.T) {
	session := m.session(r)
	v, problem := request[event.BackupCodesReply](m.s, event.VerbBackupRegenerate, m.password(session, nil))
	if may := len(m.active()) > 0 || m.waiting(session); may != (problem == "") || problem != "" && problem != "no_factor" {
		r.Fatalf("renewed by %s with %v: %q", session, m.factors, problem)
	} else if !may {
		return
	}
	var codes []string
	for _, c := range v.Codes {
		codes = append(codes, c.Code)
	}
	m.renew(codes)
}

// oldCode tries a code of a set that was replaced, at a login.
func (m *lifeModel) oldCode(r *rapid.T) {
	if m.tried || len(m.old) == 0 || len(m.active()) == 0 {
		return
	}
	l, problem := request[event.LoginReply](m.s, event.VerbLogin, m.body(m.sessions[0], map[string]any{"id": "old code of " + m.user}))
	if problem != "" || l.Outcome != "issued" {
		return // the account waits
	}
	m.tried = true
	v := must[event.VerifyReply](m.s, event.VerbVerify, map[string]any{
		"challenge": l.Challenge, "session": m.sessions[0], "code": rapid.SampledFrom(m.old).Draw(r, "code"),
	})
	if v.Result != "wrong" {
		r.Fatalf("a backup code that was replaced: %s", v.Result)
	}
}

// remove takes a factor away with the code of one, which must be the oldest: all of this happens within the cooling-off.
func (m *lifeModel) remove(r *rapid.T) {
	active := m.active()
	if len(active) == 0 {
		return
	}
	session, id, by := m.session(r), rapid.SampledFrom(active).Draw(r, "factor"), rapid.SampledFrom(active).Draw(r, "proof")
	m.s.clock.Advance(31 * time.Second)
	_, problem := request[event.FactorListReply](m.s, event.VerbFactorRemove, m.password(session, map[string]any{"factor": id, "code": m.value(by)}))
	young := m.factors[by].at.After(m.factors[active[0]].at)
	switch {
	case len(active) == 1 && problem != "last_factor":
		r.Fatalf("the last one removed: %q", problem)
	case len(active) == 1 || problem == "wrong_code" || problem == "rate_limited": // it waits after wrong values
		return
	case young && problem != "cooling_off":
		r.Fatalf("removed with the code of one that is new: %q", problem)
	case young:
		return
	case problem != "":
		r.Fatalf("remove: %s", problem)
	}
	delete(m.factors, id)
	m.changed(session)
}

func (m *lifeModel) deactivate(r *rapid.T) {
	active, session := m.active(), m.session(r)
	m.s.clock.Advance(31 * time.Second)
	body := m.password(session, nil)
	if len(active) > 0 {
		body["code"] = m.value(active[0])
	}
	b, problem := request[event.DeactivateBeginReply](m.s, event.VerbDeactivateBegin, body)
	switch {
	case len(m.factors) == 0 && problem != "no_factor":
		r.Fatalf("deactivated with nothing: %q", problem)
	case problem == "wrong_code" || problem == "rate_limited" || len(m.factors) == 0:
		return
	case problem != "":
		r.Fatalf("deactivate: %s", problem)
	}
	if !rapid.Bool().Draw(r, "confirmed") {
		return
	}
	if _, problem := request[event.DeactivateConfirmReply](m.s, event.VerbDeactivateConfirm, map[string]any{"ceremony": b.Ceremony, "session": session}); problem == "rate_limited" {
		return
	} else if problem != "" {
		r.Fatalf("deactivate: %s", problem)
	}
	clear(m.factors)
	m.renew(nil)
	m.open = ""
}

// check compares what otpost says with the model.
func (m *lifeModel) check(r *rapid.T) {
	list := must[event.FactorListReply](m.s, event.VerbFactorList, map[string]any{"user": m.user})
	got, want := map[string]string{}, map[string]string{}
	for _, f := range list.Factors {
		got[f.Factor] = f.State
	}
	for id, f := range m.factors {
		want[id] = f.state
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.Fatalf("it has %v, want %v", got, want)
	}
	if list.Activated != (len(m.active()) > 0) {
		r.Fatalf("activated is %v with %v", list.Activated, m.factors)
	}
	if half := len(m.factors) > 0 && list.BackupCodesLeft == 0; half {
		r.Fatalf("factors without backup codes: %v", m.factors)
	}
}
