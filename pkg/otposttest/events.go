package otposttest

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/event"
)

// An Event is one event that an app heard.
type Event struct {
	Name    event.Name      `json:"-"`
	ID      string          `json:"id"`
	Subject string          `json:"subject"` // the challenge, where there is one
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`
	Raw     []byte          `json:"-"`
}

// Decode returns the data of an event as one of the types of pkg/event.
func Decode[T any](t testing.TB, e Event) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(e.Data, &v); err != nil {
		t.Fatalf("data of %s: %v", e.Name, err)
	}
	return v
}

// A Heard is all that an app has heard since it listens.
type Heard struct {
	mu      sync.Mutex
	all     []Event
	changed chan struct{} // closed at the next event
}

// Events listens to an app's events over the app's own connection, from now on, and holds each to the checks.
func Events(t testing.TB, nc *nats.Conn, app string, checks ...func(Event) error) *Heard {
	t.Helper()
	h := &Heard{changed: make(chan struct{})}
	prefix := event.EventSubject(app, "")
	sub, err := nc.Subscribe(prefix+">", func(m *nats.Msg) {
		e := Event{Name: event.Name(strings.TrimPrefix(m.Subject, prefix)), Raw: m.Data}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Errorf("event on %s: %v", m.Subject, err)
		}
		for _, check := range checks {
			if err := check(e); err != nil {
				t.Errorf("%s: %v\n%s", e.Name, err, m.Data)
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.all = append(h.all, e)
		close(h.changed)
		h.changed = make(chan struct{})
	})
	if err == nil {
		err = nc.FlushTimeout(Patience)
	}
	if err != nil {
		t.Fatalf("listen to the events of %s: %v", app, err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() }) // the connection may be closed by now
	return h
}

// Wait returns the first event of a name, heard before or to come, that match takes (nil takes any). It fails the test where none comes within Patience.
func (h *Heard) Wait(t testing.TB, name event.Name, match func(Event) bool) Event {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for seen := 0; ; {
		h.mu.Lock()
		all, changed := h.all, h.changed
		h.mu.Unlock()
		for _, e := range all[seen:] {
			if e.Name == name && (match == nil || match(e)) {
				return e
			}
		}
		seen = len(all)
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("no %s came that fits; heard were %v", name, h.Names())
		}
	}
}

// All returns what was heard so far, in order.
func (h *Heard) All() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// Names returns the names of what was heard so far, in order.
func (h *Heard) Names() []event.Name {
	var names []event.Name
	for _, e := range h.All() {
		names = append(names, e.Name)
	}
	return names
}

// Of returns the events of one challenge (or other CloudEvents subject) so far, in order.
func (h *Heard) Of(subject string) []Event {
	return slices.DeleteFunc(h.All(), func(e Event) bool { return e.Subject != subject })
}
