package email

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/bounce"
	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/telemetry"
)

// BouncesConfig says which mailbox mails come back to.
type BouncesConfig struct {
	URL      string         // imaps://user@host[:993]/INBOX, or imap:// for STARTTLS (RFC 5092); imap:// stays in clear text on loopback only
	Password string         // of the user
	RootCAs  *x509.CertPool // who may sign the server's certificate; the system's when nil
	Every    time.Duration  // how often it is looked into, 1 s – 1 h
	Delete   bool           // notifications are deleted once they are passed on; otherwise they are marked as read

	Publish func(ctx context.Context, out ...bus.Out) error // returns once the stream has it
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	Now     func() time.Time
}

// Bounces reads a mailbox that delivery status notifications (RFC 3464) come to and tells each as a receipt.
//
// A notification is marked or deleted only after the stream has its receipt: one that is read twice, by another worker too, is told twice under one id and
// does no harm. What is no notification is left as it is. Any number of workers may read one mailbox.
type Bounces struct {
	BouncesConfig
	address, host  string
	user, mailbox  string
	implicit       bool            // TLS from the first byte
	left           map[uint32]bool // UIDs of what is no notification, so that it is not fetched each time; of uidValidity
	leftOfValidity uint32
}

// Bounds of the mailbox's reading.
const (
	connectWithin = 15 * time.Second
	passWithin    = 2 * time.Minute // one look into the mailbox
	mailsAtOnce   = 500             // in one look; the rest in the next
	maxLeft       = 10_000          // UIDs that are remembered
	longestRest   = 15 * time.Minute
	countedAs     = "mailbox" // in place of a provider's name, which a notification does not tell
)

// NewBounces returns Bounces, or the first setting that is wrong, by the name of its field.
func NewBounces(cfg BouncesConfig) (*Bounces, error) {
	b := &Bounces{BouncesConfig: cfg, left: map[uint32]bool{}}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "imaps" && u.Scheme != "imap" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("URL: must be like imaps://user@mail.example/INBOX") // the parser's error would quote what may hold a password
	}
	if u.User.Username() == "" {
		return nil, errors.New("URL: names no user")
	}
	if _, has := u.User.Password(); has {
		return nil, errors.New("URL: must not hold the password")
	}
	if cfg.Password == "" || hasControl(cfg.Password) {
		return nil, errors.New("Password: is missing, or has a control character")
	}
	if cfg.Every < time.Second || cfg.Every > time.Hour {
		return nil, fmt.Errorf("Every: must be 1s to 1h, not %s", cfg.Every)
	}
	b.host, b.user, b.implicit = u.Hostname(), u.User.Username(), u.Scheme == "imaps"
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: "993", false: "143"}[b.implicit] // RFC 8314, section 3.2; RFC 9051, section 2.1
	}
	b.address = net.JoinHostPort(b.host, port)
	b.mailbox = strings.TrimPrefix(u.Path, "/")
	orElse(&b.mailbox, "INBOX")
	if hasControl(b.mailbox) || hasControl(b.user) {
		return nil, errors.New("URL: has a control character")
	}
	return b, nil
}

// Run looks into the mailbox until ctx ends. After failures it rests longer each time: a mailbox that is locked for wrong passwords stays locked otherwise.
func (b *Bounces) Run(ctx context.Context) error {
	rest := b.Every
	for {
		err := b.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // what was broken off is read again by the next
		case err != nil:
			rest = min(2*rest, max(longestRest, b.Every))
			b.Logger.Warn("reading the mailbox of bounces failed, it is tried again", "error", err, "pause", rest)
		default:
			rest = b.Every
		}
		wait := time.NewTimer(rest)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
	}
}

// A fate is what is to happen to a mail.
type fate int

const (
	leave fate = iota // it is none of ours
	keep              // it is marked as read, and stays for people
	done              // it is marked as read, or deleted
)

// tell publishes what one mail says.
func (b *Bounces) tell(ctx context.Context, raw []byte) (fate, error) {
	n, err := bounce.Parse(raw)
	switch {
	case errors.Is(err, bounce.ErrNone):
		return leave, nil
	case err != nil: // another try would read no more of it
		b.Logger.Warn("a delivery status notification cannot be read, it is kept in the mailbox", "error", err)
		b.count("malformed")
		return keep, nil
	}
	r := event.Receipt{Challenge: n.Challenge, Attempt: n.Attempt, Channel: otp.Email, At: b.Now()}
	switch {
	case n.Delivery == "": // of another program's mail, or one that came back without its name
		b.count("stage")
		return done, nil
	case n.Action == bounce.Failed:
		r.State, r.Reason, r.Class = otp.DeliveryUndelivered, n.Reason, event.ClassRejected
		if n.Permanent {
			r.Class = event.ClassPermanent
		}
		if n.Status != "" {
			r.Reason += " (" + n.Status + ")"
		}
	case n.Action == bounce.Delivered:
		r.State = otp.DeliveryDelivered
	default: // on its way still, or gone where nobody reports
		b.count("stage")
		return done, nil
	}
	id := n.Delivery + "/" + string(r.State) + "/bounce"
	if err := b.Publish(ctx, bus.Out{Subject: event.ReceiptSubject(otp.Email), ID: id, Data: r.Encode()}); err != nil {
		b.count("unavailable")
		return leave, fmt.Errorf("telling a bounce: %w", err)
	}
	b.count("taken")
	return done, nil
}

func (b *Bounces) count(result string) { b.Metrics.Callbacks.WithLabelValues(countedAs, result).Inc() }

func (b *Bounces) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: b.host, RootCAs: b.RootCAs, MinVersion: tls.VersionTLS12, NextProtos: []string{"imap"}}
}
