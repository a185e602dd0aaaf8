package browser

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	_ "github.com/lib/pq" // the driver "postgres"
)

// What people have at hand, and what others do behind their backs.

// clipboard is one for all, as it is on any machine.
var clipboard sync.Mutex

// mayUseClipboard lets the pages of otpost read and write the clipboard, as a user allows it.
func (p *person) mayUseClipboard() {
	p.t.Helper()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted, Origin: system.Pages,
			BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *person) clipboard() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`navigator.clipboard.readText()`, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// paste puts a text into the clipboard and pastes it into a field.
func (p *person) paste(label, text string) {
	p.t.Helper()
	clipboard.Lock()
	defer clipboard.Unlock()
	p.fill(label, "")
	quoted, _ := json.Marshal(text)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`navigator.clipboard.writeText(%s).then(() => true)`, quoted), chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	p.press(pasteKey)
}

// plugInKey gives the browser a security key whose owner touches it whenever it asks.
func (p *person) plugInKey() {
	p.t.Helper()
	p.do("plug in a security key", command(webauthn.Enable, webauthn.EnableParams{}),
		command(webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb,
			HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		}}))
}

// closeBrowser forgets what a browser forgets that is closed: the session at the shop, not that it is trusted.
func (p *person) closeBrowser() {
	p.t.Helper()
	p.do("close the browser", command(network.DeleteCookies, network.DeleteCookiesParams{Name: "__Host-shop-session", URL: system.Shop}))
}

// paper is what stands on the page when it is printed.
func (p *person) paper() string {
	p.t.Helper()
	cmd := exec.CommandContext(p.ctx, "pdftotext", "-layout", "-", "-")
	cmd.Stdin = bytes.NewReader(p.printed())
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatal(err)
	}
	return string(out)
}

// user is what the shop calls the person.
func (p *person) user() string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(system.dir, "shop.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var file struct {
		Users []struct{ ID, Email string } `json:"users"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		p.t.Fatal(err)
	}
	for _, u := range file.Users {
		if u.Email == p.email {
			return u.ID
		}
	}
	p.t.Fatalf("the shop does not know %s", p.email)
	return ""
}

// api asks the gateway for something, as the shop does.
func (p *person) api(path string, request, reply any) {
	p.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(p.ctx, http.MethodPost, system.HTTP+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+system.App.APIKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		p.t.Fatalf("%s: %d %s (%v)", path, res.StatusCode, text, err)
	}
	if reply != nil {
		if err := json.Unmarshal(text, reply); err != nil {
			p.t.Fatal(err)
		}
	}
}

// erased tells otpost that the person's devices were erased.
func (p *person) erased() {
	p.t.Helper()
	p.api("/v1/signals/device.erased", map[string]any{"user": p.user()}, nil)
}

// link is a way into the pages for which the shop did not ask for the password lately.
func (p *person) link(page, locale string) string {
	p.t.Helper()
	var reply struct {
		URL string `json:"url"`
	}
	p.api("/v1/page-sessions", map[string]any{
		"user": p.user(), "session": "session-of-a-test", "page": page, "locale": locale, "account": p.email,
		"return_url": system.Shop + "/return", "reauthenticate_url": system.Shop + "/password",
	}, &reply)
	return reply.URL
}

// runOut lets the open challenge of the person run out: five minutes are too long for a test.
func (p *person) runOut() {
	p.t.Helper()
	p.challenge(`expires_at = clock_timestamp() - interval '1 ms'`)
}

// cooledDown lets the time pass that has to lie between two messages.
func (p *person) cooledDown() {
	p.t.Helper()
	p.challenge(`next_send_at = clock_timestamp() - interval '1 ms'`)
}

// challenge changes the person's open challenge behind otpost's back.
func (p *person) challenge(set string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	db, err := sql.Open("postgres", system.Database)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	res, err := db.ExecContext(ctx, `UPDATE challenges SET `+set+` WHERE user_id = $1 AND state = 'open'`, p.user())
	if err != nil {
		p.t.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		p.t.Fatalf("%d challenges were changed: %v", n, err)
	}
}
