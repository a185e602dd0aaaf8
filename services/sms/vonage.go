package sms

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otp"
)

// VonageConfig says which account sends from which sender, and how.
type VonageConfig struct {
	Name string // of the provider in events, rows and metrics; default "vonage"

	APIKey          string // of the account
	APISecret       string // either this,
	SignatureSecret string // or this, with which requests are signed in its place; the account's method must be HMAC with SHA-256

	From string // a number in E.164, a short code or a name (alphanumeric sender id); Message.Sender goes before it

	// BaseURL is where the API stands; "" for Vonage. A request to https://rest.nexmo.com/<path> goes to BaseURL/<path>, so that the simulator can stand
	// in. Anything but https is for one's own machine: credentials and codes travel with every request.
	BaseURL string
	// Callback is where Vonage reports what became of a message that has a Token, which comes back as client-ref; at most 100 characters. "" leaves it
	// to the account's settings.
	Callback    string
	Timeout     time.Duration // of one send from the first byte to the last; bounded by the caller's context as well; default 10 s
	Connections int           // open at most, and kept open while idle; default 64
	Logger      *slog.Logger  // default slog.Default()
	Now         func() time.Time
}

const vonageBase = "https://rest.nexmo.com"

// Bounds of the SMS API (https://developer.vonage.com/en/api/sms).
const (
	minVonageTTL      = 20 * time.Second
	maxVonageTTL      = 7 * 24 * time.Hour
	maxVonageCallback = 100 // characters
)

// Vonage sends SMS through Vonage's SMS API. It is safe for concurrent use.
//
// Vonage has no idempotency key for messages: an Ambiguous error may stand for a message that is on its way, and sending it again may deliver it twice.
// It tells a receipt of each part of a long message.
type Vonage struct {
	name              string
	key               string
	secret, signature string // one of them is empty
	from              string
	endpoint          *url.URL
	callback          string
	limits            httpLimits
	transport         *http.Transport
	strange           sync.Map // statuses unknown to vonageStatuses that have been logged
}

var _ delivery.Provider = (*Vonage)(nil)

var vonageKeyPattern = regexp.MustCompile(`^[0-9A-Za-z]{4,32}$`)

// NewVonage checks c and returns a provider. It sends nothing; wrong credentials show at the first send. Its error names the field at fault and quotes no
// secret.
func NewVonage(c VonageConfig) (*Vonage, error) {
	v := &Vonage{
		name: c.Name, key: c.APIKey, secret: c.APISecret, signature: c.SignatureSecret, from: c.From, callback: c.Callback,
		limits: httpLimits{c.Timeout, c.Connections, c.Logger, c.Now},
	}
	if v.name == "" {
		v.name = "vonage"
	}
	switch {
	case !otp.ValidProvider(v.name):
		return nil, errors.New("vonage: Name must have 1 to 32 of a-z, 0-9 and -, and begin with a letter or digit")
	case !vonageKeyPattern.MatchString(c.APIKey):
		return nil, errors.New("vonage: APIKey must have 4 to 32 letters and digits")
	case (c.APISecret == "") == (c.SignatureSecret == ""):
		return nil, errors.New("vonage: exactly one of APISecret and SignatureSecret must be set")
	case !validSender(c.From):
		return nil, errors.New("vonage: From must be a number in E.164, a short code or a name of up to 11 characters with a letter")
	}
	base := c.BaseURL
	if base == "" {
		base = vonageBase
	}
	endpoint, err := baseURL("BaseURL", base)
	if err != nil {
		return nil, fmt.Errorf("vonage: %w", err)
	}
	v.endpoint = endpoint.JoinPath("sms", "json")
	if c.Callback != "" {
		if u, err := url.Parse(c.Callback); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
			return nil, errors.New("vonage: Callback must be an absolute http or https URL")
		}
		if utf8.RuneCountInString(c.Callback) > maxVonageCallback {
			return nil, fmt.Errorf("vonage: Callback must have at most %d characters", maxVonageCallback)
		}
	}
	if err := v.limits.check("vonage"); err != nil {
		return nil, err
	}
	if inClear(endpoint) {
		v.limits.log.Warn("vonage: credentials and codes travel in clear text to the base URL", "host", endpoint.Host)
	}
	v.transport = newTransport(v.limits.connections)
	return v, nil
}

func validSender(s string) bool {
	return senderPattern.MatchString(s) || senderNamePattern.MatchString(s) && letterPattern.MatchString(s)
}

// Name returns the provider's name.
func (v *Vonage) Name() string { return v.name }

// Close closes idle connections. Sends under way go on; call it when there are none.
func (v *Vonage) Close() { v.transport.CloseIdleConnections() }

// Send hands a message to Vonage, which may keep trying for as long as it is worth something. The shortest time that Vonage takes is 20 seconds: a message
// with less to live is Rejected, unsent, because it would arrive after its end.
//
// Errors are *delivery.Error. Nothing was sent when no connection could be had (Transient); from the moment that one carries the request until a readable
// answer is in, the outcome is unknown (Ambiguous); an answer is judged by Vonage's status (see vonageStatuses). Of a message that Vonage has split, parts
// of which it took and parts of which it refused, nobody knows what a handset will make: that is Ambiguous too, with the status of the refused part.
func (v *Vonage) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	now := v.limits.now()
	ttl := m.ExpiresAt.Sub(now)
	switch {
	case ttl < minLife:
		return delivery.Accepted{}, expiring()
	case ttl < minVonageTTL:
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Rejected, Reason: "the code lives for less time than the shortest that the provider can be told"}
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	form := v.form(m, min(ttl, maxVonageTTL))
	if v.signature != "" {
		form.Set("api_key", v.key)
		form.Set("timestamp", strconv.FormatInt(now.Unix(), 10))
		form.Set("sig", vonageSignature(v.signature, form))
	} else {
		header.Set("Authorization", basicAuth(v.key, v.secret))
	}
	ctx, cancel := context.WithTimeout(ctx, v.limits.timeout)
	defer cancel()
	a, failure := post(ctx, v.transport, v.endpoint, header, []byte(form.Encode()))
	if failure != nil {
		return delivery.Accepted{}, failure
	}
	return v.read(a, m)
}

func (v *Vonage) form(m *delivery.Message, ttl time.Duration) url.Values {
	from := m.Sender
	if from == "" {
		from = v.from
	}
	form := url.Values{
		"from": {strings.TrimPrefix(from, "+")}, // numbers without it, here and in to
		"to":   {strings.TrimPrefix(m.To, "+")},
		"text": {m.Text},
		"ttl":  {strconv.FormatInt(ttl.Milliseconds(), 10)},
	}
	if !gsmText(m.Text) {
		form.Set("type", "unicode") // else "?" would stand for what the GSM alphabet lacks
	}
	ref := m.Token
	if ref == "" {
		ref = m.Reference
	}
	form.Set("client-ref", ref)
	form.Set("status-report-req", strconv.FormatBool(m.Token != ""))
	if m.Token != "" && v.callback != "" {
		form.Set("callback", v.callback)
	}
	return form
}

// vonageSignature is the value of sig: the HMAC with SHA-256, keyed with the account's signature secret, of "&name=value" for each parameter in the order
// of names, where _ stands for each & and = of a value; in hexadecimal.
// See https://developer.vonage.com/en/getting-started/concepts/signing-messages.
func vonageSignature(secret string, form url.Values) string {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, name := range slices.Sorted(maps.Keys(form)) {
		if name != "sig" {
			_, _ = io.WriteString(mac, "&"+name+"="+separators.Replace(form.Get(name))) // a hash takes everything
		}
	}
	return strings.ToUpper(hex.EncodeToString(mac.Sum(nil)))
}

var separators = strings.NewReplacer("&", "_", "=", "_")

// A vonageAnswer tells of each part that a message was split into.
type vonageAnswer struct {
	Count    looseText    `json:"message-count"`
	Messages []vonagePart `json:"messages"`
}

type vonagePart struct {
	Status looseText `json:"status"`
	ID     string    `json:"message-id"`
	Error  string    `json:"error-text"`
}

// A looseText is a JSON string, or a number as its digits: Vonage has written counts and statuses as either.
type looseText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *looseText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	var n json.Number
	err := json.Unmarshal(b, &n)
	*t = looseText(n)
	return err
}

// read judges an answer.
func (v *Vonage) read(a answer, m *delivery.Message) (delivery.Accepted, error) {
	var said vonageAnswer
	err := a.err
	if err == nil {
		if err = json.Unmarshal(a.body, &said); err != nil {
			err = errors.New("the answer is not the JSON that is looked for") // the decoder's words may quote it
		}
	}
	refused, taken, named := -1, 0, 0 // the first part refused, how many were taken, and how many of these have an id
	for i, part := range said.Messages {
		switch {
		case part.Status == "0":
			taken++
			if part.ID != "" {
				named++
			}
		case part.Status != "" && refused < 0:
			refused = i
		}
	}
	switch ok := a.status >= 200 && a.status <= 299; {
	case err == nil && refused >= 0 && taken == 0:
		return delivery.Accepted{}, v.refusal(a, said.Messages[refused], m)
	case !ok:
		j := judgeHTTP(a.status)
		return delivery.Accepted{}, v.failure(a, j, "HTTP "+strconv.Itoa(a.status), nil)
	case err == nil && refused >= 0:
		part := said.Messages[refused]
		e := v.refusal(a, part, m)
		e.Class, e.RetryAfter = delivery.Ambiguous, 0
		e.Reason = "parts of the message were taken, and others refused: " + e.Reason
		return delivery.Accepted{}, e
	case err != nil || named == 0 || named != len(said.Messages) || said.Count != "" && string(said.Count) != strconv.Itoa(named):
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Ambiguous, Reason: "unreadable answer", Err: err}
	}
	return delivery.Accepted{Reference: said.Messages[0].ID}, nil
}

// refusal turns the refusal of a part into a delivery error.
func (v *Vonage) refusal(a answer, part vonagePart, m *delivery.Message) *delivery.Error {
	j, known := vonageStatuses[string(part.Status)]
	code := string(part.Status)
	if !known {
		j = verdict{delivery.Rejected, "refused with a status that is not known"}
		if !statusPattern.MatchString(code) {
			code = "unknown" // it could hold anything
		}
		if _, logged := v.strange.LoadOrStore(code, true); !logged {
			v.limits.log.Warn("vonage answered with a status that is not in the table", "status", code, "class", j.class)
		}
	}
	e := v.failure(a, j, code, fmt.Errorf("vonage: HTTP status %d, status %s: %s", a.status, code, withoutPrivate(part.Error, m)))
	if wait := throttled.FindStringSubmatch(part.Error); wait != nil && e.Class == delivery.Transient && e.RetryAfter == 0 {
		ms, _ := strconv.Atoi(wait[1])
		e.RetryAfter = min(time.Duration(ms)*time.Millisecond, maxRetryAfter)
	}
	return e
}

var (
	statusPattern = regexp.MustCompile(`^[0-9]{1,3}$`)
	throttled     = regexp.MustCompile(`please wait \[ ?([0-9]{1,7}) ?\]`) // the milliseconds in what Vonage says to status 1
)

func (v *Vonage) failure(a answer, j verdict, code string, cause error) *delivery.Error {
	e := &delivery.Error{Class: j.class, Code: code, Reason: j.reason, Err: cause}
	if j.class == delivery.Transient {
		e.RetryAfter = retryAfter(a.retryAfter, v.limits.now())
	}
	return e
}

// gsmAlphabet is the GSM 7-bit default alphabet and its extension (3GPP TS 23.038, section 6.2.1).
const gsmAlphabet = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
	"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà" + "^{}\\[~]|€\f"

func gsmText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(gsmAlphabet, r) })
}
