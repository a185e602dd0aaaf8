package inbox_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/otpost/otpost/pkg/inbox"
)

func call(to, twiml string) *openapi.CreateCallParams {
	return (&openapi.CreateCallParams{}).SetTo(to).SetFrom("+15005550006").SetTwiml(twiml)
}

const spelled = `<Response><Say language="de-DE">Ihr Code: 4, 9, 3, 8</Say><Pause length="1"/><Say language="de-DE">4, 9, 3, 8 &amp; Ende</Say></Response>`

func TestTwilioTakesCalls(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	c, err := api.CreateCall(call("+14155550100", spelled).SetTimeout(25).SetTimeLimit(120))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(*c.Sid, "CA") || len(*c.Sid) != 34 || *c.Status != "queued" || *c.To != "+14155550100" || *c.From != "+15005550006" {
		t.Errorf("answer: %+v", *c)
	}
	got := in.List(inbox.Filter{Channel: inbox.Voice})
	if len(got) != 1 || got[0].Text != "Ihr Code: 4, 9, 3, 8\n4, 9, 3, 8 & Ende" ||
		got[0].Provider != "twilio" || got[0].Code() != "4938" || got[0].Reference != *c.Sid {
		t.Errorf("inbox: %+v", got)
	}
	if fetched, err := api.FetchCall(*c.Sid, nil); err != nil || *fetched.Status != "completed" {
		t.Errorf("fetched: %+v, %v", fetched, err)
	}
	var refusal *client.TwilioRestError
	if _, err := api.FetchMessage(*c.Sid, nil); !errors.As(err, &refusal) || refusal.Code != 20404 {
		t.Errorf("a call is shown as a message: %v", err)
	}
	if tally := in.Tallies()["twilio"]; tally.Accepted != 1 || tally.Refused != 0 {
		t.Errorf("tally: %+v", tally)
	}
}

func TestTwilioRefusesCalls(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	for name, c := range map[string]struct {
		params       *openapi.CreateCallParams
		status, code int
	}{
		"no To":               {(&openapi.CreateCallParams{}).SetFrom("+15005550006").SetTwiml(spelled), 400, 21201},
		"To not E.164":        {call("4155550100", spelled), 400, 21217},
		"no From":             {(&openapi.CreateCallParams{}).SetTo("+14155550100").SetTwiml(spelled), 400, 21213},
		"From a name":         {call("+14155550100", spelled).SetFrom("Shop"), 400, 21212},
		"nothing to do":       {call("+14155550100", ""), 400, 21205},
		"too long":            {call("+14155550100", "<Response><Say>"+strings.Repeat("x", 4000)+"</Say></Response>"), 400, 20001},
		"rings for ever":      {call("+14155550100", spelled).SetTimeout(601), 400, 20001},
		"unknown event":       {call("+14155550100", spelled).SetStatusCallbackEvent([]string{"answered", "hung-up"}), 400, 21626},
		"callback not a URL":  {call("+14155550100", spelled).SetStatusCallback("callback"), 400, 21609},
		"not XML":             {call("+14155550100", "<Response><Say>4 & 5</Say></Response>"), 400, 12100},
		"says nothing":        {call("+14155550100", "<Response><Pause/></Response>"), 400, 12100},
		"another verb":        {call("+14155550100", "<Response><Say>x</Say><Dial>+1900</Dial></Response>"), 400, 12100},
		"no such language":    {call("+14155550100", `<Response><Say language="Czech">x</Say></Response>`), 400, 12100},
		"magic: invalid":      {call("+15005550001", spelled), 400, 21217},
		"magic: unreachable":  {call("+15005550002", spelled), 400, 21214},
		"magic: region":       {call("+15005550003", spelled), 400, 21215},
		"magic: blocked":      {call("+15005550004", spelled), 400, 21216},
		"magic: throttled":    {call("+15005550013", spelled), 429, 20429},
		"magic sender":        {call("+14155550100", spelled).SetFrom("+15005550001"), 400, 21212},
		"magic sender, alien": {call("+14155550100", spelled).SetFrom("+15005550007"), 400, 21210},
	} {
		_, err := api.CreateCall(c.params)
		var refusal *client.TwilioRestError
		if !errors.As(err, &refusal) || refusal.Status != c.status || refusal.Code != c.code || refusal.Message == "" {
			t.Errorf("%s: %v, want status %d and code %d", name, err, c.status, c.code)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 0 {
		t.Errorf("%d refused calls are in the inbox", n)
	}
	if _, err := api.CreateCall(call("+15005550009", spelled)); err != nil { // no mobile number, which a call does not mind
		t.Error(err)
	}
}

// What is told of a call: the states that were asked for, by default the last, in forms that the real validator finds genuine.
func TestTwilioTellsOfCalls(t *testing.T) {
	calls := make(chan string, 16)
	var target string
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		validator := client.NewRequestValidator(authToken)
		if !validator.ValidateBody(target, body, r.Header.Get("X-Twilio-Signature")) {
			t.Error("the signature is wrong")
		}
		calls <- form.Get("CallStatus") + form.Get("SipResponseCode")
	}))
	defer app.Close()
	target = app.URL + "/callbacks/voice/token"
	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	all := []string{"initiated", "ringing", "answered", "completed"}
	for _, c := range []struct {
		to     string
		events []string
		fault  inbox.Fault
		want   []string
	}{
		{"+14155550100", nil, inbox.Fault{}, []string{"completed200"}},
		{"+14155550100", all, inbox.Fault{}, []string{"initiated", "ringing", "in-progress", "completed200"}},
		{"+14155550100", []string{"ringing completed"}, inbox.Fault{Reversed: true}, []string{"completed200", "ringing"}},
		{"+15005550011", all, inbox.Fault{}, []string{"initiated", "failed"}},
		{"+15005550015", all, inbox.Fault{}, []string{"initiated", "ringing", "busy"}},
		{"+15005550016", nil, inbox.Fault{}, []string{"no-answer"}},
		{"+14155550100", nil, inbox.Fault{Outcome: "undelivered", OutcomeCode: "480", Repeat: 2}, []string{"no-answer480", "no-answer480", "no-answer480"}},
		{"+14155550100", nil, inbox.Fault{Outcome: "undelivered", OutcomeCode: "canceled"}, []string{"canceled"}},
	} {
		in.SetFaults(inbox.FaultRule{Fault: c.fault})
		p := call(c.to, spelled).SetStatusCallback(target)
		if c.events != nil {
			p.SetStatusCallbackEvent(c.events)
		}
		if _, err := api.CreateCall(p); err != nil {
			t.Fatal(err)
		}
		var got []string
		for range c.want {
			select {
			case status := <-calls:
				got = append(got, status)
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: only %v was told", c.to, got)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s, %+v (-want +got):\n%s", c.to, c.fault, diff)
		}
	}
	in.Close()
	if len(calls) > 0 {
		t.Errorf("told on top: %s", <-calls)
	}
}

func TestTwilioWhatsApp(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	message := func(to, from string) *openapi.CreateMessageParams { return sms(to, "Code 4938").SetFrom(from) }
	template := func(sid, variables string) *openapi.CreateMessageParams {
		p := (&openapi.CreateMessageParams{}).SetTo("whatsapp:+14155550101").SetFrom("whatsapp:+15005550006").SetContentVariables(variables)
		if sid != "" {
			p.SetContentSid(sid)
		}
		return p
	}
	const sid = "HX00112233445566778899aabbccddeeff"
	for _, c := range []struct {
		params *openapi.CreateMessageParams
		code   int
	}{
		{message("whatsapp:+14155550100", "whatsapp:+15005550006"), 0},
		{message("whatsapp:+14155550100", "+15005550006"), 21910},
		{message("+14155550100", "whatsapp:+15005550006"), 21910},
		{message("whatsapp:+14155550100", "whatsapp:Shop"), 63007},
		{message("whatsapp:4155550100", "whatsapp:+15005550006"), 21211},
		{message("whatsapp:+15005550001", "whatsapp:+15005550006"), 21211},
		{template(sid, `{"1":"4938"}`), 0},
		{template("HX1", `{"1":"4938"}`), 21655},
		{template("", `{"1":"4938"}`).SetBody("x"), 21654},
		{template(sid, `{"1":""}`), 21656},
		{template(sid, `{"1":4938}`), 21656},
	} {
		m, err := api.CreateMessage(c.params)
		var refusal *client.TwilioRestError
		errors.As(err, &refusal)
		if (c.code == 0) != (err == nil) || refusal != nil && refusal.Code != c.code || err == nil && *m.To != *c.params.To {
			t.Errorf("%s from %s: %v, want code %d", *c.params.To, *c.params.From, err, c.code)
		}
	}
	var got []string
	for _, m := range in.List(inbox.Filter{Channel: inbox.WhatsApp}) {
		got = append(got, fmt.Sprintf("%s to %s: %s", m.From, m.To, m.Text))
	}
	want := []string{"+15005550006 to +14155550101: 4938 is your verification code.", "+15005550006 to +14155550100: Code 4938"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inbox (-want +got):\n%s", diff)
	}
}

// Rules of faults strike messages and calls of the provider that they name; what is lost is in no inbox and never told of.
func TestTwilioFaultRules(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	other := &httptest.Server{URL: server.URL + "/at/backup"} // where twilioClient adds the path
	primary, backup := twilioClient(t, server, accountSID, authToken).Api, twilioClient(t, other, accountSID, authToken).Api
	in.SetFaults(
		inbox.FaultRule{Provider: "backup", Fault: inbox.Fault{Code: "20003"}, Count: 1},
		inbox.FaultRule{Provider: "twilio", To: "+1415*", Fault: inbox.Fault{Lost: true}},
		inbox.FaultRule{Provider: "twilio", Fault: inbox.Fault{Drop: true}},
	)
	var refusal *client.TwilioRestError
	if _, err := backup.CreateCall(call("+14155550100", spelled)); !errors.As(err, &refusal) || refusal.Status != 401 || refusal.Code != 20003 {
		t.Errorf("the backup's first: %v", err)
	}
	if _, err := backup.CreateMessage(sms("+14155550100", "by the backup")); err != nil {
		t.Errorf("the backup's second: %v", err)
	}
	m, err := primary.CreateMessage(sms("+14155550100", "lost"))
	if err != nil {
		t.Fatal(err)
	}
	if fetched, err := primary.FetchMessage(*m.Sid, nil); err != nil || *fetched.Status != "queued" {
		t.Errorf("lost, and yet %+v, %v", fetched, err)
	}
	refusal = nil
	if _, err := primary.CreateMessage(sms("+420601234567", "x")); err == nil || errors.As(err, &refusal) {
		t.Errorf("dropped: %v", err)
	}
	if got := in.List(inbox.Filter{}); len(got) != 1 || got[0].Text != "by the backup" || got[0].Provider != "backup" {
		t.Errorf("inbox: %+v", got)
	}
	want := map[string]inbox.Tally{"backup": {Accepted: 1, Refused: 1}, "twilio": {Accepted: 1, Refused: 1}}
	if diff := cmp.Diff(want, in.Tallies()); diff != "" {
		t.Errorf("tallies (-want +got):\n%s", diff)
	}
}
