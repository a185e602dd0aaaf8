package sandbox

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/postgres"
)

// twilioFrom is Twilio's test number that passes every check; the simulated API keeps to that.
const twilioFrom = "+15005550006"

// A RoleAccess is how a worker, or the operator, joins the system. It holds secrets: none of it belongs into a log.
type RoleAccess struct {
	DatabaseURL  string // as the role
	NATSURL      string
	NATSUser     string // empty where the NATS that was given asks for none
	NATSPassword string
	KeysDir      string // holds a folder of keysets for each role, of which a worker reads its own
}

// Role returns the access of one of bus.Roles. Another name is a fault of the caller and panics.
func (s *Sandbox) Role(role string) RoleAccess {
	if !slices.Contains(bus.Roles(), bus.Role(role)) {
		panic(fmt.Sprintf("sandbox: there is no role %q", role))
	}
	s.mu.Lock()
	secret := s.secrets.Roles[role]
	s.mu.Unlock()
	a := RoleAccess{NATSURL: s.natsURL, NATSUser: role, NATSPassword: secret.NATSPassword, KeysDir: s.keysDir()}
	if s.cfg.NATSURL != "" {
		a.NATSUser, a.NATSPassword = s.cfg.NATSUser, s.cfg.NATSPassword
	}
	if s.cfg.DatabaseURL != "" {
		a.DatabaseURL, _ = postgres.AsRole(s.ownerURL, role) // the URL has been parsed before
		return a
	}
	a.DatabaseURL = asUser(s.ownerURL, postgres.Roles[role], secret.DatabasePassword)
	return a
}

// An AppAccess is how an app reaches otpost.
type AppAccess struct {
	Name         string
	NATSURL      string
	NATSUser     string
	NATSPassword string
	APIKey       string // for the HTTP API
}

// App returns the access of an app; ok is false for one that has none yet.
func (s *Sandbox) App(name string) (access AppAccess, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.apps[name] {
		return AppAccess{}, false
	}
	return s.appAccess(name), true
}

// appAccess reads an app's access; the caller holds mu.
func (s *Sandbox) appAccess(name string) AppAccess {
	secret := s.secrets.Apps[name]
	a := AppAccess{Name: name, NATSURL: s.natsURL, NATSUser: "app_" + name, NATSPassword: secret.NATSPassword, APIKey: secret.APIKey}
	if s.cfg.NATSURL != "" {
		a.NATSUser, a.NATSPassword = s.cfg.NATSUser, s.cfg.NATSPassword
	}
	return a
}

// An AgentAccess is how a support agent reaches otpost.
type AgentAccess struct {
	Name         string // the agent's own; the NATS user is support-<name>
	NATSURL      string
	NATSPassword string
}

// Agents returns the access of the support agents that every sandbox has: two, since one may not approve what they have begun. There are none where
// the NATS that was given asks for a user, whom an agent cannot be.
func (s *Sandbox) Agents() []AgentAccess {
	if s.cfg.NATSUser != "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]AgentAccess, len(agents))
	for i, name := range agents {
		out[i] = AgentAccess{Name: name, NATSURL: s.natsURL}
		if s.cfg.NATSURL == "" {
			out[i].NATSPassword = s.secrets.Agents[name]
		}
	}
	return out
}

// Providers are the simulated providers, as the channel workers are told of them.
type Providers struct {
	TwilioBaseURL    string // stands for https://api.twilio.com
	TwilioAccountSID string
	TwilioAuthToken  string
	TwilioFrom       string // E.164

	SMTPHost     string
	SMTPPort     int
	SMTPUser     string
	SMTPPassword string
	SMTPTLS      string // "none": the server is on the loopback address
	SMTPFrom     string // an RFC 5322 mailbox

	LetterSpool   string // folder that letters are printed into
	LetterSender  string // the line in the window
	LetterCountry string // where they are posted, ISO 3166-1 alpha-2
}

// Providers returns the simulated providers.
func (s *Sandbox) Providers() Providers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Providers{
		TwilioBaseURL: s.Addresses().Twilio, TwilioAccountSID: s.secrets.Twilio.AccountSID, TwilioAuthToken: s.secrets.Twilio.AuthToken,
		TwilioFrom: twilioFrom,
		SMTPHost:   loopback, SMTPPort: portOf(s.smtp), SMTPUser: s.secrets.SMTP.User, SMTPPassword: s.secrets.SMTP.Password, SMTPTLS: "none",
		SMTPFrom:    "Demo shop <no-reply@shop.example>",
		LetterSpool: s.lettersDir(), LetterSender: "Demo shop, 1 Market Street, San Francisco CA 94105", LetterCountry: "US",
	}
}

// Addresses are where the parts of the system are. They hold no secret.
type Addresses struct {
	Shop   string // URL of the demo shop, as browsers open it
	HTTP   string // URL of the HTTP edge, for the JSON API
	Pages  string // URL of the hosted pages, as browsers open them: security keys and safe cookies are for https, and for localhost by name
	NATS   string // URL; several, separated by commas, where they were given so
	Inbox  string // URL
	Twilio string // URL that stands for https://api.twilio.com
	SMTP   string // host:port
}

// Addresses returns where everything listens.
func (s *Sandbox) Addresses() Addresses {
	box := "http://" + s.inboxHTTP.Addr().String()
	return Addresses{
		Shop: localhost(s.shopHTTP), HTTP: "http://" + s.http.Addr().String(), Pages: localhost(s.http), NATS: s.natsURL,
		Inbox: box, Twilio: box + "/twilio", SMTP: s.smtp.Addr().String(),
	}
}

func localhost(l net.Listener) string { return fmt.Sprintf("http://localhost:%d", portOf(l)) }

// Moved returns a line for each server that is not on its usual port, such as "port 4222 is taken, NATS listens on 41234 instead".
func (s *Sandbox) Moved() []string { return slices.Clone(s.moved) }

// Dir is the absolute path of the folder.
func (s *Sandbox) Dir() string { return s.dir }

// asUser returns the URL of the same database as another login. The URL has been parsed before.
func asUser(raw, user, password string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "" // postgres.Open refused it at the start
	}
	u.User = url.UserPassword(user, password)
	q := u.Query()
	q.Del("user")
	q.Del("password")
	u.RawQuery = q.Encode()
	return u.String()
}

// splitCredentials takes user and password out of a list of NATS URLs. Those of the first one that has any hold for all.
func splitCredentials(urls string) (bare, user, password string, err error) {
	var out []string
	for raw := range strings.SplitSeq(urls, ",") {
		raw = strings.TrimSpace(raw)
		if !strings.Contains(raw, "://") {
			raw = "nats://" + raw
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			return "", "", "", fmt.Errorf("NATS URL: must be of the form nats://host:port") // the cause would quote the password
		}
		if u.User != nil && user == "" {
			user = u.User.Username()
			password, _ = u.User.Password()
		}
		u.User = nil
		out = append(out, u.String())
	}
	return strings.Join(out, ","), user, password, nil
}
