-- How many deliveries a replay is about, and how many of them it has made due so far.
ALTER TABLE replays ADD COLUMN total INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replays ADD COLUMN done INTEGER NOT NULL DEFAULT 0;
