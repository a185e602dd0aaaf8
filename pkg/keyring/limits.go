package keyring

import (
	"crypto/subtle"
	"fmt"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// This file makes the digests by which what is limited, and what an operator has listed, is known: the database holds no address for either.

const (
	limitLabel       = "otpost/limit/v1"
	testCodeLabel    = "otpost/test-code/v1"
	destinationScope = "destination"
)

// LimitKey is what a limit of an app counts a value by.
func (r *Ring) LimitKey(scope, app, value string) (id uuid.UUID, err error) {
	sum, err := r.Index(limitLabel, []byte(scope), []byte(app), []byte(value))
	copy(id[:], sum[:])
	return id, err
}

// DestinationKey is what an address is counted by, and what it is listed under. An email address is known as its mailbox, however it is written.
func (r *Ring) DestinationKey(app string, ch otp.Channel, address string) (uuid.UUID, error) {
	return r.LimitKey(destinationScope, app, destination(ch, address))
}

// DestinationKeys are the digests of an address under each key of the index keyset, the primary key's first.
func (r *Ring) DestinationKeys(app string, ch otp.Channel, address string) ([]uuid.UUID, error) {
	sums, err := r.Digests(limitLabel, []byte(destinationScope), []byte(app), []byte(destination(ch, address)))
	out := make([]uuid.UUID, len(sums))
	for i, s := range sums {
		copy(out[i][:], s[:])
	}
	return out, err
}

func destination(ch otp.Channel, address string) string {
	if ch.Phone() {
		return "phone:" + address
	}
	return "email:" + otp.MailboxOf(address)
}

// TestCode is the digest of the fixed code of a test destination.
func (r *Ring) TestCode(app string, destination uuid.UUID, code string) ([]byte, error) {
	sum, err := r.Index(testCodeLabel, []byte(app), destination[:], []byte(code))
	return sum[:], err
}

// TestAnswer is what answers to a challenge to a test destination are compared with: the digest of the address and that of its code, in 48 bytes.
func TestAnswer(destination uuid.UUID, code []byte) []byte { return append(destination[:], code...) }

// FitsTest reports whether a code is that of a TestAnswer, in a time that does not tell how nearly.
func (r *Ring) FitsTest(app string, answer []byte, code string) (fits bool, err error) {
	const id = len(uuid.UUID{})
	if len(answer) != id+32 {
		return false, fmt.Errorf("keyring: a test destination's answer has %d bytes", len(answer))
	}
	sums, err := r.Digests(testCodeLabel, []byte(app), answer[:id], []byte(code))
	for _, s := range sums {
		if subtle.ConstantTimeCompare(s[:], answer[id:]) == 1 {
			fits = true
		}
	}
	return fits, err
}
