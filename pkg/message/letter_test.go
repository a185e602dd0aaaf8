package message

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func letter(locale string) LetterInput {
	return LetterInput{App: "Shop", Locale: locale, Code: "0123456789", Life: 21 * 24 * time.Hour, Date: happened}
}

func TestLetterSaysTheCodeOnce(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		l, err := c.Letter(letter(tag))
		if err != nil {
			t.Fatal(err)
		}
		if l.Language != tag || l.Code != "0123 456 789" {
			t.Errorf("%s: %+v", tag, l)
		}
		parts := slices.Concat([]string{l.Date, l.Subject, l.Salutation, l.CodeLabel}, l.Body, l.Closing)
		for _, p := range parts {
			if p == "" || strings.ContainsAny(p, "\n@") || regexp.MustCompile(`0123|456|789`).MatchString(p) {
				t.Errorf("%s: part %q", tag, p)
			}
		}
		// 21 days from the 3rd, in the minute it lies in
		if all := strings.Join(parts, " "); !strings.Contains(all, "24") || !strings.Contains(all, "14:05") || !strings.Contains(all, "UTC") {
			t.Errorf("%s: the end of the code is not told in %q", tag, all)
		}
		if got := l.Closing[len(l.Closing)-1]; got != "Shop" {
			t.Errorf("%s: signed %q", tag, got)
		}
	}
}

func TestHostileAppsStayInTheirPlaceInALetter(t *testing.T) {
	c := newCatalog(t)
	for _, s := range hostile {
		in := letter("en")
		in.App = s
		l, err := c.Letter(in)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		for _, p := range slices.Concat([]string{l.Subject}, l.Body, l.Closing) {
			checkLine(t, Input{App: s, Locale: "en"}, p)
		}
	}
}

func TestUnusableLettersAreRefused(t *testing.T) {
	c := newCatalog(t)
	for name, change := range map[string]func(*LetterInput){
		"no code":      func(in *LetterInput) { in.Code = "" },
		"grouped code": func(in *LetterInput) { in.Code = "987 654" },
		"long code":    func(in *LetterInput) { in.Code = "98765432109" },
		"no app":       func(in *LetterInput) { in.App = " " },
		"no date":      func(in *LetterInput) { in.Date = time.Time{} },
		"expired":      func(in *LetterInput) { in.Life = 0 },
	} {
		in := letter("en")
		change(&in)
		if _, err := c.Letter(in); !errors.Is(err, ErrInput) || strings.Contains(err.Error(), "987") {
			t.Errorf("%s: error %v, want ErrInput that tells no code", name, err)
		}
	}
}

func TestCodesAreGroupedForReading(t *testing.T) {
	for in, want := range map[string]string{
		"1234": "1234", "12345": "123 45", "123456": "123 456", "1234567": "1234 567", "12345678": "1234 5678",
		"123456789": "123 456 789", "1234567890": "1234 567 890",
	} {
		if got := group(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
