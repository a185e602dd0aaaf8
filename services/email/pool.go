package email

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/wneessen/go-mail/smtp"
)

// ErrClosed is the cause of a Send after Close.
var ErrClosed = errors.New("the SMTP provider is closed")

// quitTimeout bounds how long a leaving connection waits for the server's reply to QUIT.
const quitTimeout = time.Second

// A conn is one greeted and authenticated connection. Whoever took it from the pool owns it.
type conn struct {
	client   *smtp.Client
	raw      net.Conn // below TLS; closing it ends whatever the client waits for
	opened   time.Time
	used     time.Time // when it last came back to the pool
	messages int       // transactions begun on it
	kept     bool      // it has been in the pool
}

// A pool keeps connections to one server between messages, because dialling, TLS and AUTH cost five to eight round trips and a
// message on an open connection four.
//
// The slots bound how many senders hold a connection. A sender dials only when nothing is kept, so connections in use and kept never
// outnumber the slots; only those that are saying QUIT come on top. The last used is taken first: under light load one connection
// does all the work and the others reach MaxIdle.
//
// A kept connection is not tested with NOOP before use. That would cost every message a round trip, and a server may still hang up
// between NOOP and MAIL; MAIL itself is the test, and Send replaces a connection that fails it. What idles for long, which servers and
// NAT devices are likely to have dropped without a word, is closed instead. Nor is RSET sent between messages: the end of DATA clears
// the transaction (RFC 5321, section 4.1.1.4) and the next MAIL may follow.
type pool struct {
	maxAge, maxIdle time.Duration
	maxMessages     int
	now             func() time.Time
	log             *slog.Logger

	slots     chan struct{}
	closing   chan struct{} // closed by close
	closeOnce sync.Once
	leaving   sync.WaitGroup

	mu     sync.Mutex
	idle   []*conn     // by used, the latest last
	reaper *time.Timer // runs while idle is not empty
	closed bool
}

func newPool(cfg SMTPConfig) *pool {
	return &pool{
		maxAge: cfg.MaxAge, maxIdle: cfg.MaxIdle, maxMessages: cfg.MaxMessages, now: cfg.Now,
		log:     cfg.Logger.With("provider", cfg.Name),
		slots:   make(chan struct{}, cfg.Connections),
		closing: make(chan struct{}),
	}
}

// acquire waits for a slot. Its error is ctx's, or ErrClosed.
func (p *pool) acquire(ctx context.Context) error {
	select {
	case <-p.closing:
		return ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return ErrClosed
	}
}

// release gives the slot back, after the connection went back or was discarded.
func (p *pool) release() { <-p.slots }

// take returns the kept connection that was used last, or nil when there is none fit for use.
func (p *pool) take() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle[n-1], p.idle = nil, p.idle[:n-1]
		if now := p.now(); now.Sub(c.used) < p.maxIdle && now.Sub(c.opened) < p.maxAge {
			return c
		}
		p.retire(c)
	}
	return nil
}

// put keeps c for the next message, unless it has served long enough.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.kept, c.used = true, p.now()
	if p.closed || c.messages >= p.maxMessages || c.used.Sub(c.opened) >= p.maxAge {
		p.retire(c)
		return
	}
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.maxIdle, p.reap)
	}
}

// reap retires what has idled for too long, so that a quiet provider holds no connections, and comes back when the next is due.
func (p *pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaper = nil
	if p.closed {
		return
	}
	now := p.now()
	var due int
	for due < len(p.idle) && now.Sub(p.idle[due].used) >= p.maxIdle {
		p.retire(p.idle[due])
		due++
	}
	p.idle = append(p.idle[:0:0], p.idle[due:]...)
	if len(p.idle) > 0 {
		next := p.maxIdle - now.Sub(p.idle[0].used)
		p.reaper = time.AfterFunc(min(max(next, 10*time.Millisecond), p.maxIdle), p.reap)
	}
}

// retire says QUIT on c in the background and closes it. The caller holds mu, or a slot: both keep close from waiting yet.
func (p *pool) retire(c *conn) {
	p.leaving.Go(func() {
		defer c.raw.Close()
		// The message is long accepted; a server that fails QUIT is left without it.
		if err := c.raw.SetDeadline(time.Now().Add(quitTimeout)); err != nil {
			return
		}
		if err := c.client.Quit(); err != nil {
			p.log.Debug("SMTP connection closed without a reply to QUIT", "messages", c.messages)
			return
		}
		p.log.Debug("SMTP connection closed", "messages", c.messages)
	})
}

// close refuses new senders, waits for those at work, and returns when every connection is closed.
func (p *pool) close() {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		p.closed = true
		close(p.closing)
		if p.reaper != nil {
			p.reaper.Stop()
		}
		for _, c := range p.idle {
			p.retire(c)
		}
		p.idle = nil
		p.mu.Unlock()
		for range cap(p.slots) { // each slot taken is a sender that has ended; none is given back, so that none can begin
			p.slots <- struct{}{}
		}
		p.leaving.Wait()
	})
}
