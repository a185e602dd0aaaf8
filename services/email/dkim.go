package email

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/emersion/go-msgauth/dkim"
	gomail "github.com/wneessen/go-mail"
)

// DKIMConfig tells how messages are signed (DomainKeys Identified Mail, RFC 6376). The public key stands in DNS as a TXT record at
// <Selector>._domainkey.<Domain>.
type DKIMConfig struct {
	// Domain takes responsibility for the messages (the tag "d="). For DMARC it must be the domain in From, or share its
	// organisational domain (RFC 7489, section 3.1.1).
	Domain string
	// Selector names the key (the tag "s=").
	Selector string
	// Key is the private key in PEM: RSA of at least 2048 bits (PKCS #1 or #8), or Ed25519 (PKCS #8; RFC 8463). Many receivers do
	// not verify Ed25519 yet and treat such a message as unsigned.
	Key []byte
}

// minRSABits is what RFC 8301, section 3.2 asks of signers.
const minRSABits = 2048

// signedFields are the header fields under the signature. Each is listed twice, although it occurs once: that signs the absence of
// another, so that nobody on the way can add a second From or Subject for a reader to be shown (RFC 6376, section 8.15).
var signedFields = func() []string {
	fields := []string{"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Auto-Submitted"}
	return append(fields, fields...)
}()

// A signer signs messages. It is safe for concurrent use.
type signer struct {
	options dkim.SignOptions
}

func newSigner(cfg DKIMConfig) (*signer, error) {
	if !isDomain(cfg.Domain) {
		return nil, fmt.Errorf("Domain: %q is not a domain name", cfg.Domain)
	}
	if !isDomain(cfg.Selector) {
		return nil, fmt.Errorf("Selector: %q is not made of domain labels", cfg.Selector)
	}
	key, err := gomail.PrivKeyFromPEM(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("Key: reading the private key: %w", err)
	}
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits {
			return nil, fmt.Errorf("Key: RSA of %d bits; at least %d are needed", bits, minRSABits)
		}
	case ed25519.PublicKey:
	default:
		return nil, errors.New("Key: neither RSA nor Ed25519")
	}
	return &signer{options: dkim.SignOptions{
		Domain: cfg.Domain, Selector: cfg.Selector, Signer: key, HeaderKeys: signedFields,
		// Relays refold headers and trim white space; relaxed/relaxed survives that (RFC 6376, section 3.4).
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	}}, nil
}

// sign returns message with its DKIM-Signature field in front. The lines of message end in CRLF.
func (s *signer) sign(message []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := dkim.Sign(&b, bytes.NewReader(message), &s.options); err != nil {
		return nil, fmt.Errorf("signing with DKIM: %w", err)
	}
	return b.Bytes(), nil
}
