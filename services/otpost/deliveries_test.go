package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// What became of a code that went wrong in some way, as a person is told it.
func TestDeliveryStories(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 3, 5, 3, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	known := []postgres.ProviderRow{{Channel: otp.SMS, Name: "twilio-eu", Receipts: true}, {Channel: otp.SMS, Name: "vonage"}, {Channel: otp.Email, Name: "smtp"}}
	sms := func(n int, provider string, state otp.DeliveryState, change func(*postgres.Delivery)) postgres.Delivery {
		d := postgres.Delivery{Number: n, Channel: otp.SMS, State: state, Mask: "+420•••••3456", Provider: provider, Cause: postgres.CauseSend, CreatedAt: at(0), UpdatedAt: at(1)}
		if change != nil {
			change(&d)
		}
		return d
	}
	took := func(d *postgres.Delivery) { d.AcceptedAt, d.Reference, d.Tries = at(0.75), "SM123", 1 }
	var got strings.Builder
	for _, c := range []struct {
		name   string
		state  otp.State
		now    float64
		strays []postgres.Stray
		all    []postgres.Delivery
		change func(*postgres.Challenge)
	}{
		{name: "the worker does not run", now: 180, all: []postgres.Delivery{sms(1, "twilio-eu", otp.DeliveryQueued, nil)}},
		{name: "no worker has the provider", now: 5, all: []postgres.Delivery{sms(1, "gone", otp.DeliveryQueued, nil)}},
		{name: "given back", now: 20, all: []postgres.Delivery{sms(1, "twilio-eu", otp.DeliveryQueued, func(d *postgres.Delivery) { d.Tries = 2 })}},
		{name: "the worker was killed", now: 100, all: []postgres.Delivery{sms(1, "twilio-eu", otp.DeliverySending, nil)}},
		{name: "taken, and no receipt yet", now: 10, all: []postgres.Delivery{sms(1, "twilio-eu", otp.DeliveryAccepted, func(d *postgres.Delivery) {
			took(d)
			d.Cost, d.DueAt = 62_500, at(20.75)
		})}},
		{name: "taken by one that never tells, and expired", state: otp.Expired, now: 900, all: []postgres.Delivery{sms(1, "vonage", otp.DeliveryAccepted, took)}},
		{name: "delivered", now: 30, all: []postgres.Delivery{sms(1, "twilio-eu", otp.DeliveryDelivered, func(d *postgres.Delivery) {
			took(d)
			d.DeliveredAt = at(4)
		})}},
		{name: "the number is at fault", state: otp.Undeliverable, now: 60, all: []postgres.Delivery{sms(1, "twilio-eu", otp.DeliveryUndelivered, func(d *postgres.Delivery) {
			took(d)
			d.Reason, d.Class, d.UpdatedAt = "number is unknown or not in service (30005)", "permanent", at(3)
		})}},
		{name: "over to the next provider, and the first arrives late", now: 40, strays: []postgres.Stray{
			{At: at(31), Why: "late", Provider: "twilio-eu", Number: 1, State: otp.DeliveryDelivered},
			{At: at(32), Why: "other_provider", Provider: "vonage", Number: 1, State: otp.DeliveryUndelivered, Reason: "absent subscriber (1)"},
		}, all: []postgres.Delivery{
			sms(1, "twilio-eu", otp.DeliveryDelivered, func(d *postgres.Delivery) {
				took(d)
				d.AbandonedAt, d.DeliveredAt = at(20.75), at(31)
			}),
			sms(2, "vonage", otp.DeliveryAccepted, func(d *postgres.Delivery) {
				d.Cause, d.CreatedAt, d.AcceptedAt, d.Reference = postgres.CauseFailover, at(20.75), at(21.5), "0A01"
			}),
		}},
		{name: "taken, failed, and over to mail", now: 30, all: []postgres.Delivery{
			sms(1, "twilio-eu", otp.DeliveryFailed, func(d *postgres.Delivery) {
				took(d)
				d.Reason, d.Class, d.AbandonedAt = "the message could not be sent", "rejected", at(1)
			}),
			sms(2, "smtp", otp.DeliveryAccepted, func(d *postgres.Delivery) {
				d.Channel, d.Mask, d.Cause, d.CreatedAt, d.AcceptedAt = otp.Email, "u•••@example.com", postgres.CauseFallback, at(1), at(2)
			}),
		}},
		{name: "all refused, and mail as well", state: otp.Undeliverable, now: 60, all: []postgres.Delivery{
			sms(1, "twilio-eu", otp.DeliveryFailed, func(d *postgres.Delivery) {
				d.Reason, d.Class, d.AbandonedAt = "credentials refused (20003)", "configuration", at(1)
			}),
			sms(2, "vonage", otp.DeliveryUnconfirmed, func(d *postgres.Delivery) {
				d.Cause, d.CreatedAt, d.UpdatedAt, d.Tries = postgres.CauseFailover, at(1), at(13), 2
				d.Reason, d.Class, d.AbandonedAt = "no answer in time", "ambiguous", at(13)
			}),
			sms(3, "smtp", otp.DeliveryFailed, func(d *postgres.Delivery) {
				d.Channel, d.Mask, d.Cause, d.CreatedAt, d.UpdatedAt = otp.Email, "u•••@example.com", postgres.CauseFallback, at(13), at(14)
				d.Reason, d.Class = "the relay refuses the sender (550 5.7.1)", "rejected"
			}),
		}},
		{name: "the next failed while the first may still come", now: 30, all: []postgres.Delivery{
			sms(1, "twilio-eu", otp.DeliveryAccepted, func(d *postgres.Delivery) {
				took(d)
				d.AbandonedAt = at(20.75)
			}),
			sms(2, "vonage", otp.DeliveryFailed, func(d *postgres.Delivery) {
				d.Cause, d.CreatedAt, d.UpdatedAt, d.Reason, d.Class = postgres.CauseFailover, at(20.75), at(25.75), "no connection", "transient"
			}),
		}},
		{name: "asked for once more, and verified", state: otp.Verified, now: 70, all: []postgres.Delivery{
			sms(1, "twilio-eu", otp.DeliveryAccepted, took),
			sms(2, "vonage", otp.DeliveryAccepted, func(d *postgres.Delivery) { d.CreatedAt, d.AcceptedAt = at(31), at(31.25) }),
		}},
		{name: "for tests", now: 5, all: []postgres.Delivery{sms(1, postgres.TestProvider, otp.DeliveryDelivered, nil)}, change: func(c *postgres.Challenge) { c.Test = true }},
		{name: "nothing to send", now: 5, change: func(c *postgres.Challenge) { c.Factor, c.Sends = otp.FactorTOTP, 0 }},
	} {
		ch := postgres.Challenge{
			ID: uuid.MustParse("0193503c-7a80-7c1e-9d2a-3f1be2a45c07"), User: "u-42", Login: "l-1", Factor: otp.FactorSMS, State: otp.Open, MaxAttempts: 5, Sends: 1,
			MaxSends: 5, CreatedAt: at(0), ExpiresAt: at(300), Deliveries: c.all,
		}
		if c.state != "" {
			ch.State, ch.EndedAt = c.state, at(59)
		}
		if c.change != nil {
			c.change(&ch)
		}
		got.WriteString("=== " + c.name + "\n\n")
		var out strings.Builder
		if err := (deliveryCase{ch, c.strays, known}).show(&out, at(c.now)); err != nil {
			t.Fatal(err)
		}
		fits(t, out.String())
		got.WriteString(out.String() + "\n")
	}
	golden(t, "deliveries.txt", got.String())
}

var update = flag.Bool("update", false, "write what is printed to the files that it is compared with")

// golden compares what is printed with a file that a person has read.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // no secret
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}

// The operator's role finds what the workers wrote.
func TestDeliveriesCommand(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	defer s.endsOnce()
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": s.db.URL("operator"), "OTPOST_APP": "demo"}}
	if out := sh.ok("deliveries", "--user=alice"); !strings.HasPrefix(out, "Nothing was sent to user alice of app demo within 24h") {
		t.Errorf("of a user without logins it says:\n%s", out)
	}
	first := s.begin("alice", bySMS(1))
	code := s.code(phone(1))
	s.clock.Advance(time.Second) // ids of one millisecond are in no order
	second := s.begin("alice", map[string]any{"to": map[string]any{"sms": "+15005550001"}}, "second login")
	until := func(words string, args ...string) (out string) {
		t.Helper()
		defer func() {
			if !strings.Contains(out, words) {
				t.Logf("it says:\n%s", out)
			}
		}()
		otposttest.Eventually(t, words, func() bool {
			out = sh.ok(append([]string{"deliveries"}, args...)...)
			return strings.Contains(out, words)
		})
		fits(t, out)
		for _, secret := range []string{phone(1), "5550001", code, "session of"} {
			if strings.Contains(out, secret) {
				t.Errorf("it shows %q:\n%s", secret, out)
			}
		}
		return out
	}
	until("twilio took the code", "--challenge="+first.Challenge+"-1")
	s.expect("the code", "verified", 4, s.verify(first.Challenge, "alice", code))
	out := until("the challenge ends: undeliverable", "--user=alice")
	for _, words := range []string{"A right answer came ", "The number cannot be reached: ", "ordered for the login: sms to +1•••••0001 by twilio", "twilio took it after "} {
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
	if strings.Index(out, first.Challenge) > strings.Index(out, second.Challenge) {
		t.Errorf("the newest is not the last:\n%s", out)
	}
	if out := sh.ok("deliveries", "--user=alice", "--limit=1"); strings.Contains(out, first.Challenge) || !strings.Contains(out, second.Challenge) {
		t.Errorf("the newest alone:\n%s", out)
	}
	var told struct {
		App        string
		Challenges []struct {
			Challenge, State, Verdict string
			Deliveries                []struct{ Delivery, Provider, State, Class, To string }
		}
	}
	if err := json.Unmarshal([]byte(sh.ok("deliveries", "--challenge="+second.Challenge, "--json")), &told); err != nil {
		t.Fatal(err)
	}
	if len(told.Challenges) != 1 || told.Challenges[0].State != "undeliverable" || len(told.Challenges[0].Deliveries) != 1 || told.App != "demo" {
		t.Fatalf("as JSON: %+v", told)
	}
	if d := told.Challenges[0].Deliveries[0]; d.Delivery != second.Challenge+"-1" || d.State != "failed" || d.Class != "permanent" || d.To != "+1•••••0001" {
		t.Errorf("as JSON: %+v", d)
	}

	// Receipts that counted for nothing: one of this challenge, one of nothing.
	s.db.Exec(t, `INSERT INTO stray_receipts (at, why, provider, reference, challenge_id, attempt, state, reason, digest)
		VALUES (now(), 'other_provider', 'vonage', '0A01', $1, 1, 'delivered', '', '\x01'), (now(), 'unknown', 'twilio', 'SM77', NULL, NULL, 'undelivered', 'handset is switched off', '\x02')`,
		second.Challenge)
	if out := sh.ok("deliveries", "--stray"); !strings.Contains(out, "\n                     0A01 of delivery "+second.Challenge+"-1\n") {
		t.Errorf("it lists:\n%s", out)
	}
	delete(sh.env, "OTPOST_APP")
	sh.fails(1, []string{"--app: must be given beside --user and --challenge"}, "deliveries", "--user=alice")
	sh.env["OTPOST_APP"] = "demo"
	until("vonage said that it is delivered: that counts for nothing", "--challenge="+second.Challenge)
	out = until("handset is switched off", "--stray")
	if !strings.Contains(out, "of delivery "+second.Challenge+"-1") {
		t.Errorf("it lists:\n%s", out)
	}
	s.db.App(t, "other")
	sh.fails(1, []string{"--challenge", "app other has no challenge of this id"}, "deliveries", "--app=other", "--challenge="+first.Challenge)
	if out := sh.ok("deliveries", "--app=other", "--user=alice"); !strings.HasPrefix(out, "Nothing was sent") {
		t.Errorf("another app learns:\n%s", out)
	}
	for _, bad := range [][]string{{}, {"--user=a", "--stray"}, {"--user=a", "--since=0s"}, {"--user=a", "--limit=0"}, {"--challenge=4711"}} {
		sh.fails(1, []string{"--"}, append([]string{"deliveries"}, bad...)...)
	}
}

func TestStatsCommand(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	db.App(t, "demo")
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	if out := sh.ok("stats"); !strings.HasSuffix(out, "\nNothing was sent.\n") {
		t.Errorf("of nothing it says:\n%s", out)
	}
	db.Exec(t, `INSERT INTO delivery_stats (slot, app, channel, country, provider, sent, accepted, delivered, failed, late, verified, delivered_ms, cost)
		SELECT date_bin('5 minutes', now() - ago * interval '1 hour', 'epoch'), app, 'sms', 'CZ', 'twilio-eu', 10, 8, 6, 2, 1, 4, 18000, 500000
		FROM (VALUES (0, 'demo'), (1, 'demo'), (2, 'other'), (30, 'demo')) AS t (ago, app)`)
	out := sh.ok("stats")
	fits(t, out)
	has(t, out, "sms", "CZ", "twilio-eu", "30", "80 %", "75 %", "50 %", "6", "3", "3s", "1.5")
	db.Exec(t, `INSERT INTO delivery_stats (slot, app, channel, country, provider, sent, accepted, delivered, failed, late, verified, delivered_ms, cost)
		VALUES (date_bin('5 minutes', now(), 'epoch'), 'long', 'whatsapp', 'US', 'a-provider-with-the-longest-name', 1234567, 1234567, 1234567, 123456, 1234, 1234567,
		1234567::bigint * 59900, 9123456700), (date_bin('5 minutes', now(), 'epoch'), 'long', 'sms', 'US', 'test', 7, 7, 7, 0, 0, 7, 0, 0)`)
	db.App(t, "long")
	out = sh.ok("stats", "--app=long")
	fits(t, out)
	has(t, out, "whatsapp", "US", "a-provider-with-the-longest-name", "1234567", "100 %", "100 %", "100 %", "123456", "1234", "59.9s", "9123.4567")
	if strings.Contains(out, "test") {
		t.Errorf("it counts what nobody sends:\n%s", out)
	}
	has(t, sh.ok("stats", "--app=demo", "--since=48h"), "sms", "CZ", "twilio-eu", "30")
	has(t, sh.ok("stats", "--app=demo"), "sms", "CZ", "twilio-eu", "20")
	var rows []struct {
		Sent int64
		Cost int64 `json:"cost_micros"`
	}
	if err := json.Unmarshal([]byte(sh.ok("stats", "--json", "--app=demo", "--since=30m")), &rows); err != nil || len(rows) != 1 || rows[0].Sent != 10 || rows[0].Cost != 500_000 {
		t.Errorf("as JSON: %+v (%v)", rows, err)
	}
	sh.fails(1, []string{"ghost"}, "stats", "--app=ghost")
	sh.fails(1, []string{"--since"}, "stats", "--since=0s")
}
