package otp

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// NonceSize is the length, in bytes, of the random nonce that a challenge row holds in place of a code.
const NonceSize = 16

// Bounds of the number of digits in a code.
const (
	MinDigits = 4
	MaxDigits = 10
)

// codeLabel separates this use of the key from any other and names the version of the derivation.
const codeLabel = "otpost/code/v1"

// A PRF is a keyed pseudo-random function with 256 bits of output: HMAC-SHA256 under one key of the keyset "code".
type PRF func(input []byte) ([32]byte, error)

// CodeInput is all that a code depends on beside the key. The code itself is stored nowhere.
type CodeInput struct {
	App         string
	Challenge   uuid.UUID
	Nonce       []byte       // NonceSize random bytes
	Transaction *Transaction // nil for none
	Digits      int          // MinDigits to MaxDigits
}

// bytes lays the input out for the PRF. Every field follows its length in bytes as a 32-bit big-endian number, so that no two
// inputs share a layout: label, app, challenge id (16 bytes), nonce, transaction digest (32 bytes, or none), digits (1 byte).
func (in CodeInput) bytes() []byte {
	b := make([]byte, 0, 192)
	add := func(f []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	add([]byte(codeLabel))
	add([]byte(in.App))
	add(in.Challenge[:])
	add(in.Nonce)
	add(in.Transaction.Digest())
	add([]byte{byte(in.Digits)})
	return b
}

// DeriveCode returns the code of a challenge. The first 128 bits of the PRF's output, read as a big-endian number, are reduced modulo
// 10^digits: any two codes differ in probability by at most 10^10/2^128, which nobody can measure. schemas/vectors/code.json holds
// test vectors for other implementations.
func DeriveCode(prf PRF, in CodeInput) (string, error) {
	if in.Digits < MinDigits || in.Digits > MaxDigits {
		return "", fmt.Errorf("derive code: digits must be %d to %d, not %d", MinDigits, MaxDigits, in.Digits)
	}
	if len(in.Nonce) != NonceSize {
		return "", fmt.Errorf("derive code: the nonce must have %d bytes, not %d", NonceSize, len(in.Nonce))
	}
	out, err := prf(in.bytes())
	if err != nil {
		return "", fmt.Errorf("derive code: %w", err)
	}
	modulus := uint64(1)
	for range in.Digits {
		modulus *= 10
	}
	rest := bits.Rem64(binary.BigEndian.Uint64(out[:8]), binary.BigEndian.Uint64(out[8:16]), modulus)
	code := make([]byte, in.Digits)
	for i := in.Digits - 1; i >= 0; i-- {
		code[i] = byte('0' + rest%10)
		rest /= 10
	}
	return string(code), nil
}

// SameCode compares two codes in a time that depends on their lengths only.
func SameCode(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// maxAnswer bounds, in characters, what a person may type for a code, separators included.
const maxAnswer = 64

// NormalizeAnswer turns what a person typed into plain digits. Spaces and dashes between the digits are dropped and digits of other scripts
// (Unicode category Nd) become ASCII, as a keyboard may produce either. The second result says what is wrong with anything else, in words
// that follow the field's name; it is "" for a good answer.
func NormalizeAnswer(s string) (digits, problem string) {
	if s == "" {
		return "", "must not be empty"
	}
	if len(s) > maxAnswer*utf8.UTFMax || utf8.RuneCountInString(s) > maxAnswer {
		return "", fmt.Sprintf("must have at most %d characters", maxAnswer)
	}
	if !utf8.ValidString(s) {
		return "", "must be valid UTF-8"
	}
	b := make([]byte, 0, MaxDigits)
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			b = append(b, byte(r))
		case unicode.Is(unicode.Nd, r):
			b = append(b, '0'+digitValue(r))
		case r == ' ' || r == '-' || unicode.Is(unicode.Zs, r) || unicode.Is(unicode.Pd, r):
		default:
			return "", "must be digits, with spaces or dashes at the most"
		}
	}
	switch {
	case len(b) == 0:
		return "", "must have digits"
	case len(b) < MinDigits || len(b) > MaxDigits:
		return "", fmt.Sprintf("must have %d to %d digits", MinDigits, MaxDigits)
	}
	return string(b), ""
}

// digitValue returns the value of a decimal digit. Unicode lays digits out in runs of ten, zero first (Unicode Standard, section 4.6).
func digitValue(r rune) byte {
	for _, t := range unicode.Nd.R16 {
		if lo, hi := rune(t.Lo), rune(t.Hi); r >= lo && r <= hi {
			return byte((r - lo) % 10)
		}
	}
	for _, t := range unicode.Nd.R32 {
		if lo, hi := rune(t.Lo), rune(t.Hi); r >= lo && r <= hi {
			return byte((r - lo) % 10)
		}
	}
	return 0
}
