package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// deliveryPolicyFlags change what they name of an app's policy about sending. A pointer that is nil leaves the setting as it is.
type deliveryPolicyFlags struct {
	Countries     *string           `help:"Countries that phones may be reached in, ISO 3166-1, separated by commas; * for all. Premium and satellite numbers are in none. Empty for no phone."`
	Fallback      *string           `help:"Channels that follow, in this order, when the one before has failed: of sms, voice, whatsapp, email, separated by commas. Empty for none."`
	Limit         map[string]string `mapsep:"none" placeholder:"WHAT=N/m,N/h,N/d" help:"Messages a minute, hour and day (UTC) for what is named: user, destination, ip (an IPv4 address or a /64), prefix, app; those of prefix and app to phones only. What is left out has no bound; 'user=' for none at all. May be repeated."`
	SendCooldown  *time.Duration    `help:"Pause between messages to one address over several challenges; 0s (none) to 1h."`
	SpendCap      map[string]string `mapsep:"none" placeholder:"COUNTRY=AMOUNT" help:"Most that messages to phones in a country may cost in a day (UTC), in your currency, such as US=25.00; * for each country that is not named, 'US=' to take the cap away. May be repeated."`
	Pumping       *string           `help:"What becomes of a range of numbers that looks pumped: off, shadow (it is only told) or block."`
	SMSWebOTP     *bool             `name:"sms-webotp" negatable:"" help:"The last line of short messages that browsers fill the code in from, where the app has an origin."`
	SMSKeepSecret *bool             `name:"sms-keep-secret" negatable:"" help:"The words not to share the code."`
	SMSFold       *bool             `name:"sms-fold" negatable:"" help:"Look-alikes of Latin letters may be written plainly where that saves a segment."`
}

// apply sets what was named. Bounds are checked where the app is written.
func (f deliveryPolicyFlags) apply(p *otp.DeliveryPolicy) error {
	if f.Countries != nil {
		p.Countries = list(*f.Countries, ",")
	}
	if f.Fallback != nil {
		p.Fallback = nil
		for _, c := range list(*f.Fallback, ",") {
			p.Fallback = append(p.Fallback, otp.Channel(c))
		}
	}
	for _, what := range slices.Sorted(maps.Keys(f.Limit)) {
		r := rateOf(&p.Limits, what)
		if r == nil {
			return fmt.Errorf("--limit: %q is not one of user, destination, ip, prefix, app", what)
		}
		parsed, err := parseRate(f.Limit[what])
		if err != nil {
			return fmt.Errorf("--limit %s: %w", what, err)
		}
		*r = parsed
	}
	set(&p.Limits.Cooldown, f.SendCooldown)
	if err := setCaps(p, f.SpendCap); err != nil {
		return err
	}
	if f.Pumping != nil {
		p.Pumping = otp.PumpingMode(*f.Pumping)
	}
	unset(&p.Style.NoWebOTP, f.SMSWebOTP)
	unset(&p.Style.NoKeepSecret, f.SMSKeepSecret)
	set(&p.Style.Fold, f.SMSFold)
	return nil
}

// unset writes the opposite of a flag, where it was given.
func unset(to *bool, from *bool) {
	if from != nil {
		*to = !*from
	}
}

func setCaps(p *otp.DeliveryPolicy, caps map[string]string) error {
	if len(caps) == 0 {
		return nil
	}
	all := maps.Clone(p.SpendCaps)
	if all == nil {
		all = map[string]int64{}
	}
	for country, amount := range caps {
		if country == otp.AnyCountry {
			country = ""
		}
		if amount == "" {
			delete(all, country)
			continue
		}
		most, err := parseMoney(amount)
		if err != nil {
			return fmt.Errorf("--spend-cap %s: %w", country, err)
		}
		all[country] = most
	}
	p.SpendCaps = all
	return nil
}

func rateOf(l *otp.Limits, what string) *otp.Rate {
	switch what {
	case "user":
		return &l.User
	case "destination":
		return &l.Destination
	case "ip":
		return &l.IP
	case "prefix":
		return &l.Prefix
	case "app":
		return &l.App
	}
	return nil
}

// parseRate reads "6/m,20/h,50/d".
func parseRate(text string) (r otp.Rate, err error) {
	for _, part := range list(text, ",") {
		count, window, _ := strings.Cut(part, "/")
		n, err := strconv.Atoi(strings.TrimSpace(count))
		if err != nil || n < 1 {
			return r, fmt.Errorf("%q is not of the form 6/m, 20/h or 50/d", part)
		}
		var to *int
		switch strings.TrimSpace(window) {
		case "m":
			to = &r.Minute
		case "h":
			to = &r.Hour
		case "d":
			to = &r.Day
		default:
			return r, fmt.Errorf("%q is not of the form 6/m, 20/h or 50/d", part)
		}
		if *to != 0 {
			return r, fmt.Errorf("%q names a window twice", text)
		}
		*to = n
	}
	return r, nil
}

// rateText is what parseRate reads; "none" where nothing is bounded.
func rateText(r otp.Rate) string {
	var parts []string
	for _, w := range []struct {
		n    int
		unit string
	}{{r.Minute, "m"}, {r.Hour, "h"}, {r.Day, "d"}} {
		if w.n > 0 {
			parts = append(parts, strconv.Itoa(w.n)+"/"+w.unit)
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ",")
}

const millionths = 1_000_000

// parseMoney reads a decimal into millionths.
func parseMoney(text string) (int64, error) {
	whole, part, _ := strings.Cut(strings.TrimSpace(text), ".")
	bad := errors.New("must be an amount such as 25.00, with at most six digits after the point")
	if len(part) > 6 || whole == "" || strings.Trim(whole+part, "0123456789") != "" {
		return 0, bad
	}
	w, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || w > 1_000_000_000 {
		return 0, bad
	}
	f, err := strconv.ParseInt((part + "000000")[:6], 10, 64)
	if err != nil {
		return 0, bad
	}
	return w*millionths + f, nil
}

// moneyText writes millionths as a decimal, with two digits or as many as it takes.
func moneyText(n int64) string {
	s := fmt.Sprintf("%d.%06d", n/millionths, n%millionths)
	for range 4 {
		s = strings.TrimSuffix(s, "0")
	}
	return s
}

// rows are the settings by their flags' names.
func (deliveryPolicyFlags) rows(p otp.DeliveryPolicy) [][2]any {
	fallback := make([]string, len(p.Fallback))
	for i, c := range p.Fallback {
		fallback[i] = string(c)
	}
	var caps []string
	for _, country := range slices.Sorted(maps.Keys(p.SpendCaps)) {
		name := country
		if name == "" {
			name = otp.AnyCountry
		}
		caps = append(caps, name+"="+moneyText(p.SpendCaps[country]))
	}
	l := p.Limits
	return [][2]any{
		{"countries", strings.Join(p.Countries, ",")},
		{"fallback", strings.Join(fallback, ",")},
		{"limit user", rateText(l.User)},
		{"limit destination", rateText(l.Destination)},
		{"limit ip", rateText(l.IP)},
		{"limit prefix", rateText(l.Prefix)},
		{"limit app", rateText(l.App)},
		{"send-cooldown", otp.ShortDuration(l.Cooldown)},
		{"spend-cap", strings.Join(caps, ",")},
		{"pumping", string(p.Pumping)},
		{"sms-webotp", !p.Style.NoWebOTP},
		{"sms-keep-secret", !p.Style.NoKeepSecret},
		{"sms-fold", p.Style.Fold},
	}
}

// remark says that no phone can be reached yet, which is easily overlooked.
func (deliveryPolicyFlags) remark(out io.Writer, a postgres.App) error {
	if len(a.Policy.Delivery.Countries) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "\nPhones cannot be reached yet: name the countries with otpost app policy set %s --countries=US,CA (* for all).\n", a.Name)
	return err
}
