// Package inbox is where codes land when nothing may leave the machine: simulated providers for phones (Twilio, Vonage, AWS SNS, the signed
// webhook) and mail servers, and the one inbox that all of them feed, read by people on a page and by programs as JSON.
//
// The providers are servers that speak the real wire, so that the code under test is the code that runs: twilio-go, AWS's SDK and go-mail meet
// them unchanged. What the package promises:
//
//   - A message that a provider here has accepted is in the inbox before the answer leaves, unless it was asked to be lost.
//   - Messages live in memory only, bounded by count and by bytes; the oldest go first. A restart empties the inbox.
//   - Nothing is sent to any address but a loopback one, and nothing is logged of a message but its id, channel and provider.
//   - Failures can be asked for, by rules (SetFaults, or /api/faults), by magic numbers and addresses (see MagicNumbers and MagicMailboxes) or by
//     hooks (SetTwilioFaults, SetSMTPFaults), so that every error path of a sender can be walked. A hook is asked first, magic last.
//   - One process plays any number of providers: each that is addressed by a name of its own (/at/<name>, ServeSMTPAs) fails and is counted apart.
//
// It is a development and test tool: the page has no login, so serve it on a loopback address.
package inbox

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Config.
const (
	DefaultMax      = 10_000    // messages
	DefaultMaxBytes = 128 << 20 // bytes of text, HTML and headers over all messages
)

// Config says how an Inbox behaves. The zero value serves.
type Config struct {
	Logger *slog.Logger // nil discards

	// TwilioAccountSID ("AC" and 32 hexadecimal digits) and TwilioAuthToken are what the simulated Twilio asks for; the token also keys
	// the signature of status callbacks. Empty ones are drawn at random: see Inbox.TwilioCredentials.
	TwilioAccountSID, TwilioAuthToken string
	// TwilioAPIKey ("SK…") and TwilioAPISecret are accepted in their place when both are set.
	TwilioAPIKey, TwilioAPISecret string

	// SNSAccessKeyID and SNSSecretAccessKey are what requests to the simulated SNS must be signed with. Without an id both are drawn at random: see
	// Inbox.SNSCredentials.
	SNSAccessKeyID, SNSSecretAccessKey string

	// VonageKey and VonageSecret are what the simulated Vonage asks for; empty ones are drawn at random: see Inbox.VonageCredentials.
	VonageKey, VonageSecret string
	// VonageSignatureSecret, where it is set, is taken in place of the secret as the key of signed requests, and receipts are signed with it (HMAC with
	// SHA-256).
	VonageSignatureSecret string
	// VonageReceiptURL is where receipts go that a message names no callback for, and VonageReceiptMethod how all of them do: VonageGET, VonagePOST
	// (the default) or VonagePOSTJSON. In this URL and the next one, {provider} stands for the provider's name.
	VonageReceiptURL, VonageReceiptMethod string

	// WebhookSecret ("whsec_…") is what posts to the simulated webhook, and its receipts, are signed with; an empty one is drawn at random: see
	// Inbox.WebhookSecret. WebhookReceiptURL is where the receipts go.
	WebhookSecret, WebhookReceiptURL string

	// SMTPUser and SMTPPassword make AUTH PLAIN a condition of sending when either is set. Without them any credentials are accepted.
	SMTPUser, SMTPPassword string
	// SMTPTLS turns STARTTLS on; AUTH is then offered over TLS only (RFC 4954, section 4).
	SMTPTLS *tls.Config
	// BounceTo gets each bounce that the simulated mail servers write, a whole message (RFC 3464), in a goroutine that Close waits for. Nil: Inbox.Bounces only.
	BounceTo func(raw []byte)

	Max      int              // messages kept; 0 means DefaultMax
	MaxBytes int              // bytes kept; 0 means DefaultMaxBytes
	Now      func() time.Time // the clock behind Message.At; nil means time.Now
}

// An Inbox keeps the messages and serves the providers that write them. Make one with New; it is safe for concurrent use.
type Inbox struct {
	cfg   Config
	log   *slog.Logger
	store *store

	twilioFaults atomic.Pointer[func(TwilioRequest) *TwilioFault]
	smtpFaults   atomic.Pointer[func(SMTPRequest) *SMTPFault]
	counts       counters
	rules        *faultRules
	tallies      tallies
	bounces      bounces

	ledger    *ledger
	callbacks *http.Client
	slots     chan struct{} // limits callbacks under way
	pending   atomic.Int64  // messages whose callbacks are not done

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	closing sync.Mutex // orders background.Add before background.Wait
	// background counts the goroutines that settle messages and call back.
	background sync.WaitGroup
}

// New makes an empty Inbox. It starts nothing; call Close when done all the same, because serving does.
func New(cfg Config) *Inbox {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.TwilioAccountSID == "" {
		cfg.TwilioAccountSID = newSID("AC")
	}
	if cfg.TwilioAuthToken == "" {
		cfg.TwilioAuthToken = newSID("")
	}
	if cfg.VonageKey == "" {
		cfg.VonageKey = newSID("")[:8]
	}
	if cfg.VonageSecret == "" {
		cfg.VonageSecret = newSID("")
	}
	if cfg.WebhookSecret == "" {
		cfg.WebhookSecret = newWebhookSecret()
	}
	if cfg.SNSAccessKeyID == "" {
		cfg.SNSAccessKeyID, cfg.SNSSecretAccessKey = newSNSKey()
	}
	if cfg.Max <= 0 {
		cfg.Max = DefaultMax
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Inbox{
		cfg:       cfg,
		log:       cfg.Logger,
		store:     newStore(cfg.Max, cfg.MaxBytes, cfg.Now),
		rules:     &faultRules{},
		ledger:    newLedger(cfg.Max),
		callbacks: newCallbackClient(),
		slots:     make(chan struct{}, callbackConcurrency),
		ctx:       ctx,
		cancel:    cancel,
	}
}

// TwilioCredentials returns the account SID and auth token that the simulated Twilio asks for.
func (in *Inbox) TwilioCredentials() (accountSID, authToken string) {
	return in.cfg.TwilioAccountSID, in.cfg.TwilioAuthToken
}

// Close ends live pages and pending status callbacks and returns once their goroutines have ended. Call it before, or as part of,
// http.Server.Shutdown, which would otherwise wait for the live pages. The messages stay readable. Close may be called again.
func (in *Inbox) Close() {
	in.closing.Lock()
	in.cancel()
	in.closing.Unlock()
	in.background.Wait()
	in.callbacks.CloseIdleConnections()
}

// spawn runs f in a goroutine that Close waits for; after Close it does nothing.
func (in *Inbox) spawn(f func()) {
	in.closing.Lock()
	defer in.closing.Unlock()
	if in.ctx.Err() != nil {
		return
	}
	in.background.Go(f)
}

// Add stores m, gives it an id and a time, and returns it as stored. ID and At of the argument are ignored.
func (in *Inbox) Add(m Message) Message {
	m = in.store.add(m)
	in.log.Debug("message stored", "id", m.ID, "channel", m.Channel, "provider", m.Provider)
	return m
}

// List returns the messages that f selects, newest first.
func (in *Inbox) List(f Filter) []Message { return in.store.list(f) }

// Get returns the message with the id, if the inbox still holds it.
func (in *Inbox) Get(id string) (Message, bool) { return in.store.get(id) }

// Clear removes every message. Ids keep rising, so an After taken before stays good.
func (in *Inbox) Clear() { in.store.clear() }

// Wait returns the newest message that f selects, at once if there is one, else as soon as it arrives. It fails only when ctx ends,
// with an error that wraps the cause of that.
func (in *Inbox) Wait(ctx context.Context, f Filter) (Message, error) { return in.store.wait(ctx, f) }

// Changed returns a channel that is closed at the next Add or Clear, or when a fault rule comes or goes. Take it before reading the inbox,
// so that no change between the two is missed.
func (in *Inbox) Changed() <-chan struct{} { return in.store.changes() }

// newSID returns prefix and 32 random hexadecimal digits, the form of every Twilio identifier.
func newSID(prefix string) string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return prefix + hex.EncodeToString(b[:])
}
