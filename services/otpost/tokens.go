package main

import (
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/seeds"
)

// This file is hardware tokens: one, or a file of them, into the app's stock or at once as a factor of a user.

// appFlag names an app.
type appFlag struct {
	App string `required:"" help:"Name of the app."`
}

func (f appFlag) find(r *run, db *postgres.DB) (postgres.App, error) {
	if err := checkApp(f.App); err != nil {
		return postgres.App{}, err
	}
	app, err := postgres.NewApps(db).Get(r.ctx, f.App)
	if err != nil {
		return app, named(f.App, err)
	}
	return app, nil
}

type factorImportCmd struct {
	databaseFlags
	keysFlags
	appFlag
	File         string `type:"path" default:"-" placeholder:"FILE" help:"File of seeds; - for the standard input."`
	Format       string `default:"auto" enum:"auto,pskc,csv,yubico" help:"auto (told by the content), pskc (RFC 6030), csv or yubico."`
	PreSharedKey string `secret:"" help:"Key of an encrypted PSKC file, in hexadecimal."`
	Passphrase   string `secret:"" help:"Passphrase of an encrypted PSKC file."`
	User         string `help:"The app's id of the user whose the only token of the file is: it becomes an active factor at once."`
	Free         bool   `help:"Leave every token free, also where the file names its user. Without this such a token becomes the user's factor at once."`
	DryRun       bool   `help:"Look at everything and store nothing."`
}

// Help tells what the flags do not.
func (factorImportCmd) Help() string {
	return `A free token is enrolled by its serial number: the user proves to have it. One with a user is active at once, on the operator's word; the user is
told by a notice and the act stands in the audit, but the app gets no event of it. All of a file is stored, or nothing.

A CSV file has a first row of column names: kind (hotp, totp or yubikey) and serial; user and label; of hotp and totp secret_hex or secret_base32,
algorithm, digits, counter (of hotp) and period (of totp); of a yubikey public_id, private_id and aes_key.`
}

// Run imports a file of seeds.
func (c *factorImportCmd) Run(r *run) error {
	if c.User != "" && c.Free {
		return errors.New("--user and --free: give one of them")
	}
	if w := otp.CheckID(c.User); c.User != "" && w != "" {
		return fmt.Errorf("--user: %s", w)
	}
	key, err := hex.DecodeString(strings.Join(strings.Fields(c.PreSharedKey), ""))
	if err != nil {
		return errors.New("--pre-shared-key: must be hexadecimal")
	}
	if len(key) == 0 {
		key = nil
	}
	in := io.Reader(os.Stdin)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		defer f.Close()
		in = f
	}
	format := seeds.Format(c.Format)
	if c.Format == "auto" {
		format = ""
	}
	found, err := seeds.Parse(in, seeds.Options{Format: format, Key: key, Passphrase: c.Passphrase})
	if err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	switch {
	case c.User != "" && len(found) != 1:
		return fmt.Errorf("--user: the file holds %d tokens, and only one can be meant; name each user in a column of the file", len(found))
	case c.User != "":
		found[0].User = c.User
	case c.Free:
		for i := range found {
			found[i].User = ""
		}
	}
	return c.store(r, found)
}

func (c *factorImportCmd) store(r *run, found []seeds.Seed) error {
	keys, err := keyring.Load(c.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := c.find(r, db)
		if err != nil {
			return err
		}
		tokens, factors, err := seal(keys, app, found)
		if err != nil {
			return err
		}
		stock := postgres.NewFactors(db)
		if c.DryRun {
			err = stock.Known(r.ctx, app.ID, tokens)
		} else {
			err = stock.Import(r.ctx, time.Now(), app.ID, tokens, factors)
		}
		if err != nil {
			return err
		}
		if err := showSeeds(r.stdout, found); err != nil {
			return err
		}
		sum := fmt.Sprintf("%s: %d free, %d of users.", plural(len(tokens), "token", "tokens"), len(tokens)-len(factors), len(factors))
		if c.DryRun {
			sum += " Nothing was stored, as --dry-run asks."
		}
		_, err = fmt.Fprintln(r.stdout, "\n"+sum)
		return err
	})
}

// seal makes rows of seeds: a token of each, and a factor of each that has a user. A token's secret is sealed for no user, a factor's for its own.
func seal(keys *keyring.Ring, app postgres.App, found []seeds.Seed) (tokens []postgres.NewToken, factors []postgres.NewFactor, err error) {
	for _, s := range found {
		if s.Kind == seeds.KindTOTP && s.User == "" {
			return nil, nil, &seeds.Error{Line: s.Line, Serial: s.Serial, Field: "user", Err: errors.New(
				"must be named: a time-based token cannot be enrolled by its serial number")}
		}
		secret := s.Secret
		if s.Kind == seeds.KindYubikey {
			secret = append(append([]byte{}, s.PrivateID...), s.Secret...)
		}
		t := postgres.NewToken{
			ID: uuid.Must(uuid.NewV7()), Kind: otp.FactorKind(s.Kind), Serial: s.Serial, PublicID: s.PublicID, Algorithm: s.Algorithm, Digits: s.Digits,
			Period: s.Period, Used: s.Counter, Assigned: s.User != "",
		}
		if t.Sealed, err = keys.SealSecret(app.Name, "", t.ID.String(), secret); err != nil {
			return nil, nil, err
		}
		tokens = append(tokens, t)
		if s.User == "" {
			continue
		}
		f := postgres.NewFactor{
			ID: t.ID, Account: postgres.Account{AppID: app.ID, User: s.User}, Kind: t.Kind, Label: s.Label, Used: s.Counter, PublicID: s.PublicID,
			TOTP: otp.TOTP{Algorithm: s.Algorithm, Digits: s.Digits, Period: s.Period},
		}
		if f.Sealed, err = keys.SealSecret(app.Name, s.User, f.ID.String(), secret); err != nil {
			return nil, nil, err
		}
		if f.UserKey, err = keys.AuditKey("user", app.Name, s.User); err != nil {
			return nil, nil, err
		}
		factors = append(factors, f)
	}
	return tokens, factors, nil
}

// showSeeds prints what was found, without anything secret.
func showSeeds(out io.Writer, found []seeds.Seed) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tSERIAL\tUSER\tLABEL\tSETTING")
	for _, s := range found {
		setting := ""
		switch s.Kind {
		case seeds.KindHOTP:
			setting = fmt.Sprintf("%s, %d digits, counter %d", s.Algorithm, s.Digits, s.Counter)
		case seeds.KindTOTP:
			setting = fmt.Sprintf("%s, %d digits, %d s", s.Algorithm, s.Digits, s.Period)
		case seeds.KindYubikey:
			setting = "public id " + s.PublicID
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Kind, s.Serial, s.User, s.Label, setting)
	}
	return w.Flush()
}

// tokenFlags are what the commands for one token have in common.
type tokenFlags struct {
	databaseFlags
	keysFlags
	userFlags
	Serial string `required:"" help:"Serial number of the token."`
	Label  string `help:"Label, for the user to tell several apart."`
}

// add stores one token as the user's factor. It is read as a row of a file would be, so that the same is good here and there.
func (f tokenFlags) add(r *run, cells map[string]string) error {
	cells["serial"], cells["user"], cells["label"] = f.Serial, f.User, f.Label
	var names, values []string
	for name, value := range cells {
		names, values = append(names, name), append(values, value)
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	if err := w.WriteAll([][]string{names, values}); err != nil {
		return err
	}
	found, err := seeds.Parse(strings.NewReader(text.String()), seeds.Options{Format: seeds.CSV})
	if e, ok := errors.AsType[*seeds.Error](err); ok {
		return fmt.Errorf("%s %w", e.Field, e.Err)
	}
	if err != nil {
		return err
	}
	keys, err := keyring.Load(f.Keys, keyring.Operator)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	return withDB(f.databaseFlags, func(db *postgres.DB) error {
		app, _, err := f.account(r, db)
		if err != nil {
			return err
		}
		tokens, factors, err := seal(keys, app, found)
		if err != nil {
			return err
		}
		if err := postgres.NewFactors(db).Import(r.ctx, time.Now(), app.ID, tokens, factors); err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.stdout, "factor %s of user %s: %s %s\n", factors[0].ID, f.User, factors[0].Kind, f.Serial)
		return err
	})
}

type factorAddHOTPCmd struct {
	tokenFlags
	SecretFile string `required:"" type:"path" placeholder:"FILE" help:"File with the secret, in the form of --encoding; - for the standard input."`
	Encoding   string `default:"base32" enum:"base32,hex" help:"Form of the secret: base32 or hex."`
	Algorithm  string `default:"SHA1" enum:"SHA1,SHA256,SHA512" help:"SHA1, SHA256 or SHA512."`
	Digits     int    `default:"6" help:"6 to 8."`
	Counter    int64  `default:"0" help:"Counter of the next value."`
}

// Run adds an event-based token.
func (c *factorAddHOTPCmd) Run(r *run) error {
	secret, err := readSecret(c.SecretFile)
	if err != nil {
		return err
	}
	return c.add(r, map[string]string{
		"kind": seeds.KindHOTP, "secret_" + c.Encoding: secret, "algorithm": c.Algorithm, "digits": strconv.Itoa(c.Digits),
		"counter": strconv.FormatInt(c.Counter, 10),
	})
}

type factorAddYubikeyCmd struct {
	tokenFlags
	PublicID   string `name:"public-id" required:"" help:"The 12 characters that every value of the key begins with."`
	SecretFile string `required:"" type:"path" placeholder:"FILE" help:"File with the private id and the AES key, in hexadecimal, one behind the other; - for the standard input."`
}

// Run adds a YubiKey that types Yubico OTPs.
func (c *factorAddYubikeyCmd) Run(r *run) error {
	text, err := readSecret(c.SecretFile)
	if err != nil {
		return err
	}
	secret := strings.Fields(strings.ReplaceAll(text, ",", " "))
	if len(secret) != 2 {
		return errors.New("--secret-file: must hold the private id and the AES key with white space between them")
	}
	return c.add(r, map[string]string{"kind": seeds.KindYubikey, "public_id": c.PublicID, "private_id": secret[0], "aes_key": secret[1]})
}

// readSecret reads a file that holds one short secret.
func readSecret(path string) (string, error) {
	const most = 4 << 10
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("--secret-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("--secret-file: %w", err)
	case len(b) > most:
		return "", errors.New("--secret-file: is too long to hold one secret")
	}
	return strings.TrimSpace(string(b)), nil
}

type factorTokensCmd struct {
	List    factorTokensListCmd    `cmd:"" default:"withargs" help:"List the app's hardware tokens, and which of them are free. Needs not be named."`
	Release factorTokensReleaseCmd `cmd:"" help:"Make a token free again whose factor was removed."`
}

type factorTokensListCmd struct {
	databaseFlags
	appFlag
}

// Run lists the app's hardware tokens.
func (c *factorTokensListCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := c.find(r, db)
		if err != nil {
			return err
		}
		tokens, err := postgres.NewFactors(db).Tokens(r.ctx, app.ID)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "KIND\tSERIAL\tPUBLIC ID\tIMPORTED\tASSIGNED")
		for _, t := range tokens {
			assigned := "free"
			if !t.AssignedAt.IsZero() {
				assigned = t.AssignedAt.Format(time.DateTime)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Kind, t.Serial, t.PublicID, t.ImportedAt.Format(time.DateTime), assigned)
		}
		return w.Flush()
	})
}

type factorTokensReleaseCmd struct {
	databaseFlags
	appFlag
	Kind   string `required:"" enum:"hotp,totp,yubikey" help:"Kind of the token: hotp, totp or yubikey."`
	Serial string `arg:"" help:"Serial number of the token."`
}

// Help tells what the flags do not.
func (factorTokensReleaseCmd) Help() string {
	return `A token stays with its user until the user, or a recovery, has removed the factor that it was. Released, it can be enrolled by its serial number again,
and no value that it has served with serves the next user. A time-based token (totp) cannot be enrolled so: it is forgotten, and can be imported for the next.
The act stands in the audit of the user who had the token.`
}

// Run makes a token free again.
func (c *factorTokensReleaseCmd) Run(r *run) error {
	return withDB(c.databaseFlags, func(db *postgres.DB) error {
		app, err := c.find(r, db)
		if err != nil {
			return err
		}
		if err := postgres.NewFactors(db).Release(r.ctx, time.Now(), app.ID, otp.FactorKind(c.Kind), c.Serial); err != nil {
			return fmt.Errorf("%s %s: %w", c.Kind, c.Serial, err)
		}
		after := "free"
		if c.Kind == seeds.KindTOTP {
			after = "forgotten; import it again for its next user"
		}
		_, err = fmt.Fprintf(r.stdout, "The token %s %s is %s.\n", c.Kind, c.Serial, after)
		return err
	})
}
