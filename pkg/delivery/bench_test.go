package delivery_test

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

const (
	number  = "+14155550100"
	mailbox = "jane.roe@example.com"
	postal  = `{"name":"Jane Roe","line1":"1 Market St","city":"San Francisco","region":"CA","postal_code":"94105","country":"US"}`
)

// memory is a provider that keeps what it was handed.
type memory struct {
	got    chan delivery.Message
	answer func(try int, m *delivery.Message) (delivery.Accepted, error) // nil: accepted as "ref"

	mu   sync.Mutex
	sent int
}

func (p *memory) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

var _ delivery.Provider = (*memory)(nil)

func (p *memory) Name() string { return "memory" }

// Send keeps the message and answers as the test wants.
func (p *memory) Send(_ context.Context, m *delivery.Message) (delivery.Accepted, error) {
	p.mu.Lock()
	p.sent++
	try, answer := p.sent, p.answer
	p.mu.Unlock()
	kept := *m
	a, err := delivery.Accepted{Reference: "ref"}, error(nil)
	if answer != nil {
		a, err = answer(try, &kept)
	}
	p.got <- kept
	return a, err
}

// next waits for a message.
func (p *memory) next(t testing.TB) delivery.Message {
	t.Helper()
	select {
	case m := <-p.got:
		return m
	case <-time.After(otposttest.Patience):
		t.Fatal("no message went out")
		panic("unreachable")
	}
}

// A bench is one channel's worker with everything real around it but the provider.
type bench struct {
	t        testing.TB
	db       *otposttest.DB
	nats     *otposttest.Server
	operator *bus.Bus
	clock    *otposttest.Clock
	catalog  *message.Catalog
	provider *memory
	config   delivery.Config
}

func newBench(t testing.TB, channel otp.Channel) *bench {
	t.Helper()
	b := &bench{
		t: t, db: otposttest.Postgres(t), nats: otposttest.NATS(t, otposttest.WithLazySync()), clock: otposttest.NewClock(),
		provider: &memory{got: make(chan delivery.Message, 100)},
	}
	b.operator = b.nats.Bus(t, bus.RoleOperator)
	var err error
	if b.catalog, err = message.New(); err != nil {
		t.Fatal(err)
	}
	role := string(channel)
	b.config = delivery.Config{
		Channel: channel, Providers: []delivery.Provider{b.provider}, Timeout: time.Second, Lease: 2 * time.Second, Bus: b.nats.Bus(t, bus.Role(role)),
		Store: postgres.NewDeliveries(b.db.Role(role)), Keys: otposttest.Ring(t, keyring.Role(role)),
		Metrics: telemetry.NewMetrics(telemetry.NewRegistry()), Logger: otposttest.Logger(t).Logger, Now: b.clock.Now,
	}
	switch channel {
	case otp.SMS:
		b.config.Render = func(in message.Input) (delivery.Message, error) {
			m, err := b.catalog.SMS(in)
			return delivery.Message{Text: m.Text, Locale: m.Locale}, err
		}
		b.config.RenderNotice = func(in message.NoticeInput) (delivery.Message, error) {
			m, err := b.catalog.NoticeSMS(in)
			return delivery.Message{Text: m.Text, Locale: m.Locale}, err
		}
	case otp.Email:
		b.config.RenderNotice = func(in message.NoticeInput) (delivery.Message, error) {
			m, err := b.catalog.NoticeEmail(in)
			return delivery.Message{Subject: m.Subject, Text: m.Text, HTML: m.HTML, Locale: m.Locale}, err
		}
	}
	return b
}

// run starts the worker; it ends with the test.
func (b *bench) run() {
	b.t.Helper()
	w, err := delivery.NewWorker(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := w.Run(ctx); err != nil {
			b.t.Errorf("the worker: %v", err)
		}
	})
	b.t.Cleanup(func() {
		cancel()
		done.Wait()
	})
}

// command makes a command as the part that asks for a message of the purpose would, and with it the row of the delivery.
func (b *bench) command(purpose string) event.Command {
	b.t.Helper()
	to := map[otp.Channel]string{otp.SMS: number, otp.Email: mailbox, otp.Letter: postal}[b.config.Channel]
	sealed, err := otposttest.Ring(b.t, keyring.Enrolment).SealDestination(string(b.config.Channel), "demo", "u-42", delivery.Purpose, to)
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := event.Command{
		Challenge: b.id(), Attempt: 1, Channel: b.config.Channel, Purpose: purpose, App: "demo", AppName: "The Demo", User: "u-42", To: sealed,
		Nonce: make([]byte, otp.NonceSize), Digits: 8, Locale: "de", ExpiresAt: b.clock.Now().Add(24 * time.Hour),
	}
	_, _ = rand.Read(cmd.Nonce)
	about := "enrolment"
	if cmd.OfChallenge() {
		about = "challenge"
		cmd.Key, err = otposttest.Ring(b.t, keyring.Challenge).CodeKeyID()
	} else {
		cmd.CodeID = b.id()
		cmd.Key, err = otposttest.Ring(b.t, keyring.Enrolment).CeremonyKeyID()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.db.Exec(b.t, `INSERT INTO deliveries (challenge_id, attempt, channel, purpose, mask, created_at, updated_at) VALUES ($1, $2, $3, $4, '•', $5, $5)`,
		cmd.Challenge, cmd.Attempt, string(cmd.Channel), about, b.clock.Now())
	return cmd
}

// id draws an id of the present.
func (b *bench) id() uuid.UUID {
	var digest [32]byte
	_, _ = rand.Read(digest[:])
	return otp.ChallengeID(b.clock.Now(), digest)
}

func (b *bench) send(cmd event.Command) {
	b.t.Helper()
	if err := b.operator.Publish(b.t.Context(), bus.Out{Subject: event.WorkSubject(b.config.Channel), ID: uuid.NewString(), Data: cmd.Encode()}); err != nil {
		b.t.Fatal(err)
	}
}

// codeOf derives a command's code as enrolment does when it compares an answer.
func (b *bench) codeOf(cmd event.Command) string {
	b.t.Helper()
	prf, err := otposttest.Ring(b.t, keyring.Enrolment).CeremonyPRF(cmd.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.derive(prf, cmd)
}

// codeOrNone is codeOf, or for a command without a code what no message has.
func (b *bench) codeOrNone(cmd event.Command) string {
	if _, ok := cmd.CodeOf(); !ok {
		return "\x00"
	}
	return b.codeOf(cmd)
}

func (b *bench) derive(prf keyring.PRF, cmd event.Command) string {
	b.t.Helper()
	code, err := otp.DeriveCode(prf, otp.CodeInput{App: cmd.App, Challenge: cmd.CodeID, Nonce: cmd.Nonce, Digits: cmd.Digits})
	if err != nil {
		b.t.Fatal(err)
	}
	return code
}

func (b *bench) awaitState(cmd event.Command, want otp.DeliveryState) {
	b.t.Helper()
	otposttest.Eventually(b.t, "the delivery of "+cmd.Purpose+" to be "+string(want), func() bool {
		return otposttest.Get[string](b.t, b.db, `SELECT state FROM deliveries WHERE challenge_id = $1`, cmd.Challenge) == string(want)
	})
}

// waiting counts the messages in a stream.
func (b *bench) waiting(stream string) uint64 {
	b.t.Helper()
	s, err := b.operator.JetStream().Stream(b.t.Context(), stream)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// noReceipts fails the test where anything was told of a delivery, once all commands are settled.
func (b *bench) noReceipts() {
	b.t.Helper()
	otposttest.Eventually(b.t, "all commands to be settled", func() bool { return b.waiting(bus.StreamWork) == 0 })
	if n := b.waiting(bus.StreamReceipts); n != 0 {
		b.t.Errorf("%d receipts were published", n)
	}
}

// receipts returns what was told of deliveries.
func (b *bench) receipts() []event.Receipt {
	b.t.Helper()
	s, err := b.operator.JetStream().Stream(b.t.Context(), bus.StreamReceipts)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []event.Receipt
	state := s.CachedInfo().State
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		var m *jetstream.RawStreamMsg
		if m, err = s.GetMsg(b.t.Context(), seq); err != nil {
			b.t.Fatal(err)
		}
		r, err := event.ParseReceipt(m.Data)
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func (b *bench) dead() []bus.Letter {
	b.t.Helper()
	letters, _, err := b.operator.DeadLetters(b.t.Context(), 0, 100)
	if err != nil {
		b.t.Fatal(err)
	}
	return letters
}
