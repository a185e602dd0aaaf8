package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type deliveriesCmd struct {
	databaseFlags
	App       string        `placeholder:"NAME" help:"Name of the app, beside --user and --challenge."`
	User      string        `placeholder:"ID" help:"The app's id of the user."`
	Challenge string        `placeholder:"ID" help:"One challenge, by its id or the reference of one of its deliveries, in place of a user."`
	Stray     bool          `help:"Receipts of providers that counted for nothing, of all apps, in place of a user."`
	Since     time.Duration `default:"24h" help:"How far back."`
	Limit     int           `default:"10" help:"Most challenges, and most messages beside them; the newest."`
	JSON      bool          `name:"json" help:"As JSON; costs in millionths of the operator's currency."`
}

// Help tells what it cannot know.
func (deliveriesCmd) Help() string {
	return `A login that was refused has no challenge: who it was of is not kept, and the app was told why in challenge.refused. Challenges are looked for
among all of the time that is asked about, so on a busy system ask for hours, or by --challenge.`
}

// Run tells what became of codes.
func (c *deliveriesCmd) Run(r *run) error {
	asked := 0
	for _, given := range []bool{c.User != "", c.Challenge != "", c.Stray} {
		if given {
			asked++
		}
	}
	switch {
	case asked != 1:
		return errors.New("--user, --challenge, --stray: give one of them")
	case c.Since <= 0:
		return errors.New("--since: must be above 0, such as 24h")
	case c.Limit < 1 || c.Limit > 1000:
		return fmt.Errorf("--limit: must be 1 to 1000, not %d", c.Limit)
	}
	now := time.Now()
	if c.Stray {
		return withDB(c.databaseFlags, func(db *postgres.DB) error {
			strays, err := postgres.NewStatuses(db).Strays(r.ctx, now.Add(-c.Since), c.Limit)
			if err != nil {
				return err
			}
			if c.JSON {
				return printJSON(r.stdout, straysJSON(strays))
			}
			return showStrays(r.stdout, strays)
		})
	}
	if c.App == "" {
		return errors.New("--app: must be given beside --user and --challenge")
	}
	if err := checkApp(c.App); err != nil {
		return err
	}
	var id uuid.UUID
	if c.Challenge != "" {
		var err error
		if id, err = parseReference(c.Challenge); err != nil {
			return fmt.Errorf("--challenge: %w", err)
		}
	} else if w := otp.CheckID(c.User); w != "" {
		return fmt.Errorf("--user: %s", w)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		a, err := postgres.NewApps(db).Get(r.ctx, c.App)
		if err != nil {
			return named(c.App, err)
		}
		cases, others, err := c.read(r, db, a, id, now)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(r.stdout, casesJSON(a.Name, cases, others, now))
		}
		return c.show(r.stdout, a, cases, others, now)
	})
}

// A deliveryCase is a challenge with all that is known of its deliveries.
type deliveryCase struct {
	postgres.Challenge
	strays []postgres.Stray
	known  []postgres.ProviderRow
}

// read returns the challenges, the oldest first, and what enrolment sent to the user beside them.
func (c *deliveriesCmd) read(r *run, db *postgres.DB, a postgres.App, id uuid.UUID, now time.Time) (cases []deliveryCase, others []postgres.Sent, err error) {
	statuses, since := postgres.NewStatuses(db), now.Add(-c.Since)
	var found []postgres.Challenge
	if id != uuid.Nil {
		one, err := postgres.NewChallenges(db).Status(r.ctx, a.ID, id)
		if err != nil {
			if errors.Is(err, postgres.ErrNoChallenge) {
				return nil, nil, fmt.Errorf("--challenge: app %s has no challenge of this id, or none any more; of a ceremony, a recovery or a message "+
					"ask otpost status", a.Name)
			}
			return nil, nil, err
		}
		found = append(found, one)
	} else {
		if found, err = statuses.ChallengesOf(r.ctx, a.ID, c.User, since, c.Limit); err != nil {
			return nil, nil, err
		}
		if others, err = statuses.SentTo(r.ctx, a.ID, c.User, since, c.Limit); err != nil {
			return nil, nil, err
		}
	}
	ids := make([]uuid.UUID, len(found))
	for i, one := range found {
		ids[i] = one.ID
	}
	strays, err := statuses.StraysOf(r.ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	known, err := postgres.NewRoutes(db).Providers(r.ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, one := range slices.Backward(found) {
		cases = append(cases, deliveryCase{one, strays[one.ID], known})
	}
	return cases, others, nil
}

func (c *deliveriesCmd) show(out io.Writer, a postgres.App, cases []deliveryCase, others []postgres.Sent, now time.Time) error {
	for i, one := range cases {
		if i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		if err := one.show(out, now); err != nil {
			return err
		}
	}
	if len(others) > 0 {
		if err := showSent(out, others); err != nil {
			return err
		}
	}
	if len(cases) == 0 && len(others) == 0 {
		_, err := fmt.Fprintf(out, "Nothing was sent to user %s of app %s within %s, and no login of theirs was let begin.\n"+
			"Where one was refused, the app was told why in challenge.refused.\n", c.User, a.Name, otp.ShortDuration(c.Since))
		return err
	}
	return nil
}

// width is how wide a terminal is taken to be.
const width = 100

// show prints a challenge as a story, with what is known at its end.
func (c deliveryCase) show(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "challenge\t%s\n", c.ID)
	fmt.Fprintf(w, "user\t%s, login %s\n", c.User, c.Login)
	fmt.Fprintf(w, "state\t%s, %d of %d answers, %d of %d sends\n", c.State, c.Attempts, c.MaxAttempts, c.Sends, c.MaxSends)
	fmt.Fprintf(w, "day\t%s (UTC)\n\n", c.CreatedAt.UTC().Format(time.DateOnly))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range c.story() {
		number := "  "
		if s.number > 0 {
			number = fmt.Sprintf("%2d", s.number)
		}
		head := fmt.Sprintf("%s  %7s  %s  ", s.at.UTC().Format(time.TimeOnly), after(s.at.Sub(c.CreatedAt)), number)
		for i, line := range wrap(s.text, width-len(head)) {
			if i > 0 {
				head = strings.Repeat(" ", len(head))
			}
			if _, err := fmt.Fprintln(out, head+line); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintln(out, "\n"+strings.Join(wrap(c.verdict(now), width), "\n"))
	return err
}

// after writes how long after the beginning something was.
func after(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	if d < time.Minute {
		return fmt.Sprintf("+%.1fs", d.Seconds())
	}
	return "+" + d.Round(time.Second).String()
}

// wrap breaks a text into lines at its spaces.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// below prints what does not fit into a row of a table, under it and behind so many columns; an empty text not at all.
func below(out io.Writer, indent int, text string) error {
	if text == "" {
		return nil
	}
	for _, line := range wrap(text, width-indent) {
		if _, err := fmt.Fprintf(out, "%*s%s\n", indent, "", line); err != nil {
			return err
		}
	}
	return nil
}

// cell writes a name into a column of a width that begins behind so many others; one that is longer has its line to itself.
func cell(name string, wide, before int) string {
	if len(name) > wide {
		return fmt.Sprintf("%s\n%*s", name, before+wide, "")
	}
	return fmt.Sprintf("%-*s", wide, name)
}

func showStrays(out io.Writer, strays []postgres.Stray) error {
	if len(strays) == 0 {
		_, err := fmt.Fprintln(out, "Every receipt belonged to a delivery that waited for it.")
		return err
	}
	// Further lines for each: a provider's reference and a delivery's are too long for one.
	const form = "%-19s  %-32s  %-11s  %s\n"
	if _, err := fmt.Fprintf(out, form, "AT", "PROVIDER", "STATE", "WHY"); err != nil {
		return err
	}
	for _, s := range strays {
		if _, err := fmt.Fprintf(out, form, moment(s.At), s.Provider, s.State, strings.ReplaceAll(s.Why, "_", " ")); err != nil {
			return err
		}
		of := ""
		if s.Challenge != uuid.Nil {
			of = fmt.Sprintf("of delivery %s-%d", s.Challenge, s.Number)
		}
		about := strings.Join(nonEmpty(s.Reference, of), " ")
		if err := below(out, 21, strings.Join(nonEmpty(about, s.Reason), ": ")); err != nil {
			return err
		}
	}
	return nil
}
