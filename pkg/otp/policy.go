package otp

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Policy is what one app may choose, each within bounds that no app can leave.
type Policy struct {
	Digits         int           // of a code; 4–10
	Life           time.Duration // of a code; 1–10 min
	Attempts       int           // a challenge; 1–10
	Sends          int           // a challenge, the first one included; 1–10
	Cooldown       time.Duration // between sends; 10 s – 10 min
	OpenChallenges int           // a user; 1–10, the oldest is superseded
	TOTPSkew       int           // steps accepted to either side; 0–2 (RFC 6238, section 5.2)
	Channels       []FactorKind  // the factors to ask for when neither the login nor the user says, best first
	NoFactor       NoFactor      // what becomes of a login whose user has nothing to prove with
	Factors        FactorPolicy  // how users' factors are enrolled, used and recovered
	Delivery       DeliveryPolicy
}

// NoFactor is what becomes of a login whose user has no factor and for whom the app vouches for no address.
type NoFactor string

// Skip lets the login pass as challenge.skipped with reason no_factor; Refuse answers challenge.refused.
const (
	Skip   NoFactor = "skip"
	Refuse NoFactor = "refuse"
)

// DefaultPolicy is what an app starts with.
func DefaultPolicy() Policy {
	return Policy{
		Digits: 6, Life: 5 * time.Minute, Attempts: 5, Sends: 5, Cooldown: 30 * time.Second, OpenChallenges: 3, TOTPSkew: 1,
		Channels: []FactorKind{FactorWebAuthn, FactorTOTP, FactorYubikey, FactorHOTP, FactorSMS, FactorEmail}, NoFactor: Skip,
		Factors: DefaultFactorPolicy(), Delivery: DefaultDeliveryPolicy(),
	}
}

// Check returns an error that names the first setting out of bounds.
func (p Policy) Check() error {
	for _, b := range [...]struct {
		name          string
		value, lo, hi int64
		unit          string
	}{
		{"digits", int64(p.Digits), MinDigits, MaxDigits, ""},
		{"attempts", int64(p.Attempts), 1, 10, ""},
		{"sends", int64(p.Sends), 1, 10, ""},
		{"open-challenges", int64(p.OpenChallenges), 1, 10, ""},
		{"totp-skew", int64(p.TOTPSkew), 0, 2, " steps"},
	} {
		if b.value < b.lo || b.value > b.hi {
			return fmt.Errorf("policy %s: must be %d to %d%s, not %d", b.name, b.lo, b.hi, b.unit, b.value)
		}
	}
	if err := checkSpan(p.Life, time.Minute, 10*time.Minute); err != nil {
		return fmt.Errorf("policy life: %w", err)
	}
	if err := checkSpan(p.Cooldown, 10*time.Second, 10*time.Minute); err != nil {
		return fmt.Errorf("policy cooldown: %w", err)
	}
	if len(p.Channels) == 0 {
		return fmt.Errorf("policy channels: must name at least one of %s", kindList())
	}
	seen := map[FactorKind]bool{}
	for _, c := range p.Channels {
		if !slices.Contains(FactorKinds(), c) {
			return fmt.Errorf("policy channels: %q is not one of %s", string(c), kindList())
		}
		if seen[c] {
			return fmt.Errorf("policy channels: %q is named twice", string(c))
		}
		seen[c] = true
	}
	if p.NoFactor != Skip && p.NoFactor != Refuse {
		return fmt.Errorf("policy no-factor: must be skip or refuse, not %q", string(p.NoFactor))
	}
	if err := p.Delivery.Check(); err != nil {
		return err
	}
	return p.Factors.Check()
}

// checkSpan checks a setting that is a time of whole seconds, bounds included.
func checkSpan(d, lo, hi time.Duration) error {
	switch {
	case d < lo || d > hi:
		return fmt.Errorf("must be %s to %s, not %s", ShortDuration(lo), ShortDuration(hi), ShortDuration(d))
	case d%time.Second != 0:
		return fmt.Errorf("must be whole seconds, not %s", ShortDuration(d))
	}
	return nil
}

// ShortDuration writes a time as people do, and as a setting takes it, without units that are zero: 5m, not 5m0s, and 24h, not 24h0m0s.
func ShortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func kindList() string {
	kinds := FactorKinds()
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}
