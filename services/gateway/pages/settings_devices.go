package pages

import (
	"context"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// This file lists and revokes trusted browsers. To trust less needs no proof.

// devicesData is for the page of trusted browsers.
type devicesData struct{ Devices []event.DeviceInfo }

func (p *Pages) devices(ctx context.Context, v *visit) error {
	list, err := call[event.DeviceListReply](ctx, v, event.VerbDeviceList, event.DeviceListRequest{User: v.row.User})
	if err != nil {
		return err
	}
	return v.show(ctx, "settings/devices", devicesData(list), nil, wide)
}

func (p *Pages) revokeDevice(ctx context.Context, v *visit) error {
	_, err := call[event.DeviceListReply](ctx, v, event.VerbDeviceRevoke,
		event.DeviceRevokeRequest{User: v.row.User, Device: v.form("device"), Session: v.row.Session})
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
		v.state.Flash = "settings.flash_device"
	case otp.UnknownDevice, otp.Invalid: // it has expired, or was revoked in another tab
		v.state.Flash = "settings.flash_gone"
	default:
		return err
	}
	if v.form("from") == "list" {
		return v.goTo(ctx, "/settings/devices")
	}
	return v.goTo(ctx, "/settings")
}

func (p *Pages) allDevices(ctx context.Context, v *visit) error {
	return v.confirm(ctx, confirmData{
		Icon: "device", Title: v.t("settings.devices_all_title"), Texts: []string{v.t("settings.devices_all_text")}, Action: "/settings/devices/all",
		Button: v.t("settings.devices_all"), Danger: true, Back: "/settings",
	})
}

func (p *Pages) revokeDevices(ctx context.Context, v *visit) error {
	if _, err := call[event.DeviceListReply](ctx, v, event.VerbDeviceRevoke,
		event.DeviceRevokeRequest{User: v.row.User, All: true, Session: v.row.Session}); err != nil {
		return err
	}
	v.state.Flash = "settings.flash_devices"
	return v.goTo(ctx, "/settings")
}
