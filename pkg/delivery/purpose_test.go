package delivery_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// Codes of ceremonies arrive, in the words of their purpose, and are those of the keyset "ceremony": whoever holds "code" cannot make them.
func TestCodesOfCeremonies(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	b.run()
	challenges := otposttest.Ring(t, keyring.SMS)
	for n, purpose := range []string{event.PurposeAddFactor, event.PurposeResetAddress, event.PurposeRecovery} {
		cmd := b.command(purpose)
		cmd.Digits = 8 + n%3
		b.send(cmd)
		m := b.provider.next(t)
		code := b.codeOf(cmd)
		want, err := b.catalog.SMS(message.Input{Purpose: message.Purpose(purpose), App: cmd.AppName, Code: code, Locale: "de", Life: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if m.Text != want.Text || m.To != number || m.Reference != cmd.Reference() || m.Locale != "de" || !m.ExpiresAt.Equal(cmd.ExpiresAt) {
			t.Errorf("%s: got %+v, want the text %q", purpose, m, want.Text)
		}
		if !strings.Contains(m.Text, code) {
			t.Errorf("%s: the code is not in %q", purpose, m.Text)
		}
		b.awaitState(cmd, otp.DeliveryAccepted)
		if _, err := challenges.CodePRF(cmd.Key); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("%s: the keyset of challenges has the key: %v", purpose, err)
		}
		primary, err := otposttest.Ring(t, keyring.Challenge).CodeKeyID()
		if err != nil {
			t.Fatal(err)
		}
		prf, err := challenges.CodePRF(primary)
		if err != nil {
			t.Fatal(err)
		}
		if other := b.derive(prf, cmd); other == code {
			t.Errorf("%s: both keysets derive the same code", purpose)
		}
		if cmd.CodeID == cmd.Challenge {
			t.Fatal("the test tells nothing of what the code is derived for")
		}
	}
	b.noReceipts()
}

// A command that names a key of the wrong keyset is not sent: neither keyset serves for what is the other's.
func TestKeysetsServeTheirPurposeOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	b.run()
	login, recovery := b.command(event.PurposeChallenge), b.command(event.PurposeRecovery)
	login.Key, recovery.Key = recovery.Key, login.Key
	b.send(login)
	b.send(recovery)
	for _, cmd := range []event.Command{login, recovery} {
		otposttest.Eventually(t, "two tries of "+cmd.Purpose, func() bool {
			return otposttest.Get[int](t, b.db, `SELECT tries FROM deliveries WHERE challenge_id = $1`, cmd.Challenge) >= 2
		})
	}
	if n := b.provider.count(); n != 0 {
		t.Errorf("%d messages went out", n)
	}
}

func TestNotices(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.Email)
	b.run()
	at := b.clock.Now().Add(-time.Minute)
	for name, tc := range map[string]struct {
		detail event.NoticeDetail
		code   bool
	}{
		"added":   {detail: event.NoticeDetail{Notice: otp.NoticeFactorAdded, At: at, Factor: otp.FactorTOTP, Label: "Jana's phone"}},
		"low":     {detail: event.NoticeDetail{Notice: otp.NoticeBackupCodesLow, At: at, Left: 2}},
		"revoked": {detail: event.NoticeDetail{Notice: otp.NoticeDevicesRevoked, At: at, Reason: event.RevokedStolen}},
		"waiting": {detail: event.NoticeDetail{Notice: otp.NoticeRecoveryWaiting, At: at, Effective: at.Add(24 * time.Hour)}, code: true},
	} {
		cmd := b.command(event.PurposeNotice)
		cmd.Notice = &tc.detail
		in := message.NoticeInput{
			App: cmd.AppName, Locale: "de", Notice: tc.detail.Notice, At: at, Factor: tc.detail.Factor, Label: tc.detail.Label, Left: tc.detail.Left,
			Effective: tc.detail.Effective, Reason: tc.detail.Reason,
		}
		if tc.code {
			in.CancelCode = b.codeOf(cmd)
		} else {
			cmd.CodeID, cmd.Nonce, cmd.Key, cmd.Digits = uuid.Nil, nil, 0, 0
		}
		want, err := b.catalog.NoticeEmail(in)
		if err != nil {
			t.Fatal(err)
		}
		b.send(cmd)
		m := b.provider.next(t)
		if m.Text != want.Text || m.HTML != want.HTML || m.Subject != want.Subject || m.To != mailbox || m.Reference != cmd.Reference() {
			t.Errorf("%s: got %+v, want %+v", name, m, want)
		}
		if tc.code != strings.Contains(m.Text, b.codeOrNone(cmd)) {
			t.Errorf("%s: a code that stops it: want %v in\n%s", name, tc.code, m.Text)
		}
		b.awaitState(cmd, otp.DeliveryAccepted)
	}
	b.noReceipts()
}

// What a worker cannot do is kept for the operator and its row says so; what comes too late is dropped; neither is sent, and nobody is told.
func TestWhatIsNotSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	b.config.RenderNotice = nil
	b.run()
	notice := b.command(event.PurposeNotice)
	notice.Notice = &event.NoticeDetail{Notice: otp.NoticeDeactivated, At: b.clock.Now()}
	b.send(notice)
	b.awaitState(notice, otp.DeliveryFailed)

	late := b.command(event.PurposeNotice)
	late.Notice, late.ExpiresAt = notice.Notice, b.clock.Now()
	b.send(late)
	b.awaitState(late, otp.DeliveryExpired)

	elsewhere := b.command(event.PurposeRecovery) // sealed for somebody else
	elsewhere.User = "another"
	b.send(elsewhere)
	b.awaitState(elsewhere, otp.DeliveryFailed)

	empty := b.command(event.PurposeNotice)
	nameless := b.command(event.PurposeRecovery)
	nameless.CodeID = uuid.Nil
	strange := b.command("marketing")
	for _, cmd := range []event.Command{empty, nameless, strange} {
		b.send(cmd)
	}
	reasons := map[uuid.UUID]string{
		notice.Challenge: "no notice goes over the channel sms", elsewhere.Challenge: "open destination",
		empty.Challenge: "a notice tells nothing", nameless.Challenge: "derived for", strange.Challenge: `"marketing" is not known`,
	}
	otposttest.Eventually(t, "the dead letters", func() bool { return len(b.dead()) == len(reasons) })
	for _, l := range b.dead() {
		cmd, _ := event.ParseCommand(l.Body)
		if want, ok := reasons[cmd.Challenge]; !ok || !strings.Contains(l.Reason, want) {
			t.Errorf("%s is dead for %q, want %q", cmd.Challenge, l.Reason, want)
		}
		if strings.Contains(l.Reason, number) {
			t.Errorf("the reason %q has an address", l.Reason)
		}
	}
	if n := b.provider.count(); n != 0 {
		t.Errorf("%d messages went out", n)
	}
	b.noReceipts()
}

// A challenge's outcome is told by a receipt, and the others', in the same batch or not, are not.
func TestReceiptsOfChallengesOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	login, recovery := b.command(event.PurposeChallenge), b.command(event.PurposeRecovery)
	b.send(recovery)
	b.send(login)
	b.send(recovery) // again: it has its outcome and is sent no second time
	b.run()
	b.awaitState(login, otp.DeliveryAccepted)
	b.awaitState(recovery, otp.DeliveryAccepted)
	otposttest.Eventually(t, "all commands to be settled", func() bool { return b.waiting(bus.StreamWork) == 0 })
	receipts := b.receipts()
	if len(receipts) != 1 || receipts[0].Challenge != login.Challenge || receipts[0].State != otp.DeliveryAccepted {
		t.Errorf("receipts: %+v", receipts)
	}
	if n := b.provider.count(); n != 2 {
		t.Errorf("%d messages went out, want 2", n)
	}
	if r := otposttest.Get[string](t, b.db, `SELECT provider || ' ' || reference FROM deliveries WHERE challenge_id = $1`, recovery.Challenge); r != "memory ref" {
		t.Errorf("the row says %q", r)
	}
}

// Where the row is all that tells of an outcome and it could not be written, the command is not let go of.
func TestAnOutcomeThatCouldNotBeRecorded(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	b.db.Exec(t, `ALTER TABLE deliveries ADD CONSTRAINT for_this_test CHECK (reference <> 'unrecordable')`)
	b.provider.answer = func(try int, _ *delivery.Message) (delivery.Accepted, error) {
		if try == 1 {
			return delivery.Accepted{Reference: "unrecordable"}, nil
		}
		return delivery.Accepted{Reference: "recorded"}, nil
	}
	b.run()
	cmd := b.command(event.PurposeRecovery)
	b.send(cmd)
	first := b.provider.next(t)
	b.clock.Advance(b.config.Lease)
	if again := b.provider.next(t); again.Text != first.Text || again.Reference != first.Reference {
		t.Errorf("first %+v, then %+v", first, again)
	}
	b.awaitState(cmd, otp.DeliveryAccepted)
	if n := otposttest.Get[int](t, b.db, `SELECT unsure FROM deliveries WHERE challenge_id = $1`, cmd.Challenge); n != 1 {
		t.Errorf("unsure is %d, want 1", n)
	}
	otposttest.Eventually(t, "the command to be settled", func() bool { return b.waiting(bus.StreamWork) == 0 })
}

// A letter has weeks, and one that has to be made again is the same.
func TestLetter(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.Letter)
	cmd, login := b.command(event.PurposeRecovery), b.command(event.PurposeChallenge)
	cmd.Digits, cmd.ExpiresAt = 10, b.clock.Now().Add(21*24*time.Hour)
	b.provider.answer = func(try int, m *delivery.Message) (delivery.Accepted, error) {
		if try == 1 {
			b.clock.Advance(19 * 24 * time.Hour)
			return delivery.Accepted{}, &delivery.Error{Class: delivery.Transient, Reason: "the spool is full"}
		}
		return delivery.Accepted{Reference: m.Reference + ".pdf"}, nil
	}
	b.config.Render = func(message.Input) (delivery.Message, error) { return delivery.Message{}, nil }
	b.config.Complete = func(in message.Input, m *delivery.Message) error {
		m.Document = []byte("%PDF " + m.Reference + " " + m.To + " " + in.Code + " " + m.ExpiresAt.UTC().Format(time.RFC3339))
		return nil
	}
	b.run()
	b.send(cmd)
	want := "%PDF " + cmd.Reference() + " " + postal + " " + b.codeOf(cmd) + " " + cmd.ExpiresAt.UTC().Format(time.RFC3339)
	for try := 1; try <= 2; try++ {
		if m := b.provider.next(t); string(m.Document) != want {
			t.Errorf("try %d: %q, want %q", try, m.Document, want)
		}
	}
	b.awaitState(cmd, otp.DeliveryAccepted)

	b.send(login)
	otposttest.Eventually(t, "a dead letter", func() bool { return len(b.dead()) == 1 })
	if r := b.dead()[0].Reason; !strings.Contains(r, "no challenge goes by letter") {
		t.Errorf("a challenge by letter is dead for %q", r)
	}
	b.noReceipts()
}

// What a message is completed with may fail for good: then it is not sent, and kept for the operator.
func TestAMessageThatCannotBeCompleted(t *testing.T) {
	t.Parallel()
	b := newBench(t, otp.SMS)
	b.config.Complete = func(message.Input, *delivery.Message) error { return errors.New("no such glyph") }
	b.run()
	cmd := b.command(event.PurposeRecovery)
	b.send(cmd)
	b.awaitState(cmd, otp.DeliveryFailed)
	otposttest.Eventually(t, "a dead letter", func() bool { return len(b.dead()) == 1 })
	if r := b.dead()[0].Reason; r != "complete message: no such glyph" {
		t.Errorf("it is dead for %q", r)
	}
	if n := b.provider.count(); n != 0 {
		t.Errorf("%d messages went out", n)
	}
}
