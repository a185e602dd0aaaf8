package inbox

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/uuid"
)

// ProviderSNS is the kind of the simulated AWS Simple Notification Service.
const ProviderSNS = "sns"

const (
	snsVersion  = "2010-03-31"
	snsTime     = "20060102T150405Z"
	maxSNSText  = 1600
	maxSNSName  = 11
	snsKeyChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// routeSNS adds the Query API of SNS below /sns, which stands for https://sns.<region>.amazonaws.com; any region will do. It knows one action: Publish, to
// a phone number. As SNS posts no receipts, what a fault says of them is without effect, but for Lost.
func (in *Inbox) routeSNS(mux *http.ServeMux) {
	mux.HandleFunc("/sns", in.answerSNS)
	mux.HandleFunc("/sns/", in.answerSNS)
}

func (in *Inbox) answerSNS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeSNSError(w, http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The requested HTTP verb is not supported")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFormBytes))
	if err != nil {
		writeSNSError(w, http.StatusBadRequest, "MalformedQueryString", "The request body cannot be read")
		return
	}
	if code, message := in.checkSNSSignature(r, body); code != "" {
		writeSNSError(w, http.StatusForbidden, code, message)
		return
	}
	form, err := url.ParseQuery(string(body))
	switch {
	case err != nil:
		writeSNSError(w, http.StatusBadRequest, "MalformedQueryString", "The query string contains a syntax error")
	case form.Get("Action") != "Publish" || form.Get("Version") != snsVersion:
		writeSNSError(w, http.StatusBadRequest, "InvalidAction",
			fmt.Sprintf("Could not find operation %s for version %s", form.Get("Action"), form.Get("Version")))
	default:
		in.publish(w, r, form)
	}
}

// SNSCredentials returns the access key that the simulated SNS asks for.
func (in *Inbox) SNSCredentials() (accessKeyID, secretAccessKey string) {
	return in.cfg.SNSAccessKeyID, in.cfg.SNSSecretAccessKey
}

// newSNSKey draws an access key in AWS's form.
func newSNSKey() (id, secret string) {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	for i := range b {
		b[i] = snsKeyChars[int(b[i])%len(snsKeyChars)]
	}
	return "AKIA" + string(b[:]), rand.Text() + rand.Text()[:14]
}

var authorizationPattern = regexp.MustCompile(
	`^AWS4-HMAC-SHA256 Credential=([^/, ]+)/([0-9]{8})/([a-z0-9-]+)/sns/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=[0-9a-f]{64}$`)

// checkSNSSignature judges the Authorization header of a request (Signature Version 4) by signing it again, over what its sender says that it has signed.
// code "" means that all is well.
func (in *Inbox) checkSNSSignature(r *http.Request, body []byte) (code, message string) {
	given := r.Header.Get("Authorization")
	if given == "" {
		return "MissingAuthenticationToken", "Request is missing Authentication Token"
	}
	parts := authorizationPattern.FindStringSubmatch(given)
	at, err := time.Parse(snsTime, r.Header.Get("X-Amz-Date"))
	if parts == nil || err != nil || at.Format("20060102") != parts[2] {
		return "IncompleteSignature", "Authorization header requires existence of 'Credential', 'SignedHeaders', 'Signature' and of a date"
	}
	key, region, names := parts[1], parts[3], strings.Split(parts[4], ";")
	if key != in.cfg.SNSAccessKeyID {
		return "InvalidClientTokenId", "The security token included in the request is invalid."
	}
	const mismatch = "The request signature we calculated does not match the signature you provided."
	target, err := url.ParseRequestURI(r.RequestURI) // not r.URL, which may lack a prefix
	if err != nil || !slices.Contains(names, "host") || !slices.Contains(names, "x-amz-date") {
		return "SignatureDoesNotMatch", mismatch
	}
	again := &http.Request{Method: r.Method, URL: target, Host: r.Host, Header: make(http.Header)}
	for _, name := range names {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	hash := sha256.Sum256(body)
	credentials := aws.Credentials{AccessKeyID: key, SecretAccessKey: in.cfg.SNSSecretAccessKey}
	err = v4.NewSigner().SignHTTP(r.Context(), credentials, again, hex.EncodeToString(hash[:]), ProviderSNS, region, at)
	if err != nil || subtle.ConstantTimeCompare([]byte(signature(again.Header.Get("Authorization"))), []byte(signature(given))) != 1 {
		return "SignatureDoesNotMatch", mismatch
	}
	return "", ""
}

func signature(authorization string) string {
	_, s, _ := strings.Cut(authorization, "Signature=")
	return s
}

// publish takes a message to a number.
func (in *Inbox) publish(w http.ResponseWriter, r *http.Request, form url.Values) {
	name, to, text := in.nameOf(r, ProviderSNS), form.Get("PhoneNumber"), form.Get("Message")
	attributes, code, message := snsAttributes(form)
	if code == "" {
		code, message = checkPublish(form, attributes)
	}
	if code != "" {
		in.refused(name)
		writeSNSError(w, http.StatusBadRequest, code, message)
		return
	}
	fault := in.snsFault(name, to)
	in.pause(fault.Delay, r.Context().Done())
	switch {
	case fault.Drop:
		in.refused(name)
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	case fault.refuses():
		in.refused(name)
		writeSNSFault(w, to, fault)
		return
	}
	id := uuid.NewString()
	if !fault.Lost {
		from := attributes["AWS.SNS.SMS.SenderID"]
		if from == "" {
			from = attributes["AWS.MM.SMS.OriginationNumber"]
		}
		if from == "" {
			from = "NOTICE" // what SNS puts where neither the message nor the account names a sender, and the country allows names
		}
		in.Add(Message{Channel: SMS, Provider: name, From: from, To: to, Text: text, Reference: id})
	}
	in.took(name, to, text)
	if fault.AcceptThenDrop {
		panic(http.ErrAbortHandler)
	}
	writeSNS(w, http.StatusOK, struct {
		XMLName xml.Name `xml:"http://sns.amazonaws.com/doc/2010-03-31/ PublishResponse"`
		ID      string   `xml:"PublishResult>MessageId"`
		Request string   `xml:"ResponseMetadata>RequestId"`
	}{ID: id, Request: uuid.NewString()})
}

// snsAttributes reads the message attributes: MessageAttributes.entry.N.Name, .Value.DataType and .Value.StringValue, with N from 1.
func snsAttributes(form url.Values) (attributes map[string]string, code, message string) {
	attributes = make(map[string]string)
	for n := 1; ; n++ {
		prefix := "MessageAttributes.entry." + strconv.Itoa(n) + "."
		name, value := form.Get(prefix+"Name"), form.Get(prefix+"Value.StringValue")
		if name == "" {
			return attributes, "", ""
		}
		switch kind := form.Get(prefix + "Value.DataType"); {
		case kind != "String" && kind != "Number":
			return nil, "ParameterValueInvalid", fmt.Sprintf("The message attribute '%s' has an invalid message attribute type", name)
		case value == "":
			return nil, "ParameterValueInvalid", fmt.Sprintf("The message attribute '%s' must contain a non-empty message attribute value", name)
		}
		attributes[name] = value
	}
}

var (
	snsName       = regexp.MustCompile(`^[A-Za-z0-9-]{1,` + strconv.Itoa(maxSNSName) + `}$`)
	snsOrigin     = regexp.MustCompile(`^\+?[0-9]{3,15}$`)
	snsPrice      = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,9})?$`)
	snsPublishing = "Invalid parameter: PhoneNumber Reason: %s is not valid to publish to"
)

// checkPublish judges what SNS judges before it takes a message; code "" means that all is well.
func checkPublish(form url.Values, attributes map[string]string) (code, message string) {
	to, text := form.Get("PhoneNumber"), form.Get("Message")
	switch {
	case to == "":
		return "InvalidParameter", "Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter"
	case !e164.MatchString(to):
		return "InvalidParameter", fmt.Sprintf(snsPublishing, to)
	case text == "":
		return "InvalidParameter", "Invalid parameter: Empty message"
	case utf8.RuneCountInString(text) > maxSNSText:
		return "InvalidParameter", "Invalid parameter: Message too long"
	}
	for _, a := range []struct {
		name string
		good func(string) bool
	}{
		{"AWS.SNS.SMS.SenderID", func(v string) bool { return snsName.MatchString(v) && letter.MatchString(v) }},
		{"AWS.MM.SMS.OriginationNumber", snsOrigin.MatchString},
		{"AWS.SNS.SMS.MaxPrice", snsPrice.MatchString},
		{"AWS.SNS.SMS.SMSType", func(v string) bool { return v == "Transactional" || v == "Promotional" }},
	} {
		if v, ok := attributes[a.name]; ok && !a.good(v) {
			return "InvalidParameter", fmt.Sprintf("Invalid parameter: %s Reason: %s is not valid", a.name, v)
		}
	}
	return "", ""
}

// magicSNS are the magic numbers as far as SNS has something like what they stand for at Twilio: it judges of a number that it cannot publish to it, and
// nothing else.
var magicSNS = map[string]Fault{
	"+15005550001": {Status: http.StatusBadRequest, Code: "InvalidParameter"},
	"+15005550002": {Status: http.StatusBadRequest, Code: "InvalidParameter"},
	"+15005550003": {Status: http.StatusBadRequest, Code: "InvalidParameter"},
	"+15005550004": {Status: http.StatusBadRequest, Code: "OptedOut"},
	"+15005550009": {Status: http.StatusBadRequest, Code: "InvalidParameter"},
	"+15005550013": {Status: http.StatusTooManyRequests, Code: "Throttled", RetryAfter: 2 * time.Second},
	"+15005550014": {Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"},
}

func (in *Inbox) snsFault(name, to string) Fault {
	if f := in.fault(name, to); !f.None() {
		return f
	}
	return magicSNS[to]
}

// snsStatuses are the HTTP statuses of the codes that a fault may name alone, and the codes of the statuses.
var snsStatuses = []struct {
	status  int
	code    string
	message string
}{
	{http.StatusBadRequest, "InvalidParameter", ""}, // see writeSNSFault
	{http.StatusBadRequest, "ParameterValueInvalid", "The parameter value is invalid"},
	{http.StatusBadRequest, "OptedOut", "The phone number has opted out of receiving messages"},
	{http.StatusBadRequest, "EndpointDisabled", "Endpoint is disabled"},
	{http.StatusBadRequest, "KMSThrottling", "The request was denied due to request throttling"},
	{http.StatusBadRequest, "KMSAccessDenied", "The ciphertext references a key that doesn't exist or that you don't have access to"},
	{http.StatusForbidden, "AuthorizationError", "User is not authorized to perform: SNS:Publish"},
	{http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."},
	{http.StatusNotFound, "NotFound", "The requested resource does not exist"},
	{http.StatusTooManyRequests, "Throttled", "Rate exceeded"},
	{http.StatusBadRequest, "Throttling", "Rate exceeded"},
	{http.StatusInternalServerError, "InternalError", "An internal error has occurred"},
	{http.StatusServiceUnavailable, "ServiceUnavailable", "The request has failed due to a temporary failure of the server"},
}

func writeSNSFault(w http.ResponseWriter, to string, f Fault) {
	for _, s := range snsStatuses {
		if (f.Code == "" || f.Code == s.code) && (f.Status == 0 || f.Status == s.status) {
			f.Status, f.Code = s.status, s.code
			if f.Message == "" {
				f.Message = s.message
			}
			break
		}
	}
	switch {
	case f.Status == 0:
		f.Status = http.StatusBadRequest
	case f.Code == "" && f.Status >= 500:
		f.Code = "InternalError"
	case f.Code == "":
		f.Code = "ValidationError"
	}
	if f.Message == "" { // as SNS words it, number and all, because a sender must not log it either there or here
		f.Message = fmt.Sprintf(snsPublishing, to)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	writeSNSError(w, f.Status, f.Code, f.Message)
}

// writeSNSError writes the error body of AWS's query services.
func writeSNSError(w http.ResponseWriter, status int, code, message string) {
	side := "Sender"
	if status >= 500 {
		side = "Receiver"
	}
	writeSNS(w, status, struct {
		XMLName xml.Name `xml:"http://sns.amazonaws.com/doc/2010-03-31/ ErrorResponse"`
		Type    string   `xml:"Error>Type"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
		Request string   `xml:"RequestId"`
	}{Type: side, Code: code, Message: message, Request: uuid.NewString()})
}

func writeSNS(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(body) // fails only when the caller has gone
}
