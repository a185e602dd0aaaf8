package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/otpost/otpost/pkg/embedded"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/sandbox"
)

const patience = 20 * time.Second

func TestStartAndClose(t *testing.T) {
	noLeaks(t)
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, Free: true})
	if moved := s.Moved(); len(moved) != 0 {
		t.Errorf("free ports were asked for, and yet: %q", moved)
	}
	for name, at := range map[string]string{"HTTP": s.Addresses().HTTP, "the inbox": s.Addresses().Inbox, "the shop": s.Addresses().Shop} {
		if status, body := get(t, at+"/healthz", ""); status != http.StatusOK || body != "ok\n" {
			t.Errorf("health of %s: %d %q", name, status, body)
		}
	}
	for _, role := range []string{"challenge", "sms", "email", "letter", "verification", "enrolment", "gateway", "operator"} {
		access := s.Role(role)
		db, err := postgres.Open(access.DatabaseURL, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Migrated(t.Context()); err != nil {
			t.Errorf("database as %s: %v", role, err)
		}
		db.Close()
		if _, err := os.Stat(filepath.Join(access.KeysDir, role)); err != nil {
			t.Errorf("keys of %s: %v", role, err)
		}
	}
	before := s.Role("sms")
	ports := s.Addresses()
	closeSandbox(t, s)
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for _, at := range []string{ports.HTTP, ports.Shop, ports.Inbox, ports.NATS, "tcp://" + ports.SMTP} {
		_, addr, _ := strings.Cut(at, "://")
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s still listens", at)
		}
	}

	again := start(t, sandbox.Config{Dir: dir, Free: true})
	if after := again.Role("sms"); after.NATSPassword != before.NATSPassword || after.DatabaseURL != before.DatabaseURL {
		t.Error("a role's passwords changed over a restart")
	}
	if again.Providers().TwilioAuthToken != s.Providers().TwilioAuthToken {
		t.Error("the Twilio token changed over a restart")
	}
	closeSandbox(t, again)
}

func TestSecondStartSaysThatOneRuns(t *testing.T) {
	noLeaks(t)
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, Free: true})
	defer closeSandbox(t, s)
	if err := s.WriteEndpoints(); err != nil {
		t.Fatal(err)
	}
	_, err := sandbox.Start(t.Context(), sandbox.Config{Dir: dir, Free: true})
	running, ok := errors.AsType[*sandbox.RunningError](err)
	if !ok || !errors.Is(err, embedded.ErrInUse) {
		t.Fatalf("second start: %v", err)
	}
	if want := fmt.Sprintf("otpost up is already running in %s (pid %d)", dir, os.Getpid()); running.Error() != want || err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); err != nil {
		t.Errorf("the second start disturbed the first: %v", err)
	}
}

func TestBusyPortsGiveWay(t *testing.T) {
	database := given(t)
	noLeaks(t)
	taken := map[string]int{}
	for _, name := range []string{"HTTP", "NATS", "the inbox", "SMTP", "the shop"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken[name] = l.Addr().(*net.TCPAddr).Port
	}
	s := start(t, sandbox.Config{
		Dir: folder(t), DatabaseURL: database, HTTPPort: taken["HTTP"], NATSPort: taken["NATS"], InboxPort: taken["the inbox"], SMTPPort: taken["SMTP"],
		ShopPort: taken["the shop"],
	})
	defer closeSandbox(t, s)
	at := s.Addresses()
	for name, addr := range map[string]string{"HTTP": at.HTTP, "NATS": at.NATS, "the inbox": at.Inbox, "SMTP": at.SMTP, "the shop": at.Shop} {
		port := addr[strings.LastIndex(addr, ":")+1:]
		want := fmt.Sprintf("port %d is taken, %s listens on %s instead", taken[name], name, port)
		if !strings.Contains(strings.Join(s.Moved(), "\n"), want) {
			t.Errorf("Moved does not say %q:\n%s", want, strings.Join(s.Moved(), "\n"))
		}
	}
	if n := len(s.Moved()); n != 5 {
		t.Errorf("%d servers moved, want 5", n)
	}
	if c := appConn(t, s, sandbox.DemoApp); c.ConnectedUrl() != at.NATS {
		t.Errorf("connected to %s, want %s", c.ConnectedUrl(), at.NATS)
	}
}

func TestPreferredPortIsTaken(t *testing.T) {
	database := given(t)
	noLeaks(t)
	port := freePort(t)
	s := start(t, sandbox.Config{
		Dir: folder(t), DatabaseURL: database, HTTPPort: port, NATSPort: freePort(t), InboxPort: freePort(t), SMTPPort: freePort(t), ShopPort: freePort(t),
	})
	defer closeSandbox(t, s)
	if want := fmt.Sprintf("http://127.0.0.1:%d", port); s.Addresses().HTTP != want {
		t.Errorf("HTTP is at %s, want %s", s.Addresses().HTTP, want)
	}
}

func TestEphemeralLeavesNothing(t *testing.T) {
	noLeaks(t)
	s := start(t, sandbox.Config{Ephemeral: true, Free: true})
	dir := s.Dir()
	closeSandbox(t, s)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder after Close: %v", err)
	}

	dir = folder(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "foreign.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closeSandbox(t, start(t, sandbox.Config{Dir: dir, Ephemeral: true, Free: true}))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != "foreign.txt" {
		t.Errorf("the folder holds %v (%v), want only what another put there", entries, err)
	}

	if err := os.WriteFile(filepath.Join(dir, "secrets.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.Start(t.Context(), sandbox.Config{Dir: dir, Ephemeral: true, Free: true}); err == nil {
		t.Error("a sandbox that is kept would have been removed")
	}
}

func TestFailedStartLeavesNothingRunning(t *testing.T) {
	noLeaks(t)
	dir := folder(t)
	_, err := sandbox.Start(t.Context(), sandbox.Config{Dir: dir, Free: true, PGBin: "/nowhere", Logger: logger(t)})
	if !errors.Is(err, embedded.ErrNoPostgres) {
		t.Fatalf("start without Postgres: %v", err)
	}
	lock, err := embedded.LockDir(dir)
	if err != nil {
		t.Fatalf("the folder is still held: %v", err)
	}
	lock.Unlock()
}

func TestRunTellsThatPostgresEnded(t *testing.T) {
	noLeaks(t)
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, Free: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run after its context ended: %v", err)
	}

	ran := make(chan error, 1)
	go func() { ran <- s.Run(context.WithoutCancel(ctx)) }()
	postmaster(t, filepath.Join(dir, "postgres")).Kill()
	select {
	case err := <-ran:
		if err == nil || !strings.Contains(err.Error(), "postgres ended") {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not notice")
	}
	_ = s.Close(t.Context()) // says again that Postgres ended out of order
}

func TestWelcome(t *testing.T) {
	database := given(t)
	noLeaks(t)
	s := start(t, sandbox.Config{Dir: folder(t), DatabaseURL: database, Free: true})
	defer closeSandbox(t, s)
	secret := appAccess(t, s, sandbox.DemoApp)
	at := s.Addresses()
	for accept, want := range map[string]string{"text/html": `href="` + at.Inbox + `/"`, "application/json": `"inbox":"` + at.Inbox + `"`} {
		status, body := get(t, at.HTTP+"/", accept)
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %s:\n%s", accept, status, want, body)
		}
		for _, hidden := range []string{secret.NATSPassword, secret.APIKey, s.Providers().TwilioAuthToken, s.Providers().SMTPPassword} {
			if strings.Contains(body, hidden) {
				t.Errorf("%s shows a secret", accept)
			}
		}
	}
	if status, body := get(t, at.HTTP+"/welcome.css", ""); status != http.StatusOK || !strings.Contains(body, "body") {
		t.Errorf("style: %d", status)
	}
	if status, _ := get(t, at.HTTP+"/v1/login", ""); status != http.StatusServiceUnavailable {
		t.Errorf("without a gateway its paths answer %d", status)
	}
	s.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "gateway ", r.URL.Path) }))
	for _, path := range []string{"/v1/login", "/p/x", "/openapi.yaml", "/nothing"} {
		if _, body := get(t, at.Pages+path, ""); body != "gateway "+path {
			t.Errorf("%s after HandleHTTP: %q", path, body)
		}
	}
	if _, body := get(t, at.HTTP+"/", ""); !strings.Contains(body, at.Shop) {
		t.Errorf("the first page after HandleHTTP: %q", body)
	}
	if status, body := get(t, at.Shop+"/", ""); status != http.StatusOK || !strings.Contains(body, "Demo shop") || !strings.Contains(body, at.Inbox) {
		t.Errorf("the shop: %d %s", status, body)
	}
}

func TestOutsideGateway(t *testing.T) {
	database := given(t)
	noLeaks(t)
	s := start(t, sandbox.Config{Dir: folder(t), DatabaseURL: database, Free: true, OutsideGateway: true})
	defer closeSandbox(t, s)
	if err := s.WriteEndpoints(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(s.Dir(), "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(s.Addresses().HTTP, "http://")
	if !strings.Contains(string(text), fmt.Sprintf("listen: %q", at)) {
		t.Errorf("gateway.yaml does not say where to listen:\n%s", text)
	}
	l, err := net.Listen("tcp", at) // as that gateway does
	if err != nil {
		t.Fatalf("its port is not left to it: %v", err)
	}
	l.Close()
}

func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() == 0 { // as under any folder that people use, Postgres's own user passes through
		for d := dir; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o711); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(dir, "otpost")
}

// given is a database of a server that all tests share, for those that are not about the private one: to make that takes longer than all else. The server
// has to be there before a test looks at what runs, so this comes before noLeaks.
func given(t *testing.T) string {
	t.Helper()
	return otposttest.Postgres(t).URL(otposttest.Owner)
}

func start(t *testing.T, cfg sandbox.Config) *sandbox.Sandbox {
	t.Helper()
	cfg.Logger = logger(t)
	s, err := sandbox.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) }) // when the test failed before its own Close
	return s
}

func closeSandbox(t *testing.T, s *sandbox.Sandbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func logger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func get(t *testing.T, url, accept string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}
