package callback

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	twilio "github.com/twilio/twilio-go/client"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// twilioStates are the states of a message (https://www.twilio.com/docs/messaging/api/message-resource#message-status-values). Of one that was read, as
// WhatsApp tells, it is clear that it came.
var twilioStates = map[string]otp.DeliveryState{
	"accepted": "", "scheduled": "", "queued": "", "sending": "", "receiving": "", "received": "",
	"sent":        otp.DeliveryAccepted,
	"delivered":   otp.DeliveryDelivered,
	"read":        otp.DeliveryDelivered,
	"undelivered": otp.DeliveryUndelivered,
	"failed":      otp.DeliveryFailed,
	"canceled":    otp.DeliveryFailed,
}

// twilioCalls are the states of a call (https://www.twilio.com/docs/voice/api/call-resource#call-status-values). A call that was answered was so by a
// person or by a machine, that it does not say.
var twilioCalls = map[string]struct {
	state  otp.DeliveryState
	reason string
}{
	"queued": {}, "initiated": {}, "ringing": {},
	"in-progress": {otp.DeliveryDelivered, ""}, "answered": {otp.DeliveryDelivered, ""}, // the code is being read: who waited for the end would send it again
	"completed": {otp.DeliveryDelivered, ""},
	"busy":      {otp.DeliveryUndelivered, "the line was busy"},
	"no-answer": {otp.DeliveryUndelivered, "nobody answered"},
	"canceled":  {otp.DeliveryFailed, "the call was cancelled"},
	"failed":    {otp.DeliveryFailed, "the call could not be made"},
}

// twilioKind reads Twilio's status callbacks (https://www.twilio.com/docs/usage/webhooks/webhooks-security).
type twilioKind struct {
	validators []twilio.RequestValidator // one for each auth token, while one takes the place of another
}

var _ kind = (*twilioKind)(nil)

func newTwilio(s *Source) (*twilioKind, error) {
	k := &twilioKind{}
	for _, token := range s.Secrets {
		if len(token) < minSecret {
			return nil, fmt.Errorf("auth_token: must have at least %d characters", minSecret)
		}
		k.validators = append(k.validators, twilio.NewRequestValidator(token))
	}
	if s.Method != "" {
		return nil, errors.New("signature_method: is of kind vonage only")
	}
	return k, nil
}

func (k *twilioKind) receive(r *request) (event.Report, error) {
	if _, err := r.is(formType); err != nil {
		return event.Report{}, err
	}
	// The signature is over the whole address, query included, and the fields of the form. In the address that it was given no query is, and with
	// bodySHA256 in it a signature covers another form than this: so there is none.
	if r.URL.RawQuery != "" {
		return event.Report{}, malformed("an address with a query is none that was given out")
	}
	form := map[string]string{}
	if err := once(form, string(r.body)); err != nil {
		return event.Report{}, err
	}
	address := r.source.URL
	if r.token != "" {
		address += "/" + r.token
	}
	if !k.valid(address, form, r.Header.Get("X-Twilio-Signature")) {
		return event.Report{}, errSignature
	}
	report, err := twilioReport(form)
	report.Token = r.token
	return report, err
}

func (k *twilioKind) valid(address string, form map[string]string, signature string) bool {
	if signature == "" {
		return false
	}
	for _, v := range k.validators {
		if v.Validate(address, form, signature) {
			return true
		}
	}
	return false
}

// twilioReport reads a form whose signature is good.
func twilioReport(form map[string]string) (event.Report, error) {
	if sid := form["CallSid"]; sid != "" {
		call, known := twilioCalls[strings.ToLower(form["CallStatus"])]
		if !known {
			return event.Report{}, errUnknown
		}
		if call.state == "" {
			return event.Report{}, errStage
		}
		report := failed(call.state, "", call.reason, false)
		report.Reference = sid
		if call.state == otp.DeliveryFailed && form["ErrorCode"] != "" {
			report.Code, report.Reason, report.Permanent = twilioError(form["ErrorCode"], call.reason)
		}
		return report, nil
	}
	status := form["MessageStatus"]
	if status == "" {
		status = form["SmsStatus"]
	}
	state, known := twilioStates[strings.ToLower(status)]
	if !known {
		return event.Report{}, errUnknown
	}
	if state == "" {
		return event.Report{}, errStage
	}
	report := event.Report{State: state, Reference: form["MessageSid"]}
	if state == otp.DeliveryUndelivered || state == otp.DeliveryFailed {
		report.Code, report.Reason, report.Permanent = twilioError(form["ErrorCode"], "Twilio gave no reason")
	}
	return report, nil
}

// twilioError says what an ErrorCode means; other is the reason where it says nothing.
func twilioError(text, other string) (code, reason string, permanent bool) {
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		return "", other, false
	}
	reason, permanent, known := delivery.TwilioReason(n)
	if !known {
		reason = "Twilio's error " + strconv.Itoa(n)
	}
	return strconv.Itoa(n), reason, permanent
}
