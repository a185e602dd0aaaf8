package event

// The verbs of trusted devices.
const (
	VerbDeviceList   = "device.list"
	VerbDeviceRevoke = "device.revoke"
	VerbDeviceRenew  = "device.renew"
)

// DeviceListRequest asks for a user's trusted devices. It is answered by DeviceListReply.
type DeviceListRequest struct {
	User string `json:"user"`
}

// DeviceListReply lists the devices that are trusted now, oldest first. It answers device.list and .revoke.
type DeviceListReply struct {
	Devices []DeviceInfo `json:"devices"`
}

// DeviceInfo is a trusted device as people may see it.
type DeviceInfo struct {
	Device     string `json:"device"` // its id, which is no secret
	Label      string `json:"label,omitzero"`
	CreatedAt  string `json:"created_at"`
	LastUsedAt string `json:"last_used_at,omitzero"`
	ExpiresAt  string `json:"expires_at"`
}

// DeviceRevokeRequest ends the trust in one device or in all. It is answered by DeviceListReply.
type DeviceRevokeRequest struct {
	User    string `json:"user"`
	Device  string `json:"device,omitzero"` // its id; or All
	All     bool   `json:"all,omitzero"`
	Session string `json:"session,omitzero"`
}

// DeviceRenewRequest replaces the token of a device whose login came by event. It is answered by DeviceRenewReply.
type DeviceRenewRequest struct {
	Owner
	Device string `json:"device"` // the token
}

// DeviceRenewReply holds the new token. The old one is worth nothing after a short grace.
type DeviceRenewReply struct {
	Device    string `json:"device"` // the token
	ExpiresAt string `json:"expires_at"`
}
