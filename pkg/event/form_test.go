package event

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/otp"
)

const (
	upperID = "01A18B9C-8E80-7C1E-9D2A-3F1BE2A45C07"
	lowerID = "01a18b9c-8e80-7c1e-9d2a-3f1be2a45c07"
	yubico  = "ccccccbchvthlivuitriujjifivbvtrjkjfirllluurj"
)

// parsed reads a request that is in order.
func parsed[T any, P Checked[T]](t *testing.T, body string) T {
	t.Helper()
	r, p := Parse[T, P]([]byte(body))
	if p != nil {
		t.Fatalf("%s: %v", body, p)
	}
	return r
}

// TestParseLeavesOneForm holds what Parse promises: what was written in different ways reads alike, so that nobody compares two forms of one thing.
func TestParseLeavesOneForm(t *testing.T) {
	for _, c := range []struct{ what, got, want string }{
		{"a ceremony", parsed[FactorResendRequest](t, `{"ceremony":"`+upperID+`","session":"s"}`).Ceremony, lowerID},
		{"a factor", parsed[FactorRenameRequest](t, `{"user":"u","factor":"`+upperID+`","label":"l"}`).Factor, lowerID},
		{"a preferred factor", parsed[FactorPreferRequest](t, `{"user":"u","factor":"`+upperID+`"}`).Factor, lowerID},
		{"a device", parsed[DeviceRevokeRequest](t, `{"user":"u","device":"`+upperID+`"}`).Device, lowerID},
		{"a challenge as proof", parsed[FactorRemoveRequest](t, `{"user":"u","session":"s","factor":"`+lowerID+`","challenge":"`+upperID+`"}`).Challenge, lowerID},
		{"a code as proof", parsed[DeactivateBeginRequest](t, `{"user":"u","session":"s","code":"１23-456"}`).Code, "123456"},
		{"a backup code as proof", parsed[DeactivateBeginRequest](t, `{"user":"u","session":"s","code":"k7q2 9xw4m−3zro"}`).Code, "K7Q29XW4M3ZR0"},
		{"a recovery", parsed[SupportRecoveryRequest](t, `{"app":"shop","recovery":"`+upperID+`"}`).Recovery, lowerID},
		{"a phone", parsed[FactorBeginRequest](t, `{"user":"u","session":"s","kind":"sms","address":"+1 (415) 555-0100"}`).Address, "+14155550100"},
		{"an email address", parsed[FactorBeginRequest](t, `{"user":"u","session":"s","kind":"email","address":"First.Last@EXAMPLE.COM"}`).Address, "First.Last@example.com"},
		{"a phone for recovery", parsed[RecoveryAddressRequest](t, `{"user":"u","session":"s","method":"phone","address":"+1 415 555 0100"}`).Address, "+14155550100"},
		{"a code", parsed[FactorConfirmRequest](t, `{"ceremony":"`+lowerID+`","session":"s","code":" ١٢٣ ٤٥٦ "}`).Code, "123456"},
		{"a Yubico OTP", parsed[FactorConfirmRequest](t, `{"ceremony":"`+lowerID+`","session":"s","code":"`+strings.ToUpper(yubico)+`"}`).Code, yubico},
		{"a token's value", parsed[FactorResyncRequest](t, `{"user":"u","session":"s","factor":"`+lowerID+`","first":"755 224","second":"287-082"}`).Second, "287082"},
		{"a code of a recovery", parsed[RecoveryProveRequest](t, `{"recovery":"`+lowerID+`","session":"s","method":"letter","code":"12345 67890"}`).Code, "1234567890"},
		{"a backup code", parsed[RecoveryProveRequest](t, `{"recovery":"`+lowerID+`","session":"s","method":"backup_code","code":"k7q2-9xw4m-3zrt"}`).Code, "K7Q29XW4M3ZRT"},
		{"a passphrase stays as it was typed", parsed[RecoveryProveRequest](t, `{"recovery":"`+lowerID+`","session":"s","method":"passphrase","code":" 123-456 "}`).Code, " 123-456 "},
		{"a code that cancels", parsed[RecoveryCancelRequest](t, `{"user":"u","code":"1234 5678"}`).Code, "12345678"},
		{"an internal check", parsed[CheckRequest](t, `{"app":"shop","user":"u","session":"s","code":"123 456"}`).Code, "123456"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, not %q", c.what, c.got, c.want)
		}
	}
	postal := parsed[RecoveryAddressRequest](t, `{"user":"u","session":"s","method":"letter","postal":{"name":" Jane Doe ","line1":"1 Main Street","city":"Springfield","region":"or","postal_code":"97403 1234","country":"US"}}`).Postal
	if d := cmp.Diff(&otp.Address{Name: "Jane Doe", Line1: "1 Main Street", City: "Springfield", Region: "OR", PostalCode: "97403-1234", Country: "US"}, postal); d != "" {
		t.Error(d)
	}
}

func TestParseGivesNothingWithAProblem(t *testing.T) {
	r, p := Parse[FactorBeginRequest]([]byte(`{"user":"u","session":"s","kind":"pigeon"}`))
	if p == nil || r.User != "" || r.Session != "" {
		t.Errorf("%+v, %v", r, p)
	}
}

// TestFallbacksMayBeEmptied tells a list that is empty, which gives the order back to the policy, from none, which leaves it.
func TestFallbacksMayBeEmptied(t *testing.T) {
	if r := parsed[FactorPreferRequest](t, `{"user":"u","fallbacks":[]}`); r.Fallbacks == nil {
		t.Error("an empty list reads as none")
	}
	if r := parsed[FactorPreferRequest](t, `{"user":"u","factor":"`+lowerID+`"}`); r.Fallbacks != nil {
		t.Error("no list reads as an empty one")
	}
}

func TestChanges(t *testing.T) {
	for body, want := range map[string]bool{
		`{"user":"u"}`: false,
		`{"user":"u","session":"s","client":{"ip":"::1"},"code":"123456","remove":[]}`: false,
		`{"user":"u","session":"s","country":"CZ"}`:                                    true,
		`{"user":"u","session":"s","region":"OR"}`:                                     true,
		`{"user":"u","session":"s","passphrase":"correct horse battery staple"}`:       true,
		`{"user":"u","session":"s","remove":["letter"]}`:                               true,
	} {
		if r := parsed[PreferencesRequest](t, body); r.Changes() != want {
			t.Errorf("%s: %v", body, r.Changes())
		}
	}
}

// TestParseVerifyTellsForms holds what verification needs to know of an answer before it looks at anybody's factors.
func TestParseVerifyTellsForms(t *testing.T) {
	for answer, want := range map[string]Answer{
		`"code":"123 456"`:                     {Code: "123456", Form: otp.FormDigits},
		`"code":"k7q2-9xw4m-3zrt"`:             {Code: "K7Q29XW4M3ZRT", Form: otp.FormBackupCode},
		`"code":"` + yubico + `"`:              {Code: yubico, Form: otp.FormYubico},
		`"credential":{"id":"mGx0"}`:           {Credential: []byte(`{"id":"mGx0"}`)},
		`"credential":{"id":"mGx0"},"code":""`: {Credential: []byte(`{"id":"mGx0"}`)},
		`"code":"1234","factor":"yubikey"`:     {Code: "1234", Form: otp.FormDigits, Factor: otp.FactorYubikey},
		`"code":"1234","trust_device":{"label":"` + strings.Repeat("l", 128) + `"}`: {Code: "1234", Form: otp.FormDigits, TrustDevice: &TrustDevice{strings.Repeat("l", 128)}},
	} {
		a, p := ParseVerify("shop", []byte(`{"challenge":"`+upperID+`","session":"s",`+answer+`}`))
		want.App, want.Challenge, want.Session = "shop", a.Challenge, "s"
		if p != nil || a.Challenge.String() != lowerID {
			t.Errorf("%s: %v, %v", answer, a.Challenge, p)
			continue
		}
		if d := cmp.Diff(want, a); d != "" {
			t.Errorf("%s: %s", answer, d)
		}
	}
}

func TestParseSignalReadsEveryField(t *testing.T) {
	at := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	const erased = "01a1ff0d-0bcc-7c1e-9d2a-3f1be2a45c48"
	for name, want := range map[SignalName]SignalData{
		PasswordChanged:  {User: "u-42"},
		SessionSignedOut: {User: "u-42", Session: "s-9f3c"},
		DeviceErased:     {User: "u-42", Device: erased},
		UserDeleted:      {User: "u-42"},
	} {
		body := examples(t, string(name), "valid")["full"]
		got, p := ParseSignal("shop", name, body)
		if p != nil {
			t.Fatalf("%s: %v", name, p)
		}
		if d := cmp.Diff(Signal{"shop", name, "01JD4Q0000SHOP", at, want}, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if tail, ok := SignalOf(SignalSubject("shop", name)); !ok || tail != name {
			t.Errorf("%s is read from its subject as %q, %v", name, tail, ok)
		}
	}
	if _, p := ParseSignal("shop", "password.forgotten", examples(t, string(PasswordChanged), "valid")["full"]); p == nil || p.Field != "subject" {
		t.Errorf("an unknown signal: %v", p)
	}
	for _, subject := range []string{"otpost.app.shop.login", "otpost.work.signal.user.deleted", "", LoginSubject("shop")} {
		if name, ok := SignalOf(subject); ok {
			t.Errorf("%q is the signal %q", subject, name)
		}
	}
}
