package pumping_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/pumping"
)

// Which prefixes are blocked, and which are not.
func TestWhatIsBlocked(t *testing.T) {
	usual := pumping.Baseline{Conversion: 0.8, New: 0.3, Known: true}
	for _, tt := range []struct {
		name  string
		w     pumping.Window
		b     pumping.Baseline
		block bool
	}{
		{
			name: "people", b: usual,
			w: pumping.Window{Sends: 300, New: 90, Mature: 250, Verified: 200, Numbers: 280, Room: 1e6, PastHours: 48, PastSends: 9_000},
		},
		{
			name: "numbers in sequence, no code comes back", b: usual, block: true,
			w: pumping.Window{Sends: 100, New: 100, Mature: 80, Verified: 1, Numbers: 100, Sequence: 95, Crowd: 100, Room: 1e6, PastHours: 48, PastSends: 48},
		},
		{
			name: "the same before a code could have come back", b: usual,
			w: pumping.Window{Sends: 100, New: 100, Numbers: 100, Sequence: 95, Crowd: 100, Room: 1e6, PastHours: 48, PastSends: 48},
		},
		{
			name: "that dense, only a machine dials", b: usual, block: true,
			w: pumping.Window{Sends: 250, New: 250, Numbers: 250, Sequence: 240, Crowd: 250, Room: 1e6, PastHours: 48, PastSends: 48},
		},
		{
			name: "or where so many have a phone that all are neighbours", b: usual,
			w: pumping.Window{Sends: 2_500, New: 300, Mature: 2_000, Verified: 1_600, Numbers: 2_400, Sequence: 2_400, Crowd: 2_400, Room: 10_000},
		},
		{
			name: "scattered, new numbers, no code comes back", b: usual, block: true,
			w: pumping.Window{Sends: 120, New: 120, Mature: 100, Verified: 2, Numbers: 120, Room: 1e6, PastHours: 48, PastSends: 60},
		},
		{
			name: "between people", b: usual, block: true,
			w: pumping.Window{Sends: 700, New: 650, Mature: 600, Verified: 50, Numbers: 680, Sequence: 600, Crowd: 630, Room: 1e6, PastHours: 48, PastSends: 2_400},
		},
		{
			name: "a launch in a country", b: usual,
			w: pumping.Window{Sends: 900, New: 900, Mature: 700, Verified: 520, Numbers: 900, Room: 1e6, PastHours: 48},
		},
		{
			name: "a launch in which fewer finish", b: usual,
			w: pumping.Window{Sends: 900, New: 900, Mature: 700, Verified: 320, Numbers: 900, Room: 1e6, PastHours: 48},
		},
		{
			name: "an outage", b: pumping.Baseline{Conversion: 0.01, New: 0.3, Known: true},
			w: pumping.Window{Sends: 900, New: 300, Mature: 700, Numbers: 900, Room: 1e6, PastHours: 48, PastSends: 9_000},
		},
		{
			name: "an outage of one route, where people are no newer than elsewhere", b: usual,
			w: pumping.Window{Sends: 900, New: 270, Mature: 700, Numbers: 500, Room: 1e6, PastHours: 48, PastSends: 9_600},
		},
		{
			name: "an outage, and people trying again", b: pumping.Baseline{Conversion: 0.02, New: 0.3, Known: true},
			w: pumping.Window{Sends: 5_000, New: 600, Mature: 4_500, Numbers: 900, Room: 1e6, PastHours: 48, PastSends: 9_000},
		},
		{
			name: "people dial company phones, which are neighbours", b: usual,
			w: pumping.Window{Sends: 120, New: 10, Mature: 100, Verified: 88, Numbers: 90, Sequence: 90, Crowd: 90, Room: 1e6, PastHours: 48, PastSends: 3_000},
		},
		{name: "too little to tell", b: usual, w: pumping.Window{Sends: 19, New: 19, Mature: 19, Numbers: 19, Sequence: 19, Room: 1e6, PastHours: 48}},
		{
			name: "the only prefix of an app, and nothing known", b: pumping.Baseline{Conversion: 0.4, New: 1},
			w: pumping.Window{Sends: 400, New: 400, Mature: 300, Verified: 0, Numbers: 400, Room: 1e6, PastHours: 48},
		},
		{
			name: "the only prefix of an app, in sequence", b: pumping.Baseline{Conversion: 0.4, New: 1}, block: true,
			w: pumping.Window{Sends: 150, New: 150, Mature: 100, Verified: 0, Numbers: 150, Sequence: 150, Crowd: 150, Room: 1e6},
		},
	} {
		v := pumping.Judge(tt.w, tt.b, pumping.Defaults())
		if v.Block != tt.block || v.Block && len(v.Why) == 0 {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
}

func someWindow(r *rand.Rand) (pumping.Window, pumping.Baseline) {
	w := pumping.Window{Sends: r.IntN(2_000), PastHours: r.IntN(49), PastSends: r.IntN(20_000)}
	w.New, w.Mature, w.Numbers = r.IntN(w.Sends+1), r.IntN(w.Sends+1), r.IntN(w.Sends+1)
	w.Verified, w.Crowd = r.IntN(w.Mature+1), r.IntN(w.Numbers+1)
	w.Sequence = r.IntN(w.Crowd + 1)
	w.Room = []float64{0, 1e4, 1e6}[r.IntN(3)]
	return w, pumping.Baseline{Conversion: r.Float64(), New: r.Float64(), Known: r.IntN(2) == 0}
}

// What holds for every window: the guard never turns against whoever does better, and never blames for what befalls all.
func TestWhatHoldsForEveryWindow(t *testing.T) {
	s := pumping.Defaults()
	r := rand.New(rand.NewPCG(5, 0))
	blocked := 0
	for range 50_000 {
		w, b := someWindow(r)
		v := pumping.Judge(w, b, s)
		if v.Score < 0 || v.Score > 1 || v.Block && v.Score < s.Score {
			t.Fatalf("%+v, %+v: score %v, block %t", w, b, v.Score, v.Block)
		}
		if v.Block {
			blocked++
		}
		better := w
		better.Verified = w.Verified + r.IntN(w.Mature-w.Verified+1)
		if u := pumping.Judge(better, b, s); u.Score > v.Score+1e-9 || u.Block && !v.Block {
			t.Fatalf("%+v, %+v: with %d codes back instead of %d it is worse: %+v, before %+v", w, b, better.Verified, w.Verified, u, v)
		}
		known := w
		known.New = r.IntN(w.New + 1)
		if u := pumping.Judge(known, b, s); u.Score > v.Score+1e-9 {
			t.Fatalf("%+v, %+v: with %d new numbers it is worse", w, b, known.New)
		}
		scattered := w
		scattered.Sequence, scattered.Crowd = 0, 0
		outage := b
		outage.Conversion = 0.1
		if u := pumping.Judge(scattered, outage, s); u.Block {
			t.Fatalf("%+v is blocked in an outage", scattered)
		}
		good := scattered
		good.Verified = good.Mature
		if u := pumping.Judge(good, b, s); u.Block {
			t.Fatalf("%+v is blocked though every code came back", good)
		}
	}
	if blocked < 1_000 {
		t.Errorf("%d of 50000 windows are blocked: this test says little", blocked)
	}
}

// Who pumps through a few prefixes does not make it the rule that codes do not come back; an outage does.
func TestBaseline(t *testing.T) {
	people := pumping.Window{Sends: 10, New: 3, Mature: 10, Verified: 8}
	windows := make([]pumping.Window, 30)
	for i := range windows {
		windows[i] = people
	}
	pumped := pumping.Window{Sends: 5_000, New: 5_000, Mature: 4_800}
	all := pumping.Compare(append(windows, pumped, pumped, pumped), pumping.Window{})
	if b := all.Others(pumped); !b.Known || b.Conversion < 0.65 || b.New > 0.5 {
		t.Errorf("beside two others that are pumped: %+v", b)
	}
	for i := range windows {
		windows[i].Verified = 0
	}
	if b := pumping.Compare(windows, pumping.Window{Mature: 1_000, Verified: 800}).Others(people); !b.Known || b.Conversion > 0.1 {
		t.Errorf("in an outage: %+v", b)
	}
	if b := pumping.Compare([]pumping.Window{pumped}, pumping.Window{Mature: 1_000, Verified: 800}).Others(pumped); b.Known || b.Conversion != 0.8 || b.New != 1 {
		t.Errorf("alone, with a past: %+v", b)
	}
	if b := pumping.Compare([]pumping.Window{pumped}, pumping.Window{}).Others(pumped); b.Known || b.Conversion != 0.4 {
		t.Errorf("alone, without one: %+v", b)
	}
}

func TestHowLong(t *testing.T) {
	s := pumping.Defaults()
	for repeats, want := range []time.Duration{4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 24 * time.Hour, 24 * time.Hour} {
		if got := s.How(repeats); got != want {
			t.Errorf("after %d: %s, want %s", repeats, got, want)
		}
	}
}

func TestRange(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 0))
	for _, n := range []int{0, 1, 5, 61, 62, 63, 64, 500, 1_000} {
		var s pumping.Range
		for _, p := range r.Perm(pumping.RangeSize)[:n] {
			if !s.Add(p) || s.Add(p) || !s.Has(p) {
				t.Fatalf("%d is not put in once", p)
			}
		}
		b := s.Pack()
		back, err := pumping.Unpack(b)
		if err != nil || back != s || len(b) > 125 || n < 60 && len(b) != 2*n {
			t.Errorf("of %d: %d bytes, %v", n, len(b), err)
		}
		if numbers, _, _ := s.Neighbours(); numbers != n || s.Empty() != (n == 0) {
			t.Errorf("of %d it counts %d", n, numbers)
		}
	}
	for _, bad := range [][]byte{{1}, {0xff, 0xff}, make([]byte, 126)} {
		if _, err := pumping.Unpack(bad); err == nil {
			t.Errorf("%v is a range", bad)
		}
	}
	var s pumping.Range
	for i := range 25 {
		s.Add(300 + i)
	}
	s.Add(999)
	if n, seq, crowd := s.Neighbours(); n != 26 || seq != 25 || crowd != 0 {
		t.Errorf("counted %d, %d, %d", n, seq, crowd)
	}
	for i := range 9 {
		s.Add(500 + i)
	}
	if n, seq, crowd := s.Neighbours(); n != 35 || seq != 25 || crowd != 35 {
		t.Errorf("counted %d, %d, %d", n, seq, crowd)
	}
}

// Every number has a place of its own, and those of a hundred stay together.
func TestPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 0))
	for range 200 {
		var digest [32]byte
		for i := range digest {
			digest[i] = byte(r.Uint32())
		}
		seen, hundred := map[int]bool{}, map[int]int{}
		for n := range pumping.RangeSize {
			p := pumping.Place(digest, n)
			if p < 0 || p >= pumping.RangeSize || seen[p] {
				t.Fatalf("%d is at %d, as another is", n, p)
			}
			seen[p] = true
			if h, ok := hundred[n/100]; ok && h != p/100 {
				t.Fatalf("%d is in another hundred than its neighbours", n)
			}
			hundred[n/100] = p / 100
		}
	}
}
