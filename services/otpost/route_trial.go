package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file writes what otpost route test has found.

func (t *trial) show(out io.Writer, user string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	p := t.app.Policy.Delivery
	row("app", t.app.Name)
	row("to", t.mask)
	row("channel", string(t.channel))
	if t.channel.Phone() {
		row("country", t.country())
		row("prefix", t.prefix())
	}
	switch t.listed {
	case "":
		row("listed", "not looked up: give --keys")
	case postgres.DestinationSafe:
		row("listed", "as safe: neither the limits of prefix and app nor the guard against pumping hold")
	default:
		row("listed", strings.Replace(t.listed, "test", "for tests", 1))
	}
	if t.listed != postgres.DestinationTest {
		for i, text := range bounds(p, t.channel, t.phone.Country, t.listed == postgres.DestinationSafe) {
			fmt.Fprintf(w, "%s\t%s\n", [...]string{"limits", ""}[min(i, 1)], text)
		}
	}
	text, said, err := t.text()
	if err != nil {
		return err
	}
	if user != "" && t.locale != "" {
		said += ", as the user asks"
	}
	row("language", said)
	if text != "" {
		row("message", text)
	}
	if t.channel.Phone() {
		sender := t.sender
		if sender == "" {
			sender = "what the provider chooses"
		}
		row("sender", sender)
	}
	switch {
	case t.set && t.route.AppID == 0:
		row("route", where("", t.channel, t.route.Country)+", by "+string(t.route.Policy))
	case t.set:
		row("route", where(t.app.Name, t.channel, t.route.Country)+", by "+string(t.route.Policy))
	default:
		row("route", "none is set: all providers of the channel, as their worker's file lists them")
	}
	row("receipt within", receiptWithin(t.route.ReceiptTimeout))
	then := t.fallbacks(user)
	if len(then) == 0 {
		then = []string{"nothing"}
	}
	for i, text := range then {
		fmt.Fprintf(w, "%s\t%s\n", [...]string{"falls back to", ""}[min(i, 1)], text)
	}
	return w.Flush()
}

// country says where a number is and whether the app sends there.
func (t *trial) country() string {
	switch {
	case t.phone.Denied != "":
		return orSomewhere(t.phone.Country) + ": " + strings.ReplaceAll(t.phone.Denied, "_", " ") + " numbers, denied to all apps"
	case t.app.Policy.Delivery.Allows(t.phone.Country):
		return orSomewhere(t.phone.Country) + ", which the app allows"
	}
	return orSomewhere(t.phone.Country) + ", which the app does not allow"
}

// prefix tells how the guard against pumping looks at the numbers that begin alike.
func (t *trial) prefix() string {
	switch {
	case t.blocked == nil:
		return t.phone.Prefix
	case t.blocked.Manual:
		return t.phone.Prefix + ", blocked by hand"
	case t.app.Policy.Delivery.Pumping == otp.PumpingBlock:
		return t.phone.Prefix + ", blocked as it looks pumped"
	}
	return t.phone.Prefix + ", which looks pumped; the app's policy does not block it"
}

// text tells of what a login's message would be, and in which language.
func (t *trial) text() (size, language string, err error) {
	in := sampleOf(t.app, templateFlags{Channel: string(t.channel), Purpose: "login", Locale: t.locale})
	if t.channel == otp.Email {
		m, err := t.catalog.Email(in)
		return "", m.Locale, err
	}
	write := map[otp.Channel]func(message.Input) (message.SMSMessage, error){
		otp.SMS: t.catalog.SMS, otp.Voice: t.catalog.Voice, otp.WhatsApp: t.catalog.WhatsApp,
	}[t.channel]
	m, err := write(in)
	if err != nil || t.channel != otp.SMS {
		return "", m.Locale, err
	}
	encoding, units, segments := message.Segments(m.Text)
	size = fmt.Sprintf("%s, %d units, %s", encoding, units, plural(segments, "segment", "segments"))
	if segments > 1 {
		size += ", each of which providers charge for"
	}
	return size, m.Locale, nil
}

// bounds writes the limits that a message counts in, a line for each.
func bounds(p otp.DeliveryPolicy, ch otp.Channel, country string, safe bool) (out []string) {
	add := func(what string, r otp.Rate) {
		var parts []string
		for _, b := range []struct {
			n  int
			of string
		}{{r.Minute, "a minute"}, {r.Hour, "an hour"}, {r.Day, "a day"}} {
			if b.n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", b.n, b.of))
			}
		}
		if len(parts) > 0 {
			out = append(out, what+" "+strings.Join(parts, ", "))
		}
	}
	add("user:", p.Limits.User)
	add("this address:", p.Limits.Destination)
	add("the client's IP:", p.Limits.IP)
	if ch.Phone() && !safe {
		add("prefix:", p.Limits.Prefix)
		add("app, all phones:", p.Limits.App)
	}
	if p.Limits.Cooldown > 0 {
		out = append(out, "between two to this address: "+otp.ShortDuration(p.Limits.Cooldown))
	}
	if most, capped := p.SpendCap(country); ch.Phone() && capped {
		out = append(out, fmt.Sprintf("spent in %s: %s a day", orSomewhere(country), money(most)))
	}
	return out
}

// money writes millionths of the operator's currency, of which none is an amount too.
func money(micros int64) string {
	if micros == 0 {
		return "0"
	}
	return price(micros)
}

// fallbacks are the channels that follow when the route is exhausted, with who carries them.
func (t *trial) fallbacks(user string) (out []string) {
	for _, ch := range t.app.Policy.Delivery.Fallback {
		if ch == t.channel {
			continue
		}
		if ch.Address() != t.channel.Address() {
			kind := ch.Factor()
			switch {
			case user == "":
				out = append(out, fmt.Sprintf("%s where the user has an address for it", ch))
				continue
			case !slices.Contains(t.has, kind):
				continue
			}
		}
		s, _ := t.serving(ch)
		if len(s.Providers) == 0 {
			out = append(out, fmt.Sprintf("%s, which no worker has a provider for", ch))
			continue
		}
		text := fmt.Sprintf("%s by %s", ch, s.Providers[0])
		p, _ := providerOf(t.known, ch, s.Providers[0])
		if cost := p.Cost(t.phone.Country); cost > 0 && ch.Phone() {
			text += " for " + price(cost)
		}
		out = append(out, text)
	}
	return out
}
