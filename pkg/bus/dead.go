package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/event"
)

// Headers of a dead letter.
const (
	HeaderSubject   = "Otpost-Subject"   // where it was published
	HeaderReason    = "Otpost-Reason"    // why it could not be processed
	HeaderTries     = "Otpost-Tries"     // times that it was delivered
	HeaderFirst     = "Otpost-First"     // when the stream took it (RFC 3339)
	HeaderLast      = "Otpost-Last"      // when it was given up
	HeaderTruncated = "Otpost-Truncated" // its length in bytes, where only its beginning is kept
)

// maxDeadBody bounds, in bytes, how much of a body a dead letter keeps. Whatever a worker could process after a retry fits; of a larger one,
// which is refused each time, the beginning is only there to be looked at.
const maxDeadBody = event.MaxBody

// ErrNoLetter says that there is no such dead letter.
var ErrNoLetter = errors.New("no such dead letter")

// ErrTruncated says that a dead letter holds only the beginning of its message and cannot be put back.
var ErrTruncated = errors.New("only its beginning was kept, so it cannot be retried; drop it")

// ErrForeign says that the subject of a dead letter is none on which its stream is published to, so that it cannot be put back.
var ErrForeign = errors.New("its subject is not one of its stream's own, so it cannot be retried; drop it")

// A Letter is a dead letter.
type Letter struct {
	ID        uint64 // its sequence in OTPOST_DEAD
	Stream    string // that it was taken from
	Subject   string
	Reason    string
	Tries     int
	First     time.Time
	Last      time.Time
	Size      int // bytes of the whole message
	Truncated bool
	Body      []byte
}

// bury writes a message to the dead letters. The message's own place in its stream is the id, so that burying twice keeps one.
func (b *Bus) bury(ctx context.Context, m *Msg, reason string) error {
	h := nats.Header{}
	h.Set(HeaderSubject, m.Subject)
	h.Set(HeaderReason, header(reason))
	first, tries := m.history()
	h.Set(HeaderTries, strconv.Itoa(tries))
	h.Set(HeaderFirst, event.Time(first))
	h.Set(HeaderLast, event.Time(time.Now()))
	body := m.Data
	if len(body) > maxDeadBody {
		h.Set(HeaderTruncated, strconv.Itoa(len(body)))
		body = body[:maxDeadBody]
	}
	return b.Publish(ctx, Out{
		Subject: event.DeadPrefix + m.stream, Data: body, Header: h,
		ID: fmt.Sprintf("dead/%s/%d/%d", m.stream, m.Sequence, m.Received.UnixNano()),
	})
}

// history tells when the message was first taken and how often it was delivered, over all times that it was put back.
func (m *Msg) history() (first time.Time, tries int) {
	first, tries = m.Received, m.Tries
	h := m.raw.Headers()
	if at, err := time.Parse(time.RFC3339, h.Get(HeaderFirst)); err == nil && at.Before(first) {
		first = at
	}
	if n, err := strconv.Atoi(h.Get(HeaderTries)); err == nil && n > 0 && n < 1e6 {
		tries += n
	}
	return first, tries
}

// header makes one line of a reason.
func header(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < 0x20 || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b[:min(len(b), 512)])
}

// DeadLetters returns up to limit dead letters from a sequence on, oldest first, with the whole number of them. The role must be operator.
func (b *Bus) DeadLetters(ctx context.Context, from uint64, limit int) ([]Letter, uint64, error) {
	s, err := b.js.Stream(ctx, StreamDead)
	if err != nil {
		return nil, 0, fmt.Errorf("read dead letters: %w", err)
	}
	state := s.CachedInfo().State
	var out []Letter
	for seq := max(from, state.FirstSeq, 1); seq <= state.LastSeq && len(out) < limit; {
		m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(event.DeadPrefix+">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read dead letters: %w", err)
		}
		out = append(out, letter(m))
		seq = m.Sequence + 1
	}
	return out, state.Msgs, nil
}

// DeadLetter returns one dead letter, or ErrNoLetter.
func (b *Bus) DeadLetter(ctx context.Context, id uint64) (Letter, error) {
	s, err := b.js.Stream(ctx, StreamDead)
	if err != nil {
		return Letter{}, fmt.Errorf("read dead letter: %w", err)
	}
	if id == 0 { // sequences begin at 1, and the server calls this a bad request
		return Letter{}, ErrNoLetter
	}
	m, err := s.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Letter{}, ErrNoLetter
	}
	if err != nil {
		return Letter{}, fmt.Errorf("read dead letter: %w", err)
	}
	return letter(m), nil
}

// RetryDead puts a dead letter back where it was published and removes it from the dead letters. It returns ErrNoLetter, ErrTruncated or
// ErrForeign where there is nothing that it may put back.
func (b *Bus) RetryDead(ctx context.Context, id uint64) (Letter, error) {
	l, err := b.DeadLetter(ctx, id)
	if err != nil {
		return l, err
	}
	if l.Truncated {
		return l, ErrTruncated
	}
	if !ownSubject(l.Stream, l.Subject) {
		return l, ErrForeign
	}
	h := nats.Header{} // its history, should it die again
	h.Set(HeaderFirst, event.Time(l.First))
	h.Set(HeaderTries, strconv.Itoa(l.Tries))
	if err := b.Publish(ctx, Out{Subject: l.Subject, Data: l.Body, Header: h, ID: fmt.Sprintf("retry/%d/%d", id, l.Last.UnixNano())}); err != nil {
		return l, fmt.Errorf("put dead letter %d back: %w", id, err)
	}
	return l, b.DropDead(ctx, id)
}

// ownSubject reports whether messages of a stream are published to the subject. An app can make the server store a message under another one,
// and the operator, who puts letters back, may publish to all of them.
func ownSubject(stream, subject string) bool {
	switch stream {
	case StreamLogins:
		app, ok := event.AppOf(subject)
		return ok && subject == event.LoginSubject(app)
	case StreamSignals:
		app, ok := event.AppOf(subject)
		return ok && slices.ContainsFunc(signals, func(name event.SignalName) bool { return subject == event.SignalSubject(app, name) })
	case StreamWork:
		return oneToken(strings.CutPrefix(subject, event.WorkPrefix))
	case StreamReceipts:
		return oneToken(strings.CutPrefix(subject, event.ReceiptPrefix))
	}
	return false // of events too: what is put back there would be told to apps once more
}

// oneToken reports whether what followed a subject's prefix is one literal token.
func oneToken(rest string, found bool) bool {
	return found && rest != "" && !strings.ContainsAny(rest, ".*> \t\r\n")
}

// DropDead removes a dead letter for good. It returns ErrNoLetter where there is none.
func (b *Bus) DropDead(ctx context.Context, id uint64) error {
	s, err := b.js.Stream(ctx, StreamDead)
	if err != nil {
		return fmt.Errorf("drop dead letter: %w", err)
	}
	if err := s.DeleteMsg(ctx, id); err != nil {
		if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
			return ErrNoLetter
		}
		return fmt.Errorf("drop dead letter: %w", err)
	}
	return nil
}

func letter(m *jetstream.RawStreamMsg) Letter {
	l := Letter{
		ID: m.Sequence, Subject: m.Header.Get(HeaderSubject), Reason: m.Header.Get(HeaderReason), Body: m.Data, Size: len(m.Data),
	}
	l.Stream = m.Subject[min(len(event.DeadPrefix), len(m.Subject)):]
	l.Tries, _ = strconv.Atoi(m.Header.Get(HeaderTries))
	l.First, _ = time.Parse(time.RFC3339, m.Header.Get(HeaderFirst))
	l.Last, _ = time.Parse(time.RFC3339, m.Header.Get(HeaderLast))
	if n, err := strconv.Atoi(m.Header.Get(HeaderTruncated)); err == nil {
		l.Truncated, l.Size = true, n
	}
	return l
}
