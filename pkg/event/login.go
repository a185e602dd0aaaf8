package event

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/otpost/otpost/pkg/otp"
)

// LoginType is the CloudEvents type of a login event.
const LoginType = "otpost.login.requested.v1"

// MaxClockSkew is how far the time of a login event may be from the time at which it came in, to either side.
const MaxClockSkew = 10 * time.Minute

// To holds addresses that the app vouches for, as the app writes them.
type To struct {
	SMS   string `json:"sms,omitzero"`
	Email string `json:"email,omitzero"`
}

// Client is where the login comes from.
type Client struct {
	IP        string `json:"ip,omitzero"`
	UserAgent string `json:"user_agent,omitzero"`

	// AndroidHash is that of the Android app that is to find the code in a short message (SMS Retriever): 11 characters of base64.
	AndroidHash string `json:"android_hash,omitzero"`
}

// LoginData is the data of a login event.
type LoginData struct {
	User        string           `json:"user"`
	Session     string           `json:"session"`
	Channel     string           `json:"channel,omitzero"`
	To          *To              `json:"to,omitzero"`
	Locale      string           `json:"locale,omitzero"`
	Client      *Client          `json:"client,omitzero"`
	Device      string           `json:"device,omitzero"`
	Transaction *otp.Transaction `json:"transaction,omitzero"`
}

// A Login is one login, however it came: by event or by request.
type Login struct {
	App  string
	ID   string    // the app's event id
	Time time.Time // of the event; the zero time where the app gave none
	LoginData
	Phone string // data.to.sms in E.164; empty for none
	Mail  string // data.to.email; empty for none
}

// LoginRequest is the request of the verb login: the data of a login event plus the id that makes it idempotent.
type LoginRequest struct {
	ID string `json:"id"`
	LoginData
}

// envelope is CloudEvents 1.0 in structured JSON (CloudEvents, section 3.1). Extension attributes are allowed and passed over.
type envelope struct {
	SpecVersion     string         `json:"specversion"`
	ID              string         `json:"id"`
	Source          string         `json:"source"`
	Type            string         `json:"type"`
	Time            string         `json:"time"`
	Subject         string         `json:"subject"`
	DataContentType string         `json:"datacontenttype"`
	DataSchema      string         `json:"dataschema"`
	Data            jsontext.Value `json:"data"`

	Extensions map[string]jsontext.Value `json:",embed"`
}

// maxSource is the most characters that the source of a login event may have.
const maxSource = 1024

// ParseLogin reads a login event of app that came in at received. On a problem the Login holds what could be read of ID, User and Session, each
// empty unless it is valid, so that the app can be told whose login was refused.
func ParseLogin(app string, body []byte, received time.Time) (Login, *otp.Problem) {
	var env envelope
	if p := decode(body, &env, "", lenient); p != nil {
		return Login{App: app}, p
	}
	l := Login{App: app, ID: env.ID}
	if p := env.check(LoginType); p != nil {
		return l.salvage(env.Data), p
	}
	if env.Time != "" {
		t, err := time.Parse(time.RFC3339, env.Time)
		if err != nil || !rfc3339.MatchString(env.Time) {
			return l.salvage(env.Data), otp.InvalidField("time", "must be a time as RFC 3339 writes it")
		}
		if d := t.Sub(received); d > MaxClockSkew || d < -MaxClockSkew {
			return l.salvage(env.Data), otp.InvalidField("time", fmt.Sprintf("must lie within %d minutes of now, and is %s off",
				int(MaxClockSkew.Minutes()), d.Abs().Round(time.Second)))
		}
		l.Time = t
	}
	if p := decode(env.Data, &l.LoginData, "data", strict); p != nil {
		return l.salvage(env.Data), p
	}
	if p := l.check("data."); p != nil {
		return l.salvage(env.Data), p
	}
	return l, nil
}

// ParseLoginRequest reads a request of the verb login.
func ParseLoginRequest(app string, body []byte) (Login, *otp.Problem) {
	var r LoginRequest
	if p := decode(body, &r, "", strict); p != nil {
		return Login{App: app}, p
	}
	if w := otp.CheckID(r.ID); w != "" {
		return Login{App: app}, otp.InvalidField("id", w)
	}
	l := Login{App: app, ID: r.ID, LoginData: r.LoginData}
	if p := l.check(""); p != nil {
		return l, p
	}
	return l, nil
}

// check holds the envelope to CloudEvents 1.0 and to the type of event that the subject is for.
func (e envelope) check(typ string) *otp.Problem {
	if e.SpecVersion != "1.0" {
		return otp.InvalidField("specversion", `must be "1.0"`)
	}
	if w := otp.CheckID(e.ID); w != "" {
		return otp.InvalidField("id", w)
	}
	if w := otp.CheckText(e.Source, maxSource); w != "" {
		return otp.InvalidField("source", w)
	}
	if e.Type != typ {
		return otp.InvalidField("type", fmt.Sprintf("must be %q", typ))
	}
	if e.DataContentType != "" && e.DataContentType != "application/json" {
		return otp.InvalidField("datacontenttype", `must be "application/json" where it is given`)
	}
	if len(e.Data) == 0 {
		return otp.InvalidField("data", "must be given")
	}
	return e.checkExtensions()
}

// checkExtensions refuses what CloudEvents does not let an extension attribute be (sections 3.1 and, for JSON, 2.2), so that "Time" or
// "data_base64" does not pass for one.
func (e envelope) checkExtensions() *otp.Problem {
	for _, name := range slices.Sorted(maps.Keys(e.Extensions)) {
		if !attribute.MatchString(name) {
			return otp.InvalidField(fieldName("", jsontext.Pointer("").AppendToken(name)), "is not a known field")
		}
		switch e.Extensions[name].Kind() {
		case '"', 't', 'f', '0':
		default:
			return otp.InvalidField(fieldName("", jsontext.Pointer("").AppendToken(name)), "must be a string, a number, true or false")
		}
	}
	return nil
}

// rfc3339 refuses what time.Parse lets pass: an hour of one digit, a comma before the fraction, an offset of more than a day.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

var attribute = regexp.MustCompile(`^[a-z0-9]+$`)

var locale = regexp.MustCompile(`^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,4}$`)

// check validates every field and fills Phone and Mail. The prefix precedes the fields' names.
func (l *Login) check(prefix string) *otp.Problem {
	if w := otp.CheckID(l.User); w != "" {
		return otp.InvalidField(prefix+"user", w)
	}
	if w := otp.CheckID(l.Session); w != "" {
		return otp.InvalidField(prefix+"session", w)
	}
	if l.Channel != "" {
		if p := oneOf(prefix+"channel", l.Channel, askedKinds...); p != nil {
			return p
		}
	}
	if l.To != nil {
		var err error
		if l.To.SMS != "" {
			if l.Phone, err = otp.ParsePhone(l.To.SMS, ""); err != nil {
				return otp.InvalidField(prefix+"to.sms", otp.AddressWords(err))
			}
		}
		if l.To.Email != "" {
			if l.Mail, err = otp.ParseEmail(l.To.Email); err != nil {
				return otp.InvalidField(prefix+"to.email", otp.AddressWords(err))
			}
		}
	}
	if p := first(checkLocale(prefix+"locale", l.Locale), l.Client.check(prefix+"client")); p != nil {
		return p
	}
	if utf8.RuneCountInString(l.Device) > maxDevice {
		return otp.InvalidField(prefix+"device", fmt.Sprintf("must have at most %d characters", maxDevice))
	}
	if l.Transaction != nil {
		if f, w := l.Transaction.Check(); w != "" {
			return otp.InvalidField(prefix+"transaction."+f, w)
		}
	}
	return nil
}

var androidHash = regexp.MustCompile(`^[A-Za-z0-9+/]{11}$`)

func (c *Client) check(field string) *otp.Problem {
	if c == nil {
		return nil
	}
	if c.IP != "" {
		if ip, err := netip.ParseAddr(c.IP); err != nil || ip.Zone() != "" { // a zone means nothing outside the app's host
			return otp.InvalidField(field+".ip", "must be an IPv4 or IPv6 address, without a zone")
		}
	}
	if c.AndroidHash != "" && !androidHash.MatchString(c.AndroidHash) {
		return otp.InvalidField(field+".android_hash", "must be the 11 characters of A-Z, a-z, 0-9, + and / that the app's signature gives")
	}
	if utf8.RuneCountInString(c.UserAgent) > maxUserAgent {
		return otp.InvalidField(field+".user_agent", fmt.Sprintf("must have at most %d characters", maxUserAgent))
	}
	return nil
}

// salvage keeps of a bad event what names its user, so that the refusal finds its addressee.
func (l Login) salvage(data jsontext.Value) Login {
	var who struct {
		User    jsontext.Value `json:"user"`
		Session jsontext.Value `json:"session"`
	}
	kept := Login{App: l.App}
	if otp.CheckID(l.ID) == "" {
		kept.ID = l.ID
	}
	if json.Unmarshal(data, &who) != nil {
		return kept
	}
	read := func(v jsontext.Value) (s string) {
		if v.Kind() != '"' || json.Unmarshal(v, &s) != nil || otp.CheckID(s) != "" {
			return ""
		}
		return s
	}
	kept.User, kept.Session = read(who.User), read(who.Session)
	return kept
}
