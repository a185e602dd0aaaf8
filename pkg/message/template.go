package message

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/otp"
)

// A Template is an app's own words for the codes of one purpose over one channel. A name in double braces stands for a value: {{code}}, {{app}} and
// {{expires}} (a sentence of otpost's own in the reader's language, such as "It expires in 5 minutes."), of a transaction {{amount}} and {{payee}} too.
// There is nothing else: no conditions, no loops.
type Template struct {
	Channel otp.Channel // sms, voice, whatsapp or email
	Purpose string      // one of TemplatePurposes
	Locale  string      // one of Locales; empty for every language that has none of its own
	Subject string      // of an email; empty for otpost's own
	Text    string      // of an email its text/plain part
	HTML    string      // of an email what its HTML part shows, without head and body; empty for the text in paragraphs
}

// TemplatePurposes returns what an app may have its own words for. A code that approves a transaction has a purpose of its own here.
func TemplatePurposes() []string {
	return []string{"login", "transaction", "add_factor", "recovery", "reset_address"}
}

// Limits is what is known of an app when its words are checked: the length of a message depends on it.
type Limits struct {
	App    string // the app's name for people; empty for one of MaxName characters
	Origin string // the app's web origin, or empty; its host is the one that may be named
	Digits int    // of a code; 0 for the most
}

// Bounds of templates, in characters.
const (
	maxTemplateText    = 4000
	maxTemplateHTML    = 64 << 10
	maxTemplateSubject = 200
	maxSubject         = 150 // filled in; mail programs show less
	maxWhatsApp        = 1024
	maxVoice           = 600 // some 40 seconds, twice
	maxSegments        = 4
)

var variables = map[string]field{"code": code, "app": app, "expires": expires, "amount": amount, "payee": payee}

// Check says why an app may not have these words; nil if it may. The error begins with the field that is at fault: channel, purpose, locale, subject,
// text or html.
//
// What it holds an app to is what otpost's own words keep to: the code is there, whole and once; what a code approves is shown whole, and never alone on a
// line; no link, name of a host or phone number stands where there is a code, so that no user learns to follow or call one (but the host of the app's own
// origin, by itself); no value can become a part of one; nothing looks like the line that browsers fill the code in from; an SMS takes at most
// four segments when every value is as long as it may be (in the alphabet of the words themselves); HTML loads nothing and leads nowhere.
func (c *Catalog) Check(t Template, lim Limits) error {
	host := ""
	if lim.Origin != "" {
		var err error
		if host, err = WebOTPHost(lim.Origin); err != nil {
			return err
		}
	}
	return c.check(t, lim, host)
}

// check is Check with the one host that may be named.
func (c *Catalog) check(t Template, lim Limits, host string) error {
	t = t.lines()
	if err := c.checkPlace(t); err != nil {
		return err
	}
	own, err := t.compile()
	if err != nil {
		return err
	}
	for _, part := range [...]struct {
		name  string
		words phrase
	}{{"subject", own.subject}, {"text", own.text}, {"html", own.html}} {
		if err := t.checkWords(part.name, part.words, host); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if t.HTML != "" {
		if err := checkHTML(t.HTML, host); err != nil {
			return fmt.Errorf("html: %w", err)
		}
	}
	return c.checkLength(t, own, lim)
}

// lines returns the template with line breaks as they are kept.
func (t Template) lines() Template {
	unix := strings.NewReplacer("\r\n", "\n").Replace
	t.Subject, t.Text, t.HTML = unix(t.Subject), unix(t.Text), unix(t.HTML)
	return t
}

// checkPlace checks which message the template is of.
func (c *Catalog) checkPlace(t Template) error {
	switch {
	case !t.Channel.Valid():
		return fmt.Errorf("channel: must be sms, voice, whatsapp or email, not %.40q", string(t.Channel))
	case otp.Notice(t.Purpose).Valid() || strings.HasPrefix(t.Purpose, "notice"):
		return errors.New("purpose: notices are worded by otpost, so that users can trust that each says what happened")
	case !slices.Contains(TemplatePurposes(), t.Purpose):
		return fmt.Errorf("purpose: must be one of %s, not %.40q", strings.Join(TemplatePurposes(), ", "), t.Purpose)
	case t.Locale != "" && c.byName[t.Locale] == nil:
		return fmt.Errorf("locale: must be one of %s, or empty for all, not %.40q", strings.Join(c.Locales(), ", "), t.Locale)
	case t.Locale == "" && t.Channel == otp.Voice:
		return errors.New("locale: must be given for a call, which is read out by a voice of that language")
	case t.Channel != otp.Email && t.Subject != "":
		return errors.New("subject: only an email has one")
	case t.Channel != otp.Email && t.HTML != "":
		return errors.New("html: only an email has it")
	}
	return nil
}

// compile cuts the parts at their placeholders. A part that is empty is nil.
func (t Template) compile() (*own, error) {
	var o own
	for _, part := range [...]struct {
		name, words string
		most        int
		into        *phrase
	}{{"subject", t.Subject, maxTemplateSubject, &o.subject}, {"text", t.Text, maxTemplateText, &o.text}, {"html", t.HTML, maxTemplateHTML, &o.html}} {
		if part.words == "" {
			continue
		}
		if utf8.RuneCountInString(part.words) > part.most {
			return nil, fmt.Errorf("%s: has more than %d characters", part.name, part.most)
		}
		p, err := cutTemplate(part.words)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		*part.into = p
	}
	if strings.TrimSpace(t.Text) == "" {
		return nil, errors.New("text: must not be empty")
	}
	return &o, nil
}

// cutTemplate turns an app's words into a phrase.
func cutTemplate(s string) (phrase, error) {
	var p phrase
	for {
		text, rest, found := strings.Cut(s, "{{")
		if strings.Contains(text, "}}") {
			return nil, errors.New(`has "}}" without "{{" before it`)
		}
		if !found {
			if text != "" {
				p = append(p, segment{text: text})
			}
			return p, nil
		}
		name, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, errors.New(`has "{{" without "}}" after it`)
		}
		f, known := variables[strings.TrimSpace(name)]
		if !known {
			return nil, fmt.Errorf("unknown variable {{%.40s}}: there are {{code}}, {{app}}, {{expires}}, {{amount}} and {{payee}}", strings.TrimSpace(name))
		}
		p = append(p, segment{text: text, field: f})
		s = after
	}
}

// checkWords holds one part to the rules for words. An empty subject or HTML part is otpost's own.
func (t Template) checkWords(part string, p phrase, host string) error {
	if p == nil {
		return nil
	}
	used := map[field]int{}
	for _, s := range p {
		used[s.field]++
	}
	transaction := t.Purpose == "transaction"
	switch {
	case !transaction && used[amount]+used[payee] > 0:
		return errors.New("only a transaction has {{amount}} and {{payee}}")
	case part == "subject" && t.Purpose == "recovery" && used[code] > 0:
		return errors.New("the code of a recovery lives long and must not stand where a locked screen shows it")
	case part == "subject":
	case used[code] == 0:
		return errors.New("{{code}} is missing")
	case t.Channel != otp.Email && used[code] > 1:
		return errors.New("{{code}} must stand there once, so that phones find the one code")
	case transaction && (used[amount] == 0 || used[payee] == 0):
		return errors.New("{{amount}} or {{payee}} is missing: users must see what they approve")
	}
	if t.Channel != otp.Email && strings.TrimSpace(p[0].text) == "" && (p[0].field == payee || p[0].field == amount) {
		return errors.New("must not begin with what a payee supplied")
	}
	if !standsAlone(p, code) {
		return errors.New("{{code}} must stand by itself, with no letter, digit, hyphen or value next to it")
	}
	if part == "html" {
		return nil // the rest is checked where tags and texts are told apart
	}
	if err := checkText(p, host, part == "text" && t.Channel == otp.Email); err != nil || part != "text" {
		return err
	}
	return checkLone(p)
}

// plain returns the phrase with a letter for each value, and for a sentence one that ends as a sentence does.
func (p phrase) plain() string {
	var b strings.Builder
	for _, s := range p {
		b.WriteString(s.text)
		if s.field != none {
			b.WriteByte('x')
		}
		if s.field == expires {
			b.WriteByte('.')
		}
	}
	return b.String()
}

// standsAlone reports whether nothing next to the field could be read as a part of it.
func standsAlone(p phrase, f field) bool {
	joins := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || r == '-' || r == '_'
	}
	for i, s := range p {
		if s.field != f {
			continue
		}
		if before, _ := utf8.DecodeLastRuneInString(s.text); s.text != "" && joins(before) || s.text == "" && i > 0 {
			return false
		}
		if i+1 == len(p) {
			continue
		}
		if after, _ := utf8.DecodeRuneInString(p[i+1].text); p[i+1].text == "" || joins(after) {
			return false
		}
	}
	return true
}

// checkText refuses in words with variables what could disguise them, links, numbers, and what phones could take for the WebOTP line. lines says whether
// they may have line breaks.
func checkText(p phrase, host string, lines bool) error {
	s := p.plain()
	if err := checkPlain(s, lines); err != nil {
		return err
	}
	if err := checkLinks(s, host); err != nil {
		return err
	}
	if err := checkBeside(p); err != nil {
		return err
	}
	return checkNumbers(s)
}

// checkPlain refuses in a text what could disguise it.
func checkPlain(s string, lines bool) error {
	for _, r := range s {
		switch {
		case r == '\n' && lines:
		case r == '\n':
			return errors.New("must be one line")
		case r == utf8.RuneError || !unicode.IsGraphic(r) ||
			unicode.In(r, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
			return fmt.Errorf("has the character %U, which cannot be seen", r)
		}
	}
	return nil
}

// checkLength fills in values as long as they may be, in each language that the template is used for.
func (c *Catalog) checkLength(t Template, o *own, lim Limits) error {
	v := values{amount: strings.Repeat("n", otp.MaxTransactionField), payee: strings.Repeat("n", otp.MaxTransactionField)}
	v[app] = shorten(clean(lim.App), MaxName)
	if v[app] == "" {
		v[app] = strings.Repeat("n", MaxName)
	}
	if lim.Digits == 0 {
		lim.Digits = otp.MaxDigits
	}
	v[code] = strings.Repeat("0", lim.Digits)
	if t.Channel == otp.Voice {
		v[code] = spoken(v[code])
	}
	end := ""
	if lim.Origin != "" && (t.Purpose == "login" || t.Purpose == "transaction" || t.Purpose == "add_factor") {
		host, err := WebOTPHost(lim.Origin)
		if err != nil {
			return err
		}
		end = beforeHost + host + beforeCode + v[code]
	}
	for _, l := range c.locales {
		if t.Locale != "" && t.Locale != l.name {
			continue
		}
		v[expires] = l.longestExpiry()
		text := o.text.fill(&v)
		if _, _, n := Segments(text + end); t.Channel == otp.SMS && n > maxSegments {
			return fmt.Errorf("text: takes up to %d segments, more than %d", n, maxSegments)
		}
		for _, bound := range [...]struct {
			channel    otp.Channel
			part, text string
			most       int
		}{{otp.WhatsApp, "text", text, maxWhatsApp}, {otp.Voice, "text", text, maxVoice}, {otp.Email, "subject", o.subject.fill(&v), maxSubject}} {
			if n := utf8.RuneCountInString(bound.text); t.Channel == bound.channel && n > bound.most {
				return fmt.Errorf("%s: has up to %d characters, more than %d", bound.part, n, bound.most)
			}
		}
	}
	return nil
}

// longestExpiry returns the longest words that the locale has for a life.
func (l *locale) longestExpiry() (longest string) {
	for _, id := range [...]countID{expiresMinutes, expiresHours, expiresDays} {
		for _, s := range l.counts[id] {
			if utf8.RuneCountInString(s) > utf8.RuneCountInString(longest) {
				longest = s
			}
		}
	}
	return longest
}
