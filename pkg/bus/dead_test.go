package bus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
)

// bury makes dead letters of messages.
func (l *line) bury(reason string, bodies ...string) {
	l.Helper()
	had := l.left(bus.StreamDead)
	stop := l.consume(func(_ context.Context, batch []*bus.Msg) { settleAll(batch, bus.Dead(reason)) })
	l.publish(bodies...)
	l.emptied()
	stop()
	if n := l.left(bus.StreamDead) - had; n != uint64(len(bodies)) {
		l.Fatalf("%d dead letters of %d messages", n, len(bodies))
	}
}

func TestADeadLetterTellsItsStory(t *testing.T) {
	l := newLine(t)
	before := time.Now().Add(-time.Second)
	tried := make(chan int, 10)
	stop := l.consume(func(_ context.Context, batch []*bus.Msg) {
		for _, m := range batch {
			tried <- m.Tries
			if m.Tries == 1 {
				m.Settle(bus.Retry(50*time.Millisecond, "not yet"))
				continue
			}
			m.Settle(bus.Dead("two\nlines\r and " + strings.Repeat("x", 600)))
		}
	})
	l.publish("body")
	receive(t, "the first try", tried)
	receive(t, "the second", tried)
	l.emptied()
	stop()
	letters, n, err := l.operator.DeadLetters(t.Context(), 0, 10)
	if err != nil || n != 1 || len(letters) != 1 {
		t.Fatalf("%d of %d letters, %v", len(letters), n, err)
	}
	d := letters[0]
	if d.Stream != bus.StreamWork || d.Subject != "otpost.work.sms" || string(d.Body) != "body" || d.Size != 4 || d.Truncated || d.Tries != 2 ||
		!strings.HasPrefix(d.Reason, "two lines  and xx") || len(d.Reason) != 512 {
		t.Errorf("the letter is %+v", d)
	}
	if d.First.Before(before) || d.Last.Before(d.First) || d.Last.After(time.Now().Add(time.Second)) {
		t.Errorf("its times are %s and %s", d.First, d.Last)
	}
	one, err := l.operator.DeadLetter(t.Context(), d.ID)
	if err != nil || one.Subject != d.Subject || string(one.Body) != "body" {
		t.Errorf("alone it is %+v, %v", one, err)
	}
}

func TestRetryDeadPutsBackAndDropDeadRemoves(t *testing.T) {
	l := newLine(t)
	l.bury("broken", "a", "b")
	letters, _, err := l.operator.DeadLetters(t.Context(), 0, 10)
	if err != nil || len(letters) != 2 {
		t.Fatal(letters, err)
	}
	if _, err := l.operator.RetryDead(t.Context(), letters[0].ID); err != nil {
		t.Fatal(err)
	}
	if l.left(bus.StreamDead) != 1 || l.left(bus.StreamWork) != 1 {
		t.Errorf("%d dead and %d back", l.left(bus.StreamDead), l.left(bus.StreamWork))
	}
	got := make(chan string, 1)
	stop := l.consume(func(_ context.Context, batch []*bus.Msg) { got <- string(batch[0].Data); settleAll(batch, bus.Done()) })
	if body := receive(t, "the message that was put back", got); body != "a" {
		t.Errorf("%q came back", body)
	}
	stop()
	if err := l.operator.DropDead(t.Context(), letters[1].ID); err != nil || l.left(bus.StreamDead) != 0 {
		t.Errorf("drop: %v", err)
	}
	for _, id := range []uint64{letters[0].ID, letters[1].ID, 0, 1 << 40} {
		if _, err := l.operator.DeadLetter(t.Context(), id); !errors.Is(err, bus.ErrNoLetter) {
			t.Errorf("reading letter %d: %v", id, err)
		}
		if _, err := l.operator.RetryDead(t.Context(), id); !errors.Is(err, bus.ErrNoLetter) {
			t.Errorf("retrying letter %d: %v", id, err)
		}
		if err := l.operator.DropDead(t.Context(), id); !errors.Is(err, bus.ErrNoLetter) {
			t.Errorf("dropping letter %d: %v", id, err)
		}
	}
	// what died, was put back and dies again is a letter again
	l.bury("broken still", "c")
	letters, _, _ = l.operator.DeadLetters(t.Context(), 0, 10)
	if len(letters) != 1 || letters[0].Reason != "broken still" {
		t.Errorf("letters %+v", letters)
	}
}

func TestOfALargeMessageTheBeginningIsKept(t *testing.T) {
	l := newLine(t)
	body := strings.Repeat("0123456789", 90_000) // within the server's bound of 1 MiB
	l.bury("too much", body)
	letters, _, err := l.operator.DeadLetters(t.Context(), 0, 1)
	if err != nil || len(letters) != 1 {
		t.Fatal(err)
	}
	d := letters[0]
	if !d.Truncated || d.Size != len(body) || len(d.Body) != event.MaxBody || !strings.HasPrefix(body, string(d.Body)) {
		t.Errorf("kept are %d bytes of %d, truncated %v", len(d.Body), d.Size, d.Truncated)
	}
	if _, err := l.operator.RetryDead(t.Context(), d.ID); !errors.Is(err, bus.ErrTruncated) {
		t.Errorf("retry: %v", err)
	}
	if l.left(bus.StreamDead) != 1 || l.left(bus.StreamWork) != 0 {
		t.Error("the refused retry moved it")
	}
}

// TestRetryDeadPutsNothingBackUnderAForeignSubject: what says where a letter came from is not trusted with the operator's permissions.
func TestRetryDeadPutsNothingBackUnderAForeignSubject(t *testing.T) {
	l := newLine(t)
	held := func() map[string]uint64 {
		out := map[string]uint64{}
		for _, s := range []string{bus.StreamLogins, bus.StreamSignals, bus.StreamWork, bus.StreamReceipts, bus.StreamEvents} {
			out[s] = l.left(s)
		}
		return out
	}
	for i, tc := range []struct {
		stream, subject string
		own             bool
	}{
		{bus.StreamLogins, "otpost.app.demo.login", true},
		{bus.StreamWork, "otpost.work.email", true},
		{bus.StreamReceipts, "otpost.receipt.sms", true},
		{bus.StreamSignals, "otpost.app.demo.signal.user.deleted", true},
		{bus.StreamSignals, "otpost.app.demo.signal.made.up", false},
		{bus.StreamSignals, "otpost.app.*.signal.user.deleted", false},
		{bus.StreamSignals, "otpost.app.demo.login", false},
		{bus.StreamLogins, "otpost.app.demo.event.challenge.verified", false},
		{bus.StreamLogins, "otpost.app.demo.rpc.verify", false},
		{bus.StreamLogins, "otpost.app.demo.login.more", false},
		{bus.StreamLogins, "otpost.app.*.login", false},
		{bus.StreamLogins, "otpost.app..login", false},
		{bus.StreamLogins, "otpost.work.sms", false},
		{bus.StreamLogins, "$JS.API.STREAM.PURGE.OTPOST_WORK", false},
		{bus.StreamLogins, "", false},
		{bus.StreamWork, "otpost.app.demo.login", false},
		{bus.StreamWork, "otpost.receipt.sms", false},
		{bus.StreamWork, "otpost.work.", false},
		{bus.StreamWork, "otpost.work.*", false},
		{bus.StreamWork, "otpost.work.>", false},
		{bus.StreamWork, "otpost.work.sms.more", false},
		{bus.StreamReceipts, "otpost.work.sms", false},
		{bus.StreamReceipts, "otpost.receipt.sms.more", false},
		{bus.StreamEvents, "otpost.app.demo.event.challenge.verified", false},
		{bus.StreamDead, "otpost.dead.OTPOST_WORK", false},
	} {
		err := l.operator.Publish(t.Context(), bus.Out{
			Subject: event.DeadPrefix + tc.stream, Data: []byte("body"), ID: fmt.Sprint("letter ", i), Header: nats.Header{bus.HeaderSubject: {tc.subject}},
		})
		if err != nil {
			t.Fatal(err)
		}
		letters, _, err := l.operator.DeadLetters(t.Context(), 0, 2)
		if err != nil || len(letters) != 1 || letters[0].Subject != tc.subject {
			t.Fatalf("letters %+v, %v", letters, err)
		}
		want := held()
		if tc.own {
			want[tc.stream]++
			if _, err := l.operator.RetryDead(t.Context(), letters[0].ID); err != nil {
				t.Errorf("%s of %s: %v", tc.subject, tc.stream, err)
			}
		} else {
			if _, err := l.operator.RetryDead(t.Context(), letters[0].ID); !errors.Is(err, bus.ErrForeign) {
				t.Errorf("%q of %s: %v, want ErrForeign", tc.subject, tc.stream, err)
			}
			if err := l.operator.DropDead(t.Context(), letters[0].ID); err != nil { // it is still there
				t.Fatal(err)
			}
		}
		if got := held(); !maps.Equal(got, want) {
			t.Errorf("after %q of %s the streams hold %v, want %v", tc.subject, tc.stream, got, want)
		}
	}
}

func TestDeadLettersComeInPages(t *testing.T) {
	l := newLine(t)
	if letters, n, err := l.operator.DeadLetters(t.Context(), 0, 10); err != nil || n != 0 || len(letters) != 0 {
		t.Errorf("of none: %v, %d, %v", letters, n, err)
	}
	l.bury("broken", numbered(7)...)
	all, _, err := l.operator.DeadLetters(t.Context(), 0, 100)
	if err != nil || len(all) != 7 {
		t.Fatal(len(all), err)
	}
	if err := l.operator.DropDead(t.Context(), all[3].ID); err != nil { // a gap in the sequence
		t.Fatal(err)
	}
	var seen []string
	for from := uint64(0); ; {
		page, n, err := l.operator.DeadLetters(t.Context(), from, 2)
		if err != nil || n != 6 {
			t.Fatalf("%d in all, %v", n, err)
		}
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			seen = append(seen, string(d.Body))
		}
		from = page[len(page)-1].ID + 1
	}
	want := append(numbered(7)[:3:3], numbered(7)[4:]...)
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("the pages hold %v, want %v", seen, want)
	}
}
