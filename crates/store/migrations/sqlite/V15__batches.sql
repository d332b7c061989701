ALTER TABLE webhooks ADD COLUMN batch TEXT; -- JSON, as the API has it

-- How many events a delivery brings.
ALTER TABLE deliveries ADD COLUMN event_count INTEGER NOT NULL DEFAULT 1;

-- Events that wait to be put together, the longest waiting of a webhook first.
CREATE TABLE gathered (
    webhook_id     BLOB    NOT NULL,
    gathered_at_us INTEGER NOT NULL,
    event_id       BLOB    NOT NULL,
    bytes          INTEGER NOT NULL, -- the length of the payload
    PRIMARY KEY (webhook_id, gathered_at_us, event_id)
) STRICT, WITHOUT ROWID;

-- Which batch an event is in. A batch is an event of its own to those who send it.
CREATE TABLE batched (
    event_id   BLOB NOT NULL,
    webhook_id BLOB NOT NULL,
    batch_id   BLOB NOT NULL,
    PRIMARY KEY (event_id, webhook_id)
) STRICT, WITHOUT ROWID;
