//! Shapes of traffic, and what the triggers with a condition, and those on pageviews, make of them while it comes; and that a trial
//! makes the same of it.

use std::collections::BTreeMap;

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::event::Event;
use bellwether_domain::history::{Gaps, Minute, minute_of};
use bellwether_domain::payload::Data;
use bellwether_domain::trigger::Rule;
use bellwether_engine::Client;
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::{Value, json};

use super::rig::{FIREFOX, Rig, rule, seconds};

/// The first minutes of every shape, in which it settles.
const WARM_UP: u32 = 60;
const MINUTES: u32 = 240;
/// So much before and after it is as usual, too.
const MARGIN: u32 = 90;
const WEEK_MINUTES: u32 = 7 * 24 * 60;
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

/// How traffic comes. Something happens at minute 120.
struct Shape {
    name: &'static str,
    /// How many come in a minute, each for the first time.
    visitors: fn(u32) -> u32,
    /// How many came in the same minute of the weeks before; none for a site that is new.
    usual: Option<fn(u32) -> u32>,
    /// Whether one in twenty signs up.
    signs_up: fn(u32) -> bool,
    agent: fn(u32) -> &'static str,
    /// Where each visitor of a minute comes from, by number; none directly.
    source: fn(u32, u32) -> Option<&'static str>,
    /// When the server is started again.
    restart: Option<u32>,
    /// What is told, in which minute.
    told: &'static [(u32, &'static str)],
    /// Which milestones are, in which minute.
    reached: &'static [(u32, &'static str)],
}

const STEADY: Shape = Shape {
    name: "steady",
    visitors: |_| 10,
    usual: Some(|_| 10),
    signs_up: |_| true,
    agent: |_| FIREFOX,
    source: from_google,
    restart: None,
    told: &[],
    reached: &[
        (89, "pageview_milestone 900 total"),
        (129, "pageview_milestone 1300 day"),
        (149, "pageview_milestone 1500 total"),
        (179, "pageview_milestone 1800 total"),
    ],
};

const SHAPES: [Shape; 14] = [
    STEADY,
    Shape { name: "quiet", visitors: few, usual: Some(few), source: |_, _| Some("A blog"), reached: &[], ..STEADY },
    Shape {
        name: "growing",
        visitors: |minute| 10 + minute / 20,
        usual: Some(|minute| 10 + minute / 20),
        source: |minute, visitor| if visitor < 10 { from_google(minute, visitor) } else { Some("Weekly") },
        reached: &[
            (78, "pageview_milestone 900 total"),
            (106, "pageview_milestone 1300 day"),
            (119, "pageview_milestone 1500 total"),
            (138, "pageview_milestone 1800 total"),
            (189, "pageview_milestone 2700 total"),
            (234, "pageview_milestone 3600 total"),
        ],
        ..STEADY
    },
    Shape {
        name: "growing on a new site",
        visitors: |minute| 10 + minute / 20,
        usual: None,
        source: |minute, visitor| if visitor < 10 { from_google(minute, visitor) } else { Some("Somewhere") },
        reached: &[
            (78, "pageview_milestone 900 total"),
            (106, "pageview_milestone 1300 day"),
            (119, "pageview_milestone 1500 total"),
            (138, "pageview_milestone 1800 total"),
            (189, "pageview_milestone 2700 total"),
            (234, "pageview_milestone 3600 total"),
        ],
        ..STEADY
    },
    Shape {
        name: "spike",
        visitors: |minute| if (120..135).contains(&minute) { 60 } else { 10 },
        source: |minute, visitor| if minute < 120 || visitor < 10 { from_google(minute, visitor) } else { Some("Somewhere") },
        told: &[
            (120, "new_source Somewhere"),
            (122, "anomaly"),
            (122, "visitor_spike previous_window"),
            (122, "visitor_spike typical"),
            (125, "goal_completion"),
            (132, "goal_completion"),
            (133, "visitor_spike_resolved previous_window"),
            (141, "visitor_drop previous_window"),
            (141, "visitor_drop_resolved previous_window"),
            (142, "visitor_spike_resolved typical"),
            (162, "anomaly_resolved"),
        ],
        reached: &[
            (89, "pageview_milestone 900 total"),
            (121, "pageview_milestone 1300 day"),
            (124, "pageview_milestone 1500 total"),
            (129, "pageview_milestone 1800 total"),
            (194, "pageview_milestone 2700 total"),
        ],
        ..STEADY
    },
    Shape {
        name: "drop",
        visitors: |minute| if minute < 120 { 10 } else { 2 },
        told: &[
            (126, "visitor_drop previous_window"),
            (128, "visitor_drop visitors from Google"),
            (133, "anomaly"),
            (133, "anomaly_resolved"),
            (137, "visitor_drop_resolved previous_window"),
            (193, "anomaly"),
        ],
        reached: &[(89, "pageview_milestone 900 total"), (169, "pageview_milestone 1300 day")],
        ..STEADY
    },
    Shape {
        name: "day and night",
        visitors: evening,
        usual: Some(evening),
        told: &[(210, "visitor_drop visitors from Google")],
        reached: &[
            (89, "pageview_milestone 900 total"),
            (131, "pageview_milestone 1300 day"),
            (158, "pageview_milestone 1500 total"),
            (229, "pageview_milestone 1800 total"),
        ],
        ..STEADY
    },
    Shape {
        name: "a night by day",
        visitors: evening,
        told: &[(176, "anomaly"), (176, "anomaly_resolved"), (210, "visitor_drop visitors from Google"), (236, "anomaly")],
        reached: &[
            (89, "pageview_milestone 900 total"),
            (131, "pageview_milestone 1300 day"),
            (158, "pageview_milestone 1500 total"),
            (229, "pageview_milestone 1800 total"),
        ],
        ..STEADY
    },
    Shape {
        name: "weekly",
        visitors: |minute| if minute < 120 { 10 } else { 30 },
        usual: Some(|minute| if minute < 120 { 10 } else { 30 }),
        source: |minute, visitor| if visitor < 10 { from_google(minute, visitor) } else { Some("Weekly") },
        told: &[(125, "visitor_spike previous_window"), (132, "visitor_spike_resolved previous_window")],
        reached: &[
            (89, "pageview_milestone 900 total"),
            (123, "pageview_milestone 1300 day"),
            (129, "pageview_milestone 1500 total"),
            (139, "pageview_milestone 1800 total"),
            (169, "pageview_milestone 2700 total"),
            (199, "pageview_milestone 3600 total"),
            (229, "pageview_milestone 4500 total"),
        ],
        ..STEADY
    },
    Shape {
        name: "silent",
        visitors: until_120,
        told: &[
            (125, "visitor_drop previous_window"),
            (126, "visitor_drop visitors from Google"),
            (130, "anomaly"),
            (136, "visitor_drop_resolved previous_window"),
            (139, "visitor_drop visitors"),
        ],
        reached: &[(89, "pageview_milestone 900 total")],
        ..STEADY
    },
    // One a minute, of whom nine came before it was restarted.
    Shape {
        name: "restarted in the middle",
        restart: Some(120),
        source: |minute, visitor| if visitor == 5 && minute > 110 { Some("A blog") } else { from_google(minute, visitor) },
        told: &[(129, "new_source A blog")],
        ..STEADY
    },
    Shape {
        name: "silent when it was restarted",
        visitors: until_120,
        restart: Some(123),
        told: &[(132, "visitor_drop visitors from Google"), (142, "visitor_drop visitors"), (152, "anomaly")],
        reached: &[(89, "pageview_milestone 900 total")],
        ..STEADY
    },
    Shape {
        name: "bots only",
        visitors: |_| 10,
        agent: |minute| if minute < 120 { FIREFOX } else { BOT },
        source: |minute, visitor| if minute < 120 { from_google(minute, visitor) } else { Some("Somewhere") },
        told: &[
            (125, "visitor_drop previous_window"),
            (126, "visitor_drop visitors from Google"),
            (130, "anomaly"),
            (136, "visitor_drop_resolved previous_window"),
            (139, "visitor_drop visitors"),
        ],
        reached: &[(89, "pageview_milestone 900 total")],
        ..STEADY
    },
    Shape { name: "nobody signs up", signs_up: |minute| minute < 120, told: &[(138, "goal_rate")], ..STEADY },
];

/// Some come from where some always have, and most directly.
fn from_google(_: u32, visitor: u32) -> Option<&'static str> {
    visitor.is_multiple_of(3).then_some("Google")
}

fn few(minute: u32) -> u32 {
    u32::from(minute.is_multiple_of(5))
}

fn evening(minute: u32) -> u32 {
    10 - (minute.max(100) - 100).min(120) / 15
}

fn until_120(minute: u32) -> u32 {
    if minute < 120 { 10 } else { 0 }
}

fn rules() -> Vec<Value> {
    let with = |mut rule: Value| {
        rule["notify_resolved"] = json!(true);
        rule
    };
    vec![
        with(json!({"type": "visitor_spike", "threshold": 100, "window_seconds": 600})),
        with(json!({"type": "visitor_spike", "threshold": 100, "window_seconds": 600, "baseline": "typical"})),
        with(json!({"type": "visitor_drop", "threshold": 50, "window_seconds": 600, "min_visitors": 40})),
        with(json!({"type": "visitor_drop", "unit": "visitors", "window_seconds": 1_200})),
        with(json!({"type": "goal_rate", "threshold": 2, "window_seconds": 1_800, "min_visitors": 50})),
        with(json!({"type": "anomaly", "window_seconds": 1_800})),
        json!({"type": "new_source", "min_visitors": 10, "window_seconds": 600}),
        json!({"type": "goal_completion", "threshold": 20, "window_seconds": 600}),
        json!({"type": "visitor_drop", "unit": "visitors", "threshold": 15, "window_seconds": 600, "source": "Google"}),
        json!({"type": "pageview_milestone", "threshold": 1_500}),
        json!({"type": "pageview_milestone", "threshold": 900, "repeat": true}),
        json!({"type": "pageview_milestone", "threshold": 1_300, "period": "day"}),
    ]
}

/// What is told, in a few words.
fn words(data: &Value, event_type: &str) -> String {
    let of = match data["unit"].as_str() {
        Some("percent") => data["baseline"].as_str().map(str::to_owned),
        Some(unit) => Some(data["source"].as_str().map_or(unit.to_owned(), |source| format!("{unit} from {source}"))),
        None if event_type == "goal_completion" => None,
        None => match data["milestone"].as_u64() {
            Some(reached) => Some(format!("{reached} {}", data["period"].as_str().unwrap_or_default())),
            None => data["source"].as_str().map(str::to_owned),
        },
    };
    [Some(event_type.to_owned()), of].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A site that has been there for four weeks, with what is usual, unless it is new.
async fn site(shape: &Shape, receiver: &Receiver) -> (Rig, u32) {
    let mut rig = Rig::start().await;
    rig.webhook(json!({"url": receiver.url(), "triggers": rules()})).await;
    if shape.usual.is_some() {
        for _ in 0..6 {
            rig.clock.advance(seconds(5 * 86_400));
            rig.engine.store_history(u32::MAX).await.expect("notes");
        }
        // What a server does ahead of time is done for the new time, too.
        rig.restart().await;
    }
    let now = rig.clock.now().second();
    rig.clock.advance(seconds(u64::from(60 - now % 60)));
    let first = minute_of(rig.clock.now().second());
    let usual = |usual: fn(u32) -> u32| {
        let of_week = move |weeks: u32| {
            (0..MINUTES + 2 * MARGIN).map(move |minute| {
                let mut visitors = Gaps::default();
                visitors[0] = usual(minute.saturating_sub(MARGIN));
                Minute { minute: first + minute - MARGIN - weeks * WEEK_MINUTES, visitors, ..Minute::default() }
            })
        };
        (1..=4).flat_map(of_week).collect::<Vec<_>>()
    };
    let minutes = shape.usual.map(usual).unwrap_or_default();
    let minutes = minutes.into_iter().map(|minute| (rig.site_id.into(), minute)).collect();
    rig.engine.store().add_minutes(minutes).await.expect("minutes");
    if shape.usual.is_some() {
        let day = rig.clock.now().second() / 86_400;
        let seen = [("Google", day - 1), ("Weekly", day - 7)].map(|(source, day)| (rig.site_id, source.into(), day));
        rig.engine.store().note_sources(seen.into()).await.expect("notes");
    }
    (rig, first)
}

/// Lets the visitors of a minute come, one after the other, and the engine do what it does by itself.
async fn pass_minute(rig: &Rig, shape: &Shape, minute: u32) {
    let (visitors, mut passed) = ((shape.visitors)(minute), 0);
    for visitor in 0..visitors {
        let second = visitor * 60 / visitors;
        pass(rig, second - std::mem::replace(&mut passed, second)).await;
        let address = format!("10.{}.{}.{}", minute / 200, minute % 200, visitor);
        let client = Client { user_agent: (shape.agent)(minute), address: &address };
        let signs_up = (shape.signs_up)(minute) && (minute * 10 + visitor).is_multiple_of(20);
        let names = if signs_up { &["pageview", "Signup"][..] } else { &["pageview"] };
        for name in names {
            let query = (shape.source)(minute, visitor).map(|source| format!("?ref={source}")).unwrap_or_default();
            let event = json!({"n": name, "u": format!("https://example.com/{query}")}).to_string();
            rig.engine.ingest(&Event::parse(event.as_bytes()).expect("an event"), &client).await.expect("an event that is taken");
        }
    }
    pass(rig, 59 - passed).await;
    rig.engine.dispatch_due().await.expect("a tick");
    rig.engine.drained().await;
    rig.engine.store_history(minute_of(rig.clock.now().second())).await.expect("minutes");
}

/// Lets seconds pass, at whose end the engine looks.
async fn pass(rig: &Rig, time: u32) {
    rig.clock.advance(seconds(time.into()));
    rig.engine.compare().await.expect("what is usual");
    rig.engine.look_up_sources().await.expect("what was seen");
    rig.engine.start_milestones().await.expect("it is known");
    rig.engine.tick().await.expect("a tick");
}

async fn live(rig: &mut Rig, shape: &Shape, receiver: &mut Receiver) -> Vec<(u32, String)> {
    let mut told = Vec::new();
    for minute in 0..MINUTES {
        if shape.restart == Some(minute) {
            rig.restart().await;
        }
        pass_minute(rig, shape, minute).await;
        let in_words = |request: Received| {
            let body: Value = serde_json::from_slice(&request.body).expect("JSON");
            (minute, words(&body["data"], body["event_type"].as_str().expect("a type")))
        };
        told.extend(receiver.so_far().into_iter().map(in_words));
        rig.clock.advance(seconds(1));
    }
    told.sort();
    told.retain(|(minute, _)| *minute >= WARM_UP);
    told
}

/// What a trial of all triggers says of the same time.
async fn tried(rig: &Rig, first: u32) -> Vec<(u32, String)> {
    let rules: Vec<Rule> = rules().iter().map(rule).collect();
    let tried = rig.engine.try_triggers(&rig.site(), rules, 1).await.expect("a trial");
    let told = tried.into_iter().flatten().flat_map(|tried| tried.trial.told);
    let in_words = |data: &Data| words(&json!(data), data.event_type().name());
    let mut told: Vec<_> = told
        .filter_map(|told| Some((told.minute.checked_sub(first)?, in_words(&told.data))))
        .filter(|(minute, _)| (WARM_UP..MINUTES).contains(minute))
        .collect();
    told.sort();
    told
}

/// What minutes tell of, which do not know where visitors came from.
fn of_minutes(mut told: Vec<(u32, String)>) -> Vec<(u32, String)> {
    told.retain(|(_, words)| !words.starts_with("new_source"));
    told
}

/// When each trigger fired first.
fn first_fired(told: &[(u32, String)]) -> BTreeMap<&str, u32> {
    let fired = told.iter().filter(|(_, words)| !words.contains("_resolved"));
    fired.rev().map(|(minute, words)| (words.as_str(), *minute)).collect()
}

/// A trial agrees with what happened: it looks at whole minutes, so that it may see the end of something a little later.
#[tokio::test]
async fn every_shape_sets_off_what_it_should_and_nothing_else_and_a_trial_says_the_same() {
    for shape in SHAPES {
        let mut receiver = Receiver::start().await;
        let (mut rig, first) = site(&shape, &receiver).await;
        let told = live(&mut rig, &shape, &mut receiver).await;
        let in_words: Vec<_> = told.iter().map(|(minute, words)| (*minute, words.as_str())).collect();
        let (reached, told_of): (Vec<_>, Vec<_>) =
            in_words.iter().partition(|(_, words)| words.starts_with("pageview_milestone"));
        assert_eq!((&told_of[..], &reached[..]), (shape.told, shape.reached), "{}", shape.name);
        // Of a restart a trial knows nothing.
        if shape.restart.is_none() {
            let minutes_know = of_minutes(told);
            assert_eq!(first_fired(&tried(&rig, first).await), first_fired(&minutes_know), "a trial of {}", shape.name);
        }
    }
}
