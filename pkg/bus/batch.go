package bus

import (
	"context"
	"sync"
)

// A Batcher makes batches of requests as Consume does of messages: whatever has queued while the last batch was under way.
type Batcher[T any] struct {
	queue  chan T
	max    int
	lanes  int
	fn     func(context.Context, []T)
	poison func(item T, panicked any)
	mu     sync.RWMutex
	shut   bool
}

// NewBatcher returns a Batcher that calls fn, in lanes goroutines at once, with at most max items. Where fn panics, each item of the batch is tried
// alone, so fn must bear to see an item twice; one that panics alone is given to poison.
func NewBatcher[T any](maxBatch, lanes int, fn func(context.Context, []T), poison func(item T, panicked any)) *Batcher[T] {
	return &Batcher[T]{queue: make(chan T, 8*maxBatch), max: maxBatch, lanes: lanes, fn: fn, poison: poison}
}

// Add queues an item. It returns false where the queue is full or Run is ending: the caller says "unavailable" and nothing waits for ever.
func (b *Batcher[T]) Add(item T) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.shut {
		return false
	}
	select {
	case b.queue <- item:
		return true
	default:
		return false
	}
}

// Run works until ctx ends and all that was added is done.
func (b *Batcher[T]) Run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	var lanes sync.WaitGroup
	for range b.lanes {
		lanes.Go(func() {
			for first := range b.queue {
				batch := append(make([]T, 0, b.max), first)
			more:
				for len(batch) < b.max {
					select {
					case item, ok := <-b.queue:
						if !ok {
							break more
						}
						batch = append(batch, item)
					default:
						break more
					}
				}
				b.handle(work, batch)
			}
		})
	}
	<-ctx.Done()
	b.mu.Lock()
	b.shut = true
	close(b.queue)
	b.mu.Unlock()
	lanes.Wait()
	return nil
}

// handle keeps one item that panics from taking the process, and the others, with it.
func (b *Batcher[T]) handle(ctx context.Context, batch []T) {
	defer func() {
		p := recover()
		switch {
		case p == nil:
		case len(batch) == 1:
			b.poison(batch[0], p)
		default:
			for _, item := range batch {
				b.handle(ctx, []T{item})
			}
		}
	}()
	b.fn(ctx, batch)
}
