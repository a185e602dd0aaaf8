package api_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/schemas"
	"github.com/otpost/otpost/services/gateway/api"
)

// TestEveryRequestHasARoute holds the table of routes to the contract: whatever an app may ask or tell has one route, and nothing else has.
func TestEveryRequestHasARoute(t *testing.T) {
	var want, got []string
	files, err := fs.Glob(schemas.Events, "events/v1/*.request.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(path.Base(f), ".request.json")
		for _, prefix := range []string{"rpc.", "http."} {
			if verb, ok := strings.CutPrefix(name, prefix); ok {
				want = append(want, "/v1/"+verb+" "+name+".request "+name+".reply 200")
			}
		}
	}
	for _, name := range event.SignalNames() {
		want = append(want, "/v1/signals/"+string(name)+" "+string(name)+" http.signals.reply 202")
	}
	operations := map[string]bool{}
	for _, r := range api.Routes() {
		got = append(got, strings.Join([]string{r.Path, r.Request, r.Reply, strconv.Itoa(r.Status)}, " "))
		if operations[r.Operation] || r.Operation == "" {
			t.Errorf("%s has the operation %q, which is none of its own", r.Path, r.Operation)
		}
		operations[r.Operation] = true
		if !slices.ContainsFunc(api.Tags(), func(tag [2]string) bool { return tag[0] == r.Tag }) {
			t.Errorf("%s is about %q, of which nothing is said", r.Path, r.Tag)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("routes (-contract +table):\n%s", d)
	}
}

// TestTheDescriptionIsOfTheRoutes holds openapi.yaml to the table and to the server: each operation of the one is in the other, and is served.
func TestTheDescriptionIsOfTheRoutes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	want := map[string]string{"GET /openapi.yaml": "openapi", "GET /events/v1/{schema}": "schema"}
	for _, r := range api.Routes() {
		want["POST "+r.Path] = r.Operation
	}
	got := map[string]string{}
	for at, o := range otposttest.Operations() {
		got[at] = o.ID
		method, p, _ := strings.Cut(at, " ")
		p = strings.Replace(p, "{schema}", "common.json", 1)
		if r := b.send(method, p, "", "Authorization", "-"); method == http.MethodGet && r.status != 200 || method == http.MethodPost && r.status != 401 && r.status != 429 {
			t.Errorf("%s is answered %d", at, r.status)
		}
		b.clock.Advance(2e9) // a token for who has no key
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			if strings.HasPrefix(at, "POST ") {
				if r := b.send(method, p, ""); r.status != 405 || r.header.Get("Allow") != "POST" || r.problem(t).Code != "method_not_allowed" {
					t.Errorf("%s %s is answered %d, Allow: %s", method, p, r.status, r.header.Get("Allow"))
				}
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("operations (-table +openapi.yaml):\n%s", d)
	}
	if r := b.send("POST", "/openapi.yaml", ""); r.status != 405 {
		t.Errorf("POST /openapi.yaml is answered %d", r.status)
	}
	for _, p := range []string{"/", "/v1", "/v1/", "/v1/login/", "/v1/Login", "/v1/support.find", "/v1/check", "/v1/*", "/v1/%3E", "/v2/login", "/v1/signals/", "/v1/signals/user.bored"} {
		b.fails(event.NotFound, p, "{}")
	}
	for _, p := range []string{"/events/v1/none.json", "/events/v1/..%2fv1%2fcommon.json", "/events/v1/asyncapi.yaml", "/events/v1/examples/faults.json", "/events/v1/"} {
		if r := b.send("GET", p, ""); r.status != 404 {
			t.Errorf("%s is answered %d", p, r.status)
		}
	}
}

// TestExamplesOfTheDescriptionAreValid holds every example of openapi.yaml to the schema beside it.
func TestExamplesOfTheDescriptionAreValid(t *testing.T) {
	checked := 0
	judge := func(at, ref string, examples map[string]any) {
		if len(examples) == 0 {
			t.Errorf("%s has no example", at)
		}
		for name, v := range examples {
			if err := otposttest.Referred(ref, plain(v)); err != nil {
				t.Errorf("%s, %s: %v", at, name, err)
			}
			checked++
		}
	}
	for at, o := range otposttest.Operations() {
		if o.Request == "" {
			continue
		}
		judge(at, o.Request, o.Examples)
		for status, r := range o.Responses {
			if strings.HasPrefix(status, "2") {
				judge(at+" "+status, r.Schemas["application/json"], r.Examples)
			} else if r.Schemas["application/problem+json"] != "./events/v1/http.problem.json" {
				t.Errorf("%s is answered %s with %v", at, status, r.Schemas)
			}
		}
	}
	if checked < 2*len(api.Routes()) {
		t.Errorf("%d examples only", checked)
	}
}

// plain makes of what YAML reads what JSON reads.
func plain(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	}
	return v
}

// reasonsOf reads the constants of the type Reason in a file.
func reasonsOf(t *testing.T, file string) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) == 0 {
			return true
		}
		typ := v.Type
		if s, ok := typ.(*ast.SelectorExpr); ok {
			typ = s.Sel
		}
		if name, ok := typ.(*ast.Ident); ok && name.Name == "Reason" {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		return true
	})
	if len(out) < 5 {
		t.Fatalf("%s has the reasons %v only", file, out)
	}
	return out
}

// TestEveryReasonHasAStatus holds the table of statuses to the reasons there are.
func TestEveryReasonHasAStatus(t *testing.T) {
	want := append(reasonsOf(t, "../../../pkg/otp/problem.go"), reasonsOf(t, "../../../pkg/event/http.go")...)
	var got []string
	for reason, k := range api.Kinds() {
		got = append(got, string(reason))
		if k.Status < 400 || http.StatusText(k.Status) == "" || k.Title == "" {
			t.Errorf("%s is %d %q", reason, k.Status, k.Title)
		}
		if transient := k.Status >= 500 || k.Status == 429; transient != slices.Contains([]otp.Reason{otp.RateLimited, otp.Busy, otp.Internal}, reason) {
			t.Errorf("%s is %d: is it kept for a repeat or not?", reason, k.Status)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("reasons (-constants +table):\n%s", d)
	}
}
