package sms

import (
	"encoding/xml"
	"strings"
	"time"
	"unicode/utf8"

	twilioapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/otpost/otpost/pkg/delivery"
)

const (
	// minCallLife is how long a code must be worth something for a call to be made: the phone rings, the text is spoken and the digits are typed.
	minCallLife = 15 * time.Second
	// maxRinging ends the call before most mailboxes would take it, where the code would lie about for whoever gets at the mailbox.
	maxRinging = 25 * time.Second
	// maxTalking ends a call whose other end does not hang up; three times the longest text takes about a minute.
	maxTalking = 2 * time.Minute
	// maxTwiML is in characters (Twilio, Call resource, create a call).
	maxTwiML = 4000
	// A text is said so often, the first time perhaps to somebody who still raises the phone.
	maxSayings = 3
	minSayings = 2
)

// callEvents are what is told of a call: that somebody picked it up, and how it ended (completed, busy, no-answer, failed, canceled).
var callEvents = []string{"answered", "completed"}

// sayLanguages are the languages of <Say> (Twilio, text-to-speech) by BCP 47 language, for locales that name no country.
var sayLanguages = map[string]string{
	"cs": "cs-CZ", "de": "de-DE", "en": defaultSayLanguage, "es": "es-ES", "fr": "fr-FR", "it": "it-IT", "ja": "ja-JP", "pl": "pl-PL",
}

// sayVariants are those that are spoken differently in another country.
var sayVariants = map[string]bool{"en-AU": true, "en-GB": true, "en-IN": true, "es-MX": true, "es-US": true, "fr-CA": true}

const defaultSayLanguage = "en-US"

// NewTwilioVoice checks c and returns a provider of calls that speak the message, as NewTwilio does one of SMS. A call that was accepted has not been
// answered yet: that comes by callback.
func NewTwilioVoice(c TwilioConfig) (*Twilio, error) {
	t, err := newTwilio(c, "twilio-voice", twilioVoice)
	if err != nil {
		return nil, err
	}
	t.create, t.life = createCall, minCallLife
	return t, nil
}

// createCall asks for a call that rings no longer than the code lives.
func createCall(t *Twilio, x *exchange, m *delivery.Message, left time.Duration) (creation, error) {
	twiml, err := t.twiml(m)
	if err != nil {
		return creation{}, err
	}
	ringing, talking := wholeSeconds(min(left, maxRinging)), wholeSeconds(min(left, maxTalking))
	p := twilioapi.CreateCallParams{
		To: &m.To, From: t.sender(m, phoneNumber), Twiml: &twiml, Timeout: &ringing, TimeLimit: &talking, StatusCallback: t.callbackOf(m),
	}
	if p.StatusCallback != nil {
		p.StatusCallbackEvent = &callEvents
	}
	made, err := twilioapi.NewApiService(&x.handler).CreateCall(&p)
	if err != nil {
		return creation{}, err
	}
	return creation{sid: made.Sid}, nil
}

// twiml writes what the call says: the text two or three times, with a second between.
func (t *Twilio) twiml(m *delivery.Message) (string, error) {
	language := sayLanguage(m.Locale)
	var say strings.Builder
	say.WriteString(`<Pause length="1"/><Say language="` + language + `"`) // checked, as are the voices: nothing in them needs escaping
	if voice := t.voices[language]; voice != "" {
		say.WriteString(` voice="` + voice + `"`)
	}
	say.WriteString(">")
	if err := xml.EscapeText(&say, []byte(m.Text)); err != nil { // a strings.Builder takes everything
		return "", &delivery.Error{Class: delivery.Rejected, Reason: "the text could not be written", Err: err}
	}
	say.WriteString("</Say>")
	for times := maxSayings; times >= minSayings; times-- {
		if all := "<Response>" + strings.Repeat(say.String(), times) + "</Response>"; utf8.RuneCountInString(all) <= maxTwiML {
			return all, nil
		}
	}
	return "", &delivery.Error{Class: delivery.Rejected, Reason: "message is too long for a call"}
}

// sayLanguage turns a locale into the language that Twilio speaks; one that it does not know is read as English.
func sayLanguage(locale string) string {
	if sayVariants[locale] {
		return locale
	}
	base, _, _ := strings.Cut(locale, "-")
	if language, ok := sayLanguages[base]; ok {
		return language
	}
	return defaultSayLanguage
}
