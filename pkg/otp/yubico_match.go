package otp

import (
	"crypto/subtle"
	"fmt"
)

// YubicoSecretSize is the length of what is known of a Yubico OTP's slot: its private id, 6 bytes, and its AES key, 16 bytes.
const YubicoSecretSize = 22

// MatchYubico reports whether a Yubico OTP in its only form is of the slot with the secret and public id, and newer than the last one accepted: its counter
// must have risen. Whoever accepts the counter must store it by compare-and-set: MatchYubico alone does not stop a second use.
func MatchYubico(secret []byte, publicID, text string, last int64) (counter int64, ok bool, err error) {
	if len(secret) != YubicoSecretSize {
		return 0, false, fmt.Errorf("yubico otp: the secret has %d bytes, not %d", len(secret), YubicoSecretSize)
	}
	o, words := ParseYubicoOTP(text)
	if words != "" || o.PublicID != publicID {
		return 0, false, nil
	}
	t, err := o.Open(secret[6:])
	if err != nil { // not of this key
		return 0, false, nil //nolint:nilerr // it is as wrong as any other
	}
	same := subtle.ConstantTimeCompare(t.PrivateID[:], secret[:6]) == 1
	return t.Counter(), same && t.Counter() > last, nil
}
