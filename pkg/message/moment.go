package message

import (
	"strconv"
	"time"
)

// underway is what a message may spend in queues and on its way before hours and days are told as one less.
const underway = 5 * time.Minute

// expiry words what is left of a code's life: up to 59 minutes in whole minutes, rounded up, at least one; then in hours, and when it
// is more than two days in days, both rounded down, because a long life must not be told as much longer than it is. A life that was
// 24 hours when the message was queued is still told as 24.
func (l *locale) expiry(left time.Duration) string {
	switch {
	case left <= time.Minute:
		return l.counts[expiresMinutes][1]
	case left <= maxMinutes*time.Minute:
		return l.counts[expiresMinutes][(left+time.Minute-1)/time.Minute]
	case left < maxHours*time.Hour+underway:
		return l.counts[expiresHours][(left+underway)/time.Hour]
	case left > maxDays*24*time.Hour:
		return l.counts[expiresDays][maxDays]
	default:
		return l.counts[expiresDays][(left+underway)/(24*time.Hour)]
	}
}

// date words the day of t in UTC: "3 November 2026".
func (l *locale) date(t time.Time) string {
	t = t.UTC()
	var v values
	v[year], v[month], v[day] = strconv.Itoa(t.Year()), l.family[monthName(t.Month())].fill(&values{}), strconv.Itoa(t.Day())
	if t.Day() == 1 {
		v[day] = l.phrases[firstDay].fill(&v) // "1er novembre"
	}
	return l.phrases[dateLong].fill(&v)
}

// moment words t to the minute it lies in: "3 November 2026, 14:05 UTC". Where the reader is nobody knows, so the zone is told.
func (l *locale) moment(t time.Time) string {
	var v values
	v[date], v[clock] = l.date(t), t.UTC().Format("15:04")
	return l.phrases[moment].fill(&v)
}

// momentSMS is moment in digits, in the order that the language writes them: "03.11.2026, 14:05 UTC".
func (l *locale) momentSMS(t time.Time) string {
	t = t.UTC()
	var v values
	v[year], v[month], v[day], v[clock] = t.Format("2006"), t.Format("01"), t.Format("02"), t.Format("15:04")
	return l.phrases[momentSMS].fill(&v)
}
