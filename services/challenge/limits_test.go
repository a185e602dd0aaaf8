package challenge

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// anywhere is a policy that bounds nothing and lets every country be reached.
func anywhere() otp.Policy {
	p := otp.DefaultPolicy()
	p.Delivery.Countries, p.Delivery.Limits = []string{otp.AnyCountry}, otp.NoLimits()
	return p
}

// openGate opens "old" and "new" as numbers and all else as a mailbox, and lists nothing.
func openGate() *limit.Gate {
	key := func(parts ...string) (id uuid.UUID, err error) {
		sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
		return uuid.UUID(sum[:16]), nil
	}
	return &limit.Gate{
		Open: func(_, _ string, ch otp.Channel, sealed []byte) (string, error) {
			if ch.Phone() {
				return map[string]string{"old": "+420601234567", "new": "+14155550100", "premium": "+19002345678"}[string(sealed)], nil
			}
			return string(sealed) + "@example.com", nil
		},
		Key: func(scope, app, value string) (uuid.UUID, error) { return key(scope, app, value) },
		Reached: func(app string, ch otp.Channel, address string) (uuid.UUID, error) {
			return key(app, string(ch.Address()), address)
		},
		Listed: func(_ postgres.App, _ otp.Channel, address string) (postgres.Destination, bool, error) {
			switch address {
			case "+15005550006":
				return postgres.Destination{Kind: postgres.DestinationTest, CodeDigest: make([]byte, 32)}, true, nil
			case "+14155550199":
				return postgres.Destination{Kind: postgres.DestinationSafe}, true, nil
			}
			return postgres.Destination{}, false, nil
		},
	}
}

// What keeps a code from an address by what the address is, and what takes its place.
func TestWhereACodeMayGo(t *testing.T) {
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	totp := postgres.Factor{ID: uuid.New(), Kind: otp.FactorTOTP, Digits: 6}
	phone := func(sealed string) postgres.Factor {
		return postgres.Factor{ID: uuid.New(), Kind: otp.FactorSMS, Sealed: []byte(sealed), Mask: "+•"}
	}
	mailbox := postgres.Factor{ID: uuid.New(), Kind: otp.FactorEmail, Sealed: []byte("u"), Mask: "u•"}
	for _, tt := range []struct {
		name      string
		countries []string
		channel   string
		phone     string // that the app vouches for
		mail      string
		factors   []postgres.Factor
		blocked   string // a prefix

		factor  otp.FactorKind // "" for refused
		reason  string
		methods []string
		keeps   string // the addresses that the challenge has: s, e or both
		country string
	}{
		{name: "no country is listed", phone: "+14155550100", reason: "blocked_destination"},
		{name: "a country that is listed", countries: []string{"US"}, phone: "+14155550100", factor: otp.FactorSMS, keeps: "s", country: "US"},
		{name: "one that is not", countries: []string{"CA"}, phone: "+14155550100", reason: "blocked_destination"},
		{name: "of one calling code, each counts by itself", countries: []string{"US"}, phone: "+14165550100", reason: "blocked_destination"},
		{name: "premium, whatever is listed", countries: []string{"*"}, phone: "+19002345678", reason: "blocked_destination"},
		{name: "satellite, whatever is listed", countries: []string{"*"}, phone: "+881612345678", reason: "blocked_destination"},
		{name: "the next factor of the user", phone: "+14155550100", mail: "u@example.com", factor: otp.FactorEmail, keeps: "e"},
		{name: "not where the channel was asked for", channel: "sms", phone: "+14155550100", mail: "u@example.com", reason: "blocked_destination"},
		{name: "nor one of its channels", channel: "voice", phone: "+14155550100", mail: "u@example.com", reason: "blocked_destination"},
		{name: "nothing is let pass", countries: []string{"CZ"}, factors: []postgres.Factor{phone("new")}, reason: "blocked_destination"},
		{name: "what is enrolled is judged as well", countries: []string{"CZ"}, factors: []postgres.Factor{phone("old")}, factor: otp.FactorSMS, keeps: "s", country: "CZ"},
		{name: "what is enrolled and premium", countries: []string{"*"}, factors: []postgres.Factor{phone("premium")}, reason: "blocked_destination"},
		{
			name: "a factor without delivery is never barred, and what is barred is no method", factors: []postgres.Factor{totp, phone("old"), mailbox},
			factor: otp.FactorTOTP, methods: []string{"email"}, keeps: "e",
		},
		{name: "a blocked prefix", countries: []string{"*"}, blocked: "+1415", phone: "+14155550100", reason: "blocked_destination"},
		{name: "another prefix", countries: []string{"*"}, blocked: "+1416", phone: "+14155550100", factor: otp.FactorSMS, keeps: "s", country: "US"},
		{name: "a safe destination in a blocked prefix", countries: []string{"*"}, blocked: "+1415", phone: "+14155550199", factor: otp.FactorSMS, keeps: "s", country: "US"},
		{name: "a test destination, wherever it is", phone: "+15005550006", factor: otp.FactorSMS, keeps: "s", country: "US"},
		{name: "a challenge is a test's altogether", phone: "+15005550006", mail: "u@example.com", factor: otp.FactorSMS, keeps: "s", country: "US"},
		{name: "or not at all", channel: "email", phone: "+15005550006", mail: "u@example.com", factor: otp.FactorEmail, keeps: "e"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &login{app: postgres.App{Policy: anywhere()}, gate: openGate(), received: now}
			l.app.Policy.Delivery.Countries = tt.countries
			l.Channel = tt.channel
			if tt.phone != "" {
				l.Phone, l.sealedPhone = tt.phone, []byte("phone")
			}
			if tt.mail != "" {
				l.Mail, l.sealedMail = tt.mail, []byte("mail")
			}
			u := postgres.UserState{Factors: tt.factors, Blocked: func(prefix string) (time.Time, bool) { return now, prefix == tt.blocked }}
			d := l.decide(u, 7, now)
			if tt.factor == "" {
				if d.Outcome != "refused" || d.Reason != tt.reason || d.RetryAfter != 0 {
					t.Errorf("decided %+v", d)
				}
				return
			}
			if d.Outcome != "issued" {
				t.Fatalf("decided %+v", d)
			}
			c, keeps := d.Challenge, ""
			if len(c.ToSMS) > 0 {
				keeps += "s"
			}
			if len(c.ToEmail) > 0 {
				keeps += "e"
			}
			test := tt.phone == "+15005550006" && tt.factor == otp.FactorSMS
			if c.Factor != tt.factor || !slices.Equal(c.Methods, tt.methods) || keeps != tt.keeps || c.Country != tt.country ||
				c.Test != test || test != (len(c.TestCode) == 48) {
				t.Errorf("issued %s, methods %v, addresses %q, in %q, test %t; want %s, %v, %q, %q, %t", c.Factor, c.Methods, keeps, c.Country, c.Test, tt.factor,
					tt.methods, tt.keeps, tt.country, test)
			}
		})
	}
}

// What a message counts in.
func TestWhatAMessageCountsIn(t *testing.T) {
	policy := anywhere()
	all := otp.Rate{Day: 10}
	policy.Delivery.Limits = otp.Limits{User: all, Destination: all, IP: all, Prefix: all, App: all}
	policy.Delivery.SpendCaps = map[string]int64{"US": 1_000_000, "": 0}
	g := openGate()
	g.Carrier = func(postgres.App, otp.Channel, string, uuid.UUID) (string, int64) { return "primary", 7_900 }
	ip, err := g.AddressKey("demo", "2001:db8::1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		to     string
		ip     uuid.UUID
		scopes string
	}{
		"a phone":                 {to: "+14155550100", ip: ip, scopes: "user destination ip prefix app spend"},
		"of no known address":     {to: "+14155550100", scopes: "user destination prefix app spend"},
		"a safe one":              {to: "+14155550199", ip: ip, scopes: "user destination ip spend"},
		"a test":                  {to: "+15005550006", ip: ip},
		"a mailbox costs nothing": {to: "u@example.com", ip: ip, scopes: "user destination ip"},
	} {
		ch := otp.SMS
		if strings.Contains(tt.to, "@") {
			ch = otp.Email
		}
		got, err := g.Target(limit.Sending{App: postgres.App{Name: "demo", Policy: policy}, User: "u", Channel: ch, Address: tt.to, IP: tt.ip})
		if err != nil {
			t.Fatal(err)
		}
		var scopes []string
		keys := map[uuid.UUID]bool{}
		for _, l := range got.Limits {
			scopes = append(scopes, l.Scope)
			keys[l.Key] = true
			if want := int64(1); l.Scope == limit.ScopeSpend && (l.N != 7_900 || l.Warn != 800_000 || l.Bound.Day != 1_000_000) || l.Scope != limit.ScopeSpend && l.N != want {
				t.Errorf("%s: %s counts %d of %+v, warning at %d", name, l.Scope, l.N, l.Bound, l.Warn)
			}
		}
		if s := strings.Join(scopes, " "); s != tt.scopes || len(keys) != len(scopes) {
			t.Errorf("%s counts in %q, want %q; %d keys", name, s, tt.scopes, len(keys))
		}
	}
}

// One network is counted as one, however its address is written.
func TestAddressKey(t *testing.T) {
	g := openGate()
	key := func(ip string) uuid.UUID {
		id, err := g.AddressKey("demo", ip)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for _, same := range [][2]string{
		{"192.0.2.1", "::ffff:192.0.2.1"}, {"2001:db8::1", "2001:db8::ffff:0:1"}, {"2001:db8::1", "2001:0DB8:0:0::9"}, {"", "no address"},
	} {
		if key(same[0]) != key(same[1]) {
			t.Errorf("%s and %s are counted apart", same[0], same[1])
		}
	}
	for _, apart := range [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8:0:1::1"}, {"192.0.2.1", ""}} {
		if key(apart[0]) == key(apart[1]) {
			t.Errorf("%s and %s are counted as one", apart[0], apart[1])
		}
	}
	if other, err := g.AddressKey("other", "192.0.2.1"); err != nil || other == key("192.0.2.1") {
		t.Errorf("two apps count as one: %v", err)
	}
}
