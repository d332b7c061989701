-- How often goals had been completed on a day, when Plausible's hosted service was asked last.
CREATE TABLE polled_goals (
    goal_id UUID   NOT NULL PRIMARY KEY REFERENCES goals (id) ON DELETE CASCADE,
    day     TEXT   NOT NULL, -- like 2026-02-25, in the site's time zone
    count   BIGINT NOT NULL
);

-- How many visitors sites had, when it was asked last.
CREATE TABLE polled_visitors (
    site_id   UUID   NOT NULL PRIMARY KEY REFERENCES sites (id),
    visitors  BIGINT NOT NULL,
    polled_us BIGINT NOT NULL
);
