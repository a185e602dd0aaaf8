package callback

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// delivered is a good callback.
func delivered() *http.Request {
	return twilioPost("/callbacks/twilio-eu/"+token, "https://auth.example/callbacks/twilio-eu/"+token, authToken,
		url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"delivered"}, "To": {"+420601234567"}})
}

func TestWhereNobodyTells(t *testing.T) {
	d := newBench(t)
	for _, path := range []string{
		"/callbacks/", "/callbacks/nobody", "/callbacks/nobody/" + token, "/callbacks/twilio-eu/", "/callbacks/twilio-eu/a/b", "/callbacks/twilio-eu/%2e%2e",
		"/callbacks/twilio-eu/" + strings.Repeat("a", 201), "/callbacks/TWILIO-EU/" + token,
	} {
		d.want(d.serve(twilioPost(path, "https://auth.example"+path, authToken, url.Values{"MessageStatus": {"delivered"}})), http.StatusNotFound)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
		resp := d.serve(httptest.NewRequest(method, "/callbacks/twilio-eu/"+token, nil))
		d.want(resp, http.StatusMethodNotAllowed)
		if resp.Header.Get("Allow") != "POST" {
			t.Errorf("Allow: %q", resp.Header.Get("Allow"))
		}
	}
	if got := d.got(); len(got) != 0 {
		t.Errorf("passed on: %+v", got)
	}
}

func TestTooLong(t *testing.T) {
	d := newBench(t)
	form := url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"delivered"}, "Body": {strings.Repeat("x", maxForm)}}
	d.want(d.serve(twilioPost("/callbacks/twilio-eu", "https://auth.example/callbacks/twilio-eu", authToken, form)), http.StatusRequestEntityTooLarge)
	d.want(d.serve(webhookPost("/callbacks/own", jsonType, `{"reason":"`+strings.Repeat("x", maxForm)+`"}`, now)), http.StatusRequestEntityTooLarge)
	r := httptest.NewRequest(http.MethodGet, "/callbacks/vonage", strings.NewReader("status=delivered"))
	d.want(d.serve(r), http.StatusRequestEntityTooLarge)
	if len(d.got()) != 0 {
		t.Error("it was passed on")
	}
}

// Nobody is told that a receipt was taken which the stream does not have.
func TestStreamAway(t *testing.T) {
	d := newBench(t)
	d.publish = func(context.Context, string, event.Report) error { return errors.New("no responders") }
	resp := d.serve(delivered())
	d.want(resp, http.StatusServiceUnavailable)
	if resp.Header.Get("Retry-After") != "5" || d.counted("twilio-eu", "unavailable") != 1 {
		t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
	}
	d.publish = nil
	d.want(d.serve(delivered()), http.StatusNoContent)
	if got := d.got(); len(got) != 1 {
		t.Errorf("passed on: %+v", got)
	}
	for _, private := range []string{token, "SM1", "+420601234567", "delivered"} {
		if strings.Contains(d.logs.String(), private) {
			t.Errorf("the log has %q", private)
		}
	}
}

// A receipt that finds no slot is asked to come again.
func TestSlots(t *testing.T) {
	d := newBench(t)
	for range concurrency {
		d.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.want(d.serve(delivered().WithContext(ctx)), http.StatusServiceUnavailable)
	<-d.slots
	d.want(d.serve(delivered()), http.StatusNoContent)
	if len(d.slots) != concurrency-1 {
		t.Errorf("%d slots are taken", len(d.slots))
	}
}

// No body is read while as many as may be are being read.
func TestReaders(t *testing.T) {
	d := newBench(t)
	for range readers {
		d.readers <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := &unread{}
	r := delivered().WithContext(ctx)
	r.Body = body
	resp := d.serve(r)
	d.want(resp, http.StatusServiceUnavailable)
	if body.touched || resp.Header.Get("Retry-After") != "5" {
		t.Errorf("read: %v, Retry-After %q", body.touched, resp.Header.Get("Retry-After"))
	}
	<-d.readers
	d.want(d.serve(delivered()), http.StatusNoContent)
	if len(d.readers) != readers-1 {
		t.Errorf("%d places are taken", len(d.readers))
	}
}

// unread notes whether it was read.
type unread struct{ touched bool }

func (u *unread) Read([]byte) (int, error) {
	u.touched = true
	return 0, io.EOF
}

func (u *unread) Close() error { return nil }

// What is told again has the same id, whatever a provider changes beside what it says; the stream of a real server keeps one of them.
func TestToldAgainIsKeptOnce(t *testing.T) {
	server := otposttest.NATS(t, otposttest.WithLazySync())
	gateway := server.Bus(t, bus.RoleGateway)
	d := newBench(t)
	d.publish = func(ctx context.Context, id string, r event.Report) error {
		return gateway.Publish(ctx, bus.Out{Subject: event.ReportSubject, ID: id, Data: r.Encode()})
	}
	left := func() uint64 {
		t.Helper()
		stream, err := server.Bus(t, bus.RoleOperator).JetStream().Stream(t.Context(), bus.StreamReceipts)
		if err != nil {
			t.Fatal(err)
		}
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	for range 3 {
		d.want(d.serve(delivered()), http.StatusNoContent)
	}
	if n := left(); n != 1 {
		t.Errorf("the stream has %d messages, want one", n)
	}
	stage := twilioPost("/callbacks/twilio-eu/"+token, "https://auth.example/callbacks/twilio-eu/"+token, authToken,
		url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"sent"}})
	d.want(d.serve(stage), http.StatusNoContent)
	if n := left(); n != 2 {
		t.Errorf("the stream has %d messages, want two: another state is another report", n)
	}
	server.Stop(t)
	d.want(d.serve(webhookPost("/callbacks/own", jsonType, `{"token":"t","state":"delivered"}`, now)), http.StatusServiceUnavailable)
}

func TestID(t *testing.T) {
	for want, r := range map[string]event.Report{
		"a/t/delivered":       {Provider: "a", Token: "t", Delivery: "d", Reference: "r", State: otp.DeliveryDelivered},
		"a/d/failed":          {Provider: "a", Delivery: "d", Reference: "r", State: otp.DeliveryFailed},
		"a/r+%0D%0A/accepted": {Provider: "a", Reference: "r \r\n", State: otp.DeliveryAccepted},
	} {
		if got := ID(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Whatever a body holds: no panic, and nothing but what can be read again is passed on.
func FuzzBodies(f *testing.F) {
	f.Add("MessageSid=SM1&MessageStatus=delivered", `{"token":"t","state":"failed","reason":"\u0000"}`)
	f.Add("CallSid=CA1&CallStatus=failed&ErrorCode=21211", `{"delivery":"`+ofMail+`","state":"delivered"}`)
	f.Add("a=1;b=2&%zz", `{"token":"t","token":"u"}`)
	f.Fuzz(func(t *testing.T, form, object string) {
		d := newBench(t)
		values, _ := url.ParseQuery(form)
		twilio := post("/callbacks/twilio-eu/"+token, formType, form)
		signed := url.Values{}
		for name, list := range values {
			signed.Set(name, list[0])
		}
		twilio.Header.Set("X-Twilio-Signature", twilioPost("/", "https://auth.example/callbacks/twilio-eu/"+token, authToken, signed).Header.Get("X-Twilio-Signature"))
		vonage := post("/callbacks/vonage", formType, vonageSigned(signed).Encode())
		for _, r := range []*http.Request{twilio, vonage, webhookPost("/callbacks/own", jsonType, object, now), webhookPost("/callbacks/relay", mailType, object, now)} {
			switch resp := d.serve(r); resp.StatusCode {
			case http.StatusNoContent, http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge:
			default:
				t.Errorf("answered with %d", resp.StatusCode)
			}
		}
		for _, r := range d.got() {
			if again, err := event.ParseReport(r.Encode()); err != nil || again.Provider == "" || again.At != now.Truncate(time.Second) {
				t.Errorf("%+v, %v", r, err)
			}
		}
	})
}
