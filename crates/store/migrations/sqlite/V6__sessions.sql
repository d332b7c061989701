-- Whoever signs in looks for sessions that are over.
CREATE INDEX sessions_expiry ON sessions (expires_at_us);
