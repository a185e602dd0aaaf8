package otposttest

import (
	"crypto/aes"
	"crypto/rand"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
)

// A YubiKey types Yubico OTPs as the device does. It is written from Yubico's description and shares no code with what checks it. It is safe for
// concurrent use; its fields may be set before the first press.
type YubiKey struct {
	PublicID  string  // 12 modhex characters
	PrivateID [6]byte // of the token
	Key       []byte  // AES-128, 16 bytes

	UseCounter uint16 // power-ups in which the key was used; 15 bits
	SessionUse uint8  // presses since the last of them

	mu sync.Mutex
}

// NewYubiKey returns a YubiKey of its own: random ids and key, never used.
func NewYubiKey(t testing.TB) *YubiKey {
	t.Helper()
	b := make([]byte, 6+6+16)
	_, _ = rand.Read(b) // crypto/rand.Read never fails (Go 1.24)
	return &YubiKey{PublicID: ModHex(b[:6]), PrivateID: [6]byte(b[6:12]), Key: b[12:]}
}

// Press returns what the key types: each time another, with counters that rise. After 256 presses it has been plugged in anew.
func (y *YubiKey) Press() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch {
	case y.UseCounter == 0:
		y.UseCounter, y.SessionUse = 1, 0 // the first power-up
	case y.SessionUse == 0xff:
		y.UseCounter, y.SessionUse = y.UseCounter+1, 0
	default:
		y.SessionUse++
	}
	return y.typed()
}

// PlugIn cuts the power: the next press begins a new session.
func (y *YubiKey) PlugIn() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.SessionUse = 0xff
}

// typed seals the counters as they stand. The token is little-endian: private id, use counter, timestamp (24 bits), presses, random, checksum.
func (y *YubiKey) typed() string {
	var noise [5]byte
	_, _ = rand.Read(noise[:])
	b := append([]byte(nil), y.PrivateID[:]...)
	b = binary.LittleEndian.AppendUint16(b, y.UseCounter)
	b = append(b, noise[0], noise[1], noise[2], y.SessionUse, noise[3], noise[4])
	b = binary.LittleEndian.AppendUint16(b, ^yubiCRC(b))
	block, err := aes.NewCipher(y.Key)
	if err != nil {
		panic(err) // a key of a length that AES has not: the test is wrong
	}
	var sealed [aes.BlockSize]byte
	block.Encrypt(sealed[:], b)
	return y.PublicID + ModHex(sealed[:])
}

// yubiCRC divides bit by bit: CRC-16 with the polynomial 0x1021, reflected, from all ones.
func yubiCRC(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, c := range b {
		for bit := range 8 {
			feedback := (crc ^ uint16(c>>bit)) & 1
			crc = crc>>1 ^ feedback*0x8408
		}
	}
	return crc
}

// ModHex writes bytes in the sixteen characters that a YubiKey types.
func ModHex(b []byte) string {
	const alphabet = "cbdefghijklnrtuv"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(alphabet[c>>4])
		s.WriteByte(alphabet[c&15])
	}
	return s.String()
}
