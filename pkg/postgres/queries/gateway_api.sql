-- Keys of apps, how their pages look, and requests over HTTP that may come twice.

-- name: app_key_add
INSERT INTO app_keys (id, app_id, label, digest, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)

-- name: app_key_list
SELECT id, app_id, label, digest, created_at, expires_at, revoked_at, last_used_at
FROM app_keys
WHERE app_id = $1
ORDER BY created_at, id

-- name: app_key_by_digest
SELECT id, app_id, label, digest, created_at, expires_at, revoked_at, last_used_at
FROM app_keys
WHERE digest = $1

-- name: app_key_revoke
-- A key that is revoked stays so from when it was first.
UPDATE app_keys SET revoked_at = coalesce(revoked_at, $3) WHERE app_id = $1 AND id = $2

-- name: app_keys_end
-- Keys that would serve for longer serve until then.
UPDATE app_keys
SET expires_at = $3
WHERE app_id = $1 AND id <> $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)

-- name: app_key_used
UPDATE app_keys
SET last_used_at = date_trunc('minute', $2::timestamptz)
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < date_trunc('minute', $2::timestamptz))

-- name: app_pages_set
INSERT INTO app_pages (app_id, accent, logo, logo_type, return_urls, updated_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (app_id) DO UPDATE
SET accent = excluded.accent, logo = excluded.logo, logo_type = excluded.logo_type, return_urls = excluded.return_urls, updated_at = excluded.updated_at

-- name: app_pages_get
SELECT app_id, accent, logo, logo_type, return_urls, updated_at FROM app_pages WHERE app_id = $1

-- name: app_pages_remove
DELETE FROM app_pages WHERE app_id = $1

-- name: http_request_claim
-- A row that has expired is as good as none, whether its answer has grown old or whoever claimed it has died on the way.
INSERT INTO http_requests AS r (app_id, key_digest, request, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (app_id, key_digest) DO UPDATE
SET request = excluded.request, status = NULL, sealed = NULL, created_at = excluded.created_at, expires_at = excluded.expires_at
WHERE r.expires_at <= excluded.created_at

-- name: http_request_find
SELECT request, status, sealed FROM http_requests WHERE app_id = $1 AND key_digest = $2

-- name: http_request_answer
-- Of who claimed it at $3 and of nobody who came after.
UPDATE http_requests
SET status = $4, sealed = $5, expires_at = $6
WHERE app_id = $1 AND key_digest = $2 AND created_at = $3 AND status IS NULL

-- name: http_request_release
DELETE FROM http_requests WHERE app_id = $1 AND key_digest = $2 AND created_at = $3 AND status IS NULL

-- name: http_requests_sweep
DELETE FROM http_requests
WHERE (app_id, key_digest) IN (SELECT app_id, key_digest FROM http_requests WHERE expires_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
