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
	Code           int           // Twilio's error code; 0 picks 20429 for 429, 20003 for 401 and 20500 otherwise
	Message        string        // the error's text; empty picks one
	RetryAfter     time.Duration // sent as Retry-After in whole seconds, rounded up, when positive
	Outcome        string        // the receipt of an accepted message: "delivered" (the default), "undelivered", "failed", "none"
	OutcomeCode    int           // ErrorCode of an "undelivered" or "failed" receipt; 0 means 30008, unknown error
}

// SetTwilioFaults makes f decide, for each authenticated request to create a message from now on, what goes wrong; nil from f means
// nothing does, and magic numbers then have their say. A nil f removes the hook. f is called concurrently.
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

// SetSMTPFaults makes f decide, for each MAIL, RCPT and DATA from now on, what goes wrong; nil from f means nothing does, and magic
// mailboxes then have their say. A nil f removes the hook. f is called concurrently.
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

type magicNumber struct {
	Magic
	fault TwilioFault
}

// The first five are Twilio's own test numbers with Twilio's own codes; the rest fill in what a test account cannot show.
var magicNumbers = []magicNumber{
	{Magic{"+15005550001", "invalid number (400, 21211)"}, TwilioFault{Status: 400, Code: 21211}},
	{Magic{"+15005550002", "cannot be reached (400, 21612)"}, TwilioFault{Status: 400, Code: 21612}},
	{Magic{"+15005550003", "no permission for the region (400, 21408)"}, TwilioFault{Status: 400, Code: 21408}},
	{Magic{"+15005550004", "opted out (400, 21610)"}, TwilioFault{Status: 400, Code: 21610}},
	{Magic{"+15005550009", "not a mobile number (400, 21614)"}, TwilioFault{Status: 400, Code: 21614}},
	{Magic{"+15005550010", "accepted, then undelivered (30003)"}, TwilioFault{Outcome: statusUndelivered, OutcomeCode: 30003}},
	{Magic{"+15005550011", "accepted, then failed (30008)"}, TwilioFault{Outcome: statusFailed, OutcomeCode: 30008}},
	{Magic{"+15005550012", "accepted, then never a receipt"}, TwilioFault{Outcome: outcomeNone}},
	{Magic{"+15005550013", "throttled (429, 20429, Retry-After: 2)"}, TwilioFault{Status: 429, Code: 20429, RetryAfter: 2 * time.Second}},
	{Magic{"+15005550014", "out of order (503, 20500)"}, TwilioFault{Status: 503, Code: 20500}},
}

// magicSenders are Twilio's test numbers on the sender's side, with Twilio's codes; they spoil every request from them.
var magicSenders = map[string]int{
	"+15005550001": 21212, // not a valid sender
	"+15005550007": 21606, // not owned by the account
	"+15005550008": 21611, // its queue is full
}

type magicMailbox struct {
	Magic
	fault SMTPFault
}

var magicMailboxes = []magicMailbox{
	{Magic{"bounce", "no such mailbox (550 5.1.1)"}, SMTPFault{Code: 550, EnhancedCode: [3]int{5, 1, 1}, Message: "No such mailbox"}},
	{Magic{"busy", "try again later (451 4.3.2)"}, SMTPFault{Code: 451, EnhancedCode: [3]int{4, 3, 2}, Message: "Busy, try again later"}},
}

// MagicNumbers lists the numbers that make the simulated Twilio fail, whatever the sender.
func MagicNumbers() []Magic {
	list := make([]Magic, len(magicNumbers))
	for i, m := range magicNumbers {
		list[i] = m.Magic
	}
	return list
}

// MagicMailboxes lists the local parts that make the simulated mail server refuse a recipient, at any domain; case does not matter.
func MagicMailboxes() []Magic {
	list := make([]Magic, len(magicMailboxes))
	for i, m := range magicMailboxes {
		list[i] = m.Magic
	}
	return list
}

func (in *Inbox) twilioFault(r TwilioRequest) TwilioFault {
	if hook := in.twilioFaults.Load(); hook != nil {
		if f := (*hook)(r); f != nil {
			return *f
		}
	}
	for _, m := range magicNumbers {
		if m.Address == r.To {
			return m.fault
		}
	}
	if code, ok := magicSenders[r.From]; ok {
		return TwilioFault{Status: 400, Code: code}
	}
	return TwilioFault{}
}

func (in *Inbox) smtpFault(r SMTPRequest) SMTPFault {
	if hook := in.smtpFaults.Load(); hook != nil {
		if f := (*hook)(r); f != nil {
			return *f
		}
	}
	if r.Stage != StageRcpt {
		return SMTPFault{}
	}
	local, _, _ := strings.Cut(r.To[len(r.To)-1], "@")
	for _, m := range magicMailboxes {
		if strings.EqualFold(m.Address, local) {
			return m.fault
		}
	}
	return SMTPFault{}
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
