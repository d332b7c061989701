-- What happened on a site, hour by hour. It is kept for longer than the minutes.
CREATE TABLE traffic_hours (
    site_id   UUID   NOT NULL,
    hour      BIGINT NOT NULL, -- since 1970
    pageviews BIGINT NOT NULL,
    visitors  BIGINT NOT NULL,
    PRIMARY KEY (site_id, hour)
);
CREATE INDEX traffic_hours_age ON traffic_hours (hour);

CREATE TABLE completion_hours (
    site_id UUID   NOT NULL,
    hour    BIGINT NOT NULL,
    goal_id UUID   NOT NULL,
    number  BIGINT NOT NULL,
    PRIMARY KEY (site_id, hour, goal_id)
);
CREATE INDEX completion_hours_age ON completion_hours (hour);
