package inbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const maxRuleBytes = 16 << 10

// routeFaults adds the API by which programs make the simulated providers fail, and see what these have seen.
func (in *Inbox) routeFaults(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, in.Faults()) })
	mux.HandleFunc("POST /api/faults", in.createFault)
	mux.HandleFunc("DELETE /api/faults", func(w http.ResponseWriter, _ *http.Request) {
		in.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /api/faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !in.rules.remove(r.PathValue("id")) {
			writeProblem(w, http.StatusNotFound, "id", "no fault in force has this id")
			return
		}
		in.store.touch()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /faults/clear", func(w http.ResponseWriter, r *http.Request) {
		in.ClearFaults()
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /api/counts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, in.Tallies()) })
}

func (in *Inbox) createFault(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRuleBytes))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			writeProblem(w, http.StatusRequestEntityTooLarge, "", fmt.Sprintf("a fault takes at most %d bytes", maxRuleBytes))
			return
		}
		writeProblem(w, http.StatusBadRequest, "", "the request's body cannot be read")
		return
	}
	rule, field, err := parseRule(body)
	switch {
	case err != nil && field == "":
		writeProblem(w, http.StatusBadRequest, "", err.Error())
	case err != nil:
		writeProblem(w, http.StatusBadRequest, field, fmt.Sprintf("%s: %v", field, err))
	default:
		rule = in.rules.add(rule)
		in.store.touch()
		w.Header().Set("Location", "/api/faults/"+rule.ID)
		writeJSON(w, http.StatusCreated, rule)
	}
}

// ruleFields is what a rule consists of on the wire: the one list that reading, writing and the refusal of what is not in it follow.
func (r *FaultRule) ruleFields() []ruleField {
	f := &r.Fault
	return []ruleField{
		{"provider", &r.Provider},
		{"to", &r.To},
		{"share", &r.Share},
		{"count", &r.Count},
		{"delay", &f.Delay},
		{"drop", &f.Drop},
		{"accept_then_drop", &f.AcceptThenDrop},
		{"status", &f.Status},
		{"code", &f.Code},
		{"message", &f.Message},
		{"retry_after", &f.RetryAfter},
		{"lost", &f.Lost},
		{"outcome", &f.Outcome},
		{"outcome_code", &f.OutcomeCode},
		{"receipt_delay", &f.ReceiptDelay},
		{"repeat", &f.Repeat},
		{"reversed", &f.Reversed},
	}
}

type ruleField struct {
	name string
	to   any // *string, *bool, *int, *float64 or *time.Duration
}

// expected says what a field takes.
func (f ruleField) expected() string {
	switch f.to.(type) {
	case *string:
		return "a text"
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *float64:
		return "a number"
	default:
		return `a duration such as "2s" or "1m30s"`
	}
}

func (f ruleField) read(raw json.RawMessage) error {
	wrong := fmt.Errorf("%s is not %s", shortened(raw), f.expected())
	if string(raw) == "null" {
		return wrong
	}
	if d, ok := f.to.(*time.Duration); ok {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return wrong
		}
		var err error
		if *d, err = time.ParseDuration(text); err != nil {
			return wrong
		}
		return nil
	}
	if json.Unmarshal(raw, f.to) != nil {
		return wrong
	}
	return nil
}

// value is the field as it is written; ok is false when it says nothing.
func (f ruleField) value() (value any, ok bool) {
	switch v := f.to.(type) {
	case *string:
		return *v, *v != ""
	case *bool:
		return *v, *v
	case *int:
		return *v, *v != 0
	case *float64:
		return *v, *v != 0
	case *time.Duration:
		return v.String(), *v != 0
	default:
		panic(fmt.Sprintf("inbox: a rule's field of type %T", f.to))
	}
}

func shortened(raw json.RawMessage) string {
	if len(raw) > 40 {
		return strings.ToValidUTF8(string(raw[:40]), "") + "…"
	}
	return string(raw)
}

// parseRule reads a rule; an error comes with the name of the field that it is about, where it is about one.
func parseRule(body []byte) (r FaultRule, field string, err error) {
	given := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &given); err != nil || given == nil {
		return r, "", errors.New("the request's body is not one JSON object")
	}
	fields := r.ruleFields()
	for name := range given {
		if !slices.ContainsFunc(fields, func(f ruleField) bool { return f.name == name }) {
			return r, name, errors.New("there is no such field")
		}
	}
	for _, f := range fields {
		if raw, ok := given[f.name]; ok {
			if err := f.read(raw); err != nil {
				return r, f.name, err
			}
		}
	}
	if _, ok := given["share"]; ok && r.Share == 0 {
		return r, "share", errors.New("it is above 0 and at most 1")
	}
	if r.Fault.None() {
		return r, "", errors.New("the rule does nothing: it names no fault")
	}
	field, err = r.Check()
	return r, field, err
}

// MarshalJSON writes a rule as the API has it: its id, how many messages it has struck, and the fields that say something.
func (r FaultRule) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"id":%q,"struck":%d`, r.ID, r.Struck)
	for _, f := range r.ruleFields() {
		value, ok := f.value()
		if !ok {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("writing a fault's %s: %w", f.name, err)
		}
		fmt.Fprintf(&b, ",%q:%s", f.name, text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// String is the rule in one line for people, such as "primary, to +420*, half of them: 503, after 2s".
func (r FaultRule) String() string {
	scope := []string{"any provider"}
	if r.Provider != "" {
		scope[0] = r.Provider
	}
	if r.To != "" {
		scope = append(scope, "to "+r.To)
	}
	if r.Share > 0 && r.Share < 1 {
		scope = append(scope, fmt.Sprintf("%.4g%% of messages", 100*r.Share))
	}
	if r.Count > 0 {
		scope = append(scope, fmt.Sprintf("%d more", r.Count))
	}
	return strings.Join(scope, ", ") + ": " + r.Fault.String()
}

// String says in a few words what goes wrong.
func (f Fault) String() string {
	var does []string
	add := func(when bool, format string, args ...any) {
		if when {
			does = append(does, fmt.Sprintf(format, args...))
		}
	}
	add(f.Delay != 0, "answered %v late", f.Delay)
	add(f.Drop, "dropped without an answer")
	add(f.Status != 0, "refused with %d", f.Status)
	add(f.Status == 0 && f.Code != "", "refused")
	add(f.Code != "", "code %s", f.Code)
	add(f.RetryAfter != 0, "retry after %v", f.RetryAfter)
	add(f.AcceptThenDrop, "taken, then no answer")
	add(f.Lost, "lost")
	add(f.Outcome == outcomeNone, "no receipt")
	add(f.Outcome != "" && f.Outcome != outcomeNone, "receipt says %s", f.Outcome)
	add(f.OutcomeCode != "", "code %s", f.OutcomeCode)
	add(f.ReceiptDelay != 0, "receipts %v late", f.ReceiptDelay)
	add(f.Repeat == 1, "receipts told twice")
	add(f.Repeat > 1, "receipts told %d times", f.Repeat+1)
	add(f.Reversed, "receipts in reverse")
	if len(does) == 0 {
		return "nothing"
	}
	return strings.Join(does, ", ")
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // fails only when the caller has gone
}
