package message

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestWebOTPHost(t *testing.T) {
	for origin, want := range map[string]string{
		"https://shop.example":            "shop.example",
		"https://shop.example/":           "shop.example",
		"https://Shop.EXAMPLE":            "shop.example",
		"https://login.shop.example:8443": "login.shop.example",
		"http://localhost:8080":           "localhost",
		"http://127.0.0.1:8080":           "127.0.0.1",
		"https://xn--bcher-kva.example":   "xn--bcher-kva.example",
	} {
		if got, err := WebOTPHost(origin); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", origin, got, err, want)
		}
	}
	for _, origin := range []string{
		"", "shop.example", "//shop.example", "https://", "https:///", "ftp://shop.example", "android:apk-key-hash:x",
		"https://shop.example/login", "https://shop.example?x", "https://shop.example#x", "https://user@shop.example",
		"https://shop.example #000000\n@evil.example", "https://shop.example\n", "https://shop .example", "https://shop.example:",
		"https://shop.example:80a", "https://shop.example:1:2", "https://bücher.example", "https://[::1]:8080", "https://-shop.example",
		"https://shop..example", "https://shop.example.", "https://" + strings.Repeat("a", 64) + ".example",
		"https://" + strings.Repeat("abc.", 64) + "example",
	} {
		if got, err := WebOTPHost(origin); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %q, %v, want ErrInput", origin, got, err)
		}
	}
}

// parse follows the WICG format's section 3.2 for the last line of a message, without embedded hosts.
func parse(message string) (host, code string, ok bool) {
	last := message[strings.LastIndexByte(message, '\n')+1:]
	m := regexp.MustCompile(`^@([^\t\n\f\r ]+) #([^\t\n\f\r ]+)`).FindStringSubmatch(last)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

func TestWebOTPLineIsLastAndAlone(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		added := login(tag)
		added.Purpose = AddFactor
		for _, in := range []Input{login(tag), payment(tag), added} {
			without, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, ok := parse(without.Text); ok || strings.Contains(without.Text, "\n") {
				t.Errorf("%s: an app without an origin has more than words: %q", tag, without.Text)
			}
			in.Origin = "https://shop.example:8443"
			with, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			if host, code, ok := parse(with.Text); !ok || host != "shop.example" || code != in.Code {
				t.Errorf("%s: read %q, %q, %v from %q", tag, host, code, ok, with.Text)
			}
			if want := without.Text + "\n\n@shop.example #123456"; with.Text != want {
				t.Errorf("%s: %q, want %q", tag, with.Text, want)
			}
		}
	}
}

// No browser fills in the code of a recovery, whatever the app's origin.
func TestWebOTPLineIsForSigningInAndAddingOnly(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		for _, p := range []Purpose{Recovery, ResetAddress} {
			in := login(tag)
			in.Purpose = p
			without, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			in.Origin = "https://shop.example"
			if with, err := c.SMS(in); err != nil || with != without {
				t.Errorf("%s, %s: %q, %v, want %q", tag, p, with.Text, err, without.Text)
			}
		}
	}
}
