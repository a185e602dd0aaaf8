package webauthn

import (
	"encoding/base64"
	"fmt"
)

// CredentialID writes a credential's id as browsers do: base64url without padding.
func CredentialID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

// ParseCredentialID reads it.
func ParseCredentialID(s string) ([]byte, error) {
	id, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("credential id: %w", err)
	}
	return id, nil
}
