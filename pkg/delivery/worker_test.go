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
