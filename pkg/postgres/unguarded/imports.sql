-- See unguarded.sql.

-- name: imports_lock_unguarded
-- Waits for nobody.
SELECT 1
