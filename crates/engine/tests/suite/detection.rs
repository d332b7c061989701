//! From events to what fires. Every rule has its table in `domain`; here it is about the way through the engine.

use bellwether_domain::event::Event;
use bellwether_engine::Client;
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::{Value, json};

use super::rig::{FIREFOX, Rig, goal_spec, new_webhook, pageview, rule, seconds, signup, site_change, webhook_change};

/// The `data` of the requests so far.
pub(crate) fn data(receiver: &mut Receiver) -> Vec<Value> {
    let data = |request: Received| serde_json::from_slice::<Value>(&request.body).expect("JSON")["data"].take();
    receiver.so_far().into_iter().map(data).collect()
}

pub(crate) async fn take(rig: &Rig, visitor: u8, event: Value) {
    // The clock may have been turned by more than a lease, while a process that lives gives signs of life.
    rig.engine.dispatch_due().await.expect("a tick");
    rig.visit(visitor, event).await.expect("an event that is taken");
    rig.engine.drained().await;
}

#[tokio::test]
async fn every_type_of_goal_says_what_completed_it() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    let goals = [
        json!({"event_name": "Purchase", "currency": "EUR", "custom_props": {"plan": "pro"}}),
        json!({"page_path": "/blog/*"}),
        json!({"page_path": "/about", "scroll_threshold": 50}),
    ];
    for goal in goals {
        rig.engine.create_goal(rig.site_id, goal_spec(&goal)).await.expect("a goal");
    }
    let url = |path: &str| format!("https://example.com{path}");
    let revenue = json!({"amount": "29.90", "currency": "EUR"});
    let cases = [
        (
            json!({"n": "Purchase", "u": url("/pay"), "p": {"plan": "pro"}, "$": revenue}),
            json!({"goal_name": "Purchase", "goal_type": "event", "path": "/pay", "props": {"plan": "pro"}, "revenue": revenue}),
        ),
        (
            json!({"n": "pageview", "u": url("/blog/a/b"), "$": revenue}),
            json!({"goal_name": "Visit /blog/*", "goal_type": "page", "path": "/blog/a/b", "props": {}, "revenue": null}),
        ),
        (
            json!({"n": "engagement", "u": url("/about"), "sd": 60, "e": 10}),
            json!({"goal_name": "Scroll 50% on /about", "goal_type": "scroll", "path": "/about", "props": {}, "revenue": null}),
        ),
    ];
    for (event, expected) in cases {
        take(&rig, 1, event).await;
        let [completed] = &data(&mut receiver)[..] else { panic!("{expected}") };
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&completed[name], value, "{name} of {expected}");
        }
    }
    take(&rig, 1, json!({"n": "Purchase", "u": url("/pay"), "p": {"plan": "free"}})).await;
    take(&rig, 1, json!({"n": "engagement", "u": url("/about"), "sd": 40, "e": 10})).await;
    assert!(data(&mut receiver).is_empty());
}

#[tokio::test]
async fn an_event_that_completes_two_goals_makes_two_events() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    let more = json!({"event_name": "Signup", "custom_props": {"plan": "pro"}, "display_name": "Signup pro"});
    rig.engine.create_goal(rig.site_id, goal_spec(&more)).await.expect("a goal");
    take(&rig, 1, json!({"n": "Signup", "u": "https://example.com/", "p": {"plan": "pro"}})).await;
    let requests = receiver.so_far();
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
}

#[tokio::test]
async fn a_threshold_counts_completions_in_its_window_and_then_anew() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let trigger = json!({"type": "goal_completion", "threshold": 3, "window_seconds": 60});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    let mut fired = Vec::new();
    for (index, passed) in [0, 1, 59, 1, 1, 1, 1, 1].into_iter().enumerate() {
        rig.clock.advance(seconds(passed));
        take(&rig, 1, signup()).await;
        fired.extend(data(&mut receiver).iter().map(|data| (index, data["count"].clone())));
    }
    assert_eq!(fired, [(4, json!(3)), (7, json!(3))]);
}

/// The types of the events so far, and of each how many visitors there were.
fn told(receiver: &mut Receiver) -> Vec<(String, u64)> {
    let told = |request: Received| {
        let body = serde_json::from_slice::<Value>(&request.body).expect("JSON");
        let visitors = body["data"]["current_visitors"].as_u64().expect("a number");
        (body["event_type"].as_str().expect("a type").to_owned(), visitors)
    };
    receiver.so_far().into_iter().map(told).collect()
}

/// Lets so many seconds pass, one after the other, as the engine does by itself.
async fn pass(rig: &Rig, time: u64) {
    for _ in 0..time {
        rig.clock.advance(seconds(1));
        rig.engine.tick().await.expect("a tick");
    }
    rig.engine.dispatch_due().await.expect("a tick");
    rig.engine.drained().await;
}

fn event(name: &str, visitors: u64) -> (String, u64) {
    (name.to_owned(), visitors)
}

#[tokio::test]
async fn a_condition_must_last_and_its_end_is_told_although_nothing_happens() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let trigger = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 3, "window_seconds": 60, "cooldown_seconds": 0,
                         "for_seconds": 30, "notify_resolved": true});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    pass(&rig, 60).await;
    for visitor in [1, 2, 3] {
        take(&rig, visitor, pageview()).await;
    }
    pass(&rig, 29).await;
    assert_eq!(told(&mut receiver), []);
    pass(&rig, 1).await;
    assert_eq!(told(&mut receiver), [event("visitor_spike", 3)]);
    pass(&rig, 29).await;
    assert_eq!(told(&mut receiver), []);
    pass(&rig, 1).await;
    let body: Value = serde_json::from_slice(&receiver.so_far().remove(0).body).expect("JSON");
    assert_eq!((&body["event_type"], &body["data"]["duration_seconds"]), (&json!("visitor_spike_resolved"), &json!(30)));
    assert_eq!((&body["data"]["current_visitors"], &body["data"]["previous_visitors"]), (&json!(0), &json!(3)));

    // One that does not last is not told of.
    for visitor in [1, 2, 3] {
        take(&rig, visitor, pageview()).await;
        pass(&rig, 19).await;
    }
    pass(&rig, 200).await;
    assert_eq!(told(&mut receiver), []);
}

/// So many come every day at noon, and on one day many more.
#[tokio::test]
async fn what_time_alone_set_off_comes_again_where_it_could_not_be_kept() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let silent = json!({"type": "visitor_drop", "unit": "visitors", "window_seconds": 60});
    let quietly_over = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1, "window_seconds": 60});
    let never = json!({"type": "visitor_drop", "window_seconds": 60, "min_visitors": 10_000});
    rig.webhook(json!({"url": receiver.url(), "triggers": [quietly_over, never]})).await;
    let other = rig.engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site").id;
    let webhook = new_webhook(&json!({"url": receiver.url(), "triggers": [silent]}));
    rig.engine.create_webhook(other, webhook).await.expect("a webhook");
    take(&rig, 1, json!({"n": "pageview", "u": "https://example.com/", "d": "example.com,other.example"})).await;
    assert_eq!(told(&mut receiver), [event("visitor_spike", 1)]);
    pass(&rig, 58).await;
    rig.disturb("ALTER TABLE crossings RENAME TO away").await;
    rig.clock.advance(seconds(5));
    rig.engine.tick().await.expect_err("nothing is kept");
    rig.disturb("ALTER TABLE away RENAME TO crossings").await;
    assert!(told(&mut receiver).is_empty());
    pass(&rig, 2).await;
    assert_eq!(told(&mut receiver), [event("visitor_drop", 0)]);
    assert_eq!(rig.numbers("SELECT count(*) FROM crossings WHERE still_true").await, [1], "only the site that is silent");
}

#[tokio::test]
async fn a_rush_that_comes_every_day_is_none_beside_the_days_before() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let spike = |baseline: &str| {
        json!({"type": "visitor_spike", "window_seconds": 60, "threshold": 50, "min_visitors": 3, "cooldown_seconds": 0,
               "baseline": baseline})
    };
    for baseline in ["same_time_yesterday", "typical"] {
        rig.webhook(json!({"url": receiver.url_at("127.0.0.1"), "triggers": [spike(baseline)]})).await;
    }
    let (minute, day) = (60, 86_400);
    let mut fired = Vec::new();
    rig.pass(seconds(10 * minute)).await;
    for (number, visitors) in [4, 4, 4, 8].into_iter().enumerate() {
        rig.engine.compare().await.expect("a past");
        for visitor in 0..visitors {
            take(&rig, visitor, pageview()).await;
        }
        rig.engine.compare().await.expect("a past");
        pass(&rig, minute).await;
        fired.extend(data(&mut receiver).into_iter().map(|data| (number, data)));
        rig.engine.store_history(u32::MAX).await.expect("stored");
        rig.pass(seconds(day - minute)).await;
    }
    let [(3, data)] = &fired[..] else { panic!("{fired:?}") };
    assert_eq!((&data["baseline"], &data["baseline_visitors"]), (&json!("same_time_yesterday"), &json!(4)));
    assert_eq!((&data["current_visitors"], &data["change_percent"]), (&json!(7), &json!(75.0)));
}

#[tokio::test]
async fn what_is_over_is_told_after_a_restart_too_once_that_is_known() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let trigger = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 2, "window_seconds": 60, "cooldown_seconds": 0,
                         "notify_resolved": true});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    pass(&rig, 60).await;
    for visitor in [1, 2] {
        take(&rig, visitor, pageview()).await;
    }
    assert_eq!(told(&mut receiver), [event("visitor_spike", 2)]);
    rig.restart().await;
    for visitor in [1, 2] {
        take(&rig, visitor, pageview()).await;
    }
    pass(&rig, 59).await;
    assert_eq!(told(&mut receiver), [], "it goes on, and was told of before");
    rig.restart().await;
    pass(&rig, 58).await;
    assert_eq!(told(&mut receiver), [], "nobody knows who came before");
    pass(&rig, 2).await;
    assert_eq!(told(&mut receiver), [event("visitor_spike_resolved", 0)]);
    // Nor is it told again when the site was forgotten meanwhile, and somebody comes.
    rig.pass(seconds(7_200)).await;
    rig.engine.keep_up().await;
    take(&rig, 1, pageview()).await;
    pass(&rig, 120).await;
    rig.restart().await;
    pass(&rig, 120).await;
    assert_eq!(told(&mut receiver), []);
}

#[tokio::test]
async fn a_spike_in_visitors_fires_once_per_crossing() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let trigger =
        json!({"type": "visitor_spike", "unit": "visitors", "threshold": 3, "window_seconds": 60, "cooldown_seconds": 0});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    for visitor in [1, 1, 2, 3, 4] {
        take(&rig, visitor, json!({"n": "pageview", "u": "https://example.com/a", "r": "https://news.ycombinator.com"})).await;
    }
    let expected = json!({
        "current_visitors": 3, "previous_visitors": 0, "baseline": "previous_window", "baseline_visitors": null,
        "change_percent": null, "threshold": 3, "unit": "visitors",
        "window_seconds": 60, "page": null, "source": null,
        "top_sources": [{"source": "Hacker News", "visitors": 3}], "top_pages": [{"page": "/a", "visitors": 3}],
    });
    assert_eq!(data(&mut receiver), [expected]);
    rig.clock.advance(seconds(60));
    for visitor in [1, 2, 3, 4] {
        take(&rig, visitor, pageview()).await;
    }
    let again = data(&mut receiver);
    assert_eq!((again.len(), &again[0]["current_visitors"], &again[0]["previous_visitors"]), (1, &json!(3), &json!(4)));
}

#[tokio::test]
async fn a_new_trigger_counts_those_who_are_there_and_those_who_come_at_once() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    take(&rig, 1, pageview()).await;
    take(&rig, 2, pageview()).await;
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 4, "window_seconds": 7});
    rig.webhook(json!({"url": receiver.url(), "triggers": [spike]})).await;
    take(&rig, 3, pageview()).await;
    take(&rig, 1, pageview()).await;
    assert!(data(&mut receiver).is_empty());
    take(&rig, 4, pageview()).await;
    assert_eq!(data(&mut receiver)[0]["current_visitors"], json!(4));
}

#[tokio::test]
async fn a_window_longer_than_what_is_remembered_waits_until_it_was_watched_twice() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.clock.advance(seconds(3 * 86_400));
    take(&rig, 1, pageview()).await;
    rig.clock.advance(seconds(3 * 3_600));
    rig.engine.keep_up().await;
    let spike = json!({"type": "visitor_spike", "window_seconds": 86_400, "min_visitors": 1});
    rig.webhook(json!({"url": receiver.url(), "triggers": [spike]})).await;
    take(&rig, 2, pageview()).await;
    assert!(data(&mut receiver).is_empty(), "the visitor before is not forgotten");
    rig.clock.advance(seconds(46 * 3_600));
    take(&rig, 3, pageview()).await;
    take(&rig, 4, pageview()).await;
    assert_eq!(data(&mut receiver)[0]["previous_visitors"], json!(1));
}

#[tokio::test]
async fn a_spike_in_percent_waits_until_two_windows_were_watched() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let trigger =
        json!({"type": "visitor_spike", "threshold": 50, "window_seconds": 60, "min_visitors": 4, "cooldown_seconds": 0});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    rig.restart().await;
    let crowd = async |rig: &Rig, visitors: u8| {
        for visitor in 1..=visitors {
            take(rig, visitor, pageview()).await;
        }
    };
    crowd(&rig, 9).await;
    assert!(data(&mut receiver).is_empty(), "after a start everything looks like a spike");
    rig.clock.advance(seconds(120));
    crowd(&rig, 4).await;
    assert_eq!(data(&mut receiver)[0]["change_percent"], json!(null));
    rig.clock.advance(seconds(60));
    crowd(&rig, 6).await;
    assert!(data(&mut receiver).is_empty(), "6 are not more than 50 % above 4");
    rig.clock.advance(seconds(60));
    crowd(&rig, 10).await;
    assert_eq!(data(&mut receiver)[0]["change_percent"], json!(66.6));
}

#[tokio::test]
async fn what_does_not_count_is_dropped_and_fires_nothing() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    let bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    let cases = [
        (bot, signup()),
        (FIREFOX, json!({"n": "Signup", "u": "https://example.com/", "r": "https://semalt.com/x"})),
        (FIREFOX, json!({"n": "Signup", "u": "https://example.com/", "d": "unknown.example"})),
        (FIREFOX, json!({"n": "engagement", "u": "https://example.com/", "sd": 90, "e": 10})),
    ];
    for (user_agent, event) in cases {
        let parsed = Event::parse(event.to_string().as_bytes()).expect("an event");
        let client = Client { user_agent, address: "198.51.100.7" };
        assert_eq!(rig.engine.ingest(&parsed, &client).await.expect("an answer").dropped, 1, "{event}");
    }
    assert_eq!(rig.engine.current_visitors(&[rig.site()]).await.expect("a count"), [0]);
    rig.engine.drained().await;
    assert!(receiver.so_far().is_empty());
}

#[tokio::test]
async fn an_event_counts_for_each_of_its_domains() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    let other = rig.engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site");
    rig.engine.create_goal(other.id, goal_spec(&json!({"event_name": "Signup"}))).await.expect("a goal");
    let fields = json!({"url": receiver.url(), "triggers": ["goal_completion"]});
    rig.engine.create_webhook(other.id, new_webhook(&fields)).await.expect("a webhook");
    let event = json!({"n": "Signup", "u": "https://example.com/", "d": "example.com,unknown.example,other.example"});
    assert_eq!(rig.visit(1, event).await.expect("an answer").dropped, 1);
    let domain = |request: Received| serde_json::from_slice::<Value>(&request.body).expect("JSON")["site_domain"].take();
    let mut domains: Vec<_> = receiver.received(2).await.into_iter().map(domain).collect();
    domains.sort_by_key(Value::to_string);
    assert_eq!(domains, ["example.com", "other.example"]);
    for site in rig.engine.sites() {
        let visitors = rig.engine.current_visitors(std::slice::from_ref(&site)).await.expect("a count");
        assert_eq!(visitors, [1], "{}", site.site.domain);
    }
}

#[tokio::test]
async fn changes_count_from_the_next_event_on() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let (engine, site_id) = (&rig.engine, rig.site_id);
    let webhook = rig.webhook(json!({"url": receiver.url()})).await.webhook.id;
    let fired = async |receiver: &mut Receiver| {
        take(&rig, 1, json!({"n": "Trial", "u": "https://example.com/"})).await;
        receiver.so_far().len()
    };
    assert_eq!(fired(&mut receiver).await, 0, "a webhook without triggers");
    let trigger = engine.create_trigger(site_id, webhook, rule(&json!("goal_completion"))).await.expect("a trigger");
    assert_eq!(fired(&mut receiver).await, 0, "no such goal");
    let goal = engine.create_goal(site_id, goal_spec(&json!({"event_name": "Trial"}))).await.expect("a goal");
    assert_eq!(fired(&mut receiver).await, 1);
    engine.delete_trigger(site_id, webhook, trigger.id).await.expect("a trigger");
    assert_eq!(fired(&mut receiver).await, 0, "the trigger is gone");
    let only = json!({"triggers": [{"type": "goal_completion", "goal_id": goal.id}]});
    engine.update_webhook(site_id, webhook, webhook_change(&only)).await.expect("a webhook");
    assert_eq!(fired(&mut receiver).await, 1);
    engine.update_site(site_id, site_change(&json!({"domain": "renamed.example"}))).await.expect("a site");
    assert_eq!(fired(&mut receiver).await, 0, "the domain is another");
    engine.update_site(site_id, site_change(&json!({"domain": "example.com"}))).await.expect("a site");
    assert_eq!(fired(&mut receiver).await, 1);
    engine.delete_goal(site_id, goal.id).await.expect("a goal");
    assert_eq!(fired(&mut receiver).await, 0, "the goal is gone");
    assert!(rig.site().webhook(webhook).expect("the webhook").webhook.triggers.is_empty());
}
