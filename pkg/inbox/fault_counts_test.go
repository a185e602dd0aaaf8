package inbox

import (
	"strconv"
	"testing"
)

func TestDuplicatesAreLookedForAmongTheLast(t *testing.T) {
	in := New(Config{})
	defer in.Close()
	in.took("primary", "ann", "first")
	for i := range 2 * maxSeen {
		in.took("primary", "bob", strconv.Itoa(i))
	}
	if n := len(in.tallies.seen[0]) + len(in.tallies.seen[1]); n > 2*maxSeen {
		t.Errorf("it remembers %d messages", n)
	}
	in.took("primary", "ann", "first")                           // forgotten
	in.took("primary", "bob", strconv.Itoa(2*maxSeen-1))         // a duplicate
	in.took("primary", "bob", strconv.Itoa(2*maxSeen-maxSeen/2)) // a duplicate
	in.took("secondary", "bob", strconv.Itoa(2*maxSeen-1))       // of another provider
	in.took("primary", "carl", strconv.Itoa(2*maxSeen-1))        // to another
	if got, want := in.Tallies()["primary"], (Tally{Accepted: 2*maxSeen + 5, Duplicates: 2}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}
