//go:build unguarded

package delivery

import (
	"os"
	"slices"
	"strings"
	"time"
)

// guardedExpiry puts the end of a code's life off when the guard of expiry is off.
func guardedExpiry(at time.Time) time.Time {
	if unguard("expiry") {
		return at.Add(time.Hour)
	}
	return at
}

// unguard reports whether OTPOST_UNGUARD, names separated by commas, lists the guard.
func unguard(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("OTPOST_UNGUARD"), ","), name)
}
