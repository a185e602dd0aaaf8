package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// This file is the form of the file of --providers. deploy/providers.example.yaml explains every key.

// A providersFile is the whole file.
type providersFile struct {
	Providers []providerEntry `yaml:"providers"`
}

// A providerEntry is one provider. Of the sections the one of its kind has to be there, and no other.
type providerEntry struct {
	Name        string             `yaml:"name"`
	Channel     string             `yaml:"channel"`
	Kind        string             `yaml:"kind"`
	Rate        float64            `yaml:"rate"`
	Burst       int                `yaml:"burst"`
	Concurrency int                `yaml:"concurrency"`
	Timeout     time.Duration      `yaml:"timeout"`
	Breaker     breakerSection     `yaml:"breaker"`
	Cost        map[string]float64 `yaml:"cost"`

	Twilio  *twilioSection  `yaml:"twilio"`
	Vonage  *vonageSection  `yaml:"vonage"`
	SNS     *snsSection     `yaml:"sns"`
	Webhook *webhookSection `yaml:"webhook"`
	SMTP    *smtpSection    `yaml:"smtp"`
}

type breakerSection struct {
	Failures *int          `yaml:"failures"` // 0 is no breaker; a default where it is not there
	Open     time.Duration `yaml:"open"`
}

type twilioSection struct {
	AccountSID          string            `yaml:"account_sid"`
	AuthToken           string            `yaml:"auth_token"`
	AuthTokenFile       string            `yaml:"auth_token_file"`
	APIKey              string            `yaml:"api_key"`
	APISecret           string            `yaml:"api_secret"`
	APISecretFile       string            `yaml:"api_secret_file"`
	From                []string          `yaml:"from"`
	MessagingServiceSID string            `yaml:"messaging_service_sid"`
	ContentSID          string            `yaml:"content_sid"`
	Voices              map[string]string `yaml:"voices"`
	BaseURL             string            `yaml:"base_url"`
	Callback            string            `yaml:"callback"`
}

type vonageSection struct {
	APIKey              string `yaml:"api_key"`
	APISecret           string `yaml:"api_secret"`
	APISecretFile       string `yaml:"api_secret_file"`
	SignatureSecret     string `yaml:"signature_secret"`
	SignatureSecretFile string `yaml:"signature_secret_file"`
	From                string `yaml:"from"`
	BaseURL             string `yaml:"base_url"`
	Callback            string `yaml:"callback"`
	Receipts            bool   `yaml:"receipts"`
}

type snsSection struct {
	Region              string  `yaml:"region"`
	AccessKeyID         string  `yaml:"access_key_id"`
	SecretAccessKey     string  `yaml:"secret_access_key"`
	SecretAccessKeyFile string  `yaml:"secret_access_key_file"`
	From                string  `yaml:"from"`
	MaxPrice            float64 `yaml:"max_price"`
	BaseURL             string  `yaml:"base_url"`
}

type webhookSection struct {
	URL        string `yaml:"url"`
	Secret     string `yaml:"secret"`
	SecretFile string `yaml:"secret_file"`
	From       string `yaml:"from"`
	Receipts   bool   `yaml:"receipts"`
}

type smtpSection struct {
	Host         string        `yaml:"host"`
	Port         int           `yaml:"port"`
	TLS          string        `yaml:"tls"`
	CA           string        `yaml:"ca"`
	Username     string        `yaml:"username"`
	Password     string        `yaml:"password"`
	PasswordFile string        `yaml:"password_file"`
	Auth         string        `yaml:"auth"`
	From         string        `yaml:"from"`
	Helo         string        `yaml:"helo"`
	Connections  int           `yaml:"connections"`
	MaxIdle      time.Duration `yaml:"max_idle"`
	MaxAge       time.Duration `yaml:"max_age"`
	MaxMessages  int           `yaml:"max_messages"`
	DKIM         *dkimSection  `yaml:"dkim"`
}

type dkimSection struct {
	Domain   string `yaml:"domain"`
	Selector string `yaml:"selector"`
	Key      string `yaml:"key"`
	KeyFile  string `yaml:"key_file"`
}

// sections returns the names of the sections that are there.
func (e *providerEntry) sections() (present []string) {
	for _, s := range []struct {
		name  string
		there bool
	}{
		{"twilio", e.Twilio != nil}, {"vonage", e.Vonage != nil}, {"sns", e.SNS != nil}, {"webhook", e.Webhook != nil}, {"smtp", e.SMTP != nil},
	} {
		if s.there {
			present = append(present, s.name)
		}
	}
	return present
}

// parseProviders reads the file's form. Its errors quote no values, which may be secrets.
func parseProviders(path string) ([]providerEntry, error) {
	if strings.ContainsAny(path, "\r\n") { // the file's text: OTPOST_<FLAG>_FILE names a file that holds a setting, and here the setting is a path
		return nil, errors.New("--providers: must be the path of a file, and OTPOST_PROVIDERS is its variable, not OTPOST_PROVIDERS_FILE")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--providers: %w", err)
	}
	base := filepath.Base(path)
	var tree yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("%s: %s", base, withoutValues(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var file providersFile
	switch err := decoder.Decode(&file); {
	case errors.Is(err, io.EOF): // empty
	case err != nil:
		return nil, fmt.Errorf("%s: %s", base, explained(err, &tree))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one YAML document", base)
	}
	if len(file.Providers) == 0 {
		return nil, fmt.Errorf("%s: providers: none is there", base)
	}
	return file.Providers, nil
}

var (
	quotedValue   = regexp.MustCompile("`[^`]*`|anchor '[^']*'")
	lineOf        = regexp.MustCompile(`^line (\d+):`)
	unknownKey    = regexp.MustCompile(`^line (\d+): field (\S+) not found in type`)
	wrongType     = regexp.MustCompile(`^line (\d+): cannot unmarshal (\S+) .*\binto (\S+)$`)
	wrongSequence = regexp.MustCompile(`^line (\d+): cannot unmarshal (\S+) into (\S+)$`)
)

// goTypes are what people call the types of the keys' values.
var goTypes = map[string]string{
	"string": "a text", "int": "a whole number", "float64": "a number", "bool": "true or false", "time.Duration": "a duration such as 10s",
	"[]string": "a list of texts", "map[string]float64": "a map of countries to numbers", "map[string]string": "a map of texts",
	"[]main.providerEntry": "a list of providers",
}

func withoutValues(s string) string { return quotedValue.ReplaceAllString(s, "…") }

// explained turns what the YAML library says of the first wrong line into what to do about it, with the provider whose line it is.
func explained(err error, tree *yaml.Node) string {
	wrong, ok := errors.AsType[*yaml.TypeError](err)
	if !ok || len(wrong.Errors) == 0 {
		return withoutValues(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	said, line := wrong.Errors[0], 0
	switch {
	case unknownKey.MatchString(said):
		m := unknownKey.FindStringSubmatch(said)
		line, said = number(m[1]), fmt.Sprintf("line %s: there is no key %q", m[1], m[2])
	case wrongType.MatchString(said), wrongSequence.MatchString(said):
		m := wrongType.FindStringSubmatch(said)
		if m == nil {
			m = wrongSequence.FindStringSubmatch(said)
		}
		want := goTypes[m[3]]
		if want == "" {
			want = "a map of keys to values"
		}
		line, said = number(m[1]), fmt.Sprintf("line %s: must be %s", m[1], want)
	default: // such as a key that is there twice
		if m := lineOf.FindStringSubmatch(said); m != nil {
			line = number(m[1])
		}
		said = withoutValues(said)
	}
	if name := entryAt(tree, line); name != "" {
		return fmt.Sprintf("provider %q: %s", name, said)
	}
	return said
}

func number(digits string) (n int) {
	_, _ = fmt.Sscan(digits, &n)
	return n
}

// entryAt returns the name of the provider whose entry the line is in; empty where it has none.
func entryAt(tree *yaml.Node, line int) (name string) {
	if len(tree.Content) == 0 {
		return ""
	}
	list := child(tree.Content[0], "providers")
	if list == nil || list.Kind != yaml.SequenceNode {
		return ""
	}
	for _, e := range list.Content {
		if e.Line > line {
			break
		}
		name = ""
		if n := child(e, "name"); n != nil {
			name = n.Value
		}
	}
	return name
}

// child returns the value of a map's key; nil where there is none.
func child(node *yaml.Node, key string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

// A folder resolves the paths of a file's keys: from where the file is.
type folder string

func (f folder) read(key, path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(string(f), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return text, nil
}

// secret returns what stands in key, or in the file that <key>_file names, without the end of its last line.
func (f folder) secret(key, value, path string) (string, error) {
	switch {
	case value != "" && path != "":
		return "", fmt.Errorf("give %s or %s_file, not both", key, key)
	case path == "":
		return value, nil
	}
	text, err := f.read(key+"_file", path)
	if err != nil {
		return "", err
	}
	value = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("%s_file: the file is empty", key)
	}
	return value, nil
}
