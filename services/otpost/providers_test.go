package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/telemetry"
)

const (
	examplePhones = "../../deploy/providers.example.yaml"
	exampleMail   = "../../deploy/providers-email.example.yaml"
)

// defaults are what a worker says of its providers.
func defaults() providerDefaults {
	return providerDefaults{timeout: 10 * time.Second, concurrency: 64, log: slog.New(slog.DiscardHandler), metrics: telemetry.NewMetrics(telemetry.NewRegistry())}
}

// example writes an example of deploy/ to a file of the test's own, with secrets in place of those that it names.
func example(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, secret := range map[string]string{
		"twilio-api-secret": "0123456789abcdef0123456789abcdef\n", "twilio-auth-token": "fedcba9876543210fedcba9876543210", "vonage-api-secret": "hunter2hunter2\n",
		"aws-secret-access-key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "our-gateway": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\r\n",
		"post-office": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "smtp-password": "hunter2\n", "smtp-ca.pem": certificate(t), "dkim.pem": signingKey(t),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/run/secrets/", "")), 0o600); err != nil { // from where the file is
		t.Fatal(err)
	}
	return file
}

func signingKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relays"}, NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// The examples of deploy/ are files that a worker takes, and say of the first entry what they seem to say.
func TestProvidersExamples(t *testing.T) {
	t.Parallel()
	set, err := readProviders(example(t, examplePhones), phones, defaults())
	if err != nil {
		t.Fatal(err)
	}
	type told struct {
		Channel       otp.Channel
		Name, Kind    string
		Position      int
		Receipts      bool
		Default, Home int64
	}
	var got []told
	for _, p := range set {
		got = append(got, told{p.row.Channel, p.line.Name(), p.row.Kind, p.row.Position, p.row.Receipts, p.row.Costs[""], p.row.Costs["US"]})
	}
	if diff := cmp.Diff([]told{
		{otp.SMS, "twilio-eu", "twilio", 0, true, 50_000, 7_900},
		{otp.SMS, "vonage", "vonage", 1, true, 60_000, 0},
		{otp.SMS, "sns", "sns", 2, false, 0, 0},
		{otp.SMS, "our-gateway", "webhook", 3, true, 0, 0},
		{otp.Voice, "twilio-calls", "twilio", 0, true, 30_000, 0},
		{otp.WhatsApp, "twilio-whatsapp", "twilio", 0, true, 40_000, 0},
	}, got); diff != "" {
		t.Error(diff)
	}
	first, third := set[0].line.Options(), set[2].line.Options()
	if first.Rate != 50 || first.Burst != 100 || first.Concurrency != 64 || first.Timeout != 10*time.Second ||
		first.Breaker != (delivery.BreakerOptions{Failures: 5, Open: 30 * time.Second}) {
		t.Errorf("twilio-eu: %+v", first)
	}
	if third.Rate != 0 || third.Timeout != 10*time.Second || third.Concurrency != 64 ||
		third.Breaker != (delivery.BreakerOptions{Failures: 5, Open: 10 * time.Second}) {
		t.Errorf("what says nothing has other than the defaults: %+v", third)
	}
	if n := len(set.of(otp.SMS)); n != 4 || len(set.rows()) != 6 || set.longest(otp.SMS) != 11*time.Second || set.of(otp.Email) != nil {
		t.Errorf("%d providers of SMS, which take %s", n, set.longest(otp.SMS))
	}
	if err := set.close(); err != nil {
		t.Error(err)
	}

	set, err = readProviders(example(t, exampleMail), mail, defaults())
	if err != nil {
		t.Fatal(err)
	}
	if len(set) != 3 || len(set.of(otp.Email)) != 3 || set[1].line.Name() != "relay-b" || set[0].row.Costs[""] != 100 || set[0].row.Receipts {
		t.Errorf("the relays: %+v", set)
	}
	if err := set.close(); err != nil {
		t.Error(err)
	}
}

// Every key is in the examples.
func TestProvidersExamplesAreWhole(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, path := range []string{examplePhones, exampleMail} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b)
	}
	var walk func(reflect.Type)
	seen := 0
	walk = func(s reflect.Type) {
		for f := range s.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if _, ok := s.FieldByName(f.Name + "File"); ok { // the file's key is enough: the examples tell the rule
				key += "_file"
			}
			if !regexp.MustCompile(`(^|[\s{(#])` + key + `(:|\s|\))`).MatchString(text.String()) {
				t.Errorf("the examples do not have %s", key)
			}
			seen++
			under := f.Type
			for under.Kind() == reflect.Pointer || under.Kind() == reflect.Slice {
				under = under.Elem()
			}
			if under.Kind() == reflect.Struct {
				walk(under)
			}
		}
	}
	walk(reflect.TypeFor[providersFile]())
	if seen < 60 {
		t.Errorf("only %d keys were looked for", seen)
	}
}

// entry writes a file with one provider, a webhook unless kind says otherwise; more are further lines of it, indented as a key is.
func entry(name, channel, kind string, more ...string) string {
	section := map[string]string{
		"webhook": "webhook: {url: 'https://own.example/', secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}",
		"twilio":  "twilio: {account_sid: AC0123456789abcdef0123456789abcdef, auth_token: hunter2, from: [+14155550100]}",
		"vonage":  "vonage: {api_key: abcd1234, api_secret: hunter2hunter2, from: Shop}",
		"smtp":    "smtp: {host: relay.example, from: no-reply@shop.example}",
	}[kind]
	lines := []string{"providers:", "  - name: " + name, "    channel: " + channel, "    kind: " + kind}
	if section != "" && !strings.Contains(strings.Join(more, "\n"), kind+":") {
		lines = append(lines, "    "+section)
	}
	for _, m := range more {
		lines = append(lines, "    "+m)
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestProvidersFaults(t *testing.T) {
	t.Parallel()
	const own, who = "own", `p.yaml: provider "own": `
	hook := func(more ...string) string { return entry(own, "sms", "webhook", more...) }
	twilio := func(section string) string { return entry(own, "sms", "twilio", "twilio: {"+section+"}") }
	const account = "account_sid: AC0123456789abcdef0123456789abcdef, "
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "p.yaml: providers: none is there"},
		{"none", "providers: []", "p.yaml: providers: none is there"},
		{"an alias", "providers: *hunter2", "p.yaml: unknown … referenced"},
		{"no YAML", "providers: [hunter2", "p.yaml: line 1: did not find expected ',' or ']'"},
		{"two documents", hook() + "---\nproviders: []\n", "p.yaml: more than one YAML document"},
		{"an unknown key", hook("brake: 5"), who + `line 6: there is no key "brake"`},
		{"an unknown key of a section", entry(own, "sms", "webhook", "webhook: {uri: hunter2}"), who + `line 5: there is no key "uri"`},
		{"an unknown key at the top", hook() + "rates: 5\n", `line 6: there is no key "rates"`},
		{"a key twice", hook("rate: 5", "rate: 6"), who + `line 7: mapping key "rate" already defined at line 6`},
		{"no number", hook("rate: hunter2"), who + "line 6: must be a number"},
		{"no whole number", hook("burst: hunter2", "rate: 1"), who + "line 6: must be a whole number"},
		{"no duration", hook("timeout: 5"), who + "line 6: must be a duration such as 10s"},
		{"a text in place of a section", entry(own, "sms", "webhook", "webhook: hunter2"), who + "line 5: must be a map of keys to values"},
		{"no name", entry("", "sms", "webhook"), "p.yaml: provider 1: name: must have 1 to 32 of a-z, 0-9 and -, and begin with a letter or digit"},
		{"a bad name", entry("Own", "sms", "webhook"), `p.yaml: provider "Own": name: must have 1 to 32 of a-z, 0-9 and -, and begin with a letter or digit`},
		{"a name twice", hook() + strings.TrimPrefix(entry(own, "voice", "webhook"), "providers:\n"), who + "name: is that of another provider"},
		{"an unknown kind", entry(own, "sms", "pigeon"), who + `kind: must be one of smtp, sns, twilio, vonage, webhook, not "pigeon"`},
		{"an unknown channel", entry(own, "letter", "webhook"), who + `channel: must be one of sms, voice, whatsapp, email, not "letter"`},
		{"a channel that the kind has not", entry(own, "voice", "vonage"), who + "channel: the kind vonage carries sms, not voice"},
		{
			"a channel of another role", entry(own, "email", "smtp"),
			who + "channel: a file serves one role, and here it has to be one of sms, voice, whatsapp, not email",
		},
		{"no section", "providers: [{name: own, channel: sms, kind: sns}]", who + "sns: the section is missing"},
		{"another kind's section", hook("sns: {}"), who + "sns: is not of the kind webhook"},
		{"a cost below 0", hook("cost: {default: -1}"), who + "cost: default: must be 0, or 0.000001 to 100 for a message, not -1"},
		{"a cost in other units", hook("cost: {NO: 7900}"), who + "cost: NO: must be 0, or 0.000001 to 100 for a message, not 7900"},
		{"a cost of next to nothing", hook("cost: {default: 0.0000001}"), who + "cost: default: must be 0, or 0.000001 to 100 for a message, not 1e-07"},
		{"a cost that is no number", hook("cost: {default: .nan}"), who + "cost: default: must be 0, or 0.000001 to 100 for a message, not NaN"},
		{"a cost of no country", hook("cost: {UK: 0.05}"), who + `cost: "UK" is neither default nor a country of ISO 3166-1 in two capitals`},
		{"a rate too high", hook("rate: 20000"), who + "rate: must be 0.01 to 10000 messages a second, or 0 for any number, not 20000"},
		{"a burst alone", hook("burst: 5"), who + "burst: needs a rate"},
		{"too many at once", hook("concurrency: 5000"), who + "concurrency: must be 1 to 4096, or 0 for any number, not 5000"},
		{"too long", hook("timeout: 2m"), who + "timeout: must be 100ms to 1m, not 2m0s"},
		{"a rest without a breaker", hook("breaker: {failures: 0, open: 5s}"), who + "breaker.open: needs failures"},
		{"a rest too short", hook("breaker: {open: 5ms}"), who + "breaker.open: must be 1s to 1h, not 5ms"},
		{"a wrong account", twilio("account_sid: hunter2"), who + `twilio.account_sid must be "AC" and 32 letters and digits`},
		{"no credentials", twilio(account + "from: [+14155550100]"), who + "twilio.auth_token, or twilio.api_key with twilio.api_secret, must be set"},
		{"no sender", twilio(account + "auth_token: hunter2"), who + "exactly one of twilio.from and twilio.messaging_service_sid must be set"},
		{
			"a secret and its file", twilio(account + "auth_token: hunter2, auth_token_file: t"),
			who + "give twilio.auth_token or twilio.auth_token_file, not both",
		},
		{"no secret's file", twilio(account + "auth_token_file: /nonexistent"), who + "twilio.auth_token_file: open /nonexistent: no such file or directory"},
		{"a secret's file that is empty", twilio(account + "auth_token_file: /dev/null"), who + "twilio.auth_token_file: the file is empty"},
		{
			"another's callback", twilio(account + "auth_token: hunter2, from: [+14155550100], callback: 'https://otp.example/callbacks/other'"),
			who + "twilio.callback: must end in /callbacks/own, where the gateway takes this provider's receipts",
		},
		{
			"a webhook in clear text", entry(own, "sms", "webhook", "webhook: {url: 'http://own.example/'}"),
			who + "webhook.url must be https: codes travel with every request",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readProviders(write(t, "p.yaml", c.text), phones, defaults())
			if err == nil || !strings.HasSuffix(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "p.yaml: ") {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("it quotes a value, which may be a secret")
			}
		})
	}
	_, err := readProviders(write(t, "p.yaml", entry(own, "email", "smtp", "cost: {default: 0.1, US: 0.1}")), mail, defaults())
	if want := who + `cost: "US": an email has no country, give default alone`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	relay := "smtp: {host: 'no host', from: x, dkim: {domain: shop.example, selector: s, key: hunter2}}"
	_, err = readProviders(write(t, "p.yaml", entry(own, "email", "smtp", relay)), mail, defaults())
	for _, want := range []string{who + `smtp.host: "no host" is neither`, `; smtp.from: "x" is not`, "smtp.dkim.key: reading the private key"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	_, err = readProviders("providers:\n  - secret: hunter2\n", phones, defaults()) // OTPOST_PROVIDERS_FILE
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "OTPOST_PROVIDERS is its variable") {
		t.Errorf("the file's text in place of its path: %v", err)
	}
	if _, err = readProviders("/nonexistent.yaml", phones, defaults()); err == nil || !strings.HasPrefix(err.Error(), "--providers: open /nonexistent.yaml") {
		t.Errorf("no file: %v", err)
	}
}

// Providers come from the flags, which make one, or from the file, and not from both.
func TestProvidersOrFlags(t *testing.T) {
	t.Parallel()
	p := parts{log: slog.New(slog.DiscardHandler), metrics: telemetry.NewMetrics(telemetry.NewRegistry())}
	send := deliveryFlags{SendTimeout: 3 * time.Second, Lease: 15 * time.Second, Concurrency: 64}
	file := providersFlags{write(t, "p.yaml", entry("own", "voice", "webhook"))}
	twilio := twilioFlags{TwilioAccountSID: "AC0123456789abcdef0123456789abcdef", TwilioAuthToken: "0123", TwilioFrom: "+14155550100"}
	relay := smtpFlags{SMTPHost: "relay.example", SMTPFrom: "no-reply@shop.example", SMTPTLS: "starttls", SMTPAuth: "auto"}
	for name, c := range map[string]struct {
		set  func() (providerSet, error)
		want string // the provider, or the error
	}{
		"twilio":          {func() (providerSet, error) { return (&smsCmd{deliveryFlags: send, twilioFlags: twilio}).set(p) }, "twilio twilio sms 3s"},
		"file":            {func() (providerSet, error) { return (&smsCmd{deliveryFlags: send, providersFlags: file}).set(p) }, "own webhook voice 3s"},
		"twilio and file": {func() (providerSet, error) { return (&smsCmd{providersFlags: file, twilioFlags: twilio}).set(p) }, "--providers: holds all providers"},
		"neither for sms": {func() (providerSet, error) { return (&smsCmd{}).set(p) }, "--providers: no provider is given"},
		"smtp":            {func() (providerSet, error) { return (&emailCmd{deliveryFlags: send, smtpFlags: relay}).set(p) }, "smtp smtp email 3s"},
		"smtp and file":   {func() (providerSet, error) { return (&emailCmd{providersFlags: file, smtpFlags: relay}).set(p) }, "--providers: holds all relays"},
		"neither for email": {
			func() (providerSet, error) { return (&emailCmd{smtpFlags: smtpFlags{SMTPTLS: "starttls"}}).set(p) }, "--providers: no mail relay is given",
		},
		"another callback": {func() (providerSet, error) {
			f := twilio
			f.TwilioStatusCallback = "https://otp.example/receipts"
			return (&smsCmd{deliveryFlags: send, twilioFlags: f}).set(p)
		}, "--twilio-status-callback: must end in /callbacks/twilio"},
		"a bad sender": {func() (providerSet, error) {
			f := twilio
			f.TwilioFrom = "?"
			return (&smsCmd{deliveryFlags: send, twilioFlags: f}).set(p)
		}, "--twilio-from must be"},
	} {
		set, err := c.set()
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(set[0].line.Name(), " ", set[0].row.Kind, " ", set[0].row.Channel, " ", set[0].line.Options().Timeout)
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestProvidersCheckCommand(t *testing.T) {
	t.Parallel()
	sh := shell{t, nil}
	out := sh.ok("providers", "check", "--file", example(t, examplePhones))
	for _, row := range [][]string{
		{"CHANNEL", "NAME", "KIND"},
		{"sms", "twilio-eu", "twilio", "50/s", "100", "64", "10s", "5, then 30s", "yes", "0.05, CZ 0.0455, US 0.0079"},
		{"sms", "sns", "sns", "any", "-", "64", "10s", "5, then 10s", "no", "not given"},
		{"voice", "twilio-calls", "twilio", "any", "-", "16", "10s", "5, then 10s", "yes", "0.03"},
	} {
		has(t, out, row...)
	}
	out += sh.ok("providers", "check", "--file", example(t, exampleMail))
	has(t, out, "email", "relay-b", "smtp")
	for _, secret := range []string{"hunter2", "0123456789abcdef", "whsec_", "wJalr", "PRIVATE"} {
		if strings.Contains(out, secret) {
			t.Errorf("it prints %s:\n%s", secret, out)
		}
	}
	bad := write(t, "p.yaml", entry("own", "sms", "webhook", "rate: -1"))
	sh.fails(1, []string{"p.yaml", `provider "own"`, "rate: must be"}, "providers", "check", "--file", bad)
	sh.fails(1, []string{"--file: open /nonexistent"}, "providers", "check", "--file", "/nonexistent")
	sh.fails(2, []string{"--file"}, "providers", "check")
}

// closedPort is an address on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// What the first relay of the file does not take goes to the second, each with a sender of its own, through the lines that bound them.
func TestProvidersOfTheFileSend(t *testing.T) {
	t.Parallel()
	box := otposttest.Inbox(t)
	host, port := split(t, box.SMTP)
	set, err := readProviders(write(t, "p.yaml", fmt.Sprintf(`providers:
  - {name: away, channel: email, kind: smtp, breaker: {failures: 1}, smtp: {host: 127.0.0.1, port: %d, tls: none, from: a@shop.example}}
  - {name: there, channel: email, kind: smtp, smtp: {host: %s, port: %d, tls: none, from: b@shop.example}}
`, closedPort(t), host, port)), mail, defaults())
	if err != nil {
		t.Fatal(err)
	}
	m := &delivery.Message{
		Reference: "0197d1a5-0000-7000-8000-000000000000-1", To: "jane@example.com", Subject: "Code", Text: "271828", ExpiresAt: time.Now().Add(time.Minute),
	}
	for i, want := range []string{"", delivery.CodeBreaker} { // the first finds nobody there, the second is not even tried
		e := new(delivery.Error)
		if _, err := set.of(otp.Email)[0].Send(t.Context(), m); err != nil {
			e = delivery.AsError(err)
		}
		if e.Class != delivery.Transient || want != "" && e.Code != want {
			t.Errorf("message %d: %v", i, e)
		}
	}
	if _, err := set.of(otp.Email)[1].Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := box.List(inbox.Filter{})
	if len(got) != 1 || got[0].From != "b@shop.example" {
		t.Errorf("the inbox has %+v", got)
	}
	if err := set.close(); err != nil {
		t.Error(err)
	}
}
