package pages

import (
	"slices"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

func TestOtherWays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, channel, now, methods, channels, want string }{
		{"a code by SMS", "sms", "sms", "email totp backup_code", "sms voice whatsapp email", "voice whatsapp email totp backup_code"},
		{"one that was called with after all", "voice", "voice", "email backup_code", "sms voice email", "sms email backup_code"},
		{"one that fell back to email", "email", "email", "totp", "sms voice email", "sms voice totp"},
		{"one sent by email, which is a method too", "email", "email", "email totp", "sms voice email", "sms voice totp"},
		{"an app, with a phone beside it", "totp", "totp", "email sms backup_code", "sms voice email", "email sms voice backup_code"},
		{"another way was chosen", "voice", "totp", "totp backup_code", "sms voice", "voice sms backup_code"},
		{"no sends are left", "sms", "sms", "email totp", "", "totp"},
		{"no sends are left, and another way was chosen", "voice", "totp", "email totp", "", "voice"},
		{"a channel of a later version", "sms", "sms", "totp", "sms pigeon", "totp"},
		{"nothing else", "sms", "sms", "", "sms", ""},
	} {
		s := event.StatusReply{Channel: c.channel, Methods: strings.Fields(c.methods), Channels: strings.Fields(c.channels)}
		var got []string
		for _, w := range others(s, way(c.now)) {
			got = append(got, string(w))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
	old := event.StatusReply{Channel: "sms", Methods: []string{"email", "totp"}, SendsLeft: 2} // of a worker that tells no channels
	if got := others(old, "sms"); !slices.Equal(got, []way{"email", "totp"}) {
		t.Errorf("of a worker of the version before: %v", got)
	}
}

func TestWhatBecameOfTheCode(t *testing.T) {
	t.Parallel()
	texts, err := web.LoadTexts(web.Files(), files)
	if err != nil {
		t.Fatal(err)
	}
	en := texts.Locale("en")
	// A delivery is written as channel, cause, state and, with a mark behind, that a provider had taken it.
	for _, c := range []struct {
		name, deliveries string
		instead          string
		failed           bool
	}{
		{"nothing was sent", "", "", false},
		{"it is on its way", "sms:send:accepted!", "", false},
		{"it failed", "sms:send:failed", "", true},
		{"a call instead of a message that nobody took", "sms:send:failed voice:fallback:accepted!", "challenge.instead_sms", false},
		{"two channels on", "sms:send:accepted! voice:fallback:undelivered! email:fallback:accepted!", "challenge.instead_sms", false},
		{"two providers and a channel on", "sms:send:failed sms:failover:undelivered! voice:fallback:queued", "challenge.instead_sms", false},
		{"a call that became a mail", "voice:send:undelivered! email:fallback:accepted!", "challenge.instead_voice", false},
		{"WhatsApp that became a mail", "whatsapp:send:failed email:fallback:accepted!", "challenge.instead_whatsapp", false},
		{"a mail that became a message", "email:send:failed sms:fallback:accepted!", "challenge.instead_email", false},
		{"the next provider took it at once", "sms:send:failed sms:failover:accepted!", "", false},
		{"the next provider, after one that never delivered", "sms:send:accepted! sms:failover:accepted!", "challenge.again", false},
		{"the next provider, after one that could not deliver", "sms:send:undelivered sms:failover:accepted!", "challenge.again", false},
		{"a second call", "voice:send:undelivered! voice:failover:accepted!", "challenge.again_voice", false},
		{"it has come late", "sms:send:delivered! voice:fallback:accepted!", "", false},
		{"the user has asked for it since", "sms:send:accepted! voice:fallback:accepted! voice:send:queued", "", false},
		{"and so failed what the user asked for", "sms:send:delivered! voice:send:failed", "", true},
		{"of a worker that tells no causes", "sms::undelivered sms::accepted", "", false},
	} {
		var s event.StatusReply
		for i, text := range strings.Fields(c.deliveries) {
			part := strings.Split(text, ":")
			state, taken := strings.CutSuffix(part[2], "!")
			d := event.StatusDelivery{Attempt: i + 1, Channel: part[0], Cause: part[1], State: state}
			if taken {
				d.AcceptedAt = "2026-11-21T17:00:00.000Z"
			}
			s.Deliveries = append(s.Deliveries, d)
		}
		slices.Reverse(s.Deliveries) // they may come in any order
		if got := instead(s); got != c.instead {
			t.Errorf("%s: the page says %q, want %q", c.name, got, c.instead)
		}
		if c.instead != "" && !en.Has(c.instead) {
			t.Errorf("there is no text %s", c.instead)
		}
		if undelivered(s) != c.failed {
			t.Errorf("%s: failed is %v", c.name, !c.failed)
		}
	}
	call := func(state otp.DeliveryState) event.StatusReply {
		return event.StatusReply{Deliveries: []event.StatusDelivery{{Attempt: 1, Channel: "voice", Cause: "send", State: string(state)}}}
	}
	for state, over := range map[otp.DeliveryState]bool{
		otp.DeliveryQueued: false, otp.DeliverySending: false, otp.DeliveryAccepted: false, otp.DeliveryUnconfirmed: false,
		otp.DeliveryDelivered: true, otp.DeliveryUndelivered: true, otp.DeliveryFailed: true,
	} {
		if called(call(state)) != over {
			t.Errorf("a call that is %s counts as over: %v", state, !over)
		}
	}
}
