package postgres

// Query returns a named statement, for tests that look at its plan.
func Query(name string) string { return query(name) }
