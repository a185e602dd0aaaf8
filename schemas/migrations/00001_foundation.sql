-- The state of otpost: apps and their policies, accounts, factors, logins, challenges, deliveries, the outbox, and who may do what with them.

-- +goose Up

-- Roles. They cannot log in until an operator, or `otpost up`, gives them a password; they are the cluster's, so they may exist already.
-- +goose StatementBegin
DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['otpost_challenge', 'otpost_sms', 'otpost_email', 'otpost_verification', 'otpost_operator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN -- a database administrator may have made them before
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', r);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster made it just now
            END;
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

CREATE TABLE apps (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL CONSTRAINT apps_name_taken UNIQUE,
    display_name     text NOT NULL,
    origin           text NOT NULL DEFAULT '',
    locale           text NOT NULL DEFAULT 'en',
    digits           smallint NOT NULL,
    life_seconds     integer  NOT NULL,
    attempts         smallint NOT NULL,
    sends            smallint NOT NULL,
    cooldown_seconds integer  NOT NULL,
    open_challenges  smallint NOT NULL,
    totp_skew        smallint NOT NULL,
    channels         text[]   NOT NULL,
    no_factor        text     NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT apps_name_form            CHECK (name ~ '^[a-z0-9-]{1,64}$'),
    CONSTRAINT apps_display_name_length  CHECK (char_length(display_name) BETWEEN 1 AND 64),
    CONSTRAINT apps_origin_form          CHECK (origin = '' OR origin ~ '^https?://[^/ ]+$'),
    CONSTRAINT apps_digits_bounds        CHECK (digits BETWEEN 4 AND 10),
    CONSTRAINT apps_life_bounds          CHECK (life_seconds BETWEEN 60 AND 600),
    CONSTRAINT apps_attempts_bounds      CHECK (attempts BETWEEN 1 AND 10),
    CONSTRAINT apps_sends_bounds         CHECK (sends BETWEEN 1 AND 10),
    CONSTRAINT apps_cooldown_bounds      CHECK (cooldown_seconds BETWEEN 10 AND 600),
    CONSTRAINT apps_open_bounds          CHECK (open_challenges BETWEEN 1 AND 10),
    CONSTRAINT apps_totp_skew_bounds     CHECK (totp_skew BETWEEN 0 AND 2),
    CONSTRAINT apps_channels_known       CHECK (cardinality(channels) > 0 AND channels <@ ARRAY['totp', 'sms', 'email']),
    CONSTRAINT apps_no_factor_known      CHECK (no_factor IN ('skip', 'refuse'))
);

-- The guessing budget of (app, user), and the lock by which all that concerns one user takes its turn. On the hot tables there are no
-- foreign keys to apps: each check would lock the app's one row for every login.
CREATE TABLE accounts (
    app_id     integer NOT NULL,
    user_id    text    NOT NULL,
    failures   smallint NOT NULL DEFAULT 0,
    wait_until timestamptz,
    locked_at  timestamptz,
    touched_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, user_id),
    CONSTRAINT accounts_failures_bounds CHECK (failures BETWEEN 0 AND 100)
) WITH (fillfactor = 80);

CREATE TABLE factors (
    id           uuid PRIMARY KEY,
    app_id       integer NOT NULL REFERENCES apps (id),
    user_id      text NOT NULL,
    kind         text NOT NULL,
    label        text NOT NULL DEFAULT '',
    state        text NOT NULL DEFAULT 'active',
    sealed       bytea NOT NULL,             -- the secret or the address, never readable here
    mask         text NOT NULL DEFAULT '',   -- of an address, for people
    algorithm    text,
    digits       smallint,
    period       smallint,                   -- seconds
    last_step    bigint NOT NULL DEFAULT -1, -- of TOTP: the last step accepted
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    CONSTRAINT factors_kind_known     CHECK (kind IN ('totp', 'sms', 'email')),
    CONSTRAINT factors_state_known    CHECK (state IN ('active', 'suspended')),
    CONSTRAINT factors_totp_complete  CHECK (kind <> 'totp' OR coalesce(algorithm IN ('SHA1', 'SHA256', 'SHA512') AND digits BETWEEN 6 AND 8 AND period IN (30, 60), false))
);
CREATE INDEX factors_of_user ON factors (app_id, user_id) WHERE state = 'active';

-- What became of each login, by a keyed digest of the app's event id: the same login again meets its row, whatever time it names.
CREATE TABLE logins (
    app_id       integer NOT NULL,
    key          uuid NOT NULL,
    challenge_id uuid NOT NULL,
    about        uuid NOT NULL,              -- keyed digest of user and session: a repeat must name the same
    outcome      text NOT NULL,
    reason       text NOT NULL DEFAULT '',
    retry_after  integer NOT NULL DEFAULT 0, -- seconds
    created_at   timestamptz NOT NULL,
    CONSTRAINT logins_once PRIMARY KEY (app_id, key),
    CONSTRAINT logins_outcome_known CHECK (outcome IN ('issued', 'skipped', 'refused'))
);
CREATE INDEX logins_age ON logins (created_at);

CREATE TABLE challenges (
    id           uuid NOT NULL,
    app_id       integer NOT NULL,
    user_id      text NOT NULL,
    session      text NOT NULL,
    login        text NOT NULL,
    factor       text NOT NULL,
    nonce        bytea NOT NULL,
    key_id       bigint NOT NULL,
    digits       smallint NOT NULL,
    amount       text,                       -- of the transaction
    payee        text,
    locale       text NOT NULL DEFAULT '',
    to_sms       bytea,                      -- sealed
    mask_sms     text NOT NULL DEFAULT '',
    to_email     bytea,                      -- sealed
    mask_email   text NOT NULL DEFAULT '',
    methods      text[] NOT NULL,
    state        text NOT NULL DEFAULT 'open',
    attempts     smallint NOT NULL DEFAULT 0,
    max_attempts smallint NOT NULL,
    sends        smallint NOT NULL DEFAULT 0,
    max_sends    smallint NOT NULL,
    next_send_at timestamptz NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    last_request uuid,                       -- keyed digest of the last request that was judged, its answer included
    last_result  text,
    last_factor  text,                       -- that the last right answer proved
    CONSTRAINT challenges_pkey            PRIMARY KEY (id),
    CONSTRAINT challenges_nonce_length    CHECK (octet_length(nonce) = 16),
    CONSTRAINT challenges_factor_known    CHECK (factor IN ('totp', 'sms', 'email')),
    CONSTRAINT challenges_state_known     CHECK (state IN ('open', 'verified', 'expired', 'exhausted', 'superseded', 'cancelled', 'locked', 'undeliverable')),
    CONSTRAINT challenges_attempts_bound  CHECK (attempts BETWEEN 0 AND max_attempts),
    CONSTRAINT challenges_sends_bound     CHECK (sends BETWEEN 0 AND max_sends),
    CONSTRAINT challenges_life_bound      CHECK (expires_at > created_at AND expires_at <= created_at + interval '10 minutes'),
    CONSTRAINT challenges_end_has_time    CHECK ((state = 'open') = (ended_at IS NULL)),
    CONSTRAINT challenges_transaction_whole CHECK ((amount IS NULL) = (payee IS NULL))
) PARTITION BY RANGE (id);
CREATE INDEX challenges_open_of_user ON challenges (app_id, user_id) WHERE state = 'open';
CREATE INDEX challenges_open_expiry  ON challenges (expires_at) WHERE state = 'open';

-- Every challenge ends once. No role and no bug may give an ended one another end.
-- +goose StatementBegin
CREATE FUNCTION challenges_end_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'challenge % has ended as % and cannot become %', OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'challenges_end_once';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER challenges_end_once BEFORE UPDATE OF state ON challenges
    FOR EACH ROW WHEN (OLD.state <> 'open' AND NEW.state <> OLD.state) EXECUTE FUNCTION challenges_end_once();

-- A verdict is the verification worker's to give: who broke into the challenge worker, which has no code key, cannot let a login pass.
-- +goose StatementBegin
CREATE FUNCTION challenges_verdict_of_role() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'role % cannot end a challenge as %', current_user, NEW.state
        USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'challenges_verdict_of_role';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER challenges_verdict_of_role BEFORE UPDATE OF state ON challenges
    FOR EACH ROW WHEN (NEW.state IN ('verified', 'exhausted', 'locked') AND OLD.state = 'open' AND current_user = 'otpost_challenge')
    EXECUTE FUNCTION challenges_verdict_of_role();

CREATE TABLE deliveries (
    challenge_id uuid NOT NULL,
    attempt      smallint NOT NULL,           -- the number of the delivery within its challenge, from 1
    channel      text NOT NULL,
    state        text NOT NULL DEFAULT 'queued',
    mask         text NOT NULL,
    provider     text NOT NULL DEFAULT '',
    reference    text NOT NULL DEFAULT '',    -- the provider's own id
    reason       text NOT NULL DEFAULT '',
    tries        smallint NOT NULL DEFAULT 0, -- times that a worker claimed it
    unsure       smallint NOT NULL DEFAULT 0, -- times that it was claimed anew without knowing whether it had gone out
    swept        smallint NOT NULL DEFAULT 0, -- times that its command was published again
    claimed_at   timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    CONSTRAINT deliveries_pkey          PRIMARY KEY (challenge_id, attempt),
    CONSTRAINT deliveries_channel_known CHECK (channel IN ('sms', 'email')),
    CONSTRAINT deliveries_state_known   CHECK (state IN ('queued', 'sending', 'accepted', 'delivered', 'undelivered', 'failed', 'unconfirmed', 'expired')),
    CONSTRAINT deliveries_attempt_bound CHECK (attempt BETWEEN 1 AND 10),
    CONSTRAINT deliveries_unsure_once   CHECK (unsure <= 1),
    CONSTRAINT deliveries_claim_has_time CHECK (state <> 'sending' OR claimed_at IS NOT NULL)
) PARTITION BY RANGE (challenge_id);
CREATE INDEX deliveries_pending ON deliveries (updated_at) WHERE state IN ('queued', 'sending');

-- Events of changes that no stream message would bring again. Written with the change, published after it, deleted after that.
CREATE TABLE outbox (
    id         text PRIMARY KEY,
    subject    text NOT NULL,
    payload    bytea NOT NULL,
    role       text NOT NULL DEFAULT current_user, -- whose it is: each role publishes its own, with its own rights
    created_at timestamptz NOT NULL,
    CONSTRAINT outbox_subject_of_app CHECK (subject ~ '^otpost\.app\.[a-z0-9-]{1,64}\.event\.[a-z_.]+$')
);
CREATE INDEX outbox_age ON outbox (role, created_at);

-- Partitions: one a UTC day, by the time in the UUIDv7. Made and dropped under one advisory lock, by functions that run with the owner's rights,
-- so that the worker which calls them needs none over tables.
-- +goose StatementBegin
CREATE FUNCTION otpost_uuid_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION otpost_ensure_partitions(today timestamptz, ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    parent text;
    part   text;
    day    timestamptz;
    made   integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('otpost.partitions'));
    FOR i IN -1 .. least(greatest(ahead, 1), 60) LOOP
        day := (date_trunc('day', today AT TIME ZONE 'UTC') + make_interval(days => i)) AT TIME ZONE 'UTC';
        FOREACH parent IN ARRAY ARRAY['challenges', 'deliveries'] LOOP
            part := parent || '_' || to_char(day AT TIME ZONE 'UTC', 'YYYYMMDD');
            IF to_regclass(part) IS NULL THEN
                -- made beside and attached: ATTACH takes a weaker lock on the parent than CREATE … PARTITION OF
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (fillfactor = 80)', part, parent);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part,
                               otpost_uuid_floor(day), otpost_uuid_floor(day + interval '1 day'));
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION otpost_drop_partitions(before timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    part text;
BEGIN
    IF before > now() - interval '1 hour' THEN
        RAISE EXCEPTION 'partitions of the last hour cannot be dropped' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('otpost.partitions'));
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('challenges'::regclass, 'deliveries'::regclass)
          AND to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (before AT TIME ZONE 'UTC')::date
        ORDER BY right(c.relname, 8), 1
        LIMIT 1 -- one a transaction, so that it holds one table for a moment only
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        RETURN 1;
    END LOOP;
    RETURN 0;
END
$$;
-- +goose StatementEnd

-- Functions that run with the owner's rights look for names in the catalogue and the schema only; temporary tables of the caller come last.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION otpost_ensure_partitions(timestamptz, integer) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION otpost_drop_partitions(timestamptz) SET search_path = %I, pg_temp', current_schema());
    ALTER FUNCTION otpost_drop_partitions(timestamptz) SET lock_timeout = '200ms'; -- all work queues behind it: rather try again later
END
$$;
-- +goose StatementEnd

-- Who may do what. Column by column: a role that is broken into has no more than its work.
REVOKE ALL ON FUNCTION otpost_ensure_partitions(timestamptz, integer), otpost_drop_partitions(timestamptz) FROM PUBLIC;

GRANT SELECT ON apps TO otpost_challenge, otpost_verification, otpost_operator;

GRANT EXECUTE ON FUNCTION otpost_ensure_partitions(timestamptz, integer), otpost_drop_partitions(timestamptz) TO otpost_challenge;
GRANT SELECT, INSERT (app_id, user_id, touched_at), UPDATE (touched_at) ON accounts TO otpost_challenge;
GRANT SELECT (id, app_id, user_id, kind, state, sealed, mask, digits, created_at, last_used_at) ON factors TO otpost_challenge;
GRANT SELECT, INSERT, DELETE ON logins TO otpost_challenge;
GRANT SELECT, INSERT (id, app_id, user_id, session, login, factor, nonce, key_id, digits, amount, payee, locale, to_sms, mask_sms, to_email, mask_email,
                      methods, max_attempts, sends, max_sends, next_send_at, created_at, expires_at),
      UPDATE (state, ended_at, sends, next_send_at, factor, methods) ON challenges TO otpost_challenge;
GRANT SELECT, INSERT, UPDATE (state, provider, reference, reason, swept, updated_at) ON deliveries TO otpost_challenge;
GRANT SELECT, INSERT (id, subject, payload, created_at), DELETE, UPDATE (created_at) ON outbox TO otpost_challenge, otpost_verification;

GRANT SELECT (challenge_id, attempt, channel, state, provider, reference, reason, claimed_at, tries, unsure, updated_at),
      UPDATE (state, provider, reference, reason, claimed_at, tries, unsure, updated_at) ON deliveries TO otpost_sms, otpost_email;

GRANT SELECT, INSERT, UPDATE (failures, wait_until, locked_at, touched_at) ON accounts TO otpost_verification;
GRANT SELECT, UPDATE (last_step, last_used_at) ON factors TO otpost_verification;
GRANT SELECT (id, app_id, user_id, session, login, factor, nonce, key_id, digits, amount, payee, methods, state, attempts, max_attempts, sends,
              created_at, expires_at, ended_at, last_request, last_result, last_factor),
      UPDATE (state, attempts, ended_at, last_request, last_result, last_factor) ON challenges TO otpost_verification;
-- What ends with an answer is not sent any more.
GRANT SELECT (challenge_id, state), UPDATE (state, reason, updated_at) ON deliveries TO otpost_verification;

GRANT INSERT, UPDATE ON apps TO otpost_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON factors TO otpost_operator;
GRANT SELECT, UPDATE (failures, wait_until, locked_at, touched_at) ON accounts TO otpost_operator;
GRANT SELECT (id, app_id, user_id, session, login, factor, digits, mask_sms, mask_email, methods, state, attempts, max_attempts, sends,
              max_sends, next_send_at, created_at, expires_at, ended_at) ON challenges TO otpost_operator;
GRANT SELECT ON deliveries TO otpost_operator;

-- A channel's worker sees the deliveries of its own channel only.
ALTER TABLE deliveries ENABLE ROW LEVEL SECURITY;
CREATE POLICY deliveries_all   ON deliveries TO otpost_challenge, otpost_operator USING (true) WITH CHECK (true);
CREATE POLICY deliveries_withdrawn ON deliveries FOR SELECT TO otpost_verification USING (state IN ('queued', 'expired'));
CREATE POLICY deliveries_withdraw  ON deliveries FOR UPDATE TO otpost_verification USING (state = 'queued') WITH CHECK (state = 'expired');
CREATE POLICY deliveries_sms   ON deliveries TO otpost_sms   USING (channel = 'sms');
CREATE POLICY deliveries_email ON deliveries TO otpost_email USING (channel = 'email');

-- Each role sees its own events only.
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY outbox_own ON outbox USING (role = current_user) WITH CHECK (role = current_user);

-- +goose Down
DROP TABLE outbox, deliveries, challenges, logins, factors, accounts, apps;
DROP FUNCTION otpost_drop_partitions(timestamptz), otpost_ensure_partitions(timestamptz, integer), otpost_uuid_floor(timestamptz), challenges_end_once(), challenges_verdict_of_role();
