package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// No order of requests leaves a user with two resets, a reset without two proofs, a change after an end, or a way in without the proofs. What otpost does
// is held against a model without a database after every request.
func TestRecoveryInAnyOrder(t *testing.T) {
	fewer(t, 15)
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait, p.RecoveriesPerDay = time.Hour, 5 }))
	s.run(bus.RoleEnrolment)
	users := 0
	rapid.Check(t, func(r *rapid.T) {
		users++
		m := &recoveryModel{s: s, user: fmt.Sprint("user-", users), over: map[string]string{}}
		m.codes = s.recoverable(m.user, users).codes
		m.enrolled = true
		r.Repeat(map[string]func(*rapid.T){
			"begin":         func(r *rapid.T) { m.begin(r, "") },
			"support":       func(r *rapid.T) { m.begin(r, "ann") },
			"approve":       func(r *rapid.T) { m.decide(r, event.SupportApprove, otp.RecoveryProving) },
			"refuse":        func(r *rapid.T) { m.decide(r, event.SupportRefuse, otp.RecoveryRefused) },
			"prove":         m.prove,
			"prove again":   m.prove, // more often than the rest: what is of interest lies behind proofs
			"prove more":    m.prove,
			"prove another": m.prove,
			"cancel":        m.cancel,
			"wait":          m.wait,
			"enrol":         m.enrol,
			"":              m.check,
		})
	})
	t.Log(otposttest.Get[string](t, s.db, `SELECT string_agg(state || ': ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM recoveries GROUP BY state) AS c`))
}

// A recoveryModel is what must be so of one user.
type recoveryModel struct {
	s        *system
	user     string
	enrolled bool
	codes    []string // backup codes that nobody has used
	budget   otp.Budget
	begun    []time.Time
	id       string // of the latest recovery; empty before the first
	state    otp.RecoveryState
	agent    string
	session  string
	proofs   []otp.ProofKind
	attempts int
	methods  map[otp.ProofKind]time.Time // when the code of each expires
	expires  time.Time
	due      time.Time
	over     map[string]string // recoveries that have ended, as they ended
}

func (m *recoveryModel) now() time.Time { return m.s.clock.Now() }

func (m *recoveryModel) open() bool { return m.id != "" && !m.state.Ended() }

func (m *recoveryModel) begin(r *rapid.T, agent string) {
	methods := rapid.SampledFrom([][]string{nil, nil, {"email"}, {"phone"}, {"phone", "email"}}).Draw(r, "methods")
	lately := 0
	for _, at := range m.begun {
		if at.After(m.now().Add(-24 * time.Hour)) {
			lately++
		}
	}
	want := ""
	switch {
	case !m.enrolled:
		want = "no_factor"
	case m.open():
		want = "conflict"
	case lately >= 5:
		want = "rate_limited"
	case len(methods) == 1 && len(m.codes) == 0:
		want = "not_allowed"
	}
	body := map[string]any{"app": "demo", "user": m.user, "reason": "asked"}
	if agent == "" {
		body = m.s.lost(m.user, nil)
	}
	if methods != nil {
		body["methods"] = methods
	}
	var got event.RecoveryReply
	var problem string
	if agent == "" {
		got, problem = request[event.RecoveryReply](m.s, event.VerbRecoveryBegin, body)
	} else {
		got, problem = support[event.RecoveryReply](m.s, agent, event.SupportBegin, body)
	}
	if problem != want {
		r.Fatalf("begin: %q, want %q", problem, want)
	}
	if problem != "" {
		return
	}
	if len(methods) == 0 {
		methods = []string{"email", "phone"}
	}
	m.id, m.agent, m.session, m.proofs, m.attempts, m.methods, m.due = got.Recovery, agent, "", nil, 0, map[otp.ProofKind]time.Time{}, time.Time{}
	m.begun = append(m.begun, m.now())
	for _, k := range methods {
		m.methods[otp.ProofKind(k)] = time.Time{}
	}
	if agent != "" {
		m.state, m.expires = otp.RecoveryApproval, m.now().Add(24*time.Hour)
		return
	}
	m.session = "session of " + m.user
	m.sent()
}

// sent is what the sending of the codes brings.
func (m *recoveryModel) sent() {
	m.state, m.expires = otp.RecoveryProving, m.now()
	for k := range m.methods {
		m.methods[k] = m.now().Add(otp.MethodLife(k, "", ""))
		if m.methods[k].After(m.expires) {
			m.expires = m.methods[k]
		}
	}
}

// decide is what a second agent does, or the first one tries.
func (m *recoveryModel) decide(r *rapid.T, verb string, next otp.RecoveryState) {
	if m.id == "" {
		return
	}
	agent := rapid.SampledFrom([]string{"ann", "bob"}).Draw(r, "agent")
	want := ""
	switch {
	case !m.open():
		want = "unknown_recovery"
	case m.state != otp.RecoveryApproval:
		want = "conflict"
	case agent == m.agent:
		want = "not_allowed"
	case verb == event.SupportApprove && len(m.methods) == 1 && len(m.codes) == 0:
		want = "not_allowed"
	}
	_, problem := support[event.RecoveryReply](m.s, agent, verb, map[string]any{"app": "demo", "recovery": m.id})
	if problem != want {
		r.Fatalf("%s: %q, want %q", verb, problem, want)
	}
	if problem != "" {
		return
	}
	if m.state = next; next == otp.RecoveryProving {
		m.sent()
	} else {
		m.begun = m.begun[:len(m.begun)-1] // what was refused does not count
	}
}

func (m *recoveryModel) prove(r *rapid.T) {
	if m.id == "" {
		return
	}
	kind := rapid.SampledFrom([]otp.ProofKind{
		otp.ProofEmail, otp.ProofEmail, otp.ProofPhone, otp.ProofPhone, otp.ProofBackupCode, otp.ProofBackupCode, otp.ProofPassphrase,
	}).Draw(r, "kind")
	right := rapid.IntRange(0, 5).Draw(r, "right") > 0
	session, password := m.session, rapid.Bool().Draw(r, "password")
	if session == "" || rapid.IntRange(0, 5).Draw(r, "foreign") == 0 {
		session = rapid.SampledFrom([]string{"session of " + m.user, "another session"}).Draw(r, "session")
	}
	given := m.proofs
	takesOver := m.session != "" && session != m.session && password
	if takesOver {
		given = nil
	}
	until, chosen := m.methods[kind]
	want := m.refusal(kind, m.session != "" && session != m.session && !takesOver, given, chosen)
	code := "123456"
	switch {
	case kind == otp.ProofPassphrase:
		code, right = "no passphrase was ever set", false
	case kind == otp.ProofBackupCode:
		code = "0000-00000-0000"
		if right = right && len(m.codes) > 0; right {
			code = m.codes[0]
		}
	case want == "":
		if code = m.s.resetCode(m.id, string(kind)); !right {
			code = wrongCode(code)
		}
		right = right && m.now().Before(until)
	}
	body := proof(m.user, m.id, string(kind), code)
	if body["session"] = session; password {
		body["reauthenticated_at"] = m.s.now()
	}
	got, problem := request[event.RecoveryProveReply](m.s, event.VerbRecoveryProve, body)
	if problem != want {
		r.Fatalf("prove by %s: %q, want %q", kind, problem, want)
	}
	if problem != "" {
		return
	}
	m.attempts++
	if result := map[bool]string{true: "proven", false: "wrong"}[right]; got.Result != result {
		r.Fatalf("prove by %s: %s, want %s", kind, got.Result, result)
	}
	if right {
		m.session, m.proofs = session, append(slices.Clone(given), kind)
		if kind == otp.ProofBackupCode {
			m.codes = m.codes[1:]
		}
	} else {
		m.budget = m.budget.Fail(m.now())
	}
	switch {
	case otp.ProofsComplete(m.proofs):
		m.state, m.due = otp.RecoveryWaiting, m.now().Add(time.Hour)
	case m.attempts == 10:
		m.state = otp.RecoveryCancelled
	}
}

// refusal is why a proof is not even compared.
func (m *recoveryModel) refusal(kind otp.ProofKind, foreign bool, given []otp.ProofKind, chosen bool) string {
	switch {
	case !m.open(), m.state == otp.RecoveryWaiting, foreign:
		return "unknown_recovery"
	case m.state == otp.RecoveryApproval:
		return "approval_required"
	case slices.Contains(given, kind):
		return "conflict"
	case kind.IsCode() && !chosen:
		return "not_allowed"
	case m.budget.Wait(m.now()) > 0:
		return "rate_limited"
	}
	return ""
}

func (m *recoveryModel) cancel(r *rapid.T) {
	how := rapid.SampledFrom([]string{"not", "not", "not", "not", "wrong code", "session", "other session", "password", "code", "support"}).Draw(r, "how")
	if how == "not" {
		return
	}
	if how == "support" {
		if m.id == "" {
			return
		}
		want := map[bool]string{true: "", false: "unknown_recovery"}[m.open()]
		if _, problem := support[event.RecoveryReply](m.s, "bob", event.SupportCancel, map[string]any{"app": "demo", "recovery": m.id}); problem != want {
			r.Fatalf("support cancels: %q, want %q", problem, want)
		}
		if m.open() {
			m.state = otp.RecoveryCancelled
		}
		return
	}
	body, want := map[string]any{"user": m.user}, ""
	switch how {
	case "session":
		body["session"] = m.session
		if m.session == "" { // support's, which nobody has taken up
			body["session"], body["reauthenticated_at"] = "whichever session", m.s.now()
		}
	case "other session":
		body["session"] = "whichever session"
	case "password":
		body["session"], body["reauthenticated_at"] = "whichever session", m.s.now()
	default:
		body["code"] = "12345678"
		if m.id != "" {
			body["code"] = m.s.stopCode(m.id)
		}
	}
	switch {
	case !m.open():
		want = "unknown_recovery"
	case how == "other session":
		want = "reauthentication_required"
	case how == "wrong code": // it is compared whatever the account has left, so that nobody's wrong answers keep the right one out
		body["code"], want = wrongCode(body["code"].(string)), "wrong_code"
		if !m.budget.Locked && m.budget.Wait(m.now()) == 0 {
			m.budget = m.budget.Fail(m.now())
		}
	}
	if _, problem := request[event.RecoveryCancelReply](m.s, event.VerbRecoveryCancel, body); problem != want {
		r.Fatalf("cancel by %s: %q, want %q", how, problem, want)
	}
	if want == "" {
		m.state = otp.RecoveryCancelled
	}
}

// wait lets time pass and what is due be done.
func (m *recoveryModel) wait(r *rapid.T) {
	m.s.clock.Advance(rapid.SampledFrom([]time.Duration{time.Minute, time.Minute, 11 * time.Minute, time.Hour, time.Hour, 25 * time.Hour}).Draw(r, "time"))
	otposttest.Eventually(m.s.t, "nothing is due", func() bool {
		return otposttest.Get[int](m.s.t, m.s.db, `SELECT count(*) FROM recoveries WHERE ended_at IS NULL AND least(effective_at, CASE WHEN state <> 'waiting' THEN expires_at END) <= $1`,
			m.now()) == 0
	})
	switch {
	case !m.open():
	case m.state == otp.RecoveryWaiting:
		if !m.now().Before(m.due) {
			m.state, m.enrolled, m.codes = otp.RecoveryCompleted, false, nil
		}
	case !m.now().Before(m.expires):
		m.state = otp.RecoveryExpired
	}
}

func (m *recoveryModel) enrol(*rapid.T) {
	if !m.enrolled && m.budget.Wait(m.now()) == 0 {
		m.codes, m.enrolled = m.s.enrol(m.user).codes, true
	}
}

// check holds what is stored and what is told against the model.
func (m *recoveryModel) check(r *rapid.T) {
	factors := m.s.factors(m.user)
	if got := len(factors.Factors) == 1; got != m.enrolled || factors.Activated != m.enrolled || factors.BackupCodesLeft != len(m.codes) {
		r.Fatalf("factors are %+v, want any: %t, backup codes: %d", factors, m.enrolled, len(m.codes))
	}
	if n := otposttest.Get[int](m.s.t, m.s.db, `SELECT failures FROM accounts WHERE user_id = $1`, m.user); n != m.budget.Failures {
		r.Fatalf("the account has %d failures, want %d", n, m.budget.Failures)
	}
	if m.id == "" {
		return
	}
	told, proofs := m.s.standing(m.user), []string(nil)
	for _, p := range m.proofs {
		proofs = append(proofs, string(p))
	}
	if told.Recovery != m.id || told.State != string(m.state) || !slices.Equal(told.Proven, proofs) {
		r.Fatalf("it stands at %+v, want %s with %v", told, m.state, proofs)
	}
	rows, err := m.s.db.SQL(otposttest.Owner).QueryContext(m.s.t.Context(), `SELECT id, state, array_to_string(proofs, ','), attempts, r::text FROM recoveries r WHERE user_id = $1`, m.user)
	if err != nil {
		r.Fatal(err)
	}
	defer rows.Close()
	underWay := 0
	for rows.Next() {
		var id, state, given, row string
		var attempts int
		if err := rows.Scan(&id, &state, &given, &attempts, &row); err != nil {
			r.Fatal(err)
		}
		if id == m.id && attempts != m.attempts {
			r.Fatalf("%d attempts are stored, want %d", attempts, m.attempts)
		}
		if !otp.RecoveryState(state).Ended() {
			underWay++
			continue
		}
		if ended, before := m.over[id]; before && ended != row {
			r.Fatalf("a recovery changed after its end:\n%s\n%s", ended, row)
		}
		m.over[id] = row
	}
	if err := rows.Err(); err != nil || underWay > 1 || (underWay == 1) != m.open() {
		r.Fatalf("%d recoveries are under way, want any: %t (%v)", underWay, m.open(), err)
	}
}
