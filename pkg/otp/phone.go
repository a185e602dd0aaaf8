package otp

import (
	"regexp"
	"strconv"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// A Phone is what a phone number tells of where it is.
type Phone struct {
	Country string // as ValidPhoneCountry has it; empty for a calling code of no country
	Prefix  string // the calling code and the first three digits of the national number, in E.164: "+1415"
	Denied  string // why nothing may ever be sent to it, in one word: see the constants below; empty for a number that may be sent to
}

// Reasons for which no message goes to a number, whatever an app allows: such a number costs a multiple of others, or is no person's.
const (
	DeniedPremium       = "premium"
	DeniedSharedCost    = "shared_cost"
	DeniedSatellite     = "satellite"
	DeniedInternational = "international" // a network of no country: +882, +883, +878, and whatever calling code is not known
	DeniedPersonal      = "personal"      // a number that is passed on to another, at a price that its holder sets
	DeniedVoicemail     = "voicemail"
	DeniedPager         = "pager"
	DeniedUAN           = "company" // a universal access number
)

// prefixDigits is how many digits of the national number a prefix has. Plans give out ranges to an operator, or to a town, by two to four digits: an area
// code has three in North America, and a mobile network's block two or three in most of Europe, Africa and Asia. With two, all mobiles of a
// country would share what one pumped range is counted by; with four, a pumper would have ten times as many prefixes to spread over.
const prefixDigits = 3

// deniedCodes are the calling codes of no country that nobody's phone has.
var deniedCodes = map[int]string{
	870: DeniedSatellite, 881: DeniedSatellite, 882: DeniedInternational, 883: DeniedInternational, 878: DeniedPersonal,
	979: DeniedPremium, 808: DeniedSharedCost,
}

// LocatePhone tells of a number in E.164, as ParsePhone returns it. A number of a range that nobody was given counts as of the calling code's main country:
// ranges are given out faster than tables are updated. What is no number of a known calling code is denied.
func LocatePhone(e164 string) Phone {
	p, national := planOf(e164)
	if p == nil || national == "" {
		return Phone{Prefix: e164[:min(len(e164), 1+prefixDigits)], Denied: DeniedInternational}
	}
	calling := e164[1 : len(e164)-len(national)]
	code, _ := strconv.Atoi(calling) // planOf has read it
	out := Phone{Prefix: "+" + calling + national[:min(len(national), prefixDigits)]}
	if out.Denied = deniedCodes[code]; out.Denied != "" {
		return out
	}
	place, kind := places(code).find(national)
	if out.Country = place; !ValidPhoneCountry(out.Country) { // +800, +888 and their like
		out.Country = ""
	}
	out.Denied = deniedKind(kind, code)
	return out
}

// A region is a country of a calling code, with its ranges.
type region struct {
	country string
	leading *regexp.Regexp // how all its numbers begin; nil where only the ranges tell
	all     span
	kinds   []kindSpan // in the order in which they are to be tried
}

// A span is a range of national numbers.
type span struct {
	lengths uint32 // bit n is set when a number may have n digits; 0 for any
	pattern *regexp.Regexp
}

type kindSpan struct {
	span
	kind phonenumbers.PhoneNumberType
}

func (s span) has(national string) bool {
	return s.pattern != nil && (s.lengths == 0 || s.lengths&(1<<len(national)) != 0) && s.pattern.MatchString(national)
}

// regions are the countries of one calling code, the main one first.
type regions []region

// find tells the country of a number and of what kind it is, as libphonenumber's getRegionCodeForNumber and getNumberType do, which look each up
// anew and take five times as long.
func (rs regions) find(national string) (country string, kind phonenumbers.PhoneNumberType) {
	for _, r := range rs {
		if r.leading != nil {
			if r.leading.MatchString(national) {
				return r.country, r.kind(national)
			}
			continue
		}
		if kind = r.kind(national); kind != phonenumbers.UNKNOWN || len(rs) == 1 {
			return r.country, kind
		}
	}
	if len(rs) == 0 {
		return "", phonenumbers.UNKNOWN
	}
	return rs[0].country, phonenumbers.UNKNOWN
}

func (r region) kind(national string) phonenumbers.PhoneNumberType {
	if r.all.has(national) {
		for _, k := range r.kinds {
			if k.has(national) {
				return k.kind
			}
		}
	}
	return phonenumbers.UNKNOWN
}

// compiled holds the regions of each calling code that was met: there are some two hundred, and all their patterns at once would take a tenth of a second.
var compiled [1000]struct {
	sync.Once
	regions
}

func places(code int) regions {
	c := &compiled[code]
	c.Do(func() { c.regions = compileRegions(code) })
	return c.regions
}

func compileRegions(code int) regions {
	tables, err := phonenumbers.MetadataCollection()
	if err != nil {
		return nil // without its tables the library is of no use: no country is known then
	}
	var out regions
	for _, name := range phonenumbers.GetRegionCodesForCountryCode(code) {
		for _, t := range tables.GetMetadata() {
			if t.GetId() == name && int(t.GetCountryCode()) == code {
				out = append(out, compileRegion(t))
			}
		}
	}
	return out
}

func compileRegion(t *phonenumbers.PhoneMetadata) region {
	r := region{country: t.GetId(), all: compileSpan(t.GetGeneralDesc())}
	if s := t.GetLeadingDigits(); s != "" {
		r.leading = regexp.MustCompile("^(?:" + s + ")")
	}
	for _, k := range []struct {
		kind phonenumbers.PhoneNumberType
		desc *phonenumbers.PhoneNumberDesc
	}{
		{phonenumbers.PREMIUM_RATE, t.GetPremiumRate()},
		{phonenumbers.TOLL_FREE, t.GetTollFree()},
		{phonenumbers.SHARED_COST, t.GetSharedCost()},
		{phonenumbers.VOIP, t.GetVoip()},
		{phonenumbers.PERSONAL_NUMBER, t.GetPersonalNumber()},
		{phonenumbers.PAGER, t.GetPager()},
		{phonenumbers.UAN, t.GetUan()},
		{phonenumbers.VOICEMAIL, t.GetVoicemail()},
		{phonenumbers.FIXED_LINE, t.GetFixedLine()},
		{phonenumbers.MOBILE, t.GetMobile()},
	} {
		if s := compileSpan(k.desc); s.pattern != nil {
			r.kinds = append(r.kinds, kindSpan{s, k.kind})
		}
	}
	return r
}

func compileSpan(d *phonenumbers.PhoneNumberDesc) (s span) {
	if d.GetNationalNumberPattern() == "" {
		return s
	}
	for _, n := range d.GetPossibleLength() {
		if n > 0 && n < 32 {
			s.lengths |= 1 << n
		}
	}
	s.pattern = regexp.MustCompile("^(?:" + d.GetNationalNumberPattern() + ")$")
	return s
}

func deniedKind(t phonenumbers.PhoneNumberType, code int) string {
	switch t {
	case phonenumbers.PREMIUM_RATE:
		return DeniedPremium
	case phonenumbers.SHARED_COST:
		return DeniedSharedCost
	case phonenumbers.PERSONAL_NUMBER:
		if code == 1 { // there the one who is called pays, and a call costs what any other does
			return ""
		}
		return DeniedPersonal
	case phonenumbers.VOICEMAIL:
		return DeniedVoicemail
	case phonenumbers.PAGER:
		return DeniedPager
	case phonenumbers.UAN:
		return DeniedUAN
	default:
		return ""
	}
}
