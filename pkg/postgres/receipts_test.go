package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// report is what the provider says of a delivery.
func report(k postgres.DeliveryKey, provider string, s otp.DeliveryState) postgres.Receipt {
	r := postgres.Receipt{Challenge: k.Challenge, Number: k.Number, State: s, Provider: provider, Report: true}
	if s == otp.DeliveryUndelivered || s == otp.DeliveryFailed {
		r.Class, r.Reason = "rejected", "filtered"
	}
	return r
}

func (b *bench) told(r postgres.Receipt) postgres.Recorded {
	b.Helper()
	out, err := b.record(b.clock.Now(), []postgres.Receipt{r})
	if err != nil {
		b.Fatal(err)
	}
	return out[0]
}

// What providers say, one after another, and what the database holds in the end.
func TestReportsOnlyEverKnowBetter(t *testing.T) {
	b := newBench(t)
	for i, c := range []struct {
		held otp.DeliveryState
		said []otp.DeliveryState
		want otp.DeliveryState
	}{
		{"accepted", []otp.DeliveryState{"delivered", "accepted", "undelivered", "failed"}, "delivered"},
		{"accepted", []otp.DeliveryState{"undelivered", "accepted", "failed"}, "undelivered"},
		{"accepted", []otp.DeliveryState{"undelivered", "delivered", "undelivered"}, "delivered"},
		{"accepted", []otp.DeliveryState{"failed", "delivered"}, "delivered"},
		{"sending", []otp.DeliveryState{"delivered", "accepted"}, "delivered"}, // sooner than the provider's own answer
		{"unconfirmed", []otp.DeliveryState{"accepted"}, "accepted"},
		{"unconfirmed", []otp.DeliveryState{"delivered", "undelivered"}, "delivered"},
		{"expired", []otp.DeliveryState{"undelivered", "delivered"}, "delivered"},
		{"failed", []otp.DeliveryState{"accepted", "undelivered"}, "failed"},
		{"failed", []otp.DeliveryState{"delivered"}, "delivered"},
	} {
		user := fmt.Sprint("u", i)
		k := postgres.DeliveryKey{Challenge: b.issued(user, user, over("primary")), Number: 1}
		b.delivery(k.Challenge, 1, c.held)
		for _, s := range c.said {
			b.told(report(k, "primary", s))
		}
		d := b.status(k.Challenge).Deliveries[0]
		if d.State != c.want || (d.State == otp.DeliveryDelivered) == d.DeliveredAt.IsZero() {
			t.Errorf("%s, told %v, is %+v; want %s", c.held, c.said, d, c.want)
		}
	}
}

// Reports of one delivery that come at once: whichever is first, it is delivered.
func TestReceiptsAtOnceKnowBetter(t *testing.T) {
	b := newBench(t)
	for i := range 10 {
		k := b.accepted(fmt.Sprint("u", i), 0)
		said := []otp.DeliveryState{"accepted", "undelivered", "delivered", "accepted", "failed"}
		atOnce(len(said), func(i int) {
			if _, err := b.record(b.clock.Now(), []postgres.Receipt{report(k, "primary", said[i])}); err != nil {
				t.Error(err)
			}
		})
		if d := b.status(k.Challenge).Deliveries[0]; d.State != otp.DeliveryDelivered {
			t.Fatalf("it is %s", d.State)
		}
	}
}

// What a provider says of a delivery that is not its own, not there, or given up is kept, once.
func TestStrayReceipts(t *testing.T) {
	b := newBench(t)
	k := b.accepted("u", time.Second)
	strays := func(why string) int {
		t.Helper()
		return otposttest.Get[int](t, b.db, "SELECT count(*) FROM stray_receipts WHERE why = $1", why)
	}
	for range 2 {
		if r := b.told(report(k, "other", "delivered")); r.Stray != "other_provider" || r.Changed || r.Delivery != otp.DeliveryAccepted {
			t.Errorf("of another provider: %+v", r)
		}
		if r := b.told(report(postgres.DeliveryKey{Challenge: k.Challenge, Number: 7}, "primary", "delivered")); r.Stray != "unknown" || r.Known {
			t.Errorf("of a delivery that is not there: %+v", r)
		}
		nameless := postgres.Receipt{State: "delivered", Provider: "primary", Reference: "SM99", Report: true}
		if r := b.told(nameless); r.Stray != "unknown" || r.Known {
			t.Errorf("of nothing: %+v", r)
		}
	}
	if strays("other_provider") != 1 || strays("unknown") != 2 {
		t.Errorf("%d of another provider and %d unknown were kept, want 1 and 2", strays("other_provider"), strays("unknown"))
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM stray_receipts WHERE challenge_id IS NULL AND attempt IS NULL AND reference = 'SM99'"); n != 1 {
		t.Errorf("%d that name nothing", n)
	}

	b.clock.Advance(time.Second)
	if len(b.overtake(k)) != 1 {
		t.Fatal("it is not overtaken")
	}
	if r := b.told(report(k, "primary", "accepted")); r.Stray != "" {
		t.Errorf("what was known before it was given up counts as %+v", r)
	}
	b.clock.Advance(time.Second)
	for i := range 2 {
		if r := b.told(report(k, "primary", "delivered")); r.Stray != "late" || r.Changed != (i == 0) || r.Delivery != otp.DeliveryDelivered || !r.Abandoned || r.Last {
			t.Errorf("late: %+v", r)
		}
	}
	if strays("late") != 1 {
		t.Errorf("%d late ones were kept", strays("late"))
	}
	if d := b.status(k.Challenge).Deliveries[0]; d.State != otp.DeliveryDelivered || !d.DeliveredAt.Equal(b.clock.Now()) {
		t.Errorf("the one given up is %+v", d)
	}

	// The report that brought the failover is not late when it comes again.
	k = b.accepted("v", 0)
	r := report(k, "primary", "undelivered")
	for range 2 {
		recorded, _, err := b.challenges.Record(t.Context(), b.clock.Now(), []postgres.Receipt{r}, never, backup)
		if err != nil || recorded[0].Stray != "" || recorded[0].Delivery != otp.DeliveryUndelivered {
			t.Errorf("%+v, %v", recorded, err)
		}
	}
	if err := b.challenges.ForgetDelivery(t.Context(), b.clock.Now(), b.clock.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if strays("late")+strays("unknown")+strays("other_provider") != 0 {
		t.Error("old ones are kept")
	}
}

// A delivery is waited for from when its provider took it, as long as it is the challenge's last; what is told again moves nothing.
func TestDue(t *testing.T) {
	b := newBench(t)
	taken := func(k postgres.DeliveryKey, report bool, d time.Duration) time.Time {
		t.Helper()
		r := postgres.Receipt{Challenge: k.Challenge, Number: k.Number, State: otp.DeliveryAccepted, Provider: "primary", Report: report}
		out, _, err := b.challenges.Record(t.Context(), b.clock.Now(), []postgres.Receipt{r}, b.in(d), noWay)
		if err != nil {
			t.Fatal(err)
		}
		return out[0].DueAt
	}
	due := func(k postgres.DeliveryKey) time.Time { return b.status(k.Challenge).Deliveries[k.Number-1].DueAt }

	k := postgres.DeliveryKey{Challenge: b.issued("u", "u", over("primary")), Number: 1}
	b.delivery(k.Challenge, 1, "accepted") // as the channel's worker leaves it
	want := b.clock.Now().Add(10 * time.Second)
	if at := taken(k, false, 10*time.Second); !at.Equal(want) || !due(k).Equal(want) {
		t.Errorf("due at %s and %s, want %s", at, due(k), want)
	}
	b.clock.Advance(time.Second)
	if at := taken(k, false, 10*time.Second); !at.Equal(want) || !due(k).Equal(want) {
		t.Errorf("told again, it is due at %s and %s, want %s", at, due(k), want)
	}
	if at := taken(k, true, 10*time.Second); !at.IsZero() || !due(k).Equal(want) {
		t.Errorf("the provider's report of the same sets a timer for %s", at)
	}
	b.told(report(k, "primary", "delivered"))
	if !due(k).IsZero() {
		t.Error("what was delivered is due")
	}

	sooner := postgres.DeliveryKey{Challenge: b.issued("v", "v", over("primary")), Number: 1}
	b.delivery(sooner.Challenge, 1, "sending")
	if at := taken(sooner, true, 5*time.Second); at.IsZero() || !due(sooner).Equal(at) {
		t.Errorf("a report sooner than the answer: due at %s and %s", at, due(sooner))
	}

	first := postgres.DeliveryKey{Challenge: b.issued("w", "w", over("primary")), Number: 1}
	b.db.Exec(t, "UPDATE challenges SET next_send_at = created_at WHERE id = $1", first.Challenge)
	if _, err := b.resend(b.detail(first.Challenge), otp.SMS, cooldown); err != nil {
		t.Fatal(err)
	}
	second := postgres.DeliveryKey{Challenge: first.Challenge, Number: 2}
	if at := taken(first, false, 5*time.Second); !at.IsZero() {
		t.Errorf("one that the user has asked again after is due at %s", at)
	}
	if at := taken(second, false, 5*time.Second); at.IsZero() || !due(first).IsZero() {
		t.Errorf("the last is due at %s", at)
	}
	ended := b.accepted("x", 0)
	b.end(ended.Challenge)
	if at := taken(ended, false, 5*time.Second); !at.IsZero() {
		t.Errorf("one of an ended challenge is due at %s", at)
	}
}

// What is told twice counts once, in the lane that it went over.
func TestDeliveriesAreCountedOnce(t *testing.T) {
	b := newBench(t)
	send := func(user string, state otp.DeliveryState) postgres.DeliveryKey {
		t.Helper()
		k := postgres.DeliveryKey{Challenge: b.issued(user, user, over("primary")), Number: 1}
		b.claim(k)
		for range 2 {
			o := postgres.DeliveryOutcome{DeliveryKey: k, State: state, Provider: "primary", App: "demo", Tries: 1}
			if err := b.sms.Finish(t.Context(), b.clock.Now(), []postgres.DeliveryOutcome{o}); err != nil {
				t.Fatal(err)
			}
		}
		return k
	}
	good, bad := send("good", "accepted"), send("bad", "accepted")
	send("refused", "failed")
	b.clock.Advance(1500 * time.Millisecond)
	for range 2 {
		b.told(report(good, "primary", "delivered"))
		b.told(report(good, "other", "undelivered"))
		b.told(report(bad, "primary", "undelivered"))
	}
	b.db.Exec(t, "UPDATE challenges SET state = 'verified', ended_at = now() WHERE id = $1", good.Challenge)
	b.db.Exec(t, "INSERT INTO conversions (challenge_id, at) VALUES ($1, now())", good.Challenge)
	for _, want := range []int{1, 0} {
		n, err := b.challenges.Convert(t.Context(), 10, func(int) string { return "demo" }, func(_ postgres.Tx, c []postgres.Conversion) error {
			if len(c) != 1 || c[0].By.Number != 1 || c[0].By.Provider != "primary" || c[0].User != "good" {
				t.Errorf("converted are %+v", c)
			}
			return nil
		})
		if n != want || err != nil {
			t.Errorf("%d conversions, %v; want %d", n, err, want)
		}
	}
	row := otposttest.Get[string](t, b.db, `SELECT string_agg(concat_ws(' ', app, channel, country, provider, sent, accepted, delivered, failed, late, verified,
		delivered_ms, cost), '; ') FROM (SELECT app, channel, country, provider, sum(sent) sent, sum(accepted) accepted, sum(delivered) delivered,
		sum(failed) failed, sum(late) late, sum(verified) verified, sum(delivered_ms) delivered_ms, sum(cost) cost FROM delivery_stats GROUP BY 1, 2, 3, 4) s`)
	if want := "demo sms US primary 3 2 1 2 0 1 1500 10"; row != want {
		t.Errorf("counted is %q, want %q", row, want)
	}
	// Codes of the last minutes are not judged yet.
	routes := postgres.NewRoutes(b.db.Role("challenge"))
	lane := postgres.Lane{Channel: otp.SMS, Country: "US", Provider: "primary"}
	if rates, err := routes.Rates(t.Context(), b.clock.Now()); err != nil || len(rates) != 0 {
		t.Errorf("at once: %+v, %v", rates, err)
	}
	if rates, err := routes.Rates(t.Context(), b.clock.Now().Add(10*time.Minute)); err != nil || rates[lane].Sent != 2 || rates[lane].Verified != 1 {
		t.Errorf("later: %+v, %v", rates, err)
	}
}

// By which delivery a code is taken to have come.
func TestConversionsGoToTheDeliveryThatBroughtTheCode(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		first, second otp.DeliveryState
		abandoned     bool
		want          string
	}{
		"the one that arrived":              {"delivered", "accepted", true, "primary"},
		"the one that was not given up":     {"accepted", "accepted", true, "p"},
		"the last of two":                   {"accepted", "accepted", false, "p"},
		"the one that was taken":            {"accepted", "failed", true, "primary"},
		"the one that may have been taken":  {"unconfirmed", "failed", true, "primary"},
		"none where nothing can have come":  {"failed", "failed", true, ""},
		"none where all is still under way": {"failed", "queued", true, ""},
	} {
		id := b.issued(name, name, over("primary"))
		b.db.Exec(t, "UPDATE challenges SET next_send_at = created_at WHERE id = $1", id)
		if _, err := b.resend(b.detail(id), otp.SMS, cooldown); err != nil {
			t.Fatal(err)
		}
		b.delivery(id, 1, c.first)
		b.delivery(id, 2, c.second)
		b.db.Exec(t, "UPDATE deliveries SET abandoned_at = CASE WHEN $2 THEN now() END WHERE challenge_id = $1 AND attempt = 1", id, c.abandoned)
		b.db.Exec(t, "INSERT INTO conversions (challenge_id, at) VALUES ($1, now())", id)
		got := ""
		_, err := b.challenges.Convert(t.Context(), 10, func(int) string { return "demo" }, func(_ postgres.Tx, all []postgres.Conversion) error {
			for _, c := range all {
				got = c.By.Provider
			}
			return nil
		})
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// A receipt that the database refuses for its content does not stand in the way of others, and one of an erased challenge is unknown.
func TestReceiptsOfWhatIsGone(t *testing.T) {
	b := newBench(t)
	k := b.accepted("u", time.Second)
	b.db.Exec(t, "DELETE FROM deliveries WHERE challenge_id = $1", k.Challenge)
	if r := b.told(postgres.Receipt{Challenge: k.Challenge, Number: 1, State: "failed", Provider: "primary"}); r.Known || r.Stray != "" {
		t.Errorf("a worker's: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.challenges.Record(ctx, b.clock.Now(), []postgres.Receipt{report(k, "primary", "delivered")}, never, noWay); err == nil {
		t.Error("recorded without a database")
	}
	if r := b.told(report(postgres.DeliveryKey{Challenge: uuid.New(), Number: 1}, "primary", "delivered")); r.Known || r.Stray != "unknown" {
		t.Errorf("a provider's: %+v", r)
	}
}
