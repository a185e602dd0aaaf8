package callback

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // accounts sign so until their operator chooses better; it has to be named
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// Methods of Vonage's signatures, as the account's settings name them.
const (
	SHA256  = "sha256" // HMAC-SHA256, the default here
	SHA512  = "sha512" // HMAC-SHA512
	MD5Hash = "md5hash"
)

// Vonage tells a receipt again for a day until it is taken, and it is not said that it is signed anew each time. Receipts go forwards only, so that one
// that is replayed within the day changes nothing.
const (
	vonageOldest = 25 * time.Hour
	vonageAhead  = 5 * time.Minute // of a clock that is fast
)

// vonageStates are the statuses of a delivery receipt (https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts).
var vonageStates = map[string]otp.DeliveryState{
	"submitted": "",
	"buffered":  otp.DeliveryAccepted,
	"accepted":  otp.DeliveryAccepted,
	"delivered": otp.DeliveryDelivered,
	"expired":   otp.DeliveryUndelivered,
	"failed":    otp.DeliveryUndelivered,
	"rejected":  otp.DeliveryUndelivered,
	"deleted":   otp.DeliveryUndelivered,
	"unknown":   otp.DeliveryUndelivered,
}

// vonageCodes are the values of err-code, by the same page.
var vonageCodes = map[string]struct {
	reason    string
	permanent bool
}{
	"1":  {"the cause is not known", false},
	"2":  {"handset is switched off or out of reach", false},
	"3":  {"number is no longer in service", true},
	"4":  {"the carrier bars messages to the number", true},
	"5":  {"the number was ported and is not found", false},
	"6":  {"filtered as spam by the carrier", false},
	"7":  {"handset was busy", false},
	"8":  {"error in the carrier's network", false},
	"9":  {"recipient wants no messages of the sender", false},
	"10": {"the message was refused", false},
	"11": {"no route to the number", false},
	"12": {"number cannot be reached", false},
	"13": {"recipient is under age for the sender", false},
	"14": {"the carrier blocks the number", false},
	"15": {"recipient's credit does not suffice", false},
	"16": {"gateway's quota is used up", false},
	"50": {"filtered: sending entity", false},
	"51": {"filtered: sender", false},
	"52": {"filtered: content", false},
	"53": {"filtered: consent", false},
	"54": {"against a regulation of the country", false},
	"99": {"general error", false},
}

// vonageName is what a parameter may be named.
var vonageName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// vonageKind reads Vonage's delivery receipts of SMS, signed with the account's signature secret
// (https://developer.vonage.com/en/getting-started/concepts/signing-messages).
type vonageKind struct {
	secrets []string
	method  string
}

var _ kind = (*vonageKind)(nil)

func newVonage(s *Source) (*vonageKind, error) {
	k := &vonageKind{secrets: s.Secrets, method: s.Method}
	for _, secret := range s.Secrets {
		if len(secret) < minSecret {
			return nil, fmt.Errorf("signature_secret: must have at least %d characters", minSecret)
		}
	}
	switch k.method {
	case "":
		k.method = SHA256
	case SHA256, SHA512, MD5Hash:
	default:
		return nil, errors.New("signature_method: must be sha256, sha512 or md5hash")
	}
	return k, nil
}

func (k *vonageKind) receive(r *request) (event.Report, error) {
	params, err := r.params()
	if err != nil {
		return event.Report{}, err
	}
	for name := range params { // names are signed as they are: one with "&" and "=" in it could hold two that were signed
		if !vonageName.MatchString(name) {
			return event.Report{}, malformed("a parameter has a name that is none")
		}
	}
	if !k.valid(params) {
		return event.Report{}, errSignature
	}
	for _, needed := range [...]string{"messageId", "status"} {
		if params[needed] == "" {
			return event.Report{}, malformed(needed + " is missing")
		}
	}
	seconds, err := strconv.ParseInt(params["timestamp"], 10, 64)
	if at := time.Unix(seconds, 0); err != nil || at.Before(r.now.Add(-vonageOldest)) || at.After(r.now.Add(vonageAhead)) {
		return event.Report{}, errSignature // it is not of now, whoever once made it
	}
	state, known := vonageStates[strings.ToLower(params["status"])]
	if !known {
		return event.Report{}, errUnknown
	}
	if state == "" {
		return event.Report{}, errStage
	}
	report := event.Report{State: state, Reference: params["messageId"], Token: params["client-ref"]}
	if !tokenForm.MatchString(report.Token) { // of a message of another program of the same account
		report.Token = ""
	}
	if state == otp.DeliveryUndelivered {
		report.Code = params["err-code"]
		code, known := vonageCodes[report.Code]
		if !known {
			code.reason = "Vonage gave no reason"
		}
		report.Reason, report.Permanent = code.reason, code.permanent
	}
	return report, nil
}

// valid checks sig, which is over the other parameters, in the order of their names.
func (k *vonageKind) valid(params map[string]string) bool {
	sig, err := hex.DecodeString(params["sig"])
	if err != nil || len(sig) == 0 {
		return false
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name != "sig" {
			text.WriteString("&" + name + "=" + vonagePlain.Replace(params[name]))
		}
	}
	for _, secret := range k.secrets {
		if hmac.Equal(sig, k.sum(text.String(), secret)) {
			return true
		}
	}
	return false
}

// vonagePlain takes out of a value what would look like the end of it.
var vonagePlain = strings.NewReplacer("&", "_", "=", "_")

func (k *vonageKind) sum(text, secret string) []byte {
	var h func() hash.Hash
	switch k.method {
	case MD5Hash:
		sum := md5.Sum([]byte(text + secret)) //nolint:gosec // see above
		return sum[:]
	case SHA512:
		h = sha512.New
	default:
		h = sha256.New
	}
	mac := hmac.New(h, []byte(secret))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
