package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/otpost/otpost/pkg/keyring"
)

type keysCmd struct {
	Init    keysInitCmd    `cmd:"" help:"Make all keysets, one folder a role."`
	List    keysListCmd    `cmd:"" help:"List the keys of every keyset, without the keys."`
	Rotate  keysRotateCmd  `cmd:"" help:"Add a key to a keyset. It is not used until it is promoted, so that every worker can learn it first."`
	Promote keysPromoteCmd `cmd:"" help:"Use the newest key of a keyset from now on. Restart the workers between rotate and promote, and after."`
	Remove  keysRemoveCmd  `cmd:"" help:"Remove a key that is no longer needed. What was sealed with it is lost."`
}

type keysInitCmd struct {
	keysFlags
	Missing bool `help:"Make only what is missing, as after an update that brought a new keyset or role. What exists stays as it is."`
}

// Run makes the keysets.
func (c *keysInitCmd) Run(r *run) error {
	if c.Missing {
		return c.complete(r)
	}
	if err := keyring.Init(c.Keys); err != nil {
		return err
	}
	for _, role := range keyring.Roles() {
		fmt.Fprintf(r.stdout, "%s/%s\n", c.Keys, role)
	}
	fmt.Fprintln(r.stdout, "Give each worker the folder of its own role only, and keep a copy of all of them safe: without the keys no factor can be read.")
	return nil
}

// complete makes what is missing, and names each file: these are what has to reach the workers.
func (c *keysInitCmd) complete(r *run) error {
	made, err := keyring.Complete(c.Keys)
	for _, file := range made { // also where it was cut short
		fmt.Fprintf(r.stdout, "%s/%s\n", c.Keys, file)
	}
	switch {
	case errors.Is(err, keyring.ErrNoKeys):
		return fmt.Errorf("--keys: %w; run otpost keys init without --missing to make the first ones", err)
	case err != nil:
		return err
	case len(made) == 0:
		fmt.Fprintln(r.stdout, "Nothing was missing.")
		return nil
	}
	_, err = fmt.Fprintln(r.stdout, "These were made. Give each worker what is new in the folder of its role, and keep a copy of all of them safe.")
	return err
}

type keysListCmd struct{ keysFlags }

// Run lists the keys.
func (c *keysListCmd) Run(r *run) error {
	list, err := keyring.List(c.Keys)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEYSET\tKEY\tUSE")
	for _, s := range list {
		for _, k := range s.Keys {
			use := "opens and checks"
			if k.Primary {
				use = "primary"
			}
			fmt.Fprintf(w, "%s\t%d\t%s\n", s.Keyset, k.ID, use)
		}
	}
	return w.Flush()
}

type keysRotateCmd struct {
	keysFlags
	Keyset string `arg:"" enum:"code,ceremony,destination-sms,destination-email,destination-letter,secret,index,page" help:"Which: code, ceremony, destination-sms, destination-email, destination-letter, secret, index or page."`
}

// Run adds a key.
func (c *keysRotateCmd) Run(r *run) error {
	id, err := keyring.Add(c.Keys, keyring.Keyset(c.Keyset))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.stdout, "Key %d was added to %s. Restart the workers with the new files, then run otpost keys promote %s.\n", id, c.Keyset, c.Keyset)
	return err
}

type keysPromoteCmd struct {
	keysFlags
	Keyset string `arg:"" enum:"code,ceremony,destination-sms,destination-email,destination-letter,secret,index,page" help:"Which: code, ceremony, destination-sms, destination-email, destination-letter, secret, index or page."`
}

// Run promotes the newest key.
func (c *keysPromoteCmd) Run(r *run) error {
	id, err := keyring.Promote(c.Keys, keyring.Keyset(c.Keyset))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.stdout, "Key %d of %s is the primary one. Restart the workers.\n", id, c.Keyset)
	return err
}

type keysRemoveCmd struct {
	keysFlags
	Keyset string `arg:"" enum:"code,ceremony,destination-sms,destination-email,destination-letter,secret,index,page" help:"Which: code, ceremony, destination-sms, destination-email, destination-letter, secret, index or page."`
	Key    uint32 `arg:"" help:"Number of the key, as otpost keys list shows it."`
}

// Run removes a key.
func (c *keysRemoveCmd) Run(r *run) error {
	if err := keyring.Remove(c.Keys, keyring.Keyset(c.Keyset), c.Key); err != nil {
		return err
	}
	_, err := fmt.Fprintf(r.stdout, "Key %d of %s was removed.\n", c.Key, c.Keyset)
	return err
}
