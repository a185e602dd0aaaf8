package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/otposttest"
)

// codeInInbox waits for a message to an address beside those that are known, and returns its code.
func codeInInbox(t *testing.T, inbox, to string, known map[string]bool) (code string) {
	t.Helper()
	digits := regexp.MustCompile(`(?:^|\D)(\d{6})(?:\D|$)`)
	otposttest.Eventually(t, "a code for "+to+" in the inbox", func() bool {
		_, body := get(inbox + "/api/messages?" + url.Values{"channel": {"sms"}, "to": {to}}.Encode())
		var messages []struct{ ID, Text string }
		if json.Unmarshal([]byte(body), &messages) != nil {
			return false
		}
		for _, m := range messages {
			if known[m.ID] {
				continue
			}
			if found := digits.FindStringSubmatch(m.Text); found != nil {
				known[m.ID], code = true, found[1]
				return true
			}
		}
		return false
	})
	return code
}

// What a newcomer does who opens the demo shop, over HTTP alone and with scripts off: from sign-up to a verified login, a purchase and a restart.
func TestShop(t *testing.T) {
	dir := openDir(t)
	p := command(t, dir, "up", "--no-show")
	e := awaitUp(t, p, dir)
	const phone, known = "+1 415 555 0147", "+14155550147"
	seen := map[string]bool{}
	b := otposttest.NewBrowser(t)
	says := func(path string, texts ...string) {
		t.Helper()
		b.At(path)
		if b.Status != http.StatusOK || b.URL.RawQuery != "" {
			t.Fatalf("at %s: %d", b.URL, b.Status)
		}
		b.Says(texts...)
	}
	code := func() map[string]string { return map[string]string{"code": codeInInbox(t, e.Inbox, known, seen)} }
	ann := map[string]string{"email": "ann@example.com", "password": "correct horse battery"}
	signIn := func() {
		t.Helper()
		b.Open(e.Shop + "/sign-in")
		b.Fill("/sign-in", ann)
	}

	b.Open(e.Shop + "/")
	says("/", "Things for a quiet desk", "This is a demo", "the inbox")
	b.Open("/sign-up")
	b.Fill("/sign-up", ann)
	says("/welcome", "Protect your account")
	b.Fill("/security", nil)
	says("/setup", "ann@example.com")
	if b.URL.Host != strings.TrimPrefix(e.Pages, "http://") {
		t.Errorf("the set-up is at %s, want %s", b.URL, e.Pages)
	}
	b.Open("/setup/text")
	b.Fill("/setup/text", map[string]string{"address": phone})
	says("/setup/code")
	b.Fill("/setup/code", code())
	says("/setup/codes")
	b.Fill("/setup/codes/print", nil)
	says("/setup/codes/print")
	b.Open("/setup/codes")
	b.Fill("/setup/codes", nil)
	b.At("/setup/done")
	b.Fill("/setup/done", nil)
	says("/account", "Your second factor is set up", "text message", "Backup codes left: 10")
	if b.URL.Host != strings.TrimPrefix(e.Shop, "http://") {
		t.Errorf("the set-up leads back to %s, want %s", b.URL, e.Shop)
	}
	b.Fill("/sign-out", nil)
	says("/", "You are signed out")

	signIn()
	b.At("/challenge")
	b.Open(e.Shop + "/account")
	says("/second-step", "Your password was right")
	b.Fill("/second-step", nil)
	b.At("/challenge")
	if b.Fill("/challenge", map[string]string{"code": "000000"}); b.Status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong code: %d at %s", b.Status, b.URL)
	}
	right := code()
	right["trust"] = "yes"
	b.Fill("/challenge", right)
	says("/account", "password, one-time code and text message")

	b.Forget("__Host-shop-session") // the browser is closed, and opened again: it is trusted
	signIn()
	says("/account", "you trust this browser")

	b.Open("/buy/lamp")
	b.Fill("/buy/lamp", nil)
	says("/challenge", "89.00 EUR", "Demo shop") // a trusted browser does not stand in for it
	b.Fill("/challenge", code())
	says("/account", "Your order is placed", "confirmed by your second factor")

	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status := p.exit(t, 30*time.Second); status != 0 {
		t.Fatalf("up ended with status %d:\n%s", status, p.out)
	}
	p = command(t, dir, "up", "--no-show")
	e = awaitUp(t, p, dir) // perhaps on other ports, where others run beside
	signIn()
	says("/account", "you trust this browser") // the key of the app, the users and the trust are what they were
	b.Fill("/sign-out", nil)
	otposttest.Eventually(t, "the browser is trusted no more", func() bool {
		signIn()
		return b.URL.Path == "/challenge"
	})
}
