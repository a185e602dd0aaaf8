package otp

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// A FactorPolicy is what one app may choose about its users' factors and their recovery, each within bounds that no app can leave.
type FactorPolicy struct {
	TOTP             TOTP                // of authenticator apps that are enrolled from now on
	HOTPLookAhead    int                 // counters tried beyond the expected one; 1–50
	HOTPResync       int                 // counters tried for two values in a row; 10–1000
	CeremonyLife     time.Duration       // from begin to confirm; 2–30 min
	ReauthWithin     time.Duration       // how old the password's entry may be for what weakens; 1–5 min
	CoolingOff       time.Duration       // before a new number or address may be the only factor; 0–7 d
	DeviceLife       time.Duration       // of a trusted device; 0–90 d, 0 for no trusted devices
	DeviceGrace      time.Duration       // in which a token just replaced still serves requests under way; 5 s – 5 min
	RecoveryWait     time.Duration       // from the last proof until a recovery takes effect; 0–7 d
	RecoveriesPerDay int                 // begun, a user; 1–10
	RecoveryMethods  map[string][]string // country (ISO 3166-1 alpha-2) or "*" for any other: the methods allowed there, of email, phone and letter
	SupportApproval  bool                // what support begins waits for a second agent
	RPID             string              // WebAuthn relying-party id, a domain; "" for no security keys
	Origins          []string            // of the pages that use security keys: https, at or below RPID, in the form that browsers report
	MaxFactors       int                 // a user; 1–50
}

// DefaultFactorPolicy is what an app starts with.
func DefaultFactorPolicy() FactorPolicy {
	return FactorPolicy{
		TOTP: DefaultTOTP(), HOTPLookAhead: 10, HOTPResync: 100,
		CeremonyLife: 10 * time.Minute, ReauthWithin: 5 * time.Minute, CoolingOff: 24 * time.Hour,
		DeviceLife: 30 * 24 * time.Hour, DeviceGrace: 30 * time.Second,
		RecoveryWait: 24 * time.Hour, RecoveriesPerDay: 3, RecoveryMethods: defaultMethods(), SupportApproval: true,
		MaxFactors: 20,
	}
}

// defaultMethods allows a secondary email everywhere; elsewhere than in the US, phone numbers change hands too fast and letters take too long.
func defaultMethods() map[string][]string {
	return map[string][]string{
		AnyCountry: {string(ProofEmail)},
		"US":       {string(ProofEmail), string(ProofPhone), string(ProofLetter)},
	}
}

// AnyCountry stands in RecoveryMethods for every country that is not named there.
const AnyCountry = "*"

// MethodsFor returns the recovery methods allowed to users of a country (ISO 3166-1 alpha-2, upper case); "" for one that is not known. The caller
// may keep and change what it gets.
func (p FactorPolicy) MethodsFor(country string) []string {
	m, named := p.RecoveryMethods[country]
	if !named {
		m = p.RecoveryMethods[AnyCountry]
	}
	return slices.Clone(m)
}

// Bounds of lists in a policy.
const (
	maxOrigins   = 10
	maxCountries = 250
)

// Check returns an error that names the first setting out of bounds, as the policy's JSON names it.
func (p FactorPolicy) Check() error {
	if err := p.TOTP.Check(); err != nil {
		return fmt.Errorf("factor policy %w", err)
	}
	const day = 24 * time.Hour
	for _, b := range [...]struct {
		name          string
		value, lo, hi time.Duration
	}{
		{"ceremony_seconds", p.CeremonyLife, 2 * time.Minute, 30 * time.Minute},
		{"reauth_seconds", p.ReauthWithin, time.Minute, 5 * time.Minute},
		{"cooling_off_seconds", p.CoolingOff, 0, 7 * day},
		{"device_seconds", p.DeviceLife, 0, 90 * day},
		{"device_grace_seconds", p.DeviceGrace, 5 * time.Second, 5 * time.Minute},
		{"recovery_wait_seconds", p.RecoveryWait, 0, 7 * day},
	} {
		if err := checkSpan(b.value, b.lo, b.hi); err != nil {
			return fmt.Errorf("factor policy %s: %w", b.name, err)
		}
	}
	for _, b := range [...]struct {
		name          string
		value, lo, hi int
	}{
		{"hotp_look_ahead", p.HOTPLookAhead, 1, MaxHOTPLookAhead},
		{"hotp_resync", p.HOTPResync, 10, MaxHOTPResync},
		{"recoveries_per_day", p.RecoveriesPerDay, 1, 10},
		{"max_factors", p.MaxFactors, 1, 50},
	} {
		if b.value < b.lo || b.value > b.hi {
			return fmt.Errorf("factor policy %s: must be %d to %d, not %d", b.name, b.lo, b.hi, b.value)
		}
	}
	if err := checkMethods(p.RecoveryMethods); err != nil {
		return fmt.Errorf("factor policy recovery_methods: %w", err)
	}
	return p.checkParty()
}

func checkMethods(methods map[string][]string) error {
	if len(methods) > maxCountries {
		return fmt.Errorf("must name at most %d countries", maxCountries)
	}
	for _, country := range slices.Sorted(maps.Keys(methods)) { // sorted, so that the same fault is named each time
		if country != AnyCountry && !ValidCountry(country) {
			return fmt.Errorf("%q is neither a country (ISO 3166-1, two letters) nor %q", country, AnyCountry)
		}
		seen := map[string]bool{}
		for _, m := range methods[country] {
			if !ProofKind(m).IsCode() {
				return fmt.Errorf("%q of %q is not one of email, phone, letter", m, country)
			}
			if seen[m] {
				return fmt.Errorf("%q of %q is named twice", m, country)
			}
			seen[m] = true
		}
	}
	return nil
}

// checkParty checks the relying party of security keys: an id that is a domain, and origins whose hosts are that domain or below it (WebAuthn
// level 3, section 5.1.2). Browsers refuse any other pair, and with it every registration.
func (p FactorPolicy) checkParty() error {
	if p.RPID == "" {
		if len(p.Origins) > 0 {
			return fmt.Errorf("factor policy rp_id: must be set where origins are")
		}
		return nil
	}
	single := !strings.Contains(p.RPID, ".") // localhost, or a name of an intranet
	if p.RPID != strings.ToLower(p.RPID) || !hostName(p.RPID) {
		return fmt.Errorf("factor policy rp_id: must be a domain in lower case, without scheme and port, not %q", p.RPID)
	}
	if len(p.Origins) == 0 || len(p.Origins) > maxOrigins {
		return fmt.Errorf("factor policy origins: must be 1 to %d where rp_id is set, not %d", maxOrigins, len(p.Origins))
	}
	seen := map[string]bool{}
	for _, o := range p.Origins {
		host, ok := originHost(o)
		if !ok && strings.HasPrefix(o, "http://") {
			return fmt.Errorf("factor policy origins: %q must be of https; browsers allow http for localhost only", o)
		}
		if !ok {
			return fmt.Errorf("factor policy origins: %q is not an origin such as https://shop.example, in lower case and without a path", o)
		}
		if host != p.RPID && (single && p.RPID != localhost || !strings.HasSuffix(host, "."+p.RPID)) { // whoever names "com" means no such thing
			return fmt.Errorf("factor policy origins: the host of %q is neither rp_id %q nor below it", o, p.RPID)
		}
		if seen[o] {
			return fmt.Errorf("factor policy origins: %q is named twice", o)
		}
		seen[o] = true
	}
	return nil
}

const localhost = "localhost"

// originHost returns the host of a web origin in the form in which browsers report it (RFC 6454, section 6.2): https, or http on localhost for tests.
func originHost(origin string) (host string, ok bool) {
	u, err := url.Parse(origin)
	if err != nil || origin != u.Scheme+"://"+u.Host || origin != strings.ToLower(origin) || u.Hostname() == "" {
		return "", false
	}
	host = u.Hostname()
	local := host == localhost || strings.HasSuffix(host, "."+localhost)
	switch {
	case u.Scheme == "https" && u.Port() != "443", u.Scheme == "http" && local && u.Port() != "80": // browsers leave a default port away
	default:
		return "", false
	}
	return host, hostName(host) && !strings.HasSuffix(u.Host, ":")
}

// hostName reports whether s is a domain, or a single label such as localhost. One of another script has to be in punycode, as browsers report it.
func hostName(s string) bool {
	if !strings.Contains(s, ".") {
		s += ".test" // checkDomain asks for two labels
	}
	return checkDomain(s) == ""
}

// factorPolicyJSON is how a FactorPolicy is stored: durations in whole seconds.
type factorPolicyJSON struct {
	TOTP             totpJSON            `json:"totp"`
	HOTPLookAhead    int                 `json:"hotp_look_ahead"`
	HOTPResync       int                 `json:"hotp_resync"`
	CeremonySeconds  int64               `json:"ceremony_seconds"`
	ReauthSeconds    int64               `json:"reauth_seconds"`
	CoolingOff       int64               `json:"cooling_off_seconds"`
	DeviceSeconds    int64               `json:"device_seconds"`
	DeviceGrace      int64               `json:"device_grace_seconds"`
	RecoveryWait     int64               `json:"recovery_wait_seconds"`
	RecoveriesPerDay int                 `json:"recoveries_per_day"`
	RecoveryMethods  map[string][]string `json:"recovery_methods"`
	SupportApproval  bool                `json:"support_approval"`
	RPID             string              `json:"rp_id"`
	Origins          []string            `json:"origins"`
	MaxFactors       int                 `json:"max_factors"`
}

type totpJSON struct {
	Algorithm string `json:"algorithm"`
	Digits    int    `json:"digits"`
	Period    int    `json:"period"`
}

// MarshalJSON writes every setting. Parts of a second, which Check refuses, are lost.
func (p FactorPolicy) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(p.wire(), json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("write factor policy: %w", err)
	}
	return b, nil
}

func (p FactorPolicy) wire() factorPolicyJSON {
	whole := func(d time.Duration) int64 { return int64(d / time.Second) }
	return factorPolicyJSON{
		TOTP: totpJSON(p.TOTP), HOTPLookAhead: p.HOTPLookAhead, HOTPResync: p.HOTPResync,
		CeremonySeconds: whole(p.CeremonyLife), ReauthSeconds: whole(p.ReauthWithin), CoolingOff: whole(p.CoolingOff),
		DeviceSeconds: whole(p.DeviceLife), DeviceGrace: whole(p.DeviceGrace), RecoveryWait: whole(p.RecoveryWait),
		RecoveriesPerDay: p.RecoveriesPerDay, RecoveryMethods: p.RecoveryMethods, SupportApproval: p.SupportApproval,
		RPID: p.RPID, Origins: p.Origins, MaxFactors: p.MaxFactors,
	}
}

// UnmarshalJSON reads what MarshalJSON writes. What is not named takes its default, whatever p held before; a name that is not known is an error, and so is
// one that stands twice. It does not check bounds.
func (p *FactorPolicy) UnmarshalJSON(b []byte) error {
	w := DefaultFactorPolicy().wire()
	w.RecoveryMethods = nil // the decoder would add to a map; named at all, the setting is named whole
	if err := json.Unmarshal(b, &w, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	if w.RecoveryMethods == nil {
		w.RecoveryMethods = defaultMethods()
	}
	if len(w.Origins) == 0 {
		w.Origins = nil // one form for none
	}
	*p = FactorPolicy{
		TOTP: TOTP(w.TOTP), HOTPLookAhead: w.HOTPLookAhead, HOTPResync: w.HOTPResync,
		CeremonyLife: seconds(w.CeremonySeconds), ReauthWithin: seconds(w.ReauthSeconds), CoolingOff: seconds(w.CoolingOff),
		DeviceLife: seconds(w.DeviceSeconds), DeviceGrace: seconds(w.DeviceGrace), RecoveryWait: seconds(w.RecoveryWait),
		RecoveriesPerDay: w.RecoveriesPerDay, RecoveryMethods: w.RecoveryMethods, SupportApproval: w.SupportApproval,
		RPID: w.RPID, Origins: w.Origins, MaxFactors: w.MaxFactors,
	}
	return nil
}

// seconds returns n seconds. What would overflow becomes a duration that no bound allows either.
func seconds(n int64) time.Duration { return time.Duration(min(max(n, -1), 1<<32)) * time.Second }

// ParseFactorPolicy reads a policy as it is stored: a JSON object whose missing settings take their defaults. Its error names what is unknown or out
// of bounds.
func ParseFactorPolicy(b []byte) (FactorPolicy, error) {
	var p FactorPolicy
	if err := p.UnmarshalJSON(b); err != nil {
		return FactorPolicy{}, fmt.Errorf("parse factor policy: %w", err)
	}
	if err := p.Check(); err != nil {
		return FactorPolicy{}, err
	}
	return p, nil
}
