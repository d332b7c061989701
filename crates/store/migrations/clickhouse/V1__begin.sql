-- What happened on sites, for counting. A row holds nothing by which somebody could be followed from day to day.
CREATE TABLE IF NOT EXISTS events (
    site_id          UUID,
    time             DateTime64(6, 'UTC') CODEC(Delta, LZ4),
    name             LowCardinality(String),
    visitor          UInt64,                 -- by the salt of the day
    previous_visitor UInt64,                 -- by the salt of the day before, in the first half hour of a day; otherwise 0
    source           LowCardinality(String), -- of the session, as far as whoever wrote the row knew it; empty when direct
    page             String,
    goals            Array(UUID),            -- those that it completed
    props            Map(String, String),    -- only where it completed one, as the amount and the currency
    amount           String,
    currency         LowCardinality(String)
) ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (site_id, toStartOfTenMinutes(time), visitor, time)
TTL toDate(time) + INTERVAL 35 DAY
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000;
