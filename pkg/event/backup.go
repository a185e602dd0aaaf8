package event

// The verbs of backup codes.
const (
	VerbBackupAcknowledge = "backup_codes.acknowledge"
	VerbBackupView        = "backup_codes.view"
	VerbBackupRegenerate  = "backup_codes.regenerate"
)

// BackupAcknowledgeRequest says that the user has the backup codes in safety. It is answered by BackupAcknowledgeReply.
type BackupAcknowledgeRequest struct {
	Owner
	How string `json:"how"` // saved, printed or copied
}

// BackupAcknowledgeReply tells that logins ask for a factor from now on.
type BackupAcknowledgeReply struct {
	Activated bool `json:"activated"` // always true
	Left      int  `json:"left"`
}

// BackupCodesRequest asks for the backup codes, or for new ones. It is answered by BackupCodesReply.
type BackupCodesRequest struct {
	Owner
	Client          *Client `json:"client,omitzero"`
	Reauthenticated string  `json:"reauthenticated_at,omitzero"`
}

// BackupCodesReply holds the backup codes. It answers backup_codes.view and .regenerate.
type BackupCodesReply struct {
	Codes []BackupCodeInfo `json:"codes"`
	Left  int              `json:"left"`
}

// BackupCodeInfo is one backup code, grouped for reading.
type BackupCodeInfo struct {
	Code   string `json:"code"`
	UsedAt string `json:"used_at,omitzero"`
}
