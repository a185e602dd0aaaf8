package bus

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/lifecycle"
)

// A Msg is one delivered message.
type Msg struct {
	Subject  string
	Data     []byte
	Tries    int       // times that it was delivered, this one included
	Received time.Time // when the stream took it
	Sequence uint64    // in the stream

	raw    jetstream.Msg
	stream string
	since  time.Time
	settle func(*Msg, Outcome)
	once   sync.Once
}

// Settle says what became of the message. The first call counts.
func (m *Msg) Settle(o Outcome) { m.once.Do(func() { m.settle(m, o) }) }

// A Handler works on a batch and settles every message in it, before it returns or later. Messages that it leaves unsettled
// when it panics are settled for it.
type Handler func(ctx context.Context, batch []*Msg)

// Consumption is one consumer's work.
type Consumption struct {
	Stream   string
	Consumer string
	Handler  Handler
	MaxBatch int // most messages a batch; default 256
	Lanes    int // batches at once; default 2: while one waits for its commit the next one fills
}

// A consuming is a Consumption under way.
type consuming struct {
	Consumption
	bus   *Bus
	queue chan *Msg

	mu      sync.Mutex
	in      map[*Msg]struct{} // delivered and not settled
	ackWait time.Duration     // as the consumer is declared
	settled sync.Cond
}

// Consume works until ctx ends; then it takes no more, finishes the batches under way, gives back what it had not begun, and returns nil.
// It waits for NATS and for the consumer to be there, and survives their going away.
func (b *Bus) Consume(ctx context.Context, c Consumption) error {
	if c.MaxBatch <= 0 {
		c.MaxBatch = 256
	}
	if c.Lanes <= 0 {
		c.Lanes = 2
	}
	w := &consuming{Consumption: c, bus: b, queue: make(chan *Msg, c.MaxBatch), in: map[*Msg]struct{}{}, ackWait: AckWait}
	w.settled.L = &w.mu

	work := context.WithoutCancel(ctx) // what is in hand is finished
	var lanes sync.WaitGroup
	for range c.Lanes {
		lanes.Go(func() { w.lane(work, ctx.Done()) })
	}
	alive, stop := context.WithCancel(work)
	var keeper sync.WaitGroup
	keeper.Go(func() { w.keepAlive(alive) })

	w.pull(ctx)
	close(w.queue)
	lanes.Wait()
	w.awaitSettled()
	stop()
	keeper.Wait()
	return nil
}

// pull moves messages from NATS to the queue until ctx ends. Beside the batches that the lanes have in hand, up to MaxBatch messages wait in
// the queue and up to MaxBatch in the client's own buffer. Those in hand and in the queue are kept alive; those in the buffer are not known
// here yet, so where the lanes are so slow that one waits there for longer than AckWait, NATS delivers it once more.
func (w *consuming) pull(ctx context.Context) {
	for ctx.Err() == nil {
		var cons jetstream.Consumer
		err := lifecycle.Backoff(ctx, w.bus.log, "looking for consumer "+w.Consumer+" of "+w.Stream, func(ctx context.Context) (err error) {
			if err = w.bus.Connected(); err != nil {
				return err
			}
			cons, err = w.bus.js.Consumer(ctx, w.Stream, w.Consumer)
			return err
		})
		if err != nil {
			return // ctx ended
		}
		w.mu.Lock()
		w.ackWait = cons.CachedInfo().Config.AckWait
		w.mu.Unlock()
		lost := make(chan error, 1)
		cc, err := cons.Consume(func(m jetstream.Msg) { w.take(m) }, jetstream.PullMaxMessages(w.MaxBatch),
			jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
				select {
				case lost <- err:
				default:
				}
			}))
		if err != nil {
			w.bus.log.Warn("pulling failed, trying again", "stream", w.Stream, "error", err)
			continue
		}
		w.watch(ctx, cc, lost)
		cc.Drain()
		<-cc.Closed()
	}
}

// watch returns when ctx ends or when the consumer is gone and must be looked up anew. A missed heartbeat mends itself.
func (w *consuming) watch(ctx context.Context, cc jetstream.ConsumeContext, lost <-chan error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-cc.Closed():
			w.bus.log.Warn("pulling ended, starting anew", "stream", w.Stream)
			return
		case err := <-lost:
			w.bus.log.Debug("pulling was disturbed", "stream", w.Stream, "error", err)
			// the look-up tells a consumer that is gone from a server that is away
			if _, err := w.bus.js.Consumer(ctx, w.Stream, w.Consumer); err != nil && w.bus.Connected() == nil && ctx.Err() == nil {
				w.bus.log.Warn("the consumer is gone, waiting for it", "stream", w.Stream, "error", err)
				return
			}
		}
	}
}

func (w *consuming) take(raw jetstream.Msg) {
	m := &Msg{Subject: raw.Subject(), Data: raw.Data(), raw: raw, stream: w.Stream, since: time.Now(), settle: w.settle, Tries: 1, Received: time.Now()}
	if meta, err := raw.Metadata(); err == nil {
		m.Tries, m.Received, m.Sequence = int(meta.NumDelivered), meta.Timestamp, meta.Sequence.Stream
	}
	w.mu.Lock()
	w.in[m] = struct{}{}
	w.mu.Unlock()
	w.queue <- m
}

// lane handles one batch after another: whatever has queued while the last one was under way, up to MaxBatch. Once the worker drains, what is still
// queued goes back at once, for others to take.
func (w *consuming) lane(ctx context.Context, draining <-chan struct{}) {
	for first := range w.queue {
		select {
		case <-draining:
			first.Settle(Outcome{kind: retry, reason: "draining", quiet: true})
			continue
		default:
		}
		batch := append(make([]*Msg, 0, w.MaxBatch), first)
	more:
		for len(batch) < w.MaxBatch {
			select {
			case m, ok := <-w.queue:
				if !ok {
					break more
				}
				batch = append(batch, m)
			default:
				break more
			}
		}
		began := time.Now()
		w.handle(ctx, batch)
		if mt := w.bus.metrics; mt != nil {
			mt.BatchSize.WithLabelValues(w.Stream).Observe(float64(len(batch)))
			mt.BatchSeconds.WithLabelValues(w.Stream).Observe(time.Since(began).Seconds())
		}
	}
}

// handle calls the handler. Where it panics, each message of the batch that is not settled is tried alone, and the one that panics alone is dead.
func (w *consuming) handle(ctx context.Context, batch []*Msg) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		w.bus.log.Error("a handler panicked", "stream", w.Stream, "batch", len(batch), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if len(batch) == 1 {
			batch[0].Settle(Dead("handling it panicked"))
			return
		}
		for _, m := range batch {
			if w.unsettled(m) {
				w.handle(ctx, []*Msg{m})
			}
		}
	}()
	w.Handler(ctx, batch)
}

func (w *consuming) unsettled(m *Msg) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, in := w.in[m]
	return in
}

// settle carries out an outcome. A failure to reach NATS needs no care: the message is delivered again.
func (w *consuming) settle(m *Msg, o Outcome) {
	var err error
	switch o.kind {
	case done, drop:
		err = m.raw.Ack()
	case retry:
		if o.delay > 0 {
			err = m.raw.NakWithDelay(o.delay)
		} else {
			err = m.raw.Nak()
		}
	case dead:
		if err = w.bus.bury(context.Background(), m, o.reason); err == nil {
			err = m.raw.Ack()
		}
	}
	if o.kind != done && !o.quiet {
		w.bus.log.Info("message settled", "stream", m.stream, "sequence", m.Sequence, "outcome", o.kind.String(), "reason", o.reason, "tries", m.Tries)
	}
	if err != nil {
		w.bus.log.Warn("settling a message failed, it will come again", "stream", m.stream, "sequence", m.Sequence, "error", err)
	}
	if mt := w.bus.metrics; mt != nil {
		mt.Messages.WithLabelValues(m.stream, o.kind.String()).Inc()
	}
	w.mu.Lock()
	delete(w.in, m)
	w.mu.Unlock()
	w.settled.Broadcast()
}

func (w *consuming) awaitSettled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.in) > 0 {
		w.settled.Wait()
	}
}

// keepAlive tells NATS of messages that are in hand for long, so that they are not delivered to somebody else meanwhile.
func (w *consuming) keepAlive(ctx context.Context) {
	const every = 200 * time.Millisecond // an acknowledgement may be due within a second at the least
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		w.mu.Lock()
		var long []*Msg
		for m := range w.in {
			if now.Sub(m.since) > w.ackWait/4 {
				m.since = now
				long = append(long, m)
			}
		}
		w.mu.Unlock()
		for _, m := range long {
			_ = m.raw.InProgress()
		}
	}
}
