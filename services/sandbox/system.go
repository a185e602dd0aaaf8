package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/embedded"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/sandbox/shop"
)

const (
	// maxStreamBytes and maxFileStore bound the streams on a machine that is not otpost's own. JetStream reserves the whole of a stream's
	// bound, and by itself would refuse to start on a small disk; it takes up only what is stored.
	maxStreamBytes = 1 << 30
	maxFileStore   = 32 << 30
	// appsInterval is how soon an app that another process created gets its way into NATS.
	appsInterval = 2 * time.Second
)

// migrate brings the database to the newest form, lets the workers connect as their roles, and makes the demo app.
func (s *Sandbox) migrate(ctx context.Context) error {
	owner, err := postgres.Open(s.ownerURL, 4)
	if err != nil {
		return err
	}
	defer owner.Close()
	if err := owner.Ping(ctx); err != nil {
		return err
	}
	if _, err := owner.Migrate(ctx); err != nil {
		return err
	}
	if err := s.enterRoles(ctx, owner); err != nil {
		return err
	}
	if err := ensureDemoApp(ctx, postgres.NewApps(owner), s.Addresses().Pages); err != nil {
		return err
	}
	if s.db, err = postgres.Open(s.Role("operator").DatabaseURL, 2); err != nil {
		return err
	}
	s.onClose(func(context.Context) error { return s.db.Close() })
	return s.ensureDemoPages(ctx)
}

// demoRecoveryWait is long enough to be seen and short enough to be waited for.
const demoRecoveryWait = 2 * time.Second

// ensureDemoApp makes the demo app. One of an earlier version of otpost gets what it lacks; what somebody has set stays.
// Security keys are asked for on the hosted pages, wherever these are this time.
func ensureDemoApp(ctx context.Context, apps *postgres.Apps, pages string) error {
	policy := otp.DefaultPolicy()
	policy.Delivery.Countries = []string{otp.AnyCountry} // every number ends in the inbox
	policy.Delivery.Limits = otp.NoLimits()              // who tries things out is not to be kept waiting; `otpost app update demo` sets some
	policy.Factors.RecoveryWait = demoRecoveryWait
	policy.Factors.RPID, policy.Factors.Origins = "localhost", []string{pages}
	_, err := apps.Create(ctx, postgres.App{
		Name: DemoApp, DisplayName: "Demo shop", Origin: "https://shop.example", Locale: "en", Policy: policy,
	})
	if !errors.Is(err, postgres.ErrAppTaken) {
		return err
	}
	app, err := apps.Get(ctx, DemoApp)
	if err != nil {
		return err
	}
	switch factors := &app.Policy.Factors; {
	case reflect.DeepEqual(*factors, otp.DefaultFactorPolicy()):
		*factors = policy.Factors
	case factors.RPID == "localhost" && !slices.Contains(factors.Origins, pages):
		factors.Origins = append(slices.DeleteFunc(factors.Origins, onThisMachine), pages)
	default:
		return nil
	}
	return apps.Update(ctx, app)
}

// onThisMachine reports whether a URL is of a port of this machine by the name that the sandbox gives it.
func onThisMachine(url string) bool { return strings.HasPrefix(url, "http://localhost:") }

// ensureDemoPages says how the demo app's pages look and that they lead back to the shop. What somebody has set stays, but for where the shop was another
// time.
func (s *Sandbox) ensureDemoPages(ctx context.Context) error {
	app, err := postgres.NewApps(s.db).Get(ctx, DemoApp)
	if err != nil {
		return err
	}
	store, home := postgres.NewPages(s.db), s.Addresses().Shop
	pages, err := store.Get(ctx, app.ID)
	switch {
	case errors.Is(err, postgres.ErrNoPages):
		pages = postgres.AppPages{AppID: app.ID, Accent: shop.Accent, Logo: shop.Logo(), LogoType: postgres.LogoSVG}
	case err != nil:
		return err
	case slices.Contains(pages.ReturnURLs, home):
		return nil
	}
	pages.ReturnURLs = append(slices.DeleteFunc(pages.ReturnURLs, onThisMachine), home)
	return store.Set(ctx, time.Now(), pages)
}

// readyApp makes an app's secrets where it has none, and its key for the JSON API known to the gateway. What is there already stays, a revoked key too.
func (s *Sandbox) readyApp(ctx context.Context, app postgres.App) error {
	if err := s.secrets.ensureApp(s.dir, app.Name); err != nil {
		return err
	}
	digest, ok := otp.APIKeyDigest(s.secrets.Apps[app.Name].APIKey)
	if !ok {
		return fmt.Errorf("the API key of app %s is damaged", app.Name)
	}
	_, err := postgres.NewAppKeys(s.db).Create(ctx, time.Now(), app.ID, "sandbox", digest, time.Time{})
	if errors.Is(err, postgres.ErrKeyTaken) {
		return nil
	}
	return err
}

// enterRoles lets workers connect as their roles: with passwords of this folder where the server is its own. On a server that was given, roles and
// their passwords belong to all its databases and may be in use; there the given login takes the roles on.
func (s *Sandbox) enterRoles(ctx context.Context, owner *postgres.DB) error {
	if s.cfg.DatabaseURL != "" {
		return owner.Join(ctx)
	}
	for role := range postgres.Roles {
		if err := owner.SetPassword(ctx, role, s.secrets.Roles[role].DatabasePassword); err != nil {
			return err
		}
	}
	return nil
}

// startNATS starts NATS with every app that there is, or finds the one that was given, and connects to it as the operator.
func (s *Sandbox) startNATS(ctx context.Context) error {
	apps, err := postgres.NewApps(s.db).List(ctx)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if err := s.readyApp(ctx, a); err != nil {
			return err
		}
		s.apps[a.Name] = true
	}
	if s.cfg.NATSURL == "" {
		err = s.runNATS(ctx)
	} else {
		err = s.useNATS()
	}
	if err != nil {
		return err
	}
	access := s.Role("operator")
	s.operator, err = bus.Connect(bus.Config{
		URL: access.NATSURL, Role: bus.RoleOperator, User: access.NATSUser, Password: access.NATSPassword, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.onClose(s.operator.Close)
	return s.awaitNATS(ctx)
}

func (s *Sandbox) runNATS(ctx context.Context) error {
	port := s.preferred(s.cfg.NATSPort, DefaultNATSPort)
	text, err := s.natsConfig(port, s.apps)
	if err != nil {
		return err
	}
	cfg := embedded.NATSConfig{Dir: s.natsDir(), Port: port, ConfigText: text, Logger: s.log}
	s.nats, err = embedded.StartNATS(ctx, cfg)
	if errors.Is(err, embedded.ErrPortBusy) && port != 0 {
		cfg.Port = 0
		if s.nats, err = embedded.StartNATS(ctx, cfg); err == nil {
			s.hasMoved("NATS", port, s.nats.Port())
		}
	}
	if err != nil {
		return err
	}
	s.onClose(s.nats.Stop)
	s.natsURL = s.nats.URL()
	return nil
}

func (s *Sandbox) useNATS() error {
	bare, user, password, err := splitCredentials(s.cfg.NATSURL)
	if err != nil {
		return err
	}
	s.natsURL = bare
	if s.cfg.NATSUser == "" {
		s.cfg.NATSUser, s.cfg.NATSPassword = user, password
	}
	return nil
}

// awaitNATS returns when the operator is connected.
func (s *Sandbox) awaitNATS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, natsPatience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.operator.Connected() != nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("sandbox: reach NATS at %s: %w", s.natsURL, errors.Join(context.Cause(ctx), s.operator.Conn().LastError()))
		case <-tick.C:
		}
	}
	return nil
}

// natsConfig renders the server's configuration for the apps.
func (s *Sandbox) natsConfig(port int, apps map[string]bool) (string, error) {
	settings := bus.ServerSettings{
		Port: port, StoreDir: filepath.Join(s.natsDir(), "store"), SyncInterval: s.cfg.SyncInterval, MaxFileStore: maxFileStore,
		Users: map[bus.Role]string{}, Agents: map[string]string{},
	}
	var err error
	for _, name := range agents {
		if settings.Agents[name], err = s.hashed(bus.AgentUser(name), s.secrets.Agents[name]); err != nil {
			return "", err
		}
	}
	for _, role := range bus.Roles() {
		if settings.Users[role], err = s.hashed(string(role), s.secrets.Roles[string(role)].NATSPassword); err != nil {
			return "", err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		a := bus.App{Name: name, User: "app_" + name}
		if a.Password, err = s.hashed(a.User, s.secrets.Apps[name].NATSPassword); err != nil {
			return "", err
		}
		settings.Apps = append(settings.Apps, a)
	}
	return bus.ServerConfig(settings)
}

// hashed hashes a password once a run, so that a reload shows the server only what has changed. The passwords are random: the cheapest cost
// is as good as any.
func (s *Sandbox) hashed(user, password string) (string, error) {
	if h, ok := s.hashes[user]; ok {
		return h, nil
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return "", fmt.Errorf("sandbox: hash a NATS password: %w", err)
	}
	s.hashes[user] = string(h)
	return string(h), nil
}

// declare makes the streams, and every app's own consumer of its events.
func (s *Sandbox) declare(ctx context.Context) error {
	settings := bus.DefaultStreamSettings()
	settings.MaxBytes = maxStreamBytes
	if err := s.operator.Declare(ctx, settings); err != nil {
		return err
	}
	for name := range s.apps {
		if err := s.operator.DeclareApp(ctx, name, settings.Replicas); err != nil {
			return err
		}
		if err := s.writeApp(name); err != nil {
			return err
		}
	}
	return nil
}

// AddApp gives an app that is in the database its way into NATS: an account and user of its own, the consumer of its events, and the file
// apps/<name>.json with what it connects with. Those that are connected stay connected. For an app that has all this it does nothing. The error wraps
// postgres.ErrNoApp where the database has no such app.
//
// Apps that another process creates are found by themselves, within two seconds.
func (s *Sandbox) AddApp(ctx context.Context, name string) error {
	app, err := postgres.NewApps(s.db).Get(ctx, name)
	if err != nil {
		return fmt.Errorf("add app %s: %w", name, err)
	}
	return s.addApp(ctx, app)
}

func (s *Sandbox) addApp(ctx context.Context, app postgres.App) error {
	name := app.Name
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apps[name] {
		return nil
	}
	if err := s.readyApp(ctx, app); err != nil {
		return fmt.Errorf("add app %s: %w", name, err)
	}
	if err := s.operator.DeclareApp(ctx, name, bus.DefaultStreamSettings().Replicas); err != nil {
		return fmt.Errorf("add app %s: %w", name, err)
	}
	if s.nats != nil {
		with := maps.Clone(s.apps)
		with[name] = true
		text, err := s.natsConfig(s.nats.Port(), with)
		if err != nil {
			return fmt.Errorf("add app %s: %w", name, err)
		}
		if err := s.nats.Reload(text); err != nil {
			return fmt.Errorf("add app %s: %w", name, err)
		}
	}
	if err := s.writeApp(name); err != nil { // last: who sees the file can connect
		return fmt.Errorf("add app %s: %w", name, err)
	}
	s.apps[name] = true
	return nil
}

// watchApps looks for new apps until Close.
func (s *Sandbox) watchApps(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(appsInterval)
		defer tick.Stop()
		told := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := s.findApps(ctx)
			if err == nil || ctx.Err() != nil {
				told = ""
				continue
			}
			if text := oneLine(err); text != told { // the same trouble is told once
				s.log.Warn("looking for new apps failed, trying again", "error", text)
				told = text
			}
		}
	}()
	s.onClose(func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return nil
}

func (s *Sandbox) findApps(ctx context.Context) error {
	apps, err := postgres.NewApps(s.db).List(ctx)
	if err != nil {
		return err
	}
	for _, a := range apps {
		s.mu.Lock()
		known := s.apps[a.Name]
		s.mu.Unlock()
		if known {
			continue
		}
		if err := s.addApp(ctx, a); err != nil {
			return err
		}
		s.log.Info("app found", "app", a.Name, "file", filepath.Join(s.appsDir(), a.Name+".json"))
	}
	return nil
}
