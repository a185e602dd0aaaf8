package otp

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"time"

	totplib "github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

// TOTPSecretSize is the length, in bytes, of the secrets that otpost makes: 160 bits, as RFC 4226, section 4 (R6) recommends.
const TOTPSecretSize = 20

// TOTP is the setting of one authenticator app (RFC 6238).
type TOTP struct {
	Algorithm string // SHA1, SHA256 or SHA512
	Digits    int    // 6–8
	Period    int    // seconds; 30 or 60
}

// DefaultTOTP is what every authenticator app understands.
func DefaultTOTP() TOTP { return TOTP{Algorithm: "SHA1", Digits: 6, Period: 30} }

var algorithms = map[string]totplib.Algorithm{
	"SHA1": totplib.AlgorithmSHA1, "SHA256": totplib.AlgorithmSHA256, "SHA512": totplib.AlgorithmSHA512,
}

var secretText = base32.StdEncoding.WithPadding(base32.NoPadding)

// Check returns an error that names the first setting out of bounds.
func (t TOTP) Check() error {
	if _, ok := algorithms[t.Algorithm]; !ok {
		return fmt.Errorf("totp algorithm: must be SHA1, SHA256 or SHA512, not %q", t.Algorithm)
	}
	if t.Digits < 6 || t.Digits > 8 {
		return fmt.Errorf("totp digits: must be 6 to 8, not %d", t.Digits)
	}
	if t.Period != 30 && t.Period != 60 {
		return fmt.Errorf("totp period: must be 30 or 60 seconds, not %d", t.Period)
	}
	return nil
}

// Step returns the number of the time step that holds at (RFC 6238, section 4.2, with T0 = 0).
func (t TOTP) Step(at time.Time) int64 { return at.Unix() / int64(t.Period) }

// Value returns the value of one step. The secret is raw bytes.
func (t TOTP) Value(secret []byte, step int64) (string, error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	v, err := hotp.GenerateCodeCustom(secretText.EncodeToString(secret), uint64(step), hotp.ValidateOpts{
		Digits: totplib.Digits(t.Digits), Algorithm: algorithms[t.Algorithm],
	})
	if err != nil {
		return "", fmt.Errorf("totp value: %w", err)
	}
	return v, nil
}

// Match finds the step within skew of at whose value is the answer and which is later than last, the last step accepted before. Every
// step in reach is tried, earliest first, so that a value that stands at two steps is taken for an unused one. Whoever accepts the step must
// store it by compare-and-set: Match alone does not stop a second use.
func (t TOTP) Match(secret []byte, answer string, at time.Time, skew int, last int64) (step int64, ok bool, err error) {
	if err := t.Check(); err != nil { // a period of zero has no steps
		return 0, false, err
	}
	now := t.Step(at)
	for s := now - int64(skew); s <= now+int64(skew); s++ {
		v, err := t.Value(secret, s)
		if err != nil {
			return 0, false, err
		}
		if SameCode(v, answer) && s > last && !ok { // no early return: time must not tell which step it was
			step, ok = s, true
		}
	}
	return step, ok, nil
}

// NewTOTPSecret returns TOTPSecretSize random bytes.
func NewTOTPSecret() []byte {
	b := make([]byte, TOTPSecretSize)
	_, _ = rand.Read(b) // crypto/rand.Read never fails (Go 1.24)
	return b
}

// URI returns the otpauth URI that authenticator apps scan, with the secret as unpadded base32.
func (t TOTP) URI(issuer, account string, secret []byte) (string, error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	k, err := totp.Generate(totp.GenerateOpts{
		Issuer: issuer, AccountName: account, Secret: secret, Period: uint(t.Period),
		Digits: totplib.Digits(t.Digits), Algorithm: algorithms[t.Algorithm],
	})
	if err != nil {
		return "", fmt.Errorf("otpauth uri: %w", err)
	}
	return k.URL(), nil
}
