package letter

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func countWidth(s string) float64 { return float64(utf8.RuneCountInString(s)) }

func TestBreakLines(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit float64
		want  []string
	}{
		{"", 5, nil},
		{"one", 5, []string{"one"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one two  three", 8, []string{"one two", "three"}},
		{"incomprehensible", 6, []string{"incomp", "rehens", "ible"}},
		{"an incomprehensible", 6, []string{"an", "incomp", "rehens", "ible"}},
		{"日本語の文章", 4, []string{"日本語の", "文章"}},
		{"日本語。の文", 3, []string{"日本", "語。の", "文"}},             // no stop begins a line
		{"日本「語の」文", 3, []string{"日本", "「語", "の」文"}},           // no bracket is left behind or falls off
		{"コードの「Shop」です", 6, []string{"コードの", "「Shop」", "です"}}, // a word stays whole
	} {
		if got := breakLines(c.text, c.limit, countWidth); !slices.Equal(got, c.want) {
			t.Errorf("%q at %v: %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

// TestBreakLinesProperties: no line is too wide, none is empty, and nothing but spaces at line ends is lost.
func TestBreakLinesProperties(t *testing.T) {
	alphabet := rapid.StringOf(rapid.RuneFrom([]rune("abcž 日本あア。「」、ー-")))
	rapid.Check(t, func(t *rapid.T) {
		text, limit := alphabet.Draw(t, "text"), rapid.IntRange(1, 20).Draw(t, "limit")
		lines := breakLines(text, float64(limit), countWidth)
		for _, l := range lines {
			if l == "" || utf8.RuneCountInString(l) > limit || strings.HasSuffix(l, " ") {
				t.Fatalf("line %q of %q at %d", l, text, limit)
			}
		}
		solid := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if got := solid(strings.Join(lines, "")); got != solid(text) {
			t.Fatalf("%q became %q", text, lines)
		}
	})
}
