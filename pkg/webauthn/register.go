package webauthn

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	lib "github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
)

// BeginRegistration begins to register a key (§7.1). The options are {"publicKey": …} as JSON, for navigator.credentials.create() after
// PublicKeyCredential.parseCreationOptionsFromJSON(). Authenticators that hold one of the credentials in exclude are asked not to make another.
// The session holds from at for life, which the browser is told too. The random challenge has 256 bits.
//
// An error tells of a wrong party, user or life: neither ErrInput nor ErrRefused.
func BeginRegistration(p Party, user User, exclude [][]byte, at time.Time, life time.Duration) (options json.RawMessage, sess []byte, err error) {
	w, err := begin(p, life)
	if err != nil {
		return nil, nil, fmt.Errorf("begin a registration: %w", err)
	}
	if n := len(user.Handle); n == 0 || n > MaxHandle {
		return nil, nil, fmt.Errorf("begin a registration: the user handle must have 1 to %d bytes, not %d", MaxHandle, n)
	}
	if user.Name == "" {
		return nil, nil, errors.New("begin a registration: the user has no name")
	}
	known := make([]protocol.CredentialDescriptor, 0, len(exclude))
	for _, id := range exclude {
		known = append(known, record{ID: id}.descriptor())
	}
	creation, data, err := w.BeginRegistration(person{User: user},
		lib.WithExclusions(known), lib.WithCredentialParameters(algorithms()),
		func(o *protocol.PublicKeyCredentialCreationOptions) error {
			o.Timeout = int(life.Milliseconds())
			return nil
		})
	if err != nil {
		return nil, nil, fmt.Errorf("begin a registration: %w", err)
	}
	return sealed(creation, session{
		Ceremony: protocol.CreateCeremony, Party: p.ID, Challenge: data.Challenge, Handle: user.Handle, Expires: at.Add(life),
	})
}

// FinishRegistration judges what the browser returned, the JSON of a PublicKeyCredential (RegistrationResponseJSON), and returns the credential
// to store. Its errors wrap ErrInput or ErrRefused, but for a party or session that is broken.
//
// A credential proves nothing of who made its authenticator. None was asked for; where a statement comes nevertheless, it must be what a browser
// leaves of one in that case (§5.1.3): none, or the key's own signature, which is checked.
func FinishRegistration(p Party, sess, credential []byte, at time.Time) (Credential, error) {
	w, err := p.library()
	if err != nil {
		return Credential{}, fmt.Errorf("finish a registration: %w", err)
	}
	s, err := readSession(sess, protocol.CreateCeremony, p, at)
	if err != nil {
		return Credential{}, fmt.Errorf("finish a registration: %w", err)
	}
	r, err := s.register(w, p, credential)
	if err != nil {
		return Credential{}, fmt.Errorf("finish a registration: %w", err)
	}
	raw, err := r.encode()
	if err != nil {
		return Credential{}, fmt.Errorf("finish a registration: %w", err)
	}
	return Credential{
		ID: r.ID, Record: raw, SignCount: r.SignCount, BackupEligible: r.BackupEligible, AAGUID: r.AAGUID, Transports: r.Transports,
	}, nil
}

func (s session) register(w *lib.WebAuthn, p Party, credential []byte) (record, error) {
	if len(credential) > MaxCredential {
		return record{}, malformed(fmt.Sprintf("must have %d bytes at most", MaxCredential), nil)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(credential)
	if err != nil {
		return record{}, malformed("must be what navigator.credentials.create() returned, as JSON", err)
	}
	// No extension was asked for, so whatever comes of one is not looked at (§9, unsolicited extensions).
	parsed.ClientExtensionResults = protocol.AuthenticationExtensionsClientOutputs{}
	if err := p.checkClient(parsed.Response.CollectedClientData); err != nil {
		return record{}, err
	}
	if err := checkStatement(parsed.Response.AttestationObject); err != nil {
		return record{}, err
	}
	made, err := w.CreateCredential(person{User: User{Handle: s.Handle}}, s.library(), parsed)
	if err != nil {
		return record{}, refused("%s", detail(err))
	}
	if len(made.ID) < minCredentialID {
		return record{}, refused("its id has %d bytes", len(made.ID))
	}
	if err := checkKey(made.PublicKey); err != nil {
		return record{}, err
	}
	aaguid, err := uuid.FromBytes(made.Authenticator.AAGUID)
	if err != nil {
		return record{}, refused("its AAGUID has %d bytes", len(made.Authenticator.AAGUID))
	}
	return record{
		ID: made.ID, Key: made.PublicKey, Handle: s.Handle, SignCount: made.Authenticator.SignCount,
		BackupEligible: made.Flags.BackupEligible, BackedUp: made.Flags.BackupState, AAGUID: aaguid, Transports: transports(made.Transport),
	}, nil
}

// checkStatement refuses attestation that a browser would have taken off. Statements with certificates could prove something only with a list of
// makers to trust, which otpost does not keep, and the library would compare their dates with a clock of its own.
func checkStatement(a protocol.AttestationObject) error {
	_, certified := a.AttStatement["x5c"]
	switch format := protocol.AttestationFormat(a.Format); {
	case format == protocol.AttestationFormatNone:
		return nil
	case format == protocol.AttestationFormatPacked && !certified:
		return nil
	default:
		return refused("attestation %.40q was not asked for", a.Format)
	}
}

// checkKey refuses a key that is not of the algorithm that it says, or too weak or too large. Without attestation nobody has looked at it yet: a
// user who registered a key that cannot answer would be locked out at the next login.
func checkKey(raw []byte) error {
	if len(raw) > maxKey {
		return refused("its public key has %d bytes", len(raw))
	}
	key, err := webauthncose.ParsePublicKey(raw) // which looks whether a point is on its curve
	if err != nil {
		return refused("its public key: %s", detail(err))
	}
	ok := false
	switch k := key.(type) {
	case webauthncose.EC2PublicKeyData:
		ok = k.Algorithm == int64(webauthncose.AlgES256)
	case webauthncose.OKPPublicKeyData:
		ok = k.Algorithm == int64(webauthncose.AlgEdDSA)
	case webauthncose.RSAPublicKeyData:
		ok = k.Algorithm == int64(webauthncose.AlgRS256) && len(k.Modulus) >= minRSA && k.Modulus[0] != 0
	}
	if !ok {
		return refused("its public key is weak or not of its algorithm")
	}
	return nil
}

// transports returns what may be kept of the browser's list: few, short words, known or not (§5.2.1.1), each once.
func transports(named []protocol.AuthenticatorTransport) []string {
	const most, longest = 8, 32
	var out []string
	for _, t := range named {
		word := string(t)
		if word == "" || len(word) > longest || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || slices.Contains(out, word) {
			continue
		}
		if out = append(out, word); len(out) == most {
			break
		}
	}
	return out
}

// begin is what both ceremonies begin with.
func begin(p Party, life time.Duration) (*lib.WebAuthn, error) {
	if life < time.Second || life > 24*time.Hour {
		return nil, fmt.Errorf("the life must be 1 second to 24 hours, not %s", life)
	}
	return p.library()
}

// sealed returns options and session as they leave the package.
func sealed(options any, s session) (json.RawMessage, []byte, error) {
	text, err := json.Marshal(options)
	if err != nil {
		return nil, nil, fmt.Errorf("write the options: %w", err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, nil, fmt.Errorf("write the session: %w", err)
	}
	return text, raw, nil
}
