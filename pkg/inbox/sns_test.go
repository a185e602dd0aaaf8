package inbox_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/inbox"
)

// roundTripper is a transport as a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// snsClient is AWS's own client, pointed at base. change, unless nil, may alter requests once they are signed.
func snsClient(t *testing.T, base, id, secret string, change func(*http.Request)) *sns.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	return sns.New(sns.Options{
		Region: "eu-central-1", BaseEndpoint: &base, Retryer: aws.NopRetryer{}, Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""),
		HTTPClient: &http.Client{Timeout: 10 * time.Second, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if change != nil {
				change(r)
			}
			return transport.RoundTrip(r)
		})},
	})
}

func publish(to, text string, attributes ...string) *sns.PublishInput {
	in := &sns.PublishInput{PhoneNumber: &to, Message: &text, MessageAttributes: map[string]types.MessageAttributeValue{}}
	for i := 0; i < len(attributes); i += 2 {
		in.MessageAttributes[attributes[i]] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &attributes[i+1]}
	}
	return in
}

// snsRefusal returns SNS's code and the HTTP status of a refusal, or fails the test.
func snsRefusal(t *testing.T, err error) (code string, status int, message string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	response, answered := errors.AsType[*awshttp.ResponseError](err)
	if !ok || !answered {
		t.Fatalf("%v, want a refusal", err)
	}
	return api.ErrorCode(), response.HTTPStatusCode(), api.ErrorMessage()
}

func TestSNSAccepts(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	id, secret := in.SNSCredentials()
	for _, c := range []struct {
		path, provider string
		attributes     []string
		from           string
	}{
		{"/sns", "sns", nil, "NOTICE"},
		{"/sns", "sns", []string{"AWS.SNS.SMS.SenderID", "Shop"}, "Shop"},
		{"/at/aws-eu/sns", "aws-eu", []string{"AWS.MM.SMS.OriginationNumber", "+15005550006", "AWS.SNS.SMS.SMSType", "Transactional"}, "+15005550006"},
	} {
		in.Clear()
		out, err := snsClient(t, server.URL+c.path, id, secret, nil).Publish(t.Context(), publish("+14155550100", "Your code is 123456 & más", c.attributes...))
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		got := in.List(inbox.Filter{To: "+14155550100"})
		if len(got) != 1 || got[0].Text != "Your code is 123456 & más" || got[0].From != c.from || got[0].Channel != inbox.SMS ||
			got[0].Provider != c.provider || got[0].Reference == "" || got[0].Reference != *out.MessageId {
			t.Errorf("%s: inbox: %+v", c.path, got)
		}
	}
	want := map[string]inbox.Tally{"sns": {Accepted: 2, Duplicates: 1}, "aws-eu": {Accepted: 1}}
	if diff := cmp.Diff(want, in.Tallies()); diff != "" {
		t.Errorf("tallies (-want +got):\n%s", diff)
	}
}

func TestSNSAsksForASignature(t *testing.T) {
	in, server := serve(t, inbox.Config{SNSAccessKeyID: "AKIAABCDEFGHIJKLMNOP", SNSSecretAccessKey: "a+secret/of/forty/characters/0123456789a"})
	id, secret := in.SNSCredentials()
	body := func(r *http.Request, change func(string) string) {
		b, _ := io.ReadAll(r.Body)
		changed := []byte(change(string(b)))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(changed)), int64(len(changed))
	}
	for name, c := range map[string]struct {
		id, secret string
		change     func(*http.Request)
		code       string
	}{
		"as it must be":         {id, secret, nil, ""},
		"another key":           {"AKIAXXXXXXXXXXXXXXXX", secret, nil, "InvalidClientTokenId"},
		"another secret":        {id, "b" + secret[1:], nil, "SignatureDoesNotMatch"},
		"another recipient":     {id, secret, func(r *http.Request) { body(r, func(s string) string { return strings.Replace(s, "0100", "0101", 1) }) }, "SignatureDoesNotMatch"},
		"another path":          {id, secret, func(r *http.Request) { r.URL.Path = "/sns/elsewhere" }, "SignatureDoesNotMatch"},
		"another time":          {id, secret, func(r *http.Request) { r.Header.Set("X-Amz-Date", r.Header.Get("X-Amz-Date")[:9]+"000000Z") }, "SignatureDoesNotMatch"},
		"another day":           {id, secret, func(r *http.Request) { r.Header.Set("X-Amz-Date", "20010101T000000Z") }, "IncompleteSignature"},
		"no signature":          {id, secret, func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationToken"},
		"something else":        {id, secret, func(r *http.Request) { r.SetBasicAuth(id, secret) }, "IncompleteSignature"},
		"a header less, signed": {id, secret, func(r *http.Request) { r.Header.Del("Amz-Sdk-Request") }, "SignatureDoesNotMatch"},
	} {
		_, err := snsClient(t, server.URL+"/sns", c.id, c.secret, c.change).Publish(t.Context(), publish("+14155550100", "x"))
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if code, status, _ := snsRefusal(t, err); code != c.code || status != 403 {
			t.Errorf("%s: %s with %d, want %s", name, code, status, c.code)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 1 {
		t.Errorf("%d messages in the inbox, want the one", n)
	}
	if res, text := do(t, "GET", server.URL+"/sns/", ""); res.StatusCode != 405 || res.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %s", res.StatusCode, text)
	}
}

func TestSNSRefuses(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	id, secret := in.SNSCredentials()
	client := snsClient(t, server.URL+"/sns", id, secret, nil)
	for name, c := range map[string]struct {
		in     *sns.PublishInput
		status int
		code   string
		says   string
	}{
		"no number":           {publish("", "x"), 400, "InvalidParameter", "TopicArn"},
		"number not E.164":    {publish("4155550100", "x"), 400, "InvalidParameter", "PhoneNumber Reason: 4155550100"},
		"no text":             {publish("+14155550100", ""), 400, "InvalidParameter", "Empty message"},
		"text too long":       {publish("+14155550100", strings.Repeat("é", 1601)), 400, "InvalidParameter", "too long"},
		"sender with a space": {publish("+14155550100", "x", "AWS.SNS.SMS.SenderID", "My Shop"), 400, "InvalidParameter", "SenderID"},
		"sender of digits":    {publish("+14155550100", "x", "AWS.SNS.SMS.SenderID", "12345"), 400, "InvalidParameter", "SenderID"},
		"number of letters":   {publish("+14155550100", "x", "AWS.MM.SMS.OriginationNumber", "Shop"), 400, "InvalidParameter", "OriginationNumber"},
		"price":               {publish("+14155550100", "x", "AWS.SNS.SMS.MaxPrice", "cheap"), 400, "InvalidParameter", "MaxPrice"},
		"kind":                {publish("+14155550100", "x", "AWS.SNS.SMS.SMSType", "Urgent"), 400, "InvalidParameter", "SMSType"},
		"empty attribute":     {publish("+14155550100", "x", "AWS.SNS.SMS.SMSType", ""), 400, "ParameterValueInvalid", "SMSType"},
		"magic: invalid":      {publish("+15005550001", "x"), 400, "InvalidParameter", "+15005550001 is not valid to publish to"},
		"magic: opted out":    {publish("+15005550004", "x"), 400, "OptedOut", "opted out"},
		"magic: throttled":    {publish("+15005550013", "x"), 429, "Throttled", "Rate"},
		"magic: out of order": {publish("+15005550014", "x"), 503, "ServiceUnavailable", "failure"},
	} {
		_, err := client.Publish(t.Context(), c.in)
		if code, status, said := snsRefusal(t, err); code != c.code || status != c.status || !strings.Contains(said, c.says) {
			t.Errorf("%s: %s with %d, %q; want %s with %d", name, code, status, said, c.code, c.status)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 0 {
		t.Errorf("%d refused messages are in the inbox", n)
	}
	if got := in.Tallies()["sns"]; got.Refused != 14 || got.Accepted != 0 {
		t.Errorf("tally: %+v", got)
	}
	_, err := client.ListTopics(t.Context(), &sns.ListTopicsInput{})
	if code, _, _ := snsRefusal(t, err); code != "InvalidAction" {
		t.Errorf("another action: %s", code)
	}
}

func TestSNSFaults(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	id, secret := in.SNSCredentials()
	client := snsClient(t, server.URL+"/at/primary/sns", id, secret, nil)
	for name, c := range map[string]struct {
		fault  inbox.Fault
		status int
		code   string // "" where there is no answer
		stored int
	}{
		"drop":                {inbox.Fault{Drop: true}, 0, "", 0},
		"accept, then drop":   {inbox.Fault{AcceptThenDrop: true}, 0, "", 1},
		"lost":                {inbox.Fault{Lost: true}, 200, "", 0},
		"a status":            {inbox.Fault{Status: 429}, 429, "Throttled", 0},
		"a status of none":    {inbox.Fault{Status: 502}, 502, "InternalError", 0},
		"a code":              {inbox.Fault{Code: "AuthorizationError"}, 403, "AuthorizationError", 0},
		"a code of none":      {inbox.Fault{Code: "Strange"}, 400, "Strange", 0},
		"both, and a message": {inbox.Fault{Status: 418, Code: "Teapot", Message: "short & stout"}, 418, "Teapot", 0},
	} {
		in.Clear()
		in.SetFaults(inbox.FaultRule{Provider: "primary", To: "+14155550100", Fault: c.fault})
		_, err := client.Publish(t.Context(), publish("+14155550100", "x"))
		switch {
		case c.status == 200:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case c.code == "":
			if e, ok := errors.AsType[*awshttp.ResponseError](err); err == nil || ok && e.HTTPStatusCode() != 0 {
				t.Errorf("%s: %v, want a broken connection", name, err)
			}
		default:
			code, status, said := snsRefusal(t, err)
			if code != c.code || status != c.status || c.fault.Message != "" && said != c.fault.Message {
				t.Errorf("%s: %s with %d, %q", name, code, status, said)
			}
		}
		if n := len(in.List(inbox.Filter{})); n != c.stored {
			t.Errorf("%s: %d messages in the inbox, want %d", name, n, c.stored)
		}
	}
	in.SetFaults(inbox.FaultRule{Provider: "other", Fault: inbox.Fault{Drop: true}})
	if _, err := client.Publish(t.Context(), publish("+14155550100", "x")); err != nil {
		t.Errorf("a fault of another provider struck: %v", err)
	}
}
