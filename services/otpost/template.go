package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type templateCmd struct {
	Set    templateSetCmd    `cmd:"" help:"Set an app's own words for one kind of message."`
	List   templateListCmd   `cmd:"" help:"List what an app has its own words for."`
	Show   templateShowCmd   `cmd:"" help:"Show an app's own words."`
	Remove templateRemoveCmd `cmd:"" help:"Go back to otpost's own words."`
	Try    templateTryCmd    `cmd:"" help:"Show a message with a sample code, and what an SMS of it takes. Nothing is sent or set."`
}

// Help tells what words may hold.
func (templateCmd) Help() string {
	return `In an app's own words {{code}}, {{app}} and {{expires}} stand for values; {{expires}} is a whole sentence in the reader's language. A
transaction has {{amount}} and {{payee}} too, and must show both. Words that an app has for one language are used for it, those without a language
for all others. Notices have no words but otpost's own. Links, and HTML that loads or leads anywhere, are refused.`
}

// templateFlags name one kind of message of an app.
type templateFlags struct {
	appFlags
	Channel string `required:"" enum:"sms,voice,whatsapp,email" help:"Channel: sms, voice, whatsapp or email."`
	Purpose string `default:"login" help:"What the code is for: login, transaction, add_factor, recovery or reset_address."`
	Locale  string `help:"Language, such as de; every language that has no words of its own where it is not given."`
}

// wordsFlags are words.
type wordsFlags struct {
	Text     string `help:"The words; of an email its text."`
	TextFile string `type:"path" placeholder:"FILE" help:"File with the words, in place of --text."`
	Subject  string `help:"Subject of an email; otpost's own where it is not given."`
	HTMLFile string `name:"html-file" type:"path" placeholder:"FILE" help:"File with what an email shows as HTML, without head and body; the text in paragraphs where it is not given."`
}

// maxWordsFile is more than any words may have, in bytes.
const maxWordsFile = 1 << 20

// template reads the words.
func (f wordsFlags) template(place templateFlags) (message.Template, error) {
	t := message.Template{Channel: otp.Channel(place.Channel), Purpose: place.Purpose, Locale: place.Locale, Subject: f.Subject, Text: f.Text}
	if f.TextFile != "" {
		if f.Text != "" {
			return t, errors.New("--text-file: give no --text beside it")
		}
		text, err := readWords(f.TextFile)
		if err != nil {
			return t, fmt.Errorf("--text-file: %w", err)
		}
		t.Text = text
		if t.Channel != otp.Email { // an editor ends every file with a line break
			t.Text = strings.TrimRight(text, "\r\n")
		}
	}
	if f.HTMLFile != "" {
		html, err := readWords(f.HTMLFile)
		if err != nil {
			return t, fmt.Errorf("--html-file: %w", err)
		}
		t.HTML = html
	}
	return t, nil
}

// byFlag names the flag that the words came by in an error about them.
func (f wordsFlags) byFlag(err error) error {
	part, rest, _ := strings.Cut(err.Error(), ":")
	switch {
	case part == "html", part == "text" && f.TextFile != "":
		part += "-file"
	}
	return fmt.Errorf("--%s:%s", part, rest)
}

func readWords(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxWordsFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxWordsFile || !utf8.Valid(b) {
		return "", errors.New("must be a text in UTF-8, of no more than 65536 characters")
	}
	return string(b), nil
}

// template returns words that are stored as those that can be used.
func template(t postgres.Template) message.Template {
	return message.Template{Channel: t.Channel, Purpose: t.Purpose, Locale: t.Locale, Subject: t.Subject, Text: t.Text, HTML: t.HTML}
}

// limits is what is known of an app when its words are checked.
func limits(a postgres.App) message.Limits {
	l := message.Limits{App: a.DisplayName, Digits: a.Policy.Digits}
	if !a.Policy.Delivery.Style.NoWebOTP {
		l.Origin = a.Origin
	}
	return l
}

type templateSetCmd struct {
	templateFlags
	wordsFlags
}

// Run checks words and sets them.
func (c *templateSetCmd) Run(r *run) error {
	t, err := c.template(c.templateFlags)
	if err != nil {
		return err
	}
	catalog, err := message.New()
	if err != nil {
		return err
	}
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		if err := catalog.Check(t, limits(a)); err != nil {
			return c.byFlag(err)
		}
		row := postgres.Template{Channel: t.Channel, Purpose: t.Purpose, Locale: t.Locale, Subject: t.Subject, Text: t.Text, HTML: t.HTML}
		if err := postgres.NewTemplates(db).Set(r.ctx, time.Now(), a.ID, row); err != nil {
			return err
		}
		if err := catalog.SetOverrides(map[string][]message.Template{a.Name: {t}}); err != nil {
			return err
		}
		if err := showSample(r.stdout, catalog, t.Channel, sampleOf(a, c.templateFlags)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(r.stdout, "\nset; within three seconds every worker uses it")
		return err
	})
}

type templateListCmd struct{ appFlags }

// Run lists words.
func (c *templateListCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		list, err := postgres.NewTemplates(db).List(r.ctx, a.ID)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CHANNEL\tPURPOSE\tLOCALE\tSET\tTEXT")
		for _, t := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Channel, t.Purpose, dash(t.Locale), moment(t.UpdatedAt), begin(t.Text))
		}
		return w.Flush()
	})
}

// begin returns the beginning of a text, in one line.
func begin(s string) string {
	const most = 60
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return s
}

// stored finds words that are set, or returns postgres.ErrNoTemplate.
func (f templateFlags) stored(r *run, db *postgres.DB, a postgres.App) (message.Template, error) {
	list, err := postgres.NewTemplates(db).List(r.ctx, a.ID)
	if err != nil {
		return message.Template{}, err
	}
	for _, t := range list {
		if string(t.Channel) == f.Channel && t.Purpose == f.Purpose && t.Locale == f.Locale {
			return template(t), nil
		}
	}
	return message.Template{}, postgres.ErrNoTemplate
}

type templateShowCmd struct{ templateFlags }

// Run shows words as they were set.
func (c *templateShowCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		t, err := c.stored(r, db, a)
		if err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		return showMessage(r.stdout, t.Subject, t.Text, t.HTML)
	})
}

// showMessage prints the parts of a message that there are.
func showMessage(w io.Writer, subject, text, html string) error {
	if subject != "" {
		fmt.Fprintf(w, "Subject: %s\n\n", subject)
	}
	_, err := fmt.Fprintln(w, strings.TrimRight(text, "\n"))
	if html != "" {
		_, err = fmt.Fprintf(w, "\n--- HTML\n%s\n", strings.TrimRight(html, "\n"))
	}
	return err
}

type templateRemoveCmd struct{ templateFlags }

// Run takes words away.
func (c *templateRemoveCmd) Run(r *run) error {
	return c.withApp(r, func(db *postgres.DB, a postgres.App) error {
		if err := postgres.NewTemplates(db).Remove(r.ctx, a.ID, otp.Channel(c.Channel), c.Purpose, c.Locale); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		_, err := fmt.Fprintf(r.stdout, "removed; app %s uses otpost's own words there\n", a.Name)
		return err
	})
}
