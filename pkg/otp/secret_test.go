package otp

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestGroupSecret(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "GEZD": "GEZD", "GEZDG": "GEZD G", "gezdgnbvgy3tqojqgezdgnbvgy3tqojq": "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ",
	} {
		if got := GroupSecret(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[A-Z2-7]{0,104}`).Draw(t, "secret")
		g := GroupSecret(s)
		if strings.ReplaceAll(g, " ", "") != s || strings.TrimSpace(g) != g {
			t.Fatalf("%q became %q", s, g)
		}
	})
}
