// Package webauthn registers security keys and passkeys and judges what they sign (W3C Web Authentication, Level 3). It is the only importer of
// go-webauthn.
//
// A ceremony has two halves. Begin returns options for the browser and a session for the caller; Finish takes the session back with what the
// browser returned. The package promises that Finish accepts an answer only if it was made for this session's challenge, kind of ceremony and
// relying party, on one of the party's origins and not in a frame of another's page, before the session ended, by somebody who was present, and,
// for an assertion, by a credential that the session allows and the caller still holds, whose signature is good.
//
// It does no I/O and reads no clock: the time is handed in. What it cannot do is the caller's:
//   - to keep the session where the browser cannot change it, bound to app, user and login, and to take it away before Finish is called, so that
//     an answer is judged once;
//   - to refuse a credential id that is registered already, to whichever user (§7.1, step 26): a unique constraint;
//   - to write [Result.Record] and [Result.SignCount] only over what it had read, so that of two copies of a key that answer at once one is
//     noticed, and to suspend the factor where [Result.Cloned] tells of two.
package webauthn

import (
	"errors"
	"fmt"

	"github.com/go-webauthn/webauthn/protocol"
	lib "github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// The bounds of what is taken in.
const (
	MaxCredential   = 16 << 10 // bytes of JSON that a browser may return
	MaxHandle       = 64       // bytes of a user handle (§5.4.3)
	minCredentialID = 16       // bytes: what an authenticator makes is that long at least, with 100 random bits (§4, Credential ID)
	maxKey          = 1100     // bytes of a COSE key: RSA of 8192 bits, and nothing that takes long to check
	minRSA          = 2048 / 8 // bytes of an RSA modulus
)

var (
	// ErrInput is wrapped by the error of an answer that is no answer: not JSON, too long, without what it must have. The error also wraps an
	// [otp.Problem] whose words may leave otpost; they name the field "credential".
	ErrInput = errors.New("the credential is malformed")

	// ErrRefused is wrapped by the error of an answer that is well formed and does not hold. Why is in the error's text, for the log: it holds no
	// challenge, key or signature. Whoever sent the answer is not to be told.
	ErrRefused = errors.New("the credential is refused")
)

// A User is whom a credential is made for, as the authenticator will keep and show them.
type User struct {
	Handle      []byte // 1 to MaxHandle bytes that tell nothing of the person: a keyed digest, never the user's id (§14.6.1)
	Name        string // tells accounts apart: "a.mueller@example.com"
	DisplayName string // may be empty
}

// A Credential is a registered key, for storage.
type Credential struct {
	ID             []byte // chosen by the authenticator, at most 1023 bytes; unique over all users of the app
	Record         []byte // JSON: all that a later assertion needs, readable by later releases; may be sealed
	SignCount      uint32 // zero for an authenticator that does not count, as most passkeys
	BackupEligible bool   // the key may be copied to the user's other devices; never changes
	AAGUID         uuid.UUID
	Transports     []string // how browsers may reach the authenticator; hints (§5.8.4)
}

// A Result is what a good assertion tells.
type Result struct {
	CredentialID []byte
	SignCount    uint32 // to be stored: the higher of what was stored and what came
	Cloned       bool   // the counter did not rise where either is above zero: there may be two of this key (§6.1.1)
	UserVerified bool   // a PIN or biometric unlocked the key, this time
	Record       []byte // to be stored in place of the credential's
}

// library returns the settings of go-webauthn for a party. The parts that it would take from the present time are left off.
func (p Party) library() (*lib.WebAuthn, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	w, err := lib.New(&lib.Config{
		RPID:                  p.ID,
		RPDisplayName:         p.Name,
		RPOrigins:             p.Origins,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:        protocol.ResidentKeyRequirementPreferred,
			RequireResidentKey: protocol.ResidentKeyNotRequired(),
			UserVerification:   protocol.VerificationPreferred, // the password was the first factor: presence suffices
		},
	})
	if err != nil {
		return nil, fmt.Errorf("relying party %s: %w", p.ID, err)
	}
	return w, nil
}

// malformed returns the error of an answer that is no answer. The words follow the field's name and are for people; the cause is for the log.
func malformed(words string, cause error) error {
	err := fmt.Errorf("%w: %w", ErrInput, otp.InvalidField("credential", words))
	if cause != nil {
		err = fmt.Errorf("%w (%s)", err, detail(cause))
	}
	return err
}

// refused returns the error of an answer that does not hold.
func refused(why string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(why, args...))
}

// detail is what a log may hold of the library's error. It is bounded, since parts of it come from the browser.
func detail(err error) string {
	const longest = 160
	text := err.Error()
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		if text = e.Details; e.DevInfo != "" && e.Details != challengeMismatch { // which quotes the session's challenge
			text += ": " + e.DevInfo
		}
	}
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return fmt.Sprintf("%q", text)
}

// challengeMismatch is how the library says that an answer is for another challenge. A test notices if it changes.
const challengeMismatch = "Error validating challenge"
