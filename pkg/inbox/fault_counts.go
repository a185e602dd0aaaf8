package inbox

import (
	"hash/maphash"
	"maps"
	"sync"
)

// A Tally is what one simulated provider has seen since New.
type Tally struct {
	Accepted   int64 `json:"accepted"`   // messages taken, those that a fault then lost among them
	Refused    int64 `json:"refused"`    // messages not taken: refused, or their connection closed
	Callbacks  int64 `json:"callbacks"`  // receipts that were heard: answered with a 2xx, or a bounce that was handed over
	Duplicates int64 `json:"duplicates"` // of the accepted, those whose recipient had the very same text of the same provider before
}

// maxSeen bounds how many messages a duplicate is looked for among: between this many of the last and twice as many.
const maxSeen = 1 << 16

// tallies counts by provider. Its zero value is ready.
type tallies struct {
	mu     sync.Mutex
	byName map[string]*Tally
	seed   maphash.Seed
	seen   [2]map[uint64]struct{} // of provider, recipient and text: those of now and those before
}

func (t *tallies) of(name string) *Tally {
	if t.byName == nil {
		t.byName, t.seed = make(map[string]*Tally), maphash.MakeSeed()
		t.seen[0] = make(map[uint64]struct{})
	}
	tally, ok := t.byName[name]
	if !ok {
		tally = new(Tally)
		t.byName[name] = tally
	}
	return tally
}

// took counts a message that the provider has taken, also one that reaches nobody.
func (in *Inbox) took(name, to, text string) {
	t := &in.tallies
	t.mu.Lock()
	defer t.mu.Unlock()
	tally := t.of(name)
	tally.Accepted++
	key := maphash.Comparable(t.seed, [3]string{name, to, text})
	_, now := t.seen[0][key]
	_, before := t.seen[1][key]
	if now || before {
		tally.Duplicates++
		return
	}
	if len(t.seen[0]) >= maxSeen {
		t.seen[0], t.seen[1] = make(map[uint64]struct{}), t.seen[0]
	}
	t.seen[0][key] = struct{}{}
}

// refused counts a message that the provider has not taken.
func (in *Inbox) refused(name string) {
	in.tallies.mu.Lock()
	defer in.tallies.mu.Unlock()
	in.tallies.of(name).Refused++
}

// calledBack counts a receipt of the provider that was heard.
func (in *Inbox) calledBack(name string) {
	in.tallies.mu.Lock()
	defer in.tallies.mu.Unlock()
	in.tallies.of(name).Callbacks++
}

// Tallies returns what each simulated provider has seen, by name; one that nothing came to is not there.
func (in *Inbox) Tallies() map[string]Tally {
	in.tallies.mu.Lock()
	defer in.tallies.mu.Unlock()
	all := make(map[string]Tally, len(in.tallies.byName))
	for name, tally := range maps.All(in.tallies.byName) {
		all[name] = *tally
	}
	return all
}

// Sent is how many messages the provider of the name has taken, those that a fault then lost among them.
func (in *Inbox) Sent(name string) int64 { return in.Tallies()[name].Accepted }
