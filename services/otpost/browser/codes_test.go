package browser

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"regexp"
	"strings"

	"github.com/chromedp/chromedp"
)

var (
	sixDigits   = regexp.MustCompile(`(?:^|\D)(\d{6})(?:\D|$)`)
	eightDigits = regexp.MustCompile(`(?:^|\D)(\d{8})(?:\D|$)`)
)

// code waits for a message with a code of six digits that has not been read before.
func (p *person) code(to string) string {
	p.t.Helper()
	return p.message(to, sixDigits)
}

// message waits for a message that has not been read before and returns what was found in it.
func (p *person) message(to string, what *regexp.Regexp) (found string) {
	p.t.Helper()
	p.until("for a message to "+to, func() (bool, error) {
		list, err := messages(p.ctx, to)
		if err != nil {
			return false, err
		}
		for _, m := range list {
			if p.seen[m.ID] {
				continue
			}
			if code := what.FindStringSubmatch(m.Text); code != nil {
				p.seen[m.ID], found = true, code[1]
				return true, nil
			}
		}
		return false, fmt.Errorf("%d messages, none new", len(list))
	})
	return found
}

// An authenticator is the app on a phone: oathtool, which others have written, with what zbarimg read from the screen.
type authenticator struct {
	p      *person
	secret string
	label  string // of the account
}

// scan reads the picture on the screen.
func (p *person) scan() *authenticator {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.ScreenshotScale(chromedp.CSS("img.qr"), 3))
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", "png:-")
	cmd.Stdin = bytes.NewReader(picture)
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("zbarimg cannot read the picture: %v", err)
	}
	at, err := url.Parse(strings.TrimSpace(string(out)))
	if err != nil || at.Scheme != "otpauth" || at.Host != "totp" {
		p.t.Fatalf("the picture is not that of an authenticator app: %v", err)
	}
	return &authenticator{p: p, secret: at.Query().Get("secret"), label: strings.TrimPrefix(at.Path, "/")}
}

// code is what the app shows so many steps of half a minute from now. A code is taken once, so one step after another serves a test that does not wait.
func (a *authenticator) code(steps int) string {
	a.p.t.Helper()
	out, err := exec.CommandContext(a.p.ctx, "oathtool", "--totp", "--base32", "--now", fmt.Sprintf("%d seconds", 30*steps), a.secret).
		Output() //nolint:gosec // a test's own
	if err != nil {
		a.p.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
