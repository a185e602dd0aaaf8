package postgres_test

import (
	"fmt"
	"reflect"
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

func TestAdmitStoresWhatWasDecided(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	batch := []postgres.Admission{b.login("u", "issued"), b.login("v", "skipped"), b.login("w", "refused"), b.login("x", "totp")}
	decide := func(i int, u postgres.UserState) postgres.Decision {
		if u.Budget != (otp.Budget{}) || len(u.Factors) != 0 || len(u.Open) != 0 {
			t.Errorf("a new user has %+v", u)
		}
		switch i {
		case 1:
			return postgres.Decision{Outcome: "skipped", Reason: "no_factor"}
		case 2:
			return postgres.Decision{Outcome: "refused", Reason: "rate_limited", RetryAfter: 90 * time.Second}
		case 3:
			c := b.fresh()
			c.Factor, c.Transaction, c.ToEmail, c.MaskEmail, c.Methods = otp.FactorTOTP, &otp.Transaction{Amount: "39.99 EUR", Payee: `Sh,"op`}, nil, "", nil
			return postgres.Decision{Outcome: "issued", Challenge: c}
		}
		return postgres.Decision{Outcome: "issued", Challenge: b.fresh()}
	}
	out, events, err := b.challenges.Admit(t.Context(), now, batch, decide, telling(func(i int, a postgres.Admitted) []postgres.OutboxEvent {
		return []postgres.OutboxEvent{event(a.Outcome, a.ID)}
	}))
	if err != nil || len(out) != 4 || len(events) != 4 {
		t.Fatalf("admitted %d with %d events: %v", len(out), len(events), err)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); n != 4 {
		t.Errorf("the outbox holds %d events, want 4", n)
	}
	c, want := b.detail(out[0].ID), b.fresh()
	if c.User != "u" || c.Session != want.Session || string(c.Nonce) != string(want.Nonce) || c.KeyID != want.KeyID || c.Transaction != nil ||
		string(c.ToSMS) != string(want.ToSMS) || string(c.ToEmail) != string(want.ToEmail) || c.MaxAttempts != 5 || c.MaxSends != 3 || c.Sends != 1 ||
		c.State != otp.Open || !c.CreatedAt.Equal(now) || !c.ExpiresAt.Equal(want.ExpiresAt) || !c.NextSendAt.Equal(want.NextSendAt) || len(c.Methods) != 1 {
		t.Errorf("stored as %+v", c)
	}
	if d := b.status(out[0].ID).Deliveries; len(d) != 1 || d[0].Number != 1 || d[0].Channel != otp.SMS || d[0].Mask != want.MaskSMS || d[0].State != otp.DeliveryQueued {
		t.Errorf("its deliveries are %+v", d)
	}
	c = b.detail(out[3].ID)
	if c.Sends != 0 || c.ToEmail != nil || c.Transaction == nil || *c.Transaction != (otp.Transaction{Amount: "39.99 EUR", Payee: `Sh,"op`}) || len(c.Methods) != 0 {
		t.Errorf("the TOTP challenge is stored as %+v", c)
	}
	if d := b.status(out[3].ID).Deliveries; len(d) != 0 {
		t.Errorf("a TOTP challenge has deliveries: %+v", d)
	}

	again, events, err := b.challenges.Admit(t.Context(), now, batch, func(int, postgres.UserState) postgres.Decision {
		t.Error("a login was decided twice")
		return postgres.Decision{}
	}, noEvents)
	if err != nil || len(events) != 0 {
		t.Fatal(events, err)
	}
	for i, a := range again {
		if !out[i].At.Equal(now) || !a.At.Equal(now) {
			t.Errorf("decided at %s and %s, want %s", out[i].At, a.At, now)
		}
		if !a.Repeat || a.Conflict || a.Challenge != nil || a.ID != out[i].ID || a.Outcome != out[i].Outcome || a.Reason != out[i].Reason || a.RetryAfter != out[i].RetryAfter {
			t.Errorf("the repeat of %+v is %+v", out[i], a)
		}
	}
}

func TestAdmitTellsWhatAUserHas(t *testing.T) {
	b := newBench(t)
	other := b.db.App(t, "other")
	user := postgres.Account{AppID: b.app.ID, User: "u"}
	factors := postgres.NewFactors(b.db.Role("operator"))
	for i, f := range []postgres.NewFactor{
		{Account: user, Kind: otp.FactorTOTP, Sealed: []byte("secret"), TOTP: otp.TOTP{Algorithm: "SHA256", Digits: 8, Period: 60}},
		{Account: user, Kind: otp.FactorEmail, Sealed: []byte("mailbox"), Mask: "u•••@example.com"},
		{Account: postgres.Account{AppID: other.ID, User: "u"}, Kind: otp.FactorSMS, Sealed: []byte("not ours")},
		{Account: user, Kind: otp.FactorSMS, Sealed: []byte("suspended")},
		{Account: user, Kind: otp.FactorSMS, Sealed: []byte("confirmed")},
	} {
		f.ID = uuid.New()
		if err := factors.Add(t.Context(), b.clock.Now().Add(time.Duration(i)*time.Second), f); err != nil {
			t.Fatal(err)
		}
	}
	b.db.Exec(t, "UPDATE factors SET state = convert_from(sealed, 'UTF8') WHERE sealed IN ('suspended', 'confirmed')")
	b.db.Exec(t, `INSERT INTO users (app_id, user_id, activated_at, preferred, fallbacks, locale, created_at)
	              SELECT app_id, user_id, now(), id, '{email,sms}', 'cs', now() FROM factors WHERE sealed = 'mailbox'
	              ON CONFLICT (app_id, user_id) DO UPDATE SET activated_at = excluded.activated_at, preferred = excluded.preferred,
	              fallbacks = excluded.fallbacks, locale = excluded.locale`)
	b.db.Exec(t, "INSERT INTO backup_codes (app_id, user_id, digest, position, sealed, created_at) VALUES ($1, 'u', sha256('1'), 1, '', now())", b.app.ID)
	first := b.issued("u", "first")
	b.clock.Advance(time.Second)
	b.db.Exec(t, "UPDATE accounts SET failures = 7, wait_until = $1, locked_at = $1", b.clock.Now())
	expired := b.issued("u", "expired", func(c *postgres.NewChallenge) { c.ExpiresAt = b.clock.Now().Add(time.Second) })
	b.clock.Advance(2 * time.Second)

	batch := []postgres.Admission{b.login("u", "next"), b.login("u", "next but one")}
	_, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), batch, func(i int, u postgres.UserState) postgres.Decision {
		if u.Budget.Failures != 7 || !u.Budget.Locked || !u.Budget.WaitUntil.Equal(b.clock.Now().Add(-2*time.Second)) {
			t.Errorf("budget %+v", u.Budget)
		}
		if len(u.Factors) != 2 || u.Factors[0].Kind != otp.FactorTOTP || u.Factors[0].Sealed != nil || u.Factors[0].Digits != 8 ||
			u.Factors[1].Kind != otp.FactorEmail || string(u.Factors[1].Sealed) != "mailbox" {
			t.Errorf("factors %+v", u.Factors)
		}
		if !u.Suspended || !u.BackupCodes || u.Preferred != u.Factors[1].ID || u.Locale != "cs" || !slices.Equal(u.Fallbacks, []otp.FactorKind{otp.FactorEmail, otp.FactorSMS}) {
			t.Errorf("state %+v", u)
		}
		if len(u.Open) != i+1 || u.Open[0].ID != first {
			t.Errorf("open at login %d: %+v (%s has expired)", i, u.Open, expired)
		}
		return postgres.Decision{Outcome: "issued", Challenge: b.fresh()}
	}, noEvents)
	if err != nil {
		t.Fatal(err)
	}
	for _, spent := range []string{"UPDATE backup_codes SET used_at = now()", "UPDATE users SET activated_at = NULL"} {
		b.db.Exec(t, "UPDATE backup_codes SET used_at = NULL")
		b.db.Exec(t, spent)
		if _, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), []postgres.Admission{b.login("u", spent)}, func(i int, u postgres.UserState) postgres.Decision {
			if u.BackupCodes || len(u.Factors) != 2 {
				t.Errorf("%s: %+v", spent, u)
			}
			return b.issue(i, u)
		}, noEvents); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAdmitTakesTheSameLoginTwiceInABatchOnce(t *testing.T) {
	b := newBench(t)
	calls := 0
	batch := []postgres.Admission{b.login("u", "a"), b.login("v", "b"), b.login("u", "a"), b.login("impostor", "a")}
	out, events, err := b.challenges.Admit(t.Context(), b.clock.Now(), batch, func(i int, _ postgres.UserState) postgres.Decision {
		calls++
		return b.issue(i, postgres.UserState{})
	}, telling(func(_ int, a postgres.Admitted) []postgres.OutboxEvent {
		return []postgres.OutboxEvent{event("x", a.ID)}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if calls != 2 || len(events) != 2 || out[0].Repeat || out[1].Repeat || !out[2].Repeat || out[2].ID != out[0].ID || !out[2].At.Equal(b.clock.Now()) {
		t.Errorf("%d decisions, %d events: %+v", calls, len(events), out)
	}
	wantConflict(t, out[3])
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges"); n != 2 {
		t.Errorf("%d challenges, want 2", n)
	}
}

func TestANewChallengeSupersedesTheOldest(t *testing.T) {
	b := newBench(t)
	oldest := b.issued("u", "1")
	b.clock.Advance(time.Second)
	sent := b.issued("u", "2")
	b.delivery(sent, 1, otp.DeliveryAccepted)
	b.clock.Advance(time.Second)
	others := b.issued("v", "3")
	// two of one user in a batch: the second sees the first
	batch := []postgres.Admission{b.login("u", "4"), b.login("u", "5")}
	out, events, err := b.challenges.Admit(t.Context(), b.clock.Now(), batch, func(i int, u postgres.UserState) postgres.Decision {
		if len(u.Open) != 2 {
			t.Errorf("login %d sees %d open", i, len(u.Open))
		}
		d := b.issue(i, u)
		d.Supersede = 1 + i // the second ends all that is left
		return d
	}, telling(func(_ int, a postgres.Admitted) (events []postgres.OutboxEvent) {
		for _, s := range a.Superseded {
			events = append(events, event("ended", s.ID))
		}
		return events
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(out[0].Superseded) != 1 || out[0].Superseded[0].ID != oldest || len(out[1].Superseded) != 2 || out[1].Superseded[0].ID != sent || out[1].Superseded[1].ID != out[0].ID {
		t.Errorf("superseded %+v and %+v", out[0].Superseded, out[1].Superseded)
	}
	if len(events) != 3 {
		t.Errorf("%d events", len(events))
	}
	b.wantState(oldest, otp.Superseded)
	b.wantState(sent, otp.Superseded)
	b.wantState(out[0].ID, otp.Superseded)
	b.wantState(out[1].ID, otp.Open)
	b.wantState(others, otp.Open)
	for id, want := range map[uuid.UUID]otp.DeliveryState{oldest: "expired", sent: "accepted", out[0].ID: "expired", out[1].ID: "queued"} {
		if got := b.status(id).Deliveries[0].State; got != want {
			t.Errorf("a delivery is %s, want %s: only what is not handed over is withdrawn", got, want)
		}
	}
}

func TestTheSameLoginFiftyTimesAtOnceIsOneChallenge(t *testing.T) {
	b := newBench(t)
	a := b.login("u", "same")
	var decided, fresh atomic.Int64
	var mu sync.Mutex
	ids := map[uuid.UUID]bool{}
	atOnce(50, func(int) {
		out, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), []postgres.Admission{a}, func(i int, u postgres.UserState) postgres.Decision {
			decided.Add(1)
			return b.issue(i, u)
		}, noEvents)
		if err != nil {
			t.Error(err)
			return
		}
		if !out[0].Repeat && !out[0].Deferred {
			fresh.Add(1)
		}
		mu.Lock()
		ids[out[0].ID] = true
		mu.Unlock()
	})
	if decided.Load() != 1 || fresh.Load() != 1 || len(ids) != 1 {
		t.Errorf("decided %d times, fresh %d times, with %d ids", decided.Load(), fresh.Load(), len(ids))
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges"); n != 1 {
		t.Errorf("%d challenges", n)
	}
}

// wantConflict checks that a repeat for another user is told nothing of the login that it met.
func wantConflict(t *testing.T, a postgres.Admitted) {
	t.Helper()
	if want := (postgres.Admitted{Conflict: true}); !reflect.DeepEqual(a, want) {
		t.Errorf("another's repeat is told %+v", a)
	}
}

func TestARepeatForAnotherUserIsToldNothing(t *testing.T) {
	b := newBench(t)
	batch := []postgres.Admission{b.login("u", "issued"), b.login("u", "skipped"), b.login("u", "refused")}
	_, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), batch, func(i int, u postgres.UserState) postgres.Decision {
		switch i {
		case 1:
			return postgres.Decision{Outcome: "skipped", Reason: "no_factor"}
		case 2:
			return postgres.Decision{Outcome: "refused", Reason: "rate_limited", RetryAfter: time.Minute}
		}
		return b.issue(i, u)
	}, noEvents)
	if err != nil {
		t.Fatal(err)
	}
	decided := b.clock.Now()
	b.clock.Advance(time.Minute)
	again := append([]postgres.Admission{}, batch...)
	for _, a := range batch { // the same user in another session
		a.About = uuid.New()
		again = append(again, a)
	}
	again = append(again, b.login("v", "issued"))
	out, events, err := b.challenges.Admit(t.Context(), b.clock.Now(), again, func(i int, _ postgres.UserState) postgres.Decision {
		t.Errorf("login %d was decided again", i)
		return postgres.Decision{Outcome: "skipped"}
	}, telling(func(i int, _ postgres.Admitted) []postgres.OutboxEvent {
		t.Errorf("events of login %d were asked for", i)
		return nil
	}))
	if err != nil || len(events) != 0 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for i, a := range out[:3] {
		if !a.Repeat || a.Conflict || !a.At.Equal(decided) || a.Outcome != []string{"issued", "skipped", "refused"}[i] {
			t.Errorf("the repeat of login %d is %+v", i, a)
		}
	}
	for _, a := range out[3:] {
		wantConflict(t, a)
	}
}

// Another user under the same event id: the account's lock does not part these, the logins' key does.
func TestOneEventIDForManyUsersAtOnceIsOneChallenge(t *testing.T) {
	b := newBench(t)
	var fresh, deferred, conflicts atomic.Int64
	atOnce(20, func(i int) {
		batch := []postgres.Admission{b.login(fmt.Sprint("user ", i), "same"), b.login(fmt.Sprint("user ", i), fmt.Sprint("own ", i))}
		out, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), batch, b.issue, noEvents)
		switch {
		case err != nil:
			t.Error(err)
		case out[0].Deferred:
			deferred.Add(1)
		case out[0].Conflict:
			conflicts.Add(1)
		default:
			fresh.Add(1)
		}
		if err == nil && (out[1].Deferred || out[1].Repeat) {
			t.Errorf("a login of its own id is %+v", out[1])
		}
	})
	if fresh.Load() != 1 || fresh.Load()+deferred.Load()+conflicts.Load() != 20 {
		t.Errorf("%d fresh, %d deferred, %d conflicts", fresh.Load(), deferred.Load(), conflicts.Load())
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges"); n != 21 {
		t.Errorf("%d challenges, want 21", n)
	}
}

func TestFiftyLoginsOfOneUserAtOnceLeaveThreeOpen(t *testing.T) {
	b := newBench(t)
	const most = 3
	var mu sync.Mutex
	ended := map[uuid.UUID]int{}
	atOnce(50, func(i int) {
		batch := []postgres.Admission{b.login("u", fmt.Sprint(i)), b.login(fmt.Sprint("filler ", i%7), fmt.Sprint("f", i))}
		out, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), batch, func(i int, u postgres.UserState) postgres.Decision {
			d := b.issue(i, u)
			d.Supersede = max(0, len(u.Open)+1-most)
			return d
		}, noEvents)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range out[0].Superseded {
			ended[s.ID]++
		}
	})
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges WHERE state = 'open' AND user_id = 'u'"); n != most {
		t.Errorf("%d open, want %d", n, most)
	}
	if len(ended) != 50-most {
		t.Errorf("%d were told as superseded, want %d", len(ended), 50-most)
	}
	for id, n := range ended {
		if n != 1 {
			t.Errorf("%s was told as superseded %d times", id, n)
		}
	}
}

func TestABadRowRefusesItsBatchWhole(t *testing.T) {
	b := newBench(t)
	batch := []postgres.Admission{b.login("u", "good"), b.login("v", "bad")}
	_, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), batch, func(i int, u postgres.UserState) postgres.Decision {
		d := b.issue(i, u)
		if i == 1 {
			d.Challenge.Nonce = []byte("short")
		}
		return d
	}, noEvents)
	if !postgres.Refused(err) || postgres.Constraint(err) != "challenges_nonce_length" || postgres.Unreachable(err) {
		t.Errorf("error %v", err)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT (SELECT count(*) FROM logins) + (SELECT count(*) FROM challenges) + (SELECT count(*) FROM accounts)"); n != 0 {
		t.Errorf("%d rows of the refused batch are there", n)
	}
	_, _, err = b.challenges.Admit(t.Context(), b.clock.Now(), []postgres.Admission{b.login("nul\x00", "c")}, b.issue, noEvents)
	if !postgres.Refused(err) {
		t.Errorf("a NUL in a user's id: %v", err)
	}
	far := b.login("u", "far")
	far.Challenge = otp.ChallengeID(b.clock.Now().AddDate(1, 0, 0), [32]byte{})
	if _, _, err = b.challenges.Admit(t.Context(), b.clock.Now(), []postgres.Admission{far}, b.issue, noEvents); err == nil || postgres.Refused(err) {
		t.Errorf("an id without a partition: %v; its partition may yet come", err)
	}
}
