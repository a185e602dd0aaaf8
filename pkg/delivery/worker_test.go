package delivery

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/otp"
)

// What a provider says is stored and told, so it is made fit for both, whatever it was.
func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"SM0bbb3245": "SM0bbb3245", "a\x00b": "ab", "two\r\nlines": "twolines", "bad \xff bytes": "bad  bytes", "bell\a": "bell", "žluťoučký": "žluťoučký", "": "",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := oneLine(strings.Repeat("ž", 1000)); utf8.RuneCountInString(got) != maxSaid {
		t.Errorf("a long one has %d characters", utf8.RuneCountInString(got))
	}
}

func TestAsError(t *testing.T) {
	known := &Error{Class: Permanent, Code: "21211", Reason: "no such number", Err: errors.New("+14155550100 is not valid")}
	if got := AsError(errors.Join(errors.New("sending"), known)); got != known {
		t.Errorf("a known one became %v", got)
	}
	if got := AsError(errors.New("anything")); got.Class != Ambiguous {
		t.Errorf("an unknown one counts as %s", got.Class)
	}
	if s := known.Error() + describe(known); strings.Contains(s, "4155550100") || !strings.Contains(s, "21211") {
		t.Errorf("it says %q", s)
	}
}

func TestWorkerSettings(t *testing.T) {
	provider := []Provider{nil}
	if _, err := NewWorker(Config{Channel: otp.SMS}); err == nil {
		t.Error("a worker without a provider was made")
	}
	if _, err := NewWorker(Config{Channel: otp.SMS, Providers: provider, Timeout: 10 * time.Second, Lease: 10 * time.Second}); err == nil {
		t.Error("a lease as short as the time-out was taken")
	}
	w, err := NewWorker(Config{Channel: otp.SMS, Providers: provider})
	if err != nil || w.Timeout != 10*time.Second || w.Lease != 15*time.Second || w.Concurrency != 64 {
		t.Errorf("the defaults: %+v, %v", w, err)
	}
}

// What lives for minutes is tried at the usual pace; what lives for days less and less often, and never so seldom that little of its life is left.
func TestPause(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		tries      int
		left, want time.Duration
	}{
		{0, 5 * time.Minute, 250 * time.Millisecond},
		{1, 5 * time.Minute, 250 * time.Millisecond},
		{5, 5 * time.Minute, 4 * time.Second},
		{7, 10 * time.Minute, 15 * time.Second},
		{1000, 10 * time.Minute, 15 * time.Second},
		{1, 21 * day, 250 * time.Millisecond},
		{9, 21 * day, 64 * time.Second},
		{1 << 20, 21 * day, 15 * time.Minute},
		{1 << 20, day / 2, 432 * time.Second},
		{1 << 20, -time.Second, 15 * time.Second},
	} {
		if got := pause(tc.tries, tc.left); got != tc.want {
			t.Errorf("after %d tries with %s left: %s, want %s", tc.tries, tc.left, got, tc.want)
		}
	}
	// The row counts claims in 15 bits: a month without a provider must not reach their end.
	tries := 0
	for left := 31 * day; left > 0; left -= pause(tries, left) {
		tries++
	}
	if tries > 20_000 {
		t.Errorf("%d tries in a month", tries)
	}
}
