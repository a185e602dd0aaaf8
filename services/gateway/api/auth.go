package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

const (
	// keyFresh is how old what is known of a key may be. A key that is revoked serves for no longer than this, and a look into the database.
	keyFresh = 2 * time.Second
	// keyKnown is for how long a key that was good is looked up again whatever else comes from the same address.
	keyKnown = 10 * time.Minute
)

// knownKeys is what is known of keys that were good when they were looked up. Of others nothing is kept, so that strangers cannot fill it.
type knownKeys struct {
	mu   sync.Mutex
	good map[[32]byte]knownKey
	used map[uuid.UUID]time.Time // uses that the database has not been told of
}

type knownKey struct {
	postgres.AppKey
	at time.Time
}

// authenticate returns the app whose key a request carries. Keys that are unknown, expired or revoked are all answered alike, and who tries many is slowed
// down.
func (a *API) authenticate(ctx context.Context, r *http.Request) (postgres.App, error) {
	now, from := a.Now(), web.ClientIP(r, a.Proxies)
	digest, ok := bearer(r)
	if !ok {
		return postgres.App{}, a.stranger(now, from)
	}
	known, was := a.keys.find(digest)
	if !was || now.Sub(known.at) >= keyFresh {
		if !was && a.failures.exhausted(now, from) { // who guesses does not reach the database
			return postgres.App{}, a.stranger(now, from)
		}
		key, err := a.Keys.ByDigest(ctx, digest)
		switch {
		case errors.Is(err, postgres.ErrNoKey):
			a.keys.forget(digest)
			return postgres.App{}, a.stranger(now, from)
		case err != nil:
			return postgres.App{}, err
		}
		known = knownKey{AppKey: key, at: now}
	}
	if !known.Good(now) {
		a.keys.forget(digest)
		return postgres.App{}, a.stranger(now, from)
	}
	app, err := a.Apps.ByID(ctx, known.AppID)
	if err != nil {
		return app, err
	}
	a.keys.remember(digest, known, now)
	return app, nil
}

// bearer returns the digest of the key in the Authorization header (RFC 6750, section 2.1).
func bearer(r *http.Request) (digest [32]byte, ok bool) {
	given := r.Header.Values("Authorization")
	if len(given) != 1 {
		return digest, false
	}
	scheme, key, found := strings.Cut(given[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return digest, false
	}
	return otp.APIKeyDigest(strings.TrimLeft(key, " "))
}

// stranger answers a request without a good key, and counts it against where it comes from.
func (a *API) stranger(now time.Time, from string) error {
	if wait, ok := a.failures.take(now, from); !ok {
		return &otp.Problem{Reason: otp.RateLimited, Message: "too many requests without a valid key have come from this address", RetryAfter: wait}
	}
	return &otp.Problem{Reason: event.Unauthorized, Message: "the request needs a key of the app that is valid now, as Authorization: Bearer otpost_..."}
}

func (k *knownKeys) find(digest [32]byte) (knownKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known, ok := k.good[digest]
	return known, ok
}

func (k *knownKeys) forget(digest [32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.good, digest)
}

// remember notes what was looked up and, to the minute, that the key was used.
func (k *knownKeys) remember(digest [32]byte, known knownKey, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if minute := now.Truncate(time.Minute); known.LastUsedAt.Before(minute) {
		k.used[known.ID], known.LastUsedAt = now, minute
	}
	k.good[digest] = known
}

// prune drops what was not looked up for long, and returns the uses that are to be written.
func (k *knownKeys) prune(now time.Time) map[uuid.UUID]time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	for digest, known := range k.good {
		if now.Sub(known.at) > keyKnown {
			delete(k.good, digest)
		}
	}
	used := k.used
	k.used = map[uuid.UUID]time.Time{}
	return used
}

// Run writes down when keys were used, and removes what has expired, until ctx ends.
func (a *API) Run(ctx context.Context) error {
	tick := time.NewTicker(a.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			a.noteUses(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
		}
		a.noteUses(ctx)
		a.apps.prune(a.Now())
		a.failures.prune(a.Now())
		for {
			n, err := a.Requests.Sweep(ctx, a.Now())
			if err != nil && ctx.Err() == nil {
				a.Logger.Warn("removing requests that have expired failed, it is tried again", "error", err)
			}
			if err != nil || n == 0 {
				break
			}
		}
	}
}

// noteUses writes down when keys were used. What cannot be written is lost: it is for people, who look at days.
func (a *API) noteUses(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for id, at := range a.keys.prune(a.Now()) {
		if err := a.Keys.Used(ctx, at, id); err != nil {
			a.Logger.Debug("noting the use of keys failed", "error", err)
			return
		}
	}
}
