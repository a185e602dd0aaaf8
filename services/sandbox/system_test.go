package sandbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/pkg/embedded"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/sandbox"
)

func TestEndpoints(t *testing.T) {
	noLeaks(t)
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, Free: true})
	if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("endpoints.json before WriteEndpoints: %v", err)
	}
	if err := s.WriteEndpoints(); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	readJSON(t, filepath.Join(dir, "endpoints.json"), &got)
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"app", "database", "http", "inbox", "nats", "pages", "shop", "smtp", "twilio"}) {
		t.Errorf("keys %v", keys)
	}
	app, _ := got["app"].(map[string]any)
	if keys := slices.Sorted(maps.Keys(app)); !slices.Equal(keys, []string{"api_key", "name", "nats_password", "nats_user"}) {
		t.Errorf("keys of app %v", keys)
	}
	at := s.Addresses()
	for key, want := range map[string]string{
		"nats": at.NATS, "http": at.HTTP, "pages": at.Pages, "shop": at.Shop, "inbox": at.Inbox, "smtp": at.SMTP, "twilio": at.Inbox + "/twilio",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %s", key, got[key], want)
		}
	}
	database, _ := got["database"].(string)
	db, err := postgres.Open(database, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrated(t.Context()); err != nil {
		t.Errorf("the database of endpoints.json: %v", err)
	}
	db.Close()
	user, _ := app["nats_user"].(string)
	password, _ := app["nats_password"].(string)
	nc, err := nats.Connect(got["nats"].(string), nats.UserInfo(user, password))
	if err != nil {
		t.Fatalf("the app of endpoints.json: %v", err)
	}
	nc.Close()

	for role, want := range map[string][]string{
		"challenge": nil, "verification": nil, "enrolment": nil, "operator": nil,
		"sms":    {"providers"},
		"email":  {"smtp-host", "smtp-port", "smtp-tls", "smtp-username", "smtp-password", "smtp-from"},
		"letter": {"spool", "sender", "sender-country"}, "gateway": {"listen", "public-url", "callbacks"},
	} {
		want = append(want, "nats-url", "nats-user", "nats-password", "database-url", "keys")
		if role != "operator" {
			want = append(want, "health")
		}
		text, err := os.ReadFile(filepath.Join(dir, role+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var settings map[string]string
		if err := yaml.Unmarshal(text, &settings); err != nil {
			t.Fatalf("%s.yaml: %v", role, err)
		}
		if keys := slices.Sorted(maps.Keys(settings)); !slices.Equal(keys, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s.yaml has %v, want %v", role, keys, want)
		}
		if access := s.Role(role); settings["database-url"] != access.DatabaseURL || settings["nats-password"] != access.NATSPassword {
			t.Errorf("%s.yaml is not the role's", role)
		}
	}

	for _, name := range []string{"alice", "bob"} {
		text, err := os.ReadFile(filepath.Join(dir, "agents", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var settings map[string]string
		if err := yaml.Unmarshal(text, &settings); err != nil {
			t.Fatalf("agent %s: %v", name, err)
		}
		if keys := slices.Sorted(maps.Keys(settings)); !slices.Equal(keys, []string{"agent", "nats-password", "nats-url"}) || settings["agent"] != name {
			t.Errorf("agent %s has %v", name, keys)
		}
		nc, err := nats.Connect(settings["nats-url"], nats.UserInfo("support-"+name, settings["nats-password"]))
		if err != nil {
			t.Fatalf("agent %s: %v", name, err)
		}
		nc.Close()
	}
	secretFiles := []string{
		"endpoints.json", "secrets.json", "sms.yaml", "letter.yaml", "enrolment.yaml", "gateway.yaml", "operator.yaml", "shop.json", "apps/demo.json", "agents/alice.yaml", "nats/nats.conf",
	}
	for _, name := range secretFiles {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info, err)
		}
	}
	closeSandbox(t, s)
	for _, name := range []string{"endpoints.json", "sms.yaml", "letter.yaml", "gateway.yaml", "operator.yaml", "apps", "agents"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if err := s.WriteEndpoints(); err == nil {
		t.Error("WriteEndpoints after Close wrote of what is gone")
	}
}

// TestKilled starts from what a process that was killed with everything running has left.
func TestKilled(t *testing.T) {
	const variable = "OTPOST_TEST_SANDBOX_DIR"
	if dir := os.Getenv(variable); dir != "" {
		s, err := sandbox.Start(t.Context(), sandbox.Config{Dir: dir, Free: true})
		if err == nil {
			err = s.WriteEndpoints()
		}
		fmt.Printf("started: %v\n", err)
		select {} // until it is killed
	}
	noLeaks(t)
	dir := folder(t)
	for range 2 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), variable+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "started: <nil>\n" {
			t.Errorf("the process says %q, %v", line, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	var stale struct {
		NATS, Database string
	}
	readJSON(t, filepath.Join(dir, "endpoints.json"), &stale)

	s := start(t, sandbox.Config{Dir: dir, Free: true})
	defer closeSandbox(t, s)
	if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the killed one's endpoints.json: %v", err)
	}
	appConn(t, s, sandbox.DemoApp)
}

func TestGivenDatabase(t *testing.T) {
	noLeaks(t)
	cluster, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: folder(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Remove(context.Background())
	if err := cluster.CreateDatabase(t.Context(), "shared"); err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, DatabaseURL: cluster.OwnerURL("shared"), Free: true})
	if _, err := os.Stat(filepath.Join(dir, "postgres")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a private cluster beside the given one: %v", err)
	}
	apps := appStore(t, s)
	if a, err := apps.Get(t.Context(), sandbox.DemoApp); err != nil || a.DisplayName != "Demo shop" {
		t.Errorf("app demo in the given database: %+v, %v", a, err)
	}
	closeSandbox(t, s)
	select {
	case <-cluster.Done():
		t.Error("Close stopped a Postgres that it had not started")
	default:
	}
}

func TestGivenNATS(t *testing.T) {
	database := given(t)
	noLeaks(t)
	plain, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	plain.Start()
	defer func() { plain.Shutdown(); plain.WaitForShutdown() }()
	if !plain.ReadyForConnections(patience) {
		t.Fatal("the given NATS is not ready")
	}
	s := start(t, sandbox.Config{Dir: folder(t), DatabaseURL: database, NATSURL: plain.ClientURL(), Free: true})
	if s.Addresses().NATS != plain.ClientURL() {
		t.Errorf("NATS is at %s, want %s", s.Addresses().NATS, plain.ClientURL())
	}
	nc := appConn(t, s, sandbox.DemoApp)
	publishLogin(t, nc, sandbox.DemoApp)
	createApp(t, s, "shop-2")
	if err := s.AddApp(t.Context(), "shop-2"); err != nil {
		t.Fatal(err)
	}
	publishLogin(t, appConn(t, s, "shop-2"), "shop-2")
	closeSandbox(t, s)
	if !plain.Running() {
		t.Error("Close stopped a NATS that it had not started")
	}
}

func TestAddApp(t *testing.T) {
	noLeaks(t)
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, Free: true})
	if err := s.AddApp(t.Context(), "nobody"); !errors.Is(err, postgres.ErrNoApp) {
		t.Errorf("an app that the database does not have: %v", err)
	}
	demo := appConn(t, s, sandbox.DemoApp)
	createApp(t, s, "shop-2")
	for range 2 { // the second finds nothing to do
		if err := s.AddApp(t.Context(), "shop-2"); err != nil {
			t.Fatal(err)
		}
	}
	shop := appConn(t, s, "shop-2")
	publishLogin(t, shop, "shop-2")
	publishLogin(t, demo, sandbox.DemoApp)
	if !demo.IsConnected() || demo.Stats().Reconnects != 0 {
		t.Error("adding an app cut another's connection")
	}

	js, err := jetstream.New(shop)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := js.Publish(ctx, "otpost.app.demo.login", []byte("{}"), jetstream.WithRetryAttempts(0)); err == nil {
		t.Error("an app publishes another's logins")
	}
	overheard, err := shop.SubscribeSync("otpost.app.demo.event.>")
	if err != nil {
		t.Fatal(err)
	}
	own, err := shop.SubscribeSync("otpost.app.shop-2.event.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := shop.Flush(); err != nil {
		t.Fatal(err)
	}
	publishEvent(t, s, "otpost.app.demo.event.challenge.issued")
	publishEvent(t, s, "otpost.app.shop-2.event.challenge.issued")
	if _, err := own.NextMsg(patience); err != nil {
		t.Fatalf("the app does not hear its own events: %v", err)
	}
	if n, _, err := overheard.Pending(); err != nil || n != 0 { // it would have come before
		t.Errorf("an app hears %d events of another, %v", n, err)
	}

	var file struct {
		NATS string
		App  struct {
			Name         string
			NATSUser     string `json:"nats_user"`
			NATSPassword string `json:"nats_password"`
		}
	}
	readJSON(t, filepath.Join(dir, "apps", "shop-2.json"), &file)
	if access := appAccess(t, s, "shop-2"); file.NATS != access.NATSURL || file.App.NATSUser != access.NATSUser || file.App.NATSPassword != access.NATSPassword {
		t.Errorf("apps/shop-2.json is not the app's")
	}
	before := appAccess(t, s, "shop-2")
	policy, err := appStore(t, s).Get(t.Context(), sandbox.DemoApp)
	if err != nil {
		t.Fatal(err)
	}
	policy.Policy.Factors.RecoveryWait = time.Hour // as somebody may set it
	if err := appStore(t, s).Update(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	wantKey(t, s, "shop-2")
	wantKey(t, s, sandbox.DemoApp)
	wantDemoPages(t, s, s.Addresses().Shop)
	pages := demoPages(t, s)
	pages.Accent, pages.ReturnURLs = "#123456", append(pages.ReturnURLs, "https://shop.example/back") // as somebody may set it
	if err := postgres.NewPages(operatorDB(t, s)).Set(t.Context(), time.Now(), pages); err != nil {
		t.Fatal(err)
	}
	closeSandbox(t, s)

	again := start(t, sandbox.Config{Dir: dir, Free: true})
	defer closeSandbox(t, again)
	wantKey(t, again, "shop-2")
	wantKey(t, again, sandbox.DemoApp)
	wantDemoPages(t, again, "https://shop.example/back", again.Addresses().Shop)
	if p := demoPages(t, again); p.Accent != "#123456" || len(p.Logo) == 0 {
		t.Errorf("after a restart the pages of the demo app have the accent %s and a logo of %d bytes", p.Accent, len(p.Logo))
	}
	if demo, err := appStore(t, again).Get(t.Context(), sandbox.DemoApp); err != nil || !slices.Equal(demo.Policy.Factors.Origins, []string{again.Addresses().Pages}) {
		t.Errorf("security keys are for %v, and the pages at %s (%v)", demo.Policy.Factors.Origins, again.Addresses().Pages, err)
	}
	if after := appAccess(t, again, "shop-2"); after.NATSPassword != before.NATSPassword || after.APIKey != before.APIKey {
		t.Error("an app's secrets changed over a restart")
	}
	publishLogin(t, appConn(t, again, "shop-2"), "shop-2")
	if kept, err := appStore(t, again).Get(t.Context(), sandbox.DemoApp); err != nil || kept.Policy.Factors.RecoveryWait != time.Hour {
		t.Errorf("after a restart the policy of the demo app is %+v (%v)", kept.Policy.Factors, err)
	}
}

func TestAppOfAnotherProcessIsFound(t *testing.T) {
	database := given(t)
	noLeaks(t)
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, DatabaseURL: database, Free: true})
	defer closeSandbox(t, s)
	createApp(t, s, "found")
	path := filepath.Join(dir, "apps", "found.json")
	for until := time.Now().Add(patience); ; {
		if _, err := os.Stat(path); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("it is not found")
		}
		time.Sleep(20 * time.Millisecond)
	}
	// The file comes last, an instant before App knows.
	var file struct {
		NATS string
		App  struct {
			NATSUser     string `json:"nats_user"`
			NATSPassword string `json:"nats_password"`
		}
	}
	readJSON(t, path, &file)
	nc, err := nats.Connect(file.NATS, nats.UserInfo(file.App.NATSUser, file.App.NATSPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	publishLogin(t, nc, "found")
}

// TestDemoWithoutWorkers sees what a person is told when nothing answers.
func TestDemoWithoutWorkers(t *testing.T) {
	database := given(t)
	noLeaks(t)
	s := start(t, sandbox.Config{Dir: folder(t), DatabaseURL: database, Free: true})
	defer closeSandbox(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var out strings.Builder
	err := s.Demo(ctx, &out, false)
	if err == nil || !strings.Contains(err.Error(), "no worker answers") {
		t.Errorf("Demo: %v", err)
	}
	for _, want := range []string{"✗ workers", "dead letters", "none", "LOGINS 0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output does not say %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours that nobody asked for")
	}
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func appAccess(t *testing.T, s *sandbox.Sandbox, name string) sandbox.AppAccess {
	t.Helper()
	access, ok := s.App(name)
	if !ok {
		t.Fatalf("app %s has no access", name)
	}
	return access
}

func appConn(t *testing.T, s *sandbox.Sandbox, name string) *nats.Conn {
	t.Helper()
	access := appAccess(t, s, name)
	nc, err := nats.Connect(access.NATSURL, nats.UserInfo(access.NATSUser, access.NATSPassword),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // refusals are what some tests are about
	if err != nil {
		t.Fatalf("connect as app %s: %v", name, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func publishLogin(t *testing.T, nc *nats.Conn, app string) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "otpost.app."+app+".login", []byte("{}")); err != nil {
		t.Errorf("publish a login of %s: %v", app, err)
	}
}

// publishEvent sends what a worker would.
func publishEvent(t *testing.T, s *sandbox.Sandbox, subject string) {
	t.Helper()
	access := s.Role("challenge")
	nc, err := nats.Connect(access.NATSURL, nats.UserInfo(access.NATSUser, access.NATSPassword), nats.CustomInboxPrefix("_INBOX_challenge"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subject, []byte("{}")); err != nil {
		t.Fatalf("publish %s: %v", subject, err)
	}
}

func appStore(t *testing.T, s *sandbox.Sandbox) *postgres.Apps {
	t.Helper()
	db, err := postgres.Open(s.Role("operator").DatabaseURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return postgres.NewApps(db)
}

func operatorDB(t *testing.T, s *sandbox.Sandbox) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(s.Role("operator").DatabaseURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// wantKey sees that an app has the one API key of its access, and that the gateway's role finds it.
func wantKey(t *testing.T, s *sandbox.Sandbox, name string) {
	t.Helper()
	digest, ok := otp.APIKeyDigest(appAccess(t, s, name).APIKey)
	if !ok {
		t.Fatalf("the API key of %s is none by its form", name)
	}
	app, err := appStore(t, s).Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	db, err := postgres.Open(s.Role("gateway").DatabaseURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if key, err := postgres.NewAppKeys(db).ByDigest(t.Context(), digest); err != nil || key.AppID != app.ID || !key.Good(time.Now()) {
		t.Errorf("the API key of %s: %+v, %v", name, key, err)
	}
	if keys, err := postgres.NewAppKeys(operatorDB(t, s)).List(t.Context(), app.ID); err != nil || len(keys) != 1 {
		t.Errorf("%s has %d API keys, %v; want one", name, len(keys), err)
	}
}

func demoPages(t *testing.T, s *sandbox.Sandbox) postgres.AppPages {
	t.Helper()
	app, err := appStore(t, s).Get(t.Context(), sandbox.DemoApp)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := postgres.NewPages(operatorDB(t, s)).Get(t.Context(), app.ID)
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func wantDemoPages(t *testing.T, s *sandbox.Sandbox, back ...string) {
	t.Helper()
	if got := demoPages(t, s).ReturnURLs; !slices.Equal(got, back) {
		t.Errorf("the pages lead back to %v, want %v", got, back)
	}
}

func createApp(t *testing.T, s *sandbox.Sandbox, name string) {
	t.Helper()
	policy := otp.DefaultPolicy()
	policy.Delivery.Countries, policy.Delivery.Limits = []string{otp.AnyCountry}, otp.NoLimits()
	_, err := appStore(t, s).Create(t.Context(), postgres.App{Name: name, DisplayName: name, Locale: "en", Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
}

// postmaster is the process of a private cluster.
func postmaster(t *testing.T, dir string) *os.Process {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestFolderOfTheFormerVersion starts in a folder from before there were enrolment, letters and support agents: what is missing is made, and what is there
// stays.
func TestFolderOfTheFormerVersion(t *testing.T) {
	noLeaks(t)
	dir := folder(t)
	s := start(t, sandbox.Config{Dir: dir, Free: true})
	before := s.Role("sms")
	apps := appStore(t, s)
	demo, err := apps.Get(t.Context(), sandbox.DemoApp)
	if err != nil {
		t.Fatal(err)
	}
	fresh := demo.Policy.Factors
	demo.Policy.Factors = otp.DefaultFactorPolicy() // as the migration leaves it
	if err := apps.Update(t.Context(), demo); err != nil {
		t.Fatal(err)
	}
	closeSandbox(t, s)

	var secrets map[string]any
	readJSON(t, filepath.Join(dir, "secrets.json"), &secrets)
	delete(secrets, "agents")
	roles, _ := secrets["roles"].(map[string]any)
	delete(roles, "enrolment")
	delete(roles, "letter")
	delete(roles, "gateway")
	demoSecrets, _ := secrets["apps"].(map[string]any)[sandbox.DemoApp].(map[string]any)
	password := demoSecrets["nats_password"]
	demoSecrets["api_key"] = "otpost_ABCDEFGHIJKLMNOPQRSTUVWXYZ" // as older versions made it, for nothing
	text, err := json.Marshal(secrets)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "secrets.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	gone, err := filepath.Glob(filepath.Join(dir, "keys", "*", "ceremony.json"))
	if err != nil || len(gone) == 0 {
		t.Fatalf("keys of ceremonies: %v, %v", gone, err)
	}
	for _, name := range append(gone, filepath.Join(dir, "keys", "enrolment"), filepath.Join(dir, "keys", "letter"),
		filepath.Join(dir, "keys", "operator", "destination-letter.json"), filepath.Join(dir, "keys", "verification", "index.json")) {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}

	s = start(t, sandbox.Config{Dir: dir, Free: true})
	defer closeSandbox(t, s)
	if after := s.Role("sms"); after.NATSPassword != before.NATSPassword {
		t.Error("what was there is another")
	}
	for _, role := range keyring.Roles() {
		if _, err := keyring.Load(s.Role(string(role)).KeysDir, role); err != nil {
			t.Errorf("keys of %s: %v", role, err)
		}
		if s.Role(string(role)).NATSPassword == "" {
			t.Errorf("%s has no password", role)
		}
	}
	if access := appAccess(t, s, sandbox.DemoApp); access.NATSPassword != password {
		t.Error("the demo app has another NATS password")
	} else if _, ok := otp.APIKeyDigest(access.APIKey); !ok {
		t.Error("the demo app has no API key")
	}
	fresh.Origins = []string{s.Addresses().Pages} // on another port this time
	if demo, err = appStore(t, s).Get(t.Context(), sandbox.DemoApp); err != nil || !reflect.DeepEqual(demo.Policy.Factors, fresh) || fresh.RecoveryWait != 2*time.Second {
		t.Errorf("the demo app's policy is %+v, want %+v (%v)", demo.Policy.Factors, fresh, err)
	}
}
