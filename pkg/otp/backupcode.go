package otp

import (
	"crypto/rand"
	"strings"
	"unicode"
)

// Backup codes are look-up secrets (NIST SP 800-63B-4, section 3.1.2).
const (
	BackupCodeCount  = 10 // in a set
	BackupCodeLength = 13 // characters of 5 bits each: 65 bits, so that even a stolen digest of one cannot be searched without its key
	BackupCodesLow   = 3  // left, at which the user is told
)

// crockford is the alphabet of Crockford's base32: without I, L and O, which read as 1 and 0, and without U.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewBackupCodes returns BackupCodeCount random codes, all different, in their canonical form.
func NewBackupCodes() []string {
	codes := make([]string, 0, BackupCodeCount)
	seen := map[string]bool{}
	for len(codes) < BackupCodeCount {
		b := make([]byte, BackupCodeLength)
		_, _ = rand.Read(b) // crypto/rand.Read never fails (Go 1.24)
		for i := range b {
			b[i] = crockford[b[i]&31] // 256 is a multiple of 32: no character is likelier
		}
		if c := string(b); !seen[c] {
			seen[c] = true
			codes = append(codes, c)
		}
	}
	return codes
}

// GroupBackupCode writes a canonical code for reading: "XXXX-XXXXX-XXXX". Anything else is returned as it is.
func GroupBackupCode(c string) string {
	if len(c) != BackupCodeLength {
		return c
	}
	return c[:4] + "-" + c[4:9] + "-" + c[9:]
}

// ParseBackupCode reads a code as a person types it and returns its canonical form: BackupCodeLength upper-case characters of Crockford's base32.
// Case does not count, spaces and dashes of every script may stand anywhere, full-width characters count as plain ones, O reads as 0, and I and L as 1.
func ParseBackupCode(s string) (canonical string, ok bool) {
	if len(s) > maxAnswer*4 {
		return "", false
	}
	code := make([]byte, 0, BackupCodeLength)
	for _, r := range s {
		if answerSeparator(r) {
			continue
		}
		c := upperASCII(plain(r))
		switch c {
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if c == 0 || strings.IndexByte(crockford, c) < 0 || len(code) == BackupCodeLength {
			return "", false
		}
		code = append(code, c)
	}
	return string(code), len(code) == BackupCodeLength
}

// answerSeparator reports whether r may stand between the characters of an answer: spaces and dashes of every script, and the minus sign, which
// some keyboards give for a dash.
func answerSeparator(r rune) bool {
	return unicode.Is(unicode.Zs, r) || unicode.Is(unicode.Pd, r) || r == '\u2212'
}

// plain returns the ASCII letter or digit that r stands for: itself, its full-width form (U+FF21 and on), or a digit of another script; 0 for
// anything else.
func plain(r rune) byte {
	if d, ok := decimal(r); ok {
		return '0' + d
	}
	if r >= 'Ａ' && r <= 'ｚ' {
		r -= 'Ａ' - 'A'
	}
	if r < 0x80 && letterOrDigit(byte(r)) {
		return byte(r)
	}
	return 0
}

func upperASCII(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - ('a' - 'A')
	}
	return c
}

// BackupCodeLabel is the label of the keyed digest by which a backup code is found; its fields are app, user and the canonical code.
const BackupCodeLabel = "otpost/backup-code/v1"
