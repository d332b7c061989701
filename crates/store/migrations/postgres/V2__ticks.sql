-- Who looks at what is counted in shared storage, and how far that has come: one row. The number rises with each look.
CREATE TABLE ticks (
    number          BIGINT NOT NULL,
    holder          UUID,
    looked_at_us    BIGINT NOT NULL,
    watched_from_us BIGINT NOT NULL -- since when what is counted has been complete
);
INSERT INTO ticks VALUES (0, NULL, 0, 0);

-- Whether the trigger's condition has been true since it fired.
ALTER TABLE crossings ADD COLUMN still_true BOOLEAN NOT NULL DEFAULT FALSE;
