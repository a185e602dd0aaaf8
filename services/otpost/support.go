package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/pkg/otp"
)

type supportCmd struct {
	Find    supportFindCmd    `cmd:"" help:"Show a user's factors and addresses, masked, and how a recovery stands."`
	Begin   supportBeginCmd   `cmd:"" help:"Begin a reset for a user. Where the policy says so, another agent has to approve it before anything is sent."`
	Approve supportApproveCmd `cmd:"" help:"Approve a reset that another agent has begun."`
	Refuse  supportRefuseCmd  `cmd:"" help:"Refuse a reset that another agent has begun."`
	Cancel  supportCancelCmd  `cmd:"" help:"Cancel a recovery."`
	Status  supportStatusCmd  `cmd:"" help:"Tell where a user's recovery stands."`
}

// agentFlags connect to NATS as a support agent. What an agent may do, and under which name, is the NATS user's: no flag can change it.
type agentFlags struct {
	NATSURL      string        `name:"nats-url" required:"" placeholder:"URL" help:"NATS servers, separated by commas."`
	NATSCA       string        `name:"nats-ca" type:"path" placeholder:"FILE" help:"PEM file of the authority that signed the server's certificate."`
	Agent        string        `required:"" help:"Your name as an agent; the NATS user is support-<name>."`
	NATSPassword string        `name:"nats-password" secret:"" help:"Password of that user."`
	App          string        `required:"" help:"Name of the app."`
	Wait         time.Duration `default:"10s" help:"How long to wait for NATS."`
}

// ask sends one request and decodes its reply.
func (f agentFlags) ask(r *run, verb string, body, reply any) error {
	if !otp.ValidApp(f.Agent) {
		return errors.New("--agent: must be 1 to 64 of a-z, 0-9 and -")
	}
	if err := checkApp(f.App); err != nil {
		return err
	}
	if err := checkServers(f.NATSURL); err != nil {
		return fmt.Errorf("--nats-url: %w", err)
	}
	ctx, cancel := context.WithTimeout(r.ctx, f.Wait)
	defer cancel()
	b, err := bus.Connect(bus.Config{
		URL: f.NATSURL, Role: bus.RoleAgent, User: bus.AgentUser(f.Agent), Password: f.NATSPassword, CAFile: f.NATSCA, Logger: r.log,
	})
	if err != nil {
		return fmt.Errorf("--nats-url: %w", err)
	}
	defer func() { _ = b.Close(context.WithoutCancel(ctx)) }()
	if err := lifecycle.Backoff(ctx, r.log, "reaching NATS", func(context.Context) error { return b.Connected() }); err != nil {
		return err
	}
	text, err := b.AskAs(ctx, f.Agent, verb, event.Encode(body))
	if p, ok := errors.AsType[*otp.Problem](err); ok {
		return errors.New(p.Message)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, reply); err != nil {
		return fmt.Errorf("read the reply: %w", err)
	}
	return nil
}

type supportFindCmd struct {
	agentFlags
	User string `arg:"" help:"The app's id of the user."`
}

// Run shows a user.
func (c *supportFindCmd) Run(r *run) error {
	var reply event.SupportFindReply
	if err := c.ask(r, event.SupportFind, event.SupportUserRequest{App: c.App, User: c.User}, &reply); err != nil {
		return err
	}
	w := tabwriter.NewWriter(r.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "second factor\t%s\nbackup codes left\t%d\ntrusted devices\t%d\n", onOff(reply.Activated), reply.BackupCodesLeft, reply.Devices)
	if reply.Locked {
		fmt.Fprintf(w, "account\tlocked after wrong answers\n")
	} else if reply.RetryAfter > 0 {
		fmt.Fprintf(w, "account\twaits %d s after wrong answers\n", reply.RetryAfter)
	}
	for _, f := range reply.Factors {
		fmt.Fprintf(w, "factor\t%s\n", strings.Join(nonEmpty(f.Kind, f.To, f.Label, f.State, "added "+f.CreatedAt), "  "))
	}
	for _, a := range reply.Preferences.Contacts {
		fmt.Fprintf(w, "recovery by\t%s  %s\n", a.Method, a.To)
	}
	if reply.Preferences.Passphrase {
		fmt.Fprintf(w, "recovery by\tpassphrase\n")
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return showRecovery(r.stdout, reply.Recovery)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func nonEmpty(in ...string) (out []string) {
	for _, s := range in {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// showRecovery tells where a recovery stands.
func showRecovery(out io.Writer, s event.RecoveryReply) error {
	if s.Recovery == "" {
		_, err := fmt.Fprintln(out, "No recovery is under way.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "recovery\t%s\nstate\t%s\n", s.Recovery, s.State)
	if len(s.Proven) > 0 {
		fmt.Fprintf(w, "proven by\t%s\n", strings.Join(s.Proven, ", "))
	}
	if s.Needed > 0 {
		fmt.Fprintf(w, "proofs missing\t%d\n", s.Needed)
	}
	for _, m := range s.Methods {
		state := m.State
		if state == string(otp.DeliveryQueued) && !sending(s.State) {
			state = "not sent"
		}
		fmt.Fprintf(w, "code by\t%s  %s  %s\n", m.Method, m.To, state)
	}
	if s.ExpiresAt != "" {
		fmt.Fprintf(w, "expires\t%s\n", s.ExpiresAt)
	}
	if s.EffectiveAt != "" {
		fmt.Fprintf(w, "takes effect\t%s\n", s.EffectiveAt)
	}
	if err := w.Flush(); err != nil || s.State != string(otp.RecoveryApproval) {
		return err
	}
	_, err := fmt.Fprintf(out, "\nNo code is sent until another agent runs: otpost support approve %s\n", s.Recovery)
	return err
}

// sending reports whether codes of a recovery in this state go out.
func sending(state string) bool {
	return state == string(otp.RecoveryProving) || state == string(otp.RecoveryWaiting)
}

type supportStatusCmd struct {
	agentFlags
	User string `arg:"" help:"The app's id of the user."`
}

// Run tells where a user's recovery stands.
func (c *supportStatusCmd) Run(r *run) error {
	var reply event.RecoveryReply
	if err := c.ask(r, event.SupportStatus, event.SupportUserRequest{App: c.App, User: c.User}, &reply); err != nil {
		return err
	}
	return showRecovery(r.stdout, reply)
}

type supportBeginCmd struct {
	agentFlags
	User    string   `arg:"" help:"The app's id of the user."`
	Reason  string   `required:"" help:"Why, for the audit."`
	Methods []string `help:"Ways to send codes by: email, phone, letter; all that the user has set where none is named."`
	Locale  string   `help:"Language of the messages."`
}

// Run begins a reset.
func (c *supportBeginCmd) Run(r *run) error {
	var reply event.RecoveryReply
	body := event.SupportBeginRequest{App: c.App, User: c.User, Reason: c.Reason, Methods: c.Methods, Locale: c.Locale}
	if err := c.ask(r, event.SupportBegin, body, &reply); err != nil {
		return err
	}
	return showRecovery(r.stdout, reply)
}

// recoveryFlags name a recovery.
type recoveryFlags struct {
	agentFlags
	Recovery string `arg:"" help:"Id of the recovery."`
}

func (c recoveryFlags) act(r *run, verb string) error {
	var reply event.RecoveryReply
	if err := c.ask(r, verb, event.SupportRecoveryRequest{App: c.App, Recovery: c.Recovery}, &reply); err != nil {
		return err
	}
	return showRecovery(r.stdout, reply)
}

type supportApproveCmd struct{ recoveryFlags }

// Run approves a reset.
func (c *supportApproveCmd) Run(r *run) error { return c.act(r, event.SupportApprove) }

type supportRefuseCmd struct{ recoveryFlags }

// Run refuses a reset.
func (c *supportRefuseCmd) Run(r *run) error { return c.act(r, event.SupportRefuse) }

type supportCancelCmd struct{ recoveryFlags }

// Run cancels a recovery.
func (c *supportCancelCmd) Run(r *run) error { return c.act(r, event.SupportCancel) }
