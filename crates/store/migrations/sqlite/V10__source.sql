-- What a site is called in the Plausible that it comes from.
ALTER TABLE sites ADD COLUMN plausible_id INTEGER;
CREATE UNIQUE INDEX sites_plausible ON sites (plausible_id) WHERE plausible_id IS NOT NULL AND deleted_at_us IS NULL;

-- How far the events of a source were read, in seconds since 1970.
CREATE TABLE readings (
    source     TEXT    NOT NULL PRIMARY KEY,
    read_until INTEGER NOT NULL
) STRICT;

-- The completions that were found in what is read again.
CREATE TABLE told (
    id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The completions that a trigger on several waits to see the rest of.
CREATE TABLE counts (
    trigger_id BLOB NOT NULL PRIMARY KEY,
    seconds    TEXT NOT NULL -- a JSON array of seconds since 1970
) STRICT;
