package webauthn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	lib "github.com/go-webauthn/webauthn/webauthn"
)

// BeginAssertion begins to ask for a proof by one of a user's keys (§7.2). The options are {"publicKey": …} as JSON, for
// navigator.credentials.get() after PublicKeyCredential.parseRequestOptionsFromJSON(); they list the credentials, so that keys that are not
// discoverable can answer. The session holds from at for life, which the browser is told too. The random challenge has 256 bits.
//
// An error tells of a wrong party or life, of a record that cannot be read, or of no credentials: neither ErrInput nor ErrRefused.
func BeginAssertion(p Party, credentials []Credential, at time.Time, life time.Duration) (options json.RawMessage, sess []byte, err error) {
	w, err := begin(p, life)
	if err != nil {
		return nil, nil, fmt.Errorf("begin an assertion: %w", err)
	}
	if len(credentials) == 0 {
		return nil, nil, errors.New("begin an assertion: the user has no credentials") // the library would ask for any key there is
	}
	s := session{Ceremony: protocol.AssertCeremony, Party: p.ID, Expires: at.Add(life)}
	var listed []protocol.CredentialDescriptor
	for _, c := range credentials {
		r, err := c.record()
		if err != nil {
			return nil, nil, fmt.Errorf("begin an assertion: %w", err)
		}
		listed = append(listed, r.descriptor())
		s.Allowed = append(s.Allowed, r.ID)
	}
	assertion, data, err := w.BeginDiscoverableLogin(lib.WithAllowedCredentials(listed), func(o *protocol.PublicKeyCredentialRequestOptions) error {
		o.Timeout = int(life.Milliseconds())
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("begin an assertion: %w", err)
	}
	s.Challenge = data.Challenge
	return sealed(assertion, s)
}

// FinishAssertion judges what the browser returned, the JSON of a PublicKeyCredential (AuthenticationResponseJSON). The credentials are those
// that the user has now: one that was removed since Begin does not count any more, one that was added does not count yet. Errors wrap ErrInput
// or ErrRefused, but for a party, session or record that is broken.
//
// A counter that did not rise is not an error but Result.Cloned: the key has signed, and what follows is for the caller to decide.
func FinishAssertion(p Party, sess []byte, credentials []Credential, assertion []byte, at time.Time) (Result, error) {
	w, err := p.library()
	if err != nil {
		return Result{}, fmt.Errorf("finish an assertion: %w", err)
	}
	s, err := readSession(sess, protocol.AssertCeremony, p, at)
	if err != nil {
		return Result{}, fmt.Errorf("finish an assertion: %w", err)
	}
	res, err := s.assert(w, p, credentials, assertion)
	if err != nil {
		return Result{}, fmt.Errorf("finish an assertion: %w", err)
	}
	return res, nil
}

func (s session) assert(w *lib.WebAuthn, p Party, credentials []Credential, assertion []byte) (Result, error) {
	if len(assertion) > MaxCredential {
		return Result{}, malformed(fmt.Sprintf("must have %d bytes at most", MaxCredential), nil)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(assertion)
	if err != nil {
		return Result{}, malformed("must be what navigator.credentials.get() returned, as JSON", err)
	}
	parsed.ClientExtensionResults = protocol.AuthenticationExtensionsClientOutputs{} // as at registration
	if err := p.checkClient(parsed.Response.CollectedClientData); err != nil {
		return Result{}, err
	}
	r, err := s.find(credentials, parsed.RawID)
	if err != nil {
		return Result{}, err
	}
	// The library is given the one credential that answered, and the handle that this one was made for: a user's credentials may be of different
	// handles, after the key that handles are derived from was rotated.
	s.Handle, s.Allowed = r.Handle, [][]byte{r.ID}
	judged, err := w.ValidateLogin(person{User: User{Handle: r.Handle}, credentials: []lib.Credential{r.library()}}, s.library(), parsed)
	if err != nil {
		return Result{}, refused("%s", detail(err))
	}
	flags := parsed.Response.AuthenticatorData.Flags
	r.SignCount, r.BackedUp = max(r.SignCount, judged.Authenticator.SignCount), flags.HasBackupState()
	raw, err := r.encode()
	if err != nil {
		return Result{}, err
	}
	return Result{
		CredentialID: r.ID, SignCount: r.SignCount, Cloned: judged.Authenticator.CloneWarning, UserVerified: flags.HasUserVerified(), Record: raw,
	}, nil
}

// find returns the record of the credential that answered: one that the session allows and that the user still has.
func (s session) find(credentials []Credential, id []byte) (record, error) {
	if !slices.ContainsFunc(s.Allowed, func(allowed []byte) bool { return bytes.Equal(allowed, id) }) {
		return record{}, refused("its id is not one that was asked for")
	}
	for _, c := range credentials {
		if bytes.Equal(c.ID, id) {
			return c.record()
		}
	}
	return record{}, refused("the user has it no more")
}
