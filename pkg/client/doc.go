// Package client is how a Go app uses otpost: it logs users in with a second factor, lets them add, look after and recover their factors, and hears what
// becomes of all that.
//
// An app connects with its own NATS user and asks:
//
//	c, err := client.Connect(ctx, client.Config{URL: "nats://127.0.0.1:4222", App: "shop", User: "app_shop", Password: password})
//	issued, err := c.Login(ctx, client.Login{User: "u-42", Session: session, Device: cookie})
//	verdict, err := c.Verify(ctx, client.Verify{Challenge: issued.Challenge, Session: session, Code: typed})
//	if verdict.Result == client.Verified { … }
//
// What the methods are for:
//
//   - A login: [Client.Login], [Client.Verify], [Client.Resend], [Client.CancelChallenge], [Client.ChallengeStatus], [Client.BeginWebAuthn]; or
//     [Client.PublishLogin] for an app that goes by events.
//   - A factor: [Client.BeginFactor], [Client.ResendFactor], [Client.ConfirmFactor], [Client.AcknowledgeBackupCodes], and then [Client.Factors],
//     [Client.RenameFactor], [Client.PreferFactor], [Client.ResyncFactor], [Client.RemoveFactor]. [Client.BeginDeactivation] and
//     [Client.ConfirmDeactivation] for a user who wants no second factor any more.
//   - Backup codes and trusted devices: [Client.BackupCodes], [Client.RegenerateBackupCodes], [Client.Devices], [Client.RevokeDevice],
//     [Client.RevokeDevices], [Client.RenewDevice]. [Client.Activity] tells what was done with all of it.
//   - Recovery: what is set beforehand ([Client.RecoveryPreferences], [Client.SetRecoveryPreferences], [Client.SetRecoveryAddress],
//     [Client.ConfirmRecoveryAddress]) and the way itself ([Client.BeginRecovery], [Client.ResendRecovery], [Client.ProveRecovery],
//     [Client.RecoveryStatus], [Client.CancelRecovery]).
//   - Events from otpost: [Client.Events]. Signals to it: [Client.PasswordChanged], [Client.SignedOut], [Client.DeviceErased], [Client.UserDeleted].
//
// # Errors
//
// A request that otpost refuses returns an [*Error], whose Code is of a closed set: errors.Is(err, [ErrRateLimited]) and the like tell which. A wrong
// code typed at a login is no error but a [Verdict], and a login that is refused is a [LoginResult]. [ErrNoAnswer] says that nobody answered in time, and
// that nothing is known of what became of the request.
//
// # Time-outs and repeats
//
// A call ends with its context; where that has no deadline, after five seconds ([WithTimeout]). A request that nobody took is sent again, three times in
// all ([WithTries]), with pauses between. One that may have been carried out is sent again only where a second time does no harm: where it reads, where it
// sets what it had set, and where it has an id by which otpost knows it (a login, an answer).
//
// # Secrets
//
// A trusted device's token ([Verdict], [LoginResult]) skips a second factor: keep it in a cookie that scripts cannot read. Codes, backup codes, secrets of
// authenticator apps and tokens of devices belong into no log; no error of this package holds one.
package client
