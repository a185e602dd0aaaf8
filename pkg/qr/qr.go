// Package qr draws QR codes (ISO/IEC 18004), as SVG for pages and as PNG for whatever shows no SVG.
//
// Both are black on white whatever surrounds them, with the quiet zone that readers need. Neither holds the text in any other form than the modules:
// there is no title, comment or metadata, so that a secret in the text is nowhere to be searched for.
package qr

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strconv"

	"github.com/boombuler/barcode/qr"
)

// Bounds of the side of a PNG, in pixels.
const (
	MinPixels = 128
	MaxPixels = 2048
)

// MaxText is the most bytes that a QR code can hold: version 40 at level L, in byte mode.
const MaxText = 2953

// mediumText is the longest text, in bytes, that gets level M, which restores 15 % of the modules: what version 20 holds, of 97 modules a side.
// Beyond it larger modules help a phone's camera more than correction does, and level L (7 %) is taken.
const mediumText = 666

// quiet is the width of the white margin, in modules, that ISO/IEC 18004 asks for.
const quiet = 4

// A Code is a QR code, ready to be drawn.
type Code struct {
	size    int // bytes of the text
	side    int // modules each way, the margin included
	modules []bool
}

// dark reports whether the module in column x of row y is black; the margin is not.
func (c *Code) dark(x, y int) bool {
	return x >= 0 && y >= 0 && x < c.side && y < c.side && c.modules[y*c.side+x]
}

// Encode makes the code of a text: 1 to MaxText printable ASCII characters, which every URI consists of. Of other characters readers would have to
// guess the encoding. Errors do not repeat the text.
func Encode(text string) (*Code, error) {
	if text == "" {
		return nil, fmt.Errorf("qr code: the text must not be empty")
	}
	if len(text) > MaxText {
		return nil, fmt.Errorf("qr code: the text must have at most %d bytes, not %d", MaxText, len(text))
	}
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7e {
			return nil, fmt.Errorf("qr code: the text must be printable ASCII, and byte %d is not", i+1)
		}
	}
	level := qr.M
	if len(text) > mediumText {
		level = qr.L
	}
	// Always in byte mode, which the library calls Unicode: its Auto takes a sign for a digit ("+12" is read back as "012").
	code, err := qr.Encode(text, level, qr.Unicode)
	if err != nil {
		return nil, fmt.Errorf("qr code: encode %d bytes", len(text)) // the library's words may repeat the text
	}
	n := code.Bounds().Dx()
	c := &Code{size: len(text), side: n + 2*quiet}
	c.modules = make([]bool, c.side*c.side)
	for y := range n {
		for x := range n {
			c.modules[(y+quiet)*c.side+x+quiet] = code.At(x, y) == color.Black
		}
	}
	return c, nil
}

// SVG returns the code as an SVG document of one path, which can stand alone or inside HTML. It has no size of its own, no script and no
// style, so that it passes any Content-Security-Policy; the page gives the size and a name for people who do not see it.
func (c *Code) SVG() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %[1]d" role="img" shape-rendering="crispEdges">`, c.side)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/><path fill="#000" d="`)
	for y := range c.side {
		for x := 0; x < c.side; x++ {
			from := x
			for c.dark(x, y) {
				x++
			}
			if run := strconv.Itoa(x - from); x > from { // one rectangle for each run of black modules in a row
				fmt.Fprintf(&b, "M%d %dh%sv1h-%sz", from, y, run, run)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.Bytes()
}

// PNG returns the code as a square image of 1 bit a pixel, pixels wide and high: MinPixels to MaxPixels. Every module has the same whole number of
// pixels; what is left over widens the margin. An error says what is wrong with the size, which may also be too small for a text as long as this.
func (c *Code) PNG(pixels int) ([]byte, error) {
	if pixels < MinPixels || pixels > MaxPixels {
		return nil, fmt.Errorf("qr code: the side must have %d to %d pixels, not %d", MinPixels, MaxPixels, pixels)
	}
	scale := pixels / c.side
	if scale == 0 {
		return nil, fmt.Errorf("qr code: a text of %d bytes needs %d pixels or more, not %d", c.size, c.side, pixels)
	}
	img := image.NewPaletted(image.Rect(0, 0, pixels, pixels), color.Palette{color.White, color.Black})
	margin := (pixels - c.side*scale) / 2
	for y := range c.side {
		first := img.Pix[(margin+y*scale)*img.Stride:][:img.Stride]
		for x := range c.side * scale {
			if c.dark(x/scale, y) {
				first[margin+x] = 1
			}
		}
		for again := 1; again < scale; again++ {
			copy(img.Pix[(margin+y*scale+again)*img.Stride:][:img.Stride], first)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("qr code: write the image: %w", err)
	}
	return b.Bytes(), nil
}
