package event

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/otp"
)

const examplesDir = "../../schemas/events/v1/examples"

// A fault says of an invalid example what the schema cannot: which field the refusal names, and why only Go refuses it where that is so.
type fault struct {
	Field  string `json:"field"`
	OnlyGo string `json:"only_go"`
}

func readFaults(t testing.TB) map[string]fault {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(examplesDir, "faults.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f map[string]fault
	if err := json.Unmarshal(b, &f, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return f
}

// examples returns the bodies of one kind's examples by file name without ".json"; side is "valid" or "invalid".
func examples(t testing.TB, schema, side string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(examplesDir, schema, side, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("%s has no %s examples", schema, side)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".json")] = b
	}
	return out
}

func TestValidExamples(t *testing.T) {
	for _, k := range kinds {
		for name, body := range examples(t, k.schema, "valid") {
			t.Run(k.schema+"/"+name, func(t *testing.T) {
				if err := accepts(k.schema, body); err != nil {
					t.Errorf("the schema refuses it: %v", err)
				}
				if k.refuse != nil {
					if err := k.refuse(body); err != nil {
						t.Errorf("Go refuses it: %v", err)
					}
				}
				again, err := k.again(body)
				if err != nil {
					t.Fatalf("Go does not read it: %v", err)
				}
				if err := accepts(k.schema, again); err != nil {
					t.Errorf("the schema refuses what Go writes: %v\n%s", err, again)
				}
				sameJSON(t, body, again)
			})
		}
	}
}

func TestInvalidExamples(t *testing.T) {
	faults := readFaults(t)
	for _, k := range kinds {
		for name, body := range examples(t, k.schema, "invalid") {
			key := k.schema + "/" + name
			want, listed := faults[key]
			delete(faults, key)
			t.Run(key, func(t *testing.T) {
				err := accepts(k.schema, body)
				_, parseErr := parseJSON(body)
				switch {
				case want.OnlyGo == "" && err == nil:
					t.Error("the schema accepts it")
				case want.OnlyGo == "" && parseErr != nil:
					t.Errorf("it is no JSON (%v), so no schema judges it; faults.json must say so", parseErr)
				case want.OnlyGo != "" && err != nil && parseErr == nil:
					t.Error("the schema refuses it, although faults.json says that only Go can")
				}
				if k.refuse == nil {
					return
				}
				err = k.refuse(body)
				if err == nil {
					t.Fatal("Go accepts it")
				}
				if !k.incoming() {
					return
				}
				if !listed {
					t.Fatal("faults.json does not say which field is at fault")
				}
				p, ok := errors.AsType[*otp.Problem](err)
				if !ok {
					t.Fatalf("the refusal is no problem: %v", err)
				}
				checkProblem(t, p, body)
				if far := strings.Contains(p.Message, "must lie within"); far != (want.OnlyGo != "" && p.Field == "time") {
					t.Errorf("refused for another reason than the name tells: %s", p.Message)
				}
				if p.Field != want.Field {
					t.Errorf("the problem names the field %q, not %q: %s", p.Field, want.Field, p.Message)
				}
			})
		}
	}
	for key := range faults {
		t.Errorf("faults.json tells of %s, which is no example", key)
	}
}

// maxMessage is the most bytes of a problem's message: it goes into replies, events and logs.
const maxMessage = 300

// checkProblem holds a refusal to what every refusal promises.
func checkProblem(t reporter, p *otp.Problem, body []byte) {
	t.Helper()
	if p.Reason != otp.Invalid || p.Field == "" || p.Message == "" {
		t.Errorf("an incomplete problem: %+v", p)
	}
	if len(p.Message) > maxMessage {
		t.Errorf("a message of %d bytes: %.100s…", len(p.Message), p.Message)
	}
	if w := otp.CheckText(p.Message, maxMessage); w != "" {
		t.Errorf("the message %q %s", p.Message, w)
	}
	if !strings.HasPrefix(p.Message, p.Field) {
		t.Errorf("the message %q does not begin with the field %q", p.Message, p.Field)
	}
	if reply := EncodeProblem(p); accepts("rpc.error", reply) != nil {
		t.Errorf("the schema refuses the error reply %s", reply)
	}
	var private struct {
		Data                                                                     struct{ To any }
		To, Address, Postal, Code, First, Second, Passphrase, Device, Credential any
	}
	if json.Unmarshal(body, &private, json.MatchCaseInsensitiveNames(true)) == nil {
		for _, v := range texts(private.Data.To, private.To, private.Address, private.Postal, private.Code, private.First, private.Second, private.Passphrase,
			private.Device, private.Credential) {
			if len(v) > 5 && strings.ContainsAny(v, "@0123456789 ") && strings.Contains(p.Message, v) {
				t.Errorf("the message quotes what is nobody's business: %s", p.Message)
			}
		}
	}
}

// texts lists the strings in some values.
func texts(values ...any) (out []string) {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case map[string]any:
			for _, e := range v {
				out = append(out, texts(e)...)
			}
		case []any:
			out = append(out, texts(v...)...)
		}
	}
	return out
}
