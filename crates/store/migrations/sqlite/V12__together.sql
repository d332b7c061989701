-- Where a process counts what happens on sites, as its settings have it. Of those that live while this is run it is not known.
ALTER TABLE owners ADD COLUMN counted_in TEXT;

-- What the code of the first account is made of, beside the key that encrypts: one row, until there is an account.
CREATE TABLE setup (
    id    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    nonce BLOB    NOT NULL
) STRICT;
