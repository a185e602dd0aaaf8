package otp

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// Bounds of addresses.
const (
	maxPhoneInput   = 32  // characters of a phone number as a person writes it, separators included
	minPhoneDigits  = 7   // of an E.164 number, country calling code included; the shortest that are in use have 7 (Niue, Saint Helena)
	maxPhoneDigits  = 15  // ITU-T E.164, section 6.1
	maxEmailOctets  = 254 // RFC 5321, section 4.5.3.1.3 (a path of 256 less its angle brackets)
	maxLocalOctets  = 64  // RFC 5321, section 4.5.3.1.1
	maxDomainOctets = 253 // RFC 1035, section 2.3.4, in text form without the last dot
	maxLabelOctets  = 63  // RFC 1035, section 2.3.4
)

// An AddressError says why an address was refused. It never quotes the address.
type AddressError struct {
	Reason string // for people; reads on from a field's name, such as "has a line break"
}

func (e *AddressError) Error() string { return "the address " + e.Reason }

func refuse(reason string) error { return &AddressError{Reason: reason} }

// ParsePhone reads a phone number as a person or an app writes it and returns it in E.164, such as "+14155550100". region is the
// ISO 3166-1 alpha-2 code of the country whose national numbers are meant when s has no "+"; with region "" the "+" is required.
//
// Spaces, dashes, dots, slashes and parentheses may stand between the digits, and so may the invisible direction marks that phones
// put into copied contacts. Decimal digits of any script (full-width, Arabic, Devanagari) count as digits. Letters, and with them vanity
// numbers and extensions, are refused: a message cannot go to an extension, and a letter is more often a slip than a number.
//
// The number must have a length that its country's plan allows; it need not lie in a range that is known to be assigned. Countries open
// ranges faster than tables of them spread, the table would refuse numbers kept for tests and fiction (+1 415 555 0100, +1 500 555 0006),
// and whether a number exists is the carrier's to say.
//
// Its error is an *AddressError.
func ParsePhone(s, region string) (string, error) {
	if plainE164(s) {
		return s, nil
	}
	number, err := cleanPhone(s)
	if err != nil {
		return "", err
	}
	if plainE164(number) {
		return number, nil
	}
	return parseByPlan(number, strings.ToUpper(region))
}

// cleanPhone reduces s to ASCII digits with an optional leading "+".
func cleanPhone(s string) (string, error) {
	if len(s) > maxPhoneInput*utf8.UTFMax || utf8.RuneCountInString(s) > maxPhoneInput {
		return "", refuse("is too long for a phone number")
	}
	clean := make([]byte, 0, maxPhoneInput)
	for _, r := range s {
		switch d, digit := decimal(r); {
		case digit:
			clean = append(clean, '0'+d)
		case r == '+' || r == '＋':
			if len(clean) > 0 {
				return "", refuse("has a plus sign inside")
			}
			clean = append(clean, '+')
		case phoneSeparator(r):
		case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029':
			return "", refuse("has a line break")
		case unicode.IsControl(r) || r == utf8.RuneError:
			return "", refuse("has control characters")
		case r == '#' || r == ';' || r == ',':
			return "", refuse("has an extension")
		case unicode.IsLetter(r):
			return "", refuse("has letters")
		default:
			return "", refuse("is not a phone number")
		}
	}
	if len(clean) == 0 {
		return "", refuse("is empty")
	}
	return string(clean), nil
}

// decimal returns the value of a decimal digit of any script. Unicode encodes these in runs of ten from zero to nine (Unicode Standard,
// section 4.6), so that a digit's value follows from its distance to the start of its range.
func decimal(r rune) (byte, bool) {
	if r < utf8.RuneSelf {
		return byte(r - '0'), r >= '0' && r <= '9'
	}
	for _, t := range unicode.Nd.R16 {
		if r >= rune(t.Lo) && r <= rune(t.Hi) {
			return byte((r - rune(t.Lo)) % 10), true
		}
	}
	for _, t := range unicode.Nd.R32 {
		if r >= rune(t.Lo) && r <= rune(t.Hi) {
			return byte((r - rune(t.Lo)) % 10), true
		}
	}
	return 0, false
}

// phoneSeparator reports whether r may stand between the digits of a phone number without meaning anything.
func phoneSeparator(r rune) bool {
	switch r {
	case ' ', '-', '(', ')', '.', '/', '（', '）', '\u2212', '\uFF0D', '\u2011':
		return true
	case '\u200E', '\u200F', '\u061C': // direction marks
		return true
	}
	return unicode.Is(unicode.Zs, r) || unicode.Is(unicode.Pd, r) || // spaces and dashes of every script
		r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069' // direction embeddings and isolates
}

// parseByPlan applies a country's numbering plan: it finds the country calling code, strips national and international prefixes and
// measures what is left. number comes from cleanPhone.
func parseByPlan(number, region string) (string, error) {
	if number[0] != '+' {
		if region == "" {
			return "", refuse("must start with + and the country code")
		}
		if phonenumbers.GetCountryCodeForRegion(region) == 0 {
			return "", refuse("must start with + and the country code: the default region is unknown")
		}
	}
	n, err := phonenumbers.Parse(number, region)
	switch {
	case errors.Is(err, phonenumbers.ErrInvalidCountryCode):
		return "", refuse("has no known country code")
	case errors.Is(err, phonenumbers.ErrTooShortNSN), errors.Is(err, phonenumbers.ErrTooShortAfterIDD):
		return "", refuse("is too short for a phone number")
	case errors.Is(err, phonenumbers.ErrNumTooLong):
		return "", refuse("is too long for a phone number")
	case err != nil:
		return "", refuse("is not a phone number")
	}
	place := phonenumbers.GetRegionCodeForCountryCode(int(n.GetCountryCode()))
	if place == nonGeographic {
		place = "+" + strconv.Itoa(int(n.GetCountryCode()))
	}
	e164 := phonenumbers.Format(n, phonenumbers.E164)
	switch phonenumbers.IsPossibleNumberWithReason(n) {
	case phonenumbers.IS_POSSIBLE:
	case phonenumbers.TOO_LONG:
		return "", refuse("is too long for a number of " + place)
	case phonenumbers.TOO_SHORT, phonenumbers.IS_POSSIBLE_LOCAL_ONLY:
		return "", refuse("is too short for a number of " + place)
	default:
		return "", refuse("has the wrong length for a number of " + place)
	}
	switch digits := len(e164) - 1; {
	case digits < minPhoneDigits:
		return "", refuse("is too short for a phone number")
	case digits > maxPhoneDigits:
		return "", refuse("is too long for a phone number")
	}
	// One number must have one form, because limits count by it. A string of zeros may lose another "national prefix" each time it is read.
	if e164 != number && !plainE164(e164) {
		if again, err := phonenumbers.Parse(e164, ""); err != nil || phonenumbers.Format(again, phonenumbers.E164) != e164 {
			return "", refuse("is not a phone number")
		}
	}
	return e164, nil
}

// nonGeographic is the region that libphonenumber gives to calling codes of no country, such as +870.
const nonGeographic = "001"

// A numberingPlan is what the short way through ParsePhone knows of one country calling code.
type numberingPlan struct {
	known   bool
	lengths uint32         // bit n is set when a national number may have n digits
	prefix  *regexp.Regexp // what the full parse might strip from the start of a national number; nil for nothing
}

// numberingPlans is indexed by country calling code. Reading it out of libphonenumber's tables costs about a millisecond, once.
var numberingPlans = sync.OnceValue(func() *[1000]numberingPlan {
	var plans [1000]numberingPlan
	tables, err := phonenumbers.MetadataCollection()
	if err != nil {
		return &plans // every number takes the long way then
	}
	for _, t := range tables.GetMetadata() {
		code := int(t.GetCountryCode())
		// Several countries may share a calling code; the main one's rules hold for all of them until the number is known.
		if code <= 0 || code >= len(plans) || t.GetId() != phonenumbers.GetRegionCodeForCountryCode(code) {
			continue
		}
		p := numberingPlan{known: true}
		for _, n := range t.GetGeneralDesc().GetPossibleLength() {
			if n > 0 && n < 32 {
				p.lengths |= 1 << n
			}
		}
		if s := t.GetNationalPrefixForParsing(); s != "" {
			p.prefix = regexp.MustCompile("^(?:" + s + ")")
		}
		plans[code] = p
	}
	return &plans
})

// plainE164 reports whether s is an E.164 number in its final form that the full parse would return unchanged. It answers no when in
// doubt. It exists because most numbers come in this form, thousands a second, and the full parse costs two hundred times as much.
func plainE164(s string) bool {
	if len(s) < 1+minPhoneDigits || len(s) > 1+maxPhoneDigits || s[0] != '+' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	p, national := planOf(s)
	return p != nil && p.lengths&(1<<len(national)) != 0 && (p.prefix == nil || !p.prefix.MatchString(national))
}

// planOf splits "+" and digits into the plan of the country calling code and the national number; nil when no code fits. Calling codes are
// prefix-free, so the first that fits is the one.
func planOf(e164 string) (*numberingPlan, string) {
	plans, code := numberingPlans(), 0
	for i := 1; i <= 3 && i < len(e164); i++ {
		if code = code*10 + int(e164[i]-'0'); code == 0 {
			return nil, ""
		}
		if plans[code].known {
			return &plans[code], e164[i+1:]
		}
	}
	return nil, ""
}

const mask = "•••••"

// MaskPhone returns what may be shown of an E.164 number to the person it belongs to: the country calling code, five bullets for any number
// of digits, and the last four. At least four digits of the national number stay hidden, so a short number shows fewer than four.
// What is not an E.164 number becomes bullets alone.
func MaskPhone(e164 string) string {
	if len(e164) < 2 || e164[0] != '+' || strings.Trim(e164[1:], "0123456789") != "" {
		return mask
	}
	p, national := planOf(e164)
	if p == nil {
		return mask
	}
	shown := min(max(len(national)-4, 0), 4)
	return e164[:len(e164)-len(national)] + mask + national[len(national)-shown:]
}

// ParseEmail reads a bare Mailbox (RFC 5321, section 4.1.2) and returns it with its domain in lower case; the local part is kept as it is,
// because only its host may say whether case matters there.
//
// Narrower than the RFC, for addresses that a relay can be trusted to carry and nobody can hide behind: the local part is a dot-string
// (no quoted form), the domain is a name of two labels or more (no address literal, no bare host), both are ASCII. An internationalised
// domain is taken in its A-label form ("xn--…", RFC 5890, section 2.3.2.1); a local part in another script needs SMTPUTF8 (RFC 6531) on every
// relay of the way and is refused. Display names, comments, spaces, line breaks and control characters are refused, and so is anything longer
// than 254 octets.
//
// Its error is an *AddressError.
func ParseEmail(s string) (string, error) {
	if s == "" {
		return "", refuse("is empty")
	}
	if len(s) > maxEmailOctets {
		return "", refuse("is longer than an email address may be")
	}
	if reason := strayCharacter(s); reason != "" {
		return "", refuse(reason)
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return "", refuse("is not an email address: it has no @")
	}
	local, domain := s[:at], s[at+1:]
	if reason := checkLocal(local); reason != "" {
		return "", refuse(reason)
	}
	if reason := checkDomain(domain); reason != "" {
		return "", refuse(reason)
	}
	if lower := strings.ToLower(domain); lower != domain {
		return local + "@" + lower, nil
	}
	return s, nil
}

// strayCharacter names the first kind of character that no address may hold, "" when there is none.
func strayCharacter(s string) string {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\r' || c == '\n':
			return "has a line break"
		case c == ' ' || c == '\t':
			return "has a space"
		case c < 0x20 || c == 0x7f:
			return "has control characters"
		case c == '<' || c == '>' || c == ',' || c == ';' || c == '(' || c == ')':
			return "must be one bare address, without a name, a comment or a second address"
		case c == '"' || c == '\\':
			return "has a quoted part"
		case c >= utf8.RuneSelf:
			return "has letters outside ASCII; write an international domain in its xn-- form"
		}
	}
	return ""
}

// checkLocal says what is wrong with a local part: 1–64 octets of Dot-string (RFC 5321, section 4.1.2), whose atoms are of atext (RFC 5322,
// section 3.2.3).
func checkLocal(s string) string {
	switch {
	case s == "":
		return "has nothing before the @"
	case len(s) > maxLocalOctets:
		return "has more than 64 characters before the @"
	case s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, ".."):
		return "has a dot out of place before the @"
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !letterOrDigit(c) && strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) < 0 {
			return "is not an email address"
		}
	}
	return ""
}

// checkDomain says what is wrong with a domain: two or more labels of 1–63 letters, digits and inner hyphens, 253 octets in all, the last
// label not a number (RFC 1123, section 2.1; RFC 3696, section 2).
func checkDomain(s string) string {
	switch {
	case s == "":
		return "has nothing after the @"
	case s[0] == '[':
		return "has an IP address for its domain"
	case len(s) > maxDomainOctets:
		return "has too long a domain"
	case strings.IndexByte(s, '.') < 0:
		return "has an incomplete domain"
	}
	numeric := false
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabelOctets || label[0] == '-' || label[len(label)-1] == '-' {
			return "has a malformed domain"
		}
		numeric = true
		for i := 0; i < len(label); i++ {
			c := label[i]
			if !letterOrDigit(c) && c != '-' {
				return "has a malformed domain"
			}
			numeric = numeric && c >= '0' && c <= '9'
		}
	}
	if numeric {
		return "has a malformed domain"
	}
	return ""
}

func letterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// MaskEmail returns what may be shown of an email address to the person it belongs to: the first character, three bullets for any number of
// the rest, and the domain. A local part of one character is hidden whole. What is not an address becomes bullets alone.
func MaskEmail(addr string) string {
	const bullets = "•••"
	at := strings.LastIndexByte(addr, '@')
	if at < 1 || strayCharacter(addr) != "" {
		return bullets
	}
	if at == 1 {
		return bullets + addr[at:]
	}
	return addr[:1] + bullets + addr[at:]
}

// AddressWords are what is wrong with an address, in words that follow the field's name.
func AddressWords(err error) string {
	if e, ok := errors.AsType[*AddressError](err); ok {
		return e.Reason
	}
	return err.Error()
}
