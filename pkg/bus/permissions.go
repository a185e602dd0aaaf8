package bus

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/otpost/otpost/pkg/event"
)

// Account is the NATS account of otpost's own workers. All streams live in it.
const Account = "OTPOST"

// AgentAccount names the NATS account of one support agent. It is a wall like an app's: what an agent asks is answered into its own account only,
// so that no agent can have an answer sent where it would count as another's request.
func AgentAccount(agent string) string { return "SUPPORT_" + agent }

// AgentUser names the NATS user of one support agent.
func AgentUser(agent string) string { return "support-" + agent }

// AppAccount names the NATS account of one app. Every app has its own, so that no app can see another's subjects or reply inboxes;
// what it shares with Account is exported and imported subject by subject.
func AppAccount(app string) string { return "APP_" + app }

// A Role is what a NATS user is there for; it is also that user's name. RoleApp and RoleAgent are not users by themselves: they stand for each
// app and for each support agent.
type Role string

// The roles.
const (
	RoleChallenge    Role = "challenge"
	RoleSMS          Role = "sms"
	RoleEmail        Role = "email"
	RoleLetter       Role = "letter"
	RoleVerification Role = "verification"
	RoleEnrolment    Role = "enrolment"
	RoleGateway      Role = "gateway"
	RoleOperator     Role = "operator"
	RoleApp          Role = "app"
	RoleAgent        Role = "agent"
)

// Roles returns the roles that are users of Account, in the order of the table.
func Roles() []Role {
	return []Role{RoleChallenge, RoleSMS, RoleEmail, RoleLetter, RoleVerification, RoleEnrolment, RoleGateway, RoleOperator}
}

// InboxPrefix is what a worker of the role gives to nats.CustomInboxPrefix. Replies to it arrive below that prefix and no other role may
// subscribe there. Apps and support agents keep the client's default, "_INBOX": their accounts are walls around it.
func (r Role) InboxPrefix() string {
	if r == RoleApp || r == RoleAgent {
		return "_INBOX"
	}
	return "_INBOX_" + string(r)
}

// act is a way to use NATS; each stands for the subjects that it takes.
type act string

const (
	publishes  act = "publishes"  // sends, with or without JetStream's acknowledgement
	requests   act = "requests"   // sends and reads the reply in its inbox
	subscribes act = "subscribes" // receives
	serves     act = "serves"     // receives requests, answers each once
	pulls      act = "pulls"      // reads a durable pull consumer, "stream/consumer", and acknowledges
)

// A grant is one line of the table. In what, "<app>" stands for the name of the app that asks, and "<agent>" for that of the support agent.
type grant struct {
	role Role
	act  act
	what string
	why  string
}

// grants is the table: who may do what on NATS. The server's configuration, its printed form and the tests all come from it.
//
// Nobody but the operator may create a stream or a consumer. The body of a create request is free, and with a deliver_subject in it a
// consumer writes stored messages to any subject of the account, so no subject permission could hold its creator.
//
// A support agent asks under a subject that holds its name, and may use no other: who it is follows from the subject and never from the body.
//
// Events are granted by name: apps let a user in on challenge.verified, and only the role that has seen the answer may say so. Each role
// publishes what it has left in the outbox itself.
//
// One limit stays within Account: NATS does not check the reply subject of a request, so a worker that has been taken over can have streams
// and other workers send their answers to any subject there. It cannot choose what these say, and workers refuse what does not parse. From
// an app's account nothing of the kind is possible, because replies return to the account that asked.
var grants = []grant{
	{RoleChallenge, pulls, "OTPOST_LOGINS/challenge", "login events"},
	{RoleChallenge, pulls, "OTPOST_RECEIPTS/challenge", "what providers say of deliveries"},
	{RoleChallenge, pulls, StreamTimers + "/challenge", "deliveries that no receipt has come of in time"},
	{RoleChallenge, publishes, event.TimerPrefix + "*", "sets the time by which a receipt is to come"},
	{RoleChallenge, publishes, "otpost.work.sms", "delivery commands"},
	{RoleChallenge, publishes, "otpost.work.voice", "delivery commands"},
	{RoleChallenge, publishes, "otpost.work.whatsapp", "delivery commands"},
	{RoleChallenge, publishes, "otpost.work.email", "delivery commands"},
	{RoleChallenge, publishes, toApps(event.ChallengeIssued), "tells apps of a new challenge"},
	{RoleChallenge, publishes, toApps(event.ChallengeSkipped), "tells apps that none is needed"},
	{RoleChallenge, publishes, toApps(event.ChallengeRefused), "tells apps that there will be none"},
	{RoleChallenge, publishes, toApps(event.ChallengeSent), "tells apps of a delivery"},
	{RoleChallenge, publishes, toApps(event.ChallengeDelivered), "tells apps of a delivery"},
	{RoleChallenge, publishes, toApps(event.ChallengeUndeliverable), "tells apps of a delivery"},
	{RoleChallenge, publishes, toApps(event.ChallengeEnded), "tells apps of an end without an answer"},
	{RoleChallenge, publishes, toApps(event.DeviceRevoked), "tells apps of a stolen trusted device"},
	{RoleChallenge, publishes, toApps(event.AlarmRaised), "tells apps of a spend cap or a blocked prefix"},
	{RoleChallenge, publishes, "otpost.dead.OTPOST_LOGINS", "logins that cannot be processed"},
	{RoleChallenge, publishes, "otpost.dead.OTPOST_RECEIPTS", "receipts that cannot be processed"},
	{RoleChallenge, publishes, "otpost.dead.OTPOST_TIMERS", "timers that cannot be processed"},
	{RoleChallenge, serves, "otpost.app.*.rpc.login", "logins by request"},
	{RoleChallenge, serves, "otpost.app.*.rpc.resend", "asks to send a code again"},
	{RoleChallenge, serves, "otpost.app.*.rpc.cancel", "asks to end a challenge"},
	{RoleChallenge, serves, "otpost.app.*.rpc.status", "asks for a challenge's state"},
	{RoleChallenge, serves, toAnswer(event.VerbDeviceRenew), "asks for a trusted device's next token"},

	{RoleSMS, pulls, "OTPOST_WORK/sms", "delivery commands of its channel"},
	{RoleSMS, pulls, "OTPOST_WORK/voice", "delivery commands of its channel"},
	{RoleSMS, pulls, "OTPOST_WORK/whatsapp", "delivery commands of its channel"},
	{RoleSMS, publishes, "otpost.receipt.sms", "outcomes of its deliveries"},
	{RoleSMS, publishes, "otpost.receipt.voice", "outcomes of its deliveries"},
	{RoleSMS, publishes, "otpost.receipt.whatsapp", "outcomes of its deliveries"},
	{RoleSMS, publishes, "otpost.dead.OTPOST_WORK", "commands that cannot be processed"},

	{RoleEmail, pulls, "OTPOST_WORK/email", "delivery commands of its channel"},
	{RoleEmail, publishes, "otpost.receipt.email", "outcomes of its deliveries"},
	{RoleEmail, publishes, "otpost.dead.OTPOST_WORK", "commands that cannot be processed"},

	{RoleLetter, pulls, "OTPOST_WORK/letter", "delivery commands of its channel"},
	{RoleLetter, publishes, "otpost.dead.OTPOST_WORK", "commands that cannot be processed"},

	{RoleVerification, serves, "otpost.app.*.rpc.verify", "answers to check"},
	{RoleVerification, serves, toAnswer(event.VerbWebAuthnBegin), "asks for what a security key is to sign"},
	{RoleVerification, serves, toAnswer(event.VerbFactorResync), "two codes of a hardware token that has run ahead"},
	{RoleVerification, serves, event.InternalSubject(event.VerbCheck), "codes that an act of enrolment needs"},
	{RoleVerification, publishes, toApps(event.ChallengeVerified), "tells apps of a right answer"},
	{RoleVerification, publishes, toApps(event.ChallengeFailed), "tells apps of a wrong answer"},
	{RoleVerification, publishes, toApps(event.ChallengeEnded), "tells apps of an end after wrong answers"},
	{RoleVerification, publishes, toApps(event.AccountLocked), "tells apps of too many wrong answers"},
	{RoleVerification, publishes, toApps(event.BackupCodeUsed), "tells apps of a backup code that is spent"},
	{RoleVerification, publishes, toApps(event.FactorSuspended), "tells apps of a factor that may have been copied"},
	{RoleVerification, publishes, toApps(event.DeviceTrusted), "tells apps of a trusted device"},
	{RoleVerification, publishes, toApps(event.DeviceRevoked), "tells apps of trusted devices that are void"},

	{RoleEnrolment, pulls, "OTPOST_SIGNALS/enrolment", "signals of apps"},
	{RoleEnrolment, publishes, "otpost.work.sms", "codes of ceremonies and recoveries, and notices"},
	{RoleEnrolment, publishes, "otpost.work.email", "codes of ceremonies and recoveries, and notices"},
	{RoleEnrolment, publishes, "otpost.work.letter", "codes of recoveries"},
	{RoleEnrolment, publishes, "otpost.dead.OTPOST_SIGNALS", "signals that cannot be processed"},
	{RoleEnrolment, requests, event.InternalSubject(event.VerbCheck), "has a code checked that an act needs"},
	{RoleEnrolment, serves, toAnswer(event.VerbFactorBegin), "the life of factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbFactorResend), "the life of factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbFactorConfirm), "the life of factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbFactorList), "the life of factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbFactorRename), "the life of factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbFactorPrefer), "the life of factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbFactorRemove), "the life of factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbBackupAcknowledge), "backup codes"},
	{RoleEnrolment, serves, toAnswer(event.VerbBackupView), "backup codes"},
	{RoleEnrolment, serves, toAnswer(event.VerbBackupRegenerate), "backup codes"},
	{RoleEnrolment, serves, toAnswer(event.VerbDeviceList), "trusted devices"},
	{RoleEnrolment, serves, toAnswer(event.VerbDeviceRevoke), "trusted devices"},
	{RoleEnrolment, serves, toAnswer(event.VerbActivityList), "what was done with a user's factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbDeactivateBegin), "the end of a user's second factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbDeactivateConfirm), "the end of a user's second factors"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryPreferences), "recovery"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryAddress), "recovery"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryConfirm), "recovery"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryBegin), "recovery"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryResend), "recovery"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryProve), "recovery"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryStatus), "recovery"},
	{RoleEnrolment, serves, toAnswer(event.VerbRecoveryCancel), "recovery"},
	{RoleEnrolment, serves, event.SupportSubject("*", event.SupportFind), "support agents"},
	{RoleEnrolment, serves, event.SupportSubject("*", event.SupportBegin), "support agents"},
	{RoleEnrolment, serves, event.SupportSubject("*", event.SupportApprove), "support agents"},
	{RoleEnrolment, serves, event.SupportSubject("*", event.SupportRefuse), "support agents"},
	{RoleEnrolment, serves, event.SupportSubject("*", event.SupportCancel), "support agents"},
	{RoleEnrolment, serves, event.SupportSubject("*", event.SupportStatus), "support agents"},
	{RoleEnrolment, publishes, toApps(event.FactorAdded), "tells apps of factors"},
	{RoleEnrolment, publishes, toApps(event.FactorRemoved), "tells apps of factors"},
	{RoleEnrolment, publishes, toApps(event.ChallengeEnded), "tells apps of the end of what was opened for factors that are gone"},
	{RoleEnrolment, publishes, toApps(event.BackupCodeUsed), "tells apps of a backup code that is spent on a recovery"},
	{RoleEnrolment, publishes, toApps(event.BackupCodesRegenerated), "tells apps that the old backup codes are void"},
	{RoleEnrolment, publishes, toApps(event.DeviceRevoked), "tells apps of trusted devices that are void"},
	{RoleEnrolment, publishes, toApps(event.Deactivated), "tells apps that a user has no factor any more"},
	{RoleEnrolment, publishes, toApps(event.RecoveryBegun), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.RecoveryApproved), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.RecoveryProven), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.RecoveryWaiting), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.RecoveryCompleted), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.RecoveryCancelled), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.RecoveryExpired), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.RecoveryRefused), "tells apps of a recovery"},
	{RoleEnrolment, publishes, toApps(event.AccountLocked), "tells apps of too many wrong codes"},
	{RoleEnrolment, publishes, toApps(event.AlarmRaised), "tells apps of a spend cap"},
	{RoleEnrolment, publishes, toApps(event.UserErased), "tells apps that a deleted user is gone"},

	{RoleGateway, requests, "otpost.app.*.rpc.>", "asks for apps and their users, as the key or the page session says"},
	{RoleGateway, publishes, "otpost.app.*.signal.>", "signals of apps that came over HTTP"},
	{RoleGateway, pulls, StreamEvents + "/" + ConsumerGateway, "events for webhooks"},
	{RoleGateway, publishes, "otpost.dead.OTPOST_EVENTS", "events that cannot be processed"},
	{RoleGateway, publishes, event.ReportSubject, "what providers say of deliveries"},

	{RoleOperator, requests, "$JS.API.>", "declares streams and consumers, reads dead letters"},
	{RoleOperator, publishes, "$JS.ACK.>", "acknowledges what it has read"},
	{RoleOperator, requests, "$SRV.>", "finds the workers that answer requests, with their statistics"},
	{RoleOperator, publishes, "otpost.>", "puts dead letters back"},
	{RoleOperator, subscribes, "otpost.>", "watches"},
	{RoleOperator, subscribes, "$JS.EVENT.ADVISORY.>", "watches what JetStream tells of its streams"},

	{RoleApp, publishes, "otpost.app.<app>.login", "login events"},
	{RoleApp, publishes, "otpost.app.<app>.signal.>", "signals"},
	{RoleApp, requests, "otpost.app.<app>.rpc.>", "requests"},
	{RoleApp, requests, "$SRV.>", "finds the workers that answer its requests; their statistics are of all apps together"},
	{RoleApp, subscribes, "otpost.app.<app>.event.>", "its events, while it is connected"},
	{RoleApp, pulls, "OTPOST_EVENTS/<app>", "its events, none missed; the operator has made the consumer"},

	{RoleAgent, requests, "otpost.support.<agent>.rpc.>", "finds users, begins and approves resets, under its own name"},
}

// toApps is the subject of an event to any app.
func toApps(name event.Name) string { return event.EventSubject("*", name) }

// toAnswer is the subject of any app's requests of a verb.
func toAnswer(verb string) string { return event.RPCSubject("*", verb) }

// Permissions are the subjects of one NATS user. What is not listed is denied.
type Permissions struct {
	Publish   []string
	Subscribe []string
	// Responses: may answer a message that it received, once and within ResponseWithin, on the reply subject that this carried. The server
	// forgets such permissions when its configuration is reloaded; what apps ask is answered on "_R_.>" and does not depend on them.
	Responses bool
}

// Permissions returns what the role's user may do. For RoleApp use AppPermissions, for RoleAgent AgentPermissions.
func (r Role) Permissions() Permissions { return permissions(r, "") }

// AppPermissions returns what the user of an app may do. The name must be valid (otp.ValidApp).
func AppPermissions(app string) Permissions { return permissions(RoleApp, app) }

// AgentPermissions returns what the user of a support agent may do. The name must be valid (otp.ValidApp).
func AgentPermissions(agent string) Permissions { return permissions(RoleAgent, agent) }

// permissions returns what a role may do; name is that of the app or the agent.
func permissions(r Role, name string) Permissions {
	var p Permissions
	for _, g := range grants {
		if g.role != r {
			continue
		}
		what := named(g.what, name)
		switch g.act {
		case publishes, requests:
			p.Publish = append(p.Publish, what)
		case subscribes:
			p.Subscribe = append(p.Subscribe, what)
		case serves:
			p.Subscribe = append(p.Subscribe, what, "$SRV.>") // where micro services listen to be found
			p.Publish = append(p.Publish, "_R_.>")            // where replies to another account go, under random names
			p.Responses = true
		case pulls:
			stream, consumer, _ := strings.Cut(what, "/")
			if r != RoleApp { // it lists a stream's subjects, and with them every other app
				p.Publish = append(p.Publish, "$JS.API.STREAM.INFO."+stream)
			}
			p.Publish = append(p.Publish, consumerInfo(stream, consumer), consumerNext(stream, consumer), consumerAck(stream, consumer))
		}
	}
	p.Publish = unique(p.Publish)
	p.Subscribe = unique(append(p.Subscribe, r.InboxPrefix()+".>"))
	return p
}

// A shared subject crosses from Account into the account of an app or a support agent.
type shared struct {
	subject string
	stream  bool // messages flow out of Account; otherwise the other sends, and replies flow back
	replies bool // one request may bring many replies
}

// shares lists what the account of an app or a support agent, as role says, imports from Account.
func shares(role Role, name string) []shared {
	var out []shared
	for _, g := range grants {
		if g.role != role {
			continue
		}
		what := named(g.what, name)
		switch g.act {
		case publishes, requests:
			out = append(out, shared{subject: what, replies: strings.HasPrefix(what, "$SRV.")}) // every worker answers a question to all
		case subscribes:
			out = append(out, shared{subject: what, stream: true})
		case pulls:
			stream, consumer, _ := strings.Cut(what, "/")
			out = append(out,
				shared{subject: consumerInfo(stream, consumer)},
				shared{subject: consumerNext(stream, consumer), replies: true},
				shared{subject: consumerAck(stream, consumer)})
		case serves:
			panic("bus: role " + string(role) + " cannot serve: its account exports nothing")
		}
	}
	return out
}

// The JetStream API of one consumer, as https://docs.nats.io/reference/reference-protocols/nats_api_reference names it.
func consumerInfo(stream, consumer string) string {
	return "$JS.API.CONSUMER.INFO." + stream + "." + consumer
}

func consumerNext(stream, consumer string) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumer
}

func consumerAck(stream, consumer string) string { return "$JS.ACK." + stream + "." + consumer + ".>" }

func named(what, name string) string {
	return strings.NewReplacer("<app>", name, "<agent>", name).Replace(what)
}

// unique drops repeats and keeps the order.
func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// PermissionTable writes the table for people, as Markdown: first what each role may do and why, then the subjects that this comes to.
func PermissionTable(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| user | may | subject, or stream/consumer | for |\n|---|---|---|---|\n")
	for _, g := range grants {
		who := "`" + string(g.role) + "`"
		if g.role == RoleApp || g.role == RoleAgent {
			who = each[g.role]
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` | %s |\n", who, string(g.act), g.what, g.why)
	}
	b.WriteString("\n| user | account | may publish to | may subscribe to | may answer requests |\n|---|---|---|---|---|\n")
	for _, r := range append(Roles(), RoleApp, RoleAgent) {
		who, account, p := "`"+string(r)+"`", Account, r.Permissions()
		switch r {
		case RoleApp:
			who, account, p = each[r], AppAccount("<app>"), AppPermissions("<app>")
		case RoleAgent:
			who, account, p = each[r], AgentAccount("<agent>"), AgentPermissions("<agent>")
		}
		answers := "no"
		if p.Responses {
			answers = "yes"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", who, account, codes(p.Publish), codes(p.Subscribe), answers)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// each is what the table calls the roles that are many users.
var each = map[Role]string{RoleApp: "each app", RoleAgent: "each support agent"}

func codes(subjects []string) string { return "`" + strings.Join(subjects, "`, `") + "`" }
