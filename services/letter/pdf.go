package letter

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/text/unicode/norm"
)

// A Size is a size of paper.
type Size string

// The sizes.
const (
	A4       Size = "A4"     // 210 × 297 mm (ISO 216); its address field suits a DL envelope with a window (DIN 5008 form B, DIN 680)
	USLetter Size = "Letter" // 8.5 × 11 in; its address block suits a #10 envelope with the usual window
)

// SizeFor returns the paper that is used in a country (ISO 3166-1 alpha-2), and with it the envelope that goes around it.
func SizeFor(country string) Size {
	switch country {
	case "US", "CA", "AS", "GU", "MP", "PR", "VI":
		return USLetter
	}
	return A4
}

// A Page is all that one letter says. Every text is one line or paragraph without line breaks.
type Page struct {
	Size       Size
	Issued     time.Time // the document's date in its metadata, which Date tells people; the same for a letter made again
	Sender     string    // one line: who sends it and where it goes back to
	Address    []string  // 1 to 6 lines
	Date       string
	Subject    string
	Salutation string
	Body       []string // paragraphs
	CodeLabel  string
	Code       string // grouped for reading
	Closing    []string
	Language   string // BCP 47
}

// ErrTooLong is the error of a page whose texts do not fit on it.
var ErrTooLong = errors.New("letter: the text does not fit on one page")

// Render lays p out as a PDF of one page. The same page and fonts give the same octets, so that a letter made again is the same letter: no ids, no
// clock. Nothing but the language, the subject and the date stands in the metadata.
//
// Its errors are a *MissingError, ErrTooLong, and what is wrong with p.
func (f *Fonts) Render(p Page) ([]byte, error) {
	form, known := forms[p.Size]
	if !known {
		return nil, fmt.Errorf("letter: the paper size %q is unknown", p.Size)
	}
	p = p.normal()
	switch {
	case len(p.Address) == 0 || len(p.Address) > maxAddressLines:
		return nil, fmt.Errorf("letter: the address must have 1 to %d lines", maxAddressLines)
	case p.Code == "" || p.Issued.IsZero():
		return nil, errors.New("letter: a page needs a code and its date")
	}
	if err := f.Check(p.texts()...); err != nil {
		return nil, err
	}
	s := newSheet(f, form, p)
	s.marks()
	s.sender()
	if err := s.address(); err != nil {
		return nil, err
	}
	if err := s.letter(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := s.pdf.Output(&out); err != nil {
		return nil, fmt.Errorf("letter: writing the PDF: %w", err)
	}
	return out.Bytes(), nil
}

// normal composes letters with their accents: the fonts are asked for one glyph a character.
func (p Page) normal() Page {
	nfc := func(texts []string) []string {
		texts = slices.Clone(texts)
		for i, t := range texts {
			texts[i] = norm.NFC.String(t)
		}
		return texts
	}
	p.Address, p.Body, p.Closing = nfc(p.Address), nfc(p.Body), nfc(p.Closing)
	for _, t := range []*string{&p.Sender, &p.Date, &p.Subject, &p.Salutation, &p.CodeLabel, &p.Code} {
		*t = norm.NFC.String(*t)
	}
	return p
}

func (p *Page) texts() []string {
	return slices.Concat(p.Address, p.Body, p.Closing, []string{p.Sender, p.Date, p.Subject, p.Salutation, p.CodeLabel, p.Code})
}

// A sheet is a page being laid out.
type sheet struct {
	form
	page   Page
	fonts  *Fonts
	pdf    *fpdf.Fpdf
	buffer sfnt.Buffer
	prefer int // the face that the letter's language is written in
}

func newSheet(f *Fonts, form form, p Page) *sheet {
	pdf := fpdf.New("P", "mm", string(p.Size), "")
	pdf.SetMargins(0, 0, 0)
	pdf.SetAutoPageBreak(false, 0)
	pdf.SetCatalogSort(true)
	at := p.Issued.UTC()
	pdf.SetCreationDate(at)
	pdf.SetModificationDate(at)
	pdf.SetProducer("otpost", true)
	pdf.SetTitle(p.Subject, true)
	pdf.SetLang(languageTag(p.Language))
	pdf.AddPage()
	s := &sheet{form: form, page: p, fonts: f, pdf: pdf}
	if base, _, _ := strings.Cut(p.Language, "-"); base == "ja" && f.Japanese() {
		s.prefer = 1
	}
	return s
}

// languageTag returns tag if it is of the characters of one (RFC 5646, section 2.1), since it is written as it is.
func languageTag(tag string) string {
	for i := range len(tag) {
		if c := tag[i]; c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return ""
		}
	}
	return tag
}

const pointMM = 25.4 / 72

// A style is a weight ("" or "B") and a size in points.
type style struct {
	weight string
	points float64
}

// pitch is the distance of lines in mm.
func (st style) pitch() float64 { return st.points * 1.38 * pointMM }

// use makes a face the current one. A face comes into the document, which costs reading it, when it is first used.
func (s *sheet) use(k int, st style) (outlined bool) {
	f := &s.fonts.faces[k]
	weight, font := st.weight, f.regular
	if weight == "B" {
		if font = f.bold; font == nil {
			weight, font, outlined = "", f.regular, true
		}
	}
	s.pdf.AddUTF8FontFromBytes(f.family, weight, font)
	s.pdf.SetFont(f.family, weight, st.points)
	return outlined
}

func (s *sheet) width(st style) func(string) float64 {
	return func(text string) float64 {
		w := 0.0
		for _, r := range s.fonts.runs(&s.buffer, text, s.prefer) {
			s.use(r.face, st)
			w += s.pdf.GetStringWidth(r.text)
		}
		return w
	}
}

// put prints text with its left end and its baseline at x and y, in mm from the top left.
func (s *sheet) put(x, y float64, st style, text string) {
	for _, r := range s.fonts.runs(&s.buffer, text, s.prefer) {
		outlined := s.use(r.face, st)
		if outlined {
			s.pdf.SetLineWidth(st.points * pointMM / 28)
			s.pdf.SetTextRenderingMode(2)
		}
		s.pdf.Text(x, y, r.text)
		if outlined {
			s.pdf.SetTextRenderingMode(0)
		}
		x += s.pdf.GetStringWidth(r.text)
	}
}

// fitting returns the largest size, from most down to least points in half points, in which text is at most limit wide, and whether there is one.
func (s *sheet) fitting(text string, weight string, most, least, limit float64) (style, bool) {
	for points := most; points >= least; points -= 0.5 {
		if st := (style{weight, points}); s.width(st)(text) <= limit {
			return st, true
		}
	}
	return style{weight, least}, false
}

// cut shortens text to limit with an ellipsis. It is for the sender's line only: what else does not fit is an error.
func (s *sheet) cut(text string, st style, limit float64) string {
	width := s.width(st)
	if width(text) <= limit {
		return text
	}
	for text != "" && width(text+"…") > limit {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	return strings.TrimRight(text, " ,·") + "…"
}
