package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/qr"
)

type factorCmd struct {
	Add    factorAddCmd    `cmd:"" help:"Add a factor to a user."`
	List   factorListCmd   `cmd:"" help:"List a user's factors, without their secrets."`
	Import factorImportCmd `cmd:"" help:"Import a file of hardware tokens: PSKC, CSV, or what Yubico's tools log."`
	Tokens factorTokensCmd `cmd:"" help:"List an app's hardware tokens, and take one back for the next user."`
}

type factorAddCmd struct {
	TOTP    factorAddTOTPCmd    `cmd:"" name:"totp" help:"An authenticator app: prints the otpauth URI and a QR code."`
	SMS     factorAddAddressCmd `cmd:"" name:"sms" help:"A phone number for text messages."`
	Email   factorAddAddressCmd `cmd:"" help:"An email address."`
	HOTP    factorAddHOTPCmd    `cmd:"" name:"hotp" help:"An event-based hardware token (OATH HOTP)."`
	Yubikey factorAddYubikeyCmd `cmd:"" help:"A YubiKey that types Yubico OTPs."`
}

// Help tells what holds for all kinds.
func (factorAddCmd) Help() string {
	return `The operator vouches for the factor: it is active at once. The user is told by a notice and the act stands in the audit, but the app gets no event
of it.`
}

// userFlags name a user.
type userFlags struct {
	App  string `required:"" help:"Name of the app."`
	User string `required:"" help:"The app's id of the user."`
}

// checkApp refuses what can be no app's name without showing it: it may be something else that strayed here.
func checkApp(name string) error {
	if !otp.ValidApp(name) {
		return errors.New("--app: must be 1 to 64 of a-z, 0-9 and -")
	}
	return nil
}

// account finds the user's app.
func (f userFlags) account(r *run, db *postgres.DB) (postgres.App, postgres.Account, error) {
	if err := checkApp(f.App); err != nil {
		return postgres.App{}, postgres.Account{}, err
	}
	if w := otp.CheckID(f.User); w != "" {
		return postgres.App{}, postgres.Account{}, fmt.Errorf("--user: %s", w)
	}
	app, err := postgres.NewApps(db).Get(r.ctx, f.App)
	if err != nil {
		return app, postgres.Account{}, named(f.App, err)
	}
	return app, postgres.Account{AppID: app.ID, User: f.User}, nil
}

type factorAddTOTPCmd struct {
	databaseFlags
	keysFlags
	userFlags
	Label     string `help:"Label, for the user to tell several apart."`
	Account   string `help:"Account name that the authenticator shows; the user's id where it is not given."`
	Algorithm string `default:"SHA1" enum:"SHA1,SHA256,SHA512" help:"SHA1, SHA256 or SHA512; not every authenticator understands the others."`
	Digits    int    `default:"6" help:"6 to 8."`
	Period    int    `default:"30" help:"Seconds of a step; 30 or 60."`
	NoQR      bool   `name:"no-qr" help:"Print the URI only."`
}

// Run adds an authenticator app.
func (c *factorAddTOTPCmd) Run(r *run) error {
	setting := otp.TOTP{Algorithm: c.Algorithm, Digits: c.Digits, Period: c.Period}
	if err := setting.Check(); err != nil {
		return err
	}
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, account, err := c.account(r, db)
		if err != nil {
			return err
		}
		secret, id := otp.NewTOTPSecret(), uuid.Must(uuid.NewV7())
		sealed, err := keys.SealSecret(app.Name, c.User, id.String(), secret)
		if err != nil {
			return err
		}
		shown := c.Account
		if shown == "" {
			shown = c.User
		}
		uri, err := setting.URI(app.DisplayName, shown, secret)
		if err != nil {
			return err
		}
		key, err := keys.AuditKey("user", app.Name, c.User)
		if err != nil {
			return err
		}
		picture := ""
		if !c.NoQR {
			code, err := qr.Encode(uri)
			if err != nil {
				return fmt.Errorf("%w; --no-qr does without the picture", err)
			}
			picture = code.Terminal()
		}
		if err := postgres.NewFactors(db).Add(r.ctx, time.Now(), postgres.NewFactor{
			ID: id, Account: account, Kind: otp.FactorTOTP, Label: c.Label, Sealed: sealed, TOTP: setting, UserKey: key,
		}); err != nil {
			return err
		}
		fmt.Fprint(r.stdout, picture)
		_, err = fmt.Fprintf(r.stdout, "%s\n\nfactor %s of user %s: scan it with an authenticator app. This is shown once.\n", uri, id, c.User)
		return err
	})
}

type factorAddAddressCmd struct {
	databaseFlags
	keysFlags
	userFlags
	Label   string `help:"Label, for the user to tell several apart."`
	Address string `arg:"" help:"The number in E.164 (+14155550100), or the email address."`
}

// Run adds an address that the operator vouches for.
func (c *factorAddAddressCmd) Run(r *run) error {
	kind, mask := otp.FactorSMS, otp.MaskPhone
	address, err := otp.ParsePhone(c.Address, "")
	if r.command == "email" {
		kind, mask = otp.FactorEmail, otp.MaskEmail
		address, err = otp.ParseEmail(c.Address)
	}
	if err != nil {
		return err // names the address as what is wrong
	}
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, account, err := c.account(r, db)
		if err != nil {
			return err
		}
		sealed, err := keys.SealDestination(string(kind), app.Name, c.User, delivery.Purpose, address)
		if err != nil {
			return err
		}
		key, err := keys.AuditKey("user", app.Name, c.User)
		if err != nil {
			return err
		}
		id := uuid.Must(uuid.NewV7())
		if err := postgres.NewFactors(db).Add(r.ctx, time.Now(), postgres.NewFactor{
			ID: id, Account: account, Kind: kind, Label: c.Label, Sealed: sealed, Mask: mask(address), UserKey: key,
		}); err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.stdout, "factor %s of user %s: %s %s\n", id, c.User, kind, mask(address))
		return err
	})
}

type factorListCmd struct {
	databaseFlags
	userFlags
}

// Run lists a user's factors.
func (c *factorListCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		_, account, err := c.account(r, db)
		if err != nil {
			return err
		}
		factors, err := postgres.NewFactors(db).List(r.ctx, account)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "FACTOR\tKIND\tSTATE\tTO\tLABEL\tADDED\tLAST USED\tSERIAL")
		for _, f := range factors {
			used := "never"
			if !f.LastUsedAt.IsZero() {
				used = f.LastUsedAt.Format(time.DateTime)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.ID, f.Kind, f.State, f.Mask, f.Label, f.CreatedAt.Format(time.DateTime), used, f.Serial)
		}
		return w.Flush()
	})
}

type accountCmd struct {
	Unlock accountUnlockCmd `cmd:"" help:"Give a user's account its whole budget of answers back."`
}

type accountUnlockCmd struct {
	databaseFlags
	keysFlags
	userFlags
}

// Run unlocks an account.
func (c *accountUnlockCmd) Run(r *run) error {
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, account, err := c.account(r, db)
		if err != nil {
			return err
		}
		key, err := keys.AuditKey("user", app.Name, c.User)
		if err != nil {
			return err
		}
		if err := postgres.NewFactors(db).Unlock(r.ctx, time.Now(), account, key); err != nil {
			return fmt.Errorf("%s: %w", c.User, err)
		}
		_, err = fmt.Fprintf(r.stdout, "The account of %s has its whole budget back.\n", c.User)
		return err
	})
}
