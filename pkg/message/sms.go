package message

import "strings"

// An SMSMessage is a rendered short message.
type SMSMessage struct {
	Text   string // UTF-8; lines end with LF
	Locale string // BCP 47, the language it is written in
}

// SMS renders a short message: one line of words that begins with the code and, when the app has a web origin and the code is for
// signing in or for adding the number, an empty line and the WebOTP line "@host #code" at the very end, without a line break after it.
// The error wraps [ErrInput] and holds no code.
func (c *Catalog) SMS(in Input) (SMSMessage, error) {
	l := c.locale(in.Locale, in.Fallback)
	v, err := in.values(l)
	if err != nil {
		return SMSMessage{}, err
	}
	w, err := in.wording()
	if err != nil {
		return SMSMessage{}, err
	}
	host := ""
	if in.Origin != "" && w.webOTP {
		if host, err = WebOTPHost(in.Origin); err != nil {
			return SMSMessage{}, err
		}
	}
	words := l.phrases[w.sms]

	// The empty line is that of the format's own examples: it sets what is for the phone apart from what is for people.
	const before, between = "\n\n@", " #"
	size := words.size(&v)
	if host != "" {
		size += len(before) + len(host) + len(between) + len(in.Code)
	}
	var b strings.Builder
	b.Grow(size)
	words.write(&b, &v)
	if host != "" {
		b.WriteString(before)
		b.WriteString(host)
		b.WriteString(between)
		b.WriteString(in.Code)
	}
	return SMSMessage{Text: b.String(), Locale: l.name}, nil
}
