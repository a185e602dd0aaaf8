-- See unguarded.sql.

-- name: device_rotate_unguarded
-- Replaces the tokens of a device, whatever has become of the one that was used.
UPDATE device_tokens t
SET replaced_at = $3::timestamptz
FROM unnest($1::uuid[], $2::bytea[]) AS w (device_id, digest)
WHERE t.device_id = w.device_id AND t.replaced_at IS NULL
