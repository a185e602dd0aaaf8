package postgres_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

func limitKey(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte("limit "+name)) }

// sent admits logins that count in the limits, each of a user of its own, and tells how many were issued and what was raised.
func (b *bench) sent(ids []string, limits ...postgres.Limit) (issued int, raised []postgres.Raised) {
	b.Helper()
	batch := make([]postgres.Admission, len(ids))
	for i, id := range ids {
		batch[i] = b.login("user "+id, id)
		batch[i].Limits = func(postgres.UserState) []postgres.Limit { return limits }
	}
	decide := func(_ int, u postgres.UserState) postgres.Decision {
		if v := u.Ledger.Judge(limits); v.Refused() {
			if v.Limit.Warn > 0 {
				u.Ledger.Reached(v.Limit)
			}
			return postgres.Decision{Outcome: "refused", Reason: "rate_limited", RetryAfter: v.Wait}
		}
		return postgres.Decision{Outcome: "issued", Challenge: b.fresh(), Charge: limits}
	}
	out, _, err := b.challenges.Admit(b.Context(), b.clock.Now(), batch, decide, noEvents)
	if err != nil {
		b.Fatal(err)
	}
	for _, a := range out {
		if a.Outcome == "issued" && !a.Repeat {
			issued++
		}
		raised = append(raised, a.Raised...)
	}
	return issued, raised
}

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

// A limit counts what was sent, in one batch and over several, and begins anew with its window.
func TestLimitsCountWhatIsSent(t *testing.T) {
	b := newBench(t)
	b.clock.Advance(b.clock.Now().Truncate(24 * time.Hour).Add(24 * time.Hour).Sub(b.clock.Now())) // midnight
	for _, tt := range []struct {
		name  string
		bound otp.Bound
		next  time.Duration // until its window is over
	}{
		{"minute", otp.Bound{Minute: 3}, time.Minute}, {"hour", otp.Bound{Hour: 3}, time.Hour}, {"day", otp.Bound{Day: 3}, 24 * time.Hour},
	} {
		limit := postgres.Limit{Key: limitKey(tt.name), Bound: tt.bound, N: 1}
		begun := b.clock.Now().Truncate(tt.next)
		if n, _ := b.sent(names(tt.name+"-a", 2), limit); n != 2 {
			t.Errorf("%s: the first two: %d were sent", tt.name, n)
		}
		if n, _ := b.sent(names(tt.name+"-b", 2), limit); n != 1 {
			t.Errorf("%s: of the next two, one is left: %d were sent", tt.name, n)
		}
		if n, _ := b.sent(names(tt.name+"-c", 5), limit); n != 0 {
			t.Errorf("%s: it is full: %d were sent", tt.name, n)
		}
		b.clock.Advance(begun.Add(tt.next).Sub(b.clock.Now()))
		if n, _ := b.sent(names(tt.name+"-d", 4), limit); n != 3 {
			t.Errorf("%s: a new window: %d were sent", tt.name, n)
		}
	}
	if n, _ := b.sent([]string{"nothing-1", "nothing-2"}, postgres.Limit{Key: limitKey("nothing"), Bound: otp.Bound{Day: -1}, N: 1}); n != 0 {
		t.Errorf("a bound of nothing lets %d pass", n)
	}
	if n, _ := b.sent([]string{"x", "x"}, postgres.Limit{Key: limitKey("repeat"), Bound: otp.Bound{Day: 5}, N: 1}); n != 1 {
		t.Errorf("of one login twice, %d are new", n)
	}
	if got := otposttest.Get[int](t, b.db, "SELECT day_n FROM limits WHERE key = '"+limitKey("repeat").String()+"'"); got != 1 {
		t.Errorf("one login twice counts %d", got)
	}
}

// A limit that has no bound is neither read nor written.
func TestWithoutABoundNothingIsWritten(t *testing.T) {
	b := newBench(t)
	if n, _ := b.sent(names("a", 3), postgres.Limit{Key: limitKey("none"), N: 1}); n != 3 {
		t.Errorf("%d were sent", n)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM limits"); n != 0 {
		t.Errorf("there are %d counters", n)
	}
}

// A cooldown holds between two messages, whoever they are for.
func TestCooldown(t *testing.T) {
	b := newBench(t)
	limit := postgres.Limit{Key: limitKey("cool"), Bound: otp.Bound{Cooldown: time.Minute}, N: 1}
	if n, _ := b.sent([]string{"a", "b"}, limit); n != 1 {
		t.Errorf("of two at once %d were sent", n)
	}
	b.clock.Advance(59 * time.Second)
	if n, _ := b.sent([]string{"c"}, limit); n != 0 {
		t.Error("it was sent too soon")
	}
	b.clock.Advance(time.Second)
	if n, _ := b.sent([]string{"d"}, limit); n != 1 {
		t.Error("it was not sent afterwards")
	}
}

// A cap on spending warns once and alarms once a day.
func TestSpendingRaisesAlarmsOnceADay(t *testing.T) {
	b := newBench(t)
	limit := postgres.Limit{Key: limitKey("spend"), Bound: otp.Bound{Day: 1000}, N: 90, Warn: 800, AppID: b.app.ID, Of: "US"}
	for day := range 2 {
		var warned, reached int
		sent := 0
		for i := range 4 {
			n, raised := b.sent(names(fmt.Sprintf("%d-%d-", day, i), 4), limit)
			sent += n
			for _, r := range raised {
				if r.Reached {
					reached++
				} else {
					warned++
				}
				if r.Limit.Of != "US" || r.AppID != b.app.ID || r.Spent < 800 || r.Spent > 1000 {
					t.Errorf("raised %+v", r)
				}
			}
		}
		if sent != 11 || warned != 1 || reached != 1 {
			t.Errorf("%d were sent, %d warnings, %d alarms", sent, warned, reached)
		}
		b.clock.Advance(24 * time.Hour)
	}
}

// However many workers admit at once, no more is sent than the limit has.
func TestLimitsAtOnce(t *testing.T) {
	b := newBench(t)
	const workers, most = 4, 20
	shared := postgres.Limit{Key: limitKey("shared"), Bound: otp.Bound{Day: most}, N: 1}
	var sent atomic.Int64
	atOnce(workers, func(w int) {
		for round := range 5 {
			own := postgres.Limit{Key: limitKey(fmt.Sprint("own ", w)), Bound: otp.Bound{Day: 1000}, N: 1}
			n, _ := b.sent(names(fmt.Sprintf("%d-%d-", w, round), 5), own, shared)
			sent.Add(int64(n))
		}
	})
	if got := otposttest.Get[int64](t, b.db, "SELECT day_n FROM limits WHERE key = '"+shared.Key.String()+"'"); sent.Load() != most || got != most {
		t.Errorf("%d were sent and %d counted, of %d", sent.Load(), got, most)
	}
}

// Counters are forgotten after their day, and not before.
func TestForgetLimits(t *testing.T) {
	b := newBench(t)
	b.sent([]string{"a"}, postgres.Limit{Key: limitKey("old"), Bound: otp.Bound{Day: 5}, N: 1})
	b.clock.Advance(48 * time.Hour)
	b.sent([]string{"b"}, postgres.Limit{Key: limitKey("young"), Bound: otp.Bound{Day: 5}, N: 1})
	n, err := b.challenges.ForgetLimits(t.Context(), b.clock.Now().Add(-24*time.Hour), 100)
	if err != nil || n != 1 {
		t.Errorf("%d forgotten, %v", n, err)
	}
	if got := otposttest.Get[string](t, b.db, "SELECT key::text FROM limits"); got != limitKey("young").String() {
		t.Errorf("%s is left", got)
	}
}

// A challenge to a test destination is delivered from the start, and to nobody.
func TestChallengeToATestDestination(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a", func(c *postgres.NewChallenge) {
		c.Test, c.TestCode, c.Provider, c.Cost = true, make([]byte, 48), "twilio", 100
	})
	c := b.status(id)
	if !c.Test || len(c.Deliveries) != 1 || c.Deliveries[0].State != otp.DeliveryDelivered || c.Deliveries[0].Provider != postgres.TestProvider ||
		c.Deliveries[0].Cost != 0 || c.Deliveries[0].DeliveredAt.IsZero() {
		t.Errorf("it is %+v", c)
	}
	if b.detail(id).Test != true || b.status(b.issued("u", "b")).Test {
		t.Error("which one is a test is not told")
	}
}

func TestDestinations(t *testing.T) {
	b := newBench(t)
	operator, reader := postgres.NewDestinations(b.db.Role("operator")), postgres.NewDestinations(b.db.Role("challenge"))
	d := postgres.Destination{
		AppID: b.app.ID, Digest: uuid.New(), Kind: postgres.DestinationTest, Address: "phone", Mask: "+1•••••0006", CodeDigest: make([]byte, 32), Note: "ci",
		CreatedAt: b.clock.Now(),
	}
	if err := operator.Add(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	d.Kind, d.CodeDigest = postgres.DestinationSafe, nil
	if err := operator.Add(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	list, err := reader.List(t.Context())
	if err != nil || len(list) != 1 || list[0].App != "demo" || list[0].Kind != postgres.DestinationSafe || list[0].CodeDigest != nil {
		t.Errorf("the list is %+v, %v", list, err)
	}
	if err := reader.Add(t.Context(), d); err == nil {
		t.Error("a worker lists destinations")
	}
	if err := operator.Remove(t.Context(), b.app.ID, []uuid.UUID{uuid.New(), d.Digest}); err != nil {
		t.Error(err)
	}
	wantError(t, operator.Remove(t.Context(), b.app.ID, []uuid.UUID{d.Digest}), postgres.ErrNoDestination.Error())
}
