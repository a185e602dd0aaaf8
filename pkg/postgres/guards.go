//go:build !unguarded

package postgres

const unguardedBuild = false

// guarded names the statement that holds an invariant. Built with the tag "unguarded", as scripts/check-guards does, it may name one that does
// not, so that each race test can be seen to fail without what it tests.
func guarded(name string) string { return name }

// guardedLogins are logins whose keys and challenge ids tell that they were decided before.
func guardedLogins(batch []Admission) []Admission { return batch }
