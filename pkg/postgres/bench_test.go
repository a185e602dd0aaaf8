package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// A bench is a database of one test with the stores, each as the role that it is made for, and the app "demo".
type bench struct {
	*testing.T
	db            *otposttest.DB
	clock         *otposttest.Clock
	app           postgres.App
	challenges    *postgres.Challenges
	verifications *postgres.Verifications
	sms           *postgres.Deliveries
	email         *postgres.Deliveries
	outbox        *postgres.Outbox
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	db := otposttest.Postgres(t)
	return &bench{
		T: t, db: db, clock: otposttest.NewClock(), app: db.App(t, "demo"),
		challenges: postgres.NewChallenges(db.Role("challenge")), verifications: postgres.NewVerifications(db.Role("verification")),
		sms: postgres.NewDeliveries(db.Role("sms")), email: postgres.NewDeliveries(db.Role("email")), outbox: postgres.NewOutbox(db.Role("challenge")),
	}
}

// login is the admission of a login with an event id of its own.
func (b *bench) login(user, id string) postgres.Admission {
	key := uuid.NewSHA1(uuid.NameSpaceOID, []byte(id))
	var digest [32]byte
	copy(digest[:], key[:])
	return postgres.Admission{
		Account: postgres.Account{AppID: b.app.ID, User: user}, Key: key, About: uuid.NewSHA1(uuid.NameSpaceOID, []byte("about "+user)),
		Challenge: otp.ChallengeID(b.clock.Now(), digest),
	}
}

// fresh is a challenge over SMS; the user could also use email.
func (b *bench) fresh() *postgres.NewChallenge {
	now := b.clock.Now()
	return &postgres.NewChallenge{
		Session: "session", Login: "login", Factor: otp.FactorSMS, Nonce: []byte("0123456789abcdef"), KeyID: 4294967295, Digits: 6, Locale: "en",
		ToSMS: []byte("sealed number"), MaskSMS: "+1•••0100", ToEmail: []byte("sealed mailbox"), MaskEmail: "u•••@example.com",
		Methods: []string{"email"}, Attempts: 5, Sends: 3, NextSendAt: now.Add(30 * time.Second), ExpiresAt: now.Add(5 * time.Minute),
	}
}

func (b *bench) issue(int, postgres.UserState) postgres.Decision {
	return postgres.Decision{Outcome: "issued", Challenge: b.fresh()}
}

func noEvents(int, postgres.Admitted) (postgres.Told, error) { return postgres.Told{}, nil }

// telling makes what Admit asks for of a function that has events only.
func telling(events func(int, postgres.Admitted) []postgres.OutboxEvent) func(int, postgres.Admitted) (postgres.Told, error) {
	return func(i int, a postgres.Admitted) (postgres.Told, error) {
		return postgres.Told{Events: events(i, a)}, nil
	}
}

// issued admits one login and returns the challenge's id.
func (b *bench) issued(user, id string, change ...func(*postgres.NewChallenge)) uuid.UUID {
	b.Helper()
	decide := func(int, postgres.UserState) postgres.Decision {
		c := b.fresh()
		for _, f := range change {
			f(c)
		}
		return postgres.Decision{Outcome: "issued", Challenge: c}
	}
	out, _, err := b.challenges.Admit(b.Context(), b.clock.Now(), []postgres.Admission{b.login(user, id)}, decide, noEvents)
	if err != nil {
		b.Fatal(err)
	}
	if out[0].Repeat || out[0].Deferred {
		b.Fatalf("login %s was not fresh: %+v", id, out[0])
	}
	return out[0].ID
}

// resend asks for one more send, over the provider p.
func (b *bench) resend(c postgres.Challenge, ch otp.Channel, cooldown time.Duration) (postgres.Resend, error) {
	return b.challenges.Resend(b.Context(), b.clock.Now(), c, ch, cooldown, func(postgres.Tx, postgres.Challenge) (postgres.NewDelivery, error) {
		return postgres.NewDelivery{Provider: "p"}, nil
	})
}

// record writes receipts that nothing follows.
func (b *bench) record(now time.Time, receipts []postgres.Receipt) ([]postgres.Recorded, error) {
	out, _, err := b.challenges.Record(b.Context(), now, receipts, never, noWay)
	return out, err
}

func never(postgres.Recorded) time.Time { return time.Time{} }

func noWay(_ postgres.Tx, all []postgres.Failing) ([]postgres.NewDelivery, error) {
	return make([]postgres.NewDelivery, len(all)), nil
}

func (b *bench) status(id uuid.UUID) postgres.Challenge {
	b.Helper()
	c, err := b.challenges.Status(b.Context(), b.app.ID, id)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *bench) detail(id uuid.UUID) postgres.Challenge {
	b.Helper()
	found, err := b.challenges.Details(b.Context(), []uuid.UUID{id})
	if err != nil {
		b.Fatal(err)
	}
	c, ok := found[id]
	if !ok {
		b.Fatalf("challenge %s is not there", id)
	}
	return c
}

func (b *bench) wantState(id uuid.UUID, want otp.State) {
	b.Helper()
	if got := b.status(id).State; got != want {
		b.Errorf("the challenge is %s, want %s", got, want)
	}
}

// delivery brings a delivery into a state, as the owner.
func (b *bench) delivery(id uuid.UUID, number int, s otp.DeliveryState) {
	b.Helper()
	b.db.Exec(b.T, "UPDATE deliveries SET state = $3, claimed_at = now() WHERE challenge_id = $1 AND attempt = $2", id, number, string(s))
}

// atOnce runs fn n times as nearly at once as goroutines go.
func atOnce(n int, fn func(i int)) {
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			fn(i)
		})
	}
	start.Done()
	done.Wait()
}

// event makes a recognisable outbox event.
func event(kind string, id uuid.UUID) postgres.OutboxEvent {
	return postgres.OutboxEvent{ID: fmt.Sprintf("%s/%s", id, kind), Subject: "otpost.app.demo.event.challenge.ended", Payload: []byte(kind)}
}

// smsOnly leaves a challenge no other way than SMS.
func smsOnly(c *postgres.NewChallenge) { c.ToEmail, c.MaskEmail, c.Methods = nil, "", nil }

// since is when the logins that Expire looks at began.
func (b *bench) since() time.Time { return b.clock.Now().Add(-time.Hour) }

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want one with %q", err, part)
	}
}
