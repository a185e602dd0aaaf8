package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/email"
	"github.com/otpost/otpost/services/sms"
)

// This file makes a provider of an entry of the file, kind by kind.

// A providerKind is what otpost can speak to.
type providerKind struct {
	channels []otp.Channel // that it can carry
	build    func(e *providerEntry, b entryBuild) (built, error)
}

var providerKinds = map[string]providerKind{
	"twilio":  {[]otp.Channel{otp.SMS, otp.Voice, otp.WhatsApp}, buildTwilio},
	"vonage":  {[]otp.Channel{otp.SMS}, buildVonage},
	"sns":     {[]otp.Channel{otp.SMS}, buildSNS},
	"webhook": {[]otp.Channel{otp.SMS, otp.Voice, otp.WhatsApp, otp.Email}, buildWebhook},
	"smtp":    {[]otp.Channel{otp.Email}, buildSMTP},
}

// entryBuild is what the kinds make a provider of, beside its section.
type entryBuild struct {
	folder      folder
	timeout     time.Duration
	connections int // as many as there are hand-overs at once
	log         *slog.Logger
}

// A built provider, and whether it tells receipts.
type built struct {
	delivery.Provider
	receipts bool
}

func buildTwilio(e *providerEntry, b entryBuild) (built, error) {
	s := e.Twilio
	if err := checkCallback("twilio.callback", s.Callback, e.Name); err != nil {
		return built{}, err
	}
	token, err := b.folder.secret("twilio.auth_token", s.AuthToken, s.AuthTokenFile)
	if err != nil {
		return built{}, err
	}
	secret, err := b.folder.secret("twilio.api_secret", s.APISecret, s.APISecretFile)
	if err != nil {
		return built{}, err
	}
	cfg := sms.TwilioConfig{
		Name: e.Name, AccountSID: s.AccountSID, AuthToken: token, APIKey: s.APIKey, APISecret: secret, From: s.From, MessagingServiceSID: s.MessagingServiceSID,
		ContentSID: s.ContentSID, Voices: s.Voices, BaseURL: s.BaseURL, Callback: s.Callback, Timeout: b.timeout, Connections: b.connections, Logger: b.log,
		Now: time.Now,
	}
	out := built{receipts: s.Callback != ""}
	switch otp.Channel(e.Channel) {
	case otp.Voice:
		out.Provider, err = kept(sms.NewTwilioVoice(cfg))
	case otp.WhatsApp:
		out.Provider, err = kept(sms.NewTwilioWhatsApp(cfg))
	default:
		out.Provider, err = kept(sms.NewTwilio(cfg))
	}
	return out, keyed("twilio", cfg, err)
}

func buildVonage(e *providerEntry, b entryBuild) (built, error) {
	s := e.Vonage
	if err := checkCallback("vonage.callback", s.Callback, e.Name); err != nil {
		return built{}, err
	}
	secret, err := b.folder.secret("vonage.api_secret", s.APISecret, s.APISecretFile)
	if err != nil {
		return built{}, err
	}
	signature, err := b.folder.secret("vonage.signature_secret", s.SignatureSecret, s.SignatureSecretFile)
	if err != nil {
		return built{}, err
	}
	cfg := sms.VonageConfig{
		Name: e.Name, APIKey: s.APIKey, APISecret: secret, SignatureSecret: signature, From: s.From, BaseURL: s.BaseURL, Callback: s.Callback, Timeout: b.timeout,
		Connections: b.connections, Logger: b.log, Now: time.Now,
	}
	p, err := kept(sms.NewVonage(cfg))
	return built{p, s.Receipts || s.Callback != ""}, keyed("vonage", cfg, err)
}

func buildSNS(e *providerEntry, b entryBuild) (built, error) {
	s := e.SNS
	secret, err := b.folder.secret("sns.secret_access_key", s.SecretAccessKey, s.SecretAccessKeyFile)
	if err != nil {
		return built{}, err
	}
	cfg := sms.SNSConfig{
		Name: e.Name, Region: s.Region, AccessKeyID: s.AccessKeyID, SecretAccessKey: secret, From: s.From, MaxPrice: s.MaxPrice, BaseURL: s.BaseURL,
		Timeout: b.timeout, Connections: b.connections, Logger: b.log, Now: time.Now,
	}
	p, err := kept(sms.NewSNS(cfg))
	return built{Provider: p}, keyed("sns", cfg, err)
}

func buildWebhook(e *providerEntry, b entryBuild) (built, error) {
	s := e.Webhook
	secret, err := b.folder.secret("webhook.secret", s.Secret, s.SecretFile)
	if err != nil {
		return built{}, err
	}
	cfg := sms.WebhookConfig{
		Name: e.Name, Channel: otp.Channel(e.Channel), URL: s.URL, Secret: secret, From: s.From, Timeout: b.timeout, Connections: b.connections, Logger: b.log,
		Now: time.Now,
	}
	p, err := kept(sms.NewWebhook(cfg))
	return built{p, s.Receipts}, keyed("webhook", cfg, err)
}

func buildSMTP(e *providerEntry, b entryBuild) (built, error) {
	s := e.SMTP
	if s.Connections == 0 { // as many as there may be hand-overs, where the entry says so
		s.Connections = min(e.Concurrency, 256)
	}
	password, err := b.folder.secret("smtp.password", s.Password, s.PasswordFile)
	if err != nil {
		return built{}, err
	}
	cfg := email.SMTPConfig{
		Name: e.Name, Host: s.Host, Port: s.Port, TLS: email.TLSMode(s.TLS), Username: s.Username, Password: password, Auth: s.Auth, From: s.From, Helo: s.Helo,
		Connections: s.Connections, MaxAge: s.MaxAge, MaxIdle: s.MaxIdle, MaxMessages: s.MaxMessages, SendTimeout: b.timeout, Logger: b.log, Now: time.Now,
	}
	if s.CA != "" {
		pem, err := b.folder.read("smtp.ca", s.CA)
		if err != nil {
			return built{}, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return built{}, errors.New("smtp.ca: the file holds no certificate")
		}
	}
	if d := s.DKIM; d != nil {
		key, err := b.folder.secret("smtp.dkim.key", d.Key, d.KeyFile)
		if err != nil {
			return built{}, err
		}
		cfg.DKIM = &email.DKIMConfig{Domain: d.Domain, Selector: d.Selector, Key: []byte(key)}
	}
	p, err := kept(email.NewSMTP(cfg))
	return built{Provider: p}, keyed("smtp", cfg, err)
}

// checkCallback refuses an address that the gateway would take for another provider's, or for nobody's: receipts would never be seen.
func checkCallback(key, callback, name string) error {
	if callback != "" && !strings.HasSuffix(strings.TrimRight(callback, "/"), "/callbacks/"+name) {
		return fmt.Errorf("%s: must end in /callbacks/%s, where the gateway takes this provider's receipts", key, name)
	}
	return nil
}

// kept returns a provider as what it is, and of a failed one nothing rather than a pointer to nothing.
func kept[P delivery.Provider](p P, err error) (delivery.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// keyed names the file's keys in a constructor's error, which names the fields of its configuration, in one line.
func keyed(section string, cfg any, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, prefix := range []string{section + ": ", section + " configuration: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if section == "smtp" {
		text = regexp.MustCompile(`\bDKIM:? (Domain|Selector|Key):`).ReplaceAllString(text, "DKIM.$1:")
	}
	fields := reflect.TypeOf(cfg)
	keys := map[string]string{"SendTimeout": "timeout", "DKIM.Domain": "smtp.dkim.domain", "DKIM.Selector": "smtp.dkim.selector", "DKIM.Key": "smtp.dkim.key"}
	for f := range fields.Fields() {
		switch f.Name {
		case "Name", "Timeout", "Channel":
			keys[f.Name] = snake(f.Name)
		case "SendTimeout":
		case "Connections":
			if keys[f.Name] = "concurrency"; section == "smtp" {
				keys[f.Name] = "smtp.connections"
			}
		default:
			keys[f.Name] = section + "." + snake(f.Name)
		}
	}
	first := true
	text = fieldName.ReplaceAllStringFunc(text, func(word string) string {
		key, ok := keys[word]
		if !ok || word == "URL" && !first { // a field's name that is a word too
			return word
		}
		first = false
		return key
	})
	return errors.New(strings.ReplaceAll(text, "\n", "; "))
}

var fieldName = regexp.MustCompile(`\b[A-Z][A-Za-z]*(\.[A-Z][a-z]+)?\b`)

// snake writes the name of a field as a key: APIKey becomes api_key, MessagingServiceSID messaging_service_sid.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		begins := i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if begins {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// ownSection says that the section of the entry's kind is missing, or that there is one of another kind.
func (e *providerEntry) ownSection() error {
	present := e.sections()
	for _, s := range present {
		if s != e.Kind {
			return fmt.Errorf("%s: is not of the kind %s", s, e.Kind)
		}
	}
	if len(present) == 0 {
		return fmt.Errorf("%s: the section is missing", e.Kind)
	}
	return nil
}

// wordList lists words for people.
func wordList[S ~string](words []S) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}
