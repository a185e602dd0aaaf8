package inbox

import (
	"context"
	"net/http"
	"time"
)

// A Fault is what goes wrong with one message, whichever simulated provider it came to. Fields combine: the delay comes first. The zero value is none.
type Fault struct {
	Delay          time.Duration // wait before anything else; a message that is then taken is taken also where the caller has given up waiting
	Drop           bool          // close the connection without an answer and without the message
	AcceptThenDrop bool          // take the message, see to its receipts, then close the connection (or never answer) without an answer
	Status         int           // refuse with this HTTP status (SMTP: reply code); 0 takes the message, unless Code is set
	Code           string        // refuse with the provider's own code, such as "21211" (SMTP: enhanced code, "5.1.1"); empty picks one that fits Status
	Message        string        // the refusal's text; empty picks one
	RetryAfter     time.Duration // sent along with a refusal, in whole seconds, where the provider has a way to say so

	Lost         bool          // a message that was taken reaches nobody: it is not in the inbox, and no receipt says anything
	Outcome      string        // the receipt of a message that was taken: "delivered" (the default), "undelivered", "failed", "none"
	OutcomeCode  string        // of an "undelivered" or "failed" receipt; empty picks one
	ReceiptDelay time.Duration // how much later receipts come
	Repeat       int           // how many times each receipt is told again
	Reversed     bool          // the final receipt comes before those of the stages before it
}

// None reports whether nothing goes wrong.
func (f Fault) None() bool { return f == Fault{} }

// refuses reports whether the message is answered with a refusal.
func (f Fault) refuses() bool { return f.Status != 0 || f.Code != "" }

// fault says what goes wrong with the next message that comes to a provider for an address: the newest rule that matches and strikes. Every simulator asks
// it once for each message whose form is right, tells took or refused of what became of it, and calledBack of each receipt that was heard. name is the
// provider's in the simulation: see nameOf.
func (in *Inbox) fault(name, to string) Fault {
	f, ended := in.rules.strike(name, to)
	if ended {
		in.store.touch() // the page lists the rules in force
	}
	return f
}

type nameKey struct{}

// nameOf is the name of the provider that a request came to: what the path's prefix /at/<name> says, else the provider's kind ("twilio", "vonage",
// "webhook", "sns"). The prefix is not in r.URL any more; r.RequestURI still has it.
func (in *Inbox) nameOf(r *http.Request, kind string) string {
	if name, ok := r.Context().Value(nameKey{}).(string); ok {
		return name
	}
	return kind
}

func withName(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, nameKey{}, name)
}
