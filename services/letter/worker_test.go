package letter

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// TestWorker: a command on the stream becomes a letter in the spool, with the code that enrolment will compare with. One to an address that cannot be printed
// fails and is kept for the operator.
func TestWorker(t *testing.T) {
	db, nats, clock := otposttest.Postgres(t), otposttest.NATS(t, otposttest.WithLazySync()), otposttest.NewClock()
	operator, log := nats.Bus(t, bus.RoleOperator), otposttest.Logger(t)
	spool, dir := testSpool(t)
	w, err := New(delivery.Config{
		Timeout: time.Second, Bus: nats.Bus(t, bus.RoleLetter), Store: postgres.NewDeliveries(db.Role("letter")), Keys: otposttest.Ring(t, keyring.Letter),
		Metrics: telemetry.NewMetrics(telemetry.NewRegistry()), Logger: log.Logger, Now: clock.Now,
	}, spool, Options{Sender: "Shop Inc. · 100 Market St · San Francisco CA 94105", SenderCountry: "US"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Errorf("the worker: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })

	enrolment := otposttest.Ring(t, keyring.Enrolment)
	newID := func() uuid.UUID {
		var digest [32]byte
		_, _ = rand.Read(digest[:])
		return otp.ChallengeID(clock.Now(), digest)
	}
	order := func(address string) event.Command {
		to, err := enrolment.SealDestination(string(otp.Letter), "demo", "u-42", delivery.Purpose, address)
		if err != nil {
			t.Fatal(err)
		}
		key, err := enrolment.CeremonyKeyID()
		if err != nil {
			t.Fatal(err)
		}
		cmd := event.Command{
			Challenge: newID(), Attempt: 1, Channel: otp.Letter, Purpose: event.PurposeRecovery, CodeID: newID(), App: "demo", AppName: "The Demo", User: "u-42",
			To: to, Nonce: make([]byte, otp.NonceSize), Key: key, Digits: 10, Locale: "cs", ExpiresAt: clock.Now().Add(21 * 24 * time.Hour),
		}
		_, _ = rand.Read(cmd.Nonce)
		db.Exec(t, `INSERT INTO deliveries (challenge_id, attempt, channel, purpose, mask, created_at, updated_at) VALUES ($1, 1, 'letter', 'enrolment', '•', $2, $2)`,
			cmd.Challenge, clock.Now())
		if err := operator.Publish(t.Context(), bus.Out{Subject: event.WorkSubject(otp.Letter), ID: uuid.NewString(), Data: cmd.Encode()}); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	await := func(cmd event.Command, want otp.DeliveryState) {
		otposttest.Eventually(t, "the letter to be "+string(want), func() bool {
			return otposttest.Get[string](t, db, `SELECT state FROM deliveries WHERE challenge_id = $1`, cmd.Challenge) == string(want)
		})
	}

	cmd := order(testAddress)
	await(cmd, otp.DeliveryAccepted)
	pdf, err := os.ReadFile(filepath.Join(dir, cmd.Reference()+".pdf"))
	if err != nil {
		t.Fatal(err)
	}
	prf, err := enrolment.CeremonyPRF(cmd.Key)
	if err != nil {
		t.Fatal(err)
	}
	code, err := otp.DeriveCode(prf, otp.CodeInput{App: cmd.App, Challenge: cmd.CodeID, Nonce: cmd.Nonce, Digits: cmd.Digits})
	if err != nil {
		t.Fatal(err)
	}

	unprintable := order(strings.Replace(testAddress, "Jane Doe", "山田太郎", 1))
	await(unprintable, otp.DeliveryFailed)
	otposttest.Eventually(t, "a dead letter", func() bool {
		letters, _, err := operator.DeadLetters(t.Context(), 0, 10)
		return err == nil && len(letters) == 1 && strings.Contains(letters[0].Reason, "4 characters are in none of the fonts")
	})
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the spool has %q, want one letter", got)
	}
	page := read(t, pdf) // last: it skips the test where there is no reader
	if text := solid(page.text()); !strings.Contains(text, code) || !strings.Contains(text, "SPRINGFIELDOR97477") {
		t.Errorf("the letter lacks its code or address: %d characters", len(text))
	}
}
