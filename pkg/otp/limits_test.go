package otp_test

import (
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

func TestTally(t *testing.T) {
	at := func(clock string) time.Time {
		v, err := time.Parse(time.DateTime, "2026-11-21 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	three := otp.Bound{Minute: 3}
	for _, tt := range []struct {
		name   string
		bound  otp.Bound
		counts []string
		n      int64 // what is to be counted; 1 where it is 0
		at     string
		want   time.Duration
	}{
		{name: "nothing yet", bound: three, at: "10:00:00"},
		{name: "room for one more", bound: three, counts: []string{"10:00:01", "10:00:02"}, at: "10:00:03"},
		{name: "a full minute", bound: three, counts: []string{"10:00:01", "10:00:02", "10:00:03"}, at: "10:00:20", want: 40 * time.Second},
		{name: "the next minute", bound: three, counts: []string{"10:00:01", "10:00:02", "10:00:03"}, at: "10:01:00"},
		{name: "several at once", bound: three, counts: []string{"10:00:01"}, n: 3, at: "10:00:20", want: 40 * time.Second},
		{name: "a full hour", bound: otp.Bound{Hour: 2}, counts: []string{"10:10:00", "10:20:00"}, at: "10:45:00", want: 15 * time.Minute},
		{name: "a full day", bound: otp.Bound{Day: 1}, counts: []string{"01:00:00"}, at: "18:00:00", want: 6 * time.Hour},
		{name: "the longest counts", bound: otp.Bound{Minute: 1, Hour: 1}, counts: []string{"10:00:00"}, at: "10:00:30", want: 59*time.Minute + 30*time.Second},
		{name: "a cooldown", bound: otp.Bound{Cooldown: time.Minute}, counts: []string{"10:00:50"}, at: "10:01:10", want: 40 * time.Second},
		{name: "a cooldown that is over", bound: otp.Bound{Cooldown: time.Minute}, counts: []string{"10:00:50"}, at: "10:01:50"},
		{name: "a clock behind another's starts nothing anew", bound: three, counts: []string{"10:01:01", "10:00:59", "10:00:59"}, at: "10:00:59", want: 61 * time.Second},
	} {
		var tally otp.Tally
		for _, c := range tt.counts {
			tally = tally.Count(at(c), 1)
		}
		if got := tally.Wait(at(tt.at), tt.bound, max(tt.n, 1)); got != tt.want {
			t.Errorf("%s: wait %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestMailboxOf(t *testing.T) {
	for addr, want := range map[string]string{
		"User@example.com": "user@example.com", "user+a@example.com": "user@example.com", "+a@example.com": "+a@example.com",
		"u.s.e.r+x@googlemail.com": "user@gmail.com", "u.ser@example.com": "u.ser@example.com", "nothing": "nothing",
	} {
		if got := otp.MailboxOf(addr); got != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
}
