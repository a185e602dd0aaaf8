package sms

import (
	"strings"

	"github.com/otpost/otpost/pkg/delivery"
)

// unknownSNSCode is what the SDK puts in the place of a code that an answer lacks.
const unknownSNSCode = "UnknownError"

// snsCodes sorts the codes that publishing to a number can bring: those of Publish (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html) and those
// that all of AWS's query services share (https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html). What is missing here is judged by its HTTP
// status.
//
// None is Permanent. SNS says InvalidParameter of a number also where it does not reach its country or the region sends no SMS, and other providers do
// deliver to numbers that it "cannot publish to" (https://github.com/aws/aws-sdk-js/issues/1368).
var snsCodes = map[string]verdict{
	// The identity and the account.
	"AccessDenied":                  {delivery.Configuration, "the identity lacks the permission to publish"},
	"AccessDeniedException":         {delivery.Configuration, "the identity lacks the permission to publish"},
	"AuthorizationError":            {delivery.Configuration, "the identity lacks the permission to publish"},
	"NotAuthorized":                 {delivery.Configuration, "the identity lacks the permission to publish"},
	"ExpiredToken":                  {delivery.Configuration, "credentials refused"},
	"IncompleteSignature":           {delivery.Configuration, "credentials refused"},
	"InvalidClientTokenId":          {delivery.Configuration, "credentials refused"},
	"InvalidSecurity":               {delivery.Configuration, "credentials refused"},
	"MissingAuthenticationToken":    {delivery.Configuration, "credentials refused"},
	"SignatureDoesNotMatch":         {delivery.Configuration, "credentials refused, or the clock is wrong"},
	"RequestExpired":                {delivery.Configuration, "the clock is wrong"},
	"UnrecognizedClientException":   {delivery.Configuration, "credentials refused"},
	"OptInRequired":                 {delivery.Configuration, "the account has not subscribed to the service"},
	"SubscriptionRequiredException": {delivery.Configuration, "the account has not subscribed to the service"},
	"PlatformApplicationDisabled":   {delivery.Configuration, "what is published to is disabled"},
	"InvalidAction":                 {delivery.Configuration, "the base URL does not lead to SNS"},
	"NotFound":                      {delivery.Configuration, "the base URL does not lead to SNS, or not to the region"},
	"ResourceNotFound":              {delivery.Configuration, "the base URL does not lead to SNS, or not to the region"},

	// Keys of AWS's KMS, where the account encrypts with them.
	"KMSAccessDenied":  {delivery.Configuration, "the account's encryption key may not be used"},
	"KMSDisabled":      {delivery.Configuration, "the account's encryption key is disabled"},
	"KMSInvalidState":  {delivery.Configuration, "the account's encryption key is in a wrong state"},
	"KMSNotFound":      {delivery.Configuration, "the account's encryption key does not exist"},
	"KMSOptInRequired": {delivery.Configuration, "the account has not subscribed to the key service"},
	"KMSThrottling":    {delivery.Transient, "too many uses of the account's encryption key"},

	// The service's state.
	"RequestThrottled":         {delivery.Transient, "too many requests"},
	"ServiceUnavailable":       {delivery.Transient, "service unavailable"},
	"SlowDown":                 {delivery.Transient, "too many requests"},
	"Throttled":                {delivery.Transient, "too many requests"},
	"Throttling":               {delivery.Transient, "too many requests"},
	"ThrottlingException":      {delivery.Transient, "too many requests"},
	"TooManyRequestsException": {delivery.Transient, "too many requests"},
	"InternalError":            {delivery.Ambiguous, "internal error at AWS"},
	"InternalFailure":          {delivery.Ambiguous, "internal error at AWS"},

	// The recipient and the message.
	"OptedOut":              {delivery.Rejected, "recipient opted out"},
	"EndpointDisabled":      {delivery.Rejected, "recipient is disabled"},
	"InvalidParameter":      {delivery.Rejected, "message refused"}, // see judgeSNS
	"InvalidParameterValue": {delivery.Rejected, "message refused"},
	"ParameterValueInvalid": {delivery.Rejected, "message refused"},
	"MalformedQueryString":  {delivery.Rejected, "message refused"},
	"MissingParameter":      {delivery.Rejected, "message refused"},
	"ValidationError":       {delivery.Rejected, "message refused"},
	"ValidationException":   {delivery.Rejected, "message refused"},
}

// snsParameters says what is at fault by what SNS's words name, in the codes about a parameter.
var snsParameters = []struct{ word, reason string }{
	{"opted out", "recipient opted out"},
	{"PhoneNumber", "the number cannot be reached from the account's region"},
	{"SenderID", "the sender is refused"},
	{"OriginationNumber", "the sender is refused"},
	{"MaxPrice", "the greatest price is refused"},
	{"Message", "message text refused"},
}

// judgeSNS sorts an error answer by SNS's code, "" for none, and where the code says nothing by the HTTP status. said is SNS's own sentence, of which only
// what it names is taken. known is false for a code that the table lacks.
func judgeSNS(status int, code, said string) (v verdict, known bool) {
	v, known = snsCodes[code]
	if !known {
		return judgeHTTP(status), code == ""
	}
	if v.class == delivery.Rejected {
		for _, p := range snsParameters {
			if strings.Contains(said, p.word) {
				v.reason = p.reason
				break
			}
		}
	}
	return v, true
}
