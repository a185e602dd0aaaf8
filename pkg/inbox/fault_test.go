package inbox_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/inbox"
)

// refusals asks the mail server of the port for each recipient in turn, over one connection, and returns those that it refuses.
func refusals(t *testing.T, port int, recipients ...string) []string {
	t.Helper()
	c := converse(t, port)
	c.expect("EHLO localhost", "250")
	var refused []string
	for _, to := range recipients {
		c.expect("RSET", "250")
		c.expect("MAIL FROM:<a@example.com>", "250")
		if reply := c.say("RCPT TO:<" + to + ">"); !strings.HasPrefix(reply, "250") {
			refused = append(refused, to)
		}
	}
	c.expect("QUIT", "221")
	return refused
}

func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("user%d@example.com", i)
	}
	return list
}

func TestFaultRules(t *testing.T) {
	in := inbox.New(inbox.Config{})
	primary, _ := serveMailAs(t, in, "primary")
	other, _ := serveMailAs(t, in, "other")
	busy := inbox.Fault{Status: 451}

	t.Run("scope", func(t *testing.T) {
		for name, c := range map[string]struct {
			rule           inbox.FaultRule
			primary, other []string
		}{
			"any":       {inbox.FaultRule{Fault: busy}, []string{"ann@example.com", "+420777@x"}, []string{"ann@example.com", "+420777@x"}},
			"provider":  {inbox.FaultRule{Provider: "primary", Fault: busy}, []string{"ann@example.com", "+420777@x"}, nil},
			"recipient": {inbox.FaultRule{To: "ANN@example.com", Fault: busy}, []string{"ann@example.com"}, []string{"ann@example.com"}},
			"start":     {inbox.FaultRule{Provider: "other", To: "+420*", Fault: busy}, nil, []string{"+420777@x"}},
			"no start":  {inbox.FaultRule{To: "+420", Fault: busy}, nil, nil},
		} {
			in.SetFaults(c.rule)
			for port, want := range map[int][]string{primary: c.primary, other: c.other} {
				if got := refusals(t, port, "ann@example.com", "+420777@x"); !slices.Equal(got, want) {
					t.Errorf("%s: refused %v, want %v", name, got, want)
				}
			}
		}
	})
	t.Run("the newest first, and each its count", func(t *testing.T) {
		in.SetFaults(inbox.FaultRule{Count: 2, Fault: busy}, inbox.FaultRule{To: "user3*", Fault: busy})
		in.AddFault(inbox.FaultRule{Count: 1, To: "user0*", Fault: inbox.Fault{Lost: true}})
		want := []string{"user1@example.com", "user2@example.com", "user3@example.com"} // user0 is taken and lost
		if got := refusals(t, primary, numbered(6)...); !slices.Equal(got, want) {
			t.Errorf("refused %v, want %v", got, want)
		}
		if left := in.Faults(); len(left) != 1 || left[0].To != "user3*" || left[0].Struck != 1 {
			t.Errorf("rules left: %v", left)
		}
		in.ClearFaults()
		if got := refusals(t, primary, numbered(6)...); got != nil || len(in.Faults()) != 0 {
			t.Errorf("after the rules ended: refused %v", got)
		}
	})
	t.Run("shares", func(t *testing.T) {
		const n = 2000
		struck := map[uint64][]string{}
		for _, seed := range []uint64{1, 2, 1} {
			in.SeedFaults(seed, inbox.FaultRule{Share: 0.25, Fault: busy})
			got := refusals(t, primary, numbered(n)...)
			if deviation := math.Abs(float64(len(got)) - n*0.25); deviation > 4*math.Sqrt(n*0.25*0.75) {
				t.Errorf("a quarter of %d: %d", n, len(got))
			}
			if before, ok := struck[seed]; ok && !slices.Equal(before, got) {
				t.Errorf("the same seed struck others: %d, then %d", len(before), len(got))
			}
			struck[seed] = got
		}
		if slices.Equal(struck[1], struck[2]) {
			t.Error("another seed struck the same")
		}
		// What another rule draws in between takes nothing from the row that this share follows.
		in.SeedFaults(1, inbox.FaultRule{Provider: "other", Share: 0.5, Fault: busy}, inbox.FaultRule{Provider: "primary", Share: 0.25, Fault: busy})
		got := refusals(t, primary, numbered(n)[:n/2]...)
		refusals(t, other, numbered(n/10)...)
		if got = append(got, refusals(t, primary, numbered(n)[n/2:]...)...); !slices.Equal(got, struck[1]) {
			t.Error("another rule changed what the share strikes")
		}
	})
	t.Run("bounded", func(t *testing.T) {
		in.ClearFaults()
		first := in.AddFault(inbox.FaultRule{Fault: busy})
		in.SetFaults()
		for range 1002 {
			if id := in.AddFault(inbox.FaultRule{Fault: busy}); id == first {
				t.Errorf("the id %s is used again", id)
			}
		}
		if n := len(in.Faults()); n != 1000 {
			t.Errorf("%d rules", n)
		}
	})
}

func TestImpossibleFaultRule(t *testing.T) {
	in := inbox.New(inbox.Config{})
	defer func() {
		if said := fmt.Sprint(recover()); !strings.Contains(said, `outcome: "undelivered " is none of`) {
			t.Errorf("it said %q", said)
		}
	}()
	in.SetFaults(inbox.FaultRule{Fault: inbox.Fault{Outcome: "undelivered "}})
}

func TestFaultAPI(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	list := func() (all []map[string]any) {
		res, body := do(t, "GET", server.URL+"/api/faults", "")
		if err := json.Unmarshal([]byte(body), &all); err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("list: %d %s", res.StatusCode, body)
		}
		return all
	}
	if all := list(); len(all) != 0 || all == nil {
		t.Errorf("at first: %v", all)
	}

	res, body := do(t, "POST", server.URL+"/api/faults", `{"provider":"primary","to":"+420*","share":0.5,"count":3,"delay":"1500ms","accept_then_drop":true,
		"outcome":"undelivered","outcome_code":"30003","receipt_delay":"2s","repeat":1,"reversed":true}`)
	want := inbox.FaultRule{ID: "f1", Provider: "primary", To: "+420*", Share: 0.5, Count: 3, Fault: inbox.Fault{
		Delay: 1500 * time.Millisecond, AcceptThenDrop: true, Outcome: "undelivered", OutcomeCode: "30003", ReceiptDelay: 2 * time.Second, Repeat: 1, Reversed: true,
	}}
	if diff := cmp.Diff([]inbox.FaultRule{want}, in.Faults()); diff != "" || res.StatusCode != 201 || res.Header.Get("Location") != "/api/faults/f1" {
		t.Errorf("created: %d %s (-want +got):\n%s", res.StatusCode, body, diff)
	}
	res, body = do(t, "POST", server.URL+"/api/faults", `{"status":503,"code":"20500","message":"down","retry_after":"2s"}`)
	if got := in.Faults()[0].Fault; res.StatusCode != 201 || (got != inbox.Fault{Status: 503, Code: "20500", Message: "down", RetryAfter: 2 * time.Second}) {
		t.Errorf("created: %d %s as %+v", res.StatusCode, body, got)
	}
	wantList := []map[string]any{
		{"id": "f2", "struck": 0.0, "status": 503.0, "code": "20500", "message": "down", "retry_after": "2s"},
		{
			"id": "f1", "struck": 0.0, "provider": "primary", "to": "+420*", "share": 0.5, "count": 3.0, "delay": "1.5s", "accept_then_drop": true,
			"outcome": "undelivered", "outcome_code": "30003", "receipt_delay": "2s", "repeat": 1.0, "reversed": true,
		},
	}
	if diff := cmp.Diff(wantList, list()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		method, path string
		status, left int
	}{
		{"DELETE", "/api/faults/f3", 404, 2},
		{"DELETE", "/api/faults/f2", 204, 1},
		{"DELETE", "/api/faults/f2", 404, 1},
		{"DELETE", "/api/faults", 204, 0},
		{"DELETE", "/api/faults", 204, 0},
	} {
		if res, _ := do(t, c.method, server.URL+c.path, ""); res.StatusCode != c.status || len(in.Faults()) != c.left {
			t.Errorf("%s %s: %d, %d rules left", c.method, c.path, res.StatusCode, len(in.Faults()))
		}
	}

	for rule, field := range map[string]string{
		``: "", `[]`: "", `null`: "", `{} {}`: "", `{}`: "", `{"provider":"primary","count":2}`: "",
		`{"statuss":503}`: "statuss", `{"Status":503}`: "Status", `{"id":"f1","drop":true}`: "id",
		`{"status":"503"}`: "status", `{"status":503.5}`: "status", `{"status":200}`: "status", `{"status":600}`: "status", `{"status":null}`: "status",
		`{"drop":"yes"}`: "drop", `{"drop":true,"status":503}`: "drop", `{"drop":true,"accept_then_drop":true}`: "accept_then_drop",
		`{"accept_then_drop":true,"code":"21211"}`: "accept_then_drop", `{"code":21211}`: "code", `{"status":503,"code":"a\nb"}`: "code",
		`{"message":"down"}`: "message", `{"retry_after":"2s"}`: "retry_after", `{"status":429,"retry_after":"-2s"}`: "retry_after",
		`{"delay":2}`: "delay", `{"delay":"2"}`: "delay", `{"delay":"11m"}`: "delay", `{"delay":"-1s"}`: "delay",
		`{"lost":true,"status":503}`: "lost", `{"lost":true,"outcome":"failed"}`: "outcome", `{"outcome":"undeliverable"}`: "outcome",
		`{"outcome":"failed","status":503}`: "outcome", `{"outcome_code":"30003"}`: "outcome_code", `{"outcome":"none","outcome_code":"1"}`: "outcome_code",
		`{"outcome":"none","receipt_delay":"2s"}`: "receipt_delay", `{"receipt_delay":"25h"}`: "receipt_delay", `{"repeat":101}`: "repeat",
		`{"repeat":-1}`: "repeat", `{"lost":true,"repeat":1}`: "repeat", `{"drop":true,"reversed":true}`: "reversed",
		`{"drop":true,"share":0}`: "share", `{"drop":true,"share":1.1}`: "share", `{"drop":true,"share":-1}`: "share", `{"drop":true,"count":-1}`: "count",
		`{"drop":true,"count":1.5}`: "count", `{"drop":true,"to":"+*1"}`: "to", `{"drop":true,"provider":"No Name"}`: "provider",
	} {
		res, body := do(t, "POST", server.URL+"/api/faults", rule)
		var problem struct{ Field, Detail string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil || res.StatusCode != 400 || problem.Field != field || problem.Detail == "" ||
			!strings.HasPrefix(problem.Detail, field) || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", rule, res.StatusCode, body)
		}
	}
	if res, _ := do(t, "POST", server.URL+"/api/faults", `{"message":"`+strings.Repeat("x", 17<<10)+`"}`); res.StatusCode != 413 {
		t.Errorf("too large: %d", res.StatusCode)
	}
	for _, c := range [][2]string{{"POST", "/api/faults"}, {"DELETE", "/api/faults"}, {"POST", "/faults/clear"}} {
		if res, _ := do(t, c[0], server.URL+c[1], `{"drop":true}`, "Sec-Fetch-Site", "cross-site"); res.StatusCode != 403 {
			t.Errorf("%s %s of another origin: %d", c[0], c[1], res.StatusCode)
		}
	}
	if n := len(in.Faults()); n != 0 {
		t.Errorf("%d refused rules are in force", n)
	}
}

func TestFaultsOnThePage(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	const hidden = `<section class="faults" id="faults" hidden`
	if _, body := do(t, "GET", server.URL+"/", ""); !strings.Contains(body, hidden) {
		t.Error("the page shows faults where there are none")
	}
	changed := in.Changed()
	in.AddFault(inbox.FaultRule{Provider: "primary", To: "+420*", Share: 0.125, Count: 3, Fault: inbox.Fault{Status: 503, Delay: 2 * time.Second}})
	select {
	case <-changed:
	default:
		t.Error("live pages are not told of a rule")
	}
	_, body := do(t, "GET", server.URL+"/", "")
	if strings.Contains(body, hidden) || !strings.Contains(body, "primary, to &#43;420*, 12.5% of messages, 3 more: answered 2s late, refused with 503") {
		t.Errorf("the page does not show the rule:\n%s", body)
	}
	for _, magic := range slices.Concat(inbox.MagicNumbers(), inbox.VonageMagicNumbers(), inbox.MagicMailboxes()) {
		if !strings.Contains(body, strings.ReplaceAll(magic.Address, "+", "&#43;")) || !strings.Contains(body, magic.Effect) {
			t.Errorf("the page lacks %s", magic.Address)
		}
	}
	res, _ := do(t, "POST", server.URL+"/faults/clear", "", "Origin", server.URL, "Sec-Fetch-Site", "same-origin")
	if res.StatusCode != 303 || len(in.Faults()) != 0 {
		t.Errorf("the page's own button: %d, %d rules left", res.StatusCode, len(in.Faults()))
	}
	words := map[string]inbox.Fault{
		"nothing": {}, "dropped without an answer": {Drop: true}, "refused, code 21211, retry after 2s": {Code: "21211", RetryAfter: 2 * time.Second},
		"taken, then no answer, lost": {AcceptThenDrop: true, Lost: true}, "no receipt": {Outcome: "none"},
		"receipt says failed, code 30008, receipts 1m0s late, receipts told twice, receipts in reverse": {
			Outcome: "failed", OutcomeCode: "30008", ReceiptDelay: time.Minute, Repeat: 1, Reversed: true,
		},
		"receipts told 4 times": {Repeat: 3},
	}
	for want, fault := range words {
		if got := fault.String(); got != want {
			t.Errorf("%+v reads %q, want %q", fault, got, want)
		}
	}
}

// twilioForm is a message that the simulated Twilio takes.
const twilioForm = "To=%2B420777123456&From=%2B15005550006&Body=Your+code+is+123456"

func TestNamedProviders(t *testing.T) {
	in, server := serve(t, inbox.Config{})
	send := func(prefix string) int {
		auth := "Basic " + base64.StdEncoding.EncodeToString([]byte(accountSID+":"+authToken))
		res, _ := do(t, "POST", server.URL+prefix+"/twilio/2010-04-01/Accounts/"+accountSID+"/Messages.json", twilioForm,
			"Authorization", auth, "Content-Type", "application/x-www-form-urlencoded")
		return res.StatusCode
	}
	in.SetFaults(inbox.FaultRule{Provider: "primary", Fault: inbox.Fault{Status: 503}}, inbox.FaultRule{Provider: "quiet", Fault: inbox.Fault{Lost: true}})
	for _, c := range []struct {
		prefix string
		status int
	}{{"/at/primary", 503}, {"/at/primary", 503}, {"/at/second", 201}, {"/at/second", 201}, {"/at/quiet", 201}, {"", 201}} {
		if got := send(c.prefix); got != c.status {
			t.Errorf("%s: %d, want %d", c.prefix, got, c.status)
		}
	}
	for path, status := range map[string]int{
		"/at/primary/twilio/nothing": 404, "/at/primary/api/messages": 404, "/at/primary/": 404, "/at/Primary/twilio/nothing": 404, "/at/primary/at/x/twilio/": 404,
	} {
		if res, _ := do(t, "GET", server.URL+path, ""); res.StatusCode != status {
			t.Errorf("GET %s: %d", path, res.StatusCode)
		}
	}

	var providers []string
	for _, m := range in.List(inbox.Filter{}) {
		providers = append(providers, m.Provider)
	}
	if diff := cmp.Diff([]string{"twilio", "second", "second"}, providers); diff != "" {
		t.Errorf("the inbox's providers (-want +got):\n%s", diff)
	}
	_, body := do(t, "GET", server.URL+"/api/messages?provider=second&channel=sms", "")
	if n := strings.Count(body, `"provider":"second"`); n != 2 || strings.Contains(body, `"provider":"twilio"`) {
		t.Errorf("of the second only: %s", body)
	}
	_, body = do(t, "GET", server.URL+"/api/counts", "")
	var counts map[string]inbox.Tally
	if err := json.Unmarshal([]byte(body), &counts); err != nil {
		t.Fatal(err)
	}
	want := map[string]inbox.Tally{"primary": {Refused: 2}, "second": {Accepted: 2, Duplicates: 1}, "quiet": {Accepted: 1}, "twilio": {Accepted: 1}}
	if diff := cmp.Diff(want, counts); diff != "" || !maps.Equal(counts, in.Tallies()) || in.Sent("second") != 2 || in.Sent("nobody") != 0 {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
