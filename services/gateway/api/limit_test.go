package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/otpost/otpost/services/gateway/web"
)

// One client is one address of IPv4 and a whole /64 of IPv6, in whatever form it is written.
func TestNetworks(t *testing.T) {
	for from, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "::ffff:203.0.113.7": "203.0.113.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64", "": "invalid Prefix", "@": "invalid Prefix",
	} {
		if got := web.Network(from).String(); got != want {
			t.Errorf("%q is %s, not %s", from, got, want)
		}
	}
}

// However many addresses come, no more buckets than the bound are kept, and those beyond it are slowed down together.
func TestBucketsAreBounded(t *testing.T) {
	now := time.Now()
	b := newBuckets[string](1, 2, 10)
	let := 0
	for i := range 1000 {
		if _, ok := b.take(now, fmt.Sprint(i)); ok {
			let++
		}
	}
	if len(b.by) != 10 || let != 12 { // ten of their own, two of the shared one
		t.Errorf("%d buckets, %d let through", len(b.by), let)
	}
	if wait, ok := b.take(now, "another"); ok || wait != time.Second {
		t.Errorf("%s, %v", wait, ok)
	}
	now = now.Add(time.Second) // the ten are full again, and make room
	if _, ok := b.take(now, "another"); !ok || len(b.by) != 1 {
		t.Errorf("after a second: %v, %d buckets", ok, len(b.by))
	}
	b.prune(now)
	if len(b.by) != 1 {
		t.Error("a bucket that is not full was dropped")
	}
	b.prune(now.Add(time.Second))
	if len(b.by) != 0 || b.empty(now, "another") {
		t.Error("a full bucket was kept")
	}
}
