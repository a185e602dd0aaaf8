package callback

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "vonage"), signatureSecret+"\n")
	write(t, filepath.Join(dir, "old"), oldToken)
	path := write(t, filepath.Join(dir, "callbacks.yaml"), `
callbacks:
  - {name: twilio-eu, kind: twilio, auth_token: `+authToken+`}
  - name: twilio-us
    kind: twilio
    auth_token_file: [`+filepath.Join(dir, "old")+`, old]
    url: https://edge.example/twilio/
  - {name: vonage, kind: vonage, signature_secret_file: vonage, signature_method: sha512}
  - {name: own, kind: webhook, secret: [`+webhookSecret()+`, `+webhookSecret()+`]}
  - {name: relay, kind: dsn, secret: `+webhookSecret()+`}
`)
	sources, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) != 5 || sources[0].Secrets[0] != authToken || len(sources[1].Secrets) != 2 || sources[1].Secrets[1] != oldToken ||
		sources[2].Secrets[0] != signatureSecret || sources[2].Method != SHA512 || len(sources[3].Secrets) != 2 || sources[4].Kind != DSN {
		t.Error("something else was read")
	}
	public, _ := url.Parse("https://auth.example")
	h, err := New(Config{Sources: sources, PublicURL: public})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := h.sources["twilio-eu"].URL, h.sources["twilio-us"].URL; a != "https://auth.example/callbacks/twilio-eu" || b != "https://edge.example/twilio" {
		t.Error(a, b)
	}
	if text := fmt.Sprintf("%v %+v %#v", sources, sources[0], sources[0]); strings.Contains(text, authToken) {
		t.Errorf("a secret is printed: %s", text)
	}
}

func TestRefusedFiles(t *testing.T) {
	const t1 = "auth_token: " + authToken
	for text, want := range map[string]string{
		"":                                    "callbacks: names no provider",
		"callbacks: []":                       "callbacks: names no provider",
		"callback: []":                        "line 1: field callback not found",
		"callbacks: {name: a}":                "line 1: the value is of another type",
		"callbacks: [{kind: twilio}]":         `provider "number 1": name: must be 1 to 32`,
		"callbacks: [{name: A, kind: x}]":     `provider "A": name: must be`,
		"callbacks: [{name: a}]":              `provider "a": secret: is missing`,
		"callbacks: [{name: a, colour: red}]": "field colour not found",
		"callbacks: [{name: a, kind: smoke, secret: " + authToken + "}]":                                   `provider "a": kind: must be twilio, vonage, webhook or dsn`,
		"callbacks: [{name: a, kind: twilio}]":                                                             `provider "a": auth_token: is missing`,
		"callbacks: [{name: a, kind: twilio, auth_token: short}]":                                          `auth_token: must have at least 16`,
		"callbacks: [{name: a, kind: twilio, auth_token: {x: " + authToken + "}}]":                         "must be a text or a list",
		"callbacks: [{name: a, kind: twilio, secret: " + authToken + "}]":                                  `secret: a provider of kind "twilio" has auth_token`,
		"callbacks: [{name: a, kind: twilio, " + t1 + ", auth_token_file: x}]":                             "auth_token: is given beside auth_token_file",
		"callbacks: [{name: a, kind: twilio, auth_token_file: missing}]":                                   "auth_token_file: open",
		"callbacks: [{name: a, kind: twilio, " + t1 + ", signature_method: sha256}]":                       "signature_method: is of kind vonage only",
		"callbacks: [{name: a, kind: twilio, " + t1 + "}, {name: a, kind: twilio, " + t1 + "}]":            `provider "a": is named twice`,
		"callbacks: [{name: a, kind: twilio, " + t1 + ", url: 'auth.example'}]":                            "url: must be an address",
		"callbacks: [{name: a, kind: twilio, " + t1 + ", url: 'https://x/?q=1'}]":                          "url: must be an address",
		"callbacks: [{name: a, kind: vonage, signature_secret: x}]":                                        "signature_secret: must have at least 16",
		"callbacks: [{name: a, kind: vonage, signature_secret: " + authToken + ", signature_method: md5}]": "signature_method: must be sha256, sha512 or md5hash",
		"callbacks: [{name: a, kind: webhook, secret: whsec_%%%}]":                                         "secret: must be base64",
		"callbacks: [{name: a, kind: dsn, secret: whsec_AAAA}]":                                            "secret: must be of 24 to 64 bytes, not 3",
		"callbacks: [": "yaml:",
	} {
		path := write(t, filepath.Join(t.TempDir(), "c.yaml"), text)
		_, err := ReadFile(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s\n%v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), authToken) {
			t.Errorf("the error quotes a secret: %v", err)
		}
	}
	if _, err := ReadFile("/nowhere/c.yaml"); err == nil || !strings.HasPrefix(err.Error(), "reading callbacks: ") {
		t.Error(err)
	}
}

func TestExampleFile(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/callbacks.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, secret := range map[string]string{
		"twilio-eu-auth-token": authToken, "twilio-us-auth-token": authToken, "twilio-us-auth-token-before": oldToken,
		"vonage-signature-secret": signatureSecret, "own-webhook": webhookSecret(), "relay-webhook": webhookSecret(),
	} {
		write(t, filepath.Join(dir, name), secret+"\n")
	}
	path := write(t, filepath.Join(dir, "callbacks.yaml"), strings.ReplaceAll(string(text), "/run/secrets", dir))
	if sources, err := ReadFile(path); err != nil || len(sources) != 5 {
		t.Errorf("%v, %v", sources, err)
	}
}
