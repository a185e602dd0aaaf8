package message

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

const hash = "FA+9qCX9VSu"

// purposes returns an input of each kind of code.
func purposes(tag string) map[string]Input {
	added, recovery, address := login(tag), login(tag), login(tag)
	added.Purpose, recovery.Purpose, address.Purpose = AddFactor, Recovery, ResetAddress
	recovery.Life = 10 * time.Minute
	return map[string]Input{"login": login(tag), "transaction": payment(tag), "add-factor": added, "recovery": recovery, "reset-address": address}
}

// What calls say, for people to read.
func TestGoldenVoice(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		var b strings.Builder
		for _, name := range []string{"login", "transaction", "add-factor", "recovery", "reset-address"} {
			m, err := c.Voice(purposes(tag)[name])
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(m.Text + "\n")
		}
		golden(t, filepath.Join(tag, "voice.txt"), b.String())
	}
}

func TestVoiceSaysDigitByDigit(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		for name, in := range purposes(tag) {
			in.Origin, in.Hash = "https://shop.example", hash
			m, err := c.Voice(in)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(m.Text, "1, 2, 3, 4, 5, 6") != 1 || strings.Contains(m.Text, "123456") || strings.ContainsAny(m.Text, "@#\n") || m.Locale != tag {
				t.Errorf("%s, %s: %q in %s", tag, name, m.Text, m.Locale)
			}
			if in.Transaction != nil && (!strings.Contains(m.Text, in.Transaction.Amount) || !strings.Contains(m.Text, in.Transaction.Payee)) {
				t.Errorf("%s: %q does not say what the code approves", tag, m.Text)
			}
		}
	}
}

func TestWhatsAppIsTheSMSWithoutALineForThePhone(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		for name, in := range purposes(tag) {
			sms, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			in.Origin, in.Hash = "https://shop.example", hash
			if m, err := c.WhatsApp(in); err != nil || m != sms {
				t.Errorf("%s, %s: %q, %v, want %q", tag, name, m.Text, err, sms.Text)
			}
		}
	}
}

func TestWordsNotToShareCanBeLeftOutByPolicy(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		for name, in := range purposes(tag) {
			for channel, render := range map[string]func(Input) (SMSMessage, error){"sms": c.SMS, "voice": c.Voice, "whatsapp": c.WhatsApp} {
				in.Style.NoKeepSecret = false
				with, err := render(in)
				if err != nil {
					t.Fatal(err)
				}
				in.Style.NoKeepSecret = true
				without, err := render(in)
				if err != nil {
					t.Fatal(err)
				}
				if name == "recovery" || name == "reset-address" {
					if with != without {
						t.Errorf("%s, %s, %s: %q: the words are gone", tag, channel, name, without.Text)
					}
					continue
				}
				words := c.byName[tag].phrases[smsSecret].fill(&values{})
				if name == "add-factor" {
					words = c.byName[tag].phrases[smsSecretBrief].fill(&values{})
				}
				if strings.Replace(with.Text, words, "", 1) != without.Text || with == without || strings.HasSuffix(without.Text, " ") {
					t.Errorf("%s, %s, %s: %q with the words, %q without", tag, channel, name, with.Text, without.Text)
				}
			}
		}
	}
}

func TestWebOTPLineCanBeLeftOutByPolicy(t *testing.T) {
	c := newCatalog(t)
	in := login("en")
	want, _ := c.SMS(in)
	in.Origin, in.Style.NoWebOTP = "https://shop.example", true
	if m, err := c.SMS(in); err != nil || m != want {
		t.Errorf("%q, %v, want %q", m.Text, err, want.Text)
	}
}

// The hash is last and Android hands the message over, or there is no hash.
func TestAndroidHash(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		for name, in := range purposes(tag) {
			plain, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			in.Origin, in.Hash = "https://shop.example", hash
			m, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			words, ok := strings.CutSuffix(m.Text, "\n\n"+hash)
			switch {
			case name == "recovery" || name == "reset-address":
				if m != plain {
					t.Errorf("%s, %s: %q, want no line for the phone", tag, name, m.Text)
				}
			case !ok:
				if _, _, webOTP := parse(m.Text); !webOTP || tag != "ja" && tag != "cs" {
					t.Errorf("%s, %s: %q has no hash", tag, name, m.Text)
				}
			default:
				if !retrievable(m.Text) || !strings.HasPrefix(plain.Text, words[:20]) || strings.Contains(m.Text, "@") {
					t.Errorf("%s, %s: %q", tag, name, m.Text)
				}
			}
		}
	}

	in := login("en")
	in.Hash = hash
	m, err := c.SMS(in)
	if want := "123456 is your Shop code. It expires in 5 minutes. Do not share it with anyone.\n\n" + hash; err != nil || m.Text != want {
		t.Errorf("%q, %v, want %q", m.Text, err, want)
	}
	in.App = "A shop with a name that takes quite some room, 60 characters."
	m, err = c.SMS(in)
	if want := "123456 is your " + in.App + " code. It expires in 5 minutes.\n\n" + hash; err != nil || m.Text != want {
		t.Errorf("%q, %v, want %q: the words not to share give way", m.Text, err, want)
	}
	in = payment("en")
	in.Hash, in.Transaction.Payee = hash, strings.Repeat("P", otp.MaxTransactionField)
	if m, err = c.SMS(in); err != nil || strings.Contains(m.Text, hash) || !strings.HasSuffix(m.Text, "anyone.") {
		t.Errorf("%q, %v: a hash that serves nobody", m.Text, err)
	}
	for _, bad := range []string{"short", "FA+9qCX9VSu2", "FA+9qCX9VS\n", "FA+9qCX9VS=", "@evil #0000"} {
		in.Hash = bad
		if _, err := c.SMS(in); !errors.Is(err, ErrInput) || ValidHash(bad) {
			t.Errorf("hash %q: %v", bad, err)
		}
	}
}

// Folding leaves alone what machines read.
func TestFoldLeavesTheLastLineAlone(t *testing.T) {
	c := newCatalog(t)
	in := login("cs")
	in.Origin, in.Style.Fold = "https://shop.example", true
	if m, err := c.SMS(in); err != nil || m.Text != "123456 je vas kod pro Shop. Kod plati 5 minut. Nikomu ho nesdelujte.\n\n@shop.example #123456" {
		t.Errorf("%q, %v", m.Text, err)
	}
	in.Hash = hash
	if m, err := c.SMS(in); err != nil || m.Text != "123456 je vas kod pro Shop. Kod plati 5 minut. Nikomu ho nesdelujte.\n\n"+hash {
		t.Errorf("%q, %v", m.Text, err)
	}
}
