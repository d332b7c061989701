-- What happened on a site, minute by minute. Minutes and hours are counted from the start of 1970.
CREATE TABLE traffic (
    site_id   BLOB    NOT NULL,
    minute    INTEGER NOT NULL,
    pageviews INTEGER NOT NULL,
    visitors  TEXT    NOT NULL, -- as in 0:12,3:1: how many, by how many minutes ago they came before
    PRIMARY KEY (site_id, minute)
) STRICT, WITHOUT ROWID;
CREATE INDEX traffic_age ON traffic (minute);

CREATE TABLE completions (
    site_id BLOB    NOT NULL,
    minute  INTEGER NOT NULL,
    goal_id BLOB    NOT NULL,
    number  INTEGER NOT NULL,
    PRIMARY KEY (site_id, minute, goal_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX completions_age ON completions (minute);

-- How attempts ended, by webhook.
CREATE TABLE outcomes (
    webhook_id BLOB    NOT NULL,
    hour       INTEGER NOT NULL,
    succeeded  INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_age ON outcomes (hour);
