package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A receipt is one thing that a simulated provider tells of a message that it took. request makes the request that tells it to target, anew for each try.
type receipt struct {
	state   string
	request func(ctx context.Context, target string) (*http.Request, error)
}

// tell tells the receipts of a message in the background, as the fault has it. name is the provider's, and stands in target for {provider}; message is
// the provider's id of it, for the log. An empty target wants none.
func (in *Inbox) tell(name, message, target string, f Fault, receipts []receipt) {
	if target == "" || f.Lost || f.Outcome == outcomeNone {
		return
	}
	target = strings.ReplaceAll(target, "{provider}", name)
	if in.pending.Add(1) > int64(in.cfg.Max) {
		in.pending.Add(-1)
		in.counts.callbacksFailed.Add(1)
		in.log.Warn("receipts dropped: too many are waiting", "provider", name, "message", message)
		return
	}
	if f.Reversed {
		receipts = slices.Clone(receipts)
		slices.Reverse(receipts)
	}
	in.spawn(func() {
		defer in.pending.Add(-1)
		in.pause(f.ReceiptDelay, nil)
		for _, r := range receipts {
			for range 1 + f.Repeat {
				in.tellOnce(name, message, target, r)
			}
		}
	})
}

// tellOnce tells one receipt and gives up after callbackAttempts.
func (in *Inbox) tellOnce(name, message, target string, r receipt) {
	if !loopbackURL(target) {
		in.counts.callbacksFailed.Add(1)
		in.log.Warn("receipt not told: its target is not a loopback address", "provider", name, "message", message)
		return
	}
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	case <-in.ctx.Done():
		return
	}
	backoff := callbackBackoff
	for attempt := 1; ; attempt++ {
		err := in.requestReceipt(target, r)
		if err == nil {
			in.counts.callbacks.Add(1)
			in.calledBack(name)
			return
		}
		if in.ctx.Err() != nil {
			return
		}
		if attempt == callbackAttempts {
			in.counts.callbacksFailed.Add(1)
			in.log.Warn("receipt given up", "provider", name, "message", message, "state", r.state, "attempts", attempt, "error", err)
			return
		}
		in.pause(backoff, nil)
		backoff *= 2
	}
}

func (in *Inbox) requestReceipt(target string, r receipt) error {
	ctx, cancel := context.WithTimeout(in.ctx, callbackTimeout)
	defer cancel()
	req, err := r.request(ctx, target)
	if err != nil {
		return fmt.Errorf("making the receipt: %w", err)
	}
	res, err := in.callbacks.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, whose query is the app's business
		}
		return fmt.Errorf("telling the receipt: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the receipt was answered with %d", res.StatusCode)
	}
	return nil
}
