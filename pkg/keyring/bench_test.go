package keyring_test

import (
	"testing"

	"github.com/otpost/otpost/pkg/keyring"
)

func BenchmarkDerive(b *testing.B) {
	r := load(b, initialised(b), keyring.Verification)
	id := codeKeyID(b, r)
	input := make([]byte, 120) // app, challenge id, nonce, transaction digest, digits
	b.ReportAllocs()
	for b.Loop() {
		f, err := r.CodePRF(id)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f(input); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealDestination(b *testing.B) {
	r := load(b, initialised(b), keyring.Challenge)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.SealDestination("sms", "shop", "u-42", "delivery", "+14155550100"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenDestination(b *testing.B) {
	r := load(b, initialised(b), keyring.Challenge)
	sealed, err := r.SealDestination("sms", "shop", "u-42", "delivery", "+14155550100")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.OpenDestination("sms", "shop", "u-42", "delivery", sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIndex(b *testing.B) {
	r := load(b, initialised(b), keyring.Challenge)
	app, event := []byte("shop"), []byte("01JD8ZQ5R0N3V9W6X2Y4K7M1TB")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Index("event", app, event); err != nil {
			b.Fatal(err)
		}
	}
}
