package verification

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// factor is an active factor of a user of the app "demo"; its secret is open to this worker unless it was sealed for somebody else.
func factor(t *testing.T, kind otp.FactorKind, secret []byte, sealedFor string) postgres.OwnedFactor {
	t.Helper()
	f := postgres.OwnedFactor{ID: uuid.New(), Kind: kind, State: otp.FactorActive, Algorithm: "SHA1", Digits: 6, Period: 30, Last: -1}
	var err error
	if f.Sealed, err = otposttest.Ring(t, keyring.Enrolment).SealSecret("demo", sealedFor, f.ID.String(), secret); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatAnAnswerIsComparedWith(t *testing.T) {
	w := &Worker{Config: Config{Keys: otposttest.Ring(t, keyring.Verification), Logger: otposttest.Logger(t).Logger}}
	secret := otp.NewTOTPSecret()
	y := otposttest.NewYubiKey(t)
	app, token := factor(t, otp.FactorTOTP, secret, "u"), factor(t, otp.FactorHOTP, secret, "u")
	key := factor(t, otp.FactorYubikey, slices.Concat(y.PrivateID[:], y.Key), "u")
	key.PublicID = y.PublicID
	lost := factor(t, otp.FactorTOTP, secret, "v")
	signs := postgres.OwnedFactor{ID: uuid.New(), Kind: otp.FactorWebAuthn}
	mine := []postgres.OwnedFactor{signs, key, app, token}
	kinds := func(m material) (out []otp.FactorKind) {
		for _, f := range m.factors {
			out = append(out, f.Kind)
		}
		return out
	}
	for name, tt := range map[string]struct {
		answer    event.Answer
		challenge otp.FactorKind
		factors   []postgres.OwnedFactor
		want      []otp.FactorKind
		backup    bool
		session   bool
		fails     bool
	}{
		"digits":                     {answer: event.Answer{Form: otp.FormDigits}, factors: mine, want: []otp.FactorKind{otp.FactorTOTP, otp.FactorHOTP}},
		"digits of a named kind":     {answer: event.Answer{Form: otp.FormDigits, Factor: otp.FactorHOTP}, factors: mine, want: []otp.FactorKind{otp.FactorHOTP}},
		"digits of a kind without":   {answer: event.Answer{Form: otp.FormDigits, Factor: otp.FactorWebAuthn}, factors: mine},
		"what a YubiKey types":       {answer: event.Answer{Form: otp.FormYubico}, factors: mine, want: []otp.FactorKind{otp.FactorYubikey}},
		"named as digits":            {answer: event.Answer{Form: otp.FormYubico, Factor: otp.FactorTOTP}, factors: mine},
		"a backup code":              {answer: event.Answer{Form: otp.FormBackupCode}, factors: mine, backup: true},
		"named as something else":    {answer: event.Answer{Form: otp.FormBackupCode, Factor: otp.FactorSMS}, factors: mine},
		"a backup code for nothing":  {answer: event.Answer{Form: otp.FormBackupCode, Transaction: &otp.Transaction{Amount: "1", Payee: "x"}}, factors: mine},
		"a credential":               {answer: event.Answer{Credential: []byte("{}")}, factors: mine, session: true},
		"a credential as digits":     {answer: event.Answer{Credential: []byte("{}"), Factor: otp.FactorTOTP}, factors: mine},
		"one that cannot be opened":  {answer: event.Answer{Form: otp.FormDigits}, factors: []postgres.OwnedFactor{lost, token}, want: []otp.FactorKind{otp.FactorHOTP}},
		"the challenge's own":        {answer: event.Answer{Form: otp.FormDigits}, challenge: otp.FactorTOTP, factors: []postgres.OwnedFactor{lost, token}, fails: true},
		"one of the challenge's own": {answer: event.Answer{Form: otp.FormDigits}, challenge: otp.FactorTOTP, factors: []postgres.OwnedFactor{lost, app}, want: []otp.FactorKind{otp.FactorTOTP}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.answer.App = "demo"
			if tt.challenge == "" {
				tt.challenge = otp.FactorSMS
			}
			c := postgres.Case{Factors: tt.factors, Challenge: postgres.Answerable{Challenge: postgres.Challenge{User: "u", Factor: tt.challenge}}}
			m, take, err := w.prepare(&answer{Answer: tt.answer}, c)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if err == nil && (!slices.Equal(kinds(m), tt.want) || (len(take.Backup) > 0) != tt.backup || take.Session != tt.session) {
				t.Errorf("compared with %v, taking %+v", kinds(m), take)
			}
		})
	}
}

// Of several factors the one that gives the answer is told, whichever it is.
func TestTyped(t *testing.T) {
	w := &Worker{Config: Config{Keys: otposttest.Ring(t, keyring.Verification), Logger: otposttest.Logger(t).Logger}}
	now, policy := time.Unix(1_700_000_000, 0), otp.DefaultPolicy()
	var factors []postgres.OwnedFactor
	var secrets [][]byte
	for range 3 {
		secrets = append(secrets, otp.NewTOTPSecret())
		factors = append(factors, factor(t, otp.FactorTOTP, secrets[len(secrets)-1], "u"))
	}
	factors[0].Period = 0 // one that nothing can be compared with spoils no other
	open, failed := w.open("demo", "u", factors, otp.FormDigits, "")
	if len(open) != 3 || failed != nil {
		t.Fatalf("opened %d, %v", len(open), failed)
	}
	for n := 1; n < 3; n++ {
		step := otp.DefaultTOTP().Step(now)
		v, err := otp.DefaultTOTP().Value(secrets[n], step)
		if err != nil {
			t.Fatal(err)
		}
		if from, at, ok := w.typed(open, v, now, policy); !ok || from.ID != factors[n].ID || at != step {
			t.Errorf("factor %d: %t, of %s at %d", n, ok, from.ID, at)
		}
	}
	if _, _, ok := w.typed(open, "12345", now, policy); ok {
		t.Error("too short an answer is right")
	}
}
