package keyring

import (
	"fmt"

	"github.com/google/uuid"
)

// The audit knows people, their sessions and addresses by keyed digests: who has the database alone can name nobody, and an erased person is a
// digest that nobody can make again once the app's id of the user is gone.
const auditLabel = "otpost/audit/v1"

// AuditKey returns the digest by which the audit knows a value of one app. What is user, session or ip.
func (r *Ring) AuditKey(what, app, value string) (uuid.UUID, error) {
	sum, err := r.Index(auditLabel, []byte(what), []byte(app), []byte(value))
	if err != nil {
		return uuid.Nil, fmt.Errorf("audit key: %w", err)
	}
	return uuid.UUID(sum[:16]), nil
}

// AuditKeys returns the digest under every key of the index, so that lines from before a rotation are found.
func (r *Ring) AuditKeys(what, app, value string) ([]uuid.UUID, error) {
	sums, err := r.Digests(auditLabel, []byte(what), []byte(app), []byte(value))
	if err != nil {
		return nil, fmt.Errorf("audit keys: %w", err)
	}
	out := make([]uuid.UUID, len(sums))
	for i, s := range sums {
		out[i] = uuid.UUID(s[:16])
	}
	return out, nil
}
