-- What a process does, as in the settings.
ALTER TABLE owners ADD COLUMN roles TEXT NOT NULL DEFAULT 'web,ingest,dispatch,detect';
