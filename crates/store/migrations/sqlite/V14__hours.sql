-- What happened on a site, hour by hour. It is kept for longer than the minutes.
CREATE TABLE traffic_hours (
    site_id   BLOB    NOT NULL,
    hour      INTEGER NOT NULL, -- since 1970
    pageviews INTEGER NOT NULL,
    visitors  INTEGER NOT NULL,
    PRIMARY KEY (site_id, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX traffic_hours_age ON traffic_hours (hour);

CREATE TABLE completion_hours (
    site_id BLOB    NOT NULL,
    hour    INTEGER NOT NULL,
    goal_id BLOB    NOT NULL,
    number  INTEGER NOT NULL,
    PRIMARY KEY (site_id, hour, goal_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX completion_hours_age ON completion_hours (hour);
