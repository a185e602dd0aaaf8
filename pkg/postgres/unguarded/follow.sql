-- name: challenges_lock_unguarded
-- Reads them and keeps nobody from changing them.
SELECT id FROM challenges WHERE id = ANY ($1::uuid[]) ORDER BY id

-- name: deliveries_lock_unguarded
-- Waits for nobody.
SELECT FROM deliveries WHERE challenge_id = ANY ($1::uuid[]) AND (challenge_id, attempt) IN (SELECT * FROM unnest($1::uuid[], $2::smallint[]))

-- name: challenges_follow_unguarded
-- Set without compare: whoever saw a failure follows it.
UPDATE challenges c
SET deliveries = f.number, channel = f.channel,
    factor = f.factor, methods = CASE WHEN c.factor = f.factor THEN c.methods ELSE array_prepend(c.factor, array_remove(c.methods, f.factor)) END
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[]) AS f (id, number, channel, factor)
WHERE c.id = f.id AND c.id = ANY ($1::uuid[]) AND $5::timestamptz IS NOT NULL
RETURNING c.id

-- name: receipts_record_unguarded
-- The last word counts, whatever was known before.
UPDATE deliveries d
SET state = r.state, provider = CASE WHEN r.provider = '' THEN d.provider ELSE r.provider END, reason = r.reason, class = r.class, updated_at = $8::timestamptz,
    reference = CASE WHEN r.reference = '' THEN d.reference ELSE r.reference END,
    accepted_at = CASE WHEN r.state = 'accepted' THEN coalesce(d.accepted_at, $8::timestamptz) ELSE d.accepted_at END,
    delivered_at = CASE WHEN r.state = 'delivered' THEN $8::timestamptz ELSE d.delivered_at END,
    due_at = CASE WHEN r.state = 'accepted' THEN d.due_at END
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $9::boolean[], $10::text[])
     AS r (challenge_id, attempt, state, provider, reference, reason, class, report, channel)
WHERE d.challenge_id = r.challenge_id AND d.attempt = r.attempt AND d.challenge_id = ANY ($1::uuid[])
  AND r.channel IN ('', d.channel) AND (NOT r.report OR r.provider IN ('', d.provider))
RETURNING d.challenge_id, d.attempt, '' AS was
