package challenge

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file lets trusted devices pass. They are made with an answer (services/verification), and listed and revoked elsewhere (services/enrolment).

// recognise reads the token that came with a login; what is none is passed over. A login by request brings a new one back. An event is kept for days, so no
// token may lie in one: the app asks for it with device.renew.
func (l *login) recognise() {
	l.token = nil
	if l.Device == "" {
		return
	}
	if l.token = present(l.app, l.Device, l.Session); l.token != nil && l.request != nil {
		l.next = successor(l.token)
	}
}

// present returns a device's token as the database knows it, nil for a text that is none and for an app that trusts no devices.
func present(app postgres.App, text, session string) *postgres.DeviceToken {
	id, secret, ok := otp.ParseDeviceToken(text)
	if !ok || app.Policy.Factors.DeviceLife == 0 {
		return nil
	}
	return &postgres.DeviceToken{Device: id, Digest: otp.DeviceDigest(secret), Session: session, Grace: app.Policy.Factors.DeviceGrace}
}

// successor makes the secret of the token that is to follow one.
func successor(t *postgres.DeviceToken) (secret [32]byte) {
	_, _ = rand.Read(secret[:]) // never fails (Go 1.24)
	t.Next = otp.DeviceDigest(secret)
	return secret
}

// device is the id of the device that let a login pass, for its event. The token names it; that it is the right one was seen when the login was decided.
func (l *login) device(a postgres.Admitted) string {
	if a.Reason != reasonTrustedDevice || l.token == nil {
		return ""
	}
	return l.token.Device.String()
}

// renewed is the token that a reply brings. A repeat brings none, since only its digest is kept: device.renew gives another.
func (l *login) renewed(a postgres.Admitted) string {
	if !a.Renewed {
		return ""
	}
	return otp.DeviceToken(l.token.Device, l.next)
}

// errNoDevice is said of every token that does not serve, so that nobody learns which ones have.
var errNoDevice = &otp.Problem{Reason: otp.UnknownDevice, Field: "device", Message: "device is no token of a browser that this user trusts"}

// renew gives a trusted device its next token.
func (w *Worker) renew(ctx context.Context, app postgres.App, req event.DeviceRenewRequest) (any, error) {
	token := present(app, req.Device, req.Session)
	if token == nil {
		return nil, errNoDevice
	}
	next, now := successor(token), w.Now()
	who := postgres.Account{AppID: app.ID, User: req.User}
	d, events, err := w.store.RenewDevice(ctx, now, who, *token, func(stolen []postgres.Device) (postgres.Told, error) {
		return w.theft(app.Name, event.About{User: req.User, Session: req.Session}, nil, stolen, now)
	})
	w.outbox.Send(events)
	if errors.Is(err, postgres.ErrNoDevice) {
		return nil, errNoDevice
	}
	if err != nil {
		return nil, err
	}
	return event.DeviceRenewReply{Device: otp.DeviceToken(d.ID, next), ExpiresAt: event.Time(d.ExpiresAt)}, nil
}

// theft is what is told where a token came back that had been replaced long before: somebody has a copy. All the user's devices are trusted no more.
func (w *Worker) theft(app string, who event.About, client *event.Client, stolen []postgres.Device, now time.Time) (told postgres.Told, err error) {
	w.Logger.Warn("the token of a trusted device was used after it had been replaced: all the user's devices are revoked", "app", app, "devices", len(stolen))
	line := postgres.AuditEntry{Actor: event.BySystem, Action: string(event.DeviceRevoked), Detail: event.Encode(map[string]string{"reason": event.RevokedStolen})}
	if line.User, err = w.Keys.AuditKey("user", app, who.User); err != nil {
		return told, err
	}
	if line.Session, err = w.Keys.AuditKey("session", app, who.Session); err != nil {
		return told, err
	}
	if client != nil && client.IP != "" {
		if line.IP, err = w.Keys.AuditKey("ip", app, client.IP); err != nil {
			return told, err
		}
	}
	for _, d := range stolen {
		line.Factor = d.ID
		told.Audit = append(told.Audit, line)
		told.Events = append(told.Events, outbox.Entry(event.Event{
			App: app, Name: event.DeviceRevoked, ID: revocation(d.ID), Subject: d.ID.String(), Time: now,
			Data: event.DeviceData{
				User: who.User, Session: who.Session, Login: who.Login, Device: d.ID.String(), Label: d.Label, Reason: event.RevokedStolen,
			},
		}))
	}
	told.Notices = []postgres.Notice{{Notice: otp.NoticeDevicesRevoked, Detail: event.Encode(event.NoticeDetail{Reason: event.RevokedStolen})}}
	return told, nil
}

// revocation is the id of the event that a device is trusted no more: that happens to it once.
func revocation(id uuid.UUID) string { return id.String() + "/revoked" }
