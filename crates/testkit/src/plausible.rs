//! An install of Plausible, as far as others see it: its tables in a ClickHouse and in a PostgreSQL, and rows that come late.
//!
//! The tables are those of its Community Edition. An account that may only read is made for whoever looks at them.

use tokio_postgres::Client;

use crate::clickhouse::ClickHouse;
use crate::database::{Database, Engine, connect};

/// Rows wait in a buffer for so many seconds at most.
const MAX_LATE_SECONDS: u64 = 6;

/// An install with tables of its own, which are gone when the servers are stopped.
pub struct Plausible {
    clickhouse: ClickHouse,
    postgres: Client,
    reader_url: String,
    version: Version,
}

/// What its tables look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// As today.
    Current,
    /// Before there were scroll depths, revenue, and properties of goals.
    Old,
}

/// A row of `events_v2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `timestamp`, in seconds since 1970.
    pub second: u32,
    /// `name`.
    pub name: &'static str,
    /// `site_id`.
    pub site: u64,
    /// `user_id`; the session is told from it.
    pub user: u64,
    /// `pathname`.
    pub pathname: String,
    /// `referrer_source`.
    pub source: &'static str,
    /// `meta.key` and `meta.value`.
    pub props: Vec<(&'static str, &'static str)>,
    /// `scroll_depth`.
    pub scroll_depth: u8,
    /// `revenue_source_amount` and `revenue_source_currency`.
    pub revenue: Option<(&'static str, &'static str)>,
}

/// The buffer that rows wait in: they come out late, many at a time, and in no order.
#[derive(Default)]
pub struct Buffer {
    waiting: Vec<(u32, Row)>,
    state: u64,
}

impl Row {
    /// A pageview.
    pub fn pageview(site: u64, second: u32, user: u64, pathname: &str) -> Self {
        let pathname = pathname.to_owned();
        Self { second, name: "pageview", site, user, pathname, source: "", props: Vec::new(), scroll_depth: 255, revenue: None }
    }

    fn values(&self, version: Version) -> String {
        let Self { second, name, site, user, pathname, source, props, scroll_depth, revenue } = self;
        let texts = |texts: Vec<&str>| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        let (keys, values) = props.iter().copied().unzip();
        let common = format!(
            "({second}, {}, {site}, {user}, {}, 'example.com', {}, '', {}, [{}], [{}]",
            quoted(name),
            user / 2,
            quoted(pathname),
            quoted(source),
            texts(keys),
            texts(values),
        );
        let (amount, currency) = revenue.map_or(("NULL".to_owned(), ""), |(amount, currency)| (quoted(amount), currency));
        match version {
            Version::Current => format!("{common}, {scroll_depth}, 0, {amount}, {})", quoted(currency)),
            Version::Old => format!("{common})"),
        }
    }
}

impl Plausible {
    /// A new install without sites.
    #[expect(clippy::expect_used, reason = "a test without a server cannot go on")]
    pub async fn install(version: Version) -> Self {
        let clickhouse = ClickHouse::temporary().await;
        clickhouse.execute(&events(version)).await;
        let database = Database::temporary_on(Engine::Postgres).await;
        let postgres = connect(&database.url()).await;
        postgres.batch_execute(tables(version)).await.expect("tables");
        let name: String = postgres.query_one("SELECT current_database()::text", &[]).await.expect("a name").get(0);
        let reader = format!("reader_of_{name}");
        let account = format!(
            "CREATE ROLE {reader} LOGIN; GRANT CONNECT ON DATABASE {name} TO {reader}; GRANT USAGE ON SCHEMA public TO {reader};
             GRANT SELECT ON sites, goals TO {reader}"
        );
        postgres.batch_execute(&account).await.expect("an account");
        let reader_url = database.url().replace("postgres@", &format!("{reader}@"));
        Self { clickhouse, postgres, reader_url, version }
    }

    /// The URL of its ClickHouse database.
    pub fn clickhouse_url(&self) -> String {
        self.clickhouse.url()
    }

    /// The URL of its PostgreSQL database, for an account that may only read.
    pub fn postgres_url(&self) -> &str {
        &self.reader_url
    }

    /// Its ClickHouse database.
    pub fn clickhouse(&self) -> &ClickHouse {
        &self.clickhouse
    }

    /// Changes something in PostgreSQL, as Plausible itself does.
    #[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
    pub async fn change(&self, sql: &str) {
        self.postgres.batch_execute(sql).await.expect("a statement");
    }

    /// Adds a site that was made at a second.
    pub async fn add_site(&self, id: u64, domain: &str, made_at: u32) {
        let made_at = format!("to_timestamp({made_at}) AT TIME ZONE 'UTC'");
        let values = format!("({id}, {}, 'Europe/Berlin', {made_at}, {made_at})", quoted(domain));
        self.change(&format!("INSERT INTO sites (id, domain, timezone, inserted_at, updated_at) VALUES {values}")).await;
    }

    /// Adds a goal that was made at a second; `columns` and `values` are those beside.
    pub async fn add_goal(&self, id: u64, site: u64, made_at: u32, (columns, values): (&str, &str)) {
        let made_at = format!("to_timestamp({made_at}) AT TIME ZONE 'UTC'");
        let sql = format!(
            "INSERT INTO goals (id, site_id, inserted_at, updated_at, {columns}) VALUES ({id}, {site}, {made_at}, {made_at}, {values})"
        );
        self.change(&sql).await;
    }

    /// Writes rows into ClickHouse, in one batch.
    pub async fn write(&self, rows: &[Row]) {
        if rows.is_empty() {
            return;
        }
        let columns = match self.version {
            Version::Current => ", scroll_depth, engagement_time, revenue_source_amount, revenue_source_currency",
            Version::Old => "",
        };
        let rows = rows.iter().map(|row| row.values(self.version)).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "INSERT INTO events_v2 (timestamp, name, site_id, user_id, session_id, hostname, pathname, referrer, referrer_source,
                                    meta.key, meta.value{columns}) VALUES {rows}"
        );
        self.clickhouse.execute(&sql).await;
    }

    /// Whether nothing in it but what Plausible itself does has changed since: what is in its tables, in text.
    #[expect(clippy::expect_used, reason = "a test without a database cannot go on")]
    pub async fn contents(&self) -> Vec<String> {
        let mut contents = self.clickhouse.texts("SELECT tuple(*) FROM events_v2 ORDER BY tuple(*)").await;
        contents.extend(
            self.clickhouse.texts("SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name").await,
        );
        for sql in [
            "SELECT sites::text FROM sites ORDER BY id",
            "SELECT goals::text FROM goals ORDER BY id",
            "SELECT c.relname || c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'public' ORDER BY c.relname",
        ] {
            let rows = self.postgres.query(sql, &[]).await.expect("rows");
            contents.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        contents
    }
}

impl Buffer {
    /// A buffer whose rows come out in an order and at times that follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self { waiting: Vec::new(), state: seed }
    }

    /// Puts a row in. It comes out up to six seconds after its time.
    pub fn put(&mut self, row: Row) {
        let late = u32::try_from(self.random() % (MAX_LATE_SECONDS + 1)).unwrap_or(0);
        self.waiting.push((row.second + late, row));
    }

    /// Takes out what is to be written by a second, in no order.
    pub fn flush(&mut self, now: u32) -> Vec<Row> {
        let mut due: Vec<_> = self.waiting.extract_if(.., |(due_at, _)| *due_at <= now).map(|(_, row)| row).collect();
        for index in (1..due.len()).rev() {
            due.swap(index, usize::try_from(self.random() % (index as u64 + 1)).unwrap_or(0));
        }
        due
    }

    /// SplitMix64.
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn events(version: Version) -> String {
    let columns = match version {
        Version::Current => {
            ", `scroll_depth` UInt8, `engagement_time` UInt32,
             `revenue_source_amount` Nullable(Decimal(18, 3)), `revenue_source_currency` FixedString(3),
             `revenue_reporting_amount` Nullable(Decimal(18, 3)), `revenue_reporting_currency` FixedString(3)"
        }
        Version::Old => "",
    };
    format!(
        "CREATE TABLE events_v2 (
            `timestamp` DateTime CODEC(Delta(4), LZ4), `name` LowCardinality(String), `site_id` UInt64, `user_id` UInt64,
            `session_id` UInt64, `hostname` String, `pathname` String, `referrer` String, `referrer_source` String,
            `country_code` FixedString(2), `screen_size` LowCardinality(String), `operating_system` LowCardinality(String),
            `browser` LowCardinality(String), `utm_medium` String, `utm_source` String, `utm_campaign` String,
            `meta.key` Array(String), `meta.value` Array(String){columns}
         ) ENGINE = MergeTree PARTITION BY toYYYYMM(timestamp)
         PRIMARY KEY (site_id, toDate(timestamp), name, user_id)
         ORDER BY (site_id, toDate(timestamp), name, user_id, timestamp) SAMPLE BY user_id"
    )
}

fn tables(version: Version) -> &'static str {
    match version {
        Version::Current => {
            "CREATE TABLE sites (
                 id bigserial PRIMARY KEY, domain varchar(255) NOT NULL UNIQUE, timezone varchar(255) NOT NULL DEFAULT 'UTC',
                 locked boolean NOT NULL DEFAULT false, native_stats_start_at timestamp(0), domain_changed_from varchar(255),
                 domain_changed_at timestamp(0), accept_traffic_until date, team_id bigint,
                 inserted_at timestamp(0) NOT NULL, updated_at timestamp(0) NOT NULL);
             CREATE TABLE goals (
                 id bigserial PRIMARY KEY, site_id bigint NOT NULL REFERENCES sites (id) ON DELETE CASCADE, event_name text,
                 page_path text, display_name text NOT NULL, currency varchar(255), scroll_threshold smallint NOT NULL DEFAULT -1,
                 custom_props jsonb NOT NULL DEFAULT '{}', inserted_at timestamp(0) NOT NULL, updated_at timestamp(0) NOT NULL,
                 UNIQUE (site_id, display_name));"
        }
        Version::Old => {
            "CREATE TABLE sites (
                 id bigserial PRIMARY KEY, domain varchar(255) NOT NULL UNIQUE, timezone varchar(255) NOT NULL DEFAULT 'UTC',
                 inserted_at timestamp(0) NOT NULL, updated_at timestamp(0) NOT NULL);
             CREATE TABLE goals (
                 id bigserial PRIMARY KEY, site_id bigint NOT NULL REFERENCES sites (id) ON DELETE CASCADE, event_name text,
                 page_path text, inserted_at timestamp(0) NOT NULL, updated_at timestamp(0) NOT NULL);"
        }
    }
}
