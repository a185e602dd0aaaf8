package otp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A DeliveryPolicy is what one app says of sending: to where, how much, at what cost, and what follows when it fails.
type DeliveryPolicy struct {
	// Countries are those that phones may be reached in (ISO 3166-1 alpha-2, or AC, TA and XK), or AnyCountry for all; none where it is empty. Premium and
	// satellite numbers are in none.
	Countries []string `json:"countries"`
	// Fallback lists the channels that follow, in this order, when the one before has failed; each at most once a challenge.
	Fallback []Channel `json:"fallback,omitempty"`
	Limits   Limits    `json:"limits"` // of what is sent
	// SpendCaps are millionths of the operator's currency a UTC day, by country; "" for each that is not named. None where it is empty.
	SpendCaps map[string]int64 `json:"spend_caps,omitzero"`
	Pumping   PumpingMode      `json:"pumping,omitempty"` // what becomes of a prefix that looks pumped; PumpingShadow where it is empty
	Style     SMSPolicy        `json:"sms,omitzero"`
}

// SMSPolicy is what an app says of its short messages. The zero value is the default.
type SMSPolicy struct {
	NoWebOTP     bool `json:"no_web_otp,omitempty"`     // without the line that browsers fill the code in from
	NoKeepSecret bool `json:"no_keep_secret,omitempty"` // without the words not to share the code
	Fold         bool `json:"fold,omitempty"`           // look-alikes of Latin letters may be written plainly where that saves a segment
}

// A PumpingMode is what the guard against SMS pumping does.
type PumpingMode string

// The modes. In the shadow the guard only writes down what it would have done.
const (
	PumpingOff    PumpingMode = "off"
	PumpingShadow PumpingMode = "shadow"
	PumpingBlock  PumpingMode = "block"
)

// A Rate is how many messages may be sent within a minute, an hour and a UTC day; 0 is without a bound.
type Rate struct {
	Minute int `json:"minute"`
	Hour   int `json:"hour"`
	Day    int `json:"day"`
}

// Limits bound what is sent, by whom and what it concerns. Each counts every code of a challenge, an enrolment or a recovery, resends and what follows a
// failure among them, and notices over SMS. Prefix and App count what goes to phones only, since that costs money.
type Limits struct {
	User        Rate          `json:"user"`
	Destination Rate          `json:"destination"` // one number or mailbox, whoever the user is
	IP          Rate          `json:"ip"`          // of the client: an IPv4 address, or the /64 of an IPv6 one
	Prefix      Rate          `json:"prefix"`      // a country and the first digits of the national number
	App         Rate          `json:"app"`
	Cooldown    time.Duration `json:"-"` // between two messages to one destination over different challenges; 0 for none
	CooldownS   int           `json:"cooldown"`
}

// NoLimits is without any bound, for tests and benchmarks that are about something else.
func NoLimits() Limits { return Limits{} }

// DefaultLimits are generous to people and narrow to machines.
func DefaultLimits() Limits {
	return Limits{
		User: Rate{Minute: 6, Hour: 20, Day: 50}, Destination: Rate{Minute: 6, Hour: 20, Day: 50}, IP: Rate{Minute: 60, Hour: 600, Day: 3000},
		Prefix: Rate{Minute: 1000, Hour: 10_000, Day: 50_000}, App: Rate{},
	}
}

// DefaultDeliveryPolicy is what a new app starts with: phones can be reached nowhere until the app lists its countries.
func DefaultDeliveryPolicy() DeliveryPolicy {
	return DeliveryPolicy{Limits: DefaultLimits(), Pumping: PumpingShadow}
}

// Bounds of a policy.
const (
	maxRate = 1_000_000_000
	maxCap  = 1_000_000_000_000_000 // a billion of the currency
)

// Check returns an error that names the first setting out of bounds.
func (p DeliveryPolicy) Check() error {
	for i, c := range p.Countries {
		if c != AnyCountry && !ValidPhoneCountry(c) {
			return fmt.Errorf("policy countries: %q is neither two capital letters (ISO 3166-1) nor %q", c, AnyCountry)
		}
		if slices.Contains(p.Countries[:i], c) {
			return fmt.Errorf("policy countries: %q is named twice", c)
		}
	}
	for i, c := range p.Fallback {
		if !c.Valid() {
			return fmt.Errorf("policy fallback: %q is not one of sms, voice, whatsapp, email", string(c))
		}
		if slices.Contains(p.Fallback[:i], c) {
			return fmt.Errorf("policy fallback: %q is named twice", string(c))
		}
	}
	for c, most := range p.SpendCaps {
		if c != "" && !ValidPhoneCountry(c) {
			return fmt.Errorf("policy spend-cap: %q is no country (ISO 3166-1, two capital letters)", c)
		}
		if most < 0 || most > maxCap {
			return fmt.Errorf("policy spend-cap: that of %q is out of bounds", c)
		}
	}
	switch p.Pumping {
	case "", PumpingOff, PumpingShadow, PumpingBlock:
	default:
		return fmt.Errorf("policy pumping: must be off, shadow or block, not %q", string(p.Pumping))
	}
	return p.Limits.check()
}

func (l Limits) check() error {
	for _, r := range []struct {
		name string
		Rate
	}{{"user", l.User}, {"destination", l.Destination}, {"ip", l.IP}, {"prefix", l.Prefix}, {"app", l.App}} {
		for _, n := range []int{r.Minute, r.Hour, r.Day} {
			if n < 0 || n > maxRate {
				return fmt.Errorf("policy limits: %s must be 0 to %d", r.name, maxRate)
			}
		}
	}
	if l.Cooldown != 0 {
		if err := checkSpan(l.Cooldown, time.Second, time.Hour); err != nil {
			return fmt.Errorf("policy limits: cooldown %w", err)
		}
	}
	return nil
}

// Allows reports whether phones in a country may be reached. A number whose country is not known is in none.
func (p DeliveryPolicy) Allows(country string) bool {
	return slices.Contains(p.Countries, AnyCountry) || country != "" && slices.Contains(p.Countries, country)
}

// SpendCap returns how much may be spent on a country in a day; found is false where there is no bound.
func (p DeliveryPolicy) SpendCap(country string) (most int64, found bool) {
	if most, found = p.SpendCaps[country]; found {
		return most, true
	}
	most, found = p.SpendCaps[""]
	return most, found
}

// Encode writes the policy as it is stored.
func (p DeliveryPolicy) Encode() ([]byte, error) {
	p.Limits.CooldownS = int(p.Limits.Cooldown / time.Second)
	return json.Marshal(p)
}

// ParseDeliveryPolicy reads what Encode wrote; what it does not name takes the default.
func ParseDeliveryPolicy(b []byte) (DeliveryPolicy, error) {
	p := DefaultDeliveryPolicy()
	if len(b) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, errors.New("the stored delivery policy cannot be read")
	}
	p.Limits.Cooldown = time.Duration(p.Limits.CooldownS) * time.Second
	if p.Pumping == "" {
		p.Pumping = PumpingShadow
	}
	return p, nil
}
