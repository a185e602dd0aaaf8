package sms

import "github.com/otpost/otpost/pkg/delivery"

// sender is whom m comes from: whom the app asks for, where usable allows it, else the recipient's of the pool; nil leaves it to the messaging service.
// With a service, a sender that the app asks for must be one of the service's.
func (t *Twilio) sender(m *delivery.Message, usable func(string) bool) *string {
	if m.Sender != "" && usable(m.Sender) {
		return &m.Sender
	}
	if len(t.from) == 0 {
		return nil
	}
	return &t.from[pick(t.from, m.To)]
}

func anySender(string) bool { return true }

// pick returns the index of the recipient's sender. It is the same whatever the order of the pool and for all workers, and a sender that is added or
// taken away changes it for those only whom that sender gains or loses (rendezvous hashing: the sender with the highest hash of the pair).
func pick(pool []string, to string) int {
	best, top := 0, uint64(0)
	for i, from := range pool {
		if h := pairHash(from, to); i == 0 || h > top {
			best, top = i, h
		}
	}
	return best
}

// pairHash is FNV-1a (64 bits) of both, finished with MurmurHash3's mixer, because the numbers of a pool and of a town differ in their last digits only,
// which FNV leaves in the low bits. It must never change: it decides whom people see messages from.
func pairHash(from, to string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range [2]string{from, to} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h *= 1099511628211 // as for a zero octet, so that the border counts
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
