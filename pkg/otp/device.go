package otp

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"
)

// deviceToken is what a trusted device's token begins with: it names the version of the form, and lets a scanner of leaked secrets know one.
const deviceToken = "otd1."

// deviceLabel separates this digest from any other.
const deviceLabel = "otpost/device/v1"

// DeviceToken returns the text that a browser keeps: the device's id, by which its row is found, and a secret of 256 random bits, of which the row
// holds only the digest. It is a bearer token: whoever has it skips a second factor, so it belongs into a cookie that scripts cannot read.
func DeviceToken(id uuid.UUID, secret [32]byte) string {
	b := make([]byte, 0, len(id)+len(secret))
	return deviceToken + base64.RawURLEncoding.EncodeToString(append(append(b, id[:]...), secret[:]...))
}

// ParseDeviceToken reads such a text; ok is false for any other.
func ParseDeviceToken(s string) (id uuid.UUID, secret [32]byte, ok bool) {
	const size = len(id) + len(secret)
	text, found := strings.CutPrefix(s, deviceToken)
	if !found || len(text) != base64.RawURLEncoding.EncodedLen(size) {
		return uuid.Nil, [32]byte{}, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != size { // the decoder skips line breaks, which the length then tells
		return uuid.Nil, [32]byte{}, false
	}
	return uuid.UUID(b[:len(id)]), [32]byte(b[len(id):]), true
}

// DeviceDigest returns what is stored of a device's secret: SHA-256 of a label and the secret. The secret has 256 random bits, so that neither salt nor
// a slow hash would add anything.
func DeviceDigest(secret [32]byte) [32]byte {
	return sha256.Sum256(append([]byte(deviceLabel), secret[:]...))
}
