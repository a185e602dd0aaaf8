package route_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/route"
)

func TestCheck(t *testing.T) {
	names := func(n int) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf("p%d", i)
		}
		return out
	}
	good := func(change func(*route.Route)) route.Route {
		r := route.Route{Channel: otp.SMS, Country: "DE", Policy: route.Fixed, Providers: []string{"twilio-eu", "vonage"}, ReceiptTimeout: 20 * time.Second}
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		route route.Route
		want  string // begins the error; "" for none
	}{
		"a fixed order":             {good(func(*route.Route) {}), ""},
		"any country":               {good(func(r *route.Route) { r.Country = "" }), ""},
		"email":                     {good(func(r *route.Route) { r.Channel, r.Country = otp.Email, "" }), ""},
		"no time-out":               {good(func(r *route.Route) { r.ReceiptTimeout = 0 }), ""},
		"weights":                   {good(func(r *route.Route) { r.Policy, r.Weights = route.Weight, []int{1000, 0} }), ""},
		"conversion":                {good(func(r *route.Route) { r.Policy = route.Conversion }), ""},
		"conversion with weights":   {good(func(r *route.Route) { r.Policy, r.Weights = route.Conversion, []int{3, 1} }), ""},
		"as many as there may be":   {good(func(r *route.Route) { r.Providers = names(16) }), ""},
		"a letter":                  {good(func(r *route.Route) { r.Channel = otp.Letter }), `route: channel: "letter"`},
		"no channel":                {good(func(r *route.Route) { r.Channel = "" }), `route: channel: ""`},
		"email to a country":        {good(func(r *route.Route) { r.Channel = otp.Email }), "route: country: an address of the channel email"},
		"country in lower case":     {good(func(r *route.Route) { r.Country = "de" }), `route: country: "de"`},
		"country of three letters":  {good(func(r *route.Route) { r.Country = "DEU" }), `route: country: "DEU"`},
		"country with a line end":   {good(func(r *route.Route) { r.Country = "DE\n" }), `route: country: "DE\n"`},
		"no policy":                 {good(func(r *route.Route) { r.Policy = "" }), `route: policy: ""`},
		"unknown policy":            {good(func(r *route.Route) { r.Policy = "cheapest" }), `route: policy: "cheapest"`},
		"no providers":              {good(func(r *route.Route) { r.Providers = nil }), "route: providers: there are none"},
		"too many providers":        {good(func(r *route.Route) { r.Providers = names(17) }), "route: providers: there are 17"},
		"twice the same":            {good(func(r *route.Route) { r.Providers = []string{"a", "b", "a"} }), "route: providers: a is listed twice"},
		"not a name":                {good(func(r *route.Route) { r.Providers = []string{"Twilio"} }), `route: providers: "Twilio"`},
		"weights with order":        {good(func(r *route.Route) { r.Weights = []int{1, 1} }), "route: weights: the policy order has none"},
		"weight without weights":    {good(func(r *route.Route) { r.Policy = route.Weight }), "route: weights: the policy weight needs"},
		"too few weights":           {good(func(r *route.Route) { r.Policy, r.Weights = route.Weight, []int{1} }), "route: weights: there are 1 for 2"},
		"negative weight":           {good(func(r *route.Route) { r.Policy, r.Weights = route.Weight, []int{1, -1} }), "route: weights: -1, of vonage"},
		"too great a weight":        {good(func(r *route.Route) { r.Policy, r.Weights = route.Weight, []int{1001, 1} }), "route: weights: 1001, of twilio-eu"},
		"all weights zero":          {good(func(r *route.Route) { r.Policy, r.Weights = route.Weight, []int{0, 0} }), "route: weights: all are 0"},
		"nothing to choose from":    {good(func(r *route.Route) { r.Policy, r.Providers = route.Conversion, names(1) }), "route: policy: conversion has nothing"},
		"nothing that may be first": {good(func(r *route.Route) { r.Policy, r.Weights = route.Conversion, []int{1, 0} }), "route: weights: conversion has nothing"},
		"time-out too short":        {good(func(r *route.Route) { r.ReceiptTimeout = 5*time.Second - 1 }), "route: receipt time-out: 4.999999999s"},
		"time-out too long":         {good(func(r *route.Route) { r.ReceiptTimeout = 5*time.Minute + 1 }), "route: receipt time-out: 5m0.000000001s"},
		"time-out below zero":       {good(func(r *route.Route) { r.ReceiptTimeout = -time.Second }), "route: receipt time-out: -1s"},
	} {
		err := c.route.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// routes draws routes that pass Check.
var routes = rapid.Custom(func(t *rapid.T) route.Route {
	r := route.Route{
		Channel:   otp.SMS,
		Policy:    rapid.SampledFrom([]route.Policy{route.Fixed, route.Weight, route.Conversion}).Draw(t, "policy"),
		Providers: rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,31}`), 2, route.MaxProviders, rapid.ID).Draw(t, "providers"),
	}
	if r.Policy == route.Weight || r.Policy == route.Conversion && rapid.Bool().Draw(t, "weighted") {
		r.Weights = rapid.SliceOfN(rapid.IntRange(0, 3), len(r.Providers), len(r.Providers)).Draw(t, "weights")
		r.Weights[0], r.Weights[1] = 1+r.Weights[0], 1+r.Weights[1] // something to choose from
	}
	return r
})

func TestOrderIsASeededPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := routes.Draw(t, "route")
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		stats := map[string]route.Stat{}
		for _, name := range r.Providers {
			if rapid.Bool().Draw(t, "known") { // of anything, sensible or not
				stats[name] = route.Stat{
					Sent: rapid.Float64Range(-1, 1e6).Draw(t, "sent"), Verified: rapid.Float64Range(-1, 1e6).Draw(t, "verified"),
					CostMicros: rapid.Int64().Draw(t, "cost"),
				}
			}
		}
		seed := rapid.Uint64().Draw(t, "seed")
		listed := slices.Clone(r.Providers)
		order := r.Order(seed, stats)
		if !slices.Equal(order, r.Order(seed, stats)) {
			t.Fatalf("another order for the same seed, after %v", order)
		}
		if !slices.Equal(listed, r.Providers) {
			t.Fatalf("the route's own list became %v", r.Providers)
		}
		if got := slices.Sorted(slices.Values(order)); !slices.Equal(got, slices.Sorted(slices.Values(listed))) {
			t.Fatalf("%v is no permutation of %v", order, listed)
		}
		if r.Policy == route.Fixed && !slices.Equal(order, listed) {
			t.Fatalf("%v, want %v", order, listed)
		}
		if r.Weights == nil {
			return
		}
		var last []string // those of weight 0, as listed
		for i, w := range r.Weights {
			if w == 0 {
				last = append(last, listed[i])
			}
		}
		if got := order[len(order)-len(last):]; !slices.Equal(got, last) {
			t.Fatalf("%v ends in %v, want %v", order, got, last)
		}
	})
}

// TestWeightShares holds the shares to the weights: of the first places over all, and of the second where the greatest weight came first. The seeds
// run from 0, as like one another as they can be.
func TestWeightShares(t *testing.T) {
	const n = 40_000
	r := route.Route{Channel: otp.SMS, Policy: route.Weight, Providers: []string{"a", "b", "c", "spare"}, Weights: []int{70, 20, 10, 0}}
	first, second := map[string]float64{}, map[string]float64{}
	for seed := range uint64(n) {
		order := r.Order(seed, nil)
		first[order[0]] += 1.0 / n
		if order[0] == "a" {
			second[order[1]] += 1.0 / (0.7 * n)
		}
	}
	// Three and a half standard deviations of a share are at most 0.009, and of one in the second place 0.011.
	for name, want := range map[string]float64{"a": 0.7, "b": 0.2, "c": 0.1, "spare": 0} {
		if math.Abs(first[name]-want) > 0.009 || want == 0 && first[name] != 0 {
			t.Errorf("%s came first in %.4f of the cases, want %.1f", name, first[name], want)
		}
	}
	for name, want := range map[string]float64{"b": 2.0 / 3, "c": 1.0 / 3} {
		if math.Abs(second[name]-want) > 0.011 {
			t.Errorf("%s came second after a in %.4f of the cases, want %.4f", name, second[name], want)
		}
	}
}

func TestConversion(t *testing.T) {
	const n = 4000
	first := func(r route.Route, stats map[string]route.Stat) map[string]float64 {
		share := map[string]float64{}
		for seed := range uint64(n) {
			share[r.Order(seed, stats)[0]] += 1.0 / n
		}
		return share
	}
	two := route.Route{Channel: otp.SMS, Policy: route.Conversion, Providers: []string{"a", "b"}}
	three := route.Route{Channel: otp.SMS, Policy: route.Conversion, Providers: []string{"a", "b", "spare"}, Weights: []int{4, 1, 0}}
	for name, c := range map[string]struct {
		route    route.Route
		stats    map[string]route.Stat
		of       string
		from, to float64 // its share of first places
	}{
		"nothing known":                    {two, nil, "a", 0.45, 0.6}, // within a step the listed one
		"clearly better":                   {two, map[string]route.Stat{"a": {Sent: 500, Verified: 300}, "b": {Sent: 500, Verified: 450}}, "b", 0.96, 0.985},
		"the worse is still tried":         {two, map[string]route.Stat{"a": {Sent: 500, Verified: 300}, "b": {Sent: 500, Verified: 450}}, "a", 0.015, 0.04},
		"little is known of the worse":     {two, map[string]route.Stat{"a": {Sent: 500, Verified: 450}, "b": {Sent: 2, Verified: 1}}, "b", 0.1, 0.4},
		"a new one beside a middling":      {two, map[string]route.Stat{"a": {Sent: 500, Verified: 350}}, "b", 0.85, 0.99},
		"alike, and the second is cheaper": {two, map[string]route.Stat{"a": {9e5, 8e5, 50_000}, "b": {9e5, 8e5, 8_000}}, "b", 0.9, 0.985},
		"alike, and the first is cheaper":  {two, map[string]route.Stat{"a": {9e5, 8e5, 8_000}, "b": {9e5, 8e5, 50_000}}, "a", 0.9, 0.985},
		"dearer and better":                {two, map[string]route.Stat{"a": {9e4, 8e4, 8_000}, "b": {9e4, 8.5e4, 50_000}}, "b", 0.96, 0.985},
		"the weights say who is tried out": {three, map[string]route.Stat{"a": {Sent: 500, Verified: 450}, "b": {Sent: 500, Verified: 200}}, "b", 0.004, 0.018},
		"a weight of 0 is never first":     {three, map[string]route.Stat{"a": {Sent: 500}, "b": {Sent: 500}, "spare": {Sent: 500, Verified: 500}}, "spare", 0, 0},
	} {
		if got := first(c.route, c.stats)[c.of]; got < c.from || got > c.to {
			t.Errorf("%s: %s came first in %.4f of the cases, want %.3f to %.3f", name, c.of, got, c.from, c.to)
		}
	}
}

// TestOneMoreProviderMovesNoOther: the others keep their order when one is added.
func TestOneMoreProviderMovesNoOther(t *testing.T) {
	before := route.Route{Channel: otp.SMS, Policy: route.Weight, Providers: []string{"a", "b", "c"}, Weights: []int{3, 2, 1}}
	after := before
	after.Providers, after.Weights = []string{"d", "a", "b", "c"}, []int{5, 3, 2, 1}
	for seed := range uint64(1000) {
		was := before.Order(seed, nil)
		is := slices.DeleteFunc(after.Order(seed, nil), func(name string) bool { return name == "d" })
		if !slices.Equal(was, is) {
			t.Fatalf("seed %d: %v became %v", seed, was, is)
		}
	}
}

func TestSeedTakesAllOfAnID(t *testing.T) {
	id := uuid.MustParse("018f2c00-0000-7000-8000-000000000000")
	seen := map[uint64]bool{route.Seed(id): true}
	for i := range 128 {
		other := id
		other[i/8] ^= 1 << (i % 8)
		seen[route.Seed(other)] = true
	}
	if len(seen) != 129 {
		t.Errorf("%d seeds of 129 ids", len(seen))
	}
}

func TestNext(t *testing.T) {
	order := []string{"a", "b", "c"}
	for _, c := range []struct {
		tried []string
		want  string
		ok    bool
	}{
		{nil, "a", true},
		{[]string{"a"}, "b", true},
		{[]string{"b"}, "a", true}, // the order changed meanwhile
		{[]string{"c", "a", "a"}, "b", true},
		{[]string{"a", "gone"}, "b", true},
		{[]string{"c", "b", "a"}, "", false},
	} {
		if got, ok := route.Next(order, c.tried); got != c.want || ok != c.ok {
			t.Errorf("after %v: %q, %v", c.tried, got, ok)
		}
	}
	if _, ok := route.Next(nil, nil); ok {
		t.Error("one of none")
	}
}
