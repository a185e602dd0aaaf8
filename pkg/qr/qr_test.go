package qr_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/qr"
)

const uri = "otpauth://totp/Shop%20%26%20Co:u-42?algorithm=SHA1&digits=6&issuer=Shop%20%26%20Co&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// texts are what an independent reader must give back. The lengths meet both ends of both levels.
func texts() map[string]string {
	long := func(n int) string { return (uri + strings.Repeat("&x=0123456789+-", 200))[:n] }
	return map[string]string{
		"an otpauth URI":                    uri,
		"one character":                     "x",
		"what a careless mode would change": "+12-34+56",
		"only digits":                       "0042",
		"all of printable ASCII":            printable(),
		"the longest at level M":            long(666),
		"the shortest at level L":           long(667),
		"the longest":                       long(qr.MaxText),
	}
}

func printable() string {
	b := make([]byte, 0, 95)
	for c := byte(' '); c <= '~'; c++ {
		b = append(b, c)
	}
	return string(b)
}

// TestReadByOthers has what was drawn read by zbar, and the SVG drawn by librsvg before.
func TestReadByOthers(t *testing.T) {
	zbar := tool(t, "zbarimg", "zbar-tools")
	for name, text := range texts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			picture := filepath.Join(dir, "code.png")
			sizes := []int{300, 512}
			if len(text) > 200 { // fewer than 4 pixels a module are hard for any reader
				sizes = []int{1000}
			}
			for _, pixels := range sizes {
				image, err := drawPNG(text, pixels)
				if err != nil {
					t.Fatal(err)
				}
				write(t, picture, image)
				if got := read(t, zbar, picture); got != text {
					t.Errorf("PNG of %d pixels is read as %q", pixels, got)
				}
			}

			rsvg := tool(t, "rsvg-convert", "librsvg2-bin")
			svg, err := drawSVG(text)
			if err != nil {
				t.Fatal(err)
			}
			drawing := filepath.Join(dir, "code.svg")
			write(t, drawing, svg)
			run(t, rsvg, "--width=900", "--output="+picture, drawing)
			if got := read(t, zbar, picture); got != text {
				t.Errorf("SVG is read as %q", got)
			}
		})
	}
}

// tool finds a program and skips the test where there is none.
func tool(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s, which reads codes independently of this package: install Debian's package %s, or run scripts/setup", name, debian)
	}
	return path
}

func read(t *testing.T, zbar, file string) string {
	t.Helper()
	return strings.TrimSuffix(run(t, zbar, "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", file), "\n")
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, &stderr)
	}
	return string(out)
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSVGIsHarmless holds the form: one path, explicit colours, nothing that acts, is styled or tells the text.
func TestSVGIsHarmless(t *testing.T) {
	svg, err := drawSVG(uri)
	if err != nil {
		t.Fatal(err)
	}
	var elements []string
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements = append(elements, token.Name.Local)
			for _, a := range token.Attr {
				switch a.Name.Local {
				case "xmlns", "role", "viewBox", "shape-rendering", "width", "height", "fill", "d":
				default:
					t.Errorf("attribute %s", a.Name.Local)
				}
			}
		case xml.EndElement:
		default:
			t.Errorf("holds a %T", token)
		}
	}
	if got := strings.Join(elements, " "); got != "svg rect path" {
		t.Errorf("elements: %s", got)
	}
	for _, want := range []string{`role="img"`, `shape-rendering="crispEdges"`, `viewBox="0 0 57 57"`, `fill="#fff"`, `fill="#000"`, `d="M4 4h7v1h-7z`} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("no %s", want)
		}
	}
	if len(svg) > 16<<10 {
		t.Errorf("%d bytes", len(svg))
	}
}

// TestPNGForm holds the size, the depth and the margin, which a reader may forgive and a printer not.
func TestPNGForm(t *testing.T) {
	for _, pixels := range []int{qr.MinPixels, 300, 500, qr.MaxPixels} {
		drawn, err := drawPNG(uri, pixels)
		if err != nil {
			t.Fatal(err)
		}
		config, err := png.DecodeConfig(bytes.NewReader(drawn))
		if err != nil || config.Width != pixels || config.Height != pixels {
			t.Fatalf("%d pixels: %d × %d (%v)", pixels, config.Width, config.Height, err)
		}
		if depth, kind := drawn[24], drawn[25]; depth != 1 || kind != 3 { // of the header chunk: 1 bit, palette
			t.Errorf("%d pixels: depth %d, colour type %d", pixels, depth, kind)
		}
		img, err := png.Decode(bytes.NewReader(drawn))
		if err != nil {
			t.Fatal(err)
		}
		black := image.Rectangle{}
		for y := range pixels {
			for x := range pixels {
				if color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y == 0 {
					black = black.Union(image.Rect(x, y, x+1, y+1))
				}
			}
		}
		scale := pixels / 57 // modules with the margin, as TestSVGIsHarmless sees them
		if black.Dx() != 49*scale || black.Dy() != 49*scale {
			t.Errorf("%d pixels: the code is %v, not %d modules of %d pixels", pixels, black, 49, scale)
		}
		margin := min(black.Min.X, black.Min.Y, pixels-black.Max.X, pixels-black.Max.Y)
		if margin < 4*scale {
			t.Errorf("%d pixels: a margin of %d pixels is less than 4 modules", pixels, margin)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		text   string
		pixels int
		want   string
	}{
		"nothing":               {"", 300, "must not be empty"},
		"more than fits":        {strings.Repeat("s", qr.MaxText+1), 300, "at most 2953 bytes, not 2954"},
		"a control character":   {"secret\n", 300, "byte 7 is not"},
		"other than ASCII":      {"secrét", 300, "byte 5 is not"},
		"a picture too small":   {uri, 127, "128 to 2048 pixels, not 127"},
		"a picture too large":   {uri, 2049, "128 to 2048 pixels, not 2049"},
		"no picture":            {uri, -1, "128 to 2048 pixels, not -1"},
		"modules below a pixel": {strings.Repeat("s", qr.MaxText), 184, "needs 185 pixels or more, not 184"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := drawPNG(tc.text, tc.pixels); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secr") {
				t.Errorf("PNG: %v", err)
			}
			if tc.pixels != 300 {
				return
			}
			if _, err := drawSVG(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secr") {
				t.Errorf("SVG: %v", err)
			}
		})
	}
}

func drawSVG(text string) ([]byte, error) {
	c, err := qr.Encode(text)
	if err != nil {
		return nil, err
	}
	return c.SVG(), nil
}

func drawPNG(text string, pixels int) ([]byte, error) {
	c, err := qr.Encode(text)
	if err != nil {
		return nil, err
	}
	return c.PNG(pixels)
}

func drawTerminal(text string) (string, error) {
	c, err := qr.Encode(text)
	if err != nil {
		return "", err
	}
	return c.Terminal(), nil
}

func BenchmarkDraw(b *testing.B) {
	for b.Loop() {
		c, err := qr.Encode("otpauth://totp/Shop:alice@shop.example?algorithm=SHA1&digits=6&issuer=Shop&period=30&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
		if err != nil {
			b.Fatal(err)
		}
		c.SVG()
		if _, err := c.PNG(512); err != nil {
			b.Fatal(err)
		}
	}
}
