package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	// socketPort only names the socket; nothing listens on TCP.
	socketPort = "5432"
	socketName = ".s.PGSQL." + socketPort
	// privateSocketPrefix begins the name of a socket's directory outside of the cluster's.
	privateSocketPrefix = "otpost-pg-"
)

// maxSocketPath is the longest path of a unix socket in bytes: sun_path less its closing zero, 107 on Linux.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// socketFits reports whether a socket in dir can be bound and named: not too long for sun_path, and without the comma that separates hosts
// in a connection URL.
func socketFits(dir string) bool {
	return len(filepath.Join(dir, socketName)) <= maxSocketPath && !strings.Contains(dir, ",")
}

// makeSocketDir makes an empty directory of mode 0700 for the socket: run in the cluster's home, or a private one under the temporary
// directory when the path would be too long. private tells that it is the latter.
func (c *cluster) makeSocketDir(ctx context.Context) (dir string, private bool, err error) {
	dir = filepath.Join(c.home, runName)
	// A socket's lock file with the id of a process that is long gone, or is now another's, would stop Postgres.
	if err := os.RemoveAll(dir); err != nil {
		return "", false, err
	}
	if socketFits(dir) {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", false, err
		}
		return dir, false, c.account.own(dir)
	}
	for _, base := range []string{os.TempDir(), "/tmp"} {
		if !socketFits(filepath.Join(base, privateSocketPrefix+"0123456789")) || c.account != nil && !c.reachable(ctx, base) {
			continue
		}
		if dir, err = os.MkdirTemp(base, privateSocketPrefix); err != nil {
			continue
		}
		return dir, true, c.account.own(dir)
	}
	if err == nil {
		err = fmt.Errorf("the temporary directory %s does not serve", os.TempDir())
	}
	return "", false, fmt.Errorf("no place for the socket, %s is too long for one: %w", c.home, err)
}

// clearLeftovers deals with what a killed process left: a postmaster that still runs on this data directory is stopped, the id of one that
// is gone does not stop the next. The caller holds the lock, so no other otpost uses the cluster.
func (c *cluster) clearLeftovers(ctx context.Context) error {
	path := filepath.Join(c.data(), "postmaster.pid")
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// The lines of postmaster.pid: process id, data directory, start time, port, socket directory, … (miscadmin.h of Postgres).
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 {
		return nil //nolint:nilerr // Postgres judges such a file itself
	}
	if c.isPostmaster(pid) {
		c.logger.Warn("stopping a Postgres that an earlier process left running", "pid", pid, "data", c.data())
		if err := c.stopOrphan(ctx, pid); err != nil {
			return fmt.Errorf("stop the Postgres left running as process %d: %w", pid, err)
		}
	} else if syscall.Kill(pid, 0) != syscall.ESRCH {
		// The id now is another program's, as is common in containers, where ids are small, and Postgres would refuse to start. It does
		// start when the id is its parent's. The file stays, because Postgres reads from it which shared memory to find unused: its
		// guard against children that outlive a killed postmaster.
		lines[0] = strconv.Itoa(os.Getpid())
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			return fmt.Errorf("take over stale postmaster.pid: %w", err)
		}
	}
	if len(lines) > 4 {
		removePrivateSocketDir(lines[4])
	}
	return nil
}

// isPostmaster reports whether the process is a postgres started on this data directory.
func (c *cluster) isPostmaster(pid int) bool {
	args := commandLine(pid)
	if len(args) < 2 || filepath.Base(args[0]) != "postgres" {
		return false
	}
	for _, arg := range args[1:] {
		if arg == c.data() || strings.HasPrefix(arg, "-D "+c.data()+" ") {
			return true
		}
	}
	return false
}

// stopOrphan stops a postmaster that is not our child: fast, and when that does not end it in 30 seconds, at once.
func (c *cluster) stopOrphan(ctx context.Context, pid int) (err error) {
	for _, mode := range [][]string{{"fast", "30"}, {"immediate", "15"}} {
		err = c.account.runTool(ctx, c.home, c.program("pg_ctl"),
			"stop", "--pgdata="+c.data(), "--mode="+mode[0], "--wait", "--timeout="+mode[1], "--silent")
		// It may have been ending already, and be gone before pg_ctl looked.
		if err == nil || !c.isPostmaster(pid) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// removePrivateSocketDir removes a directory that makeSocketDir made outside of the cluster. It removes no more than a socket's own files:
// the name comes from a file that Postgres' account may write, and this process may be root.
func removePrivateSocketDir(dir string) {
	if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), privateSocketPrefix) {
		return
	}
	for _, name := range []string{socketName, socketName + ".lock", ""} {
		os.Remove(filepath.Join(dir, name))
	}
}
