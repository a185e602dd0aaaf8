package event

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/otpost/otpost/pkg/otp"
)

// printable draws a text that CheckText lets pass.
func printable(limit int) *rapid.Generator[string] {
	return rapid.StringN(1, limit, -1).Filter(func(s string) bool { return otp.CheckText(s, limit) == "" })
}

func word[T ~string](values ...T) *rapid.Generator[string] {
	return rapid.Map(rapid.SampledFrom(values), func(v T) string { return string(v) })
}

var (
	anID      = printable(otp.MaxIDLength)
	aSentence = printable(200)
	aTime     = rapid.Map(rapid.Int64Range(0, 4102444800000), func(ms int64) time.Time { return time.UnixMilli(ms) })
	aStamp    = rapid.Map(aTime, Time)
	aUUID     = rapid.Custom(func(t *rapid.T) uuid.UUID {
		var digest [32]byte
		copy(digest[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		return otp.ChallengeID(aTime.Draw(t, "at"), digest)
	})
	aChallenge   = rapid.Map(aUUID, uuid.UUID.String)
	aChannel     = rapid.SampledFrom([]otp.Channel{otp.SMS, otp.Email})
	someChannels = rapid.Map(rapid.SliceOfNDistinct(rapid.SampledFrom(otp.Channels()), 1, -1, rapid.ID), func(l []otp.Channel) (names []string) {
		for _, c := range l {
			names = append(names, string(c))
		}
		return names
	})
	aMethod = word(otp.FactorKinds()...)
	aKind   = rapid.SampledFrom(append(otp.FactorKinds(), otp.FactorBackupCode))
	aFactor = rapid.Map(aKind, func(k otp.FactorKind) string { return string(k) })
	someAMR = rapid.Map(aKind, otp.FactorKind.AMR)
	aMask   = rapid.SampledFrom([]string{otp.MaskPhone("+14155550100"), otp.MaskEmail("user@example.com"), otp.MaskPhone("?"), otp.MaskEmail("?")})
	aReason = word(otp.Invalid, otp.UnknownApp, otp.UnknownChallenge, otp.ChallengeEnded, otp.RateLimited, otp.AccountLocked, otp.BlockedDestination, otp.NoFactorLeft, otp.Stale, otp.Busy, otp.Internal,
		otp.ReauthRequired, otp.UnknownFactor, otp.UnknownCeremony, otp.UnknownRecovery, otp.UnknownDevice, otp.WrongCode, otp.NotAllowed, otp.LastFactor, otp.CoolingOff,
		otp.ApprovalRequired, otp.Conflict, otp.TooMany)
	aWait     = rapid.Map(rapid.Int64Range(-int64(time.Second), int64(2*time.Hour)), func(d int64) int { return otp.Seconds(time.Duration(d)) })
	anApp     = rapid.StringMatching(`[a-z0-9-]{1,64}`)
	aCount    = rapid.IntRange(0, 10)
	aDigits   = rapid.IntRange(otp.MinDigits, otp.MaxDigits)
	anEnd     = word(otp.Expired, otp.Exhausted, otp.Superseded, otp.Cancelled, otp.Locked, otp.Undeliverable)
	aVerdict  = word(otp.Expired, otp.Exhausted, otp.Superseded, otp.Cancelled, otp.Locked) // an undeliverable one is told as cancelled
	aState    = word(otp.Open, otp.Verified, otp.Expired, otp.Exhausted, otp.Superseded, otp.Cancelled, otp.Locked, otp.Undeliverable)
	anOutcome = rapid.SampledFrom([]otp.DeliveryState{otp.DeliveryAccepted, otp.DeliveryDelivered, otp.DeliveryUndelivered, otp.DeliveryFailed, otp.DeliveryUnconfirmed, otp.DeliveryExpired})
)

func maybe[T any](t *rapid.T, g *rapid.Generator[T], name string) (v T) {
	if rapid.Bool().Draw(t, name+"?") {
		v = g.Draw(t, name)
	}
	return v
}

func about(t *rapid.T) About {
	return About{User: anID.Draw(t, "user"), Session: anID.Draw(t, "session"), Login: anID.Draw(t, "login"), Test: rapid.Bool().Draw(t, "test")}
}

func transaction(t *rapid.T) *otp.Transaction {
	if rapid.Bool().Draw(t, "transaction?") {
		return &otp.Transaction{Amount: printable(otp.MaxTransactionField).Draw(t, "amount"), Payee: printable(otp.MaxTransactionField).Draw(t, "payee")}
	}
	return nil
}

func delivery(t *rapid.T) any {
	return Delivery{
		about(t), aChallenge.Draw(t, "challenge"), string(aChannel.Draw(t, "channel")), rapid.SampledFrom([]string{"twilio", "smtp", "simulated"}).Draw(t, "provider"),
		rapid.IntRange(1, 100).Draw(t, "attempt"), maybe(t, aSentence, "reason"), rapid.Bool().Draw(t, "late"),
	}
}

// eventData draws the data of each event.
var eventData = map[Name]func(*rapid.T) any{
	ChallengeIssued: func(t *rapid.T) any {
		return Issued{
			about(t), aChallenge.Draw(t, "challenge"), aMethod.Draw(t, "channel"), aFactor.Draw(t, "factor"), maybe(t, aMask, "to"), aStamp.Draw(t, "expires"),
			maybe(t, aDigits, "digits"), maybe(t, rapid.SliceOf(aFactor), "methods"),
		}
	},
	ChallengeSkipped: func(t *rapid.T) any {
		if rapid.Bool().Draw(t, "trusted") {
			return Skipped{anID.Draw(t, "user"), anID.Draw(t, "session"), anID.Draw(t, "login"), "trusted_device", maybe(t, aChallenge, "device")}
		}
		return Skipped{anID.Draw(t, "user"), anID.Draw(t, "session"), anID.Draw(t, "login"), "no_factor", ""}
	},
	ChallengeRefused: func(t *rapid.T) any {
		return Refused{anID.Draw(t, "user"), maybe(t, anID, "session"), maybe(t, anID, "login"), aReason.Draw(t, "reason"), aSentence.Draw(t, "message"), aWait.Draw(t, "retry")}
	},
	ChallengeSent:          delivery,
	ChallengeDelivered:     delivery,
	ChallengeUndeliverable: delivery,
	ChallengeVerified: func(t *rapid.T) any {
		return VerifiedData{about(t), aChallenge.Draw(t, "challenge"), aFactor.Draw(t, "factor"), someAMR.Draw(t, "amr"), aStamp.Draw(t, "verified")}
	},
	ChallengeFailed: func(t *rapid.T) any {
		return Failed{about(t), aChallenge.Draw(t, "challenge"), aFactor.Draw(t, "factor"), aCount.Draw(t, "left")}
	},
	ChallengeEnded: func(t *rapid.T) any {
		return Ended{about(t), aChallenge.Draw(t, "challenge"), anEnd.Draw(t, "reason")}
	},
	AccountLocked: func(t *rapid.T) any {
		return AccountLockedData{
			anID.Draw(t, "user"), maybe(t, anID, "session"), maybe(t, anID, "login"), maybe(t, aChallenge, "challenge"), rapid.IntRange(1, otp.MaxFailures).Draw(t, "failures"),
		}
	},
}

// replies draws each reply.
var replies = map[string]func(*rapid.T) any{
	"http.problem": func(t *rapid.T) any {
		return HTTPProblem{
			"https://shop.example/problems/invalid", aSentence.Draw(t, "title"), rapid.IntRange(400, 599).Draw(t, "status"), aSentence.Draw(t, "detail"),
			rapid.OneOf(aReason, word(Unauthorized, NotFound, MethodNotAllowed, TooLarge, UnsupportedMediaType, IdempotencyMismatch, UnknownResult)).Draw(t, "code"),
			maybe(t, anID, "field"), aWait.Draw(t, "retry"), rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(t, "request"),
		}
	},
	"http.signals.reply": func(t *rapid.T) any { return SignalReply{anID.Draw(t, "id")} },
	"http.page-sessions.reply": func(t *rapid.T) any {
		return PageSessionReply{"https://auth.example/p/" + rapid.StringMatching(`[A-Za-z0-9_-]{43}`).Draw(t, "token"), aStamp.Draw(t, "expires")}
	},
	"http.page-results.reply": func(t *rapid.T) any {
		r := PageResultReply{Outcome: OutcomeVerified, Page: PageChallenge, User: anID.Draw(t, "user"), Session: anID.Draw(t, "session")}
		if rapid.Bool().Draw(t, "verified") {
			r.Challenge, r.Factor, r.AMR, r.VerifiedAt = aChallenge.Draw(t, "challenge"), aFactor.Draw(t, "factor"), someAMR.Draw(t, "amr"), aStamp.Draw(t, "at")
			r.Device = maybe(t, aToken, "device")
			return r
		}
		r.Outcome = word(OutcomeFailed, OutcomeCancelled, OutcomeEnrolled, OutcomeDone, OutcomeDeactivated, OutcomeRecovered).Draw(t, "outcome")
		r.Page, r.Challenge = word(PageNames()...).Draw(t, "page"), maybe(t, aChallenge, "challenge")
		return r
	},
	"rpc.verify.reply": func(t *rapid.T) any {
		r := VerifyReply{AttemptsLeft: aCount.Draw(t, "left"), RetryAfter: aWait.Draw(t, "retry")}
		if rapid.Bool().Draw(t, "verified") {
			r.Result, r.User, r.Factor, r.AMR, r.VerifiedAt = string(otp.Verified), anID.Draw(t, "user"), aFactor.Draw(t, "factor"), someAMR.Draw(t, "amr"), aStamp.Draw(t, "at")
			r.Device = maybe(t, aToken, "device")
			return r
		}
		r.Result = rapid.OneOf(aVerdict, rapid.SampledFrom([]string{ResultWrong, ResultUnknown})).Draw(t, "result")
		r.User, r.Factor = maybe(t, anID, "user"), maybe(t, aFactor, "factor")
		return r
	},
	"rpc.login.reply": func(t *rapid.T) any {
		switch rapid.SampledFrom([]string{OutcomeIssued, OutcomeSkipped, OutcomeRefused}).Draw(t, "outcome") {
		case OutcomeIssued:
			return LoginReply{
				Outcome: OutcomeIssued, Challenge: aChallenge.Draw(t, "challenge"), Channel: aMethod.Draw(t, "channel"), Factor: aFactor.Draw(t, "factor"),
				To: maybe(t, aMask, "to"), ExpiresAt: aStamp.Draw(t, "expires"), Digits: maybe(t, aDigits, "digits"), Methods: maybe(t, rapid.SliceOf(aFactor), "methods"),
				Test: rapid.Bool().Draw(t, "test"),
			}
		case OutcomeSkipped:
			if rapid.Bool().Draw(t, "trusted") {
				return LoginReply{Outcome: OutcomeSkipped, Reason: "trusted_device", Device: aToken.Draw(t, "device")}
			}
			return LoginReply{Outcome: OutcomeSkipped, Reason: "no_factor"}
		default:
			return LoginReply{Outcome: OutcomeRefused, Reason: aReason.Draw(t, "reason"), Message: aSentence.Draw(t, "message"), RetryAfter: aWait.Draw(t, "retry")}
		}
	},
	"rpc.resend.reply": func(t *rapid.T) any {
		return ResendReply{aCount.Draw(t, "left"), aWait.Draw(t, "retry"), aMask.Draw(t, "to")}
	},
	"rpc.cancel.reply": func(*rapid.T) any { return CancelReply{string(otp.Cancelled)} },
	"rpc.status.reply": func(t *rapid.T) any {
		state := aState.Draw(t, "state")
		reason, _ := EndReason(otp.State(state))
		if !otp.State(state).Ended() || state == string(otp.Verified) {
			reason = ""
		}
		deliveries := rapid.SliceOf(rapid.Custom(func(t *rapid.T) StatusDelivery {
			return StatusDelivery{
				rapid.IntRange(1, 100).Draw(t, "attempt"), string(aChannel.Draw(t, "channel")), maybe(t, aSentence, "provider"), maybe(t, aSentence, "reference"),
				rapid.OneOf(rapid.SampledFrom([]string{string(otp.DeliveryQueued), string(otp.DeliverySending)}), rapid.Map(anOutcome, func(s otp.DeliveryState) string { return string(s) })).Draw(t, "state"),
				maybe(t, aSentence, "reason"), aMask.Draw(t, "to"), aStamp.Draw(t, "created"), aStamp.Draw(t, "updated"),
				rapid.SampledFrom([]string{"", "send", "failover", "fallback"}).Draw(t, "cause"), OptionalTime(maybe(t, aTime, "accepted")),
				OptionalTime(maybe(t, aTime, "delivered")), OptionalTime(maybe(t, aTime, "abandoned")),
			}
		}))
		return StatusReply{
			aChallenge.Draw(t, "challenge"), state, reason, anID.Draw(t, "user"), maybe(t, anID, "session"), aMethod.Draw(t, "channel"), maybe(t, aMask, "to"),
			maybe(t, aDigits, "digits"), maybe(t, rapid.SliceOf(aFactor), "methods"), maybe(t, someChannels, "channels"), transaction(t), aStamp.Draw(t, "created"),
			aStamp.Draw(t, "expires"), OptionalTime(maybe(t, aTime, "ended")), aCount.Draw(t, "left"), aCount.Draw(t, "sends"), maybe(t, aWait, "resend"),
			maybe(t, deliveries, "deliveries"), rapid.Bool().Draw(t, "test"),
		}
	},
	"rpc.error": func(t *rapid.T) any {
		return ErrorReply{ErrorBody{aReason.Draw(t, "code"), aSentence.Draw(t, "message"), maybe(t, anID, "field"), aWait.Draw(t, "retry")}}
	},
}

// command draws a command of any purpose.
func command(t *rapid.T) Command {
	c := Command{
		Challenge: aUUID.Draw(t, "challenge"), Attempt: rapid.IntRange(1, 100).Draw(t, "attempt"), Channel: aChannel.Draw(t, "channel"), App: anApp.Draw(t, "app"),
		AppName: aSentence.Draw(t, "name"), Origin: maybe(t, rapid.Just("shop.example"), "origin"), User: anID.Draw(t, "user"),
		To: rapid.SliceOfN(rapid.Byte(), 1, 400).Draw(t, "to"), Locale: maybe(t, rapid.Just("cs"), "locale"), Fallback: maybe(t, rapid.Just("de-AT"), "fallback"),
		Purpose:   rapid.SampledFrom([]string{PurposeChallenge, PurposeAddFactor, PurposeResetAddress, PurposeRecovery, PurposeNotice}).Draw(t, "purpose"),
		ExpiresAt: aTime.Draw(t, "expires").UTC(),
	}
	code := true
	if c.OfChallenge() {
		c.Transaction = transaction(t)
	} else {
		c.Channel = rapid.SampledFrom([]otp.Channel{otp.SMS, otp.Email, otp.Letter}).Draw(t, "sendable")
		c.CodeID = aUUID.Draw(t, "code id")
	}
	if c.Purpose == PurposeNotice {
		c.Notice = &NoticeDetail{
			rapid.SampledFrom(otp.Notices()).Draw(t, "notice"), aTime.Draw(t, "at").UTC(), maybe(t, aKind, "factor"), maybe(t, printable(MaxLabel), "label"),
			aCount.Draw(t, "left"), maybe(t, aTime, "effective").UTC(), maybe(t, rapid.Just(RevokedStolen), "reason"),
		}
		if code = rapid.Bool().Draw(t, "code?"); !code {
			c.CodeID = uuid.Nil
		}
	}
	if code {
		c.Nonce = rapid.SliceOfN(rapid.Byte(), otp.NonceSize, otp.NonceSize).Draw(t, "nonce")
		c.Key, c.Digits = rapid.Uint32().Draw(t, "key"), aDigits.Draw(t, "digits")
	}
	return c
}

// written proves that the schema takes what Go wrote, and that reading and writing it again changes nothing.
func written(t *rapid.T, k messageKind, body []byte) {
	if err := accepts(k.schema, body); err != nil {
		t.Fatalf("the schema refuses what Go wrote:\n%s\n%v", body, err)
	}
	if k.refuse != nil {
		if err := k.refuse(body); err != nil {
			t.Fatalf("Go refuses what Go wrote:\n%s\n%v", body, err)
		}
	}
	again, err := k.again(body)
	if err != nil {
		t.Fatalf("Go does not read what Go wrote:\n%s\n%v", body, err)
	}
	if string(again) != string(body) {
		t.Fatalf("reading and writing changed it:\n%s\n%s", body, again)
	}
}

func TestWhateverGoWritesIsValid(t *testing.T) {
	checked := map[string]bool{}
	for name, draw := range both(eventData, factorEvents) {
		checked[string(name)] = true
		t.Run(string(name), func(t *testing.T) {
			k := kindOfSchema(t, string(name))
			_, hasSubject := schemaFile(t, k.schema+".json").property(t, "subject")
			rapid.Check(t, func(t *rapid.T) {
				e := Event{App: anApp.Draw(t, "app"), Name: name, ID: anID.Draw(t, "id"), Time: aTime.Draw(t, "time"), Data: draw(t)}
				if hasSubject {
					e.Subject = maybe(t, aChallenge, "subject")
				}
				written(t, k, e.Encode())
			})
		})
	}
	for schema, draw := range both(replies, factorReplies) {
		checked[schema] = true
		t.Run(schema, func(t *testing.T) {
			k := kindOfSchema(t, schema)
			rapid.Check(t, func(t *rapid.T) { written(t, k, Encode(draw(t))) })
		})
	}
	checked["work.command"], checked["receipt"], checked["report"], checked["timer.due"] = true, true, true, true
	t.Run("report", func(t *testing.T) {
		k := kindOfSchema(t, "report")
		rapid.Check(t, func(t *rapid.T) {
			written(t, k, Report{
				"twilio-eu", maybe(t, aSentence, "token"), maybe(t, aSentence, "delivery"), maybe(t, aSentence, "reference"),
				rapid.SampledFrom([]otp.DeliveryState{otp.DeliveryAccepted, otp.DeliveryDelivered, otp.DeliveryUndelivered, otp.DeliveryFailed}).Draw(t, "state"),
				maybe(t, aSentence, "code"), maybe(t, aSentence, "reason"), rapid.Bool().Draw(t, "permanent"), aTime.Draw(t, "at").UTC(),
			}.Encode())
		})
	})
	t.Run("timer.due", func(t *testing.T) {
		k := kindOfSchema(t, "timer.due")
		rapid.Check(t, func(t *rapid.T) {
			written(t, k, Due{aUUID.Draw(t, "challenge"), rapid.IntRange(1, 60).Draw(t, "attempt")}.Encode())
		})
	})
	t.Run("work.command", func(t *testing.T) {
		k := kindOfSchema(t, "work.command")
		rapid.Check(t, func(t *rapid.T) {
			written(t, k, command(t).Encode())
		})
	})
	t.Run("receipt", func(t *testing.T) {
		k := kindOfSchema(t, "receipt")
		rapid.Check(t, func(t *rapid.T) {
			written(t, k, Receipt{
				aUUID.Draw(t, "challenge"), rapid.IntRange(1, 100).Draw(t, "attempt"), aChannel.Draw(t, "channel"), maybe(t, aSentence, "provider"), anOutcome.Draw(t, "state"),
				maybe(t, aSentence, "reference"), maybe(t, aSentence, "reason"),
				rapid.SampledFrom([]string{"", ClassAmbiguous, ClassTransient, ClassPermanent, ClassConfiguration, ClassRejected}).Draw(t, "class"),
				rapid.Bool().Draw(t, "unsure"), aTime.Draw(t, "at").UTC(),
			}.Encode())
		})
	})
	for _, k := range kinds {
		if !k.incoming() && !checked[k.schema] {
			t.Errorf("nothing draws %s", k.schema)
		}
	}
}
