-- What an operator asks who looks for a code that did not arrive, and what the metrics ask. Neither addresses nor what codes are derived from.

-- name: status_ceremony
SELECT id, user_id, kind, state, mask, attempts, max_attempts, sends, created_at, expires_at, ended_at
FROM ceremonies
WHERE id = $1 AND app_id = $2

-- name: status_recovery
SELECT id, user_id, state, begun_by, approved_by, reason, proofs, attempts, max_attempts, created_at, expires_at, effective_at, ended_at
FROM recoveries
WHERE id = $1 AND app_id = $2

-- name: status_message
SELECT id, user_id, channel, purpose, mask, code_id, created_at, expires_at
FROM messages
WHERE id = $1 AND app_id = $2

-- name: status_recovery_of
-- The recovery that a message of this user belongs to: its code's, or the last that was begun before the message was written.
SELECT id
FROM recoveries
WHERE app_id = $1 AND user_id = $2 AND (id = $3 OR $4 AND id < $5)
ORDER BY id DESC
LIMIT 1

-- name: status_recovery_messages
-- Each send of a recovery's code is a message of its own, and only the last is known by its id. One recovery is under way at a time, so those written between
-- its begin and the begin of the next are its own; and so are the notices with the code that cancels it.
SELECT m.id, m.user_id, m.channel, m.purpose, m.mask, m.code_id, m.created_at, m.expires_at
FROM messages m
WHERE m.app_id = $1 AND m.user_id = $2
  AND (m.code_id = $3
       OR m.purpose = 'recovery' AND m.id > $3
          AND NOT EXISTS (SELECT 1 FROM recoveries r WHERE r.app_id = $1 AND r.user_id = $2 AND r.id > $3 AND r.id < m.id))
ORDER BY m.id

-- name: status_deliveries
SELECT challenge_id, attempt, channel, state, mask, provider, reference, reason, tries, unsure, created_at, updated_at
FROM deliveries
WHERE challenge_id = ANY ($1::uuid[])
ORDER BY created_at, challenge_id, attempt

-- name: backlog_notices
SELECT count(*) AS count, min(at) AS oldest FROM notices

-- name: backlog_recoveries
SELECT state, count(*) AS count FROM recoveries WHERE state IN ('approval', 'proving', 'waiting') GROUP BY state

-- name: keys_enrolled
SELECT count(*) FROM factors WHERE app_id = $1 AND kind = 'webauthn' AND state <> 'removed'

-- name: audit_before
SELECT id, at, user_key, actor, action, factor, session_key, ip_key, role, detail
FROM audit
WHERE app_id = $1 AND user_key = ANY ($2::uuid[]) AND ($3::bigint = 0 OR id < $3)
ORDER BY id DESC
LIMIT $4
