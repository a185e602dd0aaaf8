package sms

import (
	"fmt"
	"slices"
	"testing"

	"github.com/otpost/otpost/pkg/delivery"
)

// Everybody sees one sender, the pool is used evenly, and a pool that grows changes the sender of those only whom the new one gains.
func TestPoolIsSticky(t *testing.T) {
	const people = 6000
	pool := []string{"+15005550006", "+15005550007", "+15005550008", "12345"}
	grown := append(slices.Clone(pool), "Shop")
	turned := slices.Clone(pool)
	slices.Reverse(turned)
	shares, moved := map[string]int{}, 0
	for i := range people {
		to := fmt.Sprintf("+1415555%04d", i)
		from := pool[pick(pool, to)]
		shares[from]++
		if again := turned[pick(turned, to)]; again != from {
			t.Fatalf("%s: %s or %s, by the order of the pool", to, from, again)
		}
		switch after := grown[pick(grown, to)]; after {
		case from:
		case "Shop":
			moved++
		default:
			t.Fatalf("%s moved from %s to %s, neither of them new", to, from, after)
		}
	}
	for from, n := range shares {
		if n < people/4*9/10 || n > people/4*11/10 {
			t.Errorf("%s has %d of %d people", from, n, people)
		}
	}
	if moved < people/5*9/10 || moved > people/5*11/10 {
		t.Errorf("%d of %d people moved to the fifth sender", moved, people)
	}
}

// These never change: they decide whom people see messages from.
func TestPoolHash(t *testing.T) {
	for pair, want := range map[[2]string]uint64{
		{"+15005550006", "+14155550100"}: 0xa0386bb72867b512,
		{"Shop", "+420601234567"}:        0xf19b0d50cf0cccac,
		{"", ""}:                         0xdb01c3104e99566d,
	} {
		if got := pairHash(pair[0], pair[1]); got != want {
			t.Errorf("pairHash(%q) = %#x, want %#x", pair, got, want)
		}
	}
	if pairHash("12", "3") == pairHash("1", "23") {
		t.Error("the border between the two does not count")
	}
}

func TestWhoseSenderItIs(t *testing.T) {
	service := "MG0123456789abcdef0123456789abcdef"
	pool := &Twilio{from: []string{"+15005550006"}}
	withService := &Twilio{service: &service}
	for _, c := range []struct {
		name   string
		t      *Twilio
		sender string
		usable func(string) bool
		want   string
	}{
		{"the pool's", pool, "", anySender, "+15005550006"},
		{"the app's", pool, "Shop", anySender, "Shop"},
		{"the app's name cannot call", pool, "Shop", phoneNumber, "+15005550006"},
		{"the app's number can", pool, "+420601234567", phoneNumber, "+420601234567"},
		{"the service's", withService, "", anySender, ""},
		{"the app's out of the service", withService, "Shop", anySender, "Shop"},
	} {
		got := c.t.sender(&delivery.Message{To: testNumber, Sender: c.sender}, c.usable)
		if (got == nil) != (c.want == "") || got != nil && *got != c.want {
			t.Errorf("%s: %v, want %q", c.name, got, c.want)
		}
	}
}
