//! A past that would take days to happen: it is written into a server's database while the server is stopped.

use std::path::Path;

use rusqlite::Connection;

use crate::failure::Result;

/// Every minute of a site up to now: visitors, a few of whom came before, some long before and some shortly; and completions of its goals.
const MINUTES: &str = "
    WITH RECURSIVE site (id) AS (SELECT id FROM sites WHERE domain = $1),
        gap (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM gap WHERE number < 29),
        past (minute) AS (SELECT unixepoch() / 60 - $2 UNION ALL SELECT minute + 1 FROM past WHERE minute < unixepoch() / 60)
    INSERT OR REPLACE INTO traffic (site_id, minute, pageviews, visitors)
    SELECT site.id, minute, 500, (SELECT group_concat(number || ':' || (1 + (minute + number) % 40), ',') FROM gap) FROM site, past";
const COMPLETIONS: &str = "
    INSERT OR REPLACE INTO completions (site_id, minute, goal_id, number)
    SELECT goals.site_id, minute, goals.id, 3 FROM goals JOIN traffic ON traffic.site_id = goals.site_id
    WHERE goals.site_id = (SELECT id FROM sites WHERE domain = $1)";
/// Every tenth delivery was given up.
const DEAD_LETTERS: &str =
    "UPDATE deliveries SET status = 'failed', response_code = 400 WHERE unicode(substr(hex(id), -1)) % 10 = 0";

/// Writes so many minutes of a site's traffic, and dead letters of all webhooks, into the database at `path`.
pub(crate) fn write(path: &Path, domain: &str, minutes: u32) -> Result<()> {
    let database = Connection::open(path)?;
    database.execute(MINUTES, (domain, minutes))?;
    database.execute(COMPLETIONS, [domain])?;
    database.execute(DEAD_LETTERS, [])?;
    Ok(())
}
