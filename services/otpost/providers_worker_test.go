package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// One process of the role sms is the workers of all channels that its file has providers of. It enters these in the registry before it works, and a
// message without a provider of its own is tried over them in the order of the file.
func TestProvidersOfAWorker(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	account := fmt.Sprintf("account_sid: %s, auth_token: %s, from: [+15005550006]", s.box.AccountSID, s.box.AuthToken)
	cmd := smsCmd{
		deliveryFlags: deliveryFlags{SendTimeout: 5 * time.Second, Lease: 15 * time.Second, Concurrency: 8},
		providersFlags: providersFlags{write(t, "p.yaml", fmt.Sprintf(`providers:
  - {name: away, channel: sms, kind: twilio, twilio: {%s, base_url: 'http://127.0.0.1:%d'}}
  - {name: there, channel: sms, kind: twilio, cost: {default: 0.05, US: 0.0079}, twilio: {%s, base_url: '%s', callback: 'http://127.0.0.1/callbacks/there'}}
  - {name: calls, channel: voice, kind: twilio, twilio: {%s, base_url: '%s'}}
`, account, closedPort(t), account, s.box.TwilioURL, account, s.box.TwilioURL))},
	}
	r, err := cmd.build(parts{
		db: s.db.Role("sms"), bus: s.nats.Bus(t, bus.RoleSMS), keys: otposttest.Ring(t, keyring.Role(bus.RoleSMS)), metrics: s.metrics, log: s.log.Logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it enters them whenever it starts
		if err := r.(preparer).Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	rows := otposttest.Get[string](t, s.db,
		`SELECT string_agg(format('%s %s %s %s %s', channel, position, name, receipts, costs), E'\n' ORDER BY channel, position) FROM providers`)
	if diff := cmp.Diff("sms 0 away f {}\nsms 1 there t {\"\": 50000, \"US\": 7900}\nvoice 0 calls f {}", rows); diff != "" {
		t.Error(diff)
	}
	if w := r.(*sender).workers[0]; len(r.(*sender).workers) != 2 || w.Timeout != 6*time.Second || w.Lease != 15*time.Second {
		t.Errorf("%d workers, of which the first gives a provider %s of %s", len(r.(*sender).workers), w.Timeout, w.Lease)
	}

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for _, channel := range []otp.Channel{otp.SMS, otp.Voice} {
		s.order(channel, "+14155550100")
		within, cancel := context.WithTimeout(t.Context(), otposttest.Patience)
		m, err := s.box.Wait(within, inbox.Filter{Channel: string(channel)})
		cancel()
		if err != nil || m.To != "+14155550100" {
			t.Errorf("%s: %+v, %v", channel, m, err)
		}
	}
	otposttest.Eventually(t, "the second provider to be on record", func() bool {
		return otposttest.Get[string](t, s.db, `SELECT string_agg(format('%s %s %s', channel, provider, state), ', ' ORDER BY channel) FROM deliveries`) ==
			"sms there accepted, voice calls accepted"
	})
}

// order orders a code for adding a factor, as enrolment does.
func (s *system) order(channel otp.Channel, to string) {
	s.t.Helper()
	keys := otposttest.Ring(s.t, keyring.Enrolment)
	sealed, err := keys.SealDestination(string(channel.Address()), "demo", "u-42", delivery.Purpose, to)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := keys.CeremonyKeyID()
	if err != nil {
		s.t.Fatal(err)
	}
	id := func() uuid.UUID {
		var digest [32]byte
		_, _ = rand.Read(digest[:])
		return otp.ChallengeID(time.Now(), digest)
	}
	cmd := event.Command{
		Challenge: id(), Attempt: 1, Channel: channel, Purpose: event.PurposeAddFactor, App: "demo", AppName: "Demo", User: "u-42", To: sealed, Key: key,
		CodeID: id(), Nonce: make([]byte, otp.NonceSize), Digits: 6, Locale: "en", ExpiresAt: time.Now().Add(10 * time.Minute),
	}
	s.db.Exec(s.t, `INSERT INTO deliveries (challenge_id, attempt, channel, purpose, mask, created_at, updated_at)
		VALUES ($1, 1, $2, 'enrolment', '•', now(), now())`, cmd.Challenge, string(channel))
	if err := s.operator().Publish(s.t.Context(), bus.Out{Subject: event.WorkSubject(channel), ID: uuid.NewString(), Data: cmd.Encode()}); err != nil {
		s.t.Fatal(err)
	}
}
