package event

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is what each request of a recovery must look like.

var (
	recoveryMethods = []string{string(otp.ProofEmail), string(otp.ProofPhone), string(otp.ProofLetter)}
	recoveryProofs  = append(slices.Clone(recoveryMethods), string(otp.ProofPassphrase), string(otp.ProofBackupCode))
	preferences     = append(slices.Clone(recoveryMethods), string(otp.ProofPassphrase))
)

// Changes reports whether the request sets anything.
func (r PreferencesRequest) Changes() bool {
	return r.Country != "" || r.Region != "" || r.Passphrase != "" || len(r.Remove) > 0
}

func (r *PreferencesRequest) check() *otp.Problem {
	p := first(needID("user", r.User), optionalID("session", r.Session), r.Client.check("client"), r.Proof.check(), optionalCountry("country", r.Country),
		optionalText("region", r.Region, maxRegion), eachOnce("remove", r.Remove, preferences...))
	switch {
	case p != nil:
		return p
	case r.Passphrase != "" && slices.Contains(r.Remove, string(otp.ProofPassphrase)):
		return otp.InvalidField("passphrase", "must not be given where it is to be removed")
	case r.Passphrase != "":
		if p := passphrase("passphrase", r.Passphrase); p != nil {
			return p
		}
		if w := otp.CheckPassphraseForm(r.Passphrase); w != "" {
			return otp.InvalidField("passphrase", w)
		}
	}
	if r.Changes() {
		return needID("session", r.Session)
	}
	return nil
}

// passphrase bounds what is normalised at all. What else a passphrase may be is asked where it is set: a wrong one is compared like any other.
func passphrase(field, value string) *otp.Problem {
	switch {
	case value == "":
		return otp.InvalidField(field, "must not be empty")
	case utf8.RuneCountInString(value) > maxPassphrase:
		return otp.InvalidField(field, fmt.Sprintf("must have at most %d characters", maxPassphrase))
	}
	return nil
}

func (r *RecoveryAddressRequest) check() *otp.Problem {
	return first(r.Owner.check(), oneOf("method", r.Method, recoveryMethods...), checkLocale("locale", r.Locale), r.Client.check("client"), r.Proof.check(),
		r.checkMethod())
}

// checkMethod holds the address to the method.
func (r *RecoveryAddressRequest) checkMethod() *otp.Problem {
	if otp.ProofKind(r.Method) == otp.ProofLetter {
		if r.Address != "" {
			return otp.InvalidField("address", "is for email and phone only")
		}
		return r.checkPostal()
	}
	switch {
	case r.Postal != nil:
		return otp.InvalidField("postal", "is for a letter only")
	case otp.ProofKind(r.Method) == otp.ProofPhone:
		return needPhone("address", &r.Address)
	}
	return needEmail("address", &r.Address)
}

// postalCode is what all countries' postal codes are made of.
var postalCode = regexp.MustCompile(`^[\p{L}\p{Nd} -]*$`)

// checkPostal checks each field as it came, so that a schema can tell as much, and then the address as a whole, which it brings into its only form.
func (r *RecoveryAddressRequest) checkPostal() *otp.Problem {
	a := r.Postal
	if a == nil {
		return otp.InvalidField("postal", "must be given for a letter")
	}
	p := first(needText("postal.name", a.Name, otp.MaxAddressField), needText("postal.line1", a.Line1, otp.MaxAddressField),
		optionalText("postal.line2", a.Line2, otp.MaxAddressField), needText("postal.city", a.City, otp.MaxAddressField),
		optionalText("postal.region", a.Region, otp.MaxAddressField), optionalText("postal.postal_code", a.PostalCode, otp.MaxPostalCode),
		needCountry("postal.country", a.Country))
	if p != nil {
		return p
	}
	if !postalCode.MatchString(a.PostalCode) {
		return otp.InvalidField("postal.postal_code", "must consist of letters, digits, spaces and hyphens")
	}
	canonical, err := otp.ParseAddress(a.Encode())
	if err != nil {
		p := *otp.AsProblem(err)
		p.Field, p.Message = strings.Replace(p.Field, "address", "postal", 1), strings.Replace(p.Message, "address", "postal", 1)
		return &p
	}
	*a = canonical
	return nil
}

func (r *RecoveryConfirmRequest) check() *otp.Problem {
	return first(needUUID("ceremony", &r.Ceremony), needID("session", r.Session), needDigits("code", &r.Code))
}

func (r *RecoveryBeginRequest) check() *otp.Problem {
	return first(r.Owner.check(), eachOnce("methods", r.Methods, recoveryMethods...), checkLocale("locale", r.Locale), r.Client.check("client"),
		optionalTime("reauthenticated_at", r.Reauthenticated))
}

func (r *RecoveryResendRequest) check() *otp.Problem {
	return first(needUUID("recovery", &r.Recovery), needID("session", r.Session), oneOf("method", r.Method, recoveryMethods...))
}

func (r *RecoveryProveRequest) check() *otp.Problem {
	return first(needUUID("recovery", &r.Recovery), needID("session", r.Session), oneOf("method", r.Method, recoveryProofs...), r.Client.check("client"),
		optionalTime("reauthenticated_at", r.Reauthenticated), r.checkCode())
}

func (r *RecoveryProveRequest) checkCode() *otp.Problem {
	switch otp.ProofKind(r.Method) {
	case otp.ProofPassphrase:
		return passphrase("code", r.Code)
	case otp.ProofBackupCode:
		return needBackupCode("code", &r.Code)
	}
	return needDigits("code", &r.Code)
}

func (r *RecoveryStatusRequest) check() *otp.Problem {
	return first(needID("user", r.User), optionalUUID("recovery", &r.Recovery))
}

func (r *RecoveryCancelRequest) check() *otp.Problem {
	p := first(needID("user", r.User), optionalID("session", r.Session), r.Client.check("client"), optionalTime("reauthenticated_at", r.Reauthenticated))
	switch {
	case p != nil:
		return p
	case r.Code != "":
		return needDigits("code", &r.Code)
	case r.Session == "":
		return otp.InvalidField("session", "must be given, or code")
	}
	return nil
}
