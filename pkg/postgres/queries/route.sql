-- Providers, the routes over them, and what became of what they were given.

-- name: providers_register
INSERT INTO providers (channel, name, kind, position, receipts, costs, seen_at)
SELECT c, n, k, p, r, o::jsonb, $7::timestamptz
FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::boolean[], $6::text[]) AS t (c, n, k, p, r, o)
ORDER BY c, n
ON CONFLICT ON CONSTRAINT providers_pkey DO UPDATE
SET kind = excluded.kind, position = excluded.position, receipts = excluded.receipts, costs = excluded.costs, seen_at = excluded.seen_at

-- name: providers_list
SELECT channel, name, kind, position, receipts, costs, seen_at FROM providers ORDER BY channel, position, name

-- name: provider_forget
DELETE FROM providers WHERE channel = $1 AND name = $2

-- name: routes_list
SELECT app_id, channel, country, policy, providers, weights, receipt_timeout, updated_at FROM routes ORDER BY app_id, channel, country

-- name: route_set
INSERT INTO routes (app_id, channel, country, policy, providers, weights, receipt_timeout, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT ON CONSTRAINT routes_pkey DO UPDATE
SET policy = excluded.policy, providers = excluded.providers, weights = excluded.weights, receipt_timeout = excluded.receipt_timeout,
    updated_at = excluded.updated_at

-- name: route_remove
DELETE FROM routes WHERE app_id = $1 AND channel = $2 AND country = $3

-- name: conversion_rates
-- What is older counts less, by how much was sent since: half after 500 codes of the channel and country, so that a busy route notices within minutes that a
-- provider has gone bad, and a quiet one does not forget overnight. Codes of the last minutes are left out: their users are still typing.
SELECT channel, country, provider, sum(accepted * w) AS sent, sum(verified * w) AS verified
FROM (SELECT channel, country, provider, accepted, verified,
             power(0.5, least(coalesce(sum(accepted) OVER (PARTITION BY channel, country ORDER BY slot DESC
                                                           GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) / 500.0, 60)) AS w
      FROM delivery_stats WHERE slot > $1::timestamptz - interval '48 hours' AND slot <= $1::timestamptz - interval '5 minutes') AS s
GROUP BY channel, country, provider

-- name: delivery_stats_add
-- What receipts tell. What was sent the channel's worker counts with the outcome, unless a receipt was there first.
INSERT INTO delivery_stats (slot, app, channel, country, provider, sent, accepted, delivered, failed, late, verified, delivered_ms, cost)
SELECT h::timestamptz, a, c, o, p, se, ac, de, fa, la, ve, ms, co
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
            $11::bigint[], $12::bigint[], $13::bigint[]) AS t (h, a, c, o, p, se, ac, de, fa, la, ve, ms, co)
ORDER BY h, a, c, o, p
ON CONFLICT ON CONSTRAINT delivery_stats_pkey DO UPDATE
SET sent = delivery_stats.sent + excluded.sent, accepted = delivery_stats.accepted + excluded.accepted,
    delivered = delivery_stats.delivered + excluded.delivered, failed = delivery_stats.failed + excluded.failed, late = delivery_stats.late + excluded.late,
    verified = delivery_stats.verified + excluded.verified, delivered_ms = delivery_stats.delivered_ms + excluded.delivered_ms,
    cost = delivery_stats.cost + excluded.cost

-- name: delivery_stats_read
SELECT channel, country, provider, sum(sent) AS sent, sum(accepted) AS accepted, sum(delivered) AS delivered,
       sum(failed) AS failed, sum(late) AS late, sum(verified) AS verified, sum(delivered_ms) AS delivered_ms, sum(cost) AS cost
FROM delivery_stats
WHERE slot >= $1 AND ($2 = '' OR app = $2)
GROUP BY channel, country, provider
ORDER BY channel, country, provider

-- name: delivery_stats_forget
DELETE FROM delivery_stats WHERE slot < $1

-- name: conversions_take
DELETE FROM conversions
WHERE challenge_id IN (SELECT challenge_id FROM conversions ORDER BY challenge_id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING challenge_id
