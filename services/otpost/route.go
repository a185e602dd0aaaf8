package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/route"
)

type routeCmd struct {
	Set    routeSetCmd    `cmd:"" help:"Set which providers carry a channel's codes, and in which order."`
	List   routeListCmd   `cmd:"" help:"List the routes."`
	Show   routeShowCmd   `cmd:"" help:"Show a route and what is known of its providers."`
	Remove routeRemoveCmd `cmd:"" help:"Remove a route: the next less particular one serves."`
	Test   routeTestCmd   `cmd:"" help:"Tell what would happen to a code for an address now. Nothing is sent."`
}

// Help tells which route serves.
func (routeCmd) Help() string {
	return `Of the routes of a channel the most particular serves: that of the app and the country, of the app, of the country for all apps, of all apps.
Where none is set, all providers of the channel serve in the order of their workers' file. A change reaches every worker within three seconds.`
}

// routeFlags name a route.
type routeFlags struct {
	databaseFlags
	App     string `placeholder:"NAME" help:"Name of the app; or give --all-apps."`
	AllApps bool   `help:"Every app that has no route of its own there."`
	Channel string `required:"" enum:"sms,voice,whatsapp,email" help:"Channel: sms, voice, whatsapp or email."`
	Country string `placeholder:"CC" help:"Country of the number that is reached, such as CZ (ISO 3166-1); every country that has no route of its own where it is not given."`
}

// withPlace opens the database and finds the app: that without a number stands for all apps.
func (f routeFlags) withPlace(r *run, fn func(*postgres.DB, postgres.App) error) error {
	switch {
	case (f.App == "") != f.AllApps:
		return errors.New("--app, --all-apps: give one of them")
	case f.Country != "" && !otp.ValidPhoneCountry(f.Country):
		return fmt.Errorf("--country: must be the code of a country, such as CZ (ISO 3166-1 alpha-2), not %.40q", f.Country)
	}
	return withDB(f.databaseFlags, func(db *postgres.DB) error {
		if f.AllApps {
			return fn(db, postgres.App{})
		}
		if err := checkApp(f.App); err != nil {
			return err
		}
		a, err := postgres.NewApps(db).Get(r.ctx, f.App)
		if err != nil {
			return named(f.App, err)
		}
		return fn(db, a)
	})
}

// where says in words what a route is of.
func where(app string, ch otp.Channel, country string) string {
	return fmt.Sprintf("%s of %s to %s", ch, whose(app), cmp.Or(country, "every country"))
}

func whose(app string) string {
	if app == "" {
		return "all apps"
	}
	return "app " + app
}

type routeSetCmd struct {
	routeFlags
	Providers      string        `required:"" placeholder:"NAME,…" help:"Providers, the first choice first."`
	Policy         string        `default:"order" enum:"order,weight,conversion" help:"In which order a challenge tries them: order (as listed), weight (drawn by --weights), or conversion (by the share of codes that came back)."`
	Weights        string        `placeholder:"N,…" help:"A weight of 0 to 1000 for each provider; one of 0 is tried after all others. With conversion it may be left out."`
	ReceiptTimeout time.Duration `placeholder:"20s" help:"How long a code that a provider took may stay without its word that it was delivered, before it goes over the next one; 5s to 5m, for ever where it is not given."`
}

// Run sets a route, or says why it could not work.
func (c *routeSetCmd) Run(r *run) error {
	next := route.Route{
		Channel: otp.Channel(c.Channel), Country: c.Country, Policy: route.Policy(c.Policy), Providers: list(c.Providers, ","), ReceiptTimeout: c.ReceiptTimeout,
	}
	for _, text := range list(c.Weights, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("--weights: must be whole numbers, separated by commas, not %.40q", text)
		}
		next.Weights = append(next.Weights, n)
	}
	if c.ReceiptTimeout%time.Second != 0 {
		return fmt.Errorf("--receipt-timeout: must be whole seconds, not %s", c.ReceiptTimeout)
	}
	if err := next.Check(); err != nil {
		return routeFlag(err)
	}
	return c.withPlace(r, func(db *postgres.DB, a postgres.App) error {
		store, now := postgres.NewRoutes(db), time.Now()
		if err := store.Set(r.ctx, now, postgres.Route{AppID: a.ID, Route: next}); err != nil {
			return routeFlag(err)
		}
		if _, err := fmt.Fprintf(r.stdout, "%s goes over %s\n", where(a.Name, next.Channel, next.Country), carriers(next)); err != nil {
			return err
		}
		known, err := store.Providers(r.ctx)
		if err != nil {
			return err
		}
		return remarks(r.stdout, doubts(next, a, known, now))
	})
}

// routeFlag names the flags in an error about a route.
func routeFlag(err error) error {
	if strings.HasPrefix(err.Error(), "route providers: no worker has ") {
		err = fmt.Errorf("%w: see otpost providers list", err)
	}
	return flagged(err, "route: receipt time-out:", "--receipt-timeout:", "route receipt-timeout:", "--receipt-timeout:", "route: ", "--",
		"route providers:", "--providers:")
}

// carriers says in words how a route orders its providers.
func carriers(r route.Route) string {
	text := providersOf(r)
	switch r.Policy {
	case route.Weight:
		text += ", drawn by weight"
	case route.Conversion:
		text += ", the one first whose codes come back"
	default:
		if len(r.Providers) > 1 {
			text += ", in this order"
		}
	}
	switch {
	case r.ReceiptTimeout == 0:
	case len(r.Providers) == 1:
		text += fmt.Sprintf("; there is no next provider: after %s without word of its delivery the channels of --fallback follow",
			otp.ShortDuration(r.ReceiptTimeout))
	default:
		text += fmt.Sprintf("; without word of its delivery it goes on to the next after %s", otp.ShortDuration(r.ReceiptTimeout))
	}
	return text
}

// providersOf lists a route's providers with their weights.
func providersOf(r route.Route) string {
	out := slices.Clone(r.Providers)
	for i := range r.Weights {
		out[i] += " " + strconv.Itoa(r.Weights[i])
	}
	return strings.Join(out, ", ")
}

// lately is how long ago a worker that runs has said at most that it has a provider: it says so when it starts and again every minute.
const lately = 10 * time.Minute

// doubts are what is possible about a route, and easily not what was meant.
func doubts(r route.Route, a postgres.App, known []postgres.ProviderRow, now time.Time) (out []string) {
	if a.ID != 0 && r.Country != "" && !a.Policy.Delivery.Allows(r.Country) {
		out = append(out, fmt.Sprintf("App %s does not send to %s: its policy does not list it.", a.Name, r.Country))
	}
	other := func(ch otp.Channel) bool { return ch != r.Channel }
	if a.ID != 0 && r.ReceiptTimeout > 0 && len(r.Providers) == 1 && !slices.ContainsFunc(a.Policy.Delivery.Fallback, other) {
		out = append(out, fmt.Sprintf("App %s has no other channel as its fallback: a code that %s does not confirm goes nowhere else. "+
			"See otpost app policy set %[1]s --fallback.", a.Name, r.Providers[0]))
	}
	for i, name := range r.Providers {
		p, ok := providerOf(known, r.Channel, name)
		if !ok {
			out = append(out, fmt.Sprintf("No worker has a provider named %s for %s.", name, r.Channel))
			continue
		}
		if text := unseen(p, now); text != "" {
			out = append(out, text)
		}
		if r.ReceiptTimeout > 0 && !p.Receipts && i < len(r.Providers)-1 {
			out = append(out, fmt.Sprintf("%s tells no receipts: a code that it took does not go on to another provider.", name))
		}
	}
	return out
}

// unseen says that no worker has had a provider lately; empty where one has.
func unseen(p postgres.ProviderRow, now time.Time) string {
	if now.Sub(p.SeenAt) <= lately {
		return ""
	}
	return fmt.Sprintf("No worker has said since %s that it has %s: is otpost %s running with it?", moment(p.SeenAt), p.Name, p.Channel.Address())
}

func providerOf(known []postgres.ProviderRow, ch otp.Channel, name string) (postgres.ProviderRow, bool) {
	i := slices.IndexFunc(known, func(p postgres.ProviderRow) bool { return p.Channel == ch && p.Name == name })
	if i < 0 {
		return postgres.ProviderRow{}, false
	}
	return known[i], true
}

// remarks prints sentences below what was printed before, each in lines that fit a terminal.
func remarks(w io.Writer, all []string) error {
	for i, text := range all {
		text = strings.Join(wrap(text, width), "\n")
		if i == 0 {
			text = "\n" + text
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

type routeListCmd struct {
	databaseFlags
	App string `placeholder:"NAME" help:"Only the routes that may serve this app."`
}

// Run lists routes.
func (c *routeListCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		names, err := appNames(r, db)
		if err != nil {
			return err
		}
		if c.App != "" {
			if err := checkApp(c.App); err != nil {
				return err
			}
			if _, err := postgres.NewApps(db).Get(r.ctx, c.App); err != nil {
				return named(c.App, err)
			}
		}
		all, err := postgres.NewRoutes(db).Routes(r.ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "APP\tCHANNEL\tCOUNTRY\tPOLICY\tRECEIPT WITHIN\tSET\tPROVIDERS")
		for _, one := range all {
			name := names[one.AppID]
			if c.App != "" && name != "" && name != c.App {
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(name, "(all)"), one.Channel, dash(one.Country), one.Policy, receiptWithin(one.ReceiptTimeout),
				moment(one.UpdatedAt), providersOf(one.Route))
		}
		return w.Flush()
	})
}

// receiptWithin writes a time for receipts.
func receiptWithin(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return otp.ShortDuration(d)
}

// appNames are the names of apps by their numbers; that of all apps is empty.
func appNames(r *run, db *postgres.DB) (map[int]string, error) {
	apps, err := postgres.NewApps(db).List(r.ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(apps))
	for _, a := range apps {
		names[a.ID] = a.Name
	}
	return names, nil
}

type routeShowCmd struct{ routeFlags }

// Run shows the route that is set for exactly this app, channel and country.
func (c *routeShowCmd) Run(r *run) error {
	return c.withPlace(r, func(db *postgres.DB, a postgres.App) error {
		store, now := postgres.NewRoutes(db), time.Now()
		all, err := store.Routes(r.ctx)
		if err != nil {
			return err
		}
		ch := otp.Channel(c.Channel)
		i := slices.IndexFunc(all, func(s postgres.Route) bool { return s.AppID == a.ID && s.Channel == ch && s.Country == c.Country })
		if i < 0 {
			return fmt.Errorf("%s: %w", where(a.Name, ch, c.Country), postgres.ErrNoRoute)
		}
		known, err := store.Providers(r.ctx)
		if err != nil {
			return err
		}
		rates, err := store.Rates(r.ctx, now)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "route\t%s\npolicy\t%s\nreceipt within\t%s\nset\t%s\n\n", where(a.Name, ch, c.Country), all[i].Policy, receiptWithin(all[i].ReceiptTimeout),
			moment(all[i].UpdatedAt))
		if err := w.Flush(); err != nil {
			return err
		}
		if err := showCarriers(r.stdout, all[i].Route, c.Country, known, rates); err != nil {
			return err
		}
		return remarks(r.stdout, doubts(all[i].Route, a, known, now))
	})
}

type routeRemoveCmd struct{ routeFlags }

// Run removes a route.
func (c *routeRemoveCmd) Run(r *run) error {
	return c.withPlace(r, func(db *postgres.DB, a postgres.App) error {
		store, ch := postgres.NewRoutes(db), otp.Channel(c.Channel)
		if err := store.Remove(r.ctx, a.ID, ch, c.Country); err != nil {
			return fmt.Errorf("%s: %w", where(a.Name, ch, c.Country), err)
		}
		all, err := store.Routes(r.ctx)
		if err != nil {
			return err
		}
		then := "all providers of the channel serve, in the order of their workers' file"
		if s, ok := postgres.Serving(all, a.ID, ch, c.Country); ok {
			name := a.Name
			if s.AppID == 0 {
				name = ""
			}
			then = "the route for " + where(name, ch, s.Country) + " serves: " + carriers(s.Route)
		}
		_, err = fmt.Fprintf(r.stdout, "removed; %s\n", then)
		return err
	})
}

// showCarriers lists a route's providers: how often each is the first, what a message costs, and how many of its codes came back.
func showCarriers(out io.Writer, r route.Route, country string, known []postgres.ProviderRow, rates map[postgres.Lane]route.Stat) error {
	stats := map[string]route.Stat{}
	for _, name := range r.Providers {
		p, _ := providerOf(known, r.Channel, name)
		s := rates[postgres.Lane{Channel: r.Channel, Country: country, Provider: name}]
		s.CostMicros = p.Cost(country)
		stats[name] = s
	}
	first := firsts(r, stats)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROVIDER\tKIND\tFIRST\tCOST\tCODES THAT CAME BACK\tRECEIPTS\tLAST SEEN")
	for _, name := range r.Providers {
		p, _ := providerOf(known, r.Channel, name)
		back, receipts := "-", "no"
		if s := stats[name]; s.Sent >= 0.5 {
			back = fmt.Sprintf("%s of %.0f of late", percent(s.Verified, s.Sent), s.Sent)
		}
		if p.Receipts {
			receipts = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, dash(p.Kind), percent(first[name], 1), price(p.Cost(country)), back, receipts, moment(p.SeenAt))
	}
	return w.Flush()
}

// drawn is how many challenges a route is tried on to see who comes first: it tells shares to a hundredth or two.
const drawn = 4000

// firsts is the share of challenges that each provider comes first for.
func firsts(r route.Route, stats map[string]route.Stat) map[string]float64 {
	out := map[string]float64{}
	switch r.Policy {
	case route.Weight:
		sum := 0
		for _, w := range r.Weights {
			sum += w
		}
		for i, name := range r.Providers {
			out[name] = float64(r.Weights[i]) / float64(sum)
		}
	case route.Conversion:
		for seed := range uint64(drawn) {
			out[r.Order(seed, stats)[0]] += 1. / drawn
		}
	default:
		out[r.Providers[0]] = 1
	}
	return out
}

// percent writes a share in whole hundredths.
func percent(part, whole float64) string {
	if whole <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*part/whole)
}

// price writes millionths of the operator's currency; what costs nothing was given no cost.
func price(micros int64) string {
	if micros == 0 {
		return "-"
	}
	return strconv.FormatFloat(float64(micros)/1e6, 'f', -1, 64)
}
