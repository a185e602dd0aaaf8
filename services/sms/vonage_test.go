package sms

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/inbox"
)

func TestVonageSendsTheForm(t *testing.T) {
	type seen struct {
		method, path, kind, user, password string
		form                               url.Values
	}
	var got seen
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		got = seen{r.Method, r.URL.Path, r.Header.Get("Content-Type"), user, password, r.PostForm}
		io.WriteString(w, `{"message-count":"1","messages":[{"to":"14155550100","message-id":"m-1","status":"0"}]}`)
	}))
	defer server.Close()
	now := time.Now()
	for _, c := range []struct {
		name           string
		change         func(*VonageConfig)
		message        func(*delivery.Message)
		user, password string
		form           url.Values
	}{
		{
			"a code", func(*VonageConfig) {}, func(*delivery.Message) {}, testKey, testSecret,
			url.Values{
				"from": {"15005550006"}, "to": {testNumber[1:]}, "text": {testText}, "ttl": {"300000"}, "client-ref": {testReceipt}, "status-report-req": {"true"},
			},
		},
		{
			"a callback, another sender, and text outside the GSM alphabet", func(c *VonageConfig) { c.Callback = "https://otp.example/callbacks/vonage" },
			func(m *delivery.Message) {
				m.Sender, m.Text, m.ExpiresAt = "Shop", "Váš kód: 1234", now.Add(30*24*time.Hour)
			}, testKey, testSecret,
			url.Values{
				"from": {"Shop"}, "to": {testNumber[1:]}, "text": {"Váš kód: 1234"}, "type": {"unicode"}, "ttl": {"604800000"}, "client-ref": {testReceipt},
				"status-report-req": {"true"}, "callback": {"https://otp.example/callbacks/vonage"},
			},
		},
		{
			"a notice, for which no receipt is waited for", func(c *VonageConfig) { c.Callback = "https://otp.example/callbacks/vonage" },
			func(m *delivery.Message) { m.Token, m.Text = "", "[€]" }, testKey, testSecret,
			url.Values{
				"from": {"15005550006"}, "to": {testNumber[1:]}, "text": {"[€]"}, "ttl": {"300000"}, "client-ref": {codeMessage().Reference},
				"status-report-req": {"false"},
			},
		},
		{
			"signed", func(c *VonageConfig) { c.APISecret, c.SignatureSecret = "", testSigSecret }, func(*delivery.Message) {}, "", "",
			url.Values{
				"from": {"15005550006"}, "to": {testNumber[1:]}, "text": {testText}, "ttl": {"300000"}, "client-ref": {testReceipt}, "status-report-req": {"true"},
				"api_key": {testKey}, "timestamp": {strconv.FormatInt(now.Unix(), 10)},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, logged := newTestVonage(t, server.URL+"/vonage/", func(c *VonageConfig) { c.Now = func() time.Time { return now } }, c.change)
			m := codeMessage()
			m.ExpiresAt = now.Add(5 * time.Minute)
			c.message(m)
			accepted, err := v.Send(t.Context(), m)
			if err != nil || accepted.Reference != "m-1" {
				t.Fatalf("Send = %+v, %v", accepted, err)
			}
			if c.user == "" {
				c.form.Set("sig", inbox.VonageSignature(testSigSecret, c.form))
			}
			want := seen{"POST", "/vonage/sms/json", "application/x-www-form-urlencoded", c.user, c.password, c.form}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the server saw\n%+v, want\n%+v", got, want)
			}
			if logged.String() != "" {
				t.Errorf("a good send logs %s", logged)
			}
		})
	}
}

// The simulator takes what is sent, by either way to prove who sends, and brings the token back.
func TestVonageAndItsSimulator(t *testing.T) {
	receipts := make(chan url.Values, 8)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		receipts <- r.PostForm
		w.WriteHeader(http.StatusNoContent)
	}))
	defer app.Close()
	in, base := simulate(t, inbox.Config{VonageSignatureSecret: testSigSecret})
	for _, change := range []func(*VonageConfig){
		func(c *VonageConfig) { c.Name = "vonage-eu" },
		func(c *VonageConfig) { c.Name, c.APISecret, c.SignatureSecret = "vonage-eu", "", testSigSecret },
	} {
		v, _ := newTestVonage(t, base+"/at/vonage-eu/vonage", change, func(c *VonageConfig) { c.Callback = app.URL + "/callbacks/vonage-eu" })
		if v.Name() != "vonage-eu" {
			t.Errorf("name %q", v.Name())
		}
		m := codeMessage()
		m.Text = "a=b & č: " + strings.Repeat("x", 80) // two parts of UCS-2
		accepted, err := v.Send(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if got := in.List(inbox.Filter{Limit: 1}); len(got) != 1 || got[0].Text != m.Text || got[0].To != testNumber || got[0].From != "15005550006" ||
			got[0].Provider != "vonage-eu" || got[0].Reference != accepted.Reference {
			t.Errorf("inbox %+v, accepted %+v", got, accepted)
		}
		for range 4 { // accepted and delivered, of two parts
			if r := <-receipts; r.Get("client-ref") != testReceipt || r.Get("sig") == "" {
				t.Errorf("receipt %v", r)
			}
		}
	}
}

func TestVonageClasses(t *testing.T) {
	in, base := simulate(t, inbox.Config{})
	classes := map[string]delivery.Class{
		"1": delivery.Transient, "2": delivery.Configuration, "3": delivery.Rejected, "4": delivery.Configuration, "5": delivery.Ambiguous,
		"6": delivery.Rejected, "7": delivery.Rejected, "8": delivery.Configuration, "9": delivery.Configuration, "10": delivery.Transient,
		"11": delivery.Configuration, "12": delivery.Rejected, "13": delivery.Transient, "14": delivery.Configuration, "15": delivery.Rejected,
		"16": delivery.Rejected, "19": delivery.Configuration, "20": delivery.Rejected, "22": delivery.Rejected, "23": delivery.Configuration,
		"29": delivery.Configuration, "32": delivery.Configuration, "33": delivery.Permanent,
	}
	for status := range vonageStatuses {
		if _, ok := classes[status]; !ok {
			t.Errorf("status %s is not tested", status)
		}
	}
	classes["77"] = delivery.Rejected // unknown
	for status, class := range classes {
		t.Run(status, func(t *testing.T) {
			in.SetFaults(inbox.FaultRule{Fault: inbox.Fault{Code: status, RetryAfter: 1500 * time.Millisecond}})
			v, logged := newTestVonage(t, base+"/vonage")
			for range 2 {
				_, err := v.Send(t.Context(), codeMessage())
				e := expectFailure(t, err, class, status, logged)
				if status == "1" && e.RetryAfter != 1500*time.Millisecond {
					t.Errorf("retry after %v", e.RetryAfter)
				}
			}
			if lines := strings.Count(logged.String(), "\n"); lines > 1 || (lines == 1) != (status == "77") {
				t.Errorf("logged %d lines: %s", lines, logged)
			}
		})
	}
	t.Run("wrong secret", func(t *testing.T) {
		in.ClearFaults()
		v, logged := newTestVonage(t, base+"/vonage", func(c *VonageConfig) { c.APISecret = "other" })
		_, err := v.Send(t.Context(), codeMessage())
		expectFailure(t, err, delivery.Configuration, "4", logged)
	})
	t.Run("wrong signature", func(t *testing.T) {
		v, logged := newTestVonage(t, base+"/vonage", func(c *VonageConfig) { c.APISecret, c.SignatureSecret = "", "other" })
		_, err := v.Send(t.Context(), codeMessage())
		expectFailure(t, err, delivery.Configuration, "14", logged)
	})
}

func TestVonageAnswers(t *testing.T) {
	taken, gone := `{"status":"0","message-id":"m-1"}`, `{"status":"33","error-text":"Number De-activated: 14155550100 (415-555-0100) `+testText+`"}`
	throttled := `{"status":"1","error-text":"Throughput Rate Exceeded - please wait [ 250 ] and retry"}`
	answer := func(count any, parts ...string) string {
		return fmt.Sprintf(`{"message-count":%v,"messages":[%s]}`, count, strings.Join(parts, ","))
	}
	for _, c := range []struct {
		name, body string
		status     int
		class      delivery.Class
		code       string
		reference  string // accepted
	}{
		{"one part", answer(`"1"`, taken), 200, 0, "", "m-1"},
		{"numbers in place of texts", answer(2, `{"status":0,"message-id":"m-1"}`, taken), 200, 0, "", "m-1"},
		{"all parts refused", answer(`"2"`, gone, throttled), 200, delivery.Permanent, "33", ""},
		{"the second part refused", answer(`"2"`, taken, throttled), 200, delivery.Ambiguous, "1", ""},
		{"the first part refused", answer(`"2"`, gone, taken), 200, delivery.Ambiguous, "33", ""},
		{"fewer parts than told", answer(`"2"`, taken), 200, delivery.Ambiguous, "", ""},
		{"a part without an id", answer(`"1"`, `{"status":"0"}`), 200, delivery.Ambiguous, "", ""},
		{"a part without a status", answer(`"1"`, `{"message-id":"m-1"}`), 200, delivery.Ambiguous, "", ""},
		{"no parts", answer(`"0"`), 200, delivery.Ambiguous, "", ""},
		{"a page", "<html>" + testText + testNumber + "</html>", 200, delivery.Ambiguous, "", ""},
		{"nothing", "", 200, delivery.Ambiguous, "", ""},
		{"cut short", answer(`"1"`, taken)[:40], 200, delivery.Ambiguous, "", ""},
		{"endless", answer(`"1"`, taken) + strings.Repeat(" ", maxAnswerBody), 200, delivery.Ambiguous, "", ""},
		{"a status that is none", answer(`"1"`, `{"status":"`+testNumber+`"}`), 200, delivery.Rejected, "unknown", ""},
		{"a refusal with another HTTP status", answer(`"1"`, gone), 400, delivery.Permanent, "33", ""},
		{"a part taken with another HTTP status", answer(`"1"`, taken), 500, delivery.Ambiguous, "HTTP 500", ""},
		{"a page with another HTTP status", "<html>" + testText + testNumber + "</html>", 401, delivery.Configuration, "HTTP 401", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer server.Close()
			v, logged := newTestVonage(t, server.URL)
			accepted, err := v.Send(t.Context(), codeMessage())
			if c.reference != "" {
				if err != nil || accepted.Reference != c.reference {
					t.Errorf("Send = %+v, %v", accepted, err)
				}
				return
			}
			if e := expectFailure(t, err, c.class, c.code, logged); e.RetryAfter != 0 {
				t.Errorf("retry after %v", e.RetryAfter)
			}
		})
	}
}

// What lives for less than Vonage can be told would arrive after its end.
func TestVonageShortestLife(t *testing.T) {
	in, base := simulate(t, inbox.Config{})
	v, logged := newTestVonage(t, base+"/vonage")
	m := codeMessage()
	m.ExpiresAt = time.Now().Add(19 * time.Second)
	_, err := v.Send(t.Context(), m)
	expectFailure(t, err, delivery.Rejected, "", logged)
	m.ExpiresAt = time.Now().Add(25 * time.Second)
	if _, err := v.Send(t.Context(), m); err != nil || len(in.List(inbox.Filter{})) != 1 {
		t.Errorf("%v, %d in the inbox", err, len(in.List(inbox.Filter{})))
	}
}

// A signature that Vonage's own libraries are tested with.
func TestVonageSignature(t *testing.T) {
	form := url.Values{
		"message-timestamp": {"2013-11-21 15:27:30"}, "messageId": {"020000001B0FE827"}, "msisdn": {"14843472194"}, "text": {"Test again"},
		"timestamp": {"1385047698"}, "to": {"13239877404"}, "type": {"text"},
	}
	if got := vonageSignature("my_secret_key_for_testing", form); got != "DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330" {
		t.Errorf("signature %s", got)
	}
}

func TestNewVonageNamesTheWrongField(t *testing.T) {
	good := VonageConfig{APIKey: testKey, APISecret: "secret", From: "Shop"}
	for _, c := range []struct {
		field  string
		change func(*VonageConfig)
	}{
		{"Name", func(c *VonageConfig) { c.Name = "Vonage" }},
		{"APIKey", func(c *VonageConfig) { c.APIKey = "" }},
		{"APIKey", func(c *VonageConfig) { c.APIKey = "abcd:1234" }},
		{"APISecret", func(c *VonageConfig) { c.APISecret = "" }},
		{"SignatureSecret", func(c *VonageConfig) { c.SignatureSecret = "secret" }},
		{"From", func(c *VonageConfig) { c.From = "" }},
		{"From", func(c *VonageConfig) { c.From = "much too long a name" }},
		{"BaseURL", func(c *VonageConfig) { c.BaseURL = "ftp://127.0.0.1" }},
		{"BaseURL", func(c *VonageConfig) { c.BaseURL = "https://user:secret@rest.example" }},
		{"Callback", func(c *VonageConfig) { c.Callback = "/callbacks/vonage" }},
		{"Callback", func(c *VonageConfig) { c.Callback = "https://otp.example/" + strings.Repeat("x", 100) }},
		{"Timeout", func(c *VonageConfig) { c.Timeout = -1 }},
		{"Connections", func(c *VonageConfig) { c.Connections = -1 }},
	} {
		config := good
		c.change(&config)
		if _, err := NewVonage(config); err == nil || !strings.Contains(err.Error(), c.field) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v, want one that names %s", err, c.field)
		}
	}
	v, err := NewVonage(good)
	if err != nil || v.Name() != "vonage" || v.endpoint.String() != "https://rest.nexmo.com/sms/json" {
		t.Errorf("%+v, %v", v, err)
	}
	for base, warned := range map[string]bool{"http://127.0.0.1:8025/vonage": false, "https://proxy.example": false, "http://inbox:8025": true} {
		if _, logged := newTestVonage(t, base); (logged.String() != "") != warned {
			t.Errorf("%s: logged %q", base, logged)
		}
	}
}
