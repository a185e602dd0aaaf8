package callback

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/pkg/otp"
)

// A Kind is how a provider tells receipts.
type Kind string

// The kinds.
const (
	Twilio  Kind = "twilio"  // status callbacks of messages and calls
	Vonage  Kind = "vonage"  // delivery receipts of the SMS API
	Webhook Kind = "webhook" // otpost's own form, signed by Standard Webhooks
	DSN     Kind = "dsn"     // a mail as it came to a relay (RFC 3464), signed by Standard Webhooks
)

// minSecret is the least length of a secret that a provider makes, in characters. Theirs have 16 and more; what is shorter is a slip.
const minSecret = 16

// A Source is a provider that receipts come from.
type Source struct {
	Name    string   // as the provider is named where messages are sent: the last part of the path
	Kind    Kind     // how it tells
	Secrets []string // any of which it signs with: more than one while one takes the place of another
	Method  string   // of Vonage's signatures; SHA256 when empty
	URL     string   // the address that it was given, without a token; by the gateway's public URL when empty

	kind kind
}

// String keeps secrets out of whatever a source is printed to.
func (s Source) String() string { return fmt.Sprintf("%s (%s)", s.Name, s.Kind) }

// GoString is String, for %#v.
func (s Source) GoString() string { return s.String() }

func (s *Source) takesGet() bool { return s.Kind == Vonage } // whose accounts are set to one or the other

func (s *Source) methods() string {
	if s.takesGet() {
		return http.MethodGet + ", " + http.MethodPost
	}
	return http.MethodPost
}

// prepare checks a source and readies what it verifies with. The error begins with the key that is wrong.
func (s *Source) prepare() error {
	if !otp.ValidProvider(s.Name) {
		return errors.New(`name: must be 1 to 32 of a-z, 0-9 and "-"`)
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("url: must be an address such as https://auth.example/callbacks/" + s.Name)
	}
	s.URL = strings.TrimSuffix(s.URL, "/")
	if len(s.Secrets) == 0 {
		return fmt.Errorf("%s: is missing", secretKey(s.Kind))
	}
	switch s.Kind {
	case Twilio:
		s.kind, err = newTwilio(s)
	case Vonage:
		s.kind, err = newVonage(s)
	case Webhook, DSN:
		var verify signed
		verify, err = newSigned(s)
		if s.Kind == DSN {
			s.kind = &dsnKind{verify}
		} else {
			s.kind = &webhookKind{verify}
		}
	default:
		return errors.New("kind: must be twilio, vonage, webhook or dsn")
	}
	return err
}

// secretKey is the key of a kind's secret in the file.
func secretKey(k Kind) string {
	switch k {
	case Twilio:
		return "auth_token"
	case Vonage:
		return "signature_secret"
	}
	return "secret"
}

// texts are one value or a list of them.
type texts []string

// UnmarshalYAML reads one value or a list of them.
func (t *texts) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*t = texts{node.Value}
		return nil
	}
	var list []string
	if err := node.Decode(&list); err != nil {
		return fmt.Errorf("line %d: must be a text or a list of texts", node.Line) // the decoder's own error would quote the value
	}
	*t = list
	return nil
}

// entry is one provider in the file.
type entry struct {
	Name                string `yaml:"name"`
	Kind                Kind   `yaml:"kind"`
	URL                 string `yaml:"url"`
	AuthToken           texts  `yaml:"auth_token"`
	AuthTokenFile       texts  `yaml:"auth_token_file"`
	SignatureSecret     texts  `yaml:"signature_secret"`
	SignatureSecretFile texts  `yaml:"signature_secret_file"`
	SignatureMethod     string `yaml:"signature_method"`
	Secret              texts  `yaml:"secret"`
	SecretFile          texts  `yaml:"secret_file"`
}

// ReadFile reads the providers that receipts come from:
//
//	callbacks:
//	  - {name: twilio-eu, kind: twilio, auth_token_file: /run/secrets/twilio-eu}
//	  - {name: vonage, kind: vonage, signature_secret_file: /run/secrets/vonage, signature_method: sha256}
//	  - {name: own, kind: webhook, secret: whsec_…}
//	  - {name: relay, kind: dsn, secret: [whsec_…, whsec_…]}
//
// A secret stands in the file or in one that <key>_file names, relative to this one; a list of either is for the time in which one takes the place of
// another. url is the address that the provider was given, where it is not that of the gateway's public URL. Errors name the file, the provider and the
// key, and quote no secret.
func ReadFile(path string) ([]Source, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading callbacks: %w", err)
	}
	defer file.Close()
	var doc struct {
		Callbacks []entry `yaml:"callbacks"`
	}
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", path, yamlFault(err))
	}
	if len(doc.Callbacks) == 0 {
		return nil, fmt.Errorf("%s: callbacks: names no provider", path)
	}
	seen := map[string]bool{}
	var sources []Source
	for i, e := range doc.Callbacks {
		s, err := e.source(filepath.Dir(path))
		if err == nil && seen[s.Name] {
			err = errors.New("is named twice")
		}
		if err == nil {
			check := s // what it is prepared with comes from the gateway's settings
			if check.URL == "" {
				check.URL = "https://localhost" + Prefix + s.Name
			}
			err = check.prepare()
		}
		if err != nil {
			name := e.Name
			if name == "" {
				name = fmt.Sprintf("number %d", i+1)
			}
			return nil, fmt.Errorf("%s: provider %q: %w", path, name, err)
		}
		seen[s.Name] = true
		sources = append(sources, s)
	}
	return sources, nil
}

// yamlFault describes what the decoder found without the values that it quotes.
func yamlFault(err error) string {
	t, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return err.Error() // of the syntax: it names the line
	}
	faults := make([]string, len(t.Errors))
	for i, f := range t.Errors {
		line, rest, _ := strings.Cut(f, ": ")
		if strings.HasPrefix(rest, "cannot unmarshal") {
			rest = "the value is of another type"
		}
		faults[i] = line + ": " + strings.TrimSuffix(rest, " in type callback.entry")
	}
	return strings.Join(faults, "; ")
}

func (e entry) source(dir string) (Source, error) {
	s := Source{Name: e.Name, Kind: e.Kind, Method: e.SignatureMethod, URL: e.URL}
	for _, given := range []struct {
		key          string
		values, file texts
	}{
		{"auth_token", e.AuthToken, e.AuthTokenFile},
		{"signature_secret", e.SignatureSecret, e.SignatureSecretFile},
		{"secret", e.Secret, e.SecretFile},
	} {
		if len(given.values) == 0 && len(given.file) == 0 {
			continue
		}
		if given.key != secretKey(e.Kind) {
			return s, fmt.Errorf("%s: a provider of kind %q has %s", given.key, e.Kind, secretKey(e.Kind))
		}
		if len(given.values) > 0 && len(given.file) > 0 {
			return s, fmt.Errorf("%s: is given beside %s_file", given.key, given.key)
		}
		s.Secrets = given.values
		for _, name := range given.file {
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return s, fmt.Errorf("%s_file: %w", given.key, err)
			}
			s.Secrets = append(s.Secrets, strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"))
		}
	}
	return s, nil
}
