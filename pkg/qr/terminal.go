package qr

import "strings"

// Terminal returns the QR code of a text as lines of half blocks, two rows of modules a line, for a terminal that writes light on dark; readers take the
// inverse of one that writes dark on light as well. It has no control characters, so that it may be piped and pasted. An error says what is wrong with
// the text (see SVG).
func Terminal(text string) (string, error) {
	m, err := encode(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for y := 0; y < m.side; y += 2 {
		for x := range m.side {
			upper, lower := !m.dark(x, y), !m.dark(x, y+1) && y+1 < m.side
			switch {
			case upper && lower:
				b.WriteString("█")
			case upper:
				b.WriteString("▀")
			case lower:
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
