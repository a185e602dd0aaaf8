package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is what enrolment has to say to people: messages with a code or a notice, their deliveries, and the notices that wait to be written.

// A Message is one to one address. What it says is a code or a notice, or a notice with the code that cancels what it tells of.
type Message struct {
	ID        uuid.UUID     `db:"id"` // UUIDv7, also of its deliveries
	AppID     int           `db:"app_id"`
	User      string        `db:"user_id"`
	Channel   string        `db:"channel"`
	Purpose   string        `db:"purpose"`
	Sealed    []byte        `db:"sealed"`
	Mask      string        `db:"mask"`
	Locale    string        `db:"locale"`
	CodeID    uuid.NullUUID `db:"code_id"` // what the code is derived for
	Nonce     []byte        `db:"nonce"`
	KeyID     sql.NullInt64 `db:"key_id"`
	Digits    sql.NullInt64 `db:"digits"`
	Notice    []byte        `db:"notice"`     // JSON
	CreatedAt time.Time     `db:"created_at"` // of one that was read alone
	ExpiresAt time.Time     `db:"expires_at"`
}

// A Code is what a code is derived from, beside the key.
type Code struct {
	ID     uuid.UUID
	Nonce  []byte
	KeyID  uint32
	Digits int
}

// Code returns the code that the message carries; found is false where it carries none.
func (m Message) Code() (c Code, found bool) {
	return Code{ID: m.CodeID.UUID, Nonce: m.Nonce, KeyID: uint32(m.KeyID.Int64), Digits: int(m.Digits.Int64)}, m.CodeID.Valid //nolint:gosec // written as one
}

// SetCode makes the message carry a code.
func (m *Message) SetCode(c Code) {
	m.CodeID, m.Nonce = uuid.NullUUID{UUID: c.ID, Valid: true}, c.Nonce
	m.KeyID, m.Digits = sql.NullInt64{Int64: int64(c.KeyID), Valid: true}, sql.NullInt64{Int64: int64(c.Digits), Valid: true}
}

// Write stores a message with its first delivery, which the caller publishes after the commit.
func (a *Act) Write(m Message) error {
	return write(a.ctx, a.tx, a.Now, m)
}

func write(ctx context.Context, tx *sqlx.Tx, now time.Time, m Message) error {
	var notice sql.NullString
	if len(m.Notice) > 0 {
		notice = sql.NullString{String: string(m.Notice), Valid: true}
	}
	if _, err := tx.ExecContext(ctx, query("message_write"), m.ID, m.AppID, m.User, m.Channel, m.Purpose, m.Sealed, m.Mask, m.Locale, m.CodeID, m.Nonce,
		m.KeyID, m.Digits, notice, now, m.ExpiresAt); err != nil {
		return fmt.Errorf("store message: %w", err)
	}
	return deliver(ctx, tx, now, m, 1)
}

func deliver(ctx context.Context, tx *sqlx.Tx, now time.Time, m Message, number int) error {
	if _, err := tx.ExecContext(ctx, query("message_deliver"), m.ID, number, m.Channel, m.Mask, now); err != nil {
		return fmt.Errorf("store delivery: %w", err)
	}
	return nil
}

// WriteAgain stores a further delivery of a message, which says the same, and returns the message.
func (a *Act) WriteAgain(id uuid.UUID, number int) (Message, error) {
	m, found, err := a.Message(id)
	if err != nil || !found {
		return m, errOr(err, "message %s is not there", id)
	}
	return m, deliver(a.ctx, a.tx, a.Now, m, number)
}

func errOr(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(format, args...)
}

// Message returns a message of the user.
func (a *Act) Message(id uuid.UUID) (m Message, found bool, err error) {
	found, err = a.find(&m, "message_read", id, a.Who.AppID, a.Who.User)
	return m, found, err
}

// A Notice waits to be written to every confirmed address of a user.
type Notice struct {
	ID     uuid.UUID
	Who    Account
	Notice otp.Notice
	Detail []byte // JSON
	At     time.Time
}

func insertNotices(ctx context.Context, tx *sqlx.Tx, notices []Notice) error {
	for _, n := range notices {
		detail := n.Detail
		if len(detail) == 0 {
			detail = []byte("{}")
		}
		if _, err := tx.ExecContext(ctx, query("notice_add"), n.ID, n.Who.AppID, n.Who.User, string(n.Notice), string(detail), n.At); err != nil {
			return fmt.Errorf("store notice: %w", err)
		}
	}
	return nil
}

// Notify leaves a notice to be written.
func (a *Act) Notify(n otp.Notice, detail []byte) error {
	return insertNotices(a.ctx, a.tx, []Notice{{ID: uuid.Must(uuid.NewV7()), Who: a.Who, Notice: n, Detail: detail, At: a.Now}})
}

// A Recipient is where a notice goes.
type Recipient struct {
	Channel string    `db:"channel"`
	Sealed  []byte    `db:"sealed"`
	Mask    string    `db:"mask"`
	Message uuid.UUID `db:"-"` // the id of the message to it
	Limits  []Limit   `db:"-"` // what that counts in
}

// A Mailing is a notice in the making: to whom it may go, and in what language.
type Mailing struct {
	Notice
	Locale string
	To     []Recipient
	Lately map[string]int       // notices that the user was sent since the time given to WriteNotices, by channel
	Permit func(Recipient) bool // whether the limits let a message go to a recipient, which is counted then
}

// A Mailer makes the messages of notices.
type Mailer struct {
	// Address leaves out recipients that must not be written to, and gives those that stay what a message to them counts in and its id. An error leaves
	// all notices to the next round.
	Address func(*Mailing) error
	// Compose makes the messages of a notice. It asks the mailing's Permit for each.
	Compose func(Mailing) ([]Message, error)
	Alarm   func(Raised) OutboxEvent         // makes the event of an alarm, which is left in the outbox
	Refused func(Notice, Recipient, Verdict) // hears of a message that the limits have refused
	Failed  func(Notice, error)              // hears of a notice that could not be composed or stored
}

// WriteNotices takes up to limit notices that wait, lets the mailer make the messages of each, and stores those. A notice is taken once, by whichever worker
// comes first; one that fails is gone: it must not stand in the way of the others. taken is how many there were. All of them are charged in one ledger.
func (s *Enrolments) WriteNotices(ctx context.Context, now, since time.Time, limit int, by Mailer) (out []Message, taken int, err error) {
	err = s.db.tx(ctx, "write notices", func(tx *sqlx.Tx) error {
		mailings, err := takeNotices(ctx, tx, limit, by)
		if err != nil {
			return err
		}
		var limits []Limit
		for _, m := range mailings {
			for _, r := range m.To {
				limits = append(limits, r.Limits...)
			}
		}
		ledger, err := openLedger(ctx, tx, now, limits)
		if err != nil {
			return err
		}
		out, taken = nil, len(mailings)
		for _, m := range mailings {
			if _, err := tx.ExecContext(ctx, query("notice_try")); err != nil {
				return fmt.Errorf("write notice: %w", err)
			}
			var counted [][]Limit
			m.Permit = func(r Recipient) bool {
				v := ledger.Judge(r.Limits)
				if v.Refused() {
					if v.Limit.Warn > 0 {
						ledger.Reached(v.Limit)
					}
					by.Refused(m.Notice, r, v)
					return false
				}
				ledger.Count(r.Limits)
				counted = append(counted, r.Limits)
				return true
			}
			messages, err := mail(ctx, tx, now, since, m, by.Compose)
			if err != nil {
				if _, undone := tx.ExecContext(ctx, query("notice_undo")); undone != nil {
					return fmt.Errorf("write notice: %w", undone) // it was not the notice: all of them wait for the next round
				}
				for _, limits := range counted {
					ledger.uncount(limits)
				}
				by.Failed(m.Notice, err)
				continue
			}
			out = append(out, messages...)
		}
		if err := ledger.close(ctx, tx); err != nil {
			return err
		}
		var alarms []OutboxEvent
		for _, r := range ledger.takeRaised() {
			alarms = append(alarms, by.Alarm(r))
		}
		return insertOutbox(ctx, tx, now, alarms)
	})
	if err != nil {
		return nil, 0, err
	}
	return out, taken, nil
}

// takeNotices takes notices that wait, and finds out to whom each may go.
func takeNotices(ctx context.Context, tx *sqlx.Tx, limit int, by Mailer) ([]Mailing, error) {
	var rows []struct {
		ID     uuid.UUID `db:"id"`
		AppID  int       `db:"app_id"`
		User   string    `db:"user_id"`
		Notice string    `db:"notice"`
		Detail []byte    `db:"detail"`
		At     time.Time `db:"at"`
		Locale string    `db:"locale"`
	}
	if err := tx.SelectContext(ctx, &rows, query("notices_take"), limit); err != nil {
		return nil, fmt.Errorf("take notices: %w", err)
	}
	out := make([]Mailing, len(rows))
	for i, r := range rows {
		m := Mailing{Locale: r.Locale, Notice: Notice{
			ID: r.ID, Who: Account{AppID: r.AppID, User: r.User}, Notice: otp.Notice(r.Notice), Detail: r.Detail, At: r.At,
		}}
		if err := tx.SelectContext(ctx, &m.To, query("recipients"), m.Who.AppID, m.Who.User, m.At); err != nil {
			return nil, fmt.Errorf("find recipients: %w", err)
		}
		if err := by.Address(&m); err != nil {
			return nil, fmt.Errorf("find recipients: %w", err)
		}
		out[i] = m
	}
	return out, nil
}

// mail makes and stores the messages of one notice.
func mail(ctx context.Context, tx *sqlx.Tx, now, since time.Time, m Mailing, compose func(Mailing) ([]Message, error)) ([]Message, error) {
	var counts []struct {
		Channel string `db:"channel"`
		N       int    `db:"n"`
	}
	if err := tx.SelectContext(ctx, &counts, query("notices_lately"), m.Who.AppID, m.Who.User, since); err != nil {
		return nil, fmt.Errorf("count notices: %w", err)
	}
	m.Lately = make(map[string]int, len(counts))
	for _, c := range counts {
		m.Lately[c.Channel] = c.N
	}
	messages, err := compose(m)
	if err != nil {
		return nil, err
	}
	for _, msg := range messages {
		if err := write(ctx, tx, now, msg); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// An Unsent message has a delivery without an outcome.
type Unsent struct {
	Message
	Number  int `db:"attempt"`
	Earlier int `db:"-"` // messages that said the same before this one did, as far as is known
}

// Unsent returns up to limit deliveries of messages that have had no outcome for longer than grace, doubled each time that they were found. What nobody
// sent in its time is ended instead.
func (s *Enrolments) Unsent(ctx context.Context, now time.Time, grace time.Duration, limit int) ([]Unsent, error) {
	floor, ceiling := floorID(now.Add(-7*24*time.Hour)), newestOpen(now)
	if _, err := s.db.x.ExecContext(ctx, query("messages_expire"), now, floor, ceiling); err != nil {
		return nil, fmt.Errorf("end expired messages: %w", err)
	}
	var out []Unsent
	if err := s.db.x.SelectContext(ctx, &out, query("messages_unsent"), now, grace.Seconds(), limit, floor, ceiling); err != nil {
		return nil, fmt.Errorf("look for unsent messages: %w", err)
	}
	return out, nil
}

// DeliveryStates returns the state of the latest delivery of each message.
func (a *Act) DeliveryStates(ids []uuid.UUID) (map[uuid.UUID]otp.DeliveryState, error) {
	var rows []struct {
		ID    uuid.UUID `db:"challenge_id"`
		State string    `db:"state"`
	}
	if len(ids) == 0 {
		return nil, nil
	}
	if err := a.list(&rows, "message_states", pq.Array(ids)); err != nil {
		return nil, err
	}
	out := make(map[uuid.UUID]otp.DeliveryState, len(rows))
	for _, r := range rows {
		out[r.ID] = otp.DeliveryState(r.State)
	}
	return out, nil
}
