package embedded

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startHelperDir, when set, makes the test binary an `otpost up` that only runs Postgres there, tells its postmaster's id and waits to be
// killed.
const startHelperDir = "OTPOST_TEST_START_POSTGRES_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(startHelperDir); dir != "" {
		p, err := StartPostgres(context.Background(), PostgresConfig{Dir: dir, BinDir: os.Getenv("PG_BIN")})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(p.server.cmd.Process.Pid)
		p.Wait()
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestPostgresAnswersAndKeepsData(t *testing.T) {
	cfg := postgresConfig(t)
	p := startPostgres(t, cfg)
	if err := p.CreateDatabase(t.Context(), `shop "7"`); err != nil {
		t.Fatal(err)
	}
	if err := p.CreateDatabase(t.Context(), `shop "7"`); err != nil {
		t.Fatalf("second CreateDatabase: %v", err)
	}
	exec1(t, p, `shop "7"`, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
	for setting, want := range map[string]string{
		"listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "server_encoding": "UTF8",
		"max_connections": "33", "work_mem": "5MB", "password_encryption": "scram-sha-256",
	} {
		if got := query(t, p, "postgres", "SELECT current_setting($1)", setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	pid := p.server.cmd.Process.Pid
	stopPostgres(t, p)
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("postmaster %d after Stop: %v", pid, err)
	}

	cfg.Durable = true
	p = startPostgres(t, cfg)
	if got := query(t, p, `shop "7"`, "SELECT n FROM kept"); got != "42" {
		t.Errorf("after a restart the table holds %q", got)
	}
	if got := query(t, p, "postgres", "SELECT current_setting('fsync')"); got != "on" {
		t.Errorf("fsync of a durable cluster is %q", got)
	}
}

func TestPostgresWantsThePassword(t *testing.T) {
	p := startPostgres(t, postgresConfig(t))
	db, err := sql.Open("postgres", p.URL("postgres", ownerRole, "wrong"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("ping with a wrong password: %v", err)
	}
	for path, want := range map[string]os.FileMode{
		p.socketDir:      0o700,
		p.cluster.data(): 0o700,
		filepath.Join(p.cluster.dir, passwordName): 0o600,
		filepath.Join(p.cluster.dir, logName):      0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("mode of %s is %o, want %o", path, info.Mode().Perm(), want)
		}
	}
}

func TestStopEndsEveryProcess(t *testing.T) {
	p := startPostgres(t, postgresConfig(t))
	// A session in the middle of a statement must not keep the server.
	db, err := sql.Open("postgres", p.OwnerURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cut := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(context.Background(), "SELECT pg_sleep(600)")
		cut <- err
	}()
	waitFor(t, "the statement to run", func() bool {
		return query(t, p, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") == "1"
	})
	children := childrenOf(t, p.server.cmd.Process.Pid)
	if len(children) == 0 {
		t.Fatal("found no child processes of the postmaster")
	}
	stopPostgres(t, p)
	if err := <-cut; err == nil {
		t.Error("the running statement was not cut")
	}
	for _, pid := range children {
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("child %d is there after Stop: %v", pid, err)
		}
	}
	select {
	case <-p.Done():
	default:
		t.Error("Done is not closed after Stop")
	}
}

func TestStopAtDeadlineIsImmediate(t *testing.T) {
	cfg := postgresConfig(t)
	cfg.Durable = true
	p := startPostgres(t, cfg)
	exec1(t, p, "postgres", "CREATE TABLE kept AS SELECT 7 AS n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop past its deadline: %v", err)
	}
	if log := p.logTail(); !strings.Contains(log, "received immediate shutdown request") {
		t.Errorf("the log says nothing of an immediate shutdown:\n%s", log)
	}
	p = startPostgres(t, cfg)
	if got := query(t, p, "postgres", "SELECT n FROM kept"); got != "7" {
		t.Errorf("after recovery the table holds %q", got)
	}
}

func TestSecondHolderIsRefused(t *testing.T) {
	cfg := postgresConfig(t)
	p := startPostgres(t, cfg)
	_, err := StartPostgres(t.Context(), cfg)
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("second start: %v, want ErrInUse", err)
	}
	if !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("%q does not name the holder", err)
	}
	if got := query(t, p, "postgres", "SELECT 1"); got != "1" {
		t.Error("the first holder lost its server")
	}
	stopPostgres(t, p)
	startPostgres(t, cfg)
}

func TestOrphanOfThisProcessIsStopped(t *testing.T) {
	cfg := postgresConfig(t)
	orphan := startPostgres(t, cfg)
	exec1(t, orphan, "postgres", "CREATE TABLE kept AS SELECT 7 AS n")
	for _, lock := range orphan.locks { // as the kernel does when the holder dies
		if err := lock.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	p := startPostgres(t, cfg)
	select {
	case <-orphan.Done():
	default:
		t.Error("the orphan still runs")
	}
	if got := query(t, p, "postgres", "SELECT n FROM kept"); got != "7" {
		t.Errorf("the table holds %q", got)
	}
}

func TestStartAfterKilledParent(t *testing.T) {
	cfg := postgresConfig(t)
	postmaster := startInKilledProcess(t, cfg)
	// At once, while the orphan is yet shutting down.
	p := startPostgres(t, cfg)
	if p.cluster.isPostmaster(postmaster) {
		t.Errorf("postmaster %d outlived its killed parent and the next start", postmaster)
	}
	query(t, p, "postgres", "SELECT 1")
}

func TestServerEndsWithItsKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child of its parent's death")
	}
	cfg := postgresConfig(t)
	postmaster := startInKilledProcess(t, cfg)
	waitFor(t, "the postmaster to end", func() bool { return commandLine(postmaster) == nil })
	if _, err := os.Stat(filepath.Join(cfg.Dir, dataName, "postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("it did not end in order, postmaster.pid is left: %v", err)
	}
}

// startInKilledProcess starts Postgres in another process, kills that with SIGKILL and returns the postmaster's id.
func startInKilledProcess(t *testing.T, cfg PostgresConfig) (postmaster int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), startHelperDir+"="+cfg.Dir, "PG_BIN="+cfg.BinDir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(out).ReadString('\n')
	cmd.Process.Kill()
	cmd.Wait()
	postmaster, err = strconv.Atoi(strings.TrimSpace(line))
	if readErr != nil || err != nil {
		t.Fatalf("helper said %q (%v)", line, readErr)
	}
	return postmaster
}

func TestKilledPostmaster(t *testing.T) {
	cfg := postgresConfig(t)
	p := startPostgres(t, cfg)
	if err := p.server.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Wait after a kill: %v", err)
	}
	if err := p.Stop(t.Context()); err == nil {
		t.Error("Stop after a kill is silent about it")
	}

	// The id in postmaster.pid may have become any other process's.
	path := filepath.Join(p.cluster.data(), "postmaster.pid")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bystander := exec.Command("sleep", "600")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bystander.Process.Kill(); bystander.Wait() })
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n%s", bystander.Process.Pid, rest), 0o600); err != nil {
		t.Fatal(err)
	}
	startPostgres(t, cfg)
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the bystander was ended: %v", err)
	}
}

func TestLongPathHasPrivateSocket(t *testing.T) {
	cfg := postgresConfig(t)
	cfg.Dir = filepath.Join(cfg.Dir, strings.Repeat("long", 20), "a,b")
	p := startPostgres(t, cfg)
	if p.cluster.home != p.cluster.dir || strings.HasPrefix(p.socketDir, p.cluster.dir) {
		t.Errorf("data is in %s, socket in %s", p.cluster.home, p.socketDir)
	}
	if info, err := os.Stat(p.socketDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("socket's directory: %v, %v", info, err)
	}
	query(t, p, "postgres", "SELECT 1")
	stopPostgres(t, p)
	if _, err := os.Stat(p.socketDir); !os.IsNotExist(err) {
		t.Errorf("the private directory after Stop: %v", err)
	}
}

func TestClosedParent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs Postgres as another user")
	}
	cfg := postgresConfig(t)
	closed := filepath.Join(cfg.Dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = filepath.Join(closed, "postgres")
	p := startPostgres(t, cfg)
	home := p.cluster.home
	if home == p.cluster.dir {
		t.Fatal("the data is behind a parent closed to its user")
	}
	exec1(t, p, "postgres", "CREATE TABLE kept AS SELECT 7 AS n")
	stopPostgres(t, p)

	p, err := StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, p, "postgres", "SELECT n FROM kept"); got != "7" || p.cluster.home != home {
		t.Errorf("second start found %q in %s, the first was in %s", got, p.cluster.home, home)
	}
	if err := p.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("%s after Remove: %v", home, err)
	}
	left, err := os.ReadDir(cfg.Dir)
	if err != nil || len(left) != 1 || left[0].Name() != lockFile {
		t.Errorf("after Remove the directory holds %v (%v)", left, err)
	}
}

func TestInterruptedInitLeavesCleanState(t *testing.T) {
	cfg := postgresConfig(t)
	half := filepath.Join(cfg.Dir, initPrefix+"1", dataName)
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		// initdb makes this directory first and fills it for some hundred milliseconds.
		for ctx.Err() == nil {
			if begun, _ := filepath.Glob(filepath.Join(cfg.Dir, initPrefix+"*", dataName, "base")); len(begun) != 0 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if p, err := StartPostgres(ctx, cfg); err == nil {
		p.Remove(t.Context())
		t.Fatal("a start that was cut short reports success")
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, passwordName)); err != nil {
		t.Errorf("the start was cut before initdb: %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, dataName)); !os.IsNotExist(err) {
		t.Errorf("data directory after an interrupted initdb: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, initPrefix+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	startPostgres(t, cfg)
}

func TestFailedStartQuotesTheLog(t *testing.T) {
	cfg := postgresConfig(t)
	cfg.Settings = map[string]string{"no_such_setting": "1"}
	_, err := StartPostgres(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("start with a wrong setting: %v", err)
	}
	cfg.Settings = map[string]string{"Listen_Addresses": "*"}
	if _, err := StartPostgres(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "not free") {
		t.Errorf("start with a setting that opens the network: %v", err)
	}
	cfg.Settings = nil
	startPostgres(t, cfg)
}

func TestFindPostgres(t *testing.T) {
	real, err := FindPostgres(os.Getenv("PG_BIN"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a folder of links in PATH", func(t *testing.T) {
		links := t.TempDir()
		for _, name := range []string{"initdb", "postgres", "pg_ctl"} {
			if err := os.Symlink(filepath.Join(real, name), filepath.Join(links, name)); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", links)
		resolved, _ := filepath.EvalSymlinks(filepath.Join(real, "postgres"))
		if got, err := FindPostgres(""); err != nil || got != filepath.Dir(resolved) {
			t.Errorf("found %s (%v), want %s", got, err, filepath.Dir(resolved))
		}
	})
	t.Run("pg_config", func(t *testing.T) {
		bin := t.TempDir()
		script := "#!/bin/sh\n[ \"$1\" = --bindir ] && echo " + real + "\n"
		if err := os.WriteFile(filepath.Join(bin, "pg_config"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin)
		if got, err := FindPostgres(""); err != nil || got != real {
			t.Errorf("found %s (%v), want %s", got, err, real)
		}
	})
	t.Run("PG_BIN rules", func(t *testing.T) {
		_, err := FindPostgres(t.TempDir())
		if !errors.Is(err, ErrNoPostgres) || strings.Contains(err.Error(), "\n") {
			t.Errorf("an empty PG_BIN directory: %v", err)
		}
	})
	t.Run("too old", func(t *testing.T) {
		bin := t.TempDir()
		for _, name := range []string{"initdb", "postgres", "pg_ctl"} {
			script := "#!/bin/sh\necho 'postgres (PostgreSQL) 12.22'\n"
			if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := FindPostgres(bin); !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), "older than 13") {
			t.Errorf("version 12: %v", err)
		}
	})
}

// postgresConfig returns a config for a throw-away cluster in a directory that the server's account can reach also when root runs the test.
func postgresConfig(t *testing.T) PostgresConfig {
	t.Helper()
	binDir, err := FindPostgres(os.Getenv("PG_BIN"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "otpost-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return PostgresConfig{Dir: dir, BinDir: binDir, MaxConnections: 33, Settings: map[string]string{"work_mem": "5MB"}}
}

func startPostgres(t *testing.T, cfg PostgresConfig) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		p.Stop(ctx)
	})
	return p
}

func stopPostgres(t *testing.T, p *Postgres) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func exec1(t *testing.T, p *Postgres, database, statement string) {
	t.Helper()
	db, err := sql.Open("postgres", p.OwnerURL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, p *Postgres, database, statement string, args ...any) (value string) {
	t.Helper()
	db, err := sql.Open("postgres", p.OwnerURL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), statement, args...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func childrenOf(t *testing.T, parent int) (pids []int) {
	t.Helper()
	out, err := exec.Command("ps", "-e", "-o", "pid=,ppid=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var pid, ppid int
		if _, err := fmt.Sscan(line, &pid, &ppid); err == nil && ppid == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
