package web

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
)

// What pages stand on, and the house's own colour. Words stand on the card and on the ground around it: what can be read on the one that is nearer to them,
// the ground where it is light and the card where it is dark, can be read on both (app.css).
const (
	paperLight  = "#f3f5f8"
	paperDark   = "#191c22"
	houseAccent = "#1f5fd6"
	enough      = 4.5 // contrast of text (WCAG 2.2, 1.4.3)
)

// rgb is a colour in sRGB, each part 0–1.
type rgb [3]float64

func parseColour(hex string) (rgb, bool) {
	if len(hex) != 7 || hex[0] != '#' {
		return rgb{}, false
	}
	n, err := strconv.ParseUint(hex[1:], 16, 32)
	if err != nil {
		return rgb{}, false
	}
	return rgb{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}, true
}

func (c rgb) String() string {
	part := func(v float64) int { return int(math.Round(math.Max(0, math.Min(1, v)) * 255)) }
	return fmt.Sprintf("#%02x%02x%02x", part(c[0]), part(c[1]), part(c[2]))
}

// luminance is the relative luminance (WCAG 2.2, definitions).
func (c rgb) luminance() float64 {
	linear := func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}

// Contrast is the contrast of two colours, 1 to 21 (WCAG 2.2, definitions).
func contrast(a, b rgb) float64 {
	x, y := a.luminance(), b.luminance()
	return (math.Max(x, y) + 0.05) / (math.Min(x, y) + 0.05)
}

// towards moves a colour to another until it stands out enough on the paper.
func (c rgb) towards(to, paper rgb) rgb {
	for i := 0; i <= 100; i++ {
		f := float64(i) / 100
		mixed := rgb{c[0] + (to[0]-c[0])*f, c[1] + (to[1]-c[1])*f, c[2] + (to[2]-c[2])*f}
		seen, _ := parseColour(mixed.String()) // as it will be written
		if contrast(seen, paper) >= enough {
			return seen
		}
	}
	return to
}

// Theme is the app's colour as style: of text and lines on light and on dark paper, moved to where it can be read, and of buttons with the words on them.
func Theme(accent string) template.CSS {
	c, ok := parseColour(accent)
	if !ok {
		c, _ = parseColour(houseAccent)
	}
	bright, _ := parseColour(paperLight)
	dark, _ := parseColour(paperDark)
	black, white := rgb{}, rgb{1, 1, 1}
	light := func(paper rgb, to rgb) (line, button, words rgb) {
		line = c.towards(to, paper)
		button, words = line, white
		if contrast(white, button) < enough {
			words, _ = parseColour("#0b0d11")
		}
		if contrast(words, button) < enough { // neither fits quite: white on something darker does
			words, button = white, button.towards(black, white)
		}
		return line, button, words
	}
	l, lb, lw := light(bright, black)
	d, db, dw := light(dark, white)
	css := fmt.Sprintf(":root{--accent:%s;--button:%s;--on-button:%s}@media (prefers-color-scheme:dark){:root{--accent:%s;--button:%s;--on-button:%s}}",
		l, lb, lw, d, db, dw)
	return template.CSS(css) //nolint:gosec // of numbers
}
