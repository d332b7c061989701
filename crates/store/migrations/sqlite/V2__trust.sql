ALTER TABLE webhooks ADD COLUMN headers BLOB;                     -- sealed JSON
ALTER TABLE webhooks ADD COLUMN rate_limit_per_second INTEGER;
ALTER TABLE webhooks ADD COLUMN previous_secret BLOB;             -- sealed
ALTER TABLE webhooks ADD COLUMN previous_secret_until_us INTEGER;
ALTER TABLE webhooks ADD COLUMN failing_since_us INTEGER;         -- since when every attempt has failed

-- How many attempts count against the retry schedule. Trials of a resting endpoint do not, nor what came before a replay.
ALTER TABLE deliveries ADD COLUMN counted_attempts INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET counted_attempts = attempt_count WHERE completed_at_us IS NULL;
CREATE INDEX deliveries_lost ON deliveries (webhook_id, status, id) WHERE status IN ('failed', 'cancelled');

-- How many deliveries an event has. It goes with the last.
ALTER TABLE events ADD COLUMN delivery_count INTEGER NOT NULL DEFAULT 0;
UPDATE events SET delivery_count = counted.number
    FROM (SELECT event_id, COUNT(*) AS number FROM deliveries GROUP BY event_id) AS counted
    WHERE events.id = counted.event_id;

-- Dead letters that are to be sent again, and how far that has come.
CREATE TABLE replays (
    id         BLOB    NOT NULL PRIMARY KEY,
    webhook_id BLOB    NOT NULL REFERENCES webhooks (id),
    status     TEXT    NOT NULL,
    since_us   INTEGER NOT NULL,
    until_us   INTEGER NOT NULL,
    after_id   BLOB    NOT NULL -- the delivery that was looked at last
) STRICT;
CREATE INDEX replays_webhook ON replays (webhook_id);
