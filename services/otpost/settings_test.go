package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// sample is a command line such as otpost's.
type sample struct {
	Config    string           `help:"Read settings from this YAML file." type:"path" placeholder:"FILE"`
	LogFormat string           `help:"How to log." enum:"text,json" default:"text"`
	Version   kong.VersionFlag `help:"Show the version."`

	SMS     sampleSMS     `cmd:"" name:"sms" help:"Send codes by SMS."`
	Migrate sampleMigrate `cmd:"" help:"Bring the database up to date."`
	Keys    struct {
		Init struct {
			Dir string `arg:"" help:"Where to."`
		} `cmd:"" help:"Make keys."`
	} `cmd:"" help:"Look after keys."`
}

type sampleSMS struct {
	NATSURL      string            `name:"nats-url" required:"" help:"Where NATS is."`
	SMSTimeout   time.Duration     `name:"sms-timeout" default:"10s" help:"How long to wait for a provider."`
	Workers      int               `default:"4" help:"How many at once."`
	Providers    []string          `help:"In this order."`
	Limits       map[string]int    `help:"Messages a second by provider."`
	Tags         map[string]string `help:"More of the same."`
	TwilioToken  string            `secret:"" default:"built-in-secret" help:"Twilio's auth token."`
	PIN          int               `name:"pin" secret:"" help:"A secret number."`
	Sender       string            `help:"The number to send from." env:"-"`
	DatabaseURL  string            `default:"postgres://otpost:hunter2@localhost/otpost" help:"Where Postgres is."`
	TLSCert      string            `name:"tls-cert" help:"Certificate."`
	TLSCertFile  string            `name:"tls-cert-file" help:"Where the certificate is."`
	SimulateOnly bool              `help:"Send nothing."`
}

type sampleMigrate struct {
	DatabaseURL string `required:"" help:"Where Postgres is."`
	SchemaOwner string `required:"" help:"Who owns the schema."`
}

type result struct {
	cli            sample
	command        string
	code           int
	stdout, stderr string
}

func runSettings(t *testing.T, environ map[string]string, args ...string) result {
	t.Helper()
	var r result
	var stdout, stderr bytes.Buffer
	env := func(name string) (string, bool) { v, ok := environ[name]; return v, ok }
	ctx, code := parse(&r.cli, args, env, &stdout, &stderr, kong.Vars{"version": "v1.2.3"})
	if ctx != nil {
		r.command = ctx.Command()
		if code != exitOK {
			t.Errorf("a command and exit code %d", code)
		}
	}
	r.code, r.stdout, r.stderr = code, stdout.String(), stderr.String()
	return r
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	yaml := write(t, "otpost.yaml", "nats-url: from-yaml\nsms-timeout: 1s\nlog-format: json\n")
	file := write(t, "url", "from-file\n")
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"flag", map[string]string{"OTPOST_NATS_URL": "from-env", "OTPOST_CONFIG": yaml}, []string{"sms", "--nats-url=from-flag"}, "from-flag"},
		{"environment", map[string]string{"OTPOST_NATS_URL": "from-env", "OTPOST_CONFIG": yaml}, []string{"sms"}, "from-env"},
		{"file", map[string]string{"OTPOST_NATS_URL_FILE": file, "OTPOST_CONFIG": yaml}, []string{"sms"}, "from-file"},
		{"empty environment", map[string]string{"OTPOST_NATS_URL": "", "OTPOST_NATS_URL_FILE": file}, []string{"sms"}, "from-file"},
		{"yaml by environment", map[string]string{"OTPOST_CONFIG": yaml}, []string{"sms"}, "from-yaml"},
		{"yaml by flag", map[string]string{"OTPOST_CONFIG": "/nonexistent"}, []string{"--config", yaml, "sms"}, "from-yaml"},
		{"yaml by flag after the command", nil, []string{"sms", "--config=" + yaml}, "from-yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := runSettings(t, tt.env, tt.args...)
			if r.command != "sms" || r.cli.SMS.NATSURL != tt.want {
				t.Errorf("command %q, nats-url %q, want %q; %s", r.command, r.cli.SMS.NATSURL, tt.want, r.stderr)
			}
			if r.stderr != "" || r.stdout != "" {
				t.Errorf("output %q %q", r.stdout, r.stderr)
			}
		})
	}
	r := runSettings(t, nil, "sms", "--nats-url=x")
	if r.cli.SMS.SMSTimeout != 10*time.Second || r.cli.LogFormat != "text" || r.cli.SMS.Workers != 4 {
		t.Errorf("defaults: %+v", r.cli)
	}
	r = runSettings(t, map[string]string{"OTPOST_CONFIG": yaml, "OTPOST_SMS_TIMEOUT": "2s"}, "sms")
	if r.cli.SMS.SMSTimeout != 2*time.Second || r.cli.LogFormat != "json" {
		t.Errorf("mixed sources: timeout %s, format %s", r.cli.SMS.SMSTimeout, r.cli.LogFormat)
	}
	// The process's own environment is not read beside the one given.
	t.Setenv("OTPOST_WORKERS", "99")
	if r := runSettings(t, nil, "sms", "--nats-url=x"); r.cli.SMS.Workers != 4 {
		t.Errorf("workers = %d from the process's environment", r.cli.SMS.Workers)
	}
}

func TestYAMLValues(t *testing.T) {
	yaml := write(t, "otpost.yaml", `
nats-url: nats://a:4222
sms: {timeout: 1m30s}
workers: 8
providers: [twilio, "with,comma"]
limits: {twilio: 10, other: 5}
tags:
  a: "1;2"
twilio:
  token: 0123456
sender: +14155550100
database-url: ~
simulate-only: true
`)
	r := runSettings(t, nil, "sms", "--config", yaml)
	want := sampleSMS{
		NATSURL: "nats://a:4222", SMSTimeout: 90 * time.Second, Workers: 8, Providers: []string{"twilio", "with,comma"},
		Limits: map[string]int{"twilio": 10, "other": 5}, Tags: map[string]string{"a": "1;2"}, TwilioToken: "0123456",
		Sender: "+14155550100", DatabaseURL: "postgres://otpost:hunter2@localhost/otpost", SimulateOnly: true,
	}
	if d := cmp.Diff(want, r.cli.SMS); d != "" || r.code != 0 {
		t.Errorf("exit %d %s\n%s", r.code, r.stderr, d)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "~\n"} {
		if r := runSettings(t, nil, "sms", "--nats-url=x", "--config", write(t, "empty.yaml", empty)); r.code != 0 {
			t.Errorf("empty file %q: %s", empty, r.stderr)
		}
	}
}

func TestFileSettings(t *testing.T) {
	for text, want := range map[string]string{"s3cret": "s3cret", "s3cret\n": "s3cret", "s3cret\r\n": "s3cret", "s3cret\n\n": "s3cret\n", " s \n": " s "} {
		r := runSettings(t, map[string]string{"OTPOST_TWILIO_TOKEN_FILE": write(t, "token", text)}, "sms", "--nats-url=x")
		if r.cli.SMS.TwilioToken != want {
			t.Errorf("%q gives %q, want %q; %s", text, r.cli.SMS.TwilioToken, want, r.stderr)
		}
	}
	// OTPOST_TLS_CERT_FILE is the variable of --tls-cert-file, not the file of --tls-cert.
	r := runSettings(t, map[string]string{"OTPOST_TLS_CERT_FILE": "/etc/cert.pem", "OTPOST_TLS_CERT": "x"}, "sms", "--nats-url=x")
	if r.cli.SMS.TLSCertFile != "/etc/cert.pem" || r.cli.SMS.TLSCert != "x" {
		t.Errorf("tls-cert-file = %q, tls-cert = %q; %s", r.cli.SMS.TLSCertFile, r.cli.SMS.TLSCert, r.stderr)
	}
	// env:"-" keeps a flag off the environment, its file included.
	r = runSettings(t, map[string]string{"OTPOST_SENDER": "x", "OTPOST_SENDER_FILE": "/nonexistent"}, "sms", "--nats-url=x")
	if r.code != 0 || r.cli.SMS.Sender != "" {
		t.Errorf("sender = %q; %s", r.cli.SMS.Sender, r.stderr)
	}
}

func TestOneFileMayServeSeveralCommands(t *testing.T) {
	file := write(t, "otpost.yaml", "nats-url: x\nschema-owner: of another command\n")
	if r := runSettings(t, nil, "sms", "--config", file); r.code != 0 || r.cli.SMS.NATSURL != "x" {
		t.Errorf("nats-url = %q, exit %d: %s", r.cli.SMS.NATSURL, r.code, r.stderr)
	}
}

func TestErrors(t *testing.T) {
	cfg := func(text string) string { return write(t, "otpost.yaml", text) }
	unknown, nested, underscore := cfg("nats-url: x\n\nnats-ulr: y\n"), cfg("nats: {url: x, cluster: y}"), cfg("nats_url: x")
	twice, list, syntax, scalar := cfg("nats-url: x\nnats: {url: y}"), cfg("nats-url: [x]"), cfg("a: b: c"), cfg("hello")
	duration, docs, self, alias := cfg("nats-url: x\nsms-timeout: 5\n"), cfg("nats-url: x\n---\nworkers: 1\n"), cfg("config: y"), cfg("nats-url: &a x\nsender: *a")
	pin := cfg("nats-url: x\npin: hunter2")
	url := map[string]string{"OTPOST_NATS_URL": "x"}
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"missing", nil, []string{"sms"}, `otpost sms: missing setting --nats-url (or OTPOST_NATS_URL)`},
		{
			"several missing", nil,
			[]string{"migrate"},
			`otpost migrate: missing settings --database-url (or OTPOST_DATABASE_URL), --schema-owner (or OTPOST_SCHEMA_OWNER)`,
		},
		{"duration flag", url, []string{"sms", "--sms-timeout=abc"}, `otpost sms: --sms-timeout: time: invalid duration "abc"`},
		{
			"duration env",
			map[string]string{"OTPOST_SMS_TIMEOUT": "abc"},
			[]string{"sms"},
			`otpost sms: --sms-timeout: time: invalid duration "abc" (from OTPOST_SMS_TIMEOUT)`,
		},
		{
			"duration yaml", nil,
			[]string{"sms", "--config", duration},
			`otpost sms: --sms-timeout: time: missing unit in duration "5" (from ` + duration + `:2)`,
		},
		{"enum", url, []string{"sms", "--log-format=xml"}, `otpost sms: --log-format must be one of "text","json" but got "xml"`},
		{
			"both",
			map[string]string{"OTPOST_NATS_URL": "x", "OTPOST_NATS_URL_FILE": "y"},
			[]string{"sms"},
			`otpost sms: both OTPOST_NATS_URL and OTPOST_NATS_URL_FILE are set`,
		},
		{
			"both, and the flag",
			map[string]string{"OTPOST_NATS_URL": "x", "OTPOST_NATS_URL_FILE": "y"},
			[]string{"sms", "--nats-url=z"},
			`otpost sms: both OTPOST_NATS_URL and OTPOST_NATS_URL_FILE are set`,
		},
		{
			"no such secret file",
			map[string]string{"OTPOST_TWILIO_TOKEN_FILE": "/nonexistent/token"},
			[]string{"sms", "--nats-url=z"},
			`otpost sms: --twilio-token: OTPOST_TWILIO_TOKEN_FILE: open /nonexistent/token: no such file or directory`,
		},
		{"unknown flag", nil, []string{"sms", "--nats-ulr=x"}, `otpost sms: unknown flag --nats-ulr, did you mean "--nats-url"?`},
		{"unknown command", nil, []string{"smss"}, `otpost: unexpected argument smss, did you mean "sms"?`},
		{"no command", nil, nil, `otpost: expected one of "sms", "migrate", "keys"`},
		{"missing argument", nil, []string{"keys", "init"}, `otpost keys init: expected "<dir>"`},
		{"yaml: unknown", nil, []string{"sms", "--config", unknown}, `otpost sms: ` + unknown + `:3: unknown setting "nats-ulr"`},
		{"yaml: unknown nested", nil, []string{"sms", "--config", nested}, `otpost sms: ` + nested + `:1: unknown setting "nats-cluster"`},
		{
			"yaml: underscore", nil,
			[]string{"sms", "--config", underscore},
			`otpost sms: ` + underscore + `:1: unknown setting "nats_url", did you mean "nats-url"?`,
		},
		{"yaml: itself", nil, []string{"sms", "--config", self}, `otpost sms: ` + self + `:1: unknown setting "config"`},
		{"yaml: twice", nil, []string{"sms", "--config", twice}, `otpost sms: ` + twice + `:2: setting "nats-url" is set in line 1 already`},
		{"yaml: list", nil, []string{"sms", "--config", list}, `otpost sms: ` + list + `:1: setting "nats-url" takes one value, not a list`},
		{"yaml: syntax", nil, []string{"sms", "--config", syntax}, `otpost sms: ` + syntax + `: yaml: `},
		{"yaml: no map", nil, []string{"sms", "--config", scalar}, `otpost sms: ` + scalar + `:1: settings must be a map of names to values`},
		{"yaml: documents", nil, []string{"sms", "--config", docs}, `otpost sms: ` + docs + `: more than one YAML document`},
		{"yaml: alias", nil, []string{"sms", "--config", alias}, `otpost sms: ` + alias + `:2: setting "sender": aliases`},
		{
			"yaml: missing file",
			map[string]string{"OTPOST_CONFIG": "/nonexistent"},
			[]string{"sms"},
			`otpost sms: reading settings: open /nonexistent: no such file or directory`,
		},
		{"secret flag", url, []string{"sms", "--pin=hunter2"}, `otpost sms: --pin: invalid value (not shown: it is secret)`},
		{
			"secret env",
			map[string]string{"OTPOST_PIN": "hunter2"},
			[]string{"sms"},
			`otpost sms: --pin: invalid value (not shown: it is secret) (from OTPOST_PIN)`,
		},
		{
			"secret yaml", nil,
			[]string{"sms", "--config", pin},
			`otpost sms: --pin: invalid value (not shown: it is secret) (from ` + pin + `:2)`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := runSettings(t, tt.env, tt.args...)
			if r.code != exitUsage || r.command != "" {
				t.Errorf("exit %d, command %q", r.code, r.command)
			}
			if !strings.HasPrefix(r.stderr, tt.want) || strings.Count(r.stderr, "\n") != 1 || r.stdout != "" {
				t.Errorf("stderr %q\n  want %q", r.stderr, tt.want)
			}
			if strings.Contains(r.stderr, "hunter2") {
				t.Errorf("a secret is shown: %s", r.stderr)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	// Help needs no settings, and shows nothing of those that there are.
	r := runSettings(t, map[string]string{"OTPOST_TWILIO_TOKEN": "s3cret", "OTPOST_CONFIG": "/nonexistent"}, "sms", "--help")
	if r.code != 0 || r.command != "" || r.stderr != "" {
		t.Errorf("exit %d, command %q, stderr %q", r.code, r.command, r.stderr)
	}
	flat := strings.Join(strings.Fields(r.stdout), " ")
	for _, want := range []string{
		"--nats-url=URL", "Where NATS is (required; OTPOST_NATS_URL).",
		"--sms-timeout=DURATION", "(default 10s; OTPOST_SMS_TIMEOUT)",
		"(one of text, json; default text; OTPOST_LOG_FORMAT)",
		"(default hidden; OTPOST_TWILIO_TOKEN or OTPOST_TWILIO_TOKEN_FILE)",
		"The number to send from.", "postgres://otpost:xxxxx@localhost/otpost",
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("help lacks %q:\n%s", want, r.stdout)
		}
	}
	for _, not := range []string{"built-in-secret", "s3cret", "hunter2", "OTPOST_SENDER", "OTPOST_HELP", "OTPOST_VERSION"} {
		if strings.Contains(r.stdout, not) {
			t.Errorf("help shows %q:\n%s", not, r.stdout)
		}
	}
	if r := runSettings(t, nil, "--version"); r.code != 0 || r.stdout != "v1.2.3\n" || r.command != "" {
		t.Errorf("--version: exit %d, %q", r.code, r.stdout)
	}
	if r := runSettings(t, nil, "--help"); r.code != 0 || !strings.Contains(r.stdout, "keys init") || strings.Contains(r.stdout, "hunter2") {
		t.Errorf("--help: exit %d\n%s", r.code, r.stdout)
	}
}
