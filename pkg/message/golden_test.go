package message

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/otp"
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
			added, addedWeb, recovery, address := login(tag), web, login(tag), login(tag)
			added.Purpose, addedWeb.Purpose, recovery.Purpose, address.Purpose = AddFactor, AddFactor, Recovery, ResetAddress
			recovery.Life = 24 * time.Hour
			for name, in := range map[string]Input{
				"sms.txt": login(tag), "sms-webotp.txt": web,
				"sms-transaction.txt": payment(tag), "sms-transaction-webotp.txt": webPayment,
				"sms-add-factor.txt": added, "sms-add-factor-webotp.txt": addedWeb,
				"sms-recovery.txt": recovery, "sms-reset-address.txt": address,
			} {
				m, err := c.SMS(in)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join(tag, name), m.Text)
			}
			for name, in := range map[string]Input{
				"email": login(tag), "email-transaction": payment(tag),
				"email-add-factor": added, "email-recovery": recovery, "email-reset-address": address,
			} {
				m, err := c.Email(in)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join(tag, name+".txt"), "Subject: "+m.Subject+"\n\n"+m.Text)
				golden(t, filepath.Join(tag, name+".html"), m.HTML)
			}
			var sms, emails strings.Builder
			for _, in := range happenings(tag) {
				m, err := c.NoticeSMS(in)
				if err != nil {
					t.Fatal(err)
				}
				sms.WriteString(m.Text + "\n")
			}
			for _, n := range otp.Notices() {
				m, err := c.NoticeEmail(notice(tag, n))
				if err != nil {
					t.Fatal(err)
				}
				emails.WriteString("Subject: " + m.Subject + "\n\n" + m.Text + "\n--\n")
				if n == otp.NoticeFactorAdded || n == otp.NoticeRecoveryWaiting {
					golden(t, filepath.Join(tag, "notice-"+string(n)+".html"), m.HTML)
				}
			}
			golden(t, filepath.Join(tag, "notices-sms.txt"), sms.String())
			golden(t, filepath.Join(tag, "notices-email.txt"), emails.String())

			l, err := c.Letter(letter(tag))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(tag, "letter.txt"), strings.Join(slices.Concat(
				[]string{l.Date, l.Subject, l.Salutation}, l.Body, []string{l.CodeLabel + " [" + l.Code + "]"}, l.Closing), "\n\n")+"\n")
		})
	}
}
