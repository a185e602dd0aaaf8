package inbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twilio/twilio-go"
	"github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/otpost/otpost/pkg/inbox"
)

// redirect sends what is meant for https://api.twilio.com to the simulated one.
type redirect struct {
	to   *url.URL
	next http.RoundTripper
}

func (rt redirect) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = rt.to.Scheme, rt.to.Host, ""
	r.URL.Path = rt.to.Path + r.URL.Path
	res, err := rt.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	// twilio-go leaves the body of an error open, and the connection with it; this reads and closes it first.
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(content))
	return res, nil
}

// twilioClient is the real client, as a sender uses it.
func twilioClient(t *testing.T, server *httptest.Server, user, password string) *twilio.RestClient {
	t.Helper()
	base, err := url.Parse(server.URL + "/twilio")
	if err != nil {
		t.Fatal(err)
	}
	c := &client.Client{
		Credentials: client.NewCredentials(user, password),
		HTTPClient: &http.Client{
			Transport: redirect{base, &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 10 * time.Second}},
		},
	}
	c.SetAccountSid(accountSID)
	return twilio.NewRestClientWithParams(twilio.ClientParams{Client: c})
}

func sms(to, body string) *openapi.CreateMessageParams {
	p := &openapi.CreateMessageParams{}
	return p.SetTo(to).SetFrom("+15005550006").SetBody(body)
}

func TestTwilioAccepts(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	m, err := api.CreateMessage(sms("+14155550100", "Your code is 123456").SetValidityPeriod(300))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(*m.Sid, "SM") || len(*m.Sid) != 34 || *m.Status != "queued" || *m.NumSegments != "1" || *m.To != "+14155550100" ||
		*m.From != "+15005550006" || *m.Direction != "outbound-api" || *m.ApiVersion != "2010-04-01" || m.ErrorCode != nil || m.Price != nil ||
		*m.Uri != "/2010-04-01/Accounts/"+accountSID+"/Messages/"+*m.Sid+".json" {
		b, _ := json.MarshalIndent(m, "", " ")
		t.Errorf("answer: %s", b)
	}
	if _, err := time.Parse(time.RFC1123Z, *m.DateCreated); err != nil {
		t.Errorf("date_created: %v", err)
	}

	got := in.List(inbox.Filter{To: "+14155550100"})
	if len(got) != 1 || got[0].Text != "Your code is 123456" || got[0].From != "+15005550006" || got[0].Channel != inbox.SMS ||
		got[0].Provider != "twilio" || got[0].Reference != *m.Sid || got[0].Code() != "123456" {
		t.Errorf("inbox: %+v", got)
	}

	fetched, err := api.FetchMessage(*m.Sid, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *fetched.Status != "delivered" || *fetched.Body != "Your code is 123456" || fetched.DateSent == nil {
		t.Errorf("fetched: status %s, body %q, sent %v", *fetched.Status, *fetched.Body, fetched.DateSent)
	}
	if c := in.Counts(); c.TwilioRequests != 1 || c.TwilioMessages != 1 {
		t.Errorf("counts: %+v", c)
	}
}

func TestTwilioMessagingServiceAndAPIKey(t *testing.T) {
	_, server := serve(t, inbox.Config{TwilioAPIKey: "SK0011", TwilioAPISecret: "s3cret"})
	api := twilioClient(t, server, "SK0011", "s3cret").Api
	p := (&openapi.CreateMessageParams{}).SetTo("+14155550100").SetBody("x").SetMessagingServiceSid("MG00112233445566778899aabbccddeeff")
	m, err := api.CreateMessage(p)
	if err != nil {
		t.Fatal(err)
	}
	if *m.Status != "accepted" || m.From != nil || *m.MessagingServiceSid != *p.MessagingServiceSid {
		t.Errorf("status %s, from %v", *m.Status, m.From)
	}
}

func TestTwilioRefuses(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	empty := func() *openapi.CreateMessageParams { return &openapi.CreateMessageParams{} }
	for name, c := range map[string]struct {
		params *openapi.CreateMessageParams
		status int
		code   int
	}{
		"no To":                {empty().SetFrom("+15005550006").SetBody("x"), 400, 21604},
		"To not E.164":         {sms("4155550100", "x"), 400, 21211},
		"no From":              {empty().SetTo("+14155550100").SetBody("x"), 400, 21603},
		"From not valid":       {sms("+14155550100", "x").SetFrom("no such sender!"), 400, 21212},
		"no body":              {empty().SetTo("+14155550100").SetFrom("Shop"), 400, 21602},
		"body too long":        {sms("+14155550100", strings.Repeat("é", 1601)), 400, 21617},
		"validity too short":   {sms("+14155550100", "x").SetValidityPeriod(0), 400, 21624},
		"validity too long":    {sms("+14155550100", "x").SetValidityPeriod(36_001), 400, 21624},
		"callback not a URL":   {sms("+14155550100", "x").SetStatusCallback("callback"), 400, 21609},
		"magic: invalid":       {sms("+15005550001", "x"), 400, 21211},
		"magic: unreachable":   {sms("+15005550002", "x"), 400, 21612},
		"magic: region":        {sms("+15005550003", "x"), 400, 21408},
		"magic: opted out":     {sms("+15005550004", "x"), 400, 21610},
		"magic: not mobile":    {sms("+15005550009", "x"), 400, 21614},
		"magic: throttled":     {sms("+15005550013", "x"), 429, 20429},
		"magic: out of order":  {sms("+15005550014", "x"), 503, 20503},
		"magic sender, queue":  {sms("+14155550100", "x").SetFrom("+15005550008"), 400, 21611},
		"magic sender, absent": {sms("+14155550100", "x").SetFrom("+15005550007"), 400, 21606},
	} {
		_, err := api.CreateMessage(c.params)
		var refusal *client.TwilioRestError
		if !errors.As(err, &refusal) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if refusal.Status != c.status || refusal.Code != c.code || refusal.Message == "" ||
			!strings.HasPrefix(refusal.MoreInfo, "https://www.twilio.com/docs/errors/2") {
			t.Errorf("%s: %+v, want status %d and code %d", name, refusal, c.status, c.code)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 0 {
		t.Errorf("%d refused messages are in the inbox", n)
	}

	for name, credentials := range map[string][2]string{"token": {accountSID, "wrong"}, "user": {"AC99", authToken}, "none": {"", ""}} {
		_, err := twilioClient(t, server, credentials[0], credentials[1]).Api.CreateMessage(sms("+14155550100", "x"))
		var refusal *client.TwilioRestError
		if !errors.As(err, &refusal) || refusal.Status != 401 || refusal.Code != 20003 {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	_, err := api.FetchMessage("SM00000000000000000000000000000000", nil)
	var refusal *client.TwilioRestError
	if !errors.As(err, &refusal) || refusal.Status != 404 || refusal.Code != 20404 {
		t.Errorf("unknown message: %v", err)
	}
}

func TestTwilioFaultHook(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api

	in.SetTwilioFaults(func(r inbox.TwilioRequest) *inbox.TwilioFault {
		switch r.Body {
		case "drop":
			return &inbox.TwilioFault{DropConnection: true}
		case "accept":
			return &inbox.TwilioFault{AcceptThenDrop: true}
		case "delay":
			return &inbox.TwilioFault{Delay: 30 * time.Millisecond}
		}
		return nil
	})
	for _, body := range []string{"drop", "accept"} {
		var refusal *client.TwilioRestError
		if _, err := api.CreateMessage(sms("+14155550100", body)); err == nil || errors.As(err, &refusal) {
			t.Errorf("%s: %v, want a broken connection", body, err)
		}
	}
	began := time.Now()
	if _, err := api.CreateMessage(sms("+14155550100", "delay")); err != nil || time.Since(began) < 30*time.Millisecond {
		t.Errorf("delay: %v after %v", err, time.Since(began))
	}
	if diff := cmp.Diff([]string{"delay", "accept"}, texts(in.List(inbox.Filter{}))); diff != "" {
		t.Errorf("inbox (-want +got):\n%s", diff)
	}
	in.SetTwilioFaults(nil)
	if _, err := api.CreateMessage(sms("+14155550100", "drop")); err != nil {
		t.Errorf("the hook is still there: %v", err)
	}

	req := "To=%2B15005550013&From=Shop&Body=x"
	r, err := http.NewRequest("POST", server.URL+"/twilio/2010-04-01/Accounts/"+accountSID+"/Messages.json", strings.NewReader(req))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(accountSID, authToken)
	res, _ := do(t, r.Method, r.URL.String(), req, "Authorization", r.Header.Get("Authorization"), "Content-Type", "application/x-www-form-urlencoded")
	if res.StatusCode != 429 || res.Header.Get("Retry-After") != "2" {
		t.Errorf("throttled: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
}

func TestTwilioStatusCallbacks(t *testing.T) {
	type call struct {
		status, errorCode, sid string
		genuine                bool
	}
	calls := make(chan call, 16)
	failures := make(chan struct{}, 1) // one failure to answer with
	var target string
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-failures:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		default:
		}
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		validator := client.NewRequestValidator(authToken)
		calls <- call{
			form.Get("MessageStatus"), form.Get("ErrorCode"), form.Get("MessageSid"),
			validator.ValidateBody(target, body, r.Header.Get("X-Twilio-Signature")) &&
				form.Get("SmsStatus") == form.Get("MessageStatus") && form.Get("AccountSid") == accountSID && form.Get("To") != "",
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer app.Close()
	target = app.URL + "/v1/callbacks/twilio?d=7%2B1"

	in, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	for _, c := range []struct {
		to       string
		statuses []string
		code     string
	}{
		{"+14155550100", []string{"sent", "delivered"}, ""},
		{"+15005550010", []string{"sent", "undelivered"}, "30003"},
		{"+15005550011", []string{"sent", "failed"}, "30008"},
	} {
		failures <- struct{}{} // the first try of each fails
		m, err := api.CreateMessage(sms(c.to, "x").SetStatusCallback(target))
		if err != nil {
			t.Fatal(err)
		}
		for i, status := range c.statuses {
			want := call{status: status, sid: *m.Sid, genuine: true}
			if i == 1 {
				want.errorCode = c.code
			}
			select {
			case got := <-calls:
				if got != want {
					t.Errorf("%s: got %+v, want %+v", c.to, got, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: no callback for %s", c.to, status)
			}
		}
	}

	before := in.Counts().CallbacksFailed
	if _, err := api.CreateMessage(sms("+14155550100", "x").SetStatusCallback("http://192.0.2.1/callback")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); in.Counts().CallbacksFailed != before+2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a callback to another machine was not refused")
		}
	}
	select {
	case got := <-calls:
		t.Errorf("an unexpected callback: %+v", got)
	default:
	}
}

func TestTwilioCountsSegments(t *testing.T) {
	_, server := serve(t, inbox.Config{})
	api := twilioClient(t, server, accountSID, authToken).Api
	for _, c := range []struct{ body, want string }{
		{strings.Repeat("a", 160), "1"},
		{strings.Repeat("a", 161), "2"},
		{strings.Repeat("€", 81), "2"}, // two septets each
		{strings.Repeat("č", 70), "1"},
		{strings.Repeat("č", 71), "2"},
		{strings.Repeat("😀", 67), "2"}, // two UTF-16 units each
	} {
		m, err := api.CreateMessage(sms("+14155550100", c.body))
		if err != nil {
			t.Fatal(err)
		}
		if *m.NumSegments != c.want {
			t.Errorf("%.8s…: %s segments, want %s", c.body, *m.NumSegments, c.want)
		}
	}
}
