package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// factorPolicyFlags change what they name of an app's policy about its users' factors. A pointer that is nil leaves the setting as it is.
type factorPolicyFlags struct {
	MaxFactors       *int           `help:"Factors of a user; 1 to 50."`
	TOTPAlgorithm    *string        `name:"totp-algorithm" help:"Of authenticator apps enrolled from now on: SHA1, SHA256 or SHA512; not every authenticator understands the others."`
	TOTPDigits       *int           `name:"totp-digits" help:"Of authenticator apps enrolled from now on; 6 to 8."`
	TOTPPeriod       *int           `name:"totp-period" help:"Of authenticator apps enrolled from now on: seconds of a step; 30 or 60."`
	HOTPLookAhead    *int           `name:"hotp-look-ahead" help:"Values of an event-based token that are tried beyond the expected one; 1 to 50."`
	HOTPResync       *int           `name:"hotp-resync" help:"Values that are tried for two in a row, to bring a token back in step; 10 to 1000."`
	CeremonyLife     *time.Duration `help:"From the beginning to the confirmation of a factor; 2m to 30m."`
	ReauthWithin     *time.Duration `help:"How long ago the password may have been entered for what weakens; 1m to 5m."`
	CoolingOff       *time.Duration `help:"Before a new number or address may be a user's only factor; 0s to 168h."`
	DeviceLife       *time.Duration `help:"Life of a trusted device; 0s (none) to 2160h."`
	DeviceGrace      *time.Duration `help:"How long a replaced token of a trusted device still serves requests under way; 5s to 5m."`
	RecoveryWait     *time.Duration `help:"From the last proof until a recovery takes effect; 0s to 168h."`
	RecoveriesPerDay *int           `help:"Recoveries that a user may begin; 1 to 10."`
	RecoveryMethods  *string        `placeholder:"COUNTRY=METHOD+…;…" help:"Ways of recovery by country, such as 'US=email+phone+letter;*=email'. It replaces the whole list; * stands for all others and must be named; 'US=' and '*=' allow nothing there."`
	SupportApproval  *bool          `help:"A recovery that support begins waits for a second agent; --support-approval=false for not."`
	RPID             *string        `name:"rp-id" help:"Relying-party id of security keys: a domain such as shop.example. Empty for no security keys."`
	Origins          *string        `help:"Web origins of the pages that use security keys, separated by commas, at or below --rp-id."`
}

// apply sets what was named. Bounds are checked where the app is written.
func (f factorPolicyFlags) apply(p *otp.FactorPolicy) error {
	set(&p.MaxFactors, f.MaxFactors)
	set(&p.TOTP.Algorithm, f.TOTPAlgorithm)
	set(&p.TOTP.Digits, f.TOTPDigits)
	set(&p.TOTP.Period, f.TOTPPeriod)
	set(&p.HOTPLookAhead, f.HOTPLookAhead)
	set(&p.HOTPResync, f.HOTPResync)
	set(&p.CeremonyLife, f.CeremonyLife)
	set(&p.ReauthWithin, f.ReauthWithin)
	set(&p.CoolingOff, f.CoolingOff)
	set(&p.DeviceLife, f.DeviceLife)
	set(&p.DeviceGrace, f.DeviceGrace)
	set(&p.RecoveryWait, f.RecoveryWait)
	set(&p.RecoveriesPerDay, f.RecoveriesPerDay)
	set(&p.SupportApproval, f.SupportApproval)
	set(&p.RPID, f.RPID)
	if f.Origins != nil {
		p.Origins = list(*f.Origins, ",")
	}
	if f.RecoveryMethods != nil {
		methods, err := parseMethods(*f.RecoveryMethods)
		if err != nil {
			return err
		}
		p.RecoveryMethods = methods
	}
	return nil
}

// list splits a setting that holds several values; nothing gives none.
func list(text, separator string) (out []string) {
	for s := range strings.SplitSeq(text, separator) {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// remark says what a list of ways of recovery means that is easily overlooked.
func (f factorPolicyFlags) remark(out io.Writer, a postgres.App) error {
	if f.RecoveryMethods == nil {
		return nil
	}
	all := a.Policy.Factors.RecoveryMethods
	var none []string
	for _, country := range slices.Sorted(maps.Keys(all)) {
		if country != otp.AnyCountry && len(all[country]) == 0 {
			none = append(none, country)
		}
	}
	where := ""
	switch {
	case len(all[otp.AnyCountry]) == 0 && len(none) == len(all)-1:
		where = "Nobody"
	case len(all[otp.AnyCountry]) == 0:
		where = "Nobody elsewhere"
	case len(none) > 0:
		where = "Nobody in " + strings.Join(none, ", ")
	default:
		return nil
	}
	_, err := fmt.Fprintf(out, "\n%s can recover by themselves.\n", where)
	return err
}

// parseMethods reads 'US=email+phone+letter;*=email'. A country with nothing behind it allows nothing. What holds for the countries that are not named has
// to be said: the list replaces the one before.
func parseMethods(text string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, part := range list(text, ";") {
		country, methods, ok := strings.Cut(part, "=")
		if country = strings.TrimSpace(country); !ok || country == "" {
			return nil, errors.New("--recovery-methods: must be of the form 'US=email+phone+letter;*=email'")
		}
		if _, twice := out[country]; twice {
			return nil, fmt.Errorf("--recovery-methods: %s is named twice", country)
		}
		out[country] = append([]string{}, list(methods, "+")...)
	}
	if _, elsewhere := out[otp.AnyCountry]; !elsewhere {
		return nil, errors.New("--recovery-methods: replaces the whole list, so it must say what holds in all other countries: add '*=email', or '*=' for nothing")
	}
	return out, nil
}

// methodList is what parseMethods reads.
func methodList(methods map[string][]string) string {
	var parts []string
	for _, country := range slices.Sorted(maps.Keys(methods)) {
		parts = append(parts, country+"="+strings.Join(methods[country], "+"))
	}
	return strings.Join(parts, ";")
}

// rows are the settings by their flags' names.
func (factorPolicyFlags) rows(p otp.FactorPolicy) [][2]any {
	return [][2]any{
		{"max-factors", p.MaxFactors},
		{"totp-algorithm", p.TOTP.Algorithm},
		{"totp-digits", p.TOTP.Digits},
		{"totp-period", p.TOTP.Period},
		{"hotp-look-ahead", p.HOTPLookAhead},
		{"hotp-resync", p.HOTPResync},
		{"ceremony-life", otp.ShortDuration(p.CeremonyLife)},
		{"reauth-within", otp.ShortDuration(p.ReauthWithin)},
		{"cooling-off", otp.ShortDuration(p.CoolingOff)},
		{"device-life", otp.ShortDuration(p.DeviceLife)},
		{"device-grace", otp.ShortDuration(p.DeviceGrace)},
		{"recovery-wait", otp.ShortDuration(p.RecoveryWait)},
		{"recoveries-per-day", p.RecoveriesPerDay},
		{"recovery-methods", methodList(p.RecoveryMethods)},
		{"support-approval", p.SupportApproval},
		{"rp-id", p.RPID},
		{"origins", strings.Join(p.Origins, ",")},
	}
}

// byFlag names the flags in an error about a policy, which names settings as they are stored.
func byFlag(err error) error {
	if err == nil {
		return nil
	}
	for _, as := range [][2]string{
		{"policy limits: cooldown ", "--send-cooldown: "},
		{"policy limits: ", "--limit: "},
		{"policy ", "--"},
		{"app display-name: ", "--display-name: "},
		{"app origin: ", "--origin: "},
		{"app locale: ", "--locale: "},
	} {
		if text, ok := strings.CutPrefix(err.Error(), as[0]); ok {
			return errors.New(as[1] + text)
		}
	}
	if !strings.HasPrefix(err.Error(), "factor policy ") {
		return err
	}
	return flagged(err, "factor policy totp ", "--totp-", "factor policy ", "", "ceremony_seconds:", "--ceremony-life:", "reauth_seconds:", "--reauth-within:",
		"cooling_off_seconds:", "--cooling-off:", "device_seconds:", "--device-life:", "device_grace_seconds:", "--device-grace:",
		"recovery_wait_seconds:", "--recovery-wait:", "hotp_look_ahead:", "--hotp-look-ahead:", "hotp_resync:", "--hotp-resync:",
		"recoveries_per_day:", "--recoveries-per-day:", "max_factors:", "--max-factors:", "recovery_methods:", "--recovery-methods:",
		"rp_id:", "--rp-id:", "origins:", "--origins:", "rp_id", "--rp-id")
}
