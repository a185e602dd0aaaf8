//go:build unguarded

package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/embedded"
)

// TestUnguardedStatements holds that every guarded statement has one without its guard, and that Postgres takes it for the same parameters: a race test
// that fails because a statement is malformed shows nothing.
func TestUnguardedStatements(t *testing.T) {
	names := guardedNames(t)
	if len(names) == 0 {
		t.Fatal("no statement is guarded")
	}
	db := migrated(t)
	for _, name := range names {
		for _, n := range []string{name, name + "_unguarded"} {
			text, ok := queries[n]
			if !ok {
				t.Errorf("there is no statement %s", n)
				continue
			}
			stmt, err := db.x.PreparexContext(t.Context(), text)
			if err != nil {
				t.Errorf("%s: %v", n, err)
				continue
			}
			if err := stmt.Close(); err != nil {
				t.Errorf("%s: close: %v", n, err)
			}
		}
	}
}

// guardedNames are the names that this package's code gives to guarded.
func guardedNames(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`\bguarded\("([a-z_]+)"\)`)
	var names []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// migrated returns the owner's pool to a database of the newest form, on a private server.
func migrated(t *testing.T) *DB {
	t.Helper()
	server, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: filepath.Join(t.TempDir(), "pg"), BinDir: os.Getenv("PG_BIN")})
	if err != nil {
		t.Fatal(err)
	}
	var db *DB
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var closed error
		if db != nil {
			closed = db.Close()
		}
		if err := errors.Join(closed, server.Remove(ctx)); err != nil {
			t.Error(err)
		}
	})
	if err := server.CreateDatabase(t.Context(), "otpost"); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(server.OwnerURL("otpost"), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}
