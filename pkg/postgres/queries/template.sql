-- name: template_set
INSERT INTO app_templates (app_id, channel, purpose, locale, subject, text, html, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (app_id, channel, purpose, locale) DO UPDATE
SET subject = excluded.subject, text = excluded.text, html = excluded.html, updated_at = excluded.updated_at

-- name: template_remove
DELETE FROM app_templates WHERE app_id = $1 AND channel = $2 AND purpose = $3 AND locale = $4

-- name: template_list
SELECT channel, purpose, locale, subject, text, html, updated_at
FROM app_templates
WHERE app_id = $1
ORDER BY channel, purpose, locale

-- name: template_all
-- For the channels' workers, which know an app by its name.
SELECT a.name AS app, t.channel, t.purpose, t.locale, t.subject, t.text, t.html, t.updated_at
FROM app_templates t
JOIN apps a ON a.id = t.app_id
ORDER BY a.name, t.channel, t.purpose, t.locale

-- name: sender_set
INSERT INTO app_senders (app_id, channel, country, sender, updated_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (app_id, channel, country) DO UPDATE
SET sender = excluded.sender, updated_at = excluded.updated_at

-- name: sender_remove
DELETE FROM app_senders WHERE app_id = $1 AND channel = $2 AND country = $3

-- name: sender_list
SELECT channel, country, sender, updated_at FROM app_senders WHERE app_id = $1 ORDER BY channel, country

-- name: sender_all
SELECT a.name AS app, s.channel, s.country, s.sender
FROM app_senders s
JOIN apps a ON a.id = s.app_id
