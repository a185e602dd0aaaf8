package bounce

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
)

const challenge = "0199a5c0-1111-7222-8333-444455556666"

func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".eml"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\n", "\r\n")
}

func TestParse(t *testing.T) {
	id := uuid.MustParse(challenge)
	for name, want := range map[string]Bounce{
		"postfix": {
			Delivery: challenge + "-2", Challenge: id, Attempt: 2, Action: Failed, Status: "5.1.1", Reason: "the mailbox does not exist", Permanent: true,
		},
		"exchange": {Delivery: challenge + "-1", Challenge: id, Attempt: 1, Action: Failed, Status: "5.2.2", Reason: "the mailbox is full", Permanent: true},
		"delayed":  {Delivery: challenge + "-3", Challenge: id, Attempt: 3, Action: Delayed, Status: "4.4.1"},
	} {
		t.Run(name, func(t *testing.T) {
			text := sample(t, name)
			for form, raw := range map[string]string{"CRLF": text, "LF": strings.ReplaceAll(text, "\r\n", "\n"), "cut off": text[:len(text)-30]} {
				got, err := Parse([]byte(raw))
				if err != nil || got != want {
					t.Errorf("%s: %+v, %v\nwant %+v", form, got, err, want)
				}
			}
		})
	}
}

func TestMeaning(t *testing.T) {
	for status, permanent := range map[string]bool{
		"5.1.1": true, "5.1.2": true, "5.1.3": true, "5.1.6": true, "5.1.10": true, "5.2.1": true, "5.2.2": true, "5.4.4": true,
		"5.1.7": false, "5.1.8": false, "5.2.3": false, "5.3.4": false, "5.4.7": false, "5.6.0": false, "5.7.1": false, "5.0.0": false, "4.4.7": false, "4.2.2": false, "": false,
	} {
		raw := strings.ReplaceAll(sample(t, "postfix"), "Status: 5.1.1", "Status: "+status)
		b, err := Parse([]byte(raw))
		if err != nil || b.Action != Failed || b.Permanent != permanent || b.Reason == "" || b.Status != status {
			t.Errorf("%q: %+v, %v; want permanent %v", status, b, err, permanent)
		}
	}
}

// A list behind the address stands for several recipients: that one of them was not reached counts.
func TestSeveralRecipients(t *testing.T) {
	raw := strings.Replace(sample(t, "postfix"), "Final-Recipient:", "Final-Recipient: rfc822; a@example.com\r\nAction: relayed\r\nStatus: 2.1.9\r\n\r\nFinal-Recipient:", 1)
	if b, err := Parse([]byte(raw)); err != nil || b.Action != Failed || b.Status != "5.1.1" {
		t.Errorf("%+v, %v", b, err)
	}
	many := strings.Replace(sample(t, "postfix"), "Final-Recipient:", strings.Repeat("Action: failed\r\n\r\n", maxRecipients)+"Final-Recipient:", 1)
	if _, err := Parse([]byte(many)); err == nil {
		t.Error("any number of recipients is taken")
	}
}

func TestOthersAreNone(t *testing.T) {
	postfix := sample(t, "postfix")
	for name, tc := range map[string]struct {
		raw  string
		none bool // of another kind, and not a broken one
	}{
		"nothing":             {"", true},
		"no mail":             {"\x00\x01 binary", true},
		"a person's answer":   {"From: jane@example.com\r\nContent-Type: text/plain\r\nSubject: Re: code\r\n\r\nWhat is this?\r\n", true},
		"a report of reading": {strings.Replace(postfix, "report-type=delivery-status", "report-type=disposition-notification", 1), true},
		"no status":           {strings.Replace(postfix, "message/delivery-status", "text/plain", 1), false},
		"no action":           {strings.Replace(postfix, "Action: failed", "Action: frozen", 1), false},
		"no boundary":         {"Content-Type: multipart/report; report-type=delivery-status\r\n\r\n--\r\n", false},
		"too long":            {postfix + strings.Repeat("x", MaxSize), false},
		"too many parts": {
			"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n", maxParts+1) + "--b--\r\n", false,
		},
	} {
		if b, err := Parse([]byte(tc.raw)); err == nil || errors.Is(err, ErrNone) != tc.none {
			t.Errorf("%s: %+v, %v", name, b, err)
		} else if strings.Contains(err.Error(), "@") {
			t.Errorf("%s: the error quotes an address: %v", name, err)
		}
	}
}

// What names no mail of ours is still a notification: it is dealt with, and not kept for ever.
func TestOfAnotherMail(t *testing.T) {
	b, err := Parse([]byte(strings.ReplaceAll(sample(t, "postfix"), challenge+"-2", "CAF=somebody-else")))
	if err != nil || b.Delivery != "" || b.Action != Failed {
		t.Errorf("%+v, %v", b, err)
	}
	for _, id := range []string{
		"", "@", challenge, challenge + "-0@x", challenge + "-01@x", challenge + "-12345@x", "x" + challenge + "-1@x", challenge + "-1x@x",
		strings.ToUpper(challenge) + "-1@x", uuid.Nil.String() + "-1@x",
	} {
		if _, _, _, ok := Reference(id); ok {
			t.Errorf("%q names a delivery", id)
		}
	}
	if delivery, id, n, ok := Reference(challenge + "-12@shop.example"); !ok || delivery != challenge+"-12" || id.String() != challenge || n != 12 {
		t.Error(delivery, id, n, ok)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"postfix", "exchange", "delayed"} {
		f.Add([]byte(sample(f, name)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := Parse(raw)
		if err != nil {
			return
		}
		if b.Action == "" || (b.Delivery == "") != (b.Challenge == uuid.Nil) || (b.Delivery == "") != (b.Attempt == 0) {
			t.Errorf("%+v", b)
		}
		if b.Status != "" && !enhancedCode.MatchString(b.Status) {
			t.Errorf("status %q", b.Status)
		}
	})
}
