-- Processes raise a number to show that they live, and are marked when they are taken for dead.
ALTER TABLE owners RENAME COLUMN alive_until_us TO sign;
ALTER TABLE owners ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
