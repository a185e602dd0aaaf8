-- What happens to a challenge after it was issued, beside answers.

-- name: challenge_detail
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.nonce, c.key_id, c.digits, c.amount, c.payee, c.locale, c.to_sms, c.mask_sms,
       c.to_email, c.mask_email, c.methods, c.state, c.attempts, c.max_attempts, c.sends, c.max_sends, c.next_send_at, c.created_at, c.expires_at,
       c.ended_at, c.channel, c.deliveries, c.android_hash, c.country, c.test, c.ip_key
FROM challenges c
WHERE c.id = ANY ($1::uuid[])

-- name: challenge_status
-- The columns that the operator's role may read too: neither nonce nor addresses.
SELECT c.id, c.app_id, c.user_id, c.session, c.login, c.factor, c.digits, c.mask_sms, c.mask_email, c.methods, c.state, c.attempts, c.max_attempts, c.sends,
       c.max_sends, c.next_send_at, c.created_at, c.expires_at, c.ended_at, c.channel, c.deliveries, c.country, c.test
FROM challenges c
WHERE c.id = $1

-- name: deliveries_of
SELECT challenge_id, attempt, channel, state, mask, provider, reference, reason, tries, unsure, created_at, updated_at, country, cause, class, cost,
       due_at, abandoned_at, accepted_at, delivered_at
FROM deliveries
WHERE challenge_id = ANY ($1::uuid[])
ORDER BY challenge_id, attempt

-- name: challenge_resend
-- The whole rule in one statement: two resends at once cannot both pass. What was sent last is what the challenge asks for from then on; what it asked for
-- before was the better choice.
UPDATE challenges
SET sends = sends + 1, deliveries = greatest(deliveries, sends) + 1, channel = $7,
    factor = $6, methods = CASE WHEN factor = $6 THEN methods ELSE array_prepend(factor, array_remove(methods, $6)) END,
    next_send_at = $4::timestamptz + make_interval(secs => $5)
WHERE id = $1 AND app_id = $2 AND session = $3 AND state = 'open' AND expires_at > $4 AND sends < max_sends AND next_send_at <= $4
RETURNING sends, deliveries

-- name: challenges_follow
-- What follows a failure is no send of the user's. A delivery is followed once: the number of the last one is compared and raised in one statement.
UPDATE challenges c
SET deliveries = f.number, channel = f.channel,
    factor = f.factor, methods = CASE WHEN c.factor = f.factor THEN c.methods ELSE array_prepend(c.factor, array_remove(c.methods, f.factor)) END
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[]) AS f (id, number, channel, factor)
WHERE c.id = f.id AND c.id = ANY ($1::uuid[]) AND c.state = 'open' AND c.expires_at > $5 AND greatest(c.deliveries, c.sends) = f.number - 1
RETURNING c.id

-- name: deliveries_add
INSERT INTO deliveries (challenge_id, attempt, channel, mask, provider, country, cost, cause, created_at, updated_at)
SELECT c, n, ch, m, p, co, k, w, $9::timestamptz, $9::timestamptz
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[]) AS t (c, n, ch, m, p, co, k, w)

-- name: deliveries_lock
-- Before it is judged whether they have failed: a receipt that is being recorded is waited for.
SELECT FROM deliveries
WHERE challenge_id = ANY ($1::uuid[]) AND (challenge_id, attempt) IN (SELECT * FROM unnest($1::uuid[], $2::smallint[]))
ORDER BY challenge_id, attempt FOR NO KEY UPDATE

-- name: deliveries_abandon
-- Another has taken their place.
UPDATE deliveries
SET abandoned_at = $3, due_at = NULL
WHERE challenge_id = ANY ($1::uuid[]) AND (challenge_id, attempt) IN (SELECT * FROM unnest($1::uuid[], $2::smallint[])) AND abandoned_at IS NULL

-- name: deliveries_due_set
-- What was set first stands: a receipt that comes again moves no timer.
UPDATE deliveries d
SET due_at = coalesce(d.due_at, t.due::timestamptz)
FROM unnest($1::uuid[], $2::smallint[], $3::text[]) AS t (challenge_id, attempt, due)
WHERE d.challenge_id = t.challenge_id AND d.attempt = t.attempt AND d.challenge_id = ANY ($1::uuid[])
  AND d.state = 'accepted' AND d.abandoned_at IS NULL
RETURNING d.challenge_id, d.attempt, d.due_at

-- name: deliveries_due_judged
-- Their time has come, whatever followed: the sweeper need not look at them again.
UPDATE deliveries
SET due_at = NULL
WHERE challenge_id = ANY ($1::uuid[]) AND (challenge_id, attempt) IN (SELECT * FROM unnest($1::uuid[], $2::smallint[])) AND due_at <= $3

-- name: deliveries_due
-- Timers that the stream has lost. Between two ids, so that a round looks into the partitions of these days and not into all.
SELECT challenge_id, attempt
FROM deliveries
WHERE due_at < $1 AND challenge_id >= $2::uuid AND challenge_id < $3::uuid
ORDER BY due_at LIMIT $4

-- name: challenge_cancel
UPDATE challenges
SET state = 'cancelled', ended_at = $4
WHERE id = $1 AND app_id = $2 AND session = $3 AND state = 'open' AND expires_at > $4
RETURNING user_id, login

-- name: receipts_record
-- An outcome is followed only by a better informed one: what a provider says after it accepted, or what a second try brought. A report of the gateway's
-- counts for the provider that has the delivery and no other.
WITH was AS MATERIALIZED ( -- of reports, before this statement; locked, because the worker of the channel may be recording its own word at this moment
    SELECT challenge_id, attempt, state FROM deliveries
    WHERE challenge_id = ANY ($1::uuid[])
      AND (challenge_id, attempt) IN (SELECT c, n FROM unnest($1::uuid[], $2::smallint[], $9::boolean[]) AS t (c, n, report) WHERE report)
    ORDER BY challenge_id, attempt FOR NO KEY UPDATE)
UPDATE deliveries d
SET state = r.state, provider = CASE WHEN r.provider = '' THEN d.provider ELSE r.provider END, reason = r.reason, class = r.class, updated_at = $8::timestamptz,
    reference = CASE WHEN r.reference = '' THEN d.reference ELSE r.reference END,
    accepted_at = CASE WHEN r.state IN ('accepted', 'delivered', 'undelivered') THEN coalesce(d.accepted_at, $8::timestamptz) ELSE d.accepted_at END,
    delivered_at = CASE WHEN r.state = 'delivered' THEN $8::timestamptz ELSE d.delivered_at END,
    due_at = CASE WHEN r.state = 'accepted' THEN d.due_at END
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $9::boolean[], $10::text[])
     AS r (challenge_id, attempt, state, provider, reference, reason, class, report, channel)
     LEFT JOIN was ON was.challenge_id = r.challenge_id AND was.attempt = r.attempt
WHERE d.challenge_id = r.challenge_id AND d.attempt = r.attempt AND d.challenge_id = ANY ($1::uuid[]) -- prunes partitions; a join does not
  AND r.channel IN ('', d.channel)
  AND (NOT r.report OR r.provider IN ('', d.provider)) -- a bounce in a mailbox names none
  AND (   (d.state IN ('queued', 'sending', 'unconfirmed') AND d.state <> r.state)
       OR (d.state = 'accepted' AND r.state IN ('delivered', 'undelivered', 'failed'))
       OR (d.state IN ('undelivered', 'failed') AND r.report AND r.state = 'delivered')
       OR (d.state = 'expired' AND r.state IN ('accepted', 'delivered')))
RETURNING d.challenge_id, d.attempt, coalesce(was.state, '') AS was

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
  AND NOT (c.sends < c.max_sends -- a call that nobody took may be taken the next time
           AND EXISTS (SELECT 1 FROM deliveries v
                       WHERE v.challenge_id = c.id AND v.challenge_id = ANY ($1::uuid[]) AND v.channel = 'voice' AND v.class <> 'permanent'
                         AND v.attempt = greatest(c.deliveries, c.sends)))
  AND (c.sends >= c.max_sends
       OR NOT EXISTS (SELECT 1 FROM unnest(c.methods) AS m (channel)
                      WHERE NOT EXISTS (SELECT 1 FROM deliveries t
                                        WHERE t.challenge_id = c.id AND t.challenge_id = ANY ($1::uuid[])
                                          AND CASE WHEN t.channel IN ('voice', 'whatsapp') THEN 'sms' ELSE t.channel END = m.channel)))
RETURNING c.id

-- name: receipts_context
SELECT c.id, c.app_id, a.name AS app, c.user_id, c.session, c.login, c.state, c.ended_at, c.expires_at, greatest(c.deliveries, c.sends) AS deliveries,
       d.attempt, d.state AS delivery_state, d.channel, d.provider, d.country, d.class, d.cost, d.accepted_at, d.delivered_at, d.abandoned_at,
       d.updated_at
FROM unnest($1::uuid[], $2::smallint[]) AS r (challenge_id, attempt)
JOIN challenges c ON c.id = r.challenge_id AND c.id = ANY ($1::uuid[])
JOIN deliveries d ON d.challenge_id = r.challenge_id AND d.attempt = r.attempt AND d.challenge_id = ANY ($1::uuid[])
JOIN apps a ON a.id = c.app_id

-- name: stray_receipts_add
INSERT INTO stray_receipts (at, why, provider, reference, challenge_id, attempt, state, reason, digest)
SELECT $9::timestamptz, w, p, r, nullif(c, '')::uuid, nullif(n, 0), s, re, d
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::text[], $8::bytea[]) AS t (w, p, r, c, n, s, re, d)
ON CONFLICT ON CONSTRAINT stray_receipts_once DO NOTHING
RETURNING provider, why

-- name: stray_receipts_list
SELECT s.at, s.why, s.provider, s.reference, s.challenge_id, s.attempt, s.state, s.reason
FROM stray_receipts s
WHERE s.at >= $1 AND ($2::uuid IS NULL OR s.challenge_id = $2::uuid)
ORDER BY s.at DESC LIMIT $3

-- name: stray_receipts_forget
DELETE FROM stray_receipts WHERE at < $1

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
RETURNING c.id, a.name AS app, c.user_id, c.session, c.login, c.test

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
