package challenge

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/otposttest"
)

// Kinds of bars of the chart, from the bottom up.
const (
	binHonest = iota
	binHonestRefused
	binAttack
	binAttackStopped
	binKinds
)

func binOf(a actor, stopped bool) int {
	switch {
	case a == honest && stopped:
		return binHonestRefused
	case a == honest:
		return binHonest
	case stopped:
		return binAttackStopped
	default:
		return binAttack
	}
}

// rows are the table of what each guard has stopped.
func (s *simulation) rows() [][]string {
	rows := [][]string{append(append([]string{"who", "logins"}, guards...), "sent", "share sent", "cost", "cost saved")}
	for a := range actors {
		t := s.tallies[a]
		row := []string{actorNames[a], fmt.Sprint(t.attempts)}
		for _, g := range guards {
			cell := ""
			if n := t.stopped[g]; n > 0 {
				cell = fmt.Sprint(n)
			}
			row = append(row, cell)
		}
		rows = append(rows, append(row, fmt.Sprint(t.passed), percent(t.passed, t.attempts), micros(t.spent), micros(t.saved)))
	}
	return rows
}

// facts are what else is told of a run.
func (s *simulation) facts() [][]string {
	h := s.tallies[honest]
	rows := [][]string{{"what", "how much"}, {
		"logins of honest users that were refused",
		fmt.Sprintf("%d of %d (%s)", h.attempts-h.passed, h.attempts, percent(h.attempts-h.passed, h.attempts)),
	}}
	for _, p := range []struct {
		a      actor
		prefix string
	}{{sequential, pumpedRange}, {scattered, pumpedAmong}} {
		t := s.tallies[p.a]
		if at, found := s.blocked[p.prefix]; found {
			rows = append(rows,
				[]string{actorNames[p.a] + ": found after", fmt.Sprintf("%.0f minutes", at.Sub(s.began).Minutes()-float64(s.phases[p.a].from))},
				[]string{actorNames[p.a] + ": logins stopped from then on", fmt.Sprintf("%d of %d (%s)", t.afterStopped, t.after,
					percent(t.afterStopped, t.after))})
		}
	}
	return append(rows, []string{"messages that the bomber's victim got", fmt.Sprint(s.victim)},
		[]string{"codes of the guesser that were compared", fmt.Sprint(s.guesses)})
}

func percent(n, of int) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(max(1, of))) }

func micros(n int64) string { return fmt.Sprintf("%.2f", float64(n)/1e6) }

func (s *simulation) table() string {
	var b strings.Builder
	for _, rows := range [][][]string{s.rows(), s.facts()} {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, r := range rows {
			fmt.Fprintln(w, strings.Join(r, "\t"))
		}
		_ = w.Flush()
		b.WriteByte('\n')
	}
	return b.String()
}

// write puts the tables and the chart into the documents.
func (s *simulation) write() {
	otposttest.Table(s.T, "docs/abuse.md", "guards", s.rows())
	otposttest.Table(s.T, "docs/abuse.md", "facts", s.facts())
	if err := os.WriteFile("../../docs/abuse.svg", []byte(chart(s.began, s.bins)), 0o644); err != nil { //nolint:gosec // a document, for everybody to read
		s.Fatal(err)
	}
}

var binWords = [binKinds]string{"honest, sent", "honest, refused", "abuse, sent", "abuse, stopped"}

// chart draws stacked bars over the day.
func chart(began time.Time, bins [][binKinds]int) string {
	const (
		width, height             = 960, 380
		left, right, top, bottom  = 56, 16, 46, 40
		plotWidth, plotHeight     = width - left - right, height - top - bottom
		hoursBetween, gridlines   = 2, 4
		barGap                    = 1.0
		legendStep, legendOffset  = 150, 56
		tickBelow, labelBelow     = 16, 30
		swatch, swatchGap, legend = 11, 6, 18
	)
	highest := 1
	for _, b := range bins {
		sum := 0
		for _, n := range b {
			sum += n
		}
		highest = max(highest, sum)
	}
	step := 1
	for step*gridlines < highest {
		step = roundStep(step)
	}
	scale := float64(plotHeight) / float64(step*gridlines)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="t d"
 font-family="system-ui,sans-serif" font-size="12">
<title id="t">Logins over a simulated day</title>
<desc id="d">Stacked bars of %d minutes: messages to honest users, logins of theirs that were refused, messages that abuse got
through, and those that were stopped.</desc>
<style>
.p{fill:#fff}text{fill:#3a3f47}.g{stroke:#d8dce1}.k0{fill:#2f7d5b}.k1{fill:#7a3db8}.k2{fill:#c2410c}.k3{fill:#b9c0c9}
@media (prefers-color-scheme:dark){.p{fill:#14171b}text{fill:#c9ced6}.g{stroke:#2e343c}.k0{fill:#4cb58a}.k1{fill:#b48cf0}.k2{fill:#f2793a}.k3{fill:#4a525d}}
</style>
<rect class="p" width="%d" height="%d"/>
`, width, height, binMinutes, width, height)
	for kind, words := range binWords {
		x := legendOffset + kind*legendStep
		fmt.Fprintf(&b, `<rect class="k%d" x="%d" y="%d" width="%d" height="%d"/><text x="%d" y="%d">%s</text>`+"\n", kind, x, legend-swatch+1, swatch, swatch,
			x+swatch+swatchGap, legend+1, words)
	}
	for i := range gridlines + 1 {
		y := float64(top+plotHeight) - float64(i*step)*scale
		fmt.Fprintf(&b, `<path class="g" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%d</text>`+"\n", left, y, width-right, left-8, y+4, i*step)
	}
	bar := float64(plotWidth) / float64(len(bins))
	for i, counts := range bins {
		y := float64(top + plotHeight)
		for _, kind := range slices.Sorted(slices.Values([]int{binHonest, binHonestRefused, binAttack, binAttackStopped})) {
			if counts[kind] == 0 {
				continue
			}
			h := float64(counts[kind]) * scale
			y -= h
			fmt.Fprintf(&b, `<rect class="k%d" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`+"\n", kind, float64(left)+float64(i)*bar, y, bar-barGap, h)
		}
	}
	for i := 0; i <= len(bins); i += hoursBetween * 60 / binMinutes {
		at := began.Add(time.Duration(i*binMinutes) * time.Minute)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%02d:00</text>`+"\n", float64(left)+float64(i)*bar, top+plotHeight+tickBelow, at.Hour())
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">logins in %d minutes, over the time of day (UTC)</text>`+"\n</svg>\n",
		width-right, top+plotHeight+labelBelow, binMinutes)
	return b.String()
}

// roundStep is the next of 1, 2, 5, 10, 20, 50 and so on.
func roundStep(n int) int {
	digits := 1
	for digits*10 <= n {
		digits *= 10
	}
	switch n / digits {
	case 1:
		return 2 * digits
	case 2:
		return 5 * digits
	default:
		return 10 * digits
	}
}
