package sms

import (
	"net/http"

	"github.com/otpost/otpost/pkg/delivery"
)

// A verdict is what an error of Twilio means for a delivery.
type verdict struct {
	class  delivery.Class
	reason string
}

// twilioCodes sorts the codes that sending a message can bring, from Twilio's error dictionary
// (https://www.twilio.com/docs/api/errors). The 30000s come with a message that Twilio had taken first; they arrive when a message is
// created and failed in one step. Twilio adds codes and splits old ones; what is missing here is judged by its HTTP status.
var twilioCodes = map[int]verdict{
	// The account.
	10001: {delivery.Configuration, "account is not active"},
	10002: {delivery.Configuration, "trial account does not support this"},
	20003: {delivery.Configuration, "credentials refused"},
	20005: {delivery.Configuration, "account is not active"},
	20006: {delivery.Configuration, "access denied"},
	20008: {delivery.Configuration, "test credentials may not do this"},
	20403: {delivery.Configuration, "account is suspended or closed"},
	20404: {delivery.Configuration, "account or resource not found"},
	21222: {delivery.Configuration, "account SID or API key has illegal characters"}, // said by twilio-go itself
	21224: {delivery.Configuration, "auth token or API secret has illegal characters"},
	30002: {delivery.Configuration, "account is suspended"},
	70051: {delivery.Configuration, "credentials lack the permission to send"},

	// The service's state.
	20429: {delivery.Transient, "too many requests"},
	20500: {delivery.Ambiguous, "internal error at Twilio"},
	20503: {delivery.Transient, "service unavailable"},
	20504: {delivery.Ambiguous, "time-out inside Twilio"},
	21611: {delivery.Transient, "the sender's queue is full"},
	21730: {delivery.Transient, "under maintenance"},
	30001: {delivery.Transient, "queue overflow"},
	30008: {delivery.Transient, "delivery failed for an unknown reason"},
	30410: {delivery.Ambiguous, "the carrier did not answer in time"},

	// The sender, and what the account may do with it.
	21210: {delivery.Configuration, "sender is not verified"},
	21212: {delivery.Configuration, "sender is not a valid number"},
	21219: {delivery.Configuration, "trial account may send to verified numbers only"},
	21267: {delivery.Configuration, "trial account may not send from a name"},
	21408: {delivery.Configuration, "sending to the number's region is not permitted for the account"},
	21601: {delivery.Configuration, "sender cannot send messages"},
	21603: {delivery.Configuration, "sender is missing"},
	21606: {delivery.Configuration, "sender cannot send messages"},
	21608: {delivery.Configuration, "account may send to verified numbers only"},
	21609: {delivery.Configuration, "status callback is not a valid URL"},
	21659: {delivery.Configuration, "sender is not a Twilio number, or a short code of another country"},
	21660: {delivery.Configuration, "sender belongs to another account"},
	21661: {delivery.Configuration, "sender cannot send SMS"},
	21701: {delivery.Configuration, "messaging service does not exist"},
	21703: {delivery.Configuration, "messaging service has no sender for this message"},
	21704: {delivery.Configuration, "messaging service has no senders"},
	21705: {delivery.Configuration, "messaging service is invalid"},
	21711: {delivery.Configuration, "sender does not belong to the messaging service"},
	30034: {delivery.Configuration, "sender is not registered for US long-code messaging"},

	// The recipient.
	21211: {delivery.Permanent, "not a valid phone number"},
	21214: {delivery.Permanent, "number cannot be reached"},
	21217: {delivery.Permanent, "not a valid phone number"},
	21265: {delivery.Permanent, "number is a short code"},
	21266: {delivery.Permanent, "recipient and sender are the same"},
	21421: {delivery.Permanent, "not a valid phone number"},
	21604: {delivery.Permanent, "recipient is missing"},
	21610: {delivery.Permanent, "recipient opted out"},
	21612: {delivery.Permanent, "number cannot be reached from this sender"},
	21614: {delivery.Permanent, "not a mobile number"},
	21635: {delivery.Permanent, "number is a landline"},
	30003: {delivery.Permanent, "handset is unreachable"},
	30004: {delivery.Permanent, "message blocked at the handset or carrier"},
	30005: {delivery.Permanent, "handset is unknown"},
	30006: {delivery.Permanent, "number is a landline or its carrier is unreachable"},

	// The message.
	21602: {delivery.Permanent, "message has no text"},
	21605: {delivery.Permanent, "message is too long"},
	21617: {delivery.Permanent, "message is too long"},
	21618: {delivery.Permanent, "message text cannot be sent"},
	21619: {delivery.Permanent, "message has no text"},
	30007: {delivery.Permanent, "message filtered by the carrier"},
	30036: {delivery.Permanent, "validity period ended before it was sent"},
}

// judge sorts an error answer by Twilio's code, 0 for none, and where the code says nothing by the HTTP status. known is false for a code
// that the table lacks.
func judge(status, code int) (v verdict, known bool) {
	if v, ok := twilioCodes[code]; ok {
		return v, true
	}
	return judgeStatus(status), code == 0
}

func judgeStatus(status int) verdict {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound:
		return verdict{delivery.Configuration, "request refused: " + http.StatusText(status)}
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return verdict{delivery.Transient, "request put off: " + http.StatusText(status)}
	}
	switch {
	case status >= 500: // it may have been processed before the failure
		return verdict{delivery.Ambiguous, "failure at Twilio: " + http.StatusText(status)}
	case status >= 400:
		return verdict{delivery.Permanent, "request refused: " + http.StatusText(status)}
	case status >= 300: // a redirect is not followed: the base URL leads elsewhere
		return verdict{delivery.Configuration, "the base URL does not lead to the Messages API"}
	default: // created with an error: Twilio sets one on messages that failed
		return verdict{delivery.Permanent, "message failed as it was created"}
	}
}
