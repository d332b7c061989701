-- Since when the traffic of segments is counted by itself: what happened in them stands in the tables of what happened on sites.
CREATE TABLE segments (
    traffic_id   UUID   NOT NULL PRIMARY KEY,
    counted_from BIGINT NOT NULL -- a minute since 1970
);
