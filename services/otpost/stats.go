package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/postgres"
)

type statsCmd struct {
	databaseFlags
	App   string        `placeholder:"NAME" help:"Only this app's; all apps' where it is not given."`
	Since time.Duration `default:"24h" help:"How far back; counts are kept for as long as the challenge worker's setting says."`
	JSON  bool          `name:"json" help:"As JSON, one object for each channel, country and provider; costs in millionths of the operator's currency."`
}

// Run tells what became of what was sent.
func (c *statsCmd) Run(r *run) error {
	if c.Since <= 0 {
		return errors.New("--since: must be above 0, such as 24h")
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		if c.App != "" {
			if err := checkApp(c.App); err != nil {
				return err
			}
			if _, err := postgres.NewApps(db).Get(r.ctx, c.App); err != nil {
				return named(c.App, err)
			}
		}
		all, err := postgres.NewRoutes(db).Stats(r.ctx, c.App, time.Now().Add(-c.Since))
		if err != nil {
			return err
		}
		// What is for test destinations is sent by nobody.
		all = slices.DeleteFunc(all, func(s postgres.DeliveryStat) bool { return s.Provider == postgres.TestProvider })
		if c.JSON {
			return statsJSON(r.stdout, all)
		}
		return showStats(r.stdout, all)
	})
}

// showStats prints shares: of what was sent the accepted, of what was accepted the rest.
func showStats(out io.Writer, all []postgres.DeliveryStat) error {
	const form = "%-8s  %-2s  %s  %-7v  %-8s  %-9s  %-8s  %-6v  %-4v  %-6s  %s\n"
	const named, before = 12, 8 + 2 + 2 + 2
	if _, err := fmt.Fprintf(out, form, "CHANNEL", "TO", cell("PROVIDER", named, before), "SENT", "ACCEPTED", "DELIVERED", "VERIFIED", "FAILED", "LATE", "MEAN",
		"COST"); err != nil {
		return err
	}
	for _, s := range all {
		mean := "-"
		if s.Delivered > 0 {
			mean = brief(time.Duration(s.DeliveredMS/s.Delivered) * time.Millisecond)
		}
		of := func(n, whole int64) string { return percent(float64(n), float64(whole)) }
		if _, err := fmt.Fprintf(out, form, s.Channel, dash(s.Country), cell(s.Provider, named, before), s.Sent, of(s.Accepted, s.Sent),
			of(s.Delivered, s.Accepted), of(s.Verified, s.Accepted), s.Failed, s.Late, mean, price(s.Cost)); err != nil {
			return err
		}
	}
	text := "ACCEPTED is of what was sent; DELIVERED and VERIFIED are of what was accepted. A provider that\n" +
		"tells no receipts has none delivered. LATE went on to the next provider for want of a receipt.\n" +
		"MEAN is the time from accepted to delivered."
	if len(all) == 0 {
		text = "Nothing was sent."
	}
	return remarks(out, []string{text})
}

func statsJSON(out io.Writer, all []postgres.DeliveryStat) error {
	type stat struct {
		Channel     string `json:"channel"`
		Country     string `json:"country"`
		Provider    string `json:"provider"`
		Sent        int64  `json:"sent"`
		Accepted    int64  `json:"accepted"`
		Delivered   int64  `json:"delivered"`
		Failed      int64  `json:"failed"`
		Late        int64  `json:"late"`
		Verified    int64  `json:"verified"`
		DeliveredMS int64  `json:"delivered_ms"` // over all that were delivered
		CostMicros  int64  `json:"cost_micros"`
	}
	rows := make([]stat, len(all))
	for i, s := range all {
		rows[i] = stat{string(s.Channel), s.Country, s.Provider, s.Sent, s.Accepted, s.Delivered, s.Failed, s.Late, s.Verified, s.DeliveredMS, s.Cost}
	}
	return printJSON(out, rows)
}

// printJSON prints a value for programs, and for people who look.
func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// brief writes how long something took, as exactly as it matters to people.
func brief(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
