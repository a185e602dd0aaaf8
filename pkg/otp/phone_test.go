package otp_test

import (
	"testing"

	"github.com/nyaruka/phonenumbers"

	"github.com/otpost/otpost/pkg/otp"
)

func TestLocatePhone(t *testing.T) {
	for number, want := range map[string]otp.Phone{
		"+14155550100":     {Country: "US", Prefix: "+1415"},
		"+15005550006":     {Country: "US", Prefix: "+1500"}, // a provider's test number, in a range of personal ones
		"+38343201234":     {Country: "XK", Prefix: "+383432"},
		"+24740123":        {Country: "AC", Prefix: "+247401"},
		"+2908123":         {Country: "TA", Prefix: "+290812"},
		"+29051234":        {Country: "SH", Prefix: "+290512"},
		"+14165550100":     {Country: "CA", Prefix: "+1416"},
		"+18765550100":     {Country: "JM", Prefix: "+1876"},
		"+420601234567":    {Country: "CZ", Prefix: "+420601"},
		"+491511234567":    {Country: "DE", Prefix: "+49151"},
		"+447400123456":    {Country: "GB", Prefix: "+44740"},
		"+447797123456":    {Country: "JE", Prefix: "+44779"},
		"+390612345678":    {Country: "IT", Prefix: "+39061"},
		"+393123456789":    {Country: "IT", Prefix: "+39312"},
		"+77010123456":     {Country: "KZ", Prefix: "+7701"},
		"+79161234567":     {Country: "RU", Prefix: "+7916"},
		"+819012345678":    {Country: "JP", Prefix: "+81901"},
		"+8001234567812":   {Prefix: "+800123"},
		"+19002345678":     {Country: "US", Prefix: "+1900", Denied: "premium"},
		"+447012345678":    {Country: "GB", Prefix: "+44701", Denied: "personal"},
		"+449012345678":    {Country: "GB", Prefix: "+44901", Denied: "premium"},
		"+498001234567":    {Country: "DE", Prefix: "+49800"},
		"+499001234567":    {Country: "DE", Prefix: "+49900", Denied: "premium"},
		"+420906123456":    {Country: "CZ", Prefix: "+420906", Denied: "premium"},
		"+979123456789":    {Prefix: "+979123", Denied: "premium"},
		"+80812345678":     {Prefix: "+808123", Denied: "shared_cost"},
		"+870301234567":    {Prefix: "+870301", Denied: "satellite"},
		"+881612345678":    {Prefix: "+881612", Denied: "satellite"},
		"+88213012345":     {Prefix: "+882130", Denied: "international"},
		"+883510012345":    {Prefix: "+883510", Denied: "international"},
		"+878101234567890": {Prefix: "+878101", Denied: "personal"},
		"+9990123456":      {Prefix: "+999", Denied: "international"},
		"":                 {Denied: "international"},
		"+":                {Prefix: "+", Denied: "international"},
		"+1":               {Prefix: "+1", Denied: "international"},
	} {
		if got := otp.LocatePhone(number); got != want {
			t.Errorf("%s: %+v, want %+v", number, got, want)
		}
	}
}

func BenchmarkLocatePhone(b *testing.B) {
	for _, number := range []string{"+14155550100", "+14165550100", "+18765550100", "+420601234567", "+447400123456"} {
		b.Run(number, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				otp.LocatePhone(number)
			}
		})
	}
}

// What is told of a number is what the library tells, for an example of every kind of every country.
func TestLocatePhoneAgreesWithTheLibrary(t *testing.T) {
	seen := 0
	for place := range phonenumbers.GetSupportedRegions() {
		for kind := phonenumbers.FIXED_LINE; kind <= phonenumbers.VOICEMAIL; kind++ {
			n := phonenumbers.GetExampleNumberForType(place, kind)
			if n == nil {
				continue
			}
			number := phonenumbers.Format(n, phonenumbers.E164)
			got, want := otp.LocatePhone(number), phonenumbers.GetRegionCodeForNumber(n)
			if len(want) != 2 { // "001", of no country
				want = ""
			}
			if got.Country != want {
				t.Errorf("%s is in %q, want %q", number, got.Country, want)
			}
			denied := false
			switch phonenumbers.GetNumberType(n) {
			case phonenumbers.PREMIUM_RATE, phonenumbers.SHARED_COST, phonenumbers.PAGER, phonenumbers.UAN, phonenumbers.VOICEMAIL:
				denied = true
			case phonenumbers.PERSONAL_NUMBER:
				denied = n.GetCountryCode() != 1
			}
			if denied != (got.Denied != "") {
				t.Errorf("%s of %s, kind %d: denied %q", number, place, phonenumbers.GetNumberType(n), got.Denied)
			}
			seen++
		}
	}
	if seen < 500 {
		t.Errorf("only %d numbers were looked at", seen)
	}
}

// What a number may be in can be allowed, and capped.
func TestPhoneCountriesCanBeAllowed(t *testing.T) {
	for country, want := range map[string]bool{"CZ": true, "XK": true, "AC": true, "TA": true, "XX": false, "xk": false, "001": false, "A": false} {
		p := otp.DeliveryPolicy{Countries: []string{country}, SpendCaps: map[string]int64{country: 1}}
		if err := p.Check(); (err == nil) != want {
			t.Errorf("a policy of %q: %v", country, err)
		}
		p.Countries = nil
		if err := p.Check(); (err == nil) != want {
			t.Errorf("a cap on %q: %v", country, err)
		}
	}
	kosovo := otp.LocatePhone("+38343201234").Country
	if p := (otp.DeliveryPolicy{Countries: []string{"XK"}}); !p.Allows(kosovo) || p.Allows("RS") {
		t.Errorf("%q", kosovo)
	}
	if otp.ValidCountry("XK") {
		t.Error("letters go to it by a name that is not known")
	}
}
