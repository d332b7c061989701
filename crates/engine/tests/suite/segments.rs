//! Triggers that are about some of a site's visits only.

use bellwether_domain::segment::MAX_SEGMENTS_PER_SITE;
use bellwether_engine::ManageError;
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::detection::{data, take};
use super::rig::{Rig, new_webhook, rule, seconds, signup, webhook_change};

fn visit(page: &str, referrer: Option<&str>) -> Value {
    json!({"n": "pageview", "u": format!("https://example.com{page}"), "r": referrer})
}

const GOOGLE: Option<&str> = Some("https://www.google.com");

/// A trigger on so many visitors of the blog who come from Google.
fn of_blog(threshold: u32) -> Value {
    json!({"type": "visitor_spike", "unit": "visitors", "threshold": threshold, "window_seconds": 300, "cooldown_seconds": 0,
           "page": "/blog/*", "source": "Google"})
}

#[tokio::test]
async fn only_visits_of_the_segment_count_across_changes_and_not_across_restarts() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.webhook(json!({"url": receiver.url(), "triggers": [of_blog(3)]})).await.webhook.id;
    for (visitor, page, referrer) in [
        (1, "/blog/a", GOOGLE),
        (2, "/", GOOGLE),
        (3, "/blog/a", None),
        (4, "/blog/a", Some("https://bing.com")),
        (5, "/blog/b", GOOGLE),
    ] {
        take(&rig, visitor, visit(page, referrer)).await;
    }
    assert!(data(&mut receiver).is_empty(), "two of five");
    // Another trigger of the same segment sees who is there.
    rig.engine.create_trigger(rig.site_id, webhook, rule(&of_blog(2))).await.expect("a trigger");
    take(&rig, 5, visit("/blog/c", None)).await;
    let told = data(&mut receiver);
    assert_eq!((told.len(), &told[0]["current_visitors"], &told[0]["page"]), (1, &json!(2), &json!("/blog/*")));
    take(&rig, 2, visit("/blog/c", None)).await;
    let told = data(&mut receiver);
    assert_eq!(
        (told.len(), &told[0]["threshold"], &told[0]["source"]),
        (1, &json!(3), &json!("Google")),
        "its session began there"
    );
    rig.restart().await;
    for visitor in [1, 2] {
        take(&rig, visitor, visit("/blog/a", GOOGLE)).await;
    }
    assert!(data(&mut receiver).is_empty(), "who was there before is forgotten, as in all windows");
}

#[tokio::test]
async fn a_segment_is_compared_with_its_own_past_as_long_as_that_is_known() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let spike = |threshold: u32| {
        json!({"type": "visitor_spike", "threshold": threshold, "window_seconds": 60, "min_visitors": 2, "cooldown_seconds": 0,
               "baseline": "same_time_yesterday", "page": "/blog/*"})
    };
    let id = rig.webhook(json!({"url": receiver.url(), "triggers": [spike(70)]})).await.webhook.id;
    rig.engine.store_history(u32::MAX).await.expect("stored");
    let mut fired = Vec::new();
    for (number, of_blog) in [3, 3, 6].into_iter().enumerate() {
        rig.pass(seconds(600)).await;
        for visitor in 0..20 {
            take(&rig, visitor, visit(if visitor < of_blog { "/blog/a" } else { "/" }, None)).await;
        }
        rig.engine.compare().await.expect("a past");
        rig.pass(seconds(1)).await;
        rig.engine.tick().await.expect("a tick");
        rig.engine.drained().await;
        fired.push(data(&mut receiver).len());
        rig.engine.store_history(u32::MAX).await.expect("stored");
        if number == 0 {
            // Its past stays its own when the threshold changes, and after a restart.
            let change = webhook_change(&json!({"triggers": [spike(80)]}));
            rig.engine.update_webhook(rig.site_id, id, change).await.expect("a webhook");
            rig.engine.store_history(u32::MAX).await.expect("stored");
            rig.restart().await;
        }
        rig.pass(seconds(86_400 - 601)).await;
    }
    assert_eq!(fired, [0, 0, 1]);
    let counted = rig.numbers("SELECT count(*) FROM segments").await;
    rig.engine.delete_webhook(rig.site_id, id).await.expect("deleted");
    rig.engine.store_history(u32::MAX).await.expect("stored");
    assert_eq!((counted, rig.numbers("SELECT count(*) FROM segments").await), (vec![1], vec![0]));
}

#[tokio::test]
async fn completions_of_a_segment_are_those_of_its_visits() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let rate = json!({"type": "goal_rate", "threshold": 40, "direction": "above", "window_seconds": 60, "min_visitors": 2,
                      "cooldown_seconds": 0, "source": "Google"});
    rig.webhook(json!({"url": receiver.url(), "triggers": [rate]})).await;
    rig.pass(seconds(120)).await;
    for (visitor, referrer) in [(1, GOOGLE), (2, GOOGLE), (3, None)] {
        take(&rig, visitor, visit("/", referrer)).await;
    }
    take(&rig, 3, signup()).await;
    rig.pass(seconds(61)).await;
    for (visitor, referrer) in [(4, GOOGLE), (5, GOOGLE), (6, None)] {
        take(&rig, visitor, visit("/", referrer)).await;
    }
    take(&rig, 6, signup()).await;
    assert!(data(&mut receiver).is_empty(), "they came from elsewhere");
    take(&rig, 4, signup()).await;
    let told = data(&mut receiver);
    let [rated] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&rated["completions"], &rated["visitors"], &rated["rate_percent"]), (&json!(1), &json!(2), &json!(50.0)));
}

#[tokio::test]
async fn a_site_has_no_more_segments_than_each_event_can_be_held_against() {
    let rig = Rig::start().await;
    let pages = |range: std::ops::Range<usize>| -> Vec<Value> {
        range.map(|number| json!({"type": "visitor_spike", "page": format!("/{number}")})).collect()
    };
    let webhook = |triggers: Vec<Value>| new_webhook(&json!({"url": "http://127.0.0.1:9/", "triggers": triggers}));
    let first =
        rig.engine.create_webhook(rig.site_id, webhook(pages(0..MAX_SEGMENTS_PER_SITE))).await.expect("a webhook").webhook.id;
    let refused = rig.engine.create_webhook(rig.site_id, webhook(pages(20..21))).await;
    let Err(ManageError::Invalid(invalid)) = refused else { panic!("a refusal") };
    assert!(invalid.errors()["triggers"][0].contains("20"), "{invalid:?}");
    // Those that are there already, and those without any, are no further ones; nor are those that take their place.
    rig.engine
        .create_webhook(rig.site_id, webhook([pages(0..2), vec![json!("visitor_drop")]].concat()))
        .await
        .expect("a webhook");
    let change = webhook_change(&json!({"triggers": pages(2..MAX_SEGMENTS_PER_SITE)}));
    rig.engine.update_webhook(rig.site_id, first, change).await.expect("a webhook");
}
