package bus

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/otpost/otpost/pkg/otp"
)

// ResponseWithin is how long after a request its worker may still answer it.
const ResponseWithin = time.Minute

// ServerSettings is what a nats-server configuration for otpost is made from.
type ServerSettings struct {
	Name string // server_name; default "otpost". In a cluster each server has its own
	Host string // address to listen on; default 127.0.0.1
	Port int    // default 4222

	StoreDir     string // where JetStream keeps streams; required
	SyncInterval string // how often JetStream flushes to disk: "always" (default: before each acknowledgement) or a duration of at least 1s
	MaxFileStore int64  // bytes on disk; 0 leaves it to the server (most of what is free)
	MaxMemory    int64  // bytes of memory for memory streams; 0 leaves it to the server
	MaxPayload   int64  // bytes a message; default 1 MiB, at most 64 MiB

	TLSCert, TLSKey string // PEM files of the server's certificate and key; both or none

	// Users holds the password of each of Roles. A password that is a bcrypt hash already stays as it is.
	Users map[Role]string
	// Apps are the apps that may connect, in any order.
	Apps []App
	// Agents holds the password of each support agent by its name (of otp.ValidApp's form). Its user is AgentUser(name).
	Agents map[string]string
	// BcryptCost hashes passwords into the configuration (4–31; 11 is usual for passwords that people chose, 4 is plenty for random
	// ones). 0 writes them as they are.
	BcryptCost int
}

// An App is one app's way into NATS.
type App struct {
	Name     string // otp.ValidApp
	User     string // default "app_" and the name
	Password string
}

func (a App) user() string {
	if a.User == "" {
		return "app_" + a.Name
	}
	return a.User
}

// ServerConfig renders the configuration file of a nats-server (tested with 2.15) that holds otpost's accounts, users and permissions. The
// text contains passwords or their hashes: keep the file readable by the server only.
//
// The same settings give the same text, except for the salts of fresh bcrypt hashes.
func ServerConfig(s ServerSettings) (string, error) {
	if err := s.complete(); err != nil {
		return "", fmt.Errorf("NATS server settings: %w", err)
	}
	password := func(p string) (string, error) {
		if s.BcryptCost == 0 || isBcrypt(p) {
			return quote(p), nil
		}
		h, err := bcrypt.GenerateFromPassword([]byte(p), s.BcryptCost)
		return quote(string(h)), err
	}

	c := &configWriter{}
	c.line("# nats-server configuration of otpost, generated. The permissions in it come from the table in pkg/bus/permissions.go.")
	c.line("# After adding an app to a running server, reload twice: nats-server 2.15 connects a new account only in the reload after it.")
	c.line("listen: %s", quote(net.JoinHostPort(s.Host, strconv.Itoa(s.Port))))
	c.line("server_name: %s", quote(s.Name))
	c.line("max_payload: %d", s.MaxPayload)
	c.open("jetstream")
	c.line("store_dir: %s", quote(s.StoreDir))
	c.line("# \"always\" flushes before a message is acknowledged; an interval risks, on loss of power, what came in within it.")
	c.line("sync_interval: %s", quote(s.SyncInterval))
	if s.MaxFileStore > 0 {
		c.line("max_file_store: %d", s.MaxFileStore)
	}
	if s.MaxMemory > 0 {
		c.line("max_memory_store: %d", s.MaxMemory)
	}
	c.close()
	if s.TLSCert != "" {
		c.open("tls")
		c.line("cert_file: %s", quote(s.TLSCert))
		c.line("key_file: %s", quote(s.TLSKey))
		c.close()
	} else {
		c.line("# Without TLS, passwords and masked addresses cross the network in the clear. Beyond one machine, set:")
		c.line("# tls { cert_file: \"/etc/otpost/nats.crt\", key_file: \"/etc/otpost/nats.key\" }")
	}
	c.line("# A cluster of three: give each server its own server_name, the same accounts, and")
	c.line("# cluster { name: \"otpost\", listen: \"0.0.0.0:6222\", routes: [\"nats://one:6222\", \"nats://two:6222\", \"nats://three:6222\"] }")

	c.open("accounts")
	c.open(Account)
	c.line("jetstream: enabled")
	c.list("users")
	for _, r := range Roles() {
		p, err := password(s.Users[r])
		if err != nil {
			return "", fmt.Errorf("hash the password of %s: %w", r, err)
		}
		c.user(string(r), p, r.Permissions())
	}
	c.endList()
	c.list("exports")
	for _, a := range s.Apps {
		to := fmt.Sprintf("accounts: [%s]", quote(AppAccount(a.Name)))
		c.exports(shares(RoleApp, a.Name), to)
		c.line("{service: %s, %s}", quote(nothing(a.Name)), to)
	}
	agents := slices.Sorted(maps.Keys(s.Agents))
	for _, name := range agents {
		c.exports(shares(RoleAgent, name), fmt.Sprintf("accounts: [%s]", quote(AgentAccount(name))))
	}
	c.endList()
	c.close()
	for _, a := range s.Apps {
		p, err := password(a.Password)
		if err != nil {
			return "", fmt.Errorf("hash the password of app %s: %w", a.Name, err)
		}
		c.app(a, p)
	}
	for _, name := range agents {
		p, err := password(s.Agents[name])
		if err != nil {
			return "", fmt.Errorf("hash the password of support agent %s: %w", name, err)
		}
		c.agent(name, p)
	}
	c.close()
	return c.b.String(), nil
}

// app writes the account of an app.
func (c *configWriter) app(a App, password string) {
	c.open(quote(AppAccount(a.Name)))
	c.list("users")
	c.user(a.user(), password, AppPermissions(a.Name))
	c.endList()
	c.list("imports")
	c.imports(shares(RoleApp, a.Name))
	// To an account without JetStream the server gives its own answer on all of $JS.API, "not enabled", which would come before the true
	// answer of the imported subjects. It leaves out an account that already imports $JS.API.INFO; hence this import, to a subject that
	// nobody serves.
	c.line("{service: {account: %s, subject: %s}, to: \"$JS.API.INFO\"}", Account, quote(nothing(a.Name)))
	c.endList()
	c.close()
}

// agent writes the account of a support agent.
func (c *configWriter) agent(name, password string) {
	c.open(quote(AgentAccount(name)))
	c.list("users")
	c.user(AgentUser(name), password, AgentPermissions(name))
	c.endList()
	c.list("imports")
	c.imports(shares(RoleAgent, name))
	c.endList()
	c.close()
}

// exports writes what Account lets another have; to names that account.
func (c *configWriter) exports(subjects []shared, to string) {
	for _, x := range subjects {
		switch {
		case x.stream:
			c.line("{stream: %s, %s}", quote(x.subject), to)
		case x.replies:
			c.line("{service: %s, response_type: stream, %s}", quote(x.subject), to)
		default:
			c.line("{service: %s, %s}", quote(x.subject), to)
		}
	}
}

// imports writes what an account has from Account.
func (c *configWriter) imports(subjects []shared) {
	for _, x := range subjects {
		kind := "service"
		if x.stream {
			kind = "stream"
		}
		c.line("{%s: {account: %s, subject: %s}}", kind, Account, quote(x.subject))
	}
}

func nothing(app string) string { return "otpost.app." + app + ".nothing" }

// complete fills in defaults and refuses what cannot work.
func (s *ServerSettings) complete() error {
	orDefault(&s.Name, "otpost")
	orDefault(&s.Host, "127.0.0.1")
	orDefault(&s.Port, 4222)
	orDefault(&s.SyncInterval, "always")
	orDefault(&s.MaxPayload, 1<<20)
	switch {
	case s.StoreDir == "":
		return errors.New("the store directory is missing")
	case s.Port < 1 || s.Port > 65535:
		return fmt.Errorf("port %d is not within 1–65535", s.Port)
	case strings.ContainsAny(s.Name, " \t\r\n"):
		return fmt.Errorf("server name %q has spaces", s.Name)
	case s.MaxPayload < 64<<10 || s.MaxPayload > 64<<20:
		return fmt.Errorf("maximal payload of %d bytes is not within 64 KiB–64 MiB", s.MaxPayload)
	case s.MaxFileStore < 0 || s.MaxMemory < 0:
		return errors.New("a store limit is negative")
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return errors.New("TLS needs both a certificate and a key")
	case s.BcryptCost != 0 && (s.BcryptCost < bcrypt.MinCost || s.BcryptCost > bcrypt.MaxCost):
		return fmt.Errorf("bcrypt cost %d is not within %d–%d", s.BcryptCost, bcrypt.MinCost, bcrypt.MaxCost)
	}
	if s.SyncInterval != "always" {
		if d, err := time.ParseDuration(s.SyncInterval); err != nil || d < time.Second {
			return fmt.Errorf("sync interval %q is neither \"always\" nor a duration of at least 1s", s.SyncInterval)
		}
	}

	users := map[string]bool{}
	for r := range s.Users {
		if !slices.Contains(Roles(), r) {
			return fmt.Errorf("there is no role %q", string(r))
		}
	}
	for _, r := range Roles() {
		if s.Users[r] == "" {
			return fmt.Errorf("the password of %s is missing", r)
		}
		users[string(r)] = true
	}
	s.Apps = slices.SortedFunc(slices.Values(s.Apps), func(a, b App) int { return strings.Compare(a.Name, b.Name) })
	for i, a := range s.Apps {
		switch {
		case !otp.ValidApp(a.Name):
			return fmt.Errorf("%q is no name for an app", a.Name)
		case i > 0 && s.Apps[i-1].Name == a.Name:
			return fmt.Errorf("app %s is there twice", a.Name)
		case users[a.user()]:
			return fmt.Errorf("user %q of app %s is taken", a.user(), a.Name)
		case a.Password == "":
			return fmt.Errorf("the password of app %s is missing", a.Name)
		}
		users[a.user()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.Agents)) {
		switch {
		case !otp.ValidApp(name):
			return fmt.Errorf("%q is no name for a support agent: it takes 1 to 64 of a-z, 0-9 and -", name)
		case users[AgentUser(name)]:
			return fmt.Errorf("user %q of support agent %s is taken", AgentUser(name), name)
		case s.Agents[name] == "":
			return fmt.Errorf("the password of support agent %s is missing", name)
		}
	}
	return nil
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// isBcrypt tells a bcrypt hash as nats-server does, plus its cost.
func isBcrypt(p string) bool {
	_, err := bcrypt.Cost([]byte(p))
	return err == nil && strings.HasPrefix(p, "$2a$")
}

// A configWriter writes the configuration format of nats-server with two spaces a level.
type configWriter struct {
	b     strings.Builder
	depth int
}

func (c *configWriter) line(format string, args ...any) {
	c.b.WriteString(strings.Repeat("  ", c.depth))
	fmt.Fprintf(&c.b, format, args...)
	c.b.WriteByte('\n')
}

func (c *configWriter) open(name string) { c.line("%s {", name); c.depth++ }
func (c *configWriter) close()           { c.depth--; c.line("}") }
func (c *configWriter) list(name string) { c.line("%s: [", name); c.depth++ }
func (c *configWriter) endList()         { c.depth--; c.line("]") }

func (c *configWriter) user(name, password string, p Permissions) {
	c.line("{")
	c.depth++
	c.line("user: %s", quote(name))
	c.line("password: %s", password)
	c.open("permissions")
	c.subjects("publish", p.Publish)
	c.subjects("subscribe", p.Subscribe)
	if p.Responses {
		c.line("allow_responses: {max: 1, expires: %s}", quote(ResponseWithin.String()))
	}
	c.close()
	c.depth--
	c.line("}")
}

// subjects writes an allow list. An empty one allows nothing, which the server would otherwise read as everything.
func (c *configWriter) subjects(verb string, subjects []string) {
	if len(subjects) == 0 {
		c.line("%s: {deny: \">\"}", verb)
		return
	}
	quoted := make([]string, len(subjects))
	for i, s := range subjects {
		quoted[i] = quote(s)
	}
	c.line("%s: {allow: [%s]}", verb, strings.Join(quoted, ", "))
}

// quote writes any string as one of nats-server's double-quoted strings: bytes that could mean something else are escaped, and nothing in
// it is taken for a variable.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c > 0x7e:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
