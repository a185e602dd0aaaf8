package otp

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
)

// Bounds of a reset passphrase in characters, after normalisation. Length is all that is asked for: rules about kinds of characters make worse
// passphrases (NIST SP 800-63B-4, section 3.1.1.2).
const (
	MinPassphrase = 12
	MaxPassphrase = 128
)

// maxPassphraseBytes bounds what is normalised at all; a character may be typed with some combining marks.
const maxPassphraseBytes = 4 * MaxPassphrase * utf8.UTFMax

// The cost of a hash: Argon2id with 19 MiB, two passes and one lane, the first choice of OWASP's password storage cheat sheet. The stronger settings of
// RFC 9106, section 4, take 64 MiB or 2 GiB: a worker computes few hashes, but as many at once as there are requests, and must not be brought down by
// them. Beside that, a passphrase is only ever one of two proofs, and every guess counts against the account.
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2         // passes
	argonLanes  = 1
	argonSalt   = 16 // bytes
	argonTag    = 32 // bytes
)

// NoPassphrase is a hash of no passphrase. To check against it takes as long as against a user's, for users who have none.
const NoPassphrase = "$argon2id$v=19$m=19456,t=2,p=1$8QEPiu1uLU4uByQPUnpp8g$RnQ9SSsq29/RDjF311ZPK/AP1UUgoqmde4HNugO/DAs"

// CheckPassphraseForm says what is wrong with a passphrase to be set, in words that follow the field's name; "" for a good one. It never quotes it.
func CheckPassphraseForm(p string) (words string) {
	n, err := normalPassphrase(p)
	switch {
	case p == "":
		return "must not be empty"
	case errors.Is(err, errLongPassphrase):
		return fmt.Sprintf("must have at most %d characters", MaxPassphrase)
	case !utf8.ValidString(p):
		return "must be valid UTF-8"
	case err != nil:
		return "must not have characters that are not printable"
	case utf8.RuneCountInString(n) < MinPassphrase:
		return fmt.Sprintf("must have at least %d characters", MinPassphrase)
	}
	return ""
}

var errLongPassphrase = errors.New("the passphrase is too long")

// normalPassphrase makes equal what a person types equally on different keyboards (RFC 8265, section 4.2: OpaqueString).
func normalPassphrase(p string) (string, error) {
	if len(p) > maxPassphraseBytes {
		return "", errLongPassphrase
	}
	n, err := precis.OpaqueString.String(p)
	if err != nil || !utf8.ValidString(p) { // precis lets stray bytes pass
		return "", errors.New("the passphrase has characters that are not allowed") // precis's own words may quote it
	}
	if utf8.RuneCountInString(n) > MaxPassphrase {
		return "", errLongPassphrase
	}
	return n, nil
}

// HashPassphrase returns the Argon2id hash (RFC 9106) of a passphrase in PHC string form, under a new salt. The passphrase is one that
// CheckPassphraseForm found good; any other is an error.
func HashPassphrase(p string) (phc string, err error) {
	if w := CheckPassphraseForm(p); w != "" {
		return "", fmt.Errorf("hash passphrase: it %s", w)
	}
	n, err := normalPassphrase(p)
	if err != nil {
		return "", fmt.Errorf("hash passphrase: %w", err)
	}
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // crypto/rand.Read never fails (Go 1.24)
	tag := argon2.IDKey([]byte(n), salt, argonTime, argonMemory, argonLanes, argonTag)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		phcText.EncodeToString(salt), phcText.EncodeToString(tag)), nil
}

// CheckPassphrase reports whether p is the passphrase of a hash, in a time that does not depend on where they differ. It spends the time of a hash also
// on what cannot be a passphrase. An error says that the stored hash is malformed or asks for more than Argon2id may cost here.
func CheckPassphrase(phc, p string) (bool, error) {
	h, err := parsePHC(phc)
	if err != nil {
		return false, fmt.Errorf("check passphrase: %w", err)
	}
	n, badForm := normalPassphrase(p) // then it is "", whose hash nobody stores
	tag := argon2.IDKey([]byte(n), h.salt, h.time, h.memory, h.lanes, uint32(len(h.tag)))
	return subtle.ConstantTimeCompare(tag, h.tag) == 1 && badForm == nil, nil
}

// Bounds of stored parameters. They leave room for harder ones later; beyond them a row, however it came there, would be a means to exhaust a worker.
const (
	maxArgonMemory = 64 * 1024 // KiB
	maxArgonTime   = 10
	maxArgonLanes  = 4
	maxPHC         = 256 // bytes
)

type phcHash struct {
	memory, time uint32
	lanes        uint8
	salt, tag    []byte
}

var (
	phcForm = regexp.MustCompile(`^\$argon2id\$v=19\$m=([1-9][0-9]{0,6}),t=([1-9][0-9]?),p=([1-9])\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})$`)
	phcText = base64.RawStdEncoding.Strict()
)

// parsePHC reads a hash in PHC string form. Its errors quote nothing of it.
func parsePHC(s string) (phcHash, error) {
	malformed := errors.New("the stored hash is malformed")
	if len(s) > maxPHC {
		return phcHash{}, malformed
	}
	m := phcForm.FindStringSubmatch(s)
	if m == nil {
		return phcHash{}, malformed
	}
	var n [3]uint64
	for i := range n {
		v, err := strconv.ParseUint(m[1+i], 10, 32)
		if err != nil {
			return phcHash{}, malformed
		}
		n[i] = v
	}
	if n[0] > maxArgonMemory || n[1] > maxArgonTime || n[2] > maxArgonLanes || n[0] < 8*n[2] { // RFC 9106, section 3.1: 8 KiB a lane at least
		return phcHash{}, fmt.Errorf("the stored hash asks for more than %d KiB, %d passes or %d lanes, or for too little memory",
			maxArgonMemory, maxArgonTime, maxArgonLanes)
	}
	h := phcHash{memory: uint32(n[0]), time: uint32(n[1]), lanes: uint8(n[2])}
	var err error
	if h.salt, err = phcText.DecodeString(m[4]); err != nil {
		return phcHash{}, malformed
	}
	if h.tag, err = phcText.DecodeString(m[5]); err != nil {
		return phcHash{}, malformed
	}
	return h, nil
}
