// Package pumping judges whether somebody has messages sent to a range of phone numbers for the sake of what they cost. Whoever earns by messages that
// arrive (an operator who shares what a message brings, or who sells the range) has an app send codes that nobody will type.
//
// It is pure: [Judge] takes what was counted of a prefix and of the app's other prefixes, and says whether the prefix is to be blocked and why. What it
// promises: no single signal blocks, but for numbers that are as dense as only a machine dials them; a market in which codes come back is never
// blocked for being new or for growing; and where nobody's codes come back, the fault is the delivery's, and no prefix is blamed for it.
package pumping

import (
	"fmt"
	"math"
	"time"
)

// A Window is what was counted of one prefix of late, or of several. A number counts once in each clock hour, however many messages it gets and
// codes come back from it: who floods one phone pumps no range, and who has one phone of his own cannot answer for a thousand others.
type Window struct {
	Sends int // numbers that messages went to within the last hour
	New   int // of those, numbers that nothing had been sent to for a month

	// Codes that are still on their way or being typed say nothing: these count messages from before [Lag] alone.
	Mature   int // numbers
	Verified int // of those, numbers that a code came back from

	// Of the different numbers that messages went to in this clock hour and the one before:
	Numbers  int
	Sequence int     // those in a hundred of neighbours in which at least [HundredFull] were sent to
	Crowd    int     // those in a thousand of neighbours in which at least [ThousandFull] were
	Room     float64 // how many numbers the prefix could have; 0 where that is not known

	PastHours int // how many whole hours before the last one are known, at most 48
	PastSends int // numbers in those
}

// Lag is how long a code has to come back before its message counts for the conversion.
const Lag = 5 * time.Minute

// Span is how far back a Window looks.
const Span = time.Hour

// A Baseline is what the app's other prefixes are like.
type Baseline struct {
	Conversion float64 // share of codes that came back
	New        float64 // share of new numbers
	Known      bool    // it is of enough messages in this window; else of the app's past, or only supposed
}

// Settings bound what is judged.
type Settings struct {
	MinSends int           // a prefix with fewer numbers in the window is left alone
	Score    float64       // from which on a prefix is blocked
	For      time.Duration // how long the first time; doubled with each repeat
	Most     time.Duration // how long at most
}

// Defaults are the settings of otpost.
func Defaults() Settings {
	return Settings{MinSends: 20, Score: 0.55, For: 4 * time.Hour, Most: 24 * time.Hour}
}

// Weights of the signals. The conversion and any other reach the default score together; all the others without it do not count.
const (
	weightConversion = 0.45
	weightDensity    = 0.40
	weightNew        = 0.15
	weightRate       = 0.15
)

const (
	supposed     = 0.4  // the conversion of an app that nothing is known of
	nobodys      = 0.15 // a baseline below is an outage, not a measure
	badShare     = 0.5  // a prefix is bad where its conversion is surely below this share of the others'
	sure         = 2.58 // standard deviations: one error in two hundred
	extremeShare = 0.9  // of the numbers being in full hundreds,
	extremeCount = 200  // and that many of them, only a machine does
	populated    = 0.05 // where more of a prefix's numbers were sent to, neighbours meet by chance
	minCrowd     = 20   // numbers from which on neighbourhood says anything
)

// A Verdict is what becomes of a prefix.
type Verdict struct {
	Block bool
	Score float64  // 0 to 1
	Why   []string // for people, the heaviest first
}

// Judge judges a prefix.
func Judge(w Window, b Baseline, s Settings) (v Verdict) {
	if w.Sends < s.MinSends {
		return v
	}
	conversion := conversionSignal(w, b, s)
	density, extreme := densitySignal(w)
	fresh := newSignal(w, b)
	rate := rateSignal(w)
	v.Score = min(1, weightConversion*conversion+weightDensity*density+weightNew*fresh+weightRate*rate)
	v.Block = extreme || conversion > 0 && v.Score >= s.Score
	if density > 0 {
		v.Why = append(v.Why, fmt.Sprintf("%d of %d numbers are neighbours, %d of them in sequence", max(w.Crowd, w.Sequence), w.Numbers, w.Sequence))
	}
	if conversion > 0 {
		v.Why = append(v.Why, fmt.Sprintf("codes came back from %d of %d, elsewhere %.0f %%", w.Verified, w.Mature, 100*b.Conversion))
	}
	if fresh > 0 {
		v.Why = append(v.Why, fmt.Sprintf("%d of %d numbers are new, elsewhere %.0f %%", w.New, w.Sends, 100*b.New))
	}
	if rate > 0 {
		v.Why = append(v.Why, fmt.Sprintf("%d numbers in an hour, before %.1f", w.Sends, past(w)))
	}
	if v.Block && extreme {
		v.Score = max(v.Score, s.Score)
	}
	return v
}

// conversionSignal is how much fewer codes come back than elsewhere, where that is no chance; 0 for not surely fewer.
func conversionSignal(w Window, b Baseline, s Settings) float64 {
	if w.Mature < s.MinSends || b.Conversion < nobodys {
		return 0
	}
	if _, high := interval(w.Verified, w.Mature); high >= badShare*b.Conversion {
		return 0
	}
	signal := 1 - float64(w.Verified)/float64(w.Mature)/b.Conversion
	if !b.Known {
		signal /= 2
	}
	return signal
}

// interval bounds the share that n of m tell of (Wilson's score interval).
func interval(n, m int) (low, high float64) {
	if m <= 0 {
		return 0, 1
	}
	share, count := min(1, float64(n)/float64(m)), float64(m)
	z2 := sure * sure
	middle := (share + z2/(2*count)) / (1 + z2/count)
	half := sure / (1 + z2/count) * math.Sqrt(share*(1-share)/count+z2/(4*count*count))
	return max(0, middle-half), min(1, middle+half)
}

func densitySignal(w Window) (signal float64, extreme bool) {
	if w.Numbers < minCrowd || w.Room > 0 && float64(w.Numbers) > populated*w.Room {
		return 0, false
	}
	n := float64(w.Numbers)
	sequence, crowd := float64(w.Sequence)/n, float64(max(w.Crowd, w.Sequence))/n
	extreme = w.Numbers >= extremeCount && sequence >= extremeShare
	return clamp(max(sequence, 0.75*crowd)), extreme
}

func newSignal(w Window, b Baseline) float64 {
	if b.New >= 1 || w.Sends == 0 {
		return 0
	}
	return clamp((float64(w.New)/float64(w.Sends) - b.New) / (1 - b.New))
}

// rateSignal is 0 up to four times the past, and 1 from thirty-two times on.
func rateSignal(w Window) float64 {
	if w.PastHours < 1 {
		return 0 // the app is new, or the guard is
	}
	return clamp(math.Log2(float64(w.Sends)/(4*past(w))) / 3)
}

// past is how many numbers an hour had before, at least one.
func past(w Window) float64 {
	if w.PastHours < 1 {
		return 1
	}
	return max(1, float64(w.PastSends)/float64(w.PastHours))
}

func clamp(f float64) float64 { return min(1, max(0, f)) }

// How long a prefix is blocked that was blocked some times before, within a week.
func (s Settings) How(repeats int) time.Duration {
	d := s.For
	for range repeats {
		if d *= 2; d >= s.Most {
			return s.Most
		}
	}
	return min(d, s.Most)
}
