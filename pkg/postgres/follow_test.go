package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// over sends the challenge's first message by a provider.
func over(provider string) func(*postgres.NewChallenge) {
	return func(c *postgres.NewChallenge) { c.Provider, c.Country, c.Cost = provider, "US", 5 }
}

// backup is what follows every failure: the same channel by another provider.
func backup(_ postgres.Tx, all []postgres.Failing) ([]postgres.NewDelivery, error) {
	out := make([]postgres.NewDelivery, len(all))
	for i, f := range all {
		out[i] = postgres.NewDelivery{Channel: f.Left.Channel, Provider: "backup", Country: f.Left.Country, Cost: 9, Cause: postgres.CauseFailover}
	}
	return out, nil
}

// in makes deliveries due so long after now.
func (b *bench) in(d time.Duration) func(postgres.Recorded) time.Time {
	at := b.clock.Now().Add(d)
	return func(postgres.Recorded) time.Time { return at }
}

func (b *bench) overtake(keys ...postgres.DeliveryKey) []postgres.Followed {
	b.Helper()
	out, err := b.challenges.Overtake(b.Context(), b.clock.Now(), time.Second, keys, func(int) string { return "demo" }, backup)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// accepted admits a challenge whose first delivery the primary has taken, and which is due after d; never for 0.
func (b *bench) accepted(user string, d time.Duration) postgres.DeliveryKey {
	b.Helper()
	k := postgres.DeliveryKey{Challenge: b.issued(user, user, over("primary")), Number: 1}
	due := never
	if d > 0 {
		due = b.in(d)
	}
	r := postgres.Receipt{Challenge: k.Challenge, Number: 1, State: otp.DeliveryAccepted, Provider: "primary", Reference: "SM1"}
	if _, _, err := b.challenges.Record(b.Context(), b.clock.Now(), []postgres.Receipt{r}, due, backup); err != nil {
		b.Fatal(err)
	}
	return k
}

func (b *bench) end(id uuid.UUID) {
	b.db.Exec(b.T, "UPDATE challenges SET state = 'cancelled', ended_at = now() WHERE id = $1", id)
}

// What a failure is followed by, and what not.
func TestFailuresAreFollowed(t *testing.T) {
	b := newBench(t)
	failed := func(state otp.DeliveryState, class string, report bool) postgres.Receipt {
		return postgres.Receipt{Number: 1, State: state, Class: class, Provider: "primary", Reason: "why", Report: report}
	}
	for name, c := range map[string]struct {
		receipt postgres.Receipt
		before  func(postgres.DeliveryKey)
		want    string
	}{
		"refused":                      {failed("failed", "transient", false), nil, postgres.WhyRefused},
		"refused for its address":      {failed("failed", "permanent", false), nil, postgres.WhyRefused}, // what then follows is the caller's to say
		"lost":                         {failed("unconfirmed", "ambiguous", false), nil, postgres.WhyLost},
		"sent twice without an answer": {failed("unconfirmed", "", false), nil, ""},
		"reported undelivered":         {failed("undelivered", "rejected", true), nil, postgres.WhyUndelivered},
		"reported failed":              {failed("failed", "rejected", true), nil, postgres.WhyUndelivered},
		"reported by somebody else":    {postgres.Receipt{Number: 1, State: "undelivered", Provider: "other", Report: true}, nil, ""},
		"accepted":                     {failed("accepted", "", false), nil, ""},
		"expired":                      {failed("expired", "", false), nil, ""},
		"delivered before":             {failed("undelivered", "rejected", true), func(k postgres.DeliveryKey) { b.delivery(k.Challenge, 1, "delivered") }, ""},
		"of an ended challenge":        {failed("failed", "transient", false), func(k postgres.DeliveryKey) { b.end(k.Challenge) }, ""},
		"not the last": {failed("failed", "transient", false), func(k postgres.DeliveryKey) {
			c := b.detail(k.Challenge)
			b.db.Exec(t, "UPDATE challenges SET next_send_at = created_at WHERE id = $1", k.Challenge)
			if _, err := b.resend(c, otp.SMS, cooldown); err != nil {
				t.Error(err)
			}
		}, ""},
		"expired meanwhile": {failed("failed", "transient", false), func(k postgres.DeliveryKey) {
			b.db.Exec(t, "UPDATE challenges SET created_at = created_at - interval '1 min', expires_at = $2 WHERE id = $1", k.Challenge, b.clock.Now())
		}, ""},
	} {
		k := postgres.DeliveryKey{Challenge: b.issued(name, name, over("primary")), Number: 1}
		if c.before != nil {
			c.before(k)
		}
		r := c.receipt
		r.Challenge = k.Challenge
		_, followed, err := b.challenges.Record(t.Context(), b.clock.Now(), []postgres.Receipt{r}, never, backup)
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" {
			if len(followed) != 0 {
				t.Errorf("%s: followed by %+v", name, followed)
			}
			continue
		}
		if len(followed) != 1 || followed[0].Why != c.want || followed[0].Repeat || followed[0].Left.Class != r.Class || followed[0].Next.Number != 2 ||
			followed[0].Next.Provider != "backup" {
			t.Errorf("%s: followed by %+v, want %s", name, followed, c.want)
			continue
		}
		got := b.status(k.Challenge)
		if len(got.Deliveries) != 2 || got.Sends != 1 || got.LastDelivery != 2 || got.State != otp.Open {
			t.Errorf("%s: the challenge is %+v", name, got)
			continue
		}
		first, second := got.Deliveries[0], got.Deliveries[1]
		if !first.AbandonedAt.Equal(b.clock.Now()) || first.State != r.State || second.State != otp.DeliveryQueued || second.Provider != "backup" ||
			second.Cause != postgres.CauseFailover || second.Cost != 9 || second.Country != "US" || second.Mask != first.Mask || !second.AbandonedAt.IsZero() {
			t.Errorf("%s: deliveries %+v", name, got.Deliveries)
		}
		// Until it is sent, the same receipt brings it again; then no more.
		for _, want := range []int{1, 0} {
			_, again, err := b.challenges.Record(t.Context(), b.clock.Now(), []postgres.Receipt{r}, never, backup)
			if err != nil || len(again) != want || want == 1 && (!again[0].Repeat || again[0].Next != followed[0].Next || again[0].Left.Number != 1) {
				t.Errorf("%s: the same again is followed by %+v, %v; before by %+v", name, again, err, followed)
			}
			b.delivery(k.Challenge, 2, "accepted")
		}
		if n := len(b.status(k.Challenge).Deliveries); n != 2 {
			t.Errorf("%s: %d deliveries", name, n)
		}
	}
}

// A fallback changes what the challenge asks for; what it asked for before is the best of what else the user could use.
func TestAFallbackChangesTheChannel(t *testing.T) {
	b := newBench(t)
	k := b.accepted("u", 0)
	r := postgres.Receipt{Challenge: k.Challenge, Number: 1, State: otp.DeliveryUndelivered, Provider: "primary", Class: "permanent", Report: true}
	for i, ch := range []otp.Channel{otp.Voice, otp.Email} {
		r.Number = i + 1
		_, followed, err := b.challenges.Record(t.Context(), b.clock.Now(), []postgres.Receipt{r}, never, func(_ postgres.Tx, all []postgres.Failing) ([]postgres.NewDelivery, error) {
			if len(all) != 1 || len(all[0].Challenge.Deliveries) != i+1 || all[0].Challenge.Nonce == nil || string(all[0].Challenge.ToEmail) == "" {
				t.Errorf("failing are %+v", all)
			}
			return []postgres.NewDelivery{{Channel: ch, Provider: "primary", Cause: postgres.CauseFallback}}, nil
		})
		if err != nil || len(followed) != 1 {
			t.Fatalf("%+v, %v", followed, err)
		}
	}
	got := b.status(k.Challenge)
	if got.Channel != otp.Email || got.Factor != otp.FactorEmail || !slices.Equal(got.Methods, []string{"sms"}) || len(got.Deliveries) != 3 ||
		got.Deliveries[1].Mask != "+1•••0100" || got.Deliveries[2].Mask != "u•••@example.com" {
		t.Errorf("the challenge is %+v", got)
	}
	r.Number = 3
	recorded, followed, err := b.challenges.Record(t.Context(), b.clock.Now(), []postgres.Receipt{r}, never, noWay)
	if err != nil || len(followed) != 0 || recorded[0].Challenge != otp.Undeliverable {
		t.Errorf("with no way left: %+v, %+v, %v", recorded, followed, err)
	}
}

// Its timer, the sweeper and a receipt find at once that a delivery has failed: one delivery takes its place.
func TestAFailureIsFollowedOnce(t *testing.T) {
	b := newBench(t)
	const n = 12
	var keys []postgres.DeliveryKey
	for i := range n {
		keys = append(keys, b.accepted(fmt.Sprint("u", i), time.Second))
	}
	b.clock.Advance(time.Second)
	for _, k := range keys {
		var fresh atomic.Int64
		atOnce(6, func(i int) {
			var followed []postgres.Followed
			var err error
			if i > 0 {
				followed, err = b.challenges.Overtake(t.Context(), b.clock.Now(), 0, []postgres.DeliveryKey{k}, func(int) string { return "demo" }, backup)
			} else {
				r := postgres.Receipt{Challenge: k.Challenge, Number: 1, State: otp.DeliveryUndelivered, Provider: "primary", Class: "rejected", Report: true}
				_, followed, err = b.challenges.Record(t.Context(), b.clock.Now(), []postgres.Receipt{r}, never, backup)
			}
			if err != nil {
				t.Error(err)
			}
			for _, f := range followed {
				if !f.Repeat {
					fresh.Add(1)
				}
			}
		})
		if got := b.status(k.Challenge); fresh.Load() != 1 || len(got.Deliveries) != 2 || got.LastDelivery != 2 {
			t.Fatalf("followed %d times: %+v", fresh.Load(), got.Deliveries)
		}
	}
}

// A delivery of which no receipt came in time is given up, once.
func TestOvertake(t *testing.T) {
	b := newBench(t)
	const patience = 10 * time.Second
	keys := map[string]postgres.DeliveryKey{}
	for _, name := range []string{"due", "delivered", "undelivered", "ended", "expired", "not the last"} {
		keys[name] = b.accepted(name, patience)
	}
	keys["never due"] = b.accepted("never due", 0)
	b.clock.Advance(time.Second)
	keys["later"] = b.accepted("later", patience)
	all := make([]postgres.DeliveryKey, 0, len(keys)+1)
	for _, k := range keys {
		all = append(all, k)
	}
	all = append(all, postgres.DeliveryKey{Challenge: uuid.New(), Number: 1})
	if got := b.overtake(all...); len(got) != 0 {
		t.Errorf("before their time: %+v", got)
	}
	b.delivery(keys["delivered"].Challenge, 1, "delivered")
	b.delivery(keys["undelivered"].Challenge, 1, "undelivered") // its receipt was followed by nothing
	b.end(keys["ended"].Challenge)
	b.db.Exec(t, "UPDATE challenges SET expires_at = $2 WHERE id = $1", keys["expired"].Challenge, b.clock.Now().Add(patience/2))
	b.db.Exec(t, "UPDATE challenges SET next_send_at = created_at WHERE id = $1", keys["not the last"].Challenge)
	if _, err := b.resend(b.detail(keys["not the last"].Challenge), otp.SMS, cooldown); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(patience - 2*time.Second) // one second early, as a timer may be
	want := keys["due"]
	got := b.overtake(all...)
	if len(got) != 1 || got[0].Next.Challenge != want.Challenge || got[0].Why != postgres.WhyLate || got[0].App != "demo" || got[0].Repeat || got[0].Left.State != otp.DeliveryAccepted {
		t.Fatalf("in time: %+v", got)
	}
	d := b.status(want.Challenge).Deliveries
	if len(d) != 2 || !d[0].AbandonedAt.Equal(b.clock.Now()) || !d[0].DueAt.IsZero() || !d[1].CreatedAt.Equal(b.clock.Now()) || d[1].Cause != postgres.CauseFailover {
		t.Errorf("its deliveries are %+v", d)
	}
	if again := b.overtake(all...); len(again) != 1 || !again[0].Repeat || again[0].Next != got[0].Next {
		t.Errorf("the timer again, before it is sent: %+v", again)
	}
	b.delivery(want.Challenge, 2, "sending")
	if again := b.overtake(all...); len(again) != 0 {
		t.Errorf("the timer again, when it is sent: %+v", again)
	}
	late := "SELECT late FROM delivery_stats WHERE provider = 'primary' AND country = 'US' AND app = 'demo' AND late > 0"
	if n := otposttest.Get[int](t, b.db, late); n != 1 {
		t.Errorf("%d counted as late", n)
	}
	// What was judged is due no more; what nobody has judged the sweeper finds.
	due := func() (ids []string) {
		t.Helper()
		found, err := b.challenges.Due(t.Context(), b.clock.Now(), b.clock.Now(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range found {
			ids = append(ids, k.Challenge.String())
		}
		slices.Sort(ids)
		return ids
	}
	b.clock.Advance(time.Second)
	if ids := due(); len(ids) != 0 {
		t.Errorf("due are %s", strings.Join(ids, " "))
	}
	b.clock.Advance(2 * time.Second)
	if ids := due(); !slices.Equal(ids, []string{keys["later"].Challenge.String()}) {
		t.Errorf("due are %s", strings.Join(ids, " "))
	}
}

// A receipt that is being recorded while the time runs out is waited for: what was delivered is not sent again.
func TestOvertakeWaitsForAReceipt(t *testing.T) {
	b := newBench(t)
	k := b.accepted("u", time.Second)
	b.clock.Advance(time.Second)
	tx, err := b.db.SQL(otposttest.Owner).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "UPDATE deliveries SET state = 'delivered', due_at = NULL WHERE challenge_id = $1", k.Challenge); err != nil {
		t.Fatal(err)
	}
	done := make(chan []postgres.Followed, 1)
	go func() { done <- b.overtake(k) }()
	otposttest.Eventually(t, "it waits", func() bool {
		return len(done) > 0 || otposttest.Get[int](t, b.db, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if followed := <-done; len(followed) != 0 {
		t.Errorf("what was delivered is followed by %+v", followed)
	}
}
