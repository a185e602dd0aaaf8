-- Contacts, and recoveries from their begin to their end. Each statement that changes something is run by an act, which holds the account's row.

-- name: contacts_of
SELECT id, kind, sealed, mask, country, region, confirmed_at, session, unproven
FROM contacts
WHERE app_id = $1 AND user_id = $2 AND removed_at IS NULL
ORDER BY array_position(ARRAY['email', 'phone', 'letter'], kind)

-- name: contact_add
INSERT INTO contacts (id, app_id, user_id, kind, sealed, mask, country, region, confirmed_at, session, unproven)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: contact_remove
UPDATE contacts SET removed_at = $4 WHERE app_id = $1 AND user_id = $2 AND kind = $3 AND removed_at IS NULL

-- name: contacts_drop_unproven
UPDATE contacts SET removed_at = $4
WHERE app_id = $1 AND user_id = $2 AND removed_at IS NULL AND unproven AND session <> $3
RETURNING kind

-- name: contacts_settle
UPDATE contacts SET unproven = false WHERE app_id = $1 AND user_id = $2 AND removed_at IS NULL AND unproven

-- name: contacts_forget
UPDATE contacts SET removed_at = $3 WHERE app_id = $1 AND user_id = $2 AND removed_at IS NULL RETURNING kind

-- name: passphrase_set
INSERT INTO users (app_id, user_id, passphrase, passphrase_session, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (app_id, user_id) DO UPDATE SET passphrase = excluded.passphrase, passphrase_session = excluded.passphrase_session

-- name: passphrase_unproven
SELECT passphrase_session FROM users WHERE app_id = $1 AND user_id = $2 AND passphrase_session IS NOT NULL

-- name: passphrase_drop_unproven
UPDATE users SET passphrase = NULL, passphrase_session = NULL WHERE app_id = $1 AND user_id = $2 AND passphrase_session <> $3

-- name: passphrase_settle
UPDATE users SET passphrase_session = NULL WHERE app_id = $1 AND user_id = $2 AND passphrase_session IS NOT NULL

-- name: passphrase_forget
UPDATE users SET passphrase = NULL, passphrase_session = NULL WHERE app_id = $1 AND user_id = $2 AND passphrase IS NOT NULL

-- name: recovery_owner
SELECT user_id FROM recoveries WHERE app_id = $1 AND id = $2

-- name: recovery_read
-- The one named, or the latest: what is under way is always the latest.
SELECT id, session, state, begun_by, approved_by, reason, locale, proofs, attempts, max_attempts, nonce, key_id, created_at, expires_at, effective_at, ended_at
FROM recoveries
WHERE app_id = $1 AND user_id = $2 AND ($3::uuid IS NULL OR id = $3)
ORDER BY ended_at IS NULL DESC, created_at DESC, id DESC
LIMIT 1

-- name: recoveries_nth
-- One that the second agent has refused reached nobody, and takes nothing from the user.
SELECT created_at FROM recoveries WHERE app_id = $1 AND user_id = $2 AND state <> 'refused' ORDER BY created_at DESC OFFSET $3 LIMIT 1

-- name: recovery_begin
INSERT INTO recoveries (id, app_id, user_id, session, state, begun_by, reason, locale, max_attempts, nonce, key_id, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: recovery_approve
UPDATE recoveries
SET state = 'proving', approved_by = $4, expires_at = $5
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND state = 'approval' AND begun_by <> $4 AND expires_at > $6

-- name: recovery_claim
-- Claim before compare: who gets no row back compares nothing. A proof that was given needs no attempt, and gets none. With $7 another session tries to take
-- the recovery over: to that one nothing was given yet.
UPDATE recoveries
SET attempts = attempts + 1
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND state = 'proving' AND expires_at > $5 AND attempts < max_attempts
  AND (session IN ('', $4) AND $6 <> ALL (proofs) OR session NOT IN ('', $4) AND $7)
RETURNING id, session, state, begun_by, approved_by, reason, locale, proofs, attempts, max_attempts, nonce, key_id, created_at, expires_at, effective_at,
          ended_at

-- name: recovery_prove
-- Whoever gives the first right proof takes up what support has begun: from then on it is that session's. Who takes it over from another session begins
-- with this proof.
UPDATE recoveries
SET proofs = CASE WHEN session IN ('', $5) THEN array_append(proofs, $4::text) ELSE ARRAY[$4::text] END,
    session = $5, state = $6, effective_at = $7, ended_at = $8
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND state = 'proving' AND (session NOT IN ('', $5) OR $4 <> ALL (proofs))
RETURNING id, session, state, begun_by, approved_by, reason, locale, proofs, attempts, max_attempts, nonce, key_id, created_at, expires_at, effective_at,
          ended_at

-- name: recovery_code_proven
-- Those whose proofs were dropped have to be given again.
UPDATE recovery_codes
SET proven_at = CASE WHEN method = $2 THEN $4::timestamptz END
WHERE recovery_id = $1 AND (method = $2 OR proven_at IS NOT NULL AND method <> ALL ($3::text[]))

-- name: recovery_complete
UPDATE recoveries SET state = 'completed', ended_at = $4
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND state = 'waiting' AND effective_at <= $4

-- name: recovery_expire
UPDATE recoveries SET state = 'expired', ended_at = $4
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND state IN ('approval', 'proving') AND expires_at <= $4

-- name: recovery_end
UPDATE recoveries SET state = $4, reason = $5, ended_at = $6
WHERE id = $1 AND app_id = $2 AND user_id = $3 AND state = ANY ($7::text[])

-- name: recoveries_due
SELECT id, app_id, user_id
FROM (
    (SELECT id, app_id, user_id, effective_at AS at FROM recoveries WHERE state = 'waiting' AND effective_at <= $1 ORDER BY effective_at LIMIT $2)
    UNION ALL
    (SELECT id, app_id, user_id, expires_at FROM recoveries WHERE state IN ('approval', 'proving') AND expires_at <= $1 ORDER BY expires_at LIMIT $2)
) AS due
ORDER BY at
LIMIT $2

-- name: recovery_codes_of
SELECT id, method, mask, sends, next_send_at, expires_at, proven_at
FROM recovery_codes
WHERE recovery_id = $1
ORDER BY array_position(ARRAY['email', 'phone', 'letter'], method)

-- name: recovery_code_add
INSERT INTO recovery_codes (id, recovery_id, method, mask, sends, next_send_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: recovery_codes_clear
DELETE FROM recovery_codes WHERE recovery_id = $1

-- name: recovery_code_resend
-- Each send is a message of its own: the deliveries of the last one may have been dropped with their day.
UPDATE recovery_codes
SET id = $3, sends = sends + 1, next_send_at = $4, expires_at = $5
WHERE recovery_id = $1 AND id = $2 AND sends BETWEEN 1 AND $6 - 1 AND next_send_at <= $7 AND proven_at IS NULL

-- name: recovery_codes_withdraw
-- What no worker has taken yet need not go out: its code opens nothing any more. The ids are given, not looked for, so that only their partitions are read.
UPDATE deliveries
SET state = 'expired', reason = 'the recovery has ended', updated_at = $2
WHERE challenge_id = ANY ($1::uuid[]) AND state = 'queued'
