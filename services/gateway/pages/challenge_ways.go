package pages

import (
	"slices"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// This file knows the ways in which a challenge can be answered, and what became of the code on its way.

// A way is how a user answers: by a code that came over a channel, or by a kind of factor that needs none.
type way string

const byKey = way(otp.FactorWebAuthn)

// sent reports whether a code is sent for it.
func (w way) sent() bool { return otp.Channel(w).Valid() }

// wayIcons are the pictures of the ways to answer.
var wayIcons = map[way]string{
	way(otp.SMS): "text", way(otp.Voice): "call", way(otp.WhatsApp): "chat", way(otp.Email): "email", way(otp.FactorTOTP): "app", way(otp.FactorHOTP): "app",
	way(otp.FactorWebAuthn): "key", way(otp.FactorYubikey): "key", way(otp.FactorBackupCode): "codes",
}

// others are the ways to answer but for the one of now: first how the challenge asks, then over what else its code can be sent, then what else the user has.
func others(s event.StatusReply, now way) (out []way) {
	add := func(w way) {
		if w != now && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	channels := channels(s)
	family := func(kind otp.FactorKind) { // one address, however it is reached
		for _, ch := range channels {
			if ch.Factor() == kind {
				add(way(ch))
			}
		}
	}
	add(way(s.Channel))
	family(otp.Channel(s.Channel).Factor())
	for _, ch := range channels {
		if kind := ch.Factor(); !slices.Contains(s.Methods, string(kind)) {
			family(kind)
		}
	}
	for _, m := range s.Methods {
		if way(m).sent() {
			family(otp.FactorKind(m))
		} else {
			add(way(m))
		}
	}
	return out
}

// channels are those over which the code can be sent. A worker of the version before does not tell them: then they are the kinds of factor that the user has.
func channels(s event.StatusReply) (out []otp.Channel) {
	from := s.Channels
	if len(from) == 0 && s.SendsLeft > 0 {
		from = s.Methods
	}
	for _, name := range from {
		if ch := otp.Channel(name); ch.Valid() {
			out = append(out, ch)
		}
	}
	return out
}

// sends are the deliveries since the user last asked for the code, the first one first.
func sends(s event.StatusReply) []event.StatusDelivery {
	all := slices.SortedFunc(slices.Values(s.Deliveries), func(a, b event.StatusDelivery) int { return a.Attempt - b.Attempt })
	for i, d := range slices.Backward(all) {
		if d.Cause == causeSend || d.Cause == "" { // a worker of the version before tells no causes, and never takes another way by itself
			return all[i:]
		}
	}
	return all
}

// causeSend is why a delivery was ordered, where it was for the login or the user, and not because another one failed.
const causeSend = "send"

// last is where the delivery stands that counts; empty where there is none.
func last(s event.StatusReply) otp.DeliveryState {
	all := sends(s)
	if len(all) == 0 {
		return ""
	}
	return otp.DeliveryState(all[len(all)-1].State)
}

// undelivered reports whether the last message with the code did not arrive.
func undelivered(s event.StatusReply) bool {
	state := last(s)
	return state == otp.DeliveryFailed || state == otp.DeliveryUndelivered
}

// called reports whether the last call is over, answered or not.
func called(s event.StatusReply) bool {
	return undelivered(s) || last(s) == otp.DeliveryDelivered
}

// instead names the text that says why the code comes over another channel than it was sent over, or for a second time; empty where neither is so, and where
// it has arrived after all. What a provider refused at once was nothing that anybody waited for: that the next one took it is no news.
func instead(s event.StatusReply) string {
	all := sends(s)
	if len(all) < 2 {
		return ""
	}
	before, now := all[:len(all)-1], all[len(all)-1]
	taken := false
	for _, d := range before {
		state := otp.DeliveryState(d.State)
		if state == otp.DeliveryDelivered {
			return ""
		}
		taken = taken || d.AcceptedAt != "" || state == otp.DeliveryUndelivered
	}
	switch told := before[0].Channel; {
	case told != now.Channel:
		return "challenge.instead_" + told
	case taken && otp.Channel(told) == otp.Voice:
		return "challenge.again_voice"
	case taken:
		return "challenge.again"
	}
	return ""
}
