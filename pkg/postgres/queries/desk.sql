-- name: desk_add
INSERT INTO desk_sessions (cookie_digest, agent, sealed, locale, created_at, seen_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $5, $6)

-- name: desk_seen
-- A session that is used goes on; one that has idled since before $3 is over, whether or not it was swept.
UPDATE desk_sessions
SET seen_at = greatest(seen_at, $2)
WHERE cookie_digest = $1 AND expires_at > $2 AND seen_at > $3
RETURNING agent, sealed, state, locale, created_at, seen_at, expires_at

-- name: desk_save
UPDATE desk_sessions
SET state = $2, locale = $3
WHERE cookie_digest = $1

-- name: desk_end
DELETE FROM desk_sessions WHERE cookie_digest = $1

-- name: desks_sweep
DELETE FROM desk_sessions
WHERE cookie_digest IN (
    SELECT cookie_digest FROM desk_sessions WHERE expires_at <= $1 OR seen_at <= $2 LIMIT $3 FOR UPDATE SKIP LOCKED
)
