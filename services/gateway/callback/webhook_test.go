package callback

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

func TestWebhook(t *testing.T) {
	d := newBench(t)
	for name, tc := range map[string]struct {
		body   string
		status int
		want   event.Report
	}{
		"delivered": {`{"token":"` + token + `","reference":"r1","state":"delivered","at":"2026-11-22T11:59:58Z"}`, 204, event.Report{
			Token: token, Reference: "r1", State: otp.DeliveryDelivered,
		}},
		"failed": {`{"delivery":"` + ofMail + `","state":"failed","code":"E7","reason":"no\nroute","permanent":true}`, 204, event.Report{
			Delivery: ofMail, State: otp.DeliveryFailed, Code: "E7", Reason: "noroute", Permanent: true,
		}},
		"a reason of nothing":  {`{"token":"t","state":"delivered","reason":"x","permanent":true}`, 204, event.Report{Token: "t", State: otp.DeliveryDelivered}},
		"a long reason":        {`{"token":"t","state":"failed","reason":"` + strings.Repeat("é", 500) + `"}`, 204, event.Report{Token: "t", State: otp.DeliveryFailed, Reason: strings.Repeat("é", maxSaid)}},
		"an unknown state":     {`{"token":"t","state":"flying"}`, 204, event.Report{}},
		"no state":             {`{"token":"t"}`, 400, event.Report{}},
		"of nobody":            {`{"state":"delivered"}`, 400, event.Report{}},
		"a token that is none": {`{"token":"../x","state":"delivered"}`, 400, event.Report{}},
		"a delivery of none":   {`{"delivery":"42-1","state":"delivered"}`, 400, event.Report{}},
		"one with a domain":    {`{"delivery":"` + ofMail + `@x","state":"delivered"}`, 400, event.Report{}},
		"a key twice":          {`{"token":"t","state":"delivered","state":"failed"}`, 400, event.Report{}},
		"an unknown key":       {`{"token":"t","state":"delivered","colour":"red"}`, 400, event.Report{}},
		"a time of none":       {`{"token":"t","state":"delivered","at":"now"}`, 400, event.Report{}},
		"two objects":          {`{"token":"t","state":"delivered"}{}`, 400, event.Report{}},
		"nothing":              {``, 400, event.Report{}},
	} {
		t.Run(name, func(t *testing.T) {
			d.want(d.serve(webhookPost("/callbacks/own", jsonType, tc.body, now)), tc.status)
			got := d.got()
			if tc.want.State == "" {
				if len(got) != 0 {
					t.Errorf("passed on: %+v", got)
				}
				return
			}
			tc.want.Provider, tc.want.At = "own", now
			if len(got) != 1 || got[0] != tc.want {
				t.Errorf("passed on %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestWebhookSignatures(t *testing.T) {
	d := newBench(t)
	const body = `{"token":"t","state":"delivered"}`
	changed := func(change func(*http.Request)) *http.Request {
		r := webhookPost("/callbacks/own", jsonType, body, now)
		change(r)
		return r
	}
	for name, tc := range map[string]struct {
		r      *http.Request
		status int
	}{
		"good":         {changed(func(*http.Request) {}), 204},
		"one of two":   {changed(func(r *http.Request) { r.Header.Set("webhook-signature", "v1,AAAA "+r.Header.Get("webhook-signature")) }), 204},
		"another id":   {changed(func(r *http.Request) { r.Header.Set("webhook-id", "msg_2") }), 403},
		"another time": {changed(func(r *http.Request) { r.Header.Set("webhook-timestamp", "1") }), 403},
		"none":         {changed(func(r *http.Request) { r.Header.Del("webhook-signature") }), 403},
		"no id":        {changed(func(r *http.Request) { r.Header.Del("webhook-id") }), 403},
		"too old":      {webhookPost("/callbacks/own", jsonType, body, now.Add(-6*time.Minute)), 403},
		"too new":      {webhookPost("/callbacks/own", jsonType, body, now.Add(6*time.Minute)), 403},
		"of another body": {changed(func(r *http.Request) {
			r.Body = post("/", jsonType, strings.Replace(body, "delivered", "failed", 1)).Body
		}), 403},
		"of another type":    {webhookPost("/callbacks/own", "text/plain", body, now), 400},
		"unsigned, no JSON":  {post("/callbacks/own", jsonType, "{"), 403},
		"a token beside it":  {func() *http.Request { r := changed(func(*http.Request) {}); r.URL.Path += "/other"; return r }(), 204},
		"another's provider": {changed(func(r *http.Request) { r.URL.Path = "/callbacks/twilio-eu" }), 400},
	} {
		t.Run(name, func(t *testing.T) {
			d.want(d.serve(tc.r), tc.status)
			got := d.got()
			if (len(got) == 1) != (tc.status == 204) {
				t.Errorf("passed on: %+v", got)
			}
			if len(got) == 1 && got[0].Token != "t" { // the path is not signed
				t.Errorf("the token is %q", got[0].Token)
			}
		})
	}
}

func TestDSN(t *testing.T) {
	d := newBench(t)
	raw, err := os.ReadFile("../../../pkg/bounce/testdata/postfix.eml")
	if err != nil {
		t.Fatal(err)
	}
	mail := string(raw)
	for name, tc := range map[string]struct {
		mail   string
		status int
		want   event.Report
	}{
		"failed": {mail, 204, event.Report{
			Delivery: ofMail, State: otp.DeliveryUndelivered, Code: "5.1.1", Reason: "the mailbox does not exist", Permanent: true,
		}},
		"delivered":       {strings.Replace(mail, "Action: failed", "Action: delivered", 1), 204, event.Report{Delivery: ofMail, State: otp.DeliveryDelivered}},
		"delayed":         {strings.Replace(mail, "Action: failed", "Action: delayed", 1), 204, event.Report{}},
		"of another mail": {strings.Replace(mail, ofMail, "somebody-else", 1), 204, event.Report{}},
		"an answer":       {"Subject: Re: your code\r\n\r\nWhat?", 204, event.Report{}},
		"without status":  {strings.Replace(mail, "message/delivery-status", "text/plain", 1), 400, event.Report{}},
	} {
		t.Run(name, func(t *testing.T) {
			d.want(d.serve(webhookPost("/callbacks/relay", mailType, tc.mail, now)), tc.status)
			got := d.got()
			if tc.want.State == "" {
				if len(got) != 0 {
					t.Errorf("passed on: %+v", got)
				}
				return
			}
			tc.want.Provider, tc.want.At = "relay", now
			if len(got) != 1 || got[0] != tc.want {
				t.Errorf("passed on %+v\nwant %+v", got, tc.want)
			}
		})
	}
	d.want(d.serve(post("/callbacks/relay", mailType, mail)), 403)
}
