-- What the janitor of enrolment removes. $1 is the time from which on it is kept, $2 the most rows.

-- name: janitor_lock
SELECT pg_try_advisory_lock(hashtext('otpost.janitor'))

-- name: janitor_unlock
SELECT pg_advisory_unlock(hashtext('otpost.janitor'))

-- name: upkeep_ceremonies
DELETE FROM ceremonies WHERE id IN (SELECT id FROM ceremonies WHERE created_at < $1 LIMIT $2)

-- name: upkeep_confirmed
-- Half a factor: confirmed, and its backup codes never acknowledged. It goes with them; no login asked for it.
WITH late AS (
    SELECT f.id, f.app_id, f.user_id FROM factors f WHERE f.state = 'confirmed' AND f.created_at < $1 LIMIT $2
), held AS (
    SELECT a.app_id, a.user_id FROM accounts a JOIN (SELECT DISTINCT app_id, user_id FROM late) l USING (app_id, user_id) ORDER BY 1, 2 FOR UPDATE OF a
), gone AS (
    DELETE FROM factors f USING held h
    WHERE f.app_id = h.app_id AND f.user_id = h.user_id AND f.state = 'confirmed' AND f.created_at < $1
    RETURNING f.app_id, f.user_id
)
DELETE FROM backup_codes b USING gone g
WHERE b.app_id = g.app_id AND b.user_id = g.user_id
  AND NOT EXISTS (SELECT 1 FROM factors f
                  WHERE f.app_id = b.app_id AND f.user_id = b.user_id
                    AND (f.state IN ('active', 'suspended') OR f.state = 'confirmed' AND f.created_at >= $1)) -- what is deleted here is still seen here

-- name: upkeep_removed_factors
DELETE FROM factors WHERE id IN (SELECT id FROM factors WHERE state = 'removed' AND removed_at < $1 LIMIT $2)

-- name: upkeep_removed_contacts
DELETE FROM contacts WHERE id IN (SELECT id FROM contacts WHERE removed_at < $1 LIMIT $2)

-- name: upkeep_recoveries
DELETE FROM recoveries WHERE id IN (SELECT id FROM recoveries WHERE ended_at < $1 LIMIT $2)

-- name: upkeep_messages
DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE expires_at < $1 LIMIT $2)

-- name: upkeep_proofs
DELETE FROM used_proofs WHERE challenge_id IN (SELECT challenge_id FROM used_proofs WHERE used_at < $1 LIMIT $2)

-- name: upkeep_devices
DELETE FROM devices WHERE id IN (SELECT id FROM devices WHERE expires_at < $1 LIMIT $2)

-- name: upkeep_sessions
DELETE FROM webauthn_sessions WHERE challenge_id IN (SELECT challenge_id FROM webauthn_sessions WHERE expires_at < $1 LIMIT $2)

-- name: user_erase_patience
SET LOCAL statement_timeout = '5min'

-- name: user_erase
SELECT otpost_erase_user($1, $2)
