-- name: role_password
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)

-- name: migrated
SELECT to_regclass('outbox') IS NOT NULL

-- name: app_create
INSERT INTO apps (name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
                  channels, no_factor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
RETURNING id

-- name: app_update
UPDATE apps
SET display_name = $2, origin = $3, locale = $4, digits = $5, life_seconds = $6, attempts = $7, sends = $8, cooldown_seconds = $9,
    open_challenges = $10, totp_skew = $11, channels = $12, no_factor = $13, updated_at = now()
WHERE name = $1

-- name: app_list
SELECT id, name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
       channels, no_factor, created_at, updated_at
FROM apps
ORDER BY name

-- name: app_by_name
SELECT id, name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
       channels, no_factor, created_at, updated_at
FROM apps
WHERE name = $1

-- name: app_by_id
SELECT id, name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
       channels, no_factor, created_at, updated_at
FROM apps
WHERE id = $1

-- name: factor_insert
INSERT INTO factors (id, app_id, user_id, kind, label, sealed, mask, algorithm, digits, period, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: factor_list
SELECT id, kind, label, state, mask, created_at, last_used_at
FROM factors
WHERE app_id = $1 AND user_id = $2
ORDER BY created_at, id

-- name: account_unlock
UPDATE accounts
SET failures = 0, wait_until = NULL, locked_at = NULL, touched_at = $3
WHERE app_id = $1 AND user_id = $2
RETURNING failures
