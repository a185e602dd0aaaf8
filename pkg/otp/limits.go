package otp

import (
	"strings"
	"time"
)

// A Tally counts one thing in windows that are aligned to UTC: the minute, the hour and the day that now lies in. Windows that begin anew at fixed
// times let twice a window's bound pass around the turn of two; the next longer window holds that within bounds, and a row of fixed size does.
type Tally struct {
	Minute, Hour, Day    int64 // numbers of the windows since 1970
	MinuteN, HourN, DayN int64 // what was counted in each
	Last                 time.Time
	Told                 int64 // bits of what was told of the day
}

// roll begins the windows anew that now is beyond. A clock that is behind another's leaves them as they are: it must not give a flood a new start.
func (t Tally) roll(now time.Time) Tally {
	s := now.Unix()
	if m := s / 60; m > t.Minute {
		t.Minute, t.MinuteN = m, 0
	}
	if h := s / 3600; h > t.Hour {
		t.Hour, t.HourN = h, 0
	}
	if d := s / 86400; d > t.Day {
		t.Day, t.DayN, t.Told = d, 0, 0
	}
	return t
}

// Count adds n to every window.
func (t Tally) Count(now time.Time, n int64) Tally {
	t = t.roll(now)
	t.MinuteN, t.HourN, t.DayN = t.MinuteN+n, t.HourN+n, t.DayN+n
	if now.After(t.Last) {
		t.Last = now
	}
	return t
}

// A Bound is what a Tally is held to. A zero field is without a bound; a negative one lets nothing through.
type Bound struct {
	Minute, Hour, Day int64
	Cooldown          time.Duration // since the last that was counted
}

// Zero reports whether nothing is bounded.
func (b Bound) Zero() bool { return b == Bound{} }

// Bound is what a rate bounds.
func (r Rate) Bound() Bound {
	return Bound{Minute: int64(r.Minute), Hour: int64(r.Hour), Day: int64(r.Day)}
}

// Wait tells how long it is until n more may be counted: zero for now, else the rest of the longest window that is full, or of the cooldown where that is
// longer.
func (t Tally) Wait(now time.Time, b Bound, n int64) (wait time.Duration) {
	t = t.roll(now)
	until := func(window, seconds int64) {
		wait = max(wait, time.Unix((window+1)*seconds, 0).Sub(now))
	}
	if full(t.MinuteN, n, b.Minute) {
		until(t.Minute, 60)
	}
	if full(t.HourN, n, b.Hour) {
		until(t.Hour, 3600)
	}
	if full(t.DayN, n, b.Day) {
		until(t.Day, 86400)
	}
	if b.Cooldown > 0 && !t.Last.IsZero() {
		wait = max(wait, t.Last.Add(b.Cooldown).Sub(now))
	}
	return wait
}

func full(counted, n, bound int64) bool { return bound < 0 || bound > 0 && counted+n > bound }

// MailboxOf returns what limits count an address by, so that who writes one mailbox in many ways is counted once: in lower case, without a tag after "+", and
// for Gmail without dots. It is never sent to. Where a host tells the forms apart, its users share a limit.
func MailboxOf(addr string) string {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return addr
	}
	local, domain := strings.ToLower(addr[:at]), strings.ToLower(addr[at+1:])
	if plain, _, tagged := strings.Cut(local, "+"); tagged && plain != "" {
		local = plain
	}
	if domain == "googlemail.com" {
		domain = "gmail.com"
	}
	if domain == "gmail.com" {
		local = strings.ReplaceAll(local, ".", "")
	}
	return local + "@" + domain
}
