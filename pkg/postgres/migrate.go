package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/otpost/otpost/schemas/migrations"
)

// A Migration is one step that was taken.
type Migration struct {
	Name    string
	Version int64
}

// Migrate brings the database to the newest form and returns the steps it took, none when it was there already. It must run as the owner of the
// schema, who may create roles; any number of processes may run it at once (an advisory lock lets one work).
func (d *DB) Migrate(ctx context.Context) ([]Migration, error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, d.x.DB, migrations.FS, goose.WithSessionLocker(locker))
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	results, err := p.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	steps := make([]Migration, len(results))
	for i, r := range results {
		steps[i] = Migration{Name: r.Source.Path, Version: r.Source.Version}
	}
	return steps, nil
}

// Roles are the database's roles by the name of the otpost role that connects as them.
var Roles = map[string]string{
	"challenge": "otpost_challenge", "sms": "otpost_sms", "email": "otpost_email", "letter": "otpost_letter",
	"verification": "otpost_verification", "enrolment": "otpost_enrolment", "gateway": "otpost_gateway", "operator": "otpost_operator",
}

// SetPassword lets a role log in with a password. It must run as one who may alter roles.
func (d *DB) SetPassword(ctx context.Context, role, password string) error {
	name, ok := Roles[role]
	if !ok {
		return fmt.Errorf("set password: there is no role %q", role)
	}
	// ALTER ROLE takes no parameters; format() quotes the password on the server's side.
	var stmt string
	if err := d.x.GetContext(ctx, &stmt, query("role_password"), name, password); err != nil {
		return fmt.Errorf("set password of %s: %w", name, err)
	}
	if _, err := d.x.ExecContext(ctx, stmt); err != nil {
		return fmt.Errorf("set password of %s: refused; the login must own the roles of otpost or be a superuser", name)
	}
	return nil
}

// Join lets the login that the pool connects as take on otpost's roles (SET ROLE). It must run as a superuser or as who made the roles.
func (d *DB) Join(ctx context.Context) error {
	for _, name := range Roles {
		if _, err := d.x.ExecContext(ctx, "GRANT "+name+" TO CURRENT_USER"); err != nil {
			return fmt.Errorf("take on role %s: %w", name, err)
		}
	}
	return nil
}

// AsRole returns the URL of the same database and login whose sessions take on a role, with its grants and no others.
func AsRole(rawURL, role string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", errors.New("database URL: is not understood") // the cause would quote the password
	}
	q := u.Query()
	q.Set("options", strings.TrimSpace(q.Get("options")+" -c role="+Roles[role]))
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // libpq takes a plus for a plus
	return u.String(), nil
}

// Migrated reports whether the schema that this version needs is there, so that a worker may wait for `otpost migrate`.
func (d *DB) Migrated(ctx context.Context) error {
	var ok bool
	if err := d.x.GetContext(ctx, &ok, query("migrated")); err != nil {
		return fmt.Errorf("look for the schema: %w", err)
	}
	if !ok {
		return fmt.Errorf("the database has not the schema of this version yet; run otpost migrate")
	}
	return nil
}
