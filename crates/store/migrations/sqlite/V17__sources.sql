-- The sources that brought visitors to a site, by days since 1970.
CREATE TABLE sources (
    site_id    BLOB    NOT NULL,
    source     TEXT    NOT NULL,
    first_day  INTEGER NOT NULL, -- of those on which it was seen without a long break
    last_day   INTEGER NOT NULL,
    before_day INTEGER,          -- the last one before that break
    PRIMARY KEY (site_id, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX sources_age ON sources (last_day);

-- The triggers that told of a source, and when each did last.
CREATE TABLE told_sources (
    trigger_id BLOB    NOT NULL,
    source     TEXT    NOT NULL,
    day        INTEGER NOT NULL,
    PRIMARY KEY (trigger_id, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX told_sources_age ON told_sources (day);

-- Since when sources have been noted, and until when they were.
CREATE TABLE source_notes (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    since_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL
) STRICT;
