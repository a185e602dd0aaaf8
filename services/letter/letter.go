// Package letter is the worker that has codes printed and posted: it writes a letter for a window envelope as a PDF, and hands that to a spool folder
// of the operator's or to a print service. A provider is one file of this package; what the worker promises stands in package delivery.
//
// A letter that is made again, because a process died or an answer was lost, is the same to the octet: its date is that of its delivery's id, and
// nothing on it comes from a clock or from chance.
package letter

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/text/language"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

// Options say who sends the letters and what they are printed in.
type Options struct {
	Sender        string // one line: name and full postal address of who sends and takes back, such as "Shop Inc. · 1 Market St · San Francisco CA 94105"
	SenderCountry string // ISO 3166-1 alpha-2; letters within it do not name it; "" for none
	JapaneseFont  string // a TrueType file, see [LoadFonts]; "" to write Japanese letters in English
}

// maxSender bounds the sender in characters; what is wider than its line is cut there.
const maxSender = 160

// New returns the worker of the channel letter. Channel, Providers, Render and Complete of cfg are set here. Its error names the option at fault.
func New(cfg delivery.Config, p delivery.Provider, opts Options) (*delivery.Worker, error) {
	if words := otp.CheckText(opts.Sender, maxSender); words != "" {
		return nil, fmt.Errorf("letter: the sender %s", words)
	}
	if opts.SenderCountry != "" && !otp.ValidCountry(opts.SenderCountry) {
		return nil, fmt.Errorf("letter: the sender's country %q is not a code of two letters (ISO 3166-1)", opts.SenderCountry)
	}
	fonts, err := LoadFonts(opts.JapaneseFont)
	if err != nil {
		return nil, err
	}
	if err := fonts.Check(opts.Sender); err != nil {
		return nil, fmt.Errorf("letter: the sender cannot be printed: %w", err)
	}
	catalog, err := message.New()
	if err != nil {
		return nil, fmt.Errorf("letter: %w", err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	w := &writer{opts: opts, fonts: fonts, catalog: catalog, log: log}
	cfg.Channel, cfg.Providers = otp.Letter, []delivery.Provider{p}
	cfg.Render = func(message.Input) (delivery.Message, error) { return delivery.Message{}, nil }
	cfg.Complete = w.complete
	return delivery.NewWorker(cfg)
}

// A writer makes letters of codes.
type writer struct {
	opts    Options
	fonts   *Fonts
	catalog *message.Catalog
	log     *slog.Logger
	noFont  sync.Once
}

// complete writes the letter of m, whose To is an otp.Address as JSON, into m.Document.
func (w *writer) complete(in message.Input, m *delivery.Message) error {
	if in.Purpose != message.Recovery {
		return fmt.Errorf("no letter is written for the purpose %.40q", string(in.Purpose))
	}
	address, err := otp.ParseAddress([]byte(m.To))
	if err != nil {
		return fmt.Errorf("read address: %w", err)
	}
	issued, err := issuedAt(m.Reference)
	if err != nil {
		return err
	}
	input := message.LetterInput{
		App: in.App, Code: in.Code, Locale: in.Locale, Fallback: in.Fallback, Life: m.ExpiresAt.Sub(issued), Date: issued,
	}
	text, err := w.catalog.Letter(input)
	if err != nil {
		return fmt.Errorf("word letter: %w", err)
	}
	if isJapanese(text.Language) && !w.fonts.Japanese() {
		w.noFont.Do(func() {
			w.log.Warn("letters that should be in Japanese are written in English: no Japanese font is configured")
		})
		input.Locale, input.Fallback = "en", "en"
		if text, err = w.catalog.Letter(input); err != nil {
			return fmt.Errorf("word letter: %w", err)
		}
	}
	m.Locale = text.Language
	m.Document, err = w.fonts.Render(Page{
		Size: SizeFor(address.Country), Issued: issued, Sender: w.opts.Sender, Address: address.Lines(w.opts.SenderCountry),
		Date: text.Date, Subject: text.Subject, Salutation: text.Salutation, Body: text.Body,
		CodeLabel: text.CodeLabel, Code: text.Code, Closing: text.Closing, Language: text.Language,
	})
	if err != nil {
		return fmt.Errorf("lay out letter: %w", err)
	}
	return nil
}

func isJapanese(tag string) bool {
	t, err := language.Parse(tag)
	if err != nil {
		return false
	}
	base, _ := t.Base()
	return base.String() == "ja"
}

// issuedAt returns the time in a delivery's reference, "<message id>-<number>", to the second.
func issuedAt(reference string) (time.Time, error) {
	i := strings.LastIndexByte(reference, '-')
	id, err := uuid.Parse(reference[:max(i, 0)])
	if err != nil || id.Version() != 7 {
		return time.Time{}, errors.New("the delivery's reference has no time in it")
	}
	return otp.IDTime(id).UTC().Truncate(time.Second), nil
}
