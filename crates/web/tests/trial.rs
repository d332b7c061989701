//! Triggers over the REST API, tried on what has happened before they are saved.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::history::{Gaps, Minute, minute_of};
use serde_json::{Value, json};

use crate::support::Server;

const TRIAL: &str = "/api/sites/example.com/triggers/trial";

/// A site on which five come in each of the last minutes, and once so many, two hours ago.
async fn server(rush: u32) -> Server {
    let server = Server::start().await;
    let site = server.add_site("example.com").await.parse().expect("an id");
    server.clock.advance(std::time::Duration::from_secs(86_400));
    let now = minute_of(server.clock.now().second());
    let minute = |minute| {
        let mut visitors = Gaps::default();
        visitors[0] = if minute == now - 120 { rush } else { 5 };
        Minute { minute, visitors, ..Minute::default() }
    };
    let minutes = (now - 300..=now).map(|number| (site, minute(number))).collect();
    server.engine.store().add_minutes(minutes).await.expect("minutes");
    server
}

#[tokio::test]
async fn a_trial_shows_what_a_trigger_would_have_seen_and_told() {
    let server = server(40).await;
    let trigger =
        json!({"type": "visitor_spike", "unit": "visitors", "threshold": 30, "window_seconds": 60, "notify_resolved": true});
    let shown = server.call("POST", TRIAL, &json!({"trigger": trigger, "days": 1})).await.json(200);
    assert_eq!((&shown["days"], &shown["fired_count"], &shown["is_exact"]), (&json!(1), &json!(1), &json!(true)));
    assert_eq!((&shown["trigger"]["threshold"], &shown["suggested"]["threshold"]), (&json!(30), &json!(40)));
    let series = shown["series"].as_array().expect("a series");
    assert_eq!(series.len(), 1_440);
    let highest = series.iter().max_by_key(|point| point["value"].as_f64().map(f64::to_bits)).expect("a point");
    assert_eq!((&highest["value"], &highest["fires_above"], &highest["fires_below"]), (&json!(40.0), &json!(30.0), &Value::Null));
    let fired = shown["fired"].as_array().expect("what is told");
    let told: Vec<_> =
        fired.iter().map(|told| (&told["payload"]["event_type"], &told["payload"]["data"]["current_visitors"])).collect();
    assert_eq!(told, [(&json!("visitor_spike"), &json!(40)), (&json!("visitor_spike_resolved"), &json!(5))]);
    assert_eq!(fired[0]["time"], highest["time"]);
    assert_eq!(fired[0]["payload"]["site_domain"], "example.com");
    let week = server.call("POST", TRIAL, &json!({"trigger": trigger})).await.json(200);
    let series = week["series"].as_array().expect("a series");
    assert!(series.len() <= 2_016 && series.iter().any(|point| point["value"] == 40.0), "{}", series.len());
}

/// A site that had a thousand pageviews before the days that are shown, and ten in each of the last hundred minutes.
async fn server_with_pageviews() -> Server {
    let server = Server::start().await;
    let site = server.add_site("example.com").await.parse().expect("an id");
    server.clock.advance(std::time::Duration::from_secs(9 * 86_400));
    let now = minute_of(server.clock.now().second());
    let minute = |minute, pageviews| (site, Minute { minute, pageviews, ..Minute::default() });
    let mut minutes = vec![minute(now - 2 * 1_440, 1_000)];
    minutes.extend((now - 99..=now).map(|number| minute(number, 10)));
    server.engine.store().add_minutes(minutes).await.expect("minutes");
    server
}

#[tokio::test]
async fn a_trial_of_a_total_goes_on_from_what_there_was_before() {
    let server = server_with_pageviews().await;
    let tried = async |mut trigger: Value| {
        trigger["type"] = json!("pageview_milestone");
        server.call("POST", TRIAL, &json!({"trigger": trigger, "days": 1})).await.json(200)
    };
    let again = tried(json!({"threshold": 400, "repeat": true})).await;
    let told = again["fired"].as_array().expect("what is told").iter();
    let told: Vec<_> = told.map(|told| told["payload"]["data"]["pageviews"].clone()).collect();
    assert_eq!(told, [json!(1_200), json!(1_600), json!(2_000)]);
    let series = again["series"].as_array().expect("a series");
    let point = |point: &Value| (point["value"].clone(), point["fires_above"].clone());
    assert_eq!(point(&series[0]), (json!(1_000.0), json!(1_200.0)));
    assert_eq!(point(&series[1_439]).0, json!(2_000.0));
    assert_eq!((&again["suggested"]["threshold"], &again["is_passed"]), (&json!(5_000), &json!(false)));
    let passed = tried(json!({"threshold": 900})).await;
    assert_eq!((&passed["fired_count"], &passed["is_passed"], &passed["suggested"]), (&json!(0), &json!(true), &Value::Null));
    let coming = tried(json!({"threshold": 3_000})).await;
    assert_eq!((&coming["fired_count"], &coming["is_passed"]), (&json!(0), &json!(false)));
    let day = tried(json!({"threshold": 900, "period": "day"})).await;
    assert_eq!(
        (&day["fired_count"], &day["is_passed"], &day["suggested"]["threshold"]),
        (&json!(1), &json!(false), &json!(1_000))
    );
}

#[tokio::test]
async fn a_trial_says_when_there_is_not_enough_history() {
    let server = server(40).await;
    for (trigger, has_history) in [(json!("anomaly"), false), (json!("visitor_drop"), true)] {
        let shown = server.call("POST", TRIAL, &json!({"trigger": trigger})).await.json(200);
        assert_eq!((&shown["has_history"], &shown["fired_count"]), (&json!(has_history), &json!(0)), "{trigger}");
    }
}

#[tokio::test]
async fn a_segment_is_tried_on_what_was_counted_of_it() {
    let server = server(40).await;
    let trigger = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 3, "window_seconds": 60, "page": "/blog/*"});
    let tried = async || {
        let shown = server.call("POST", TRIAL, &json!({"trigger": trigger})).await.json(200);
        (shown["has_history"].clone(), shown["fired_count"].clone())
    };
    assert_eq!(tried().await, (json!(false), json!(0)), "nothing was counted yet");
    let webhook = json!({"url": "https://nowhere.example/", "triggers": [trigger]});
    server.call("POST", "/api/sites/example.com/webhooks", &webhook).await.json(201);
    server.engine.store_history(u32::MAX).await.expect("stored");
    server.clock.advance(std::time::Duration::from_secs(180));
    for (version, page) in [(1, "/blog/a"), (2, "/blog/b"), (3, "/blog/a"), (4, "/")] {
        let browser = format!("Mozilla/5.0 (X11; Linux x86_64; rv:{version}) Gecko/20100101 Firefox/{version}");
        let event = json!({"n": "pageview", "u": format!("https://example.com{page}"), "d": "example.com"});
        assert_eq!(server.event_with(&[("user-agent", &browser)], event.to_string().into()).await.status, 202);
    }
    assert_eq!(tried().await, (json!(true), json!(1)));
}

#[tokio::test]
async fn what_cannot_be_tried_is_refused_by_name() {
    let server = server(5).await;
    let other = server.add_site("other.example").await;
    let goal = server.add_goal(&other, "Signup").await;
    let cases = [
        (json!({}), "trigger", "is required"),
        (json!({"trigger": "visitor_drop", "days": 31}), "days", "must be a whole number from 1 to 30"),
        (
            json!({"trigger": {"type": "visitor_drop", "threshold": 0}}),
            "trigger.threshold",
            "must be a whole number from 1 to 100",
        ),
        (json!({"trigger": "webhook_disabled"}), "trigger", "cannot be tried on what has happened"),
        (json!({"trigger": {"type": "pageview_milestone", "page": "/a"}}), "trigger", "cannot be tried on what has happened"),
        (
            json!({"trigger": "new_source"}),
            "trigger",
            "cannot be tried: the history of traffic does not tell where visitors came from; nor does it fire yet, before it is known \
             of 30 days which sources the site has seen",
        ),
        (
            json!({"trigger": {"type": "new_source", "min_visitors": 0}}),
            "trigger.min_visitors",
            "must be a whole number from 1 to 10000",
        ),
        (
            json!({"trigger": {"type": "goal_rate", "threshold": 2, "goal_id": goal}}),
            "trigger.goal_id",
            "must be the id of a goal of the site",
        ),
        (json!({"trigger": "visitor_drop", "webhook": 1}), "webhook", "is not a known field"),
    ];
    server.assert_refusals("POST", TRIAL, "/api/sites/example.com/webhooks", &cases).await;
}

#[tokio::test]
async fn a_trigger_on_new_sources_cannot_be_tried_and_the_answer_says_why() {
    let server = server(5).await;
    for _ in 0..30 {
        server.clock.advance(std::time::Duration::from_secs(86_400));
        server.engine.store_history(u32::MAX).await.expect("notes");
    }
    let why = "cannot be tried: the history of traffic does not tell where visitors came from";
    let cases = [(json!({"trigger": "new_source"}), "trigger", why)];
    server.assert_refusals("POST", TRIAL, "/api/sites/example.com/webhooks", &cases).await;
}
