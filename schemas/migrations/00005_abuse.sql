-- Abuse: counters of what is sent, addresses that an operator has listed, and the guard against pumping.

-- +goose Up

SET LOCAL statement_timeout = '15min'; -- new constraints read every row of what is there

-- One row for each user, address, network, prefix, app and day's spending that is bounded. The key is a keyed digest: the table tells nobody which. The
-- windows are numbered from 1970, in UTC; one that is over counts as empty.
CREATE TABLE limits (
    key      uuid PRIMARY KEY,
    minute   bigint NOT NULL DEFAULT 0,
    minute_n bigint NOT NULL DEFAULT 0,
    hour     bigint NOT NULL DEFAULT 0,
    hour_n   bigint NOT NULL DEFAULT 0,
    day      bigint NOT NULL,
    day_n    bigint NOT NULL DEFAULT 0,
    last_at  timestamptz,                     -- what was counted last; NULL for nothing yet
    told     bigint NOT NULL DEFAULT 0,       -- bits of the alarms that were raised on the day
    CONSTRAINT limits_counts_whole CHECK (minute_n >= 0 AND hour_n >= 0 AND day_n >= 0)
) WITH (fillfactor = 70);                     -- a row is written with every message: beside itself, and without touching an index
CREATE INDEX limits_age ON limits (day);

-- Addresses that an app's operator has listed: those that nothing is ever sent to and whose code is fixed, for tests, and those that are known to be safe.
CREATE TABLE destinations (
    app_id      integer NOT NULL REFERENCES apps (id),
    digest      uuid NOT NULL,                -- keyed
    kind        text NOT NULL,
    address     text NOT NULL,
    mask        text NOT NULL,
    code_digest bytea,                        -- keyed, over app, address and code
    note        text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    CONSTRAINT destinations_pkey          PRIMARY KEY (app_id, digest),
    CONSTRAINT destinations_kind_known    CHECK (kind IN ('test', 'safe')),
    CONSTRAINT destinations_address_known CHECK (address IN ('phone', 'email')),
    CONSTRAINT destinations_code_of_test  CHECK ((kind = 'test') = (code_digest IS NOT NULL)),
    CONSTRAINT destinations_digest_whole  CHECK (octet_length(code_digest) = 32),
    CONSTRAINT destinations_note_length   CHECK (char_length(note) <= 200)
);

-- A challenge keeps what its further sends are counted by. One to a test destination is answered by a fixed code: the digest of the address, 16 bytes, and
-- that of the code, 32.
ALTER TABLE challenges
    ADD COLUMN ip_key    uuid,
    ADD COLUMN test      boolean NOT NULL DEFAULT false,
    ADD COLUMN test_code bytea,
    ADD CONSTRAINT challenges_test_code_whole   CHECK (test = (test_code IS NOT NULL) AND (test_code IS NULL OR octet_length(test_code) = 48)),
    ADD CONSTRAINT challenges_android_hash_form CHECK (android_hash ~ '^([A-Za-z0-9+/]{11})?$');

-- Who may do what.
GRANT SELECT, INSERT (key, day), UPDATE ON limits TO otpost_challenge, otpost_enrolment;
GRANT DELETE ON limits TO otpost_challenge;
GRANT SELECT ON destinations TO otpost_challenge, otpost_enrolment;
GRANT SELECT, INSERT, UPDATE (kind, mask, code_digest, note), DELETE ON destinations TO otpost_operator;
GRANT INSERT (ip_key, test, test_code) ON challenges TO otpost_challenge;
GRANT SELECT (test, test_code) ON challenges TO otpost_verification;
GRANT SELECT (test) ON challenges TO otpost_enrolment, otpost_operator;

-- The guard against pumping.

-- What was sent to numbers that begin alike, by five minutes. A number counts once in a clock hour.
CREATE TABLE prefix_counts (
    app_id   integer NOT NULL,
    prefix   text NOT NULL,                   -- the calling code and the first three digits of the national number, in E.164
    slot     timestamptz NOT NULL,            -- its beginning
    sends    bigint NOT NULL DEFAULT 0,
    fresh    bigint NOT NULL DEFAULT 0,       -- of those, numbers that nothing was sent to before, as far as is remembered
    verified bigint NOT NULL DEFAULT 0,       -- numbers that a code came back from
    CONSTRAINT prefix_counts_pkey PRIMARY KEY (app_id, prefix, slot)
);
CREATE INDEX prefix_counts_slot ON prefix_counts (slot);

-- Which of a thousand neighbouring numbers were sent to. The digest is keyed and the bits stand in an order of its making, so that no number is named. The
-- counts are of this hour and the one before.
CREATE TABLE prefix_ranges (
    digest    uuid PRIMARY KEY,
    app_id    integer NOT NULL,
    prefix    text NOT NULL,
    digits    smallint NOT NULL,              -- of the numbers, behind the prefix
    hour      bigint NOT NULL,                -- since 1970, when it was last sent to
    now_bits  bytea NOT NULL,                 -- in that hour
    past_bits bytea NOT NULL,                 -- in the one before
    back_bits bytea NOT NULL,                 -- from which a code came back in that hour
    seen      bytea NOT NULL,                 -- ever, as long as the row lives
    numbers   smallint NOT NULL,              -- in both hours
    sequence  smallint NOT NULL,              -- of those, in full hundreds
    crowd     smallint NOT NULL,              -- in a full thousand: all or none
    CONSTRAINT prefix_ranges_bits CHECK (octet_length(now_bits) <= 125 AND octet_length(past_bits) <= 125 AND octet_length(back_bits) <= 125 AND
                                         octet_length(seen) <= 125)
);
CREATE INDEX prefix_ranges_of ON prefix_ranges (hour, app_id, prefix);

-- What the guard has blocked, or would have blocked.
CREATE TABLE prefix_blocks (
    app_id    integer NOT NULL,
    prefix    text NOT NULL,
    since     timestamptz NOT NULL,
    until     timestamptz NOT NULL,
    mode      text NOT NULL,                  -- the app's when it began
    manual    boolean NOT NULL DEFAULT false, -- by an operator: it holds whatever the app's mode is
    score     real NOT NULL DEFAULT 0,
    why       text NOT NULL DEFAULT '',
    sends     bigint NOT NULL DEFAULT 0,      -- of the hour before
    mature    bigint NOT NULL DEFAULT 0,      -- of those, old enough for their codes to have come back
    verified  bigint NOT NULL DEFAULT 0,
    numbers   bigint NOT NULL DEFAULT 0,      -- different ones
    dense     bigint NOT NULL DEFAULT 0,      -- of those, neighbours
    stopped   bigint NOT NULL DEFAULT 0,      -- messages that were not sent because of it
    passed    bigint NOT NULL DEFAULT 0,      -- messages that would not have been, had it not been in the shadow
    lifted_at timestamptz,
    CONSTRAINT prefix_blocks_pkey       PRIMARY KEY (app_id, prefix, since),
    CONSTRAINT prefix_blocks_mode_known CHECK (mode IN ('shadow', 'block')),
    CONSTRAINT prefix_blocks_ends_later CHECK (until > since),
    CONSTRAINT prefix_blocks_prefix     CHECK (prefix ~ '^\+[0-9]{1,9}$')
);
CREATE INDEX prefix_blocks_until ON prefix_blocks (until);

GRANT SELECT, INSERT, UPDATE (sends, fresh, verified) ON prefix_counts TO otpost_challenge, otpost_enrolment;
GRANT SELECT, INSERT, UPDATE (hour, now_bits, past_bits, back_bits, seen, numbers, sequence, crowd) ON prefix_ranges TO otpost_challenge, otpost_enrolment;
GRANT DELETE ON prefix_counts, prefix_ranges TO otpost_challenge;
GRANT SELECT, INSERT, UPDATE (stopped, passed), DELETE ON prefix_blocks TO otpost_challenge;
GRANT SELECT ON prefix_blocks TO otpost_enrolment, otpost_operator;
GRANT UPDATE (stopped, passed) ON prefix_blocks TO otpost_enrolment; -- its messages obey; who judges is another
GRANT INSERT, UPDATE (lifted_at) ON prefix_blocks TO otpost_operator;

-- +goose Down
DROP TABLE prefix_blocks, prefix_ranges, prefix_counts;
DROP TABLE destinations, limits;
ALTER TABLE challenges
    DROP CONSTRAINT challenges_android_hash_form, DROP CONSTRAINT challenges_test_code_whole,
    DROP COLUMN ip_key, DROP COLUMN test, DROP COLUMN test_code;
