package web

import (
	"fmt"
	"strings"
	"time"
)

// Ago says how long ago something was, in whole minutes, hours or days, and after a month the date. stamp is RFC 3339; anything else is nothing.
func (l *Locale) Ago(now time.Time, stamp string) string {
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return ""
	}
	switch d := now.Sub(at); {
	case d < time.Minute:
		return l.T("common.just_now")
	case d < time.Hour:
		return l.T("common.minutes_ago", "Count", int(d/time.Minute))
	case d < 24*time.Hour:
		return l.T("common.hours_ago", "Count", int(d/time.Hour))
	case d < 31*24*time.Hour:
		return l.T("common.days_ago", "Count", int(d/(24*time.Hour)))
	}
	return l.Date(stamp)
}

// Until says in how long something will be, rounded up.
func (l *Locale) Until(now time.Time, stamp string) string {
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return ""
	}
	return l.Span(at.Sub(now))
}

// Span says a time in the largest unit that is worth saying, rounded up: "30 seconds", "4 minutes", "2 hours", "3 days".
func (l *Locale) Span(d time.Duration) string {
	up := func(unit time.Duration) int { return int((max(d, 0) + unit - 1) / unit) }
	switch {
	case d <= 90*time.Second:
		return l.T("common.seconds", "Count", up(time.Second))
	case d <= 90*time.Minute:
		return l.T("common.minutes", "Count", up(time.Minute))
	case d <= 48*time.Hour:
		return l.T("common.hours", "Count", up(time.Hour))
	}
	return l.T("common.days", "Count", up(24*time.Hour))
}

// Date is the day of a time in UTC, as the language writes it.
func (l *Locale) Date(stamp string) string {
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return ""
	}
	months := strings.Split(l.T("common.months"), " ")
	if len(months) != 12 {
		return at.UTC().Format(time.DateOnly)
	}
	return l.T("common.date", "Day", at.UTC().Day(), "Month", months[at.UTC().Month()-1], "MonthNumber", fmt.Sprint(int(at.UTC().Month())),
		"Year", fmt.Sprint(at.UTC().Year()))
}
