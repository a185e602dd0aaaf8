-- The life of factors: users, ceremonies, hardware tokens, backup codes, trusted devices, recovery, messages and notices, the audit.

-- +goose Up

SET LOCAL statement_timeout = '15min'; -- new constraints read every row of what is there

-- +goose StatementBegin
DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['otpost_enrolment', 'otpost_letter'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
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

ALTER TABLE apps
    ADD COLUMN factor_policy jsonb NOT NULL DEFAULT '{}', -- otp.FactorPolicy; what it does not name takes the default
    DROP CONSTRAINT apps_channels_known,
    ADD CONSTRAINT apps_channels_known CHECK (cardinality(channels) > 0 AND channels <@ ARRAY['totp', 'sms', 'email', 'webauthn', 'hotp', 'yubikey']),
    ADD CONSTRAINT apps_factor_policy_object CHECK (jsonb_typeof(factor_policy) = 'object');

-- What is known of a user beside the guessing budget. The lock of a user is the account's row.
CREATE TABLE users (
    app_id       integer NOT NULL,
    user_id      text    NOT NULL,
    epoch        integer NOT NULL DEFAULT 0,  -- raised by every change of factors: trusted devices of an older one are void
    activated_at timestamptz,                 -- when the backup codes of the first factor were saved; before that no factor is asked for
    preferred    uuid,                        -- factor
    fallbacks    text[]  NOT NULL DEFAULT '{}', -- kinds, best first
    locale       text    NOT NULL DEFAULT '',
    country      text    NOT NULL DEFAULT '', -- ISO 3166-1 alpha-2, as the app says
    region       text    NOT NULL DEFAULT '',
    passphrase   text,                        -- argon2id, in PHC form
    passphrase_session text,                  -- that set it without a proof, before the first factor; NULL where there was one
    codes_shown_at timestamptz,               -- when the backup codes were last shown again or renewed: to whoever had the password
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (app_id, user_id),
    CONSTRAINT users_epoch_bounds CHECK (epoch >= 0),
    CONSTRAINT users_fallbacks_known CHECK (fallbacks <@ ARRAY['totp', 'sms', 'email', 'webauthn', 'hotp', 'yubikey']),
    CONSTRAINT users_country_form CHECK (country ~ '^([A-Z]{2})?$')
);
-- Whose factors the operator has entered before is done with the first one.
INSERT INTO users (app_id, user_id, activated_at, created_at) SELECT app_id, user_id, min(created_at), min(created_at) FROM factors GROUP BY app_id, user_id;

-- A lower epoch would make trusted devices good again that a change of factors has voided.
-- +goose StatementBegin
CREATE FUNCTION users_epoch_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the epoch of a user cannot fall from % to %', OLD.epoch, NEW.epoch USING ERRCODE = 'check_violation', CONSTRAINT = 'users_epoch_rises';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER users_epoch_rises BEFORE UPDATE OF epoch ON users FOR EACH ROW WHEN (NEW.epoch < OLD.epoch) EXECUTE FUNCTION users_epoch_rises();

-- last_step is, by kind: the last TOTP step, HOTP counter or Yubico counter accepted. It only rises.
ALTER TABLE factors
    DROP CONSTRAINT factors_kind_known,
    DROP CONSTRAINT factors_state_known,
    ADD COLUMN public_id   text,              -- of a Yubico OTP: modhex; of a security key: its credential id, base64url
    ADD COLUMN credential  bytea,             -- of a security key: public key and flags
    ADD COLUMN sign_count  bigint NOT NULL DEFAULT 0,
    ADD COLUMN alone_after timestamptz,       -- cooling-off: before this it cannot be the user's only factor
    ADD COLUMN removed_at  timestamptz,
    ADD COLUMN session     text NOT NULL DEFAULT '', -- that proved it: a first factor waits for this session's word that the backup codes are saved
    ADD CONSTRAINT factors_kind_known CHECK (kind IN ('totp', 'sms', 'email', 'webauthn', 'hotp', 'yubikey')),
    ADD CONSTRAINT factors_state_known CHECK (state IN ('confirmed', 'active', 'suspended', 'removed')),
    ADD CONSTRAINT factors_removed_has_time CHECK ((state = 'removed') = (removed_at IS NOT NULL)),
    ADD CONSTRAINT factors_hotp_complete CHECK (kind <> 'hotp' OR coalesce(algorithm IN ('SHA1', 'SHA256', 'SHA512') AND digits BETWEEN 6 AND 8, false)),
    ADD CONSTRAINT factors_key_complete CHECK (kind <> 'webauthn' OR (public_id IS NOT NULL AND credential IS NOT NULL)),
    ADD CONSTRAINT factors_yubikey_complete CHECK (kind <> 'yubikey' OR public_id IS NOT NULL);
CREATE UNIQUE INDEX factors_public_id_once ON factors (app_id, kind, public_id) WHERE state <> 'removed';
CREATE INDEX factors_all_of_user ON factors (app_id, user_id);
CREATE INDEX factors_removed ON factors (removed_at) WHERE state = 'removed';

-- What has ended stays as it ended, whoever writes and whatever went wrong.
-- +goose StatementBegin
CREATE FUNCTION otpost_end_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% % has ended as % and cannot become %', TG_TABLE_NAME, OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER factors_end_once BEFORE UPDATE OF state ON factors
    FOR EACH ROW WHEN (OLD.state = 'removed' AND NEW.state <> OLD.state) EXECUTE FUNCTION otpost_end_once();

-- The verification worker takes a copied factor out of use. It brings none into use: who broke into it could let a factor in that nobody has confirmed.
-- +goose StatementBegin
CREATE FUNCTION factors_state_of_role() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'role % cannot make a factor that is % %', current_user, OLD.state, NEW.state
        USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'factors_state_of_role';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER factors_state_of_role BEFORE UPDATE OF state ON factors
    FOR EACH ROW WHEN (current_user = 'otpost_verification' AND NOT (OLD.state = 'active' AND NEW.state = 'suspended'))
    EXECUTE FUNCTION factors_state_of_role();

-- The enrolment worker ends what was opened for factors that are gone, and does nothing else to a challenge.
CREATE TRIGGER challenges_cancel_of_role BEFORE UPDATE ON challenges
    FOR EACH ROW WHEN (current_user = 'otpost_enrolment' AND NOT (OLD.state = 'open' AND NEW.state = 'cancelled'))
    EXECUTE FUNCTION challenges_verdict_of_role();

-- Every begin that waits for its confirmation. It is bound to app, user and session, and confirmed at most once.
CREATE TABLE ceremonies (
    id           uuid PRIMARY KEY,            -- UUIDv7; also of the message that carries its code
    app_id       integer NOT NULL,
    user_id      text NOT NULL,
    session      text NOT NULL,
    kind         text NOT NULL,               -- of the factor; or what else is to be confirmed
    state        text NOT NULL DEFAULT 'open',
    label        text NOT NULL DEFAULT '',
    material     bytea,                       -- sealed secret or address; of a security key: the session of the ceremony
    mask         text NOT NULL DEFAULT '',
    algorithm    text,
    digits       smallint,
    period       smallint,
    token_id     uuid,                        -- of hardware_tokens
    attempts     smallint NOT NULL DEFAULT 0,
    max_attempts smallint NOT NULL,
    sends        smallint NOT NULL DEFAULT 0,
    next_send_at timestamptz,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    CONSTRAINT ceremonies_kind_known CHECK (kind IN ('totp', 'sms', 'email', 'webauthn', 'hotp', 'yubikey', 'deactivate', 'reset_email', 'reset_phone')),
    CONSTRAINT ceremonies_state_known CHECK (state IN ('open', 'confirmed', 'failed', 'cancelled')),
    CONSTRAINT ceremonies_attempts_bound CHECK (attempts BETWEEN 0 AND max_attempts),
    CONSTRAINT ceremonies_life_bound CHECK (expires_at > created_at AND expires_at <= created_at + interval '30 minutes'),
    CONSTRAINT ceremonies_end_has_time CHECK ((state = 'open') = (ended_at IS NULL))
);
CREATE INDEX ceremonies_of_user ON ceremonies (app_id, user_id, created_at);
CREATE INDEX ceremonies_age ON ceremonies (created_at);

CREATE TRIGGER ceremonies_end_once BEFORE UPDATE OF state ON ceremonies
    FOR EACH ROW WHEN (OLD.state <> 'open' AND NEW.state <> OLD.state) EXECUTE FUNCTION otpost_end_once();

-- The answer to a challenge by security key: made anew for each try, consumed before the answer is looked at.
CREATE TABLE webauthn_sessions (
    challenge_id uuid PRIMARY KEY,
    data         bytea NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX webauthn_sessions_age ON webauthn_sessions (expires_at);

-- The hardware tokens that the operator has imported: free, or somebody's factor.
CREATE TABLE hardware_tokens (
    id          uuid PRIMARY KEY,
    app_id      integer NOT NULL REFERENCES apps (id),
    kind        text NOT NULL,
    serial      text NOT NULL,
    sealed      bytea NOT NULL,               -- of a Yubico OTP: private id and key
    public_id   text,
    algorithm   text,
    digits      smallint,
    period      smallint,
    counter     bigint NOT NULL DEFAULT -1,   -- the last that counts as used
    factor_id   uuid,                         -- what it is, or was until the operator releases it; that row goes some days after its removal
    assigned_at timestamptz,
    imported_at timestamptz NOT NULL,
    CONSTRAINT hardware_tokens_kind_known CHECK (kind IN ('hotp', 'totp', 'yubikey')),
    CONSTRAINT hardware_tokens_counter_bounds CHECK (counter >= -1),
    CONSTRAINT hardware_tokens_assigned_whole CHECK ((factor_id IS NULL) = (assigned_at IS NULL)),
    CONSTRAINT hardware_tokens_once UNIQUE (app_id, kind, serial),
    CONSTRAINT hardware_tokens_factor_once UNIQUE (factor_id)
);

-- A token outlives its factor, and what the factor has accepted must never be good for the next one.
-- +goose StatementBegin
CREATE FUNCTION factors_token_counter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE hardware_tokens SET counter = greatest(counter, OLD.last_step) WHERE factor_id = OLD.id;
    RETURN OLD;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER factors_token_counter BEFORE DELETE ON factors
    FOR EACH ROW WHEN (OLD.kind IN ('hotp', 'yubikey')) EXECUTE FUNCTION factors_token_counter();

CREATE TABLE backup_codes (
    app_id     integer NOT NULL,
    user_id    text NOT NULL,
    digest     bytea NOT NULL,                -- keyed, for look-up
    position   smallint NOT NULL,
    sealed     bytea NOT NULL,
    used_at    timestamptz,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, user_id, digest),
    CONSTRAINT backup_codes_position UNIQUE (app_id, user_id, position),
    CONSTRAINT backup_codes_digest_length CHECK (octet_length(digest) = 32)
);

-- Trusted devices. Only digests of their tokens are kept; replaced ones stay until the device expires, so that their use is seen as theft.
CREATE TABLE devices (
    id            uuid PRIMARY KEY,
    app_id        integer NOT NULL,
    user_id       text NOT NULL,
    session       text NOT NULL,              -- of its last use
    label         text NOT NULL DEFAULT '',
    epoch         integer NOT NULL,
    created_at    timestamptz NOT NULL,
    last_used_at  timestamptz,
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    revoke_reason text NOT NULL DEFAULT '',
    CONSTRAINT devices_life_bound CHECK (expires_at > created_at AND expires_at <= created_at + interval '90 days'),
    CONSTRAINT devices_revoked_has_reason CHECK ((revoked_at IS NULL) = (revoke_reason = ''))
);
CREATE INDEX devices_of_user ON devices (app_id, user_id);
CREATE INDEX devices_expiry ON devices (expires_at);

CREATE TABLE device_tokens (
    digest      bytea PRIMARY KEY,
    device_id   uuid NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    issued_at   timestamptz NOT NULL,
    replaced_at timestamptz,
    CONSTRAINT device_tokens_digest_length CHECK (octet_length(digest) = 32)
);
CREATE INDEX device_tokens_of_device ON device_tokens (device_id);

-- Where codes of a recovery go: contacts of their own, none of them a factor.
CREATE TABLE contacts (
    id           uuid PRIMARY KEY,
    app_id       integer NOT NULL,
    user_id      text NOT NULL,
    kind         text NOT NULL,
    sealed       bytea NOT NULL,
    mask         text NOT NULL,
    country      text NOT NULL DEFAULT '',    -- of a postal address
    region       text NOT NULL DEFAULT '',
    confirmed_at timestamptz NOT NULL,
    removed_at   timestamptz,
    session      text NOT NULL DEFAULT '',    -- that set it
    unproven     boolean NOT NULL DEFAULT false, -- set without a factor's proof; goes when another session activates the first factor
    CONSTRAINT contacts_kind_known CHECK (kind IN ('email', 'phone', 'letter'))
);
CREATE INDEX contacts_of_user ON contacts (app_id, user_id);
CREATE INDEX contacts_removed ON contacts (removed_at) WHERE removed_at IS NOT NULL;
CREATE UNIQUE INDEX contacts_one_of_kind ON contacts (app_id, user_id, kind) WHERE removed_at IS NULL;

CREATE TABLE recoveries (
    id           uuid PRIMARY KEY,
    app_id       integer NOT NULL,
    user_id      text NOT NULL,
    session      text NOT NULL,               -- empty until the user takes up what support has begun
    state        text NOT NULL,
    begun_by     text NOT NULL DEFAULT '',    -- the support agent; empty for the user
    approved_by  text NOT NULL DEFAULT '',
    reason       text NOT NULL DEFAULT '',    -- the agent's, or why it ended
    locale       text NOT NULL DEFAULT '',
    proofs       text[] NOT NULL DEFAULT '{}',
    attempts     smallint NOT NULL DEFAULT 0,
    max_attempts smallint NOT NULL,
    nonce        bytea NOT NULL,              -- of the code that cancels it
    key_id       bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    effective_at timestamptz,
    ended_at     timestamptz,
    CONSTRAINT recoveries_state_known CHECK (state IN ('approval', 'proving', 'waiting', 'completed', 'cancelled', 'expired', 'refused')),
    CONSTRAINT recoveries_end_has_time CHECK ((state IN ('approval', 'proving', 'waiting')) = (ended_at IS NULL)),
    CONSTRAINT recoveries_waiting_has_time CHECK (state NOT IN ('waiting', 'completed') OR effective_at IS NOT NULL),
    -- Two different ones, and one of them a code that was sent: otp.ProofsComplete.
    CONSTRAINT recoveries_two_proofs CHECK (state NOT IN ('waiting', 'completed') OR proofs && ARRAY['email', 'phone', 'letter']
        AND ('email' = ANY (proofs))::int + ('phone' = ANY (proofs))::int + ('letter' = ANY (proofs))::int
            + (proofs && ARRAY['passphrase', 'backup_code'])::int >= 2),
    CONSTRAINT recoveries_second_agent CHECK (approved_by = '' OR approved_by <> begun_by),
    CONSTRAINT recoveries_attempts_bound CHECK (attempts BETWEEN 0 AND max_attempts),
    CONSTRAINT recoveries_proofs_known CHECK (proofs <@ ARRAY['email', 'phone', 'letter', 'passphrase', 'backup_code'])
);
CREATE UNIQUE INDEX recoveries_one_open ON recoveries (app_id, user_id) WHERE state IN ('approval', 'proving', 'waiting');
CREATE INDEX recoveries_of_user ON recoveries (app_id, user_id, created_at);
CREATE INDEX recoveries_due ON recoveries (effective_at) WHERE state = 'waiting';
CREATE INDEX recoveries_expiry ON recoveries (expires_at) WHERE state IN ('approval', 'proving');
CREATE INDEX recoveries_ended ON recoveries (ended_at) WHERE ended_at IS NOT NULL;
CREATE TRIGGER recoveries_end_once BEFORE UPDATE OF state ON recoveries
    FOR EACH ROW WHEN (OLD.state IN ('completed', 'cancelled', 'expired', 'refused') AND NEW.state <> OLD.state) EXECUTE FUNCTION otpost_end_once();

-- One code of a recovery: a method, and the message that carries it.
CREATE TABLE recovery_codes (
    id           uuid PRIMARY KEY,            -- of the message
    recovery_id  uuid NOT NULL REFERENCES recoveries (id) ON DELETE CASCADE,
    method       text NOT NULL,
    mask         text NOT NULL,
    sends        smallint NOT NULL DEFAULT 0,
    next_send_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    proven_at    timestamptz,
    CONSTRAINT recovery_codes_method_known CHECK (method IN ('email', 'phone', 'letter')),
    CONSTRAINT recovery_codes_once UNIQUE (recovery_id, method)
);

-- What enrolment has to say to people. Its deliveries have the message's id. A code is derived from the nonce where it is sent and where it is compared.
CREATE TABLE messages (
    id         uuid PRIMARY KEY,              -- UUIDv7
    app_id     integer NOT NULL,
    user_id    text NOT NULL,
    channel    text NOT NULL,
    purpose    text NOT NULL,                 -- of the code; or notice
    sealed     bytea NOT NULL,                -- where it goes
    mask       text NOT NULL,
    locale     text NOT NULL DEFAULT '',
    code_id    uuid,                          -- what the code is derived for; of a notice: of the code that cancels
    nonce      bytea,
    key_id     bigint,
    digits     smallint,
    notice     jsonb,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT messages_channel_known CHECK (channel IN ('sms', 'email', 'letter')),
    CONSTRAINT messages_purpose_known CHECK (purpose IN ('add_factor', 'reset_address', 'recovery', 'notice')),
    CONSTRAINT messages_code_whole CHECK ((code_id IS NULL) = (nonce IS NULL) AND (nonce IS NULL) = (key_id IS NULL) AND (nonce IS NULL) = (digits IS NULL)),
    CONSTRAINT messages_say_something CHECK ((purpose = 'notice') = (notice IS NOT NULL) AND (purpose = 'notice' OR nonce IS NOT NULL))
);
CREATE INDEX messages_age ON messages (expires_at);
CREATE INDEX messages_of_user ON messages (app_id, user_id);

-- Notices to be written: put here with the change that they tell of, by whichever role makes it.
CREATE TABLE notices (
    id      uuid PRIMARY KEY,
    app_id  integer NOT NULL,
    user_id text NOT NULL,
    notice  text NOT NULL,
    detail  jsonb NOT NULL DEFAULT '{}',
    at      timestamptz NOT NULL,
    CONSTRAINT notices_detail_object CHECK (jsonb_typeof(detail) = 'object')
);
CREATE INDEX notices_age ON notices (at);

-- Proofs that were spent on an act: a verified challenge serves once.
CREATE TABLE used_proofs (
    challenge_id uuid PRIMARY KEY,
    used_at      timestamptz NOT NULL
);
CREATE INDEX used_proofs_age ON used_proofs (used_at);

-- Who did what to whose factor. People are keyed digests, so that an erased person leaves no name; nobody may change or delete a line.
CREATE TABLE audit (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    app_id      integer NOT NULL,
    user_key    uuid NOT NULL,
    actor       text NOT NULL,                -- user, app, operator, system, or agent:<name>
    action      text NOT NULL,
    factor      uuid,
    session_key uuid,
    ip_key      uuid,
    role        text NOT NULL DEFAULT current_user,
    detail      jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT audit_detail_object CHECK (jsonb_typeof(detail) = 'object')
);
CREATE INDEX audit_of_user ON audit (app_id, user_key, id);
CREATE INDEX audit_whose_factor ON audit (factor) WHERE action IN ('factor.confirmed', 'factor.added');
-- +goose StatementBegin
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit can only be added to' USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'audit_append_only';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();

-- Challenges and deliveries learn the new factors and whose they are.
ALTER TABLE challenges
    DROP CONSTRAINT challenges_factor_known,
    ADD CONSTRAINT challenges_factor_known CHECK (factor IN ('totp', 'sms', 'email', 'webauthn', 'hotp', 'yubikey'));
ALTER TABLE deliveries
    ADD COLUMN purpose text NOT NULL DEFAULT 'challenge',
    DROP CONSTRAINT deliveries_channel_known,
    ADD CONSTRAINT deliveries_channel_known CHECK (channel IN ('sms', 'email', 'letter')),
    ADD CONSTRAINT deliveries_purpose_known CHECK (purpose IN ('challenge', 'enrolment'));

-- Everything of a person that is a row, in one statement. What is left are digests.
-- +goose StatementBegin
CREATE FUNCTION otpost_erase_user(app integer, who text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
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
REVOKE ALL ON FUNCTION otpost_erase_user(integer, text) FROM PUBLIC;

-- Who may do what.
GRANT SELECT ON apps TO otpost_enrolment;
GRANT EXECUTE ON FUNCTION otpost_erase_user(integer, text) TO otpost_enrolment;
GRANT SELECT, INSERT (app_id, user_id, touched_at), UPDATE (failures, wait_until, locked_at, touched_at) ON accounts TO otpost_enrolment;
GRANT SELECT, INSERT, UPDATE ON users TO otpost_enrolment;
GRANT SELECT, INSERT, UPDATE, DELETE ON factors TO otpost_enrolment;
GRANT SELECT, INSERT, UPDATE, DELETE ON ceremonies, backup_codes, contacts, recoveries, recovery_codes, messages, used_proofs TO otpost_enrolment;
GRANT SELECT, UPDATE (assigned_at, factor_id, counter) ON hardware_tokens TO otpost_enrolment;
GRANT SELECT, UPDATE (revoked_at, revoke_reason), DELETE ON devices TO otpost_enrolment;
GRANT SELECT (device_id, issued_at, replaced_at), DELETE ON device_tokens TO otpost_enrolment;
GRANT SELECT (challenge_id, expires_at), DELETE ON webauthn_sessions TO otpost_enrolment;
GRANT SELECT, INSERT, UPDATE (at), DELETE ON notices TO otpost_enrolment; -- to lock a row takes a column that may be updated
GRANT INSERT (at, app_id, user_key, actor, action, factor, session_key, ip_key, detail) ON audit TO otpost_enrolment, otpost_verification, otpost_challenge, otpost_operator;
-- Of a challenge enrolment sees that it is open or was verified, and nothing that a code is derived from.
GRANT SELECT (id, app_id, user_id, session, login, state, expires_at, ended_at, last_factor), UPDATE (state, ended_at) ON challenges TO otpost_enrolment;
GRANT SELECT, INSERT (challenge_id, attempt, channel, purpose, mask, created_at, updated_at), UPDATE (state, reason, swept, updated_at), DELETE ON deliveries TO otpost_enrolment;
GRANT SELECT, INSERT (id, subject, payload, created_at), DELETE, UPDATE (created_at) ON outbox TO otpost_enrolment;

GRANT SELECT (challenge_id, attempt, channel, state, provider, reference, reason, claimed_at, tries, unsure, updated_at),
      UPDATE (state, provider, reference, reason, claimed_at, tries, unsure, updated_at) ON deliveries TO otpost_letter;

GRANT SELECT (app_id, user_id, epoch, activated_at, preferred, fallbacks, locale), UPDATE (epoch) ON users TO otpost_verification, otpost_challenge;
GRANT INSERT (app_id, user_id, epoch, created_at) ON users TO otpost_verification; -- of a user whose first factor the last version's operator has entered
GRANT SELECT (app_id, user_id, kind, state, public_id, alone_after) ON factors TO otpost_challenge;
GRANT SELECT (app_id, user_id, used_at) ON backup_codes TO otpost_challenge; -- whether there is one left
GRANT UPDATE (state, sign_count, credential) ON factors TO otpost_verification;
GRANT SELECT (app_id, user_id, digest, position, used_at), UPDATE (used_at) ON backup_codes TO otpost_verification;
GRANT SELECT, INSERT, UPDATE, DELETE ON webauthn_sessions TO otpost_verification;
GRANT INSERT ON devices TO otpost_verification; -- only after a right answer
GRANT SELECT, UPDATE (session, last_used_at, revoked_at, revoke_reason) ON devices TO otpost_verification, otpost_challenge;
GRANT SELECT, INSERT, UPDATE (replaced_at) ON device_tokens TO otpost_verification, otpost_challenge;
GRANT INSERT ON notices TO otpost_verification, otpost_challenge, otpost_operator;

GRANT SELECT ON devices, audit, recovery_codes, contacts TO otpost_operator;
GRANT SELECT (id, app_id, user_id, session, state, begun_by, approved_by, reason, locale, proofs, attempts, max_attempts, created_at, expires_at,
              effective_at, ended_at) ON recoveries TO otpost_operator;
-- What was sent to whom, and what became of it: no address, and nothing that a code is derived from.
GRANT SELECT (id, app_id, user_id, kind, state, mask, attempts, max_attempts, sends, created_at, expires_at, ended_at) ON ceremonies TO otpost_operator;
GRANT SELECT (id, app_id, user_id, channel, purpose, mask, code_id, created_at, expires_at) ON messages TO otpost_operator;
GRANT SELECT (app_id, user_id, epoch, activated_at, preferred, fallbacks, locale, country, region, created_at),
      INSERT (app_id, user_id, epoch, activated_at, preferred, fallbacks, locale, country, region, created_at),
      UPDATE (epoch, activated_at, preferred, fallbacks, locale, country, region) ON users TO otpost_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON hardware_tokens TO otpost_operator;
GRANT SELECT (app_id, user_id, position, used_at, created_at) ON backup_codes TO otpost_operator;

-- Each role sees the deliveries that are its own.
DROP POLICY deliveries_all ON deliveries;
CREATE POLICY deliveries_operator  ON deliveries TO otpost_operator USING (true);
CREATE POLICY deliveries_challenge ON deliveries TO otpost_challenge USING (purpose = 'challenge') WITH CHECK (purpose = 'challenge');
CREATE POLICY deliveries_enrolment ON deliveries TO otpost_enrolment USING (purpose = 'enrolment') WITH CHECK (purpose = 'enrolment');
CREATE POLICY deliveries_letter    ON deliveries TO otpost_letter USING (channel = 'letter');
ALTER POLICY deliveries_withdrawn ON deliveries TO otpost_verification, otpost_enrolment USING (purpose = 'challenge' AND state IN ('queued', 'expired'));
ALTER POLICY deliveries_withdraw  ON deliveries TO otpost_verification, otpost_enrolment
    USING (purpose = 'challenge' AND state = 'queued') WITH CHECK (purpose = 'challenge' AND state = 'expired');

-- Of the audit each role writes as itself.
ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY audit_write ON audit FOR INSERT WITH CHECK (role = current_user);
CREATE POLICY audit_read  ON audit FOR SELECT TO otpost_operator USING (true);

-- +goose Down
DROP POLICY deliveries_operator ON deliveries;
DROP POLICY deliveries_challenge ON deliveries;
DROP POLICY deliveries_enrolment ON deliveries;
DROP POLICY deliveries_letter ON deliveries;
ALTER POLICY deliveries_withdrawn ON deliveries TO otpost_verification USING (state IN ('queued', 'expired'));
ALTER POLICY deliveries_withdraw  ON deliveries TO otpost_verification USING (state = 'queued') WITH CHECK (state = 'expired');
DELETE FROM deliveries WHERE purpose <> 'challenge' OR channel = 'letter';
ALTER TABLE deliveries DROP CONSTRAINT deliveries_purpose_known, DROP CONSTRAINT deliveries_channel_known, DROP COLUMN purpose,
    ADD CONSTRAINT deliveries_channel_known CHECK (channel IN ('sms', 'email'));
CREATE POLICY deliveries_all ON deliveries TO otpost_challenge, otpost_operator USING (true) WITH CHECK (true);
DELETE FROM challenges WHERE factor NOT IN ('totp', 'sms', 'email');
ALTER TABLE challenges DROP CONSTRAINT challenges_factor_known, ADD CONSTRAINT challenges_factor_known CHECK (factor IN ('totp', 'sms', 'email'));
DROP TABLE audit, used_proofs, notices, messages, recovery_codes, recoveries, contacts, device_tokens, devices, backup_codes, hardware_tokens, webauthn_sessions, ceremonies, users;
DROP FUNCTION otpost_erase_user(integer, text), audit_append_only(), users_epoch_rises();
DROP TRIGGER challenges_cancel_of_role ON challenges;
REVOKE ALL ON challenges FROM otpost_enrolment;
DROP TRIGGER factors_end_once ON factors;
DROP TRIGGER factors_state_of_role ON factors;
DROP TRIGGER factors_token_counter ON factors;
DROP FUNCTION otpost_end_once(), factors_state_of_role(), factors_token_counter();
REVOKE UPDATE (state) ON factors FROM otpost_verification;
DELETE FROM factors WHERE kind NOT IN ('totp', 'sms', 'email') OR state NOT IN ('active', 'suspended');
DROP INDEX factors_public_id_once, factors_all_of_user, factors_removed;
ALTER TABLE factors DROP CONSTRAINT factors_hotp_complete, DROP CONSTRAINT factors_key_complete, DROP CONSTRAINT factors_yubikey_complete,
    DROP CONSTRAINT factors_removed_has_time, DROP CONSTRAINT factors_kind_known, DROP CONSTRAINT factors_state_known,
    DROP COLUMN public_id, DROP COLUMN credential, DROP COLUMN sign_count, DROP COLUMN alone_after, DROP COLUMN removed_at, DROP COLUMN session,
    ADD CONSTRAINT factors_kind_known CHECK (kind IN ('totp', 'sms', 'email')),
    ADD CONSTRAINT factors_state_known CHECK (state IN ('active', 'suspended'));
UPDATE apps SET channels = ARRAY['totp', 'sms', 'email'] WHERE NOT channels <@ ARRAY['totp', 'sms', 'email'];
ALTER TABLE apps DROP CONSTRAINT apps_channels_known, DROP CONSTRAINT apps_factor_policy_object, DROP COLUMN factor_policy,
    ADD CONSTRAINT apps_channels_known CHECK (cardinality(channels) > 0 AND channels <@ ARRAY['totp', 'sms', 'email']);
