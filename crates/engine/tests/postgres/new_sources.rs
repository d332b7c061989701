//! Sources that are new, where several processes count in ClickHouse what happens on sites.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::time::Second;
use bellwether_testkit::clickhouse::ClickHouse as Temporary;
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use crate::counting::{counting, look, pass};
use crate::many::{beside, heard};
use crate::suite::detection::data;
use crate::suite::rig::{Rig, pageview};

const DAY: u32 = 86_400;

/// Somebody came from a source on days before.
async fn came(clickhouse: &Temporary, rig: &Rig, days: &[u32], source: &str) {
    let (site, now, source) = (rig.site_id, rig.clock.now().second(), source.replace('\'', "\\'"));
    for day in days {
        let at: Second = now - day * DAY;
        let sql = format!(
            "INSERT INTO events (site_id, time, name, visitor, source)
             VALUES (toUUID('{site}'), toDateTime({at}, 'UTC'), 'pageview', 99, '{source}')"
        );
        clickhouse.execute(&sql).await;
    }
}

async fn come(rig: &Rig, visitors: std::ops::Range<u8>, source: &str) {
    for visitor in visitors {
        let event = json!({"n": "pageview", "u": format!("https://example.com/a?ref={source}")});
        rig.visit(visitor, event).await.expect("an event that is taken");
    }
}

fn trigger(receiver: &Receiver, min_visitors: u32) -> Value {
    let trigger = json!({"type": "new_source", "min_visitors": min_visitors, "window_seconds": 60});
    json!({"url": receiver.url(), "triggers": [trigger]})
}

fn sources(receiver: &mut Receiver) -> Vec<(String, u64)> {
    let source =
        |data: Value| (data["source"].as_str().expect("a source").to_owned(), data["visitors"].as_u64().expect("a number"));
    data(receiver).into_iter().map(source).collect()
}

#[tokio::test]
async fn a_source_that_is_new_everywhere_is_told_of_once_whoever_looks() {
    let (mut receiver, (clickhouse, one)) = (Receiver::start().await, counting().await);
    let other = beside(&one, 1).await;
    let webhook = one.webhook(trigger(&receiver, 3)).await.webhook.id;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    let both = [&one, &other];
    came(&clickhouse, &one, &[34, 33], "C").await;
    came(&clickhouse, &one, &[20], "D'E").await;
    came(&clickhouse, &one, &[3, 2], "F").await;
    look(&both).await;

    come(&one, 1..3, "A").await;
    come(&other, 3..4, "B").await;
    pass(&both, 1);
    look(&both).await;
    assert!(sources(&mut receiver).is_empty(), "two are not three");
    // Somebody of whom another process knows where they came from, and one more.
    come(&other, 4..5, "A").await;
    pass(&both, 1);
    look(&both).await;
    let expected = json!({"source": "A", "visitors": 3, "min_visitors": 3, "window_seconds": 60, "last_seen_on": null,
                          "top_pages": [{"page": "/a", "visitors": 3}]});
    assert_eq!(data(&mut receiver), [expected]);

    // What was seen before is nothing new, unless it was away; and who comes directly comes from nowhere.
    for (visitors, source) in [(10..13, "D'E"), (20..23, "F"), (30..33, "C"), (40..43, "A")] {
        come(&one, visitors, source).await;
    }
    for visitor in 50..60 {
        one.visit(visitor, pageview()).await.expect("an event that is taken");
    }
    pass(&both, 1);
    look(&both).await;
    let [away] = &data(&mut receiver)[..] else { panic!("one source") };
    assert_eq!((&away["source"], away["last_seen_on"].as_str().map(str::len)), (&json!("C"), Some(10)));

    // Nor is it told again by the process that looks when this one is gone.
    one.workers.stop().await.expect("a clean stop");
    come(&other, 60..70, "A").await;
    pass(&[&other], 13);
    look(&[&other]).await;
    pass(&[&other], 13);
    look(&[&other]).await;
    come(&other, 70..73, "A").await;
    come(&other, 73..76, "G").await;
    pass(&[&other], 1);
    look(&[&other]).await;
    assert_eq!(sources(&mut receiver), [("G".to_owned(), 3)]);
}

#[tokio::test]
async fn a_site_without_enough_history_says_nothing_and_more_sources_than_a_look_tells_of_wait() {
    let (mut receiver, (clickhouse, rig)) = (Receiver::start().await, counting().await);
    rig.webhook(trigger(&receiver, 1)).await;
    came(&clickhouse, &rig, &[29], "C").await;
    look(&[&rig]).await;
    come(&rig, 1..3, "A").await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert!(sources(&mut receiver).is_empty());
    assert!(!rig.engine.knows_sources(&rig.site()).await.expect("an answer"));

    came(&clickhouse, &rig, &[30], "C").await;
    assert!(rig.engine.knows_sources(&rig.site()).await.expect("an answer"));
    for number in 0..35 {
        come(&rig, 10 + number..11 + number, &format!("source{number}")).await;
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        pass(&[&rig], 1);
        look(&[&rig]).await;
        told.push(sources(&mut receiver).len());
    }
    assert_eq!(told, [30, 5, 0]);
}
