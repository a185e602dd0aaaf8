package seeds

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is what RFC 6030 and nearly every vendor use; its weakness against collisions does not touch HMAC
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
)

// keyBytes are the methods of encryption (XML Encryption, section 5.2.2) and the length of their keys. RFC 6030, section 6.1.1 names more; those that
// vendors use are AES in CBC mode.
var keyBytes = map[string]int{
	"http://www.w3.org/2001/04/xmlenc#aes128-cbc": 16,
	"http://www.w3.org/2001/04/xmlenc#aes192-cbc": 24,
	"http://www.w3.org/2001/04/xmlenc#aes256-cbc": 32,
}

// hmacs are the keyed hash functions, for MACs and as what PBKDF2 is made from.
var hmacs = map[string]func() hash.Hash{
	"http://www.w3.org/2000/09/xmldsig#hmac-sha1":        sha1.New,
	"http://www.w3.org/2001/04/xmldsig-more#hmac-sha256": sha256.New,
}

// An encrypted is a value as the file has it. data is the initialization vector and the ciphertext.
type encrypted struct {
	method string
	data   []byte
}

// open decrypts. It tells nothing of whether the result is true: see keys.open.
func (e encrypted) open(key []byte) ([]byte, error) {
	want, ok := keyBytes[e.method]
	if !ok {
		return nil, errors.New("is encrypted by a method that is not supported: it must be AES in CBC mode")
	}
	if len(key) != want {
		return nil, fmt.Errorf("is encrypted with a key of %d bytes, and the key given has %d", want, len(key))
	}
	if len(e.data) < 2*aes.BlockSize || len(e.data)%aes.BlockSize != 0 {
		return nil, errors.New("must be an initialization vector and whole blocks of 16 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cannot be decrypted: %w", err)
	}
	plain := make([]byte, len(e.data)-aes.BlockSize)
	cipher.NewCBCDecrypter(block, e.data[:aes.BlockSize]).CryptBlocks(plain, e.data[aes.BlockSize:])
	// The last byte counts the padding; what the others hold is anybody's (XML Encryption, section 5.2).
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > aes.BlockSize {
		return nil, ErrMismatch
	}
	return plain[:len(plain)-padding], nil
}

// keys are what a file's values are opened with.
type keys struct {
	encryption []byte
	hash       func() hash.Hash
	mac        []byte
}

// open checks the MAC of a value and only then decrypts it: RFC 6030, section 6.1.1 has the MAC computed over the initialization vector and ciphertext.
func (k keys) open(e encrypted, mac []byte) ([]byte, error) {
	if k.hash == nil || mac == nil {
		return nil, errors.New("is encrypted without a MAC, so that nobody can tell whether it was altered")
	}
	h := hmac.New(k.hash, k.mac)
	h.Write(e.data)
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, ErrMismatch
	}
	return e.open(k.encryption)
}

// A derivation is how the key follows from the passphrase (RFC 8018, section 5.2).
type derivation struct {
	salt       []byte
	iterations int64
	length     int64
	hash       func() hash.Hash
}

func (d derivation) key(passphrase string) ([]byte, error) {
	switch {
	case len(d.salt) < 8: // RFC 8018, section 4.1
		return nil, errors.New("must have a salt of 8 bytes or more")
	case d.iterations < 1 || d.iterations > MaxIterations:
		return nil, fmt.Errorf("must have 1 to %d iterations", MaxIterations)
	case d.length != 16 && d.length != 24 && d.length != 32:
		return nil, errors.New("must give a key of 16, 24 or 32 bytes")
	}
	key, err := pbkdf2.Key(d.hash, passphrase, d.salt, int(d.iterations), int(d.length))
	if err != nil {
		return nil, fmt.Errorf("derive the key: %w", err)
	}
	return key, nil
}

func unbase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(unspaced(s))
	if err != nil || len(b) == 0 {
		return nil, errors.New("must be base64")
	}
	return b, nil
}
