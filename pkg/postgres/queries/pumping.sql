-- The guard against pumping: what is sent to numbers that begin alike, and which of these are blocked.

-- name: prefix_ranges_lock
-- Takes the ranges in order.
SELECT digest, hour, now_bits, past_bits, back_bits, seen FROM prefix_ranges WHERE digest = ANY ($1::uuid[]) ORDER BY digest FOR UPDATE

-- name: prefix_ranges_write
-- A range that another process makes at the same moment loses what this one has seen of it: a number or two.
INSERT INTO prefix_ranges AS r (digest, app_id, prefix, digits, hour, now_bits, past_bits, back_bits, seen, numbers, sequence, crowd)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::smallint[], $5::bigint[], $6::bytea[], $7::bytea[], $8::bytea[], $9::bytea[],
                     $10::smallint[], $11::smallint[], $12::smallint[]) AS t (digest) ORDER BY digest
ON CONFLICT (digest) DO UPDATE
SET hour = excluded.hour, now_bits = excluded.now_bits, past_bits = excluded.past_bits, back_bits = excluded.back_bits, seen = excluded.seen, numbers = excluded.numbers,
    sequence = excluded.sequence, crowd = excluded.crowd

-- name: prefix_counts_add
INSERT INTO prefix_counts AS c (app_id, prefix, slot, sends, fresh, verified)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[]) AS t (app_id, prefix, slot)
ORDER BY app_id, prefix, slot
ON CONFLICT (app_id, prefix, slot) DO UPDATE
SET sends = c.sends + excluded.sends, fresh = c.fresh + excluded.fresh, verified = c.verified + excluded.verified

-- name: prefix_blocks_count
-- Counts for the last block that began by $5: one that has been lifted meanwhile has stopped them all the same.
UPDATE prefix_blocks b
SET stopped = b.stopped + n.stopped, passed = b.passed + n.passed
FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::bigint[]) AS n (app_id, prefix, stopped, passed)
WHERE b.app_id = n.app_id AND b.prefix = n.prefix
      AND b.since = (SELECT max(l.since) FROM prefix_blocks l WHERE l.app_id = n.app_id AND l.prefix = n.prefix AND l.since <= $5)

-- name: prefix_windows
-- What was counted of each prefix since $1, of that what is older than $2, and the ranges of the hours from $3 on.
WITH counted AS (
    SELECT app_id, prefix, sum(sends)::bigint AS sends, sum(fresh)::bigint AS fresh,
           coalesce(sum(sends) FILTER (WHERE slot < $2), 0)::bigint AS mature, coalesce(sum(verified) FILTER (WHERE slot < $2), 0)::bigint AS verified
    FROM prefix_counts
    WHERE slot >= $1
    GROUP BY app_id, prefix
), ranges AS (
    SELECT app_id, prefix, sum(numbers)::bigint AS numbers, sum(sequence)::bigint AS sequence, sum(crowd)::bigint AS crowd, max(digits) AS digits
    FROM prefix_ranges
    WHERE hour >= $3
    GROUP BY app_id, prefix
)
SELECT app_id, prefix, c.sends, c.fresh, c.mature, c.verified, coalesce(r.numbers, 0) AS numbers, coalesce(r.sequence, 0) AS sequence,
       coalesce(r.crowd, 0) AS crowd, coalesce(r.digits, 0) AS digits
FROM counted c
LEFT JOIN ranges r USING (app_id, prefix)
ORDER BY app_id, prefix

-- name: prefix_pasts
-- What was sent to the named prefixes between $3 and $4.
SELECT c.app_id, c.prefix, sum(c.sends)::bigint AS sends
FROM unnest($1::integer[], $2::text[]) AS n (app_id, prefix)
JOIN prefix_counts c USING (app_id, prefix)
WHERE c.slot >= $3 AND c.slot < $4
GROUP BY c.app_id, c.prefix

-- name: prefix_app_pasts
-- What the named apps have sent between $2 and $3, and since when they are counted.
SELECT app_id, sum(sends)::bigint AS sends, sum(verified)::bigint AS verified, min(slot) AS first
FROM prefix_counts
WHERE app_id = ANY ($1::integer[]) AND slot >= $2 AND slot < $3
GROUP BY app_id

-- name: prefix_blocks_recent
-- What was blocked since $1, and what is.
SELECT b.app_id, b.prefix, b.since, b.until, b.mode, b.manual, b.score, b.why, b.sends, b.mature, b.verified, b.numbers, b.dense, b.stopped, b.passed, b.lifted_at
FROM prefix_blocks b
WHERE b.until > $1
ORDER BY b.app_id, b.prefix, b.since

-- name: prefix_blocks_lock
SELECT pg_advisory_xact_lock(hashtext('otpost.prefix_blocks'))

-- name: prefix_block
-- Blocks a prefix that is not blocked.
INSERT INTO prefix_blocks (app_id, prefix, since, until, mode, manual, score, why, sends, mature, verified, numbers, dense)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
WHERE NOT EXISTS (SELECT FROM prefix_blocks WHERE app_id = $1 AND prefix = $2 AND lifted_at IS NULL AND until > $3)
ON CONFLICT DO NOTHING

-- name: prefix_lift
UPDATE prefix_blocks SET lifted_at = $3 WHERE app_id = $1 AND prefix = $2 AND lifted_at IS NULL AND until > $3

-- name: prefix_counts_forget
DELETE FROM prefix_counts WHERE slot < $1

-- name: prefix_ranges_forget
DELETE FROM prefix_ranges WHERE hour < $1

-- name: prefix_blocks_forget
DELETE FROM prefix_blocks WHERE until < $1
