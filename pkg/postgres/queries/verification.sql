-- Judging a batch of answers: one transaction.

-- name: challenges_for_answers
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.nonce, c.key_id, c.digits, c.amount, c.payee, c.methods, c.state, c.attempts,
       c.max_attempts, c.sends, c.expires_at, c.ended_at, c.last_request, c.last_result,
       c.last_factor
FROM challenges c
WHERE c.id = ANY ($1::uuid[])

-- name: challenges_for_verdicts
-- The same, taken in order until the end of the transaction: what is decided on is what is changed.
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.nonce, c.key_id, c.digits, c.amount, c.payee, c.methods, c.state, c.attempts,
       c.max_attempts, c.sends, c.expires_at, c.ended_at, c.last_request, c.last_result,
       c.last_factor
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

-- name: totp_of_users
SELECT f.app_id, f.user_id, f.id, f.sealed, f.algorithm, f.digits, f.period, f.last_step
FROM unnest($1::integer[], $2::text[]) AS t (app_id, user_id)
JOIN factors f USING (app_id, user_id)
WHERE f.state = 'active' AND f.kind = 'totp'
ORDER BY f.created_at, f.id

-- name: totp_advance
-- Compare and set: a step is accepted once.
UPDATE factors f
SET last_step = w.step, last_used_at = $3::timestamptz
FROM unnest($1::uuid[], $2::bigint[]) AS w (id, step)
WHERE f.id = w.id AND f.last_step < w.step
RETURNING f.id

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
