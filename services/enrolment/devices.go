package enrolment

import (
	"context"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// This file lists and revokes trusted devices. They are made with an answer (services/verification) and used at a login (services/challenge).

// deviceList lists the devices that are trusted now.
func (w *Worker) deviceList(ctx context.Context, c caller, r event.DeviceListRequest) (any, error) {
	var reply event.DeviceListReply
	err := w.view(ctx, c, r.User, func(a *act) (err error) {
		reply, err = a.devices()
		return err
	})
	return reply, err
}

func (a *act) devices() (event.DeviceListReply, error) {
	reply := event.DeviceListReply{Devices: []event.DeviceInfo{}}
	list, err := a.Devices()
	for _, d := range list {
		reply.Devices = append(reply.Devices, event.DeviceInfo{
			Device: d.ID.String(), Label: d.Label, CreatedAt: event.Time(d.CreatedAt), LastUsedAt: event.OptionalTime(d.LastUsedAt), ExpiresAt: event.Time(d.ExpiresAt),
		})
	}
	return reply, err
}

// deviceRevoke ends the trust in one device or in all, by hand. To trust less needs no proof.
func (w *Worker) deviceRevoke(ctx context.Context, c caller, r event.DeviceRevokeRequest) (any, error) {
	var reply event.DeviceListReply
	err := w.act(ctx, c, r.User, func(a *act) error {
		only := uuid.Nil
		if !r.All {
			only = uuid.MustParse(r.Device)
		}
		gone, err := a.revoke(event.RevokedByHand, only, "", r.Session)
		if err != nil {
			return err
		}
		if len(gone) == 0 && !r.All {
			return &otp.Problem{Reason: otp.UnknownDevice, Field: "device", Message: "device is none that the user trusts"}
		}
		reply, err = a.devices()
		return err
	})
	return reply, err
}
