package otp

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MaxIDLength is the most characters (not bytes) that an id chosen by an app may have.
const MaxIDLength = 128

var appName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// ValidApp reports whether s can name an app: 1–64 of a–z, 0–9 and "-". Such a name is one token of a NATS subject.
func ValidApp(s string) bool { return appName.MatchString(s) }

// CheckID says what is wrong with an id that an app chose (user, session, event id), in words that follow the field's name;
// it returns "" for a good one: 1–128 characters, valid UTF-8, none of them a control, format, private-use or line-separating one.
func CheckID(s string) string { return CheckText(s, MaxIDLength) }

// CheckText is CheckID for a text of 1 to limit characters.
func CheckText(s string, limit int) string {
	if s == "" {
		return "must not be empty"
	}
	if len(s) > limit*utf8.UTFMax || utf8.RuneCountInString(s) > limit {
		return fmt.Sprintf("must have at most %d characters", limit)
	}
	return checkPrintable(s)
}

// unprintable are control, format, private-use and surrogate characters and line separators. unicode.C would not do: since Go 1.25 it holds
// unassigned code points too, and with them every emoji and letter newer than Go's tables.
var unprintable = []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp}

// checkPrintable refuses what could break a line, hide text or fool a reader of logs.
func checkPrintable(s string) string {
	for i, r := range s {
		if r < utf8.RuneSelf {
			if r < 0x20 || r == 0x7f {
				return "must not have control characters"
			}
			continue
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return "must be valid UTF-8"
			}
		}
		if unicode.In(r, unprintable...) {
			return "must not have control characters"
		}
	}
	return ""
}

// ChallengeID makes the id of a challenge from the time of its login and a keyed digest of the login's identity: a UUIDv7
// (RFC 9562, section 5.7) whose random bits come from the digest. The same login meets the same id, on whichever worker and however often it is
// delivered; nobody without the key can tell which login an id belongs to.
func ChallengeID(at time.Time, digest [32]byte) uuid.UUID {
	var id uuid.UUID
	copy(id[6:], digest[:10])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80 // variant 10
	return id
}

// IDTime returns the time, in whole milliseconds, that a UUIDv7 carries.
func IDTime(id uuid.UUID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}

var providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// ValidProvider reports whether s can be the name of a provider: 1 to 32 of a-z, 0-9 and "-", beginning with a letter or digit.
func ValidProvider(s string) bool { return providerName.MatchString(s) }
