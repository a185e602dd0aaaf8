package webauthn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	lib "github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
)

// A session is what Finish must know of Begin. Its form is ours, so that a worker of the next release finishes what this one began.
type session struct {
	Ceremony  protocol.CeremonyType `json:"ceremony"`
	Party     string                `json:"party"`
	Challenge string                `json:"challenge"`         // base64url
	Handle    []byte                `json:"handle,omitempty"`  // of a registration
	Allowed   [][]byte              `json:"allowed,omitempty"` // credential ids of an assertion
	Expires   time.Time             `json:"expires"`
}

// readSession returns a session that still holds: of this kind of ceremony, for this party, not at its end.
func readSession(raw []byte, ceremony protocol.CeremonyType, p Party, at time.Time) (session, error) {
	var s session
	if err := json.Unmarshal(raw, &s); err != nil {
		return session{}, fmt.Errorf("read the session: %w", err)
	}
	switch {
	case s.Ceremony != ceremony:
		return session{}, refused("the session is of a ceremony %.40q", s.Ceremony)
	case s.Party != p.ID:
		return session{}, refused("the session is of another relying party")
	case !at.Before(s.Expires):
		return session{}, refused("the session has ended")
	}
	return s, nil
}

// algorithms are what a key may sign with, the best liked first (§5.8.5).
func algorithms() []protocol.CredentialParameter {
	var out []protocol.CredentialParameter
	for _, alg := range []webauthncose.COSEAlgorithmIdentifier{webauthncose.AlgES256, webauthncose.AlgEdDSA, webauthncose.AlgRS256} {
		out = append(out, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: alg})
	}
	return out
}

// library is the session as go-webauthn knows it. Expires stays zero: the library would look at its own clock.
func (s session) library() lib.SessionData {
	return lib.SessionData{
		Challenge: s.Challenge, RelyingPartyID: s.Party, UserID: s.Handle, AllowedCredentialIDs: s.Allowed,
		UserVerification: protocol.VerificationPreferred, CredParams: algorithms(),
	}
}

// A record is the credential record (§4) as it is stored.
type record struct {
	Version        int       `json:"v"`
	ID             []byte    `json:"id"`
	Key            []byte    `json:"key"`    // COSE
	Handle         []byte    `json:"handle"` // of the user, as the authenticator was given it
	SignCount      uint32    `json:"sign_count"`
	BackupEligible bool      `json:"backup_eligible"`
	BackedUp       bool      `json:"backed_up"` // when it was last used
	AAGUID         uuid.UUID `json:"aaguid"`
	Transports     []string  `json:"transports,omitempty"`
}

const recordVersion = 1

func (r record) encode() ([]byte, error) {
	r.Version = recordVersion
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write a credential record: %w", err)
	}
	return raw, nil
}

// record returns what c keeps. The counter is the higher of the record's and the column's, so that a caller who updates only one of them still
// notices a copy.
func (c Credential) record() (record, error) {
	var r record
	if err := json.Unmarshal(c.Record, &r); err != nil {
		return record{}, fmt.Errorf("read a credential record: %w", err)
	}
	if r.Version != recordVersion {
		return record{}, fmt.Errorf("read a credential record: version %d is not known", r.Version)
	}
	if !bytes.Equal(r.ID, c.ID) {
		return record{}, fmt.Errorf("read a credential record: it is another credential's")
	}
	r.SignCount = max(r.SignCount, c.SignCount)
	return r, nil
}

// library is the record as go-webauthn knows it.
func (r record) library() lib.Credential {
	return lib.Credential{
		ID: r.ID, PublicKey: r.Key, AttestationFormat: string(protocol.AttestationFormatNone),
		Flags:         lib.CredentialFlags{BackupEligible: r.BackupEligible, BackupState: r.BackedUp},
		Authenticator: lib.Authenticator{AAGUID: r.AAGUID[:], SignCount: r.SignCount},
	}
}

// descriptor names the credential to a browser.
func (r record) descriptor() protocol.CredentialDescriptor {
	d := protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: r.ID}
	for _, t := range r.Transports {
		d.Transport = append(d.Transport, protocol.AuthenticatorTransport(t))
	}
	return d
}

// A person is the library's view of a user.
type person struct {
	User
	credentials []lib.Credential
}

var _ lib.User = person{}

func (u person) WebAuthnID() []byte                    { return u.Handle }
func (u person) WebAuthnName() string                  { return u.Name }
func (u person) WebAuthnDisplayName() string           { return u.DisplayName }
func (u person) WebAuthnCredentials() []lib.Credential { return u.credentials }
