package delivery

import "testing"

// The number itself is at fault where no provider of the channel would reach it, and nowhere else: a wrong "permanent" keeps a code from people whom the
// next provider would reach.
func TestTwilioReason(t *testing.T) {
	for code, permanent := range map[int]bool{
		21211: true, 21217: true, 21614: true, 21635: true, 30005: true, 30006: true, 63003: true, 63024: true,
		20003: false, 20429: false, 21408: false, 21606: false, 21610: false, 21612: false, 30001: false, 30002: false, 30003: false, 30004: false,
		30007: false, 30008: false, 30032: false, 30034: false, 30450: false, 63016: false, 63018: false, 63049: false,
	} {
		reason, got, known := TwilioReason(code)
		if got != permanent || !known || reason == "" {
			t.Errorf("%d: %q, permanent %t, known %t", code, reason, got, known)
		}
	}
	for _, code := range []int{0, -1, 29999} {
		if reason, permanent, known := TwilioReason(code); reason != "" || permanent || known {
			t.Errorf("%d: %q, permanent %t, known %t", code, reason, permanent, known)
		}
		if class, _, _ := TwilioClass(code); class != Ambiguous {
			t.Errorf("%d: %v", code, class)
		}
	}
	for code, c := range twilioCodes {
		if c.reason == "" || len(c.reason) > 80 {
			t.Errorf("%d has the reason %q", code, c.reason)
		}
	}
}
