//! Several processes on one database that count in ClickHouse what happens on sites.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::counting::CountedIn;
use bellwether_domain::time::Timestamp;
use bellwether_engine::{Counter, IngestError, Settings, StartError};
use bellwether_store::Migration;
use bellwether_store::clickhouse::ClickHouse;
use bellwether_testkit::ambient::manual_of;
use bellwether_testkit::cable::Cable;
use bellwether_testkit::clickhouse::ClickHouse as Temporary;
use bellwether_testkit::receiver::Receiver;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::many::{beside, beside_as, heard, roles};
use crate::suite::detection::data;
use crate::suite::operation::Read;
use crate::suite::rig::{Rig, goal_spec, new_webhook, pageview, seconds, settings, signup, site_change, start};

/// A ClickHouse, and a process that counts there.
pub(crate) async fn counting() -> (Temporary, Rig) {
    let temporary = Temporary::temporary().await;
    let rig = Rig::start_with(counted_at(&temporary.url()).await).await;
    temporary.keep_everything().await;
    (temporary, rig)
}

async fn counted_at(url: &str) -> Settings {
    let clickhouse = ClickHouse::new(&url.parse().expect("a URL"));
    clickhouse.open(Migration::Run).await.expect("a schema");
    Settings { counter: Some(Counter::Own(clickhouse)), ..settings() }
}

/// Lets time pass for all processes.
pub(crate) fn pass(rigs: &[&Rig], time: u64) {
    rigs.iter().for_each(|rig| rig.clock.advance(seconds(time)));
}

/// Each looks once, and what that sets off is done.
pub(crate) async fn look(rigs: &[&Rig]) {
    for rig in rigs {
        rig.engine.dispatch_due().await.expect("a tick");
        rig.engine.look().await.expect("a look");
    }
    for rig in rigs {
        rig.engine.drained().await;
    }
}

/// Lets time pass for all, while they look so often that nobody misses anything.
async fn pass_looking(rigs: &[&Rig], time: u64) {
    for left in (0..time).step_by(50) {
        pass(rigs, (time - left).min(50));
        look(rigs).await;
    }
}

pub(crate) async fn visits(rig: &Rig, visitors: std::ops::Range<u8>, event: Value) {
    let visits = visitors.map(|visitor| rig.visit(visitor, event.clone()));
    try_join_all(visits).await.expect("events that are taken");
}

fn spike(receiver: &Receiver, threshold: u32) -> Value {
    let trigger = json!({"type": "visitor_spike", "unit": "visitors", "threshold": threshold, "window_seconds": 300, "cooldown_seconds": 0});
    json!({"url": receiver.url(), "triggers": [trigger]})
}

#[tokio::test]
async fn visitors_who_come_to_several_processes_are_counted_together() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    let other = beside(&one, 1).await;
    let webhook = one.webhook(spike(&receiver, 5)).await.webhook.id;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    let both = [&one, &other];
    look(&both).await;

    visits(&one, 1..4, json!({"n": "pageview", "u": "https://example.com/a", "r": "https://www.google.com/"})).await;
    pass(&both, 1);
    visits(&other, 3..5, json!({"n": "pageview", "u": "https://example.com/b"})).await;
    pass(&both, 1);
    look(&both).await;
    assert!(receiver.so_far().is_empty(), "four are not five");
    assert_eq!(other.engine.current_visitors(&[other.site()]).await.expect("a count"), [4]);

    visits(&other, 5..6, pageview()).await;
    pass(&both, 1);
    look(&both).await;
    let [spiked] = &data(&mut receiver)[..] else { panic!("one webhook") };
    assert_eq!((&spiked["current_visitors"], &spiked["previous_visitors"]), (&json!(5), &json!(0)));
    assert_eq!(spiked["top_sources"], json!([{"source": "Google", "visitors": 3}]));
    assert_eq!(spiked["top_pages"][0], json!({"page": "/a", "visitors": 3}));

    // As long as it is true it says nothing, and once it was not it does again.
    pass_looking(&both, 200).await;
    visits(&one, 1..6, pageview()).await;
    look(&both).await;
    pass_looking(&both, 299).await;
    assert!(receiver.so_far().is_empty());
    pass(&both, 2);
    look(&both).await;
    visits(&one, 1..6, pageview()).await;
    pass(&both, 1);
    look(&both).await;
    assert_eq!(data(&mut receiver).len(), 1);
}

#[tokio::test]
async fn a_process_that_counts_elsewhere_is_not_let_in_beside_one_that_lives() {
    let (clickhouse, here) = (Temporary::temporary().await, Rig::start().await);
    let elsewhere = counted_at(&clickhouse.url()).await;
    let try_beside = async |rig: &Rig, settings: &Settings, process: u64| {
        let (ambient, _) = manual_of(process);
        let living = async {
            let mut beats = tokio::time::interval(std::time::Duration::from_millis(100));
            loop {
                beats.tick().await;
                rig.pass(seconds(5)).await;
            }
        };
        tokio::select! {
            started = start(&rig.database, &ambient, settings, &rig.names) => started,
            () = living => unreachable!("it never ends"),
        }
    };
    // There is nothing yet that counts events.
    let refused = try_beside(&here, &elsewhere, 1).await.err();
    let apart = StartError::Apart { here: CountedIn::ClickHouse, there: CountedIn::Memory }.to_string();
    assert_eq!(refused.map(|refused| refused.to_string()), Some(apart));
    let sender = Settings { roles: roles("dispatch"), ..elsewhere.clone() };
    let (_, workers) = try_beside(&here, &sender, 2).await.expect("one that counts nothing");
    workers.stop().await.expect("a clean stop");
    here.workers.stop().await.expect("a clean stop");

    let rig = Rig::start_with(elsewhere).await;
    let refused = try_beside(&rig, &settings(), 3).await.err().map(|refused| refused.to_string());
    assert!(refused.is_some_and(|refused| refused.ends_with("set BELLWETHER_CLICKHOUSE_URL as they have it")));
}

#[tokio::test]
async fn a_process_without_that_role_does_not_look() {
    let (clickhouse, looking) = (Temporary::temporary().await, "SELECT COUNT(*) FROM ticks WHERE holder IS NOT NULL");
    let rig = Rig::start_with(Settings { roles: roles("web,ingest"), ..counted_at(&clickhouse.url()).await }).await;
    rig.engine.look().await.expect("nothing to do");
    assert_eq!(rig.numbers(looking).await, [0]);
    let other = beside_as(roles("dispatch,detect"), &rig, 1).await;
    other.engine.look().await.expect("a look");
    assert_eq!(rig.numbers(looking).await, [1]);
}

/// It has been watched for two windows only after ten minutes, and nothing that comes before is a spike.
#[tokio::test]
async fn a_comparison_waits_until_two_windows_were_counted() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    rig.webhook(json!({"url": receiver.url(), "triggers": [{"type": "visitor_spike", "threshold": 50, "cooldown_seconds": 0}]}))
        .await;
    look(&[&rig]).await;
    for minute in 0..12 {
        visits(&rig, 0..20, pageview()).await;
        pass(&[&rig], 50);
        look(&[&rig]).await;
        assert!(receiver.so_far().is_empty(), "minute {minute}");
    }
    visits(&rig, 0..40, pageview()).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    let [spiked] = &data(&mut receiver)[..] else { panic!("one webhook") };
    assert_eq!((&spiked["current_visitors"], &spiked["change_percent"]), (&json!(40), &json!(100.0)));

    // After a while in which nobody looked, nobody knows what was missed.
    pass(&[&rig], 3_600);
    look(&[&rig]).await;
    visits(&rig, 0..200, pageview()).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert!(receiver.so_far().is_empty());
}

#[tokio::test]
async fn completions_that_come_to_several_processes_fill_a_threshold() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    let other = beside(&one, 1).await;
    let trigger = json!({"type": "goal_completion", "goal_id": one.goal_id, "threshold": 3, "window_seconds": 60});
    let webhook = one.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await.webhook.id;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    let both = [&one, &other];
    look(&both).await;
    // The first two are too far apart from the next.
    for (rig, visitor, pause) in
        [(&one, 1, 1), (&other, 2, 70), (&one, 3, 1), (&other, 4, 1), (&other, 5, 1), (&one, 6, 1), (&one, 7, 1)]
    {
        rig.visit(visitor, json!({"n": "Signup", "u": format!("https://example.com/{visitor}")})).await.expect("an event");
        pass(&both, pause);
        look(&both).await;
    }
    let told = data(&mut receiver);
    let told: Vec<_> = told.iter().map(|data| (data["path"].as_str(), data["count"].as_u64())).collect();
    assert_eq!(told, [(Some("/5"), Some(3))]);
    visits(&other, 8..10, signup()).await;
    pass(&both, 1);
    look(&both).await;
    assert_eq!(data(&mut receiver).len(), 1, "6, 7 and one of the two are three");
}

/// An event that completes several goals fills a threshold in one moment, even twice.
#[tokio::test]
async fn one_event_may_complete_several_goals_that_count_together() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    for path in ["/*", "/b*", "/buy"] {
        rig.engine.create_goal(rig.site_id, goal_spec(&json!({"page_path": path}))).await.expect("a goal");
    }
    let trigger = json!({"type": "goal_completion", "threshold": 2, "window_seconds": 60});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    look(&[&rig]).await;
    pass(&[&rig], 1);
    rig.visit(1, json!({"n": "pageview", "u": "https://example.com/"})).await.expect("an event");
    pass(&[&rig], 1);
    rig.visit(1, json!({"n": "pageview", "u": "https://example.com/buy"})).await.expect("an event");
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert_eq!(data(&mut receiver).len(), 2, "four completions");
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert!(receiver.so_far().is_empty());
}

/// What several triggers say alike is told each webhook once, in one event.
#[tokio::test]
async fn triggers_that_are_filled_alike_share_an_event() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    let triggers = [(Some(rig.goal_id), 60), (None, 60), (None, 600)].map(|(goal_id, window_seconds)| {
        json!({"type": "goal_completion", "goal_id": goal_id, "threshold": 3, "window_seconds": window_seconds})
    });
    let both = json!({"url": receiver.url(), "triggers": triggers});
    let one = json!({"url": receiver.url(), "triggers": triggers[1..2]});
    for webhook in [both, one] {
        rig.webhook(webhook).await;
    }
    look(&[&rig]).await;
    pass(&[&rig], 1);
    visits(&rig, 1..4, signup()).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    let told = receiver.so_far();
    assert_eq!(told.len(), 2, "each webhook once");
    assert_eq!(told[0].headers["webhook-id"], told[1].headers["webhook-id"]);
}

/// What happened before a trigger was made is none of its business.
#[tokio::test]
async fn a_new_trigger_counts_from_then_on() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    look(&[&rig]).await;
    visits(&rig, 1..5, signup()).await;
    pass(&[&rig], 1);
    let trigger = json!({"type": "goal_completion", "threshold": 3, "window_seconds": 60});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    visits(&rig, 5..7, signup()).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert!(receiver.so_far().is_empty(), "two since then");
    visits(&rig, 7..8, signup()).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert_eq!(data(&mut receiver).len(), 1);
}

/// More sites than one look tells of are told of by the next ones.
#[tokio::test]
async fn a_rush_on_many_sites_is_told_of_one_look_after_the_other() {
    let (mut receiver, (clickhouse, rig)) = (Receiver::start().await, counting().await);
    for number in 0..35 {
        let domain = format!("site-{number}.example");
        let site = rig.engine.create_site(site_change(&json!({"domain": domain}))).await.expect("a site");
        let change = new_webhook(&spike(&receiver, 1));
        rig.engine.create_webhook(site.id, change).await.expect("a webhook");
    }
    look(&[&rig]).await;
    let sites = rig.engine.sites().iter().map(|site| format!("toUUID('{}')", site.site.id)).collect::<Vec<_>>().join(", ");
    let at = rig.clock.now().as_micros();
    clickhouse
        .execute(&format!(
            "INSERT INTO events (site_id, time, name, visitor) SELECT arrayJoin([{sites}]), fromUnixTimestamp64Micro({at}), 'pageview', 1"
        ))
        .await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert_eq!(data(&mut receiver).len(), 30);
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert_eq!(data(&mut receiver).len(), 5);
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert!(receiver.so_far().is_empty());
}

/// A clock that was ahead, and is set back, silences nothing until then.
#[tokio::test]
async fn a_clock_that_is_set_back_silences_no_trigger() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    rig.webhook(spike(&receiver, 3)).await;
    look(&[&rig]).await;
    rig.clock.set_forward(seconds(7_200));
    visits(&rig, 0..3, pageview()).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert_eq!(receiver.so_far().len(), 1);
    rig.clock.set_back(seconds(7_200));
    look(&[&rig]).await;
    visits(&rig, 0..3, pageview()).await;
    pass(&[&rig], 1);
    look(&[&rig]).await;
    assert_eq!(receiver.so_far().len(), 1);
}

/// Each of several processes that look finds the same, and one of them tells of it; also when the one that looked is gone.
#[tokio::test]
async fn nothing_fires_twice_whoever_looks() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    let other = beside(&one, 1).await;
    let webhook = one.webhook(spike(&receiver, 3)).await.webhook.id;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    let both = [&one, &other];
    look(&both).await;
    visits(&one, 0..3, pageview()).await;
    pass(&both, 1);
    let (a, b) = tokio::join!(one.engine.look(), other.engine.look());
    a.and(b).expect("two looks");
    look(&both).await;
    assert_eq!(receiver.so_far().len(), 1);

    // Somebody takes over in the middle of a look, and both have seen the same.
    pass_looking(&both, 400).await;
    visits(&one, 0..3, pageview()).await;
    pass(&both, 1);
    one.disturb("UPDATE ticks SET number = number + 1, holder = NULL").await;
    look(&both).await;
    pass(&both, 1);
    look(&both).await;
    pass(&both, 1);
    look(&both).await;
    assert_eq!(receiver.so_far().len(), 1);

    // The one that looks stops in good order; the other goes on at once with what it left.
    pass_looking(&both, 400).await;
    one.workers.stop().await.expect("a clean stop");
    visits(&other, 0..3, pageview()).await;
    pass(&both, 1);
    look(&[&other]).await;
    assert_eq!(receiver.so_far().len(), 1);
}

/// A process that is killed gives nothing back. Another looks when the number has stood still for a while.
#[tokio::test]
async fn another_looks_when_the_one_that_did_is_gone() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    one.webhook(spike(&receiver, 3)).await;
    look(&[&one]).await;
    one.disturb("UPDATE ticks SET number = number + 1, holder = '00000000-0000-7000-8000-000000000001'").await;
    visits(&one, 0..3, pageview()).await;
    for passed in 1..=12 {
        pass(&[&one], 1);
        look(&[&one]).await;
        assert!(receiver.so_far().is_empty(), "after {passed} s");
    }
    pass(&[&one], 2);
    look(&[&one]).await;
    pass(&[&one], 1);
    look(&[&one]).await;
    assert_eq!(receiver.so_far().len(), 1);
}

#[tokio::test]
async fn everybody_sees_for_how_long_nobody_has_looked() {
    let (_clickhouse, one) = counting().await;
    let other = beside(&one, 1).await;
    let both = [&one, &other];
    look(&both).await;
    for (pause, age) in [(0, 0.0), (40, 40.0), (50, 90.0)] {
        pass(&both, pause);
        for rig in both {
            rig.engine.measure().await;
            assert_eq!(Read::now().of("bellwether_look_age_seconds"), age);
        }
    }
    look(&both).await;
    other.engine.measure().await;
    assert_eq!(Read::now().of("bellwether_look_age_seconds"), 0.0);
}

/// What is usual is told from the events that are counted there.
#[tokio::test]
async fn a_rush_is_compared_with_the_day_before() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    let trigger = json!({"type": "visitor_spike", "window_seconds": 60, "threshold": 50, "min_visitors": 3, "cooldown_seconds": 0,
                         "baseline": "same_time_yesterday"});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    pass(&[&rig], 600);
    look(&[&rig]).await;
    let mut told = Vec::new();
    for visitors in [4, 5, 8] {
        visits(&rig, 1..1 + visitors, pageview()).await;
        pass(&[&rig], 1);
        look(&[&rig]).await;
        told.push(data(&mut receiver));
        pass_looking(&[&rig], 179).await;
        pass(&[&rig], 86_400 - 180);
        look(&[&rig]).await;
    }
    assert_eq!((told[0].len(), told[1].len(), told[2].len()), (0, 0, 1), "{told:?}");
    assert_eq!((&told[2][0]["current_visitors"], &told[2][0]["baseline_visitors"]), (&json!(8), &json!(5)));
}

/// Segments have their past there, be they new.
#[tokio::test]
async fn visits_of_a_segment_are_counted_apart_and_compared_with_theirs() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    let visit = |page: &str, referrer: &str| json!({"n": "pageview", "u": format!("https://example.com{page}"), "r": referrer});
    let (google, bing) = ("https://google.com", "https://bing.com");
    pass(&[&rig], 600);
    visits(&rig, 1..4, visit("/blog/a", google)).await;
    visits(&rig, 4..20, visit("/blog/a", bing)).await;
    visits(&rig, 20..40, visit("/", google)).await;
    visits(&rig, 50..51, json!({"n": "Signup", "u": "https://example.com/blog/a", "r": google})).await;
    pass(&[&rig], 86_400 - 120);
    let segment = |trigger: Value| {
        let mut trigger = trigger;
        (trigger["page"], trigger["source"], trigger["cooldown_seconds"]) = (json!("/blog/*"), json!("google"), json!(0));
        trigger
    };
    let triggers = [
        segment(
            json!({"type": "visitor_spike", "window_seconds": 60, "threshold": 50, "min_visitors": 3, "baseline": "same_time_yesterday"}),
        ),
        segment(json!({"type": "goal_rate", "window_seconds": 60, "threshold": 15, "min_visitors": 3, "direction": "above"})),
    ];
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers})).await;
    pass_looking(&[&rig], 120).await;
    let (mut told, steps) =
        (Vec::new(), [(1..6, "/", google), (6..13, "/blog/b", google), (13..30, "/blog/b", bing), (12..13, "/blog/b", google)]);
    for (step, (visitors, page, referrer)) in steps.into_iter().enumerate() {
        visits(&rig, visitors.clone(), visit(page, referrer)).await;
        if step == 3 {
            visits(&rig, 6..7, json!({"n": "Signup", "u": "https://example.com/", "r": google})).await;
            visits(&rig, 7..9, json!({"n": "Signup", "u": "https://example.com/blog/b", "r": google})).await;
            visits(&rig, 13..20, json!({"n": "Signup", "u": "https://example.com/blog/b", "r": bing})).await;
        }
        pass(&[&rig], 1);
        look(&[&rig]).await;
        told.extend(data(&mut receiver).into_iter().map(|data| (step, data)));
    }
    let [(1, spike), (3, rate)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&spike["current_visitors"], &spike["baseline_visitors"]), (&json!(7), &json!(4)));
    assert_eq!(
        (&spike["top_sources"], &spike["top_pages"]),
        (&json!([{"source": "Google", "visitors": 7}]), &json!([{"page": "/blog/b", "visitors": 7}]))
    );
    assert_eq!((&rate["completions"], &rate["visitors"], &rate["source"]), (&json!(2), &json!(7), &json!("google")));
}

/// Whoever looks, and whoever looked before.
#[tokio::test]
async fn what_is_over_is_told_by_whoever_looks() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    let trigger = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 3, "window_seconds": 60, "cooldown_seconds": 0,
                         "for_seconds": 5, "notify_resolved": true});
    let webhook = one.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await.webhook.id;
    let other = beside(&one, 1).await;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    let both = [&one, &other];
    pass_looking(&both, 120).await;
    visits(&other, 1..4, pageview()).await;
    let mut told = Vec::new();
    for second in 1..=70 {
        pass(&both, 1);
        look(if second <= 30 { &both } else { &both[1..] }).await;
        let types = data(&mut receiver);
        told.extend(types.iter().map(|data| (second, data["current_visitors"].clone(), data["duration_seconds"].clone())));
        if second == 30 {
            one.workers.stop().await.expect("a clean stop");
        }
    }
    assert_eq!(told, [(6, json!(3), json!(null)), (60, json!(0), json!(54))]);
}

#[tokio::test]
async fn hours_that_are_over_are_kept() {
    let (clickhouse, rig) = counting().await;
    for hour in 0..3 {
        visits(&rig, 1..3 + hour, pageview()).await;
        pass(&[&rig], 3_600);
    }
    let counted = rig.engine.hours(&rig.site(), Timestamp::EPOCH).await.expect("hours");
    assert_eq!(counted.iter().map(|hour| (hour.pageviews, hour.visitors)).collect::<Vec<_>>(), [(2, 2), (3, 3), (4, 4)]);
    pass(&[&rig], 300);
    for _ in 0..2 {
        rig.engine.keep_hours().await.expect("kept");
        let kept = clickhouse.texts("SELECT toString(hour) FROM traffic_hours FINAL ORDER BY hour").await;
        assert_eq!(kept, counted.iter().map(|hour| hour.hour.to_string()).collect::<Vec<_>>());
        assert_eq!(rig.engine.hours(&rig.site(), Timestamp::EPOCH).await.expect("hours"), counted);
    }
}

/// When a trigger fired that is gone is forgotten, and that of others is not.
#[tokio::test]
async fn what_is_forgotten_of_triggers() {
    let (mut receiver, (_clickhouse, rig)) = (Receiver::start().await, counting().await);
    let trigger =
        json!({"type": "visitor_spike", "unit": "visitors", "threshold": 3, "window_seconds": 60, "cooldown_seconds": 86_400});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        visits(&rig, 1..4, pageview()).await;
        pass(&[&rig], 1);
        look(&[&rig]).await;
        told.push(data(&mut receiver).len());
        pass(&[&rig], 4_000);
        look(&[&rig]).await;
    }
    assert_eq!(told, [1, 0, 0], "the hours that pass do not end its cooldown");
}

#[tokio::test]
async fn a_session_that_began_at_another_process_goes_on() {
    let (mut receiver, (_clickhouse, one)) = (Receiver::start().await, counting().await);
    let webhook = one.hook(&receiver).await;
    one.engine.create_goal(one.site_id, goal_spec(&json!({"page_path": "/long", "scroll_threshold": 50}))).await.expect("a goal");
    let other = beside(&one, 1).await;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    one.visit(1, json!({"n": "pageview", "u": "https://example.com/", "r": "https://www.google.com/"})).await.expect("an event");
    pass(&[&one, &other], 60);
    let scroll = json!({"n": "engagement", "u": "https://example.com/long", "sd": 60, "e": 10});
    assert_eq!(other.visit(1, scroll.clone()).await.expect("an event").dropped, 0);
    other.engine.drained().await;
    other.visit(1, signup()).await.expect("an event");
    other.engine.drained().await;
    let told = data(&mut receiver);
    let told: Vec<_> = told.iter().map(|data| (data["goal_type"].as_str(), data["source"].as_str())).collect();
    assert_eq!(told, [(Some("scroll"), Some("Google")), (Some("event"), Some("Google"))]);
    assert_eq!(other.visit(2, scroll).await.expect("an event").dropped, 1, "nobody knows of a session");
    let reading = json!({"n": "engagement", "u": "https://example.com/short", "sd": 60, "e": 10});
    assert_eq!(other.visit(2, reading).await.expect("an event").dropped, 0, "nobody asked whether there is a session");
}

/// While ClickHouse is away events are refused, before anything is done with them, and taken again when it is back.
#[tokio::test]
async fn events_are_refused_while_they_cannot_be_counted() {
    let (mut receiver, temporary) = (Receiver::start().await, Temporary::temporary().await);
    let cable = Cable::lay(temporary.address()).await;
    let rig = Rig::start_with(counted_at(&format!("http://{}/{}", cable.address(), temporary.name())).await).await;
    temporary.keep_everything().await;
    rig.hook(&receiver).await;
    rig.complete().await;
    rig.engine.drained().await;
    assert_eq!(receiver.so_far().len(), 1);

    cable.unplug();
    let refused = rig.visit(2, signup()).await.expect_err("it cannot be counted");
    assert!(matches!(refused, IngestError::Count(_)), "{refused}");
    let refused = rig.visit(2, pageview()).await.expect_err("it cannot be counted");
    assert!(matches!(refused, IngestError::Count(_)), "{refused}");
    rig.engine.drained().await;
    assert!(receiver.so_far().is_empty(), "and so nothing fired");
    assert!(rig.engine.current_visitors(&[rig.site()]).await.is_err());

    cable.mend();
    let again = async {
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(50));
        while rig.visit(3, signup()).await.is_err() {
            tries.tick().await;
        }
    };
    tokio::time::timeout(seconds(20), again).await.expect("it is back");
    assert_eq!(temporary.texts("SELECT count() FROM events WHERE name = 'Signup'").await, ["2"]);
}

/// What is counted is one row for each event that counts, without anything by which somebody could be followed.
#[tokio::test]
async fn what_is_written_for_counting() {
    let (temporary, rig) = counting().await;
    let purchase =
        json!({"n": "Signup", "u": "https://example.com/buy?utm_source=Mail", "p": {"plan": "pro"}, "r": "https://x.example/"});
    rig.visit(1, purchase).await.expect("an event");
    rig.visit(1, json!({"n": "pageview", "u": "https://example.com/a", "p": {"email": "a@example.com"}}))
        .await
        .expect("an event");
    rig.visit(1, json!({"n": "pageview", "u": "https://unknown.example/", "d": "unknown.example"})).await.expect("an event");
    let columns = "name, toString(source), page, toString(length(goals)), toString(props), toString(previous_visitor)";
    let rows = temporary.texts(&format!("SELECT arrayStringConcat([{columns}], '|') FROM events ORDER BY name")).await;
    assert_eq!(rows, ["Signup|Mail|/buy|1|{'plan':'pro'}|0", "pageview|Mail|/a|0|{}|0"]);
}
