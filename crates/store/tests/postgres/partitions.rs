//! History in partitions: they are there before they are needed, and go as wholes without anything that is still wanted.

use std::time::Duration;

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, WebhookId};
use bellwether_domain::period::{AHEAD, Period};
use bellwether_domain::time::Timestamp;
use bellwether_store::{DueDelivery, NewDelivery, Store};
use bellwether_testkit::database::Database;

use crate::suite::rig::{EVERYTHING, FIRST_PAGE, Rig};

const DAY: Duration = Duration::from_secs(86_400);

/// Makes partitions for a time of the rig's from now on; none may be left to the rest.
async fn make_partitions(rig: &Rig, time: Duration) {
    let span = Period { from: rig.now(), until: rig.now() + time };
    assert_eq!(rig.store.make_partitions(span, DAY).await.expect("partitions"), 0);
}

/// Drops everything whose period was over at a time, as pruning does. Returns how many partitions stay, since much of them is needed.
async fn drop_old(rig: &Rig, before: Timestamp) -> usize {
    let mut left = 0;
    for partition in rig.store.old_partitions(before).await.expect("partitions") {
        while rig.store.carry_payloads(partition.period().until, 2).await.expect("payloads") > 0 {}
        left += usize::from(!rig.store.drop_partition(partition).await.expect("dropped"));
    }
    left
}

async fn lines(store: &Store, sql: &'static str) -> Vec<String> {
    store.read(move |connection| connection.lines(sql)).await.expect("an answer")
}

/// The partitions that rows are in, with how many of each table.
async fn places(rig: &Rig) -> Vec<String> {
    let sql = "SELECT name, COUNT(*) FROM (
                   SELECT tableoid::regclass::text AS name FROM deliveries
                   UNION ALL SELECT tableoid::regclass::text FROM attempts
                   UNION ALL SELECT tableoid::regclass::text FROM batched
                   UNION ALL SELECT tableoid::regclass::text FROM events) AS rows GROUP BY name ORDER BY name";
    lines(&rig.store, sql).await
}

async fn names(rig: &Rig) -> Vec<String> {
    lines(&rig.store, "SELECT relid::regclass::text FROM pg_partition_tree('events') WHERE isleaf ORDER BY 1").await
}

/// A delivery of an event that this process may send, claimed.
async fn due(rig: &Rig, webhook: WebhookId) -> DueDelivery {
    let id = rig.deliveries(webhook, 1, None).await[0];
    let owner = rig.owner().await;
    rig.claim(owner, 100).await.into_iter().find(|due| due.id == id).expect("the delivery")
}

#[tokio::test]
async fn they_are_made_ahead_for_whole_days_and_what_none_covers_is_in_the_rest() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    rig.clock.set_back(DAY);
    rig.ended(webhook, Status::Success).await;
    rig.clock.advance(DAY);
    make_partitions(&rig, AHEAD).await;
    make_partitions(&rig, AHEAD).await;
    rig.ended(webhook, Status::Success).await;
    rig.clock.set_forward(DAY * 10);
    rig.ended(webhook, Status::Failed).await;
    assert_eq!(names(&rig).await, ["events_20260225", "events_20260226", "events_20260227", "events_20260228", "events_rest"]);
    assert_eq!(
        places(&rig).await,
        [
            "attempts_20260225|1",
            "attempts_rest|2",
            "deliveries_ended_20260225|1",
            "deliveries_ended_rest|2",
            "events_20260225|1",
            "events_rest|2"
        ]
    );
    // All of them are one history.
    assert_eq!(rig.store.deliveries(webhook, EVERYTHING, FIRST_PAGE).await.expect("a page").total_count, 3);
}

#[tokio::test]
async fn what_is_in_the_rest_already_moves_in_unless_it_is_much() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    let before = rig.ended(webhook, Status::Failed).await;
    let open = rig.deliveries(webhook, 1, None).await[0];
    make_partitions(&rig, Duration::ZERO).await;
    let expected = ["attempts_20260225|1", "deliveries_ended_20260225|1", "deliveries_open|1", "events_20260225|2"];
    assert_eq!(places(&rig).await, expected);
    assert_eq!((rig.status(webhook, before).await, rig.status(webhook, open).await), (Status::Failed, Status::Pending));

    rig.clock.advance(DAY);
    for _ in 0..501 {
        rig.store.add_events([rig.event(&[])].into()).await.expect("an event");
    }
    let span = Period { from: rig.now(), until: rig.now() };
    assert_eq!(rig.store.make_partitions(span, DAY).await.expect("two partitions"), 1, "that of the events stays in the rest");
    assert_eq!(names(&rig).await, ["events_20260225", "events_rest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_make_them_at_the_same_time() {
    let database = Database::temporary_on(crate::ENGINE).await;
    let rig = Rig::on(&database).await;
    rig.ended(WebhookId::new(&rig.ambient), Status::Success).await;
    let other = database.store().await;
    let span = Period { from: rig.now(), until: rig.now() + DAY * 20 };
    let made = tokio::join!(rig.store.make_partitions(span, DAY), other.make_partitions(span, DAY));
    assert!(matches!(made, (Ok(0), Ok(0))), "{made:?}");
    assert_eq!(names(&rig).await.len(), 22);
}

#[tokio::test]
async fn a_partition_goes_without_what_is_open_was_sent_again_or_came_back_to_life() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let webhook = rig.webhook(site, vec![]).await.id;
    make_partitions(&rig, AHEAD).await;
    let (over, given_up) = (rig.ended(webhook, Status::Success).await, rig.ended(webhook, Status::Failed).await);
    let resent_from = rig.ended(webhook, Status::Success).await;
    let retried = due(&rig, webhook).await;
    let owner = rig.owner().await;
    rig.store.give_back(owner).await.expect("given back");
    rig.store.bury(vec![]).await.expect("nobody");
    let waiting = rig.deliveries(webhook, 3, None).await;

    rig.clock.advance(DAY * 2);
    let new = NewDelivery { id: DeliveryId::new(&rig.ambient), ..rig.event(&[webhook]).deliveries.remove(0) };
    let resent = rig.store.resend(resent_from, new, rig.now()).await.expect("sent again").id;
    rig.store.revive_some((webhook, Status::Failed), vec![given_up], rig.now()).await.expect("alive");
    assert_eq!(rig.store.old_partitions(rig.now() - DAY * 2).await.expect("none"), []);
    assert_eq!(drop_old(&rig, rig.now()).await, 0);

    let expected = ["attempts_rest|1", "deliveries_open|6"];
    assert_eq!(places(&rig).await, expected, "of the attempts there are those of what came back to life");
    assert!(rig.store.delivery(webhook, over).await.expect("an answer").is_none());
    let detail = rig.store.delivery(webhook, given_up).await.expect("an answer").expect("a delivery");
    assert_eq!((detail.payload.as_str(), detail.attempts.len()), (r#"{"event": "ä"}"#, 1));
    let owner = rig.owner().await;
    let claimed = rig.claim(owner, 10).await;
    let mut ids: Vec<_> = claimed.iter().map(|due| due.id).collect();
    ids.sort();
    let mut all: Vec<_> = waiting.into_iter().chain([given_up, resent]).collect();
    all.sort();
    assert_eq!(ids, all);
    assert!(claimed.iter().all(|due| &*due.payload == r#"{"event": "ä"}"#));
    // What is over once more is history that nothing covers, and goes row by row.
    rig.settle(owner, claimed.iter().map(|due| rig.attempt(due, Status::Success)).collect()).await;
    assert_eq!(rig.status(webhook, given_up).await, Status::Success);
    let old = rig.store.old_deliveries(webhook, DeliveryId::from_bytes([0; 16]), rig.later(1), 10).await.expect("the old");
    assert_eq!(old.len(), 4);
    rig.store.delete_deliveries(webhook, old).await.expect("deleted");
    assert!(rig.store.delivery(webhook, given_up).await.expect("an answer").is_none());
    assert!(rig.store.delivery(webhook, retried.id).await.expect("an answer").is_some());
}

#[tokio::test]
async fn what_is_found_out_on_a_later_day_outlives_its_event() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    make_partitions(&rig, AHEAD).await;
    let mut event = rig.event(&[]);
    rig.clock.advance(DAY);
    event.deliveries = rig.event(&[webhook]).deliveries;
    let id = event.deliveries[0].id;
    rig.store.add_events([event].into()).await.expect("an event");
    let owner = rig.owner().await;
    let due = rig.claim(owner, 1).await;
    rig.settle(owner, vec![rig.attempt(&due[0], Status::Success)]).await;
    assert_eq!(drop_old(&rig, rig.now()).await, 0);
    assert_eq!(places(&rig).await, ["attempts_20260226|1", "deliveries_ended_20260226|1"]);
    let detail = rig.store.delivery(webhook, id).await.expect("an answer").expect("a delivery");
    assert_eq!(detail.payload, r#"{"event": "ä"}"#);
}

/// What came into a batch goes with its day, and its batch stays; what still waits for others keeps its event.
#[tokio::test]
async fn a_batch_outlives_the_days_of_its_events() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let (webhook, other) = (rig.webhook(site, vec![]).await.id, rig.webhook(site, vec![]).await.id);
    make_partitions(&rig, AHEAD).await;
    rig.gather(&[webhook, other]).await;
    rig.clock.advance(DAY);
    let (batch, _) = rig.put_together(webhook, 1).await;
    let expected = ["batched_20260225|1", "deliveries_open|1", "events_20260225|1", "events_20260226|1"];
    assert_eq!(places(&rig).await, expected);
    assert_eq!(drop_old(&rig, rig.now()).await, 1);
    assert_eq!(places(&rig).await, ["deliveries_open|1", "events_20260225|1", "events_20260226|1"]);
    let detail = rig.store.delivery(webhook, batch.delivery_id).await.expect("an answer").expect("a delivery");
    assert_eq!(detail.payload, r#"{"events":[{"event": "ä"}]}"#);
    assert_eq!(rig.put_together(other, 1).await.1.events, 1);
    assert_eq!(drop_old(&rig, rig.now()).await, 0);
    assert_eq!(places(&rig).await, ["batched_rest|1", "deliveries_open|2", "events_20260226|2"]);
}

#[tokio::test]
async fn a_partition_of_which_much_is_needed_stays() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    make_partitions(&rig, Duration::ZERO).await;
    let mut event = rig.event(&[]);
    event.deliveries = (0..501).map(|_| rig.event(&[webhook]).deliveries.remove(0)).collect();
    rig.store.add_events([event].into()).await.expect("an event");
    assert_eq!(drop_old(&rig, rig.now() + DAY).await, 1);
    assert_eq!(places(&rig).await, ["deliveries_open|501"]);
    assert_eq!(rig.store.old_partitions(rig.now() + DAY).await.expect("one")[0].name(), "attempts_20260225");
    rig.store.cancel_open(webhook, rig.now(), 1).await.expect("cancelled");
    assert_eq!(drop_old(&rig, rig.now() + DAY).await, 0);
}

/// A partition is dropped while others write and read, one of whom has the table for long.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_anything_or_waits_for_long_while_partitions_go() {
    let database = Database::temporary_on(crate::ENGINE).await;
    let rig = Rig::on(&database).await;
    let webhook = WebhookId::new(&rig.ambient);
    make_partitions(&rig, AHEAD).await;
    let sample = due(&rig, webhook).await;
    rig.clock.advance(DAY);
    let (holder, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.expect("a connection");
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    holder.batch_execute("BEGIN; SELECT COUNT(*) FROM deliveries, attempts, events").await.expect("the lock");
    let (owner, other) = (rig.owner().await, database.store().await);
    let writing = async {
        let (mut written, mut slowest) = (0, Duration::ZERO);
        while written < 100 || !places(&rig).await.iter().all(|place| !place.contains("20260225")) {
            let begun = std::time::Instant::now();
            let mut event = rig.event(&[webhook]);
            event.deliveries[0].owner = Some(owner);
            let id = event.deliveries[0].id;
            other.add_events([event].into()).await.expect("an event");
            let due = DueDelivery { id, ..sample.clone() };
            assert_eq!(rig.settle(owner, vec![rig.attempt(&due, Status::Success)]).await, 0, "nothing is another's");
            slowest = slowest.max(begun.elapsed());
            written += 1;
            if written == 50 {
                holder.batch_execute("COMMIT").await.expect("the end");
            }
        }
        (written, slowest)
    };
    let (left, (written, slowest)) = tokio::join!(drop_old(&rig, rig.now() - DAY / 4), writing);
    assert_eq!(left, 0);
    let expected = [
        format!("attempts_20260226|{written}"),
        format!("deliveries_ended_20260226|{written}"),
        "deliveries_open|1".to_owned(),
        format!("events_20260226|{written}"),
    ];
    assert_eq!(places(&rig).await, expected);
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

/// The plan by which a statement runs that this connection has prepared, and whose text is like that.
fn plan(connection: &bellwether_store::Connection, like: &str, values: &str) -> Vec<String> {
    let sql = format!("SELECT name FROM pg_prepared_statements WHERE statement LIKE '{like}'");
    let name = connection.lines(&sql).expect("a statement").pop().expect("a statement");
    connection.lines(&format!("EXPLAIN EXECUTE {name} ({values})")).expect("a plan")
}

#[tokio::test]
async fn claiming_looks_at_what_is_open_and_a_page_at_what_it_shows() {
    let rig = Rig::new().await;
    let webhook = WebhookId::new(&rig.ambient);
    make_partitions(&rig, DAY * 20).await;
    let fill = format!(
        "INSERT INTO events VALUES ('{id}', '{id}', 'goal_completion', '{{}}', 0, 9000);
         INSERT INTO deliveries (webhook_id, id, event_id, event_type, url, status, attempt_count, next_attempt_at_us, created_at_us,
                                 completed_at_us, test)
         SELECT '{webhook}', overlay('{id}' PLACING to_char(n, 'FM000000000000') FROM 25)::uuid, '{id}', 'goal_completion',
                'u', CASE WHEN n % 3 = 0 THEN 'pending' ELSE 'success' END, 0, n, 0, NULLIF(n % 3, 0), FALSE
         FROM generate_series(1, 9000) AS n;
         ANALYZE",
        id = DeliveryId::new(&rig.ambient)
    );
    rig.store.write(move |connection| connection.run_all(&fill)).await.expect("rows");
    let owner = rig.owner().await;
    let (claimed, _) = rig.store.claim(owner, rig.now(), vec![(webhook, 10)]).await.expect("a claim");
    let claiming = rig.store.write(move |connection| Ok(plan(connection, "%SKIP LOCKED", &format!("'{webhook}', 5000, 10"))));
    let claiming = claiming.await.expect("a plan").join("\n");
    assert!(claiming.contains("Index Scan using deliveries_waiting on deliveries_open d"), "{claiming}");
    assert!(!claiming.contains("deliveries_ended") && !claiming.contains("Seq Scan") && !claiming.contains("Sort"), "{claiming}");

    rig.settle(owner, vec![rig.attempt(&claimed[0], Status::Success)]).await;
    let settling = rig.store.write(move |connection| {
        let values = format!("'u', 'success', NULL, 5, 1, 200, 1, NULL, 1, '{webhook}', '{webhook}', '{owner}'");
        Ok(plan(connection, "UPDATE deliveries SET%", &values))
    });
    let settling = settling.await.expect("a plan").join("\n");
    assert!(settling.contains("using deliveries_open_pkey") && !settling.contains("deliveries_ended"), "{settling}");

    rig.store.history(webhook, EVERYTHING, None, 20).await.expect("a page");
    let (first, last) = (DeliveryId::from_bytes([0; 16]), DeliveryId::from_bytes([255; 16]));
    let page = rig.store.read(move |connection| {
        Ok(plan(connection, "%FROM deliveries WHERE%LIMIT _4", &format!("'{webhook}', '{first}', '{last}', 21")))
    });
    let page = page.await.expect("a plan").join("\n");
    assert!(page.contains("Merge Append") && page.contains("Index Scan Backward using deliveries_ended_20260225_pkey"), "{page}");
    assert!(!page.contains("Seq Scan") && !page.contains("Sort Key: deliveries_"), "{page}");
}
