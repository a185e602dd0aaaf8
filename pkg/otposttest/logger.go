package otposttest

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
)

// A Log is a logger that keeps every line of every level, without the redaction of pkg/telemetry: what must not be logged would be found in it.
type Log struct {
	*slog.Logger
	lines buffer
}

// Logs returns all that was logged so far.
func (l *Log) Logs() string { return l.lines.String() }

var logs struct {
	sync.Mutex
	of map[testing.TB]*Log
}

// Logger returns the log of a test: the same for every call with the same t, so that all parts of the bench write to one. It is shown when
// the test has failed.
func Logger(t testing.TB) *Log {
	t.Helper()
	logs.Lock()
	defer logs.Unlock()
	if l, ok := logs.of[t]; ok {
		return l
	}
	l := &Log{}
	l.Logger = slog.New(slog.NewTextHandler(&l.lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if logs.of == nil {
		logs.of = map[testing.TB]*Log{}
	}
	logs.of[t] = l
	t.Cleanup(func() {
		logs.Lock()
		delete(logs.of, t)
		logs.Unlock()
		if t.Failed() {
			t.Log("the log:\n" + l.Logs())
		}
	})
	return l
}

// A buffer is a bytes.Buffer that may be written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
