//! History in partitions, which PostgreSQL can drop as wholes.
//!
//! What is open is in a table by itself and has no period. What is over, its attempts, the events, and in which batches they are have one
//! partition for each period of the time in their ids, and one for the rest, which no period covers. Which periods there should be is not decided here.
//! A SQLite file has no partitions: everything is in the same tables.
//!
//! An event goes with its period, so a delivery that may outlive it has the payload itself: one that is of a later day gets it from the
//! start, one that comes back to life then, and one that is open for very long before the period goes.
//!
//! What changes tables locks out everybody else, so it never waits for its locks for long, and is tried again.

use std::time::Duration;

use bellwether_domain::id::{DeliveryId, EventId, WebhookId};
use bellwether_domain::period::{Period, missing};
use bellwether_domain::time::Timestamp;
use tokio_postgres::{Client, GenericClient, Transaction};

use crate::database::Database;
use crate::retention::webhooks_in;
use crate::sql::{Connection, Dialect, Row, Session, values};
use crate::{Store, StoreError};

/// The condition that a delivery is open, by which PostgreSQL knows where it is.
pub(crate) const OPEN: &str = "status IN ('pending', 'retrying')";

/// Where that is on PostgreSQL.
const OPEN_TABLE: &str = "deliveries_open";

/// The tables that have partitions, in the order in which those of a period go, and what their periods are of.
const TABLES: [(&str, &str); 4] =
    [("deliveries_ended", "id"), ("attempts", "delivery_id"), ("batched", "event_id"), ("events", "id")];
/// How long everybody who uses a table waits for whoever changes it, who waits for those that use it.
const LOCK_TIME_LIMIT: Duration = Duration::from_millis(50);
/// How often it is tried to get a lock, and the pause in between.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);
/// How long changing tables may take, once the locks are there.
const CHANGE_TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long everything that is done at a time may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// Rows that are moved from one partition to another while nobody else can use them.
const MOST_MOVED: usize = 500;
/// Held by whoever makes partitions: a number that nobody else is likely to take.
const LOCK: i64 = 0x62_65_6c_6c_70_61_72_74;
/// An event may be so much older than its delivery, and much more.
const EVENT_DELAY: Duration = Duration::from_secs(3_600);

/// A part of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    table: &'static str,
    name: String,
    period: Period,
}

impl Partition {
    /// What an operator knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the ids in it were made.
    pub fn period(&self) -> Period {
        self.period
    }
}

/// Where open deliveries are.
pub(crate) fn open(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "deliveries",
        Dialect::Postgres => OPEN_TABLE,
    }
}

/// Where deliveries are that go row by row when they are old.
pub(crate) fn pruned_by_rows(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "deliveries",
        Dialect::Postgres => "deliveries_ended_rest",
    }
}

/// Where it is written that events are in batches, which goes row by row when it is old.
pub(crate) fn batched_pruned_by_rows(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "batched",
        Dialect::Postgres => "batched_rest",
    }
}

/// The payload of a delivery `d`.
pub(crate) fn payload(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "(SELECT e.payload FROM events e WHERE e.id = d.event_id)",
        Dialect::Postgres => "COALESCE(d.payload, (SELECT e.payload FROM events e WHERE e.id = d.event_id))",
    }
}

/// Behind an UPDATE of deliveries that makes them open: each keeps its payload, whatever becomes of the event.
pub(crate) fn keeping_payload(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => ", payload = COALESCE(payload, (SELECT e.payload FROM events e WHERE e.id = event_id))",
    }
}

impl Store {
    /// Makes the partitions that are missing for a `span` of time, each of a `length` of whole days; one transaction for each. What is
    /// in the rest already moves into them. Returns how many were not made, because that would be too much. Errors: `Busy` when the
    /// tables were in use all the time.
    pub async fn make_partitions(&self, span: Period, length: Duration) -> Result<usize, StoreError> {
        self.change_tables(async move |client| {
            let mut left = 0;
            for (table, column) in TABLES {
                for period in missing(&periods(client, table).await?, span, length) {
                    let is_made = patiently(async || make(client, (table, column), period).await).await?;
                    left += usize::from(!is_made);
                }
            }
            Ok(left)
        })
        .await
    }

    /// The partitions whose periods were over at `before`, in the order in which they can go; one transaction.
    pub async fn old_partitions(&self, before: Timestamp) -> Result<Vec<Partition>, StoreError> {
        let old = move |connection: &Connection| {
            let mut old = Vec::new();
            for (table, _) in TABLES {
                let all = connection.query(&select_partitions(table), &[], |row| read_partition(table, row))?;
                old.extend(all.into_iter().filter(|partition| partition.period.until <= before));
            }
            old.sort_by_key(|partition| partition.period);
            Ok(old)
        };
        if self.is_shared() { self.read(old).await } else { Ok(Vec::new()) }
    }

    /// Gives up to `limit` open deliveries that were made before `until` the payload, which they may outlive; one transaction. Returns
    /// to how many.
    pub async fn carry_payloads(&self, until: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let until = DeliveryId::first_at(until + EVENT_DELAY);
        let old = move |connection: &Connection| {
            let sql = format!(
                "WITH RECURSIVE {found} SELECT d.webhook_id, d.id FROM found JOIN {OPEN_TABLE} d
                     ON d.webhook_id = found.webhook_id AND d.id < $1 AND d.payload IS NULL LIMIT $2",
                found = webhooks_in(OPEN_TABLE)
            );
            let read = |row: &Row<'_>| Ok((row.get::<WebhookId>(0)?, row.get::<DeliveryId>(1)?));
            connection.query(&sql, &values![until, limit], read)
        };
        let old = self.read(old).await?;
        let carry = move |connection: &Connection| {
            let sql = format!(
                "UPDATE {OPEN_TABLE} d SET payload = e.payload FROM events e
                 WHERE e.id = d.event_id AND d.webhook_id = $1 AND d.id = $2 AND d.payload IS NULL"
            );
            let changed = connection.execute_each(&sql, old.iter().map(|(webhook_id, id)| values![*webhook_id, *id]))?;
            Ok(changed.into_iter().sum())
        };
        self.write(carry).await
    }

    /// Drops a partition; what is still needed of it moves into the rest. One transaction. Those of a period have to go one after the
    /// other. False when too much of it is needed. Errors: `Busy` when the table was in use all the time.
    pub async fn drop_partition(&self, partition: Partition) -> Result<bool, StoreError> {
        self.change_tables(async move |client| patiently(async || drop_whole(client, &partition).await).await).await
    }

    /// Works with a connection that nobody else waits for.
    async fn change_tables<T: Default + Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Database::Server(server) = self.database().clone() else {
            return Ok(T::default());
        };
        let changing = move || Session::connect(&server, CHANGE_TIME_LIMIT)?.with_client(TIME_LIMIT, work);
        tokio::task::spawn_blocking(changing).await.map_err(|_| StoreError::Closed)?
    }
}

/// Again and again while the locks are not to be had.
async fn patiently<T>(mut work: impl AsyncFnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 1..TRIES {
        match work().await {
            Err(StoreError::Busy | StoreError::Undone) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    work().await
}

/// Makes a partition, unless somebody else did. Whether it can be made.
async fn make(client: &mut Client, (table, column): (&'static str, &str), period: Period) -> Result<bool, StoreError> {
    let change = client.transaction().await?;
    // Whoever else makes it is waited for, whoever uses the tables only shortly.
    change.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    if periods(&change, table).await?.iter().any(|other| other.contains(period.from)) {
        return Ok(true);
    }
    let (from, until) = (EventId::first_at(period.from), EventId::first_at(period.until));
    let within = format!("{column} >= '{from}' AND {column} < '{until}'");
    let name = name_of(table, period);
    wait_shortly(&change).await?;
    change.batch_execute(&format!("LOCK TABLE {table}_rest IN ACCESS EXCLUSIVE MODE")).await?;
    if count(&change, &format!("FROM {table}_rest WHERE {within}")).await? > MOST_MOVED {
        return Ok(false);
    }
    let make = format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING ALL);
         WITH moved AS (DELETE FROM {table}_rest WHERE {within} RETURNING *) INSERT INTO {name} SELECT * FROM moved;
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{until}')"
    );
    change.batch_execute(&make).await?;
    change.commit().await?;
    Ok(true)
}

/// Whether a partition can be dropped, and was.
async fn drop_whole(client: &mut Client, Partition { table, name, period }: &Partition) -> Result<bool, StoreError> {
    let (from, until) = (DeliveryId::first_at(period.from), DeliveryId::first_at(period.until));
    // Nothing of this period opens any more: what was over is gone. So those that are open can only become fewer.
    let open = match *table {
        "attempts" => open_between(client, from, until).await?,
        _ => Vec::new(),
    };
    let needed = (!open.is_empty()).then(|| format!("FROM {name} WHERE delivery_id IN ({})", list(&open)));
    if let Some(needed) = &needed
        && (open.len() > MOST_MOVED || count(client, needed).await? > MOST_MOVED)
    {
        return Ok(false);
    }
    let change = client.transaction().await?;
    wait_shortly(&change).await?;
    change.batch_execute(&format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")).await?;
    if *table == "events" && is_needed(&change, *period).await? {
        return Ok(false);
    }
    if let Some(needed) = needed {
        let save = format!("ALTER TABLE {table} DETACH PARTITION {name}; INSERT INTO {table} SELECT * {needed}");
        change.batch_execute(&save).await?;
    }
    change.batch_execute(&format!("DROP TABLE {name}")).await?;
    change.commit().await?;
    Ok(true)
}

/// Up to more than can be moved of the deliveries that are open and were made within a time.
async fn open_between(client: &Client, from: DeliveryId, until: DeliveryId) -> Result<Vec<DeliveryId>, StoreError> {
    let sql = format!(
        "WITH RECURSIVE {found} SELECT d.id FROM found JOIN {OPEN_TABLE} d
             ON d.webhook_id = found.webhook_id AND d.id >= '{from}' AND d.id < '{until}' LIMIT {most}",
        found = webhooks_in(OPEN_TABLE),
        most = MOST_MOVED + 1
    );
    client.query(&sql, &[]).await?.iter().map(|row| Row::Postgres(row).get(0)).collect()
}

/// Whether an open delivery has its payload nowhere else than in the events of a period, or one of these still waits for others.
async fn is_needed(change: &Transaction<'_>, period: Period) -> Result<bool, StoreError> {
    let (from, until) = (EventId::first_at(period.from), EventId::first_at(period.until));
    let before = DeliveryId::first_at(period.until + EVENT_DELAY);
    let needed = format!(
        "FROM found JOIN {OPEN_TABLE} d ON d.webhook_id = found.webhook_id AND d.id < '{before}' AND d.payload IS NULL
             AND d.event_id >= '{from}' AND d.event_id < '{until}'"
    );
    let waits = format!("FROM gathered WHERE event_id >= '{from}' AND event_id < '{until}'");
    let sql = format!(
        "WITH RECURSIVE {} SELECT COUNT(*) FROM (SELECT 1 {needed} UNION ALL SELECT 1 {waits} LIMIT 1) AS one",
        webhooks_in(OPEN_TABLE)
    );
    let row = change.query_one(&sql, &[]).await?;
    Ok(Row::Postgres(&row).get::<i64>(0)? > 0)
}

/// From here on a transaction waits for locks as little as those who wait for it should have to, and ends soon when this process stops.
async fn wait_shortly(change: &Transaction<'_>) -> Result<(), StoreError> {
    let (lock_ms, silence_ms) = (LOCK_TIME_LIMIT.as_millis(), CHANGE_TIME_LIMIT.as_millis());
    let limits = format!("SET LOCAL lock_timeout = {lock_ms}; SET LOCAL idle_in_transaction_session_timeout = {silence_ms}");
    Ok(change.batch_execute(&limits).await?)
}

/// How many rows there are, up to one more than can be moved.
async fn count(client: &impl GenericClient, rows: &str) -> Result<usize, StoreError> {
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 {rows} LIMIT {}) AS counted", MOST_MOVED + 1);
    let row = client.query_one(&sql, &[]).await?;
    Row::Postgres(&row).get(0)
}

async fn periods(client: &impl GenericClient, table: &'static str) -> Result<Vec<Period>, StoreError> {
    let rows = client.query(&select_partitions(table), &[]).await?;
    rows.iter().map(|row| Ok(read_partition(table, &Row::Postgres(row))?.period)).collect()
}

/// The names of a table's partitions but that for the rest, and the ids between which theirs are.
fn select_partitions(table: &str) -> String {
    format!(
        "SELECT name, substring(bounds FROM 'FROM \\(''([^'']+)''\\)')::uuid, substring(bounds FROM 'TO \\(''([^'']+)''\\)')::uuid
         FROM (SELECT c.relname::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '{table}'::regclass) AS p
         WHERE bounds LIKE 'FOR VALUES FROM%'"
    )
}

fn read_partition(table: &'static str, row: &Row<'_>) -> Result<Partition, StoreError> {
    let (from, until) = (row.get::<EventId>(1)?.made_at(), row.get::<EventId>(2)?.made_at());
    Ok(Partition { table, name: row.get(0)?, period: Period { from, until } })
}

/// As in `events_20260225`.
fn name_of(table: &str, period: Period) -> String {
    let date: String = period.from.to_string().chars().take_while(|letter| *letter != 'T').filter(char::is_ascii_digit).collect();
    format!("{table}_{date}")
}

fn list(ids: &[DeliveryId]) -> String {
    ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ")
}
