package sandbox

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otp"
)

const secretsName = "secrets.json"

// secrets are what the folder keeps so that a program set up once works after a restart.
type secrets struct {
	Roles  map[string]roleSecrets `json:"roles"`
	Apps   map[string]appSecrets  `json:"apps"`
	Agents map[string]string      `json:"agents"` // NATS passwords of support agents
	Twilio twilioSecrets          `json:"twilio"`
	Vonage vonageSecrets          `json:"vonage"`
	SMTP   smtpSecrets            `json:"smtp"`
}

type roleSecrets struct {
	NATSPassword     string `json:"nats_password"`
	DatabasePassword string `json:"database_password"`
}

type appSecrets struct {
	NATSPassword string `json:"nats_password"`
	APIKey       string `json:"api_key"`
}

type twilioSecrets struct {
	AccountSID string `json:"account_sid"` // in Twilio's form: "AC" and 32 hexadecimal digits
	AuthToken  string `json:"auth_token"`
}

type vonageSecrets struct {
	Key       string `json:"key"`
	Secret    string `json:"secret"`
	Signature string `json:"signature"` // keys the signature of receipts
}

type smtpSecrets struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// loadSecrets reads the folder's secrets, makes those that are missing, and writes the file when it made any.
func loadSecrets(dir string) (secrets, error) {
	path := filepath.Join(dir, secretsName)
	var s secrets
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return s, fmt.Errorf("read secrets: %w", err)
	default:
		if err := json.Unmarshal(text, &s); err != nil {
			return s, fmt.Errorf("read secrets: %s is damaged; remove it to have new ones made: %w", path, err)
		}
	}
	if !s.complete() {
		return s, nil
	}
	return s, s.save(dir)
}

// complete makes what is missing and reports whether anything was.
func (s *secrets) complete() (made bool) {
	fill := func(v *string, fresh func() string) {
		if *v == "" {
			*v, made = fresh(), true
		}
	}
	if s.Roles == nil {
		s.Roles = map[string]roleSecrets{}
	}
	if s.Apps == nil {
		s.Apps = map[string]appSecrets{}
	}
	for _, role := range bus.Roles() {
		r := s.Roles[string(role)]
		fill(&r.NATSPassword, rand.Text)
		fill(&r.DatabasePassword, rand.Text)
		s.Roles[string(role)] = r
	}
	if s.Agents == nil {
		s.Agents = map[string]string{}
	}
	for _, name := range agents {
		password := s.Agents[name]
		fill(&password, rand.Text)
		s.Agents[name] = password
	}
	fill(&s.Twilio.AccountSID, func() string { return "AC" + randomHex() })
	fill(&s.Twilio.AuthToken, randomHex)
	fill(&s.Vonage.Key, func() string { return randomHex()[:8] })
	fill(&s.Vonage.Secret, randomHex)
	fill(&s.Vonage.Signature, randomHex)
	fill(&s.SMTP.User, func() string { return "otpost" })
	fill(&s.SMTP.Password, rand.Text)
	return made
}

// ensureApp makes an app's secrets where there are none yet.
func (s *secrets) ensureApp(dir, name string) error {
	a := s.Apps[name]
	_, good := otp.APIKeyDigest(a.APIKey) // a folder of an older version has none in this form
	if a.NATSPassword != "" && good {
		return nil
	}
	if a.NATSPassword == "" {
		a.NATSPassword = rand.Text()
	}
	if !good {
		a.APIKey = otp.NewAPIKey()
	}
	s.Apps[name] = a
	return s.save(dir)
}

func (s *secrets) save(dir string) error {
	if err := writeJSON(filepath.Join(dir, secretsName), s); err != nil {
		return fmt.Errorf("keep secrets: %w", err)
	}
	return nil
}

// randomHex returns 128 random bits as 32 hexadecimal digits.
func randomHex() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}

// writeJSON writes a file for programs, by writeFile.
func writeJSON(path string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false) // URLs have ampersands, and people read this too
	if err := enc.Encode(v); err != nil {
		return err
	}
	return writeFile(path, b.Bytes())
}

// writeFile leaves the old file or the whole new one, mode 0600, whenever the machine stops.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone by then, unless something failed
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockHolder returns the id of the process that holds a locked folder, or 0 in the instant before it has written it.
func lockHolder(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}
