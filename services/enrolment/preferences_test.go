package enrolment

import (
	"context"
	"errors"
	"testing"

	"github.com/otpost/otpost/pkg/otp"
)

// Who waits for others to hash gives up with the request, and takes no turn.
func TestHashesAreBounded(t *testing.T) {
	for range cap(hashes) {
		done, err := hashing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer done()
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hashPassphrase(late, "correct horse battery staple"); !errors.Is(err, context.Canceled) {
		t.Errorf("hashed beyond the bound: %v", err)
	}
	if right, err := checkPassphrase(late, otp.NoPassphrase, "correct horse battery staple"); right || !errors.Is(err, context.Canceled) {
		t.Errorf("compared beyond the bound: %t, %v", right, err)
	}
	if len(hashes) != cap(hashes) {
		t.Errorf("%d turns are taken, want %d", len(hashes), cap(hashes))
	}
}
