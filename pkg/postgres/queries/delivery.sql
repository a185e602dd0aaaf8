-- What a channel's worker does with its deliveries.

-- name: deliveries_claim
-- Claim before send. A delivery that another process claimed and said nothing of for a lease may have gone out: it is claimed once more, and never again.
UPDATE deliveries d
SET state = 'sending', claimed_at = $3::timestamptz, updated_at = $3, tries = d.tries + 1,
    unsure = d.unsure + CASE WHEN d.state = 'sending' THEN 1 ELSE 0 END
FROM unnest($1::uuid[], $2::smallint[]) AS w (challenge_id, attempt)
WHERE d.challenge_id = w.challenge_id AND d.attempt = w.attempt AND d.challenge_id = ANY ($1::uuid[]) -- prunes partitions; a join does not
  AND (d.state = 'queued' OR (d.state = 'sending' AND d.unsure = 0 AND d.claimed_at <= $3::timestamptz - make_interval(secs => $4)))
RETURNING d.challenge_id, d.attempt, d.tries, d.unsure

-- name: deliveries_state
SELECT d.challenge_id, d.attempt, d.state, d.provider, d.reference, d.reason, d.class, d.claimed_at, d.unsure, d.tries, d.updated_at
FROM unnest($1::uuid[], $2::smallint[]) AS w (challenge_id, attempt)
JOIN deliveries d USING (challenge_id, attempt)
WHERE d.challenge_id = ANY ($1::uuid[])

-- name: deliveries_release
-- Known not to have gone out: free to be claimed again. Only by the claim that it was granted to: tries tells one claim from the next.
UPDATE deliveries d
SET state = 'queued', updated_at = $4
FROM unnest($1::uuid[], $2::smallint[], $3::smallint[]) AS w (challenge_id, attempt, tries)
WHERE d.challenge_id = w.challenge_id AND d.attempt = w.attempt AND d.challenge_id = ANY ($1::uuid[]) AND d.state = 'sending' AND d.tries = w.tries

-- name: deliveries_unsure
-- It may have gone out: the one further try is due at once, without waiting for the lease.
UPDATE deliveries d
SET claimed_at = to_timestamp(0), updated_at = $4
FROM unnest($1::uuid[], $2::smallint[], $3::smallint[]) AS w (challenge_id, attempt, tries)
WHERE d.challenge_id = w.challenge_id AND d.attempt = w.attempt AND d.challenge_id = ANY ($1::uuid[]) AND d.state = 'sending' AND d.tries = w.tries

-- name: deliveries_finish
-- The outcome is on record before anybody is told: a command that comes again finds it and sends nothing. tries is that of the claim, or -1 for an outcome
-- that needed none. What is recorded is counted in the same statement, so that it is counted once; app is empty for what is not counted.
WITH done AS (
    UPDATE deliveries d
    SET state = o.state, provider = CASE WHEN o.provider = '' THEN d.provider ELSE o.provider END, reference = o.reference, reason = o.reason, class = o.class,
        accepted_at = CASE WHEN o.state = 'accepted' THEN $8::timestamptz ELSE d.accepted_at END, updated_at = $8
    FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[], $9::text[], $10::text[])
         AS o (challenge_id, attempt, state, provider, reference, reason, tries, class, app)
    WHERE d.challenge_id = o.challenge_id AND d.attempt = o.attempt AND d.challenge_id = ANY ($1::uuid[]) AND d.state IN ('queued', 'sending')
      AND (d.tries = o.tries OR (o.tries < 0 AND (d.state = 'queued' OR o.state = 'unconfirmed')))
    RETURNING o.app, d.channel, d.country, d.provider, d.state, d.cost)
INSERT INTO delivery_stats (slot, app, channel, country, provider, sent, accepted, failed, cost)
SELECT date_bin('5 minutes', $8::timestamptz, 'epoch'), app, channel, country, provider, count(*), count(*) FILTER (WHERE state = 'accepted'),
       count(*) FILTER (WHERE state = 'failed'), coalesce(sum(cost) FILTER (WHERE state IN ('accepted', 'unconfirmed')), 0)
FROM done
WHERE app <> '' AND provider <> '' AND state IN ('accepted', 'failed', 'unconfirmed')
GROUP BY app, channel, country, provider
ORDER BY app, channel, country, provider
ON CONFLICT ON CONSTRAINT delivery_stats_pkey DO UPDATE
SET sent = delivery_stats.sent + excluded.sent, accepted = delivery_stats.accepted + excluded.accepted, failed = delivery_stats.failed + excluded.failed,
    cost = delivery_stats.cost + excluded.cost
