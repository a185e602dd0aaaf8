package main

import (
	"fmt"

	"github.com/otpost/otpost/pkg/bus"
)

type natsCmd struct {
	Config      natsConfigCmd      `cmd:"" help:"Print the configuration of a NATS server with otpost's accounts, users and permissions."`
	Permissions natsPermissionsCmd `cmd:"" help:"Print who may do what, as a table."`
}

type natsConfigCmd struct {
	Listen               string            `default:"127.0.0.1" help:"Address that the server listens on."`
	NATSPort             int               `name:"nats-port" default:"4222" help:"Its port."`
	ServerName           string            `default:"otpost" help:"Name of the server; its own for each of a cluster."`
	StoreDir             string            `default:"/var/lib/nats" help:"Where JetStream keeps streams."`
	SyncInterval         string            `default:"always" help:"How often JetStream flushes to disk: always (before each acknowledgement) or a duration of at least 1s."`
	MaxFileStore         int64             `help:"Most bytes on disk; what is free where it is not given."`
	TLSCert              string            `name:"tls-cert" placeholder:"FILE" help:"PEM file of the server's certificate, as the server will find it."`
	TLSKey               string            `name:"tls-key" placeholder:"FILE" help:"PEM file of its key."`
	ChallengePassword    string            `required:"" secret:"" help:"Password of the user challenge; a bcrypt hash stays as it is."`
	SMSPassword          string            `name:"sms-password" required:"" secret:"" help:"Password of the user sms."`
	EmailPassword        string            `required:"" secret:"" help:"Password of the user email."`
	VerificationPassword string            `required:"" secret:"" help:"Password of the user verification."`
	EnrolmentPassword    string            `required:"" secret:"" help:"Password of the user enrolment."`
	LetterPassword       string            `required:"" secret:"" help:"Password of the user letter."`
	GatewayPassword      string            `required:"" secret:"" help:"Password of the user gateway."`
	OperatorPassword     string            `required:"" secret:"" help:"Password of the user operator."`
	AppPasswords         map[string]string `secret:"" placeholder:"NAME=PASSWORD;…" help:"Apps that may connect, as user app_<name>."`
	AgentPasswords       map[string]string `secret:"" placeholder:"NAME=PASSWORD;…" help:"Support agents that may connect, as user support-<name>."`
	BcryptCost           int               `default:"11" help:"Cost of hashing the passwords, 4 to 31; 0 writes them as they are."`
}

// Run prints the configuration.
func (c *natsConfigCmd) Run(r *run) error {
	s := bus.ServerSettings{
		Name: c.ServerName, Host: c.Listen, Port: c.NATSPort, StoreDir: c.StoreDir, SyncInterval: c.SyncInterval, MaxFileStore: c.MaxFileStore,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, BcryptCost: c.BcryptCost, Agents: c.AgentPasswords,
		Users: map[bus.Role]string{
			bus.RoleChallenge: c.ChallengePassword, bus.RoleSMS: c.SMSPassword, bus.RoleEmail: c.EmailPassword,
			bus.RoleVerification: c.VerificationPassword, bus.RoleOperator: c.OperatorPassword,
			bus.RoleEnrolment: c.EnrolmentPassword, bus.RoleGateway: c.GatewayPassword, bus.RoleLetter: c.LetterPassword,
		},
	}
	for name, password := range c.AppPasswords {
		s.Apps = append(s.Apps, bus.App{Name: name, Password: password})
	}
	text, err := bus.ServerConfig(s)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(r.stdout, text)
	return err
}

type natsPermissionsCmd struct{}

// Run prints the table.
func (natsPermissionsCmd) Run(r *run) error { return bus.PermissionTable(r.stdout) }
