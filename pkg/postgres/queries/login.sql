-- Admitting a batch of logins: one transaction, each statement for the whole batch.

-- name: accounts_lock
-- Takes the accounts in order, makes those that are not there, and tells what they have left. The update is the lock.
INSERT INTO accounts (app_id, user_id, touched_at)
SELECT a, u, $3::timestamptz FROM unnest($1::integer[], $2::text[]) AS t (a, u) ORDER BY a, u
ON CONFLICT (app_id, user_id) DO UPDATE SET touched_at = excluded.touched_at
RETURNING app_id, user_id, failures, wait_until, locked_at

-- name: logins_known
SELECT l.app_id, l.key, l.challenge_id, l.about, l.outcome, l.reason, l.retry_after, l.created_at
FROM unnest($1::integer[], $2::uuid[]) AS t (app_id, key)
JOIN logins l USING (app_id, key)

-- name: users_at_login
-- What is known of each user, with a row for each factor; no row for a user of whom nothing is. Secrets stay where they are: only an address is sent to.
SELECT app_id, user_id, u.preferred, u.fallbacks, coalesce(u.locale, '') AS locale, f.id, f.kind, f.state, f.mask, f.digits,
       CASE WHEN f.kind IN ('sms', 'email') THEN f.sealed END AS sealed,
       CASE WHEN u.activated_at IS NULL THEN false
            ELSE EXISTS (SELECT 1 FROM backup_codes b WHERE b.app_id = t.app_id AND b.user_id = t.user_id AND b.used_at IS NULL) END AS backup_codes
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
LEFT JOIN users u USING (app_id, user_id)
LEFT JOIN (SELECT app_id, user_id, id, kind, state, mask, digits, sealed, created_at FROM factors WHERE state IN ('active', 'suspended')) AS f
     USING (app_id, user_id)
WHERE u.user_id IS NOT NULL OR f.id IS NOT NULL
ORDER BY f.created_at, f.id

-- name: challenges_open_of_users
-- Open ones are young: the time in their ids prunes the partitions.
SELECT c.app_id, c.user_id, c.id, c.session, c.login, c.test
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
JOIN challenges c USING (app_id, user_id)
WHERE c.state = 'open' AND c.expires_at > $3::timestamptz AND c.id >= $4::uuid AND c.id < $5::uuid
ORDER BY c.created_at, c.id

-- name: logins_insert
INSERT INTO logins (app_id, key, challenge_id, outcome, reason, retry_after, created_at, about)
SELECT a, k, c, o, r, w, $7::timestamptz, b
FROM unnest($1::integer[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::integer[], $8::uuid[]) AS t (a, k, c, o, r, w, b)
ORDER BY a, k
ON CONFLICT ON CONSTRAINT logins_once DO NOTHING
RETURNING app_id, key

-- name: challenges_supersede
UPDATE challenges
SET state = 'superseded', ended_at = $2
WHERE id = ANY ($1::uuid[]) AND state = 'open'
RETURNING id

-- name: deliveries_withdraw
UPDATE deliveries
SET state = 'expired', reason = $2, updated_at = $3
WHERE challenge_id = ANY ($1::uuid[]) AND state = 'queued'

-- name: challenges_insert
INSERT INTO challenges (id, app_id, user_id, session, login, factor, nonce, key_id, digits, amount, payee, locale, to_sms, mask_sms, to_email,
                        mask_email, methods, max_attempts, sends, deliveries, max_sends, next_send_at, created_at, expires_at, channel, country, android_hash,
                        ip_key, test, test_code)
SELECT i, a, u, s, l, f, n, k, d, nullif(am, ''), nullif(pa, ''), lo, nullif(ts, ''), ms, nullif(te, ''), me, string_to_array(m, ','), ma, se, se,
       mx, ns::timestamptz, $22::timestamptz, e::timestamptz, ch, co, ah, nullif(ip, '')::uuid, tc <> '', nullif(tc, '')
FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bigint[], $9::smallint[], $10::text[],
            $11::text[], $12::text[], $13::bytea[], $14::text[], $15::bytea[], $16::text[], $17::text[], $18::smallint[], $19::smallint[],
            $20::smallint[], $21::text[], $23::text[], $24::text[], $25::text[], $26::text[], $27::text[], $28::bytea[])
     AS t (i, a, u, s, l, f, n, k, d, am, pa, lo, ts, ms, te, me, m, ma, se, mx, ns, e, ch, co, ah, ip, tc)

-- name: deliveries_of_tests
-- What is for a test destination is delivered without being sent.
UPDATE deliveries
SET state = 'delivered', accepted_at = $2, delivered_at = $2, updated_at = $2
WHERE challenge_id = ANY ($1::uuid[]) AND state = 'queued' AND provider = 'test'

-- name: device_tokens_find
-- Tokens of devices that are trusted now, those that were replaced among them. A user of whom nothing is known yet has the first epoch.
SELECT t.digest, t.replaced_at, d.app_id, d.user_id, d.id, d.label, d.session, d.created_at, d.last_used_at, d.expires_at
FROM device_tokens t
JOIN devices d ON d.id = t.device_id
LEFT JOIN users u ON u.app_id = d.app_id AND u.user_id = d.user_id
WHERE t.digest = ANY ($1::bytea[]) AND d.revoked_at IS NULL AND d.expires_at > $2 AND d.epoch = coalesce(u.epoch, 0)

-- name: device_rotate
-- Compare and set: only the use of a token that lives replaces the tokens of its device. Of two at once the second finds its token replaced and must leave
-- what the first has brought.
UPDATE device_tokens t
SET replaced_at = $3::timestamptz
FROM unnest($1::uuid[], $2::bytea[]) AS w (device_id, digest)
JOIN device_tokens used ON used.digest = w.digest AND used.replaced_at IS NULL
WHERE t.device_id = w.device_id AND t.replaced_at IS NULL

-- name: devices_used
UPDATE devices d
SET session = w.session, last_used_at = $3::timestamptz
FROM unnest($1::uuid[], $2::text[]) AS w (id, session)
WHERE d.id = w.id

-- name: devices_stolen
UPDATE devices d
SET revoked_at = $3, revoke_reason = 'stolen'
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
WHERE d.app_id = t.app_id AND d.user_id = t.user_id AND d.revoked_at IS NULL AND d.expires_at > $3
RETURNING d.app_id, d.user_id, d.id, d.label, d.session, d.created_at, d.last_used_at, d.expires_at

-- name: outbox_insert
INSERT INTO outbox (id, subject, payload, created_at)
SELECT i, s, p, $4::timestamptz FROM unnest($1::text[], $2::text[], $3::bytea[]) AS t (i, s, p)
ON CONFLICT (id) DO NOTHING

-- name: outbox_delete
DELETE FROM outbox WHERE id = ANY ($1::text[])

-- name: outbox_left
-- What a process committed and did not live to publish; the policy shows a role its own.
SELECT id, subject, payload FROM outbox WHERE role = current_user AND created_at < $1 ORDER BY created_at LIMIT $2

-- name: outbox_postpone
-- What no stream took goes to the end of the queue, so that it holds nothing else up.
UPDATE outbox SET created_at = $2 WHERE id = ANY ($1::text[])

-- name: outbox_lock
SELECT pg_try_advisory_lock(hashtext('otpost.outbox.' || current_user))

-- name: outbox_unlock
SELECT pg_advisory_unlock(hashtext('otpost.outbox.' || current_user))
