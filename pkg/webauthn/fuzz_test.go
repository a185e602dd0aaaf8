package webauthn

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// judged holds for whatever a browser may send: the error is of one of the two kinds, short, and without the challenge.
func judged(t *testing.T, err error, challenge string) {
	t.Helper()
	if errors.Is(err, ErrInput) == errors.Is(err, ErrRefused) {
		t.Errorf("neither or both of input and refusal: %v", err)
	}
	if text := err.Error(); len(text) > 1200 || strings.Contains(text, challenge) {
		t.Errorf("an error of %d bytes: %s", len(text), text)
	}
}

// FuzzFinishRegistration looks for an answer that breaks the parser, or that is taken and cannot be used. It alters the whole answer and, below
// its base64, the two parts that count.
func FuzzFinishRegistration(f *testing.F) {
	vs := vectors(f)
	for i, v := range vs {
		f.Add(i, v.created(f, v.Registration.ClientDataJSON, v.Registration.AttestationObject), []byte(nil), []byte(nil))
		f.Add(i, []byte(nil), []byte(v.Registration.ClientDataJSON), []byte(v.Registration.AttestationObject))
	}
	f.Fuzz(func(t *testing.T, i int, raw, client, object []byte) {
		v := vs[uint(i)%uint(len(vs))]
		if raw == nil {
			raw = v.created(t, client, object)
		}
		c, err := FinishRegistration(example, v.registrationSession(t), raw, noon)
		if err != nil {
			judged(t, err, v.Registration.Challenge.base64())
			return
		}
		if len(c.ID) < minCredentialID || len(c.Record) > MaxCredential {
			t.Errorf("taken: %+v", c)
		}
		if _, _, err := BeginAssertion(example, []Credential{c}, noon, life); err != nil {
			t.Errorf("taken, and cannot be asked for: %v", err)
		}
	})
}

// FuzzFinishAssertion looks for an answer that breaks the parser, or that is taken though it is not what the key signed.
func FuzzFinishAssertion(f *testing.F) {
	vs := vectors(f)
	for i, v := range vs {
		a := v.Authentication
		f.Add(i, v.got(f, a.ClientDataJSON, a.AuthenticatorData, a.Signature), []byte(nil), []byte(nil), []byte(nil))
		f.Add(i, []byte(nil), []byte(a.ClientDataJSON), []byte(a.AuthenticatorData), []byte(a.Signature))
	}
	f.Fuzz(func(t *testing.T, i int, raw, client, data, signature []byte) {
		v := vs[uint(i)%uint(len(vs))]
		whole := raw != nil
		if !whole {
			raw = v.got(t, client, data, signature)
		}
		res, err := FinishAssertion(example, v.assertionSession(t), []Credential{v.credential(t)}, raw, noon)
		if err != nil {
			judged(t, err, v.Authentication.Challenge.base64())
			return
		}
		if !bytes.Equal(res.CredentialID, v.ID) {
			t.Errorf("taken for another: %+v", res)
		}
		if !whole && (!bytes.Equal(client, v.Authentication.ClientDataJSON) || !bytes.Equal(data, v.Authentication.AuthenticatorData)) {
			t.Errorf("taken, and never signed: %s, % x", client, data)
		}
	})
}
