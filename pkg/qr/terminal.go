package qr

import "strings"

// Terminal returns the code as lines of half blocks, two rows of modules a line, for a terminal that writes light on dark; readers take the
// inverse of one that writes dark on light as well. It has no control characters, so that it may be piped and pasted.
func (c *Code) Terminal() string {
	var b strings.Builder
	for y := 0; y < c.side; y += 2 {
		for x := range c.side {
			upper, lower := !c.dark(x, y), !c.dark(x, y+1) && y+1 < c.side
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
	return b.String()
}
