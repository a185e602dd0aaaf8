package seeds

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A device is a KeyPackage: a token and, in all but the drafts, its one key.
type device struct {
	serial, user string
	keys         []key
}

// A key is as the file has it.
type key struct {
	line                                          int
	id, algorithm, suite, length, encoding, check string
	user, label                                   string
	secret                                        []byte
	counter, period                               *int64 // nil if the file does not tell
}

func (c *container) keyPackage(xml.StartElement) error {
	var d device
	err := c.children(name, map[string]handler{
		"DeviceInfo": func(xml.StartElement) error {
			return c.children(name, map[string]handler{
				"SerialNo":   c.into("serial", &d.serial),
				"UserId":     c.into("user", &d.user),
				"StartDate":  c.date(false),
				"ExpiryDate": c.date(true),
			})
		},
		"Key*": func(tag xml.StartElement) error {
			if c.count++; c.count > MaxKeys {
				return c.wrong("file", fmt.Errorf("has more than %d keys", MaxKeys))
			}
			k, err := c.key(tag)
			d.keys = append(d.keys, k)
			if e, ok := errors.AsType[*Error](err); ok && e.Serial == "" {
				e.Serial = showable(firstOf(d.serial, k.id))
			}
			return err
		},
	})
	if err != nil {
		return err
	}
	for _, k := range d.keys {
		seed, skip, err := k.seed(d)
		if err == nil && skip {
			continue
		}
		if err == nil {
			err = c.found.add(seed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *container) key(tag xml.StartElement) (key, error) {
	k := key{line: c.at}
	var err error
	if k.id, err = c.attr(tag, "Id", "KeyId"); err != nil { // the second is the drafts' name, here and below
		return k, err
	}
	if k.algorithm, err = c.attr(tag, "Algorithm", "KeyAlgorithm"); err != nil {
		return k, err
	}
	parameters := func(xml.StartElement) error {
		return c.children(name, map[string]handler{
			"Suite": c.into("Suite", &k.suite),
			"ResponseFormat": func(tag xml.StartElement) error {
				var errs [3]error
				k.length, errs[0] = c.attr(tag, "Length")
				k.encoding, errs[1] = c.attr(tag, "Encoding", "Format")
				k.check, errs[2] = c.attr(tag, "CheckDigits", "CheckDigit")
				if err := errors.Join(errs[:]...); err != nil {
					return err
				}
				return c.skip()
			},
		})
	}
	label := func(tag xml.StartElement) error {
		if k.label != "" { // the same in another language
			return c.skip()
		}
		return c.into("label", &k.label)(tag)
	}
	return k, c.children(name, map[string]handler{
		"AlgorithmParameters": parameters,
		"Usage":               parameters,
		"FriendlyName*":       label,
		"UserId":              c.into("user", &k.user),
		"Data":                func(xml.StartElement) error { return c.data(&k) },
		"Policy":              c.policy,
	})
}

// data reads the secret and the numbers. Time and TimeDrift, the state of a clock on the day of the file, are passed over: otpost's steps count from
// the Unix epoch (RFC 6238, section 4.1), and a token whose clock has drifted beyond the policy's skew is found out when it is confirmed.
func (c *container) data(k *key) error {
	integer := func(field string, to **int64) handler {
		return func(xml.StartElement) error {
			v, err := c.value(field)
			if err != nil {
				return err
			}
			n, err := v.integer()
			if err != nil {
				return c.wrong(field, err)
			}
			*to = &n
			return nil
		}
	}
	return c.children(name, map[string]handler{
		"Secret": func(xml.StartElement) error {
			v, err := c.value("secret")
			if err != nil {
				return err
			}
			if v.opened == nil && (c.o.Key != nil || c.o.Passphrase != "") {
				return c.wrong("secret", ErrNotEncrypted)
			}
			if k.secret = v.opened; k.secret == nil {
				if k.secret, err = unbase64(v.plain); err != nil {
					return c.wrong("secret", err)
				}
			}
			return nil
		},
		"Counter":      integer("counter", &k.counter),
		"TimeInterval": integer("period", &k.period),
	})
}

// A value is what one element of Data holds: plain text as the file has it, or what was decrypted.
type value struct {
	plain  string
	opened []byte // not nil if the file has it encrypted
}

func (c *container) value(field string) (value, error) {
	var v value
	var e *encrypted
	var mac []byte
	err := c.children(name, map[string]handler{
		"PlainValue": c.into(field, &v.plain),
		"EncryptedValue": func(xml.StartElement) error {
			read, err := c.encrypted(field)
			e = &read
			return err
		},
		"ValueMAC": func(xml.StartElement) error {
			text, err := c.text("ValueMAC")
			if err != nil {
				return err
			}
			if mac, err = unbase64(text); err != nil {
				return c.wrong("ValueMAC", err)
			}
			return nil
		},
	})
	switch {
	case err != nil:
		return value{}, err
	case e == nil && v.plain == "":
		return value{}, c.wrong(field, errors.New("is empty"))
	case e == nil:
		return v, nil
	case v.plain != "":
		return value{}, c.wrong(field, errors.New("is there in plain text and encrypted"))
	}
	if c.keys.encryption == nil {
		if err := c.preShared(); err != nil {
			return value{}, err
		}
	}
	if v.opened, err = c.keys.open(*e, mac); err != nil {
		return value{}, c.wrong(field, err)
	}
	return v, nil
}

// integer returns a number. Encrypted ones are big-endian; some vendors encrypt the decimal text instead, and read as big-endian that would be
// a number beyond what any token has counted to.
func (v value) integer() (int64, error) {
	text := v.plain
	if v.opened != nil {
		if n := len(v.opened); n > 0 && n <= 8 && !onlyDigits(v.opened) {
			var b [8]byte
			copy(b[8-n:], v.opened)
			text = strconv.FormatUint(binary.BigEndian.Uint64(b[:]), 10)
		} else {
			text = string(v.opened)
		}
	}
	return number(text)
}

func onlyDigits(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < '0' || c > '9' })
}

// date returns a handler for the first or last moment of validity. A key that is not valid now is refused, not left out: nobody would notice.
func (c *container) date(last bool) handler {
	return func(tag xml.StartElement) error {
		field := tag.Name.Local
		text, err := c.text(field)
		if err != nil {
			return err
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil { // xs:dateTime may leave out the zone, and RFC 6030, section 5 means UTC
			at, err = time.Parse("2006-01-02T15:04:05", text)
		}
		switch {
		case err != nil:
			return c.wrong(field, errors.New("must be a date and time such as 2026-05-31T00:00:00Z"))
		case last && !c.o.Now.Before(at):
			return c.wrong(field, fmt.Errorf("has passed: the key expired at %s", at.UTC().Format(time.RFC3339)))
		case !last && c.o.Now.Before(at):
			return c.wrong(field, fmt.Errorf("has not come: the key may be used from %s", at.UTC().Format(time.RFC3339)))
		}
		return nil
	}
}

// policy reads what a key may be used for. RFC 6030, section 5: what is not understood here means that the key must not be used.
func (c *container) policy(xml.StartElement) error {
	var usages []string
	err := c.children(name, map[string]handler{
		"StartDate":  c.date(false),
		"ExpiryDate": c.date(true),
		"KeyUsage*": func(xml.StartElement) error {
			usage, err := c.text("KeyUsage")
			usages = append(usages, usage)
			return err
		},
		"PINPolicy": func(tag xml.StartElement) error {
			mode, err := c.attr(tag, "PINUsageMode")
			if err != nil {
				return err
			}
			if mode != "Local" {
				return c.wrong("PINPolicy", errors.New("asks for a PIN that the server checks, which is not supported; only PINUsageMode Local is"))
			}
			return c.skip()
		},
		"": func(xml.StartElement) error {
			return c.wrong("Policy", errors.New("limits the key in a way that is not supported; only dates, KeyUsage and PINPolicy are"))
		},
	})
	if err != nil {
		return err
	}
	if len(usages) > 0 && !slices.Contains(usages, "OTP") {
		return c.wrong("KeyUsage", errors.New("must have OTP among its values"))
	}
	return nil
}

const yubikeyAlgorithm = "http://www.yubico.com/#yubikey-aes"

// oathAlgorithm are the ways in which RFC 6030 and its drafts name an algorithm.
var oathAlgorithm = regexp.MustCompile(`^(?:urn:ietf:params:xml:ns:keyprov:pskc[:#]|http://www\.ietf\.org/keyprov/pskc#)(?i:(hotp|totp|pin))$`)

// seed makes a seed of a key, or tells to skip it: a PIN is a key of its own in a file (RFC 6030, figure 5), and those that the token checks itself are
// of no use to a server.
func (k key) seed(d device) (s Seed, skip bool, err error) {
	s = Seed{Serial: firstOf(d.serial, k.id), User: firstOf(k.user, d.user), Label: k.label, Secret: k.secret, Line: k.line}
	wrong := func(field string, err error) (Seed, bool, error) {
		return Seed{}, false, &Error{Line: k.line, Serial: showable(s.Serial), Field: field, Err: err}
	}
	switch m := oathAlgorithm.FindStringSubmatch(k.algorithm); {
	case m != nil && strings.EqualFold(m[1], "pin"):
		return Seed{}, true, nil
	case m != nil:
		s.Kind = strings.ToLower(m[1])
	case k.algorithm == yubikeyAlgorithm:
		s.Kind = KindYubikey
	default:
		return wrong("Algorithm", errors.New("must be that of HOTP, TOTP or Yubico OTP"))
	}
	if k.secret == nil {
		return wrong("secret", errors.New("is missing; keys derived from a master key are not supported"))
	}
	if s.Kind == KindYubikey {
		if field, err := k.yubikey(&s); err != nil {
			return wrong(field, err)
		}
		return s, false, nil
	}
	if k.encoding != "" && k.encoding != "DECIMAL" {
		return wrong("ResponseFormat", errors.New("must have the encoding DECIMAL"))
	}
	if k.check != "" && k.check != "false" && k.check != "0" {
		return wrong("ResponseFormat", errors.New("asks for check digits, which are not supported"))
	}
	if s.Digits = 6; k.length != "" {
		digits, err := number(k.length)
		if err != nil {
			return wrong("digits", err)
		}
		s.Digits = int(digits)
	}
	if s.Algorithm = "SHA1"; k.suite != "" {
		s.Algorithm = hashName(k.suite)
	}
	switch {
	case s.Kind == KindHOTP && k.counter != nil:
		s.Counter = *k.counter
	case s.Kind == KindTOTP && k.period != nil:
		s.Period = int(*k.period)
	case s.Kind == KindTOTP:
		s.Period = 30
	}
	return s, false, nil
}

// yubikeyUser is how Yubico's tool has the ids of a YubiKey stand in for its user (draft-josefsson-keyprov-pskc-yubikey).
var yubikeyUser = regexp.MustCompile(`^CN=([cbdefghijklnrtuv]+), *UID=([0-9A-Fa-f]+)$`)

func (k key) yubikey(s *Seed) (field string, err error) {
	m := yubikeyUser.FindStringSubmatch(k.user)
	if m == nil {
		return "user", errors.New("must be CN=the public id in modhex, UID=the private id in hexadecimal")
	}
	s.User, s.PublicID = "", m[1]
	if s.PrivateID, err = hex.DecodeString(m[2]); err != nil {
		return "user", errors.New("must have whole bytes for its UID")
	}
	return "", nil
}

// firstOf returns the first text that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
