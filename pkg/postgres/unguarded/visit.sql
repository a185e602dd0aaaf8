-- See unguarded.sql.

-- name: visit_open_unguarded
-- Opens whether or not somebody has opened it.
UPDATE page_sessions
SET opened_at = $3, cookie_digest = $2
WHERE link_digest = $1 AND link_expires_at > $3
RETURNING id, app_id, user_id, session, page, account, locale, return_url, reauthenticate_url, reauthenticated_at, challenge, state, revision,
          created_at, expires_at, ended_at

-- name: visit_save_unguarded
-- Saves over whatever another tab has saved meanwhile.
UPDATE page_sessions
SET state = $3, locale = $4, revision = $2 + 1
WHERE id = $1 AND ended_at IS NULL AND expires_at > $5

-- name: visit_end_unguarded
-- Ends what has ended.
UPDATE page_sessions
SET ended_at = $2, state = NULL
WHERE id = $1 AND expires_at > $2

-- name: result_redeem_unguarded
-- Reads, and leaves the row to the sweep.
SELECT sealed, expires_at > $3::timestamptz AS good FROM page_results WHERE digest = $1 AND app_id = $2
