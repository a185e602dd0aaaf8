package client

import (
	"context"
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/event"
)

// This file is what an app tells of its users. Each signal is published through JetStream: once the call returns without an error, otpost will act on it.

// PasswordChanged tells that a user's password was changed: the trust in all browsers of the user ends.
func (c *Client) PasswordChanged(ctx context.Context, user string) error {
	return c.signal(ctx, event.PasswordChanged, event.SignalData{User: user})
}

// SignedOut tells that a session of a user has ended: the trust ends in the browser that last used it, or in all where session is empty.
func (c *Client) SignedOut(ctx context.Context, user, session string) error {
	return c.signal(ctx, event.SessionSignedOut, event.SignalData{User: user, Session: session})
}

// DeviceErased tells that a user's device was erased or lost: the trust in it ends, by its id, or in all where device is empty.
func (c *Client) DeviceErased(ctx context.Context, user, device string) error {
	return c.signal(ctx, event.DeviceErased, event.SignalData{User: user, Device: device})
}

// UserDeleted tells that a user is no more: otpost erases what it holds of them, and says so with user.erased. It cannot be undone.
func (c *Client) UserDeleted(ctx context.Context, user string) error {
	return c.signal(ctx, event.UserDeleted, event.SignalData{User: user})
}

// signal publishes a signal. What otpost would refuse for its form is refused here, with ErrInvalid.
func (c *Client) signal(ctx context.Context, name event.SignalName, data event.SignalData) error {
	body, err := c.envelope(newID(), "otpost."+string(name)+".v1", time.Now(), data)
	if err == nil {
		if _, p := event.ParseSignal(c.app, name, body); p != nil {
			err = invalid(p)
		}
	}
	if err == nil {
		err = c.publish(ctx, event.SignalSubject(c.app, name), body)
	}
	if err != nil {
		return fmt.Errorf("signal %s: %w", name, err)
	}
	return nil
}
