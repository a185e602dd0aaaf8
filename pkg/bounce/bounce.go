// Package bounce reads what mail servers say of a message afterwards: delivery status notifications (RFC 3464), as they come to a mailbox or from a relay.
//
// What it promises: it reads no more than it is given bounds for, whatever is fed to it, and nothing that it returns holds an address or a text of the
// mail. A notification is not signed. Whoever knows a message's id can write one; so it may end a delivery and no more.
package bounce

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// MaxSize is the largest notification that is read, in bytes. A server returns the header of the mail or the whole of it; mails with codes are some 20 kB.
const MaxSize = 256 << 10

// Bounds of a notification's structure.
const (
	maxDepth      = 4
	maxParts      = 20
	maxRecipients = 50
)

// An Action is what became of a mail (RFC 3464, section 2.3.3).
type Action string

// The actions. After delayed another notification may follow; relayed and expanded say that the mail went on to where nobody reports.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"
	Expanded  Action = "expanded"
)

// A Bounce is what a notification says of one mail.
type Bounce struct {
	Delivery  string    // the reference of the delivery, "<Challenge>-<Attempt>"; empty where the notification does not name a mail of ours
	Challenge uuid.UUID // the challenge or message that was sent
	Attempt   int       // the number of its delivery, from 1
	Action    Action
	Status    string // the enhanced code (RFC 3463), such as "5.1.1"; empty where none is given
	Reason    string // what Status means, in words of our own
	Permanent bool   // the address itself is at fault: no other relay will reach it
}

// ErrNone says that a mail is no delivery status notification.
var ErrNone = errors.New("no delivery status notification")

// Parse reads a mail. The error wraps ErrNone where the mail is something else, such as an answer of a person; any other error says that it is a
// notification that cannot be read. Neither quotes the mail.
func Parse(raw []byte) (Bounce, error) {
	if len(raw) > MaxSize {
		return Bounce{}, fmt.Errorf("a notification of more than %d bytes", MaxSize)
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return Bounce{}, fmt.Errorf("%w: its header cannot be read", ErrNone)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || !strings.EqualFold(params["report-type"], "delivery-status") {
		return Bounce{}, ErrNone
	}
	var p parser
	if err := p.parts(m.Body, params["boundary"], 0); err != nil {
		return Bounce{}, err
	}
	if len(p.recipients) == 0 {
		return Bounce{}, errors.New("the notification tells of no recipient")
	}
	b, err := judge(p.recipients)
	if err != nil {
		return Bounce{}, err
	}
	// Some servers return nothing of the mail but answer to it (RFC 5322, section 3.6.4).
	ids := p.original
	for _, field := range []string{"In-Reply-To", "X-Original-Message-Id", "References"} {
		ids = append(ids, messageIDs(m.Header.Get(field))...)
	}
	for _, id := range ids {
		if reference, challenge, attempt, ok := Reference(id); ok {
			b.Delivery, b.Challenge, b.Attempt = reference, challenge, attempt
			break
		}
	}
	return b, nil
}

// parser collects what a notification says.
type parser struct {
	seen       int
	recipients []textproto.MIMEHeader // the fields of each (RFC 3464, section 2.3)
	original   []string               // Message-ID of the mail that was returned
}

func (p *parser) parts(body io.Reader, boundary string, depth int) error {
	if boundary == "" || depth > maxDepth {
		return errors.New("the notification's parts cannot be told apart")
	}
	for r := multipart.NewReader(body, boundary); ; {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if len(p.recipients) > 0 { // a server that cuts off what it returns
				return nil
			}
			return errors.New("the notification's parts cannot be read")
		}
		if p.seen++; p.seen > maxParts {
			return errors.New("the notification has too many parts")
		}
		if err := p.part(part, depth); err != nil {
			return err
		}
	}
}

func (p *parser) part(part *multipart.Part, depth int) error {
	kind, params, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
	if err != nil {
		return nil //nolint:nilerr // of a part that says nothing of itself nothing is needed
	}
	content := decoded(part.Header.Get("Content-Transfer-Encoding"), part)
	switch kind {
	case "message/delivery-status", "message/global-delivery-status": // the latter of RFC 6533
		return p.status(content)
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/rfc822-headers", "message/global-headers":
		// What follows the header may be cut off, and so may the header: what stands before is good.
		header, _ := textproto.NewReader(bufio.NewReader(content)).ReadMIMEHeader()
		p.original = append(p.original, messageIDs(header.Get("Message-Id"))...)
	case "multipart/mixed", "multipart/report", "multipart/related":
		return p.parts(content, params["boundary"], depth+1)
	}
	return nil
}

// status reads the fields of the message and of each recipient, which empty lines part (RFC 3464, section 2.1).
func (p *parser) status(content io.Reader) error {
	r := textproto.NewReader(bufio.NewReader(content))
	for {
		fields, err := r.ReadMIMEHeader()
		if fields.Get("Action") != "" {
			if len(p.recipients) == maxRecipients {
				return errors.New("the notification tells of too many recipients")
			}
			p.recipients = append(p.recipients, fields)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), len(p.recipients) > 0: // what could be read is enough
			return nil
		default:
			return errors.New("the notification's fields cannot be read")
		}
	}
}

// judge picks what the notification says of the mail, which had one recipient: where that one stands for several, a failure outweighs the rest.
func judge(recipients []textproto.MIMEHeader) (Bounce, error) {
	rank := []Action{Failed, Delivered, Relayed, Expanded, Delayed}
	best := len(rank)
	var b Bounce
	for _, fields := range recipients {
		word, _, _ := strings.Cut(fields.Get("Action"), "(") // a comment may follow
		i := slices.Index(rank, Action(strings.ToLower(strings.TrimSpace(word))))
		if i < 0 || i >= best {
			continue
		}
		best = i
		b = Bounce{Action: rank[i], Status: enhancedCode.FindString(strings.TrimSpace(fields.Get("Status")))}
	}
	if best == len(rank) {
		return b, errors.New("the notification tells of no known action")
	}
	if b.Action == Failed {
		b.Reason, b.Permanent = meaning(b.Status)
	}
	return b, nil
}

var enhancedCode = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}\b`)

// meaning says what a status means for a mail with a code (RFC 3463, section 3): in a few words, and whether it is the address that is at fault.
func meaning(status string) (reason string, permanent bool) {
	class, rest, _ := strings.Cut(status, ".")
	subject, detail, _ := strings.Cut(rest, ".")
	if class != "5" { // a server that gave up what might have come to pass
		switch subject {
		case "2":
			return "the mailbox did not take the mail in time", false
		case "":
			return "the mail was returned", false
		}
		return "the mail could not be handed over in time", false
	}
	switch subject {
	case "1":
		switch detail {
		case "1", "6":
			return "the mailbox does not exist", true
		case "2", "10": // 10 says that the domain takes no mail (RFC 7505)
			return "the domain takes no mail", true
		case "7", "8":
			return "the sender was refused", false
		}
		return "the address was refused", true
	case "2":
		switch detail {
		case "1":
			return "the mailbox is disabled", true
		case "2":
			return "the mailbox is full", true
		case "3":
			return "the mail is too long for the mailbox", false
		}
		return "the mailbox takes no mail", true
	case "3":
		return "the mail system refused the mail", false
	case "4":
		if detail == "4" {
			return "no route to the domain", true
		}
		return "the mail could not be handed over in time", false
	case "6":
		return "the content was refused", false
	case "7":
		return "refused by policy", false
	}
	return "the mail was refused", false
}

var messageID = regexp.MustCompile(`<([^<>@\s]{1,128}@[^<>@\s]{1,253})>`)

// messageIDs returns the message ids of a field without their brackets.
func messageIDs(field string) []string {
	var ids []string
	for _, m := range messageID.FindAllStringSubmatch(field, 20) {
		ids = append(ids, m[1])
	}
	return ids
}

var reference = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})-([1-9][0-9]{0,3})$`)

// Reference returns the delivery that a Message-ID names, with or without its domain; ok is false for a mail that is none of ours.
func Reference(id string) (delivery string, challenge uuid.UUID, attempt int, ok bool) {
	local, _, _ := strings.Cut(id, "@")
	m := reference.FindStringSubmatch(local)
	if m == nil {
		return "", uuid.Nil, 0, false
	}
	challenge, err := uuid.Parse(m[1])
	if err != nil || challenge == uuid.Nil {
		return "", uuid.Nil, 0, false
	}
	attempt, err = strconv.Atoi(m[2])
	return local, challenge, attempt, err == nil
}

// decoded undoes a Content-Transfer-Encoding (RFC 2045, section 6). The parts that are read should have none; some servers know better.
func decoded(encoding string, body io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, body)
	}
	return body
}
