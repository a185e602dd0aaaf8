package postgres

import (
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// A Contact is an address that codes of recoveries go to. It is no factor.
type Contact struct {
	ID          uuid.UUID
	Method      otp.ProofKind // email, phone or letter
	Sealed      []byte
	Mask        string
	Country     string // of a postal address
	Region      string
	ConfirmedAt time.Time
	Session     string // that has set it
	Unproven    bool   // without a proof, because there was no factor to prove with
}

// Contacts returns the user's contacts, at most one of each method.
func (a *Act) Contacts() ([]Contact, error) {
	var rows []struct {
		ID          uuid.UUID `db:"id"`
		Kind        string    `db:"kind"`
		Sealed      []byte    `db:"sealed"`
		Mask        string    `db:"mask"`
		Country     string    `db:"country"`
		Region      string    `db:"region"`
		ConfirmedAt time.Time `db:"confirmed_at"`
		Session     string    `db:"session"`
		Unproven    bool      `db:"unproven"`
	}
	if err := a.list(&rows, "contacts_of", a.Who.AppID, a.Who.User); err != nil {
		return nil, err
	}
	out := make([]Contact, len(rows))
	for i, r := range rows {
		out[i] = Contact{
			ID: r.ID, Method: otp.ProofKind(r.Kind), Sealed: r.Sealed, Mask: r.Mask, Country: r.Country, Region: r.Region, ConfirmedAt: r.ConfirmedAt,
			Session: r.Session, Unproven: r.Unproven,
		}
	}
	return out, nil
}

// SetContact stores a contact that is confirmed now, in the place of the one of its method.
func (a *Act) SetContact(c Contact) error {
	if _, err := a.RemoveContact(c.Method); err != nil {
		return err
	}
	_, err := a.exec("contact_add", c.ID, a.Who.AppID, a.Who.User, string(c.Method), c.Sealed, c.Mask, c.Country, c.Region, a.Now, c.Session, c.Unproven)
	return err
}

// RemoveContact ends the contact of a method and tells whether there was one. Its row stays for the notice of it, and the janitor removes it later.
func (a *Act) RemoveContact(method otp.ProofKind) (bool, error) {
	n, err := a.exec("contact_remove", a.Who.AppID, a.Who.User, string(method), a.Now)
	return n == 1, err
}

// SetPassphrase stores a passphrase in PHC form, or none where phc is empty. session is the one that sets it without a proof, and empty where there was one.
func (a *Act) SetPassphrase(phc, session string) error {
	if phc == "" {
		session = ""
	}
	_, err := a.exec("passphrase_set", a.Who.AppID, a.Who.User, nullText(phc), nullText(session), a.Now)
	return err
}

// PassphraseUnproven tells whether the passphrase was set without a proof.
func (a *Act) PassphraseUnproven() (bool, error) {
	var session string
	return a.find(&session, "passphrase_unproven", a.Who.AppID, a.Who.User)
}

// DropUnproven removes the contacts and the passphrase that other sessions have set without a proof, and returns what went. Those of this session count as
// proven from then on.
func (a *Act) DropUnproven(session string) (gone []otp.ProofKind, err error) {
	if gone, err = a.dropped(gone, "contacts_drop_unproven", a.Who.AppID, a.Who.User, session, a.Now); err != nil {
		return nil, err
	}
	n, err := a.exec("passphrase_drop_unproven", a.Who.AppID, a.Who.User, session)
	if err != nil {
		return nil, err
	}
	if n == 1 {
		gone = append(gone, otp.ProofPassphrase)
	}
	for _, settle := range []string{"contacts_settle", "passphrase_settle"} {
		if _, err := a.exec(settle, a.Who.AppID, a.Who.User); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// ForgetContacts removes the user's contacts and passphrase and returns what went.
func (a *Act) ForgetContacts() (gone []otp.ProofKind, err error) {
	if gone, err = a.dropped(gone, "contacts_forget", a.Who.AppID, a.Who.User, a.Now); err != nil {
		return nil, err
	}
	n, err := a.exec("passphrase_forget", a.Who.AppID, a.Who.User)
	if n == 1 {
		gone = append(gone, otp.ProofPassphrase)
	}
	return gone, err
}

// dropped appends the methods whose contacts a statement has removed.
func (a *Act) dropped(to []otp.ProofKind, statement string, args ...any) ([]otp.ProofKind, error) {
	var kinds []string
	if err := a.list(&kinds, statement, args...); err != nil {
		return nil, err
	}
	for _, k := range kinds {
		to = append(to, otp.ProofKind(k))
	}
	return to, nil
}
