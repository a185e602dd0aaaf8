package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrPortBusy means that another process listens on the port that a server was to have. The error that wraps it names the address.
var ErrPortBusy = errors.New("port is busy")

const (
	natsConfigName = "nats.conf"
	// natsStartTimeout bounds a start whose context has no deadline. Reading back large streams after a crash is the long part.
	natsStartTimeout = time.Minute
	// natsStopTimeout bounds the shutdown after a start that failed.
	natsStopTimeout = 30 * time.Second
)

// NATSConfig is what StartNATS needs.
type NATSConfig struct {
	// Dir is the server's own directory; it is made when missing. The configuration file is written into it, mode 0600, and it is locked
	// while the server runs, so that no second server opens the same streams.
	Dir string
	// Host and Port replace what the configuration says. Host defaults to 127.0.0.1; port 0 takes a free one.
	Host string
	Port int
	// ConfigText is a nats-server configuration with JetStream, as bus.ServerConfig renders it.
	ConfigText string
	// Logger gets the server's warnings and errors, and at debug level its notices. Default: slog.Default().
	Logger *slog.Logger
}

// NATS is a nats-server that runs inside this process.
type NATS struct {
	cfg    NATSConfig
	server *server.Server
	log    *natsLogger
	lock   *DirLock

	reload sync.Mutex // held by Reload and by the end of Stop

	stop    sync.Once
	stopped chan struct{}
}

// StartNATS writes the configuration into cfg.Dir, starts a server from it and returns when clients can connect. It fails when ctx ends,
// or after a minute when ctx has no deadline; then nothing keeps running. Its error wraps ErrPortBusy or ErrInUse where one of these is the
// cause, so that the caller can try another port.
func StartNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, natsStartTimeout)
		defer cancel()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start NATS: make its directory: %w", err)
	}
	lock, err := LockDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	n := &NATS{cfg: cfg, lock: lock, stopped: make(chan struct{}), log: &natsLogger{log: cfg.Logger, fatal: make(chan string, 1)}}
	if err := n.start(ctx); err != nil {
		unlockErr := lock.Unlock()
		return nil, errors.Join(fmt.Errorf("start NATS: %w", err), unlockErr)
	}
	return n, nil
}

func (n *NATS) start(ctx context.Context) error {
	addr := net.JoinHostPort(n.cfg.Host, strconv.Itoa(n.cfg.Port))
	if err := portFree(ctx, addr); err != nil {
		return err
	}
	path, opts, err := n.stage(n.cfg.ConfigText)
	if err != nil {
		return err
	}
	defer os.Remove(path) // gone by then, unless the start fails
	opts.Host, opts.Port = n.cfg.Host, n.cfg.Port
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.SetLogger(n.log, false, false)
	n.server = s

	started := make(chan struct{})
	go func() {
		defer close(started)
		s.Start()
	}()
	if err := n.ready(ctx); err != nil {
		<-started // a shutdown beside a start that still runs would leave its later parts running
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), natsStopTimeout)
		defer cancel()
		return errors.Join(err, n.shutdown(stopCtx))
	}
	<-started
	n.cfg.Port = s.Addr().(*net.TCPAddr).Port
	if err := os.Rename(path, filepath.Join(n.cfg.Dir, natsConfigName)); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), natsStopTimeout)
		defer cancel()
		return errors.Join(fmt.Errorf("keep configuration: %w", err), n.shutdown(stopCtx))
	}
	return nil
}

// portFree reports a listener that is there already, which the server itself tells only in its log. Between this look and the server's own
// listening another process can still take the port; ready knows that case by its text.
func portFree(ctx context.Context, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: %s", ErrPortBusy, addr)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// ready waits until clients can connect, the server gives up, or ctx ends.
func (n *NATS) ready(ctx context.Context) error {
	for {
		select {
		case why := <-n.log.fatal:
			if strings.Contains(why, syscall.EADDRINUSE.Error()) {
				return fmt.Errorf("%w: %s", ErrPortBusy, why)
			}
			return errors.New(why)
		case <-ctx.Done():
			return fmt.Errorf("wait until it is ready: %w", context.Cause(ctx))
		default:
		}
		if n.server.ReadyForConnections(50 * time.Millisecond) {
			return nil
		}
	}
}

// stage writes a configuration beside the one in force and parses it. The caller renames the file once the server has taken it.
func (n *NATS) stage(text string) (string, *server.Options, error) {
	f, err := os.CreateTemp(n.cfg.Dir, natsConfigName+".*") // mode 0600
	if err != nil {
		return "", nil, fmt.Errorf("write configuration: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", nil, fmt.Errorf("write configuration: %w", err)
	}
	opts, err := server.ProcessConfigFile(f.Name())
	if err != nil {
		os.Remove(f.Name())
		return "", nil, fmt.Errorf("read configuration: %w", err)
	}
	opts.ConfigFile = filepath.Join(n.cfg.Dir, natsConfigName) // where it will be; a reload refuses another name
	opts.NoSigs = true                                         // signals belong to the command
	opts.DisableJetStreamBanner = true
	return f.Name(), opts, nil
}

// URL is where clients connect, such as "nats://127.0.0.1:4222".
func (n *NATS) URL() string {
	return "nats://" + net.JoinHostPort(n.cfg.Host, strconv.Itoa(n.cfg.Port))
}

// Port is the TCP port that the server listens on.
func (n *NATS) Port() int { return n.cfg.Port }

// Reload puts another configuration in force, for example one with a new app, without ending connections whose user stays. Host and port
// stay as they are. What only a restart can change, such as the store directory, makes it fail; then the old configuration stays.
//
// While it runs, for about a millisecond, what apps send may find no responders: requests and JetStream publishes then fail at once
// (nats.ErrNoResponders, jetstream.ErrNoStreamResponse) and can be sent again, as nats.go does by itself for publishes.
func (n *NATS) Reload(configText string) error {
	n.reload.Lock()
	defer n.reload.Unlock()
	select {
	case <-n.stopped:
		return fmt.Errorf("reload NATS: %w", server.ErrServerNotRunning)
	default:
	}
	added, err := n.apply(configText)
	if err == nil && added {
		// nats-server 2.15 makes an account that is new in a reload without listening on the services it imports; the next reload, which
		// then meets an existing account, does that.
		_, err = n.apply(configText)
	}
	if err != nil {
		return fmt.Errorf("reload NATS: %w", err)
	}
	return nil
}

// apply reloads once and reports whether that brought new accounts.
func (n *NATS) apply(configText string) (added bool, err error) {
	path, opts, err := n.stage(configText)
	if err != nil {
		return false, err
	}
	defer os.Remove(path) // gone by then, unless the reload fails
	opts.Host, opts.Port = n.cfg.Host, n.cfg.Port
	for _, account := range opts.Accounts {
		if _, err := n.server.LookupAccount(account.Name); errors.Is(err, server.ErrMissingAccount) {
			added = true
		}
	}
	if err := n.server.ReloadOptions(opts); err != nil {
		return false, err
	}
	if err := os.Rename(path, filepath.Join(n.cfg.Dir, natsConfigName)); err != nil {
		return false, fmt.Errorf("keep configuration: %w", err)
	}
	return added, nil
}

// Stop ends the server and returns when it has flushed its streams and closed its files, or with ctx's error when ctx ends first; the
// shutdown then goes on behind it. A second call waits for the first.
func (n *NATS) Stop(ctx context.Context) error {
	if n == nil {
		return nil
	}
	if err := n.shutdown(ctx); err != nil {
		return fmt.Errorf("stop NATS: %w", err)
	}
	n.reload.Lock()
	defer n.reload.Unlock()
	if err := n.lock.Unlock(); err != nil {
		return fmt.Errorf("stop NATS: %w", err)
	}
	return nil
}

func (n *NATS) shutdown(ctx context.Context) error {
	n.stop.Do(func() {
		go func() {
			n.reload.Lock()
			defer n.reload.Unlock()
			n.server.Shutdown()
			n.server.WaitForShutdown()
			close(n.stopped)
		}()
	})
	select {
	case <-n.stopped:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A natsLogger hands the server's log to slog.
type natsLogger struct {
	log   *slog.Logger
	fatal chan string // the first reason for which the server gave up
}

var _ server.Logger = (*natsLogger)(nil)

func (l *natsLogger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *natsLogger) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *natsLogger) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }

// Fatalf is where a standalone server would end the process. Here whoever waits for the start gets the reason.
func (l *natsLogger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
		l.write(slog.LevelError, format, v)
	}
}

// Debugf and Tracef stay silent: they would show subjects, headers and bodies.
func (l *natsLogger) Debugf(string, ...any) {}
func (l *natsLogger) Tracef(string, ...any) {}

func (l *natsLogger) write(level slog.Level, format string, v []any) {
	l.log.Log(context.Background(), level, fmt.Sprintf(format, v...), "component", "nats-server")
}
