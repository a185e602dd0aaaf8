-- The statements without what they guard against, for the build of scripts/check-guards only: each race test must be seen to fail on its own.
-- They take the parameters and return the columns of the statements that they stand in for.

-- name: accounts_lock_unguarded
-- Reads the budgets and holds nobody up.
WITH made AS (
    INSERT INTO accounts (app_id, user_id, touched_at)
    SELECT a, u, $3::timestamptz FROM unnest($1::integer[], $2::text[]) AS t (a, u) ORDER BY a, u
    ON CONFLICT (app_id, user_id) DO NOTHING
    RETURNING app_id, user_id, failures, wait_until, locked_at)
SELECT app_id, user_id, failures, wait_until, locked_at FROM made
UNION ALL
SELECT a.app_id, a.user_id, a.failures, a.wait_until, a.locked_at
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
JOIN accounts a USING (app_id, user_id)

-- name: attempts_claim_unguarded
-- Compare without having claimed: the count is read, not taken, and nothing else is asked.
SELECT c.id, c.attempts, c.max_attempts
FROM challenges c
WHERE c.id = ANY ($1::uuid[]) AND $2::timestamptz IS NOT NULL

-- name: deliveries_claim_unguarded
-- Whoever asks may send, whatever became of the delivery.
UPDATE deliveries d
SET state = 'sending', claimed_at = $3::timestamptz, updated_at = $3, tries = d.tries + 1
FROM unnest($1::uuid[], $2::smallint[]) AS w (challenge_id, attempt)
WHERE d.challenge_id = w.challenge_id AND d.attempt = w.attempt AND $4::float8 IS NOT NULL
RETURNING d.challenge_id, d.attempt, d.tries, d.unsure

-- name: factors_advance_unguarded
-- Set without compare.
UPDATE factors f
SET last_step = w.step, last_used_at = $3::timestamptz
FROM unnest($1::uuid[], $2::bigint[]) AS w (id, step)
WHERE f.id = w.id
RETURNING f.id

-- name: challenges_for_verdicts_unguarded
-- Reads what is decided on and does not keep it from changing.
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.nonce, c.key_id, c.digits, c.amount, c.payee, c.methods, c.state, c.attempts,
       c.max_attempts, c.sends, c.expires_at, c.ended_at, c.last_request, c.last_result,
       c.last_factor
FROM challenges c
WHERE c.id = ANY ($1::uuid[])

-- name: recovery_claim_unguarded
-- Compare without having claimed: neither the state nor the session nor what was proven is asked, and no attempt is taken.
SELECT id, session, state, begun_by, approved_by, reason, locale, proofs, attempts, max_attempts, nonce, key_id, created_at, expires_at, effective_at, ended_at
FROM recoveries
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND $4::text IS NOT NULL AND $5::timestamptz IS NOT NULL AND $6::text IS NOT NULL
  AND $7::boolean IS NOT NULL

-- name: sessions_take_unguarded
-- Reads the session and leaves it for the next one.
SELECT challenge_id, data FROM webauthn_sessions WHERE challenge_id = ANY ($1::uuid[]) AND expires_at > $2

-- name: backup_codes_use_unguarded
-- Whoever knows the code may use it, however often.
WITH used AS (
    UPDATE backup_codes b
    SET used_at = $4::timestamptz
    FROM unnest($1::integer[], $2::text[], $3::bytea[]) AS w (app_id, user_id, digest)
    WHERE b.app_id = w.app_id AND b.user_id = w.user_id AND b.digest = w.digest
    RETURNING b.app_id, b.user_id, b.digest)
SELECT u.app_id, u.user_id,
       (SELECT count(*) FROM backup_codes o WHERE o.app_id = u.app_id AND o.user_id = u.user_id AND o.used_at IS NULL AND o.digest <> u.digest) AS remaining
FROM used u

-- name: ceremony_claim_unguarded
-- Compare without having claimed: the attempts are read, not taken.
SELECT id, session, kind, label, material, mask, algorithm, digits, period, token_id, attempts, max_attempts, sends, next_send_at, expires_at
FROM ceremonies
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND session = $4 AND $5::timestamptz IS NOT NULL
