package inbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of the rules.
const (
	maxFaultRules   = 1000 // at a time; one more pushes out the oldest
	maxFaultCount   = 1_000_000
	maxFaultRepeat  = 100
	maxFaultDelay   = 10 * time.Minute
	maxReceiptDelay = 24 * time.Hour
	maxFaultText    = 200 // bytes
)

// A FaultRule makes messages meet a fault. Its zero value matches every message and does nothing to it.
type FaultRule struct {
	ID       string  // given by the inbox
	Provider string  // the simulated provider's name; empty means any
	To       string  // the recipient exactly (case does not matter), or the start of it and "*", as in "+420*"; empty means any
	Share    float64 // of the messages that match, the part that it strikes, up to 1; 0 means all
	Count    int     // how many messages it still strikes before it ends; 0 means without end
	Struck   int64   // how many messages it has struck; kept by the inbox
	Fault    Fault
}

// Check says which field of the rule, by its name in the API, cannot be, and why.
func (r FaultRule) Check() (field string, err error) {
	if field, err = r.checkScope(); err != nil {
		return field, err
	}
	return r.Fault.check()
}

func (r FaultRule) checkScope() (field string, err error) {
	switch {
	case r.Provider != "" && !providerName.MatchString(r.Provider):
		return "provider", errors.New("a provider's name has up to 32 small letters, digits and hyphens, and no hyphen first")
	case len(r.To) > maxFaultText:
		return "to", fmt.Errorf("it is longer than %d bytes", maxFaultText)
	case strings.Contains(strings.TrimSuffix(r.To, "*"), "*"):
		return "to", errors.New(`"*" may stand at the end only`)
	case !(r.Share >= 0 && r.Share <= 1): // so that NaN is none either
		return "share", errors.New("it is above 0 and at most 1")
	case r.Count < 0 || r.Count > maxFaultCount:
		return "count", fmt.Errorf("it is from 0, which means without end, to %d", maxFaultCount)
	}
	return "", nil
}

// outcomes are the receipts that a fault can ask for.
var outcomes = []string{statusDelivered, statusUndelivered, statusFailed, outcomeNone}

func (f Fault) check() (field string, err error) {
	switch {
	case f.Delay < 0 || f.Delay > maxFaultDelay:
		return "delay", fmt.Errorf("it is from 0s to %v", maxFaultDelay)
	case f.Drop && f.AcceptThenDrop:
		return "accept_then_drop", errors.New("drop is set, which does not take the message")
	case f.Status != 0 && (f.Status < 300 || f.Status > 599):
		return "status", errors.New("it is from 300 to 599")
	case len(f.Code) > maxFaultText || strings.ContainsAny(f.Code, "\r\n"):
		return "code", fmt.Errorf("it is one line of at most %d bytes", maxFaultText)
	case len(f.Message) > maxFaultText || strings.ContainsAny(f.Message, "\r\n"):
		return "message", fmt.Errorf("it is one line of at most %d bytes", maxFaultText)
	case f.refuses() && f.Drop:
		return "drop", errors.New("a refusal is an answer: leave out status and code")
	case f.refuses() && f.AcceptThenDrop:
		return "accept_then_drop", errors.New("a refused message is not taken: leave out status and code")
	case !f.refuses() && f.Message != "":
		return "message", errors.New("it goes with a refusal: set status or code")
	case f.RetryAfter < 0 || f.RetryAfter > maxReceiptDelay:
		return "retry_after", fmt.Errorf("it is from 0s to %v", maxReceiptDelay)
	case !f.refuses() && f.RetryAfter != 0:
		return "retry_after", errors.New("it goes with a refusal: set status or code")
	}
	return f.checkReceipts()
}

func (f Fault) checkReceipts() (field string, err error) {
	switch {
	case f.Outcome != "" && !slices.Contains(outcomes, f.Outcome):
		return "outcome", fmt.Errorf("%q is none of %s", f.Outcome, strings.Join(outcomes, ", "))
	case len(f.OutcomeCode) > maxFaultText || strings.ContainsAny(f.OutcomeCode, "\r\n"):
		return "outcome_code", fmt.Errorf("it is one line of at most %d bytes", maxFaultText)
	case f.OutcomeCode != "" && f.Outcome != statusUndelivered && f.Outcome != statusFailed:
		return "outcome_code", fmt.Errorf("it goes with the outcome %q or %q", statusUndelivered, statusFailed)
	case f.ReceiptDelay < 0 || f.ReceiptDelay > maxReceiptDelay:
		return "receipt_delay", fmt.Errorf("it is from 0s to %v", maxReceiptDelay)
	case f.Repeat < 0 || f.Repeat > maxFaultRepeat:
		return "repeat", fmt.Errorf("it is from 0 to %d", maxFaultRepeat)
	}
	taken := !f.Drop && !f.refuses()
	told := taken && !f.Lost && f.Outcome != outcomeNone
	for _, c := range []struct {
		field     string
		set, fits bool
	}{
		{"lost", f.Lost, taken},
		{"outcome", f.Outcome != "", taken && !f.Lost},
		{"receipt_delay", f.ReceiptDelay != 0, told},
		{"repeat", f.Repeat != 0, told},
		{"reversed", f.Reversed, told},
	} {
		if c.set && !c.fits {
			return c.field, errors.New("such a message has no receipt, because it is refused, dropped, lost or told nothing of")
		}
	}
	return "", nil
}

func (r *FaultRule) matches(name, to string) bool {
	if r.Provider != "" && r.Provider != name {
		return false
	}
	start, open := strings.CutSuffix(r.To, "*")
	switch {
	case r.To == "":
		return true
	case open:
		return len(to) >= len(start) && strings.EqualFold(to[:len(start)], start)
	default:
		return strings.EqualFold(r.To, to)
	}
}

// faultRules are the rules in force, newest first.
type faultRules struct {
	mu   sync.Mutex
	list []*activeRule
	last uint64 // the number of the newest rule; ids are not used again
	rows uint64 // how many rows were begun from the seed
	seed uint64
}

// An activeRule draws from a row of its own, so that what other rules strike does not change what this one does.
type activeRule struct {
	FaultRule
	random *rand.Rand
}

func (s *faultRules) add(r FaultRule) FaultRule {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addLocked(r)
}

func (s *faultRules) addLocked(r FaultRule) FaultRule {
	s.last++
	s.rows++
	r.ID, r.Struck = "f"+strconv.FormatUint(s.last, 10), 0
	active := &activeRule{r, rand.New(rand.NewPCG(s.seed, s.rows))} //nolint:gosec // which messages fail is no secret
	s.list = slices.Insert(s.list, 0, active)
	s.list = s.list[:min(len(s.list), maxFaultRules)]
	return r
}

func (s *faultRules) set(rules []FaultRule, seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.rows, s.seed = nil, 0, seed
	for _, r := range slices.Backward(rules) { // the first of the argument is asked first
		s.addLocked(r)
	}
}

// remove ends the rule with the id, or every rule when it is empty, and reports whether there was one.
func (s *faultRules) remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.list)
	s.list = slices.DeleteFunc(s.list, func(r *activeRule) bool { return id == "" || r.ID == id })
	return len(s.list) < before
}

func (s *faultRules) all() []FaultRule {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]FaultRule, len(s.list))
	for i, r := range s.list {
		list[i] = r.FaultRule
	}
	return list
}

// strike asks the rules in turn and takes the fault of the first that matches and strikes; ended says that this was the rule's last.
func (s *faultRules) strike(name, to string) (f Fault, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.list {
		if !r.matches(name, to) || r.Share > 0 && r.random.Float64() >= r.Share {
			continue
		}
		r.Struck++
		if r.Count > 0 {
			if r.Count--; r.Count == 0 {
				s.list, ended = slices.Delete(s.list, i, i+1), true
			}
		}
		return r.Fault, ended
	}
	return Fault{}, false
}

// AddFault puts a rule in force, before those that are, and returns its id. It panics when the rule cannot be: see FaultRule.Check.
func (in *Inbox) AddFault(r FaultRule) (id string) {
	mustCheck(r)
	r = in.rules.add(r)
	in.store.touch()
	return r.ID
}

// SetFaults replaces the rules in force; the first is asked first. The shares start anew: of the same messages in the same order, the same ones are struck.
// It panics when a rule cannot be.
func (in *Inbox) SetFaults(rules ...FaultRule) { in.SeedFaults(0, rules...) }

// SeedFaults is SetFaults with another choice of the messages that a share strikes.
func (in *Inbox) SeedFaults(seed uint64, rules ...FaultRule) {
	for _, r := range rules {
		mustCheck(r)
	}
	in.rules.set(rules, seed)
	in.store.touch()
}

func mustCheck(r FaultRule) {
	if field, err := r.Check(); err != nil {
		panic(fmt.Sprintf("inbox: a fault rule that cannot be: %s: %v", field, err))
	}
}

// ClearFaults ends every rule.
func (in *Inbox) ClearFaults() {
	in.rules.remove("")
	in.store.touch()
}

// Faults returns the rules in force, in the order in which they are asked.
func (in *Inbox) Faults() []FaultRule { return in.rules.all() }
