package qr_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestTerminalReadByOthers has zbar read what a terminal shows: each half block is painted as a terminal paints it, light on dark.
func TestTerminalReadByOthers(t *testing.T) {
	zbar := tool(t, "zbarimg", "zbar-tools")
	for name, text := range texts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shown, err := drawTerminal(text)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(shown, "\n"), "\n")
			const pixels = 5 // of a module
			width := utf8.RuneCountInString(lines[0])
			img := image.NewGray(image.Rect(0, 0, width*pixels, len(lines)*2*pixels))
			for row, line := range lines {
				if n := utf8.RuneCountInString(line); n != width {
					t.Fatalf("line %d has %d characters, the first %d", row+1, n, width)
				}
				for x, r := range []rune(line) {
					for half, light := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
						if light {
							paint(img, x*pixels, (2*row+half)*pixels, pixels)
						}
					}
				}
			}
			var b bytes.Buffer
			if err := png.Encode(&b, img); err != nil {
				t.Fatal(err)
			}
			picture := filepath.Join(t.TempDir(), "shown.png")
			write(t, picture, b.Bytes())
			if got := read(t, zbar, picture); got != text {
				t.Errorf("it is read as %q", got)
			}
		})
	}
}

func paint(img *image.Gray, x, y, size int) {
	for dy := range size {
		for dx := range size {
			img.SetGray(x+dx, y+dy, color.Gray{Y: 255})
		}
	}
}

// TestTerminalIsText holds that it can be piped: blocks, spaces and line ends, and the margin all round.
func TestTerminalIsText(t *testing.T) {
	shown, err := drawTerminal(uri)
	if err != nil {
		t.Fatal(err)
	}
	if rest := strings.Trim(shown, "█▀▄ \n"); rest != "" {
		t.Errorf("it has %q", rest)
	}
	lines := strings.Split(strings.TrimSuffix(shown, "\n"), "\n")
	if n := utf8.RuneCountInString(lines[0]); n != 57 || len(lines) != 29 {
		t.Errorf("%d characters by %d lines, want 57 by 29", n, len(lines))
	}
	for i, line := range lines[:len(lines)-1] {
		if !strings.HasPrefix(line, "████") || !strings.HasSuffix(line, "████") || i < 2 && strings.Trim(line, "█") != "" {
			t.Errorf("line %d has no margin: %q", i+1, line)
		}
	}
	if _, err := drawTerminal(""); err == nil {
		t.Error("it draws nothing without an error")
	}
	if _, err := drawTerminal("geheim\n"); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("a line break: %v", err)
	}
}
