package bus

import (
	"context"
	"sync"
)

// A Batcher makes batches of requests as Consume does of messages: whatever has queued while the last batch was under way.
type Batcher[T any] struct {
	queue chan T
	max   int
	lanes int
	fn    func(context.Context, []T)
	mu    sync.RWMutex
	shut  bool
}

// NewBatcher returns a Batcher that calls fn, in lanes goroutines at once, with at most max items. fn must not panic.
func NewBatcher[T any](maxBatch, lanes int, fn func(context.Context, []T)) *Batcher[T] {
	return &Batcher[T]{queue: make(chan T, 8*maxBatch), max: maxBatch, lanes: lanes, fn: fn}
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
				b.fn(work, batch)
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
