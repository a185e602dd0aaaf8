// Package verification is the worker that checks answers: channel codes, authenticator apps, hardware tokens, YubiKeys, security keys and backup codes.
//
// What it promises: an attempt is taken before anything is compared and failed attempts are committed before they are answered; a challenge is
// verified at most once, and a TOTP step, a token's counter, a backup code and what a security key has signed are accepted at most once, whatever comes
// at once; all that concerns one account takes its turn. An answer tells an attacker nothing: a wrong session is an unknown challenge. A browser is
// trusted only with a right answer, and its token is told once. What it holds: the keys to derive codes and to open secrets of factors; it cannot open
// an address, nor a backup code, which it knows by a digest.
package verification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/otpost/otpost/pkg/apps"
	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/requests"
	"github.com/otpost/otpost/pkg/telemetry"
)

// Config is what the worker is made of.
type Config struct {
	DB      *postgres.DB // connected as role verification
	Bus     *bus.Bus     // connected as role verification
	Keys    *keyring.Ring
	Metrics *telemetry.Metrics
	Logger  *slog.Logger
	Now     func() time.Time
	Version string // semantic version, for discovery
}

// A Worker checks answers. Any number of them may run.
type Worker struct {
	Config
	store   *postgres.Verifications
	apps    *apps.Cache
	outbox  *outbox.Publisher
	answers *bus.Batcher[*answer]
	desk    *requests.Desk // all other requests
}

const (
	maxBatch = 256
	// maxRounds bounds how often an answer may give way to another one of its account; then it is told to come again.
	maxRounds = 256
)

// An answer is one request in hand.
type answer struct {
	event.Answer
	app     postgres.App
	request *bus.Request

	rounds   int      // that it has waited
	material material // what it is compared with
	reply    event.VerifyReply
	problem  *otp.Problem // takes the reply's place
}

// New returns a Worker.
func New(cfg Config) *Worker {
	w := &Worker{
		Config: cfg, store: postgres.NewVerifications(cfg.DB), apps: apps.New(postgres.NewApps(cfg.DB), cfg.Logger),
		outbox: outbox.New(cfg.Bus, postgres.NewOutbox(cfg.DB), cfg.Logger, cfg.Now),
	}
	w.desk = requests.New(requests.Config{Apps: w.apps, Metrics: cfg.Metrics, Logger: cfg.Logger})
	w.answers = bus.NewBatcher(maxBatch, 2, w.judge, func(a *answer, panicked any) {
		w.Logger.Error("an answer panicked", "app", a.App, "challenge", a.Challenge, "panic", fmt.Sprint(panicked))
		a.request.Fail(otp.AsProblem(requests.ErrPanicked))
	})
	return w
}

// Run works until ctx ends and what was in hand is answered.
func (w *Worker) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var behind errgroup.Group
	behind.Go(func() error { return w.apps.Run(background) })
	behind.Go(func() error { return w.outbox.Run(background) })
	judging, stopJudging := context.WithCancel(background)
	defer stopJudging()
	judged := make(chan error, 1)
	go func() { judged <- w.answers.Run(judging) }()

	verbs := w.desk.Handlers("", map[string]requests.Answer{
		event.VerbWebAuthnBegin: requests.Verb(w.desk, w.webauthnBegin),
		event.VerbFactorResync:  requests.Verb(w.desk, w.factorResync),
	})
	verbs[event.VerbVerify] = w.verify // many are judged together
	err := w.Bus.Serve(ctx, bus.Service{
		Name: "verification", Version: w.Version, Description: "otpost: checks answers to challenges",
		Verbs: verbs, Internal: w.desk.Handlers("internal.", map[string]requests.Answer{event.VerbCheck: w.check}),
	})
	w.desk.Drain()
	stopJudging()
	err = errors.Join(err, <-judged)
	stop()
	return errors.Join(err, behind.Wait())
}

func (w *Worker) verify(r *bus.Request) {
	parsed, p := event.ParseVerify(r.App, r.Data)
	if p != nil {
		r.Fail(p)
		return
	}
	if !w.answers.Add(&answer{Answer: parsed, request: r}) {
		r.Fail(requests.Busy(requests.TooMany))
	}
}

// judge answers a batch. Of each account one answer is judged in a transaction; a further one of the same account goes back into the queue, behind what
// has come meanwhile: whoever floods one account delays nobody else.
func (w *Worker) judge(ctx context.Context, batch []*answer) {
	batch = w.withApps(ctx, batch)
	if len(batch) == 0 {
		return
	}
	for _, a := range w.round(ctx, batch) {
		if a.rounds++; a.rounds == maxRounds || !w.answers.Add(a) {
			a.request.Fail(requests.Busy("too many answers for one account at once; send this one again"))
		}
	}
}

// withApps finds the apps of the answers and replies to those that have none.
func (w *Worker) withApps(ctx context.Context, batch []*answer) []*answer {
	kept := batch[:0]
	for _, a := range batch {
		app, err := w.apps.Get(ctx, a.App)
		if err != nil {
			a.request.Fail(requests.AppProblem(err))
			continue
		}
		a.app = app
		kept = append(kept, a)
	}
	return kept
}

// round judges the first answer of each account, replies, and returns the others.
func (w *Worker) round(ctx context.Context, batch []*answer) (rest []*answer) {
	ids := make([]uuid.UUID, len(batch))
	for i, a := range batch {
		ids[i] = a.Challenge
	}
	found, err := w.store.Find(ctx, ids)
	if err != nil {
		w.failed(batch, err)
		return nil
	}
	var turn []*answer
	var owners []postgres.Account
	var turnIDs []uuid.UUID
	taken := make(map[postgres.Account]bool, len(batch))
	for _, a := range batch {
		c, ok := found[a.Challenge]
		if !ok || c.AppID != a.app.ID || c.Session != a.Session {
			w.answer(a, event.VerifyReply{Result: event.ResultUnknown})
			continue
		}
		owner := postgres.Account{AppID: c.AppID, User: c.User}
		if taken[owner] {
			rest = append(rest, a)
			continue
		}
		taken[owner] = true
		turn, owners, turnIDs = append(turn, a), append(owners, owner), append(turnIDs, a.Challenge)
	}
	if len(turn) == 0 {
		return rest
	}
	w.take(ctx, turn, turnIDs, owners)
	return rest
}

// take judges answers of different accounts in one transaction and replies to them.
func (w *Worker) take(ctx context.Context, turn []*answer, ids []uuid.UUID, owners []postgres.Account) {
	now := w.Now()
	events, err := w.store.Judge(ctx, now, ids, owners, &panel{worker: w, answers: turn, now: now})
	if postgres.Refused(err) && len(turn) > 1 { // one of them is at fault: each alone
		for i := range turn {
			w.take(ctx, turn[i:i+1], ids[i:i+1], owners[i:i+1])
		}
		return
	}
	if err != nil {
		w.failed(turn, err)
		return
	}
	w.outbox.Send(events)
	for _, a := range turn {
		if a.problem != nil {
			a.request.Fail(a.problem)
			continue
		}
		w.answer(a, a.reply)
	}
}

func (w *Worker) answer(a *answer, r event.VerifyReply) {
	a.request.Reply(event.Encode(r))
	w.Metrics.Verifications.WithLabelValues(r.Result).Inc()
	w.Metrics.VerificationSeconds.Observe(time.Since(a.request.At).Seconds())
}

// failed answers when nothing was judged.
func (w *Worker) failed(batch []*answer, err error) {
	if postgres.Refused(err) {
		w.Logger.Error("judging an answer failed", "error", err)
		w.fail(batch, otp.AsProblem(err))
		return
	}
	w.Logger.Warn("judging answers failed, their apps are told to ask again", "count", len(batch), "error", err)
	w.fail(batch, requests.Busy("the answer could not be checked now; send it again"))
}

func (w *Worker) fail(batch []*answer, p *otp.Problem) {
	for _, a := range batch {
		a.request.Fail(p)
	}
}
