package otp

import (
	"errors"
	"fmt"
	"math"

	totplib "github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

// Bounds of how far a counter is searched. A search of n counters lets a blind guess succeed n times as often (RFC 4226, section 7.3).
const (
	MaxHOTPLookAhead = 50   // counters tried for one value
	MaxHOTPResync    = 1000 // counters tried for two values in a row
)

// HOTP is the setting of one counter-based token (RFC 4226). The counter that a token begins with is 0, so that the last one accepted is -1
// for a token that was never used.
type HOTP struct {
	Algorithm string // SHA1, SHA256 or SHA512
	Digits    int    // 6–8
}

// Check returns an error that names the first setting out of bounds.
func (h HOTP) Check() error {
	if _, ok := algorithms[h.Algorithm]; !ok {
		return fmt.Errorf("hotp algorithm: must be SHA1, SHA256 or SHA512, not %q", h.Algorithm)
	}
	if h.Digits < 6 || h.Digits > 8 {
		return fmt.Errorf("hotp digits: must be 6 to 8, not %d", h.Digits)
	}
	return nil
}

// Value returns the value of one counter, which is 0 or more. The secret is raw bytes.
func (h HOTP) Value(secret []byte, counter int64) (string, error) {
	if err := h.Check(); err != nil {
		return "", err
	}
	if counter < 0 {
		return "", fmt.Errorf("hotp value: the counter must be 0 or more, not %d", counter)
	}
	if len(secret) == 0 {
		return "", errors.New("hotp value: there is no secret")
	}
	v, err := hotp.GenerateCodeCustom(secretText.EncodeToString(secret), uint64(counter), hotp.ValidateOpts{
		Digits: totplib.Digits(h.Digits), Algorithm: algorithms[h.Algorithm],
	})
	if err != nil {
		return "", fmt.Errorf("hotp value: %w", err)
	}
	return v, nil
}

// Match finds the counter from last+1 to last+1+lookAhead whose value is the answer (RFC 4226, section 7.4); last is the last one accepted, -1
// for none, and lookAhead 0 to MaxHOTPLookAhead. Every counter in reach is tried; of two with one value the earlier is taken, which leaves the
// other to be used. Whoever accepts the counter must store it by compare-and-set: Match alone does not stop a second use.
func (h HOTP) Match(secret []byte, answer string, last int64, lookAhead int) (counter int64, ok bool, err error) {
	if lookAhead < 0 || lookAhead > MaxHOTPLookAhead {
		return 0, false, fmt.Errorf("hotp match: the look-ahead must be 0 to %d, not %d", MaxHOTPLookAhead, lookAhead)
	}
	err = h.values(secret, last, lookAhead+1, func(c int64, v string) {
		if SameCode(v, answer) && !ok { // no early return: time must not tell which counter it was
			counter, ok = c, true
		}
	})
	if err != nil {
		return 0, false, fmt.Errorf("hotp match: %w", err)
	}
	return counter, ok, nil
}

// Resync finds two counters that follow each other, from last+1 to last+window, whose values are first and second, for a token that was pressed
// more often than the look-ahead allows (RFC 4226, section 7.4). It returns the counter of the second, which must be stored as Match's is; window is
// 2 to MaxHOTPResync.
func (h HOTP) Resync(secret []byte, first, second string, last int64, window int) (counter int64, ok bool, err error) {
	if window < 2 || window > MaxHOTPResync {
		return 0, false, fmt.Errorf("hotp resync: the window must be 2 to %d counters, not %d", MaxHOTPResync, window)
	}
	before := false // the counter before has the first value
	err = h.values(secret, last, window, func(c int64, v string) {
		isFirst, isSecond := SameCode(v, first), SameCode(v, second) // both compared at each counter
		if before && isSecond && !ok {
			counter, ok = c, true
		}
		before = isFirst
	})
	if err != nil {
		return 0, false, fmt.Errorf("hotp resync: %w", err)
	}
	return counter, ok, nil
}

// values calls see with the values of the n counters after last.
func (h HOTP) values(secret []byte, last int64, n int, see func(counter int64, value string)) error {
	if last < -1 || last > math.MaxInt64-int64(n) {
		return fmt.Errorf("the last counter %d is out of bounds", last)
	}
	for c := last + 1; c <= last+int64(n); c++ {
		v, err := h.Value(secret, c)
		if err != nil {
			return err
		}
		see(c, v)
		if c == math.MaxInt64 {
			break // c++ would wrap
		}
	}
	return nil
}
