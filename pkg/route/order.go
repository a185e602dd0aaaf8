package route

import (
	"cmp"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// A Stat is what is known of a provider on a route: of late, for the caller lets old codes count for less and less. Their age is best counted in codes of
// the route and not in hours: with a half-life of some 500 codes it shows within a few hundred that a provider has gone bad (see the simulation among the
// tests), however many there are an hour, where one of six hours would go on for two.
type Stat struct {
	Sent       float64 // codes that it carried and that have been verified or have ended without
	Verified   float64 // of those, the verified ones
	CostMicros int64   // of one message, in millionths of the operator's currency; 0 counts as free
}

const (
	// Before anything is known of it, a provider counts as one that had priorVerified of its codes verified and priorFailed not. That is optimistic, so that a
	// new one, or one whose bad days are forgotten, is tried soon; and it weighs little, so that a handful of failures is believed.
	priorVerified = 4.5
	priorFailed   = 0.5

	// explored is the share of challenges whose first provider is drawn by weight whatever the statistics say. Without it a provider that was bad once would
	// hardly ever show that it has recovered.
	explored = 0.05

	// costSteps divides the conversions drawn for the providers into steps. Within one, a difference says nothing, and the cheaper goes first.
	costSteps = 100
)

// Seed turns an id into the number that orders its route. All 128 bits count: the first ones of an id are its time.
func Seed(id [16]byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(id[:]) // never fails
	return h.Sum64()
}

// Order returns the providers in the order in which one challenge tries them. seed is of the challenge (see Seed); the same seed and the same stats bring the
// same order. stats may lack providers. As they may change between two deliveries of a challenge, what was tried has to be handed to Next and not counted
// off.
//
// Under Conversion the order is drawn by Thompson sampling: for each provider a conversion is drawn from what may be believed of it, a Beta distribution over
// what it carried and a small prior, and the highest goes first. So each comes first as often as it is likely to be the best (Thompson, "On the likelihood
// that one unknown probability exceeds another", 1933; Chapelle and Li, "An empirical evaluation of Thompson sampling", 2011).
//
// The route must have passed Check.
func (r Route) Order(seed uint64, stats map[string]Stat) []string {
	switch {
	case r.Policy == Weight, r.Policy == Conversion && source(seed, "").Float64() < explored:
		return r.drawn(func(name string, weight float64) (float64, int64) {
			return byWeight(source(seed, name), weight), 0
		})
	case r.Policy == Conversion:
		return r.drawn(func(name string, _ float64) (float64, int64) {
			s := stats[name]
			return byConversion(source(seed, name), s), s.CostMicros
		})
	default:
		return slices.Clone(r.Providers)
	}
}

// drawn orders the providers by what rank says of each: the higher first, of equals the cheaper, and then as listed. Those of weight 0 come last, as listed.
func (r Route) drawn(rank func(name string, weight float64) (rank float64, cost int64)) []string {
	type ranked struct {
		name string
		rank float64
		cost int64
	}
	all := make([]ranked, len(r.Providers))
	for i, name := range r.Providers {
		all[i] = ranked{name: name, rank: math.Inf(-1)}
		weight := 1
		if r.Weights != nil {
			weight = r.Weights[i]
		}
		if weight > 0 {
			all[i].rank, all[i].cost = rank(name, float64(weight))
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.cost, b.cost))
	})
	order := make([]string, len(all))
	for i, one := range all {
		order[i] = one.name
	}
	return order
}

// source returns the numbers of a challenge for a provider. Each provider has its own, so that one more on the route moves no other.
func source(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))                  // never fails
	return rand.New(rand.NewPCG(seed, h.Sum64())) //nolint:gosec // whom a code goes by is no secret, and has to be found again
}

// byWeight draws a rank such that sorting by it is to draw by weight without putting back (Efraimidis and Spirakis, "Weighted random sampling with a
// reservoir", 2006; in its logarithmic form). weight is above 0.
func byWeight(from *rand.Rand, weight float64) float64 { return -from.ExpFloat64() / weight }

// byConversion draws a conversion, in steps, from what is to be believed of a provider.
func byConversion(from *rand.Rand, s Stat) float64 {
	verified := max(s.Verified, 0)
	failed := max(s.Sent-verified, 0)
	return math.Round(beta(from, priorVerified+verified, priorFailed+failed) * costSteps)
}

// beta draws from the Beta distribution. a and b are above 0.
func beta(from *rand.Rand, a, b float64) float64 {
	x, y := gamma(from, a), gamma(from, b)
	return x / (x + y)
}

// gamma draws from the Gamma distribution of a shape above 0 and the scale 1 (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000).
// No library is used for it: the one that is kept is a whole of numerics, for these lines.
func gamma(from *rand.Rand, shape float64) float64 {
	if shape < 1 { // their section 6: draw for a shape of one more, and shrink it
		return gamma(from, shape+1) * math.Pow(1-from.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := from.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-from.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
