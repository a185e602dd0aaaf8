package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// ErrNoChallenge says that there is no such challenge for the app (and session) that asked.
var ErrNoChallenge = errors.New("no such challenge")

// A Challenge is a stored challenge, as the challenge worker may read it.
type Challenge struct {
	ID             uuid.UUID
	AppID          int
	User           string
	Session, Login string
	Factor         otp.FactorKind
	Nonce          []byte
	KeyID          uint32
	Digits         int
	Transaction    *otp.Transaction
	Locale         string
	ToSMS, ToEmail []byte // sealed
	MaskSMS        string
	MaskEmail      string
	Methods        []string
	State          otp.State
	Attempts       int
	MaxAttempts    int
	Sends          int
	MaxSends       int
	NextSendAt     time.Time
	CreatedAt      time.Time
	ExpiresAt      time.Time
	EndedAt        time.Time   // zero while open
	Channel        otp.Channel // of the last send; empty where nothing was sent, and for a challenge of an older version
	LastDelivery   int         // the number of its last delivery; 0 for none
	AndroidHash    string      // of the Android app that is to find the code in a short message
	Country        string      // of the phone number, ISO 3166-1 alpha-2
	Test           bool        // to a test destination: nothing is ever sent
	IPKey          uuid.UUID   // what further sends are counted by, of the login's address; zero for none
	Deliveries     []Delivery
}

// SendChannel returns the channel of the last send, or the factor's own; ok is false for a factor that needs none.
func (c Challenge) SendChannel() (ch otp.Channel, ok bool) {
	if c.Channel != "" && c.Channel.Factor() == c.Factor {
		return c.Channel, true
	}
	return c.Factor.Channel()
}

// Destination returns the sealed address and its mask for a channel; ok is false where the challenge has none.
func (c Challenge) Destination(ch otp.Channel) (sealed []byte, mask string, ok bool) {
	switch ch.Address() {
	case otp.SMS:
		return c.ToSMS, c.MaskSMS, len(c.ToSMS) > 0
	case otp.Email:
		return c.ToEmail, c.MaskEmail, len(c.ToEmail) > 0
	}
	return nil, "", false
}

// A Delivery is one hand-over of a challenge's code.
type Delivery struct {
	Number    int // within the challenge, from 1
	Channel   otp.Channel
	State     otp.DeliveryState
	Mask      string
	Provider  string
	Reference string // the provider's own id
	Reason    string
	Tries     int
	Unsure    int
	CreatedAt time.Time
	UpdatedAt time.Time

	Country     string
	Cause       string    // send, failover or fallback
	Class       string    // of a failure
	Cost        int64     // millionths of the operator's currency
	DueAt       time.Time // when it is given up unless it is said to be delivered; zero for never, and once that was judged
	AbandonedAt time.Time // when another took its place; zero for none
	AcceptedAt  time.Time // zero while it was not
	DeliveredAt time.Time
}

// Causes of a delivery.
const (
	CauseSend     = "send"     // the login's, or the user asked for it
	CauseFailover = "failover" // the next provider of the route
	CauseFallback = "fallback" // the next channel
)

type challengeRow struct {
	ID          uuid.UUID      `db:"id"`
	AppID       int            `db:"app_id"`
	User        string         `db:"user_id"`
	Session     string         `db:"session"`
	Login       string         `db:"login"`
	Factor      string         `db:"factor"`
	Nonce       []byte         `db:"nonce"`
	KeyID       int64          `db:"key_id"`
	Digits      int            `db:"digits"`
	Amount      sql.NullString `db:"amount"`
	Payee       sql.NullString `db:"payee"`
	Locale      string         `db:"locale"`
	ToSMS       []byte         `db:"to_sms"`
	MaskSMS     string         `db:"mask_sms"`
	ToEmail     []byte         `db:"to_email"`
	MaskEmail   string         `db:"mask_email"`
	Methods     pq.StringArray `db:"methods"`
	State       string         `db:"state"`
	Attempts    int            `db:"attempts"`
	MaxAttempts int            `db:"max_attempts"`
	Sends       int            `db:"sends"`
	MaxSends    int            `db:"max_sends"`
	NextSendAt  time.Time      `db:"next_send_at"`
	CreatedAt   time.Time      `db:"created_at"`
	ExpiresAt   time.Time      `db:"expires_at"`
	EndedAt     sql.NullTime   `db:"ended_at"`
	Channel     string         `db:"channel"`
	Deliveries  int            `db:"deliveries"`
	AndroidHash string         `db:"android_hash"`
	Country     string         `db:"country"`
	Test        bool           `db:"test"`
	TestCode    []byte         `db:"test_code"`
	IPKey       uuid.NullUUID  `db:"ip_key"`
}

func (r challengeRow) challenge() Challenge {
	return Challenge{
		ID: r.ID, AppID: r.AppID, User: r.User, Session: r.Session, Login: r.Login, Factor: otp.FactorKind(r.Factor), Nonce: r.Nonce,
		KeyID: uint32(r.KeyID), Digits: r.Digits, Transaction: transaction(r.Amount, r.Payee), Locale: r.Locale, ToSMS: r.ToSMS, MaskSMS: r.MaskSMS,
		ToEmail: r.ToEmail, MaskEmail: r.MaskEmail, Methods: r.Methods, State: otp.State(r.State), Attempts: r.Attempts,
		MaxAttempts: r.MaxAttempts, Sends: r.Sends, MaxSends: r.MaxSends, NextSendAt: r.NextSendAt, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
		EndedAt: nullTime(r.EndedAt), Channel: otp.Channel(r.Channel), LastDelivery: max(r.Deliveries, r.Sends), AndroidHash: r.AndroidHash,
		Country: r.Country, Test: r.Test, IPKey: r.IPKey.UUID,
	}
}

func transaction(amount, payee sql.NullString) *otp.Transaction {
	if !amount.Valid {
		return nil
	}
	return &otp.Transaction{Amount: amount.String, Payee: payee.String}
}

// Details returns the challenges of the ids that exist, without their deliveries.
func (s *Challenges) Details(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]Challenge, error) {
	return details(ctx, s.db.x, ids)
}

func details(ctx context.Context, q sqlx.QueryerContext, ids []uuid.UUID) (map[uuid.UUID]Challenge, error) {
	var rows []challengeRow
	if err := sqlx.SelectContext(ctx, q, &rows, query("challenge_detail"), pq.Array(ids)); err != nil {
		return nil, fmt.Errorf("read challenges: %w", err)
	}
	out := make(map[uuid.UUID]Challenge, len(rows))
	for _, r := range rows {
		out[r.ID] = r.challenge()
	}
	return out, nil
}

// Pending returns the deliveries of challenges that have no outcome yet.
func (s *Challenges) Pending(ctx context.Context, ids []uuid.UUID) ([]Overdue, error) {
	var out []Overdue
	if err := s.db.x.SelectContext(ctx, &out, query("deliveries_pending_of"), pq.Array(ids)); err != nil {
		return nil, fmt.Errorf("read pending deliveries: %w", err)
	}
	return out, nil
}

// Status returns one challenge of an app with its deliveries, or ErrNoChallenge. Nonce, addresses and transaction are left out, so that the operator's
// role may ask.
func (s *Challenges) Status(ctx context.Context, appID int, id uuid.UUID) (Challenge, error) {
	var row challengeRow
	if err := s.db.x.GetContext(ctx, &row, query("challenge_status"), id); err != nil {
		if missing(err) {
			return Challenge{}, ErrNoChallenge
		}
		return Challenge{}, fmt.Errorf("read status: %w", err)
	}
	if row.AppID != appID {
		return Challenge{}, ErrNoChallenge
	}
	c := row.challenge()
	var err error
	c.Deliveries, err = deliveriesOf(ctx, s.db.x, id)
	return c, err
}

// Standing is Status for the challenge worker, who may know all of it. ErrNoChallenge says that the app has no such challenge.
func (s *Challenges) Standing(ctx context.Context, appID int, id uuid.UUID) (Challenge, error) {
	found, err := s.Details(ctx, []uuid.UUID{id})
	if err != nil {
		return Challenge{}, err
	}
	c, ok := found[id]
	if !ok || c.AppID != appID {
		return Challenge{}, ErrNoChallenge
	}
	c.Deliveries, err = deliveriesOf(ctx, s.db.x, id)
	return c, err
}

func deliveriesOf(ctx context.Context, q sqlx.QueryerContext, id uuid.UUID) ([]Delivery, error) {
	found, err := deliveriesOfEach(ctx, q, []uuid.UUID{id})
	return found[id], err
}

// deliveriesOfEach returns the deliveries of each challenge, in the order of their numbers.
func deliveriesOfEach(ctx context.Context, q sqlx.QueryerContext, ids []uuid.UUID) (map[uuid.UUID][]Delivery, error) {
	var rows []deliveryRow
	if err := sqlx.SelectContext(ctx, q, &rows, query("deliveries_of"), pq.Array(ids)); err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	out := make(map[uuid.UUID][]Delivery, len(ids))
	for _, r := range rows {
		out[r.Challenge] = append(out[r.Challenge], r.delivery())
	}
	return out, nil
}

type deliveryRow struct {
	Challenge uuid.UUID `db:"challenge_id"`
	Attempt   int       `db:"attempt"`
	Channel   string    `db:"channel"`
	State     string    `db:"state"`
	Mask      string    `db:"mask"`
	Provider  string    `db:"provider"`
	Reference string    `db:"reference"`
	Reason    string    `db:"reason"`
	Tries     int       `db:"tries"`
	Unsure    int       `db:"unsure"`
	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`

	Country     string       `db:"country"`
	Cause       string       `db:"cause"`
	Class       string       `db:"class"`
	Cost        int64        `db:"cost"`
	DueAt       sql.NullTime `db:"due_at"`
	AbandonedAt sql.NullTime `db:"abandoned_at"`
	AcceptedAt  sql.NullTime `db:"accepted_at"`
	DeliveredAt sql.NullTime `db:"delivered_at"`
}

func (r deliveryRow) delivery() Delivery {
	return Delivery{
		Number: r.Attempt, Channel: otp.Channel(r.Channel), State: otp.DeliveryState(r.State), Mask: r.Mask, Provider: r.Provider,
		Reference: r.Reference, Reason: r.Reason, Tries: r.Tries, Unsure: r.Unsure, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		Country: r.Country, Cause: r.Cause, Class: r.Class, Cost: r.Cost, DueAt: nullTime(r.DueAt), AbandonedAt: nullTime(r.AbandonedAt),
		AcceptedAt: nullTime(r.AcceptedAt), DeliveredAt: nullTime(r.DeliveredAt),
	}
}

// A Resend is one more send that was granted.
type Resend struct {
	NewDelivery
	SendsLeft int
}

// Resend grants one more send of an open challenge over a channel and stores its delivery, or says why not: ErrNoChallenge for an unknown id, app or
// session, otherwise an *otp.Problem. next says by which provider it goes, of the challenge as it stands, and may refuse it.
func (s *Challenges) Resend(ctx context.Context, now time.Time, c Challenge, ch otp.Channel, cooldown time.Duration,
	next func(tx Tx, c Challenge) (NewDelivery, error),
) (Resend, error) {
	_, mask, ok := c.Destination(ch)
	if !ok {
		return Resend{}, otp.InvalidField("channel", "is not one that this challenge has an address for")
	}
	var r Resend
	err := s.db.tx(ctx, "resend", func(tx *sqlx.Tx) error {
		r = Resend{}
		var got struct {
			Sends      int `db:"sends"`
			Deliveries int `db:"deliveries"`
		}
		err := tx.GetContext(ctx, &got, query("challenge_resend"), c.ID, c.AppID, c.Session, now, cooldown.Seconds(), string(ch.Factor()), string(ch))
		if missing(err) {
			return whyNot(ctx, tx, c.ID, c.AppID, c.Session, now)
		}
		if err != nil {
			return err
		}
		if got.Deliveries > MaxDeliveries {
			return &otp.Problem{Reason: otp.RateLimited, Message: "this challenge has no sends left"}
		}
		if c.Deliveries, err = deliveriesOf(ctx, tx, c.ID); err != nil {
			return err
		}
		if r.NewDelivery, err = next(Tx{tx}, c); err != nil {
			return err
		}
		if c.Test {
			r.Provider, r.Cost = TestProvider, 0
		}
		r.SendsLeft = c.MaxSends - got.Sends
		r.Challenge, r.Number, r.Channel, r.Mask, r.Cause = c.ID, got.Deliveries, ch, mask, CauseSend
		if err := addDeliveries(ctx, tx, now, []NewDelivery{r.NewDelivery}); err != nil || !c.Test {
			return err
		}
		return deliverTests(ctx, tx, now, []string{c.ID.String()})
	})
	return r, err
}

// Cancel ends an open challenge. event makes what the outbox is to hold. It returns ErrNoChallenge, or an *otp.Problem where the challenge had ended;
// one that was cancelled before is cancelled again without an event.
func (s *Challenges) Cancel(ctx context.Context, now time.Time, appID int, id uuid.UUID, session string,
	event func(user, login string) OutboxEvent,
) (events []OutboxEvent, err error) {
	err = s.db.tx(ctx, "cancel", func(tx *sqlx.Tx) error {
		var row struct {
			User  string `db:"user_id"`
			Login string `db:"login"`
		}
		err := tx.GetContext(ctx, &row, query("challenge_cancel"), id, appID, session, now)
		if missing(err) {
			why := whyNot(ctx, tx, id, appID, session, now)
			if p, ok := errors.AsType[*otp.Problem](why); ok && p.Reason == otp.ChallengeEnded && p.Message == otp.EndedProblem(otp.Cancelled).Message {
				return nil
			}
			return why
		}
		if err != nil {
			return err
		}
		events = []OutboxEvent{event(row.User, row.Login)}
		if err := withdraw(ctx, tx, now, []uuid.UUID{id}, string(otp.Cancelled)); err != nil {
			return err
		}
		return insertOutbox(ctx, tx, now, events)
	})
	return events, err
}

// whyNot tells why a conditional update of a challenge met no row. It asks in the same transaction: one that waited for a second connection
// would, with as many like it as there are connections, wait for ever.
func whyNot(ctx context.Context, tx *sqlx.Tx, id uuid.UUID, appID int, session string, now time.Time) error {
	found, err := details(ctx, tx, []uuid.UUID{id})
	if err != nil {
		return err
	}
	c, ok := found[id]
	switch {
	case !ok || c.AppID != appID || c.Session != session:
		return ErrNoChallenge
	case c.State.Ended():
		return otp.EndedProblem(c.State)
	case !now.Before(c.ExpiresAt):
		return otp.EndedProblem(otp.Expired)
	case c.Sends >= c.MaxSends:
		return &otp.Problem{Reason: otp.RateLimited, Message: "this challenge has no sends left"}
	case now.Before(c.NextSendAt):
		return &otp.Problem{Reason: otp.RateLimited, Message: "it is too soon to send again", RetryAfter: c.NextSendAt.Sub(now)}
	}
	return &otp.Problem{Reason: otp.Busy, Message: "the challenge is being changed; send the request again"}
}
