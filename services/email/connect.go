package email

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail/smtp"
)

// connect dials the server, greets it, encrypts and authenticates, within DialTimeout and ctx. Its error is a *delivery.Error.
//
// It takes the steps with go-mail's SMTP client and not with mail.Client.DialToSMTPClientWithContext, because that leaves the
// connection open when a step after dialling fails, does not end when ctx is cancelled after dialling, and does not tell which step
// failed.
func (s *SMTP) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.cfg.Host, strconv.Itoa(s.cfg.Port)))
	if err != nil {
		return nil, failure(stageConnect, because(ctx, err))
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	client, at, err := s.greet(ctx, raw)
	if !stop() && err == nil { // ctx ended with the last step, and raw is closed
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, failure(at, because(ctx, err))
	}
	now := s.cfg.Now()
	s.log.DebugContext(ctx, "SMTP connection opened", "provider", s.cfg.Name)
	return &conn{client: client, raw: raw, opened: now, used: now}, nil
}

// greet makes raw ready for MAIL, or returns the stage that failed. The caller closes raw then.
func (s *SMTP) greet(ctx context.Context, raw net.Conn) (*smtp.Client, stage, error) {
	wire := raw
	if s.cfg.TLS == Implicit {
		encrypted := tls.Client(raw, s.tls)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, stageTLS, err
		}
		wire = encrypted
	}
	client, err := smtp.NewClient(wire, s.cfg.Host)
	if err != nil {
		return nil, stageGreeting, err
	}
	if err := client.Hello(s.cfg.Helo); err != nil {
		return nil, stageGreeting, err
	}
	if s.cfg.TLS == StartTLS || s.cfg.TLS == Opportunistic {
		offered, _ := client.Extension("STARTTLS")
		if !offered && s.cfg.TLS == StartTLS {
			return nil, stageTLS, errNoStartTLS
		}
		if offered {
			if err := client.StartTLS(s.tls); err != nil {
				return nil, stageTLS, err
			}
		}
	}
	if s.cfg.Username != "" {
		if err := s.authenticate(client); err != nil {
			return nil, stageAuth, err
		}
	}
	return client, stageMail, nil
}

// mechanisms are the SASL mechanisms by configured name. "auto" takes the first that the server offers: SCRAM first, since it does
// not show the server the password; CRAM-MD5 last, since many servers offer it and few of those can check it. XOAUTH2 wants a token
// in place of the password and is taken only when it is named.
var mechanisms = []struct {
	name, sasl string
	auto       bool
	start      func(cfg *SMTPConfig, clear bool) smtp.Auth
}{
	{"scram-sha-256", "SCRAM-SHA-256", true, func(c *SMTPConfig, _ bool) smtp.Auth { return smtp.ScramSHA256Auth(c.Username, c.Password) }},
	{"plain", "PLAIN", true, func(c *SMTPConfig, clear bool) smtp.Auth {
		return smtp.PlainAuth("", c.Username, c.Password, c.Host, clear)
	}},
	{"login", "LOGIN", true, func(c *SMTPConfig, clear bool) smtp.Auth {
		return smtp.LoginAuth(c.Username, c.Password, c.Host, clear)
	}},
	{"cram-md5", "CRAM-MD5", true, func(c *SMTPConfig, _ bool) smtp.Auth { return smtp.CRAMMD5Auth(c.Username, c.Password) }},
	{"xoauth2", "XOAUTH2", false, func(c *SMTPConfig, _ bool) smtp.Auth { return smtp.XOAuth2Auth(c.Username, c.Password) }},
}

func isAuth(name string) bool {
	if name == "auto" {
		return true
	}
	for _, m := range mechanisms {
		if m.name == name {
			return true
		}
	}
	return false
}

// authenticate logs in with the configured mechanism. In clear text it does so on loopback only, whatever the mechanism: without TLS
// nothing tells who is asking.
func (s *SMTP) authenticate(client *smtp.Client) error {
	_, encrypted := client.TLSConnectionState()
	if !encrypted && !isLoopback(s.cfg.Host) {
		return errClearAuth
	}
	_, list := client.Extension("AUTH")
	offered := strings.Fields(strings.ToUpper(list))
	for _, m := range mechanisms {
		if (m.name == s.cfg.Auth || s.cfg.Auth == "auto" && m.auto) && slices.Contains(offered, m.sasl) {
			if err := client.Auth(m.start(&s.cfg, !encrypted)); err != nil {
				return fmt.Errorf("authenticating with %s: %w", m.sasl, err)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: wanted %s, offered %q", errNoAuth, s.cfg.Auth, list)
}
