// Package route says which provider carries a challenge's code first, and which come after it.
//
// A route stands for an app, a channel and a country. It lists providers, and its policy says in which order a challenge tries them: as listed, drawn by
// weight, or by how many of the codes that each carried were verified in the end. The order follows from the route, the statistics and a number of the
// challenge's own alone, so that whoever works it out again, after a crash or on another machine, finds the same one. The package is pure: it does no I/O,
// reads no clock and draws no number that its caller did not seed.
package route

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// A Policy says how a route orders its providers.
type Policy string

// The policies.
const (
	Fixed      Policy = "order"      // as they are listed
	Weight     Policy = "weight"     // drawn by weight, for each challenge anew
	Conversion Policy = "conversion" // by the share of codes that were verified, with enough of trying the others to notice when that changes
)

// Bounds of a route.
const (
	MaxProviders = 16
	MaxWeight    = 1000
	MinTimeout   = 5 * time.Second // below that, most of what is sent twice would have arrived
	MaxTimeout   = 5 * time.Minute // above that, a login's code is worth nothing any more
)

// A Route is where the codes of an app go that leave by a channel for a country.
type Route struct {
	Channel   otp.Channel
	Country   string // ISO 3166-1 alpha-2 in capitals; "" for any that has no route of its own
	Policy    Policy
	Providers []string // names, in the operator's order

	// Weights has a whole number of 0 to MaxWeight for each provider. With Weight it says in which proportion they come first; with Conversion, where it may be
	// nil, in which proportion they are tried out. A provider of weight 0 comes after all others under either. With Fixed it is nil.
	Weights []int

	// ReceiptTimeout is how long a code that a provider took may stay without word that it was delivered, before it is sent over the next one; 0 for ever.
	ReceiptTimeout time.Duration
}

var countryPattern = regexp.MustCompile(`^[A-Z]{2}$`)

// Check returns an error that names the field at fault and what is wrong with it, or nil. Whether the providers exist is for the caller to see.
func (r Route) Check() error {
	switch {
	case !r.Channel.Valid():
		return fmt.Errorf("route: channel: %q carries no codes of challenges", string(r.Channel))
	case r.Country != "" && !r.Channel.Phone():
		return fmt.Errorf("route: country: an address of the channel %s has none", r.Channel)
	case r.Country != "" && !countryPattern.MatchString(r.Country):
		return fmt.Errorf("route: country: %q is not of two capital letters (ISO 3166-1 alpha-2)", r.Country)
	case r.ReceiptTimeout != 0 && (r.ReceiptTimeout < MinTimeout || r.ReceiptTimeout > MaxTimeout):
		return fmt.Errorf("route: receipt time-out: %v is not between %v and %v, and not 0 for none", r.ReceiptTimeout, MinTimeout, MaxTimeout)
	}
	if err := r.checkProviders(); err != nil {
		return err
	}
	return r.checkWeights()
}

func (r Route) checkProviders() error {
	switch {
	case len(r.Providers) == 0:
		return errors.New("route: providers: there are none")
	case len(r.Providers) > MaxProviders:
		return fmt.Errorf("route: providers: there are %d, more than %d", len(r.Providers), MaxProviders)
	}
	for i, name := range r.Providers {
		if !otp.ValidProvider(name) {
			return fmt.Errorf("route: providers: %q is no name of a provider", name)
		}
		if slices.Contains(r.Providers[:i], name) {
			return fmt.Errorf("route: providers: %s is listed twice", name)
		}
	}
	return nil
}

func (r Route) checkWeights() error {
	switch r.Policy {
	case Fixed:
		if r.Weights != nil {
			return fmt.Errorf("route: weights: the policy %s has none", r.Policy)
		}
		return nil
	case Weight:
		if r.Weights == nil {
			return fmt.Errorf("route: weights: the policy %s needs one for each provider", r.Policy)
		}
	case Conversion:
		if len(r.Providers) < 2 {
			return fmt.Errorf("route: policy: %s has nothing to choose from with one provider", r.Policy)
		}
		if r.Weights == nil {
			return nil
		}
	default:
		return fmt.Errorf("route: policy: %q is none of %s, %s and %s", string(r.Policy), Fixed, Weight, Conversion)
	}
	if len(r.Weights) != len(r.Providers) {
		return fmt.Errorf("route: weights: there are %d for %d providers", len(r.Weights), len(r.Providers))
	}
	above := 0
	for i, w := range r.Weights {
		if w < 0 || w > MaxWeight {
			return fmt.Errorf("route: weights: %d, of %s, is not between 0 and %d", w, r.Providers[i], MaxWeight)
		}
		if w > 0 {
			above++
		}
	}
	switch {
	case above == 0:
		return errors.New("route: weights: all are 0")
	case above == 1 && r.Policy == Conversion:
		return fmt.Errorf("route: weights: %s has nothing to choose from when all but one are 0", r.Policy)
	}
	return nil
}

// Next returns the first of order that has not been tried; false when all have been.
func Next(order, tried []string) (string, bool) {
	for _, name := range order {
		if !slices.Contains(tried, name) {
			return name, true
		}
	}
	return "", false
}
