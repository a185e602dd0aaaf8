package pumping

const (
	// heard is how many numbers of one prefix count for the baseline at most: who pumps many numbers of few prefixes must not make codes that
	// do not come back the rule.
	heard = 20
	// enough numbers make a baseline.
	enough = 50
)

// Baselines sums up the windows of an app, and tells for each what the others are like.
type Baselines struct {
	mature, verified float64
	sends, fresh     float64
	before           Window
}

// Compare returns the baselines of an app. before is what is known of the whole app before the windows: Mature and Verified of up to two days.
func Compare(windows []Window, before Window) *Baselines {
	b := &Baselines{before: before}
	for _, w := range windows {
		b.add(w, 1)
	}
	return b
}

func (b *Baselines) add(w Window, sign float64) {
	mature, verified := capped(w.Mature, w.Verified)
	sends, fresh := capped(w.Sends, w.New)
	b.mature, b.verified = b.mature+sign*mature, b.verified+sign*verified
	b.sends, b.fresh = b.sends+sign*sends, b.fresh+sign*fresh
}

// capped scales n of m down to at most heard.
func capped(m, n int) (float64, float64) {
	if m <= 0 {
		return 0, 0
	}
	weight := min(1, heard/float64(m))
	return weight * float64(m), weight * float64(min(n, m))
}

// Others is the baseline of one of the windows.
func (b *Baselines) Others(w Window) Baseline {
	o := *b
	o.add(w, -1)
	out := Baseline{Conversion: supposed, New: 1}
	if o.sends >= enough {
		out.New = clamp(o.fresh / o.sends)
	}
	switch {
	case o.mature >= enough:
		out.Conversion, out.Known = clamp(o.verified/o.mature), true
	case b.before.Mature >= enough:
		out.Conversion = clamp(float64(b.before.Verified) / float64(b.before.Mature))
	}
	return out
}
