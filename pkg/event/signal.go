package event

import (
	"slices"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// A SignalName is the name of a signal from an app: the tail of its subject, and of its type between "otpost." and ".v1".
type SignalName string

// The signals of this version.
const (
	PasswordChanged  SignalName = "password.changed"
	SessionSignedOut SignalName = "session.signed_out"
	DeviceErased     SignalName = "device.erased"
	UserDeleted      SignalName = "user.deleted"
)

// SignalNames returns the signals of this version.
func SignalNames() []SignalName {
	return []SignalName{PasswordChanged, SessionSignedOut, DeviceErased, UserDeleted}
}

// SignalSubject is where an app publishes a signal; "*" for app stands for every app.
func SignalSubject(app string, name SignalName) string {
	return appPrefix + app + ".signal." + string(name)
}

// SignalOf returns the name that a signal's subject ends with; ok is false for any other subject.
func SignalOf(subject string) (name SignalName, ok bool) {
	rest, ok := strings.CutPrefix(subject, appPrefix)
	_, tail, found := strings.Cut(rest, ".signal.")
	return SignalName(tail), ok && found
}

// SignalData is the data of a signal.
type SignalData struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"` // of session.signed_out only: the session that ended; without one, all of the user's
	Device  string `json:"device,omitzero"`  // of device.erased only: the id of a trusted device; without one, all of the user's
}

// The data of each signal, in which otpost looks for nothing that the signal is not about.
type (
	userData struct { // password.changed and user.deleted
		User string `json:"user"`
	}
	signedOutData struct {
		User    string `json:"user"`
		Session string `json:"session,omitzero"`
	}
	erasedData struct {
		User   string `json:"user"`
		Device string `json:"device,omitzero"`
	}
)

// A Signal is what an app tells of a user.
type Signal struct {
	App  string
	Name SignalName
	ID   string    // the app's event id
	Time time.Time // zero where the app gave none; a signal counts however late it comes
	SignalData
}

// ParseSignal reads a signal that an app has published on the subject of name. With a problem, what it returns beside App and Name is not to be used.
func ParseSignal(app string, name SignalName, body []byte) (Signal, *otp.Problem) {
	s := Signal{App: app, Name: name}
	if !slices.Contains(SignalNames(), name) {
		return s, otp.InvalidField("subject", "must end with the name of a signal")
	}
	var env envelope
	if p := decode(body, &env, "", lenient); p != nil {
		return s, p
	}
	if p := first(env.check("otpost."+string(name)+".v1"), optionalTime("time", env.Time)); p != nil {
		return s, p
	}
	s.ID, s.Time = env.ID, ParseTime(env.Time)
	var p *otp.Problem
	s.SignalData, p = parseSignalData(name, env.Data, "data")
	return s, p
}

// parseSignalData reads the data of a signal. The prefix precedes the fields' names.
func parseSignalData(name SignalName, data []byte, prefix string) (s SignalData, p *otp.Problem) {
	switch name {
	case SessionSignedOut:
		var d signedOutData
		p = decode(data, &d, prefix, strict)
		s.User, s.Session = d.User, d.Session
	case DeviceErased:
		var d erasedData
		p = decode(data, &d, prefix, strict)
		s.User, s.Device = d.User, d.Device
	default:
		var d userData
		p = decode(data, &d, prefix, strict)
		s.User = d.User
	}
	if p != nil {
		return s, p
	}
	if prefix != "" {
		prefix += "."
	}
	return s, first(needID(prefix+"user", s.User), optionalID(prefix+"session", s.Session), optionalUUID(prefix+"device", &s.Device))
}
