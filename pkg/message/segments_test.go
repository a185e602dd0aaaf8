package message

import (
	"strings"
	"testing"
)

func TestSegments(t *testing.T) {
	r := strings.Repeat
	for _, c := range []struct {
		name     string
		text     string
		encoding Encoding
		units    int
		segments int
	}{
		{"nothing", "", GSM7, 0, 1},
		{"the whole basic alphabet", gsmBasic, GSM7, 127, 1},
		{"the whole extension", gsmExtension, GSM7, 20, 1},
		{"one full message", r("a", 160), GSM7, 160, 1},
		{"one more", r("a", 161), GSM7, 161, 2},
		{"two full parts", r("a", 306), GSM7, 306, 2},
		{"one more than two parts", r("a", 307), GSM7, 307, 3},
		{"a pair that still fits one message", r("a", 158) + "€", GSM7, 160, 1},
		{"a pair that does not", r("a", 159) + "€", GSM7, 161, 2},
		{"a pair at the end of a part", r("a", 151) + "€" + r("a", 153), GSM7, 306, 2},
		{"a pair that would be split", r("a", 152) + "€" + r("a", 152), GSM7, 306, 3},
		{"one message of pairs", r("€", 80), GSM7, 160, 1},
		{"76 pairs a part", r("€", 152), GSM7, 304, 2},
		{"a pair too many for two parts", r("€", 153), GSM7, 306, 3},
		{"one letter outside", "ě", UCS2, 1, 1},
		{"small c with cedilla is outside", "ç", UCS2, 1, 1},
		{"the capital is not", "Ç", GSM7, 1, 1},
		{"a no-break space is outside", "\u00a0", UCS2, 1, 1},
		{"one full message of 70", r("ě", 70), UCS2, 70, 1},
		{"one more of 67", r("ě", 71), UCS2, 71, 2},
		{"two full parts of 67", r("ě", 134), UCS2, 134, 2},
		{"one more than two of 67", r("ě", 135), UCS2, 135, 3},
		{"GSM letters count one there", r("a", 69) + "ě", UCS2, 70, 1},
		{"a surrogate pair counts two", r("ě", 68) + "😀", UCS2, 70, 1},
		{"and is not split", r("ě", 66) + "😀" + r("ě", 66), UCS2, 134, 3},
		{"33 pairs a part", r("😀", 66), UCS2, 132, 2},
		{"not 33 and a half", r("😀", 67), UCS2, 134, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			encoding, units, segments := Segments(c.text)
			if encoding != c.encoding || units != c.units || segments != c.segments {
				t.Errorf("%s, %d units, %d segments, want %s, %d, %d", encoding, units, segments, c.encoding, c.units, c.segments)
			}
		})
	}
}

// What a message counts is what a phone gets: parts that are filled one by one, with nothing split.
func FuzzSegments(f *testing.F) {
	f.Add(strings.Repeat("a", 152) + "€" + strings.Repeat("a", 152))
	f.Add(strings.Repeat("ě😀", 50))
	f.Fuzz(func(t *testing.T, s string) {
		encoding, units, segments := Segments(s)
		alone, part, slack := 160, 153, 1
		if encoding == UCS2 {
			alone, part = 70, 67
		}
		least := 1
		if units > alone {
			least = (units + part - 1) / part
		}
		most := least
		if units > alone {
			most = (units + part - slack - 1) / (part - slack)
		}
		if segments < least || segments > most {
			t.Errorf("%q: %d units in %d segments, want %d to %d", s, units, segments, least, most)
		}
		if n, ok := gsm7(s); ok != (encoding == GSM7) || ok && n != units {
			t.Errorf("%q: %s, %d units, want %d (GSM: %v)", s, encoding, units, n, ok)
		}
	})
}
