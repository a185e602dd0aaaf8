package otp

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/nyaruka/phonenumbers"
	"pgregory.net/rapid"
)

func TestParsePhoneAccepts(t *testing.T) {
	for _, c := range []struct{ in, region, want string }{
		{"+14155550100", "", "+14155550100"}, // fictional: possible, not valid
		{"+15005550001", "", "+15005550001"}, // Twilio's test numbers
		{"+15005550006", "", "+15005550006"},
		{"+15005550009", "", "+15005550009"},
		{"+1 (415) 555-0100", "", "+14155550100"},
		{"+1.415.555.0100", "CZ", "+14155550100"},
		{"(415) 555-0100", "US", "+14155550100"},
		{"1 415 555 0100", "us", "+14155550100"},
		{"601 123 456", "CZ", "+420601123456"},
		{"00420 601 123 456", "CZ", "+420601123456"},
		{"011 420 601 123 456", "US", "+420601123456"},
		{"+44 (0)20 7946 0958", "", "+442079460958"}, // the national prefix goes
		{"+39 06 698 12345", "", "+390669812345"},    // Italy's zero stays
		{"+683 4000", "", "+6834000"},
		{"+٤٢٠٦٠١١٢٣٤٥٦", "", "+420601123456"},
		{"＋１（４１５）５５５－０１００", "", "+14155550100"},
		{"+९१ ९८७६५ ४३२१०", "", "+919876543210"},
		{"\u202a+420\u00a0601\u2011123\u2009456\u202c", "", "+420601123456"}, // as phones copy contacts
	} {
		got, err := ParsePhone(c.in, c.region)
		if err != nil || got != c.want {
			t.Errorf("ParsePhone(%q, %q) = %q, %v; want %q", c.in, c.region, got, err, c.want)
		}
	}
}

func TestParsePhoneRefuses(t *testing.T) {
	for _, c := range []struct{ in, region, reason string }{
		{"", "", "is empty"},
		{"   ", "US", "is empty"},
		{"601123456", "", "must start with +"},
		{"601123456", "XX", "default region is unknown"},
		{"+1415555", "", "is too short for a number of US"},
		{"+1 555 0100", "", "is too short for a number of US"},
		{"+141555501001", "", "is too long for a number of US"},
		{"+42060112345", "", "is too short for a number of CZ"},
		{"5550100", "US", "is too short for a number of US"},
		{"+4912", "", "is too short"},
		{"+", "", "is not a phone number"},
		{"+9991234567", "", "has no known country code"},
		{"+0420601123456", "", "has no known country code"},
		{"1-800-FLOWERS", "US", "has letters"},
		{"+1 415 555 0100 x12", "", "has letters"},
		{"+1 415 555 0100 #12", "", "has an extension"},
		{"+14155550100;ext=12", "", "has an extension"},
		{"tel:+14155550100", "", "has letters"},
		{"+1415+5550100", "", "has a plus sign inside"},
		{"+14155550100\n", "", "has a line break"},
		{"+14155550100\u2028", "", "has a line break"},
		{"+1415\x005550100", "", "has control characters"},
		{"+1415\xff5550100", "", "has control characters"},
		{"*67 415 555 0100", "US", "is not a phone number"},
		{"+1" + strings.Repeat(" ", 30) + "4155550100", "", "is too long for a phone number"},
		{strings.Repeat("+1", 1<<20), "", "is too long for a phone number"},
	} {
		got, err := ParsePhone(c.in, c.region)
		expectRefusal(t, fmt.Sprintf("ParsePhone(%.40q, %q)", c.in, c.region), c.in, got, err, c.reason)
	}
}

// expectRefusal checks that err is an *AddressError with the reason and without the address.
func expectRefusal(t *testing.T, call, in, got string, err error, reason string) {
	t.Helper()
	refusal, ok := errors.AsType[*AddressError](err)
	switch {
	case !ok || got != "":
		t.Errorf("%s = %q, %v; want an AddressError", call, got, err)
	case !strings.Contains(refusal.Reason, reason):
		t.Errorf("%s: reason %q, want %q", call, refusal.Reason, reason)
	case len(in) > 3 && strings.Contains(err.Error(), in):
		t.Errorf("%s: the error quotes the address", call)
	}
}

// The short way must never change a verdict: what it accepts, the full parse returns unchanged.
func TestShortWayEqualsFullParse(t *testing.T) {
	var codes []int
	for code := range phonenumbers.GetSupportedCallingCodes() {
		codes = append(codes, code)
	}
	regions := []string{"", "US", "GB", "IT", "AR", "BR", "MX", "CZ", "KZ", "CA"}
	rapid.Check(t, func(t *rapid.T) {
		// A real calling code and national prefixes in front, so that most draws come near the rules.
		s := fmt.Sprintf("+%d%s%s", rapid.SampledFrom(codes).Draw(t, "code"),
			rapid.SampledFrom([]string{"", "0", "1", "8", "00", "15", "9", "06", "044"}).Draw(t, "prefix"),
			rapid.StringMatching(`[0-9]{0,13}`).Draw(t, "rest"))
		region := rapid.SampledFrom(regions).Draw(t, "region")
		full, err := parseByPlan(s, region)
		if plainE164(s) && (err != nil || full != s) {
			t.Fatalf("the short way takes %s; the full parse says %q, %v", s, full, err)
		}
		if got, gotErr := ParsePhone(s, region); got != full || (gotErr == nil) != (err == nil) {
			t.Fatalf("ParsePhone(%s) = %q, %v; the full parse says %q, %v", s, got, gotErr, full, err)
		}
	})
}

func TestShortWayTakesExampleNumbers(t *testing.T) {
	long := 0
	regions := phonenumbers.GetSupportedRegions()
	for region := range regions {
		n := phonenumbers.GetExampleNumberForType(region, phonenumbers.MOBILE)
		if n == nil || n.NationalNumber == nil {
			continue
		}
		e164 := phonenumbers.Format(n, phonenumbers.E164)
		if got, err := ParsePhone(e164, ""); got != e164 || err != nil {
			t.Errorf("%s: ParsePhone(%s) = %q, %v", region, e164, got, err)
		}
		if !plainE164(e164) {
			long++
		}
	}
	if long > len(regions)/10 {
		t.Errorf("%d of %d countries' mobile numbers go the long way", long, len(regions))
	}
}

// What ParsePhone returns, it must take again and return unchanged, whatever the region.
func TestParsePhoneIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`\+?[0-9 ()\-]{6,20}`).Draw(t, "input")
		region := rapid.SampledFrom([]string{"US", "DE", "IT", "BR"}).Draw(t, "region")
		first, err := ParsePhone(s, region)
		if err != nil {
			return
		}
		if again, err := ParsePhone(first, ""); err != nil || again != first {
			t.Fatalf("ParsePhone(%q) = %q, which becomes %q, %v", s, first, again, err)
		}
	})
}

func TestDecimalKnowsEveryScript(t *testing.T) {
	for _, r := range unicode.Nd.R16 {
		if (r.Hi-r.Lo+1)%10 != 0 || r.Stride != 1 {
			t.Errorf("digits %x–%x do not come in runs of ten", r.Lo, r.Hi)
		}
	}
	for _, r := range unicode.Nd.R32 {
		if (r.Hi-r.Lo+1)%10 != 0 || r.Stride != 1 {
			t.Errorf("digits %x–%x do not come in runs of ten", r.Lo, r.Hi)
		}
	}
	for want, digits := range map[byte]string{0: "0٠０०𝟎𝟘", 7: "7٧７७𝟕𝟟", 9: "9٩９९𝟗𝟡"} {
		for _, r := range digits {
			if got, ok := decimal(r); !ok || got != want {
				t.Errorf("decimal(%q) = %d, %v; want %d", r, got, ok, want)
			}
		}
	}
	for _, r := range "a²½Ⅷ一" {
		if _, ok := decimal(r); ok {
			t.Errorf("decimal takes %q", r)
		}
	}
}

func TestMaskPhone(t *testing.T) {
	for in, want := range map[string]string{
		"+14155550100":    "+1•••••0100",
		"+420601123456":   "+420•••••3456",
		"+390669812345":   "+39•••••2345",
		"+6834000":        "+683•••••",    // a national number of four digits shows none
		"+29051234":       "+290•••••4",   // of five, one
		"+2471234567":     "+247•••••567", // of seven, three
		"+999123456789":   "•••••",
		"+":               "•••••",
		"":                "•••••",
		"0601123456":      "•••••",
		"+1415555x0100":   "•••••",
		"+1\n4155550100":  "•••••",
		"user@example.cz": "•••••",
	} {
		if got := MaskPhone(in); got != want {
			t.Errorf("MaskPhone(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMaskPhoneHidesFourDigits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`\+[1-9][0-9]{0,16}`).Draw(t, "number")
		got := MaskPhone(s)
		if got == mask {
			return
		}
		code, shown, ok := strings.Cut(got, mask)
		if !ok || !strings.HasPrefix(s, code) || !strings.HasSuffix(s, shown) || len(shown) > 4 ||
			len(shown) > 0 && len(s)-len(code)-len(shown) < 4 {
			t.Fatalf("MaskPhone(%s) = %s", s, got)
		}
	})
}

func TestParseEmailAccepts(t *testing.T) {
	longLocal := strings.Repeat("a", 64)
	for in, want := range map[string]string{
		"user@example.com":                "user@example.com",
		"User.Name+tag@Example.COM":       "User.Name+tag@example.com",
		"o'hara!#$%&*/=?^_`{|}~-@a-b.org": "o'hara!#$%&*/=?^_`{|}~-@a-b.org",
		"x@XN--BCHER-KVA.example":         "x@xn--bcher-kva.example",
		"1@2.3.example":                   "1@2.3.example",
		longLocal + "@example.com":        longLocal + "@example.com",
	} {
		if got, err := ParseEmail(in); err != nil || got != want {
			t.Errorf("ParseEmail(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseEmailRefuses(t *testing.T) {
	label := strings.Repeat("a", 63)
	for in, reason := range map[string]string{
		"":                                    "is empty",
		"user":                                "has no @",
		"@example.com":                        "nothing before the @",
		"user@":                               "nothing after the @",
		"a@b@example.com":                     "is not an email address",
		"User <user@example.com>":             "has a space",
		"User<user@example.com>":              "one bare address",
		"user@example.com,other@example.com":  "one bare address",
		"user(comment)@example.com":           "one bare address",
		"user @example.com":                   "has a space",
		" user@example.com":                   "has a space",
		"user@example.com\r\nBcc: x@evil.com": "has a line break",
		"user@example.com\n":                  "has a line break",
		"us\x00er@example.com":                "has control characters",
		"us\x7fer@example.com":                "has control characters",
		`"user name"@example.com`:             "has a quoted part",
		`us\er@example.com`:                   "has a quoted part",
		"jiří@example.com":                    "outside ASCII",
		"user@bücher.example":                 "outside ASCII",
		".user@example.com":                   "dot out of place",
		"user.@example.com":                   "dot out of place",
		"us..er@example.com":                  "dot out of place",
		"us:er@example.com":                   "is not an email address",
		strings.Repeat("a", 65) + "@ex.com":   "more than 64 characters",
		"user@localhost":                      "incomplete domain",
		"user@[192.0.2.1]":                    "IP address",
		"user@192.0.2.1":                      "malformed domain",
		"user@example..com":                   "malformed domain",
		"user@.example.com":                   "malformed domain",
		"user@example.com.":                   "malformed domain",
		"user@-example.com":                   "malformed domain",
		"user@example-.com":                   "malformed domain",
		"user@exa_mple.com":                   "malformed domain",
		"user@" + label + "a.com":             "malformed domain",
		"user@" + label + "." + label + "." + label + "." + label: "longer than an email address may be",
	} {
		got, err := ParseEmail(in)
		expectRefusal(t, fmt.Sprintf("ParseEmail(%q)", in), in, got, err, reason)
	}
}

// Nothing that ParseEmail lets through can break a header, an envelope or a log line, and what it returns it takes again unchanged.
func TestParseEmailLetsNothingHarmfulThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.StringMatching(`[a-zA-Z0-9.+<>"\\ \r\n-]{1,10}@[a-zA-Z0-9.\- \r\n\[\]]{1,20}`), rapid.String()).Draw(t, "input")
		got, err := ParseEmail(s)
		if err != nil {
			return
		}
		if !strings.EqualFold(got, s) || len(got) > 254 || strings.ContainsAny(got, "\r\n\x00 <>\"\\,;()") || strings.Count(got, "@") != 1 {
			t.Fatalf("ParseEmail(%q) = %q", s, got)
		}
		if again, err := ParseEmail(got); again != got || err != nil {
			t.Fatalf("ParseEmail(%q) = %q, %v; it had returned it", got, again, err)
		}
	})
}

func TestMaskEmail(t *testing.T) {
	for in, want := range map[string]string{
		"user@example.com":        "u•••@example.com",
		"ab@example.com":          "a•••@example.com",
		"u@example.com":           "•••@example.com",
		"@example.com":            "•••",
		"user":                    "•••",
		"":                        "•••",
		"us\ner@example.com":      "•••",
		"User <user@example.com>": "•••",
	} {
		if got := MaskEmail(in); got != want {
			t.Errorf("MaskEmail(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParsePhone(f *testing.F) {
	f.Add("+14155550100", "")
	f.Add("(415) 555-0100", "US")
	f.Add("＋４２０ 601", "CZ")
	f.Fuzz(func(t *testing.T, s, region string) {
		got, err := ParsePhone(s, region)
		if err == nil && (len(got) < 1+minPhoneDigits || len(got) > 1+maxPhoneDigits || MaskPhone(got) == mask) {
			t.Errorf("ParsePhone(%q, %q) = %q", s, region, got)
		}
	})
}

func BenchmarkParsePhone(b *testing.B) {
	for name, in := range map[string][2]string{
		"e164":     {"+14155550100", ""},
		"spaced":   {"+420 601 123 456", ""},
		"national": {"(415) 555-0100", "US"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParsePhone(in[0], in[1]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("e164 by the full parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseByPlan("+14155550100", ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseEmail(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEmail("user.name@example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
