package webauthn

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/otp"
)

func TestPartyOf(t *testing.T) {
	if _, ok := PartyOf("Shop", otp.DefaultFactorPolicy()); ok {
		t.Error("an app without a relying-party id has a party")
	}
	p := otp.DefaultFactorPolicy()
	p.RPID, p.Origins = "shop.example", []string{"https://shop.example"}
	for name, want := range map[string]int{"Shop": 4, strings.Repeat("a", 64): 64, strings.Repeat("店", 64): 63, strings.Repeat("é", 33): 64} {
		party, ok := PartyOf(name, p)
		if !ok || len(party.Name) != want || !utf8.ValidString(party.Name) || !strings.HasPrefix(name, party.Name) {
			t.Errorf("%q is %q, with %d bytes", name, party.Name, len(party.Name))
		}
		if err := party.Check(); err != nil {
			t.Error(err)
		}
	}
}
