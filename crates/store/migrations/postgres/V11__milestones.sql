-- How far triggers on pageviews have come.
CREATE TABLE milestones (
    trigger_id       UUID    NOT NULL PRIMARY KEY,
    day              INTEGER NOT NULL, -- since 1970, by the site's clocks; 0 for a total
    pageviews        BIGINT  NOT NULL, -- those before counted_until_us, where they are asked for
    told             BIGINT  NOT NULL, -- the highest milestone that was told; 0 for none
    counted_until_us BIGINT  NOT NULL  -- 0 where they are counted as they come
);
