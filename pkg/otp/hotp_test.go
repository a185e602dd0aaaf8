package otp

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

var rfc4226Secret = []byte("12345678901234567890")

// rfc4226 is the setting of the RFC's own test values.
var rfc4226 = HOTP{Algorithm: "SHA1", Digits: 6}

// TestHOTPValueVectors are those of RFC 4226, appendix D.
func TestHOTPValueVectors(t *testing.T) {
	for counter, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got, err := rfc4226.Value(rfc4226Secret, int64(counter)); err != nil || got != want {
			t.Errorf("counter %d: %s, not %s (%v)", counter, got, want, err)
		}
	}
	// Those of RFC 6238, appendix B, are values of a counter too.
	for algorithm, want := range map[string]string{"SHA1": "65353130", "SHA256": "77737706", "SHA512": "47863826"} {
		const seed = "1234567890123456789012345678901234567890123456789012345678901234"
		secret := map[string]string{"SHA1": seed[:20], "SHA256": seed[:32], "SHA512": seed}[algorithm]
		if got, err := (HOTP{algorithm, 8}).Value([]byte(secret), 0x27BC86AA); err != nil || got != want {
			t.Errorf("%s: %s, not %s (%v)", algorithm, got, want, err)
		}
	}
}

func TestHOTPBounds(t *testing.T) {
	for _, c := range []struct {
		setting HOTP
		ok      bool
	}{
		{rfc4226, true},
		{HOTP{"SHA256", 7}, true},
		{HOTP{"SHA512", 8}, true},
		{HOTP{"MD5", 6}, false},
		{HOTP{"", 6}, false},
		{HOTP{"SHA1", 5}, false},
		{HOTP{"SHA1", 9}, false},
		{HOTP{}, false},
	} {
		if err := c.setting.Check(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.setting, err)
		}
		if _, err := c.setting.Value(rfc4226Secret, 1); (err == nil) != c.ok {
			t.Errorf("%+v: value: %v", c.setting, err)
		}
	}
	h := rfc4226
	if v, err := h.Value(rfc4226Secret, -1); err == nil || v != "" {
		t.Errorf("a value of counter -1: %q", v)
	}
	if v, err := h.Value(nil, 1); err == nil || v != "" {
		t.Errorf("a value without a secret: %q", v)
	}
	for name, match := range map[string]func() (int64, bool, error){
		"look-ahead of -1":       func() (int64, bool, error) { return h.Match(rfc4226Secret, "755224", -1, -1) },
		"look-ahead of 51":       func() (int64, bool, error) { return h.Match(rfc4226Secret, "755224", -1, 51) },
		"last of -2":             func() (int64, bool, error) { return h.Match(rfc4226Secret, "755224", -2, 1) },
		"last at the end":        func() (int64, bool, error) { return h.Match(rfc4226Secret, "755224", math.MaxInt64, 0) },
		"search beyond the end":  func() (int64, bool, error) { return h.Match(rfc4226Secret, "755224", math.MaxInt64-5, 5) },
		"no secret":              func() (int64, bool, error) { return h.Match(nil, "755224", -1, 1) },
		"settings out of bounds": func() (int64, bool, error) { return HOTP{}.Match(rfc4226Secret, "755224", -1, 1) },
		"window of 1":            func() (int64, bool, error) { return h.Resync(rfc4226Secret, "755224", "287082", -1, 1) },
		"window of 1001":         func() (int64, bool, error) { return h.Resync(rfc4226Secret, "755224", "287082", -1, 1001) },
		"resync beyond the end":  func() (int64, bool, error) { return h.Resync(rfc4226Secret, "755224", "287082", math.MaxInt64-50, 100) },
	} {
		if counter, ok, err := match(); err == nil || ok || counter != 0 {
			t.Errorf("%s: %d, %v, %v", name, counter, ok, err)
		}
	}
}

func TestHOTPAtTheEndOfCounters(t *testing.T) {
	h := rfc4226
	value := hotpValue(t, h, math.MaxInt64)
	if counter, ok, err := h.Match(rfc4226Secret, value, math.MaxInt64-3, 2); err != nil || !ok || counter != math.MaxInt64 {
		t.Errorf("%d, %v, %v", counter, ok, err)
	}
}

// A fataler is a test of either kind: *testing.T or *rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
}

func hotpValue(t fataler, h HOTP, counter int64) string {
	t.Helper()
	v, err := h.Value(rfc4226Secret, counter)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestHOTPMatch(t *testing.T) {
	h := rfc4226
	for _, c := range []struct {
		name      string
		of        int64 // the counter whose value is the answer
		last      int64
		lookAhead int
		ok        bool
	}{
		{"first of a new token", 0, -1, 0, true},
		{"second of a new token, no look-ahead", 1, -1, 0, false},
		{"second of a new token", 1, -1, 1, true},
		{"next", 6, 5, 10, true},
		{"end of the look-ahead", 16, 5, 10, true},
		{"beyond the look-ahead", 17, 5, 10, false},
		{"used", 5, 5, 10, false},
		{"older", 3, 5, 10, false},
	} {
		counter, ok, err := h.Match(rfc4226Secret, hotpValue(t, h, c.of), c.last, c.lookAhead)
		if err != nil || ok != c.ok || ok && counter != c.of {
			t.Errorf("%s: counter %d, %v, %v", c.name, counter, ok, err)
		}
	}
	for _, wrong := range []string{"", "75522", "7552244", "755225", "７５５２２４"} {
		if _, ok, err := h.Match(rfc4226Secret, wrong, -1, 0); ok || err != nil {
			t.Errorf("%q: %v, %v", wrong, ok, err)
		}
	}
}

func TestHOTPResync(t *testing.T) {
	h := rfc4226
	for _, c := range []struct {
		name          string
		first, second int64
		last          int64
		window        int
		ok            bool
	}{
		{"next two", 6, 7, 5, 2, true},
		{"of a new token", 0, 1, -1, 100, true},
		{"far ahead", 88, 89, 5, 100, true},
		{"end of the window", 104, 105, 5, 100, true},
		{"the second beyond the window", 105, 106, 5, 100, false},
		{"the first used", 5, 6, 5, 100, false},
		{"in the wrong order", 8, 7, 5, 100, false},
		{"one left out", 7, 9, 5, 100, false},
		{"twice the same", 7, 7, 5, 100, false},
		{"both used", 3, 4, 5, 100, false},
	} {
		counter, ok, err := h.Resync(rfc4226Secret, hotpValue(t, h, c.first), hotpValue(t, h, c.second), c.last, c.window)
		if err != nil || ok != c.ok || ok && counter != c.second {
			t.Errorf("%s: counter %d, %v, %v", c.name, counter, ok, err)
		}
	}
}

// TestHOTPMatchTakesTheEarlier has two counters in reach with one value: the earlier is taken, and the later is still there to be used.
func TestHOTPMatchTakesTheEarlier(t *testing.T) {
	h := rfc4226
	seen := map[string]int64{}
	for c := int64(0); c < 100_000; c++ {
		v := hotpValue(t, h, c)
		before, twice := seen[v]
		seen[v] = c
		if !twice || c-before > MaxHOTPLookAhead {
			continue
		}
		if got, ok, err := h.Match(rfc4226Secret, v, before-1, MaxHOTPLookAhead); err != nil || !ok || got != before {
			t.Errorf("of %d and %d: %d, %v, %v", before, c, got, ok, err)
		}
		if got, ok, err := h.Match(rfc4226Secret, v, before, MaxHOTPLookAhead); err != nil || !ok || got != c {
			t.Errorf("%d was used: %d, %v, %v", before, got, ok, err)
		}
		return
	}
	t.Fatal("no two near counters share a value")
}

// TestHOTPOnlyRises plays a token that is pressed any number of times between answers, some of which are given again.
func TestHOTPOnlyRises(t *testing.T) {
	h := HOTP{"SHA1", 8} // of 8 digits, so that two values in reach are hardly ever equal
	rapid.Check(t, func(t *rapid.T) {
		last := rapid.Int64Range(-1, 1<<40).Draw(t, "last")
		lookAhead := rapid.IntRange(0, 20).Draw(t, "look-ahead")
		of := max(last+int64(rapid.IntRange(-3, 25).Draw(t, "pressed")), 0)
		counter, ok, err := h.Match(rfc4226Secret, hotpValue(t, h, of), last, lookAhead)
		if err != nil {
			t.Fatal(err)
		}
		if ok && (counter <= last || counter > last+1+int64(lookAhead)) {
			t.Fatalf("took %d after %d with a look-ahead of %d", counter, last, lookAhead)
		}
		if within := of > last && of <= last+1+int64(lookAhead); within && (!ok || counter > of) {
			t.Fatalf("%d was in reach of %d with a look-ahead of %d: %d, %v", of, last, lookAhead, counter, ok)
		}
		if !ok {
			return
		}
		if again, ok, _ := h.Match(rfc4226Secret, hotpValue(t, h, counter), counter, 0); ok && again <= counter {
			t.Fatalf("%d was taken twice", counter)
		}
	})
}
