package event

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/otp"
)

func TestParseLoginReadsEveryField(t *testing.T) {
	body := examples(t, "login.requested", "valid")["full"]
	got, p := ParseLogin("shop", body, received)
	if p != nil {
		t.Fatal(p)
	}
	want := Login{
		App: "shop", ID: "01JD4Q0000SHOP", Time: received, Phone: "+14155550100", Mail: "user@example.com",
		LoginData: LoginData{
			User: "u-42", Session: "s-9f3c", Channel: "sms", To: &To{SMS: "+14155550100", Email: "user@example.com"}, Locale: "cs",
			Client: &Client{IP: "203.0.113.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64)"}, Device: "dGhlIHRva2VuIG9mIGEgZGV2aWNl",
			Transaction: &otp.Transaction{Amount: "39.99 EUR", Payee: "Shop"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	request, p := ParseLoginRequest("shop", examples(t, "rpc.login.request", "valid")["full"])
	if p != nil {
		t.Fatal(p)
	}
	want.Time = time.Time{}
	if d := cmp.Diff(want, request); d != "" {
		t.Error("as a request:", d)
	}
}

func TestParseLoginMakesAddressesCanonical(t *testing.T) {
	for to, want := range map[string][2]string{
		`{"sms":"+1 (415) 555-0100"}`:        {"+14155550100", ""},
		`{"sms":"+١٤١٥٥٥٥٠١٠٠"}`:             {"+14155550100", ""},
		`{"email":"First.Last@EXAMPLE.COM"}`: {"", "First.Last@example.com"},
		`{"sms":"","email":""}`:              {"", ""},
	} {
		l, p := ParseLoginRequest("shop", []byte(`{"id":"1","user":"u","session":"s","to":`+to+`}`))
		if p != nil || l.Phone != want[0] || l.Mail != want[1] {
			t.Errorf("%s: %q, %q, %v", to, l.Phone, l.Mail, p)
		}
	}
}

func TestParseLoginJudgesTime(t *testing.T) {
	login := func(at string) []byte {
		return fmt.Appendf(nil, `{"specversion":"1.0","id":"1","source":"s","type":"otpost.login.requested.v1","time":%q,"data":{"user":"u","session":"s"}}`, at)
	}
	for _, c := range []struct {
		off time.Duration
		ok  bool
	}{
		{0, true},
		{MaxClockSkew, true},
		{-MaxClockSkew, true},
		{MaxClockSkew + time.Millisecond, false},
		{-MaxClockSkew - time.Millisecond, false},
		{time.Hour, false},
		{-time.Hour, false},
		{24 * time.Hour, false},
	} {
		at := received.Add(c.off)
		l, p := ParseLogin("shop", login(at.In(time.FixedZone("", 5*3600+1800)).Format(time.RFC3339Nano)), received)
		switch {
		case c.ok && (p != nil || !l.Time.Equal(at)):
			t.Errorf("%s off: %v, %v", c.off, l.Time, p)
		case !c.ok && (p == nil || p.Field != "time"):
			t.Errorf("%s off: accepted or refused for another reason: %v", c.off, p)
		}
	}
	for _, at := range []string{"0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		if _, p := ParseLogin("shop", login(at), received); p == nil || p.Field != "time" {
			t.Errorf("%s: %v", at, p)
		}
	}
}

func TestParseLoginRefusesLargeBodies(t *testing.T) {
	good := examples(t, "login.requested", "valid")["minimal"]
	fits := append(bytes.TrimSpace(good), bytes.Repeat([]byte(" "), MaxBody-len(bytes.TrimSpace(good)))...)
	if _, p := ParseLogin("shop", fits, received); p != nil {
		t.Errorf("a body of %d bytes: %v", len(fits), p)
	}
	for name, body := range map[string][]byte{
		"one byte too many":   append(bytes.Clone(fits), ' '),
		"1 MiB of space":      bytes.Repeat([]byte(" "), 1<<20),
		"1 MiB of brackets":   bytes.Repeat([]byte("["), 1<<20),
		"1 MiB of zeros":      make([]byte, 1<<20),
		"1 MiB in one string": []byte(`{"id":"` + strings.Repeat("a", 1<<20) + `"}`),
	} {
		for _, k := range kinds {
			if !k.incoming() {
				continue
			}
			p, _ := k.refuse(body).(*otp.Problem)
			if p == nil || p.Field != "body" || !strings.Contains(p.Message, "65536 bytes") {
				t.Errorf("%s, %s: %v", k.schema, name, p)
			}
		}
	}
}

// TestRefusalsStayShort feeds what would swell or break a message if it were quoted.
func TestRefusalsStayShort(t *testing.T) {
	deep := strings.Repeat(`{"nested":`, 5000) + `{"a":1,"a":2}` + strings.Repeat("}", 5000)
	for name, body := range map[string]string{
		"deep duplicate": `{"trace":` + deep + `}`,
		"long name":      `{"specversion":"1.0","id":"1","source":"s","type":"otpost.login.requested.v1","data":{"user":"u","session":"s","` + strings.Repeat("n", 60000) + `":1}}`,
		"control name":   `{"specversion":"1.0","id":"1","source":"s","type":"otpost.login.requested.v1","data":{"user":"u","session":"s","\u001b[2J\u202e` + strings.Repeat(`\u0000`, 9000) + `":1}}`,
		"bad attribute":  `{"specversion":"1.0","id":"1","source":"s","type":"otpost.login.requested.v1","\r\n":1,"data":{"user":"u","session":"s"}}`,
		"not UTF-8":      "{\"id\":\"\xff\xfe\"}",
		"not UTF-8 name": "{\"\xff\":1}",
	} {
		_, p := ParseLogin("shop", []byte(body), received)
		if p == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		checkProblem(t, p, nil)
	}
}

func TestParseLoginKeepsWhoseLoginWasRefused(t *testing.T) {
	for _, c := range []struct{ name, body, id, user, session string }{
		{"unknown channel", `{"specversion":"1.0","id":"e1","source":"s","type":"otpost.login.requested.v1","data":{"user":"u","session":"s","channel":"fax"}}`, "e1", "u", "s"},
		{"unknown field", `{"specversion":"1.0","id":"e1","source":"s","type":"otpost.login.requested.v1","data":{"x":{},"user":"u","session":"s"}}`, "e1", "u", "s"},
		{"no session", `{"specversion":"1.0","id":"e1","source":"s","type":"otpost.login.requested.v1","data":{"user":"u"}}`, "e1", "u", ""},
		{"bad session", `{"specversion":"1.0","id":"e1","source":"s","type":"otpost.login.requested.v1","data":{"user":"u","session":"a\nb"}}`, "e1", "u", ""},
		{"user a number", `{"specversion":"1.0","id":"e1","source":"s","type":"otpost.login.requested.v1","data":{"user":1,"session":"s"}}`, "e1", "", "s"},
		{"bad id", `{"specversion":"1.0","id":"e\u0000","source":"s","type":"otpost.login.requested.v1","data":{"user":"u","session":"s"}}`, "", "u", "s"},
		{"late", `{"specversion":"1.0","id":"e1","source":"s","type":"otpost.login.requested.v1","time":"2020-01-01T00:00:00Z","data":{"user":"u","session":"s"}}`, "e1", "u", "s"},
		{"no JSON", `{"id":"e1"`, "", "", ""},
	} {
		l, p := ParseLogin("shop", []byte(c.body), received)
		if p == nil {
			t.Errorf("%s: accepted", c.name)
		}
		if d := cmp.Diff(Login{App: "shop", ID: c.id, LoginData: LoginData{User: c.user, Session: c.session}}, l); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestParseVerifyReadsEveryField(t *testing.T) {
	a, p := ParseVerify("shop", examples(t, "rpc.verify.request", "valid")["full"])
	if p != nil {
		t.Fatal(p)
	}
	want := Answer{
		App: "shop", Challenge: a.Challenge, Session: "s-9f3c", Code: "123456", Form: otp.FormDigits, Factor: otp.FactorSMS,
		Transaction: &otp.Transaction{Amount: "39.99 EUR", Payee: "Shop"}, TrustDevice: &TrustDevice{Label: "Firefox at home"}, Request: "r-1",
	}
	if d := cmp.Diff(want, a); d != "" || a.Challenge.String() != "0193503c-7a80-7c1e-9d2a-3f1be2a45c07" {
		t.Error(a.Challenge, d)
	}
	for name, body := range examples(t, "rpc.verify.request", "valid") {
		a, p := ParseVerify("shop", body)
		if p != nil {
			t.Fatal(p)
		}
		if strings.HasPrefix(name, "code-") && (a.Form != otp.FormDigits || !strings.Contains("0123456789", a.Code) && a.Code != "1234") {
			t.Errorf("%s reads as %q, of the form %s", name, a.Code, a.Form)
		}
	}
}
