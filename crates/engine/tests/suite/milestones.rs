//! Triggers on pageviews, where they are counted as they come.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::event::Event;
use bellwether_domain::history::minute_of;
use bellwether_engine::Client;
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::detection::{data, take};
use super::restart::Process;
use super::rig::{Rig, seconds, signup, site_change, webhook_change};

const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

pub(crate) fn milestone(fields: Value) -> Value {
    let mut fields = fields;
    fields["type"] = json!("pageview_milestone");
    fields
}

/// A rig with a webhook that has these triggers, which have started.
async fn started(receiver: &Receiver, triggers: &[Value]) -> Rig {
    let rig = Rig::start().await;
    hook(&rig, receiver, triggers).await;
    view(&rig, "/begin", 1).await;
    start(&rig).await;
    rig
}

async fn hook(rig: &Rig, receiver: &Receiver, triggers: &[Value]) {
    let triggers: Vec<_> = triggers.iter().cloned().map(milestone).collect();
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await;
}

/// Finds out how far those have come that start, and tells of what was reached meanwhile.
async fn start(rig: &Rig) {
    rig.engine.start_milestones().await.expect("it is known");
    rig.engine.tick().await.expect("a tick");
    rig.engine.drained().await;
}

async fn view(rig: &Rig, path: &str, times: usize) {
    for _ in 0..times {
        take(rig, 1, json!({"n": "pageview", "u": format!("https://example.com{path}")})).await;
    }
}

/// The milestones that are told, and the pageviews with which.
pub(crate) fn told(receiver: &mut Receiver) -> Vec<(u64, u64)> {
    let number = |data: &Value, name: &str| data[name].as_u64().expect("a number");
    data(receiver).iter().map(|data| (number(data, "milestone"), number(data, "pageviews"))).collect()
}

/// How many pageviews were kept.
async fn kept(rig: &Rig) -> Vec<usize> {
    rig.numbers("SELECT pageviews FROM milestones ORDER BY pageviews").await
}

#[tokio::test]
async fn a_milestone_is_told_with_the_pageview_that_reaches_it() {
    let mut receiver = Receiver::start().await;
    let triggers = [json!({"threshold": 3}), json!({"threshold": 2, "repeat": true}), json!({"threshold": 2, "page": "/blog/*"})];
    let rig = started(&receiver, &triggers).await;
    view(&rig, "/", 1).await;
    let [reached] = &data(&mut receiver)[..] else { panic!("one") };
    let expected =
        json!({"threshold": 2, "milestone": 2, "pageviews": 2, "period": "total", "date": null, "page": null, "repeat": true});
    assert_eq!(reached, &expected);
    view(&rig, "/blog/a", 1).await;
    assert_eq!(told(&mut receiver), [(3, 3)]);
    // Neither a bot's view nor another event is a pageview.
    let event =
        Event::parse(json!({"n": "pageview", "u": "https://example.com/blog/c"}).to_string().as_bytes()).expect("an event");
    let bot = Client { user_agent: BOT, address: "198.51.100.9" };
    assert_eq!(rig.engine.ingest(&event, &bot).await.expect("an event that is taken").dropped, 1);
    take(&rig, 1, signup()).await;
    assert_eq!(told(&mut receiver), []);
    view(&rig, "/blog/b", 1).await;
    let mut reached = told(&mut receiver);
    reached.sort_unstable();
    assert_eq!(reached, [(2, 2), (4, 4)]);
    view(&rig, "/blog/b", 2).await;
    assert_eq!(told(&mut receiver), [(6, 6)]);
}

#[tokio::test]
async fn what_was_reached_before_there_was_a_trigger_is_not_told() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    view(&rig, "/", 5).await;
    rig.clock.advance(seconds(86_400));
    view(&rig, "/", 2).await;
    rig.engine.store_history(minute_of(rig.clock.now().second())).await.expect("minutes");
    view(&rig, "/", 2).await;
    let day = json!({"threshold": 3, "period": "day", "repeat": true});
    hook(&rig, &receiver, &[json!({"threshold": 9}), json!({"threshold": 10}), json!({"threshold": 4, "repeat": true}), day])
        .await;
    start(&rig).await;
    assert_eq!(told(&mut receiver), []);
    // There are nine, four of them on this day.
    view(&rig, "/", 1).await;
    assert_eq!(told(&mut receiver), [(10, 10)]);
    view(&rig, "/", 1).await;
    assert_eq!(told(&mut receiver), [(6, 6)]);
    view(&rig, "/", 1).await;
    assert_eq!(told(&mut receiver), [(12, 12)]);
}

#[tokio::test]
async fn a_day_begins_at_midnight_by_the_sites_clocks() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let zone = site_change(&json!({"timezone": "Asia/Kolkata"}));
    rig.engine.update_site(rig.site_id, zone).await.expect("the site");
    hook(&rig, &receiver, &[json!({"threshold": 2, "period": "day"})]).await;
    let to_midnight = |rig: &Rig| 86_400 - (u64::from(rig.clock.now().second()) + 19_800) % 86_400;
    rig.clock.advance(seconds(to_midnight(&rig) - 60));
    view(&rig, "/", 1).await;
    start(&rig).await;
    rig.clock.advance(seconds(59));
    view(&rig, "/", 1).await;
    let dates = |receiver: &mut Receiver| data(receiver).iter().map(|data| data["date"].clone()).collect::<Vec<_>>();
    let yesterday = dates(&mut receiver);
    assert_eq!(yesterday.len(), 1);
    rig.clock.advance(seconds(1));
    view(&rig, "/", 1).await;
    assert_eq!(told(&mut receiver), []);
    view(&rig, "/", 1).await;
    let today = dates(&mut receiver);
    assert!(today.len() == 1 && today != yesterday, "{today:?}");
    view(&rig, "/", 5).await;
    assert_eq!(told(&mut receiver), []);
}

#[tokio::test]
async fn counting_goes_on_after_a_restart_and_nothing_is_told_twice() {
    let mut receiver = Receiver::start().await;
    let triggers =
        [json!({"threshold": 4}), json!({"threshold": 3, "page": "/blog/*"}), json!({"threshold": 4, "period": "day"})];
    let mut rig = started(&receiver, &triggers).await;
    view(&rig, "/blog/a", 2).await;
    rig.restart().await;
    assert_eq!(kept(&rig).await, [2, 3, 3]);
    // Until it is known how far they had come nothing is told, and nothing is lost.
    view(&rig, "/blog/a", 1).await;
    start(&rig).await;
    let mut reached = told(&mut receiver);
    reached.sort_unstable();
    assert_eq!(reached, [(3, 3), (4, 4), (4, 4)]);
    rig.restart().await;
    view(&rig, "/blog/a", 9).await;
    start(&rig).await;
    assert_eq!(told(&mut receiver), []);
}

/// What was told is kept with the telling; of what was counted, what was not stored yet is lost.
#[test]
fn a_process_that_is_killed_loses_the_last_minute_and_tells_nothing_twice() {
    let (receiving, killed, next) = (Process::new(), Process::new(), Process::new());
    let mut receiver = receiving.run(Receiver::start());
    let mut rig = killed.run(async {
        let rig = started(&receiver, &[json!({"threshold": 4, "repeat": true}), json!({"threshold": 100, "page": "/"})]).await;
        view(&rig, "/", 2).await;
        rig.engine.store_history(minute_of(rig.clock.now().second())).await.expect("minutes");
        view(&rig, "/", 2).await;
        rig
    });
    assert_eq!(told(&mut receiver), [(4, 4)]);
    killed.kill();
    next.run(async {
        rig.start_again().await;
        rig.outlive_lease().await;
        view(&rig, "/", 1).await;
        start(&rig).await;
        // The fourth was kept with what it told; that there had been a fifth nobody knows any more.
        view(&rig, "/", 2).await;
        assert_eq!(told(&mut receiver), []);
        view(&rig, "/", 1).await;
        assert_eq!(told(&mut receiver), [(8, 8)]);
        rig.engine.store_history(u32::MAX).await.expect("minutes");
        assert_eq!(kept(&rig).await, [6, 8]);
    });
}

#[tokio::test]
async fn what_could_not_be_kept_is_told_with_the_next_pageview() {
    let mut receiver = Receiver::start().await;
    let rig = started(&receiver, &[json!({"threshold": 2})]).await;
    rig.disturb("ALTER TABLE milestones RENAME TO away").await;
    let event = json!({"n": "pageview", "u": "https://example.com/"});
    rig.visit(1, event.clone()).await.expect_err("nothing is kept");
    rig.disturb("ALTER TABLE away RENAME TO milestones").await;
    assert_eq!(told(&mut receiver), []);
    view(&rig, "/", 1).await;
    assert_eq!(told(&mut receiver), [(2, 3)]);
    view(&rig, "/", 3).await;
    assert_eq!((told(&mut receiver), rig.numbers("SELECT COUNT(*) FROM events").await), (vec![], vec![1]));
}

/// What was reached before it was known tells itself; where that cannot be kept it comes again.
#[tokio::test]
async fn what_is_reached_before_the_start_is_known_comes_again_where_it_could_not_be_kept() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    hook(&rig, &receiver, &[json!({"threshold": 2})]).await;
    rig.disturb("ALTER TABLE events RENAME TO away").await;
    view(&rig, "/", 2).await;
    rig.engine.start_milestones().await.expect("it is known");
    // It fails here, or in the engine's own tick.
    let _ = rig.engine.tick().await;
    rig.disturb("ALTER TABLE away RENAME TO events").await;
    start(&rig).await;
    assert_eq!(told(&mut receiver), [(2, 2)]);
}

#[tokio::test]
async fn a_site_where_nobody_is_any_more_is_forgotten_but_not_its_count() {
    let mut receiver = Receiver::start().await;
    let rig = started(&receiver, &[json!({"threshold": 5}), json!({"threshold": 4, "page": "/a"})]).await;
    view(&rig, "/a", 3).await;
    rig.clock.advance(seconds(2 * 86_400));
    // It is not forgotten before it is kept.
    rig.engine.keep_up().await;
    rig.engine.store_history(minute_of(rig.clock.now().second())).await.expect("minutes");
    rig.engine.keep_up().await;
    view(&rig, "/a", 1).await;
    start(&rig).await;
    let mut reached = told(&mut receiver);
    reached.sort_unstable();
    assert_eq!(reached, [(4, 4), (5, 5)]);
}

#[tokio::test]
async fn triggers_that_stay_go_on_and_those_that_are_gone_are_forgotten() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let (stays, goes) = (milestone(json!({"threshold": 3})), milestone(json!({"threshold": 100})));
    let webhook = rig.webhook(json!({"url": receiver.url(), "triggers": [goes, stays]})).await.webhook.id;
    view(&rig, "/", 1).await;
    start(&rig).await;
    view(&rig, "/", 1).await;
    rig.engine.store_history(u32::MAX).await.expect("minutes");
    assert_eq!(kept(&rig).await, [2, 2]);
    let change = async |fields: Value| {
        rig.engine.update_webhook(rig.site_id, webhook, webhook_change(&fields)).await.expect("a webhook");
    };
    change(json!({"triggers": [stays]})).await;
    rig.engine.prune().await.expect("pruned");
    assert_eq!(kept(&rig).await, [2]);
    // What is reached while it is switched off is told afterwards.
    change(json!({"enabled": false})).await;
    view(&rig, "/", 2).await;
    change(json!({"enabled": true})).await;
    start(&rig).await;
    assert_eq!(told(&mut receiver), [(3, 4)]);
}
