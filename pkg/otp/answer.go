package otp

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// An AnswerForm is what kind of thing an answer looks like. It does not say whose or what for: digits may be the code of a challenge or the value
// of a token.
type AnswerForm string

// The forms of answers that are typed.
const (
	FormDigits     AnswerForm = "digits"      // MinDigits to MaxDigits
	FormBackupCode AnswerForm = "backup_code" // BackupCodeLength characters
	FormYubico     AnswerForm = "yubico"      // 44 modhex characters
)

// ParseAnswer reads what a person typed, pasted or pressed in answer to a challenge and tells by its form what it is; no two forms have a length in
// common. value is canonical: ASCII digits, an upper-case backup code, a lower-case Yubico OTP. words say what is wrong with anything else and follow
// the field's name; they are "" for a good answer, and else value and form are.
//
// A string of 13 digits is a backup code: one in nearly four million of them has no letter.
func ParseAnswer(s string) (value string, form AnswerForm, words string) {
	digits, words := NormalizeAnswer(s)
	if words == "" {
		return digits, FormDigits, ""
	}
	if s == "" || len(s) > maxAnswer*utf8.UTFMax || utf8.RuneCountInString(s) > maxAnswer || !utf8.ValidString(s) {
		return "", "", words // of no form at all
	}
	if code, ok := ParseBackupCode(s); ok {
		return code, FormBackupCode, ""
	}
	var b strings.Builder
	onlyDigits := true
	for _, r := range s {
		if answerSeparator(r) {
			continue
		}
		c := plain(r)
		if c == 0 {
			return "", "", answerWords
		}
		onlyDigits = onlyDigits && c >= '0' && c <= '9'
		b.WriteByte(c)
	}
	typed := b.String()
	if onlyDigits {
		return "", "", fmt.Sprintf("must have %d to %d digits", MinDigits, MaxDigits)
	}
	if _, w := ParseYubicoOTP(typed); w == "" {
		return strings.ToLower(typed), FormYubico, ""
	}
	return "", "", answerWords
}

// answerWords are for what has no form of an answer.
const answerWords = "must be a code of digits, a backup code or what a YubiKey types"
