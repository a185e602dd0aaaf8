package otp

import (
	stdjson "encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"
)

func TestDefaultFactorPolicy(t *testing.T) {
	p := DefaultFactorPolicy()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	const want = `{"totp":{"algorithm":"SHA1","digits":6,"period":30},"hotp_look_ahead":10,"hotp_resync":100,"ceremony_seconds":600,"reauth_seconds":300,` +
		`"cooling_off_seconds":86400,"device_seconds":2592000,"device_grace_seconds":30,"recovery_wait_seconds":86400,"recoveries_per_day":3,` +
		`"recovery_methods":{"*":["email"],"US":["email","phone","letter"]},"support_approval":true,"rp_id":"","origins":[],"max_factors":20}`
	got, err := p.MarshalJSON()
	if err != nil || string(got) != want {
		t.Errorf("%s\nnot %s (%v)", got, want, err)
	}
	p.RecoveryMethods["US"][0] = "changed"
	if DefaultFactorPolicy().RecoveryMethods["US"][0] != "email" {
		t.Error("what one caller changes, another gets")
	}
}

func TestFactorPolicyBounds(t *testing.T) {
	const day = 24 * time.Hour
	party := func(id string, origins ...string) func(*FactorPolicy) {
		return func(p *FactorPolicy) { p.RPID, p.Origins = id, origins }
	}
	methods := func(country string, m ...string) func(*FactorPolicy) {
		return func(p *FactorPolicy) { p.RecoveryMethods = map[string][]string{country: m} }
	}
	for _, c := range []struct {
		name string
		ok   bool
		set  func(*FactorPolicy)
	}{
		{"totp algorithm", true, func(p *FactorPolicy) { p.TOTP = TOTP{"SHA512", 8, 60} }},
		{"totp algorithm", false, func(p *FactorPolicy) { p.TOTP.Algorithm = "MD5" }},
		{"totp digits", false, func(p *FactorPolicy) { p.TOTP.Digits = 9 }},
		{"totp period", false, func(p *FactorPolicy) { p.TOTP.Period = 45 }},
		{"hotp_look_ahead", true, func(p *FactorPolicy) { p.HOTPLookAhead = 1 }},
		{"hotp_look_ahead", true, func(p *FactorPolicy) { p.HOTPLookAhead = 50 }},
		{"hotp_look_ahead", false, func(p *FactorPolicy) { p.HOTPLookAhead = 0 }},
		{"hotp_look_ahead", false, func(p *FactorPolicy) { p.HOTPLookAhead = 51 }},
		{"hotp_resync", true, func(p *FactorPolicy) { p.HOTPResync = 10 }},
		{"hotp_resync", true, func(p *FactorPolicy) { p.HOTPResync = 1000 }},
		{"hotp_resync", false, func(p *FactorPolicy) { p.HOTPResync = 9 }},
		{"hotp_resync", false, func(p *FactorPolicy) { p.HOTPResync = 1001 }},
		{"ceremony_seconds", true, func(p *FactorPolicy) { p.CeremonyLife = 2 * time.Minute }},
		{"ceremony_seconds", true, func(p *FactorPolicy) { p.CeremonyLife = 30 * time.Minute }},
		{"ceremony_seconds", false, func(p *FactorPolicy) { p.CeremonyLife = 119 * time.Second }},
		{"ceremony_seconds", false, func(p *FactorPolicy) { p.CeremonyLife = 30*time.Minute + time.Second }},
		{"ceremony_seconds", false, func(p *FactorPolicy) { p.CeremonyLife = 10*time.Minute + 1 }},
		{"reauth_seconds", true, func(p *FactorPolicy) { p.ReauthWithin = time.Minute }},
		{"reauth_seconds", false, func(p *FactorPolicy) { p.ReauthWithin = 59 * time.Second }},
		{"reauth_seconds", false, func(p *FactorPolicy) { p.ReauthWithin = 301 * time.Second }},
		{"cooling_off_seconds", true, func(p *FactorPolicy) { p.CoolingOff = 0 }},
		{"cooling_off_seconds", true, func(p *FactorPolicy) { p.CoolingOff = 7 * day }},
		{"cooling_off_seconds", false, func(p *FactorPolicy) { p.CoolingOff = -1 }},
		{"cooling_off_seconds", false, func(p *FactorPolicy) { p.CoolingOff = 7*day + time.Second }},
		{"device_seconds", true, func(p *FactorPolicy) { p.DeviceLife = 0 }},
		{"device_seconds", true, func(p *FactorPolicy) { p.DeviceLife = 90 * day }},
		{"device_seconds", false, func(p *FactorPolicy) { p.DeviceLife = 91 * day }},
		{"device_seconds", false, func(p *FactorPolicy) { p.DeviceLife = -day }},
		{"device_grace_seconds", true, func(p *FactorPolicy) { p.DeviceGrace = 5 * time.Second }},
		{"device_grace_seconds", false, func(p *FactorPolicy) { p.DeviceGrace = 4 * time.Second }},
		{"device_grace_seconds", false, func(p *FactorPolicy) { p.DeviceGrace = 301 * time.Second }},
		{"recovery_wait_seconds", true, func(p *FactorPolicy) { p.RecoveryWait = 0 }},
		{"recovery_wait_seconds", false, func(p *FactorPolicy) { p.RecoveryWait = 8 * day }},
		{"recoveries_per_day", true, func(p *FactorPolicy) { p.RecoveriesPerDay = 10 }},
		{"recoveries_per_day", false, func(p *FactorPolicy) { p.RecoveriesPerDay = 0 }},
		{"recoveries_per_day", false, func(p *FactorPolicy) { p.RecoveriesPerDay = 11 }},
		{"max_factors", true, func(p *FactorPolicy) { p.MaxFactors = 50 }},
		{"max_factors", false, func(p *FactorPolicy) { p.MaxFactors = 0 }},
		{"max_factors", false, func(p *FactorPolicy) { p.MaxFactors = 51 }},
		{"recovery_methods", true, func(p *FactorPolicy) { p.RecoveryMethods = nil }},
		{"recovery_methods", true, methods("*")},
		{"recovery_methods", true, methods("CZ", "letter", "email")},
		{"recovery_methods", false, methods("cz", "email")},
		{"recovery_methods", false, methods("UK", "email")},
		{"recovery_methods", false, methods("ZZ", "email")},
		{"recovery_methods", false, methods("EU", "email")},
		{"recovery_methods", false, methods("", "email")},
		{"recovery_methods", false, methods("USA", "email")},
		{"recovery_methods", false, methods("US", "sms")},
		{"recovery_methods", false, methods("US", "passphrase")},
		{"recovery_methods", false, methods("US", "email", "email")},
		{"rp_id", true, party("shop.example", "https://shop.example")},
		{"rp_id", true, party("shop.example", "https://shop.example:8443", "https://login.shop.example")},
		{"rp_id", true, party("xn--bcher-kva.example", "https://xn--bcher-kva.example")},
		{"rp_id", true, party("localhost", "http://localhost:8080", "https://localhost", "http://app.localhost:3000")},
		{"rp_id", true, party("intranet", "https://intranet")},
		{"rp_id", false, party("", "https://shop.example")},
		{"rp_id", false, party("Shop.example", "https://shop.example")},
		{"rp_id", false, party("https://shop.example", "https://shop.example")},
		{"rp_id", false, party("shop.example:443", "https://shop.example")},
		{"rp_id", false, party("127.0.0.1", "https://127.0.0.1")},
		{"rp_id", false, party("shop..example", "https://shop.example")},
		{"rp_id", false, party("*.shop.example", "https://shop.example")},
		{"origins", false, party("shop.example")},
		{"origins", false, party("shop.example", "http://shop.example")},
		{"origins", false, party("shop.example", "https://other.example")},
		{"origins", false, party("shop.example", "https://evilshop.example")},
		{"origins", false, party("shop.example", "https://example")},
		{"origins", false, party("example", "https://shop.example")}, // a whole top-level domain
		{"origins", false, party("shop.example", "https://shop.example/")},
		{"origins", false, party("shop.example", "https://shop.example?x")},
		{"origins", false, party("shop.example", "https://shop.example#x")},
		{"origins", false, party("shop.example", "https://me@shop.example")},
		{"origins", false, party("shop.example", "https://shop.example:443")},
		{"origins", false, party("shop.example", "https://shop.example:")},
		{"origins", false, party("shop.example", "https://Shop.example")},
		{"origins", false, party("shop.example", "HTTPS://shop.example")},
		{"origins", false, party("shop.example", "https://LOGIN.shop.example")},
		{"origins", false, party("shop.example", "https://bücher.shop.example")},
		{"origins", false, party("shop.example", "https://a b.shop.example")},
		{"origins", false, party("shop.example", "shop.example")},
		{"origins", false, party("shop.example", "")},
		{"origins", false, party("shop.example", "android:apk-key-hash:abc")},
		{"origins", false, party("localhost", "http://localhost:80")},
		{"origins", false, party("shop.example", "https://shop.example", "https://shop.example")},
		{"origins", false, party("shop.example", slices.Repeat([]string{"https://shop.example"}, 11)...)},
	} {
		p := DefaultFactorPolicy()
		c.set(&p)
		err := p.Check()
		if (err == nil) != c.ok {
			t.Errorf("%s in %+v: %v", c.name, p, err)
		}
		if err != nil && !strings.Contains(err.Error(), c.name) {
			t.Errorf("the error does not name %s: %v", c.name, err)
		}
		whole := DefaultPolicy()
		whole.Factors = p
		if err := whole.Check(); (err == nil) != c.ok {
			t.Errorf("%s as part of the whole policy: %v", c.name, err)
		}
	}
}

func TestParseFactorPolicy(t *testing.T) {
	for in, set := range map[string]func(*FactorPolicy){
		`{}`:                         func(*FactorPolicy) {},
		` { } `:                      func(*FactorPolicy) {},
		`{"support_approval":false}`: func(p *FactorPolicy) { p.SupportApproval = false },
		`{"cooling_off_seconds":0}`:  func(p *FactorPolicy) { p.CoolingOff = 0 },
		`{"device_seconds":86400}`:   func(p *FactorPolicy) { p.DeviceLife = 24 * time.Hour },
		`{"totp":{"digits":8}}`:      func(p *FactorPolicy) { p.TOTP.Digits = 8 },
		`{"recovery_methods":{"CZ":["phone"]}}`: func(p *FactorPolicy) { // named, it is named whole
			p.RecoveryMethods = map[string][]string{"CZ": {"phone"}}
		},
		`{"recovery_methods":{}}`: func(p *FactorPolicy) { p.RecoveryMethods = map[string][]string{} },
		`{"rp_id":"shop.example","origins":["https://shop.example"]}`: func(p *FactorPolicy) {
			p.RPID, p.Origins = "shop.example", []string{"https://shop.example"}
		},
		`{"origins":[]}`: func(*FactorPolicy) {},
	} {
		want := DefaultFactorPolicy()
		set(&want)
		if got, err := ParseFactorPolicy([]byte(in)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, not\n%+v (%v)", in, got, want, err)
		}
	}
	for in, names := range map[string]string{
		``:                                       "parse",
		`null`:                                   "totp",
		`[]`:                                     "parse",
		`{"cooling_of_seconds":5}`:               "cooling_of_seconds",
		`{"Max_Factors":5}`:                      "Max_Factors",
		`{"totp":{"skew":1}}`:                    "skew",
		`{"max_factors":5,"max_factors":6}`:      "max_factors",
		`{"max_factors":"5"}`:                    "max_factors",
		`{"max_factors":5.5}`:                    "max_factors",
		`{"max_factors":null}`:                   "max_factors",
		`{"max_factors":99}`:                     "max_factors",
		`{"device_seconds":-1}`:                  "device_seconds",
		`{"device_seconds":9223372036854775807}`: "device_seconds",
		`{"device_seconds":-9223372036854775808}`:  "device_seconds",
		`{"device_seconds":99999999999999999999}`:  "device_seconds",
		`{"recovery_methods":{"US":["fax"]}}`:      "recovery_methods",
		`{"recovery_methods":{"US":[],"US":["x"]}`: "recovery_methods",
		`{"rp_id":"shop.example"}`:                 "origins",
		`{} x`:                                     "parse",
	} {
		got, err := ParseFactorPolicy([]byte(in))
		if err == nil || !strings.Contains(err.Error(), names) || !reflect.DeepEqual(got, FactorPolicy{}) {
			t.Errorf("%s: %+v, and the error does not name %s: %v", in, got, names, err)
		}
	}
}

// TestFactorPolicyRoundTrip writes good policies and reads them again, by the encoder of this house and by the standard one.
func TestFactorPolicyRoundTrip(t *testing.T) {
	secs := func(lo, hi int64) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.Int64Range(lo, hi), func(s int64) time.Duration { return time.Duration(s) * time.Second })
	}
	someMethods := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"email", "phone", "letter"}), rapid.ID[string])
	rapid.Check(t, func(t *rapid.T) {
		p := FactorPolicy{
			TOTP: TOTP{
				rapid.SampledFrom([]string{"SHA1", "SHA256", "SHA512"}).Draw(t, "algorithm"), rapid.IntRange(6, 8).Draw(t, "digits"),
				rapid.SampledFrom([]int{30, 60}).Draw(t, "period"),
			},
			HOTPLookAhead: rapid.IntRange(1, 50).Draw(t, "look-ahead"), HOTPResync: rapid.IntRange(10, 1000).Draw(t, "resync"),
			CeremonyLife: secs(120, 1800).Draw(t, "ceremony"), ReauthWithin: secs(60, 300).Draw(t, "reauth"), CoolingOff: secs(0, 604800).Draw(t, "cooling"),
			DeviceLife: secs(0, 7776000).Draw(t, "device"), DeviceGrace: secs(5, 300).Draw(t, "grace"), RecoveryWait: secs(0, 604800).Draw(t, "wait"),
			RecoveriesPerDay: rapid.IntRange(1, 10).Draw(t, "recoveries"), SupportApproval: rapid.Bool().Draw(t, "approval"),
			RecoveryMethods: rapid.MapOf(rapid.SampledFrom([]string{"*", "US", "CZ", "JP"}), someMethods).Draw(t, "methods"),
			MaxFactors:      rapid.IntRange(1, 50).Draw(t, "factors"),
		}
		if rapid.Bool().Draw(t, "security keys") {
			p.RPID, p.Origins = "shop.example", []string{"https://shop.example", "https://www.shop.example:8443"}
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		house, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		standard, err := stdjson.Marshal(p)
		if err != nil || string(standard) != string(house) {
			t.Fatalf("%s and %s (%v)", house, standard, err)
		}
		if got, err := ParseFactorPolicy(house); err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("%+v became %s and that %+v (%v)", p, house, got, err)
		}
		got := FactorPolicy{MaxFactors: 7, RecoveryMethods: map[string][]string{"FR": {"email"}}} // what was there before does not count
		if err := stdjson.Unmarshal(standard, &got); err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("%+v became %s and that %+v (%v)", p, standard, got, err)
		}
	})
}

func TestMethodsFor(t *testing.T) {
	p := DefaultFactorPolicy()
	p.RecoveryMethods["CH"] = []string{}
	for country, want := range map[string][]string{"US": {"email", "phone", "letter"}, "CZ": {"email"}, "": {"email"}, "us": {"email"}, "CH": {}, "*": {"email"}} {
		if got := p.MethodsFor(country); !slices.Equal(got, want) {
			t.Errorf("%q: %v, not %v", country, got, want)
		}
	}
	p.MethodsFor("US")[0] = "changed"
	if p.MethodsFor("US")[0] != "email" {
		t.Error("a caller changed the policy")
	}
	if got := (FactorPolicy{}).MethodsFor("US"); len(got) != 0 {
		t.Errorf("of no policy: %v", got)
	}
}
