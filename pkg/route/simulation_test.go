package route_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/route"
)

const (
	codes    = 20_000 // of a run; what shifts does so halfway
	halfLife = 500.0  // in codes of the route, of what the statistics remember
	learned  = 200    // codes later, the outcome of a code is in the statistics: people type, and workers look only now and then
)

// An outcome is what became of a run, or of many, in the mean.
type outcome struct {
	before, after float64 // share of codes verified in each half
	regret        float64 // share of codes lost against whoever knows the best provider at each moment
	worst         float64 // of several runs, the lowest share verified after the shift
}

// run sends codes over a route whose providers convert as listed, one row for each half.
func run(seed uint64, r route.Route, conversion [2][]float64) outcome {
	type sent struct {
		provider string
		verified bool
	}
	var (
		out     outcome
		history = make([]sent, 0, codes)
		stats   = map[string]route.Stat{}
		luck    = rand.New(rand.NewPCG(seed, 1))
		fade    = math.Exp2(-1 / halfLife)
		at      = map[string]int{}
	)
	for i, name := range r.Providers {
		at[name] = i
	}
	for i := range codes {
		if i >= learned {
			known := history[i-learned]
			for name, s := range stats {
				s.Sent, s.Verified = s.Sent*fade, s.Verified*fade
				stats[name] = s
			}
			s := stats[known.provider]
			s.Sent++
			if known.verified {
				s.Verified++
			}
			stats[known.provider] = s
		}
		half := conversion[2*i/codes]
		var best float64
		for _, p := range half {
			best = max(best, p)
		}
		name := r.Order(luck.Uint64(), stats)[0]
		p := half[at[name]]
		verified := luck.Float64() < p
		history = append(history, sent{name, verified})
		out.regret += (best - p) / codes
		switch {
		case verified && i < codes/2:
			out.before += 2.0 / codes
		case verified:
			out.after += 2.0 / codes
		}
	}
	return out
}

// TestSimulation sends 20,000 codes, many times over, and compares the policies. go test -v prints the table.
func TestSimulation(t *testing.T) {
	const runs = 5
	mean := func(policy route.Policy, conversion [2][]float64) outcome {
		r := route.Route{Channel: otp.SMS, Policy: policy, Providers: []string{"first", "second", "third"}[:len(conversion[0])]}
		if policy == route.Weight {
			r.Weights = []int{1, 1, 1}[:len(r.Providers)]
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		all := outcome{worst: 1}
		for seed := range uint64(runs) {
			one := run(seed, r, conversion)
			all.before += one.before / runs
			all.after += one.after / runs
			all.regret += one.regret / runs
			all.worst = min(all.worst, one.after)
		}
		return all
	}

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\tpolicy\tverified, 1st half\tverified, 2nd half\tworst of the runs\tlost against the best")
	for _, c := range []struct {
		name       string
		conversion [2][]float64
		// What the bandit must do against a fixed order: its gain, in points of the codes verified, is to be at least this.
		gainBefore, gainAfter float64
		worst                 float64 // and no run may end below
	}{
		{"first goes bad", [2][]float64{{0.95, 0.80}, {0.30, 0.85}}, -1.5, 48, 0.78},
		{"first gets a little worse", [2][]float64{{0.95, 0.90}, {0.80, 0.90}}, -1.5, 5, 0.84},
		{"nothing shifts", [2][]float64{{0.95, 0.80}, {0.95, 0.80}}, -1.5, -1.5, 0.92},
		{"nothing shifts, nearly alike", [2][]float64{{0.92, 0.90}, {0.92, 0.90}}, -1.5, -1.5, 0.89},
		{"second is better, listed wrongly", [2][]float64{{0.70, 0.90}, {0.70, 0.90}}, 17, 17, 0.87},
		{"first goes bad, of three", [2][]float64{{0.95, 0.85, 0.90}, {0.10, 0.85, 0.90}}, -1.5, 70, 0.82},
		{"second recovers", [2][]float64{{0.80, 0.05}, {0.80, 0.95}}, -3, 10, 0.90},
	} {
		got := map[route.Policy]outcome{}
		for _, policy := range []route.Policy{route.Fixed, route.Weight, route.Conversion} {
			o := mean(policy, c.conversion)
			got[policy] = o
			fmt.Fprintf(w, "%s\t%s\t%.2f %%\t%.2f %%\t%.2f %%\t%.2f %%\n", c.name, policy, 100*o.before, 100*o.after, 100*o.worst, 100*o.regret)
		}
		fixed, bandit := got[route.Fixed], got[route.Conversion]
		if gain := 100 * (bandit.before - fixed.before); gain < c.gainBefore {
			t.Errorf("%s: %.2f points against a fixed order in the first half, want %.1f or more", c.name, gain, c.gainBefore)
		}
		if gain := 100 * (bandit.after - fixed.after); gain < c.gainAfter {
			t.Errorf("%s: %.2f points against a fixed order in the second half, want %.1f or more", c.name, gain, c.gainAfter)
		}
		if bandit.worst < c.worst {
			t.Errorf("%s: in one run %.2f %% were verified after the shift, want %.0f %% or more", c.name, 100*bandit.worst, 100*c.worst)
		}
	}
	w.Flush()
	t.Logf("%d codes a run, %d runs each; the shift comes halfway\n%s", codes, runs, &table)
}
