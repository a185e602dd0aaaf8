package otp

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/language"
	"pgregory.net/rapid"
)

const plainAddress = `{"name":"Jane Doe","line1":"1600 Main St","line2":"Apt 4","city":"Springfield","region":"or","postal_code":"97477","country":"us"}`

func TestParseAddress(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		field string // of the problem, "" for a good address
	}{
		"US":                        {plainAddress, ""},
		"nine digits":               {`{"name":"J","line1":"1","city":"C","region":"OR","postal_code":"974771234","country":"US"}`, ""},
		"nine digits with a hyphen": {`{"name":"J","line1":"1","city":"C","region":"OR","postal_code":"97477-1234","country":"US"}`, ""},
		"a territory by its code":   {`{"name":"J","line1":"1","city":"San Juan","postal_code":"00901","country":"PR"}`, ""},
		"no postal code":            {`{"name":"J","line1":"1","city":"Hong Kong","country":"HK"}`, ""},
		"accents and apostrophes":   {`{"name":"Zdeněk O’Brien","line1":"Žižkova 3/12","city":"Dvůr Králové","postal_code":"544 01","country":"CZ"}`, ""},

		"no object":             {`"Jane Doe"`, "address"},
		"nothing":               {``, "address"},
		"unknown member":        {strings.Replace(plainAddress, `"line2"`, `"line3"`, 1), "address"},
		"a member twice":        {strings.Replace(plainAddress, `"line2"`, `"line1"`, 1), "address"},
		"a number for a text":   {strings.Replace(plainAddress, `"97477"`, `97477`, 1), "address"},
		"too many octets":       {strings.Replace(plainAddress, `Apt`, strings.Repeat("x", maxAddressOctets), 1), "address"},
		"no name":               {strings.Replace(plainAddress, `Jane Doe`, ` `, 1), "address.name"},
		"a long name":           {strings.Replace(plainAddress, `Jane Doe`, strings.Repeat("ž", 65), 1), "address.name"},
		"a forged line":         {strings.Replace(plainAddress, `1600 Main`, `1600\nMain`, 1), "address.line1"},
		"a bidi control":        {strings.Replace(plainAddress, `Apt`, "\u202e", 1), "address.line2"},
		"no city":               {strings.Replace(plainAddress, `Springfield`, ``, 1), "address.city"},
		"no country":            {strings.Replace(plainAddress, `"us"`, `""`, 1), "address.country"},
		"a country in words":    {strings.Replace(plainAddress, `"us"`, `"USA"`, 1), "address.country"},
		"no such country":       {strings.Replace(plainAddress, `"us"`, `"XX"`, 1), "address.country"},
		"a state in words":      {strings.Replace(plainAddress, `"or"`, `"Oregon"`, 1), "address.region"},
		"no such state":         {strings.Replace(plainAddress, `"or"`, `"ZZ"`, 1), "address.region"},
		"no state":              {strings.Replace(plainAddress, `"or"`, `""`, 1), "address.region"},
		"no ZIP code":           {strings.Replace(plainAddress, `97477`, ``, 1), "address.postal_code"},
		"a ZIP code of four":    {strings.Replace(plainAddress, `97477`, `9747`, 1), "address.postal_code"},
		"a ZIP code's half end": {strings.Replace(plainAddress, `97477`, `97477-12`, 1), "address.postal_code"},
		"a ZIP code of letters": {strings.Replace(plainAddress, `97477`, `9747A`, 1), "address.postal_code"},
		"signs in a code":       {`{"name":"J","line1":"1","city":"C","postal_code":"1<2","country":"DE"}`, "address.postal_code"},
		"a very long code":      {`{"name":"J","line1":"1","city":"C","postal_code":"12345678901234567","country":"DE"}`, "address.postal_code"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := ParseAddress([]byte(c.text))
			if c.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				if again, err := ParseAddress(a.Encode()); err != nil || again != a {
					t.Errorf("read again: %+v (%v), want %+v", again, err, a)
				}
				return
			}
			p, ok := errors.AsType[*Problem](err)
			if !ok || p.Reason != Invalid || p.Field != c.field {
				t.Fatalf("error %v, want one of the field %s", err, c.field)
			}
			for _, told := range []string{"Jane", "1600", "Springfield", "97477"} {
				if strings.Contains(p.Message, told) {
					t.Errorf("the problem quotes the address: %s", p.Message)
				}
			}
		})
	}
}

func TestParseAddressComposes(t *testing.T) {
	a, err := ParseAddress([]byte(`{"name":" Zdene\u030ck ","line1":"1","city":"Brno","country":"cz"}`))
	if err != nil || a.Name != "Zdeněk" || a.Country != "CZ" {
		t.Errorf("%+v (%v), want the name trimmed and composed", a, err)
	}
	if a, _ := ParseAddress([]byte(strings.Replace(plainAddress, "97477", "97477 1234", 1))); a.PostalCode != "97477-1234" || a.Region != "OR" {
		t.Errorf("%+v, want ZIP+4 and the state in their one form", a)
	}
}

func TestAddressLines(t *testing.T) {
	us := Address{Name: "Jane Doe", Line1: "1600 Main St", Line2: "Apt 4", City: "Springfield", Region: "OR", PostalCode: "97477", Country: "US"}
	pr := Address{Name: "Jane Doe", Line1: "1 Calle Luna", City: "San Juan", Region: "PR", PostalCode: "00901", Country: "PR"}
	for _, c := range []struct {
		a      Address
		sender string
		want   string // lines joined by a stroke
	}{
		{us, "US", "Jane Doe|1600 Main St|Apt 4|SPRINGFIELD OR 97477"},
		{us, "CZ", "Jane Doe|1600 Main St|Apt 4|SPRINGFIELD OR 97477|UNITED STATES OF AMERICA"},
		{pr, "US", "Jane Doe|1 Calle Luna|SAN JUAN PR 00901"},
		{pr, "DE", "Jane Doe|1 Calle Luna|SAN JUAN PR 00901|PUERTO RICO"},
		{
			Address{Name: "A", Line1: "10-123 1/2 Main St", City: "Montréal", Region: "QC", PostalCode: "H3Z 2Y7", Country: "CA"},
			"US",
			"A|10-123 1/2 Main St|MONTRÉAL QC H3Z 2Y7|CANADA",
		},
		{Address{Name: "A", Line1: "Žižkova 3", City: "Brno", PostalCode: "602 00", Country: "CZ"}, "CZ", "A|Žižkova 3|602 00 Brno"},
		{Address{Name: "A", Line1: "Via Roma 1", City: "Torino", Region: "TO", PostalCode: "10121", Country: "IT"}, "CZ", "A|Via Roma 1|10121 Torino, TO|ITALY"},
		{
			Address{Name: "A", Line1: "1 High St", Line2: "Flat 2", City: "Reading", Region: "Berkshire", PostalCode: "RG1 1AA", Country: "GB"},
			"US",
			"A|1 High St|Flat 2|Reading, Berkshire|RG1 1AA|UNITED KINGDOM",
		},
		{
			Address{Name: "A", Line1: "1-2-3 Nakano", City: "Nakano-ku", Region: "Tokyo", PostalCode: "164-0001", Country: "JP"},
			"US",
			"A|1-2-3 Nakano|Nakano-ku, Tokyo 164-0001|JAPAN",
		},
		{
			Address{Name: "山田太郎", Line1: "中野1-2-3", City: "中野区", Region: "東京都", PostalCode: "164-0001", Country: "JP"},
			"JP",
			"〒164-0001|東京都中野区|中野1-2-3|山田太郎 様",
		},
		{Address{Name: "A", Line1: "1 Queen's Road", City: "Hong Kong", Country: "HK"}, "", "A|1 Queen's Road|Hong Kong|HONG KONG"},
	} {
		if got := strings.Join(c.a.Lines(c.sender), "|"); got != c.want {
			t.Errorf("%s from %q: %s, want %s", c.a.Country, c.sender, got, c.want)
		}
	}
}

func TestAddressMask(t *testing.T) {
	for _, c := range []struct {
		a    Address
		want string
	}{
		{Address{Name: "Jane Doe", PostalCode: "97477", City: "Springfield", Country: "US"}, "J•••, 9••••, US"},
		{Address{Name: "Žofie", City: "Ústí", Country: "CZ"}, "Ž•••, Ú••••, CZ"},
		{Address{}, "•••, ••••, "},
	} {
		if got := c.a.Mask(); got != c.want {
			t.Errorf("mask %q, want %q", got, c.want)
		}
	}
}

func TestContiguous(t *testing.T) {
	var far []string
	for _, s := range usStates {
		if !(Address{Country: "US", Region: s}).Contiguous() {
			far = append(far, s)
		}
	}
	if want := strings.Fields("AK HI AS GU MP PR VI FM MH PW AA AE AP"); !slices.Equal(far, want) {
		t.Errorf("not contiguous: %v, want %v", far, want)
	}
	for _, country := range []string{"PR", "GU", "CA", "GB", ""} {
		if (Address{Country: country, Region: "NY"}).Contiguous() {
			t.Errorf("%s is contiguous", country)
		}
	}
}

// TestCountries holds the table against golang.org/x/text, which has its own copy of the standard.
func TestCountries(t *testing.T) {
	if n := len(countries()); n != 249 {
		t.Errorf("%d countries, ISO 3166-1 has 249", n)
	}
	for code, name := range countries() {
		if r, err := language.ParseRegion(code); err != nil || !r.IsCountry() || r.String() != code {
			t.Errorf("%s is no country's code (%v)", code, err)
		}
		if name == "" || name != strings.ToUpper(name) || strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf || r == '\n' }) {
			t.Errorf("%s: the name %q does not suit an envelope", code, name)
		}
	}
}

// TestAddressProperties: what is accepted is in its one form, has 3 to 6 lines of one line each, and its mask tells one character of a field.
func TestAddressProperties(t *testing.T) {
	codes := make([]string, 0, len(countries()))
	for code := range countries() {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	plain := rapid.StringOfN(rapid.RuneFrom([]rune("abzAŽž漢か '-,./9\u030c")), 0, 66, -1)
	text := rapid.Custom(func(t *rapid.T) string { // mostly what people write, now and then anything at all
		if rapid.IntRange(0, 19).Draw(t, "any") == 0 {
			return rapid.StringN(0, 70, -1).Draw(t, "text")
		}
		return plain.Draw(t, "text")
	})
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		drawn := Address{
			Name: text.Draw(t, "name"), Line1: text.Draw(t, "line1"), Line2: text.Draw(t, "line2"), City: text.Draw(t, "city"),
			Region:     rapid.OneOf(text, rapid.SampledFrom(usStates)).Draw(t, "region"),
			PostalCode: rapid.OneOf(rapid.StringMatching(`[0-9]{5}([- ]?[0-9]{4})?`), rapid.StringMatching(`[A-Z0-9 -]{0,10}`)).Draw(t, "postal code"),
			Country:    rapid.SampledFrom(codes).Draw(t, "country"),
		}
		a, err := ParseAddress(drawn.Encode())
		if err != nil {
			return
		}
		taken++
		if again, err := ParseAddress(a.Encode()); err != nil || again != a {
			t.Fatalf("read again: %+v (%v), want %+v", again, err, a)
		}
		lines := a.Lines(rapid.SampledFrom(codes).Draw(t, "sender"))
		if len(lines) < 3 || len(lines) > MaxAddressLines {
			t.Fatalf("%d lines: %q", len(lines), lines)
		}
		for _, l := range lines {
			if l == "" || strings.ContainsAny(l, "\r\n") {
				t.Fatalf("a line is none: %q", lines)
			}
		}
		if n := utf8.RuneCountInString(a.Mask()); n != 15 {
			t.Fatalf("the mask %q has %d characters", a.Mask(), n)
		}
	})
	if taken == 0 {
		t.Error("no drawn address was a good one: this test has shown nothing")
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add([]byte(plainAddress))
	f.Add([]byte(`{"name":"\ud800"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if a, err := ParseAddress(text); err == nil {
			if again, err := ParseAddress(a.Encode()); err != nil || again != a {
				t.Errorf("read again: %+v (%v), want %+v", again, err, a)
			}
		}
	})
}
