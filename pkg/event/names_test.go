package event

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamesAreAll(t *testing.T) {
	var got []string
	for _, n := range Names() {
		got = append(got, string(n))
	}
	want := eventNames(t)
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("names (-constants +list):\n%s", d)
	}
}

func TestEventOf(t *testing.T) {
	for _, n := range Names() {
		if app, name, ok := EventOf(EventSubject("shop-2", n)); app != "shop-2" || name != n || !ok {
			t.Errorf("%s: %q %q %v", n, app, name, ok)
		}
	}
	for _, s := range []string{"otpost.app.shop.event.", "otpost.app.shop.event", "otpost.app.shop.login", "otpost.app.a b.event.x", "otpost.work.sms", "otpost.app.event.x", ""} {
		if app, name, ok := EventOf(s); ok {
			t.Errorf("%q is of %q: %q", s, app, name)
		}
	}
}
