package inbox

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
)

// Bounds of a message's structure, against content made to cost.
const (
	maxPartDepth = 8
	maxParts     = 100
)

var words mime.WordDecoder // knows UTF-8, ISO-8859-1 and US-ASCII, which is all that net/mail does

// parseMail reads a message (RFC 5322) and takes out of its MIME structure (RFC 2045, 2046) the first text/plain and the first text/html
// that are no attachments. A message that a mail program could not show in full is an error: a sender under test wants to know.
func parseMail(r io.Reader) (Message, error) {
	parsed, err := mail.ReadMessage(r)
	if err != nil {
		return Message{}, fmt.Errorf("reading the header: %w", err)
	}
	m := Message{Channel: Email, Provider: ProviderSMTP, Header: parsed.Header}
	if m.Subject, err = words.DecodeHeader(parsed.Header.Get("Subject")); err != nil {
		return Message{}, fmt.Errorf("decoding the subject: %w", err)
	}
	if from, err := parsed.Header.AddressList("From"); err == nil && len(from) > 0 {
		m.From = from[0].Address
	}
	p := partReader{message: &m}
	if err := p.read(textproto.MIMEHeader(parsed.Header), parsed.Body, 0); err != nil {
		return Message{}, err
	}
	return m, nil
}

// partReader walks the parts of one message.
type partReader struct {
	message          *Message
	parts            int
	hasText, hasHTML bool
}

func (p *partReader) read(header textproto.MIMEHeader, body io.Reader, depth int) error {
	if p.parts++; p.parts > maxParts || depth > maxPartDepth {
		return errors.New("too many parts")
	}
	kind, params := "text/plain", map[string]string{} // RFC 2045, section 5.2
	if value := header.Get("Content-Type"); value != "" {
		var err error
		if kind, params, err = mime.ParseMediaType(value); err != nil {
			return fmt.Errorf("reading a Content-Type: %w", err)
		}
	}
	if strings.HasPrefix(kind, "multipart/") {
		return p.readParts(multipart.NewReader(body, params["boundary"]), depth)
	}
	content, err := decoded(header.Get("Content-Transfer-Encoding"), body)
	if err != nil {
		return fmt.Errorf("decoding a %s part: %w", kind, err)
	}
	if disposition, _, _ := mime.ParseMediaType(header.Get("Content-Disposition")); disposition == "attachment" {
		return nil
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(content, "\uFFFD"), "\r\n", "\n")
	switch {
	case kind == "text/plain" && !p.hasText:
		p.message.Text, p.hasText = text, true
	case kind == "text/html" && !p.hasHTML:
		p.message.HTML, p.hasHTML = text, true
	}
	return nil
}

func (p *partReader) readParts(parts *multipart.Reader, depth int) error {
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the parts: %w", err)
		}
		if err := p.read(part.Header, part, depth+1); err != nil {
			return err
		}
	}
}

// decoded undoes a Content-Transfer-Encoding (RFC 2045, section 6).
func decoded(encoding string, body io.Reader) (string, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "7bit", "8bit", "binary":
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	default:
		return "", fmt.Errorf("unknown Content-Transfer-Encoding %q", encoding)
	}
	content, err := io.ReadAll(body)
	return string(content), err
}
