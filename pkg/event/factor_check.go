package event

import "github.com/otpost/otpost/pkg/otp"

// This file is what each request of the life of factors must look like.

var (
	factorKinds = kindNames(otp.FactorKinds()...)                                                  // what can be enrolled
	askedKinds  = append(kindNames(otp.FactorKinds()...), string(otp.Voice), string(otp.WhatsApp)) // what a login can ask for
	answerKinds = kindNames(append(otp.FactorKinds(), otp.FactorBackupCode)...)                    // what can answer a challenge
)

func kindNames(kinds ...otp.FactorKind) []string {
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

func (r *FactorBeginRequest) check() *otp.Problem {
	return first(r.Owner.check(), oneOf("kind", r.Kind, factorKinds...), optionalText("label", r.Label, MaxLabel), optionalText("account", r.Account, MaxLabel),
		checkLocale("locale", r.Locale), r.Client.check("client"), optionalTime("reauthenticated_at", r.Reauthenticated), r.checkKind())
}

// checkKind holds the fields that only some kinds have to the kind.
func (r *FactorBeginRequest) checkKind() *otp.Problem {
	k := otp.FactorKind(r.Kind)
	addressed, imported := k == otp.FactorSMS || k == otp.FactorEmail, k == otp.FactorHOTP || k == otp.FactorYubikey
	switch {
	case !addressed && r.Address != "":
		return otp.InvalidField("address", "is for kinds sms and email only")
	case !imported && r.Serial != "":
		return otp.InvalidField("serial", "is for kinds hotp and yubikey only")
	case k == otp.FactorSMS:
		return needPhone("address", &r.Address)
	case k == otp.FactorEmail:
		return needEmail("address", &r.Address)
	case imported:
		return needText("serial", r.Serial, MaxLabel)
	}
	return nil
}

func (r *FactorResendRequest) check() *otp.Problem {
	return first(needUUID("ceremony", &r.Ceremony), needID("session", r.Session))
}

func (r *FactorConfirmRequest) check() *otp.Problem {
	return first(needUUID("ceremony", &r.Ceremony), needID("session", r.Session), r.Client.check("client"), codeOrCredential(&r.Code, r.Credential))
}

func (r *FactorListRequest) check() *otp.Problem { return needID("user", r.User) }

func (r *FactorRenameRequest) check() *otp.Problem {
	return first(needID("user", r.User), needUUID("factor", &r.Factor), needText("label", r.Label, MaxLabel), optionalID("session", r.Session))
}

func (r *FactorPreferRequest) check() *otp.Problem {
	if r.Factor == "" && r.Fallbacks == nil {
		return first(needID("user", r.User), otp.InvalidField("factor", "must be given, or fallbacks"))
	}
	return first(needID("user", r.User), optionalUUID("factor", &r.Factor), eachOnce("fallbacks", r.Fallbacks, factorKinds...), optionalID("session", r.Session))
}

func (r *FactorRemoveRequest) check() *otp.Problem {
	return first(r.Owner.check(), needUUID("factor", &r.Factor), r.Client.check("client"), r.Proof.check())
}

func (r *FactorResyncRequest) check() *otp.Problem {
	return first(r.Owner.check(), needUUID("factor", &r.Factor), needDigits("first", &r.First), needDigits("second", &r.Second))
}

func (r *BackupAcknowledgeRequest) check() *otp.Problem {
	return first(r.Owner.check(), oneOf("how", r.How, "saved", "printed", "copied"))
}

func (r *BackupCodesRequest) check() *otp.Problem {
	return first(r.Owner.check(), r.Client.check("client"), optionalTime("reauthenticated_at", r.Reauthenticated))
}

func (r *DeviceListRequest) check() *otp.Problem { return needID("user", r.User) }

func (r *DeviceRevokeRequest) check() *otp.Problem {
	p := first(needID("user", r.User), optionalUUID("device", &r.Device), optionalID("session", r.Session))
	if p == nil && (r.Device == "") != r.All {
		return otp.InvalidField("device", "must be given, or all, and not both")
	}
	return p
}

func (r *DeviceRenewRequest) check() *otp.Problem {
	return first(r.Owner.check(), needText("device", r.Device, maxDevice))
}

func (r *DeactivateBeginRequest) check() *otp.Problem {
	return first(r.Owner.check(), r.Client.check("client"), r.Proof.check())
}

func (r *DeactivateConfirmRequest) check() *otp.Problem {
	return first(needUUID("ceremony", &r.Ceremony), needID("session", r.Session))
}

func (r *WebAuthnBeginRequest) check() *otp.Problem {
	return first(needUUID("challenge", &r.Challenge), needID("session", r.Session))
}
