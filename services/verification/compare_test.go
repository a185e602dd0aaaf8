package verification

import (
	"testing"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

func TestSameTransaction(t *testing.T) {
	shop := &otp.Transaction{Amount: "39.99 EUR", Payee: "Shop"}
	for name, tt := range map[string]struct {
		asked, answered *otp.Transaction
		want            bool
	}{
		"none":            {nil, nil, true},
		"the same":        {shop, &otp.Transaction{Amount: "39.99 EUR", Payee: "Shop"}, true},
		"left out":        {shop, nil, false},
		"added":           {nil, shop, false},
		"another amount":  {shop, &otp.Transaction{Amount: "39.9 EUR", Payee: "Shop"}, false},
		"another payee":   {shop, &otp.Transaction{Amount: "39.99 EUR", Payee: "shop"}, false},
		"shifted between": {&otp.Transaction{Amount: "1", Payee: "2 EUR"}, &otp.Transaction{Amount: "12", Payee: " EUR"}, false},
	} {
		if got := sameTransaction(tt.asked, tt.answered); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestChannelOf(t *testing.T) {
	c := postgres.Answerable{Challenge: postgres.Challenge{Factor: otp.FactorEmail, Methods: []string{"totp", "sms"}}}
	for factor, want := range map[otp.FactorKind]bool{"": true, otp.FactorEmail: true, otp.FactorSMS: true, otp.FactorTOTP: false, otp.FactorHOTP: false} {
		if got := channelOf(c, factor); got != want {
			t.Errorf("an answer by %q: %v", factor, got)
		}
	}
	if c.Methods = nil; channelOf(c, otp.FactorSMS) {
		t.Error("a channel that the challenge does not have")
	}
}

func TestEndResult(t *testing.T) {
	for state, want := range map[otp.State]string{
		otp.Expired: "expired", otp.Exhausted: "exhausted", otp.Superseded: "superseded", otp.Cancelled: "cancelled", otp.Locked: "locked",
		otp.Undeliverable: "cancelled", // the verdicts have no word of their own for it
	} {
		if got := endResult(state); got != want {
			t.Errorf("%s is told as %s", state, got)
		}
	}
}
