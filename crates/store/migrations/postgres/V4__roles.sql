-- What a process does, as in the settings. Those that live while this is run do everything.
ALTER TABLE owners ADD COLUMN roles TEXT NOT NULL DEFAULT 'web,ingest,dispatch,detect';
