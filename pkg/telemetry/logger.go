// Package telemetry makes the logger and the metrics of a process.
//
// The first defence against leaks is that nobody logs a code, a secret or an address. The logger is the second: it replaces the value of
// every attribute whose key names such a thing. It does not look into messages, into the fields of logged structs or into error texts.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"unicode"
)

// redacted stands for a value that must not be seen.
const redacted = "[redacted]"

// NewLogger returns a logger that writes to w one line a record, as "text" or "json", of the given level ("debug", "info", "warn",
// "error") and above. Attributes that are named like something confidential are redacted.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is none of debug, info, warn, error", level)
	}
	opts := &slog.HandlerOptions{Level: min, ReplaceAttr: redact}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q is none of text, json", format)
}

// confidential are keys that are redacted as they stand. They are everyday words with other uses in compounds: a
// remote_address tells nothing about a user's address.
var confidential = []string{"code", "codes", "to", "address", "addr", "destination", "recipient", "phone", "email", "body", "text", "html", "uri"}

// secretWords are redacted wherever they stand in a key: api_token, natsPassword, X-Secret.
var secretWords = []string{
	"secret", "secrets", "password", "passwd", "passphrase", "token", "tokens", "nonce", "otp", "totp", "credential", "credentials",
	"authorization", "cookie", "dsn", "apikey", "prf",
}

// redact is the handler's guard. It is called for each attribute that is not a group, with the groups that it stands in.
func redact(groups []string, a slog.Attr) slog.Attr {
	if isConfidential(a.Key) || slices.ContainsFunc(groups, isConfidential) {
		a.Value = slog.StringValue(redacted)
	}
	return a
}

// harmlessCodes are the words before "code" that make it something that a machine reports and nobody types.
var harmlessCodes = []string{"status", "error", "exit", "http", "smtp", "reason", "provider", "country"}

func isConfidential(key string) bool {
	if slices.Contains(confidential, strings.ToLower(key)) {
		return true
	}
	w := words(key)
	if n := len(w); n > 1 && (w[n-1] == "code" || w[n-1] == "codes") && !slices.Contains(harmlessCodes, w[n-2]) {
		return true // backup_code, smsCode
	}
	return slices.ContainsFunc(w, func(word string) bool { return slices.Contains(secretWords, word) }) ||
		strings.HasSuffix(strings.Join(w, "_"), "api_key")
}

// words splits a key at punctuation and where lower case turns to upper case, and lowers it.
func words(key string) []string {
	var b strings.Builder
	lower := false
	for _, r := range key {
		if unicode.IsUpper(r) && lower {
			b.WriteByte(' ')
		}
		lower = unicode.IsLower(r) || unicode.IsDigit(r)
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.FieldsFunc(b.String(), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}
