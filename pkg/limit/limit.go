// Package limit says what keeps a message from being sent: where its address is, what was sent of late, and what that has cost. It judges logins, resends
// and the messages of enrolment alike, so that what is counted for one counts for all. It does no I/O: what was sent stands in rows that the caller's
// transaction holds.
package limit

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// Scopes of limits: what is counted. ScopeSpend counts what messages cost.
const (
	scopeUser        = "user"
	scopeDestination = "destination"
	scopeIP          = "ip"
	scopePrefix      = "prefix"
	scopeApp         = "app"
	ScopeSpend       = "spend"
)

// A Gate judges addresses.
type Gate struct {
	Open    func(app, user string, ch otp.Channel, sealed []byte) (address string, err error)
	Key     func(scope, app, value string) (uuid.UUID, error)
	Reached func(app string, ch otp.Channel, address string) (uuid.UUID, error) // the key of an address

	Listed  func(app postgres.App, ch otp.Channel, address string) (postgres.Destination, bool, error)
	Carrier func(app postgres.App, ch otp.Channel, country string, challenge uuid.UUID) (provider string, cost int64) // the first of the route
}

// New returns the gate of a worker that opens addresses sealed for a purpose. find looks an address up in the list; carrier says who carries a
// challenge's first message, and at what cost.
func New(keys *keyring.Ring, purpose string, find func(appID int, digests func() ([]uuid.UUID, error)) (postgres.Destination, bool, error),
	carrier func(app postgres.App, ch otp.Channel, country string, challenge uuid.UUID) (string, int64),
) *Gate {
	return &Gate{
		Open: func(app, user string, ch otp.Channel, sealed []byte) (string, error) {
			return keys.OpenDestination(string(ch.Address()), app, user, purpose, sealed)
		},
		Key: keys.LimitKey, Reached: keys.DestinationKey,
		Listed: func(app postgres.App, ch otp.Channel, address string) (postgres.Destination, bool, error) {
			return find(app.ID, func() ([]uuid.UUID, error) { return keys.DestinationKeys(app.Name, ch, address) })
		},
		Carrier: carrier,
	}
}

// A Target is an address that a code could be sent to.
type Target struct {
	Phone    otp.Phone // of a phone number
	Provider string    // that would carry it first
	Cost     int64
	Test     []byte // of a test destination: what its code is compared with
	Safe     bool
	Barred   bool // for good: it may not be sent to
	Limits   []postgres.Limit
}

// A Sending is what a message would count in.
type Sending struct {
	App       postgres.App
	User      string
	Channel   otp.Channel
	Address   string
	IP        uuid.UUID // the key of the client's address; zero for none
	Challenge uuid.UUID // or the id of what it is sent for
}

// Target judges an address by what it is, and names what a message to it would count in.
func (g *Gate) Target(s Sending) (*Target, error) {
	t := &Target{}
	found, listed, err := g.Listed(s.App, s.Channel, s.Address)
	if err != nil {
		return nil, err
	}
	if s.Channel.Phone() {
		t.Phone = otp.LocatePhone(s.Address)
	}
	if listed && found.Kind == postgres.DestinationTest {
		t.Test = keyring.TestAnswer(found.Digest, found.CodeDigest)
		return t, nil
	}
	t.Safe = listed
	policy := s.App.Policy.Delivery
	if s.Channel.Phone() && (t.Phone.Denied != "" || !policy.Allows(t.Phone.Country)) {
		t.Barred = true
		return t, nil
	}
	if g.Carrier != nil {
		t.Provider, t.Cost = g.Carrier(s.App, s.Channel, t.Phone.Country, s.Challenge)
	}
	t.Limits, err = g.limits(s, t)
	return t, err
}

func (g *Gate) limits(s Sending, t *Target) (out []postgres.Limit, err error) {
	l := s.App.Policy.Delivery.Limits
	add := func(scope string, b otp.Bound, key func() (uuid.UUID, error), n int64) {
		if err != nil || b.Zero() {
			return
		}
		var id uuid.UUID
		id, err = key()
		out = append(out, postgres.Limit{Key: id, Scope: scope, Bound: b, N: n})
	}
	of := func(scope, value string) func() (uuid.UUID, error) {
		return func() (uuid.UUID, error) { return g.Key(scope, s.App.Name, value) }
	}
	add(scopeUser, l.User.Bound(), of(scopeUser, s.User), 1)
	to := l.Destination.Bound()
	to.Cooldown = l.Cooldown
	add(scopeDestination, to, func() (uuid.UUID, error) { return g.Reached(s.App.Name, s.Channel, s.Address) }, 1)
	if s.IP != uuid.Nil {
		add(scopeIP, l.IP.Bound(), func() (uuid.UUID, error) { return s.IP, nil }, 1)
	}
	if !s.Channel.Phone() {
		return out, err
	}
	if !t.Safe {
		add(scopePrefix, l.Prefix.Bound(), of(scopePrefix, t.Phone.Prefix), 1)
		add(scopeApp, l.App.Bound(), of(scopeApp, ""), 1)
	}
	if most, capped := s.App.Policy.Delivery.SpendCap(t.Phone.Country); capped {
		b := otp.Bound{Day: most}
		if most == 0 {
			b.Day = -1 // nothing at all
		}
		add(ScopeSpend, b, of(ScopeSpend, t.Phone.Country), t.Cost)
		if err == nil {
			last := &out[len(out)-1]
			last.Warn, last.AppID, last.Of = max(most/5*4, 1), s.App.ID, t.Phone.Country
		}
	}
	return out, err
}

// AddressKey is the key of a client's address: an IPv4 address, or the /64 of an IPv6 one, in which whoever has one address has all. An IPv4 address that is
// written as an IPv6 one is the same address.
func (g *Gate) AddressKey(app, ip string) (uuid.UUID, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil { // none was given; its form was checked
		return uuid.Nil, nil //nolint:nilerr // an app need not say
	}
	if a = a.Unmap(); a.Is6() {
		p, err := a.WithZone("").Prefix(64)
		if err != nil {
			return uuid.Nil, fmt.Errorf("network of the client: %w", err)
		}
		return g.Key(scopeIP, app, p.String())
	}
	return g.Key(scopeIP, app, a.String())
}

// Alarm is the event of what was raised: one a day for each cap, so that its id names the day.
func Alarm(app string, r postgres.Raised) event.Event {
	day := r.At.UTC().Truncate(24 * time.Hour)
	a := event.Alarm{
		Alarm: event.AlarmSpendWarning, Country: r.Limit.Of, Spent: money(r.Spent), Cap: money(max(r.Limit.Bound.Day, 0)),
		Until: event.Time(day.Add(24 * time.Hour)), Message: "four fifths of the day's cap on messages to phones in the country are spent",
	}
	if r.Reached {
		a.Alarm, a.Message = event.AlarmSpendCap, "the day's cap on messages to phones in the country is reached: none is sent until the day ends (UTC)"
	}
	return event.Event{
		App: app, Name: event.AlarmRaised, ID: a.Alarm + "/" + app + "/" + r.Limit.Of + "/" + day.Format(time.DateOnly), Time: r.At, Data: a,
	}
}

// money writes millionths of a currency as a decimal, with two digits or as many as it takes.
func money(micro int64) string {
	s := strconv.FormatInt(micro/1_000_000, 10) + "." + fmt.Sprintf("%06d", micro%1_000_000)
	for i := 0; i < 4 && s[len(s)-1] == '0'; i++ {
		s = s[:len(s)-1]
	}
	return s
}
