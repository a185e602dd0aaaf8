package otp

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"golang.org/x/text/unicode/norm"
)

// Bounds of postal addresses.
const (
	MaxAddressField  = 64   // characters of each field
	MaxPostalCode    = 16   // characters; the longest in use have 10
	MaxAddressLines  = 6    // lines of [Address.Lines]; what a window envelope shows (DIN 5008, USPS Publication 28)
	maxAddressOctets = 4096 // of an address as JSON
)

// An Address is where a letter goes to. [ParseAddress] gives it in its one form: trimmed, in Unicode's form NFC, the codes of country and US state
// in capitals.
type Address struct {
	Name       string `json:"name"`                  // of the person or the company
	Line1      string `json:"line1"`                 // street and number, or a post-office box
	Line2      string `json:"line2,omitempty"`       // flat, floor, care of
	City       string `json:"city"`                  //
	Region     string `json:"region,omitempty"`      // state, province, prefecture; of a US address the two letters of USPS
	PostalCode string `json:"postal_code,omitempty"` //
	Country    string `json:"country"`               // ISO 3166-1 alpha-2
}

// ParseAddress reads an address from JSON and returns it in its one form, or the *Problem of the first field that is wrong, named
// "address.city" and so on. A problem never quotes the address.
//
// Name, line1, city and country are required, each of at most 64 printable characters on one line. A US address, territories included, needs a
// ZIP code of five or nine digits and the state's two letters as well; elsewhere the postal code is as the country has it, or none.
func ParseAddress(text []byte) (Address, error) {
	if len(text) > maxAddressOctets {
		return Address{}, InvalidField("address", "is too long")
	}
	var a Address
	if err := json.Unmarshal(text, &a, json.RejectUnknownMembers(true)); err != nil {
		return Address{}, InvalidField("address", "must be an object of the texts name, line1, line2, city, region, postal_code and country")
	}
	a = a.normal()
	if p := a.check(); p != nil {
		return Address{}, p
	}
	return a, nil
}

// Encode returns the address as ParseAddress reads it; the same address always gives the same octets.
func (a Address) Encode() []byte {
	text, err := json.Marshal(a)
	if err != nil {
		panic("otp: an address is seven strings of valid UTF-8: " + err.Error())
	}
	return text
}

func (a Address) normal() Address {
	for _, f := range a.fields() {
		*f.value = norm.NFC.String(strings.TrimSpace(*f.value))
	}
	a.Country = strings.ToUpper(a.Country)
	if unitedStates(a.Country) {
		if a.Region == "" && a.Country != "US" {
			a.Region = a.Country // of Puerto Rico the "state" is PR, and so on
		}
		a.Region = strings.ToUpper(a.Region)
		if digits := strings.ReplaceAll(a.PostalCode, " ", ""); len(digits) == 9 && asciiDigits(digits) {
			a.PostalCode = digits[:5] + "-" + digits[5:]
		}
	}
	return a
}

// A postalField is one field of an address with what holds for it.
type postalField struct {
	name     string
	value    *string
	limit    int
	required bool
}

func (a *Address) fields() []postalField {
	return []postalField{
		{"name", &a.Name, MaxAddressField, true},
		{"line1", &a.Line1, MaxAddressField, true},
		{"line2", &a.Line2, MaxAddressField, false},
		{"city", &a.City, MaxAddressField, true},
		{"region", &a.Region, MaxAddressField, false},
		{"postal_code", &a.PostalCode, MaxPostalCode, false},
		{"country", &a.Country, 2, true},
	}
}

func (a *Address) check() error {
	for _, f := range a.fields() {
		if *f.value == "" && !f.required {
			continue
		}
		if words := CheckText(*f.value, f.limit); words != "" {
			return InvalidField("address."+f.name, words)
		}
	}
	if !ValidCountry(a.Country) {
		return InvalidField("address.country", "must be a country's code of two letters (ISO 3166-1)")
	}
	for _, r := range a.PostalCode {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != ' ' && r != '-' {
			return InvalidField("address.postal_code", "must consist of letters, digits, spaces and hyphens")
		}
	}
	if !unitedStates(a.Country) {
		return nil
	}
	if !slices.Contains(usStates, a.Region) {
		return InvalidField("address.region", "must be the two letters of a US state, territory or military address")
	}
	if five, four, plus := strings.Cut(a.PostalCode, "-"); len(five) != 5 || !asciiDigits(five) || plus && (len(four) != 4 || !asciiDigits(four)) {
		return InvalidField("address.postal_code", "must be a ZIP code of five or nine digits")
	}
	return nil
}

func asciiDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// Lines returns the address as it stands on an envelope posted in the country sender (ISO 3166-1 alpha-2), in the order and form of its own
// country: 3 to 6 lines, the last the country's name in English and in capitals (Universal Postal Convention regulations, article 17-107),
// which is left out within a country.
func (a Address) Lines(sender string) []string {
	var lines []string
	if a.Country == "JP" && strings.ContainsFunc(a.City+a.Line1, japanese) {
		// In its own script a Japanese address goes from the large to the small, the person last, with the form of address that is due.
		lines = sparse(prefixed("〒", a.PostalCode), a.Region+a.City, a.Line1, a.Line2, a.Name+" 様")
	} else {
		lines = append(sparse(a.Name, a.Line1, a.Line2), a.place()...)
	}
	if a.Country == sender || unitedStates(a.Country) && unitedStates(sender) {
		return lines
	}
	return append(lines, countries()[a.Country])
}

// place returns the line or two of city, region and postal code, as the country's post has them (UPU, Postal addressing systems).
func (a Address) place() []string {
	switch a.Country {
	case "CA", "AU":
		return []string{strings.ToUpper(words(a.City, a.Region, a.PostalCode))}
	case "GB", "GG", "IE", "IM", "JE": // post town and postal code have a line each
		return sparse(listed(a.City, a.Region), a.PostalCode)
	case "ID", "IN", "JP", "KR", "NZ", "SG", "TH", "TW":
		return []string{words(listed(a.City, a.Region), a.PostalCode)}
	}
	if unitedStates(a.Country) {
		return []string{strings.ToUpper(words(a.City, a.Region, a.PostalCode))}
	}
	return []string{listed(words(a.PostalCode, a.City), a.Region)}
}

func sparse(lines ...string) []string {
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" })
}

func words(parts ...string) string { return strings.Join(sparse(parts...), " ") }

func listed(parts ...string) string { return strings.Join(sparse(parts...), ", ") }

func prefixed(sign, s string) string {
	if s == "" {
		return ""
	}
	return sign + s
}

func japanese(r rune) bool { return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana) }

// Mask returns what may be shown of the address to the person it belongs to: the first characters of the name and of the postal code, or of the
// city where there is no code, and the country, such as "J•••, 9••••, US".
func (a Address) Mask() string {
	place := a.PostalCode
	if place == "" {
		place = a.City
	}
	return first(a.Name) + "•••, " + first(place) + "••••, " + a.Country
}

func first(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}

// Contiguous reports whether the address lies in the contiguous United States, where the mail is quick: the 48 states and the District of
// Columbia, and so neither Alaska, Hawaii, a territory nor a military address.
func (a Address) Contiguous() bool {
	return a.Country == "US" && slices.Contains(usStates[:contiguousStates], a.Region)
}

// contiguousStates is how many of usStates come first that are contiguous.
const contiguousStates = 49

// usStates are the abbreviations of USPS Publication 28, appendix B: the contiguous states and the District of Columbia first, then the two other
// states, the territories, the freely associated states, and the three military ones.
var usStates = strings.Fields(`AL AZ AR CA CO CT DE DC FL GA ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI SC SD TN TX
	UT VT VA WA WV WI WY AK HI AS GU MP PR VI FM MH PW AA AE AP`)

// unitedStates reports whether a country of ISO 3166-1 is served by the US post as a part of the United States.
func unitedStates(country string) bool {
	switch country {
	case "US", "AS", "GU", "MP", "PR", "VI":
		return true
	}
	return false
}
