package inbox

import (
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// A TwilioRequest is what a fault hook gets to see of a request to create a message.
type TwilioRequest struct {
	N                             int64      // the request's number, from 1, over the life of the inbox
	AccountSID                    string     // of the path
	To, From, MessagingServiceSID string     // as sent
	Body                          string     // as sent
	Form                          url.Values // every field; not to be changed
}

// A TwilioFault is what goes wrong with one request. Fields combine: the delay comes first.
type TwilioFault struct {
	Delay          time.Duration // wait before anything else
	DropConnection bool          // close the connection without an answer and without the message
	AcceptThenDrop bool          // store the message and settle its receipts, then close the connection without an answer
	Status         int           // answer with this HTTP status instead of accepting; 0 accepts
	Code           int           // Twilio's error code; 0 picks 20429 for 429, 20003 for 401, 20503 for 503 and 20500 otherwise
	Message        string        // the error's text; empty picks one
	RetryAfter     time.Duration // sent as Retry-After in whole seconds, rounded up, when positive
	Outcome        string        // the receipt of an accepted message: "delivered" (the default), "undelivered", "failed", "none"
	OutcomeCode    int           // ErrorCode of an "undelivered" or "failed" receipt; 0 means 30008, unknown error
}

// SetTwilioFaults makes f decide, for each authenticated request to create a message from now on, what goes wrong; nil from f leaves that to
// the rules (SetFaults) and to magic numbers. A nil f removes the hook. f is called concurrently; calls are not shown to it.
func (in *Inbox) SetTwilioFaults(f func(TwilioRequest) *TwilioFault) {
	if f == nil {
		in.twilioFaults.Store(nil)
		return
	}
	in.twilioFaults.Store(&f)
}

// A Stage is a point in a mail transaction (RFC 5321, section 3.3).
type Stage string

// The stages at which an SMTP fault can strike.
const (
	StageMail Stage = "MAIL"
	StageRcpt Stage = "RCPT"
	StageData Stage = "DATA" // after the content was read and parsed, before it is accepted
)

// An SMTPRequest is what a fault hook gets to see of a command.
type SMTPRequest struct {
	Stage   Stage
	N       int64    // the number of calls at this stage, from 1, over the life of the inbox
	From    string   // the reverse-path
	To      []string // the recipients so far; at StageRcpt the last is the one being asked for
	Message Message  // at StageData the parsed content, without id, time and recipient
}

// An SMTPFault is what goes wrong with one command. Fields combine: the delay comes first.
type SMTPFault struct {
	Delay          time.Duration // wait before anything else
	DropConnection bool          // close the connection without a reply and without the message
	AcceptThenDrop bool          // at StageData: store the message, then close the connection without a reply
	Code           int           // the reply code, such as 451; 0 accepts
	EnhancedCode   [3]int        // RFC 3463, such as {4, 3, 2}; zero picks class.0.0
	Message        string        // the reply's text; empty picks one
}

// SetSMTPFaults makes f decide, for each MAIL, RCPT and DATA from now on, what goes wrong; nil from f leaves that to the rules (SetFaults)
// and to magic mailboxes, which are asked for each recipient. A nil f removes the hook. f is called concurrently.
func (in *Inbox) SetSMTPFaults(f func(SMTPRequest) *SMTPFault) {
	if f == nil {
		in.smtpFaults.Store(nil)
		return
	}
	in.smtpFaults.Store(&f)
}

// A Magic is a recipient that makes a provider fail.
type Magic struct {
	Address string // the number, or the local part of the address
	Effect  string // one line for people
}

type magicMailbox struct {
	Magic
	fault Fault
}

var magicMailboxes = []magicMailbox{
	{Magic{"bounce", "no such mailbox (550 5.1.1)"}, Fault{Status: 550, Code: "5.1.1", Message: "No such mailbox"}},
	{Magic{"busy", "try again later (451 4.3.2)"}, Fault{Status: 451, Code: "4.3.2", Message: "Busy, try again later"}},
	{Magic{"bounce-later", "accepted, then a bounce (5.1.1)"}, Fault{Outcome: statusUndelivered, OutcomeCode: "5.1.1"}},
	{Magic{"never-arrives", "accepted, then lost"}, Fault{Lost: true}},
}

// MagicMailboxes lists the local parts that make the simulated mail servers fail a recipient, at any domain; case does not matter.
func MagicMailboxes() []Magic {
	list := make([]Magic, len(magicMailboxes))
	for i, m := range magicMailboxes {
		list[i] = m.Magic
	}
	return list
}

// smtpHook asks the hook; nil says that it leaves the command to the rules and the magic mailboxes.
func (in *Inbox) smtpHook(r SMTPRequest) *SMTPFault {
	if hook := in.smtpFaults.Load(); hook != nil {
		return (*hook)(r)
	}
	return nil
}

// mailFault is what goes wrong with mail to an address: what a rule says, else what the mailbox is known for.
func (in *Inbox) mailFault(name, to string) Fault {
	if f := in.fault(name, to); !f.None() {
		return f
	}
	local, _, _ := strings.Cut(to, "@")
	for _, m := range magicMailboxes {
		if strings.EqualFold(m.Address, local) {
			return m.fault
		}
	}
	return Fault{}
}

// pause waits for d, or less when the inbox closes or done is closed.
func (in *Inbox) pause(d time.Duration, done <-chan struct{}) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-done:
	case <-in.ctx.Done():
	}
}

// Counts says what the providers have seen since New.
type Counts struct {
	TwilioRequests  int64 // authenticated requests to create a message
	TwilioMessages  int64 // of these, accepted
	Callbacks       int64 // status callbacks answered with a 2xx
	CallbacksFailed int64 // status callbacks given up
	SMTPConnections int64 // TCP connections
	SMTPMail        int64 // MAIL commands
	SMTPRcpt        int64 // RCPT commands
	SMTPData        int64 // contents received
	SMTPMessages    int64 // of these, accepted; one with three recipients counts once
}

type counters struct {
	twilioRequests, twilioMessages, callbacks, callbacksFailed      atomic.Int64
	smtpConnections, smtpMail, smtpRcpt, smtpData, smtpTransactions atomic.Int64
}

// Counts returns what the providers have seen so far.
func (in *Inbox) Counts() Counts {
	c := &in.counts
	return Counts{
		TwilioRequests: c.twilioRequests.Load(), TwilioMessages: c.twilioMessages.Load(),
		Callbacks: c.callbacks.Load(), CallbacksFailed: c.callbacksFailed.Load(),
		SMTPConnections: c.smtpConnections.Load(), SMTPMail: c.smtpMail.Load(), SMTPRcpt: c.smtpRcpt.Load(),
		SMTPData: c.smtpData.Load(), SMTPMessages: c.smtpTransactions.Load(),
	}
}
