-- See unguarded.sql.

-- name: http_request_claim_unguarded
-- Claims for whoever asks.
INSERT INTO http_requests AS r (app_id, key_digest, request, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (app_id, key_digest) DO UPDATE
SET request = excluded.request, status = NULL, sealed = NULL, created_at = excluded.created_at, expires_at = excluded.expires_at
