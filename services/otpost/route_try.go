package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/route"
)

type routeTestCmd struct {
	databaseFlags
	Keys    string `type:"path" placeholder:"DIR" help:"Directory of the keysets, to tell whether the address is listed as a test or a safe one; that is left open where it is not given."`
	App     string `required:"" placeholder:"NAME" help:"Name of the app."`
	To      string `required:"" placeholder:"ADDRESS" help:"Phone number in E.164 (+420…), or email address."`
	Channel string `enum:",sms,voice,whatsapp,email" default:"" help:"Channel: sms, voice, whatsapp or email; sms or email where it is not given."`
	User    string `placeholder:"ID" help:"The app's id of a user: their language, and the other addresses that a code could fall back to."`
}

// Help tells what it leaves out.
func (routeTestCmd) Help() string {
	return `It reads what the workers read. It sends nothing: to have a code sent, publish a login as the app does. It cannot know whether a provider rests after
failures (see the metric otpost_provider_breaker of the channel's worker) nor how far the counters of the limits are.`
}

// A trial is what would happen to a code.
type trial struct {
	app     postgres.App
	channel otp.Channel
	address string
	mask    string
	phone   otp.Phone // of a phone channel
	listed  string    // test, safe, no, or empty where nobody looked
	locale  string    // of the user
	has     []otp.FactorKind
	blocked *postgres.PrefixBlock // the guard against pumping's, or by hand

	route postgres.Route
	set   bool // the route is one that is set
	all   []postgres.Route
	known []postgres.ProviderRow
	rates map[postgres.Lane]route.Stat

	sender  string
	catalog *message.Catalog
}

// Run tells what would happen to a code.
func (c *routeTestCmd) Run(r *run) error {
	if err := checkApp(c.App); err != nil {
		return err
	}
	t := &trial{}
	if err := c.aim(t); err != nil {
		return err
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		var err error
		if t.app, err = postgres.NewApps(db).Get(r.ctx, c.App); err != nil {
			return named(c.App, err)
		}
		if err := c.read(r, db, t); err != nil {
			return err
		}
		if err := t.show(r.stdout, c.User); err != nil {
			return err
		}
		if why := t.barred(); why != "" {
			return remarks(r.stdout, []string{why})
		}
		if _, err := fmt.Fprintln(r.stdout); err != nil {
			return err
		}
		if err := showCarriers(r.stdout, t.route.Route, t.phone.Country, t.known, t.rates); err != nil {
			return err
		}
		return remarks(r.stdout, append(doubts(t.route.Route, t.app, t.known, time.Now()), t.verdict()))
	})
}

// aim reads the address.
func (c *routeTestCmd) aim(t *trial) (err error) {
	if t.channel = otp.Channel(c.Channel); t.channel == "" {
		t.channel = otp.SMS
		if strings.Contains(c.To, "@") {
			t.channel = otp.Email
		}
	}
	if t.channel == otp.Email {
		if t.address, err = otp.ParseEmail(c.To); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
		t.mask = otp.MaskEmail(t.address)
		return nil
	}
	if t.address, err = otp.ParsePhone(c.To, ""); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	t.mask, t.phone = otp.MaskPhone(t.address), otp.LocatePhone(t.address)
	return nil
}

// read takes from the database what the workers would.
func (c *routeTestCmd) read(r *run, db *postgres.DB, t *trial) (err error) {
	store, words := postgres.NewRoutes(db), postgres.NewTemplates(db)
	if c.User != "" {
		if w := otp.CheckID(c.User); w != "" {
			return fmt.Errorf("--user: %s", w)
		}
		if t.locale, t.has, err = postgres.NewStatuses(db).Reachable(r.ctx, t.app.ID, c.User); err != nil {
			return err
		}
	}
	if t.listed, err = c.listed(r, db, t); err != nil {
		return err
	}
	if t.blocked, err = t.block(r, db); err != nil {
		return err
	}
	if t.known, err = store.Providers(r.ctx); err != nil {
		return err
	}
	if t.all, err = store.Routes(r.ctx); err != nil {
		return err
	}
	if t.rates, err = store.Rates(r.ctx, time.Now()); err != nil {
		return err
	}
	t.route, t.set = t.serving(t.channel)
	senders, err := words.Senders(r.ctx)
	if err != nil {
		return err
	}
	t.sender = senders.Of(t.app.Name, t.channel, t.phone.Country)
	if t.catalog, err = message.New(); err != nil {
		return err
	}
	own, err := words.List(r.ctx, t.app.ID)
	if err != nil {
		return err
	}
	var set []message.Template
	for _, one := range own {
		set = append(set, template(one))
	}
	if err := t.catalog.SetOverrides(map[string][]message.Template{t.app.Name: set}); err != nil {
		r.log.Warn("words that are set are not fit, and not used", "error", err)
	}
	return nil
}

// listed tells how the app has listed the address.
func (c *routeTestCmd) listed(r *run, db *postgres.DB, t *trial) (string, error) {
	if c.Keys == "" {
		return "", nil
	}
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return "", fmt.Errorf("--keys: %w", err)
	}
	digests, err := keys.DestinationKeys(t.app.Name, t.channel, t.address)
	if err != nil {
		return "", err
	}
	all, err := postgres.NewDestinations(db).List(r.ctx)
	if err != nil {
		return "", err
	}
	for _, d := range all {
		if d.AppID == t.app.ID && slices.Contains(digests, d.Digest) {
			return d.Kind, nil
		}
	}
	return "no", nil
}

// block finds the block of the number's prefix that holds now, if any.
func (t *trial) block(r *run, db *postgres.DB) (*postgres.PrefixBlock, error) {
	if !t.channel.Phone() || t.listed == postgres.DestinationSafe {
		return nil, nil
	}
	now := time.Now()
	all, err := postgres.NewPumping(db).Blocks(r.ctx, now)
	if err != nil {
		return nil, err
	}
	for i, b := range all {
		if b.AppID == t.app.ID && b.Digits == t.phone.Prefix && b.Active(now) {
			return &all[i], nil
		}
	}
	return nil, nil
}

// serving returns the route of a channel to the number's country: one that is set, or all providers of the channel.
func (t *trial) serving(ch otp.Channel) (s postgres.Route, set bool) {
	country := ""
	if ch.Phone() {
		country = t.phone.Country
	}
	if s, set = postgres.Serving(t.all, t.app.ID, ch, country); set {
		return s, true
	}
	s.Route = route.Route{Channel: ch, Policy: route.Fixed}
	for _, p := range t.known {
		if p.Channel == ch {
			s.Providers = append(s.Providers, p.Name)
		}
	}
	return s, false
}

// barred says why nothing is sent; empty where something is.
func (t *trial) barred() string {
	switch {
	case t.listed == postgres.DestinationTest:
		return "Nothing is sent: the app has listed it for tests, and its code is fixed."
	case t.channel.Phone() && t.phone.Denied != "":
		return fmt.Sprintf("Nothing is sent: numbers of its range (%s) are never written to, whatever an app allows.", strings.ReplaceAll(t.phone.Denied, "_", " "))
	case t.channel.Phone() && !t.app.Policy.Delivery.Allows(t.phone.Country):
		return fmt.Sprintf("Nothing is sent: the policy of app %s does not list %s. A login that could be asked by nothing else is refused as blocked_destination.",
			t.app.Name, orSomewhere(t.phone.Country))
	case t.blocked != nil && (t.blocked.Manual || t.app.Policy.Delivery.Pumping == otp.PumpingBlock):
		return fmt.Sprintf("Nothing is sent: the prefix %s is blocked until %s (UTC). See otpost pumping report --app=%s.", t.phone.Prefix,
			moment(t.blocked.Until), t.app.Name)
	case len(t.route.Providers) == 0:
		return fmt.Sprintf("Nothing is sent: no worker has ever said that it has a provider for %s. Is otpost %s running?", t.channel, t.channel.Address())
	}
	if most, capped := t.app.Policy.Delivery.SpendCap(t.phone.Country); t.channel.Phone() && capped && most == 0 {
		return fmt.Sprintf("Nothing is sent: the cap on what app %s may spend in %s a day is 0.", t.app.Name, orSomewhere(t.phone.Country))
	}
	return ""
}

func orSomewhere(country string) string {
	if country == "" {
		return "numbers of no country"
	}
	return country
}

// verdict says what becomes of a code, as far as can be known.
func (t *trial) verdict() string {
	first := t.route.Providers[0]
	text := fmt.Sprintf("A code would go out, over %s first", first)
	if t.route.Policy != route.Fixed && len(t.route.Providers) > 1 {
		text = fmt.Sprintf("A code would go out, over one of %s first", strings.Join(t.route.Providers, ", "))
	}
	if least, most := t.costs(); most > 0 {
		text += ", for " + money(least)
		if most > least {
			text += fmt.Sprintf(", and %s where it has to be sent over all of the route", price(most))
		}
	}
	text += ", unless a limit"
	if _, capped := t.app.Policy.Delivery.SpendCap(t.phone.Country); t.channel.Phone() && capped {
		text += " or the day's cap"
	}
	text += " is reached"
	if t.listed == "" {
		text += " or the address is listed for tests"
	}
	return text + ". The counters of limits and caps are not known here."
}

// costs are those of the cheapest way and of all of the route.
func (t *trial) costs() (first, all int64) {
	for i, name := range t.route.Providers {
		p, _ := providerOf(t.known, t.channel, name)
		cost := p.Cost(t.phone.Country)
		all += cost
		if i == 0 || t.route.Policy != route.Fixed && cost < first {
			first = cost
		}
	}
	return first, all
}
