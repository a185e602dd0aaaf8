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

	"github.com/boombuler/barcode"
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

// A matrix is a code with its margin: side modules each way.
type matrix struct {
	code barcode.Barcode
	side int
}

// dark reports whether the module in column x of row y is black; the margin is not.
func (m matrix) dark(x, y int) bool {
	x, y = x-quiet, y-quiet
	if n := m.side - 2*quiet; x < 0 || y < 0 || x >= n || y >= n {
		return false
	}
	return m.code.At(x, y) == color.Black
}

// encode makes the code of a text: 1 to MaxText printable ASCII characters, which every URI consists of. Of other characters readers would have to
// guess the encoding. Errors do not repeat the text.
func encode(text string) (matrix, error) {
	if text == "" {
		return matrix{}, fmt.Errorf("qr code: the text must not be empty")
	}
	if len(text) > MaxText {
		return matrix{}, fmt.Errorf("qr code: the text must have at most %d bytes, not %d", MaxText, len(text))
	}
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7e {
			return matrix{}, fmt.Errorf("qr code: the text must be printable ASCII, and byte %d is not", i+1)
		}
	}
	level := qr.M
	if len(text) > mediumText {
		level = qr.L
	}
	// Always in byte mode, which the library calls Unicode: its Auto takes a sign for a digit ("+12" is read back as "012").
	code, err := qr.Encode(text, level, qr.Unicode)
	if err != nil {
		return matrix{}, fmt.Errorf("qr code: encode %d bytes", len(text)) // the library's words may repeat the text
	}
	return matrix{code: code, side: code.Bounds().Dx() + 2*quiet}, nil
}

// SVG returns the QR code of a text as an SVG document of one path, which can stand alone or inside HTML. It has no size of its own, no script and no
// style, so that it passes any Content-Security-Policy; the page gives the size and a name for people who do not see it.
// An error says what is wrong with the text: it must be 1 to MaxText printable ASCII characters.
func SVG(text string) ([]byte, error) {
	m, err := encode(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %[1]d" role="img" shape-rendering="crispEdges">`, m.side)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/><path fill="#000" d="`)
	for y := range m.side {
		for x := 0; x < m.side; x++ {
			from := x
			for m.dark(x, y) {
				x++
			}
			if run := strconv.Itoa(x - from); x > from { // one rectangle for each run of black modules in a row
				fmt.Fprintf(&b, "M%d %dh%sv1h-%sz", from, y, run, run)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.Bytes(), nil
}

// PNG returns the QR code of a text as a square image of 1 bit a pixel, pixels wide and high: MinPixels to MaxPixels. Every module has the same whole
// number of pixels; what is left over widens the margin. An error says what is wrong with the text (see SVG) or with the size, which may also be too
// small for a text as long as this.
func PNG(text string, pixels int) ([]byte, error) {
	if pixels < MinPixels || pixels > MaxPixels {
		return nil, fmt.Errorf("qr code: the side must have %d to %d pixels, not %d", MinPixels, MaxPixels, pixels)
	}
	m, err := encode(text)
	if err != nil {
		return nil, err
	}
	scale := pixels / m.side
	if scale == 0 {
		return nil, fmt.Errorf("qr code: a text of %d bytes needs %d pixels or more, not %d", len(text), m.side, pixels)
	}
	img := image.NewPaletted(image.Rect(0, 0, pixels, pixels), color.Palette{color.White, color.Black})
	margin := (pixels - m.side*scale) / 2
	for y := range m.side * scale {
		row := img.Pix[(margin+y)*img.Stride+margin:]
		for x := range m.side * scale {
			if m.dark(x/scale, y/scale) {
				row[x] = 1
			}
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img); err != nil {
		return nil, fmt.Errorf("qr code: write the image: %w", err)
	}
	return b.Bytes(), nil
}
