package event

import (
	"maps"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/otpost/otpost/pkg/otp"
)

var (
	aLabel         = printable(MaxLabel)
	anEnrolledKind = word(otp.FactorKinds()...)
	aProof         = word(append(otp.RecoveryMethods(), otp.ProofPassphrase, otp.ProofBackupCode)...)
	aWay           = word(otp.RecoveryMethods()...)
	someProofs     = rapid.SliceOfNDistinct(aProof, 0, 5, rapid.ID[string])
	anActor        = rapid.SampledFrom([]string{ByUser, ByApp, BySupport, BySystem})
	aBool          = rapid.Bool()
	aToken         = rapid.Custom(func(t *rapid.T) string {
		return otp.DeviceToken(aUUID.Draw(t, "device"), [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret")))
	})
	someCodes = rapid.Custom(func(t *rapid.T) []string {
		codes := otp.NewBackupCodes()
		for i := range codes {
			codes[i] = otp.GroupBackupCode(codes[i])
		}
		return codes[:rapid.IntRange(1, len(codes)).Draw(t, "codes")]
	})
	someOptions    = rapid.SampledFrom([]jsontext.Value{jsontext.Value(`{}`), jsontext.Value(`{"publicKey":{"challenge":"8Jx0mZ1v","extensions":null}}`)})
	aRevocation    = rapid.SampledFrom([]string{RevokedStolen, RevokedSignedOut, RevokedPasswordChanged, RevokedErased, RevokedFactorsChanged, RevokedRecovery, RevokedByHand, RevokedReplaced})
	aRemoval       = rapid.SampledFrom([]string{RemovedByHand, RemovedDeactivated, RemovedRecovery, RemovedErased})
	anyDelivery    = rapid.OneOf(word(otp.DeliveryQueued, otp.DeliverySending), rapid.Map(anOutcome, func(s otp.DeliveryState) string { return string(s) }))
	endedWithout   = word(otp.RecoveryCancelled, otp.RecoveryExpired, otp.RecoveryRefused)
	factorStanding = word(otp.FactorConfirmed, otp.FactorActive, otp.FactorSuspended)
)

// both is two maps in one.
func both[K comparable, V any](a, b map[K]V) map[K]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func factorData(t *rapid.T) FactorData {
	return FactorData{
		User: anID.Draw(t, "user"), Session: maybe(t, anID, "session"), Factor: aChallenge.Draw(t, "factor"), Kind: anEnrolledKind.Draw(t, "kind"),
		Label: maybe(t, aLabel, "label"), To: maybe(t, aMask, "to"),
	}
}

func deviceData(t *rapid.T) DeviceData {
	return DeviceData{
		User: anID.Draw(t, "user"), Session: maybe(t, anID, "session"), Login: maybe(t, anID, "login"), Device: aChallenge.Draw(t, "device"), Label: maybe(t, anID, "label"),
	}
}

func recoveryData(t *rapid.T) RecoveryData {
	return RecoveryData{User: anID.Draw(t, "user"), Session: maybe(t, anID, "session"), Recovery: aChallenge.Draw(t, "recovery")}
}

// acted draws the data of a recovery on which somebody has acted.
func acted(t *rapid.T) any {
	d := recoveryData(t)
	d.By = anActor.Draw(t, "by")
	return d
}

// opened draws the data of a recovery whose proofs are taken.
func opened(t *rapid.T) any {
	d := acted(t).(RecoveryData)
	d.ExpiresAt = maybe(t, aStamp, "expires")
	return d
}

// effective draws the data of a recovery that is proven.
func effective(t *rapid.T) any {
	d := recoveryData(t)
	d.Proven, d.EffectiveAt = maybe(t, someProofs, "proven"), aStamp.Draw(t, "effective")
	return d
}

// factorEvents draws the data of each event in the life of factors.
var factorEvents = map[Name]func(*rapid.T) any{
	FactorAdded: func(t *rapid.T) any { return factorData(t) },
	FactorRemoved: func(t *rapid.T) any {
		d := factorData(t)
		d.Reason = aRemoval.Draw(t, "reason")
		return d
	},
	FactorSuspended: func(t *rapid.T) any {
		d := factorData(t)
		d.Login, d.Reason = maybe(t, anID, "login"), SuspendedCloned
		return d
	},
	BackupCodeUsed: func(t *rapid.T) any {
		return BackupCodeUsedData{anID.Draw(t, "user"), maybe(t, anID, "session"), maybe(t, anID, "login"), aCount.Draw(t, "left")}
	},
	BackupCodesRegenerated: func(t *rapid.T) any {
		return BackupCodesData{anID.Draw(t, "user"), maybe(t, anID, "session"), aCount.Draw(t, "left")}
	},
	DeviceTrusted: func(t *rapid.T) any {
		d := deviceData(t)
		d.ExpiresAt = aStamp.Draw(t, "expires")
		return d
	},
	DeviceRevoked: func(t *rapid.T) any {
		d := deviceData(t)
		d.Reason = aRevocation.Draw(t, "reason")
		return d
	},
	Deactivated:      func(t *rapid.T) any { return DeactivatedData{anID.Draw(t, "user"), anID.Draw(t, "session")} },
	RecoveryBegun:    opened,
	RecoveryApproved: opened,
	RecoveryProven: func(t *rapid.T) any {
		d := recoveryData(t)
		d.Proof, d.Proven, d.ExpiresAt = aProof.Draw(t, "proof"), maybe(t, someProofs, "proven"), maybe(t, aStamp, "expires")
		return d
	},
	RecoveryWaiting:   effective,
	RecoveryCompleted: effective,
	RecoveryCancelled: acted,
	RecoveryExpired:   func(t *rapid.T) any { return recoveryData(t) },
	RecoveryRefused:   acted,
	UserErased:        func(t *rapid.T) any { return ErasedData{anID.Draw(t, "user")} },
	AlarmRaised: func(t *rapid.T) any {
		amount := rapid.StringMatching(`[0-9]{1,10}\.[0-9]{2,6}`)
		return Alarm{
			rapid.SampledFrom([]string{AlarmSpendCap, AlarmSpendWarning, AlarmPumping}).Draw(t, "alarm"), maybe(t, rapid.Map(aChannel, func(c otp.Channel) string { return string(c) }), "channel"),
			maybe(t, rapid.StringMatching(`[A-Z]{2}`), "country"), maybe(t, rapid.StringMatching(`\+[0-9]{1,10}`), "prefix"), maybe(t, amount, "spent"), maybe(t, amount, "cap"),
			maybe(t, aStamp, "until"), aSentence.Draw(t, "message"),
		}
	},
}

func factorInfo(t *rapid.T) FactorInfo {
	return FactorInfo{
		aChallenge.Draw(t, "factor"), anEnrolledKind.Draw(t, "kind"), maybe(t, aLabel, "label"), factorStanding.Draw(t, "state"), maybe(t, aMask, "to"),
		aBool.Draw(t, "preferred"), aStamp.Draw(t, "created"), maybe(t, aStamp, "used"), maybe(t, aStamp, "alone"),
	}
}

var someFactors = rapid.SliceOfN(rapid.Custom(factorInfo), 0, 3)

func factorList(t *rapid.T) any {
	return FactorListReply{
		maybe(t, someFactors, "factors"), aBool.Draw(t, "activated"), aCount.Draw(t, "left"),
		maybe(t, rapid.SliceOfNDistinct(anEnrolledKind, 0, 6, rapid.ID[string]), "fallbacks"),
	}
}

func sendOrdered(t *rapid.T) any {
	return ResendReply{aCount.Draw(t, "left"), aWait.Draw(t, "retry"), aMask.Draw(t, "to")}
}

func backupCodes(t *rapid.T) any {
	r := BackupCodesReply{Left: aCount.Draw(t, "left")}
	for _, c := range maybe(t, someCodes, "codes") {
		r.Codes = append(r.Codes, BackupCodeInfo{c, maybe(t, aStamp, "used")})
	}
	return r
}

var someDevices = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) DeviceInfo {
	return DeviceInfo{aChallenge.Draw(t, "device"), maybe(t, anID, "label"), aStamp.Draw(t, "created"), maybe(t, aStamp, "used"), aStamp.Draw(t, "expires")}
}), 0, 3)

func deviceList(t *rapid.T) any { return DeviceListReply{maybe(t, someDevices, "devices")} }

func activityList(t *rapid.T) any {
	lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ActivityInfo {
		left := aCount.Draw(t, "left")
		return ActivityInfo{
			aStamp.Draw(t, "at"), word(Actions()...).Draw(t, "action"), word(ByUser, ByApp, BySupport, BySystem, ByOperator).Draw(t, "by"), aBool.Draw(t, "here"),
			maybe(t, aMethod, "kind"), maybe(t, word(otp.ProofEmail, otp.ProofPhone, otp.ProofLetter, otp.ProofPassphrase, otp.ProofBackupCode), "method"),
			maybe(t, word("saved", "printed", "copied"), "how"),
			maybe(t, word(RemovedByHand, RemovedDeactivated, RevokedStolen, RevokedReplaced, SuspendedCloned, EndedExhausted), "reason"), maybe(t, rapid.Just(&left), "left"),
		}
	}), 0, 3)
	return ActivityListReply{maybe(t, lines, "activity"), maybe(t, rapid.StringMatching(`[A-Za-z0-9_-]{1,256}`), "before")}
}

func preferencesSet(t *rapid.T) any {
	contacts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ContactInfo {
		return ContactInfo{aWay.Draw(t, "method"), aMask.Draw(t, "to"), aStamp.Draw(t, "confirmed")}
	}), 0, 3)
	return PreferencesReply{
		maybe(t, rapid.SliceOfNDistinct(aWay, 0, 3, rapid.ID[string]), "allowed"), maybe(t, contacts, "contacts"), aBool.Draw(t, "passphrase"),
		maybe(t, rapid.StringMatching(`[A-Z]{2}`), "country"), maybe(t, printable(maxRegion), "region"),
	}
}

// recoveryStands draws where a recovery stands, in every state that one can be in.
func recoveryStands(t *rapid.T) any {
	state := rapid.OneOf(rapid.Just("none"), endedWithout, word(otp.RecoveryApproval, otp.RecoveryProving, otp.RecoveryWaiting, otp.RecoveryCompleted)).Draw(t, "state")
	r := RecoveryReply{State: state}
	if state == "none" {
		return r
	}
	ways := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) RecoveryMethodInfo {
		return RecoveryMethodInfo{
			aWay.Draw(t, "method"), aMask.Draw(t, "to"), anyDelivery.Draw(t, "state"), aStamp.Draw(t, "expires"), aCount.Draw(t, "sends"), aWait.Draw(t, "retry"),
		}
	}), 0, 3)
	r.Recovery, r.Methods, r.Passphrase, r.BackupCode = aChallenge.Draw(t, "recovery"), maybe(t, ways, "methods"), aBool.Draw(t, "passphrase"), aBool.Draw(t, "backup")
	r.Proven, r.ExpiresAt = maybe(t, someProofs, "proven"), maybe(t, aStamp, "expires")
	switch otp.RecoveryState(state) {
	case otp.RecoveryWaiting, otp.RecoveryCompleted:
		r.EffectiveAt = aStamp.Draw(t, "effective")
	default:
		r.Needed = rapid.IntRange(0, 2).Draw(t, "needed")
	}
	return r
}

// factorReplies draws each reply in the life of factors.
var factorReplies = map[string]func(*rapid.T) any{
	"rpc.factor.begin.reply": func(t *rapid.T) any {
		r := FactorBeginReply{Ceremony: aChallenge.Draw(t, "ceremony"), Kind: anEnrolledKind.Draw(t, "kind"), ExpiresAt: aStamp.Draw(t, "expires")}
		switch otp.FactorKind(r.Kind) {
		case otp.FactorTOTP:
			r.URI, r.Secret, r.QRSVG = "otpauth://totp/Shop:u-42?secret=JBSWY3DPEHPK3PXP", otp.GroupSecret("jbswy3dpehpk3pxp"), "<svg/>"
			r.QRPNG = rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "png")
		case otp.FactorSMS, otp.FactorEmail:
			r.To, r.SendsLeft, r.RetryAfter = aMask.Draw(t, "to"), aCount.Draw(t, "sends"), aWait.Draw(t, "retry")
		case otp.FactorWebAuthn:
			r.Options = someOptions.Draw(t, "options")
		}
		return r
	},
	"rpc.factor.resend.reply": sendOrdered,
	"rpc.factor.confirm.reply": func(t *rapid.T) any {
		return FactorConfirmReply{
			aChallenge.Draw(t, "factor"), word(otp.FactorActive, otp.FactorConfirmed).Draw(t, "state"), maybe(t, someCodes, "codes"), maybe(t, aStamp, "alone"),
		}
	},
	"rpc.factor.list.reply":   factorList,
	"rpc.factor.rename.reply": factorList,
	"rpc.factor.prefer.reply": factorList,
	"rpc.factor.remove.reply": factorList,
	"rpc.factor.resync.reply": func(t *rapid.T) any { return FactorResyncReply{aChallenge.Draw(t, "factor")} },
	"rpc.backup_codes.acknowledge.reply": func(t *rapid.T) any {
		return BackupAcknowledgeReply{true, aCount.Draw(t, "left")}
	},
	"rpc.backup_codes.view.reply":       backupCodes,
	"rpc.backup_codes.regenerate.reply": backupCodes,
	"rpc.device.list.reply":             deviceList,
	"rpc.device.revoke.reply":           deviceList,
	"rpc.activity.list.reply":           activityList,
	"rpc.device.renew.reply":            func(t *rapid.T) any { return DeviceRenewReply{aToken.Draw(t, "device"), aStamp.Draw(t, "expires")} },
	"rpc.deactivate.begin.reply": func(t *rapid.T) any {
		return DeactivateBeginReply{aChallenge.Draw(t, "ceremony"), aStamp.Draw(t, "expires")}
	},
	"rpc.deactivate.confirm.reply": func(*rapid.T) any { return DeactivateConfirmReply{true} },
	"rpc.webauthn.begin.reply": func(t *rapid.T) any {
		return WebAuthnBeginReply{someOptions.Draw(t, "options"), aStamp.Draw(t, "expires")}
	},
	"rpc.recovery.preferences.reply": preferencesSet,
	"rpc.recovery.confirm.reply":     preferencesSet,
	"rpc.recovery.address.reply": func(t *rapid.T) any {
		r := RecoveryAddressReply{To: aMask.Draw(t, "to")}
		if rapid.Bool().Draw(t, "code") {
			r.Ceremony, r.ExpiresAt = aChallenge.Draw(t, "ceremony"), aStamp.Draw(t, "expires")
		}
		return r
	},
	"rpc.recovery.begin.reply":  recoveryStands,
	"rpc.recovery.resend.reply": sendOrdered,
	"rpc.recovery.prove.reply": func(t *rapid.T) any {
		return RecoveryProveReply{
			rapid.SampledFrom([]string{ResultProven, ResultWrong}).Draw(t, "result"), aCount.Draw(t, "left"), aWait.Draw(t, "retry"), recoveryStands(t).(RecoveryReply),
		}
	},
	"rpc.recovery.status.reply": recoveryStands,
	"rpc.recovery.cancel.reply": func(*rapid.T) any { return RecoveryCancelReply{true} },
	"support.find.reply": func(t *rapid.T) any {
		return SupportFindReply{
			maybe(t, someFactors, "factors"), aBool.Draw(t, "activated"), aCount.Draw(t, "left"), preferencesSet(t).(PreferencesReply), aBool.Draw(t, "locked"),
			aWait.Draw(t, "retry"), recoveryStands(t).(RecoveryReply), aCount.Draw(t, "devices"), "", "",
		}
	},
	"support.begin.reply":   recoveryStands,
	"support.approve.reply": recoveryStands,
	"support.refuse.reply":  recoveryStands,
	"support.cancel.reply":  recoveryStands,
	"support.status.reply":  recoveryStands,
	"internal.check.reply": func(t *rapid.T) any {
		if rapid.Bool().Draw(t, "right") {
			return CheckReply{OK: true, Factor: maybe(t, rapid.Map(aUUID, uuid.UUID.String), "factor"), Kind: aFactor.Draw(t, "kind"), RetryAfter: aWait.Draw(t, "retry")}
		}
		return CheckReply{Locked: aBool.Draw(t, "locked"), RetryAfter: aWait.Draw(t, "retry")}
	},
}
