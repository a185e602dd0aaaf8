package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/otposttest"
)

// command starts the command in a process of its own.
func command(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(exe, args...), out: &output{}, done: make(chan error, 1)} //nolint:noctx // ends by signal
	p.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OTPOST_") { // a database or NATS of the tester's is not for us
			p.Env = append(p.Env, v)
		}
	}
	p.Env = append(p.Env, asCommand+"=1")
	p.Stdout, p.Stderr = p.out, p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.Wait() }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("otpost %s said:\n%s", strings.Join(args, " "), p.out)
		}
	})
	return p
}

// exit waits for the process to end and returns its exit status.
func (p *process) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			return e.ExitCode()
		}
		return 0
	case <-time.After(within):
		t.Fatalf("%v is still running after %s:\n%s", p.Args[1:], within, p.out)
		return -1
	}
}

// openDir is a folder that the user whom Postgres runs as can reach: t.TempDir is closed to others.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "otpost-up-")
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // what is secret below it has its own mode
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestDemo(t *testing.T) {
	temp := openDir(t)
	t.Setenv("TMPDIR", temp)
	p := command(t, temp, "demo")
	if code := p.exit(t, 2*time.Minute); code != 0 {
		t.Fatalf("exit status %d:\n%s", code, p.out)
	}
	out := p.out.String()
	for _, want := range []string{
		`SMS  user demo-sms-`, `Email  user demo-email-`, `Authenticator app \(TOTP\)  user demo-totp-`, `3 of 3 logins verified in [\d.]+ m?s, and one account recovered`,
		`Lost phone  user demo-recovery-`, `✓ authenticator enrolled +10 backup codes saved`, `✓ phone lost, reset begun +code to s•••@example\.com`,
		`✓ proven by passphrase +waiting, takes effect in [12] s`, `✓ waiting time over +recovery\.completed +\d{4}\.\d ms`,
		`✓ the lost phone is void +0 factors, 0 backup codes`, `✓ logged in again +amr otp`,
		`✓ handed to the provider +twilio to \+1•••••0100 +[\d.]+ ms`, `✓ handed to the provider +smtp to u•••@example\.com`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output has no %s:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "✓ event received"); n != 3 {
		t.Errorf("%d timelines are whole, want 3", n)
	}
	if strings.Contains(out, "✗") || strings.Contains(out, "…") {
		t.Errorf("something failed, or is cut short:\n%s", out)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "otpost-demo-*")); len(left) > 0 {
		t.Errorf("the demo left %v behind", left)
	}
}

// endpoints is what programs read.
type endpoints struct {
	NATS, HTTP, Pages, Shop, Inbox, SMTP, Twilio, Database string
	App                                                    struct {
		Name     string
		User     string `json:"nats_user"`
		Password string `json:"nats_password"`
		Key      string `json:"api_key"`
	}
}

func awaitUp(t *testing.T, p *process, dir string) endpoints {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(p.out.String(), "otpost is up.") {
		select {
		case err := <-p.done:
			p.done <- err
			t.Fatalf("up ended: %v\n%s", err, p.out)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("up is not up:\n%s", p.out)
		}
	}
	path := filepath.Join(dir, ".otpost", "endpoints.json")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("endpoints.json has mode %o", info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var e endpoints
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// wantTidy sees that what up prints once all is there fits a terminal, and ends with where to begin.
func wantTidy(t *testing.T, out string, e endpoints) {
	t.Helper()
	_, block, _ := strings.Cut(out, "otpost is up.")
	for line := range strings.SplitSeq(block, "\n") {
		if n := utf8.RuneCountInString(line); n > 80 && !strings.Contains(line, "/tmp/") {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	if want := "\nOpen " + e.Shop + " and sign up. Codes arrive in " + e.Inbox + "\n"; !strings.HasSuffix(block, want) || !strings.HasPrefix(e.Shop, "http://localhost:") {
		t.Errorf("up ends with %q, want %q", block[max(0, len(block)-100):], want)
	}
}

// The whole of what a stranger does: up, a second up, workers of their own of which one is killed, a killed up, another up, Ctrl-C.
func TestUp(t *testing.T) {
	dir := openDir(t)
	p := command(t, dir, "up")
	e := awaitUp(t, p, dir)
	wantTidy(t, p.out.String(), e)
	if n := strings.Count(p.out.String(), "✓ event received") + strings.Count(p.out.String(), "✓ logged in again"); n != 4 {
		t.Errorf("up showed %d whole timelines, want 4", n)
	}
	find := command(t, dir, "support", "find", "--config", ".otpost/agents/alice.yaml", "--app", "demo", "u-1")
	if code := find.exit(t, 20*time.Second); code != 0 || !strings.Contains(find.out.String(), "No recovery is under way.") {
		t.Errorf("support find: exit status %d: %s", code, find.out)
	}

	second := command(t, dir, "up")
	if code := second.exit(t, 20*time.Second); code != 1 || !strings.HasPrefix(second.out.String(), "otpost up is already running in ") {
		t.Errorf("a second up: exit status %d, %q", code, second.out)
	}

	workers := []*process{
		command(t, dir, "sms", "--config", ".otpost/sms.yaml"), command(t, dir, "sms", "--config", ".otpost/sms.yaml"),
		command(t, dir, "challenge", "--config", ".otpost/challenge.yaml"), command(t, dir, "email", "--config", ".otpost/email.yaml"),
		command(t, dir, "verification", "--config", ".otpost/verification.yaml"), command(t, dir, "enrolment", "--config", ".otpost/enrolment.yaml"),
		command(t, dir, "letter", "--config", ".otpost/letter.yaml"), command(t, dir, "gateway", "--config", ".otpost/gateway.yaml"),
	}
	for _, w := range workers {
		otposttest.Eventually(t, w.Args[1]+" is ready", func() bool {
			m := listening.FindStringSubmatch(w.out.String())
			if m == nil {
				return false
			}
			status, _ := get("http://" + m[1] + "/readyz")
			return status == 200
		})
	}
	const logins = 200
	nc, err := nats.Connect(e.NATS, nats.UserInfo(e.App.User, e.App.Password))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sent := make(chan string, 2*logins)
	if _, err := nc.Subscribe("otpost.app.demo.event.challenge.sent", func(m *nats.Msg) {
		var v struct{ Data struct{ User string } }
		if json.Unmarshal(m.Data, &v) == nil {
			sent <- v.Data.User
		}
	}); err != nil {
		t.Fatal(err)
	}
	for n := range logins {
		body := fmt.Sprintf(`{"specversion":"1.0","id":"up-%d","source":"https://shop.example","type":"otpost.login.requested.v1",`+
			`"data":{"user":"up-user-%d","session":"s","to":{"sms":"%s"}}}`, n, n, phone(n))
		if _, err := nc.Request("otpost.app.demo.login", []byte(body), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if n == logins/2 {
			workers[0].kill()
		}
	}
	got := map[string]bool{}
	deadline := time.After(100 * time.Second) // what the killed one had in hand comes again after --ack-wait and its lease
	for len(got) < logins {
		select {
		case user := <-sent:
			got[user] = true
		case <-deadline:
			t.Fatalf("%d of %d codes were sent", len(got), logins)
		}
	}
	for _, w := range workers[1:] {
		if err := w.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := w.exit(t, 20*time.Second); code != 0 {
			t.Errorf("%s drained with status %d:\n%s", w.Args[1], code, w.out)
		}
	}

	p.kill()
	p = command(t, dir, "up")
	again := awaitUp(t, p, dir)
	if again.App != e.App {
		t.Errorf("after a kill the app has other credentials")
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(t, 30*time.Second); code != 0 {
		t.Errorf("up ended with status %d:\n%s", code, p.out)
	}
	for _, gone := range []string{"endpoints.json", "sms.yaml", "letter.yaml", "gateway.yaml", "agents", "postgres/data/postmaster.pid"} {
		if _, err := os.Stat(filepath.Join(dir, ".otpost", gone)); err == nil {
			t.Errorf("%s is still there after up ended", gone)
		}
	}
}
