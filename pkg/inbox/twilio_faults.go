package inbox

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// general is the fault as every simulated provider knows it.
func (f TwilioFault) general() Fault {
	g := Fault{
		Delay: f.Delay, Drop: f.DropConnection, AcceptThenDrop: f.AcceptThenDrop, Status: f.Status, Message: f.Message, RetryAfter: f.RetryAfter,
		Outcome: f.Outcome,
	}
	if f.Status != 0 && f.Code != 0 { // a code alone refuses nothing in this hook
		g.Code = strconv.Itoa(f.Code)
	}
	if f.OutcomeCode != 0 {
		g.OutcomeCode = strconv.Itoa(f.OutcomeCode)
	}
	return g
}

type magicNumber struct {
	Magic
	fault Fault
}

// The first five are Twilio's own test numbers with Twilio's own codes; the rest fill in what a test account cannot show.
var magicNumbers = []magicNumber{
	{Magic{"+15005550001", "invalid number (400, 21211)"}, Fault{Status: 400, Code: "21211"}},
	{Magic{"+15005550002", "cannot be reached (400, 21612)"}, Fault{Status: 400, Code: "21612"}},
	{Magic{"+15005550003", "no permission for the region (400, 21408)"}, Fault{Status: 400, Code: "21408"}},
	{Magic{"+15005550004", "opted out (400, 21610)"}, Fault{Status: 400, Code: "21610"}},
	{Magic{"+15005550009", "not a mobile number (400, 21614)"}, Fault{Status: 400, Code: "21614"}},
	{Magic{"+15005550010", "accepted, then undelivered (30003)"}, Fault{Outcome: statusUndelivered, OutcomeCode: "30003"}},
	{Magic{"+15005550011", "accepted, then failed (30008)"}, Fault{Outcome: statusFailed, OutcomeCode: "30008"}},
	{Magic{"+15005550012", "accepted, then never a receipt"}, Fault{Outcome: outcomeNone}},
	{Magic{"+15005550013", "throttled (429, 20429, Retry-After: 2)"}, Fault{Status: 429, Code: "20429", RetryAfter: 2 * time.Second}},
	{Magic{"+15005550014", "out of order (503, 20503)"}, Fault{Status: 503, Code: "20503"}},
}

// Of calls, too, the first four are Twilio's own.
var magicCalls = []magicNumber{
	{Magic{"+15005550001", "call: invalid number (400, 21217)"}, Fault{Status: 400, Code: "21217"}},
	{Magic{"+15005550002", "call: cannot be reached (400, 21214)"}, Fault{Status: 400, Code: "21214"}},
	{Magic{"+15005550003", "call: no permission for the region (400, 21215)"}, Fault{Status: 400, Code: "21215"}},
	{Magic{"+15005550004", "call: blocked (400, 21216)"}, Fault{Status: 400, Code: "21216"}},
	{Magic{"+15005550011", "call: failed"}, Fault{Outcome: statusFailed}},
	{Magic{"+15005550012", "call: taken, then never a receipt"}, Fault{Outcome: outcomeNone}},
	{Magic{"+15005550013", "call: throttled (429, 20429, Retry-After: 2)"}, Fault{Status: 429, Code: "20429", RetryAfter: 2 * time.Second}},
	{Magic{"+15005550014", "call: out of order (503, 20503)"}, Fault{Status: 503, Code: "20503"}},
	{Magic{"+15005550015", "call: busy"}, Fault{Outcome: statusUndelivered, OutcomeCode: callBusy}},
	{Magic{"+15005550016", "call: no answer"}, Fault{Outcome: statusUndelivered, OutcomeCode: callNoAnswer}},
}

var magicWhatsApps = []magicNumber{
	{Magic{"+15005550017", "WhatsApp: accepted, then undelivered (63024, not on WhatsApp)"}, Fault{Outcome: statusUndelivered, OutcomeCode: "63024"}},
	{Magic{"+15005550018", "WhatsApp: accepted, then undelivered (63016, not a template)"}, Fault{Outcome: statusUndelivered, OutcomeCode: "63016"}},
}

// magicSenders and magicCallers are Twilio's test numbers on the sender's side, with Twilio's codes; they spoil every request from them.
var (
	magicSenders = map[string]string{
		"+15005550001": "21212", // not a valid sender
		"+15005550007": "21606", // not owned by the account
		"+15005550008": "21611", // its queue is full
	}
	magicCallers = map[string]string{
		"+15005550001": "21212",
		"+15005550007": "21210", // not owned by the account
	}
)

// MagicNumbers lists the numbers that make the simulated Twilio fail, whatever the sender. Where an effect names no channel, it is that of messages.
func MagicNumbers() []Magic {
	var list []Magic
	for _, m := range slices.Concat(magicNumbers, magicCalls, magicWhatsApps) {
		list = append(list, m.Magic)
	}
	return list
}

func magic(numbers []magicNumber, to string) (Fault, bool) {
	for _, m := range numbers {
		if m.Address == to {
			return m.fault, true
		}
	}
	return Fault{}, false
}

// messageFault says what goes wrong with a message: what the hook says, else a rule, else the number.
func (in *Inbox) messageFault(name string, r TwilioRequest) Fault {
	if hook := in.twilioFaults.Load(); hook != nil {
		if f := (*hook)(r); f != nil {
			return f.general()
		}
	}
	to, whatsApp := strings.CutPrefix(r.To, whatsAppPrefix)
	if f := in.fault(name, to); !f.None() {
		return f
	}
	if f, ok := magic(magicWhatsApps, to); ok && whatsApp {
		return f
	}
	if f, ok := magic(magicNumbers, to); ok {
		return f
	}
	if code, ok := magicSenders[strings.TrimPrefix(r.From, whatsAppPrefix)]; ok {
		return Fault{Status: 400, Code: code}
	}
	return Fault{}
}

// callFault is messageFault for calls, which the hook is not asked about.
func (in *Inbox) callFault(name, to, from string) Fault {
	if f := in.fault(name, to); !f.None() {
		return f
	}
	if f, ok := magic(magicCalls, to); ok {
		return f
	}
	if code, ok := magicCallers[from]; ok {
		return Fault{Status: 400, Code: code}
	}
	return Fault{}
}
