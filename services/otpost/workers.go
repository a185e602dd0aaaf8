package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/challenge"
	"github.com/otpost/otpost/services/email"
	"github.com/otpost/otpost/services/enrolment"
	"github.com/otpost/otpost/services/letter"
	"github.com/otpost/otpost/services/sms"
	"github.com/otpost/otpost/services/verification"
)

// microVersion is the version that NATS discovery shows; it must be a semantic one.
const microVersion = "1.0.0"

type challengeCmd struct {
	workerFlags
	SweepEvery      time.Duration `default:"2s" help:"How often expired challenges are ended and lost commands found."`
	SweepGrace      time.Duration `default:"30s" help:"How long a delivery may have no outcome before its command is published again; doubled each time."`
	Keep            time.Duration `default:"168h" help:"How long challenges are kept; whole days are dropped."`
	PartitionsAhead int           `default:"3" help:"Days for which partitions are made ahead."`
}

// Run is the main of otpost challenge.
func (c *challengeCmd) Run(r *run) error {
	return runWorker(r, bus.RoleChallenge, c.workerFlags, c.build)
}

func (c *challengeCmd) build(p parts) (runner, error) {
	w, err := challenge.New(challenge.Config{
		DB: p.db, Bus: p.bus, Keys: p.keys, Metrics: p.metrics, Logger: p.log, Now: time.Now, Version: microVersion,
		Sweep: challenge.Sweep{Every: c.SweepEvery, Grace: c.SweepGrace, Keep: c.Keep, PartitionsAhead: c.PartitionsAhead},
	})
	if err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	return w, nil
}

type verificationCmd struct {
	workerFlags
}

// Run is the main of otpost verification.
func (c *verificationCmd) Run(r *run) error {
	return runWorker(r, bus.RoleVerification, c.workerFlags, c.build)
}

func (c *verificationCmd) build(p parts) (runner, error) {
	return verification.New(verification.Config{
		DB: p.db, Bus: p.bus, Keys: p.keys, Metrics: p.metrics, Logger: p.log, Now: time.Now, Version: microVersion,
	}), nil
}

type enrolmentCmd struct {
	workerFlags
	SweepEvery time.Duration `default:"500ms" help:"How often notices are written and recoveries that are due are carried out."`
	SweepGrace time.Duration `default:"30s" help:"How long a message may be unsent before its command is published again; doubled each time."`
}

// Run is the main of otpost enrolment.
func (c *enrolmentCmd) Run(r *run) error {
	return runWorker(r, bus.RoleEnrolment, c.workerFlags, c.build)
}

func (c *enrolmentCmd) build(p parts) (runner, error) {
	w, err := enrolment.New(enrolment.Config{
		DB: p.db, Bus: p.bus, Keys: p.keys, Metrics: p.metrics, Logger: p.log, Now: time.Now, Version: microVersion,
		Sweep: enrolment.Sweep{Every: c.SweepEvery, Grace: c.SweepGrace},
	})
	if err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	return w, nil
}

// deliveryFlags are what all channel workers have.
type deliveryFlags struct {
	SendTimeout time.Duration `default:"10s" help:"How long a provider may take to accept a message."`
	Lease       time.Duration `default:"15s" help:"How long a delivery is a worker's own; after that it counts as abandoned. Longer than --send-timeout; made longer where several providers need it."`
	Concurrency int           `default:"64" help:"Hand-overs at once, over each channel."`
}

func (f deliveryFlags) config(p parts) (delivery.Config, error) {
	if f.Concurrency < 1 || f.Concurrency > 4096 {
		return delivery.Config{}, fmt.Errorf("--concurrency: must be 1 to 4096, not %d", f.Concurrency)
	}
	if f.SendTimeout < 100*time.Millisecond || f.SendTimeout > time.Minute {
		return delivery.Config{}, fmt.Errorf("--send-timeout: must be 100ms to 1m, not %s", f.SendTimeout)
	}
	if f.Lease <= f.SendTimeout {
		return delivery.Config{}, fmt.Errorf("--lease: must be longer than --send-timeout (%s), not %s", f.SendTimeout, f.Lease)
	}
	return delivery.Config{
		Timeout: f.SendTimeout, Lease: f.Lease, Concurrency: f.Concurrency, Bus: p.bus, Store: postgres.NewDeliveries(p.db), Keys: p.keys,
		Metrics: p.metrics, Logger: p.log, Now: time.Now,
	}, nil
}

func (f deliveryFlags) defaults(p parts) providerDefaults {
	return providerDefaults{timeout: f.SendTimeout, concurrency: f.Concurrency, metrics: p.metrics, log: p.log}
}

// providersFlags name the file of providers.
type providersFlags struct {
	Providers string `type:"path" placeholder:"FILE" help:"YAML file with the providers, in place of the flags for one; otpost providers check reads it."`
}

type smsCmd struct {
	workerFlags
	deliveryFlags
	providersFlags
	twilioFlags
}

// twilioFlags say how to reach Twilio, where it is the only provider and sends SMS only.
type twilioFlags struct {
	TwilioAccountSID          string `name:"twilio-account-sid" placeholder:"AC…" help:"Account of Twilio; or give --providers."`
	TwilioAuthToken           string `name:"twilio-auth-token" secret:"" help:"Auth token of the account; or give an API key."`
	TwilioAPIKey              string `name:"twilio-api-key" placeholder:"SK…" help:"API key, in place of the auth token."`
	TwilioAPISecret           string `name:"twilio-api-secret" secret:"" help:"Secret of the API key."`
	TwilioFrom                string `name:"twilio-from" placeholder:"+1…" help:"Number or sender id that messages come from; or give a messaging service."`
	TwilioMessagingServiceSID string `name:"twilio-messaging-service-sid" placeholder:"MG…" help:"Messaging service, in place of a number."`
	TwilioBaseURL             string `name:"twilio-base-url" placeholder:"URL" help:"Another server that speaks Twilio's API, such as the simulator's."`
	TwilioStatusCallback      string `name:"twilio-status-callback" placeholder:"URL" help:"Where Twilio tells receipts to: the gateway's address as the world sees it, and /callbacks/twilio."`
}

// flagged names the flags in an error that names the fields of a provider's configuration, one line for all of them.
func flagged(err error, flags ...string) error {
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(strings.NewReplacer(flags...).Replace(err.Error()), "\n", "; ")
	return errors.New(text)
}

// set makes the provider of the flags, or those of the file.
func (c *smsCmd) set(p parts) (providerSet, error) {
	if c.Providers != "" {
		if c.twilioFlags != (twilioFlags{}) {
			return nil, errors.New("--providers: holds all providers, give no --twilio-… beside it")
		}
		return readProviders(c.Providers, phones, c.defaults(p))
	}
	if c.TwilioAccountSID == "" {
		return nil, errors.New("--providers: no provider is given; name a file, or give one by --twilio-account-sid and the flags beside it")
	}
	if err := checkCallback("--twilio-status-callback", c.TwilioStatusCallback, "twilio"); err != nil {
		return nil, err
	}
	cfg := sms.TwilioConfig{
		AccountSID: c.TwilioAccountSID, AuthToken: c.TwilioAuthToken, APIKey: c.TwilioAPIKey, APISecret: c.TwilioAPISecret,
		MessagingServiceSID: c.TwilioMessagingServiceSID, BaseURL: c.TwilioBaseURL, Callback: c.TwilioStatusCallback, Timeout: c.SendTimeout,
		Connections: c.Concurrency, Logger: p.log, Now: time.Now,
	}
	if c.TwilioFrom != "" {
		cfg.From = []string{c.TwilioFrom}
	}
	twilio, err := sms.NewTwilio(cfg)
	if err != nil {
		return nil, flagged(err, "twilio: ", "", "MessagingServiceSID", "--twilio-messaging-service-sid", "AccountSID", "--twilio-account-sid", "AuthToken",
			"--twilio-auth-token", "APIKey", "--twilio-api-key", "APISecret", "--twilio-api-secret", "From", "--twilio-from", "BaseURL", "--twilio-base-url",
			"Callback", "--twilio-status-callback", "Timeout", "--send-timeout", "Connections", "--concurrency")
	}
	return single(twilio, "twilio", otp.SMS, c.TwilioStatusCallback != "", c.defaults(p))
}

// Run is the main of otpost sms.
func (c *smsCmd) Run(r *run) error {
	return runWorker(r, bus.RoleSMS, c.workerFlags, c.build)
}

func (c *smsCmd) build(p parts) (runner, error) {
	cfg, err := c.config(p)
	if err != nil {
		return nil, err
	}
	set, err := c.set(p)
	if err != nil {
		return nil, err
	}
	return newSender(p, cfg, phones, set, sms.New)
}

type emailCmd struct {
	workerFlags
	deliveryFlags
	providersFlags
	smtpFlags
	bounceFlags
}

// smtpFlags say how to reach the mail relay, where there is one only.
type smtpFlags struct {
	SMTPHost        string        `name:"smtp-host" help:"Host of the mail relay; or give --providers."`
	SMTPPort        int           `name:"smtp-port" help:"Its port; 587, or 465 with --smtp-tls=implicit, or 25 with none."`
	SMTPTLS         string        `name:"smtp-tls" enum:"starttls,opportunistic,implicit,none" default:"starttls" help:"How the connection is encrypted: starttls (required), opportunistic, implicit, none."`
	SMTPCA          string        `name:"smtp-ca" type:"path" placeholder:"FILE" help:"PEM file of the authority that signed the relay's certificate."`
	SMTPUsername    string        `name:"smtp-username" help:"User to log in as; none logs in as nobody."`
	SMTPPassword    string        `name:"smtp-password" secret:"" help:"Password of the user."`
	SMTPAuth        string        `name:"smtp-auth" default:"auto" help:"Mechanism: auto, plain, login, cram-md5, scram-sha-256 or xoauth2."`
	SMTPFrom        string        `name:"smtp-from" placeholder:"MAILBOX" help:"Sender, such as 'Shop <no-reply@shop.example>'."`
	SMTPHelo        string        `name:"smtp-helo" help:"Name that the worker gives itself to the relay."`
	SMTPConnections int           `name:"smtp-connections" default:"8" help:"Connections that are kept."`
	SMTPMaxIdle     time.Duration `name:"smtp-max-idle" default:"30s" help:"An idle connection is closed after this."`
	SMTPMaxAge      time.Duration `name:"smtp-max-age" default:"5m" help:"A connection is replaced after this."`
	SMTPMaxMessages int           `name:"smtp-max-messages" default:"100" help:"A connection is replaced after so many messages."`
	DKIMDomain      string        `name:"dkim-domain" help:"Domain to sign for; the relay signs where none is given."`
	DKIMSelector    string        `name:"dkim-selector" help:"Selector of the DKIM key."`
	DKIMKey         string        `name:"dkim-key" secret:"" help:"Private key in PEM; give its file by OTPOST_DKIM_KEY_FILE."`
}

// given reports whether any of the flags is there that has no default.
func (f smtpFlags) given() bool {
	return f.SMTPHost != "" || f.SMTPPort != 0 || f.SMTPCA != "" || f.SMTPUsername != "" || f.SMTPPassword != "" || f.SMTPFrom != "" || f.SMTPHelo != "" ||
		f.DKIMDomain != "" || f.DKIMSelector != "" || f.DKIMKey != ""
}

// set makes the relay of the flags, or those of the file.
func (c *emailCmd) set(p parts) (providerSet, error) {
	if c.Providers != "" {
		if c.given() {
			return nil, errors.New("--providers: holds all relays, give no --smtp-… and --dkim-… beside it")
		}
		return readProviders(c.Providers, mail, c.defaults(p))
	}
	if c.SMTPHost == "" {
		return nil, errors.New("--providers: no mail relay is given; name a file, or give one by --smtp-host, --smtp-from and the flags beside them")
	}
	relay, err := c.relay(p.log)
	if err != nil {
		return nil, err
	}
	return single(relay, "smtp", otp.Email, false, c.defaults(p))
}

// relay makes the provider that the flags describe.
func (c *emailCmd) relay(log *slog.Logger) (*email.SMTP, error) {
	cfg := email.SMTPConfig{
		Host: c.SMTPHost, Port: c.SMTPPort, TLS: email.TLSMode(c.SMTPTLS), Username: c.SMTPUsername, Password: c.SMTPPassword, Auth: c.SMTPAuth,
		From: c.SMTPFrom, Helo: c.SMTPHelo, Connections: c.SMTPConnections, MaxAge: c.SMTPMaxAge, MaxIdle: c.SMTPMaxIdle,
		MaxMessages: c.SMTPMaxMessages, SendTimeout: c.SendTimeout, Logger: log, Now: time.Now,
	}
	if c.SMTPUsername == "" && c.SMTPAuth == "auto" { // the default asks for nothing of a relay that needs no login
		cfg.Auth = ""
	}
	if c.SMTPCA != "" {
		pem, err := os.ReadFile(c.SMTPCA)
		if err != nil {
			return nil, fmt.Errorf("--smtp-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--smtp-ca: %s holds no certificate", c.SMTPCA)
		}
	}
	if c.DKIMDomain != "" || c.DKIMSelector != "" || c.DKIMKey != "" {
		cfg.DKIM = &email.DKIMConfig{Domain: c.DKIMDomain, Selector: c.DKIMSelector, Key: []byte(c.DKIMKey)}
	}
	p, err := email.NewSMTP(cfg)
	return p, flagged(err, "smtp configuration: ", "", "Host:", "--smtp-host:", "Port:", "--smtp-port:", "TLS:", "--smtp-tls:", "Username:", "--smtp-username:",
		"Password:", "--smtp-password:", "Auth:", "--smtp-auth:", "From:", "--smtp-from:", "Helo:", "--smtp-helo:", "Connections:", "--smtp-connections:",
		"MaxAge:", "--smtp-max-age:", "MaxIdle:", "--smtp-max-idle:", "MaxMessages:", "--smtp-max-messages:", "SendTimeout:", "--send-timeout:",
		"DKIM Domain:", "--dkim-domain:", "DKIM.Domain:", "--dkim-domain:", "Domain:", "--dkim-domain:", "Selector:", "--dkim-selector:", "Key:", "--dkim-key:")
}

// Run is the main of otpost email.
func (c *emailCmd) Run(r *run) error {
	return runWorker(r, bus.RoleEmail, c.workerFlags, c.build)
}

func (c *emailCmd) build(p parts) (runner, error) {
	cfg, err := c.config(p)
	if err != nil {
		return nil, err
	}
	set, err := c.set(p)
	if err != nil {
		return nil, err
	}
	w, err := newSender(p, cfg, mail, set, func(cfg delivery.Config, _ otp.Channel, providers ...delivery.Provider) (*delivery.Worker, error) {
		return email.New(cfg, providers...)
	})
	if err != nil {
		return nil, err
	}
	return c.with(p, w)
}

type letterCmd struct {
	workerFlags
	letterDeliveryFlags
	letterFlags
}

// letterDeliveryFlags are deliveryFlags with the defaults of a print service, which takes its time over a document.
type letterDeliveryFlags struct {
	SendTimeout time.Duration `default:"30s" help:"How long a print service may take to accept a letter."`
	Lease       time.Duration `default:"45s" help:"How long a delivery is a worker's own; after that it counts as abandoned. Must be longer than --send-timeout."`
	Concurrency int           `default:"8" help:"Hand-overs to the print service at once."`
}

// letterFlags say who sends letters and who prints them.
type letterFlags struct {
	Spool         string `type:"path" placeholder:"DIR" help:"Folder that letters are written to as PDF, for printing; or give a print service."`
	PrintURL      string `name:"print-url" placeholder:"URL" help:"Print service that takes a PDF by POST."`
	PrintToken    string `secret:"" help:"Bearer token for the print service."`
	Sender        string `required:"" help:"Sender in the window: name and full postal address in one line."`
	SenderCountry string `help:"Country that letters are posted in (ISO 3166-1, two letters); addresses within it do not name it."`
	JapaneseFont  string `type:"path" placeholder:"FILE" help:"TrueType font with Japanese; without one Japanese letters are written in English."`
}

// Run is the main of otpost letter.
func (c *letterCmd) Run(r *run) error {
	return runWorker(r, bus.RoleLetter, c.workerFlags, c.build)
}

func (c *letterCmd) build(p parts) (runner, error) {
	if (c.Spool == "") == (c.PrintURL == "") {
		return nil, errors.New("give --spool or --print-url, and not both")
	}
	if c.PrintToken != "" && c.PrintURL == "" {
		return nil, errors.New("--print-token: is of --print-url only")
	}
	cfg, err := deliveryFlags(c.letterDeliveryFlags).config(p)
	if err != nil {
		return nil, err
	}
	options := letter.Options{Sender: c.Sender, SenderCountry: c.SenderCountry, JapaneseFont: c.JapaneseFont}
	if c.Spool != "" {
		spool, err := letter.NewSpool(c.Spool, p.log)
		if err != nil {
			return nil, flagged(err, "spool: ", "--spool: ")
		}
		w, err := letter.New(cfg, spool, options)
		return w, letterFlag(err)
	}
	service, err := letter.NewHTTP(letter.HTTPConfig{
		URL: c.PrintURL, Token: c.PrintToken, Timeout: c.SendTimeout, Connections: c.Concurrency, Logger: p.log, Now: time.Now,
	})
	if err != nil {
		return nil, flagged(err, "print service: ", "", "URL", "--print-url", "Token", "--print-token")
	}
	w, err := letter.New(cfg, service, options)
	if err != nil {
		return nil, letterFlag(err)
	}
	return &letterWorker{Worker: w, service: service}, nil
}

// letterFlag names the flag in an error about how letters look.
func letterFlag(err error) error {
	return flagged(err, "letter: ", "", "the sender's country", "--sender-country:", "the sender", "--sender")
}

// letterWorker closes its connections to the print service once the last letter is out.
type letterWorker struct {
	*delivery.Worker
	service *letter.HTTP
}

// Run works until ctx ends.
func (w *letterWorker) Run(ctx context.Context) error {
	defer w.service.Close()
	return w.Worker.Run(ctx)
}
