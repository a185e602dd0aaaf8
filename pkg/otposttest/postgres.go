package otposttest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/embedded"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// Owner is the role that owns the schema, beside those of postgres.Roles.
const Owner = "owner"

const (
	templateName = "otpost_template"
	ownerRole    = "otpost_owner"
	// poolSize is small on purpose: work that takes a second connection while it holds one is found out.
	poolSize = 8
)

// A DB is a database of one test, with the schema and with partitions for yesterday to the day after tomorrow.
type DB struct {
	cluster *cluster
	name    string

	mu    sync.Mutex
	pools map[string]*postgres.DB
	raw   map[string]*sql.DB
}

// A cluster is a running Postgres with a migrated template.
type cluster struct {
	cfg    embedded.PostgresConfig
	server *embedded.Postgres
	binDir string
	own    bool // of one test, which may stop it
}

var shared struct {
	once    sync.Once
	cluster *cluster
	err     error
	made    atomic.Int64 // databases and clusters, for their names
}

// Postgres returns a database of its own for a test, dropped at the test's end. All tests of a binary share one cluster, which the first starts.
func Postgres(t testing.TB) *DB {
	t.Helper()
	dir := binaryDir(t)
	shared.once.Do(func() {
		shared.cluster, shared.err = startCluster(context.Background(), filepath.Join(dir, "pg"))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster.database(t)
}

// OwnPostgres returns a database in a cluster of the test's own, which the test may restart.
func OwnPostgres(t testing.TB) *DB {
	t.Helper()
	c, err := startCluster(t.Context(), filepath.Join(binaryDir(t), fmt.Sprintf("own%d", shared.made.Add(1))))
	if err != nil {
		t.Fatal(err)
	}
	c.own = true
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := c.server.Remove(ctx); err != nil {
			t.Errorf("%v", err)
		}
	})
	return c.database(t)
}

func startCluster(ctx context.Context, dir string) (*cluster, error) {
	bin, err := embedded.FindPostgres(os.Getenv("PG_BIN"))
	if err != nil {
		return nil, err
	}
	c := &cluster{binDir: bin, cfg: embedded.PostgresConfig{
		Dir: dir, BinDir: bin, MaxConnections: 200,
		// autovacuum would hold the template at times, and nothing here lives long enough to need it
		Settings: map[string]string{"autovacuum": "off", "shared_buffers": "64MB", "deadlock_timeout": "200ms"},
	}}
	if c.server, err = embedded.StartPostgres(ctx, c.cfg); err != nil {
		return nil, err
	}
	if err := c.makeTemplate(ctx); err != nil {
		return nil, fmt.Errorf("make the template database: %w", err)
	}
	return c, nil
}

func (c *cluster) makeTemplate(ctx context.Context) error {
	if err := c.server.CreateDatabase(ctx, templateName); err != nil {
		return err
	}
	db, err := postgres.Open(c.server.OwnerURL(templateName), 2)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Migrate(ctx); err != nil {
		return err
	}
	for role := range postgres.Roles {
		if err := db.SetPassword(ctx, role, postgresPassword(role)); err != nil {
			return err
		}
	}
	_, err = postgres.NewChallenges(db).EnsurePartitions(ctx, time.Now(), 2)
	return err
}

func postgresPassword(role string) string { return "test password of " + role }

// database makes a copy of the template.
func (c *cluster) database(t testing.TB) *DB {
	t.Helper()
	db := &DB{cluster: c, name: fmt.Sprintf("test%d", shared.made.Add(1)), pools: map[string]*postgres.DB{}, raw: map[string]*sql.DB{}}
	if err := c.exec(t.Context(), "CREATE DATABASE "+db.name+" TEMPLATE "+templateName); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		for _, p := range db.pools {
			_ = p.Close()
		}
		for _, p := range db.raw {
			_ = p.Close()
		}
		if err := c.exec(context.Background(), "DROP DATABASE "+db.name+" WITH (FORCE)"); err != nil {
			t.Errorf("%v", err)
		}
	})
	return db
}

func (c *cluster) exec(ctx context.Context, statement string) error {
	db, err := sql.Open("postgres", c.server.OwnerURL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// URL is how a role (of postgres.Roles, or Owner) reaches the test's database.
func (d *DB) URL(role string) string {
	if role == Owner {
		return d.cluster.server.OwnerURL(d.name)
	}
	name, ok := postgres.Roles[role]
	if !ok {
		panic("otposttest: there is no database role " + role)
	}
	return d.cluster.server.URL(d.name, name, postgresPassword(role))
}

// Role returns the test's database as a role of postgres.Roles sees it; the same pool for each call with the same role.
func (d *DB) Role(role string) *postgres.DB {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.pools[role]; ok {
		return p
	}
	p, err := postgres.Open(d.URL(role), poolSize)
	if err != nil {
		panic(err) // the URL is this package's own
	}
	d.pools[role] = p
	return p
}

// Owner returns the test's database as the owner of the schema, a superuser, sees it.
func (d *DB) Owner() *postgres.DB { return d.Role(Owner) }

// SQL returns a plain connection pool as a role or as Owner, for statements that no store has.
func (d *DB) SQL(role string) *sql.DB {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.raw[role]; ok {
		return p
	}
	p, err := sql.Open("postgres", d.URL(role))
	if err != nil {
		panic(err) // the URL is this package's own
	}
	p.SetMaxIdleConns(2)
	d.raw[role] = p
	return p
}

// App creates an app with the default policy, changed by the functions given, and returns it.
func (d *DB) App(t testing.TB, name string, change ...func(*postgres.App)) postgres.App {
	t.Helper()
	a := postgres.App{Name: name, DisplayName: "App " + name, Locale: "en", Policy: otp.DefaultPolicy()}
	a.Policy.Delivery.Countries, a.Policy.Delivery.Limits = []string{otp.AnyCountry}, otp.NoLimits() // for tests that are about something else
	for _, c := range change {
		c(&a)
	}
	var err error
	if a.ID, err = postgres.NewApps(d.Role("operator")).Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a
}

// Dump returns all that the test's database holds, as pg_dump writes it: schema and data in SQL, bytea in hexadecimal.
func (d *DB) Dump(t testing.TB) string {
	t.Helper()
	program := filepath.Join(d.cluster.binDir, "pg_dump")
	if _, err := os.Stat(program); err != nil {
		program = "pg_dump"
	}
	cmd := exec.CommandContext(t.Context(), program, "--dbname", d.URL(Owner))
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v: %s", err, problems.String())
	}
	return string(out)
}

// Restart stops the cluster, cutting every session, and starts it again under the same URLs. It is for databases of OwnPostgres.
func (d *DB) Restart(t testing.TB) {
	t.Helper()
	d.Stop(t)
	d.Start(t)
}

// Stop shuts the cluster down, cutting every session. It is for databases of OwnPostgres, and Start must follow.
func (d *DB) Stop(t testing.TB) {
	t.Helper()
	if !d.cluster.own {
		t.Fatal("this cluster is shared by all tests: use OwnPostgres")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := d.cluster.server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// Start starts the cluster again after Stop.
func (d *DB) Start(t testing.TB) {
	t.Helper()
	url := d.URL(Owner)
	server, err := embedded.StartPostgres(t.Context(), d.cluster.cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.cluster.server = server
	if d.URL(Owner) != url {
		t.Fatal("the restarted cluster has another socket: the temporary directory's path is too long for this test")
	}
}

// Exec runs statements as the owner, for states that no store brings about.
func (d *DB) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := d.SQL(Owner).ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Get returns the one value of a query as the owner; for an array use pq.Array in the query's place.
func Get[T any](t testing.TB, d *DB, query string, args ...any) T {
	t.Helper()
	var v T
	if err := d.SQL(Owner).QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}
