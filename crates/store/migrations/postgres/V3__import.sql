-- The SQLite file that everything here came from, and how far that has come: its tables are moved one after the other, each in the
-- order of its key.
CREATE TABLE imports (
    file       BYTEA   NOT NULL PRIMARY KEY, -- SHA-256 of the file
    table_name TEXT    NOT NULL,             -- the table that was begun last
    moved      BIGINT  NOT NULL,             -- how many of its rows are here
    done       BOOLEAN NOT NULL DEFAULT FALSE
);
