-- What happens to a challenge after it was issued, beside answers.

-- name: challenge_detail
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.nonce, c.key_id, c.digits, c.amount, c.payee, c.locale, c.to_sms, c.mask_sms,
       c.to_email, c.mask_email, c.methods, c.state, c.attempts, c.max_attempts, c.sends, c.max_sends, c.next_send_at, c.created_at, c.expires_at,
       c.ended_at
FROM challenges c
WHERE c.id = ANY ($1::uuid[])

-- name: challenge_status
-- The columns that the operator's role may read too: neither nonce nor addresses.
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.digits, c.mask_sms, c.mask_email, c.methods, c.state, c.attempts, c.max_attempts, c.sends,
       c.max_sends, c.next_send_at, c.created_at, c.expires_at, c.ended_at
FROM challenges c
WHERE c.id = $1

-- name: deliveries_of
SELECT attempt, channel, state, mask, provider, reference, reason, tries, unsure, created_at, updated_at
FROM deliveries
WHERE challenge_id = $1
ORDER BY attempt

-- name: challenge_resend
-- The whole rule in one statement: two resends at once cannot both pass. What was sent last is what the challenge asks for from then on; what it asked for
-- before was the better choice.
UPDATE challenges
SET sends = sends + 1, factor = $6, methods = CASE WHEN factor = $6 THEN methods ELSE array_prepend(factor, array_remove(methods, $6)) END,
    next_send_at = $4::timestamptz + make_interval(secs => $5)
WHERE id = $1 AND app_id = $2 AND session = $3 AND state = 'open' AND expires_at > $4 AND sends < max_sends AND next_send_at <= $4
RETURNING sends

-- name: challenge_cancel
UPDATE challenges
SET state = 'cancelled', ended_at = $4
WHERE id = $1 AND app_id = $2 AND session = $3 AND state = 'open' AND expires_at > $4
RETURNING user_id, login

-- name: receipts_record
-- An outcome is followed only by a better informed one: what a provider says after it accepted, or what a second try brought.
UPDATE deliveries d
SET state = r.state, provider = r.provider, reason = r.reason, updated_at = $7::timestamptz,
    reference = CASE WHEN r.reference = '' THEN d.reference ELSE r.reference END
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[]) AS r (challenge_id, attempt, state, provider, reference, reason)
WHERE d.challenge_id = r.challenge_id AND d.attempt = r.attempt AND d.challenge_id = ANY ($1::uuid[]) -- prunes partitions; a join does not
  AND (   d.state IN ('queued', 'sending', 'unconfirmed')
       OR (d.state = 'accepted' AND r.state IN ('delivered', 'undelivered', 'failed'))
       OR (d.state = 'expired' AND r.state IN ('accepted', 'delivered')))

-- name: challenges_lock
-- Before an update of several: an update alone takes them in no order that one could rely on.
SELECT id FROM challenges WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE

-- name: challenges_undeliverable
-- Over when nothing is under way, nothing has gone out, and nothing is left to try: no other channel with an address, or no sends; nothing that needs
-- no delivery.
UPDATE challenges c
SET state = 'undeliverable', ended_at = $2
WHERE c.id = ANY ($1::uuid[]) AND c.state = 'open'
  AND NOT EXISTS (SELECT 1 FROM deliveries d
                  WHERE d.challenge_id = c.id AND d.challenge_id = ANY ($1::uuid[])
                    AND d.state IN ('queued', 'sending', 'accepted', 'delivered', 'unconfirmed'))
  AND c.factor IN ('sms', 'email') AND c.methods <@ ARRAY['sms', 'email']
  AND (c.sends >= c.max_sends
       OR NOT EXISTS (SELECT 1 FROM unnest(c.methods) AS m (channel)
                      WHERE NOT EXISTS (SELECT 1 FROM deliveries t
                                        WHERE t.challenge_id = c.id AND t.challenge_id = ANY ($1::uuid[]) AND t.channel = m.channel)))
RETURNING c.id

-- name: receipts_context
SELECT c.id, a.name AS app, c.user_id, c.session, c.login, c.state, c.ended_at, d.attempt, d.state AS delivery_state
FROM unnest($1::uuid[], $2::smallint[]) AS r (challenge_id, attempt)
JOIN challenges c ON c.id = r.challenge_id AND c.id = ANY ($1::uuid[])
JOIN deliveries d ON d.challenge_id = r.challenge_id AND d.attempt = r.attempt AND d.challenge_id = ANY ($1::uuid[])
JOIN apps a ON a.id = c.app_id

-- name: deliveries_pending_of
SELECT d.challenge_id, d.attempt, d.channel
FROM deliveries d
WHERE d.challenge_id = ANY ($1::uuid[]) AND d.state IN ('queued', 'sending')

-- name: challenges_expire
-- Between two ids, so that a round looks into the partitions of these days and not into all.
-- Materialized, or a join may run it again for each row, and each run takes as many as the limit allows.
WITH due AS MATERIALIZED (
    SELECT id FROM challenges
    WHERE state = 'open' AND expires_at <= $1 AND id >= $3::uuid AND id < $4::uuid
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE challenges c
SET state = 'expired', ended_at = $1
FROM due, apps a
WHERE c.id = due.id AND a.id = c.app_id AND c.id >= $3::uuid AND c.id < $4::uuid
RETURNING c.id, a.name AS app, c.user_id, c.session, c.login

-- name: deliveries_overdue
-- Deliveries without an outcome for longer each time: a command that the stream lost is published again, one that waits in a long queue not too often.
WITH late AS MATERIALIZED (
    SELECT p.challenge_id, p.attempt
    FROM deliveries p JOIN challenges c ON c.id = p.challenge_id
    WHERE p.state IN ('queued', 'sending') AND p.updated_at < $1::timestamptz - make_interval(secs => $2 * power(2, p.swept))
      AND c.state = 'open' AND c.expires_at > $1
      AND p.challenge_id >= $4::uuid AND p.challenge_id < $5::uuid AND c.id >= $4::uuid AND c.id < $5::uuid
    ORDER BY p.updated_at LIMIT $3 FOR UPDATE OF p SKIP LOCKED)
UPDATE deliveries d
SET swept = d.swept + 1, updated_at = $1::timestamptz
FROM late
WHERE d.challenge_id = late.challenge_id AND d.attempt = late.attempt AND d.challenge_id >= $4::uuid AND d.challenge_id < $5::uuid
RETURNING d.challenge_id, d.attempt, d.channel, d.swept

-- name: logins_forget
DELETE FROM logins WHERE (app_id, key) IN (SELECT app_id, key FROM logins WHERE created_at < $1 LIMIT $2)

-- name: partitions_ensure
SELECT otpost_ensure_partitions($1, $2)

-- name: partitions_drop
SELECT otpost_drop_partitions($1)

-- name: sweeper_lock
SELECT pg_try_advisory_lock(hashtext('otpost.sweeper'))

-- name: sweeper_unlock
SELECT pg_advisory_unlock(hashtext('otpost.sweeper'))
