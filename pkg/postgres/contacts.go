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
	}
	if err := a.list(&rows, "contacts_of", a.Who.AppID, a.Who.User); err != nil {
		return nil, err
	}
	out := make([]Contact, len(rows))
	for i, r := range rows {
		out[i] = Contact{
			ID: r.ID, Method: otp.ProofKind(r.Kind), Sealed: r.Sealed, Mask: r.Mask, Country: r.Country, Region: r.Region, ConfirmedAt: r.ConfirmedAt,
		}
	}
	return out, nil
}

// SetContact stores a contact that is confirmed now, in the place of the one of its method.
func (a *Act) SetContact(c Contact) error {
	if _, err := a.RemoveContact(c.Method); err != nil {
		return err
	}
	_, err := a.exec("contact_add", c.ID, a.Who.AppID, a.Who.User, string(c.Method), c.Sealed, c.Mask, c.Country, c.Region, a.Now)
	return err
}

// RemoveContact ends the contact of a method and tells whether there was one. Its row stays for the notice of it, and the janitor removes it later.
func (a *Act) RemoveContact(method otp.ProofKind) (bool, error) {
	n, err := a.exec("contact_remove", a.Who.AppID, a.Who.User, string(method), a.Now)
	return n == 1, err
}
