//! A past that would take days to happen: it is written into a server's database while the server is stopped.

use std::ops::Range;
use std::path::Path;

use rusqlite::Connection;

use crate::failure::Result;
use crate::program::Launcher;

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

/// How long ago what is over was made, at most: not so long that it is pruned.
const DAYS: u32 = 28;

/// An id of a time in milliseconds, and a number of its own.
const ID: &str = "CREATE FUNCTION pg_temp.id(millis BIGINT, number BIGINT) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT (lpad(to_hex(millis), 12, '0') || '70008000' || lpad(to_hex(number), 12, '0'))::uuid $$;";

/// The partitions that a server would have made that has run for so long.
fn partitions() -> String {
    format!(
        "DO $$ DECLARE today BIGINT := extract(epoch FROM now())::bigint / 86400; BEGIN
             FOR day IN today - {DAYS} .. today - 1 LOOP
                 EXECUTE (SELECT string_agg(format('CREATE TABLE IF NOT EXISTS %1$s_%2$s PARTITION OF %1$s FOR VALUES FROM (%3$L) TO (%4$L)', name,
                              to_char(to_timestamp(day * 86400) AT TIME ZONE 'UTC', 'YYYYMMDD'),
                              pg_temp.id(day * 86400000::bigint, 0), pg_temp.id((day + 1) * 86400000::bigint, 0)), '; ')
                          FROM unnest(ARRAY['deliveries_ended', 'attempts', 'events']) AS name);
             END LOOP;
         END $$;"
    )
}

/// Adds deliveries that are over and have such numbers, of all webhooks in turn and of ten to an event, evenly over the days.
pub(crate) async fn add_history(program: &Launcher, deliveries: Range<u64>) -> Result<()> {
    let (first, end) = (deliveries.start / 10, deliveries.end / 10);
    let history = format!(
        "CREATE TEMPORARY TABLE past AS
             SELECT n, (extract(epoch FROM now())::bigint / 86400 - {DAYS}) * 86400000
                           + ((n - {first}) * {DAYS}.0 * 86400000 / {count})::bigint AS millis
             FROM generate_series({first}, {last}) AS n;
         INSERT INTO events SELECT pg_temp.id(millis, n), pg_temp.id(0, 0), 'goal_completion', '{{}}', millis * 1000, 10 FROM past;
         INSERT INTO attempts SELECT pg_temp.id(millis, n * 10 + k), 1, millis * 1000, 3, '{{}}', 204, '', NULL
             FROM past, generate_series(0, 9) AS k;
         INSERT INTO deliveries_ended (webhook_id, id, event_id, event_type, url, status, attempt_count, counted_attempts, response_code,
                                       response_time_ms, created_at_us, completed_at_us, test)
             SELECT w.id, pg_temp.id(millis, n * 10 + k), pg_temp.id(millis, n), 'goal_completion', 'http://127.0.0.1/hook',
                    CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'success' END, 1, 1, 204, 3, millis * 1000, millis * 1000 + 3000, FALSE
             FROM past, (SELECT id, row_number() OVER (ORDER BY id) - 1 AS k FROM webhooks) AS w;",
        count = end - first,
        last = end.saturating_sub(1),
    );
    program.run_sql(&format!("SET client_min_messages = warning; {ID} {} {history}", partitions())).await?;
    program.run_sql("VACUUM (ANALYZE)").await?;
    // What was written is on the disk before anything is measured.
    program.run_sql("CHECKPOINT").await
}

/// Adds events of such numbers, as fired now, each of which is pending for every webhook.
pub(crate) async fn add_pending(program: &Launcher, events: Range<u64>) -> Result<()> {
    let pending = format!(
        "CREATE TEMPORARY TABLE pending AS
             SELECT n, (extract(epoch FROM now()) * 1000)::bigint AS millis FROM generate_series({}, {}) AS n;
         INSERT INTO events
             SELECT pg_temp.id(millis, n), pg_temp.id(0, 0), 'goal_completion', format('{{\"seq\":\"%s\"}}', lpad(n::text, 10, '0')),
                    millis * 1000, 10 FROM pending;
         INSERT INTO deliveries (webhook_id, id, event_id, event_type, url, status, attempt_count, next_attempt_at_us, created_at_us, test)
             SELECT w.id, pg_temp.id(millis, n * 10 + k), pg_temp.id(millis, n), 'goal_completion', 'http://127.0.0.1/hook', 'pending', 0,
                    millis * 1000, millis * 1000, FALSE
             FROM pending, (SELECT id, row_number() OVER (ORDER BY id) - 1 AS k FROM webhooks) AS w;",
        events.start,
        events.end.saturating_sub(1),
    );
    program.run_sql(&format!("{ID} {pending}")).await
}
