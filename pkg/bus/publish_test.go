package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otposttest"
)

// The same id twice is one message; what cannot be delivered to any stream is an error, and so is a bus that is away.
func TestPublish(t *testing.T) {
	l := newLine(t)
	l.publish("a", "b", "a")
	if n := l.left(bus.StreamWork); n != 2 {
		t.Errorf("%d messages of two ids", n)
	}
	out := make([]bus.Out, 1000)
	for i := range out {
		out[i] = bus.Out{Subject: "otpost.work.email", ID: fmt.Sprint(i)}
	}
	if err := l.challenge.Publish(t.Context(), out...); err != nil || l.left(bus.StreamWork) != 1002 {
		t.Errorf("a thousand at once: %v, %d in the stream", err, l.left(bus.StreamWork))
	}
	if err := l.operator.Publish(t.Context(), bus.Out{Subject: "otpost.nowhere"}); err == nil {
		t.Error("what no stream takes was acknowledged")
	}
	l.nats.Stop(t)
	otposttest.Eventually(t, "the connection to be lost", func() bool { return l.challenge.Connected() != nil })
	if err := l.challenge.Publish(t.Context(), bus.Out{Subject: "otpost.work.sms"}); !errors.Is(err, bus.ErrNotConnected) {
		t.Errorf("without a server: %v", err)
	}
	l.nats.Start(t)
}

func TestPublishEachTellsWhichMessageFailed(t *testing.T) {
	l := newLine(t)
	out := []bus.Out{
		{Subject: "otpost.work.sms", ID: "1"},
		{Subject: "otpost.nowhere", ID: "2"}, // no stream takes it
		{Subject: "otpost.work.sms", ID: "3"},
		{Subject: "otpost.work.sms", ID: "4", Data: make([]byte, 2<<20)}, // more than the server takes: it is not even sent
		{Subject: "otpost.work.sms", ID: "5"},
	}
	results := l.operator.PublishEach(t.Context(), out...)
	want := []error{nil, jetstream.ErrNoStreamResponse, nil, nats.ErrMaxPayload, nil}
	if len(results) != len(want) {
		t.Fatalf("%d results of %d messages", len(results), len(out))
	}
	for i, err := range results {
		if !errors.Is(err, want[i]) {
			t.Errorf("message %d: %v, want %v", i, err, want[i])
		}
	}
	if n := l.left(bus.StreamWork); n != 3 {
		t.Errorf("the stream holds %d messages, want the three good ones", n)
	}
	err := l.operator.Publish(t.Context(), out...)
	if !errors.Is(err, jetstream.ErrNoStreamResponse) || !errors.Is(err, nats.ErrMaxPayload) || strings.Count(err.Error(), "otpost.nowhere") != 1 {
		t.Errorf("all in one: %v", err)
	}
	if results := l.operator.PublishEach(t.Context()); len(results) != 0 {
		t.Errorf("of nothing: %v", results)
	}
}

// TestPublishEachAfterATimeOut: the server drops what the role may not publish, so no acknowledgement comes.
func TestPublishEachAfterATimeOut(t *testing.T) {
	l := newLine(t)
	denied, good := bus.Out{Subject: "otpost.receipt.email"}, bus.Out{Subject: "otpost.receipt.sms"}
	results := l.sms.PublishEach(t.Context(), good, denied, good, denied)
	for i, failed := range []bool{false, true, false, true} {
		if errors.Is(results[i], jetstream.ErrAsyncPublishTimeout) != failed || (results[i] != nil) != failed {
			t.Errorf("message %d: %v", i, results[i])
		}
	}
	if n := l.left(bus.StreamReceipts); n != 2 {
		t.Errorf("the stream holds %d messages, want the two good ones", n)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := l.sms.Publish(ctx, denied, good, denied)
	if !errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "deadline") != 1 {
		t.Errorf("a context that ends: %v", err)
	}
	if n := l.left(bus.StreamReceipts); n != 3 {
		t.Errorf("the stream holds %d messages, want one more", n)
	}
}
