package embedded

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Names inside a cluster's directory. Only data, run and init-* are touched by Postgres' own account; they stand in home, which is the
// directory itself wherever that can be.
const (
	dataName     = "data"         // the data directory of Postgres
	runName      = "run"          // the socket's directory
	initPrefix   = "init-"        // a cluster that initdb is making
	passwordName = "password"     // the owner's password, mode 0600
	logName      = "postgres.log" // what Postgres writes to standard error
	locationName = "location"     // when home is elsewhere: its path
)

// ownerRole is the superuser of the cluster.
const ownerRole = "otpost_owner"

// A cluster is a Postgres cluster on disk: where it lies and as whom it runs.
type cluster struct {
	dir     string // the caller's directory: lock, password, log, location
	home    string // where data and run are; dir, or what the file location names
	binDir  string
	durable bool
	account *account
	logger  *slog.Logger
}

func (c *cluster) data() string            { return filepath.Join(c.home, dataName) }
func (c *cluster) program(n string) string { return filepath.Join(c.binDir, n) }

// prepareDir makes dir and returns its real path. As root the directory is open to pass through, since Postgres runs as another user;
// every file in it that matters has mode 0600.
func prepareDir(dir string) (string, error) {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(abs, mode); err != nil {
		return "", err
	}
	if os.Geteuid() == 0 {
		info, err := os.Stat(abs)
		if err != nil {
			return "", err
		}
		if err := os.Chmod(abs, info.Mode().Perm()|0o111); err != nil {
			return "", err
		}
	}
	return filepath.EvalSymlinks(abs)
}

// settle decides the account and the home of the cluster. The caller holds the lock of dir.
func (c *cluster) settle(ctx context.Context) error {
	location := filepath.Join(c.dir, locationName)
	text, err := os.ReadFile(location)
	switch {
	case err == nil:
		c.home = strings.TrimSpace(string(text))
		if _, err := os.Stat(c.home); err == nil {
			break
		} else if c.durable {
			return fmt.Errorf("the cluster that %s points to cannot be reached; remove that file to start with an empty one: %w", location, err)
		}
		c.home = c.dir // a throw-away cluster that was thrown away
	case errors.Is(err, fs.ErrNotExist):
		c.home = c.dir
	default:
		return err
	}

	if exists, err := c.adoptAccount(); err != nil || exists {
		return err
	}
	if c.account, err = serverAccount(); err != nil || c.account == nil {
		return err
	}
	if err := c.account.runTool(ctx, "/", c.program("postgres"), "--version"); err != nil {
		return fmt.Errorf("run %s as user %s: %w", c.program("postgres"), c.account.name, err)
	}
	if c.reachable(ctx, c.home) {
		return nil
	}
	return c.moveOut(ctx, location)
}

// adoptAccount takes the owner of an existing data directory as the account, since Postgres runs as no other.
func (c *cluster) adoptAccount() (exists bool, err error) {
	info, err := os.Lstat(c.data())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return false, fmt.Errorf("%s is not a data directory", c.data())
	}
	self := uint32(os.Geteuid())
	switch {
	case owner.Uid == self && self != 0:
	case self != 0:
		return false, fmt.Errorf("the cluster in %s belongs to user id %d: run as that user or as root", c.data(), owner.Uid)
	case owner.Uid == 0:
		return false, fmt.Errorf("the cluster in %s belongs to root, as whom Postgres does not run: chown it", c.data())
	default:
		c.account = &account{name: strconv.Itoa(int(owner.Uid)), uid: owner.Uid, gid: owner.Gid}
	}
	return true, nil
}

// reachable reports whether the account can pass through to dir. It tries, rather than to read modes, so that access lists, read-only and
// no-exec mounts count.
func (c *cluster) reachable(ctx context.Context, dir string) bool {
	return c.account.runTool(ctx, dir, c.program("postgres"), "--version") == nil
}

// moveOut gives a new cluster a home outside of dir, because a parent of dir (/root, most often) is closed to the account, and notes it in
// the file location. The name is derived from dir, so that a start that was killed before the note finds the same place.
func (c *cluster) moveOut(ctx context.Context, location string) error {
	digest := sha256.Sum256([]byte(c.dir))
	name := "otpost-" + hex.EncodeToString(digest[:8])
	bases := []string{"/var/lib"}
	if !c.durable {
		bases = []string{os.TempDir(), "/tmp", "/var/lib"}
	}
	var failed error
	for _, base := range bases {
		home := filepath.Join(base, name)
		if err := makeOwnDir(home); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if !c.reachable(ctx, home) {
			failed = errors.Join(failed, fmt.Errorf("user %s cannot reach %s", c.account.name, home), os.Remove(home))
			continue
		}
		if err := writeFileAtomically(location, home+"\n"); err != nil {
			return err
		}
		c.logger.Info("Postgres cannot run inside the directory, a parent of it is closed to its user; the data is elsewhere",
			"dir", c.dir, "data", home, "user", c.account.name)
		c.home = home
		return nil
	}
	return fmt.Errorf("user %s cannot reach %s, nor a place instead of it: %w", c.account.name, c.dir, failed)
}

// makeOwnDir makes a directory, or takes one that this user made before. In a folder where everyone may write, another's is refused.
func makeOwnDir(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s exists and is not ours", dir)
	}
	return os.Chmod(dir, 0o711) // whatever the umask took
}

// ensure makes the cluster when it is not there yet and returns the owner's password. A kill at any point leaves no cluster or a whole one.
func (c *cluster) ensure(ctx context.Context) (password string, err error) {
	// What a killed initdb left. An initdb that outlives otpost for an instant loses its ground and fails.
	leftovers, err := filepath.Glob(filepath.Join(globQuote(c.home), initPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return "", err
		}
	}
	_, err = os.Lstat(c.data())
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}

	path := filepath.Join(c.dir, passwordName)
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		password = strings.TrimSpace(string(text))
	case errors.Is(err, fs.ErrNotExist) && !exists:
		password = rand.Text()
		if err := writeFileAtomically(path, password+"\n"); err != nil {
			return "", fmt.Errorf("keep the owner's password: %w", err)
		}
	default:
		return "", fmt.Errorf("read the owner's password: %w", err)
	}
	if !exists {
		err = c.init(ctx, password)
	} else {
		err = c.matchBinaries()
	}
	return password, err
}

// init runs initdb in a directory beside the final one and renames the outcome.
func (c *cluster) init(ctx context.Context, password string) error {
	work, err := os.MkdirTemp(c.home, initPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	// initdb reads the password as the server's account, which cannot read the file in dir.
	passwordFile := filepath.Join(work, passwordName)
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	if err := errors.Join(c.account.own(passwordFile), c.account.own(work)); err != nil {
		return err
	}
	data := filepath.Join(work, dataName)
	args := []string{
		"--pgdata=" + data, "--username=" + ownerRole, "--pwfile=" + passwordFile,
		"--encoding=UTF8", "--locale=C", "--data-checksums",
		"--auth-local=scram-sha-256", "--auth-host=reject",
	}
	if !c.durable {
		args = append(args, "--no-sync")
	}
	if err := c.account.runTool(ctx, work, c.program("initdb"), args...); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := os.Rename(data, c.data()); err != nil {
		return err
	}
	return syncDir(c.home)
}

// matchBinaries makes binDir fit the major version that the cluster was made with: after an upgrade of the system the newest binaries may
// be too new for it, while the older ones are still installed beside them.
func (c *cluster) matchBinaries() error {
	text, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("read the cluster's version: %w", err)
	}
	made := strings.TrimSpace(string(text))
	have, err := postgresMajor(c.binDir)
	if err != nil {
		return fmt.Errorf("%w (%s: %w)", ErrNoPostgres, c.binDir, err)
	}
	if made == strconv.Itoa(have) {
		return nil
	}
	for _, dir := range debianBinDirs() {
		if major, err := postgresMajor(dir); err == nil && made == strconv.Itoa(major) {
			c.logger.Warn("Postgres cluster was made by another version, which is used", "version", made, "newest", have)
			c.binDir = dir
			return nil
		}
	}
	return fmt.Errorf("the cluster in %s was made by Postgres %s and the binaries in %s are version %d: "+
		"install Postgres %s or move the cluster with pg_upgrade", c.data(), made, c.binDir, have, made)
}

// remove deletes all that this package wrote, save for the lock file in dir.
func (c *cluster) remove() error {
	errs := []error{os.RemoveAll(c.data()), os.RemoveAll(filepath.Join(c.home, runName))}
	if c.home != c.dir {
		errs = append(errs, os.RemoveAll(c.home))
	}
	for _, name := range []string{passwordName, logName, logName + ".1", locationName} {
		errs = append(errs, os.RemoveAll(filepath.Join(c.dir, name)))
	}
	return errors.Join(errs...)
}

// writeFileAtomically leaves the old file or the whole new one, mode 0600, whenever the machine stops.
func writeFileAtomically(path, text string) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// globQuote keeps filepath.Glob from reading a pattern in a directory's name.
func globQuote(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}
