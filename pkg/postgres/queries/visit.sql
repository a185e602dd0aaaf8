-- name: visit_add
INSERT INTO page_sessions (id, app_id, user_id, session, page, account, locale, return_url, reauthenticate_url, reauthenticated_at, challenge,
                           link_digest, link_expires_at, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: visit_open
-- The link is spent by whoever comes first.
UPDATE page_sessions
SET opened_at = $3, cookie_digest = $2
WHERE link_digest = $1 AND opened_at IS NULL AND link_expires_at > $3
RETURNING id, app_id, user_id, session, page, account, locale, return_url, reauthenticate_url, reauthenticated_at, challenge, state, revision,
          created_at, expires_at, ended_at

-- name: visit_by_link
SELECT id, app_id, user_id, session, page, account, locale, return_url, reauthenticate_url, reauthenticated_at, challenge, state, revision,
       created_at, expires_at, ended_at
FROM page_sessions
WHERE link_digest = $1

-- name: visit_by_cookie
SELECT id, app_id, user_id, session, page, account, locale, return_url, reauthenticate_url, reauthenticated_at, challenge, state, revision,
       created_at, expires_at, ended_at
FROM page_sessions
WHERE cookie_digest = $1

-- name: visit_save
UPDATE page_sessions
SET state = $3, locale = $4, revision = revision + 1
WHERE id = $1 AND revision = $2 AND ended_at IS NULL AND expires_at > $5

-- name: visit_end
UPDATE page_sessions
SET ended_at = $2, state = NULL
WHERE id = $1 AND ended_at IS NULL AND expires_at > $2

-- name: visits_end
-- Those of a user that were made up to $4; of one session where $5 names it.
UPDATE page_sessions
SET ended_at = $3, state = NULL
WHERE app_id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > $3 AND created_at <= $4 AND ($5::text IS NULL OR session = $5)

-- name: result_add
INSERT INTO page_results (digest, app_id, user_id, sealed, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: result_redeem
-- A result is good once: who takes the row has it.
DELETE FROM page_results
WHERE digest = $1 AND app_id = $2
RETURNING sealed, expires_at > $3 AS good

-- name: visits_sweep
DELETE FROM page_sessions WHERE id IN (SELECT id FROM page_sessions WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)

-- name: results_sweep
DELETE FROM page_results WHERE digest IN (SELECT digest FROM page_results WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
