package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otposttest"
)

// Figures are what was measured of a scenario.
type figures struct {
	Scenario string  `json:"scenario"`
	Title    string  `json:"title"`
	Codes    int     `json:"codes"`
	Arrived  int     `json:"arrived"`            // codes of which a message is in the inbox, whatever it came over
	P50      float64 `json:"p50_s"`              // seconds from when the login was due to the first arrival
	P99      float64 `json:"p99_s"`              // of those that arrived
	Slowest  float64 `json:"max_s"`              //
	Moved    int     `json:"moved"`              // deliveries that took the place of another: the next provider or channel
	Messages int     `json:"messages"`           // that providers took, those that they lost among them
	TwiceOne int     `json:"twice_one_provider"` // messages of which one provider had taken the very same before
	TwiceTwo int     `json:"twice_two"`          // codes that reached the user over two providers or channels
	Expired  int     `json:"after_expiry"`       // messages taken after the code's end
	Told     int     `json:"told"`               // deliveries that are said to be delivered
	Late     int     `json:"late_receipts"`      // receipts on record that came after another delivery had taken the place
	Unsure   int     `json:"unsure"`             // deliveries that the metric counts as sent once more because nobody knew
	Cost     float64 `json:"cost_per_code"`      // in the operator's currency

	number int
	strict bool                   // see pace
	times  []time.Duration        // of those that arrived, sorted
	seen   map[string]inbox.Tally // by kind of provider
}

// settled waits until every login has its challenge and no delivery waits for anything.
func (f *fleet) settled(ctx context.Context, sc *scenario) error {
	const waiting = `SELECT (SELECT count(*) FROM challenges WHERE app_id = $1 AND state = 'open' AND deliveries = 0)
		+ (SELECT count(*) FROM deliveries d JOIN challenges c ON c.id = d.challenge_id
		   WHERE c.app_id = $1 AND (d.state IN ('queued', 'sending') OR d.due_at IS NOT NULL
		         OR d.state = 'accepted' AND ($2 OR d.abandoned_at IS NULL AND d.accepted_at > now() - interval '1 second')))`
	patience := time.Minute
	if !f.pace.strict {
		patience *= 3
	}
	deadline := time.Now().Add(patience)
	quiet := 0
	for {
		var left int
		if err := f.db.SQL(otposttest.Owner).QueryRowContext(ctx, waiting, sc.app, sc.told && f.pace.strict).Scan(&left); err != nil {
			return fmt.Errorf("look for what waits: %w", err)
		}
		if quiet++; left > 0 {
			quiet = 0
		}
		if quiet == 3 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s after the last login %d deliveries still wait", patience, left)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// figures measures a scenario that has settled.
func (f *fleet) figures(t *testing.T, sc *scenario, codes []*sentCode) figures {
	r := figures{Scenario: sc.name, Title: sc.title, Codes: len(codes), number: sc.number, strict: f.pace.strict, seen: f.simulated(sc)}
	for kind, tally := range r.seen {
		r.Messages += int(tally.Accepted)
		r.TwiceOne += int(tally.Duplicates)
		r.Cost += float64(tally.Accepted) * prices[kind] / float64(max(len(codes), 1))
	}
	for _, c := range codes {
		reached := c.reached(sc)
		if len(reached) > 0 {
			r.times = append(r.times, max(reached[0].At.Sub(c.due), 0))
		}
		if slices.ContainsFunc(reached, func(m inbox.Message) bool { return m.Provider != reached[0].Provider }) {
			r.TwiceTwo++
		}
	}
	slices.Sort(r.times)
	r.Arrived = len(r.times)
	r.P50, r.P99, r.Slowest = r.quantile(0.5), r.quantile(0.99), r.quantile(1)
	const counts = `SELECT count(*) FILTER (WHERE d.cause <> 'send'), count(*) FILTER (WHERE d.state = 'delivered'),
			count(*) FILTER (WHERE d.accepted_at > c.expires_at),
			(SELECT count(*) FROM stray_receipts WHERE why = 'late' AND provider LIKE $2)
		FROM deliveries d JOIN challenges c ON c.id = d.challenge_id WHERE c.app_id = $1`
	err := f.db.SQL(otposttest.Owner).QueryRowContext(t.Context(), counts, sc.app, sc.name+"-%").Scan(&r.Moved, &r.Told, &r.Expired, &r.Late)
	if err != nil {
		t.Errorf("%s: count: %v", sc.name, err)
	}
	return r
}

// reached are the messages that the user got.
func (c *sentCode) reached(sc *scenario) []inbox.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.arrivals), func(m inbox.Message) bool { return sc.deaf != "" && m.Provider == sc.name+"-"+sc.deaf })
}

func (r figures) quantile(q float64) float64 {
	if len(r.times) == 0 {
		return 0
	}
	i := min(int(q*float64(len(r.times))), len(r.times)-1)
	return r.times[i].Seconds()
}

// within counts the codes that arrived within a time.
func (r figures) within(d time.Duration) int {
	n, _ := slices.BinarySearch(r.times, d+1)
	return n
}

// arrive fails the test unless a share of the codes arrived.
func (r figures) arrive(t *testing.T, share float64) {
	t.Helper()
	if float64(r.Arrived) < share*float64(r.Codes) {
		t.Errorf("%s: %d of %d codes arrived", r.Scenario, r.Arrived, r.Codes)
	}
	r.never(t, "sent after the code's end", r.Expired)
}

// once fails the test where a user had a code twice, over whatever way. In a short run a second way does not count: on a crowded machine a receipt may be late.
func (r figures) once(t *testing.T) {
	t.Helper()
	r.never(t, "twice over one provider", r.TwiceOne)
	if r.strict {
		r.never(t, "twice over two providers", r.TwiceTwo)
	}
}

func (r figures) never(t *testing.T, what string, n int) {
	t.Helper()
	if n != 0 {
		t.Errorf("%s: %d codes were %s", r.Scenario, n, what)
	}
}

// report prints the figures. Those of a long run it also writes into a folder, as scenarios.json, and compares with those in the document.
func report(t *testing.T, folder string, p pace, rows []figures) {
	t.Helper()
	t.Log("\n" + table(p, rows))
	if folder == "" || t.Failed() { // what a failed run measured is nobody's reference
		return
	}
	doc, err := json.MarshalIndent(map[string]any{
		"codes": p.codes, "rate_per_s": p.rate, "receipt_timeout_s": awaited.Seconds(), "flap_s": p.flap.Seconds(), "processors": runtime.NumCPU(), "scenarios": rows,
	}, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "scenarios.json"), append(doc, '\n'), 0o644) //nolint:gosec // for everybody to read
	}
	if err != nil {
		t.Errorf("write the figures: %v", err)
	}
	otposttest.Table(t, "docs/scenarios.md", "settings", [][]string{
		{"codes a scenario, at most", "logins a second", "receipt time-out", "provider's time-out", "processors, for everything"},
		{strconv.Itoa(p.codes), fmt.Sprint(p.rate), awaited.String(), "2s", strconv.Itoa(runtime.NumCPU())},
	})
	otposttest.Table(t, "docs/scenarios.md", "scenarios", document(rows))
}

// document are the rows of the document's table.
func document(rows []figures) [][]string {
	out := [][]string{{
		"what happens", "codes", "arrived", "p50", "p99", "moved on", "messages a code", "twice over one", "over two", "after the end", "cost a code",
	}}
	for _, r := range rows {
		out = append(out, []string{
			r.Title, strconv.Itoa(r.Codes), fmt.Sprintf("%.2f %%", 100*r.share()), fmt.Sprintf("%.2f s", r.P50), fmt.Sprintf("%.2f s", r.P99), strconv.Itoa(r.Moved),
			fmt.Sprintf("%.2f", r.perCode()), strconv.Itoa(r.TwiceOne), strconv.Itoa(r.TwiceTwo), strconv.Itoa(r.Expired), fmt.Sprintf("%.4f", r.Cost),
		})
	}
	return out
}

func (r figures) share() float64   { return float64(r.Arrived) / float64(max(r.Codes, 1)) }
func (r figures) perCode() float64 { return float64(r.Messages) / float64(max(r.Codes, 1)) }

// table is what people read, 100 columns wide.
func table(p pace, rows []figures) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%g logins a second, receipt time-out %s\n\n", p.rate, awaited)
	fmt.Fprintf(&b, "%-36s %6s %8s %6s %6s %6s %5s %5s %5s %6s\n", "", "codes", "arrived", "p50 s", "p99 s", "moved", "msgs", "2 by1", "2 by2", "cost")
	for _, r := range rows {
		fmt.Fprintf(&b, "%-36s %6d %7.2f%% %6.2f %6.2f %6d %5.2f %5d %5d %6.4f\n", r.Title, r.Codes, 100*r.share(),
			r.P50, r.P99, r.Moved, r.perCode(), r.TwiceOne, r.TwiceTwo, r.Cost)
	}
	for _, r := range rows {
		if r.Unsure > 0 {
			fmt.Fprintf(&b, "\n%s: otpost_deliveries_unsure_total counts %d\n", r.Title, r.Unsure)
		}
	}
	return b.String()
}
