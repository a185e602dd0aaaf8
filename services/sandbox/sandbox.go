// Package sandbox is the embedded default: NATS in this process, a private Postgres, simulated providers with their inbox, and a demo app with a
// shop to open in a browser, so that one command brings up a whole system on one machine and shows that it works. The workers are not its own;
// whoever starts it runs them with the access that it hands out.
//
// What it promises:
//
//   - Everything listens on the loopback address only. A port that is taken gives way to a free one, and Moved says so.
//   - One process at a time uses a folder. Whatever a killed one left there, the next one starts from.
//   - Guarantees are those of production: Postgres and JetStream flush to the disk before they acknowledge.
//   - Close stops what Start started and nothing else. A Postgres or NATS that was given stays as it is, save for otpost's own schema,
//     roles and streams.
//
// Secrets lie in the folder in files of mode 0600 and stay the same from one start to the next.
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/embedded"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/postgres"
)

// Ports that are taken where they are free and the configuration names no others.
const (
	DefaultHTTPPort  = 8080
	DefaultShopPort  = 8081
	DefaultNATSPort  = 4222
	DefaultInboxPort = 8025
	DefaultSMTPPort  = 1025
)

// DemoApp is the app that every sandbox has.
const DemoApp = "demo"

// agents are the support agents that every sandbox has.
var agents = []string{"alice", "bob"}

const (
	defaultDir = ".otpost"
	// postgresConnections leaves room for several more workers of each role than the one that runs here, with pools of the default size.
	postgresConnections = 200
	// natsPatience is how long a NATS that was given may take to let the operator in.
	natsPatience = 15 * time.Second
	// closeTimeout bounds a Close whose context has no deadline.
	closeTimeout = 30 * time.Second
)

// A Config says what to use and what to run. The zero value runs everything, in the folder .otpost.
type Config struct {
	Dir string // holds everything; made where it is missing; default ".otpost"

	// DatabaseURL is a Postgres to use in place of a private one: a postgres:// URL of a database as a login that may create otpost's tables
	// and roles. Roles belong to the whole cluster: two sandboxes on one cluster take each other's passwords away.
	DatabaseURL string
	PGBin       string // the private Postgres's programs; empty to find them

	// NATSURL is a NATS with JetStream to use in place of the one in this process. Every role and app then connects with NATSUser and
	// NATSPassword (or with what the URL holds), which are empty for a server that asks for nothing; nothing keeps the roles apart there.
	NATSURL      string
	NATSUser     string
	NATSPassword string

	// Ports on 127.0.0.1; 0 is the default one. Free takes free ones at once, whatever these say.
	HTTPPort, ShopPort, NATSPort, InboxPort, SMTPPort int
	Free                                              bool

	// OutsideGateway leaves the HTTP edge's port to a gateway that somebody starts with the settings of gateway.yaml, in place of HandleHTTP.
	OutsideGateway bool

	SyncInterval string // how often JetStream flushes, as in bus.ServerSettings; default "always"
	// Ephemeral removes everything at Close, the folder too unless another put something there. Dir must not be that of a sandbox that is kept;
	// where it is not named, a temporary one is made.
	Ephemeral bool
	Logger    *slog.Logger // default slog.Default()
}

// A RunningError says that a live process uses the folder. It wraps embedded.ErrInUse.
type RunningError struct {
	Dir string
	PID int // 0 where it is not known
	err error
}

// Error names the folder and the process.
func (e *RunningError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("otpost up is already running in %s", e.Dir)
	}
	return fmt.Sprintf("otpost up is already running in %s (pid %d)", e.Dir, e.PID)
}

// Unwrap returns the lock's error.
func (e *RunningError) Unwrap() error { return e.err }

// A Sandbox is what Start started. Its methods may be called at the same time.
type Sandbox struct {
	cfg   Config
	dir   string // absolute
	log   *slog.Logger
	keys  *keyring.Ring // of the operator
	moved []string

	postgres *embedded.Postgres // nil where a database was given
	ownerURL string
	db       *postgres.DB // as the operator

	nats     *embedded.NATS // nil where a server was given
	natsURL  string         // without credentials
	operator *bus.Bus
	hashes   map[string]string // of this run's NATS passwords, by user

	inbox     *inbox.Inbox
	http      net.Listener
	inboxHTTP net.Listener
	smtp      net.Listener
	shopHTTP  net.Listener
	handler   atomic.Pointer[http.Handler] // of the HTTP edge

	mu      sync.Mutex // guards what follows, and orders changes of apps
	secrets secrets
	apps    map[string]bool // those with a NATS user

	failed    chan error
	undo      []func(context.Context) error // what Close does, last first
	closing   sync.Once
	closeErr  error
	endpoints sync.Mutex // orders WriteEndpoints and Close
	closed    bool       // guarded by endpoints
}

// Start locks the folder and starts everything but the workers: the listeners, Postgres with the newest schema, NATS with its streams, the
// keys, the inbox, and the app "demo" with its shop. ctx bounds the start, not the life of what was started. On an error nothing keeps running.
//
// The error is a *RunningError where the folder is in use, and wraps embedded.ErrNoPostgres where there is no Postgres to run.
func Start(ctx context.Context, cfg Config) (_ *Sandbox, err error) {
	s := &Sandbox{cfg: cfg, log: cmp.Or(cfg.Logger, slog.Default()), hashes: map[string]string{}, apps: map[string]bool{}, failed: make(chan error, 4)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, step := range []func(context.Context) error{
		s.openFolder, s.startListeners, s.startPostgres, s.migrate, s.startNATS, s.declare, s.watchApps, s.startShop,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// onClose adds what Close has to do. Later additions are done earlier.
func (s *Sandbox) onClose(f func(context.Context) error) { s.undo = append(s.undo, f) }

// openFolder makes and locks the folder, forgets what an earlier run told outside programs, and readies secrets and keys.
func (s *Sandbox) openFolder(context.Context) error {
	if err := s.makeFolder(); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	lock, err := embedded.LockDir(s.dir)
	if errors.Is(err, embedded.ErrInUse) {
		return &RunningError{Dir: s.shownDir(), PID: lockHolder(s.dir), err: err}
	}
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	s.onClose(func(context.Context) error { return errors.Join(s.removeEndpoints(), lock.Unlock()) })
	if s.cfg.Ephemeral {
		s.onClose(func(context.Context) error { return s.removeFolder() })
	}
	if err := s.removeEndpoints(); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if err := os.Mkdir(s.appsDir(), 0o700); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if s.secrets, err = loadSecrets(s.dir); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	_, err = keyring.Complete(s.keysDir()) // a folder of an older version has not all of them
	if errors.Is(err, keyring.ErrNoKeys) {
		err = keyring.Init(s.keysDir())
	}
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if s.keys, err = keyring.Load(s.keysDir(), keyring.Operator); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}

// makeFolder settles where the folder is. Root's is open to pass through, because Postgres runs as another user there.
func (s *Sandbox) makeFolder() error {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if s.cfg.Dir == "" && s.cfg.Ephemeral {
		made, err := os.MkdirTemp("", "otpost-")
		if err != nil {
			return err
		}
		s.cfg.Dir = made
	}
	dir, err := filepath.Abs(cmp.Or(s.cfg.Dir, defaultDir))
	if err != nil {
		return err
	}
	s.dir = dir
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	if s.cfg.Ephemeral {
		if _, err := os.Lstat(filepath.Join(dir, secretsName)); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s is the folder of a sandbox that is kept, and is not used for one that is removed at the end", dir), err)
		}
	}
	return os.Chmod(dir, mode)
}

// removeFolder removes what the sandbox put into the folder, and the folder itself unless somebody else put something there.
func (s *Sandbox) removeFolder() error {
	var errs []error
	for _, path := range []string{
		s.keysDir(), s.appsDir(), s.agentsDir(), s.lettersDir(), s.natsDir(), s.postgresDir(), s.shopFile(),
		s.ProvidersFile(), s.CallbacksFile(), filepath.Join(s.dir, secretsName), filepath.Join(s.dir, "lock"),
	} {
		errs = append(errs, os.RemoveAll(path))
	}
	if err := os.Remove(s.dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// shownDir is the folder as the caller named it.
func (s *Sandbox) shownDir() string { return cmp.Or(s.cfg.Dir, defaultDir) }
func (s *Sandbox) keysDir() string  { return filepath.Join(s.dir, "keys") }
func (s *Sandbox) appsDir() string  { return filepath.Join(s.dir, "apps") }
func (s *Sandbox) natsDir() string  { return filepath.Join(s.dir, "nats") }
func (s *Sandbox) shopFile() string { return filepath.Join(s.dir, "shop.json") }

func (s *Sandbox) agentsDir() string   { return filepath.Join(s.dir, "agents") }
func (s *Sandbox) lettersDir() string  { return filepath.Join(s.dir, "letters") }
func (s *Sandbox) postgresDir() string { return filepath.Join(s.dir, "postgres") }

// startPostgres finds the database.
func (s *Sandbox) startPostgres(ctx context.Context) error {
	if s.cfg.DatabaseURL != "" {
		s.ownerURL = s.cfg.DatabaseURL
		return nil
	}
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{
		Dir: s.postgresDir(), BinDir: s.cfg.PGBin, Durable: true, MaxConnections: postgresConnections, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.postgres = pg
	if s.cfg.Ephemeral {
		s.onClose(pg.Remove)
	} else {
		s.onClose(pg.Stop)
	}
	if err := pg.CreateDatabase(ctx, "otpost"); err != nil {
		return err
	}
	s.ownerURL = pg.OwnerURL("otpost")
	return nil
}

// Run waits until ctx ends, and returns nil, or until a part of the sandbox has ended by itself, and returns why.
func (s *Sandbox) Run(ctx context.Context) error {
	var ended <-chan struct{}
	if s.postgres != nil {
		ended = s.postgres.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return fmt.Errorf("sandbox: %w", err)
	case <-ended:
		if err := s.postgres.Wait(); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
		return errors.New("sandbox: Postgres was shut down by another")
	}
}

// Close stops all that Start started, in the opposite order, and removes what told outside programs of it. When ctx ends first, or half a
// minute has passed where it has no deadline, what is left is stopped at once; the next start recovers. A second call returns what the
// first one did.
func (s *Sandbox) Close(ctx context.Context) error {
	s.closing.Do(func() {
		if _, bounded := ctx.Deadline(); !bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, closeTimeout)
			defer cancel()
		}
		s.endpoints.Lock()
		s.closed = true
		s.endpoints.Unlock()
		var errs []error
		if len(s.undo) > 0 { // the folder is ours; nobody shall set out for what is going away
			errs = append(errs, s.removeEndpoints())
		}
		for i := len(s.undo) - 1; i >= 0; i-- {
			errs = append(errs, s.undo[i](ctx))
		}
		if err := errors.Join(errs...); err != nil {
			s.closeErr = fmt.Errorf("close sandbox: %w", err)
		}
	})
	return s.closeErr
}

// fail tells Run of a part that ended by itself.
func (s *Sandbox) fail(err error) {
	select {
	case s.failed <- err:
	default: // one failure is enough
	}
}

// oneLine keeps an error in its line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
