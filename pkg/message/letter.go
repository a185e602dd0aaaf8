package message

import (
	"fmt"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// A LetterInput is one code of a recovery on its way to a person by post.
type LetterInput struct {
	App      string        // the app's name for people; cut after MaxName characters
	Locale   string        // BCP 47, as the app or the user asked; may be empty or unknown
	Fallback string        // BCP 47, the app's default, used when Locale matches no catalog; English is the last resort
	Code     string        // otp.MinDigits to otp.MaxDigits ASCII digits
	Life     time.Duration // what is left of the code's life at Date
	Date     time.Time     // when the letter is written
}

// A Letter is what a letter says, in plain text: the parts that a page is laid out from, top to bottom. No part has a line break.
type Letter struct {
	Language   string // BCP 47, the language it is written in
	Date       string // the day it is written, in UTC
	Subject    string
	Salutation string
	Body       []string // a paragraph each; none has the code
	CodeLabel  string
	Code       string   // in groups of up to four digits, one space between them
	Closing    []string // a paragraph each, the last one the app's name
}

// Letter words a letter with a code. It tells the minute at which the code ends and not how long it lives: nobody knows for how many
// days it was under way. The error wraps [ErrInput] and holds no code.
func (c *Catalog) Letter(in LetterInput) (Letter, error) {
	l := c.locale(in.Locale, in.Fallback)
	var (
		v   values
		err error
	)
	if v[app], err = appName(in.App); err != nil {
		return Letter{}, err
	}
	switch {
	case !digits(in.Code):
		return Letter{}, fmt.Errorf("%w: the code is not %d to %d digits", ErrInput, otp.MinDigits, otp.MaxDigits)
	case in.Date.IsZero():
		return Letter{}, fmt.Errorf("%w: the letter has no date", ErrInput)
	case in.Life <= 0:
		return Letter{}, fmt.Errorf("%w: the code of the letter has expired", ErrInput)
	}
	v[until] = l.moment(in.Date.Add(in.Life))
	fill := func(id phraseID) string { return l.phrases[id].fill(&v) }
	return Letter{
		Language:   l.name,
		Date:       l.date(in.Date),
		Subject:    fill(letterSubject),
		Salutation: fill(letterSalutation),
		Body:       []string{fill(letterWhy), fill(letterHow)},
		CodeLabel:  fill(letterCodeLabel),
		Code:       group(in.Code),
		Closing:    []string{fill(letterUntil), fill(letterKeep), fill(letterNotYou), fill(letterRegards), v[app]},
	}, nil
}

// group sets digits in groups of at most four, as even as can be and the longer ones first: "1234 567 890".
func group(digits string) string {
	const most = 4
	var b strings.Builder
	for groups := (len(digits) + most - 1) / most; groups > 0; groups-- {
		n := (len(digits) + groups - 1) / groups
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(digits[:n])
		digits = digits[n:]
	}
	return b.String()
}
