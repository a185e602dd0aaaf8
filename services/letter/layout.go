package letter

import "github.com/otpost/otpost/pkg/otp"

// This file says where on the paper things stand. All measures are in mm from the top left corner.

const maxAddressLines = otp.MaxAddressLines

// A form is the layout for one paper and its envelope. What an envelope's window may show, with the letter slipped as far as it goes, holds the
// address and, on A4, the sender's line, and nothing else: no date and no code.
type form struct {
	width, height float64
	left, right   float64 // margins of the text
	bottom        float64 // margin; the footer stands in it

	addressX, addressWidth float64
	addressTop, addressEnd float64 // of the zone that the window shows wherever the letter has slipped to
	centred                bool    // the address stands in the middle of its zone, and may grow beyond it both ways; else it stands at the top

	senderY     float64 // baseline of the sender's line
	senderWidth float64
	dateX       float64 // left end of the date; 0 for flush right
	dateY       float64
	text        float64    // the top of the subject
	folds       [2]float64 // marks at the left edge where the paper is folded
}

var forms = map[Size]form{
	// DIN 5008:2020 form B: the address field is 85 × 45 mm, 20 mm from the left and 45 mm from the top, its text 5 mm further in; 17.7 mm of it are for the
	// sender's line and postal notes, 27.3 mm for six lines of address. The information block begins at 125 mm, the text below 98.46 mm.
	// A DL window (DIN 680: 90 × 45 mm, 20 mm from the left, 15 mm from the bottom) shows 10–110 mm by 45–95 mm in all positions of the letter.
	A4: {
		width: 210, height: 297, left: 25, right: 20, bottom: 20,
		addressX: 25, addressWidth: 78, addressTop: 62.7, addressEnd: 90,
		senderY: 58.8, senderWidth: 78, dateX: 125, dateY: 53, text: 101, folds: [2]float64{105, 210},
	},
	// A #10 envelope is 9.5 × 4.125 in; its usual window 4.5 × 1.125 in, 0.875 in from the left and 0.5 in from the bottom. A letter folded in three has
	// 8.5 × 3.667 in, so that it may slip by 1 in and 0.458 in: the window shows 22.2–111.1 mm by 63.5–80.4 mm always, and 51.9–92.1 mm at times, up to 136.5 mm
	// from the left. The sender stands above the window: the envelope has the place for it at its own left top.
	USLetter: {
		width: 215.9, height: 279.4, left: 25.4, right: 25.4, bottom: 19,
		addressX: 25.4, addressWidth: 84, addressTop: 63.5, addressEnd: 80.4, centred: true,
		senderY: 22, senderWidth: 165, dateX: 0, dateY: 40, text: 101, folds: [2]float64{93.1, 186.3},
	},
}

var (
	senderStyle = style{"", 7}
	dateStyle   = style{"", 10}
	footerStyle = style{"", 7.5}
)

const (
	mostAddress  = 10.5 // points
	leastAddress = 8    // points; USPS Publication 28, section 213, asks for no less
	maxPitch     = 4.4  // of address lines
)

func (s *sheet) marks() {
	s.pdf.SetDrawColor(130, 130, 130)
	s.pdf.SetLineWidth(0.1)
	for _, y := range s.folds {
		s.pdf.Line(4, y, 8, y)
	}
	s.pdf.SetDrawColor(0, 0, 0)
}

func (s *sheet) sender() {
	line := s.cut(s.page.Sender, senderStyle, s.senderWidth)
	if line == "" {
		return
	}
	s.put(s.addressX, s.senderY, senderStyle, line)
	s.pdf.SetLineWidth(0.1)
	s.pdf.Line(s.addressX, s.senderY+1.2, s.addressX+s.width(senderStyle)(line), s.senderY+1.2)
}

// address prints the address in the largest size in which every line fits; only where none is small enough are lines broken.
func (s *sheet) address() error {
	lines, st := s.page.Address, style{points: mostAddress}
	for _, line := range lines {
		fit, ok := s.fitting(line, "", st.points, leastAddress, s.addressWidth)
		st = fit
		if !ok {
			lines = nil
			break
		}
	}
	if lines == nil {
		st = style{points: leastAddress}
		for _, line := range s.page.Address {
			lines = append(lines, breakLines(line, s.addressWidth, s.width(st))...)
		}
		if len(lines) > maxAddressLines {
			return ErrTooLong
		}
	}
	pitch := maxPitch
	top := s.addressTop
	if s.centred {
		pitch = min(pitch, (s.addressEnd-s.addressTop)/4) // four lines, as most US addresses have, fill what is always seen
		top = (s.addressTop+s.addressEnd)/2 - pitch*float64(len(lines))/2
	}
	for i, line := range lines {
		s.put(s.addressX, top+pitch*float64(i)+pitch*0.78, st, line)
	}
	return nil
}

// letter prints what stands below the address field, in the largest size in which all of it fits.
func (s *sheet) letter() error {
	x := s.dateX
	if x == 0 {
		x = s.form.width - s.right - s.width(dateStyle)(s.page.Date)
	}
	s.put(x, s.dateY, dateStyle, s.page.Date)
	s.footer()
	for points := 11.0; points >= 9; points -= 0.5 {
		if s.text+s.flow(points, false) <= s.height-s.bottom {
			s.flow(points, true)
			return nil
		}
	}
	return ErrTooLong
}

func (s *sheet) footer() {
	y := s.height - s.bottom + 7
	s.pdf.SetDrawColor(130, 130, 130)
	s.pdf.SetLineWidth(0.1)
	s.pdf.Line(s.left, y-4.5, s.form.width-s.right, y-4.5)
	s.pdf.SetDrawColor(0, 0, 0)
	s.put(s.left, y, footerStyle, s.cut(s.page.Sender, footerStyle, s.form.width-s.left-s.right))
}

// flow lays out subject, salutation, body, code and closing from top to bottom, and prints them if asked to. It returns their height.
func (s *sheet) flow(points float64, draw bool) float64 {
	y := s.text
	measure := s.form.width - s.left - s.right
	paragraph := func(st style, text string, after float64) {
		if text == "" {
			return
		}
		for _, line := range breakLines(text, measure, s.width(st)) {
			if draw {
				s.put(s.left, y+st.points*pointMM, st, line)
			}
			y += st.pitch()
		}
		y += after
	}
	body, bold := style{"", points}, style{"B", points + 1}
	gap := body.pitch() * 0.6
	paragraph(bold, s.page.Subject, body.pitch())
	paragraph(body, s.page.Salutation, gap)
	for _, text := range s.page.Body {
		paragraph(body, text, gap)
	}
	y += gap / 2
	y += s.code(y, draw) + gap*1.5
	for _, text := range s.page.Closing {
		paragraph(body, text, gap)
	}
	return y - gap - s.text
}

// code prints the box of the code with its top at y, and returns its height.
func (s *sheet) code(y float64, draw bool) float64 {
	const padding, most, least = 5.0, 26.0, 14.0
	measure := s.form.width - s.left - s.right
	written := s.prefer
	label, _ := s.fitting(s.page.CodeLabel, "", 9.5, 7, measure-2*padding)
	s.prefer = 0 // digits of the program's own font in every language: its bold is a drawn one
	defer func() { s.prefer = written }()
	digits, _ := s.fitting(s.page.Code, "B", most, least, measure-2*padding)
	height := 2*padding + digits.points*pointMM
	if s.page.CodeLabel != "" {
		height += label.pitch()
	}
	if !draw {
		return height
	}
	s.pdf.SetLineWidth(0.4)
	s.pdf.Rect(s.left, y, measure, height, "D")
	centre := func(st style, text string) float64 { return s.left + (measure-s.width(st)(text))/2 }
	s.put(centre(digits, s.page.Code), y+height-padding-digits.points*pointMM*0.14, digits, s.page.Code)
	if s.prefer = written; s.page.CodeLabel != "" {
		s.put(centre(label, s.page.CodeLabel), y+padding+label.points*pointMM*0.7, label, s.page.CodeLabel)
	}
	return height
}
