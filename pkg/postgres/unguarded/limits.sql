-- name: limits_lock_unguarded
-- Reads the counters and holds none of them.
WITH made AS (
    INSERT INTO limits (key, day) SELECT k, $2::bigint FROM unnest($1::uuid[]) AS t (k) ORDER BY k ON CONFLICT (key) DO NOTHING
    RETURNING key, minute, minute_n, hour, hour_n, day, day_n, last_at, told)
SELECT * FROM made
UNION ALL
SELECT key, minute, minute_n, hour, hour_n, day, day_n, last_at, told FROM limits WHERE key = ANY ($1::uuid[])
