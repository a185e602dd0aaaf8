// Package event is the contract in Go: the subjects that otpost speaks on and one type for each event, request, reply and internal
// message. schemas/events/v1 holds the same contract as JSON Schema; the package's tests prove that the two say the same of every example.
//
// Whatever comes from outside is decoded by this package and nowhere else. Decoding is strict (RFC 8259, unique and known names, no null,
// valid UTF-8) and a refusal is an *otp.Problem that names the field.
package event

import (
	"strings"

	"github.com/otpost/otpost/pkg/otp"
)

// Subjects that are not an app's.
const (
	WorkPrefix    = "otpost.work."
	ReceiptPrefix = "otpost.receipt."
	DeadPrefix    = "otpost.dead."

	appPrefix      = "otpost.app."
	supportPrefix  = "otpost.support."
	internalPrefix = "otpost.internal."
)

// The verbs that apps may request, the last token of an RPC subject.
const (
	VerbVerify = "verify"
	VerbLogin  = "login"
	VerbResend = "resend"
	VerbCancel = "cancel"
	VerbStatus = "status"
)

// LoginSubject is where an app publishes its login events.
func LoginSubject(app string) string { return appPrefix + app + ".login" }

// RPCSubject is where an app sends a request; "*" for app stands for every app.
func RPCSubject(app, verb string) string { return appPrefix + app + ".rpc." + verb }

// EventSubject is where an app hears an event.
func EventSubject(app string, name Name) string { return appPrefix + app + ".event." + string(name) }

// SupportSubject is where a support agent sends a request; "*" for agent stands for every agent.
func SupportSubject(agent, verb string) string { return supportPrefix + agent + ".rpc." + verb }

// AgentOf returns the agent that a subject of support belongs to; ok is false for any other subject.
func AgentOf(subject string) (agent string, ok bool) {
	rest, ok := strings.CutPrefix(subject, supportPrefix)
	if !ok {
		return "", false
	}
	agent, verb, ok := strings.Cut(rest, ".rpc.")
	return agent, ok && verb != "" && otp.ValidApp(agent)
}

// InternalSubject is where one worker asks another. No app and no agent can send there.
func InternalSubject(verb string) string { return internalPrefix + verb }

// WorkSubject is where the commands to one channel's workers go.
func WorkSubject(c otp.Channel) string { return WorkPrefix + string(c) }

// ReceiptSubject is where one channel's workers tell what became of a delivery.
func ReceiptSubject(c otp.Channel) string { return ReceiptPrefix + string(c) }

// ReportSubject is where the gateway passes on what providers say of deliveries.
const ReportSubject = ReceiptPrefix + "provider"

// Subjects of the stream of timers: one is set below TimerPrefix, and comes back on DueSubject when its time has come.
const (
	TimerPrefix = "otpost.timer.set."
	DueSubject  = "otpost.timer.due"
)

// TimerSubject is where the timer of a delivery is set.
func TimerSubject(delivery string) string { return TimerPrefix + delivery }

// AppOf returns the app that an app's subject belongs to; ok is false for any other subject.
func AppOf(subject string) (app string, ok bool) {
	rest, ok := strings.CutPrefix(subject, appPrefix)
	if !ok {
		return "", false
	}
	app, _, ok = strings.Cut(rest, ".")
	return app, ok && otp.ValidApp(app)
}
