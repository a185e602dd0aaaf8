package bus

import "time"

// An Outcome is what a handler says became of a message. Only this package acts on it.
type Outcome struct {
	kind   outcomeKind
	reason string
	delay  time.Duration
	quiet  bool // says nothing about the message, so nothing is logged
}

type outcomeKind int

const (
	done outcomeKind = iota
	retry
	drop
	dead
)

func (k outcomeKind) String() string { return [...]string{"done", "retry", "drop", "dead"}[k] }

// Done: the message did its work. It is acknowledged.
func Done() Outcome { return Outcome{kind: done} }

// Retry: not now; deliver it again after d.
func Retry(d time.Duration, reason string) Outcome {
	return Outcome{kind: retry, delay: d, reason: reason}
}

// Drop: it has nothing left to do, for a reason that was told elsewhere (a reply, an event, a row).
func Drop(reason string) Outcome { return Outcome{kind: drop, reason: reason} }

// Dead: it cannot be processed. It is kept as a dead letter for an operator.
func Dead(reason string) Outcome { return Outcome{kind: dead, reason: reason} }

// Backoff is the usual wait before a message's next try: 250 ms after the first, doubled each time, at most 15 s.
func Backoff(tries int) time.Duration {
	return min(15*time.Second, 250*time.Millisecond<<min(max(tries-1, 0), 6))
}
