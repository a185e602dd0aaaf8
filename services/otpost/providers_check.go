package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

type providersCmd struct {
	Check  providersCheckCmd  `cmd:"" help:"Read a file of providers as its worker would, and print what it says. Nothing is connected to."`
	List   providersListCmd   `cmd:"" help:"List the providers that workers have."`
	Forget providersForgetCmd `cmd:"" help:"Forget a provider that no worker has any more."`
}

type providersCheckCmd struct {
	File        string        `required:"" type:"path" placeholder:"FILE" help:"The file of --providers."`
	SendTimeout time.Duration `default:"10s" help:"The worker's setting, for providers that say nothing."`
	Concurrency int           `default:"64" help:"The worker's setting, for providers that say nothing."`
}

// Run prints the providers, without secrets, or says what is wrong.
func (c *providersCheckCmd) Run(r *run) error {
	channels := phones
	if entries, err := parseProviders(c.File); err != nil {
		return flagged(err, "--providers", "--file")
	} else if otp.Channel(entries[0].Channel) == otp.Email {
		channels = mail
	}
	set, err := readProviders(c.File, channels, providerDefaults{timeout: c.SendTimeout, concurrency: c.Concurrency, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CHANNEL\tNAME\tKIND\tRATE\tBURST\tAT ONCE\tTIME-OUT\tBREAKER\tRECEIPTS\tCOST")
	for _, p := range set {
		o := p.line.Options()
		rate, burst, breaker, receipts := "any", "-", "none", "no"
		if o.Rate > 0 {
			rate = strconv.FormatFloat(o.Rate, 'f', -1, 64) + "/s"
			burst = strconv.Itoa(o.Burst)
		}
		if o.Breaker.Failures > 0 {
			breaker = fmt.Sprintf("%d, then %s", o.Breaker.Failures, o.Breaker.Open)
		}
		if p.row.Receipts {
			receipts = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", o.Channel, p.row.Name, p.row.Kind, rate, burst, o.Concurrency, o.Timeout, breaker, receipts,
			costText(p.row.Costs))
	}
	return w.Flush()
}

// costText writes costs in the operator's currency, the default first.
func costText(costs map[string]int64) string {
	if len(costs) == 0 {
		return "not given"
	}
	var out []string
	for _, country := range slices.Sorted(maps.Keys(costs)) {
		text := strconv.FormatFloat(float64(costs[country])/1e6, 'f', -1, 64)
		if country != "" {
			text = country + " " + text
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
