-- What an operator asks of delivery: why a code did not arrive, and where one would go. Neither addresses nor what codes are derived from.

-- name: explain_challenges
-- Ids carry the time: only the partitions since then are read. There is no index by user, which every login would pay for, so that those are read whole; to
-- sort first and stop at the limit would read them row by row.
WITH mine AS MATERIALIZED (
    SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.digits, c.mask_sms, c.mask_email, c.methods, c.state, c.attempts, c.max_attempts, c.sends,
           c.max_sends, c.next_send_at, c.created_at, c.expires_at, c.ended_at, c.channel, c.deliveries, c.country, c.test
    FROM challenges c
    WHERE c.app_id = $1 AND c.user_id = $2 AND c.id >= $3)
SELECT * FROM mine ORDER BY id DESC LIMIT $4

-- name: explain_messages
SELECT id, user_id, channel, purpose, mask, code_id, created_at, expires_at
FROM messages
WHERE app_id = $1 AND user_id = $2 AND created_at >= $3
ORDER BY created_at DESC, id DESC
LIMIT $4

-- name: explain_user
SELECT coalesce((SELECT locale FROM users WHERE app_id = $1 AND user_id = $2), '') AS locale,
       ARRAY (SELECT DISTINCT kind FROM factors WHERE app_id = $1 AND user_id = $2 AND state = 'active' ORDER BY kind) AS kinds

-- name: strays_of
SELECT at, why, provider, reference, challenge_id, attempt, state, reason
FROM stray_receipts
WHERE challenge_id = ANY ($1::uuid[])
ORDER BY at, id

-- name: strays_since
SELECT at, why, provider, reference, challenge_id, attempt, state, reason
FROM stray_receipts
WHERE at >= $1
ORDER BY at DESC, id DESC
LIMIT $2
