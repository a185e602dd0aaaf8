package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// Errors of apps' own words and senders.
var (
	ErrNoTemplate = errors.New("the app has no words of its own there")
	ErrNoSender   = errors.New("the app has no sender of its own there")
)

// A Template is an app's own words for the codes of one purpose over one channel. What they may be is known to package message, which checks them before
// they come here and again before they are used.
type Template struct {
	App       string      `db:"app"` // the app's name; of Templates.All only
	Channel   otp.Channel `db:"channel"`
	Purpose   string      `db:"purpose"`
	Locale    string      `db:"locale"`  // BCP 47; empty for every language that has none of its own
	Subject   string      `db:"subject"` // of an email; empty for otpost's own
	Text      string      `db:"text"`
	HTML      string      `db:"html"` // of an email; empty for the text
	UpdatedAt time.Time   `db:"updated_at"`
}

// A Sender is what an app's messages to a country come from.
type Sender struct {
	Channel   otp.Channel `db:"channel"` // sms, voice or whatsapp
	Country   string      `db:"country"` // ISO 3166-1 alpha-2; empty for every country that has none of its own
	Sender    string      `db:"sender"`
	UpdatedAt time.Time   `db:"updated_at"`
}

var (
	senderNumber = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	senderShort  = regexp.MustCompile(`^[0-9]{3,8}$`)
	senderName   = regexp.MustCompile(`^[A-Za-z0-9_&+-]([A-Za-z0-9 _&+-]{0,9}[A-Za-z0-9_&+-])?$`)
)

// Check returns an error that names the first field that is wrong.
//
// A sender is a number in the form of E.164 (ITU-T); for SMS also a short code of 3 to 8 digits, or a name of up to 11 characters with a letter in it
// (3GPP TS 23.040, section 9.1.2.5: an alphanumeric address of ten octets), of the characters that networks pass on. Whether the network of a country
// takes it is not known here: in many of them names are registered first.
func (s Sender) Check() error {
	switch {
	case !s.Channel.Phone():
		return fmt.Errorf("channel: must be sms, voice or whatsapp, not %.40q", string(s.Channel))
	case s.Country != "" && !otp.ValidPhoneCountry(s.Country):
		return fmt.Errorf("country: must be the code of a country, such as CZ (ISO 3166-1 alpha-2), not %.40q", s.Country)
	case senderNumber.MatchString(s.Sender):
		return nil
	case s.Channel != otp.SMS:
		return fmt.Errorf("sender: must be a number such as +12025550123: calls and WhatsApp messages come from nothing else")
	case senderShort.MatchString(s.Sender):
		return nil
	case senderName.MatchString(s.Sender) && strings.ContainsFunc(s.Sender, letter):
		return nil
	}
	return errors.New("sender: must be a number such as +12025550123, a short code of 3 to 8 digits, or a name of up to 11 letters, digits, spaces, " +
		"_, &, + and - with a letter in it")
}

func letter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// Senders are the senders of all apps.
type Senders map[senderPlace]string

type senderPlace struct {
	app     string
	channel otp.Channel
	country string
}

// Of returns what an app's messages to a country come from: its sender there, or else that for every country; empty where the provider is to choose.
func (s Senders) Of(app string, channel otp.Channel, country string) string {
	if sender, ok := s[senderPlace{app, channel, country}]; ok {
		return sender
	}
	return s[senderPlace{app, channel, ""}]
}

// Templates is the store of apps' own words and senders. Channels' workers may read the words, those who order deliveries the senders; the operator's
// role may write.
type Templates struct{ db *DB }

// NewTemplates returns the store.
func NewTemplates(db *DB) *Templates { return &Templates{db} }

// Set writes words, over those that are there.
func (s *Templates) Set(ctx context.Context, now time.Time, app int, t Template) error {
	_, err := s.db.x.ExecContext(ctx, query("template_set"), app, t.Channel, t.Purpose, t.Locale, t.Subject, t.Text, t.HTML, now)
	if err != nil {
		return fmt.Errorf("set template: %w", err)
	}
	return nil
}

// Remove takes words away, or returns ErrNoTemplate.
func (s *Templates) Remove(ctx context.Context, app int, channel otp.Channel, purpose, locale string) error {
	res, err := s.db.x.ExecContext(ctx, query("template_remove"), app, channel, purpose, locale)
	if err != nil {
		return fmt.Errorf("remove template: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoTemplate
	}
	return nil
}

// List returns the words of one app.
func (s *Templates) List(ctx context.Context, app int) ([]Template, error) {
	var list []Template
	if err := s.db.x.SelectContext(ctx, &list, query("template_list"), app); err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	return list, nil
}

// All returns the words of all apps, each with the app's name, in an order of their own.
func (s *Templates) All(ctx context.Context) ([]Template, error) {
	var list []Template
	if err := s.db.x.SelectContext(ctx, &list, query("template_all")); err != nil {
		return nil, fmt.Errorf("list the templates of all apps: %w", err)
	}
	return list, nil
}

// SetSender writes a sender, over the one that is there.
func (s *Templates) SetSender(ctx context.Context, now time.Time, app int, sender Sender) error {
	if err := sender.Check(); err != nil {
		return err
	}
	if _, err := s.db.x.ExecContext(ctx, query("sender_set"), app, sender.Channel, sender.Country, sender.Sender, now); err != nil {
		return fmt.Errorf("set sender: %w", err)
	}
	return nil
}

// RemoveSender takes a sender away, or returns ErrNoSender.
func (s *Templates) RemoveSender(ctx context.Context, app int, channel otp.Channel, country string) error {
	res, err := s.db.x.ExecContext(ctx, query("sender_remove"), app, channel, country)
	if err != nil {
		return fmt.Errorf("remove sender: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoSender
	}
	return nil
}

// ListSenders returns the senders of one app.
func (s *Templates) ListSenders(ctx context.Context, app int) ([]Sender, error) {
	var list []Sender
	if err := s.db.x.SelectContext(ctx, &list, query("sender_list"), app); err != nil {
		return nil, fmt.Errorf("list senders: %w", err)
	}
	return list, nil
}

// Senders returns the senders of all apps.
func (s *Templates) Senders(ctx context.Context) (Senders, error) {
	var rows []struct {
		App     string      `db:"app"`
		Channel otp.Channel `db:"channel"`
		Country string      `db:"country"`
		Sender  string      `db:"sender"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("sender_all")); err != nil {
		return nil, fmt.Errorf("list the senders of all apps: %w", err)
	}
	all := make(Senders, len(rows))
	for _, r := range rows {
		all[senderPlace{r.App, r.Channel, r.Country}] = r.Sender
	}
	return all, nil
}
