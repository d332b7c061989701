-- Where people are signed in.
CREATE TABLE sessions (
    id              BLOB    NOT NULL PRIMARY KEY,
    hash            BLOB    NOT NULL UNIQUE, -- SHA-256 of the cookie
    user_id         BLOB    NOT NULL REFERENCES users (id),
    device          TEXT    NOT NULL,
    created_at_us   INTEGER NOT NULL,
    last_seen_at_us INTEGER NOT NULL,
    expires_at_us   INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id);

-- What people may do with sites. Owners may do everything with all of them.
CREATE TABLE members (
    user_id       BLOB    NOT NULL REFERENCES users (id),
    site_id       BLOB    NOT NULL REFERENCES sites (id),
    role          TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL,
    PRIMARY KEY (user_id, site_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_site ON members (site_id);

-- Links that make whoever opens one a member.
CREATE TABLE invitations (
    id            BLOB    NOT NULL PRIMARY KEY,
    hash          BLOB    NOT NULL UNIQUE, -- SHA-256 of what is in the link
    site_id       BLOB    NOT NULL REFERENCES sites (id),
    role          TEXT    NOT NULL,
    created_at_us INTEGER NOT NULL,
    expires_at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX invitations_site ON invitations (site_id);
