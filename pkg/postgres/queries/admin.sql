-- name: role_password
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)

-- name: migrated
SELECT to_regclass('app_keys') IS NOT NULL

-- name: app_create
INSERT INTO apps (name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
                  channels, no_factor, factor_policy, delivery_policy)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
RETURNING id

-- name: app_update
UPDATE apps
SET display_name = $2, origin = $3, locale = $4, digits = $5, life_seconds = $6, attempts = $7, sends = $8, cooldown_seconds = $9,
    open_challenges = $10, totp_skew = $11, channels = $12, no_factor = $13, factor_policy = $14, delivery_policy = $15, updated_at = now()
WHERE name = $1

-- name: app_list
SELECT id, name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
       channels, no_factor, factor_policy, delivery_policy, created_at, updated_at
FROM apps
ORDER BY name

-- name: app_by_name
SELECT id, name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
       channels, no_factor, factor_policy, delivery_policy, created_at, updated_at
FROM apps
WHERE name = $1

-- name: app_by_id
SELECT id, name, display_name, origin, locale, digits, life_seconds, attempts, sends, cooldown_seconds, open_challenges, totp_skew,
       channels, no_factor, factor_policy, delivery_policy, created_at, updated_at
FROM apps
WHERE id = $1

-- name: accounts_hold
-- The lock of users, for a role that makes no accounts: of whom there is none, nobody else is changing anything of weight.
SELECT 1
FROM accounts
WHERE (app_id, user_id) IN (SELECT * FROM unnest($1::integer[], $2::text[]))
ORDER BY app_id, user_id
FOR UPDATE

-- name: factor_insert
INSERT INTO factors (id, app_id, user_id, kind, label, sealed, mask, algorithm, digits, period, last_step, public_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: user_vouched_for
-- A user whose factor the operator vouches for needs no backup codes to be activated. The epoch rises as with every change of factors.
INSERT INTO users (app_id, user_id, epoch, activated_at, created_at)
VALUES ($1, $2, 1, $3, $3)
ON CONFLICT (app_id, user_id) DO UPDATE
SET epoch = users.epoch + 1, activated_at = coalesce(users.activated_at, excluded.activated_at)

-- name: imports_lock
-- Imports take turns, so that none takes in what another is taking in.
SELECT pg_advisory_xact_lock(hashtext('otpost.import'))

-- name: tokens_known
-- Which of these tokens are there already: by the serial number, or by the public id, under which a Yubico OTP is found.
WITH new AS (SELECT * FROM unnest($2::text[], $3::text[], $4::text[]) AS t (kind, serial, public_id))
SELECT n.serial FROM new n JOIN hardware_tokens h ON h.app_id = $1 AND h.kind = n.kind AND h.serial = n.serial
UNION
SELECT n.serial FROM new n JOIN hardware_tokens h ON h.app_id = $1 AND h.kind = n.kind AND h.public_id = n.public_id WHERE n.public_id <> ''
UNION
SELECT n.serial FROM new n JOIN factors f ON f.app_id = $1 AND f.kind = n.kind AND f.public_id = n.public_id AND f.state <> 'removed' WHERE n.public_id <> ''
ORDER BY 1

-- name: tokens_add
INSERT INTO hardware_tokens (id, app_id, kind, serial, sealed, public_id, algorithm, digits, period, counter, factor_id, assigned_at, imported_at)
SELECT id, $1, kind, serial, sealed, nullif(public_id, ''), nullif(algorithm, ''), nullif(digits, 0), nullif(period, 0), counter,
       CASE WHEN assigned THEN id END, CASE WHEN assigned THEN $2::timestamptz END, $2
FROM unnest($3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::smallint[], $10::smallint[], $11::bigint[], $12::boolean[])
     AS t (id, kind, serial, sealed, public_id, algorithm, digits, period, counter, assigned)

-- name: token_hold
SELECT id, factor_id FROM hardware_tokens WHERE app_id = $1 AND kind = $2 AND serial = $3 FOR UPDATE

-- name: token_factor
-- What the factor of a token, whose row is held, has accepted last. There is none of this id once the janitor has taken it.
SELECT state, last_step FROM factors WHERE id = $1

-- name: token_release
UPDATE hardware_tokens SET factor_id = NULL, assigned_at = NULL, counter = greatest(counter, $2) WHERE id = $1

-- name: token_forget
DELETE FROM hardware_tokens WHERE id = $1

-- name: audit_whose_factor
SELECT user_key FROM audit WHERE factor = $1 AND action IN ('factor.confirmed', 'factor.added') ORDER BY id LIMIT 1

-- name: tokens_list
SELECT id, kind, serial, coalesce(public_id, '') AS public_id, assigned_at, imported_at
FROM hardware_tokens
WHERE app_id = $1
ORDER BY kind, serial

-- name: factor_list
SELECT f.id, f.kind, f.label, f.state, f.mask, coalesce(h.serial, '') AS serial, f.created_at, f.last_used_at
FROM factors f
LEFT JOIN hardware_tokens h ON h.factor_id = f.id
WHERE f.app_id = $1 AND f.user_id = $2
ORDER BY f.created_at, f.id

-- name: account_unlock
UPDATE accounts
SET failures = 0, wait_until = NULL, locked_at = NULL, touched_at = $3
WHERE app_id = $1 AND user_id = $2
RETURNING failures
