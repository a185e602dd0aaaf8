package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"
)

// defaultMaxConnections is Postgres' own.
const defaultMaxConnections = 100

// PostgresConfig says where and how to run a private Postgres.
type PostgresConfig struct {
	// Dir is the cluster's own directory, made when it is missing, shared with nothing else. As root it is opened for passing through (x).
	Dir string
	// BinDir holds the server's programs; FindPostgres finds it. Empty means to find it.
	BinDir string
	// Durable keeps what is committed through a power cut. Without it, for tests, Postgres never waits for the disk.
	Durable bool
	// MaxConnections is the most connections at once; 0 means 100.
	MaxConnections int
	// Settings are further parameters of postgresql.conf. Those that say where the server listens and stores are refused.
	Settings map[string]string
	// Logger hears of what needs a person's notice: data placed elsewhere, an orphan stopped. Nil is silence. Postgres' own log is the
	// file postgres.log in Dir.
	Logger *slog.Logger
}

// placementSettings are decided here and by nobody else.
var placementSettings = []string{
	"config_file", "data_directory", "external_pid_file", "hba_file", "listen_addresses", "logging_collector", "port",
	"unix_socket_directories", "unix_socket_permissions",
}

func (cfg *PostgresConfig) check() (err error) {
	if cfg.Dir == "" {
		return errors.New("no directory given")
	}
	if cfg.MaxConnections < 0 {
		return fmt.Errorf("max connections is %d", cfg.MaxConnections)
	}
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, defaultMaxConnections)
	for name := range cfg.Settings {
		if slices.Contains(placementSettings, strings.ToLower(name)) {
			return fmt.Errorf("setting %s is not free", name)
		}
	}
	if cfg.BinDir == "" {
		cfg.BinDir, err = FindPostgres("")
		return err
	}
	cfg.BinDir, err = FindPostgres(cfg.BinDir)
	return err
}

// arguments are the server's. Settings go here rather than into postgresql.conf, so that what runs is what this version says.
func (cfg PostgresConfig) arguments(data, socketDir string) []string {
	onOff := map[bool]string{true: "on", false: "off"}[cfg.Durable]
	settings := map[string]string{
		"fsync": onOff, "full_page_writes": onOff, "synchronous_commit": onOff,
		"max_connections":     strconv.Itoa(cfg.MaxConnections),
		"password_encryption": "scram-sha-256",
		"timezone":            "UTC", "log_timezone": "UTC",
		"log_line_prefix": "%m [%p] %u@%d ",
		"cluster_name":    "otpost",
	}
	for name, value := range cfg.Settings {
		settings[strings.ToLower(name)] = value
	}
	settings["port"] = socketPort
	settings["listen_addresses"] = ""
	settings["unix_socket_permissions"] = "0700"
	settings["unix_socket_directories"] = pq.QuoteIdentifier(socketDir) // a list, in which quotes make any name one element
	settings["logging_collector"] = "off"

	args := []string{"-D", data}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}
