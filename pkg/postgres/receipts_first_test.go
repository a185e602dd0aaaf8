package postgres_test

import (
	"fmt"
	"testing"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// A bounce that came to a mailbox does not say which relay the mail went over.
func TestABounceNamesNoProvider(t *testing.T) {
	b := newBench(t)
	k := b.accepted("u", 0)
	r := report(k, "", otp.DeliveryUndelivered)
	r.Class, r.Reason = "permanent", "mailbox does not exist (5.1.1)"
	rec := b.told(r)
	d := b.status(k.Challenge).Deliveries[0]
	if !rec.Changed || rec.Stray != "" || d.State != otp.DeliveryUndelivered || d.Provider != "primary" || d.Class != "permanent" {
		t.Errorf("recorded as %+v, the delivery is %+v", rec, d)
	}
}

// A provider that is quick tells of a message while the worker that handed it over writes down that it was taken: it is counted once all the same.
func TestAReceiptBesideTheOutcomeIsCountedOnce(t *testing.T) {
	b := newBench(t)
	const n = 40
	for i := range n {
		k := postgres.DeliveryKey{Challenge: b.issued(fmt.Sprint("u", i), fmt.Sprint("u", i), over("primary")), Number: 1}
		b.claim(k)
		atOnce(2, func(which int) {
			var err error
			if which == 0 {
				o := postgres.DeliveryOutcome{DeliveryKey: k, State: otp.DeliveryAccepted, Provider: "primary", App: "demo", Tries: 1}
				err = b.sms.Finish(t.Context(), b.clock.Now(), []postgres.DeliveryOutcome{o})
			} else {
				_, err = b.record(b.clock.Now(), []postgres.Receipt{report(k, "primary", otp.DeliveryDelivered)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	row := otposttest.Get[string](t, b.db, `SELECT concat_ws(' ', sum(sent), sum(accepted), sum(delivered)) FROM delivery_stats`)
	if want := fmt.Sprint(n, " ", n, " ", n); row != want {
		t.Errorf("sent, accepted and delivered are counted as %s, want %s", row, want)
	}
}
