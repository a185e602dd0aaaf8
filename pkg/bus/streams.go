package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// The streams.
const (
	StreamLogins   = "OTPOST_LOGINS"
	StreamSignals  = "OTPOST_SIGNALS"
	StreamWork     = "OTPOST_WORK"
	StreamReceipts = "OTPOST_RECEIPTS"
	StreamTimers   = "OTPOST_TIMERS"
	StreamEvents   = "OTPOST_EVENTS"
	StreamDead     = "OTPOST_DEAD"
)

// AckWait is how long after its worker's last sign of life a message is delivered again. A worker that needs longer gives such signs, so
// this is how long what a killed one had in hand must wait.
const AckWait = 10 * time.Second

// StreamSettings are what an operator may choose of the streams.
type StreamSettings struct {
	Replicas   int           // 1 or 3; three survive the loss of a server
	WorkMaxAge time.Duration // of what nobody consumed: logins, commands, receipts
	EventsAge  time.Duration // how long apps can read events back, and how long signals of apps wait for a worker
	DeadAge    time.Duration // how long dead letters are kept; they hold what apps sent, addresses and tokens of devices included
	MaxBytes   int64         // a stream; a full one refuses what is published, it drops nothing. Events and dead letters drop their oldest
	Duplicates time.Duration // window in which a message id is known
	AckWait    time.Duration
	MaxInHand  int // messages of a consumer delivered and not yet settled
	// PerApp is how many logins of one app, and how many of its signals of one name, may wait; more are refused. It bounds messages, not their
	// bytes: an app that sends large ones can still fill a stream up to MaxBytes, and then those of every app are refused until some are worked off.
	PerApp int64
}

// DefaultStreamSettings are safe on one server.
func DefaultStreamSettings() StreamSettings {
	return StreamSettings{
		Replicas: 1, WorkMaxAge: 24 * time.Hour, EventsAge: 7 * 24 * time.Hour, DeadAge: 7 * 24 * time.Hour, MaxBytes: 1 << 30,
		Duplicates: 2 * time.Minute, AckWait: AckWait, MaxInHand: 10000, PerApp: 500_000,
	}
}

// Check returns an error that names the first setting that is wrong.
func (s StreamSettings) Check() error {
	switch {
	case s.Replicas != 1 && s.Replicas != 3:
		return fmt.Errorf("stream-replicas: must be 1 or 3, not %d", s.Replicas)
	case s.WorkMaxAge < time.Hour:
		return errors.New("stream-work-age: must be at least 1h")
	case s.EventsAge < time.Hour:
		return errors.New("stream-events-age: must be at least 1h")
	case s.DeadAge < 24*time.Hour:
		return errors.New("stream-dead-age: must be at least 24h")
	case s.MaxBytes < 16<<20:
		return errors.New("stream-max-bytes: must be at least 16777216")
	case s.AckWait < time.Second:
		return errors.New("ack-wait: must be at least 1s")
	case s.Duplicates < s.AckWait:
		return errors.New("stream-duplicates: must be at least ack-wait")
	case s.PerApp < 1:
		return errors.New("stream-logins-per-app: must be at least 1")
	case s.MaxInHand < 1:
		return errors.New("max-in-hand: must be at least 1")
	}
	return nil
}

// ConsumerGateway is the consumer by which the gateway hears the events of all apps. Beside it each app has its own, of the app's name: this one's is a name
// that no app can have.
const ConsumerGateway = "_gateway"

// consumers are the durable consumers of the workers.
var consumers = []struct {
	role   Role
	stream string
	name   string
	filter string
}{
	{RoleChallenge, StreamLogins, "challenge", ""},
	{RoleChallenge, StreamReceipts, "challenge", ""},
	{RoleChallenge, StreamTimers, "challenge", event.DueSubject},
	{RoleSMS, StreamWork, "sms", "otpost.work.sms"},
	{RoleSMS, StreamWork, "voice", "otpost.work.voice"},
	{RoleSMS, StreamWork, "whatsapp", "otpost.work.whatsapp"},
	{RoleEmail, StreamWork, "email", "otpost.work.email"},
	{RoleLetter, StreamWork, "letter", "otpost.work.letter"},
	{RoleEnrolment, StreamSignals, "enrolment", ""},
	{RoleGateway, StreamEvents, ConsumerGateway, ""},
}

// signals are those that a worker understands. The stream takes no others, so that an app cannot pass its bound by making up names; who
// publishes another is told at once that no stream takes it.
var signals = []event.SignalName{event.PasswordChanged, event.SessionSignedOut, event.DeviceErased, event.UserDeleted}

func streams(s StreamSettings) []jetstream.StreamConfig {
	queue := func(name, about string, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: about, Subjects: subjects, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
			MaxAge: s.WorkMaxAge, MaxBytes: s.MaxBytes, Duplicates: s.Duplicates, Replicas: s.Replicas, Storage: jetstream.FileStorage,
		}
	}
	kept := func(name, about string, age time.Duration, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: about, Subjects: subjects, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
			MaxAge: age, MaxBytes: s.MaxBytes, Duplicates: s.Duplicates, Replicas: s.Replicas, Storage: jetstream.FileStorage,
		}
	}
	logins := queue(StreamLogins, "login events of apps, until they are decided", "otpost.app.*.login")
	// Message ids are known to the whole stream: with a window, one app could hide the logins of another by naming their ids first. The worker
	// tells repeats apart by (app, id) itself.
	logins.Duplicates = 100 * time.Millisecond
	logins.MaxMsgsPerSubject, logins.DiscardNewPerSubject = s.PerApp, true
	var names []string
	for _, name := range signals {
		names = append(names, event.SignalSubject("*", name))
	}
	told := queue(StreamSignals, "signals of apps, until they are acted on", names...)
	told.Duplicates, told.MaxMsgsPerSubject, told.DiscardNewPerSubject = logins.Duplicates, s.PerApp, true
	told.MaxAge = max(s.WorkMaxAge, s.EventsAge) // a login is worth nothing the next day; that a user was deleted must not be forgotten
	// The server publishes what waits when its time has come (ADR-51). A stream with timers cannot refuse what does not fit; what it drops the sweeper finds.
	timers := kept(StreamTimers, "deliveries that wait for a receipt, until their time has come", time.Hour, event.TimerPrefix+"*", event.DueSubject)
	timers.AllowMsgSchedules, timers.AllowMsgTTL = true, true
	return []jetstream.StreamConfig{
		logins,
		told,
		queue(StreamWork, "commands to channel workers, until they are carried out", "otpost.work.*"),
		queue(StreamReceipts, "what became of deliveries, until it is recorded", "otpost.receipt.*"),
		timers,
		kept(StreamEvents, "events to apps", s.EventsAge, "otpost.app.*.event.>"),
		kept(StreamDead, "messages that could not be processed", s.DeadAge, "otpost.dead.>"),
	}
}

// Declared returns how many streams, and consumers of workers, there are to declare.
func Declared() (streamCount, consumerCount int) {
	return len(streams(DefaultStreamSettings())), len(consumers)
}

// Declare makes the streams and consumers, or brings those that are there to the settings. It loses no message. The role must be operator.
func (b *Bus) Declare(ctx context.Context, s StreamSettings) error {
	if err := s.Check(); err != nil {
		return err
	}
	for _, cfg := range streams(s) {
		if _, err := b.js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("declare stream %s: %w", cfg.Name, err)
		}
	}
	for _, c := range consumers {
		if _, err := b.js.CreateOrUpdateConsumer(ctx, c.stream, jetstream.ConsumerConfig{
			Durable: c.name, FilterSubject: c.filter, AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.AckWait,
			MaxAckPending: s.MaxInHand, MaxDeliver: -1, Replicas: s.Replicas,
		}); err != nil {
			return fmt.Errorf("declare consumer %s of %s: %w", c.name, c.stream, err)
		}
	}
	return nil
}

// DeclareApp makes the durable consumer by which an app reads its events without missing one. The role must be operator.
func (b *Bus) DeclareApp(ctx context.Context, app string, replicas int) error {
	if !otp.ValidApp(app) {
		return fmt.Errorf("declare consumer: %q is no app's name", app)
	}
	if _, err := b.js.CreateOrUpdateConsumer(ctx, StreamEvents, jetstream.ConsumerConfig{
		Durable: app, Description: "events of app " + app, FilterSubject: "otpost.app." + app + ".event.>",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: AckWait, MaxDeliver: -1, DeliverPolicy: jetstream.DeliverNewPolicy, Replicas: replicas,
	}); err != nil {
		return fmt.Errorf("declare the event consumer of app %s: %w", app, err)
	}
	return nil
}
