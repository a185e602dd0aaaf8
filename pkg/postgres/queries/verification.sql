-- Judging a batch of answers: one transaction.

-- name: challenges_for_answers
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.nonce, c.key_id, c.digits, c.amount, c.payee, c.methods, c.state, c.attempts,
       c.max_attempts, c.sends, c.expires_at, c.ended_at, c.last_request, c.last_result,
       c.last_factor, c.test, c.test_code
FROM challenges c
WHERE c.id = ANY ($1::uuid[])

-- name: challenges_for_verdicts
-- The same, taken in order until the end of the transaction: what is decided on is what is changed.
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.nonce, c.key_id, c.digits, c.amount, c.payee, c.methods, c.state, c.attempts,
       c.max_attempts, c.sends, c.expires_at, c.ended_at, c.last_request, c.last_result,
       c.last_factor, c.test, c.test_code
FROM challenges c
WHERE c.id = ANY ($1::uuid[])
ORDER BY c.id
FOR NO KEY UPDATE

-- name: attempts_claim
-- Claim before compare: an answer that gets no row back is not compared.
UPDATE challenges c
SET attempts = c.attempts + 1
FROM unnest($1::uuid[]) AS w (id)
WHERE c.id = w.id AND c.id = ANY ($1::uuid[]) AND c.state = 'open' AND c.expires_at > $2 AND c.attempts < c.max_attempts
RETURNING c.id, c.attempts, c.max_attempts

-- name: factors_for_answers
SELECT f.app_id, f.user_id, f.id, f.kind, f.state, f.label, f.sealed, f.algorithm, f.digits, f.period, f.last_step, f.public_id, f.credential,
       f.sign_count, f.created_at
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
JOIN factors f USING (app_id, user_id)
WHERE f.state = 'active' AND f.kind IN ('totp', 'hotp', 'yubikey', 'webauthn')
ORDER BY f.created_at, f.id

-- name: factors_advance
-- Compare and set: a time step or a counter is accepted once.
UPDATE factors f
SET last_step = w.step, last_used_at = $3::timestamptz
FROM unnest($1::uuid[], $2::bigint[]) AS w (id, step)
WHERE f.id = w.id AND f.last_step < w.step
RETURNING f.id

-- name: addresses_used
-- A code that was sent proves the factor whose address it went to, and its provider did what it was for: who counts that finds it in conversions. A queue,
-- since only the challenge worker knows over which provider it went.
WITH counted AS (INSERT INTO conversions (challenge_id, at) SELECT unnest($1::uuid[]), $2::timestamptz)
UPDATE factors f
SET last_used_at = $2::timestamptz
FROM challenges c
WHERE c.id = ANY ($1::uuid[]) AND f.app_id = c.app_id AND f.user_id = c.user_id AND f.kind = c.last_factor AND f.state = 'active'
      AND f.mask = CASE f.kind WHEN 'sms' THEN c.mask_sms WHEN 'email' THEN c.mask_email END

-- name: keys_advance
-- Over nothing but what was read: of two copies of a key that sign at once one is noticed.
UPDATE factors f
SET sign_count = w.count, credential = w.record, last_used_at = $5::timestamptz
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[]) AS w (id, was, count, record)
WHERE f.id = w.id AND f.sign_count = w.was
RETURNING f.id

-- name: factors_suspend
UPDATE factors SET state = 'suspended' WHERE id = ANY ($1::uuid[]) AND state = 'active' RETURNING id

-- name: epochs_raise
UPDATE users u
SET epoch = u.epoch + 1
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
WHERE u.app_id = t.app_id AND u.user_id = t.user_id

-- name: sessions_take
-- What a security key was asked to sign serves one answer, right or wrong: of any number at once one gets the row.
DELETE FROM webauthn_sessions WHERE challenge_id = ANY ($1::uuid[]) AND expires_at > $2 RETURNING challenge_id, data

-- name: session_keep
INSERT INTO webauthn_sessions (challenge_id, data, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (challenge_id) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at

-- name: backup_codes_use
-- Single use: of any number at once one gets the row. Codes that the user has not acknowledged are none yet.
WITH used AS (
    UPDATE backup_codes b
    SET used_at = $4::timestamptz
    FROM unnest($1::integer[], $2::text[], $3::bytea[]) AS w (app_id, user_id, digest)
    JOIN users u ON u.app_id = w.app_id AND u.user_id = w.user_id AND u.activated_at IS NOT NULL
    WHERE b.app_id = w.app_id AND b.user_id = w.user_id AND b.digest = w.digest AND b.used_at IS NULL
    RETURNING b.app_id, b.user_id, b.digest)
SELECT u.app_id, u.user_id,
       (SELECT count(*) FROM backup_codes o WHERE o.app_id = u.app_id AND o.user_id = u.user_id AND o.used_at IS NULL AND o.digest <> u.digest) AS remaining
FROM used u

-- name: devices_trust
-- A user of whom nothing is known yet has the first epoch.
INSERT INTO devices (id, app_id, user_id, session, label, epoch, created_at, expires_at)
SELECT w.id, w.app_id, w.user_id, w.session, w.label, coalesce(u.epoch, 0), $7::timestamptz, w.expires_at::timestamptz
FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[]) AS w (id, app_id, user_id, session, label, expires_at)
LEFT JOIN users u ON u.app_id = w.app_id AND u.user_id = w.user_id

-- name: device_tokens_add
INSERT INTO device_tokens (digest, device_id, issued_at) SELECT w.digest, w.id, $3::timestamptz FROM unnest($1::bytea[], $2::uuid[]) AS w (digest, id)

-- name: devices_crowd_out
-- The newest stay.
WITH live AS (
    SELECT d.id, row_number() OVER (PARTITION BY d.app_id, d.user_id ORDER BY d.created_at DESC, d.id DESC) AS place
    FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
    JOIN devices d USING (app_id, user_id)
    LEFT JOIN users u USING (app_id, user_id)
    WHERE d.revoked_at IS NULL AND d.expires_at > $3 AND d.epoch = coalesce(u.epoch, 0))
UPDATE devices d
SET revoked_at = $3, revoke_reason = 'replaced'
FROM live
WHERE d.id = live.id AND live.place > $4
RETURNING d.app_id, d.user_id, d.id, d.label, d.session, d.created_at, d.last_used_at, d.expires_at, d.revoke_reason

-- name: devices_void
UPDATE devices d
SET revoked_at = $3, revoke_reason = 'factors_changed'
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
WHERE d.app_id = t.app_id AND d.user_id = t.user_id AND d.revoked_at IS NULL AND d.expires_at > $3
RETURNING d.app_id, d.user_id, d.id, d.label, d.session, d.created_at, d.last_used_at, d.expires_at, d.revoke_reason

-- name: challenges_judge
UPDATE challenges c
SET state = w.state, ended_at = CASE WHEN w.state = 'open' THEN NULL ELSE $5::timestamptz END, last_request = w.request::uuid,
    last_result = w.result, last_factor = w.factor
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $6::text[]) AS w (id, state, request, result, factor)
WHERE c.id = w.id AND c.id = ANY ($1::uuid[]) AND c.state = 'open'
RETURNING c.id

-- name: accounts_judge
UPDATE accounts a
SET failures = w.failures, wait_until = w.wait_until::timestamptz, locked_at = CASE WHEN w.locked THEN coalesce(a.locked_at, $6::timestamptz) END,
    touched_at = $6
FROM unnest($1::integer[], $2::text[], $3::smallint[], $4::text[], $5::boolean[]) AS w (app_id, user_id, failures, wait_until, locked)
WHERE a.app_id = w.app_id AND a.user_id = w.user_id
