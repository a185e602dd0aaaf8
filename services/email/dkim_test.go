package email

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

func TestSignaturesVerify(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		pem    []byte
		record string
	}{
		"RSA, PKCS #8": {pkcs8(t, rsaKey), "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaPublic)},
		"RSA, PKCS #1": {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}), "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaPublic)},
		"Ed25519":      {pkcs8(t, edKey), "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edPublic)},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&server{}).start(t)
			p := provider(t, s, func(c *SMTPConfig) { c.DKIM = &DKIMConfig{Domain: "shop.example", Selector: "otp1", Key: tc.pem} })
			m := note("c-1")
			m.Subject, m.Text = strings.Repeat("Ein sehr langer Betreff, ", 8), "trailing space \n\n.\n\nčtyři\n\n\n"
			mustSend(t, p, m)
			text := s.last().text // after dot-stuffing and TLS, as a receiver has it

			verify := func(text []byte) *dkim.Verification {
				t.Helper()
				got, err := dkim.VerifyWithOptions(bytes.NewReader(text), &dkim.VerifyOptions{LookupTXT: func(domain string) ([]string, error) {
					if domain != "otp1._domainkey.shop.example" {
						t.Errorf("looked up %s", domain)
					}
					return []string{tc.record}, nil
				}})
				if err != nil || len(got) != 1 {
					t.Fatalf("%d signatures, %v", len(got), err)
				}
				return got[0]
			}
			v := verify(text)
			if v.Err != nil || v.Domain != "shop.example" {
				t.Errorf("domain %s: %v", v.Domain, v.Err)
			}
			for _, field := range []string{"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Auto-Submitted"} {
				var n int
				for _, signed := range v.HeaderKeys {
					if strings.EqualFold(signed, field) {
						n++
					}
				}
				if n != 2 {
					t.Errorf("%s is signed %d times, want twice", field, n)
				}
			}
			if tag := headers(t, text).Get("Dkim-Signature"); !strings.Contains(tag, "c=relaxed/relaxed") {
				t.Errorf("signature %q", tag)
			}
			for change, changed := range map[string][]byte{
				"another body":   append(bytes.Clone(text), "x\r\n"...),
				"a second From":  append([]byte("From: eve@evil.example\r\n"), text...),
				"another sender": bytes.Replace(text, []byte("no-reply@shop"), []byte("boss@shop"), 1),
			} {
				if verify(changed).Err == nil {
					t.Errorf("%s still verifies", change)
				}
			}
			if v := verify(bytes.Replace(text, []byte("Auto-Submitted: "), []byte("Auto-Submitted:\t "), 1)); v.Err != nil {
				t.Errorf("changed white space breaks the signature: %v", v.Err)
			}
		})
	}
}

func TestUnfitKeysAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, good, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for field, cfg := range map[string]DKIMConfig{
		"Domain":    {Domain: "shop example", Selector: "s", Key: pkcs8(t, good)},
		"Selector":  {Domain: "shop.example", Selector: "", Key: pkcs8(t, good)},
		"Key: read": {Domain: "shop.example", Selector: "s", Key: []byte("no PEM")},
		"Key: RSA":  {Domain: "shop.example", Selector: "s", Key: pkcs8(t, small)},
	} {
		if _, err := newSigner(cfg); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func pkcs8(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
