package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// challengeRows gathers the columns of new challenges and of their first deliveries, as arrays for unnest.
type challengeRows struct {
	id, user, session, login, factor, amount, payee, locale pq.StringArray
	maskSMS, maskEmail, methods, nextSend, expires          pq.StringArray
	app, key, digits, attempts, sends, maxSends             pq.Int64Array
	nonce, toSMS, toEmail, testCode                         pq.ByteaArray
	channel, country, android, ipKey                        pq.StringArray

	first []NewDelivery
	tests []string // challenges whose first delivery is not sent
}

func (r *challengeRows) add(a Admission, c *NewChallenge) {
	id := a.Challenge.String()
	r.id, r.user, r.session, r.login = append(r.id, id), append(r.user, a.User), append(r.session, c.Session), append(r.login, c.Login)
	r.factor, r.locale = append(r.factor, string(c.Factor)), append(r.locale, c.Locale)
	var amount, payee string
	if c.Transaction != nil {
		amount, payee = c.Transaction.Amount, c.Transaction.Payee
	}
	r.amount, r.payee = append(r.amount, amount), append(r.payee, payee)
	r.maskSMS, r.maskEmail = append(r.maskSMS, c.MaskSMS), append(r.maskEmail, c.MaskEmail)
	r.methods = append(r.methods, strings.Join(c.Methods, ","))
	r.nextSend, r.expires = append(r.nextSend, stamp(c.NextSendAt)), append(r.expires, stamp(c.ExpiresAt))
	r.app, r.key, r.digits = append(r.app, int64(a.AppID)), append(r.key, int64(c.KeyID)), append(r.digits, int64(c.Digits))
	r.attempts, r.maxSends = append(r.attempts, int64(c.Attempts)), append(r.maxSends, int64(c.Sends))
	r.nonce, r.toSMS, r.toEmail = append(r.nonce, c.Nonce), append(r.toSMS, notNil(c.ToSMS)), append(r.toEmail, notNil(c.ToEmail))

	ip := ""
	if c.IPKey != uuid.Nil {
		ip = c.IPKey.String()
	}
	r.country, r.android, r.ipKey = append(r.country, c.Country), append(r.android, c.AndroidHash), append(r.ipKey, ip)
	r.testCode = append(r.testCode, notNil(c.TestCode))

	ch, sent := c.SendChannel()
	r.channel = append(r.channel, string(ch))
	if !sent {
		r.sends = append(r.sends, 0)
		return
	}
	r.sends = append(r.sends, 1)
	d := NewDelivery{Challenge: a.Challenge, Number: 1, Channel: ch, Mask: c.Mask(), Provider: c.Provider, Cost: c.Cost, Cause: CauseSend}
	if ch.Phone() {
		d.Country = c.Country
	}
	if c.Test {
		d.Provider, d.Cost = TestProvider, 0
		r.tests = append(r.tests, id)
	}
	r.first = append(r.first, d)
}

// TestProvider names the provider of what is for a test destination: nobody. No configured one may have the name.
const TestProvider = "test"

// SendChannel returns the channel that the first message goes over; ok is false for a factor that needs none.
func (c *NewChallenge) SendChannel() (ch otp.Channel, ok bool) {
	if c.Channel != "" && c.Channel.Factor() == c.Factor {
		return c.Channel, true
	}
	if ch, ok = c.Factor.Channel(); !ok {
		return "", false
	}
	return ch, true
}

// Mask returns the masked address of the challenge's own channel, empty for a factor without one.
func (c *NewChallenge) Mask() string {
	switch c.Factor {
	case "sms":
		return c.MaskSMS
	case "email":
		return c.MaskEmail
	default:
		return ""
	}
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (r *challengeRows) insert(ctx context.Context, tx *sqlx.Tx, now time.Time) error {
	if len(r.id) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, query("challenges_insert"), r.id, r.app, r.user, r.session, r.login, r.factor, r.nonce, r.key, r.digits,
		r.amount, r.payee, r.locale, r.toSMS, r.maskSMS, r.toEmail, r.maskEmail, r.methods, r.attempts, r.sends, r.maxSends, r.nextSend, now,
		r.expires, r.channel, r.country, r.android, r.ipKey, r.testCode); err != nil {
		return fmt.Errorf("store challenges: %w", err)
	}
	if err := addDeliveries(ctx, tx, now, r.first); err != nil {
		return err
	}
	return deliverTests(ctx, tx, now, r.tests)
}

// deliverTests marks the new deliveries of challenges to test destinations as delivered: nobody sends them.
func deliverTests(ctx context.Context, tx *sqlx.Tx, now time.Time, challenges []string) error {
	if len(challenges) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, query("deliveries_of_tests"), pq.StringArray(challenges), now); err != nil {
		return fmt.Errorf("store deliveries of tests: %w", err)
	}
	return nil
}
