package sms

import (
	"net/http"
	"slices"

	"github.com/otpost/otpost/pkg/delivery"
)

// A verdict is what an error of Twilio means for a delivery.
type verdict struct {
	class  delivery.Class
	reason string
}

// twilioSenderCodes are the codes that blame a sender alone. With the provider's own sender they stop everything; with one that an app chose, the app's
// messages only.
var twilioSenderCodes = []int{21210, 21212, 21267, 21601, 21606, 21660, 21661, 21711, 63007}

func senderCode(code int) bool { return slices.Contains(twilioSenderCodes, code) }

// judge sorts an error answer by Twilio's code, 0 for none, and where the code says nothing by the HTTP status. known is false for a code
// that the table lacks.
func judge(status, code int) (v verdict, known bool) {
	if class, reason, known := delivery.TwilioClass(code); known {
		return verdict{class, reason}, true
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
	case status >= 400: // nothing says that it is for the number's sake
		return verdict{delivery.Rejected, "request refused: " + http.StatusText(status)}
	case status >= 300: // a redirect is not followed: the base URL leads elsewhere
		return verdict{delivery.Configuration, "the base URL does not lead to Twilio's API"}
	default: // created with an error: Twilio sets one on messages that failed
		return verdict{delivery.Rejected, "message failed as it was created"}
	}
}
