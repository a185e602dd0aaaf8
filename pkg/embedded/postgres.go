package embedded

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

const (
	// startTimeout bounds a start whose context has no deadline. Recovery after a power cut is the long part.
	startTimeout = 2 * time.Minute
	// pingInterval is the pause between two questions whether Postgres is ready.
	pingInterval = 10 * time.Millisecond
	// quitTimeout is how long Postgres has for an immediate shutdown (SIGQUIT) before it is killed. It kills its own children after 5 s.
	quitTimeout = 10 * time.Second
	// maxLogSize in bytes is where a start puts the log aside as postgres.log.1.
	maxLogSize = 16 << 20
)

// A Postgres is a running private server, reached only through a unix socket in a directory of mode 0700 and by password.
// Its methods may be called at the same time.
type Postgres struct {
	cluster       *cluster
	locks         []*DirLock
	password      string
	socketDir     string
	privateSocket bool
	log           *os.File
	logStart      int64 // where this run's part of the log begins
	server        *child

	mu       sync.Mutex // held through Stop and Remove, so that a second caller waits for the first
	released bool
}

// StartPostgres starts Postgres on the cluster in cfg.Dir, which it makes first when there is none: superuser otpost_owner with a random
// password, encoding UTF8, locale C, SCRAM-SHA-256 over the socket and no TCP. It returns when the server answers; ctx bounds the start
// (two minutes when it has no deadline), not the life of the server. What a killed process left behind is cleared: a stale
// postmaster.pid, or a server that still runs on the same data, which is shut down.
//
// Started by root, the server runs as the user postgres, else nobody, and where a parent of Dir is closed to that user the data lies
// under /var/lib (under the temporary directory when not Durable); the file location in Dir names the place.
//
// On Linux the server shuts itself down when this process dies, however it dies.
//
// The error wraps ErrInUse when another process runs the cluster and ErrNoPostgres when there are no binaries; when Postgres fails to
// start it ends with the last lines of its log.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (_ *Postgres, err error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	p := &Postgres{cluster: &cluster{
		binDir: cfg.BinDir, durable: cfg.Durable, logger: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
	}}
	if err := p.prepare(ctx, cfg.Dir); err != nil {
		return nil, fmt.Errorf("prepare postgres in %s: %w", cfg.Dir, errors.Join(err, p.release()))
	}
	if err := p.start(ctx, cfg); err != nil {
		return nil, fmt.Errorf("start postgres in %s: %w", cfg.Dir, errors.Join(err, p.release()))
	}
	return p, nil
}

// prepare brings the cluster on disk into a state from which it can be started, and takes the locks.
func (p *Postgres) prepare(ctx context.Context, dir string) (err error) {
	c := p.cluster
	if c.dir, err = prepareDir(dir); err != nil {
		return err
	}
	if err := p.lock(c.dir); err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	// A copied Dir points to the same home, which therefore needs a lock of its own.
	if c.home != c.dir {
		if err := p.lock(c.home); err != nil {
			return err
		}
	}
	if p.password, err = c.ensure(ctx); err != nil {
		return err
	}
	if err := c.clearLeftovers(ctx); err != nil {
		return err
	}
	if p.socketDir, p.privateSocket, err = c.makeSocketDir(ctx); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	return p.openLog()
}

func (p *Postgres) lock(dir string) error {
	lock, err := LockDir(dir)
	if err == nil {
		p.locks = append(p.locks, lock)
	}
	return err
}

func (p *Postgres) openLog() error {
	path := filepath.Join(p.cluster.dir, logName)
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogSize {
		if err := os.Rename(path, path+".1"); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	p.log = file
	return nil
}

// start runs the postmaster until it answers. After a postmaster was killed its children may hold the shared memory for an instant more;
// that alone is tried again.
func (p *Postgres) start(ctx context.Context, cfg PostgresConfig) error {
	c := p.cluster
	for {
		info, err := p.log.Stat()
		if err != nil {
			return err
		}
		p.logStart = info.Size()
		cmd := c.account.command(context.WithoutCancel(ctx), c.home, syscall.SIGINT, c.program("postgres"), cfg.arguments(c.data(), p.socketDir)...)
		cmd.Stdout, cmd.Stderr = p.log, p.log
		if p.server, err = startChild(cmd); err != nil {
			return err
		}
		err = p.awaitReady(ctx)
		if err == nil {
			return nil
		}
		_ = p.shutdown(cancelled())
		if !strings.Contains(p.logTail(), "pre-existing shared memory block") {
			return err
		}
		select {
		case <-time.After(10 * pingInterval):
		case <-ctx.Done():
			return err
		}
	}
}

// awaitReady returns when the server answers a query's connection.
func (p *Postgres) awaitReady(ctx context.Context) error {
	db, err := sql.Open("postgres", p.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		if pq.As(err, pqerror.InvalidPassword) != nil {
			return fmt.Errorf("the cluster does not take the password in %s: %w", filepath.Join(p.cluster.dir, passwordName), err)
		}
		select {
		case <-p.server.done:
			return p.exitError()
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w (%w)%s", ctx.Err(), err, quoteTail(p.logTail()))
		case <-tick.C:
		}
	}
}

// URL is a connection URL for a database of this server, for lib/pq and for libpq: postgres:// with the socket's directory as host.
func (p *Postgres) URL(database, user, password string) string {
	query := url.Values{"host": {p.socketDir}, "port": {socketPort}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// OwnerURL is the connection URL of the superuser otpost_owner. It holds the password: it is for connecting, never for a log.
func (p *Postgres) OwnerURL(database string) string { return p.URL(database, ownerRole, p.password) }

// CreateDatabase makes the database name (1 to 63 bytes, any characters but NUL) unless it is there.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) error {
	if len(name) == 0 || len(name) > 63 {
		return fmt.Errorf("create database: name %q is not 1 to 63 bytes long", name)
	}
	db, err := sql.Open("postgres", p.OwnerURL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer db.Close()
	// Asked first, so that every later start does not leave an error in the log.
	var exists bool
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return fmt.Errorf("look for database %s: %w", name, err)
	}
	if exists {
		return nil
	}
	_, err = db.ExecContext(ctx, "CREATE DATABASE "+pq.QuoteIdentifier(name))
	// Of two that create it at once, one meets the name check or the unique index.
	if err != nil && pq.As(err, pqerror.DuplicateDatabase, pqerror.UniqueViolation) == nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// Done is closed when the server has ended, by Stop or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.server.done }

// Wait blocks until the server has ended and returns nil when it shut down in order, else its exit status with the last lines of its log.
func (p *Postgres) Wait() error {
	<-p.server.done
	if p.server.err == nil {
		return nil
	}
	return p.exitError()
}

// Stop shuts the server down (fast: sessions are cut, what is committed is safe) and waits for its end; when ctx ends first, at once
// (SIGQUIT; the next start recovers). It then gives the directory free. The error tells an end that was not in order. A second call
// does nothing.
func (p *Postgres) Stop(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return nil
	}
	if err := errors.Join(p.shutdown(ctx), p.release()); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return nil
}

// Remove stops the server and deletes the cluster, wherever its data lies; of Dir it leaves the lock file. It is for throw-away clusters
// and instead of Stop, not after it.
func (p *Postgres) Remove(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return errors.New("remove postgres: stopped before, so the directory may be another's by now")
	}
	if err := errors.Join(p.shutdown(ctx), p.cluster.remove(), p.release()); err != nil {
		return fmt.Errorf("remove postgres: %w", err)
	}
	return nil
}

// shutdown ends the process, in order until ctx ends and by force from then on. The error also tells of an earlier end out of order.
func (p *Postgres) shutdown(ctx context.Context) error {
	process := p.server.cmd.Process
	_ = process.Signal(syscall.SIGINT) // an error means that it has ended, which comes next
	select {
	case <-p.server.done:
		return p.Wait()
	case <-ctx.Done():
	}
	_ = process.Signal(syscall.SIGQUIT)
	select {
	case <-p.server.done:
	case <-time.After(quitTimeout):
		_ = process.Kill()
		<-p.server.done
	}
	return errors.Join(fmt.Errorf("not down in time: %w", ctx.Err()), p.Wait())
}

// release gives free what prepare took.
func (p *Postgres) release() error {
	if p.released {
		return nil
	}
	p.released = true
	if p.privateSocket {
		removePrivateSocketDir(p.socketDir)
	}
	var errs []error
	if p.log != nil {
		errs = append(errs, p.log.Close())
	}
	for _, lock := range p.locks {
		errs = append(errs, lock.Unlock())
	}
	return errors.Join(errs...)
}

// exitError describes the end of a server that was not asked to end.
func (p *Postgres) exitError() error {
	err := p.server.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("postgres ended: %w%s", err, quoteTail(p.logTail()))
}

// logTail returns the end of this run's part of the log, at most 16 KiB. The log may be closed by now, so it is opened by its name.
func (p *Postgres) logTail() string {
	file, err := os.Open(filepath.Join(p.cluster.dir, logName))
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	text, _ := io.ReadAll(io.NewSectionReader(file, max(p.logStart, info.Size()-16<<10), 16<<10))
	return string(text)
}

// cancelled returns a context that has ended: shutdown then does not wait.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
