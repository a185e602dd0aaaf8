package inbox

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// store holds messages, oldest first, within two bounds.
type store struct {
	max, maxBytes int
	now           func() time.Time

	mu       sync.Mutex
	messages []*Message
	byID     map[string]*Message
	bytes    int
	changed  chan struct{} // closed and replaced at every change
}

func newStore(max, maxBytes int, now func() time.Time) *store {
	return &store{max: max, maxBytes: maxBytes, now: now, byID: make(map[string]*Message), changed: make(chan struct{})}
}

func (s *store) add(m Message) Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The id is drawn under the lock, so that the order of ids is the order of messages.
	m.ID = uuid.Must(uuid.NewV7()).String()
	m.At = ceilMillisecond(s.now())
	kept := m
	s.messages = append(s.messages, &kept)
	s.byID[m.ID] = &kept
	s.bytes += kept.size()
	for len(s.messages) > 1 && (len(s.messages) > s.max || s.bytes > s.maxBytes) {
		oldest := s.messages[0]
		s.messages[0] = nil // the array outlives the slice's start; let the message go
		s.messages = s.messages[1:]
		s.bytes -= oldest.size()
		delete(s.byID, oldest.ID)
	}
	s.announce()
	return m
}

// ceilMillisecond rounds up: a caller who reads the clock, sends, and asks for what came after that reading must find the message,
// although the wire has milliseconds only.
func ceilMillisecond(t time.Time) time.Time {
	t = t.Round(0).UTC()
	if down := t.Truncate(time.Millisecond); !down.Equal(t) {
		return down.Add(time.Millisecond)
	}
	return t
}

func (s *store) list(f Filter) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.selectLocked(f)
}

func (s *store) selectLocked(f Filter) []Message {
	found := []Message{}
	for i := len(s.messages) - 1; i >= 0 && (f.Limit <= 0 || len(found) < f.Limit); i-- {
		m := s.messages[i]
		if m.ID <= f.After.id {
			break // ids fall from here on
		}
		if f.matches(m) {
			found = append(found, *m)
		}
	}
	return found
}

func (s *store) get(id string) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.byID[id]; ok {
		return *m, true
	}
	return Message{}, false
}

func (s *store) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

func (s *store) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages, s.bytes = nil, 0
	clear(s.byID)
	s.announce()
}

func (s *store) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// touch announces a change of what is shown beside the messages.
func (s *store) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announce()
}

func (s *store) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *store) wait(ctx context.Context, f Filter) (Message, error) {
	f.Limit = 1
	for {
		s.mu.Lock()
		found, changed := s.selectLocked(f), s.changed
		s.mu.Unlock()
		if len(found) > 0 {
			return found[0], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Message{}, fmt.Errorf("waiting for a message: %w", context.Cause(ctx))
		}
	}
}
