package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/otp"
)

// Config says where an app connects, and as whom.
type Config struct {
	URL      string // nats://host:port or tls://host:port, several separated by commas
	App      string // the app's name, as otpost knows it
	User     string // the app's NATS user; it may use the subjects of its own app only
	Password string
	CAFile   string        // PEM of the authority to trust for TLS; empty for the system's
	Name     string        // of the connection, as NATS lists it; "otpost client" where it is empty
	NATS     []nats.Option // for what this package has no word for; they come last
}

// An Option changes how a Client works.
type Option func(*Client)

// WithTimeout bounds calls whose context has no deadline; five seconds where it is not given.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// WithTries is how often a request is sent at most, the first time included; three where it is not given.
func WithTries(n int) Option { return func(c *Client) { c.tries = max(n, 1) } }

// WithSource is the CloudEvents source of what the app publishes, a URI reference; "/apps/<app>" where it is not given.
func WithSource(source string) Option { return func(c *Client) { c.source = source } }

// WithLogger hears of connections that are lost and found, and of events that were not handled; nobody does where it is not given.
func WithLogger(l *slog.Logger) Option { return func(c *Client) { c.log = l } }

// A Client speaks for one app. It may be used by any number of goroutines at once.
type Client struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	app     string
	own     bool // the connection was made here
	timeout time.Duration
	tries   int
	source  string
	log     *slog.Logger
}

const (
	defaultTimeout = 5 * time.Second
	defaultTries   = 3
)

// New returns a Client over a connection that is there already, which stays the caller's to close. The app must be a name of otpost's: 1 to 64 of a-z,
// 0-9 and "-".
func New(nc *nats.Conn, app string, options ...Option) (*Client, error) {
	c, err := newClient(app, options)
	if err != nil {
		return nil, err
	}
	return c, c.over(nc)
}

// Connect makes a connection and returns when it stands. From then on it comes back by itself for as long as the Client is not closed; while it is away,
// calls fail with ErrUnavailable.
func Connect(ctx context.Context, cfg Config, options ...Option) (*Client, error) {
	c, err := newClient(cfg.App, options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	nc, err := dial(ctx, cfg.URL, c.natsOptions(cfg))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	c.own = true
	if err := c.over(nc); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func newClient(app string, options []Option) (*Client, error) {
	if !otp.ValidApp(app) {
		return nil, fmt.Errorf("app %q: must be 1 to 64 of a-z, 0-9 and -", app)
	}
	c := &Client{app: app, timeout: defaultTimeout, tries: defaultTries, source: "/apps/" + app, log: slog.New(slog.DiscardHandler)}
	for _, o := range options {
		o(c)
	}
	return c, nil
}

func (c *Client) over(nc *nats.Conn) error {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(c.timeout))
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	c.nc, c.js = nc, js
	return nil
}

func (c *Client) natsOptions(cfg Config) []nats.Option {
	name := cfg.Name
	if name == "" {
		name = "otpost client"
	}
	opts := []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // what cannot be sent now fails now: nothing is sent after its caller gave up
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.IgnoreAuthErrorAbort(), // a server that is being set up anew refuses at first
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.log.Warn("disconnected from NATS", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.log.Info("connected to NATS again", "server", nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.log.Error("NATS reports", "error", err) }),
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	return append(opts, cfg.NATS...)
}

// dial connects, and gives up when ctx ends.
func dial(ctx context.Context, url string, opts []nats.Option) (*nats.Conn, error) {
	type dialled struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan dialled, 1)
	go func() {
		nc, err := nats.Connect(url, opts...)
		done <- dialled{nc, err}
	}()
	select {
	case d := <-done:
		return d.nc, d.err
	case <-ctx.Done():
		go func() {
			if d := <-done; d.err == nil {
				d.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// Close sends what is under way and ends the connection, where Connect made it. Calls that wait for an answer fail.
func (c *Client) Close() error {
	if !c.own {
		return nil
	}
	defer c.nc.Close()
	if !c.nc.IsConnected() {
		return nil
	}
	if err := c.nc.FlushTimeout(c.timeout); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("close the connection to NATS: %w", err)
	}
	return nil
}

// bounded gives a context without a deadline one.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.timeout)
}
