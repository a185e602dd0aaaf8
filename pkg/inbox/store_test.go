package inbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/inbox"
)

func texts(messages []inbox.Message) (list []string) {
	for _, m := range messages {
		list = append(list, m.Text)
	}
	return list
}

func TestListSelects(t *testing.T) {
	in := inbox.New(inbox.Config{})
	defer in.Close()
	in.Add(inbox.Message{Channel: inbox.SMS, To: "+14155550100", Text: "1"})
	second := in.Add(inbox.Message{Channel: inbox.Email, To: "Ann@example.com", Text: "2"})
	in.Add(inbox.Message{Channel: inbox.SMS, To: "+14155550100", Text: "3"})
	in.Add(inbox.Message{Channel: inbox.SMS, To: "+14155550199", Text: "4"})

	for name, c := range map[string]struct {
		filter inbox.Filter
		want   []string
	}{
		"all, newest first":  {inbox.Filter{}, []string{"4", "3", "2", "1"}},
		"by number":          {inbox.Filter{To: "+14155550100"}, []string{"3", "1"}},
		"by address":         {inbox.Filter{To: "ann@EXAMPLE.com"}, []string{"2"}},
		"by channel":         {inbox.Filter{Channel: inbox.SMS}, []string{"4", "3", "1"}},
		"after a message":    {inbox.Filter{After: inbox.AfterMessage(second.ID)}, []string{"4", "3"}},
		"after an old time":  {inbox.Filter{After: inbox.AfterTime(time.Now().Add(-time.Hour)), Limit: 1}, []string{"4"}},
		"after a later time": {inbox.Filter{After: inbox.AfterTime(time.Now().Add(time.Hour))}, nil},
		"the newest two":     {inbox.Filter{Limit: 2}, []string{"4", "3"}},
	} {
		if diff := cmp.Diff(c.want, texts(in.List(c.filter))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	in.Clear()
	if got := in.List(inbox.Filter{}); len(got) != 0 {
		t.Errorf("after Clear the inbox holds %d messages", len(got))
	}
	in.Add(inbox.Message{Text: "5"})
	if diff := cmp.Diff([]string{"5"}, texts(in.List(inbox.Filter{After: inbox.AfterMessage(second.ID)}))); diff != "" {
		t.Errorf("a cleared message is no longer a point to start from (-want +got):\n%s", diff)
	}
}

func TestBounds(t *testing.T) {
	t.Run("count", func(t *testing.T) {
		in := inbox.New(inbox.Config{Max: 3})
		defer in.Close()
		var first inbox.Message
		for i, s := range []string{"a", "b", "c", "d", "e"} {
			if m := in.Add(inbox.Message{Text: s}); i == 0 {
				first = m
			}
		}
		if diff := cmp.Diff([]string{"e", "d", "c"}, texts(in.List(inbox.Filter{}))); diff != "" {
			t.Error(diff)
		}
		if _, ok := in.Get(first.ID); ok {
			t.Error("a dropped message can still be had by its id")
		}
	})
	t.Run("bytes", func(t *testing.T) {
		in := inbox.New(inbox.Config{MaxBytes: 10_000})
		defer in.Close()
		for _, s := range []string{"a", "b", "c"} {
			in.Add(inbox.Message{Text: s, HTML: strings.Repeat("x", 4_000)})
		}
		if diff := cmp.Diff([]string{"c", "b"}, texts(in.List(inbox.Filter{}))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTimeIsNeverBeforeTheSenders(t *testing.T) {
	sent := time.Date(2026, 11, 21, 17, 0, 0, 123_456_789, time.UTC)
	in := inbox.New(inbox.Config{Now: func() time.Time { return sent }})
	defer in.Close()
	in.Add(inbox.Message{Text: "x"})
	if got := in.List(inbox.Filter{After: inbox.AfterTime(sent)}); len(got) != 1 {
		t.Fatalf("a message is not after the instant it was sent at")
	}
}

func TestWait(t *testing.T) {
	in := inbox.New(inbox.Config{})
	defer in.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	got := make(chan inbox.Message, 1)
	go func() {
		m, err := in.Wait(ctx, inbox.Filter{To: "b"})
		if err != nil {
			t.Error(err)
		}
		got <- m
	}()
	in.Add(inbox.Message{To: "a", Text: "not this"})
	in.Add(inbox.Message{To: "b", Text: "this"})
	if m := <-got; m.Text != "this" {
		t.Errorf("Wait returned %q", m.Text)
	}

	gone, stop := context.WithCancel(ctx)
	stop()
	if _, err := in.Wait(gone, inbox.Filter{To: "nobody"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait on an ended context: %v", err)
	}
}

func TestMessageJSON(t *testing.T) {
	at := time.Date(2026, 11, 21, 18, 0, 0, 0, time.FixedZone("CET", 3600))
	b, err := json.Marshal(inbox.Message{ID: "i", At: at, Channel: inbox.Email, Provider: "smtp", From: "f", To: "t", HTML: "<p>&"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"i","at":"2026-11-21T17:00:00.000Z","channel":"email","provider":"smtp","from":"f","to":"t",` +
		`"subject":"","text":"","html":"<p>&"}`
	var wantAny, gotAny any
	if json.Unmarshal([]byte(want), &wantAny); json.Unmarshal(b, &gotAny) != nil || cmp.Diff(wantAny, gotAny) != "" {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back inbox.Message
	if err := json.Unmarshal(b, &back); err != nil || !back.At.Equal(at) || back.HTML != "<p>&" {
		t.Errorf("read back as %+v, %v", back, err)
	}
}

func TestCode(t *testing.T) {
	for _, c := range []struct{ text, html, subject, want, channel string }{
		{text: "Your code is 123456.", want: "123456"},
		{text: "123456 is your code", want: "123456"},
		{text: "Pay 1200.50 EUR to Shop with 654321", want: "654321"},
		{text: "Pay 4000 EUR to Shop: 654321\n\n@shop.example #654321", want: "654321"},
		{text: "In 2026, enter\n\n  004217\n\nwithin 5 minutes", want: "004217"},
		{text: "See https://127.0.0.1:8080/x/1234567 or call +14155550100", want: ""},
		{text: "When: 22 November 2026, 01:59 UTC", want: ""},
		{text: "Quand : 22 novembre 2026 à 01:59 UTC", want: ""},
		{text: "日時: 2026年11月22日 01:59 UTC", want: ""},
		{text: "When: 22 November 2026, 01:59 UTC\nIf it was not you, enter 20261234.", want: "20261234"},
		{text: "Order A1234 is on its way, 12345678901 of them", want: ""},
		{text: "コードは123456です", want: "123456"},
		{text: "認証コード:\n123456", want: "123456"},
		{html: "<style>p{color:#123456}</style><p>Code</p><b>7788</b>", want: "7788"},
		{subject: "1234 is your code", want: "1234"},
		{channel: inbox.Voice, text: "Hello from Shop. Your code is 4. 9. 2. 0. 1. 7.\nOnce more, your code is 4. 9. 2. 0. 1. 7.", want: "492017"},
		{channel: inbox.Voice, text: "Pay 1,200.50 EUR to Shop 24 with 6 , 5 , 4 , 3 , 2 , 1", want: "654321"},
		{channel: inbox.Voice, text: "認証コードは 1、2、3、4、5、6 です", want: "123456"},
		{channel: inbox.Voice, text: "Your code is 123456.", want: "123456"},
	} {
		if got := (inbox.Message{Channel: c.channel, Text: c.text, HTML: c.html, Subject: c.subject}).Code(); got != c.want {
			t.Errorf("%q %q: got %q, want %q", c.text+c.subject, c.html, got, c.want)
		}
	}
}
