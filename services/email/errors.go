package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"regexp"
	"strings"

	"github.com/otpost/otpost/pkg/delivery"
)

// A stage is how far a submission had come when it failed.
type stage int

const (
	stageConnect  stage = iota // dialling
	stageTLS                   // the handshake, at once or after STARTTLS
	stageGreeting              // the server's 220 and its reply to EHLO
	stageAuth
	stageMail
	stageRcpt
	stageData  // the DATA command
	stageText  // the message up to its final dot
	stageReply // waiting for the reply to the final dot
)

func (s stage) String() string {
	return [...]string{"connecting", "TLS", "greeting", "AUTH", "MAIL", "RCPT", "DATA", "message text", "final reply"}[s]
}

// What this side refuses to do; the operator has to change the server or the configuration.
var (
	errNoStartTLS = errors.New("the server does not offer STARTTLS")
	errNoAuth     = errors.New("the server does not offer the authentication mechanism")
	errClearAuth  = errors.New("no password is sent over a connection in clear text")
)

// enhancedCode is the status code that begins a reply's text (RFC 2034, section 4; RFC 3463).
var enhancedCode = regexp.MustCompile(`^([245])\.(\d{1,3})\.(\d{1,3})(\s|$)`)

// failure sorts an error that ended a submission at a stage:
//
//   - no reply came: Transient, for without the final dot the server has no message; but Ambiguous when the dot was sent. A
//     certificate that does not verify, and what this side refuses to do without, is Configuration.
//   - 4yz, 421 among them: Transient.
//   - 5yz before RCPT: Configuration; the server will not have this client or this sender.
//   - 5yz to RCPT, DATA or the text: Permanent, unless it is about authentication, policy or the sender: Configuration.
//
// Code and Reason hold nothing of the reply's text, which often quotes the address.
func failure(at stage, err error) *delivery.Error {
	reply, replied := errors.AsType[*textproto.Error](err)
	if !replied {
		e := &delivery.Error{Class: delivery.Transient, Reason: at.String() + ": " + describe(err), Err: err}
		switch {
		case at == stageReply:
			e.Class = delivery.Ambiguous
		case isOurRefusal(at, err):
			e.Class = delivery.Configuration
		}
		return e
	}

	e := &delivery.Error{Code: fmt.Sprintf("%03d", reply.Code), Err: err}
	enhanced := enhancedCode.FindStringSubmatch(reply.Msg)
	if enhanced != nil {
		e.Code += " " + strings.TrimSpace(enhanced[0])
	}
	switch {
	case reply.Code >= 400 && reply.Code < 500:
		e.Class, e.Reason = delivery.Transient, at.String()+": put off by the server"
	case reply.Code >= 500 && reply.Code < 600:
		e.Reason = at.String() + ": refused by the server"
		switch {
		case at < stageRcpt || isAboutUs(reply.Code, enhanced, reply.Msg):
			e.Class = delivery.Configuration
		case isOfRecipient(at, enhanced):
			e.Class = delivery.Permanent
		default: // the message was not to its liking, or the mailbox is full for now
			e.Class = delivery.Rejected
		}
	default: // RFC 5321 knows no such reply here, so the server's state is unknown
		e.Class, e.Reason = delivery.Transient, at.String()+": unexpected reply"
		if at == stageReply {
			e.Class = delivery.Ambiguous
		}
	}
	return e
}

// isAboutUs reports whether a refusal speaks of this client or its sender rather than of the recipient or the message.
func isAboutUs(code int, enhanced []string, text string) bool {
	switch code {
	case 500, 502, 503, 504: // the command was not understood, or not now
		return true
	case 530, 534, 535, 538: // authentication (RFC 4954, section 6)
		return true
	}
	if enhanced == nil { // an old server; relaying is the one policy that they agree to name
		return strings.Contains(strings.ToLower(text), "relay")
	}
	switch subject, detail := enhanced[2], enhanced[3]; subject {
	case "7": // security or policy (RFC 3463, section 3.8): ours to mend where it is about relaying or logging in, else another server may think otherwise
		return strings.Contains(strings.ToLower(text), "relay") || detail == "8" || detail == "9" || len(detail) == 2 // 20 to 27: DKIM, SPF, DMARC (RFC 7372)
	case "1": // addresses, of which 7 and 8 are the sender's (section 3.2); Postfix tells of them at RCPT
		return detail == "7" || detail == "8"
	}
	return false
}

// isOfRecipient reports whether a refusal says that no server will reach the recipient. Where a server's policy speaks, or the mailbox is full (RFC 3463,
// sections 3.3 and 3.8), another may, or later.
func isOfRecipient(at stage, enhanced []string) bool {
	switch {
	case enhanced == nil:
		return at == stageRcpt
	case enhanced[2] == "1":
		return true
	case enhanced[2] == "2":
		return enhanced[3] != "2"
	default:
		return at == stageRcpt && enhanced[2] != "7"
	}
}

// isOurRefusal reports whether this side broke off for a reason that trying again does not cure.
func isOurRefusal(at stage, err error) bool {
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return true
	}
	if _, clear := errors.AsType[tls.RecordHeaderError](err); clear { // implicit TLS to a port that greets in clear text
		return true
	}
	if errors.Is(err, errNoStartTLS) || errors.Is(err, errNoAuth) || errors.Is(err, errClearAuth) {
		return true
	}
	// A mechanism that rejects what the server said, such as SCRAM a wrong server signature, has neither a reply nor a lost connection.
	return at == stageAuth && !isLost(err)
}

// isLost reports whether err is the connection's end or a time-out.
func isLost(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// describe names the kind of a failure without a reply, in words that hold nothing from outside.
func describe(err error) string {
	for _, ours := range []error{errNoStartTLS, errNoAuth, errClearAuth} {
		if errors.Is(err, ours) {
			return ours.Error()
		}
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, clear := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case untrusted:
		return "the server's certificate does not verify"
	case clear:
		return "the server does not speak TLS on this port"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	case isLost(err):
		return "the connection was lost"
	}
	return "failed"
}

// keeps reports whether a connection may go on after err: the server refused a command and stays. 421 announces that it hangs up
// (RFC 5321, section 3.8).
func keeps(err error) bool {
	reply, ok := errors.AsType[*textproto.Error](err)
	return ok && reply.Code >= 400 && reply.Code < 600 && reply.Code != 421
}
