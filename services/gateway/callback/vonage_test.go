package callback

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
)

func dlr(status, code string) url.Values {
	return url.Values{
		"msisdn": {"420601234567"}, "to": {"Shop"}, "network-code": {"23001"}, "messageId": {"0A00"}, "price": {"0.05"}, "status": {status}, "scts": {"2611221200"},
		"err-code": {code}, "api-key": {"abcd"}, "client-ref": {token}, "message-timestamp": {"2026-11-22 12:00:00"}, "nonce": {"a&b=c"},
	}
}

func vonageGet(v url.Values) *http.Request {
	return httptest.NewRequest(http.MethodGet, "/callbacks/vonage?"+v.Encode(), nil)
}

func TestVonageStates(t *testing.T) {
	d := newBench(t)
	for name, tc := range map[string]struct {
		status, code, result string
		want                 event.Report
	}{
		"submitted": {"submitted", "0", "stage", event.Report{}},
		"buffered":  {"buffered", "0", "taken", event.Report{State: otp.DeliveryAccepted}},
		"accepted":  {"accepted", "0", "taken", event.Report{State: otp.DeliveryAccepted}},
		"delivered": {"delivered", "0", "taken", event.Report{State: otp.DeliveryDelivered}},
		"gone":      {"failed", "3", "taken", event.Report{State: otp.DeliveryUndelivered, Code: "3", Reason: "number is no longer in service", Permanent: true}},
		"filtered":  {"rejected", "6", "taken", event.Report{State: otp.DeliveryUndelivered, Code: "6", Reason: "filtered as spam by the carrier"}},
		"expired":   {"expired", "1", "taken", event.Report{State: otp.DeliveryUndelivered, Code: "1", Reason: "the cause is not known"}},
		"new code":  {"failed", "77", "taken", event.Report{State: otp.DeliveryUndelivered, Code: "77", Reason: "Vonage gave no reason"}},
		"new state": {"teleported", "0", "unknown_state", event.Report{}},
	} {
		t.Run(name, func(t *testing.T) {
			signed := vonageSigned(dlr(tc.status, tc.code))
			flat := map[string]string{}
			for k := range signed {
				flat[k] = signed.Get(k)
			}
			object, _ := json.Marshal(flat)
			for form, r := range map[string]*http.Request{
				"GET": vonageGet(signed), "POST": post("/callbacks/vonage", formType, signed.Encode()), "POST-JSON": post("/callbacks/vonage", jsonType, string(object)),
			} {
				before := d.counted("vonage", tc.result)
				d.want(d.serve(r), http.StatusNoContent)
				if d.counted("vonage", tc.result) != before+1 {
					t.Errorf("%s: not counted as %s", form, tc.result)
				}
				got := d.got()
				if tc.result != "taken" {
					if len(got) != 0 {
						t.Errorf("%s: passed on: %+v", form, got)
					}
					continue
				}
				want := tc.want
				want.Provider, want.Token, want.Reference, want.At = "vonage", token, "0A00", now
				if len(got) != 1 || got[0] != want {
					t.Errorf("%s: passed on %+v\nwant %+v", form, got, want)
				}
			}
		})
	}
}

func TestVonageSignatures(t *testing.T) {
	d := newBench(t)
	good := vonageSigned(dlr("delivered", "0"))
	with := func(key, value string) url.Values {
		v := maps.Clone(good)
		v[key] = []string{value}
		return v
	}
	at := func(off time.Duration) url.Values {
		v := dlr("delivered", "0")
		v.Set("timestamp", strconv.FormatInt(now.Add(off).Unix(), 10))
		return vonageSigned(v)
	}
	for name, tc := range map[string]struct {
		r      *http.Request
		status int
	}{
		"good":                  {vonageGet(good), 204},
		"in small letters":      {vonageGet(with("sig", strings.ToLower(good.Get("sig")))), 204},
		"as the simulator":      {vonageGet(with("sig", inbox.VonageSignature(signatureSecret, good))), 204},
		"told again next day":   {vonageGet(at(-24 * time.Hour)), 204},
		"of last week":          {vonageGet(at(-7 * 24 * time.Hour)), 403},
		"of tomorrow":           {vonageGet(at(time.Hour)), 403},
		"without a time":        {vonageGet(vonageSigned(with("timestamp", "soon"))), 403},
		"for another state":     {vonageGet(with("status", "failed")), 403},
		"for another message":   {vonageGet(with("client-ref", "another")), 403},
		"with one more":         {vonageGet(with("more", "1")), 403},
		"of another's":          {vonageGet(with("sig", strings.Repeat("ab", 32))), 403},
		"cut short":             {vonageGet(with("sig", good.Get("sig")[:8])), 403},
		"none":                  {vonageGet(with("sig", "")), 403},
		"a second status":       {httptest.NewRequest(http.MethodGet, "/callbacks/vonage?"+good.Encode()+"&status=failed", nil), 400},
		"a status here, there":  {post("/callbacks/vonage?status=failed", formType, good.Encode()), 400},
		"in JSON and the query": {post("/callbacks/vonage?status=failed", jsonType, `{"status":"delivered"}`), 400},
		"a second key in JSON":  {post("/callbacks/vonage", jsonType, `{"status":"delivered","status":"failed"}`), 400},
		"not the method chosen": {httptest.NewRequest(http.MethodGet, "/callbacks/vonage-old?"+good.Encode(), nil), 403},
		"as a text":             {post("/callbacks/vonage", "text/plain", good.Encode()), 400},
	} {
		t.Run(name, func(t *testing.T) {
			d.want(d.serve(tc.r), tc.status)
			if got := d.got(); (len(got) == 1) != (tc.status == 204) {
				t.Errorf("passed on: %+v", got)
			}
		})
	}
	// A name that holds the one before it and its value: what is signed is the same, what is read would be another's, or would lack the cause.
	for _, names := range [][2]string{{"message-timestamp", "messageId"}, {"client-ref", "err-code"}} {
		cut := maps.Clone(good)
		cut.Set(names[0]+"="+good.Get(names[0])+"&"+names[1], good.Get(names[1]))
		cut.Del(names[0])
		cut.Del(names[1])
		if inbox.VonageSignature(signatureSecret, cut) != good.Get("sig") {
			t.Fatalf("%s: the signature is not that of what is cut another way", names[1])
		}
		d.want(d.serve(vonageGet(cut)), 400)
	}
	for _, missing := range []string{"messageId", "status"} {
		v := dlr("delivered", "0")
		v.Del(missing)
		d.want(d.serve(vonageGet(vonageSigned(v))), 400)
	}
	if got := d.got(); len(got) != 0 {
		t.Errorf("passed on: %+v", got)
	}
	sum := md5.Sum([]byte("&messageId=0A00&status=delivered&timestamp=" + strconv.FormatInt(now.Unix(), 10) + signatureSecret))
	old := "/callbacks/vonage-old?messageId=0A00&status=delivered&timestamp=" + strconv.FormatInt(now.Unix(), 10) + "&sig=" + hex.EncodeToString(sum[:])
	d.want(d.serve(httptest.NewRequest(http.MethodGet, old, nil)), 204)
	// Of another program of the account: its own reference is no token of ours, the message is known by Vonage's id.
	v := dlr("delivered", "0")
	v.Set("client-ref", "order 7/2026")
	d.got()
	d.want(d.serve(vonageGet(vonageSigned(v))), 204)
	if got := d.got(); len(got) != 1 || got[0].Token != "" || got[0].Reference != "0A00" {
		t.Errorf("passed on: %+v", got)
	}
}
