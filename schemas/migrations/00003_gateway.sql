-- The HTTP edge: keys of apps, how their pages look and where they lead back to, page sessions and their results, repeated requests, webhooks,
-- sessions of the support desk.

-- +goose Up

-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'otpost_gateway') THEN
        BEGIN
            CREATE ROLE otpost_gateway NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster made it just now
        END;
    END IF;
END
$$;
-- +goose StatementEnd

-- Bearer keys of apps. A key is 256 random bits; its SHA-256 is all that is kept of it.
CREATE TABLE app_keys (
    id           uuid PRIMARY KEY,
    app_id       integer NOT NULL REFERENCES apps (id),
    label        text NOT NULL DEFAULT '',
    digest       bytea NOT NULL CONSTRAINT app_keys_digest_once UNIQUE,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,             -- NULL: until it is revoked
    revoked_at   timestamptz,
    last_used_at timestamptz,             -- to the minute
    CONSTRAINT app_keys_digest_length CHECK (octet_length(digest) = 32),
    CONSTRAINT app_keys_label_length  CHECK (char_length(label) <= 64)
);
CREATE INDEX app_keys_of_app ON app_keys (app_id);

-- How an app's pages look, and where they may lead back to. An app without a row has no pages.
CREATE TABLE app_pages (
    app_id      integer PRIMARY KEY REFERENCES apps (id),
    accent      text NOT NULL DEFAULT '',   -- "#rrggbb"; empty for the house's own
    logo        bytea,                      -- PNG or SVG, shown as a picture only
    logo_type   text NOT NULL DEFAULT '',
    return_urls text[] NOT NULL,            -- an origin, or an origin and the beginning of a path; what pages lead back to begins with one of them
    updated_at  timestamptz NOT NULL,
    CONSTRAINT app_pages_accent_form  CHECK (accent ~ '^(#[0-9a-f]{6})?$'),
    CONSTRAINT app_pages_logo_bounds  CHECK (octet_length(logo) <= 65536),
    CONSTRAINT app_pages_logo_typed   CHECK ((logo IS NULL AND logo_type = '') OR (logo IS NOT NULL AND logo_type IN ('image/png', 'image/svg+xml'))),
    CONSTRAINT app_pages_returns_some CHECK (cardinality(return_urls) BETWEEN 1 AND 32)
);

-- A user's visit to the hosted pages. The link opens it once and sets the cookie; of either only the SHA-256 is kept.
CREATE TABLE page_sessions (
    id                 uuid PRIMARY KEY,
    app_id             integer NOT NULL,
    user_id            text NOT NULL,
    session            text NOT NULL,             -- the app's own, which what is done here is done in
    page               text NOT NULL,
    account            text NOT NULL DEFAULT '',  -- what pages and authenticators call the user
    locale             text NOT NULL DEFAULT '',
    return_url         text NOT NULL,
    reauthenticate_url text NOT NULL DEFAULT '',
    reauthenticated_at timestamptz,
    challenge          uuid,
    link_digest        bytea NOT NULL CONSTRAINT page_sessions_link_once UNIQUE,
    link_expires_at    timestamptz NOT NULL,
    cookie_digest      bytea CONSTRAINT page_sessions_cookie_once UNIQUE,
    opened_at          timestamptz,
    state              bytea,                     -- what the pages remember from step to step, sealed
    revision           integer NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL,
    expires_at         timestamptz NOT NULL,
    ended_at           timestamptz,
    CONSTRAINT page_sessions_page_known     CHECK (page IN ('setup', 'challenge', 'settings', 'backup_codes', 'deactivate', 'recovery')),
    CONSTRAINT page_sessions_challenge_its_page CHECK ((page = 'challenge') = (challenge IS NOT NULL)),
    CONSTRAINT page_sessions_digest_lengths CHECK (octet_length(link_digest) = 32 AND octet_length(cookie_digest) = 32),
    CONSTRAINT page_sessions_opened_whole   CHECK ((opened_at IS NULL) = (cookie_digest IS NULL)),
    CONSTRAINT page_sessions_state_bounds   CHECK (octet_length(state) <= 131072)
);
CREATE INDEX page_sessions_age ON page_sessions (expires_at);
CREATE INDEX page_sessions_of_user ON page_sessions (app_id, user_id);

-- What a visit came to, for the app to redeem once. Sealed, since it may hold the token of a trusted device.
CREATE TABLE page_results (
    digest      bytea PRIMARY KEY,
    app_id      integer NOT NULL,
    user_id     text NOT NULL,
    sealed      bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    CONSTRAINT page_results_digest_length CHECK (octet_length(digest) = 32)
);
CREATE INDEX page_results_age ON page_results (expires_at);
CREATE INDEX page_results_of_user ON page_results (app_id, user_id);

-- Requests over HTTP that carried an Idempotency-Key, with their answers. Sealed, since an answer may hold a secret of the user's.
CREATE TABLE http_requests (
    app_id      integer NOT NULL,
    key_digest  bytea NOT NULL,           -- SHA-256 of the Idempotency-Key
    request     bytea NOT NULL,           -- SHA-256 of route and body: the same key with another request is refused
    status      smallint,                 -- NULL while it is under way
    sealed      bytea,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (app_id, key_digest),
    CONSTRAINT http_requests_answered_whole CHECK ((status IS NULL) = (sealed IS NULL)),
    CONSTRAINT http_requests_answer_bounds  CHECK (octet_length(sealed) <= 262144)
);
CREATE INDEX http_requests_age ON http_requests (expires_at);

-- Where an app's events are posted.
CREATE TABLE webhooks (
    id          uuid PRIMARY KEY,
    app_id      integer NOT NULL REFERENCES apps (id),
    url         text NOT NULL,
    events      text[] NOT NULL DEFAULT '{}', -- names, or the first part of a name and ".*"; empty for all
    sealed      bytea NOT NULL,               -- the secret that signs
    previous    bytea,                        -- the one before, which signs too until previous_until
    previous_until timestamptz,
    private     boolean NOT NULL DEFAULT false, -- private and loopback addresses are allowed
    created_at  timestamptz NOT NULL,
    since       timestamptz NOT NULL,         -- what was published before is not sent: when it was made, or enabled again
    disabled_at timestamptz,
    disabled_why text NOT NULL DEFAULT '',
    CONSTRAINT webhooks_url_form CHECK (url ~ '^https?://' AND char_length(url) <= 2000),
    CONSTRAINT webhooks_previous_whole CHECK ((previous IS NULL) = (previous_until IS NULL))
);
CREATE INDEX webhooks_of_app ON webhooks (app_id);

-- Events on their way to a webhook. A row goes with its delivery; what was given up stays for the operator.
CREATE TABLE webhook_events (
    webhook_id  uuid NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id    text NOT NULL,
    name        text NOT NULL,
    payload     bytea NOT NULL,
    state       text NOT NULL DEFAULT 'pending',
    tries       smallint NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL,
    reason      text NOT NULL DEFAULT '',     -- of the last failure, without what the target said
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (webhook_id, event_id),
    CONSTRAINT webhook_events_state_known CHECK (state IN ('pending', 'dead')),
    CONSTRAINT webhook_events_payload_bounds CHECK (octet_length(payload) <= 131072)
) WITH (fillfactor = 80);
CREATE INDEX webhook_events_due ON webhook_events (webhook_id, next_at) WHERE state = 'pending';
CREATE INDEX webhook_events_age ON webhook_events (updated_at) WHERE state = 'dead';

-- Support agents who are signed in to the desk. An agent's NATS password is kept sealed for as long: the desk asks as the agent, and has no right of its own.
CREATE TABLE desk_sessions (
    cookie_digest bytea PRIMARY KEY,
    agent         text NOT NULL,
    sealed        bytea NOT NULL,
    state         bytea,                  -- what the desk remembers from page to page, such as who was looked for, sealed
    locale        text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    CONSTRAINT desk_sessions_digest_length CHECK (octet_length(cookie_digest) = 32),
    CONSTRAINT desk_sessions_sealed_bounds CHECK (octet_length(sealed) <= 4096),
    CONSTRAINT desk_sessions_state_bounds  CHECK (octet_length(state) <= 16384)
);
CREATE INDEX desk_sessions_age ON desk_sessions (expires_at);

-- A person who is erased leaves no visit.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION otpost_erase_user(app integer, who text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone uuid[];
BEGIN
    PERFORM 1 FROM accounts WHERE app_id = app AND user_id = who FOR UPDATE;
    WITH g AS (DELETE FROM challenges WHERE app_id = app AND user_id = who RETURNING id) SELECT array_agg(id) INTO gone FROM g;
    DELETE FROM deliveries WHERE challenge_id = ANY (gone);
    DELETE FROM webauthn_sessions WHERE challenge_id = ANY (gone);
    DELETE FROM used_proofs WHERE challenge_id = ANY (gone);
    DELETE FROM notices WHERE app_id = app AND user_id = who; -- waits for one that is being written; what that wrote goes with the next statement
    WITH g AS (DELETE FROM messages WHERE app_id = app AND user_id = who RETURNING id) SELECT array_agg(id) INTO gone FROM g;
    DELETE FROM deliveries WHERE challenge_id = ANY (gone);
    DELETE FROM ceremonies WHERE app_id = app AND user_id = who;
    DELETE FROM recoveries WHERE app_id = app AND user_id = who;
    DELETE FROM contacts WHERE app_id = app AND user_id = who;
    DELETE FROM factors WHERE app_id = app AND user_id = who;
    DELETE FROM backup_codes WHERE app_id = app AND user_id = who;
    DELETE FROM devices WHERE app_id = app AND user_id = who;
    DELETE FROM page_sessions WHERE app_id = app AND user_id = who;
    DELETE FROM page_results WHERE app_id = app AND user_id = who;
    DELETE FROM users WHERE app_id = app AND user_id = who;
    DELETE FROM accounts WHERE app_id = app AND user_id = who;
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION otpost_erase_user(integer, text) SET search_path = %I, pg_temp', current_schema());
END
$$;
-- +goose StatementEnd

-- Who may do what.
GRANT SELECT ON apps, app_pages, webhooks TO otpost_gateway;
-- When a number or address was last used is told by what was sent to. The role has the masks of factors already.
GRANT SELECT (mask_sms, mask_email) ON challenges TO otpost_verification;
GRANT SELECT, UPDATE (last_used_at) ON app_keys TO otpost_gateway;
GRANT UPDATE (disabled_at, disabled_why) ON webhooks TO otpost_gateway; -- a target that answers 410 Gone wants no more
GRANT SELECT, INSERT, DELETE ON page_sessions, page_results, http_requests, webhook_events, desk_sessions TO otpost_gateway;
GRANT UPDATE (cookie_digest, opened_at, state, locale, revision, ended_at) ON page_sessions TO otpost_gateway; -- whose a visit is never changes
GRANT SELECT (app_id, user_id, session, created_at, expires_at, ended_at), UPDATE (ended_at, state) ON page_sessions TO otpost_enrolment; -- a visit ends with its session
GRANT UPDATE (expires_at) ON page_results TO otpost_gateway; -- nothing changes it: the sweeper locks what it removes
GRANT UPDATE (request, status, sealed, created_at, expires_at) ON http_requests TO otpost_gateway;
GRANT UPDATE (state, tries, next_at, reason, updated_at) ON webhook_events TO otpost_gateway;
GRANT UPDATE (seen_at, state, locale) ON desk_sessions TO otpost_gateway;
GRANT SELECT, INSERT ON app_keys, app_pages, webhooks TO otpost_operator;
GRANT UPDATE (expires_at, revoked_at) ON app_keys TO otpost_operator;
GRANT UPDATE (accent, logo, logo_type, return_urls, updated_at) ON app_pages TO otpost_operator;
GRANT UPDATE (sealed, previous, previous_until, since, disabled_at, disabled_why) ON webhooks TO otpost_operator;
GRANT DELETE ON app_pages, webhooks TO otpost_operator;
GRANT SELECT, UPDATE (state, tries, next_at, updated_at), DELETE ON webhook_events TO otpost_operator;
-- A user is shown what was done with their own factors.
GRANT SELECT (id, at, app_id, user_key, actor, action, factor, session_key, detail) ON audit TO otpost_enrolment;
CREATE POLICY audit_of_user ON audit FOR SELECT TO otpost_enrolment USING (true);

-- +goose Down
DROP POLICY audit_of_user ON audit;
REVOKE SELECT ON audit FROM otpost_enrolment;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION otpost_erase_user(app integer, who text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone uuid[];
BEGIN
    PERFORM 1 FROM accounts WHERE app_id = app AND user_id = who FOR UPDATE;
    WITH g AS (DELETE FROM challenges WHERE app_id = app AND user_id = who RETURNING id) SELECT array_agg(id) INTO gone FROM g;
    DELETE FROM deliveries WHERE challenge_id = ANY (gone);
    DELETE FROM webauthn_sessions WHERE challenge_id = ANY (gone);
    DELETE FROM used_proofs WHERE challenge_id = ANY (gone);
    DELETE FROM notices WHERE app_id = app AND user_id = who; -- waits for one that is being written; what that wrote goes with the next statement
    WITH g AS (DELETE FROM messages WHERE app_id = app AND user_id = who RETURNING id) SELECT array_agg(id) INTO gone FROM g;
    DELETE FROM deliveries WHERE challenge_id = ANY (gone);
    DELETE FROM ceremonies WHERE app_id = app AND user_id = who;
    DELETE FROM recoveries WHERE app_id = app AND user_id = who;
    DELETE FROM contacts WHERE app_id = app AND user_id = who;
    DELETE FROM factors WHERE app_id = app AND user_id = who;
    DELETE FROM backup_codes WHERE app_id = app AND user_id = who;
    DELETE FROM devices WHERE app_id = app AND user_id = who;
    DELETE FROM users WHERE app_id = app AND user_id = who;
    DELETE FROM accounts WHERE app_id = app AND user_id = who;
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION otpost_erase_user(integer, text) SET search_path = %I, pg_temp', current_schema());
END
$$;
-- +goose StatementEnd
DROP TABLE desk_sessions, webhook_events, webhooks, http_requests, page_results, page_sessions, app_pages, app_keys;
REVOKE SELECT ON apps FROM otpost_gateway;
REVOKE SELECT (mask_sms, mask_email) ON challenges FROM otpost_verification;
