package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// Errors of apps.
var (
	ErrNoApp    = errors.New("no such app")
	ErrAppTaken = errors.New("an app of this name exists already")
)

// An App is a tenant with its policy.
type App struct {
	ID          int
	Name        string
	DisplayName string // as messages name it; 1–64 characters
	Origin      string // the web origin for WebOTP, "https://shop.example"; empty for none
	Locale      string // where neither login nor user says
	Policy      otp.Policy
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

type appRow struct {
	ID              int            `db:"id"`
	Name            string         `db:"name"`
	DisplayName     string         `db:"display_name"`
	Origin          string         `db:"origin"`
	Locale          string         `db:"locale"`
	Digits          int            `db:"digits"`
	LifeSeconds     int            `db:"life_seconds"`
	Attempts        int            `db:"attempts"`
	Sends           int            `db:"sends"`
	CooldownSeconds int            `db:"cooldown_seconds"`
	OpenChallenges  int            `db:"open_challenges"`
	TOTPSkew        int            `db:"totp_skew"`
	Channels        pq.StringArray `db:"channels"`
	NoFactor        string         `db:"no_factor"`
	FactorPolicy    []byte         `db:"factor_policy"`
	DeliveryPolicy  []byte         `db:"delivery_policy"`
	CreatedAt       time.Time      `db:"created_at"`
	UpdatedAt       time.Time      `db:"updated_at"`
}

func (r appRow) app() (App, error) {
	factors, err := otp.ParseFactorPolicy(r.FactorPolicy)
	if err != nil {
		return App{}, fmt.Errorf("app %s: %w", r.Name, err)
	}
	sending, err := otp.ParseDeliveryPolicy(r.DeliveryPolicy)
	if err != nil {
		return App{}, fmt.Errorf("app %s: %w", r.Name, err)
	}
	channels := make([]otp.FactorKind, len(r.Channels))
	for i, c := range r.Channels {
		channels[i] = otp.FactorKind(c)
	}
	return App{
		ID: r.ID, Name: r.Name, DisplayName: r.DisplayName, Origin: r.Origin, Locale: r.Locale, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		Policy: otp.Policy{
			Digits: r.Digits, Life: time.Duration(r.LifeSeconds) * time.Second, Attempts: r.Attempts, Sends: r.Sends,
			Cooldown: time.Duration(r.CooldownSeconds) * time.Second, OpenChallenges: r.OpenChallenges, TOTPSkew: r.TOTPSkew,
			Channels: channels, NoFactor: otp.NoFactor(r.NoFactor), Factors: factors, Delivery: sending,
		},
	}, nil
}

func (a App) values() []any {
	p := a.Policy
	factors, err := p.Factors.MarshalJSON()
	if err != nil {
		panic("postgres: a checked policy does not encode: " + err.Error())
	}
	sending, err := p.Delivery.Encode()
	if err != nil {
		panic("postgres: a checked policy does not encode: " + err.Error())
	}
	return []any{
		a.Name, a.DisplayName, a.Origin, a.Locale, p.Digits, int(p.Life / time.Second), p.Attempts, p.Sends, int(p.Cooldown / time.Second),
		p.OpenChallenges, p.TOTPSkew, texts(p.Channels), string(p.NoFactor), string(factors), string(sending),
	}
}

var (
	originForm = regexp.MustCompile(`^https?://[^/ ]+$`)
	localeForm = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$`)
)

// Check returns an error that names the first field that is wrong.
func (a App) Check() error {
	if !otp.ValidApp(a.Name) {
		return errors.New("app name: must be 1 to 64 of a-z, 0-9 and -")
	}
	if w := otp.CheckID(a.DisplayName); w != "" || len([]rune(a.DisplayName)) > 64 {
		return errors.New("app display-name: must be 1 to 64 characters without control characters")
	}
	if a.Origin != "" && !originForm.MatchString(a.Origin) {
		return errors.New("app origin: must be a web origin such as https://shop.example, without a path")
	}
	if !localeForm.MatchString(a.Locale) {
		return errors.New("app locale: must be a language tag such as en or de-AT (BCP 47)")
	}
	return a.Policy.Check()
}

// Apps is the store of apps. Workers may read it; the operator's role may write.
type Apps struct{ db *DB }

// NewApps returns the store.
func NewApps(db *DB) *Apps { return &Apps{db} }

// Create adds an app and returns its number. It returns ErrAppTaken where the name is in use.
func (s *Apps) Create(ctx context.Context, a App) (int, error) {
	if err := a.Check(); err != nil {
		return 0, err
	}
	var id int
	if err := s.db.x.GetContext(ctx, &id, query("app_create"), a.values()...); err != nil {
		if Constraint(err) == "apps_name_taken" {
			return 0, ErrAppTaken
		}
		return 0, fmt.Errorf("create app: %w", err)
	}
	return id, nil
}

// Update writes all that may change of an app. It returns ErrNoApp where there is none of the name.
func (s *Apps) Update(ctx context.Context, a App) error {
	if err := a.Check(); err != nil {
		return err
	}
	res, err := s.db.x.ExecContext(ctx, query("app_update"), a.values()...)
	if err != nil {
		return fmt.Errorf("update app: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoApp
	}
	return nil
}

// List returns every app, by name.
func (s *Apps) List(ctx context.Context) ([]App, error) {
	var rows []appRow
	if err := s.db.x.SelectContext(ctx, &rows, query("app_list")); err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	apps := make([]App, len(rows))
	for i, r := range rows {
		var err error
		if apps[i], err = r.app(); err != nil {
			return nil, err
		}
	}
	return apps, nil
}

// GetByID returns one app by its number, or ErrNoApp.
func (s *Apps) GetByID(ctx context.Context, id int) (App, error) {
	var row appRow
	if err := s.db.x.GetContext(ctx, &row, query("app_by_id"), id); err != nil {
		if missing(err) {
			return App{}, ErrNoApp
		}
		return App{}, fmt.Errorf("get app: %w", err)
	}
	return row.app()
}

// Get returns one app, or ErrNoApp.
func (s *Apps) Get(ctx context.Context, name string) (App, error) {
	var row appRow
	if err := s.db.x.GetContext(ctx, &row, query("app_by_name"), name); err != nil {
		if missing(err) {
			return App{}, ErrNoApp
		}
		return App{}, fmt.Errorf("get app: %w", err)
	}
	return row.app()
}
