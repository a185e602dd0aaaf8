package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type appCmd struct {
	Create appCreateCmd `cmd:"" help:"Create an app."`
	List   appListCmd   `cmd:"" help:"List the apps."`
	Show   appShowCmd   `cmd:"" help:"Show an app and its policy."`
	Policy appPolicyCmd `cmd:"" help:"Change an app's policy."`
	Key    appKeyCmd    `cmd:"" help:"Make, list, revoke and rotate an app's keys for the JSON API."`
	Pages  appPagesCmd  `cmd:"" help:"Say how an app's hosted pages look, and where they may lead back to."`
}

type appPolicyCmd struct {
	Set appPolicySetCmd `cmd:"" help:"Set what is named and leave the rest."`
}

// policyFlags change what they name. A pointer that is nil leaves the setting as it is.
type policyFlags struct {
	DisplayName    *string        `help:"Name in messages; 1 to 64 characters."`
	Origin         *string        `help:"Web origin, such as https://shop.example: text messages end with the WebOTP line for it. Empty for none."`
	Locale         *string        `help:"Language where neither login nor user says; en, cs, de, es, fr, it, ja or pl."`
	Digits         *int           `help:"Digits of a code; 4 to 10."`
	Life           *time.Duration `help:"Life of a code; 1m to 10m."`
	Attempts       *int           `help:"Answers to a challenge; 1 to 10."`
	Sends          *int           `help:"Sends of a challenge, the first included; 1 to 10."`
	Cooldown       *time.Duration `help:"Pause between sends; 10s to 10m."`
	OpenChallenges *int           `help:"Open challenges of a user; 1 to 10, the oldest gives way."`
	TOTPSkew       *int           `name:"totp-skew" help:"Steps of clock difference accepted; 0 to 2."`
	Channels       *string        `help:"Which factor to ask for where neither login nor user says, best first, separated by commas: webauthn, totp, yubikey, hotp, sms, email. An order, not a bar."`
	NoFactor       *string        `help:"What becomes of a login of a user without factor and address: skip or refuse."`
	factorPolicyFlags
	deliveryPolicyFlags
}

// apply sets what was named. Bounds are checked where the app is written; the languages are those that messages are written in.
func (f policyFlags) apply(a *postgres.App) error {
	if f.Locale != nil {
		catalog, err := message.New()
		if err != nil {
			return err
		}
		if base, _, _ := strings.Cut(*f.Locale, "-"); !slices.Contains(catalog.Locales(), base) {
			return fmt.Errorf("--locale: must be one of %s, not %q", strings.Join(catalog.Locales(), ", "), *f.Locale)
		}
	}
	set(&a.DisplayName, f.DisplayName)
	set(&a.Origin, f.Origin)
	set(&a.Locale, f.Locale)
	set(&a.Policy.Digits, f.Digits)
	set(&a.Policy.Life, f.Life)
	set(&a.Policy.Attempts, f.Attempts)
	set(&a.Policy.Sends, f.Sends)
	set(&a.Policy.Cooldown, f.Cooldown)
	set(&a.Policy.OpenChallenges, f.OpenChallenges)
	set(&a.Policy.TOTPSkew, f.TOTPSkew)
	if f.Channels != nil {
		a.Policy.Channels = nil
		for c := range strings.SplitSeq(*f.Channels, ",") {
			a.Policy.Channels = append(a.Policy.Channels, otp.FactorKind(strings.TrimSpace(c)))
		}
	}
	if f.NoFactor != nil {
		a.Policy.NoFactor = otp.NoFactor(*f.NoFactor)
	}
	if err := f.deliveryPolicyFlags.apply(&a.Policy.Delivery); err != nil {
		return err
	}
	return f.factorPolicyFlags.apply(&a.Policy.Factors)
}

// none reports whether nothing was named.
func (f policyFlags) none() bool { return reflect.DeepEqual(f, policyFlags{}) }

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

type appCreateCmd struct {
	databaseFlags
	policyFlags
	Name string `arg:"" help:"Name: 1 to 64 of a-z, 0-9 and -. It is part of the app's subjects."`
}

// Run creates an app.
func (c *appCreateCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		a := postgres.App{Name: c.Name, DisplayName: c.Name, Locale: "en", Policy: otp.DefaultPolicy()}
		if err := c.apply(&a); err != nil {
			return err
		}
		apps := postgres.NewApps(db)
		if _, err := apps.Create(r.ctx, a); err != nil {
			return named(c.Name, byFlag(err))
		}
		a, err := apps.Get(r.ctx, c.Name)
		if err != nil {
			return err
		}
		if err := showApp(r.stdout, a); err != nil {
			return err
		}
		if err := c.factorPolicyFlags.remark(r.stdout, a); err != nil {
			return err
		}
		if err := c.deliveryPolicyFlags.remark(r.stdout, a); err != nil {
			return err
		}
		if a.Policy.Factors.RPID == "" {
			if _, err := fmt.Fprintf(r.stdout, "\nUsers cannot add security keys yet. To allow them, name the domain and the origins of your pages:\n"+
				"otpost app policy set %s --rp-id=shop.example --origins=https://shop.example\n", c.Name); err != nil {
				return err
			}
		}
		text := fmt.Sprintf("\nThe app needs a NATS user: see otpost nats config --app-passwords %s=<password>. Run otpost migrate for\n"+
			"its durable event consumer.", c.Name)
		if dir := appsFolder(r.config); dir != "" {
			text += fmt.Sprintf(" A running otpost up does both by itself and writes\n%s.", filepath.Join(dir, c.Name+".json"))
		}
		_, err = fmt.Fprintln(r.stdout, text)
		return err
	})
}

// appsFolder is where otpost up writes the apps' keys, if the settings come from a folder of its making; else it is empty.
func appsFolder(config string) string {
	if config == "" {
		return ""
	}
	dir := filepath.Join(filepath.Dir(config), "apps")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

type appListCmd struct{ databaseFlags }

// Run lists the apps.
func (c *appListCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		apps, err := postgres.NewApps(db).List(r.ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tDISPLAY NAME\tCHANNELS\tDIGITS\tLIFE\tATTEMPTS\tCREATED")
		for _, a := range apps {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%s\n", a.Name, a.DisplayName, channelList(a.Policy.Channels), a.Policy.Digits, otp.ShortDuration(a.Policy.Life),
				a.Policy.Attempts, a.CreatedAt.Format(time.DateTime))
		}
		return w.Flush()
	})
}

type appShowCmd struct {
	databaseFlags
	Name string `arg:"" help:"Name of the app."`
}

// Run shows an app.
func (c *appShowCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		a, err := postgres.NewApps(db).Get(r.ctx, c.Name)
		if err != nil {
			return named(c.Name, err)
		}
		return showApp(r.stdout, a)
	})
}

type appPolicySetCmd struct {
	databaseFlags
	policyFlags
	Yes  bool   `help:"Change --rp-id also where security keys are enrolled, which nobody can use any more then."`
	Name string `arg:"" help:"Name of the app."`
}

// Run changes a policy.
func (c *appPolicySetCmd) Run(r *run) error {
	if c.policyFlags.none() {
		return errors.New("nothing to set: name at least one setting, such as --digits=8")
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		apps := postgres.NewApps(db)
		a, err := apps.Get(r.ctx, c.Name)
		if err != nil {
			return named(c.Name, err)
		}
		party, before := a.Policy.Factors.RPID, appRows(a)
		if err := c.apply(&a); err != nil {
			return err
		}
		if err := a.Check(); err != nil { // before anything is said of keys
			return named(c.Name, byFlag(err))
		}
		lost := 0
		if a.Policy.Factors.RPID != party {
			if lost, err = postgres.NewStatuses(db).SecurityKeys(r.ctx, a.ID); err != nil {
				return err
			}
		}
		if lost > 0 && !c.Yes {
			return fmt.Errorf("--rp-id: %s enrolled for %q, and nobody can use a key under another domain; --yes changes it all the same",
				plural(lost, "security key is", "security keys are"), party)
		}
		if err := apps.Update(r.ctx, a); err != nil {
			return named(c.Name, byFlag(err))
		}
		if err := showChanges(r.stdout, a.Name, before, appRows(a)); err != nil {
			return err
		}
		if lost > 0 {
			if _, err := fmt.Fprintf(r.stdout, "\n%s enrolled for %q, and nobody can use a key under another domain.\n",
				plural(lost, "security key is", "security keys are"), party); err != nil {
				return err
			}
		}
		return c.factorPolicyFlags.remark(r.stdout, a)
	})
}

// plural counts something in words.
func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}

func showApp(w io.Writer, a postgres.App) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range appRows(a) {
		fmt.Fprintf(t, "%v\t%v\n", row[0], row[1])
	}
	return t.Flush()
}

// showChanges prints the settings that are not what they were.
func showChanges(w io.Writer, app string, before, now [][2]any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	changed := 0
	for i, row := range now {
		if was := fmt.Sprint(before[i][1]); was != fmt.Sprint(row[1]) {
			changed++
			fmt.Fprintf(t, "%v\t%s → %s\n", row[0], dash(was), dash(fmt.Sprint(row[1])))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	text := "\nset; otpost app show %s shows all settings\n"
	if changed == 0 {
		text = "nothing is changed by that; otpost app show %s shows all settings\n"
	}
	_, err := fmt.Fprintf(w, text, app)
	return err
}

// appRows are an app's settings by their flags' names.
func appRows(a postgres.App) [][2]any {
	p := a.Policy
	rows := [][2]any{
		{"name", a.Name},
		{"display-name", a.DisplayName},
		{"origin", a.Origin},
		{"locale", a.Locale},
		{"channels", channelList(p.Channels)},
		{"no-factor", string(p.NoFactor)},
		{"digits", p.Digits},
		{"life", otp.ShortDuration(p.Life)},
		{"attempts", p.Attempts},
		{"sends", p.Sends},
		{"cooldown", otp.ShortDuration(p.Cooldown)},
		{"open-challenges", p.OpenChallenges},
		{"totp-skew", p.TOTPSkew},
	}
	return slices.Concat(rows, factorPolicyFlags{}.rows(p.Factors), deliveryPolicyFlags{}.rows(p.Delivery))
}

func channelList(list []otp.FactorKind) string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = string(c)
	}
	return strings.Join(out, ",")
}

// named puts an app's name before an error about it.
func named(name string, err error) error {
	if errors.Is(err, postgres.ErrNoApp) || errors.Is(err, postgres.ErrAppTaken) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// withDB opens the database for one command.
func withDB(f databaseFlags, fn func(*postgres.DB) error) error {
	db, err := f.open()
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return fn(db)
}
