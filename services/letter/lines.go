package letter

import (
	"strings"
	"unicode"
)

// This file breaks paragraphs into lines: at spaces, and in Japanese between almost any two characters.

const (
	notFirst = "、。，．・：；？！゛゜´｀¨ヽヾゝゞ々ー’”）〕］｝〉》」』】‐〜ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ,.:;?!)]}%％" // JIS X 4051, characters not starting a line
	notLast  = "（〔［｛〈《「『【‘“([{〒"                                                    // and not ending one
)

// breakLines returns text in lines of at most limit by width, none of them blank. A word that is wider than a line is broken where it must be.
func breakLines(text string, limit float64, width func(string) float64) []string {
	var lines []string
	line := ""
	flush := func() {
		if line = strings.TrimRight(line, " "); line != "" {
			lines = append(lines, line)
		}
		line = ""
	}
	fits := func(more string) bool { return width(strings.TrimRight(line+more, " ")) <= limit }
	for _, piece := range pieces(strings.TrimLeft(text, " ")) {
		if fits(piece) {
			line += piece
			continue
		}
		flush()
		for _, r := range piece {
			if !fits(string(r)) {
				flush()
			}
			line += string(r)
		}
	}
	flush()
	return lines
}

// pieces cuts text wherever a line may end. A space stays with the word before it.
func pieces(text string) []string {
	var out []string
	start, last := 0, rune(0)
	for i, r := range text {
		if i > start && mayBreak(last, r) {
			out = append(out, text[start:i])
			start = i
		}
		last = r
	}
	if start < len(text) {
		out = append(out, text[start:])
	}
	return out
}

func mayBreak(before, after rune) bool {
	if after == ' ' {
		return false
	}
	if before == ' ' {
		return true
	}
	if strings.ContainsRune(notFirst, after) || strings.ContainsRune(notLast, before) {
		return false
	}
	return ideographic(before) || ideographic(after)
}

func ideographic(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana) || r >= 0x3000 && r <= 0x303F || r >= 0xFF00 && r <= 0xFFEF
}
