package event

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is how requests are read, and the parts that many of them have in common.

// Bounds of what apps write.
const (
	MaxLabel      = 64       // characters of the label of a factor, of the account that an authenticator shows, and of a token's serial number
	MaxCredential = 16 << 10 // bytes of what an authenticator says
	maxDevice     = 512      // characters of a trusted device's token
	maxUserAgent  = 1024     // characters
	maxRegion     = 32       // characters
	maxPassphrase = 512      // characters, before normalisation makes of several marks one character
)

// Checked is a request of this package, which knows its own bounds.
type Checked[T any] interface {
	*T
	check() *otp.Problem
}

// Parse reads a request strictly and checks its form. What it returns without a problem has every id, address and code in its only form: UUIDs in
// lower case, phone numbers in E.164, codes as [otp.ParseAnswer] gives them. A passphrase is as it was typed. With a problem it returns the zero value.
func Parse[T any, P Checked[T]](body []byte) (T, *otp.Problem) {
	var r, none T
	if p := decode(body, &r, "", strict); p != nil {
		return none, p
	}
	if p := P(&r).check(); p != nil {
		return none, p
	}
	return r, nil
}

// ParseTime reads a time whose form was checked; the zero time for none.
func ParseTime(s string) time.Time {
	t, _ := time.Parse(time.RFC3339, s)
	return t
}

func (o Owner) check() *otp.Problem {
	return first(needID("user", o.User), needID("session", o.Session))
}

func (p *Proof) check() *otp.Problem {
	if p.Code != "" && p.Challenge != "" {
		return otp.InvalidField("challenge", "must not be given beside a code")
	}
	return first(optionalTime("reauthenticated_at", p.Reauthenticated), optionalAnswer("code", &p.Code), optionalUUID("challenge", &p.Challenge))
}

// first returns the first problem of a list.
func first(problems ...*otp.Problem) *otp.Problem {
	for _, p := range problems {
		if p != nil {
			return p
		}
	}
	return nil
}

func needID(field, value string) *otp.Problem { return needText(field, value, otp.MaxIDLength) }

func optionalID(field, value string) *otp.Problem { return optionalText(field, value, otp.MaxIDLength) }

func needText(field, value string, limit int) *otp.Problem {
	if w := otp.CheckText(value, limit); w != "" {
		return otp.InvalidField(field, w)
	}
	return nil
}

func optionalText(field, value string, limit int) *otp.Problem {
	if value == "" {
		return nil
	}
	return needText(field, value, limit)
}

func needApp(value string) *otp.Problem {
	if !otp.ValidApp(value) {
		return otp.InvalidField("app", "must be 1 to 64 of a-z, 0-9 and -")
	}
	return nil
}

// needUUID takes the form in which otpost writes ids, in either case, and leaves it in lower case (RFC 9562, section 4).
func needUUID(field string, value *string) *otp.Problem {
	if *value == "" {
		return otp.InvalidField(field, "must not be empty")
	}
	if len(*value) == 36 {
		if id, err := uuid.Parse(*value); err == nil {
			*value = id.String()
			return nil
		}
	}
	return otp.InvalidField(field, "must be a UUID as otpost gave it")
}

func optionalUUID(field string, value *string) *otp.Problem {
	if *value == "" {
		return nil
	}
	return needUUID(field, value)
}

// optionalTime checks the form only: what a time means is for who acts on it.
func optionalTime(field, value string) *otp.Problem {
	if value == "" {
		return nil
	}
	if _, err := time.Parse(time.RFC3339, value); err != nil || !rfc3339.MatchString(value) {
		return otp.InvalidField(field, "must be a time as RFC 3339 writes it")
	}
	return nil
}

func oneOf(field, value string, allowed ...string) *otp.Problem {
	if slices.Contains(allowed, value) {
		return nil
	}
	return otp.InvalidField(field, "must be one of "+strings.Join(allowed, ", "))
}

// eachOnce checks a list of words of which none may come twice.
func eachOnce(field string, list []string, allowed ...string) *otp.Problem {
	for i, v := range list {
		at := fmt.Sprintf("%s.%d", field, i)
		if p := oneOf(at, v, allowed...); p != nil {
			return p
		}
		if slices.Contains(list[:i], v) {
			return otp.InvalidField(at, "is named twice")
		}
	}
	return nil
}

// needAnswer takes whatever a person answers with, of any form, and leaves it in its only one.
func needAnswer(field string, value *string) *otp.Problem {
	canonical, _, w := otp.ParseAnswer(*value)
	if w != "" {
		return otp.InvalidField(field, w)
	}
	*value = canonical
	return nil
}

func optionalAnswer(field string, value *string) *otp.Problem {
	if *value == "" {
		return nil
	}
	return needAnswer(field, value)
}

// needDigits takes a code that can be of no other form: one that otpost has sent, or the value of a token.
func needDigits(field string, value *string) *otp.Problem {
	canonical, w := otp.NormalizeAnswer(*value)
	if w != "" {
		return otp.InvalidField(field, w)
	}
	*value = canonical
	return nil
}

func needBackupCode(field string, value *string) *otp.Problem {
	canonical, form, w := otp.ParseAnswer(*value)
	switch {
	case w == "" && form != otp.FormBackupCode:
		return otp.InvalidField(field, "must be a backup code")
	case w != "":
		return otp.InvalidField(field, w)
	}
	*value = canonical
	return nil
}

// needPhone leaves a phone number in E.164, needEmail an address with its domain in lower case.
func needPhone(field string, value *string) *otp.Problem {
	return needAddress(field, value, parsePhone)
}

func needEmail(field string, value *string) *otp.Problem {
	return needAddress(field, value, otp.ParseEmail)
}

func parsePhone(s string) (string, error) { return otp.ParsePhone(s, "") }

func needAddress(field string, value *string, parse func(string) (string, error)) *otp.Problem {
	if *value == "" {
		return otp.InvalidField(field, "must not be empty")
	}
	canonical, err := parse(*value)
	if err != nil {
		return otp.InvalidField(field, otp.AddressWords(err))
	}
	*value = canonical
	return nil
}

// codeOrCredential checks an answer of which there must be exactly one.
func codeOrCredential(code *string, credential jsontext.Value) *otp.Problem {
	switch {
	case len(credential) == 0:
		return needAnswer("code", code)
	case *code != "":
		return otp.InvalidField("credential", "must not be given beside a code")
	case len(credential) > MaxCredential:
		return otp.InvalidField("credential", fmt.Sprintf("must have at most %d bytes", MaxCredential))
	case credential.Kind() != '{':
		return otp.InvalidField("credential", "must be an object")
	}
	return nil
}

// countryForm is that of ISO 3166-1 alpha-2.
var countryForm = regexp.MustCompile(`^[A-Z]{2}$`)

func optionalCountry(field, value string) *otp.Problem {
	if value == "" {
		return nil
	}
	return needCountry(field, value)
}

func needCountry(field, value string) *otp.Problem {
	if !countryForm.MatchString(value) {
		return otp.InvalidField(field, "must be a country's two capital letters (ISO 3166-1)")
	}
	if !otp.ValidCountry(value) {
		return otp.InvalidField(field, "is the code of no country (ISO 3166-1)")
	}
	return nil
}

func checkLocale(field, value string) *otp.Problem {
	if value != "" && !locale.MatchString(value) {
		return otp.InvalidField(field, "must be a language tag such as cs or de-AT (BCP 47)")
	}
	return nil
}
