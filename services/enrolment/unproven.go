package enrolment

import (
	"slices"

	"github.com/otpost/otpost/pkg/postgres"
)

// This file is what was set for recovery before there was a factor: by whoever had the password. It must not outlive the day on which the password alone
// ceases to be enough.

// unproven returns the session where the user has no factor that a proof could have come from, and nothing where there was a proof. Until the first factor is
// active anybody with the password can set what recovers the account; what another session has set goes then (dropUnproven).
func (a *act) unproven(session string) (string, error) {
	has, err := a.hasFactor()
	if err != nil || has {
		return "", err
	}
	return session, nil
}

// good returns the contacts and the passphrase that recover the user. What was set without a proof is good while there is no factor. Whoever activates the
// first one settles it; where the operator has entered that, nobody has, and who has the password alone must not get around the factor by what they set before.
func (a *act) good(p postgres.Profile) (contacts []postgres.Contact, passphrase string, err error) {
	if contacts, err = a.Contacts(); err != nil {
		return nil, "", err
	}
	unproven, err := a.PassphraseUnproven()
	if err != nil {
		return nil, "", err
	}
	has, err := a.hasFactor()
	if err != nil || !has {
		return contacts, p.Passphrase, err
	}
	if passphrase = p.Passphrase; unproven {
		passphrase = ""
	}
	return slices.DeleteFunc(contacts, func(c postgres.Contact) bool { return c.Unproven }), passphrase, nil
}

// dropUnproven takes away what other sessions than the one that activates the first factor have set without a proof, and tells of it.
func (a *act) dropUnproven(session string) error {
	gone, err := a.DropUnproven(session)
	if err != nil || len(gone) == 0 {
		return err
	}
	return a.preferencesChanged(note{session: session, detail: map[string]any{"changed": proofNames(gone), "why": "set by another session without a proof"}})
}

// forgetPreferences takes away what recovers an account, where there is nothing left to recover. The notice of that reaches what goes.
func (a *act) forgetPreferences(session string) error {
	gone, err := a.ForgetContacts()
	if err != nil || len(gone) == 0 {
		return err
	}
	return a.audit("recovery.preferences_changed", note{session: session, detail: map[string]any{"changed": proofNames(gone), "why": "deactivated"}})
}
