package letter

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// This file reads PDFs with somebody else's eyes: poppler's.

const mmPerPoint = 25.4 / 72

// need skips a test without what scripts/setup installs, and fails it where that must be there.
func need(t *testing.T, found bool, what, from string) {
	t.Helper()
	switch {
	case found:
	case os.Getenv("CI") != "":
		t.Fatalf("%s is missing; it is in Debian's %s, which scripts/setup installs", what, from)
	default:
		t.Skipf("%s is missing; it is in Debian's %s, which scripts/setup installs", what, from)
	}
}

// A word is one as an independent reader finds it on the page, with its box in mm from the top left.
type word struct {
	XMin float64 `xml:"xMin,attr"`
	YMin float64 `xml:"yMin,attr"`
	XMax float64 `xml:"xMax,attr"`
	YMax float64 `xml:"yMax,attr"`
	Text string  `xml:",chardata"`
}

type readPage struct {
	Width  float64 `xml:"width,attr"`
	Height float64 `xml:"height,attr"`
	Words  []word  `xml:"word"`
}

// read returns the words of the one page of a PDF, as poppler finds them.
func read(t *testing.T, pdf []byte) readPage {
	t.Helper()
	tool, err := exec.LookPath("pdftotext")
	need(t, err == nil, "pdftotext", "poppler-utils")
	path := filepath.Join(t.TempDir(), "letter.pdf")
	if err := os.WriteFile(path, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "-bbox", path, "-").Output() //nolint:gosec // as found
	if err != nil {
		t.Fatalf("pdftotext: %v", err)
	}
	var doc struct {
		Pages []readPage `xml:"body>doc>page"`
	}
	if err := xml.Unmarshal(out, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Pages) != 1 {
		t.Fatalf("%d pages, want 1", len(doc.Pages))
	}
	p := doc.Pages[0]
	p.Width, p.Height = p.Width*mmPerPoint, p.Height*mmPerPoint
	for i := range p.Words {
		w := &p.Words[i]
		w.XMin, w.XMax, w.YMin, w.YMax = w.XMin*mmPerPoint, w.XMax*mmPerPoint, w.YMin*mmPerPoint, w.YMax*mmPerPoint
	}
	return p
}

// text returns the words in reading order, one space apart.
func (p *readPage) text() string {
	var b strings.Builder
	for _, w := range p.Words {
		b.WriteString(w.Text + " ")
	}
	return b.String()
}

func solid(s string) string { return strings.Join(strings.Fields(s), "") }
