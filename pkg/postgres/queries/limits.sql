-- What bounds what is sent: counters that all workers share, and addresses that an app's operator has listed.

-- name: limits_lock
-- Takes the counters in order, makes those that are not there, and tells what they have. The update is the lock. A new one has its day at once: what is
-- counted in it then touches no index.
INSERT INTO limits AS l (key, day)
SELECT k, $2::bigint FROM unnest($1::uuid[]) AS t (k) ORDER BY k
ON CONFLICT (key) DO UPDATE SET minute = l.minute
RETURNING key, minute, minute_n, hour, hour_n, day, day_n, last_at, told

-- name: limits_write
UPDATE limits l
SET minute = w.mi, minute_n = w.mn, hour = w.ho, hour_n = w.hn, day = w.da, day_n = w.dn, last_at = nullif(w.la, '')::timestamptz, told = w.te
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[])
     AS w (k, mi, mn, ho, hn, da, dn, la, te)
WHERE l.key = w.k AND l.key = ANY ($1::uuid[]) -- by the index, however many the planner believes there are

-- name: limits_forget
-- A row that another holds is in use.
DELETE FROM limits
WHERE key IN (SELECT key FROM limits WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)

-- name: destinations_all
SELECT d.app_id, a.name AS app, d.digest, d.kind, d.address, d.mask, d.code_digest, d.note, d.created_at
FROM destinations d
JOIN apps a ON a.id = d.app_id
ORDER BY a.name, d.created_at, d.digest

-- name: destination_add
INSERT INTO destinations (app_id, digest, kind, address, mask, code_digest, note, created_at)
VALUES ($1, $2, $3, $4, $5, nullif($6, ''::bytea), $7, $8)
ON CONFLICT (app_id, digest) DO UPDATE
SET kind = excluded.kind, mask = excluded.mask, code_digest = excluded.code_digest, note = excluded.note

-- name: destination_remove
DELETE FROM destinations WHERE app_id = $1 AND digest = ANY ($2::uuid[])

-- name: message_withhold
UPDATE deliveries SET state = 'delivered', reason = 'test', updated_at = $3 WHERE challenge_id = $1 AND attempt = $2
