package otp

import (
	"slices"
	"strings"
	"testing"
)

func TestChannels(t *testing.T) {
	for c, want := range map[Channel][2]bool{SMS: {true, true}, Email: {true, true}, Letter: {false, true}, "": {}, "totp": {}, "phone": {}} {
		if got := [2]bool{c.Valid(), c.Sendable()}; got != want {
			t.Errorf("%q: valid for a challenge, sendable: %v", c, got)
		}
	}
}

func TestFactorKinds(t *testing.T) {
	amr := map[FactorKind]string{
		FactorTOTP: "otp", FactorHOTP: "otp", FactorYubikey: "otp", FactorBackupCode: "otp", FactorSMS: "otp sms", FactorEmail: "otp email", FactorWebAuthn: "pop user",
	}
	for k, want := range amr {
		if got := strings.Join(k.AMR(), " "); got != want {
			t.Errorf("%s: %s", k, got)
		}
		if slices.Contains(FactorKinds(), k) == (k == FactorBackupCode) {
			t.Errorf("%s can be enrolled: %v", k, slices.Contains(FactorKinds(), k))
		}
		c, ok := k.Channel()
		if wantOK := k == FactorSMS || k == FactorEmail; ok != wantOK || ok && string(c) != string(k) {
			t.Errorf("%s: channel %q, %v", k, c, ok)
		}
	}
	if len(FactorKinds()) != len(amr)-1 {
		t.Errorf("%v", FactorKinds())
	}
	if got := DefaultPolicy().Channels; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(FactorKinds()))) {
		t.Errorf("the default order %v leaves a kind out", got)
	}
}

// TestNotices holds the set: texts in every language and the schemas name the same.
func TestNotices(t *testing.T) {
	const want = "factor_added factor_removed factor_suspended backup_code_used backup_codes_low backup_codes_regenerated backup_codes_viewed " +
		"device_trusted devices_revoked recovery_begun recovery_proven recovery_waiting recovery_completed recovery_cancelled account_locked deactivated " +
		"preferences_changed"
	var got []string
	for _, n := range Notices() {
		got = append(got, string(n))
		if !n.Valid() {
			t.Errorf("%s is not valid", n)
		}
	}
	if strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
	if Notice("").Valid() || Notice("hello").Valid() {
		t.Error("an unknown notice is valid")
	}
}
