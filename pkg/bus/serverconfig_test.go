package bus_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"
	"pgregory.net/rapid"

	"github.com/otpost/otpost/pkg/bus"
)

func goodSettings() bus.ServerSettings {
	s := bus.ServerSettings{StoreDir: "/var/lib/otpost/nats", Users: map[bus.Role]string{}}
	for _, r := range bus.Roles() {
		s.Users[r] = "secret of " + string(r)
	}
	s.Apps = []bus.App{{Name: "shop", User: "shop-user", Password: "p"}, {Name: "demo", Password: "q"}}
	s.Agents = map[string]string{"bob": "r", "ann": "s"}
	return s
}

// parse has nats-server read the settings' configuration.
func parse(t interface {
	Helper()
	Fatal(...any)
}, dir string, s bus.ServerSettings,
) *server.Options {
	t.Helper()
	text, err := bus.ServerConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestServerConfigSaysWhatTheSettingsSay(t *testing.T) {
	o := parse(t, t.TempDir(), goodSettings())
	if o.Host != "127.0.0.1" || o.Port != 4222 || o.ServerName != "otpost" || o.MaxPayload != 1<<20 || !o.JetStream ||
		o.StoreDir != "/var/lib/otpost/nats" || !o.SyncAlways || o.TLS {
		t.Errorf("defaults: %s:%d %s %d %t %s %t", o.Host, o.Port, o.ServerName, o.MaxPayload, o.JetStream, o.StoreDir, o.SyncAlways)
	}
	users := map[string]string{}
	for _, u := range o.Users {
		users[u.Username] = u.Account.Name
		if u.Permissions == nil || u.Permissions.Publish == nil || u.Permissions.Subscribe == nil {
			t.Errorf("%s has no limits", u.Username)
		}
	}
	want := map[string]string{"shop-user": "APP_shop", "app_demo": "APP_demo", "support-ann": "SUPPORT_ann", "support-bob": "SUPPORT_bob"}
	for _, r := range bus.Roles() {
		want[string(r)] = bus.Account
	}
	if !maps.Equal(users, want) {
		t.Errorf("users are %v, want %v", users, want)
	}

	s := goodSettings()
	s.Name, s.Host, s.Port, s.SyncInterval, s.MaxPayload, s.MaxFileStore, s.MaxMemory = "one", "::1", 4333, "30s", 2<<20, 5<<30, 1<<28
	o = parse(t, t.TempDir(), s)
	if o.ServerName != "one" || o.Host != "::1" || o.Port != 4333 || o.SyncAlways || o.SyncInterval.Seconds() != 30 || o.MaxPayload != 2<<20 ||
		o.JetStreamMaxStore != 5<<30 || o.JetStreamMaxMemory != 1<<28 {
		t.Errorf("given settings: %+v", o)
	}
}

func TestServerConfigIsTheSameEachTime(t *testing.T) {
	a := goodSettings()
	b := goodSettings()
	slices.Reverse(b.Apps)
	first, err := bus.ServerConfig(a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := bus.ServerConfig(b)
	if err != nil || first != second {
		t.Errorf("%v\n%s\n%s", err, first, second)
	}
	if a.Apps[0].Name != "shop" {
		t.Error("it sorted the caller's apps")
	}
}

func TestServerConfigHashesPasswords(t *testing.T) {
	s := goodSettings()
	s.BcryptCost = bcrypt.MinCost
	hashed, err := bcrypt.GenerateFromPassword([]byte("kept"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s.Users[bus.RoleSMS] = string(hashed)
	text, err := bus.ServerConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "secret of") {
		t.Error("a password stands in the text")
	}
	for _, u := range parse(t, t.TempDir(), s).Users {
		want := map[string]string{"shop-user": "p", "app_demo": "q", "support-ann": "s", "support-bob": "r", "sms": "kept"}[u.Username]
		if want == "" {
			want = "secret of " + u.Username
		}
		if err := bcrypt.CompareHashAndPassword([]byte(u.Password), []byte(want)); err != nil {
			t.Errorf("password of %s: %v", u.Username, err)
		}
	}
}

func TestServerConfigQuotesAnything(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		// Runes that mean something to the format come often; so do bytes that are no text at all.
		text := rapid.OneOf(rapid.StringN(1, -1, 60), rapid.StringOfN(rapid.RuneFrom([]rune("\"'\\$#{}[]()\n\r\t\x00\x7f%:=,;x0a2 ")), 1, 30, -1),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 30), func(b []byte) string { return string(b) }))
		s := goodSettings()
		s.Users[bus.RoleChallenge] = text.Draw(t, "password")
		s.Apps[0].User, s.Apps[0].Password = "u"+text.Draw(t, "user"), text.Draw(t, "app password")
		s.StoreDir = "/" + text.Draw(t, "store")
		o := parse(t, dir, s)
		if o.StoreDir != s.StoreDir {
			t.Fatalf("store %q became %q", s.StoreDir, o.StoreDir)
		}
		for _, u := range o.Users {
			if want, ok := s.Users[bus.Role(u.Username)]; ok && u.Password != want {
				t.Fatalf("password %q became %q", want, u.Password)
			}
			if u.Account.Name == "APP_shop" && (u.Username != s.Apps[0].User || u.Password != s.Apps[0].Password) {
				t.Fatalf("user %q, %q became %q, %q", s.Apps[0].User, s.Apps[0].Password, u.Username, u.Password)
			}
		}
	})
}

func TestServerConfigRefuses(t *testing.T) {
	for says, with := range map[string]func(*bus.ServerSettings){
		"store directory is missing":    func(s *bus.ServerSettings) { s.StoreDir = "" },
		"not within 1–65535":            func(s *bus.ServerSettings) { s.Port = 70000 },
		"has spaces":                    func(s *bus.ServerSettings) { s.Name = "my server" },
		"sync interval":                 func(s *bus.ServerSettings) { s.SyncInterval = "never" },
		"maximal payload":               func(s *bus.ServerSettings) { s.MaxPayload = 100 },
		"store limit is negative":       func(s *bus.ServerSettings) { s.MaxFileStore = -1 },
		"certificate and a key":         func(s *bus.ServerSettings) { s.TLSCert = "c.pem" },
		"bcrypt cost":                   func(s *bus.ServerSettings) { s.BcryptCost = 3 },
		"no role \"root\"":              func(s *bus.ServerSettings) { s.Users["root"] = "x" },
		"no role \"app\"":               func(s *bus.ServerSettings) { s.Users[bus.RoleApp] = "x" },
		"password of sms is missing":    func(s *bus.ServerSettings) { delete(s.Users, bus.RoleSMS) },
		"no name for an app":            func(s *bus.ServerSettings) { s.Apps[0].Name = "a.b" },
		"demo is there twice":           func(s *bus.ServerSettings) { s.Apps[0].Name = "demo" },
		"\"operator\" of app shop is":   func(s *bus.ServerSettings) { s.Apps[0].User = "operator" },
		"\"app_demo\" of app shop is":   func(s *bus.ServerSettings) { s.Apps[0].User = "app_demo" },
		"no name for a support agent":   func(s *bus.ServerSettings) { s.Agents["a.b"] = "x" },
		"of support agent ann is taken": func(s *bus.ServerSettings) { s.Apps[0].User = "support-ann" },
		"support agent bob is missing":  func(s *bus.ServerSettings) { s.Agents["bob"] = "" },
		"password of app shop is miss":  func(s *bus.ServerSettings) { s.Apps[0].Password = "" },
		"hash the password of email":    func(s *bus.ServerSettings) { s.Users[bus.RoleEmail], s.BcryptCost = strings.Repeat("x", 73), 4 },
	} {
		s := goodSettings()
		with(&s)
		if text, err := bus.ServerConfig(s); err == nil || !strings.Contains(err.Error(), says) || text != "" {
			t.Errorf("want an error that says %q, got %v", says, err)
		}
	}
}
