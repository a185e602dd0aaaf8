package main

import (
	"testing"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A notice that cannot be read keeps no other one waiting, and a flood of them costs a dozen messages.
func TestNoticesThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	stop := s.run(factorRoles...)
	s.enrol("alice")
	s.enrolAddress("alice", "sms", "+14155550100")
	s.notified("+14155550100", "second factor was added")
	stop()
	for _, poison := range []string{
		`'device_trusted', '{"at": 5}'`, `'no such notice', '{}'`, `'backup_code_used', '{"cancel": {"id": "x"}}'`,
	} {
		otposttest.Get[int](t, s.db, `WITH i AS (INSERT INTO notices (id, app_id, user_id, notice, detail, at)
			SELECT gen_random_uuid(), id, 'alice', `+poison+`, 'epoch' FROM apps RETURNING 1) SELECT count(*) FROM i`)
	}
	otposttest.Get[int](t, s.db, `WITH i AS (INSERT INTO notices (id, app_id, user_id, notice, detail, at)
		SELECT gen_random_uuid(), id, 'alice', 'backup_codes_regenerated', '{}', now() FROM apps, generate_series(1, 50) RETURNING 1) SELECT count(*) FROM i`)
	s.run(bus.RoleSMS, bus.RoleEnrolment)
	s.notified("+14155550100", "backup codes")
	otposttest.Eventually(t, "no notice waits", func() bool { return otposttest.Get[int](t, s.db, `SELECT count(*) FROM notices`) == 0 })
	otposttest.Eventually(t, "all that may go is gone", func() bool {
		return otposttest.Get[int](t, s.db, `SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending')`) == 0
	})
	notices := 0
	for _, m := range s.box.List(inbox.Filter{To: "+14155550100"}) {
		if m.Text[0] == 'A' { // it begins with the app's name, a code with its digits
			notices++
		}
	}
	if notices > 12 {
		t.Errorf("%d text messages for a flood of notices, want at most 12", notices)
	}
	// What must be told is told in spite of the flood.
	otposttest.Get[int](t, s.db, `WITH i AS (INSERT INTO notices (id, app_id, user_id, notice, detail, at)
		SELECT gen_random_uuid(), id, 'alice', 'deactivated', '{}', now() FROM apps RETURNING 1) SELECT count(*) FROM i`)
	s.notified("+14155550100", "sign-in was turned off")
}
