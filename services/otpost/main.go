// Command otpost plays every role of otpost: its sub-command says which. This package only wires: it reads settings, constructs, runs and drains.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/otpost/otpost/pkg/telemetry"
)

// version is set when a release is built.
var version = "dev"

// cli is the command line. A field's doc is its help text.
type cli struct {
	Config    string           `type:"path" placeholder:"FILE" help:"YAML file with settings; its keys are the flags' names."`
	LogFormat string           `enum:"text,json" default:"text" help:"Form of the log: text or json."`
	LogLevel  string           `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: debug, info, warn or error."`
	Version   kong.VersionFlag `env:"-" help:"Print the version and exit."`

	Up           upCmd           `cmd:"" help:"Run everything on this machine, with simulated providers, and show the main job."`
	Demo         demoCmd         `cmd:"" help:"Show the main job on free ports in a temporary folder, and exit."`
	Challenge    challengeCmd    `cmd:"" group:"workers" help:"Worker: decide logins, follow deliveries, sweep."`
	SMS          smsCmd          `cmd:"" name:"sms" group:"workers" help:"Worker: hand codes to the SMS provider."`
	Email        emailCmd        `cmd:"" group:"workers" help:"Worker: hand codes to the mail relay."`
	Verification verificationCmd `cmd:"" group:"workers" help:"Worker: check answers."`
	Enrolment    enrolmentCmd    `cmd:"" group:"workers" help:"Worker: look after factors, trusted devices and recovery."`
	Gateway      gatewayCmd      `cmd:"" group:"workers" help:"Worker: serve the JSON API, the hosted pages and webhooks over HTTP."`
	Letter       letterCmd       `cmd:"" group:"workers" help:"Worker: print letters with codes."`
	Migrate      migrateCmd      `cmd:"" group:"operation" help:"Bring Postgres to the newest form and declare the NATS streams."`
	Keys         keysCmd         `cmd:"" group:"operation" help:"Make, list and rotate keysets."`
	App          appCmd          `cmd:"" group:"operation" help:"Create apps and change their policies."`
	Factor       factorCmd       `cmd:"" group:"operation" help:"Give users factors."`
	Support      supportCmd      `cmd:"" group:"operation" help:"Help a user who has lost their factors, as a support agent."`
	Audit        auditCmd        `cmd:"" group:"operation" help:"Tell who did what to a user's factors."`
	Account      accountCmd      `cmd:"" group:"operation" help:"Unlock accounts."`
	Status       statusCmd       `cmd:"" name:"status" group:"operation" help:"Tell where a challenge, a recovery or a message stands, with its deliveries."`
	Webhook      webhookCmd      `cmd:"" group:"operation" help:"Post apps' events over HTTP, and look after what was not taken."`
	Providers    providersCmd    `cmd:"" group:"operation" help:"Check a file of providers, and list those that workers have."`
	Route        routeCmd        `cmd:"" group:"operation" help:"Say which providers carry codes to where, and test it."`
	Deliveries   deliveriesCmd   `cmd:"" name:"deliveries" group:"operation" help:"Tell why a user's code did not arrive."`
	Stats        statsCmd        `cmd:"" name:"stats" group:"operation" help:"Tell how the providers do: delivered, verified, late, cost."`
	Pumping      pumpingCmd      `cmd:"" group:"operation" help:"Tell which prefixes of phone numbers look pumped; block and lift them."`
	Template     templateCmd     `cmd:"" group:"operation" help:"Give an app its own words for messages with codes."`
	Sender       senderCmd       `cmd:"" group:"operation" help:"Say what an app's messages to a country come from."`
	Destination  destinationCmd  `cmd:"" group:"operation" help:"List addresses for tests, and safe ones."`
	Dead         deadCmd         `cmd:"" group:"operation" help:"List, show, retry and drop dead letters."`
	NATS         natsCmd         `cmd:"" name:"nats" group:"operation" help:"Configuration and permissions of a NATS server for otpost."`
	Ver          versionCmd      `cmd:"" name:"version" help:"Print the version."`
}

// A run is what every command gets.
type run struct {
	ctx            context.Context
	log            *slog.Logger
	stdout, stderr io.Writer
	logFormat      string
	logLevel       string
	command        string // the last word of the command, such as "email" of "factor add email"
	config         string // the YAML file of --config; empty for none
}

// exitStatus is an error that carries the process's exit status and has been told already.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit status: 0 for success, 1 for a failure, 2 for wrong settings.
func execute(ctx context.Context, args []string, env func(string) (string, bool), stdout, stderr io.Writer) int {
	var c cli
	parsed, code := parse(&c, args, env, stdout, stderr,
		kong.Description("Self-hosted, event-driven second factors and one-time codes.\n\n"+
			"Every setting may be given as a flag, as OTPOST_<FLAG>, as OTPOST_<FLAG>_FILE (a file that holds it), "+
			"or in the YAML file of --config, in this order of precedence."),
		kong.Vars{"version": versionText()}, kong.ExplicitGroups(groups))
	if parsed == nil {
		return code
	}
	log, err := telemetry.NewLogger(stderr, c.LogFormat, c.LogLevel)
	if err != nil {
		fmt.Fprintf(stderr, "otpost: %v\n", err)
		return exitUsage
	}
	err = parsed.Run(&run{
		ctx: ctx, log: log, stdout: stdout, stderr: stderr, logFormat: c.LogFormat, logLevel: c.LogLevel, command: parsed.Selected().Name,
		config: c.Config,
	})
	if err == nil {
		return exitOK
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	words := slices.DeleteFunc(strings.Fields(parsed.Command()), func(w string) bool { return strings.HasPrefix(w, "<") }) // arguments' names
	fmt.Fprintf(stderr, "otpost %s: %v\n", strings.Join(words, " "), err)
	return 1
}

var groups = []kong.Group{
	{Key: "workers", Title: "Workers, each of which may run as any number of processes:"},
	{Key: "operation", Title: "Set-up and operation:"},
}

func versionText() string {
	text := "otpost " + version
	if info, ok := debug.ReadBuildInfo(); ok {
		text += " (" + info.GoVersion + ")"
	}
	return text
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(r *run) error {
	_, err := fmt.Fprintln(r.stdout, versionText())
	return err
}
