//! The store on SQLite.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

mod suite;

use bellwether_testkit::database::Engine;

const ENGINE: Engine = Engine::Sqlite;

#[tokio::test]
async fn sessions_that_are_over_are_found_by_an_index() {
    let rig = suite::rig::Rig::new().await;
    let sql = "EXPLAIN QUERY PLAN DELETE FROM sessions WHERE expires_at_us <= 1";
    let plan = rig.store.read(|connection| connection.lines(sql)).await.expect("a plan");
    assert!(plan.iter().any(|line| line.contains("sessions_expiry")), "{plan:?}");
}
