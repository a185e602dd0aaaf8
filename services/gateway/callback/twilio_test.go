package callback

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

func TestTwilioStates(t *testing.T) {
	d := newBench(t)
	const address = "https://auth.example/callbacks/twilio-eu/" + token
	message := func(status, code string) url.Values {
		v := url.Values{"AccountSid": {"AC1"}, "MessageSid": {"SM1"}, "SmsSid": {"SM1"}, "MessageStatus": {status}, "SmsStatus": {status}}
		if code != "" {
			v.Set("ErrorCode", code)
		}
		return v
	}
	call := func(status string) url.Values {
		return url.Values{"CallSid": {"CA1"}, "CallStatus": {status}, "CallDuration": {"12"}}
	}
	for name, tc := range map[string]struct {
		form   url.Values
		result string
		want   event.Report
	}{
		"queued":    {message("queued", ""), "stage", event.Report{}},
		"sending":   {message("sending", ""), "stage", event.Report{}},
		"sent":      {message("sent", ""), "taken", event.Report{State: otp.DeliveryAccepted, Reference: "SM1"}},
		"delivered": {message("delivered", ""), "taken", event.Report{State: otp.DeliveryDelivered, Reference: "SM1"}},
		"read":      {message("read", ""), "taken", event.Report{State: otp.DeliveryDelivered, Reference: "SM1"}},
		"SmsStatus": {url.Values{"MessageSid": {"SM1"}, "SmsStatus": {"delivered"}}, "taken", event.Report{State: otp.DeliveryDelivered, Reference: "SM1"}},
		"a landline": {message("undelivered", "30006"), "taken", event.Report{
			State: otp.DeliveryUndelivered, Reference: "SM1", Code: "30006", Reason: "number is a landline or its carrier is unreachable", Permanent: true,
		}},
		"filtered": {message("undelivered", "30007"), "taken", event.Report{
			State: otp.DeliveryUndelivered, Reference: "SM1", Code: "30007", Reason: "filtered by the carrier or by Twilio",
		}},
		"a new code":    {message("failed", "39999"), "taken", event.Report{State: otp.DeliveryFailed, Reference: "SM1", Code: "39999", Reason: "Twilio's error 39999"}},
		"no code":       {message("failed", ""), "taken", event.Report{State: otp.DeliveryFailed, Reference: "SM1", Reason: "Twilio gave no reason"}},
		"no number":     {message("failed", "+420601"), "taken", event.Report{State: otp.DeliveryFailed, Reference: "SM1", Code: "420601", Reason: "Twilio's error 420601"}},
		"a new state":   {message("teleported", ""), "unknown_state", event.Report{}},
		"no state":      {url.Values{"MessageSid": {"SM1"}}, "unknown_state", event.Report{}},
		"ringing":       {call("ringing"), "stage", event.Report{}},
		"answered":      {call("in-progress"), "taken", event.Report{State: otp.DeliveryDelivered, Reference: "CA1"}},
		"completed":     {call("completed"), "taken", event.Report{State: otp.DeliveryDelivered, Reference: "CA1"}},
		"busy":          {call("busy"), "taken", event.Report{State: otp.DeliveryUndelivered, Reference: "CA1", Reason: "the line was busy"}},
		"no answer":     {call("no-answer"), "taken", event.Report{State: otp.DeliveryUndelivered, Reference: "CA1", Reason: "nobody answered"}},
		"call failed":   {call("failed"), "taken", event.Report{State: otp.DeliveryFailed, Reference: "CA1", Reason: "the call could not be made"}},
		"a call's news": {call("on-hold"), "unknown_state", event.Report{}},
	} {
		t.Run(name, func(t *testing.T) {
			before := d.counted("twilio-eu", tc.result)
			d.want(d.serve(twilioPost("/callbacks/twilio-eu/"+token, address, authToken, tc.form)), http.StatusNoContent)
			if d.counted("twilio-eu", tc.result) != before+1 {
				t.Errorf("not counted as %s", tc.result)
			}
			got := d.got()
			if tc.result != "taken" {
				if len(got) != 0 {
					t.Errorf("passed on: %+v", got)
				}
				return
			}
			tc.want.Provider, tc.want.Token, tc.want.At = "twilio-eu", token, now
			if len(got) != 1 || got[0] != tc.want {
				t.Errorf("passed on %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestTwilioSignatures(t *testing.T) {
	d := newBench(t)
	form := url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"delivered"}}
	const path, address = "/callbacks/twilio-eu/" + token, "https://auth.example/callbacks/twilio-eu/" + token
	for name, tc := range map[string]struct {
		r      *http.Request
		status int
	}{
		"good":                           {twilioPost(path, address, authToken, form), 204},
		"with the port":                  {twilioPost(path, strings.Replace(address, "auth.example", "auth.example:443", 1), authToken, form), 204},
		"with the token before":          {twilioPost(path, address, oldToken, form), 204},
		"without a token":                {twilioPost("/callbacks/twilio-eu", "https://auth.example/callbacks/twilio-eu", authToken, form), 204},
		"at the address given":           {twilioPost("/callbacks/twilio-far/"+token, "https://edge.example:8443/in/twilio/"+token, authToken, form), 204},
		"with another's auth token":      {twilioPost(path, address, strings.Repeat("a", 32), form), 403},
		"for the host of the request":    {twilioPost(path, strings.Replace(address, "https://auth.example", "http://evil.example", 1), authToken, form), 403},
		"for another delivery":           {twilioPost(path+"x", address, authToken, form), 403},
		"for another provider's address": {twilioPost("/callbacks/twilio-far/"+token, address, authToken, form), 403},
		"none":                           {post(path, formType, form.Encode()), 403},
		"of another form": {func() *http.Request {
			r := twilioPost(path, address, authToken, url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"failed"}})
			tampered := post(path, formType, form.Encode())
			tampered.Header = r.Header
			return tampered
		}(), 403},
		"with a second status": {func() *http.Request {
			r := post(path, formType, form.Encode()+"&MessageStatus=failed")
			r.Header.Set("X-Twilio-Signature", twilioPost(path, address, authToken, form).Header.Get("X-Twilio-Signature")) // Twilio's own check would pass
			return r
		}(), 400},
		"with the form in the address": {twilioPost(path+"?MessageStatus=delivered", address+"?MessageStatus=delivered", authToken, form), 400},
		"with the hash of a body":      {twilioPost(path+"?bodySHA256=00", address+"?bodySHA256=00", authToken, nil), 400},
		"over JSON":                    {post(path, jsonType, `{"MessageStatus":"delivered"}`), 400},
		"over a form that is none":     {post(path, formType, "a=%zz"), 400},
	} {
		t.Run(name, func(t *testing.T) {
			d.want(d.serve(tc.r), tc.status)
			if got := d.got(); (len(got) == 1) != (tc.status == 204) {
				t.Errorf("passed on: %+v", got)
			}
		})
	}
	if d.counted("twilio-eu", "signature") != 5 {
		t.Errorf("%v are counted", d.counted("twilio-eu", "signature"))
	}
}
