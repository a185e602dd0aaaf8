package otp

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

// TestHOTPVectors are those of RFC 4226, appendix D: a TOTP value is the HOTP value of its step.
func TestHOTPVectors(t *testing.T) {
	secret := []byte("12345678901234567890")
	for step, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got, err := DefaultTOTP().Value(secret, int64(step)); err != nil || got != want {
			t.Errorf("counter %d: %s, not %s (%v)", step, got, want, err)
		}
	}
}

// TestTOTPVectors are those of RFC 6238, appendix B. Its text gives one secret; its reference implementation (appendix A), which made the
// table, repeats it to 32 bytes for SHA-256 and 64 for SHA-512 (RFC errata 2866).
func TestTOTPVectors(t *testing.T) {
	const seed = "1234567890123456789012345678901234567890123456789012345678901234"
	secrets := map[string][]byte{"SHA1": []byte(seed[:20]), "SHA256": []byte(seed[:32]), "SHA512": []byte(seed)}
	for _, row := range []struct {
		at                   int64
		step                 int64
		sha1, sha256, sha512 string
	}{
		{59, 0x1, "94287082", "46119246", "90693936"},
		{1111111109, 0x23523EC, "07081804", "68084774", "25091201"},
		{1111111111, 0x23523ED, "14050471", "67062674", "99943326"},
		{1234567890, 0x273EF07, "89005924", "91819424", "93441116"},
		{2000000000, 0x3F940AA, "69279037", "90698825", "38618901"},
		{20000000000, 0x27BC86AA, "65353130", "77737706", "47863826"},
	} {
		for algorithm, want := range map[string]string{"SHA1": row.sha1, "SHA256": row.sha256, "SHA512": row.sha512} {
			setting := TOTP{Algorithm: algorithm, Digits: 8, Period: 30}
			step := setting.Step(time.Unix(row.at, 0))
			if step != row.step {
				t.Errorf("%d: step %#x, not %#x", row.at, step, row.step)
			}
			if got, err := setting.Value(secrets[algorithm], step); err != nil || got != want {
				t.Errorf("%s at %d: %s, not %s (%v)", algorithm, row.at, got, want, err)
			}
		}
	}
}

func TestTOTPBounds(t *testing.T) {
	for _, c := range []struct {
		setting TOTP
		ok      bool
	}{
		{DefaultTOTP(), true},
		{TOTP{"SHA256", 7, 60}, true},
		{TOTP{"SHA512", 8, 30}, true},
		{TOTP{"MD5", 6, 30}, false},
		{TOTP{"sha1", 6, 30}, false},
		{TOTP{"", 6, 30}, false},
		{TOTP{"SHA1", 5, 30}, false},
		{TOTP{"SHA1", 9, 30}, false},
		{TOTP{"SHA1", 6, 0}, false},
		{TOTP{"SHA1", 6, 45}, false},
		{TOTP{}, false},
	} {
		err := c.setting.Check()
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.setting, err)
		}
		if _, valueErr := c.setting.Value([]byte("secret"), 1); (valueErr == nil) != c.ok {
			t.Errorf("%+v: value: %v", c.setting, valueErr)
		}
		if _, uriErr := c.setting.URI("Shop", "u-42", []byte("secret")); (uriErr == nil) != c.ok {
			t.Errorf("%+v: URI: %v", c.setting, uriErr)
		}
	}
}

func TestTOTPMatch(t *testing.T) {
	setting, secret := DefaultTOTP(), []byte("12345678901234567890")
	const now = 5 // the step that holds at
	at := time.Unix(now*30+29, 0)
	value := func(step int64) string {
		v, err := setting.Value(secret, step)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name string
		of   int64 // the step whose value is the answer
		skew int
		last int64
		ok   bool
	}{
		{"now", 5, 1, 0, true},
		{"one step behind", 4, 1, 0, true},
		{"one step ahead", 6, 1, 0, true},
		{"two behind", 3, 1, 0, false},
		{"two ahead", 7, 1, 0, false},
		{"two behind, wider skew", 3, 2, 0, true},
		{"behind, no skew", 4, 0, 0, false},
		{"now, no skew", 5, 0, 0, true},
		{"used", 5, 1, 5, false},
		{"older than the used one", 4, 1, 5, false},
		{"newer than the used one", 6, 1, 5, true},
		{"the step after the used one", 5, 1, 4, true},
	} {
		step, ok, err := setting.Match(secret, value(c.of), at, c.skew, c.last)
		if err != nil || ok != c.ok || ok && step != c.of {
			t.Errorf("%s: step %d, %v, %v", c.name, step, ok, err)
		}
	}
	if _, ok, err := setting.Match(secret, "000000", at, 2, 0); ok || err != nil {
		t.Errorf("a wrong answer: %v, %v", ok, err)
	}
	if _, _, err := (TOTP{}).Match(secret, "000000", at, 1, 0); err == nil {
		t.Error("no error for settings out of bounds")
	}
}

// TestTOTPMatchTakesAnUnusedStep has two steps in reach with one value: the earlier is used, so the answer is the later one's.
func TestTOTPMatchTakesAnUnusedStep(t *testing.T) {
	setting, secret := DefaultTOTP(), []byte("12345678901234567890")
	values := map[string]int64{}
	for step := int64(0); ; step++ {
		v, err := setting.Value(secret, step)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := values[v]; ok && step-before <= 4 {
			at := time.Unix((before+2)*30, 0)
			if got, ok, err := setting.Match(secret, v, at, 2, before); err != nil || !ok || got != step {
				t.Errorf("steps %d and %d share a value, the first is used: step %d, %v, %v", before, step, got, ok, err)
			}
			if got, ok, err := setting.Match(secret, v, at, 2, before-1); err != nil || !ok || got != before {
				t.Errorf("steps %d and %d share a value, neither is used: step %d, %v, %v", before, step, got, ok, err)
			}
			return
		}
		values[v] = step
		if step > 2_000_000 {
			t.Fatal("no two near steps share a value")
		}
	}
}

func TestTOTPURI(t *testing.T) {
	secret := []byte("12345678901234567890")
	raw, err := TOTP{"SHA256", 8, 60}.URI("The Shop", "u@example.com", secret)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	got := fmt.Sprint(u.Scheme, " ", u.Host, " ", u.Path, " ", q.Get("secret"), " ", q.Get("issuer"), " ", q.Get("algorithm"), " ", q.Get("digits"), " ", q.Get("period"))
	if want := "otpauth totp /The Shop:u@example.com GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ The Shop SHA256 8 60"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func TestNewTOTPSecret(t *testing.T) {
	a, b := NewTOTPSecret(), NewTOTPSecret()
	if len(a) != TOTPSecretSize || len(b) != TOTPSecretSize || string(a) == string(b) || string(a) == string(make([]byte, TOTPSecretSize)) {
		t.Error("not random secrets of the promised size")
	}
}
