package postgres_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// A counter is a panel for one answer: it judges by right and counts what it is asked.
type counter struct {
	now                                 time.Time
	right                               bool
	advance                             *postgres.Advance
	taking                              postgres.Taking
	change                              func(*postgres.Judgement) // of a right answer
	request                             uuid.UUID
	unwilling, idle                     bool
	wanted, compared, refused, replayed *atomic.Int64
	mu                                  sync.Mutex
	last                                postgres.Case
	found                               bool
	cases                               []postgres.Case // that were judged
	gone                                []postgres.RevokedDevice
	cancelled                           []postgres.OpenChallenge
}

func newCounter(now time.Time, right bool) *counter {
	return &counter{
		now: now, right: right, wanted: new(atomic.Int64), compared: new(atomic.Int64), refused: new(atomic.Int64), replayed: new(atomic.Int64),
	}
}

var _ postgres.Panel = (*counter)(nil)

func (p *counter) Wants(_ int, c postgres.Case) (postgres.Taking, bool) {
	p.wanted.Add(1)
	if c.Claimed {
		panic("asked whether it wants what it has")
	}
	return p.taking, !p.unwilling
}

func (p *counter) Judge(_ int, c postgres.Case) (postgres.Judgement, bool) {
	p.compared.Add(1)
	p.keep(c, true)
	if p.idle {
		return postgres.Judgement{}, false
	}
	if !c.Claimed {
		panic("compared without an attempt")
	}
	if p.right {
		j := postgres.Judgement{State: otp.Verified, Result: "verified", Factor: "sms", Request: p.request, Budget: c.Budget.Succeed(), Advance: p.advance}
		if p.change != nil {
			p.change(&j)
		}
		return j, true
	}
	return p.wrong(c), true
}

func (p *counter) wrong(c postgres.Case) postgres.Judgement {
	j := postgres.Judgement{State: otp.Open, Result: "wrong", Request: p.request, Budget: c.Budget.Fail(p.now)}
	if c.Left == 0 {
		j.State = otp.Exhausted
	}
	return j
}

func (p *counter) Refuse(_ int, c postgres.Case, found bool) { p.refused.Add(1); p.keep(c, found) }

func (p *counter) Replayed(_ int, c postgres.Case) postgres.Judgement {
	p.replayed.Add(1)
	return p.wrong(c)
}

func (p *counter) Tell(_ int, c postgres.Case, j postgres.Judgement, gone postgres.Gone) (postgres.Told, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone, p.cancelled = append(p.gone, gone.Devices...), append(p.cancelled, gone.Challenges...)
	return postgres.Told{Events: []postgres.OutboxEvent{event(fmt.Sprint(j.Result, c.Challenge.Attempts+1), c.Challenge.ID)}}, nil
}

func (p *counter) keep(c postgres.Case, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last, p.found = c, found; c.Claimed {
		p.cases = append(p.cases, c)
	}
}

func (b *bench) judge(p postgres.Panel, user string, id uuid.UUID) {
	b.Helper()
	if _, err := b.verifications.Judge(b.Context(), b.clock.Now(), []uuid.UUID{id}, []postgres.Account{{AppID: b.app.ID, User: user}}, p); err != nil {
		b.Error(err)
	}
}

func TestAHundredAnswersAtOnceCompareAsOftenAsThereAreAttempts(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	p := newCounter(b.clock.Now(), false)
	atOnce(100, func(int) { b.judge(p, "u", id) })
	if p.compared.Load() != 5 || p.refused.Load() != 95 {
		t.Errorf("compared %d times and refused %d, want 5 and 95", p.compared.Load(), p.refused.Load())
	}
	c := b.status(id)
	if c.State != otp.Exhausted || c.Attempts != 5 || c.EndedAt.IsZero() {
		t.Errorf("the challenge is %+v", c)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT failures FROM accounts WHERE user_id = 'u'"); n != 5 {
		t.Errorf("the account has %d failures, want 5", n)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); n != 5 {
		t.Errorf("%d events, want one for each comparison", n)
	}
}

func TestARightAnswerCountsOnce(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a", func(c *postgres.NewChallenge) { c.Attempts = 10 })
	b.db.Exec(t, "UPDATE accounts SET failures = 7")
	p := newCounter(b.clock.Now(), true)
	p.request = uuid.New()
	atOnce(50, func(int) { b.judge(p, "u", id) })
	if p.compared.Load() != 1 || p.refused.Load() != 49 {
		t.Errorf("compared %d times and refused %d", p.compared.Load(), p.refused.Load())
	}
	b.wantState(id, otp.Verified)
	found, err := b.verifications.Find(t.Context(), []uuid.UUID{id, uuid.New()})
	if err != nil || len(found) != 1 || found[id].LastRequest != p.request || found[id].LastResult != "verified" || found[id].LastFactor != "sms" {
		t.Errorf("the row holds %+v, %v", found, err)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT failures FROM accounts"); n != 0 {
		t.Errorf("%d failures after a right answer", n)
	}
}

func TestWhatTakesNoAttempt(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	unwilling := newCounter(now, true)
	unwilling.unwilling = true
	id := b.issued("u", "a")
	b.judge(unwilling, "u", id)
	if unwilling.compared.Load() != 0 || unwilling.refused.Load() != 1 || b.status(id).Attempts != 0 {
		t.Error("an answer that the panel does not want was compared or took an attempt")
	}
	unknown := newCounter(now, true)
	b.judge(unknown, "u", uuid.New())
	if unknown.wanted.Load() != 0 || unknown.compared.Load() != 0 || unknown.found {
		t.Error("an unknown challenge was asked about")
	}
	idle := newCounter(now, true)
	idle.idle = true
	b.judge(idle, "u", id)
	if c := b.status(id); c.State != otp.Open || c.Attempts != 1 {
		t.Errorf("left as it is, the challenge is %s with %d attempts", c.State, c.Attempts)
	}
	for state, change := range map[string]func(){
		"cancelled": func() { b.db.Exec(t, "UPDATE challenges SET state = 'cancelled', ended_at = now()") },
		"at expiry": func() { b.clock.Advance(5 * time.Minute) },
	} {
		id = b.issued("u", state)
		change()
		p := newCounter(now, true)
		b.judge(p, "u", id)
		if p.compared.Load() != 0 || p.refused.Load() != 1 {
			t.Errorf("%s: compared", state)
		}
	}
}

func TestATOTPStepIsAcceptedOnce(t *testing.T) {
	b := newBench(t)
	factor := postgres.NewFactor{
		ID: uuid.New(), Account: postgres.Account{AppID: b.app.ID, User: "u"}, Kind: otp.FactorTOTP, Sealed: []byte("secret"),
		TOTP: otp.TOTP{Algorithm: "SHA512", Digits: 8, Period: 60},
	}
	if err := postgres.NewFactors(b.db.Role("operator")).Add(t.Context(), b.clock.Now(), factor); err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for i := range 10 { // a challenge for each, so that it is the step and not the challenge that is used up
		ids = append(ids, b.issued("u", fmt.Sprint(i)))
	}
	p := newCounter(b.clock.Now(), true)
	p.advance = &postgres.Advance{Factor: factor.ID, Step: 41}
	atOnce(len(ids), func(i int) { b.judge(p, "u", ids[i]) })
	if p.compared.Load() != 10 || p.replayed.Load() != 9 {
		t.Errorf("compared %d, replayed %d", p.compared.Load(), p.replayed.Load())
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges WHERE state = 'verified'"); n != 1 {
		t.Errorf("%d challenges were verified by one step", n)
	}
	if f := p.last.Factors; len(f) != 1 || f[0].ID != factor.ID || f[0].Algorithm != "SHA512" || f[0].Digits != 8 || f[0].Period != 60 ||
		string(f[0].Sealed) != "secret" {
		t.Errorf("the panel was shown %+v", f)
	}
	if n := otposttest.Get[int64](t, b.db, "SELECT last_step FROM factors"); n != 41 {
		t.Errorf("last step %d", n)
	}
	p = newCounter(b.clock.Now(), true)
	p.advance = &postgres.Advance{Factor: factor.ID, Step: 40}
	b.judge(p, "u", b.issued("u", "older"))
	if p.replayed.Load() != 1 {
		t.Error("an older step was accepted")
	}
}

func TestAFailureLeavesNothingJudged(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	p := &brokenPanel{newCounter(b.clock.Now(), true)}
	_, err := b.verifications.Judge(t.Context(), b.clock.Now(), []uuid.UUID{id}, []postgres.Account{{AppID: b.app.ID, User: "u"}}, p)
	if !postgres.Refused(err) {
		t.Errorf("error %v", err)
	}
	if c := b.status(id); c.State != otp.Open || c.Attempts != 0 {
		t.Errorf("the challenge is %s with %d attempts", c.State, c.Attempts)
	}
}

func TestWhatEndsWithAnAnswerIsNotSentAnyMore(t *testing.T) {
	b := newBench(t)
	for first, want := range map[otp.DeliveryState]otp.DeliveryState{"queued": "expired", "sending": "sending", "accepted": "accepted", "failed": "failed"} {
		for _, right := range []bool{true, false} {
			name := fmt.Sprint(first, right)
			id := b.issued(name, name)
			b.delivery(id, 1, first)
			b.judge(newCounter(b.clock.Now(), right), name, id)
			held := want
			if !right { // and the challenge goes on
				held = first
			}
			if d := b.status(id).Deliveries[0]; d.State != held || (d.Reason != "") != (right && first == "queued") {
				t.Errorf("%s, after an answer that is right: %t, it is %s (%q), want %s", first, right, d.State, d.Reason, held)
			}
		}
	}
}

// A cancel that is under way when an answer comes: the panel is shown the challenge as the cancel leaves it, and not as it was before.
func TestAnAnswerIsDecidedOnWhatTheChallengeIs(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	cancel, err := b.db.SQL(otposttest.Owner).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cancel.Rollback() }()
	if _, err := cancel.ExecContext(t.Context(), "UPDATE challenges SET state = 'cancelled', ended_at = now() WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	p := newCounter(b.clock.Now(), true)
	judged := make(chan struct{})
	go func() {
		defer close(judged)
		b.judge(p, "u", id)
	}()
	otposttest.Eventually(t, "the answer to wait for the cancel", func() bool {
		return otposttest.Get[int](t, b.db, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'otpost_verification' AND wait_event_type = 'Lock'") == 1
	})
	if err := cancel.Commit(); err != nil {
		t.Fatal(err)
	}
	<-judged
	if p.compared.Load() != 0 || p.refused.Load() != 1 || !p.found || p.last.Challenge.State != otp.Cancelled {
		t.Errorf("compared %d times, refused %d, on a challenge shown as %s", p.compared.Load(), p.refused.Load(), p.last.Challenge.State)
	}
	b.wantState(id, otp.Cancelled)
}

// All that ends challenges, on the same ones at once: each end is one, and nobody decides on what another has just changed.
func TestJudgingBesideAllOtherEnds(t *testing.T) {
	b := newBench(t)
	const n = 100
	now, late := b.clock.Now(), b.clock.Now().Add(5*time.Minute)
	ids, owners, receipts := make([]uuid.UUID, n), make([]postgres.Account, n), make([]postgres.Receipt, n)
	for i := range n {
		user := fmt.Sprint("u", i)
		ids[i] = b.issued(user, user, smsOnly)
		owners[i] = postgres.Account{AppID: b.app.ID, User: user}
		receipts[i] = postgres.Receipt{Challenge: ids[i], Number: 1, State: otp.DeliveryFailed, Provider: "p"}
	}
	var cancelled atomic.Int64
	atOnce(10, func(g int) {
		for from := 0; from < n; from += 20 {
			at := (from + 20*g) % n // each begins elsewhere
			part := slices.Clone(ids[at : at+20])
			whose, told := slices.Clone(owners[at:at+20]), slices.Clone(receipts[at:at+20])
			if g%2 == 1 { // and goes the other way
				slices.Reverse(part)
				slices.Reverse(whose)
				slices.Reverse(told)
			}
			var err error
			switch g % 5 {
			case 0, 1:
				_, err = b.verifications.Judge(t.Context(), now, part, whose, newCounter(now, g < 5))
			case 2, 3:
				_, err = b.record(now, told)
			default:
				_, err = b.challenges.Expire(t.Context(), late, now.Add(-time.Hour), 3, func(e postgres.Ended) postgres.OutboxEvent { return event("expired", e.ID) })
				for _, id := range part[:5] {
					events, err := b.challenges.Cancel(t.Context(), now, b.app.ID, id, "session", func(string, string) postgres.OutboxEvent { return event("cancelled", id) })
					if err != nil && reason(err) != otp.ChallengeEnded {
						t.Error(err)
					}
					cancelled.Add(int64(len(events)))
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	count := func(query string) int { return otposttest.Get[int](t, b.db, "SELECT count(*) FROM "+query) }
	if open := count("challenges WHERE state = 'open'"); open != 0 {
		t.Errorf("%d are still open", open)
	}
	for state, told := range map[string]string{"verified": "%/verified%", "cancelled": "%/cancelled", "expired": "%/expired"} {
		ended, events := count("challenges WHERE state = '"+state+"'"), count("outbox WHERE id LIKE '"+told+"'")
		if ended != events {
			t.Errorf("%d are %s and %d events tell so", ended, state, events)
		}
	}
	if got := count("challenges WHERE state = 'cancelled'"); int64(got) != cancelled.Load() {
		t.Errorf("%d are cancelled, %d cancels were granted", got, cancelled.Load())
	}
	if queued := count("deliveries WHERE state IN ('queued', 'sending')"); queued != 0 {
		t.Errorf("%d deliveries of ended challenges would still go out", queued)
	}
}

// A brokenPanel makes an event that the database refuses.
type brokenPanel struct{ *counter }

func (brokenPanel) Tell(int, postgres.Case, postgres.Judgement, postgres.Gone) (postgres.Told, error) {
	return postgres.Told{Events: []postgres.OutboxEvent{{ID: "nul\x00"}}}, nil
}
