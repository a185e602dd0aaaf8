-- Delivery: providers and routes, deliveries that follow one another, what providers say afterwards, conversion, templates and senders of apps.

-- +goose Up

SET LOCAL statement_timeout = '15min'; -- new constraints read every row of what is there

-- What an app's policy says of sending: otp.DeliveryPolicy; what it does not name takes the default. Apps of the last version could send to every country,
-- and go on doing so; a new one sends to those that it lists.
ALTER TABLE apps
    ADD COLUMN delivery_policy jsonb NOT NULL DEFAULT '{"countries": ["*"]}',
    ADD CONSTRAINT apps_delivery_policy_object CHECK (jsonb_typeof(delivery_policy) = 'object');
ALTER TABLE apps ALTER COLUMN delivery_policy SET DEFAULT '{}';

-- The providers that the channels' workers have, as these say when they start.
CREATE TABLE providers (
    channel  text NOT NULL,
    name     text NOT NULL,
    kind     text NOT NULL,
    position smallint NOT NULL,               -- in the worker's configuration: the order where there is no route
    receipts boolean NOT NULL,                -- it tells what became of a message
    costs    jsonb NOT NULL DEFAULT '{}',     -- millionths of the operator's currency for a message, by country; "" for all others
    seen_at  timestamptz NOT NULL,            -- when a worker last had it
    CONSTRAINT providers_pkey          PRIMARY KEY (channel, name),
    CONSTRAINT providers_channel_known CHECK (channel IN ('sms', 'voice', 'whatsapp', 'email', 'letter')),
    CONSTRAINT providers_name_form     CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
    -- A worker writes them, and every other one reckons with them: whole numbers, up to 100 of the currency.
    CONSTRAINT providers_costs_prices  CHECK (jsonb_typeof(costs) = 'object'
        AND NOT jsonb_path_exists(costs, '$.* ? (@.type() != "number" || @ < 0 || @ > 100000000 || @.floor() != @)'))
);

-- Which providers carry what. The most particular row serves: of the app and country, of the app, of the country, of neither.
CREATE TABLE routes (
    app_id          integer NOT NULL,         -- 0 for every app
    channel         text NOT NULL,
    country         text NOT NULL DEFAULT '', -- ISO 3166-1 alpha-2; empty for every country
    policy          text NOT NULL,
    providers       text[] NOT NULL,
    weights         integer[],                -- as many as there are providers
    receipt_timeout integer NOT NULL DEFAULT 0, -- seconds after which a message that is not said to be delivered goes on to the next provider; 0 for never
    updated_at      timestamptz NOT NULL,
    CONSTRAINT routes_pkey            PRIMARY KEY (app_id, channel, country),
    CONSTRAINT routes_channel_known   CHECK (channel IN ('sms', 'voice', 'whatsapp', 'email')),
    CONSTRAINT routes_country_form    CHECK (country ~ '^([A-Z]{2})?$'),
    CONSTRAINT routes_policy_known    CHECK (policy IN ('order', 'weight', 'conversion')),
    CONSTRAINT routes_providers_some  CHECK (cardinality(providers) BETWEEN 1 AND 16),
    CONSTRAINT routes_weights_whole   CHECK (weights IS NULL OR cardinality(weights) = cardinality(providers)),
    CONSTRAINT routes_timeout_bounds  CHECK (receipt_timeout = 0 OR receipt_timeout BETWEEN 5 AND 300)
);

-- A challenge learns over which channel it is sent, and how many deliveries it has: those that follow a failure are no sends of the user's.
ALTER TABLE challenges
    ADD COLUMN channel      text NOT NULL DEFAULT '',     -- of the last send; empty for the factor's own
    ADD COLUMN deliveries   smallint NOT NULL DEFAULT 0,  -- the number of the last one; of an older challenge that is "sends"
    ADD COLUMN android_hash text NOT NULL DEFAULT '',
    ADD COLUMN country      text NOT NULL DEFAULT '',     -- of the phone number
    ADD CONSTRAINT challenges_channel_known CHECK (channel IN ('', 'sms', 'voice', 'whatsapp', 'email'));

ALTER TABLE deliveries
    ADD COLUMN country      text NOT NULL DEFAULT '',
    ADD COLUMN cause        text NOT NULL DEFAULT 'send', -- why it was ordered: a send of the login's or the user's, or what follows a failure
    ADD COLUMN class        text NOT NULL DEFAULT '',     -- of a failure: what may be done about it
    ADD COLUMN cost         bigint NOT NULL DEFAULT 0,    -- millionths of the operator's currency, as the registry had it
    ADD COLUMN due_at       timestamptz,                  -- when it is given up unless it is said to be delivered; NULL for never, and once that was judged
    ADD COLUMN abandoned_at timestamptz,                  -- when another took its place
    ADD COLUMN accepted_at  timestamptz,
    ADD COLUMN delivered_at timestamptz,
    DROP CONSTRAINT deliveries_channel_known,
    DROP CONSTRAINT deliveries_attempt_bound,
    ADD CONSTRAINT deliveries_channel_known CHECK (channel IN ('sms', 'voice', 'whatsapp', 'email', 'letter')),
    ADD CONSTRAINT deliveries_attempt_bound CHECK (attempt BETWEEN 1 AND 60),
    ADD CONSTRAINT deliveries_cause_known   CHECK (cause IN ('send', 'failover', 'fallback')),
    ADD CONSTRAINT deliveries_class_known   CHECK (class IN ('', 'ambiguous', 'transient', 'permanent', 'configuration', 'rejected'));
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL;

-- What providers said of deliveries that are not there, or that another has taken the place of: kept for people who look for a code that did not arrive.
CREATE TABLE stray_receipts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL,
    why          text NOT NULL,
    provider     text NOT NULL,
    reference    text NOT NULL DEFAULT '',
    challenge_id uuid,                        -- where it names one
    attempt      smallint,
    state        text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    digest       bytea NOT NULL,              -- of all that it says: the same receipt again is the same row
    CONSTRAINT stray_receipts_why_known CHECK (why IN ('unknown', 'late', 'other_provider')),
    CONSTRAINT stray_receipts_once UNIQUE (digest)
);
CREATE INDEX stray_receipts_age ON stray_receipts (at);
CREATE INDEX stray_receipts_of ON stray_receipts (challenge_id) WHERE challenge_id IS NOT NULL;

-- Challenges that a sent code has verified, for the counts below. A row lives for a moment.
CREATE TABLE conversions (
    challenge_id uuid PRIMARY KEY,
    at           timestamptz NOT NULL
);

-- What became of what was sent, by five minutes.
CREATE TABLE delivery_stats (
    slot         timestamptz NOT NULL,        -- its beginning
    app          text NOT NULL,               -- its name
    channel      text NOT NULL,
    country      text NOT NULL,
    provider     text NOT NULL,
    sent         bigint NOT NULL DEFAULT 0,   -- deliveries with an outcome
    accepted     bigint NOT NULL DEFAULT 0,
    delivered    bigint NOT NULL DEFAULT 0,
    failed       bigint NOT NULL DEFAULT 0,   -- refused or undelivered
    late         bigint NOT NULL DEFAULT 0,   -- given up for want of a receipt
    verified     bigint NOT NULL DEFAULT 0,   -- codes that came back
    delivered_ms bigint NOT NULL DEFAULT 0,   -- from accepted to delivered, over all that were delivered
    cost         bigint NOT NULL DEFAULT 0,
    CONSTRAINT delivery_stats_pkey PRIMARY KEY (slot, app, channel, country, provider)
);

-- An app's own words, and its senders.
CREATE TABLE app_templates (
    app_id     integer NOT NULL REFERENCES apps (id),
    channel    text NOT NULL,
    purpose    text NOT NULL,
    locale     text NOT NULL DEFAULT '',      -- BCP 47; empty for every language that has none of its own
    subject    text NOT NULL DEFAULT '',
    text       text NOT NULL,
    html       text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL,
    CONSTRAINT app_templates_pkey PRIMARY KEY (app_id, channel, purpose, locale),
    CONSTRAINT app_templates_channel_known CHECK (channel IN ('sms', 'voice', 'whatsapp', 'email')),
    CONSTRAINT app_templates_bounds CHECK (char_length(text) <= 4000 AND char_length(html) <= 65536 AND char_length(subject) <= 200)
);
CREATE TABLE app_senders (
    app_id     integer NOT NULL REFERENCES apps (id),
    channel    text NOT NULL,
    country    text NOT NULL DEFAULT '',      -- empty for every country that has none of its own
    sender     text NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT app_senders_pkey PRIMARY KEY (app_id, channel, country),
    CONSTRAINT app_senders_channel_known CHECK (channel IN ('sms', 'voice', 'whatsapp')),
    CONSTRAINT app_senders_country_form CHECK (country ~ '^([A-Z]{2})?$')
);

-- Who may do what.
GRANT SELECT ON providers, routes, app_senders TO otpost_challenge, otpost_enrolment, otpost_operator;
GRANT INSERT, UPDATE ON providers TO otpost_sms, otpost_email;
GRANT SELECT ON providers TO otpost_sms, otpost_email; -- an upsert reads what it meets
GRANT DELETE ON providers TO otpost_operator;
GRANT INSERT, UPDATE, DELETE ON routes, app_templates, app_senders TO otpost_operator;
GRANT SELECT ON app_templates TO otpost_operator, otpost_sms, otpost_email;
GRANT SELECT (id, name) ON apps TO otpost_sms, otpost_email;
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery_stats TO otpost_challenge;
GRANT SELECT (slot, app, channel, country, provider, sent, accepted, failed, cost), INSERT (slot, app, channel, country, provider, sent, accepted, failed, cost),
      UPDATE (sent, accepted, failed, cost) ON delivery_stats TO otpost_sms, otpost_email, otpost_letter;
GRANT SELECT ON delivery_stats, stray_receipts TO otpost_operator;
GRANT SELECT (slot, channel, country, provider, accepted, verified) ON delivery_stats TO otpost_enrolment; -- to choose by
GRANT SELECT, INSERT, DELETE ON stray_receipts TO otpost_challenge;
GRANT INSERT ON conversions TO otpost_verification;
GRANT SELECT, UPDATE (at), DELETE ON conversions TO otpost_challenge; -- to lock a row takes a column that may be updated
GRANT INSERT (channel, deliveries, android_hash, country), UPDATE (channel, deliveries) ON challenges TO otpost_challenge;
GRANT SELECT (channel, deliveries, country) ON challenges TO otpost_operator;
GRANT UPDATE (class, cost, due_at, abandoned_at, accepted_at, delivered_at) ON deliveries TO otpost_challenge;
GRANT SELECT (class, accepted_at, country, cost), UPDATE (class, accepted_at) ON deliveries TO otpost_sms, otpost_email, otpost_letter;

-- A channel's worker enters its own providers, and one process serves all that reach a phone.
ALTER POLICY deliveries_sms ON deliveries USING (channel IN ('sms', 'voice', 'whatsapp'));
ALTER TABLE providers ENABLE ROW LEVEL SECURITY;
CREATE POLICY providers_read  ON providers FOR SELECT USING (true);
CREATE POLICY providers_sms   ON providers TO otpost_sms   USING (channel IN ('sms', 'voice', 'whatsapp')) WITH CHECK (channel IN ('sms', 'voice', 'whatsapp'));
CREATE POLICY providers_email ON providers TO otpost_email USING (channel = 'email') WITH CHECK (channel = 'email');
CREATE POLICY providers_gone  ON providers FOR DELETE TO otpost_operator USING (true);
ALTER TABLE delivery_stats ENABLE ROW LEVEL SECURITY;
CREATE POLICY delivery_stats_all   ON delivery_stats TO otpost_challenge USING (true) WITH CHECK (true);
CREATE POLICY delivery_stats_read  ON delivery_stats FOR SELECT TO otpost_operator, otpost_enrolment USING (true);
CREATE POLICY delivery_stats_sms   ON delivery_stats TO otpost_sms USING (channel IN ('sms', 'voice', 'whatsapp')) WITH CHECK (channel IN ('sms', 'voice', 'whatsapp'));
CREATE POLICY delivery_stats_email ON delivery_stats TO otpost_email USING (channel = 'email') WITH CHECK (channel = 'email');

-- +goose Down
DROP POLICY providers_read ON providers;
DROP TABLE app_senders, app_templates, delivery_stats, conversions, stray_receipts, routes, providers;
REVOKE SELECT (id, name) ON apps FROM otpost_sms, otpost_email;
ALTER POLICY deliveries_sms ON deliveries USING (channel = 'sms');
DROP INDEX deliveries_due;
DELETE FROM deliveries WHERE attempt > 10 OR channel IN ('voice', 'whatsapp');
ALTER TABLE deliveries
    DROP CONSTRAINT deliveries_class_known, DROP CONSTRAINT deliveries_cause_known, DROP CONSTRAINT deliveries_attempt_bound, DROP CONSTRAINT deliveries_channel_known,
    DROP COLUMN country, DROP COLUMN cause, DROP COLUMN class, DROP COLUMN cost, DROP COLUMN due_at, DROP COLUMN abandoned_at, DROP COLUMN accepted_at, DROP COLUMN delivered_at,
    ADD CONSTRAINT deliveries_channel_known CHECK (channel IN ('sms', 'email', 'letter')),
    ADD CONSTRAINT deliveries_attempt_bound CHECK (attempt BETWEEN 1 AND 10);
ALTER TABLE challenges
    DROP CONSTRAINT challenges_channel_known,
    DROP COLUMN channel, DROP COLUMN deliveries, DROP COLUMN android_hash, DROP COLUMN country;
ALTER TABLE apps DROP CONSTRAINT apps_delivery_policy_object, DROP COLUMN delivery_policy;
