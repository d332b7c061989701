//! The store on PostgreSQL.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

mod import;
mod partitions;
#[path = "../suite/mod.rs"]
mod suite;

use std::net::SocketAddr;
use std::time::Duration;

use bellwether_domain::counting::CountedIn;
use bellwether_domain::id::{DeliveryId, OwnerId, WebhookId};
use bellwether_domain::roles::Roles;
use bellwether_domain::visitor::Salt;
use bellwether_store::{Migration, NewDelivery, NewEvent, SealedWebhook, Store, StoreError};
use bellwether_testkit::cable::Cable;
use bellwether_testkit::database::{Database, Engine};
use serde_json::json;
use tokio_postgres::{Client, NoTls};

use suite::people::user;
use suite::rig::Rig;

const ENGINE: Engine = Engine::Postgres;

/// Somebody who is taken for dead, and does not know it yet, gets nothing that nobody would free.
#[tokio::test]
async fn nothing_becomes_the_work_of_the_dead() {
    let rig = Rig::new().await;
    let (webhook, dead) = (WebhookId::new(&rig.ambient), rig.owner().await);
    let id = rig.deliveries(webhook, 1, None).await[0];
    rig.store.bury(vec![(dead, 0)]).await.expect("a funeral");
    let is_refused = |result: Result<(), StoreError>| matches!(result, Err(StoreError::TakenForDead));
    let mut event = rig.event(&[webhook]);
    event.deliveries[0].owner = Some(dead);
    assert!(is_refused(rig.store.add_events([event.clone()].into()).await));
    assert!(is_refused(rig.store.claim(dead, rig.now(), vec![(webhook, 10)]).await.map(|_| ())));
    let again = NewDelivery { id: DeliveryId::new(&rig.ambient), ..event.deliveries.remove(0) };
    assert!(is_refused(rig.store.resend(id, again, rig.now()).await.map(|_| ())));
    let living = rig.owner().await;
    assert_eq!(rig.claimed_ids(living, 10).await, [id], "and nothing of it was kept");
}

/// Each has shown the code to another process.
#[tokio::test]
async fn of_those_who_would_be_first_at_a_time_one_is() {
    let database = Database::temporary_on(ENGINE).await;
    let rigs = [Rig::on(&database).await, Rig::on(&database).await, Rig::on(&database).await];
    rigs[0].store.keep_setup_nonce([1; 16]).await.expect("an answer");
    let users = ["a@example.com", "b@example.com", "c@example.com"].map(|email| user(&rigs[0], email, true));
    let added = rigs.iter().zip(users).map(|(rig, user)| rig.store.add_first_user(user));
    let added = futures_util::future::join_all(added).await;
    assert_eq!(added.iter().filter(|added| added.is_ok()).count(), 1, "{added:?}");
    for rig in rigs {
        rig.store.close().await;
    }
}

#[tokio::test]
async fn what_one_process_has_to_count_is_refused_where_several_take_events() {
    let rig = Rig::new().await;
    let (site, _) = (rig.site("example.com").await.id, rig.owner().await);
    let counting = || rig.unsaved_webhook(site, vec![rig.trigger(&json!({"type": "visitor_spike"}))]);
    let add = async || rig.store.add_webhook(counting(), 10, true).await;
    let senders = Roles { ingest: false, ..Roles::ALL };
    rig.store.add_owner(OwnerId::new(&rig.ambient), senders, CountedIn::Memory).await.expect("one that takes no events");
    add().await.expect("a webhook");
    let mut webhook = rig.webhook(site, vec![]).await;
    let second = rig.owner().await;
    assert!(matches!(add().await, Err(StoreError::Spread)));
    rig.store.add_webhook(counting(), 10, false).await.expect("a webhook that nobody counts for in memory");
    let before = webhook.updated_at;
    webhook.triggers = counting().webhook.triggers;
    let changed = SealedWebhook { webhook, ..counting() };
    assert!(matches!(rig.store.update_webhook(changed, before, vec![], true).await, Err(StoreError::Spread)));
    rig.store.bury(vec![(second, 0)]).await.expect("a funeral");
    add().await.expect("a webhook");
}

/// One of the two waits for the other, whichever comes first.
#[tokio::test]
async fn a_change_and_a_process_that_come_at_the_same_moment_find_each_other() {
    let database = Database::temporary_on(ENGINE).await;
    let rig = Rig::on(&database).await;
    let (site, _) = (rig.site("example.com").await.id, rig.owner().await);
    let counting = rig.unsaved_webhook(site, vec![rig.trigger(&json!({"type": "visitor_spike"}))]);
    let (other, connection) = tokio_postgres::connect(&database.url(), NoTls).await.expect("a connection");
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    let owner = OwnerId::new(&rig.ambient);

    other.batch_execute("BEGIN; UPDATE revisions SET number = number + 1").await.expect("a change that has its number");
    let mut beginning = Box::pin(rig.store.add_owner(owner, Roles::ALL, CountedIn::Memory));
    tokio::select! {
        begun = &mut beginning => panic!("it did not wait: {begun:?}"),
        () = somebody_waits(&other) => {}
    }
    other.batch_execute("COMMIT").await.expect("the change");
    beginning.await.expect("an owner");
    rig.store.give_back(owner).await.expect("the end of it");

    let begin = "BEGIN; SELECT number FROM revisions FOR UPDATE; INSERT INTO owners (id, sign) VALUES (gen_random_uuid(), 0)";
    other.batch_execute(begin).await.expect("a process that begins");
    let mut adding = Box::pin(rig.store.add_webhook(counting, 10, true));
    tokio::select! {
        added = &mut adding => panic!("it did not wait: {added:?}"),
        () = somebody_waits(&other) => {}
    }
    other.batch_execute("COMMIT").await.expect("the process");
    assert!(matches!(adding.await, Err(StoreError::Spread)));
    rig.store.close().await;
}

/// Waits until a session of the database waits for a lock.
async fn somebody_waits(client: &Client) {
    let sql = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while client.query(sql, &[]).await.expect("the sessions").is_empty() {
        looks.tick().await;
    }
}

/// A store through a cable, whose commits of salts wait for a lock, who holds the lock, and another store beside it.
async fn held_up() -> (Store, Cable, Client, Store, Database) {
    let database = Database::temporary_on(ENGINE).await;
    let (url, other) = (database.url(), database.store().await);
    let wait = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
                    BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON salts DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION wait()";
    other.write(|connection| connection.run_all(wait)).await.expect("a table that waits");
    let (holder, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.expect("the lock");
    let host = url.strip_prefix("postgres://postgres@").and_then(|rest| rest.split_once('/')).expect("a URL").0;
    let cable = Cable::lay(host.parse::<SocketAddr>().expect("an address")).await;
    let store = open(&url.replace(host, &cable.address().to_string())).await;
    (store.expect("a store"), cable, holder, other, database)
}

/// Cuts the cable while a commit waits, and lets that end while it is asked after.
async fn lose_the_answer(other: &Store, cable: &Cable, holder: &Client) {
    is_under_way(other, COMMIT).await;
    cable.sever().await;
    is_under_way(other, QUESTION).await;
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.expect("the lock");
}

async fn open(url: &str) -> Result<Store, StoreError> {
    let server = url.parse().expect("a URL");
    Store::open(&bellwether_store::Database::Server(Box::new(server)), Migration::Run).await
}

/// A commit that waits for the lock, and a statement that asks what became of one, as the server tells of them.
const COMMIT: &str = "query = 'COMMIT' AND wait_event_type = 'Lock'";
const QUESTION: &str = "query LIKE 'SELECT number::text FROM commits%' AND wait_event_type = 'Lock'";

/// Waits until a connection to the database does that, or did it last.
async fn is_under_way(other: &Store, statement: &str) {
    let sql = format!("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {statement}");
    let waiting = async {
        loop {
            let sql = sql.clone();
            if !other.read(move |connection| connection.lines(&sql)).await.expect("what is under way").is_empty() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("a statement");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_asked_after() {
    let (store, cable, holder, other, _database) = held_up().await;
    let keep = store.keep_salt(Salt { day: 7, key: [7; 16] }, 0);
    let (kept, ()) = tokio::join!(keep, lose_the_answer(&other, &cable, &holder));
    assert_eq!(kept.expect("what was kept").len(), 1);
    assert_eq!(other.read(|connection| connection.lines("SELECT day FROM salts")).await.expect("the days"), ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_broken_off_is_told_to_have_failed_and_the_next_works() {
    let (store, _cable, holder, other, _database) = held_up().await;
    let keep = store.keep_salt(Salt { day: 7, key: [7; 16] }, 0);
    let end =
        format!("SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity WHERE datname = current_database() AND {COMMIT}");
    let break_off = async {
        is_under_way(&other, COMMIT).await;
        assert_eq!(other.read(move |connection| connection.lines(&end)).await.expect("an end"), ["1"]);
    };
    let (kept, ()) = tokio::join!(keep, break_off);
    assert!(matches!(kept.map(|_| ()), Err(StoreError::Undone)));
    assert!(other.read(|connection| connection.lines("SELECT day FROM salts")).await.expect("the days").is_empty());
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.expect("the lock");
    assert_eq!(store.keep_salt(Salt { day: 8, key: [8; 16] }, 0).await.expect("what was kept").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_forgotten_writes_on_and_does_not_take_for_undone_what_nobody_remembers() {
    let (store, cable, holder, other, _database) = held_up().await;
    store.check().await.expect("a database");
    other.forget_commits(other.latest_commits().await.expect("the latest")).await.expect("forgotten");
    assert_eq!(other.latest_commits().await.expect("the latest").len(), 1, "but not the one that forgets them");
    store.check().await.expect("a database");
    assert_eq!(other.latest_commits().await.expect("the latest").len(), 2);

    let forget = "CREATE OR REPLACE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
                      BEGIN PERFORM pg_advisory_xact_lock(1); DELETE FROM commits; RETURN NULL; END $$";
    other.write(|connection| connection.run_all(forget)).await.expect("a table that waits and forgets");
    let keep = store.keep_salt(Salt { day: 7, key: [7; 16] }, 0);
    let (kept, ()) = tokio::join!(keep, lose_the_answer(&other, &cable, &holder));
    assert!(matches!(kept.map(|_| ()), Err(StoreError::InDoubt)));
    store.check().await.expect("a database");
}

/// PostgreSQL's details hold the whole row.
#[tokio::test]
async fn an_error_says_nothing_of_what_was_to_be_kept() {
    let rig = Rig::new().await;
    let strict = "ALTER TABLE events ADD CONSTRAINT strict CHECK (payload = '')";
    rig.store.write(|connection| connection.run_all(strict)).await.expect("a constraint");
    let event = NewEvent { payload: "swordfish".into(), ..rig.event(&[]) };
    let error = rig.store.add_events([event].into()).await.expect_err("a mistake").to_string();
    assert_eq!(error, r#"the database failed: new row for relation "events_rest" violates check constraint "strict""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_broke_in_between_is_replaced() {
    let (store, cable, _holder, _other, _database) = held_up().await;
    for _ in 0..2 {
        store.check().await.expect("a database");
        cable.sever().await;
    }
    store.check().await.expect("a database");
}

#[tokio::test]
async fn a_server_proves_who_it_is() {
    let database = Database::temporary_on(ENGINE).await;
    let url = database.url_with_tls();
    let store = open(&url).await.expect("a store");
    let sql = "SELECT ssl::int FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(store.read(|connection| connection.lines(sql)).await.expect("an answer"), ["1"]);
    let (unknown, _) = url.split_once("&sslrootcert").expect("a root");
    for (url, problem) in [
        (unknown.to_owned(), "invalid peer certificate: UnknownIssuer"),
        (url.replace("127.0.0.1", "localhost"), "invalid peer certificate: certificate not valid for name"),
        (unknown.replace("sslmode=require", "sslmode=prefer"), "UnknownIssuer; sslrootcert in its URL names the roots"),
        (format!("{unknown}&sslrootcert=/nowhere.pem"), "sslrootcert /nowhere.pem: "),
    ] {
        let refused = open(&url).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains(problem), "{url}: {refused}");
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_in_a_line() {
    let database = Database::temporary_on(ENGINE).await;
    let refused = |url: String| async move { open(&url).await.err().map(|error| error.to_string()).unwrap_or_default() };
    let missing = refused(database.url().replace("/test_", "/missing_")).await;
    assert!(missing.starts_with("the database cannot be reached: database \"missing_"), "{missing}");
    let (host, _) = database.url().rsplit_once(':').map(|(host, rest)| (host.to_owned(), rest.to_owned())).expect("a port");
    let closed = refused(format!("{host}:1/name?sslmode=disable")).await;
    assert!(closed.starts_with("the database cannot be reached: error connecting to server: "), "{closed}");
}
