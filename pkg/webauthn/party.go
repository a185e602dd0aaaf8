package webauthn

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"

	"github.com/otpost/otpost/pkg/otp"
)

// A Party is the relying party that an app's users register their keys with. Keys are bound to the ID for good: an app that changes it loses them.
type Party struct {
	ID      string   // a domain without scheme or port: "shop.example"
	Name    string   // for people, shown by some authenticators
	Origins []string // of the pages and mobile apps that may ask for a key, as browsers write them: "https://login.shop.example"
}

const (
	maxOrigins = 16
	maxName    = 64                      // bytes that an authenticator keeps of a name (§6.4.1)
	androidApp = "android:apk-key-hash:" // before the digest of the certificate that signed a mobile app
)

// PartyOf returns the relying party of an app by its name for people, which may be longer than authenticators keep, and its policy; ok is false for an
// app that has set none: its users cannot use security keys.
func PartyOf(name string, p otp.FactorPolicy) (party Party, ok bool) {
	for len(name) > maxName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return Party{ID: p.RPID, Name: name, Origins: p.Origins}, p.RPID != ""
}

// Check returns an error that names the first setting that cannot work. Origins are compared with what the browser says letter by letter, so each
// must be written as browsers do: no path, no default port, in lower case. Each page must be of the party's domain or one below; it must come by
// https, but for localhost. Origins of other domains (§5.11, related origins) are not taken.
func (p Party) Check() error {
	if err := protocol.ValidateRPID(p.ID); err != nil {
		return fmt.Errorf("relying party id %q: %w", p.ID, err)
	}
	if p.ID != strings.ToLower(p.ID) {
		return fmt.Errorf("relying party id %q: must be in lower case", p.ID)
	}
	if p.Name == "" || len(p.Name) > maxName {
		return fmt.Errorf("relying party name: must have 1 to %d bytes, not %d", maxName, len(p.Name))
	}
	if n := len(p.Origins); n == 0 || n > maxOrigins {
		return fmt.Errorf("relying party origins: must be 1 to %d, not %d", maxOrigins, n)
	}
	for _, origin := range p.Origins {
		if err := p.checkOrigin(origin); err != nil {
			return fmt.Errorf("relying party origin %q: %w", origin, err)
		}
	}
	return nil
}

func (p Party) checkOrigin(origin string) error {
	if digest, ok := strings.CutPrefix(origin, androidApp); ok {
		if len(digest) != 43 { // SHA-256 in base64url
			return errors.New("must end with the digest of the app's certificate, in base64url")
		}
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil {
		return errors.New("must be a URL")
	}
	host := u.Hostname()
	switch local := host == "localhost" || strings.HasSuffix(host, ".localhost"); {
	case u.Scheme != "https" && (u.Scheme != "http" || !local):
		return errors.New("must begin with https://")
	case origin != u.Scheme+"://"+u.Host || origin != strings.ToLower(origin):
		return errors.New("must be scheme, host and port only, in lower case")
	case u.Port() == map[string]string{"https": "443", "http": "80"}[u.Scheme] && u.Port() != "", strings.HasSuffix(u.Host, ":"):
		return errors.New("must not name the default port")
	case host != p.ID && !strings.HasSuffix(host, "."+p.ID):
		return fmt.Errorf("must be of %s or a domain below", p.ID)
	}
	return nil
}

// checkClient judges what the browser says of the page (§7.1, steps 7 to 12; §7.2, steps 10 to 14) where the library is more lenient. The library
// checks type and challenge after it.
func (p Party) checkClient(c protocol.CollectedClientData) error {
	if !slices.Contains(p.Origins, c.Origin) {
		return refused("origin %.80q is not the party's", c.Origin)
	}
	if c.CrossOrigin || c.TopOrigin != "" {
		return refused("the page was in a frame of another origin")
	}
	// Level 3 has no token binding any more. Old browsers still say that they could have used it, which says nothing; one that says that it did
	// speaks of a connection that was not otpost's.
	b := c.TokenBinding //nolint:staticcheck // deprecated because of Level 3, which is why it is looked at
	if b != nil && b.Status != protocol.Supported && b.Status != protocol.NotSupported {
		return refused("it is bound to a connection's token")
	}
	return nil
}
