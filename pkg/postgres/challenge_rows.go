package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// challengeRows gathers the columns of new challenges and of their first deliveries, as arrays for unnest.
type challengeRows struct {
	id, user, session, login, factor, amount, payee, locale pq.StringArray
	maskSMS, maskEmail, methods, nextSend, expires          pq.StringArray
	app, key, digits, attempts, sends, maxSends             pq.Int64Array
	nonce, toSMS, toEmail                                   pq.ByteaArray

	delivered, channel, mask pq.StringArray
	number                   pq.Int64Array
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

	sent := int64(0)
	if ch, ok := c.Factor.Channel(); ok {
		sent = 1
		r.delivered, r.number = append(r.delivered, id), append(r.number, 1)
		r.channel, r.mask = append(r.channel, string(ch)), append(r.mask, c.Mask())
	}
	r.sends = append(r.sends, sent)
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
		r.expires); err != nil {
		return fmt.Errorf("store challenges: %w", err)
	}
	if len(r.delivered) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, query("deliveries_insert"), r.delivered, r.number, r.channel, r.mask, now); err != nil {
		return fmt.Errorf("store deliveries: %w", err)
	}
	return nil
}
