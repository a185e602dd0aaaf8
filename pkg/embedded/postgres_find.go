package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoPostgres means that no usable Postgres server binaries were found. Its message is one line that says what to do.
var ErrNoPostgres = errors.New("Postgres binaries not found: run scripts/setup or apt-get install postgresql, or set PG_BIN")

// minPostgresMajor is the oldest major version of Postgres that otpost is made for.
const minPostgresMajor = 13

// debianPostgresDir is where Debian and its kin put server binaries, one folder a major version, outside of PATH.
const debianPostgresDir = "/usr/lib/postgresql"

// versionTimeout bounds `postgres --version` and `pg_config --bindir`, which take milliseconds unless a file system hangs.
const versionTimeout = 10 * time.Second

// FindPostgres returns the directory that holds initdb, postgres and pg_ctl of Postgres 13 or later. It looks at pgBin (the value of
// PG_BIN) and, when that is empty, in PATH, in what `pg_config --bindir` says, and in Debian's /usr/lib/postgresql, newest version first.
// A pgBin that does not serve is an error, never a reason to take another. The error wraps ErrNoPostgres and is one line.
func FindPostgres(pgBin string) (binDir string, err error) {
	if pgBin != "" {
		abs, err := filepath.Abs(pgBin)
		if err != nil {
			return "", fmt.Errorf("PG_BIN: %w", err)
		}
		if _, err := postgresMajor(abs); err != nil {
			return "", fmt.Errorf("%w (PG_BIN is %s: %w)", ErrNoPostgres, pgBin, err)
		}
		return abs, nil
	}
	var rejected error
	for _, dir := range postgresCandidates() {
		if _, err := postgresMajor(dir); err == nil {
			return dir, nil
		} else if rejected == nil && !errors.Is(err, os.ErrNotExist) {
			rejected = fmt.Errorf("%s: %w", dir, err)
		}
	}
	if rejected != nil {
		return "", fmt.Errorf("%w (%w)", ErrNoPostgres, rejected)
	}
	return "", ErrNoPostgres
}

// postgresCandidates lists directories to try, best first.
func postgresCandidates() []string {
	var dirs []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		// A relative entry of PATH means another directory after every cd; os/exec refuses it too.
		if !filepath.IsAbs(dir) {
			continue
		}
		postgres := filepath.Join(dir, "postgres")
		if !isExecutable(postgres) {
			continue
		}
		// postgres and initdb look for each other beside the real file, so a folder of links stands for the folder linked to.
		if real, err := filepath.EvalSymlinks(postgres); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
		dirs = append(dirs, dir)
	}
	if dir := pgConfigBinDir(); dir != "" {
		dirs = append(dirs, dir)
	}
	return append(dirs, debianBinDirs()...)
}

func pgConfigBinDir() string {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// debianBinDirs lists /usr/lib/postgresql/*/bin, newest version first (9 is older than 10, so not by name).
func debianBinDirs() []string {
	dirs, err := filepath.Glob(filepath.Join(debianPostgresDir, "*", "bin"))
	if err != nil {
		return nil
	}
	version := func(dir string) float64 {
		v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(dir)), 64)
		return v
	}
	slices.SortFunc(dirs, func(a, b string) int {
		switch va, vb := version(a), version(b); {
		case va > vb:
			return -1
		case va < vb:
			return 1
		}
		return strings.Compare(a, b)
	})
	return dirs
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// postgresMajor returns the major version of the server in binDir after checking that the programs which are needed are there and that
// postgres runs. The error wraps os.ErrNotExist when one is missing.
func postgresMajor(binDir string) (int, error) {
	for _, name := range []string{"initdb", "postgres", "pg_ctl"} {
		if !isExecutable(filepath.Join(binDir, name)) {
			return 0, fmt.Errorf("no program %s there: %w", name, os.ErrNotExist)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(binDir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("postgres --version: %w", err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("postgres --version says %q", strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0, fmt.Errorf("version of postgres: %w", err)
	}
	if major < minPostgresMajor {
		return 0, fmt.Errorf("version %d is older than %d", major, minPostgresMajor)
	}
	return major, nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
