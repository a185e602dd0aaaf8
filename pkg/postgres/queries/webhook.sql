-- Webhooks of apps, and events on their way to them.

-- name: webhook_create
INSERT INTO webhooks (id, app_id, url, events, sealed, private, created_at, since)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)

-- name: webhook_list
-- $1 is an app's number, 0 for every app; $2 an id, NULL for every one.
SELECT w.id, w.app_id, a.name AS app, w.url, w.events, w.private, w.created_at, w.disabled_at, w.disabled_why, w.previous_until, n.pending, n.dead
FROM webhooks w
JOIN apps a ON a.id = w.app_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE e.state = 'pending') AS pending, count(*) FILTER (WHERE e.state = 'dead') AS dead
    FROM webhook_events e WHERE e.webhook_id = w.id) n
WHERE ($1::integer = 0 OR w.app_id = $1) AND ($2::uuid IS NULL OR w.id = $2)
ORDER BY a.name, w.created_at, w.id

-- name: webhook_rotate
-- Without an overlap the secret before signs no more.
UPDATE webhooks
SET previous = CASE WHEN $3::timestamptz > $4::timestamptz THEN sealed END, previous_until = CASE WHEN $3 > $4 THEN $3 END, sealed = $2
WHERE id = $1

-- name: webhook_disable
UPDATE webhooks SET disabled_at = $2, disabled_why = $3 WHERE id = $1 AND disabled_at IS NULL

-- name: webhook_enable
-- What was published while it was disabled is not sent.
UPDATE webhooks SET disabled_at = NULL, disabled_why = '', since = $2 WHERE id = $1 AND disabled_at IS NOT NULL

-- name: webhook_remove
DELETE FROM webhooks WHERE id = $1

-- name: webhook_dead
SELECT e.webhook_id, a.name AS app, e.event_id, e.name, e.tries, e.reason, e.created_at, e.updated_at
FROM webhook_events e
JOIN webhooks w ON w.id = e.webhook_id
JOIN apps a ON a.id = w.app_id
WHERE e.state = 'dead' AND ($1::integer = 0 OR w.app_id = $1)
ORDER BY e.updated_at, e.webhook_id, e.event_id
LIMIT $2

-- name: webhook_retry
-- What was given up, and what waits for a later try than anybody has it in hand for.
UPDATE webhook_events
SET state = 'pending', tries = 0, next_at = $3::timestamptz, updated_at = $3
WHERE webhook_id = $1 AND ($2 = '' OR event_id = $2) AND (state = 'dead' OR next_at > $4::timestamptz)

-- name: webhook_drop
DELETE FROM webhook_events WHERE webhook_id = $1 AND ($2 = '' OR event_id = $2) AND state = 'dead'

-- name: webhook_any
SELECT EXISTS (SELECT FROM webhooks)

-- name: webhook_write
-- An event becomes a row for each webhook of its app that was there before it and wants it.
INSERT INTO webhook_events (webhook_id, event_id, name, payload, next_at, created_at, updated_at)
SELECT w.id, t.event_id, t.name, t.payload, $6::timestamptz, $6, $6
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[]) AS t (app, event_id, name, payload, at)
JOIN apps a ON a.name = t.app
JOIN webhooks w ON w.app_id = a.id
WHERE w.disabled_at IS NULL AND w.since <= t.at
  AND (cardinality(w.events) = 0 OR t.name = ANY (w.events)
       OR EXISTS (SELECT FROM unnest(w.events) AS f (form) WHERE f.form LIKE '%.*' AND starts_with(t.name, left(f.form, -1))))
ON CONFLICT (webhook_id, event_id) DO NOTHING

-- name: webhook_targets
-- Webhooks that have something to send.
SELECT w.id, w.app_id, a.name AS app, w.url, w.private, w.sealed, CASE WHEN w.previous_until > $1::timestamptz THEN w.previous END AS previous
FROM webhooks w
JOIN apps a ON a.id = w.app_id
WHERE w.disabled_at IS NULL
  AND EXISTS (SELECT FROM webhook_events e WHERE e.webhook_id = w.id AND e.state = 'pending' AND e.next_at <= $1)

-- name: webhook_claim
-- Who claims a row has it alone until next_at. Rows that somebody else is claiming are passed over.
WITH picked AS (
    SELECT e.webhook_id, e.event_id
    FROM unnest($1::uuid[], $2::integer[]) AS t (webhook_id, room)
    CROSS JOIN LATERAL (
        SELECT d.webhook_id, d.event_id FROM webhook_events d
        WHERE d.webhook_id = t.webhook_id AND d.state = 'pending' AND d.next_at <= $3::timestamptz
        ORDER BY d.next_at LIMIT t.room FOR UPDATE SKIP LOCKED) e
)
UPDATE webhook_events e
SET next_at = $4::timestamptz, tries = e.tries + 1, updated_at = $3
FROM picked p
WHERE e.webhook_id = p.webhook_id AND e.event_id = p.event_id
RETURNING e.webhook_id, e.event_id, e.name, e.payload, e.tries

-- name: webhook_delivered
DELETE FROM webhook_events WHERE webhook_id = $1 AND event_id = $2

-- name: webhook_failed
-- Only where the row is still as it was claimed: otherwise it has been given to somebody else meanwhile.
UPDATE webhook_events
SET state = $5, next_at = $6, reason = $7, updated_at = $8
WHERE webhook_id = $1 AND event_id = $2 AND state = 'pending' AND tries = $3 AND next_at = $4

-- name: webhook_overdue
-- What has been due for so long that nobody has any use for it: its target is too slow for what comes, or its webhook is disabled.
UPDATE webhook_events
SET state = 'dead', reason = $3, updated_at = $2
WHERE (webhook_id, event_id) IN (
    SELECT e.webhook_id, e.event_id FROM webhooks w JOIN webhook_events e ON e.webhook_id = w.id
    WHERE e.state = 'pending' AND e.next_at < $1 ORDER BY e.webhook_id, e.event_id LIMIT $4 FOR UPDATE OF e SKIP LOCKED)

-- name: webhook_forget
DELETE FROM webhook_events
WHERE (webhook_id, event_id) IN (
    SELECT webhook_id, event_id FROM webhook_events
    WHERE state = 'dead' AND updated_at < $1 ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED)

-- name: webhook_backlog
SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'dead') AS dead FROM webhook_events
