package client

import (
	"context"
	"time"

	"github.com/otpost/otpost/pkg/event"
)

// ListActivity asks what was done with a user's factors.
type ListActivity struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"` // marks what was done in this one
	Limit   int    `json:"limit,omitzero"`   // most lines, up to 100; 20 where it is 0
	Before  string `json:"before,omitzero"`  // of the last page, for what is older
}

// An ActivityPage is some of what was done with a user's factors.
type ActivityPage struct {
	Activity []Activity `json:"activity"`        // newest first
	Before   string     `json:"before,omitzero"` // for the next page; empty where there is nothing older
}

// An Action is something that was done with a user's factors, of the names that the contract lists.
type Action = event.Action

// Who did it.
const (
	ByUser     = event.ByUser // or the app for them
	ByApp      = event.ByApp
	BySupport  = event.BySupport
	ByOperator = event.ByOperator
	BySystem   = event.BySystem
)

// Activity is one thing that was done. Logins are not in it.
type Activity struct {
	At     time.Time `json:"at"`
	Action Action    `json:"action"`
	By     string    `json:"by"`              // one of the By constants
	Here   bool      `json:"here,omitzero"`   // in the session that was named
	Kind   Kind      `json:"kind,omitzero"`   // of a factor that was added, removed, suspended or refused
	Method Method    `json:"method,omitzero"` // of a recovery that was proven, or not: the proof
	How    string    `json:"how,omitzero"`    // of backup codes that were acknowledged: Saved, Printed or Copied
	Reason string    `json:"reason,omitzero"` // of what was removed, suspended, revoked or cancelled
	Left   *int      `json:"left,omitzero"`   // of a backup code that was used: how many were left
}

// Activity returns what was done with a user's factors, newest first, as the user may be shown it. Of an unknown user nothing was done. Errors: ErrInvalid
// for a Before of another user's page.
func (c *Client) Activity(ctx context.Context, l ListActivity) (ActivityPage, error) {
	return ask[ActivityPage](ctx, c, event.VerbActivityList, again, l)
}
