//! Sources that are new, where visitors are counted in memory. The rules have their tables in `domain`; here it is about what is known of
//! other days, and what is kept.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::event::Event;
use bellwether_engine::Client;
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::detection::data;
use super::rig::{FIREFOX, Rig, new_webhook, pageview, rule, seconds, site_change};

const DAY: u64 = 86_400;

/// A site that has been watched for so many days, whose webhook waits for three visitors of a new source within an hour.
async fn watched_for(days: u64, receiver: &Receiver) -> Rig {
    let rig = Rig::start().await;
    rig.webhook(json!({"url": receiver.url(), "triggers": [{"type": "new_source", "min_visitors": 3}]})).await;
    pass_days(&rig, days).await;
    rig
}

/// Lets days pass, in which it is noted what comes.
async fn pass_days(rig: &Rig, days: u64) {
    for _ in 0..days {
        rig.pass(seconds(DAY)).await;
        rig.engine.store_history(u32::MAX).await.expect("notes");
    }
}

fn from(source: &str) -> Value {
    json!({"n": "pageview", "u": format!("https://example.com/?ref={source}")})
}

/// Visitors come from a source, one after the other, and what that sets off is done.
async fn come(rig: &Rig, visitors: std::ops::RangeInclusive<u8>, source: &str) {
    for visitor in visitors {
        take(rig, visitor, from(source)).await;
    }
}

async fn take(rig: &Rig, visitor: u8, event: Value) {
    rig.engine.dispatch_due().await.expect("a tick");
    rig.visit(visitor, event).await.expect("an event that is taken");
    look(rig).await;
}

async fn look(rig: &Rig) {
    rig.engine.look_up_sources().await.expect("a past");
    rig.engine.tick().await.expect("a tick");
    rig.engine.drained().await;
}

/// The sources that were told of, and how many visitors each had.
fn told(receiver: &mut Receiver) -> Vec<(String, u64)> {
    let told =
        |data: Value| (data["source"].as_str().expect("a source").to_owned(), data["visitors"].as_u64().expect("a number"));
    data(receiver).into_iter().map(told).collect()
}

fn one(source: &str, visitors: u64) -> Vec<(String, u64)> {
    vec![(source.to_owned(), visitors)]
}

#[tokio::test]
async fn a_new_source_is_told_of_once_with_the_visitor_who_fills_the_number() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    come(&rig, 1..=2, "A").await;
    come(&rig, 1..=2, "A").await;
    assert!(told(&mut receiver).is_empty(), "two are not three");
    let blog = json!({"n": "pageview", "u": "https://example.com/blog?utm_source=A"});
    take(&rig, 3, blog.clone()).await;
    let expected = json!({
        "source": "A", "visitors": 3, "min_visitors": 3, "window_seconds": 3_600, "last_seen_on": null,
        "top_pages": [{"page": "/", "visitors": 2}, {"page": "/blog", "visitors": 1}],
    });
    assert_eq!(data(&mut receiver), [expected]);
    come(&rig, 4..=9, "A").await;
    pass_days(&rig, 1).await;
    come(&rig, 4..=9, "A").await;
    assert!(told(&mut receiver).is_empty());
    // Somebody who came directly counts for no source.
    for visitor in 20..40 {
        take(&rig, visitor, pageview()).await;
    }
    come(&rig, 50..=51, "B").await;
    assert!(told(&mut receiver).is_empty());
}

#[tokio::test]
async fn a_source_that_was_seen_is_told_of_only_after_it_was_away() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    let seen_on = rig.clock.now().to_string()[..10].to_owned();
    for source in ["A", "B"] {
        come(&rig, 1..=1, source).await;
        rig.pass(seconds(1_801)).await;
    }
    pass_days(&rig, 29).await;
    come(&rig, 1..=9, "A").await;
    assert!(told(&mut receiver).is_empty(), "it was seen 29 days ago");
    pass_days(&rig, 2).await;
    come(&rig, 1..=3, "B").await;
    let [back] = &data(&mut receiver)[..] else { panic!("one source") };
    let told_of = (&back["source"], &back["visitors"], &back["last_seen_on"]);
    assert_eq!(told_of, (&json!("B"), &json!(3), &json!(seen_on)));
    // A was there in between, so it has to be away anew.
    pass_days(&rig, 28).await;
    come(&rig, 1..=3, "A").await;
    assert!(told(&mut receiver).is_empty());
    pass_days(&rig, 31).await;
    come(&rig, 1..=3, "A").await;
    assert_eq!(told(&mut receiver), one("A", 3));
    come(&rig, 4..=6, "B").await;
    assert_eq!(told(&mut receiver), one("B", 3), "it was away once more");
}

#[tokio::test]
async fn a_site_without_enough_history_says_nothing() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(29, &receiver).await;
    assert!(!rig.engine.knows_sources(&rig.site()).await.expect("an answer"));
    come(&rig, 1..=9, "A").await;
    assert!(told(&mut receiver).is_empty());
    pass_days(&rig, 1).await;
    assert!(rig.engine.knows_sources(&rig.site()).await.expect("an answer"));
    come(&rig, 1..=3, "B").await;
    assert_eq!(told(&mut receiver), one("B", 3));

    // One that is made later waits for as long.
    let other = rig.engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site").id;
    let webhook = new_webhook(&json!({"url": receiver.url(), "triggers": [{"type": "new_source", "min_visitors": 1}]}));
    rig.engine.create_webhook(other, webhook).await.expect("a webhook");
    take(&rig, 1, json!({"n": "pageview", "u": "https://other.example/?ref=A", "d": "other.example"})).await;
    assert!(told(&mut receiver).is_empty());
}

#[tokio::test]
async fn what_is_not_noted_for_long_is_not_known() {
    let mut receiver = Receiver::start().await;
    let mut rig = watched_for(31, &receiver).await;
    rig.workers.stop().await.expect("a clean stop");
    rig.clock.advance(seconds(6 * DAY));
    rig.start_again().await;
    come(&rig, 1..=3, "A").await;
    assert_eq!(told(&mut receiver), one("A", 3), "a few days are no matter");
    rig.workers.stop().await.expect("a clean stop");
    rig.clock.advance(seconds(8 * DAY));
    rig.start_again().await;
    come(&rig, 1..=3, "B").await;
    assert!(told(&mut receiver).is_empty());
    assert!(!rig.engine.knows_sources(&rig.site()).await.expect("an answer"));
}

#[tokio::test]
async fn a_restart_tells_nothing_twice_and_forgets_no_source() {
    let mut receiver = Receiver::start().await;
    let mut rig = watched_for(31, &receiver).await;
    come(&rig, 1..=3, "A").await;
    assert_eq!(told(&mut receiver), one("A", 3));
    come(&rig, 11..=12, "B").await;
    rig.restart().await;
    come(&rig, 4..=9, "A").await;
    assert!(told(&mut receiver).is_empty(), "it was told of before");
    come(&rig, 13..=14, "B").await;
    assert!(told(&mut receiver).is_empty(), "who came before is forgotten");
    come(&rig, 15..=15, "B").await;
    assert_eq!(told(&mut receiver), one("B", 3));
    pass_days(&rig, 2).await;
    rig.restart().await;
    come(&rig, 1..=3, "B").await;
    assert!(told(&mut receiver).is_empty());
}

#[tokio::test]
async fn what_was_told_is_known_after_a_process_was_killed() {
    let mut receiver = Receiver::start().await;
    let mut rig = watched_for(31, &receiver).await;
    come(&rig, 1..=3, "A").await;
    assert_eq!(told(&mut receiver), one("A", 3));
    assert_eq!(rig.numbers("SELECT count(*) FROM sources").await, [0], "that is stored with the minutes");
    rig.start_again().await;
    rig.outlive_lease().await;
    pass_days(&rig, 1).await;
    come(&rig, 4..=9, "A").await;
    assert!(told(&mut receiver).is_empty());
}

#[tokio::test]
async fn what_could_not_be_kept_is_told_again() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    come(&rig, 1..=2, "A").await;
    rig.disturb("ALTER TABLE told_sources RENAME TO away").await;
    rig.visit(3, from("A")).await.expect_err("nothing is kept");
    rig.disturb("ALTER TABLE away RENAME TO told_sources").await;
    assert!(told(&mut receiver).is_empty());
    look(&rig).await;
    assert_eq!(told(&mut receiver), one("A", 3));
    come(&rig, 1..=9, "A").await;
    assert!(told(&mut receiver).is_empty());
}

#[tokio::test]
async fn visitors_who_come_before_it_is_known_count_too() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    for visitor in 1..=3 {
        rig.visit(visitor, from("A")).await.expect("an event that is taken");
    }
    rig.disturb("ALTER TABLE sources RENAME TO away").await;
    rig.engine.look_up_sources().await.expect_err("no past");
    rig.disturb("ALTER TABLE away RENAME TO sources").await;
    look(&rig).await;
    assert_eq!(told(&mut receiver), one("A", 3));
}

#[tokio::test]
async fn a_trigger_that_is_made_later_knows_what_was_seen() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    let webhook = rig.site().webhooks[0].webhook.id;
    rig.engine.delete_trigger(rig.site_id, webhook, rig.site().webhooks[0].webhook.triggers[0].id).await.expect("it is gone");
    come(&rig, 1..=1, "A").await;
    pass_days(&rig, 3).await;
    come(&rig, 1..=2, "B").await;
    rig.engine
        .create_trigger(rig.site_id, webhook, rule(&json!({"type": "new_source", "min_visitors": 3})))
        .await
        .expect("a trigger");
    come(&rig, 1..=5, "A").await;
    assert!(told(&mut receiver).is_empty());
    come(&rig, 3..=3, "B").await;
    assert!(told(&mut receiver).is_empty(), "whoever came from A is still there from A");
    come(&rig, 10..=11, "B").await;
    assert_eq!(told(&mut receiver).len(), 1);
}

#[tokio::test]
async fn webhooks_that_ask_for_the_same_share_an_event() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    let triggers =
        json!([{"type": "new_source", "min_visitors": 3}, {"type": "new_source", "min_visitors": 3, "window_seconds": 86_400}]);
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await;
    come(&rig, 1..=3, "A").await;
    let mut ids: Vec<_> = receiver.so_far().iter().map(|request| request.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 3);
    ids.sort_by_key(|id| id.as_bytes().to_vec());
    ids.dedup();
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn many_sources_at_once_stay_bounded() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    come(&rig, 1..=2, "A").await;
    for number in 0..5_000 {
        let event = Event::parse(from(&format!("spam-{number}")).to_string().as_bytes()).expect("an event");
        let address = format!("10.1.{}.{}", number / 250, number % 250);
        rig.engine.ingest(&event, &Client { user_agent: FIREFOX, address: &address }).await.expect("an event that is taken");
        if number % 500 == 0 {
            look(&rig).await;
        }
    }
    rig.engine.store_history(u32::MAX).await.expect("notes");
    assert_eq!(rig.numbers("SELECT count(*) FROM sources").await, [2_000], "as many as there is room for in a day");
    come(&rig, 3..=3, "A").await;
    assert_eq!(told(&mut receiver), one("A", 3));
}

#[tokio::test]
async fn what_is_old_is_forgotten() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(31, &receiver).await;
    come(&rig, 1..=3, "A").await;
    assert_eq!(told(&mut receiver), one("A", 3));
    pass_days(&rig, 35).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(rig.numbers("SELECT count(*) FROM sources").await, [1]);
    pass_days(&rig, 1).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(rig.numbers("SELECT count(*) FROM sources UNION ALL SELECT count(*) FROM told_sources").await, [0, 0]);
}

#[tokio::test]
async fn a_site_whose_past_cannot_be_asked_for_holds_up_no_other_and_is_asked_again() {
    let mut receiver = Receiver::start().await;
    let rig = watched_for(1, &receiver).await;
    let other = rig.engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site");
    let webhook = json!({"url": receiver.url(), "triggers": [{"type": "new_source", "min_visitors": 1}]});
    rig.engine.create_webhook(other.id, new_webhook(&webhook)).await.expect("a webhook");
    pass_days(&rig, 31).await;
    rig.disturb("ALTER TABLE sources RENAME TO gone").await;
    for domain in ["example.com", "other.example"] {
        let event = json!({"n": "pageview", "d": domain, "u": format!("https://{domain}/?ref=A")});
        for visitor in 1..=3 {
            rig.visit(visitor, event.clone()).await.expect("an event that is taken");
        }
    }
    rig.engine.look_up_sources().await.expect_err("nothing to read");
    rig.disturb("ALTER TABLE gone RENAME TO sources").await;
    look(&rig).await;
    assert_eq!(told(&mut receiver).len(), 2);
}
