package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file tells in plain words what became of a challenge's code, to somebody who has been woken up.

// A step is one thing that happened.
type step struct {
	at     time.Time
	number int // of the delivery; 0 for the challenge itself
	text   string
}

// story tells what happened, in order.
func (c deliveryCase) story() []step {
	out := []step{{c.CreatedAt, 0, fmt.Sprintf("%s is asked for; the answer is good until %s", c.asked(), c.ExpiresAt.UTC().Format(time.TimeOnly))}}
	for i, d := range c.Deliveries {
		var before *postgres.Delivery
		if i > 0 {
			before = &c.Deliveries[i-1]
		}
		out = append(out, step{d.CreatedAt, d.Number, ordered(d, before)})
		out = append(out, c.outcome(d)...)
	}
	for _, s := range c.strays {
		if c.tells(s) {
			continue
		}
		text := fmt.Sprintf("%s said that it is %s: that counts for nothing, as it is of another provider", s.Provider, s.State)
		if s.Why == "unknown" {
			text = fmt.Sprintf("%s said that it is %s: that counts for nothing, as there is no such delivery", s.Provider, s.State)
		} else if s.Why == "late" {
			text = fmt.Sprintf("%s said that it is %s, after another delivery had taken its place", s.Provider, s.State)
		}
		out = append(out, step{s.At, s.Number, text + because(s.Reason)})
	}
	if !c.EndedAt.IsZero() {
		out = append(out, step{c.EndedAt, 0, "the challenge ends: " + howEnded(c.State)})
	}
	slices.SortStableFunc(out, func(a, b step) int { return a.at.Compare(b.at) })
	return out
}

// asked is what the user is to type.
func (c deliveryCase) asked() string {
	if len(c.Deliveries) > 0 {
		return "a code"
	}
	return "a value of the factor " + string(c.Factor)
}

// tells reports whether a stray receipt says what the delivery's own row tells already.
func (c deliveryCase) tells(s postgres.Stray) bool {
	return s.Why == "late" && slices.ContainsFunc(c.Deliveries, func(d postgres.Delivery) bool { return d.Number == s.Number && d.State == s.State })
}

// ordered says that a delivery was ordered, and why.
func ordered(d postgres.Delivery, before *postgres.Delivery) string {
	text := fmt.Sprintf("%s to %s by %s", d.Channel, d.Mask, carrier(d))
	if d.Cost > 0 {
		text += " for " + price(d.Cost)
	}
	switch {
	case d.Cause == postgres.CauseFailover:
		return "next provider: " + text + since(before)
	case d.Cause == postgres.CauseFallback:
		return "next channel: " + text + since(before)
	case before == nil:
		return "ordered for the login: " + text
	default:
		return "asked for once more: " + text
	}
}

// carrier is who carries a delivery.
func carrier(d postgres.Delivery) string {
	return cmp.Or(d.Provider, "a provider of the worker's choice")
}

// since says why a delivery took the place of the one before.
func since(before *postgres.Delivery) string {
	if before == nil {
		return ""
	}
	late := !before.AbandonedAt.IsZero() && (before.DeliveredAt.IsZero() || before.DeliveredAt.After(before.AbandonedAt))
	switch before.State {
	case otp.DeliveryFailed, otp.DeliveryUndelivered:
		if !before.AcceptedAt.IsZero() {
			return ", since " + carrier(*before) + " failed"
		}
		if before.State == otp.DeliveryUndelivered {
			return ", since " + carrier(*before) + " could not deliver it"
		}
		return ", since " + carrier(*before) + " did not take it"
	case otp.DeliveryUnconfirmed:
		return ", since nobody knows whether " + carrier(*before) + " took it"
	case otp.DeliveryAccepted, otp.DeliveryDelivered:
		if late {
			return ", since " + carrier(*before) + " had not said in time that it delivered it"
		}
	}
	return ""
}

// outcome says what became of a delivery.
func (c deliveryCase) outcome(d postgres.Delivery) (out []step) {
	add := func(at time.Time, text string) { out = append(out, step{at, d.Number, text}) }
	if !d.AcceptedAt.IsZero() {
		text := fmt.Sprintf("%s took it after %s", carrier(d), brief(d.AcceptedAt.Sub(d.CreatedAt)))
		if d.Reference != "" {
			text += " as " + d.Reference
		}
		if d.Tries > 1 {
			text += fmt.Sprintf(", at try %d", d.Tries)
		}
		if d.Unsure > 0 {
			text += ", perhaps twice: what came of an earlier try is not known"
		}
		add(d.AcceptedAt, text)
	}
	switch d.State {
	case otp.DeliveryDelivered:
		text := "delivered, says " + carrier(d)
		if d.Provider == postgres.TestProvider {
			add(d.UpdatedAt, "not sent: the address is listed for tests")
			return out
		}
		if !d.AcceptedAt.IsZero() && !d.DeliveredAt.IsZero() {
			text += fmt.Sprintf(", %s after it took it", brief(max(0, d.DeliveredAt.Sub(d.AcceptedAt))))
		}
		if !d.AbandonedAt.IsZero() && d.DeliveredAt.After(d.AbandonedAt) {
			text += "; by then another had taken its place"
		}
		at := d.DeliveredAt
		if at.IsZero() {
			at = d.UpdatedAt
		}
		add(at, text)
	case otp.DeliveryUndelivered, otp.DeliveryFailed:
		add(d.UpdatedAt, carrier(d)+" "+failure(d)+because(d.Reason)+meaning(d.Class))
	case otp.DeliveryUnconfirmed:
		add(d.UpdatedAt, fmt.Sprintf("nobody knows whether %s took it, after %s", carrier(d), plural(d.Tries, "try", "tries"))+because(d.Reason))
	case otp.DeliveryExpired:
		add(d.UpdatedAt, "withdrawn before it was sent"+because(d.Reason))
	}
	return out
}

// failure says what a provider did of a delivery that did not arrive.
func failure(d postgres.Delivery) string {
	switch {
	case !d.AcceptedAt.IsZero():
		return "says that it failed"
	case d.State == otp.DeliveryUndelivered:
		return "could not deliver it"
	case d.Class == event.ClassTransient:
		return "could not take it in time"
	}
	return "refused it"
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// meaning says what a class of failure means.
func meaning(class string) string {
	switch class {
	case event.ClassPermanent:
		return ". The address itself is at fault"
	case event.ClassConfiguration:
		return ". It takes nothing until its set-up is mended"
	case event.ClassTransient:
		return ". It may work again later"
	case event.ClassRejected:
		return ". Another provider may take it"
	}
	return ""
}

// howEnded says how a challenge has ended.
func howEnded(s otp.State) string {
	switch s {
	case otp.Verified:
		return "verified, by a right answer"
	case otp.Expired:
		return "expired, without a right answer"
	case otp.Exhausted:
		return "exhausted, by too many wrong answers"
	case otp.Superseded:
		return "superseded, by a newer one of the same user"
	case otp.Cancelled:
		return "cancelled, by the app"
	case otp.Locked:
		return "locked, by too many wrong answers over several challenges"
	case otp.Undeliverable:
		return "undeliverable, as nothing was left to try"
	}
	return string(s)
}

// idle is how long a delivery may wait for a worker, or be in the hands of one, before that is strange.
const idle = 30 * time.Second

// verdict says in a sentence or two what is known of where the code is.
func (c deliveryCase) verdict(now time.Time) string {
	switch {
	case c.Test:
		return "The address is listed for tests: nothing is ever sent to it, and its code is fixed."
	case len(c.Deliveries) == 0:
		return whyNothing(postgres.Standing{Challenge: &c.Challenge})
	case c.State == otp.Verified:
		return fmt.Sprintf("A right answer came %s after the login.", brief(c.EndedAt.Sub(c.CreatedAt)))
	case c.State == otp.Superseded:
		return "A newer challenge of the user counts: a code of this one is not taken any more. " + c.last(now)
	}
	return c.last(now)
}

// last says where the code is, of the deliveries that may have brought it.
func (c deliveryCase) last(now time.Time) string {
	for _, d := range slices.Backward(c.Deliveries) {
		if d.State == otp.DeliveryDelivered {
			return fmt.Sprintf("%s says that it was delivered at %s: it is on the user's side. %s", carrier(d), d.DeliveredAt.UTC().Format(time.TimeOnly),
				whereToLook(d.Channel))
		}
	}
	d := c.Deliveries[len(c.Deliveries)-1]
	text := c.standing(d, now)
	if d.State == otp.DeliveryAccepted {
		return text
	}
	for _, b := range slices.Backward(c.Deliveries[:len(c.Deliveries)-1]) { // one that may still arrive, or may have
		switch b.State {
		case otp.DeliveryAccepted:
			return fmt.Sprintf("%s Before that %s took it and has not said that it delivered it: ask %[2]s for %s.", text, carrier(b), c.reference(b))
		case otp.DeliveryUnconfirmed:
			return fmt.Sprintf("%s Before that %s may have taken it: ask %[2]s for %s.", text, carrier(b), c.reference(b))
		}
	}
	return text
}

// standing says where the last delivery stands.
func (c deliveryCase) standing(d postgres.Delivery, now time.Time) string {
	switch d.State {
	case otp.DeliveryQueued:
		return c.queued(d, now)
	case otp.DeliverySending:
		age := now.Sub(d.UpdatedAt)
		if age < idle {
			return fmt.Sprintf("A worker is handing it to %s at this moment.", carrier(d))
		}
		return fmt.Sprintf("A worker took it in hand %s ago and has said nothing since. If it was killed, another takes over when its lease is over: "+
			"is otpost %s running?", brief(age), d.Channel.Address())
	case otp.DeliveryAccepted:
		return c.accepted(d, now)
	case otp.DeliveryUnconfirmed:
		return fmt.Sprintf("Nobody knows whether %s took it: its answer did not arrive. It is not sent there again, so that it does not arrive twice. "+
			"Ask %[1]s for %s.", carrier(d), c.reference(d)) + c.over()
	case otp.DeliveryUndelivered, otp.DeliveryFailed:
		return c.failed(d)
	case otp.DeliveryExpired:
		return "It was never sent: the challenge had ended, or its time was nearly over, before a worker could send it."
	}
	return ""
}

// queued says why nothing has happened to a delivery yet.
func (c deliveryCase) queued(d postgres.Delivery, now time.Time) string {
	age := now.Sub(d.CreatedAt)
	tried := ""
	if d.Tries > 0 {
		tried = fmt.Sprintf(" It was tried %s and given back, to be tried again.", times(d.Tries))
	}
	switch _, here := providerOf(c.known, d.Channel, d.Provider); {
	case c.State != otp.Open:
		return "No worker took it before the challenge ended: is otpost " + string(d.Channel.Address()) + " running?" + tried
	case d.Tries == 0 && d.Provider != "" && !here:
		return fmt.Sprintf("No worker has claimed it for %s, and none has a provider named %s for %s.", brief(age), d.Provider, d.Channel)
	case age < idle || d.Tries > 0:
		return fmt.Sprintf("It has waited for a worker for %s.%s", brief(age), tried)
	}
	return fmt.Sprintf("No worker has claimed it for %s: is otpost %s running, and does it reach NATS and Postgres?", brief(age), d.Channel.Address())
}

// accepted says what is known of a code that a provider took.
func (c deliveryCase) accepted(d postgres.Delivery, now time.Time) string {
	ask := fmt.Sprintf("Ask %s for %s.", carrier(d), c.reference(d))
	p, known := providerOf(c.known, d.Channel, d.Provider)
	if known && !p.Receipts {
		return fmt.Sprintf("%s took the code, and it never tells what becomes of a message. %s", carrier(d), ask) + c.over()
	}
	text := fmt.Sprintf("%s took the code and has not said that it delivered it. %s", carrier(d), ask)
	if c.State == otp.Open && d.DueAt.After(now) {
		text += fmt.Sprintf(" Unless it says so by %s the code goes on to the next one.", d.DueAt.UTC().Format(time.TimeOnly))
	}
	return text + c.over()
}

// failed says why a code did not go out and why nothing followed.
func (c deliveryCase) failed(d postgres.Delivery) string {
	reason := cmp.Or(d.Reason, "it did not say why")
	text := ""
	switch d.Class {
	case event.ClassPermanent:
		what := "number"
		if d.Channel == otp.Email {
			what = "mailbox"
		}
		text = fmt.Sprintf("The %s cannot be reached: %s. No other provider of %s would reach it.", what, reason, d.Channel)
	case event.ClassConfiguration:
		text = fmt.Sprintf("%s takes no messages until its set-up is mended: %s.", carrier(d), reason)
	default:
		text = fmt.Sprintf("%s did not deliver it: %s.", carrier(d), reason)
	}
	if d.Class == event.ClassPermanent {
		return text + c.over()
	}
	return text + " No other provider of the route or channel of the policy was left, or a limit or the code's time kept it from them: see otpost route test." +
		c.over()
}

// reference is what a provider knows a delivery by: its own id of it, or else otpost's.
func (c deliveryCase) reference(d postgres.Delivery) string {
	return cmp.Or(d.Reference, fmt.Sprintf("%s-%d", c.ID, d.Number))
}

// over says that a code is not worth waiting for.
func (c deliveryCase) over() string {
	if c.State == otp.Open || c.State == otp.Superseded {
		return ""
	}
	return fmt.Sprintf(" The challenge is over (%s): the user has to sign in again for a new code.", c.State)
}

// whereToLook says where a user finds a code that was delivered.
func whereToLook(ch otp.Channel) string {
	switch ch {
	case otp.Email:
		return "It may lie among unwanted mail."
	case otp.Voice:
		return "The call was answered, perhaps by a mailbox."
	default:
		return "It may lie among blocked or unknown senders."
	}
}
