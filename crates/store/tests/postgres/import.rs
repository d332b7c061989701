//! A SQLite file that is moved to a server: every row as it was, none twice, and nothing mixed with anything else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bellwether_domain::counting::CountedIn;
use bellwether_domain::id::OwnerId;
use bellwether_domain::roles::Roles;
use bellwether_store::{Import, ImportError, Migration, Server, Store, StoreError};
use bellwether_testkit::cable::Cable;
use bellwether_testkit::database::{Database, Engine};
use rusqlite::types::Value;
use tokio_postgres::{Client, NoTls};

use crate::{is_under_way, open};

/// Some of everything, with what is rare: nothing, zero bytes, long texts, the ends of numbers, and deliveries of a process that
/// was killed. There are more deliveries than are moved at a time.
const ROWS: &str = "
    INSERT INTO sites VALUES
        (x'00000000000000000000000000000001', 'example.com', CAST(x'41006200' AS TEXT), 'UTC', 1, 2, NULL, NULL),
        (x'00000000000000000000000000000002', 'bücher.example', '', 'Europe/Berlin', -1, 9223372036854775807, 7, 9),
        (x'ffffffffffffffffffffffffffffffff', 'bücher.example', 'again', 'Europe/Berlin', 3, 4, NULL, 9);
    INSERT INTO goals VALUES
        (x'00000000000000000000000000000011', x'00000000000000000000000000000001', printf('%.*c', 20000, 'x'), NULL, printf('/%.*c', 30000, 'y'), 50, '{}', NULL, 5),
        (x'00000000000000000000000000000012', x'00000000000000000000000000000001', 'Signup', 'Signup', NULL, -1, '{\"plan\":\"pro\"}', 'EUR', 6);
    INSERT INTO webhooks (id, site_id, name, url, secret, enabled, created_at_us, updated_at_us)
        VALUES (x'00000000000000000000000000000021', x'00000000000000000000000000000001', 'A', 'https://example.com/', x'00ff00', 1, 8, 8);
    INSERT INTO webhooks VALUES
        (x'00000000000000000000000000000022', x'00000000000000000000000000000002', 'B', 'u', zeroblob(60), 0, 'gone', '[1,2]', 1, 2, 3,
         x'0a0d00', 1000, x'00', 9, 4, '{\"preset\":\"slack\"}', x'00ff', '{\"max_events\":5}');
    INSERT INTO triggers VALUES
        (x'00000000000000000000000000000031', x'00000000000000000000000000000021', NULL, 0, '{\"type\":\"goal_completion\"}'),
        (x'00000000000000000000000000000032', x'00000000000000000000000000000021', x'00000000000000000000000000000012', 1, '{}');
    INSERT INTO keys VALUES
        (x'00000000000000000000000000000041', 'all', randomblob(32), NULL, 'admin', 1),
        (x'00000000000000000000000000000042', 'one', randomblob(32), x'00000000000000000000000000000001', 'viewer', 1);
    INSERT INTO users VALUES (x'00000000000000000000000000000051', 'ada@example.com', '$argon2id$x', 1, 1);
    INSERT INTO sessions VALUES (x'00000000000000000000000000000061', randomblob(32), x'00000000000000000000000000000051', 'Firefox', 1, 2, 3);
    INSERT INTO members VALUES (x'00000000000000000000000000000051', x'00000000000000000000000000000001', 'viewer', 1);
    INSERT INTO invitations VALUES (x'00000000000000000000000000000071', randomblob(32), x'00000000000000000000000000000001', 'admin', 1, 2);
    INSERT INTO salts VALUES (20000, randomblob(16)), (20001, zeroblob(16));
    INSERT INTO owners (id, sign) VALUES (x'00000000000000000000000000000091', 7);
    INSERT INTO crossings VALUES (x'00000000000000000000000000000031', 12, 1);
    INSERT INTO milestones VALUES (x'00000000000000000000000000000032', 20509, 5000000000, 5000000000, 7);
    INSERT INTO readings VALUES ('plausible', 1772020800);
    INSERT INTO told VALUES (x'00000000000000000000000000000093'), (x'00000000000000000000000000000094');
    INSERT INTO counts VALUES (x'00000000000000000000000000000031', '[1,2]');
    INSERT INTO replays VALUES
        (x'00000000000000000000000000000081', x'00000000000000000000000000000021', 'failed', 0, 9, zeroblob(16), 5, 4);
    INSERT INTO traffic VALUES (x'00000000000000000000000000000001', 29000000, 3, '0:12,3:1'), (x'00000000000000000000000000000001', 29000001, 0, '');
    INSERT INTO completions VALUES (x'00000000000000000000000000000001', 29000000, x'00000000000000000000000000000012', 2);
    INSERT INTO traffic_hours VALUES (x'00000000000000000000000000000001', 483333, 3, 13);
    INSERT INTO completion_hours VALUES (x'00000000000000000000000000000001', 483333, x'00000000000000000000000000000012', 2);
    INSERT INTO gathered VALUES (x'00000000000000000000000000000021', 5, x'00000000000000000000000000000007', 13);
    INSERT INTO batched VALUES (x'00000000000000000000000000000008', x'00000000000000000000000000000021', x'00000000000000000000000000000009');
    INSERT INTO sources VALUES
        (x'00000000000000000000000000000001', 'Hacker News', 20000, 20001, NULL),
        (x'00000000000000000000000000000001', 'bücher.example', 20000, 20001, 19000);
    INSERT INTO told_sources VALUES (x'00000000000000000000000000000031', 'Hacker News', 20000);
    INSERT INTO source_notes VALUES (1, 1728000000000000, 1728000060000000);
    INSERT INTO outcomes VALUES (x'00000000000000000000000000000021', 480000, 4294967296, 0);
    CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) SELECT i FROM n;
    INSERT INTO events SELECT unhex(printf('%032x', i)), x'00000000000000000000000000000001', 'goal_completion',
        CASE WHEN i % 9999 = 0 THEN printf('%.*c', 3000000, 'z') ELSE '{\"ä\":\"\\u0000\"}' END, i, 1 FROM n;
    INSERT INTO deliveries (webhook_id, id, event_id, trigger_id, event_type, url, status, attempt_count, counted_attempts, response_code,
            response_time_ms, error, owner, next_attempt_at_us, created_at_us, completed_at_us, test)
        SELECT iif(i % 2, x'00000000000000000000000000000021', x'00000000000000000000000000000022'), unhex(printf('%032x', i)),
            unhex(printf('%032x', i)), iif(i % 3, x'00000000000000000000000000000031', NULL), 'goal_completion', 'https://example.com/',
            iif(i % 5, 'success', 'retrying'), i % 7, i % 4, iif(i % 5, 200, NULL), iif(i % 5, 12, NULL), iif(i % 5, NULL, CAST(x'006500' AS TEXT)),
            iif(i % 10, NULL, x'00000000000000000000000000000091'), iif(i % 5, NULL, i), i, iif(i % 5, i + 1, NULL), i % 2 FROM n;
    CREATE TEMP TABLE again AS SELECT * FROM deliveries WHERE id = unhex(printf('%032x', 7));
    UPDATE again SET id = unhex('01' || printf('%030x', 7));
    INSERT INTO deliveries SELECT * FROM again;
    INSERT INTO attempts SELECT unhex(printf('%032x', i)), 1, i, 12, '{}', iif(i % 5, 200, NULL), CAST(x'00' AS TEXT), NULL FROM n;
    INSERT INTO attempts VALUES (zeroblob(16), 2, 1, 4294967296, '{\"a\":\"b\"}', 503, NULL, 'the endpoint answered 503');";

const TABLES: [&str; 29] = [
    "attempts",
    "batched",
    "completion_hours",
    "completions",
    "counts",
    "crossings",
    "deliveries",
    "events",
    "gathered",
    "goals",
    "invitations",
    "keys",
    "members",
    "milestones",
    "outcomes",
    "readings",
    "replays",
    "salts",
    "sessions",
    "sites",
    "source_notes",
    "sources",
    "told",
    "told_sources",
    "traffic",
    "traffic_hours",
    "triggers",
    "users",
    "webhooks",
];

/// A file with [`ROWS`], and a database whose schema is up to date.
struct Rig {
    _folder: tempfile::TempDir,
    path: PathBuf,
    database: Database,
    store: Store,
    client: Client,
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, database) = (folder.path().join("grown.db"), Database::temporary_on(Engine::Postgres).await);
        let file = bellwether_store::Database::File(path.clone());
        Store::open(&file, Migration::Run).await.expect("a file").close().await;
        let rows = rusqlite::Connection::open(&path).expect("the file").execute_batch(ROWS);
        rows.expect("its rows");
        let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.expect("a connection");
        #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
        tokio::spawn(connection);
        Self { _folder: folder, path, store: database.store().await, database, client }
    }

    /// Moves the file to the database at `url`.
    async fn import(&self, url: &str) -> Result<(), ImportError> {
        let (path, server) = (self.path.clone(), url.parse().expect("a URL"));
        tokio::task::spawn_blocking(move || import(&path, &server)).await.expect("no panic")
    }

    async fn import_all(&self) -> Result<(), ImportError> {
        self.import(&self.database.url()).await
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.expect("a statement");
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.expect("a row").get(0)
    }

    /// Every row is there as it is in the file, and nothing else.
    async fn is_the_same(&self) {
        for table in TABLES {
            let columns = columns(&self.path, table);
            let (expected, found) = (rows_of_file(&self.path, table, &columns), self.rows(table, &columns).await);
            assert!(!expected.is_empty(), "{table}");
            assert_eq!(expected.len(), found.len(), "{table}");
            expected.iter().zip(&found).for_each(|(expected, found)| assert_eq!(expected, found, "{table}"));
        }
    }

    /// These columns of a table's rows in text, in the order of the text.
    async fn rows(&self, table: &str, columns: &[String]) -> Vec<Vec<String>> {
        let kinds = "SELECT name, atttypid::regtype::text FROM unnest($2::text[]) WITH ORDINALITY AS found (name, place)
                     JOIN pg_attribute ON attrelid = $1::text::regclass AND attname = name ORDER BY place";
        let shown = |(name, kind): (String, String)| match kind.as_str() {
            "uuid" => format!("replace({name}::text, '-', '')"),
            "bytea" => format!("encode({name}, 'hex')"),
            "boolean" => format!("{name}::int::text"),
            _ => format!("{name}::text"),
        };
        let columns = self.client.query(kinds, &[&table, &columns]).await.expect("columns");
        let columns: Vec<_> = columns.iter().map(|row| shown((row.get(0), row.get(1)))).collect();
        let rows = self.client.query(&format!("SELECT {} FROM {table}", columns.join(", ")), &[]).await.expect("rows");
        let text = |row: &tokio_postgres::Row, index| row.get::<_, Option<String>>(index).unwrap_or_else(|| "NULL".to_owned());
        let mut rows: Vec<Vec<_>> = rows.iter().map(|row| (0..columns.len()).map(|index| text(row, index)).collect()).collect();
        rows.sort();
        rows
    }
}

fn import(path: &Path, server: &Server) -> Result<(), ImportError> {
    let mut import = Import::begin(path, server)?;
    if !import.is_done() {
        import.run(|_| ())?;
        import.finish()?;
    }
    Ok(())
}

/// All columns that are to be the same.
fn columns(path: &Path, table: &str) -> Vec<String> {
    let file = rusqlite::Connection::open(path).expect("the file");
    let sql = "SELECT name FROM pragma_table_info(?1) WHERE name <> 'owner' OR ?1 = 'users'";
    let mut select = file.prepare(sql).expect("a statement");
    select.query_map([table], |row| row.get(0)).expect("columns").collect::<Result<_, _>>().expect("names")
}

/// As [`Rig::rows`], of the file. What a server has in place of U+0000 stands for it.
fn rows_of_file(path: &Path, table: &str, columns: &[String]) -> Vec<Vec<String>> {
    let file = rusqlite::Connection::open(path).expect("the file");
    let text = |value: Value| match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.replace('\0', "\u{fffd}"),
        Value::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Real(number) => format!("the fraction {number}"),
    };
    let mut select = file.prepare(&format!("SELECT {} FROM {table}", columns.join(", "))).expect("a statement");
    let row = |row: &rusqlite::Row<'_>| (0..columns.len()).map(|index| row.get(index).map(text)).collect::<Result<Vec<_>, _>>();
    let mut rows = select.query_map([], row).expect("rows").collect::<Result<Vec<_>, _>>().expect("values");
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_as_it_was() {
    let rig = Rig::new().await;
    rig.import_all().await.expect("an import");
    rig.is_the_same().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM deliveries WHERE owner IS NOT NULL").await, 0, "nobody is alive");
    let own = "SELECT COUNT(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.payload = e.payload";
    assert_eq!(rig.number(own).await, 1, "what was sent again may outlive its event");
    assert_eq!(rig.number("SELECT COUNT(DISTINCT revision) FROM sites WHERE revision > 0").await, 3, "others follow");
    assert_eq!(rig.number("SELECT MAX(revision) - MAX(number) FROM sites, revisions").await, 0);
    rig.run("DELETE FROM outcomes").await;
    rig.import_all().await.expect("nothing to do");
    assert_eq!(rig.number("SELECT COUNT(*) FROM outcomes").await, 0, "what was imported is not looked at any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_breaks_off_goes_on_where_it_was() {
    let rig = Rig::new().await;
    let wait = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
                    BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
                CREATE TRIGGER wait AFTER INSERT ON deliveries FOR EACH ROW
                WHEN (NEW.id = '00000000-0000-0000-0000-000000003038') EXECUTE FUNCTION wait()";
    rig.run(wait).await;
    rig.run("SELECT pg_advisory_lock(1)").await;
    let url = rig.database.url();
    let host = url.strip_prefix("postgres://postgres@").and_then(|rest| rest.split_once('/')).expect("a URL").0;
    let cable = Cable::lay(host.parse::<SocketAddr>().expect("an address")).await;
    let through_cable = url.replace(host, &cable.address().to_string());
    let sever = async {
        is_under_way(&rig.store, "query LIKE 'COPY deliveries%' AND wait_event = 'advisory'").await;
        cable.sever().await;
    };
    let (broken_off, ()) = tokio::join!(rig.import(&through_cable), sever);
    assert!(matches!(&broken_off, Err(ImportError::Table { table: "deliveries", .. })), "{broken_off:?}");
    let begun = rig.number("SELECT moved FROM imports WHERE table_name = 'deliveries' AND NOT done").await;
    assert!(begun > 0 && begun == rig.number("SELECT COUNT(*) FROM deliveries").await, "{begun}");

    let refused = rig.store.add_owner(OwnerId::from_bytes([1; 16]), Roles::ALL, CountedIn::Memory).await;
    assert!(matches!(refused, Err(StoreError::HalfImported)), "no server starts meanwhile: {refused:?}");
    rig.run("SELECT pg_advisory_unlock(1)").await;
    rig.import_all().await.expect("an import");
    rig.is_the_same().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_mixed_with_nothing() {
    let rig = Rig::new().await;
    rig.run("INSERT INTO users VALUES ('00000000-0000-0000-0000-000000000001', 'eve@example.com', 'x', TRUE, 1)").await;
    let refused = rig.import_all().await;
    assert!(matches!(refused, Err(ImportError::NotEmpty("users"))), "{refused:?}");
    assert_eq!(rig.number("SELECT COUNT(*) FROM imports").await, 0);

    // What a server makes by itself is no data.
    rig.run("DELETE FROM users; INSERT INTO salts VALUES (20001, 'xxxxxxxxxxxxxxxx')").await;
    rig.import_all().await.expect("an import");
    rig.is_the_same().await;

    let changed = rusqlite::Connection::open(&rig.path).expect("the file").execute_batch("DELETE FROM outcomes");
    changed.expect("a statement");
    let refused = rig.import_all().await;
    assert!(matches!(refused, Err(ImportError::Another)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_has_other_rows_at_the_end_is_named() {
    let rig = Rig::new().await;
    let late = "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$
                    BEGIN INSERT INTO crossings VALUES ('00000000-0000-0000-0000-000000000099', 1, TRUE); RETURN NULL; END $$;
                CREATE TRIGGER more AFTER INSERT ON outcomes EXECUTE FUNCTION more()";
    rig.run(late).await;
    let refused = rig.import_all().await.expect_err("a difference").to_string();
    assert_eq!(refused, "the table crossings has 2 rows, and in the file 1");
    assert_eq!(rig.number("SELECT COUNT(*) FROM imports WHERE done").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_table_does_not_take_is_told_with_its_name() {
    let rig = Rig::new().await;
    rig.run("ALTER TABLE keys ADD CONSTRAINT strict CHECK (name <> 'one')").await;
    let refused = rig.import_all().await.expect_err("a mistake").to_string();
    assert!(refused.starts_with(r#"the table keys: the database failed: new row for relation "keys" violates"#), "{refused}");
    rig.run("ALTER TABLE keys DROP CONSTRAINT strict").await;
    tokio::time::timeout(Duration::from_secs(60), rig.import_all()).await.expect("an end").expect("an import");
    rig.is_the_same().await;
    open(&rig.database.url()).await.expect("a store").check().await.expect("a database");
}
