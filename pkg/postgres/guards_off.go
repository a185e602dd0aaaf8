//go:build unguarded

package postgres

import (
	"os"
	"strings"

	"github.com/google/uuid"
)

const unguardedBuild = true

// guarded names the statement without its guard where OTPOST_UNGUARD lists the guarded one.
func guarded(name string) string {
	if unguard(name) {
		return name + "_unguarded"
	}
	return name
}

// guardedKey gives each delivery of a login a key of its own when the guard of logins is off.
func guardedKey(key uuid.UUID) uuid.UUID {
	if unguard("logins_known") {
		return uuid.New()
	}
	return key
}

func unguard(name string) bool {
	for n := range strings.SplitSeq(os.Getenv("OTPOST_UNGUARD"), ",") {
		if n == name {
			return true
		}
	}
	return false
}
