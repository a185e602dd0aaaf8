package keyring

import (
	"encoding/binary"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// A PRF is a keyed pseudo-random function: without the key its 32 bytes of output look random, with it they are always the same.
type PRF = func(input []byte) ([32]byte, error)

// A Ring is the keys that one role holds. It does not change once loaded and is safe for concurrent use.
//
// Every method returns [ErrNotHeld] if the role does not hold the keyset that the method needs.
type Ring struct {
	role          Role
	code          map[uint32]PRF
	codeKeyID     uint32
	knowsCodeKey  bool
	ceremony      map[uint32]PRF
	ceremonyKeyID uint32
	index         []PRF // the primary key's first, then the others', newest first
	aeads         map[Keyset]tink.AEAD
}

// Role returns the role whose keys these are.
func (r *Ring) Role() Role { return r.role }

// String names the ring without showing what is in it, whatever verb it is printed with.
func (r *Ring) String() string { return "keyring of role " + string(r.role) }

// GoString is String, for %#v.
func (r *Ring) GoString() string { return r.String() }

// CodeKeyID returns the id of the code key that new challenges are to use.
func (r *Ring) CodeKeyID() (uint32, error) {
	if !r.knowsCodeKey {
		return 0, r.notHeld(Code)
	}
	return r.codeKeyID, nil
}

// CodePRF returns the function that codes are derived with, for the key that the challenge names. It returns [ErrUnknownKey] if the
// keyset has no such key: the key was removed, or was added after this process started.
func (r *Ring) CodePRF(keyID uint32) (PRF, error) {
	if r.code == nil {
		return nil, r.notHeld(Code)
	}
	return pick(Code, r.code, keyID)
}

// CeremonyKeyID returns the id of the key that codes of new ceremonies, recoveries and their cancellation are to use.
func (r *Ring) CeremonyKeyID() (uint32, error) {
	if r.ceremony == nil {
		return 0, r.notHeld(Ceremony)
	}
	return r.ceremonyKeyID, nil
}

// CeremonyPRF returns the function that codes of ceremonies are derived with, for the key that the message names. It returns [ErrUnknownKey]
// where CodePRF does.
func (r *Ring) CeremonyPRF(keyID uint32) (PRF, error) {
	if r.ceremony == nil {
		return nil, r.notHeld(Ceremony)
	}
	return pick(Ceremony, r.ceremony, keyID)
}

func pick(k Keyset, all map[uint32]PRF, keyID uint32) (PRF, error) {
	f, ok := all[keyID]
	if !ok {
		return nil, fmt.Errorf("keyring: %s key %d: %w", k, keyID, ErrUnknownKey)
	}
	return f, nil
}

// Seal encrypts the plaintext with the keyset's primary key and binds it to the associated data, which [Ring.Open] must be given again.
// The result carries the key's id and a random nonce; equal plaintexts do not look equal.
func (r *Ring) Seal(k Keyset, plaintext, associatedData []byte) ([]byte, error) {
	a, ok := r.aeads[k]
	if !ok {
		return nil, r.notHeld(k)
	}
	sealed, err := a.Encrypt(plaintext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("keyring: sealing with keyset %s: %w", k, err)
	}
	return sealed, nil
}

// Open decrypts what Seal made. It returns [ErrOpen] if the value was altered, was sealed for other associated data, or if its key has
// been removed.
func (r *Ring) Open(k Keyset, sealed, associatedData []byte) ([]byte, error) {
	a, ok := r.aeads[k]
	if !ok {
		return nil, r.notHeld(k)
	}
	plaintext, err := a.Decrypt(sealed, associatedData)
	if err != nil { // the library's text says no more than that it failed
		return nil, fmt.Errorf("keyring: opening with keyset %s: %w", k, ErrOpen)
	}
	return plaintext, nil
}

// Labels keep what is sealed or digested for one use from being taken for another.
const (
	destinationLabel = "otpost/destination/v1"
	secretLabel      = "otpost/secret/v1"
)

// SealDestination seals an address of the channel ("sms", "email" or "letter") for one user of one app and one purpose. A channel that has no
// keyset is not held by any role.
func (r *Ring) SealDestination(channel, app, user, purpose, addr string) ([]byte, error) {
	return r.Seal(Keyset("destination-"+channel), []byte(addr), encode(destinationLabel, app, user, purpose))
}

// OpenDestination opens what SealDestination sealed for the same channel, app, user and purpose.
func (r *Ring) OpenDestination(channel, app, user, purpose string, sealed []byte) (addr string, err error) {
	plaintext, err := r.Open(Keyset("destination-"+channel), sealed, encode(destinationLabel, app, user, purpose))
	return string(plaintext), err
}

// SealSecret seals the shared secret of a TOTP or HOTP factor, bound to the factor.
func (r *Ring) SealSecret(app, user, factorID string, secret []byte) ([]byte, error) {
	return r.Seal(Secret, secret, encode(secretLabel, app, user, factorID))
}

// OpenSecret opens what SealSecret sealed for the same factor.
func (r *Ring) OpenSecret(app, user, factorID string, sealed []byte) (secret []byte, err error) {
	return r.Open(Secret, sealed, encode(secretLabel, app, user, factorID))
}

// Index returns a keyed digest of the fields. Equal label and fields give an equal digest for as long as the index keyset's primary key
// stays; fields that only concatenate to the same bytes, or that carry another label, do not.
func (r *Ring) Index(label string, fields ...[]byte) ([32]byte, error) {
	if r.index == nil {
		return [32]byte{}, r.notHeld(Index)
	}
	sum, err := r.index[0](encode(label, fields...))
	if err != nil {
		return sum, fmt.Errorf("keyring: digest %s: %w", label, err)
	}
	return sum, nil
}

// Digests returns what Index does under each key of the index keyset, the primary key's first, so that what was digested before a rotation is
// still found. There is at least one.
func (r *Ring) Digests(label string, fields ...[]byte) ([][32]byte, error) {
	if r.index == nil {
		return nil, r.notHeld(Index)
	}
	input := encode(label, fields...)
	out := make([][32]byte, len(r.index))
	for i, f := range r.index {
		var err error
		if out[i], err = f(input); err != nil {
			return nil, fmt.Errorf("keyring: digests %s: %w", label, err)
		}
	}
	return out, nil
}

func (r *Ring) notHeld(k Keyset) error {
	return fmt.Errorf("keyring: role %s, keyset %s: %w", r.role, k, ErrNotHeld)
}

// encode joins label and fields so that no two lists give the same bytes: each is preceded by its length in 8 bytes, big-endian.
func encode[F string | []byte](label string, fields ...F) []byte {
	size := 8 + len(label)
	for _, f := range fields {
		size += 8 + len(f)
	}
	out := make([]byte, 0, size)
	out = binary.BigEndian.AppendUint64(out, uint64(len(label)))
	out = append(out, label...)
	for _, f := range fields {
		out = binary.BigEndian.AppendUint64(out, uint64(len(f)))
		out = append(out, f...)
	}
	return out
}
