//go:build unguarded

package postgres

import (
	"crypto/rand"
	"embed"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
)

const unguardedBuild = true

//go:embed unguarded/*.sql
var unguardedFiles embed.FS

func init() { maps.Copy(queries, mustLoad(unguardedFiles, "unguarded")) }

// guarded names the statement without its guard where OTPOST_UNGUARD lists the guarded one.
func guarded(name string) string {
	if unguard(name) {
		return name + "_unguarded"
	}
	return name
}

// guardedLogins gives each delivery of a login a key and a challenge of its own when the guard of logins is off: as ids made at random would.
func guardedLogins(batch []Admission) []Admission {
	if !unguard("logins_known") {
		return batch
	}
	own := slices.Clone(batch)
	for i := range own {
		own[i].Key = uuid.New()
		_, _ = rand.Read(own[i].Challenge[9:]) // its time and version stay: they say in which partition it lies
	}
	return own
}

// unguard reports whether OTPOST_UNGUARD, names separated by commas, lists the guard.
func unguard(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("OTPOST_UNGUARD"), ","), name)
}
