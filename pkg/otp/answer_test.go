package otp

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestParseAnswer(t *testing.T) {
	for _, c := range []struct {
		in, value string
		form      AnswerForm
	}{
		{"123456", "123456", FormDigits},
		{"0000", "0000", FormDigits},
		{"0123456789", "0123456789", FormDigits},
		{" 123–456 ", "123456", FormDigits},
		{"１２３４５６", "123456", FormDigits},
		{"01J3-45678-9ABC", "01J3456789ABC", FormBackupCode},
		{"oij3 45678 9abc", "01J3456789ABC", FormBackupCode},
		{"1234567890123", "1234567890123", FormBackupCode},
		{"1234-56789-0123", "1234567890123", FormBackupCode},
		{"bcdefghjkcnrt", "BCDEFGHJKCNRT", FormBackupCode}, // all of them modhex, but not 44
		{goodYubico, goodYubico, FormYubico},
		{strings.ToUpper(goodYubico), goodYubico, FormYubico},
		{" " + goodYubico + " ", goodYubico, FormYubico},
		{"ｅｎｒｌ" + goodYubico[4:], goodYubico, FormYubico}, // an input method was on
		{strings.Repeat("\u3000", 20) + goodYubico, goodYubico, FormYubico},
	} {
		if value, form, words := ParseAnswer(c.in); value != c.value || form != c.form || words != "" {
			t.Errorf("%q: %q, %q, %q", c.in, value, form, words)
		}
	}
	for _, c := range []struct{ in, words string }{
		{"", "must not be empty"},
		{"   ", "must have 4 to 10 digits"},
		{"123", "must have 4 to 10 digits"},
		{"12345678901", "must have 4 to 10 digits"},
		{"123456789012", "must have 4 to 10 digits"},
		{"12345678901234", "must have 4 to 10 digits"},
		{"12345O", answerWords},
		{"123456\n", answerWords},
		{goodYubico + "\n", answerWords},
		{goodYubico[:43], answerWords},
		{goodYubico[12:], answerWords},
		{"01J3-45678-9ABU", answerWords},
		{"password", answerWords},
		{"\u0661a", answerWords},
		{"1e10", answerWords},
		{"12\xff34", "must be valid UTF-8"},
		{strings.Repeat("1", 65), "must have at most 64 characters"},
		{strings.Repeat("c", 1<<20), "must have at most 64 characters"},
		{strings.Repeat("\xff", 1<<20), "must have at most 64 characters"},
	} {
		if value, form, words := ParseAnswer(c.in); value != "" || form != "" || words != c.words {
			t.Errorf("%.70q: %q, %q, %q", c.in, value, form, words)
		}
	}
}

// TestParseAnswerAgrees expects ParseAnswer to take every answer that NormalizeAnswer takes, as the same digits.
func TestParseAnswerAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9 –-]{0,20}`), rapid.StringMatching(`[0-9A-Za-z -]{10,20}`)).Draw(t, "answer")
		checkAnswer(t, in)
	})
}

func FuzzParseAnswer(f *testing.F) {
	for _, s := range []string{"", "123 456", "01J3-45678-9ABC", goodYubico, "1234567890123", "ｅｎｒｌ" + goodYubico[4:], "12\xff34", "----", "\u212a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkAnswer(t, s) })
}

func checkAnswer(t interface{ Errorf(string, ...any) }, s string) {
	value, form, words := ParseAnswer(s)
	digits, problem := NormalizeAnswer(s)
	if (problem == "") != (form == FormDigits) || problem == "" && value != digits {
		t.Errorf("%q is %q as %q, and normalised %q (%s)", s, value, form, digits, problem)
	}
	switch form {
	case "":
		if value != "" || words == "" || len(words) > 100 {
			t.Errorf("%q: %q and %q", s, value, words)
		}
		return
	case FormDigits:
	case FormBackupCode:
		if c, ok := ParseBackupCode(value); !ok || c != value {
			t.Errorf("%q: %q is no canonical backup code", s, value)
		}
	case FormYubico:
		if _, w := ParseYubicoOTP(value); w != "" || value != strings.ToLower(value) {
			t.Errorf("%q: %q is no Yubico OTP: %s", s, value, w)
		}
	default:
		t.Errorf("%q: unknown form %q", s, form)
	}
	if words != "" || utf8.RuneCountInString(s) > maxAnswer {
		t.Errorf("%q was taken, with the words %q", s, words)
	}
	if again, sameForm, _ := ParseAnswer(value); again != value || sameForm != form {
		t.Errorf("%q reads as %q (%s), and that as %q (%s)", s, value, form, again, sameForm)
	}
}

func ExampleParseAnswer() {
	for _, s := range []string{"123 456", "oij3-45678-9abc", "hunter2"} {
		value, form, words := ParseAnswer(s)
		fmt.Printf("%q %q %q\n", value, form, words)
	}
	// Output:
	// "123456" "digits" ""
	// "01J3456789ABC" "backup_code" ""
	// "" "" "must be a code of digits, a backup code or what a YubiKey types"
}
