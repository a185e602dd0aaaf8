package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/pkg/telemetry"
	"github.com/otpost/otpost/services/gateway"
	"github.com/otpost/otpost/services/sandbox"
)

// sandboxFlags are what up and demo have in common.
type sandboxFlags struct {
	PGBin        string `name:"pg-bin" type:"path" placeholder:"DIR" help:"Directory of the Postgres binaries; found where it is not given (also PG_BIN)."`
	SyncInterval string `default:"always" help:"How often JetStream flushes to disk: always (before each acknowledgement) or a duration of at least 1s."`
	NoColor      bool   `help:"Print without colours (also NO_COLOR)."`
}

type upCmd struct {
	sandboxFlags
	Dir          string   `type:"path" default:".otpost" help:"Folder that holds everything."`
	DatabaseURL  string   `name:"database-url" secret:"" placeholder:"URL" help:"Use this Postgres, as the owner of its database, in place of a private one."`
	NATSURL      string   `name:"nats-url" placeholder:"URL" help:"Use this NATS in place of one inside the process."`
	NATSUser     string   `name:"nats-user" help:"User of every role at that NATS; each role's own name where it is not given."`
	NATSPassword string   `name:"nats-password" secret:"" help:"Password of that user."`
	HTTPPort     int      `name:"http-port" default:"8080" help:"Port of the HTTP edge; a taken one gives way to a free one."`
	ShopPort     int      `default:"8081" help:"Port of the demo shop."`
	NATSPort     int      `name:"nats-port" default:"4222" help:"Port of NATS."`
	InboxPort    int      `default:"8025" help:"Port of the inbox and the simulated Twilio."`
	SMTPPort     int      `name:"smtp-port" default:"1025" help:"Port of the simulated mail relay."`
	Without      []string `placeholder:"ROLE,…" help:"Workers not to run here: challenge, sms, email, letter, verification, enrolment, gateway. Start them yourself."`
	NoShow       bool     `help:"Do not show the main job at the start."`
	Health       string   `default:"127.0.0.1:0" placeholder:"ADDR" help:"Where /healthz, /readyz and /metrics are served."`
}

type demoCmd struct{ sandboxFlags }

// allRoles are the workers that up runs.
var allRoles = []bus.Role{
	bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleLetter, bus.RoleVerification, bus.RoleEnrolment, bus.RoleGateway,
}

// roleList names them, for people.
func roleList() string {
	names := make([]string, len(allRoles))
	for i, r := range allRoles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// startWithin bounds how long everything may take to start, a first initdb on a slow disk included.
const startWithin = 3 * time.Minute

// Run runs everything on this machine until it is told to stop.
func (c *upCmd) Run(r *run) error {
	for _, w := range c.Without {
		if !slices.Contains(allRoles, bus.Role(w)) {
			return fmt.Errorf("--without: there is no worker %q; there are %s", w, roleList())
		}
	}
	return c.up(r, sandbox.Config{
		Dir: c.Dir, DatabaseURL: c.DatabaseURL, NATSURL: c.NATSURL, NATSUser: c.NATSUser, NATSPassword: c.NATSPassword, PGBin: c.pgBin(),
		HTTPPort: c.HTTPPort, ShopPort: c.ShopPort, NATSPort: c.NATSPort, InboxPort: c.InboxPort, SMTPPort: c.SMTPPort, SyncInterval: c.SyncInterval,
		OutsideGateway: slices.Contains(c.Without, string(bus.RoleGateway)),
	}, func(ctx context.Context, s *sandbox.Sandbox) error {
		if !c.NoShow && len(c.Without) == 0 {
			if err := s.Demo(ctx, r.stdout, c.color(r.stdout)); err != nil {
				return err
			}
		}
		printAddresses(r.stdout, s, c.Without)
		<-ctx.Done()
		return nil
	})
}

// Run shows the main job and stops.
func (c *demoCmd) Run(r *run) error {
	dir, err := os.MkdirTemp("", "otpost-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	up := upCmd{sandboxFlags: c.sandboxFlags, Health: "127.0.0.1:0"}
	done := errors.New("the demo is over")
	err = up.up(r, sandbox.Config{Dir: dir, Ephemeral: true, Free: true, PGBin: c.pgBin(), SyncInterval: c.SyncInterval},
		func(ctx context.Context, s *sandbox.Sandbox) error {
			if err := s.Demo(ctx, r.stdout, c.color(r.stdout)); err != nil {
				return err
			}
			return done
		})
	if errors.Is(err, done) {
		return nil
	}
	if err == nil {
		return errors.New("interrupted")
	}
	return err
}

// up starts the sandbox and the workers, runs show when all are ready, and stops everything that it started.
func (c *upCmd) up(r *run, cfg sandbox.Config, show func(context.Context, *sandbox.Sandbox) error) error {
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	logPath := filepath.Join(cfg.Dir, "otpost.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = logFile.Close() }()
	log, err := telemetry.NewLogger(logFile, r.logFormat, r.logLevel)
	if err != nil {
		return err
	}
	cfg.Logger = log

	starting, cancel := context.WithTimeout(r.ctx, startWithin)
	defer cancel()
	starting, stopNotify := signal.NotifyContext(starting, os.Interrupt, syscall.SIGTERM)
	s, err := sandbox.Start(starting, cfg)
	stopNotify()
	if _, running := errors.AsType[*sandbox.RunningError](err); running {
		fmt.Fprintln(r.stderr, err) // it names the command itself
		return exitStatus(1)
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			fmt.Fprintf(r.stderr, "otpost up: stopping: %v\n", err)
		}
	}()
	for _, line := range s.Moved() {
		fmt.Fprintln(r.stdout, line)
	}
	components, health, err := c.components(s, log)
	if err != nil {
		return err
	}
	components = append([]lifecycle.Component{{Name: "sandbox", Run: s.Run}}, components...)
	components = append(components, lifecycle.Component{Name: "show", Run: func(ctx context.Context) error {
		if err := errors.Join(s.EnsureRoute(ctx), s.WriteEndpoints()); err != nil {
			return err
		}
		return show(ctx, s)
	}})
	err = lifecycle.Run(r.ctx, lifecycle.Config{Logger: log, Health: health}, components...)
	if err != nil && !cfg.Ephemeral {
		return fmt.Errorf("%w; the log is in %s", err, logPath)
	}
	return err
}

// components are the workers of this process, each connected as its own role.
func (c *upCmd) components(s *sandbox.Sandbox, log *slog.Logger) ([]lifecycle.Component, *lifecycle.Health, error) {
	reg := telemetry.NewRegistry()
	metrics := telemetry.NewMetrics(reg)
	health := lifecycle.NewHealth()
	out := []lifecycle.Component{healthServer(c.Health, health, reg, log)}
	for _, name := range allRoles {
		if slices.Contains(c.Without, string(name)) {
			continue
		}
		flags, build := c.worker(s, name)
		r, err := newRole(name, flags, log.With("role", string(name)), metrics, health, build)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, r.components()...)
	}
	return out, health, nil
}

// worker gives a worker the settings that joining the sandbox takes, the rest at their defaults.
func (c *upCmd) worker(s *sandbox.Sandbox, name bus.Role) (workerFlags, func(parts) (runner, error)) {
	access := s.Role(string(name))
	flags := workerFlags{
		natsFlags:     natsFlags{NATSURL: access.NATSURL, NATSUser: access.NATSUser, NATSPassword: access.NATSPassword},
		databaseFlags: databaseFlags{DatabaseURL: access.DatabaseURL, DatabaseConnections: 8},
		keysFlags:     keysFlags{Keys: access.KeysDir},
	}
	send := deliveryFlags{SendTimeout: 10 * time.Second, Lease: 15 * time.Second, Concurrency: 64}
	p := s.Providers()
	switch name {
	case bus.RoleSMS:
		return flags, (&smsCmd{deliveryFlags: send, providersFlags: providersFlags{Providers: s.ProvidersFile()}}).build
	case bus.RoleEmail:
		return flags, (&emailCmd{deliveryFlags: send, smtpFlags: smtpFlags{
			SMTPHost: p.SMTPHost, SMTPPort: p.SMTPPort, SMTPTLS: p.SMTPTLS, SMTPUsername: p.SMTPUser, SMTPPassword: p.SMTPPassword,
			SMTPFrom: p.SMTPFrom, SMTPAuth: "auto",
		}}).build
	case bus.RoleLetter:
		return flags, (&letterCmd{
			letterDeliveryFlags: letterDeliveryFlags{SendTimeout: 30 * time.Second, Lease: 45 * time.Second, Concurrency: 8},
			letterFlags:         letterFlags{Spool: p.LetterSpool, Sender: p.LetterSender, SenderCountry: p.LetterCountry},
		}).build
	case bus.RoleVerification:
		return flags, (&verificationCmd{}).build
	case bus.RoleEnrolment:
		return flags, (&enrolmentCmd{}).build
	case bus.RoleGateway:
		return flags, (&upGateway{sandbox: s, flags: flags}).build
	default:
		return flags, (&challengeCmd{}).build
	}
}

// An upGateway is the gateway behind the sandbox's own server, beside the page that says what runs there.
type upGateway struct {
	*gateway.Gateway
	sandbox *sandbox.Sandbox
	flags   workerFlags
}

func (e *upGateway) build(p parts) (_ runner, err error) {
	cmd := gatewayCmd{workerFlags: e.flags, gatewayFlags: gatewayFlags{
		PublicURL: e.sandbox.Addresses().Pages, Callbacks: e.sandbox.CallbacksFile(), Desk: len(e.sandbox.Agents()) > 0, WebhookConcurrency: 32,
		WebhookTimeout: 10 * time.Second,
	}}
	if e.Gateway, err = cmd.gateway(p); err != nil {
		return nil, err
	}
	return e, nil
}

// Prepare opens the gateway to requests. The server has listened before, and said until now that there is none.
func (e *upGateway) Prepare(context.Context) error { //nolint:unparam // it is a preparer
	e.sandbox.HandleHTTP(e.Handler())
	return nil
}

// Run works until ctx ends: first no request is taken any more, then what goes on beside them ends.
func (e *upGateway) Run(ctx context.Context) error {
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		select {
		case <-ctx.Done():
		case <-behind.Done():
		}
		e.sandbox.HandleHTTP(nil)
		stop()
	}()
	return e.Gateway.Run(behind)
}

func (f sandboxFlags) pgBin() string {
	if f.PGBin != "" {
		return f.PGBin
	}
	return os.Getenv("PG_BIN")
}

// color reports whether to colour what is printed to w: on a terminal, unless told otherwise (https://no-color.org).
func (f sandboxFlags) color(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || f.NoColor || os.Getenv("NO_COLOR") != "" || strings.EqualFold(os.Getenv("TERM"), "dumb") {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// printAddresses says where everything is, for people and for programs. A line fits a terminal of 80.
func printAddresses(w io.Writer, s *sandbox.Sandbox, without []string) {
	a := s.Addresses()
	dir := s.Dir()
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, dir); err == nil && !strings.HasPrefix(rel, "..") {
			dir = rel
		}
	}
	fmt.Fprintf(w, `
otpost is up. Ctrl-C stops it.

  shop     %s   an app that asks for second factors
  inbox    %s   what the simulated providers got
  HTTP     %s   JSON API; pages: localhost:%s
  NATS     %s
           keys and passwords of an app: %s/apps/demo.json
  SMTP     %s
  Twilio   %s
  letters  %s/letters
  log      %s/otpost.log
`, a.Shop, a.Inbox, a.HTTP, a.Pages[strings.LastIndex(a.Pages, ":")+1:], a.NATS, dir, a.SMTP, a.Twilio, dir, dir)
	if len(without) > 0 {
		fmt.Fprintf(w, "\nNot run here: %s. Logins wait for them.\n", strings.Join(without, ", "))
	}
	fmt.Fprintf(w, `
More workers (%s),
each in a terminal:
  otpost sms --config %s/sms.yaml
Operators' commands:
  otpost dead list --config %s/operator.yaml
`, roleList(), dir, dir)
	if agents := s.Agents(); len(agents) > 0 {
		fmt.Fprintf(w, `Support, as %s: %s/support
(the password is in %s/agents), or by commands:
  otpost support find --config %s/agents/%s.yaml --app demo u-1
`, agentList(agents), a.Pages, dir, dir, agents[0].Name)
	}
	fmt.Fprintf(w, `
Open %s and sign up. Codes arrive in %s
`, a.Shop, a.Inbox)
}

func agentList(agents []sandbox.AgentAccess) string {
	names := make([]string, len(agents))
	for i, a := range agents {
		names[i] = a.Name
	}
	return strings.Join(names, " or ")
}
