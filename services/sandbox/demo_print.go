package sandbox

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Widths in characters; a line fits a terminal of 80.
const (
	stepWidth = 26
	noteWidth = 29
	timeWidth = 10
	lineWidth = 2 + stepWidth + 1 + noteWidth + 2*timeWidth
)

// ANSI styles (ECMA-48, section 8.3.117).
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// A printer writes timelines. The first error of w ends the output and is kept.
type printer struct {
	w     io.Writer
	color bool
	err   error

	began, last time.Time
}

func (p *printer) style(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *printer) line(text string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, strings.TrimRight(text, " "))
	}
}

func (p *printer) title(text string) {
	p.line("")
	p.line(" " + p.style(bold, "otpost") + "  " + text)
}

// heading opens a timeline.
func (p *printer) heading(title, about string) {
	left := fit(title+"  "+about, lineWidth-2*timeWidth-1)
	p.line("")
	p.line(" " + p.style(bold, title) + p.style(dim, strings.TrimPrefix(left, title)+fmt.Sprintf("%*s%*s", timeWidth, "total", timeWidth, "step")))
	p.line(" " + p.style(dim, strings.Repeat("─", lineWidth-1)))
}

// begin sets the instant from which a timeline counts.
func (p *printer) begin(at time.Time) { p.began, p.last = at, at }

// step writes a step that succeeded: how long after the beginning, and how long after the step before it. Steps are shown in the order of the
// story; one that overtook the step before it is shown with that.
func (p *printer) step(name, note string, at time.Time) {
	if at.Before(p.last) {
		at = p.last
	}
	took := at.Sub(p.last)
	p.last = at
	p.line(fmt.Sprintf(" %s %s %s%*s%s", p.style(green, "✓"), fit(name, stepWidth-1), p.style(dim, fit(note, noteWidth)),
		timeWidth, milliseconds(at.Sub(p.began)), p.style(dim, fmt.Sprintf("%*s", timeWidth, milliseconds(took)))))
}

// failure writes a step that failed.
func (p *printer) failure(name, what string) {
	p.line(fmt.Sprintf(" %s %s %s", p.style(red, "✗"), fit(name, stepWidth-1), p.style(bold, what)))
}

// detail writes a line below a failure.
func (p *printer) detail(name, text string) {
	p.line(fmt.Sprintf("   %s %s", p.style(dim, fit(name, stepWidth-1)), text))
}

// end writes the last line.
func (p *printer) end(text string) {
	p.line("")
	p.line(" " + p.style(green, "✓") + " " + p.style(bold, text))
	p.line("")
}

// fit pads text to a width, or cuts it with an ellipsis.
func fit(text string, width int) string {
	if r := []rune(text); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return fmt.Sprintf("%-*s", width, text)
}

// milliseconds writes a duration as the timelines do: "12.3 ms".
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
