package bus_test

import (
	"context"
	"testing"

	"github.com/otpost/otpost/pkg/bus"
)

func TestABatcherTakesWhatHasQueued(t *testing.T) {
	t.Parallel()
	sizes, release := make(chan int, 10), make(chan struct{})
	b := bus.NewBatcher(30, 1, func(ctx context.Context, batch []int) {
		sizes <- len(batch)
		<-release
		if ctx.Err() != nil {
			t.Error("the context of what is under way ended")
		}
	}, func(int, any) { t.Error("nothing panicked") })
	if !b.Add(0) {
		t.Error("refused before Run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	if n := receive(t, "the first batch", sizes); n != 1 {
		t.Errorf("an idle batcher takes %d", n)
	}
	added := 0
	for b.Add(added) { // until it is full
		added++
	}
	if added != 240 {
		t.Errorf("it holds %d, want eight batches", added)
	}
	cancel()
	close(release)
	if err := receive(t, "the end", done); err != nil {
		t.Error(err)
	}
	close(sizes)
	for n := range sizes {
		if n > 30 {
			t.Errorf("a batch of %d", n)
		}
		added -= n
	}
	if added != 0 {
		t.Errorf("%d were added and not worked on", added)
	}
	if b.Add(1) {
		t.Error("taken after the end")
	}
}

func TestABatcherTriesTheItemsOfAPanicAlone(t *testing.T) {
	t.Parallel()
	poisoned, done := make(chan int, 10), make(chan int, 10)
	b := bus.NewBatcher(10, 1, func(_ context.Context, batch []int) {
		for _, n := range batch {
			if n == 3 {
				panic("cannot digest")
			}
		}
		for _, n := range batch {
			done <- n
		}
	}, func(n int, _ any) { poisoned <- n })
	for n := range 6 {
		b.Add(n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(poisoned) != 1 || <-poisoned != 3 || len(done) != 5 {
		t.Errorf("%d poisoned and %d done", len(poisoned), len(done))
	}
}
