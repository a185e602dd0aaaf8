package message

import (
	"fmt"
	"regexp"

	"github.com/otpost/otpost/pkg/otp"
)

// An SMSMessage is a rendered short message: an SMS, a WhatsApp message, or what a call says.
type SMSMessage struct {
	Text   string // UTF-8; lines end with LF
	Locale string // BCP 47, the language it is written in
}

// What ends a short message is set apart from what is for people by an empty line, as the examples of both formats have it.
const (
	beforeHost = "\n\n@"
	beforeCode = " #"
	beforeHash = "\n\n"
)

// SMS renders a short message: one line of words, and at most one line for the phone at the very end, without a line break after it. That is, for codes
// that sign in, approve or add the number:
//
//   - with [Input.Hash] the Android app's hash. Android gives an app no message that is longer than 140 bytes (SMS Retriever), so the words not to share the
//     code give way to it; where that is not enough the hash serves nobody, and is left out;
//   - else, when the app has a web origin, the WebOTP line "@host #code". Both formats want to be last, so there is never more than one.
//
// The words begin with the code, unless the app has its own. The error wraps [ErrInput] and holds no code.
func (c *Catalog) SMS(in Input) (SMSMessage, error) {
	s, err := c.short(&in, otp.SMS)
	if err != nil {
		return SMSMessage{}, err
	}
	if in.Hash != "" && !ValidHash(in.Hash) {
		return SMSMessage{}, fmt.Errorf("%w: the hash is not that of an Android app", ErrInput)
	}
	if in.Hash != "" && !s.wording.weakens {
		brief := *s
		brief.values[secret] = ""
		for _, s := range [...]*short{s, &brief} {
			if text := s.text(beforeHash+in.Hash, in.Style.Fold); retrievable(text) {
				return SMSMessage{Text: text, Locale: s.locale.name}, nil
			}
		}
	}
	end := ""
	if in.Origin != "" && !s.wording.weakens && !in.Style.NoWebOTP {
		host, err := WebOTPHost(in.Origin)
		if err != nil {
			return SMSMessage{}, err
		}
		end = beforeHost + host + beforeCode + in.Code
	}
	return SMSMessage{Text: s.text(end, in.Style.Fold), Locale: s.locale.name}, nil
}

// WhatsApp renders a WhatsApp message: the words of an SMS, without a line for the phone, which reads SMS only. An app's own words are those for WhatsApp,
// or else those for SMS. The error wraps [ErrInput] and holds no code.
func (c *Catalog) WhatsApp(in Input) (SMSMessage, error) {
	s, err := c.short(&in, otp.WhatsApp)
	if err != nil {
		return SMSMessage{}, err
	}
	return SMSMessage{Text: s.text("", false), Locale: s.locale.name}, nil
}

// Voice renders what a call says, once: the code digit by digit. Saying it again is the provider's part, and so is a voice that speaks the message's language.
// The error wraps [ErrInput] and holds no code.
func (c *Catalog) Voice(in Input) (SMSMessage, error) {
	s, err := c.short(&in, otp.Voice)
	if err != nil {
		return SMSMessage{}, err
	}
	s.values[code] = spoken(in.Code)
	return SMSMessage{Text: s.text("", false), Locale: s.locale.name}, nil
}

// spoken sets digits apart so that a synthetic voice says each by itself, with a short pause. A comma and a space do that in every language of the catalogs; a
// full stop makes a German, Czech or Polish voice read "4." as "the fourth".
func spoken(digits string) string {
	b := make([]byte, 0, 3*len(digits))
	for i := range len(digits) {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, digits[i])
	}
	return string(b)
}

// short is a short message before it is written.
type short struct {
	locale  *locale
	wording *wording
	values  values
	words   phrase
}

// short chooses words and values for a channel.
func (c *Catalog) short(in *Input, channel otp.Channel) (*short, error) {
	l := c.locale(in.Locale, in.Fallback)
	v, err := in.values(l)
	if err != nil {
		return nil, err
	}
	w, err := in.wording()
	if err != nil {
		return nil, err
	}
	s := &short{locale: l, wording: w, values: v}
	if !in.Style.NoKeepSecret || w.weakens {
		s.values[secret] = l.phrases[w.secret].fill(&s.values)
	}
	id := w.sms
	if channel == otp.Voice {
		id = w.voice
	}
	s.words = l.phrases[id]
	if own := c.own(in.AppKey, channel, w.template, l.name); own != nil {
		s.words = own.text
	}
	return s, nil
}

// text writes the message with what ends it. What ends it is never folded: it is read by machines.
func (s *short) text(end string, fold bool) string {
	text := s.words.fill(&s.values)
	if fold {
		folded := Fold(text)
		_, _, before := Segments(text + end)
		if _, _, after := Segments(folded + end); after < before {
			text = folded
		}
	}
	return text + end
}

var hashForm = regexp.MustCompile(`^[A-Za-z0-9+/]{11}$`)

// ValidHash reports whether s can be the hash by which Android's SMS Retriever finds an app's messages: 11 characters of base64 (RFC 4648, section 4).
func ValidHash(s string) bool { return hashForm.MatchString(s) }

// maxRetrievable is the longest message that the SMS Retriever hands to an app, in bytes.
const maxRetrievable = 140

// retrievable reports whether Android hands a message to an app. Its documentation does not say whether the bytes are those of UTF-8 or those on the
// air, of which one segment has 140, so both must do.
func retrievable(text string) bool {
	_, _, n := Segments(text)
	return n == 1 && len(text) <= maxRetrievable
}
