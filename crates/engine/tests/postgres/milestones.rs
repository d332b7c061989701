//! Triggers on pageviews that several processes count in ClickHouse.

use bellwether_domain::ambient::Clock as _;
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use crate::counting::{counting, look, pass, visits};
use crate::many::{beside, heard};
use crate::suite::detection::data;
use crate::suite::milestones::{milestone, told};
use crate::suite::rig::{Rig, new_webhook, signup, site_change};

fn view(page: &str) -> Value {
    json!({"n": "pageview", "u": format!("https://example.com{page}")})
}

/// All look five seconds later, and those that start are told how far they have come.
async fn look_again(rigs: &[&Rig]) {
    for rig in rigs {
        rig.engine.start_milestones().await.expect("it is known");
    }
    pass(rigs, 5);
    look(rigs).await;
}

#[tokio::test]
async fn pageviews_that_come_to_several_processes_reach_a_milestone_together() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    let other = beside(&one, 1).await;
    let both = [&one, &other];
    look(&both).await;
    // What there was before is known, of pages as well, and is not told.
    visits(&one, 1..4, view("/blog/a")).await;
    visits(&other, 1..2, signup()).await;
    pass(&both, 7_200);
    look(&both).await;
    visits(&other, 1..2, view("/blog/a")).await;
    pass(&both, 1);
    let triggers = [
        json!({"threshold": 4}),
        json!({"threshold": 6}),
        json!({"threshold": 2, "repeat": true}),
        json!({"threshold": 5, "page": "/blog/*"}),
        json!({"threshold": 6, "period": "day"}),
    ];
    let webhook = json!({"url": receiver.url(), "triggers": triggers.map(milestone)});
    let webhook = one.webhook(webhook).await.webhook.id;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    look_again(&both).await;
    assert_eq!(told(&mut receiver), [], "four were reached before");
    visits(&one, 1..2, view("/")).await;
    look_again(&both).await;
    assert_eq!(told(&mut receiver), []);
    visits(&other, 1..2, view("/blog/b")).await;
    look_again(&both).await;
    let mut reached = told(&mut receiver);
    reached.sort_unstable();
    assert_eq!(reached, [(5, 5), (6, 6), (6, 6), (6, 6)], "with repeat, in all, of the pages, and of the day");
    look_again(&both).await;
    assert_eq!(told(&mut receiver), []);
}

/// Whoever looks next knows what was told, and how far it was.
#[tokio::test]
async fn another_process_goes_on_where_the_one_before_ended() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    let other = beside(&one, 1).await;
    let both = [&one, &other];
    let triggers = [json!({"threshold": 3, "repeat": true}), json!({"threshold": 5})].map(milestone);
    let webhook = one.webhook(json!({"url": receiver.url(), "triggers": triggers})).await.webhook.id;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    look(&both).await;
    look_again(&both).await;
    visits(&one, 1..4, view("/")).await;
    look_again(&both).await;
    assert_eq!(told(&mut receiver), [(3, 3)]);
    // The hour is over, and only what comes after it is asked for.
    pass(&both, 3_600);
    look_again(&both).await;
    one.workers.stop().await.expect("a clean stop");
    visits(&other, 4..5, view("/")).await;
    look_again(&[&other]).await;
    look_again(&[&other]).await;
    assert_eq!(told(&mut receiver), []);
    visits(&other, 4..6, view("/")).await;
    look_again(&[&other]).await;
    let mut reached = told(&mut receiver);
    reached.sort_unstable();
    assert_eq!(reached, [(5, 6), (6, 6)]);
    assert_eq!(other.numbers("SELECT told FROM milestones ORDER BY told").await, [5, 6]);
}

/// A row that is late by less than two minutes counts, in the hour, and on the day, in which it happened.
#[tokio::test]
async fn what_is_late_counts() {
    let (mut receiver, (clickhouse, rig)) = (Receiver::start().await, counting().await);
    let triggers = [json!({"threshold": 3}), json!({"threshold": 3, "period": "day"})].map(milestone);
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await;
    look(&[&rig]).await;
    look_again(&[&rig]).await;
    let to_midnight = 86_400 - u64::from(rig.clock.now().second() % 86_400);
    pass(&[&rig], to_midnight - 1);
    visits(&rig, 1..3, view("/")).await;
    let happened = rig.clock.now().as_micros();
    pass(&[&rig], 1);
    look_again(&[&rig]).await;
    pass(&[&rig], 105);
    let row = format!(
        "INSERT INTO events (site_id, time, name, visitor)
         VALUES (toUUID('{}'), fromUnixTimestamp64Micro({happened}), 'pageview', 9)",
        rig.site_id
    );
    clickhouse.execute(&row).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), [(3, 3), (3, 3)]);
    pass(&[&rig], 60);
    visits(&rig, 1..3, view("/")).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), [], "the day before is over");
    visits(&rig, 1..2, view("/")).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), [(3, 3)]);
}

/// A process begins with what this statement keeps of triggers.
async fn begin_with(rig: &mut Rig, kept: &'static str) {
    rig.disturb(kept).await;
    rig.restart().await;
    look(&[rig]).await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_silences_nothing() {
    let (mut receiver, (_clickhouse, mut rig)) = (Receiver::start().await, counting().await);
    let day = json!({"threshold": 2, "period": "day", "repeat": true});
    let triggers = [json!({"threshold": 2}), json!({"threshold": 2, "repeat": true}), day].map(milestone);
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await;
    visits(&rig, 1..4, view("/")).await;
    // They are kept as of thirty days later.
    let kept = "INSERT INTO milestones SELECT id, CASE WHEN id = (SELECT id FROM triggers ORDER BY id DESC LIMIT 1) THEN 20539 ELSE 0 END,
                9, 2, 1774612800000000 FROM triggers";
    begin_with(&mut rig, kept).await;
    pass(&[&rig], 5);
    look(&[&rig]).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), [], "two were told, and what a day had by now may have been");
    visits(&rig, 1..2, view("/")).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), [(4, 4), (4, 4)]);
    rig.restart().await;
    look(&[&rig]).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), []);
}

/// Those that are in ClickHouse by then were counted when they came.
#[tokio::test]
async fn what_was_counted_in_memory_goes_on_in_clickhouse() {
    let (mut receiver, (_clickhouse, mut rig)) = (Receiver::start().await, counting().await);
    visits(&rig, 1..4, view("/")).await;
    pass(&[&rig], 7_200);
    rig.webhook(json!({"url": receiver.url(), "triggers": [milestone(json!({"threshold": 12}))]})).await;
    begin_with(&mut rig, "INSERT INTO milestones SELECT id, 0, 10, 0, 0 FROM triggers").await;
    look_again(&[&rig]).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), []);
    visits(&rig, 1..3, view("/")).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), [(12, 12)]);
}

#[tokio::test]
async fn a_site_that_moves_west_over_midnight_counts_the_day_that_it_is_there() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    let of_zone = |zone: &str| site_change(&json!({"timezone": zone}));
    // At noon in UTC the day after is there in Auckland, and in New York it is not.
    rig.engine.update_site(rig.site_id, of_zone("Pacific/Auckland")).await.expect("the site");
    let trigger = milestone(json!({"threshold": 3, "period": "day"}));
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    look(&[&rig]).await;
    look_again(&[&rig]).await;
    rig.engine.update_site(rig.site_id, of_zone("America/New_York")).await.expect("the site");
    visits(&rig, 1..3, view("/")).await;
    look_again(&[&rig]).await;
    look_again(&[&rig]).await;
    assert_eq!(told(&mut receiver), []);
    visits(&rig, 1..2, view("/")).await;
    look_again(&[&rig]).await;
    let [reached] = &data(&mut receiver)[..] else { panic!("one") };
    assert_eq!((&reached["pageviews"], &reached["date"]), (&json!(3), &json!("2026-02-25")));
}

/// ClickHouse has no column of pages for a while.
#[tokio::test]
async fn where_pageviews_cannot_be_asked_for_the_look_goes_on_and_they_rest() {
    let (mut receiver, (clickhouse, rig)) = (Receiver::start().await, counting().await);
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 2, "window_seconds": 300});
    let triggers = [milestone(json!({"threshold": 2, "page": "/*"})), spike];
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await;
    look(&[&rig]).await;
    look_again(&[&rig]).await;
    clickhouse.execute("ALTER TABLE events RENAME COLUMN page TO away").await;
    pass(&[&rig], 5);
    look(&[&rig]).await;
    clickhouse.execute("ALTER TABLE events RENAME COLUMN away TO page").await;
    visits(&rig, 1..3, view("/")).await;
    look_again(&[&rig]).await;
    let [spiked] = &data(&mut receiver)[..] else { panic!("one") };
    assert_eq!(spiked["current_visitors"], 2);
    pass(&[&rig], 290);
    look(&[&rig]).await;
    assert_eq!(told(&mut receiver), []);
    pass(&[&rig], 5);
    look(&[&rig]).await;
    assert_eq!(told(&mut receiver), [(2, 2)]);
}

/// More triggers than ask with one look ask with the next.
#[tokio::test]
async fn many_triggers_ask_in_turn() {
    let (mut receiver, (_clickhouse, mut rig)) = (Receiver::start().await, counting().await);
    let other = rig.engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site").id;
    for (site, webhooks) in [(rig.site_id, 10), (other, 1)] {
        for _ in 0..webhooks {
            let triggers: Vec<_> = (1..=100).map(|threshold| milestone(json!({"threshold": threshold}))).collect();
            let change = new_webhook(&json!({"url": receiver.url(), "triggers": triggers}));
            rig.engine.create_webhook(site, change).await.expect("a webhook");
        }
    }
    // They have started at noon.
    rig.disturb("INSERT INTO milestones SELECT id, 0, 0, 0, 1772020800000000 FROM triggers").await;
    rig.restart().await;
    look(&[&rig]).await;
    pass(&[&rig], 1);
    let both = json!({"n": "pageview", "u": "https://example.com/", "d": "example.com,other.example"});
    visits(&rig, 1..2, both).await;
    pass(&[&rig], 5);
    look(&[&rig]).await;
    let first = told(&mut receiver).len();
    assert!((1..11).contains(&first), "{first}");
    let mut others = 0;
    for _ in 0..2 {
        pass(&[&rig], 1);
        look(&[&rig]).await;
        others += told(&mut receiver).len();
    }
    assert_eq!(first + others, 11);
    pass(&[&rig], 5);
    look(&[&rig]).await;
    assert_eq!(told(&mut receiver), []);
}
