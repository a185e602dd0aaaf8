package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/pkg/bus"
)

const endpointsName = "endpoints.json"

// endpoints is the file by which outside programs find a running system. Its keys are a contract.
type endpoints struct {
	NATS     string      `json:"nats"`
	HTTP     string      `json:"http"`
	Pages    string      `json:"pages"`
	Shop     string      `json:"shop"`
	Inbox    string      `json:"inbox"`
	SMTP     string      `json:"smtp"`
	Twilio   string      `json:"twilio"`
	Database string      `json:"database"` // as the owner
	App      appEndpoint `json:"app"`
}

type appEndpoint struct {
	Name         string `json:"name"`
	NATSUser     string `json:"nats_user"`
	NATSPassword string `json:"nats_password"`
	APIKey       string `json:"api_key"`
}

// appFile is apps/<name>.json.
type appFile struct {
	NATS string      `json:"nats"`
	HTTP string      `json:"http"`
	App  appEndpoint `json:"app"`
}

func (a AppAccess) endpoint() appEndpoint {
	return appEndpoint{Name: a.Name, NATSUser: a.NATSUser, NATSPassword: a.NATSPassword, APIKey: a.APIKey}
}

// WriteEndpoints writes what outside programs join the system with: endpoints.json, and a YAML file of settings for each role (`otpost <role> --config`)
// and each support agent (`otpost support … --config`, in the folder agents). All have mode 0600 and appear whole; endpoints.json comes last. Close removes
// them. Call it once the system works, since programs wait for endpoints.json.
func (s *Sandbox) WriteEndpoints() error {
	s.endpoints.Lock()
	defer s.endpoints.Unlock()
	if s.closed {
		return errors.New("write endpoints: the sandbox is closed")
	}
	for _, role := range bus.Roles() {
		text, err := s.roleSettings(role)
		if err != nil {
			return fmt.Errorf("write settings of %s: %w", role, err)
		}
		if err := writeFile(s.rolePath(role), text); err != nil {
			return fmt.Errorf("write settings of %s: %w", role, err)
		}
	}
	if err := s.writeAgents(); err != nil {
		return fmt.Errorf("write settings of support agents: %w", err)
	}
	at := s.Addresses()
	demo, _ := s.App(DemoApp)
	err := writeJSON(filepath.Join(s.dir, endpointsName), endpoints{
		NATS: at.NATS, HTTP: at.HTTP, Pages: at.Pages, Shop: at.Shop, Inbox: at.Inbox, SMTP: at.SMTP, Twilio: at.Twilio, Database: s.ownerURL, App: demo.endpoint(),
	})
	if err != nil {
		return fmt.Errorf("write endpoints: %w", err)
	}
	return nil
}

// writeApp writes an app's own file. The caller holds mu, or is the only one there.
func (s *Sandbox) writeApp(name string) error {
	at := s.Addresses()
	return writeJSON(filepath.Join(s.appsDir(), name+".json"), appFile{NATS: at.NATS, HTTP: at.HTTP, App: s.appAccess(name).endpoint()})
}

// removeEndpoints takes away whatever tells outside programs of a running system.
func (s *Sandbox) removeEndpoints() error {
	errs := []error{os.Remove(filepath.Join(s.dir, endpointsName))}
	for _, role := range bus.Roles() {
		errs = append(errs, os.Remove(s.rolePath(role)))
	}
	errs = append(errs, os.RemoveAll(s.appsDir()), os.RemoveAll(s.agentsDir()))
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

func (s *Sandbox) rolePath(role bus.Role) string { return filepath.Join(s.dir, string(role)+".yaml") }

// roleSettings renders the settings of one role's command; the keys are names of its flags.
func (s *Sandbox) roleSettings(role bus.Role) ([]byte, error) {
	access := s.Role(string(role))
	doc := newSettings("otpost " + string(role))
	set := doc.set
	set("nats-url", access.NATSURL)
	set("nats-user", access.NATSUser)
	set("nats-password", access.NATSPassword)
	set("database-url", access.DatabaseURL)
	set("keys", access.KeysDir)
	if role != bus.RoleOperator {
		set("health", loopback+":0")
	}
	p := s.Providers()
	switch role {
	case bus.RoleSMS:
		set("providers", s.ProvidersFile())
	case bus.RoleEmail:
		set("smtp-host", p.SMTPHost)
		set("smtp-port", strconv.Itoa(p.SMTPPort))
		set("smtp-tls", p.SMTPTLS)
		set("smtp-username", p.SMTPUser)
		set("smtp-password", p.SMTPPassword)
		set("smtp-from", p.SMTPFrom)
	case bus.RoleGateway:
		at, listen := s.Addresses(), loopback+":0"
		if s.cfg.OutsideGateway {
			listen = s.http.Addr().String()
		}
		set("listen", listen)
		set("public-url", at.Pages)
		set("callbacks", s.CallbacksFile())
	case bus.RoleLetter:
		set("spool", p.LetterSpool)
		set("sender", p.LetterSender)
		set("sender-country", p.LetterCountry)
	}
	return doc.text()
}

// writeAgents writes agents/<name>.yaml for each support agent.
func (s *Sandbox) writeAgents() error {
	if err := os.MkdirAll(s.agentsDir(), 0o700); err != nil {
		return err
	}
	for _, a := range s.Agents() {
		doc := newSettings("otpost support for agent " + a.Name)
		doc.set("nats-url", a.NATSURL)
		doc.set("nats-password", a.NATSPassword)
		doc.set("agent", a.Name)
		text, err := doc.text()
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(s.agentsDir(), a.Name+".yaml"), text); err != nil {
			return err
		}
	}
	return nil
}

// settings is a YAML file of settings in the making; the keys are names of flags.
type settings struct{ doc yaml.Node }

func newSettings(of string) *settings {
	return &settings{yaml.Node{Kind: yaml.MappingNode, HeadComment: "Settings of " + of + " for the system that runs in this folder; gone when that ends."}}
}

// set adds a setting, unless it is empty.
func (s *settings) set(name, value string) {
	if value != "" {
		s.doc.Content = append(s.doc.Content,
			&yaml.Node{Kind: yaml.ScalarNode, Value: name},
			&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: value})
	}
}

func (s *settings) text() ([]byte, error) { return yaml.Marshal(&s.doc) }
