-- Times are microseconds since 1970, ids the 16 bytes of a UUID of version 7.

CREATE TABLE sites (
    id            BLOB    NOT NULL PRIMARY KEY,
    domain        TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    timezone      TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL,
    updated_at_us INTEGER NOT NULL,
    deleted_at_us INTEGER
) STRICT;
CREATE UNIQUE INDEX sites_domain ON sites (domain) WHERE deleted_at_us IS NULL;

CREATE TABLE goals (
    id               BLOB    NOT NULL PRIMARY KEY,
    site_id          BLOB    NOT NULL REFERENCES sites (id),
    display_name     TEXT    NOT NULL,
    event_name       TEXT,
    page_path        TEXT,
    scroll_threshold INTEGER NOT NULL,
    custom_props     TEXT    NOT NULL,
    currency         TEXT,
    created_at_us    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX goals_name ON goals (site_id, display_name);
CREATE UNIQUE INDEX goals_event ON goals (site_id, event_name, custom_props) WHERE event_name IS NOT NULL;
CREATE UNIQUE INDEX goals_page ON goals (site_id, page_path, scroll_threshold, custom_props) WHERE page_path IS NOT NULL;

CREATE TABLE webhooks (
    id              BLOB    NOT NULL PRIMARY KEY,
    site_id         BLOB    NOT NULL REFERENCES sites (id),
    name            TEXT    NOT NULL,
    url             TEXT    NOT NULL,
    secret          BLOB    NOT NULL, -- sealed
    enabled         INTEGER NOT NULL,
    disabled_reason TEXT,
    retry_schedule  TEXT,             -- a JSON list of seconds
    created_at_us   INTEGER NOT NULL,
    updated_at_us   INTEGER NOT NULL,
    deleted_at_us   INTEGER
) STRICT;
CREATE INDEX webhooks_site ON webhooks (site_id);

CREATE TABLE triggers (
    id         BLOB    NOT NULL PRIMARY KEY,
    webhook_id BLOB    NOT NULL REFERENCES webhooks (id),
    goal_id    BLOB    REFERENCES goals (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    rule       TEXT    NOT NULL, -- JSON, as the API has it
    UNIQUE (webhook_id, rule)
) STRICT;
CREATE INDEX triggers_goal ON triggers (goal_id) WHERE goal_id IS NOT NULL;

CREATE TABLE keys (
    id            BLOB    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    hash          BLOB    NOT NULL UNIQUE, -- SHA-256 of the key
    site_id       BLOB    REFERENCES sites (id),
    role          TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id            BLOB    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    owner         INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE salts (
    day INTEGER NOT NULL PRIMARY KEY, -- days since 1970
    key BLOB    NOT NULL
) STRICT;

-- Processes that hold deliveries. A delivery whose owner is not alive belongs to nobody.
CREATE TABLE owners (
    id             BLOB    NOT NULL PRIMARY KEY,
    alive_until_us INTEGER NOT NULL
) STRICT;

-- When triggers with a cooldown last fired, so that a restart does not forget it.
CREATE TABLE crossings (
    trigger_id  BLOB    NOT NULL PRIMARY KEY,
    fired_at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    id            BLOB    NOT NULL PRIMARY KEY,
    site_id       BLOB    NOT NULL,
    type          TEXT    NOT NULL,
    payload       TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Clustered by webhook, so that a webhook's history is one stretch. The ids sort by time.
CREATE TABLE deliveries (
    webhook_id         BLOB    NOT NULL,
    id                 BLOB    NOT NULL,
    event_id           BLOB    NOT NULL,
    trigger_id         BLOB,
    event_type         TEXT    NOT NULL,
    url                TEXT    NOT NULL,
    status             TEXT    NOT NULL,
    attempt_count      INTEGER NOT NULL,
    response_code      INTEGER,
    response_time_ms   INTEGER,
    error              TEXT,
    owner              BLOB,
    next_attempt_at_us INTEGER,
    created_at_us      INTEGER NOT NULL,
    completed_at_us    INTEGER,
    test               INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, id)
) STRICT, WITHOUT ROWID;
-- What somebody is doing, and what waits for somebody to do it.
CREATE INDEX deliveries_owned ON deliveries (owner) WHERE owner IS NOT NULL;
CREATE INDEX deliveries_waiting ON deliveries (webhook_id, next_attempt_at_us) WHERE owner IS NULL AND completed_at_us IS NULL;

CREATE TABLE attempts (
    delivery_id     BLOB    NOT NULL,
    number          INTEGER NOT NULL,
    started_at_us   INTEGER NOT NULL,
    duration_ms     INTEGER NOT NULL,
    request_headers TEXT    NOT NULL, -- a JSON object
    response_code   INTEGER,
    response_body   TEXT,
    error           TEXT,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;
