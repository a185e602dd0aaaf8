package web_test

import (
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"regexp"
	"testing"

	"github.com/otpost/otpost/services/gateway/web"
)

// luminance is the relative luminance of "#rrggbb" (WCAG 2.2, definitions).
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	var r, g, b int
	if _, err := fmt.Sscanf(hex, "#%02x%02x%02x", &r, &g, &b); err != nil {
		t.Fatalf("%q is no colour: %v", hex, err)
	}
	linear := func(v int) float64 {
		c := float64(v) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}

// contrast of two colours (WCAG 2.2, definitions).
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

var themeForm = regexp.MustCompile(`^:root\{--accent:(#[0-9a-f]{6});--button:(#[0-9a-f]{6});--on-button:(#[0-9a-f]{6})\}` +
	`@media \(prefers-color-scheme:dark\)\{:root\{--accent:(#[0-9a-f]{6});--button:(#[0-9a-f]{6});--on-button:(#[0-9a-f]{6})\}\}$`)

// Whatever colour an app chooses can be read: as text on light and dark paper, and under the words of a button (WCAG 2.2, 1.4.3).
func TestEveryAccentCanBeRead(t *testing.T) {
	t.Parallel()
	css, err := fs.ReadFile(web.Files(), "static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	papers := regexp.MustCompile(`--paper: (#[0-9a-f]{6}); --ground: (#[0-9a-f]{6});`).FindAllStringSubmatch(string(css), -1)
	if len(papers) != 2 {
		t.Fatalf("the style has the papers %v", papers)
	}
	light, dark := papers[0][1:], papers[1][1:]
	accents := []string{"", "red", "#fff", "#GG0000", "#000000", "#ffffff", light[1], dark[0], "#ffff00", "#00ff00", "#0000ff", "#ff0000", "#777777", "#767676", "#0b0d11"}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same colours in every run
	for range 5000 {
		accents = append(accents, fmt.Sprintf("#%06x", random.IntN(1<<24)))
	}
	for v := range 256 {
		accents = append(accents, fmt.Sprintf("#%02x%02x%02x", v, v, v))
	}
	for _, accent := range accents {
		m := themeForm.FindStringSubmatch(string(web.Theme(accent)))
		if m == nil {
			t.Fatalf("the theme of %q is %s", accent, web.Theme(accent))
		}
		for what, pair := range map[string][2]string{
			"a word on light paper": {m[1], light[0]}, "a word on light ground": {m[1], light[1]},
			"a word on dark paper": {m[4], dark[0]}, "a word on dark ground": {m[4], dark[1]},
			"a button where it is light": {m[3], m[2]}, "a button where it is dark": {m[6], m[5]},
		} {
			if c := contrast(t, pair[0], pair[1]); c < 4.5 {
				t.Errorf("%s of %q: %v has a contrast of %.2f", what, accent, pair, c)
			}
		}
	}
	// What is no colour does not get into the style.
	for _, accent := range []string{"#12345;", "}body{display:none", "#123456}*{color:red", "url(//x)", "#12345\n"} {
		if got := web.Theme(accent); got != web.Theme("") {
			t.Errorf("the theme of %q is %s", accent, got)
		}
	}
}
