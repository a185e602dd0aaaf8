package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/otpost/otpost/pkg/bounce"
)

// This file is what Bounces says to an IMAP server (RFC 9051; RFC 3501 does).

// look reads what has come to the mailbox since. What it could deal with before it failed stays dealt with.
func (b *Bounces) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, passWithin)
	defer cancel()
	c, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	// The client waits for an answer without end, so that what bounds this look has to take the connection away.
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := b.read(ctx, c); err != nil {
		return err
	}
	return said("LOGOUT", c.Logout().Wait())
}

func (b *Bounces) connect(ctx context.Context) (*imapclient.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", b.address)
	if err != nil {
		return nil, fmt.Errorf("connecting to the mailbox: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	options := &imapclient.Options{TLSConfig: b.tlsConfig()}
	var c *imapclient.Client
	switch {
	case b.implicit:
		secure := tls.Client(conn, b.tlsConfig())
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("connecting to the mailbox: TLS: %w", err)
		}
		c = imapclient.New(secure, options)
	case isLoopback(b.host):
		c = imapclient.New(conn, options)
	default:
		if c, err = imapclient.NewStartTLS(conn, options); err != nil {
			return nil, fmt.Errorf("connecting to the mailbox: STARTTLS: %w", err)
		}
	}
	if err := c.WaitGreeting(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("connecting to the mailbox: %w", err)
	}
	if err := c.Login(b.user, b.Password).Wait(); err != nil {
		_ = c.Close()
		return nil, said("LOGIN", err)
	}
	return c, nil
}

// read deals with what is unread and looks like a report.
func (b *Bounces) read(ctx context.Context, c *imapclient.Client) error {
	box, err := c.Select(b.mailbox, nil).Wait()
	if err != nil {
		return said("SELECT", err)
	}
	if b.leftOfValidity != box.UIDValidity || len(b.left) > maxLeft { // the same numbers stand for other mails now (RFC 9051, section 2.3.1.1)
		clear(b.left)
		b.leftOfValidity = box.UIDValidity
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{
		NotFlag: []imap.Flag{imap.FlagSeen, imap.FlagDeleted},
		Header:  []imap.SearchCriteriaHeaderField{{Key: "Content-Type", Value: "multipart/report"}},
	}, nil).Wait()
	if err != nil {
		return said("SEARCH", err)
	}
	dealt := 0
	for _, uid := range found.AllUIDs() {
		if b.left[uint32(uid)] {
			continue
		}
		if dealt++; dealt > mailsAtOnce {
			break
		}
		raw, err := fetch(c, uid)
		if err != nil {
			return err
		}
		if raw == nil { // somebody was faster
			continue
		}
		f, err := b.tell(ctx, raw)
		if err != nil {
			return err
		}
		if f == leave {
			b.left[uint32(uid)] = true
			continue
		}
		if err := b.settle(c, uid, b.Delete && f == done); err != nil {
			return err
		}
	}
	return nil
}

// fetch returns a mail, up to bounce.MaxSize of it: what a notification says comes before the mail that it returns. It is nil where the mail is gone.
func fetch(c *imapclient.Client, uid imap.UID) ([]byte, error) {
	cmd := c.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{
		{Peek: true, Partial: &imap.SectionPartial{Size: bounce.MaxSize}},
	}})
	var raw []byte
	var failed error
	for m := cmd.Next(); m != nil; m = cmd.Next() {
		for item := m.Next(); item != nil; item = m.Next() {
			body, ok := item.(imapclient.FetchItemDataBodySection)
			if !ok || body.Literal == nil {
				continue
			}
			if raw, failed = io.ReadAll(io.LimitReader(body.Literal, bounce.MaxSize)); failed != nil {
				break
			}
		}
	}
	if err := errors.Join(failed, cmd.Close()); err != nil {
		return nil, said("FETCH", err)
	}
	return raw, nil
}

// settle marks a mail as read, or deletes it. Where the server cannot delete one mail alone (RFC 4315) it is marked as deleted only: others' mails would go
// with it.
func (b *Bounces) settle(c *imapclient.Client, uid imap.UID, remove bool) error {
	flags := []imap.Flag{imap.FlagSeen}
	if remove {
		flags = append(flags, imap.FlagDeleted)
	}
	one := imap.UIDSetNum(uid)
	if err := c.Store(one, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: flags}, nil).Close(); err != nil {
		return said("STORE", err)
	}
	if !remove || !c.Caps().Has(imap.CapUIDPlus) && !c.Caps().Has(imap.CapIMAP4rev2) {
		return nil
	}
	return said("EXPUNGE", c.UIDExpunge(one).Close())
}

// said describes what a server answered to a command: its code and not its text, which may quote what it likes.
func said(command string, err error) error {
	if err == nil {
		return nil
	}
	if answer, ok := errors.AsType[*imap.Error](err); ok {
		return fmt.Errorf("the mailbox's server answered %s with %s %s", command, answer.Type, answer.Code)
	}
	return fmt.Errorf("asking the mailbox's server to %s: %w", command, err)
}
