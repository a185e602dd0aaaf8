package otp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// apiKeyPrefix is what an app's key begins with: a scanner of leaked secrets knows one by it.
const apiKeyPrefix = "otpost_"

// NewAPIKey returns a new bearer key for the JSON API: 256 random bits. Whoever has it is the app.
func NewAPIKey() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	return apiKeyPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
}

// APIKeyDigest returns what is stored of a key, which is its SHA-256: of 256 random bits, neither salt nor a slow hash would hide more. ok is false for what
// is no key by its form.
func APIKeyDigest(key string) (digest [32]byte, ok bool) {
	text, found := strings.CutPrefix(key, apiKeyPrefix)
	if !found || len(text) != base64.RawURLEncoding.EncodedLen(32) {
		return digest, false
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(secret) != 32 { // the decoder skips line breaks, which the length then tells
		return digest, false
	}
	return sha256.Sum256([]byte(key)), true
}
