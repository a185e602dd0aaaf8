package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/keyring"
)

// Headers of a post (Standard Webhooks 1.0.0, "Webhook headers").
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// secretPrefix marks a secret of symmetric signatures as one (Standard Webhooks 1.0.0, "Signature scheme").
const secretPrefix = "whsec_"

// secretSize is the length of a new secret in bytes; the standard asks for 24 to 64.
const secretSize = 32

// A Secret is what a webhook's posts are signed with.
type Secret []byte

// NewSecret returns a random Secret.
func NewSecret() Secret {
	s := make(Secret, secretSize)
	_, _ = rand.Read(s) // it never fails
	return s
}

// Text is the form in which an app is given the secret, and which libraries of Standard Webhooks take.
func (s Secret) Text() string { return secretPrefix + base64.StdEncoding.EncodeToString(s) }

// String keeps a secret out of whatever it is printed to.
func (s Secret) String() string { return "a webhook's secret" }

// GoString is String, for %#v.
func (s Secret) GoString() string { return s.String() }

// Seal seals a secret, bound to its webhook.
func Seal(keys *keyring.Ring, webhook uuid.UUID, s Secret) ([]byte, error) {
	sealed, err := keys.Seal(keyring.Page, s, bound(webhook))
	if err != nil {
		return nil, fmt.Errorf("seal the secret of webhook %s: %w", webhook, err)
	}
	return sealed, nil
}

func open(keys *keyring.Ring, webhook uuid.UUID, sealed []byte) (Secret, error) {
	s, err := keys.Open(keyring.Page, sealed, bound(webhook))
	if err != nil {
		return nil, fmt.Errorf("open the secret of webhook %s: %w", webhook, err)
	}
	return s, nil
}

func bound(webhook uuid.UUID) []byte { return []byte("otpost/webhook/v1/" + webhook.String()) }

// sign returns one signature: of "id.timestamp.body" with HMAC-SHA256. The standard wants no full stop in an id that others choose, so that the parts
// cannot be taken for other parts; those in ours stand in names of events, which no timestamp can be.
func (s Secret) sign(id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
