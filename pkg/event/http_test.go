package event

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestASignalFromItsData posts the data of each example and expects the event of the example.
func TestASignalFromItsData(t *testing.T) {
	at := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	for _, name := range SignalNames() {
		for example, body := range examples(t, string(name), "valid") {
			want, p := ParseSignal("shop", name, body)
			if p != nil {
				t.Fatal(p)
			}
			made, p := SignalFromData("shop", name, "s-1", at, Encode(want.SignalData))
			if p != nil {
				t.Fatalf("%s/%s: %v", name, example, p)
			}
			if err := accepts(string(name), made); err != nil {
				t.Errorf("%s/%s: the schema refuses %s: %v", name, example, made, err)
			}
			want.ID, want.Time = "s-1", at
			if got, p := ParseSignal("shop", name, made); p != nil {
				t.Error(p)
			} else if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s/%s: %s", name, example, d)
			}
		}
	}
	for body, field := range map[string]string{
		"": "body", "[]": "body", "{": "body", "null": "body", "{}": "user", `{"user":""}`: "user", `{"user":"u","device":"x"}`: "device", `{"user":"u","user":"v"}`: "user",
		`{"user":"u","session":"s"}`: "session", `{"data":{"user":"u"}}`: "data",
	} {
		made, p := SignalFromData("shop", PasswordChanged, "s-1", at, []byte(body))
		if p == nil || p.Field != field || made != nil || !strings.HasPrefix(p.Message, field+" ") {
			t.Errorf("%s: %v, %s", body, p, made)
		}
	}
	if _, p := SignalFromData("shop", PasswordChanged, "", at, []byte(`{"user":"u"}`)); p == nil || p.Field != "id" {
		t.Errorf("without an id: %v", p)
	}
	if _, p := SignalFromData("shop", "user.bored", "s-1", at, []byte(`{"user":"u"}`)); p == nil {
		t.Error("an unknown signal was made")
	}
}
