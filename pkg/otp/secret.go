package otp

import "strings"

// GroupSecret writes a base32 secret for reading and typing: upper case, in groups of four with a space between. Authenticator apps drop the spaces.
func GroupSecret(b32 string) string {
	var b strings.Builder
	for i, r := range strings.ToUpper(b32) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// SecretText writes a secret as authenticator apps take it: base32 without padding (RFC 4648, section 6).
func SecretText(secret []byte) string { return secretText.EncodeToString(secret) }
