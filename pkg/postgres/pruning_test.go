package postgres_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// Every statement of the hot path must find its partitions by the ids it is given: one that looks into all of them costs more with each day that is kept.
func TestStatementsLookIntoThePartitionsOfTheirDays(t *testing.T) {
	b := newBench(t)
	if made, err := b.challenges.EnsurePartitions(t.Context(), b.clock.Now(), 40); err != nil || made < 60 {
		t.Fatalf("%d partitions, %v", made, err)
	}
	now := b.clock.Now()
	ids := pq.StringArray{b.issued("u", "a").String(), b.issued("v", "b").String()}
	numbers, tries, apps, users := pq.Int64Array{1, 1}, pq.Int64Array{1, 1}, pq.Int64Array{int64(b.app.ID), int64(b.app.ID)}, pq.StringArray{"u", "v"}
	same := func(s string) pq.StringArray { return pq.StringArray{s, s} }
	low, high := otp.ChallengeID(now.Add(-25*time.Minute), [32]byte{}), otp.ChallengeID(now.Add(15*time.Minute), [32]byte{})
	for name, args := range map[string][]any{
		"attempts_claim":           {ids, now},
		"challenges_for_answers":   {ids},
		"challenges_for_verdicts":  {ids},
		"challenges_judge":         {ids, same("open"), same(uuid.NewString()), same("wrong"), now, same("")},
		"challenge_detail":         {ids},
		"challenge_status":         {ids[0]},
		"challenge_resend":         {ids[0], b.app.ID, "session", now, 30.0, "sms", "voice"},
		"challenges_follow":        {ids, numbers, same("voice"), same("sms"), now},
		"deliveries_abandon":       {ids, numbers, now},
		"deliveries_due_set":       {ids, numbers, same(now.Format(time.RFC3339Nano))},
		"deliveries_due_judged":    {ids, numbers, now},
		"deliveries_due":           {now, low, high, 100},
		"deliveries_lock":          {ids, numbers},
		"challenge_cancel":         {ids[0], b.app.ID, "session", now},
		"challenges_lock":          {ids},
		"challenges_supersede":     {ids, now},
		"challenges_open_of_users": {apps, users, now, low, high},
		"challenges_expire":        {now, 100, low, high},
		"challenges_void":          {apps, users, now, low, high, ids},
		"proof_spend":              {ids[0], b.app.ID, "u", "session", now, now},
		"challenges_undeliverable": {ids, now},
		"deliveries_of":            {ids},
		"deliveries_pending_of":    {ids},
		"deliveries_withdraw":      {ids, "reason", now},
		"deliveries_claim":         {ids, numbers, now, 20.0},
		"deliveries_state":         {ids, numbers},
		"deliveries_release":       {ids, numbers, tries, now},
		"deliveries_unsure":        {ids, numbers, tries, now},
		"deliveries_finish":        {ids, numbers, same("failed"), same(""), same(""), same(""), tries, now, same(""), same("")},
		"deliveries_overdue":       {now, 20.0, 100, low, high},
		"receipts_record":          {ids, numbers, same("failed"), same(""), same(""), same(""), same(""), now, pq.BoolArray{true, false}, same("")},
		"receipts_context":         {ids, numbers},
		"messages_expire":          {now, low, high},
		"messages_unsent":          {now, 20.0, 100, low, high},
		"message_states":           {ids},
		"recovery_codes_withdraw":  {ids, now},
	} {
		scanned := b.scanned(postgres.Query(name), args...)
		if len(scanned) == 0 {
			t.Errorf("%s: no partition is in its plan", name)
		}
		for table, partitions := range scanned {
			if len(partitions) > 3 {
				t.Errorf("%s looks into %d partitions of %s", name, len(partitions), table)
			}
		}
	}
	// the measure itself: what names no id looks into all
	if all := b.scanned("SELECT FROM challenges WHERE user_id = $1", "u")["challenges"]; len(all) < 40 {
		t.Errorf("a scan of all partitions counts as %d", len(all))
	}
}

var partitionName = regexp.MustCompile(`\b(challenges|deliveries)_[0-9]{8}\b`)

// scanned returns the partitions, by table, that are in a statement's plan for these parameters: it locks them all, if it scans them or not.
func (b *bench) scanned(statement string, args ...any) map[string]map[string]bool {
	b.Helper()
	rows, err := b.db.SQL(otposttest.Owner).QueryContext(b.Context(), "EXPLAIN (COSTS OFF) "+statement, args...)
	if err != nil {
		b.Fatalf("explain %s: %v", statement, err)
	}
	defer func() { _ = rows.Close() }()
	out := map[string]map[string]bool{}
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			b.Fatal(err)
		}
		for _, m := range partitionName.FindAllStringSubmatch(line, -1) {
			if out[m[1]] == nil {
				out[m[1]] = map[string]bool{}
			}
			out[m[1]][m[0]] = true
		}
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return out
}
