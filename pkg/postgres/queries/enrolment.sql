-- The life of factors. Each act holds the account's row (accounts_lock) before it reads or writes anything of its user.

-- name: account_read
SELECT failures, wait_until, locked_at FROM accounts WHERE app_id = $1 AND user_id = $2

-- name: account_spend
UPDATE accounts
SET failures = $3, wait_until = $4, locked_at = coalesce(locked_at, $5), touched_at = $6
WHERE app_id = $1 AND user_id = $2

-- name: profile_read
SELECT epoch, activated_at, preferred, fallbacks, locale, country, region, passphrase, codes_shown_at, created_at FROM users WHERE app_id = $1 AND user_id = $2

-- name: profile_write
INSERT INTO users (app_id, user_id, activated_at, preferred, fallbacks, locale, country, region, passphrase, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (app_id, user_id) DO UPDATE
SET activated_at = excluded.activated_at, preferred = excluded.preferred, fallbacks = excluded.fallbacks, locale = excluded.locale,
    country = excluded.country, region = excluded.region, passphrase = excluded.passphrase

-- name: codes_shown
INSERT INTO users (app_id, user_id, codes_shown_at, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (app_id, user_id) DO UPDATE SET codes_shown_at = excluded.codes_shown_at

-- name: epoch_raise
INSERT INTO users (app_id, user_id, epoch, created_at) VALUES ($1, $2, 1, $3)
ON CONFLICT (app_id, user_id) DO UPDATE SET epoch = users.epoch + 1

-- name: factors_owned
SELECT id, kind, state, label, sealed, mask, algorithm, digits, period, last_step, public_id, credential, sign_count, alone_after, created_at,
       last_used_at, removed_at, session
FROM factors
WHERE app_id = $1 AND user_id = $2 AND state <> 'removed'
ORDER BY created_at, id

-- name: factor_add
INSERT INTO factors (id, app_id, user_id, kind, state, label, sealed, mask, algorithm, digits, period, last_step, public_id, credential, sign_count,
                     alone_after, created_at, session)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)

-- name: factor_state
UPDATE factors
SET state = $4, removed_at = CASE WHEN $4 = 'removed' THEN $6::timestamptz END
WHERE app_id = $1 AND user_id = $2 AND id = $3 AND state = ANY ($5::text[])

-- name: factor_rename
UPDATE factors SET label = $4 WHERE app_id = $1 AND user_id = $2 AND id = $3 AND state <> 'removed'

-- name: proof_spend
-- A challenge that the user has answered rightly in this session, not long ago; another worker's clock may be ahead of this one's. The insert is what makes
-- it serve once.
WITH spent AS (
    INSERT INTO used_proofs (challenge_id, used_at)
    SELECT id, $6::timestamptz FROM challenges
    WHERE id = $1 AND app_id = $2 AND user_id = $3 AND session = $4 AND state = 'verified' AND ended_at >= $5
      AND ended_at <= $6::timestamptz + interval '30 seconds'
    ON CONFLICT (challenge_id) DO NOTHING
    RETURNING challenge_id)
SELECT coalesce(c.last_factor, '') AS kind FROM challenges c JOIN spent ON c.id = spent.challenge_id WHERE c.id = $1

-- name: token_free
SELECT id, kind, serial, sealed, public_id, algorithm, digits, period, counter
FROM hardware_tokens
WHERE app_id = $1 AND kind = $2 AND serial = $3 AND assigned_at IS NULL

-- name: token_free_by_id
SELECT id, kind, serial, sealed, public_id, algorithm, digits, period, counter
FROM hardware_tokens
WHERE app_id = $1 AND id = $2 AND assigned_at IS NULL

-- name: token_take
UPDATE hardware_tokens SET assigned_at = $3, factor_id = $4, counter = $5 WHERE id = $1 AND app_id = $2 AND assigned_at IS NULL AND counter < $5

-- name: ceremony_owner
SELECT user_id FROM ceremonies WHERE app_id = $1 AND id = $2

-- name: ceremonies_since
SELECT coalesce(max(created_at), 'epoch') AS last, count(*) AS n FROM ceremonies WHERE app_id = $1 AND user_id = $2 AND kind = $3 AND created_at >= $4

-- name: ceremonies_replace
UPDATE ceremonies SET state = 'cancelled', ended_at = $4 WHERE app_id = $1 AND user_id = $2 AND kind = $3 AND state = 'open'

-- name: ceremony_begin
INSERT INTO ceremonies (id, app_id, user_id, session, kind, label, material, mask, algorithm, digits, period, token_id, max_attempts, sends,
                        next_send_at, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)

-- name: ceremony_claim
-- Claim before compare: who gets no row back compares nothing.
UPDATE ceremonies
SET attempts = attempts + 1
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND session = $4 AND state = 'open' AND expires_at > $5 AND attempts < max_attempts
RETURNING id, session, kind, label, material, mask, algorithm, digits, period, token_id, attempts, max_attempts, sends, next_send_at, expires_at

-- name: ceremony_resend
UPDATE ceremonies
SET sends = sends + 1, next_send_at = $5::timestamptz + make_interval(secs => $7)
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND session = $4 AND state = 'open' AND expires_at > $5 AND sends BETWEEN 1 AND $6 - 1 AND next_send_at <= $5
RETURNING id, session, kind, label, material, mask, algorithm, digits, period, token_id, attempts, max_attempts, sends, next_send_at, expires_at

-- name: ceremony_peek
SELECT id, session, kind, label, material, mask, algorithm, digits, period, token_id, attempts, max_attempts, sends, next_send_at, expires_at
FROM ceremonies
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND session = $4 AND state = 'open' AND expires_at > $5

-- name: ceremony_end
UPDATE ceremonies SET state = $3, ended_at = $4 WHERE id = $1 AND app_id = $2 AND state = 'open'

-- name: backup_codes_of
SELECT digest, position, sealed, used_at FROM backup_codes WHERE app_id = $1 AND user_id = $2 ORDER BY position

-- name: backup_codes_void
DELETE FROM backup_codes WHERE app_id = $1 AND user_id = $2

-- name: backup_code_add
INSERT INTO backup_codes (app_id, user_id, digest, position, sealed, created_at) VALUES ($1, $2, $3, $4, $5, $6)

-- name: devices_of
SELECT d.id, d.label, d.session, d.created_at, d.last_used_at, d.expires_at
FROM devices d
LEFT JOIN users u USING (app_id, user_id)
WHERE d.app_id = $1 AND d.user_id = $2 AND d.revoked_at IS NULL AND d.expires_at > $3 AND d.epoch = coalesce(u.epoch, 0)
ORDER BY d.created_at, d.id

-- name: devices_revoke
UPDATE devices
SET revoked_at = $3, revoke_reason = $4
WHERE app_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3 AND ($5::uuid IS NULL OR id = $5) AND ($6::text IS NULL OR session = $6)
RETURNING id, label, session, created_at, last_used_at, expires_at

-- name: message_write
INSERT INTO messages (id, app_id, user_id, channel, purpose, sealed, mask, locale, code_id, nonce, key_id, digits, notice, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: message_deliver
INSERT INTO deliveries (challenge_id, attempt, channel, purpose, mask, created_at, updated_at) VALUES ($1, $2, $3, 'enrolment', $4, $5, $5)

-- name: message_read
SELECT id, app_id, user_id, channel, purpose, sealed, mask, locale, code_id, nonce, key_id, digits, notice, created_at, expires_at
FROM messages
WHERE id = $1 AND app_id = $2 AND user_id = $3

-- name: notice_add
INSERT INTO notices (id, app_id, user_id, notice, detail, at) VALUES ($1, $2, $3, $4, $5, $6)

-- name: notices_take
WITH taken AS (
    DELETE FROM notices
    WHERE id IN (SELECT id FROM notices ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING id, app_id, user_id, notice, detail, at
)
SELECT t.id, t.app_id, t.user_id, t.notice, t.detail, t.at, coalesce(u.locale, '') AS locale
FROM taken t
LEFT JOIN users u USING (app_id, user_id)
ORDER BY t.at, t.id

-- name: notices_lately
-- How many notices a user was sent over each channel since a time.
SELECT channel, count(*) AS n FROM messages WHERE app_id = $1 AND user_id = $2 AND purpose = 'notice' AND created_at > $3 GROUP BY channel

-- name: notice_try
SAVEPOINT notice

-- name: notice_undo
ROLLBACK TO SAVEPOINT notice

-- name: recipients
-- Every address that was confirmed when it happened, those that came or went with it included; none that came later.
SELECT f.kind AS channel, f.sealed, f.mask
FROM factors f
WHERE f.app_id = $1 AND f.user_id = $2 AND f.kind IN ('sms', 'email') AND f.state <> 'confirmed' AND f.created_at <= $3
  AND (f.removed_at IS NULL OR f.removed_at >= $3)
UNION
SELECT CASE c.kind WHEN 'phone' THEN 'sms' ELSE c.kind END, c.sealed, c.mask
FROM contacts c
WHERE c.app_id = $1 AND c.user_id = $2 AND c.kind IN ('email', 'phone') AND c.confirmed_at <= $3
  AND (c.removed_at IS NULL OR c.removed_at >= $3)

-- name: messages_expire
UPDATE deliveries d
SET state = 'expired', reason = 'expired before it was sent', updated_at = $1
FROM messages m
WHERE m.id = d.challenge_id AND d.challenge_id >= $2 AND d.challenge_id < $3 AND d.state = 'queued' AND m.expires_at <= $1

-- name: messages_unsent
UPDATE deliveries d
SET swept = d.swept + 1, updated_at = $1
FROM messages m
WHERE m.id = d.challenge_id AND d.challenge_id >= $4 AND d.challenge_id < $5 AND (d.challenge_id, d.attempt) IN (
    SELECT challenge_id, attempt FROM deliveries
    WHERE challenge_id >= $4 AND challenge_id < $5 AND state IN ('queued', 'sending') AND updated_at <= $1::timestamptz - make_interval(secs => $2::float8 * (1 << least(swept, 6)))
    ORDER BY updated_at LIMIT $3
) AND m.expires_at > $1
RETURNING m.id, m.app_id, m.user_id, m.channel, m.purpose, m.sealed, m.mask, m.locale, m.code_id, m.nonce, m.key_id, m.digits, m.notice, m.expires_at, d.attempt

-- name: message_states
SELECT DISTINCT ON (challenge_id) challenge_id, state FROM deliveries WHERE challenge_id = ANY ($1::uuid[]) ORDER BY challenge_id, attempt DESC

-- name: audit_add
INSERT INTO audit (at, app_id, user_key, actor, action, factor, session_key, ip_key, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: audit_of
SELECT id, at, user_key, actor, action, factor, session_key, ip_key, role, detail
FROM audit
WHERE app_id = $1 AND user_key = ANY ($2::uuid[]) AND id > $3
ORDER BY id
LIMIT $4

-- name: activity_of
-- What a user may see of the audit, newest first. The digest of a person who was erased and has come back is the same: what was before belongs to nobody.
SELECT id, at, user_key, actor, action, factor, session_key, detail
FROM audit
WHERE app_id = $1 AND user_key = ANY ($2::uuid[]) AND action = ANY ($3::text[]) AND ($4::bigint = 0 OR id < $4)
  AND id > coalesce((SELECT max(e.id) FROM audit e WHERE e.app_id = $1 AND e.user_key = ANY ($2::uuid[]) AND e.action = 'user.erased'), 0)
ORDER BY id DESC
LIMIT $5

-- name: ceremonies_cancel
UPDATE ceremonies
SET state = 'cancelled', ended_at = $3
WHERE app_id = $1 AND user_id = $2 AND state = 'open' AND ($4::text IS NULL OR session = $4) AND ($5::text IS NULL OR session <> $5)

-- name: challenges_void
-- What was opened for factors that are gone lets nobody in. Open ones are young: the time in their ids prunes the partitions. $6 are those that stay.
WITH doomed AS MATERIALIZED (
    SELECT c.id
    FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
    JOIN challenges c USING (app_id, user_id)
    WHERE c.state = 'open' AND c.expires_at > $3::timestamptz AND c.id >= $4::uuid AND c.id < $5::uuid AND c.id <> ALL ($6::uuid[])
    ORDER BY c.id
    FOR NO KEY UPDATE OF c)
UPDATE challenges c
SET state = 'cancelled', ended_at = $3::timestamptz
FROM doomed
WHERE c.id = doomed.id AND c.id >= $4::uuid AND c.id < $5::uuid
RETURNING c.app_id, c.user_id, c.id, c.session, c.login, c.test
