package pages

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is how a visit ends: what it came to, the way back to the app, and the app's asking for it.

// An outcome is what a visit came to, beside whose it is.
type outcome struct {
	Outcome    string
	Challenge  uuid.UUID
	Factor     string
	AMR        []string
	VerifiedAt string
	Device     string
}

// finish ends the visit and leads back to the app, with a token by which the app learns the outcome, once.
func (v *visit) finish(ctx context.Context, o outcome) error {
	reply := event.PageResultReply{
		Page: v.row.Page, Outcome: o.Outcome, User: v.row.User, Session: v.row.Session, Factor: o.Factor, AMR: o.AMR, VerifiedAt: o.VerifiedAt, Device: o.Device,
	}
	if o.Challenge != uuid.Nil {
		reply.Challenge = o.Challenge.String()
	}
	token, digest := web.Token()
	sealed, err := v.p.Keys.Seal(keyring.Page, event.Encode(reply), resultBound(digest))
	if err != nil {
		return err
	}
	now := v.p.Now()
	if err := v.p.Store.End(ctx, now, v.row, postgres.PageResult{Digest: digest, Sealed: sealed, ExpiresAt: now.Add(resultLife)}); err != nil {
		return err
	}
	web.DropCookie(v.w, cookieName)
	http.Redirect(v.w, v.r, withQuery(v.row.ReturnURL, "otpost_result", token), http.StatusSeeOther) //nolint:gosec // one that the operator has allowed
	return nil
}

func resultBound(digest [32]byte) []byte {
	return []byte("otpost/result/v1/" + base64.RawURLEncoding.EncodeToString(digest[:]))
}

// Redeem tells an app what a visit came to, once. postgres.ErrNoResult stands for a token that is unknown, redeemed, expired or another app's.
func (p *Pages) Redeem(ctx context.Context, app postgres.App, token string) (event.PageResultReply, error) {
	var reply event.PageResultReply
	digest := web.Digest(token)
	sealed, err := p.Store.Redeem(ctx, p.Now(), app.ID, digest)
	if err != nil {
		return reply, err
	}
	text, err := p.Keys.Open(keyring.Page, sealed, resultBound(digest))
	if err != nil {
		return reply, fmt.Errorf("open a page result: %w", err)
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return reply, fmt.Errorf("read a page result: %w", err)
	}
	return reply, nil
}

// withQuery adds a parameter to an address, in place of one of its name. What else is in the query stays as it is.
func withQuery(raw, name, value string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw // it was checked when the visit was made
	}
	var query []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(key); pair != "" && (err != nil || plain != name) {
			query = append(query, pair)
		}
	}
	u.RawQuery = strings.Join(append(query, url.QueryEscape(name)+"="+url.QueryEscape(value)), "&")
	return u.String()
}

// leave ends the visit where the user wants no more.
func (p *Pages) leave(ctx context.Context, v *visit) error {
	if v.row.Page == event.PageChallenge { // nobody answers it any more; that it may have ended already does not matter
		_, err := call[event.CancelReply](ctx, v, event.VerbCancel, event.CancelRequest{Challenge: v.row.Challenge.String(), Session: v.row.Session})
		if err != nil && reason(err) == "" {
			return err
		}
	}
	return v.finish(ctx, outcome{Outcome: v.leaving()})
}

// leaving is what a visit comes to that the user ends.
func (v *visit) leaving() string {
	if v.state.Settings != nil && v.state.Settings.Deactivated {
		return event.OutcomeDeactivated
	}
	switch v.row.Page {
	case event.PageSettings, event.PageBackupCodes:
		return event.OutcomeDone
	case event.PageSetup:
		if v.enrolled() {
			return event.OutcomeEnrolled
		}
	}
	return event.OutcomeCancelled
}
