//! A database that an earlier version made keeps what is in it.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

use bellwether_store::{Database, Migration, Store};
use rusqlite::Connection;

/// What version 1 had, with two deliveries of one event, one of which has failed twice and waits.
const VERSION_1: &str = "
    INSERT INTO sites VALUES (x'01', 'example.com', 'Example', 'UTC', 0, 0, NULL);
    INSERT INTO webhooks VALUES (zeroblob(16), x'01', 'A', 'https://example.com/', x'00', 1, NULL, NULL, 0, 0, NULL);
    INSERT INTO events VALUES (x'02', x'01', 'goal_completion', '{}', 0);
    INSERT INTO deliveries VALUES
        (zeroblob(16), x'03', x'02', NULL, 'goal_completion', 'u', 'success', 1, 200, 1, NULL, NULL, NULL, 0, 5, 0),
        (zeroblob(16), x'04', x'02', NULL, 'goal_completion', 'u', 'retrying', 2, 500, 1, 'e', NULL, 9, 0, NULL, 0);";

#[tokio::test]
async fn version_1_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("test.db");
    let database = Database::File(path.clone());
    let store = Store::open(&database, Migration::Run).await.expect("a store");
    store.close().await;
    let connection = Connection::open(&path).expect("a connection");
    connection.execute_batch(&back_to_version_1(&connection)).expect("version 1");
    connection.execute_batch(VERSION_1).expect("its rows");
    drop(connection);

    let store = Store::open(&database, Migration::Run).await.expect("a store");
    store.check().await.expect("a database");
    let connection = Connection::open(&path).expect("a connection");
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(number("SELECT delivery_count FROM events"), 2);
    assert_eq!(number("SELECT counted_attempts FROM deliveries WHERE status = 'retrying'"), 2);
    assert_eq!(number("SELECT COUNT(*) FROM deliveries WHERE event_count = 1"), 2);
    assert_eq!(number("SELECT COUNT(*) FROM webhooks WHERE batch IS NULL AND headers IS NULL AND failing_since_us IS NULL"), 1);
}

/// Everything anew, as the first migration makes it.
fn back_to_version_1(connection: &Connection) -> String {
    let names = "SELECT 'DROP TABLE ' || name || ';' FROM sqlite_schema
                 WHERE type = 'table' AND name <> 'refinery_schema_history' AND name NOT LIKE 'sqlite_%'";
    let mut select = connection.prepare(names).expect("a statement");
    let drops = select.query_map([], |row| row.get::<_, String>(0)).expect("tables").collect::<Result<String, _>>();
    let begin = include_str!("../migrations/sqlite/V1__begin.sql");
    format!("{}{begin}DELETE FROM refinery_schema_history WHERE version > 1;", drops.expect("tables"))
}
