package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

type destinationCmd struct {
	Add    destinationAddCmd    `cmd:"" help:"List an address: as a test destination, to which nothing is ever sent, or as a safe one."`
	List   destinationListCmd   `cmd:"" help:"List the addresses that are listed, masked."`
	Remove destinationRemoveCmd `cmd:"" help:"Take an address off the list."`
}

type destinationAddCmd struct {
	databaseFlags
	keysFlags
	appFlag
	Test string `xor:"kind" placeholder:"ADDRESS" help:"Number in E.164 or email address that nothing is ever sent to and no limit holds for: every challenge to it is answered by --code."`
	Code string `secret:"" help:"The fixed code of a test destination; 4 to 10 digits. Only its keyed digest is kept."`
	Safe string `xor:"kind" placeholder:"ADDRESS" help:"Number or email address that neither the guard against pumping nor the limits of its prefix and of the app hold for."`
	Note string `help:"What it is for; up to 200 characters."`
}

// Help tells which flags belong together.
func (destinationAddCmd) Help() string {
	return "Give one of --test, with --code, and --safe."
}

// Run lists an address.
func (c *destinationAddCmd) Run(r *run) error {
	if (c.Test == "") == (c.Safe == "") {
		return errors.New("--test, --safe: give one of them")
	}
	flag := "--safe"
	if c.Test != "" {
		flag = "--test"
	}
	ch, address, mask, err := parseDestination(flag, c.Test+c.Safe)
	if err != nil {
		return err
	}
	d := postgres.Destination{Kind: postgres.DestinationSafe, Address: addressKind(ch), Mask: mask, Note: c.Note, CreatedAt: time.Now()}
	switch {
	case wrongNote(c.Note) != "":
		return fmt.Errorf("--note: %s", wrongNote(c.Note))
	case c.Test != "":
		d.Kind = postgres.DestinationTest
		if len(c.Code) < otp.MinDigits || len(c.Code) > otp.MaxDigits || strings.Trim(c.Code, "0123456789") != "" {
			return fmt.Errorf("--code: a test destination needs a fixed code of %d to %d digits", otp.MinDigits, otp.MaxDigits)
		}
	case c.Code != "":
		return errors.New("--code: only a test destination has one; a safe one is sent real codes")
	}
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := c.find(r, db)
		if err != nil {
			return err
		}
		d.AppID = app.ID
		if d.Digest, err = keys.DestinationKey(app.Name, ch, address); err != nil {
			return err
		}
		if d.Kind == postgres.DestinationTest {
			if d.CodeDigest, err = keys.TestCode(app.Name, d.Digest, c.Code); err != nil {
				return err
			}
		}
		if err := postgres.NewDestinations(db).Add(r.ctx, d); err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.stdout, "%s is a %s destination of %s; workers know it within three seconds.\n", mask, d.Kind, app.Name)
		return err
	})
}

// wrongNote says what is wrong with a note; empty for nothing.
func wrongNote(note string) string {
	if note == "" {
		return ""
	}
	return otp.CheckText(note, maxNote)
}

const maxNote = 200

// parseDestination reads a number or an email address, which was given by a flag or an argument of a name.
func parseDestination(name, text string) (ch otp.Channel, address, mask string, err error) {
	if strings.Contains(text, "@") {
		address, err = otp.ParseEmail(text)
		ch, mask = otp.Email, otp.MaskEmail(address)
	} else {
		address, err = otp.ParsePhone(text, "")
		ch, mask = otp.SMS, otp.MaskPhone(address)
	}
	if err != nil {
		return ch, "", "", fmt.Errorf("%s: %s", name, otp.AddressWords(err))
	}
	return ch, address, mask, nil
}

func addressKind(ch otp.Channel) string {
	if ch.Phone() {
		return "phone"
	}
	return "email"
}

type destinationListCmd struct {
	databaseFlags
	App string `help:"Name of the app; all where it is not given."`
}

// Run lists what is listed.
func (c *destinationListCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		list, err := postgres.NewDestinations(db).List(r.ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "APP\tKIND\tADDRESS\tNOTE\tSINCE")
		for _, d := range list {
			if c.App == "" || c.App == d.App {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.App, d.Kind, d.Mask, d.Note, d.CreatedAt.Format(time.DateTime))
			}
		}
		return w.Flush()
	})
}

type destinationRemoveCmd struct {
	databaseFlags
	keysFlags
	appFlag
	Address string `arg:"" optional:"" help:"Number in E.164, or email address, whichever way it is listed; or give it by --test or --safe."`
	Test    string `xor:"kind" placeholder:"ADDRESS" help:"The address, if it is listed for tests."`
	Safe    string `xor:"kind" placeholder:"ADDRESS" help:"The address, if it is listed as safe."`
}

// given is the address, what it was given by, and the kind that it must be of; empty for any.
func (c *destinationRemoveCmd) given() (name, address, kind string, err error) {
	switch {
	case c.Address != "" && c.Test+c.Safe == "":
		return "<address>", c.Address, "", nil
	case c.Address == "" && c.Test != "" && c.Safe == "":
		return "--test", c.Test, postgres.DestinationTest, nil
	case c.Address == "" && c.Safe != "" && c.Test == "":
		return "--safe", c.Safe, postgres.DestinationSafe, nil
	}
	return "", "", "", errors.New("<address>, --test, --safe: give one of them")
}

// Run takes an address off the list.
func (c *destinationRemoveCmd) Run(r *run) error {
	name, text, kind, err := c.given()
	if err != nil {
		return err
	}
	ch, address, mask, err := parseDestination(name, text)
	if err != nil {
		return err
	}
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := c.find(r, db)
		if err != nil {
			return err
		}
		digests, err := keys.DestinationKeys(app.Name, ch, address)
		if err != nil {
			return err
		}
		store := postgres.NewDestinations(db)
		if kind != "" {
			all, err := store.List(r.ctx)
			if err != nil {
				return err
			}
			for _, d := range all {
				if d.AppID == app.ID && slices.Contains(digests, d.Digest) && d.Kind != kind {
					return fmt.Errorf("%s: %s is listed as a %s destination", name, mask, d.Kind)
				}
			}
		}
		if err := store.Remove(r.ctx, app.ID, digests); err != nil {
			return fmt.Errorf("%s: %w", mask, err)
		}
		_, err = fmt.Fprintf(r.stdout, "%s is not listed any more; workers know it within three seconds.\n", mask)
		return err
	})
}
