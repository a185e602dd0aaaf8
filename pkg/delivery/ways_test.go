package delivery_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A scripted provider answers each message with the error that the test has set for its delivery, and remembers what it was handed.
type scripted struct {
	name string

	mu      sync.Mutex
	answers map[string][]error // by reference; the last one stays
	got     map[string][]delivery.Message
}

func newScripted(name string) *scripted {
	return &scripted{name: name, answers: map[string][]error{}, got: map[string][]delivery.Message{}}
}

func (p *scripted) Name() string { return p.name }

func (p *scripted) Send(_ context.Context, m *delivery.Message) (delivery.Accepted, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got[m.Reference] = append(p.got[m.Reference], *m)
	list := p.answers[m.Reference]
	if len(list) == 0 {
		return delivery.Accepted{Reference: "SM-" + p.name}, nil
	}
	if len(list) > 1 {
		p.answers[m.Reference] = list[1:]
	}
	if list[0] == nil {
		return delivery.Accepted{Reference: "SM-" + p.name}, nil
	}
	return delivery.Accepted{}, list[0]
}

func (p *scripted) script(reference string, answers ...error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[reference] = answers
}

func (p *scripted) messages(reference string) []delivery.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got[reference]
}

func fault(c delivery.Class) error {
	return &delivery.Error{Class: c, Code: "42", Reason: "why"}
}

// What a worker makes of a provider's answer, where its command says that there is another way, and where it does not.
func TestWhatIsToldOfTrouble(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	one, two := newScripted("one"), newScripted("two")
	b.config.Providers = []delivery.Provider{one, two}
	b.config.Lease = 3 * time.Second
	b.run()
	cases := []struct {
		name      string
		providers []string
		next      bool
		answers   []error // of the provider two
		state     otp.DeliveryState
		class     string
		provider  string
		one, two  int // messages
	}{
		{"none named", nil, false, nil, "accepted", "", "one", 1, 0},
		{"the second named", []string{"two"}, true, nil, "accepted", "", "two", 0, 1},
		{"transient, with another way", []string{"two"}, true, []error{fault(delivery.Transient)}, "failed", "transient", "two", 0, 1},
		{"transient, without", []string{"two"}, false, []error{fault(delivery.Transient), fault(delivery.Transient), nil}, "accepted", "", "two", 0, 3},
		{"lost, with another way", []string{"two"}, true, []error{fault(delivery.Ambiguous)}, "unconfirmed", "ambiguous", "two", 0, 1},
		{"lost, without", []string{"two"}, false, []error{fault(delivery.Ambiguous), nil}, "accepted", "", "two", 0, 2},
		{"lost twice, without", []string{"two"}, false, []error{fault(delivery.Ambiguous)}, "unconfirmed", "", "two", 0, 2},
		{"the address at fault", []string{"two"}, false, []error{fault(delivery.Permanent)}, "failed", "permanent", "two", 0, 1},
		{"the address at fault, with another named", []string{"two", "one"}, true, []error{fault(delivery.Permanent)}, "failed", "permanent", "two", 0, 1},
		{"rejected", []string{"two"}, true, []error{fault(delivery.Rejected)}, "failed", "rejected", "two", 0, 1},
		{"rejected, with another named", []string{"two", "one"}, false, []error{fault(delivery.Rejected)}, "accepted", "", "one", 1, 1},
		{"configuration", []string{"two"}, false, []error{fault(delivery.Configuration)}, "failed", "configuration", "two", 0, 1},
		{"one that is not here, with another way", []string{"three"}, true, nil, "failed", "transient", "three", 0, 0},
	}
	commands := make([]event.Command, len(cases))
	for i, c := range cases {
		cmd := b.command(event.PurposeChallenge)
		cmd.Providers, cmd.Next, cmd.Sender, cmd.Country = c.providers, c.next, "Shop", "US"
		two.script(cmd.Reference(), c.answers...)
		b.db.Exec(t, "UPDATE deliveries SET provider = $2 WHERE challenge_id = $1", cmd.Challenge, strings.Join(c.providers[:min(1, len(c.providers))], ""))
		commands[i] = cmd
		b.send(cmd)
	}
	absent := b.command(event.PurposeChallenge) // nobody else could take it: it waits for a worker that has the provider
	absent.Providers = []string{"three"}
	b.send(absent)
	told := map[uuid.UUID]event.Receipt{}
	otposttest.Eventually(t, "a receipt of each", func() bool {
		for _, r := range b.receipts() {
			told[r.Challenge] = r
		}
		return len(told) == len(cases)
	})
	keys := otposttest.Ring(t, keyring.Challenge)
	for i, c := range cases {
		cmd := commands[i]
		r := told[cmd.Challenge]
		if r.State != c.state || r.Class != c.class || r.Provider != c.provider || r.Attempt != 1 || (r.State == otp.DeliveryAccepted) != (r.Reference == "SM-"+c.provider) {
			t.Errorf("%s: told %+v, want %s %s of %s", c.name, r, c.state, c.class, c.provider)
		}
		row := otposttest.Get[string](t, b.db, "SELECT concat_ws(' ', state, class, provider) FROM deliveries WHERE challenge_id = $1", cmd.Challenge)
		if want := string(c.state) + " " + c.class + " " + c.provider; row != want {
			t.Errorf("%s: on record is %q, want %q", c.name, row, want)
		}
		gotOne, gotTwo := one.messages(cmd.Reference()), two.messages(cmd.Reference())
		if len(gotOne) != c.one || len(gotTwo) != c.two {
			t.Errorf("%s: %d and %d messages, want %d and %d", c.name, len(gotOne), len(gotTwo), c.one, c.two)
		}
		for _, m := range append(gotOne, gotTwo...) {
			if id, number, err := keys.OpenReceipt(m.Token); err != nil || id != cmd.Challenge || number != 1 {
				t.Errorf("%s: its token opens to %s, %d, %v", c.name, id, number, err)
			}
			if m.Sender != "Shop" || m.Country != "US" || len(m.Code) != cmd.Digits {
				t.Errorf("%s: sender %q, country %q, a code of %d digits", c.name, m.Sender, m.Country, len(m.Code))
			}
		}
	}
	otposttest.Eventually(t, "a try of what no provider is here for", func() bool {
		return otposttest.Get[int](t, b.db, "SELECT tries FROM deliveries WHERE challenge_id = $1", absent.Challenge) > 1
	})
	if n := len(one.messages(absent.Reference())) + len(two.messages(absent.Reference())); n != 0 {
		t.Errorf("%d messages of what was for another provider", n)
	}
	if letters := b.dead(); len(letters) > 0 {
		t.Errorf("dead letters: %+v", letters)
	}
}

// A command whose delivery was claimed twice, by processes that said nothing, ends under the name of the provider that has it.
func TestGivenUpUnderItsOwnProvider(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	one, two := newScripted("one"), newScripted("two")
	b.config.Providers, b.config.Lease = []delivery.Provider{one, two}, 3*time.Second
	cmd := b.command(event.PurposeChallenge)
	cmd.Providers = []string{"two"}
	b.db.Exec(t, "UPDATE deliveries SET provider = 'two', state = 'sending', tries = 2, unsure = 1, claimed_at = $2 WHERE challenge_id = $1", cmd.Challenge,
		b.clock.Now().Add(-time.Minute))
	b.run()
	b.send(cmd)
	b.awaitState(cmd, otp.DeliveryUnconfirmed)
	otposttest.Eventually(t, "its receipt", func() bool { return b.waiting(bus.StreamReceipts) == 1 })
	if r := b.receipts()[0]; r.Provider != "two" || r.Class != "" || len(one.messages(cmd.Reference()))+len(two.messages(cmd.Reference())) != 0 {
		t.Errorf("told %+v", r)
	}
}
