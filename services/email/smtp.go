package email

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
)

// A TLSMode says how a connection to the mail server is encrypted.
type TLSMode string

const (
	// StartTLS upgrades the connection with STARTTLS (RFC 3207) and refuses a server that does not offer it. The default.
	StartTLS TLSMode = "starttls"
	// Opportunistic upgrades when the server offers STARTTLS and goes on in clear text when it does not, but then never sends a
	// password, except on loopback. A certificate that is offered must still be valid. It does not withstand an active attacker.
	Opportunistic TLSMode = "opportunistic"
	// Implicit speaks TLS from the first byte (RFC 8314, section 3.3; port 465).
	Implicit TLSMode = "implicit"
	// NoTLS stays in clear text; with a password only on loopback.
	NoTLS TLSMode = "none"
)

// SMTPConfig tells NewSMTP which server to hand messages to, and how.
type SMTPConfig struct {
	Name string // the provider's name in events and metrics; [a-z0-9_-]{1,64}, "smtp" when empty

	Host       string         // the server's host name or IP address; required
	Port       int            // 1–65535; when 0, 587 (RFC 6409), or 465 with Implicit and 25 with NoTLS
	TLS        TLSMode        // StartTLS when empty
	RootCAs    *x509.CertPool // who may sign the server's certificate; the system's when nil
	ServerName string         // the name in the server's certificate; Host when empty

	Username string // empty: no authentication
	Password string // with Auth "xoauth2" the access token, which the caller must renew
	Auth     string // "auto" (the default with a Username), "plain", "login", "cram-md5", "scram-sha-256", "xoauth2"

	From string // the sender as an RFC 5322 mailbox, such as "Shop <no-reply@shop.example>"; its address ASCII; required
	Helo string // the name given in EHLO (RFC 5321, section 4.1.1.1); the machine's host name when empty

	Connections int           // most connections in use and kept, 1–256; 8 when 0
	MaxAge      time.Duration // a connection older than this is closed after its message; 5 min when 0
	MaxIdle     time.Duration // a connection unused for this long is closed; 30 s when 0
	MaxMessages int           // messages over one connection; 100 when 0

	DialTimeout time.Duration // from dialling to the end of authentication; 5 s when 0
	SendTimeout time.Duration // from MAIL to the server's last reply; 10 s when 0

	DKIM *DKIMConfig // how to sign; nil: messages go unsigned, as when the relay signs them

	Logger *slog.Logger     // told of connections at debug level, never of recipients or texts; nil discards
	Now    func() time.Time // the clock for the Date field and connections' ages; time.Now when nil
}

// SMTP is a delivery.Provider that submits messages to one mail server over a pool of kept connections. It is safe for concurrent
// use. Close it to take leave of the server.
//
// It never retries a message that the server may have seen. Only a kept connection that turns out dead on its first command, before
// anything of the message was said, is replaced by a fresh one.
type SMTP struct {
	cfg    SMTPConfig
	from   mail.Address
	domain string // of from
	tls    *tls.Config
	signer *signer // nil: unsigned
	pool   *pool
	log    *slog.Logger
}

var _ delivery.Provider = (*SMTP)(nil)

var (
	providerName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)
	domainName   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$`)
)

// NewSMTP checks cfg and returns a provider that dials when it first sends. The error joins one error per wrong field, each
// beginning with the field's name.
func NewSMTP(cfg SMTPConfig) (*SMTP, error) {
	cfg.setDefaults()
	s := &SMTP{log: cfg.Logger}
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
	}

	if !providerName.MatchString(cfg.Name) {
		bad("Name", "%q must be 1 to 64 of a-z, 0-9, _ and -", cfg.Name)
	}
	if !isHost(cfg.Host) {
		bad("Host", "%q is neither a host name nor an IP address", cfg.Host)
	}
	if cfg.Port < 1 || cfg.Port > 65535 {
		bad("Port", "%d is not within 1–65535", cfg.Port)
	}
	if !isHost(cfg.ServerName) {
		bad("ServerName", "%q is neither a host name nor an IP address", cfg.ServerName)
	}
	if !isHost(strings.Trim(cfg.Helo, "[]")) {
		bad("Helo", "%q is neither a domain name nor an address literal", cfg.Helo)
	}
	switch cfg.TLS {
	case StartTLS, Opportunistic, Implicit:
	case NoTLS:
		if cfg.Username != "" && !isLoopback(cfg.Host) {
			bad("TLS", "%q would send the password in clear text; it is allowed with a Username on loopback only", cfg.TLS)
		}
	default:
		bad("TLS", "%q is not one of starttls, opportunistic, implicit, none", cfg.TLS)
	}
	if cfg.Auth != "" && !isAuth(cfg.Auth) {
		bad("Auth", "%q is not one of auto, plain, login, cram-md5, scram-sha-256, xoauth2", cfg.Auth)
	}
	if cfg.Username == "" && (cfg.Password != "" || cfg.Auth != "") {
		bad("Username", "is missing beside Password or Auth")
	}
	if cfg.Username != "" && cfg.Password == "" {
		bad("Password", "is missing beside Username")
	}
	if strings.ContainsAny(cfg.Username, "\x00\r\n") {
		bad("Username", "has a control character")
	}
	if strings.ContainsAny(cfg.Password, "\x00\r\n") {
		bad("Password", "has a control character")
	}
	if from, err := parseFrom(cfg.From); err != nil {
		bad("From", "%w", err)
	} else {
		s.from, s.domain = *from, from.Address[strings.LastIndexByte(from.Address, '@')+1:]
	}
	if cfg.Connections < 1 || cfg.Connections > 256 {
		bad("Connections", "%d is not within 1–256", cfg.Connections)
	}
	if cfg.MaxMessages < 1 {
		bad("MaxMessages", "%d is not positive", cfg.MaxMessages)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"MaxAge", cfg.MaxAge}, {"MaxIdle", cfg.MaxIdle}, {"DialTimeout", cfg.DialTimeout}, {"SendTimeout", cfg.SendTimeout},
	} {
		if d.value <= 0 {
			bad(d.field, "%s is not positive", d.value)
		}
	}
	if cfg.DKIM != nil {
		var err error
		if s.signer, err = newSigner(*cfg.DKIM); err != nil {
			bad("DKIM", "%w", err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("smtp configuration: %w", errors.Join(errs...))
	}

	s.cfg = cfg
	s.tls = &tls.Config{
		ServerName: cfg.ServerName, RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(cfg.Connections), // spares fresh connections the certificates
	}
	s.pool = newPool(cfg)
	return s, nil
}

// Name returns the configured name.
func (s *SMTP) Name() string { return s.cfg.Name }

// Send submits m and returns once the server has taken it or refused it, or when ctx ends. Waiting for a free connection is bounded
// by ctx alone, the rest by DialTimeout and SendTimeout too. Its error is a *delivery.Error; see failure for how they are sorted.
// After Close every Send is a Transient error that wraps ErrClosed.
func (s *SMTP) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	l, err := s.compose(m)
	if err != nil {
		return delivery.Accepted{}, err
	}
	if err := s.pool.acquire(ctx); err != nil {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Transient, Reason: "no connection was free", Err: err}
	}
	defer s.pool.release()
	if !m.ExpiresAt.IsZero() && !s.cfg.Now().Before(m.ExpiresAt) {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Permanent, Reason: "expired before it was sent"}
	}

	if c := s.pool.take(); c != nil {
		r := s.transact(ctx, c, l)
		if !r.stale || ctx.Err() != nil {
			return r.accepted, r.failure()
		}
		s.log.DebugContext(ctx, "replacing a kept SMTP connection that the server has left", "provider", s.cfg.Name, "cause", r.err.Reason)
	}
	c, err := s.connect(ctx)
	if err != nil {
		return delivery.Accepted{}, err
	}
	r := s.transact(ctx, c, l)
	return r.accepted, r.failure()
}

// Close takes leave of the server: it waits for the sends under way, which their time-outs bound, and says QUIT on every idle
// connection. It returns nil; a server that does not answer QUIT is simply left.
func (s *SMTP) Close() error {
	s.pool.close()
	return nil
}

func (c *SMTPConfig) setDefaults() {
	orElse(&c.Name, "smtp")
	orElse(&c.TLS, StartTLS)
	switch c.TLS {
	case Implicit:
		orElse(&c.Port, 465)
	case NoTLS:
		orElse(&c.Port, 25)
	default:
		orElse(&c.Port, 587)
	}
	orElse(&c.ServerName, c.Host)
	if c.Username != "" {
		orElse(&c.Auth, "auto")
	}
	if c.Helo == "" {
		if name, err := os.Hostname(); err == nil && isHost(name) {
			c.Helo = name
		}
		orElse(&c.Helo, "localhost")
	}
	orElse(&c.Connections, 8)
	orElse(&c.MaxAge, 5*time.Minute)
	orElse(&c.MaxIdle, 30*time.Second)
	orElse(&c.MaxMessages, 100)
	orElse(&c.DialTimeout, 5*time.Second)
	orElse(&c.SendTimeout, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// parseFrom reads the sender's mailbox. It insists on an ASCII address with a plain domain, because the address goes into every
// MAIL command, SMTPUTF8 or not, and the domain into every Message-ID.
func parseFrom(from string) (*mail.Address, error) {
	if from == "" {
		return nil, errors.New("is missing")
	}
	a, err := mail.ParseAddress(from)
	if err != nil {
		return nil, fmt.Errorf("%q is not an RFC 5322 mailbox: %w", from, err)
	}
	if hasControl(a.Name) || hasControl(a.Address) {
		return nil, fmt.Errorf("%q has a control character", from)
	}
	if !isASCII(a.Address) || !isDomain(a.Address[strings.LastIndexByte(a.Address, '@')+1:]) {
		return nil, fmt.Errorf("%q is not an ASCII address at a domain name", a.Address)
	}
	return a, nil
}

func isDomain(s string) bool { return len(s) <= 253 && domainName.MatchString(s) }

func isHost(s string) bool { return net.ParseIP(strings.TrimPrefix(s, "IPv6:")) != nil || isDomain(s) }

func isLoopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e })
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
