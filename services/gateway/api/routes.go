package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// A Route is one thing that an app can ask for, always with POST. The table of them is the one source of what the API serves, of schemas/openapi.yaml and of
// the tests of both.
type Route struct {
	Path      string
	Operation string // its operationId, unique
	Tag       string // what it is about
	Request   string // name of the request's schema; of a signal that of the event whose data it is
	Reply     string // name of the reply's schema
	Status    int    // of success
	Signal    bool   // the request is the data of an event

	act func(ctx context.Context, a *API, c call) ([]byte, error)
}

// A call is a request that may be carried out.
type call struct {
	id   string // of the request, for the log
	app  postgres.App
	body []byte
	key  string // the Idempotency-Key; empty for none
}

// What routes are about, in the order in which they are described.
const (
	tagLogin    = "Logins"
	tagFactors  = "Factors"
	tagDevices  = "Trusted devices"
	tagRecovery = "Recovery"
	tagSignals  = "Signals"
	tagPages    = "Hosted pages"
)

// Tags returns what routes are about, with a word on each.
func Tags() [][2]string {
	return [][2]string{
		{tagLogin, "A challenge, from its login to its answer."},
		{tagFactors, "The factors of a user, the backup codes, and what was done with them."},
		{tagDevices, "Browsers that skip the second factor."},
		{tagRecovery, "Getting back in after losing the factors."},
		{tagSignals, "What the app tells of its users."},
		{tagPages, "Leading a user to the hosted pages, and hearing what came of it."},
	}
}

// verbs is what apps may ask the workers for, by what it is about. Each is served under its own name with the bodies that it has over NATS.
var verbs = []struct{ tag, verb string }{
	{tagLogin, event.VerbLogin},
	{tagLogin, event.VerbVerify},
	{tagLogin, event.VerbResend},
	{tagLogin, event.VerbCancel},
	{tagLogin, event.VerbStatus},
	{tagLogin, event.VerbWebAuthnBegin},
	{tagFactors, event.VerbFactorBegin},
	{tagFactors, event.VerbFactorResend},
	{tagFactors, event.VerbFactorConfirm},
	{tagFactors, event.VerbFactorList},
	{tagFactors, event.VerbFactorRename},
	{tagFactors, event.VerbFactorPrefer},
	{tagFactors, event.VerbFactorRemove},
	{tagFactors, event.VerbFactorResync},
	{tagFactors, event.VerbBackupAcknowledge},
	{tagFactors, event.VerbBackupView},
	{tagFactors, event.VerbBackupRegenerate},
	{tagFactors, event.VerbDeactivateBegin},
	{tagFactors, event.VerbDeactivateConfirm},
	{tagFactors, event.VerbActivityList},
	{tagDevices, event.VerbDeviceList},
	{tagDevices, event.VerbDeviceRevoke},
	{tagDevices, event.VerbDeviceRenew},
	{tagRecovery, event.VerbRecoveryPreferences},
	{tagRecovery, event.VerbRecoveryAddress},
	{tagRecovery, event.VerbRecoveryConfirm},
	{tagRecovery, event.VerbRecoveryBegin},
	{tagRecovery, event.VerbRecoveryResend},
	{tagRecovery, event.VerbRecoveryProve},
	{tagRecovery, event.VerbRecoveryStatus},
	{tagRecovery, event.VerbRecoveryCancel},
}

// table is every route, in the order in which they are described.
var table = slices.Concat(asked(), signalled(), []Route{
	{
		Path: "/v1/" + event.PathPageSessions, Operation: "createPageSession", Tag: tagPages, Request: "http.page-sessions.request",
		Reply: "http.page-sessions.reply", Status: http.StatusOK, act: createVisit,
	},
	{
		Path: "/v1/" + event.PathPageResults, Operation: "redeemPageResult", Tag: tagPages, Request: "http.page-results.request",
		Reply: "http.page-results.reply", Status: http.StatusOK, act: redeemResult,
	},
})

// Routes returns every route.
func Routes() []Route { return slices.Clone(table) }

func asked() []Route {
	routes := make([]Route, len(verbs))
	for i, v := range verbs {
		routes[i] = Route{
			Path: "/v1/" + v.verb, Operation: camel(v.verb), Tag: v.tag, Request: "rpc." + v.verb + ".request", Reply: "rpc." + v.verb + ".reply", Status: http.StatusOK,
			act: func(ctx context.Context, a *API, c call) ([]byte, error) {
				return a.Asker.Raw(ctx, c.app.Name, v.verb, c.body)
			},
		}
	}
	return routes
}

func signalled() []Route {
	routes := make([]Route, 0, len(event.SignalNames()))
	for _, name := range event.SignalNames() {
		routes = append(routes, Route{
			Path: "/v1/signals/" + string(name), Operation: camel("signal." + string(name)), Tag: tagSignals, Request: string(name), Reply: "http.signals.reply",
			Status: http.StatusAccepted, Signal: true,
			act: func(ctx context.Context, a *API, c call) ([]byte, error) { return a.signal(ctx, name, c) },
		})
	}
	return routes
}

// camel makes a name for programs: "factor.begin" is factorBegin.
func camel(verb string) string {
	words := strings.FieldsFunc(verb, func(r rune) bool { return r == '.' || r == '_' })
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// signal publishes an event made of what the app posted. Its id is the Idempotency-Key, where that can be one.
func (a *API) signal(ctx context.Context, name event.SignalName, c call) ([]byte, error) {
	id := c.key
	if id == "" || otp.CheckID(id) != "" {
		id = newID()
	}
	now := a.Now()
	body, p := event.SignalFromData(c.app.Name, name, id, now, c.body)
	if p != nil {
		return nil, p
	}
	// The stream tells repeats by an id that is all apps' and all signals'.
	if err := a.Signals(ctx, c.app.Name, name, c.app.Name+"/"+string(name)+"/"+id, body); err != nil {
		return nil, unavailable(err)
	}
	return event.Encode(event.SignalReply{ID: id}), nil
}

func createVisit(ctx context.Context, a *API, c call) ([]byte, error) {
	r, p := event.Parse[event.PageSessionRequest](c.body)
	if p != nil {
		return nil, p
	}
	url, expires, err := a.Visits.Create(ctx, c.app, r)
	if err != nil {
		return nil, err
	}
	return event.Encode(event.PageSessionReply{URL: url, ExpiresAt: event.Time(expires)}), nil
}

func redeemResult(ctx context.Context, a *API, c call) ([]byte, error) {
	r, p := event.Parse[event.PageResultRequest](c.body)
	if p != nil {
		return nil, p
	}
	reply, err := a.Visits.Redeem(ctx, c.app, r.Result)
	if err != nil {
		return nil, err
	}
	return event.Encode(reply), nil
}
