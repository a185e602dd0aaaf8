-- See unguarded.sql.

-- name: webhook_claim_unguarded
-- Reads what is due and takes it, whoever else does so at the time.
WITH picked AS (
    SELECT e.webhook_id, e.event_id
    FROM unnest($1::uuid[], $2::integer[]) AS t (webhook_id, room)
    CROSS JOIN LATERAL (
        SELECT d.webhook_id, d.event_id FROM webhook_events d
        WHERE d.webhook_id = t.webhook_id AND d.state = 'pending' AND d.next_at <= $3::timestamptz
        ORDER BY d.next_at LIMIT t.room) e
)
UPDATE webhook_events e
SET next_at = $4::timestamptz, tries = e.tries + 1, updated_at = $3
FROM picked p
WHERE e.webhook_id = p.webhook_id AND e.event_id = p.event_id
RETURNING e.webhook_id, e.event_id, e.name, e.payload, e.tries
