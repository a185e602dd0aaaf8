package enrolment

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is what a user sets beforehand, to be able to recover: contacts, a passphrase, and the country that decides which methods are allowed. Who can
// change it can get in later, so each change weakens and needs the proof. None is taken while a recovery is under way: a recovery stands on what it was
// begun with, and whoever has a factor can cancel it first.

// recoveryPreferences shows what is set, after changing it where the request says so.
func (w *Worker) recoveryPreferences(ctx context.Context, c caller, r event.PreferencesRequest) (any, error) {
	var reply event.PreferencesReply
	if !r.Changes() {
		err := w.view(ctx, c, r.User, func(a *act) (err error) {
			reply, err = a.preferences()
			return err
		})
		return reply, err
	}
	phc := ""
	if r.Passphrase != "" { // hashed before anything is held
		var err error
		if phc, err = hashPassphrase(ctx, r.Passphrase); err != nil {
			return nil, err
		}
	}
	err := w.weaken(ctx, c, event.Owner{User: r.User, Session: r.Session}, r.Proof, (*act).settable, func(a *act) error {
		if err := a.settable(); err != nil {
			return err
		}
		changed, err := a.setPreferences(r, phc)
		if err != nil {
			return err
		}
		if len(changed) > 0 {
			if err := a.preferencesChanged(note{session: r.Session, client: r.Client, detail: map[string]any{"changed": changed}}); err != nil {
				return err
			}
		}
		reply, err = a.preferences()
		return err
	})
	return reply, err
}

// preferences are what is set, as people may see it. An unknown user has set nothing, and is answered like one who has not.
func (a *act) preferences() (event.PreferencesReply, error) {
	p, err := a.Profile()
	if err != nil {
		return event.PreferencesReply{}, err
	}
	contacts, passphrase, err := a.good(p)
	if err != nil {
		return event.PreferencesReply{}, err
	}
	reply := event.PreferencesReply{
		Allowed: a.policy().MethodsFor(p.Country), Contacts: []event.ContactInfo{}, Passphrase: passphrase != "", Country: p.Country, Region: p.Region,
	}
	if reply.Allowed == nil {
		reply.Allowed = []string{}
	}
	for _, c := range contacts {
		reply.Contacts = append(reply.Contacts, event.ContactInfo{Method: string(c.Method), To: c.Mask, ConfirmedAt: event.Time(c.ConfirmedAt)})
	}
	return reply, nil
}

// setPreferences changes what is asked for and returns the names of what has changed. phc is the hash of the passphrase that is asked for.
func (a *act) setPreferences(r event.PreferencesRequest, phc string) (changed []string, err error) {
	p, err := a.Profile()
	if err != nil {
		return nil, err
	}
	was := p
	if r.Country != "" {
		if r.Country != p.Country {
			p.Region = "" // it was of the other country
		}
		p.Country = r.Country
	}
	if r.Region != "" {
		p.Region = r.Region
	}
	for _, what := range r.Remove {
		if what == string(otp.ProofPassphrase) {
			continue
		}
		removed, err := a.RemoveContact(otp.ProofKind(what))
		if err != nil {
			return nil, err
		}
		if removed {
			changed = append(changed, what)
		}
	}
	if p.Country != was.Country || p.Region != was.Region {
		changed = append(changed, "country")
		if err := a.SetProfile(p); err != nil {
			return nil, err
		}
	}
	if phc == "" && (was.Passphrase == "" || !slices.Contains(r.Remove, string(otp.ProofPassphrase))) {
		return changed, nil
	}
	session, err := a.unproven(r.Session)
	if err != nil {
		return nil, err
	}
	return append(changed, string(otp.ProofPassphrase)), a.SetPassphrase(phc, session)
}

// preferencesChanged tells of a change of preferences, over the addresses that it took away as well.
func (a *act) preferencesChanged(n note) error {
	if err := a.audit("recovery.preferences_changed", n); err != nil {
		return err
	}
	return a.notify(otp.NoticePreferencesChanged, event.NoticeDetail{})
}

// settable refuses while a recovery is under way.
func (a *act) settable() error {
	_, open, err := a.openRecovery()
	if err == nil && open {
		return errUnderWay
	}
	return err
}

// allowed refuses a method that the policy does not allow to users of this user's country.
func (a *act) allowed(method otp.ProofKind) error {
	p, err := a.Profile()
	if err != nil {
		return err
	}
	if !slices.Contains(a.policy().MethodsFor(p.Country), string(method)) {
		return &otp.Problem{Reason: otp.NotAllowed, Field: "method", Message: "the app's policy does not allow this method to users of the country that is set"}
	}
	return nil
}

// recoveryAddress sets a contact. Of an email address or a number a code has to come back first; a postal address is the app's word.
func (w *Worker) recoveryAddress(ctx context.Context, c caller, r event.RecoveryAddressRequest) (any, error) {
	var reply event.RecoveryAddressReply
	ready := func(a *act) error {
		if err := a.settable(); err != nil {
			return err
		}
		if err := a.allowed(otp.ProofKind(r.Method)); err != nil {
			return err
		}
		if err := a.mayAnswer(); err != nil {
			return err
		}
		if kind, sent := resetKind(otp.ProofKind(r.Method)); sent {
			return a.orderly(otp.FactorKind(kind))
		}
		return nil
	}
	err := w.weaken(ctx, c, r.Owner, r.Proof, ready, func(a *act) error {
		if err := ready(a); err != nil {
			return err
		}
		if err := a.rememberLocale(r.Locale); err != nil {
			return err
		}
		var err error
		if otp.ProofKind(r.Method) == otp.ProofLetter {
			reply, err = a.setPostal(r)
		} else {
			reply, err = a.beginAddress(r)
		}
		return err
	})
	return reply, err
}

// setPostal stores where letters go.
func (a *act) setPostal(r event.RecoveryAddressRequest) (event.RecoveryAddressReply, error) {
	c := postgres.Contact{
		ID: uuid.Must(uuid.NewV7()), Method: otp.ProofLetter, Mask: r.Postal.Mask(), Country: r.Postal.Country, Region: r.Postal.Region,
	}
	var err error
	if c.Sealed, err = a.seal(otp.Letter, string(r.Postal.Encode())); err != nil {
		return event.RecoveryAddressReply{}, err
	}
	return event.RecoveryAddressReply{To: c.Mask}, a.setContact(c, r.Session, r.Client)
}

// beginAddress sends a code to an address or number.
func (a *act) beginAddress(r event.RecoveryAddressRequest) (event.RecoveryAddressReply, error) {
	none := event.RecoveryAddressReply{}
	a.client = r.Client
	kind, _ := resetKind(otp.ProofKind(r.Method))
	channel := channelOf(otp.ProofKind(r.Method))
	address, mask, p := parseAddress("address", channel, r.Address)
	if p != nil {
		return none, p
	}
	sealed, err := a.seal(channel, address)
	if err != nil {
		return none, err
	}
	cer := postgres.Ceremony{
		ID: uuid.Must(uuid.NewV7()), Session: r.Session, Kind: kind, Material: sealed, Mask: mask, MaxAttempts: confirmAttempts, Sends: 1,
		NextSendAt: a.Now.Add(codeCooldown), ExpiresAt: a.Now.Add(a.policy().CeremonyLife),
	}
	code, err := a.worker.newCode(cer.ID, codeDigits)
	if err != nil {
		return none, err
	}
	if err := a.BeginCeremony(cer); err != nil {
		return none, err
	}
	if err := a.send(code, channel, event.PurposeResetAddress, sealed, mask, r.Locale, cer.ExpiresAt); err != nil {
		return none, err
	}
	return event.RecoveryAddressReply{Ceremony: cer.ID.String(), ExpiresAt: event.Time(cer.ExpiresAt), To: mask},
		a.audit("recovery.address_begun", note{factor: cer.ID, session: r.Session, client: r.Client, detail: map[string]any{"method": r.Method}})
}

// recoveryConfirm makes an address a contact, with the code that went there.
func (w *Worker) recoveryConfirm(ctx context.Context, c caller, r event.RecoveryConfirmRequest) (any, error) {
	var reply event.PreferencesReply
	var refused *otp.Problem
	err := w.claimed(ctx, c, uuid.MustParse(r.Ceremony), r.Session, func(a *act, cer postgres.Ceremony) error {
		reply, refused = event.PreferencesReply{}, nil
		method, ok := resetMethod(cer.Kind)
		if !ok {
			return errUnknownCeremony // the claim is undone with the act
		}
		if err := a.settable(); err != nil {
			return err
		}
		if err := a.allowed(method); err != nil { // the country may be another by now
			return err
		}
		m, found, err := a.Message(cer.ID)
		if err != nil || !found {
			return orUnknown(err)
		}
		same, err := a.answers(m, r.Code)
		if err != nil {
			return err
		}
		if !same {
			refused, err = a.refuse(cer, r.Session, nil, &wrongAnswer{"code", "is wrong"})
			return err
		}
		if err := a.EndCeremony(cer.ID, "confirmed"); err != nil {
			return err
		}
		if err := a.setContact(postgres.Contact{ID: cer.ID, Method: method, Sealed: cer.Material, Mask: cer.Mask}, r.Session, nil); err != nil {
			return err
		}
		reply, err = a.preferences()
		return err
	})
	if err == nil && refused != nil {
		err = refused
	}
	return reply, err
}

func (a *act) setContact(c postgres.Contact, session string, client *event.Client) error {
	unproven, err := a.unproven(session)
	if err != nil {
		return err
	}
	c.Session, c.Unproven = session, unproven != ""
	if err := a.SetContact(c); err != nil {
		return err
	}
	return a.preferencesChanged(note{factor: c.ID, session: session, client: client, detail: map[string]any{"changed": []string{string(c.Method)}}})
}

// resetKind is the ceremony by which a contact of a method is confirmed; sent is false for a letter, which has none.
func resetKind(method otp.ProofKind) (kind string, sent bool) {
	switch method {
	case otp.ProofEmail:
		return kindResetEmail, true
	case otp.ProofPhone:
		return kindResetPhone, true
	}
	return "", false
}

// resetMethod is the method whose contact a ceremony confirms; ok is false for any other ceremony.
func resetMethod(kind string) (method otp.ProofKind, ok bool) {
	switch kind {
	case kindResetEmail:
		return otp.ProofEmail, true
	case kindResetPhone:
		return otp.ProofPhone, true
	}
	return "", false
}

// channelOf is what a method's codes go over.
func channelOf(method otp.ProofKind) otp.Channel {
	switch method {
	case otp.ProofPhone:
		return otp.SMS
	case otp.ProofLetter:
		return otp.Letter
	default:
		return otp.Email
	}
}

// hashes bounds the hashes of passphrases under way: each takes 19 MiB, and a processor.
var hashes = make(chan struct{}, 2)

// hashing waits for its turn to hash, and returns what ends it.
func hashing(ctx context.Context) (done func(), err error) {
	select {
	case hashes <- struct{}{}:
		return func() { <-hashes }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to hash a passphrase: %w", ctx.Err())
	}
}

func hashPassphrase(ctx context.Context, p string) (string, error) {
	done, err := hashing(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	return otp.HashPassphrase(p)
}

// checkPassphrase compares with the hash of no passphrase where the user has none, so that it takes as long.
func checkPassphrase(ctx context.Context, phc, p string) (bool, error) {
	done, err := hashing(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	if phc == "" {
		_, err := otp.CheckPassphrase(otp.NoPassphrase, p)
		return false, err
	}
	return otp.CheckPassphrase(phc, p)
}
