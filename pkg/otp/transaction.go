package otp

import (
	"crypto/sha256"
	"encoding/binary"
)

// MaxTransactionField is the most characters that each field of a transaction may have.
const MaxTransactionField = 64

// A Transaction is what a user agrees to by a code. It is shown in the message and bound to the code (dynamic linking,
// Commission Delegated Regulation (EU) 2018/389, article 5): an answer that names other values does not fit.
type Transaction struct {
	Amount string `json:"amount"` // as people read it, with its currency: "39.99 EUR"
	Payee  string `json:"payee"`
}

// Check says which field is wrong and how; both are empty for a good transaction.
func (t Transaction) Check() (field, problem string) {
	for _, f := range [...]struct{ name, value string }{{"amount", t.Amount}, {"payee", t.Payee}} {
		if p := CheckText(f.value, MaxTransactionField); p != "" {
			return f.name, p
		}
	}
	return "", ""
}

// Digest returns the SHA-256 of the transaction's fields, each preceded by its length in bytes as a 32-bit big-endian number;
// nil for no transaction. The code of a challenge is derived from it.
func (t *Transaction) Digest() []byte {
	if t == nil {
		return nil
	}
	h := sha256.New()
	var n [4]byte
	for _, f := range [...]string{t.Amount, t.Payee} {
		binary.BigEndian.PutUint32(n[:], uint32(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return h.Sum(nil)
}
