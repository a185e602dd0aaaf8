package email

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"github.com/otpost/otpost/pkg/delivery"
)

// A result is how one mail transaction ended.
type result struct {
	accepted delivery.Accepted
	err      *delivery.Error // nil: accepted
	keep     bool            // the connection can take another message
	stale    bool            // the connection was a kept one and failed before the server learnt anything of the message
}

// failure returns the result's error, a true nil when there is none.
func (r *result) failure() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// transact sends l over c within SendTimeout and ctx, then hands c back to the pool or closes it.
func (s *SMTP) transact(ctx context.Context, c *conn, l *letter) result {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SendTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	r := s.converse(ctx, c, l)
	if stop() && r.keep {
		s.pool.put(c)
	} else {
		c.raw.Close()
	}
	return r
}

// converse is one mail transaction (RFC 5321, section 3.3). Once the server has accepted the message nothing that follows counts.
func (s *SMTP) converse(ctx context.Context, c *conn, l *letter) result {
	fail := func(at stage, err error) result {
		return result{err: failure(at, because(ctx, err)), keep: keeps(err)}
	}
	// withdraw ends a transaction that the server has begun and will not finish.
	withdraw := func(at stage, err error) result {
		r := fail(at, err)
		r.keep = r.keep && c.client.Reset() == nil
		return r
	}

	if l.utf8 {
		if offered, _ := c.client.Extension("SMTPUTF8"); !offered {
			return result{keep: true, err: &delivery.Error{Class: delivery.Permanent, Reason: "the address needs SMTPUTF8, which the server does not offer"}}
		}
	}
	// Asked for where no address needs it, SMTPUTF8 makes relays bounce what the next server could have taken.
	c.client.SkipSMTPUTF8(!l.utf8)

	c.messages++
	if err := s.mail(ctx, c, l.from); err != nil {
		r := fail(stageMail, err)
		r.stale = c.kept && isGone(err)
		return r
	}
	if err := c.client.Rcpt(l.to); err != nil {
		return withdraw(stageRcpt, err)
	}
	w, err := c.client.Data()
	if err != nil {
		return withdraw(stageData, err)
	}
	if _, err := w.Write(l.text); err != nil {
		return fail(stageText, err)
	}
	if err := w.Close(); err != nil {
		// Close does not tell a dot that could not be written from a reply that did not come; the buffered writer below remembers.
		if unwritten := c.client.Text.Writer.W.Flush(); unwritten != nil {
			return fail(stageText, unwritten)
		}
		// Any 2yz takes the message (RFC 5321, section 4.2.1), though 250 is the one to be expected.
		reply, ok := errors.AsType[*textproto.Error](err)
		if !ok || reply.Code < 200 || reply.Code > 299 {
			return fail(stageReply, err)
		}
		return result{accepted: delivery.Accepted{Reference: queueID(reply.Msg)}}
	}
	var text string
	if d, ok := w.(*smtp.DataCloser); ok {
		text = d.ServerResponse()
	}
	return result{accepted: delivery.Accepted{Reference: queueID(text)}, keep: true}
}

// mail sends MAIL. On a kept connection it waits for the reply for half of the time only: a NAT device may have dropped the
// connection without a word, and the other half is for a fresh one.
func (s *SMTP) mail(ctx context.Context, c *conn, from string) error {
	deadline, _ := ctx.Deadline()
	if c.kept {
		if err := c.raw.SetDeadline(time.Now().Add(time.Until(deadline) / 2)); err != nil {
			return fmt.Errorf("setting the deadline: %w", err)
		}
	}
	if err := c.client.Mail(from); err != nil {
		return err
	}
	if err := c.raw.SetDeadline(time.Time{}); err != nil { // ctx, which closes the connection, goes on ruling
		return fmt.Errorf("clearing the deadline: %w", err)
	}
	return nil
}

// isGone reports whether a kept connection's first command met no server, or one that was hanging up.
func isGone(err error) bool {
	reply, replied := errors.AsType[*textproto.Error](err)
	return !replied || reply.Code == 421
}

// because adds to err, the failure of a connection that ctx closed, why it was closed.
func because(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if _, replied := errors.AsType[*textproto.Error](err); replied {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// queueIDs are the ways in which servers name the message they took: "queued as 4XyZ" (Postfix), "OK id=1tAbc-0001" (Exim,
// Exchange's InternalId), "Ok 0102018f" (Amazon SES). None may match an address.
var queueIDs = []*regexp.Regexp{
	regexp.MustCompile(`(?i)\bqueued as <?([A-Za-z0-9._-]{4,128})>?(?:\s|$)`),
	regexp.MustCompile(`(?i)\b(?:internal)?id=([A-Za-z0-9._-]{4,128})\b`),
	regexp.MustCompile(`(?i)^(?:2\.\d\.\d )?ok ([A-Za-z0-9._-]{16,128})$`),
}

// queueID finds the server's own name of the message in its last reply. It is empty when the reply has none that is known.
func queueID(reply string) string {
	for _, form := range queueIDs {
		if m := form.FindStringSubmatch(reply); m != nil {
			return m[1]
		}
	}
	return ""
}
