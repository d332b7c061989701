-- What happened on sites, hour by hour: made of the events when an hour is over, and kept for longer. One that is made again takes the
-- place of the one before.
CREATE TABLE IF NOT EXISTS traffic_hours (
    site_id   UUID,
    hour      UInt32,
    pageviews UInt32,
    visitors  UInt32
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(toDateTime(hour * 3600, 'UTC'))
ORDER BY (site_id, hour)
TTL toDateTime(hour * 3600, 'UTC') + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS completion_hours (
    site_id UUID,
    hour    UInt32,
    goal_id UUID,
    number  UInt32
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(toDateTime(hour * 3600, 'UTC'))
ORDER BY (site_id, hour, goal_id)
TTL toDateTime(hour * 3600, 'UTC') + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;
