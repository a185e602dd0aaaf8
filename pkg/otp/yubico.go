package otp

import (
	"crypto/aes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Lengths of a Yubico OTP in modhex characters, each of which stands for four bits.
const (
	YubicoPublicID = 12 // of the public id, as every YubiKey leaves the factory with
	yubicoToken    = 32 // of the encrypted token, one block of AES
	maxYubicoID    = 16 // the longest public id that a YubiKey can be given
)

// YubicoKeySize is the length, in bytes, of the AES key that a YubiKey and otpost share.
const YubicoKeySize = 16

// modhex are the sixteen characters, in the order of their values, that sit at one place on almost every keyboard: a YubiKey types as one.
const modhex = "cbdefghijklnrtuv"

// yubicoResidue is what the CRC-16 of a whole token comes to when the token is intact (ISO/IEC 13239).
const yubicoResidue = 0xf0b8

// ErrYubicoChecksum says that a token opened to nonsense: it was sealed with another key, or altered.
var ErrYubicoChecksum = errors.New("yubico otp: the checksum does not fit")

// A YubicoOTP is what a YubiKey typed: who it says it is, and the token that proves it, still sealed.
type YubicoOTP struct {
	PublicID string // modhex, lower case
	cipher   [aes.BlockSize]byte
}

// A YubicoToken is an opened token.
type YubicoToken struct {
	PrivateID  [6]byte
	UseCounter uint16 // 15 bits; raised at each power-up in which the key is used
	SessionUse uint8  // presses since the power-up
	Timestamp  uint32 // 24 bits of an 8 Hz clock since the power-up, from a random start
	Random     uint16
}

// Counter returns what must rise strictly from one accepted token to the next.
func (t YubicoToken) Counter() int64 { return int64(t.UseCounter)<<8 | int64(t.SessionUse) }

// ParseYubicoOTP reads what a YubiKey types: 44 modhex characters, a public id of 12 and a token of 32. Upper case, as with Caps Lock on, is
// tolerated. The second result says what is wrong with anything else, in words that follow the field's name.
func ParseYubicoOTP(text string) (o YubicoOTP, words string) {
	o, words = parseYubico(text)
	if words == "" && len(o.PublicID) != YubicoPublicID {
		return YubicoOTP{}, fmt.Sprintf("must have %d characters, as a YubiKey types: its public id must have %d", YubicoPublicID+yubicoToken, YubicoPublicID)
	}
	return o, words
}

// parseYubico reads an OTP with a public id of any length that a YubiKey can be set to.
func parseYubico(text string) (o YubicoOTP, words string) {
	if len(text) < yubicoToken || len(text) > maxYubicoID+yubicoToken || len(text)%2 != 0 {
		return YubicoOTP{}, fmt.Sprintf("must have %d characters, as a YubiKey types", YubicoPublicID+yubicoToken)
	}
	lower := []byte(text)
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' { // strings.ToLower would make one byte of some letters of other scripts
			lower[i] = c + ('a' - 'A')
		}
		if strings.IndexByte(modhex, lower[i]) < 0 {
			return YubicoOTP{}, "must have none but the characters " + modhex + ", as a YubiKey types"
		}
	}
	id, token := lower[:len(lower)-yubicoToken], lower[len(lower)-yubicoToken:]
	for i := range o.cipher {
		o.cipher[i] = byte(strings.IndexByte(modhex, token[2*i])<<4 | strings.IndexByte(modhex, token[2*i+1]))
	}
	o.PublicID = string(id)
	return o, ""
}

// Open decrypts the token with the key that the YubiKey of this public id shares with otpost (AES-128, one block). ErrYubicoChecksum means that the
// token is none of that key's; whoever gets a token has still to compare its private id and to take its counter.
func (o YubicoOTP) Open(key []byte) (YubicoToken, error) {
	if len(key) != YubicoKeySize {
		return YubicoToken{}, fmt.Errorf("open yubico otp: the key must have %d bytes, not %d", YubicoKeySize, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return YubicoToken{}, fmt.Errorf("open yubico otp: %w", err)
	}
	var b [aes.BlockSize]byte
	block.Decrypt(b[:], o.cipher[:])
	if crc16(b[:]) != yubicoResidue {
		return YubicoToken{}, ErrYubicoChecksum
	}
	return YubicoToken{
		PrivateID:  [6]byte(b[:6]),
		UseCounter: binary.LittleEndian.Uint16(b[6:]) & 0x7fff, // the first YubiKeys put a mark of Caps Lock into the top bit
		Timestamp:  uint32(b[8]) | uint32(b[9])<<8 | uint32(b[10])<<16,
		SessionUse: b[11],
		Random:     binary.LittleEndian.Uint16(b[12:]),
	}, nil
}

// crc16 is the CRC-16 of ISO/IEC 13239 before its last inversion: polynomial x^16+x^12+x^5+1, bits reflected, all ones at the start.
func crc16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= 0x8408
			}
		}
	}
	return crc
}
