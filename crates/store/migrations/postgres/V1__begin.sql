-- Times are microseconds since 1970, ids UUIDs of version 7, which sort by the time they were made.

CREATE TABLE sites (
    id            UUID   NOT NULL PRIMARY KEY,
    domain        TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    timezone      TEXT   NOT NULL,
    created_at_us BIGINT NOT NULL,
    updated_at_us BIGINT NOT NULL,
    deleted_at_us BIGINT,
    revision      BIGINT NOT NULL DEFAULT 0 -- the number of the latest change of anything that is configured for it
);
CREATE UNIQUE INDEX sites_domain ON sites (domain) WHERE deleted_at_us IS NULL;
CREATE INDEX sites_revision ON sites (revision);

-- How many changes of sites there were: one row.
CREATE TABLE revisions (
    number BIGINT NOT NULL
);
INSERT INTO revisions VALUES (0);

CREATE TABLE goals (
    id               UUID     NOT NULL PRIMARY KEY,
    site_id          UUID     NOT NULL REFERENCES sites (id),
    display_name     TEXT     NOT NULL,
    event_name       TEXT,
    page_path        TEXT,
    scroll_threshold SMALLINT NOT NULL,
    custom_props     TEXT     NOT NULL,
    currency         TEXT,
    created_at_us    BIGINT   NOT NULL
);
-- An index takes short texts only, so what it has of long ones is a hash of 64 bits.
CREATE UNIQUE INDEX goals_name ON goals (site_id, hashtextextended(display_name, 0));
CREATE UNIQUE INDEX goals_event ON goals (site_id, event_name, hashtextextended(custom_props, 0))
    WHERE event_name IS NOT NULL;
CREATE UNIQUE INDEX goals_page
    ON goals (site_id, hashtextextended(page_path, 0), scroll_threshold, hashtextextended(custom_props, 0))
    WHERE page_path IS NOT NULL;

CREATE TABLE webhooks (
    id                       UUID    NOT NULL PRIMARY KEY,
    site_id                  UUID    NOT NULL REFERENCES sites (id),
    name                     TEXT    NOT NULL,
    url                      TEXT    NOT NULL,
    secret                   BYTEA   NOT NULL, -- sealed
    enabled                  BOOLEAN NOT NULL,
    disabled_reason          TEXT,
    retry_schedule           TEXT,             -- a JSON list of seconds
    created_at_us            BIGINT  NOT NULL,
    updated_at_us            BIGINT  NOT NULL,
    deleted_at_us            BIGINT,
    headers                  BYTEA,            -- sealed JSON
    rate_limit_per_second    INTEGER,
    previous_secret          BYTEA,            -- sealed
    previous_secret_until_us BIGINT,
    failing_since_us         BIGINT            -- since when every attempt has failed
);
CREATE INDEX webhooks_site ON webhooks (site_id);

CREATE TABLE triggers (
    id         UUID    NOT NULL PRIMARY KEY,
    webhook_id UUID    NOT NULL REFERENCES webhooks (id),
    goal_id    UUID    REFERENCES goals (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    rule       TEXT    NOT NULL, -- JSON, as the API has it
    UNIQUE (webhook_id, rule)
);
CREATE INDEX triggers_goal ON triggers (goal_id) WHERE goal_id IS NOT NULL;

CREATE TABLE keys (
    id            UUID   NOT NULL PRIMARY KEY,
    name          TEXT   NOT NULL,
    hash          BYTEA  NOT NULL UNIQUE, -- SHA-256 of the key
    site_id       UUID   REFERENCES sites (id),
    role          TEXT   NOT NULL,
    created_at_us BIGINT NOT NULL
);

CREATE TABLE users (
    id            UUID    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    owner         BOOLEAN NOT NULL,
    created_at_us BIGINT  NOT NULL
);

-- Where people are signed in.
CREATE TABLE sessions (
    id              UUID   NOT NULL PRIMARY KEY,
    hash            BYTEA  NOT NULL UNIQUE, -- SHA-256 of the cookie
    user_id         UUID   NOT NULL REFERENCES users (id),
    device          TEXT   NOT NULL,
    created_at_us   BIGINT NOT NULL,
    last_seen_at_us BIGINT NOT NULL,
    expires_at_us   BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at_us);

-- What people may do with sites. Owners may do everything with all of them.
CREATE TABLE members (
    user_id       UUID   NOT NULL REFERENCES users (id),
    site_id       UUID   NOT NULL REFERENCES sites (id),
    role          TEXT   NOT NULL,
    created_at_us BIGINT NOT NULL,
    PRIMARY KEY (user_id, site_id)
);
CREATE INDEX members_site ON members (site_id);

-- Links that make whoever opens one a member.
CREATE TABLE invitations (
    id            UUID   NOT NULL PRIMARY KEY,
    hash          BYTEA  NOT NULL UNIQUE, -- SHA-256 of what is in the link
    site_id       UUID   NOT NULL REFERENCES sites (id),
    role          TEXT   NOT NULL,
    created_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL
);
CREATE INDEX invitations_site ON invitations (site_id);

CREATE TABLE salts (
    day BIGINT NOT NULL PRIMARY KEY, -- days since 1970
    key BYTEA  NOT NULL
);

-- Processes that hold deliveries. They raise a number to show that they live, and are marked when they are taken for dead.
CREATE TABLE owners (
    id   UUID    NOT NULL PRIMARY KEY,
    sign BIGINT  NOT NULL,
    dead BOOLEAN NOT NULL DEFAULT FALSE
);

-- The number of each process's latest commit, by which it finds out about one that was not answered.
CREATE TABLE commits (
    process UUID   NOT NULL PRIMARY KEY,
    number  BIGINT NOT NULL
);

-- When triggers with a cooldown last fired, so that a restart does not forget it.
CREATE TABLE crossings (
    trigger_id  UUID   NOT NULL PRIMARY KEY,
    fired_at_us BIGINT NOT NULL
);

-- History is in partitions by the time that is in ids, which are made as time goes on (store/src/partitions.rs). Each table has one for
-- the rest: what no other covers.

-- An event goes with the last of its deliveries, or with its partition.
CREATE TABLE events (
    id             UUID    NOT NULL PRIMARY KEY,
    site_id        UUID    NOT NULL,
    type           TEXT    NOT NULL,
    payload        TEXT    NOT NULL,
    created_at_us  BIGINT  NOT NULL,
    delivery_count INTEGER NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE events_rest PARTITION OF events DEFAULT;

CREATE TABLE deliveries (
    webhook_id         UUID    NOT NULL,
    id                 UUID    NOT NULL,
    event_id           UUID    NOT NULL,
    trigger_id         UUID,
    event_type         TEXT    NOT NULL,
    url                TEXT    NOT NULL,
    status             TEXT    NOT NULL,
    attempt_count      INTEGER NOT NULL,
    -- How many attempts count against the retry schedule. Trials of a resting endpoint do not, nor what came before a replay.
    counted_attempts   INTEGER NOT NULL DEFAULT 0,
    response_code      INTEGER,
    response_time_ms   BIGINT,
    error              TEXT,
    owner              UUID,
    next_attempt_at_us BIGINT,
    created_at_us      BIGINT  NOT NULL,
    completed_at_us    BIGINT,
    test               BOOLEAN NOT NULL,
    payload            TEXT             -- its own, where the event may go before it
) PARTITION BY LIST (status);

-- Open deliveries are by themselves, so that it takes no longer to find them the more history there is.
CREATE TABLE deliveries_open PARTITION OF deliveries (PRIMARY KEY (webhook_id, id)) FOR VALUES IN ('pending', 'retrying');
-- What somebody is doing, and what waits for somebody to do it.
CREATE INDEX deliveries_owned ON deliveries_open (owner) WHERE owner IS NOT NULL;
CREATE INDEX deliveries_waiting ON deliveries_open (webhook_id, next_attempt_at_us) WHERE owner IS NULL AND completed_at_us IS NULL;

CREATE TABLE deliveries_ended PARTITION OF deliveries (PRIMARY KEY (webhook_id, id))
    FOR VALUES IN ('success', 'failed', 'cancelled') PARTITION BY RANGE (id);
CREATE INDEX deliveries_lost ON deliveries_ended (webhook_id, status, id) WHERE status IN ('failed', 'cancelled');
CREATE TABLE deliveries_ended_rest PARTITION OF deliveries_ended DEFAULT;

CREATE TABLE attempts (
    delivery_id     UUID    NOT NULL,
    number          INTEGER NOT NULL,
    started_at_us   BIGINT  NOT NULL,
    duration_ms     BIGINT  NOT NULL,
    request_headers TEXT    NOT NULL, -- a JSON object
    response_code   INTEGER,
    response_body   TEXT,
    error           TEXT,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);
CREATE TABLE attempts_rest PARTITION OF attempts DEFAULT;

-- Dead letters that are to be sent again, and how far that has come.
CREATE TABLE replays (
    id         UUID   NOT NULL PRIMARY KEY,
    webhook_id UUID   NOT NULL REFERENCES webhooks (id),
    status     TEXT   NOT NULL,
    since_us   BIGINT NOT NULL,
    until_us   BIGINT NOT NULL,
    after_id   UUID   NOT NULL, -- the delivery that was looked at last
    total      BIGINT NOT NULL,
    done       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX replays_webhook ON replays (webhook_id);

-- What happened on a site, minute by minute. Minutes and hours are counted from the start of 1970.
CREATE TABLE traffic (
    site_id   UUID   NOT NULL,
    minute    BIGINT NOT NULL,
    pageviews BIGINT NOT NULL,
    visitors  TEXT   NOT NULL, -- as in 0:12,3:1: how many, by how many minutes ago they came before
    PRIMARY KEY (site_id, minute)
);
CREATE INDEX traffic_age ON traffic (minute);

CREATE TABLE completions (
    site_id UUID   NOT NULL,
    minute  BIGINT NOT NULL,
    goal_id UUID   NOT NULL,
    number  BIGINT NOT NULL,
    PRIMARY KEY (site_id, minute, goal_id)
);
CREATE INDEX completions_age ON completions (minute);

-- How attempts ended, by webhook.
CREATE TABLE outcomes (
    webhook_id UUID   NOT NULL,
    hour       BIGINT NOT NULL,
    succeeded  BIGINT NOT NULL,
    failed     BIGINT NOT NULL,
    PRIMARY KEY (webhook_id, hour)
);
CREATE INDEX outcomes_age ON outcomes (hour);
