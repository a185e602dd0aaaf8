package otp

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNewBackupCodes(t *testing.T) {
	seen := map[string]bool{}
	counts := make([]map[byte]int, BackupCodeLength)
	for i := range counts {
		counts[i] = map[byte]int{}
	}
	const sets = 1000
	for range sets {
		codes := NewBackupCodes()
		if len(codes) != BackupCodeCount {
			t.Fatalf("%d codes", len(codes))
		}
		for _, c := range codes {
			if canonical, ok := ParseBackupCode(c); !ok || canonical != c {
				t.Fatalf("%q is not canonical: %q, %v", c, canonical, ok)
			}
			if seen[c] {
				t.Fatalf("%q came twice", c)
			}
			seen[c] = true
			for i := range BackupCodeLength {
				counts[i][c[i]]++
			}
		}
	}
	for i, at := range counts { // each of 32 characters about 312 times, with a deviation of 17
		for j := range len(crockford) {
			if n := at[crockford[j]]; n < 170 || n > 460 {
				t.Errorf("character %d was %q %d times of %d", i, crockford[j], n, sets*BackupCodeCount)
			}
		}
	}
}

func TestGroupBackupCode(t *testing.T) {
	for in, want := range map[string]string{"0123456789ABC": "0123-45678-9ABC", "": "", "short": "short", "0123456789ABCD": "0123456789ABCD"} {
		if got := GroupBackupCode(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestParseBackupCode(t *testing.T) {
	const want = "01J3456789ABC"
	for _, good := range []string{
		"01J3456789ABC", "01J3-45678-9ABC", "01j3-45678-9abc", " 01J3 45678 9ABC ", "O1J3-45678-9ABC", "oij3-45678-9abc", "0lJ3-45678-9ABC", "OLJ3 45678 9ABC",
		"01J3–45678—9ABC", "01J3\u201145678\u22129ABC", "01J3\u00a045678\u30009ABC", "０１Ｊ３－４５６７８－９ＡＢＣ", "０１ｊ３４５６７８９ａｂｃ", "٠١j٣-٤٥٦٧٨-٩abc",
		"-0-1-J-3-4-5-6-7-8-9-A-B-C-",
	} {
		if got, ok := ParseBackupCode(good); !ok || got != want {
			t.Errorf("%q: %q, %v", good, got, ok)
		}
	}
	for _, bad := range []string{
		"", "-", "01J3456789AB", "01J3456789ABCD", "01J3-45678-9ABU", "01J3-45678-9ABu", "01J3456789AB\n", "01J3456789AB*", "01J3456789AB\x00", "01J3456789Až",
		"01J3456789A\u212a", "01J3456789AB\xff", "01J3_45678_9ABC", "01J3\t45678\t9ABC", strings.Repeat("0", 1<<20), strings.Repeat(" ", 1<<20) + want,
	} {
		if got, ok := ParseBackupCode(bad); ok {
			t.Errorf("%.40q: %q", bad, got)
		}
	}
}

// TestBackupCodesAsPeopleTypeThem takes what a person may make of a code that was shown: other case, other separators, letters that look alike.
func TestBackupCodesAsPeopleTypeThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		code := rapid.StringOfN(rapid.SampledFrom([]rune(crockford)), BackupCodeLength, BackupCodeLength, -1).Draw(t, "code")
		var typed strings.Builder
		for _, r := range GroupBackupCode(code) {
			like := map[rune][]rune{'0': {'0', 'O', 'o'}, '1': {'1', 'I', 'i', 'L', 'l'}, '-': {'-', ' ', '–', '\u00a0'}}[r]
			if like == nil {
				like = []rune{r, []rune(strings.ToLower(string(r)))[0]}
			}
			typed.WriteRune(rapid.SampledFrom(like).Draw(t, "typed"))
		}
		if got, ok := ParseBackupCode(typed.String()); !ok || got != code {
			t.Fatalf("%q was typed as %q and reads as %q, %v", code, typed.String(), got, ok)
		}
	})
}
