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

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type statusCmd struct {
	databaseFlags
	App string `required:"" help:"Name of the app."`
	ID  string `arg:"" help:"Id of a challenge, a recovery, a ceremony or a message; or the reference of a delivery, as logs, files and mail headers show it."`
}

// Run tells where something stands, as an operator asks who looks for a code that did not arrive.
func (c *statusCmd) Run(r *run) error {
	if err := checkApp(c.App); err != nil {
		return err
	}
	id, err := parseReference(c.ID)
	if err != nil {
		return err
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := postgres.NewApps(db).Get(r.ctx, c.App)
		if err != nil {
			return named(c.App, err)
		}
		found, err := postgres.NewStatuses(db).Find(r.ctx, app.ID, id)
		switch {
		case errors.Is(err, postgres.ErrNothing):
			return fmt.Errorf("%s: app %s has no challenge, recovery, ceremony or message of this id, or none any more", id, c.App)
		case err != nil:
			return err
		}
		return showStanding(r.stdout, found, time.Now())
	})
}

// parseReference takes the id out of what people paste: the id itself, a delivery's reference "<id>-<number>", or the Message-ID of its mail.
func parseReference(text string) (uuid.UUID, error) {
	const length = len("0193503c-7a80-7c1e-9d2a-3f1be2a45c07")
	text, _, _ = strings.Cut(strings.Trim(strings.TrimSpace(text), "<>"), "@")
	word := text
	if len(text) > length && text[length] == '-' {
		if _, err := strconv.ParseUint(text[length+1:], 10, 16); err == nil {
			word = text[:length]
		}
	}
	id, err := uuid.Parse(word)
	if err != nil || len(word) != length {
		return uuid.Nil, fmt.Errorf("id: must be a UUID or a delivery's reference, not %q", text)
	}
	return id, nil
}

func showStanding(out io.Writer, s postgres.Standing, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, text)
		}
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	// ended is what a row says of something whose time is over before anybody wrote that down.
	ended := func(state string, open bool, expires time.Time) string {
		if open && !now.Before(expires) {
			return state + ", but its time is over"
		}
		return state
	}
	sent := s.Sent
	switch {
	case s.Challenge != nil:
		ch := s.Challenge
		row("challenge", ch.ID)
		row("user", ch.User)
		row("login", ch.Login)
		row("asked for", ch.Factor)
		row("state", ch.State)
		row("attempts", fmt.Sprintf("%d of %d", ch.Attempts, ch.MaxAttempts))
		row("sends", fmt.Sprintf("%d of %d", ch.Sends, ch.MaxSends))
		row("created", at(ch.CreatedAt))
		row("expires", at(ch.ExpiresAt))
		row("ended", at(ch.EndedAt))
		for _, d := range ch.Deliveries {
			sent = append(sent, postgres.Sent{Message: ch.ID, Purpose: "login", Delivery: d})
		}
	case s.Ceremony != nil:
		c := s.Ceremony
		row("ceremony", c.ID)
		row("user", c.User)
		row("kind", ceremonyKind(c.Kind))
		row("to", c.Mask)
		row("state", ended(c.State, c.State == "open", c.ExpiresAt))
		row("attempts", fmt.Sprintf("%d of %d", c.Attempts, c.MaxAttempts))
		row("sends", c.Sends)
		row("created", at(c.CreatedAt))
		row("expires", at(c.ExpiresAt))
		row("ended", at(c.EndedAt.Time))
	case s.Recovery != nil:
		rec := s.Recovery
		row("recovery", rec.ID)
		row("user", rec.User)
		row("begun by", begunBy(rec.BegunBy))
		row("approved by", agentName(rec.ApprovedBy))
		row("reason", rec.Reason)
		row("state", ended(rec.State, rec.State == string(otp.RecoveryApproval) || rec.State == string(otp.RecoveryProving), rec.ExpiresAt))
		row("proven by", strings.Join(rec.Proofs, ", "))
		row("attempts", fmt.Sprintf("%d of %d", rec.Attempts, rec.MaxAttempts))
		row("created", at(rec.CreatedAt))
		row("expires", at(rec.ExpiresAt))
		row("takes effect", at(rec.EffectiveAt.Time))
		row("ended", at(rec.EndedAt.Time))
		for _, code := range rec.Codes {
			row("code by", strings.Join(nonEmpty(string(code.Method), code.Mask, codeStanding(code, now)), "  "))
		}
	case s.Message != nil:
		m := s.Message
		row("message", m.ID)
		row("user", m.User)
		row("purpose", m.Purpose)
		row("to", strings.Join(nonEmpty(m.Channel, m.Mask), "  "))
		if m.Recovery != uuid.Nil {
			row("recovery", m.Recovery)
		}
		row("created", at(m.CreatedAt))
		row("expires", at(m.ExpiresAt))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(sent) > 0 {
		if err := showSent(out, sent); err != nil || !awaitsApproval(s) {
			return err
		}
	}
	_, err := fmt.Fprintln(out, "\n"+whyNothing(s))
	return err
}

func awaitsApproval(s postgres.Standing) bool {
	return s.Recovery != nil && s.Recovery.State == string(otp.RecoveryApproval)
}

// showSent lists deliveries by their references: what the provider, the spool folder or the mail's header knows them by.
func showSent(out io.Writer, sent []postgres.Sent) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nDELIVERY\tFOR\tCHANNEL\tTO\tSTATE\tPROVIDER\tREFERENCE\tTRIES\tAT\tREASON")
	for _, d := range sent {
		fmt.Fprintf(w, "%s-%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", d.Message, d.Number, d.Purpose, d.Channel, d.Mask, d.State, cmp.Or(d.Provider, "-"),
			cmp.Or(d.Reference, "-"), d.Tries, d.UpdatedAt.UTC().Format(time.RFC3339), d.Reason)
	}
	return w.Flush()
}

// whyNothing says why there is no delivery to show.
func whyNothing(s postgres.Standing) string {
	switch {
	case awaitsApproval(s):
		return "No code is sent until another agent runs: otpost support approve " + s.Recovery.ID.String()
	case s.Recovery != nil && !slices.ContainsFunc(s.Recovery.Codes, func(c postgres.CodeStatus) bool { return c.Sends > 0 }),
		s.Challenge != nil && s.Challenge.Sends == 0, s.Ceremony != nil && s.Ceremony.Sends == 0:
		return "Nothing was sent for it."
	}
	return "What became of its messages is not kept any more."
}

// codeStanding says in words where a recovery's code stands.
func codeStanding(c postgres.CodeStatus, now time.Time) string {
	switch {
	case !c.ProvenAt.IsZero():
		return "proven " + c.ProvenAt.UTC().Format(time.RFC3339)
	case c.Sends == 0:
		return "not sent"
	case !now.Before(c.ExpiresAt):
		return fmt.Sprintf("sent %s, expired %s", times(c.Sends), c.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("sent %s, expires %s", times(c.Sends), c.ExpiresAt.UTC().Format(time.RFC3339))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// ceremonyKind says what is to be confirmed.
func ceremonyKind(kind string) string {
	switch kind {
	case "deactivate":
		return "deactivation of the second factor"
	case "reset_email":
		return "email address for recovery"
	case "reset_phone":
		return "phone number for recovery"
	}
	return "factor " + kind
}

func begunBy(agent string) string {
	if agent == "" {
		return "the user"
	}
	return agentName(agent)
}

func agentName(agent string) string {
	if agent == "" {
		return ""
	}
	return "agent " + agent
}
