package message

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// Every message in every language, for people to read and for changes of wording to show. After a wanted change:
// go test ./pkg/message -run TestGolden -update
func TestGolden(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		t.Run(tag, func(t *testing.T) {
			web := login(tag)
			web.Origin = "https://shop.example"
			webPayment := payment(tag)
			webPayment.Origin = web.Origin
			for name, in := range map[string]Input{
				"sms.txt": login(tag), "sms-webotp.txt": web,
				"sms-transaction.txt": payment(tag), "sms-transaction-webotp.txt": webPayment,
			} {
				m, err := c.SMS(in)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join(tag, name), m.Text)
			}
			for name, in := range map[string]Input{"email": login(tag), "email-transaction": payment(tag)} {
				m, err := c.Email(in)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join(tag, name+".txt"), "Subject: "+m.Subject+"\n\n"+m.Text)
				golden(t, filepath.Join(tag, name+".html"), m.HTML)
			}
		})
	}
}
