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

const lease = 20 * time.Second

func (b *bench) claim(k postgres.DeliveryKey) postgres.Claim {
	b.Helper()
	c, err := b.sms.Claim(b.Context(), b.clock.Now(), lease, []postgres.DeliveryKey{k})
	if err != nil {
		b.Fatal(err)
	}
	return c[0]
}

func TestOneOfManyClaimersIsGranted(t *testing.T) {
	b := newBench(t)
	k := postgres.DeliveryKey{Challenge: b.issued("u", "a"), Number: 1}
	var granted atomic.Int64
	atOnce(20, func(int) {
		claims, err := b.sms.Claim(t.Context(), b.clock.Now(), lease, []postgres.DeliveryKey{k, k})
		if err != nil {
			t.Error(err)
			return
		}
		for _, c := range claims {
			if c.Granted {
				granted.Add(1)
			} else if !c.Known || c.State != otp.DeliverySending || c.Lease != lease {
				t.Errorf("refused as %+v", c)
			}
		}
	})
	if granted.Load() != 1 {
		t.Errorf("%d were granted", granted.Load())
	}
	if c := b.claim(postgres.DeliveryKey{Challenge: uuid.New(), Number: 1}); c.Granted || c.Known {
		t.Errorf("what is not there is %+v", c)
	}
}

func TestALostClaimIsGrantedOnceMore(t *testing.T) {
	b := newBench(t)
	k := postgres.DeliveryKey{Challenge: b.issued("u", "a"), Number: 1}
	if c := b.claim(k); !c.Granted || c.Tries != 1 || c.Unsure != 0 {
		t.Fatalf("the first claim is %+v", c)
	}
	b.clock.Advance(lease - time.Second)
	if c := b.claim(k); c.Granted || c.Lease != time.Second {
		t.Errorf("within the lease it is %+v", c)
	}
	b.clock.Advance(time.Second)
	if c := b.claim(k); !c.Granted || c.Tries != 2 || c.Unsure != 1 {
		t.Errorf("after it, it is %+v", c)
	}
	b.clock.Advance(10 * lease)
	if c := b.claim(k); c.Granted || c.Unsure != 1 || c.Lease != 0 {
		t.Errorf("a third time it is %+v", c)
	}
}

func TestReleaseUnsureAndFinish(t *testing.T) {
	b := newBench(t)
	k := postgres.DeliveryKey{Challenge: b.issued("u", "a"), Number: 1}
	b.claim(k)
	if err := b.sms.Release(t.Context(), b.clock.Now(), k, 1); err != nil {
		t.Fatal(err)
	}
	if c := b.claim(k); !c.Granted || c.Tries != 2 || c.Unsure != 0 {
		t.Errorf("after a release it is %+v", c)
	}
	if err := b.sms.Unsure(t.Context(), b.clock.Now(), k, 2); err != nil {
		t.Fatal(err)
	}
	if c := b.claim(k); !c.Granted || c.Unsure != 1 {
		t.Errorf("unsure, it is %+v", c)
	}
	finish := func(s otp.DeliveryState, provider string) {
		t.Helper()
		if err := b.sms.Finish(t.Context(), b.clock.Now(), []postgres.DeliveryOutcome{{DeliveryKey: k, State: s, Provider: provider, Reference: "SM1", Reason: "why", Tries: 3}}); err != nil {
			t.Fatal(err)
		}
	}
	finish(otp.DeliveryAccepted, "one")
	finish(otp.DeliveryFailed, "two")
	c := b.claim(k)
	want := postgres.DeliveryOutcome{DeliveryKey: k, State: otp.DeliveryAccepted, Provider: "one", Reference: "SM1", Reason: "why", At: b.clock.Now()}
	c.Outcome.At = c.Outcome.At.UTC()
	if c.Granted || c.Outcome != want {
		t.Errorf("of what is finished the claim is %+v", c)
	}
	if err := b.sms.Release(t.Context(), b.clock.Now(), k, 3); err != nil || b.status(k.Challenge).Deliveries[0].State != otp.DeliveryAccepted {
		t.Errorf("a release undid an outcome (%v)", err)
	}
}

// What the database holds (rows) meets what a receipt says (columns): the state after it.
func TestReceiptsOnlyEverKnowBetter(t *testing.T) {
	b := newBench(t)
	said := []otp.DeliveryState{"accepted", "delivered", "undelivered", "failed", "unconfirmed", "expired"}
	i := 0
	for held, want := range map[otp.DeliveryState][]otp.DeliveryState{
		"queued":      said,
		"sending":     said,
		"unconfirmed": said,
		"accepted":    {"accepted", "delivered", "undelivered", "failed", "accepted", "accepted"},
		"delivered":   {"delivered", "delivered", "delivered", "delivered", "delivered", "delivered"},
		"undelivered": {"undelivered", "undelivered", "undelivered", "undelivered", "undelivered", "undelivered"},
		"failed":      {"failed", "failed", "failed", "failed", "failed", "failed"},
		"expired":     {"accepted", "delivered", "expired", "expired", "expired", "expired"},
	} {
		var batch []postgres.Receipt
		for _, s := range said {
			i++
			id := b.issued(fmt.Sprint("u", i), fmt.Sprint(i), smsOnly)
			b.delivery(id, 1, held)
			b.db.Exec(t, "UPDATE deliveries SET reference = 'before' WHERE challenge_id = $1", id)
			batch = append(batch, postgres.Receipt{Challenge: id, Number: 1, State: s, Provider: "p", Reason: "r"})
		}
		for range 2 { // the same again is answered alike
			recorded, err := b.record(b.clock.Now(), batch)
			if err != nil {
				t.Fatal(err)
			}
			for j, r := range recorded {
				if !r.Known || r.App != "demo" || r.Delivery != want[j] || r.User == "" || r.Session != "session" {
					t.Errorf("%s, told %s, is %+v; want %s", held, said[j], r, want[j])
				}
				// The challenge ends with its only delivery, and only with one that failed.
				ended := said[j] == "failed" || said[j] == "undelivered"
				ended = ended && (want[j] == "failed" || want[j] == "undelivered" || want[j] == "expired")
				if (r.Challenge == otp.Undeliverable) != ended {
					t.Errorf("%s, told %s, leaves the challenge %s", held, said[j], r.Challenge)
				}
				if d := b.status(batch[j].Challenge).Deliveries[0]; d.Reference != "before" {
					t.Errorf("a receipt without a reference made it %q", d.Reference)
				}
			}
		}
	}
	recorded, err := b.record(b.clock.Now(), []postgres.Receipt{{Challenge: uuid.New(), Number: 1, State: "failed"}})
	if err != nil || recorded[0].Known {
		t.Errorf("of no delivery: %+v, %v", recorded, err)
	}
}

func TestAChallengeIsUndeliverableWhenNothingIsUnderWay(t *testing.T) {
	b := newBench(t)
	for _, other := range []otp.DeliveryState{"queued", "sending", "accepted", "delivered", "unconfirmed", "failed", "undelivered", "expired"} {
		c := b.detail(b.issued(string(other), string(other)))
		b.clock.Advance(cooldown)
		if _, err := b.resend(c, otp.Email, cooldown); err != nil {
			t.Fatal(err)
		}
		b.delivery(c.ID, 2, other)
		receipt := []postgres.Receipt{{Challenge: c.ID, Number: 1, State: otp.DeliveryFailed, Provider: "p"}}
		recorded, err := b.record(b.clock.Now(), receipt)
		if err != nil {
			t.Fatal(err)
		}
		want := otp.Open
		if other == "failed" || other == "undelivered" || other == "expired" {
			want = otp.Undeliverable
		}
		if recorded[0].Challenge != want || (want == otp.Undeliverable) != recorded[0].EndedAt.Equal(b.clock.Now()) {
			t.Errorf("beside a delivery that is %s: %+v, want %s", other, recorded[0], want)
		}
	}
}

// Receipts lock deliveries and, where they failed, their challenge; a cancel and the sweeper lock the challenge and withdraw its deliveries.
func TestReceiptsAndEndsAtOnceDoNotDeadlock(t *testing.T) {
	b := newBench(t)
	const n = 60
	var receipts []postgres.Receipt
	for i := range n {
		id := b.issued(fmt.Sprint("u", i), fmt.Sprint(i), smsOnly)
		receipts = append(receipts, postgres.Receipt{Challenge: id, Number: 1, State: otp.DeliveryFailed, Provider: "p"})
	}
	late := b.clock.Now().Add(5 * time.Minute)
	atOnce(6, func(g int) {
		for i := 0; i < n; i += 10 {
			var err error
			if g%2 == 0 {
				_, err = b.record(late, receipts[i:i+10])
			} else {
				_, err = b.challenges.Expire(t.Context(), late, b.since(), 10, func(e postgres.Ended) postgres.OutboxEvent { return event("expired", e.ID) })
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	if open := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges WHERE state = 'open'"); open != 0 {
		t.Errorf("%d are still open", open)
	}
}

// A claim that was lost and granted anew is fenced off by its number: what its process still says changes nothing.
func TestAStaleClaimChangesNothing(t *testing.T) {
	b := newBench(t)
	k := postgres.DeliveryKey{Challenge: b.issued("u", "a"), Number: 1}
	b.claim(k)
	b.clock.Advance(lease)
	if c := b.claim(k); !c.Granted || c.Tries != 2 {
		t.Fatalf("the second claim is %+v", c)
	}
	finish := func(state otp.DeliveryState, tries int) func() error {
		return func() error {
			o := postgres.DeliveryOutcome{DeliveryKey: k, State: state, Provider: "p", Tries: tries}
			return b.sms.Finish(t.Context(), b.clock.Now(), []postgres.DeliveryOutcome{o})
		}
	}
	for what, stale := range map[string]func() error{
		"a release":             func() error { return b.sms.Release(t.Context(), b.clock.Now(), k, 1) },
		"an unsure":             func() error { return b.sms.Unsure(t.Context(), b.clock.Now(), k, 1) },
		"an outcome":            finish(otp.DeliveryAccepted, 1),
		"a failure":             finish(otp.DeliveryFailed, 1),
		"an end without claim":  finish(otp.DeliveryExpired, postgres.NoClaim),
		"a claim yet to come":   finish(otp.DeliveryAccepted, 3),
		"a failure of no claim": finish(otp.DeliveryFailed, postgres.NoClaim),
	} {
		if err := stale(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if c := b.claim(k); c.Granted || c.State != otp.DeliverySending || c.Tries != 2 || c.Lease != lease {
			t.Errorf("%s of a stale claim made it %+v", what, c)
		}
	}
	if err := finish(otp.DeliveryAccepted, 2)(); err != nil || b.status(k.Challenge).Deliveries[0].State != otp.DeliveryAccepted {
		t.Errorf("the claim that holds it could not finish it: %v", err)
	}
}

func TestWhatNeedsNoClaimIsFinishedWithoutOne(t *testing.T) {
	b := newBench(t)
	for i, c := range []struct{ held, said, want otp.DeliveryState }{
		{otp.DeliveryQueued, otp.DeliveryExpired, otp.DeliveryExpired},
		{otp.DeliveryQueued, otp.DeliveryFailed, otp.DeliveryFailed},
		{otp.DeliverySending, otp.DeliveryUnconfirmed, otp.DeliveryUnconfirmed}, // twice unsure, and nobody will say
		{otp.DeliverySending, otp.DeliveryExpired, otp.DeliverySending},
		{otp.DeliveryAccepted, otp.DeliveryFailed, otp.DeliveryAccepted},
	} {
		k := postgres.DeliveryKey{Challenge: b.issued(fmt.Sprint("u", i), fmt.Sprint(i)), Number: 1}
		b.delivery(k.Challenge, 1, c.held)
		o := postgres.DeliveryOutcome{DeliveryKey: k, State: c.said, Reason: "r", Tries: postgres.NoClaim}
		if err := b.sms.Finish(t.Context(), b.clock.Now(), []postgres.DeliveryOutcome{o}); err != nil {
			t.Fatal(err)
		}
		if got := b.status(k.Challenge).Deliveries[0].State; got != c.want {
			t.Errorf("%s, finished as %s without a claim, is %s; want %s", c.held, c.said, got, c.want)
		}
	}
}

func TestPendingAreTheDeliveriesWithoutAnOutcome(t *testing.T) {
	b := newBench(t)
	c := b.detail(b.issued("u", "a"))
	b.clock.Advance(cooldown)
	if _, err := b.resend(c, otp.Email, cooldown); err != nil {
		t.Fatal(err)
	}
	b.issued("w", "not asked for")
	for _, first := range []otp.DeliveryState{"queued", "sending", "accepted", "delivered", "undelivered", "failed", "unconfirmed", "expired"} {
		b.delivery(c.ID, 1, first)
		got, err := b.challenges.Pending(t.Context(), []uuid.UUID{c.ID, uuid.New()})
		if err != nil {
			t.Fatal(err)
		}
		want := map[postgres.Overdue]bool{{Challenge: c.ID, Number: 2, Channel: otp.Email}: true}
		if first == "queued" || first == "sending" {
			want[postgres.Overdue{Challenge: c.ID, Number: 1, Channel: otp.SMS}] = true
		}
		if len(got) != len(want) {
			t.Errorf("with a first delivery that is %s pending are %+v", first, got)
		}
		for _, o := range got {
			if !want[o] {
				t.Errorf("with a first delivery that is %s pending is %+v", first, o)
			}
		}
	}
}

// The first delivery, over SMS, has failed for good.
func TestAChallengeStaysOpenWhileAnotherWayIsLeft(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		change func(*postgres.NewChallenge)
		want   otp.State
	}{
		"nothing else":                      {smsOnly, otp.Undeliverable},
		"email, not tried yet":              {func(*postgres.NewChallenge) {}, otp.Open},
		"email, and no sends left":          {func(c *postgres.NewChallenge) { c.Sends = 1 }, otp.Undeliverable},
		"an authenticator":                  {func(c *postgres.NewChallenge) { c.Methods = []string{"totp"} }, otp.Open},
		"a security key, and no sends":      {func(c *postgres.NewChallenge) { c.Methods, c.Sends = []string{"webauthn"}, 1 }, otp.Open},
		"a backup code":                     {func(c *postgres.NewChallenge) { c.Methods = []string{"backup_code"} }, otp.Open},
		"an authenticator, and no sends":    {func(c *postgres.NewChallenge) { c.Methods, c.Sends = []string{"email", "totp"}, 1 }, otp.Open},
		"only the channel that failed anew": {func(c *postgres.NewChallenge) { c.Methods = []string{"sms"} }, otp.Undeliverable},
	} {
		id := b.issued(name, name, c.change)
		recorded, err := b.record(b.clock.Now(), []postgres.Receipt{{Challenge: id, Number: 1, State: otp.DeliveryFailed, Provider: "p"}})
		if err != nil {
			t.Fatal(err)
		}
		if recorded[0].Challenge != c.want {
			t.Errorf("the user could use %s: the challenge is %s, want %s", name, recorded[0].Challenge, c.want)
		}
	}
	for _, kind := range []otp.FactorKind{otp.FactorTOTP, otp.FactorHOTP, otp.FactorWebAuthn, otp.FactorYubikey} {
		id := b.issued(string(kind), string(kind))
		b.db.Exec(t, "UPDATE challenges SET factor = $2, methods = '{}' WHERE id = $1", id, string(kind))
		if r, err := b.record(b.clock.Now(), []postgres.Receipt{{Challenge: id, Number: 1, State: otp.DeliveryFailed}}); err != nil || r[0].Challenge != otp.Open {
			t.Errorf("of a %s challenge: %+v, %v", kind, r, err)
		}
	}
}
