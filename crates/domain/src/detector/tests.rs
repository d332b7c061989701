use serde_json::{Value, json};

use super::*;
use crate::ambient::{Ambient, Clock, Random};
use crate::baseline::Past;
use crate::goal::GoalSpec;
use crate::time::Timestamp;

const START: Second = 1_000_000;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(i64::from(START) * 1_000_000)
    }

    fn running(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

struct Counting(std::sync::atomic::AtomicU64);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let number = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bytes.iter_mut().zip(number.to_be_bytes().iter().rev().cycle()).for_each(|(byte, value)| *byte = *value);
    }
}

pub(crate) fn ambient() -> Ambient {
    Ambient { clock: Arc::new(Still), random: Arc::new(Counting(1.into())) }
}

struct Site {
    rules: Rules,
    detector: Detector,
    visitors: u64,
}

/// A site with these goals, and a webhook for each list of triggers. `"goal": 0` stands for the first goal.
fn site(goals: &[Value], webhooks: &[Value]) -> Site {
    let ambient = ambient();
    let goals: Vec<Goal> = goals
        .iter()
        .map(|spec| Goal { id: GoalId::new(&ambient), spec: GoalSpec::read(spec).expect("a goal"), created_at: ambient.now() })
        .collect();
    let trigger = |value: &Value| {
        let mut value = value.clone();
        if let Some(index) = value.get("goal").and_then(Value::as_u64) {
            value["goal_id"] = json!(goals[usize::try_from(index).expect("an index")].id);
            value.as_object_mut().expect("an object").remove("goal");
        }
        Trigger { id: TriggerId::new(&ambient), rule: Rule::read(&value, None).expect("a trigger") }
    };
    let webhooks: Vec<(WebhookId, Vec<Trigger>)> = webhooks
        .iter()
        .map(|list| (WebhookId::new(&ambient), list.as_array().expect("a list").iter().map(trigger).collect()))
        .collect();
    let rules = Rules::new(goals.into(), webhooks.iter().map(|(id, triggers)| (*id, triggers.as_slice())));
    let detector = Detector::new(&rules, START, START, |_| None);
    Site { rules, detector, visitors: 1_000 }
}

impl Site {
    fn event(&mut self, second: Second, visitor: u64, event: Value) -> Vec<Firing> {
        let mut event = event;
        event["u"] = json!(format!("https://example.com{}", event["path"].as_str().unwrap_or("/")));
        let event = Event::parse(event.to_string().as_bytes()).expect("an event");
        let visit = Visit { visitor: VisitorId(visitor), previous: None, source: Some("Google"), page: &event.pathname };
        match self.detector.observe(&self.rules, &event, &visit, START + second) {
            Detection::Counted(firings) => firings,
            Detection::Dropped => Vec::new(),
        }
    }

    fn pageview(&mut self, second: Second, visitor: u64) -> Vec<Firing> {
        self.event(second, visitor, json!({"n": "pageview"}))
    }

    /// The seconds of `seconds` whose pageview, each of a new visitor, fires.
    fn fired(&mut self, seconds: impl IntoIterator<Item = Second>) -> Vec<Second> {
        let fires = |second: &Second| {
            self.visitors += 1;
            !self.pageview(*second, self.visitors).is_empty()
        };
        seconds.into_iter().filter(fires).collect()
    }
}

fn names(firings: &[Firing]) -> Vec<(String, u32, usize)> {
    let name = |firing: &Firing| match &firing.data {
        Data::GoalCompletion(data) => (data.goal_name.clone(), data.count, firing.told().count()),
        _ => ("spike".to_owned(), 1, firing.told().count()),
    };
    firings.iter().map(name).collect()
}

#[test]
fn looking_back_finds_what_fired_while_it_happened() {
    let rule =
        json!({"type": "visitor_spike", "window_seconds": 300, "threshold": 50, "min_visitors": 5, "cooldown_seconds": 900});
    let mut site = site(&[], &[json!([rule.clone()])]);
    let rule = Rule::read(&rule, None).expect("a rule");
    let (first, mut fired) = (minute_of(START) + 1, Vec::new());
    let begin = first * 60 - START;
    // A steady stream of those who come back, and two rushes.
    for minute in 0..110 {
        let visitors = if matches!(minute, 40..45 | 90..93) { 9 } else { 2 };
        for number in 0..visitors {
            let visitor = u64::from(minute * 7 % 11) + number;
            let firings = site.pageview(begin + minute * 60 + 59, visitor);
            fired.extend((!firings.is_empty()).then_some(first + minute));
        }
    }
    let minutes: Vec<_> = site.detector.history.waiting().cloned().collect();
    let timezone = TimeZone::UTC;
    let past = Past { minutes: &minutes, known_from: minute_of(START), timezone: &timezone, pageviews_before: 0 };
    let late: Vec<_> = fired.into_iter().filter(|minute| *minute >= minutes[0].minute + 10).collect();
    assert!(!late.is_empty());
    assert_eq!(rule.try_on(&past, &[], minutes[0].minute..=first + 109).fired().collect::<Vec<_>>(), late);
    assert_eq!(minutes[5].pageviews, if minutes[5].distinct() > 2 { 9 } else { 2 });
}

#[test]
fn selected_goals_fire_and_others_do_not() {
    let goals = [json!({"event_name": "Signup"}), json!({"page_path": "/thanks"}), json!({"event_name": "Buy"})];
    let mut site = site(&goals, &[json!([{"type": "goal_completion", "goal": 0}]), json!(["goal_completion"])]);
    assert_eq!(names(&site.event(0, 1, json!({"n": "Signup"}))), [("Signup".to_owned(), 1, 2)]);
    assert_eq!(names(&site.event(1, 1, json!({"n": "Buy"}))), [("Buy".to_owned(), 1, 1)]);
    assert_eq!(names(&site.event(2, 1, json!({"n": "pageview", "path": "/thanks"}))), [("Visit /thanks".to_owned(), 1, 1)]);
    assert!(site.event(3, 1, json!({"n": "Other"})).is_empty());
}

#[test]
fn one_event_that_completes_two_goals_fires_twice_and_a_webhook_hears_of_each_once() {
    let goals = [json!({"page_path": "/a"}), json!({"page_path": "/*"})];
    let mut site = site(&goals, &[json!(["goal_completion", {"type": "goal_completion", "goal": 0}])]);
    let firings = site.event(0, 1, json!({"n": "pageview", "path": "/a"}));
    assert_eq!(names(&firings), [("Visit /a".to_owned(), 1, 1), ("Visit /*".to_owned(), 1, 1)]);
}

#[test]
fn a_threshold_of_completions_fires_when_it_is_full_and_counts_anew() {
    let mut site =
        site(&[json!({"event_name": "Buy"})], &[json!([{"type": "goal_completion", "threshold": 3, "window_seconds": 60}])]);
    let fired: Vec<_> = [0, 1, 2, 3, 4, 63, 64, 65]
        .into_iter()
        .filter(|second| !site.event(*second, 1, json!({"n": "Buy"})).is_empty())
        .collect();
    assert_eq!(fired, [2, 65]);
}

#[test]
fn scroll_goals_need_a_session() {
    let mut site = site(&[json!({"page_path": "/a", "scroll_threshold": 50})], &[json!(["goal_completion"])]);
    let scroll = json!({"n": "engagement", "sd": 60, "path": "/a"});
    assert!(site.event(0, 1, scroll.clone()).is_empty());
    site.event(1, 1, json!({"n": "pageview", "path": "/a"}));
    assert_eq!(names(&site.event(2, 1, scroll)), [("Scroll 50% on /a".to_owned(), 1, 1)]);
}

#[test]
fn revenue_is_told_only_where_it_counts() {
    let goals = [json!({"event_name": "Buy", "currency": "EUR"}), json!({"event_name": "Buy", "custom_props": {"a": "b"}})];
    let mut site = site(&goals, &[json!(["goal_completion"])]);
    let firings = site.event(0, 1, json!({"n": "Buy", "p": {"a": "b"}, "$": {"amount": "5.00", "currency": "USD"}}));
    let revenue: Vec<_> = firings
        .iter()
        .map(|firing| match &firing.data {
            Data::GoalCompletion(data) => data.revenue.as_ref().map(|revenue| revenue.amount.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(revenue, [Some("5.00".to_owned()), None]);
}

#[test]
fn a_spike_in_visitors_fires_on_the_event_that_crosses_and_once() {
    let spike =
        json!([{"type": "visitor_spike", "unit": "visitors", "threshold": 3, "window_seconds": 10, "cooldown_seconds": 0}]);
    let mut site = site(&[], &[spike]);
    assert!(site.pageview(0, 1).is_empty() && site.pageview(0, 1).is_empty() && site.pageview(1, 2).is_empty());
    let firings = site.pageview(2, 3);
    let Data::VisitorSpike(data) = &firings[0].data else { panic!("{firings:?}") };
    assert_eq!((data.compared.current_visitors, data.compared.previous_visitors, data.compared.change_percent), (3, 0, None));
    assert_eq!((data.tops.sources[0].visitors, data.tops.pages[0].visitors), (3, 3));
    assert_eq!(site.fired([3, 4, 30, 31, 32, 33]), [32]);
}

#[test]
fn a_crossing_after_silence_is_a_new_one() {
    let spike =
        json!([{"type": "visitor_spike", "unit": "visitors", "threshold": 1, "window_seconds": 10, "cooldown_seconds": 60}]);
    let mut site = site(&[], &[spike]);
    assert_eq!(site.fired([0, 5, 30, 59, 60, 61, 200]), [0, 60, 200]);
}

#[test]
fn percent_fires_only_above_the_threshold_and_after_two_windows() {
    let spike = json!([{"type": "visitor_spike", "threshold": 50, "window_seconds": 10, "min_visitors": 4}]);
    let mut site = site(&[], &[spike]);
    // Eight at the start are no spike; four a window are usual; six are 50 % more; seven are a spike.
    assert_eq!(site.fired([0; 8]), [0; 0]);
    assert_eq!(site.fired([14; 4]), [0; 0]);
    assert_eq!(site.fired([24; 6]), [0; 0]);
    assert_eq!(site.fired([24]), [24]);
}

#[test]
fn no_visitors_before_need_the_least_number() {
    let spike = json!([{"type": "visitor_spike", "window_seconds": 10, "min_visitors": 3}]);
    let mut site = site(&[], &[spike]);
    assert_eq!(site.fired([50, 51, 52, 53]), [52]);
}

#[test]
fn the_same_crossing_is_one_event_for_all_webhooks() {
    let spike = json!([{"type": "visitor_spike", "unit": "visitors", "threshold": 2}]);
    let mut site = site(&[], &[spike.clone(), spike, json!([{"type": "visitor_spike", "unit": "visitors", "threshold": 1}])]);
    assert_eq!(names(&site.pageview(0, 1)), [("spike".to_owned(), 1, 1)]);
    assert_eq!(names(&site.pageview(1, 2)), [("spike".to_owned(), 1, 2)]);
}

#[test]
fn a_restart_does_not_fire_again_within_the_cooldown() {
    let spike = json!([{"type": "visitor_spike", "unit": "visitors", "threshold": 1, "cooldown_seconds": 100}]);
    let mut site = site(&[], &[spike]);
    site.detector = Detector::new(&site.rules, START, START, |_| Some(Alert::kept(START - 50, false)));
    assert_eq!(site.fired([0, 49, 50, 51]), [50]);
}

#[test]
fn what_was_taken_back_fires_again() {
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 2});
    let buys = json!({"type": "goal_completion", "threshold": 2, "window_seconds": 60});
    let mut site = site(&[json!({"event_name": "Buy"})], &[json!([spike, buys])]);
    assert!(site.event(0, 1, json!({"n": "Buy"})).is_empty());
    let firings = site.event(1, 2, json!({"n": "Buy"}));
    assert_eq!(firings.len(), 2);
    site.detector.take_back(&site.rules, &firings);
    assert_eq!(site.event(2, 2, json!({"n": "Buy"})).len(), 2);
}

#[test]
fn a_trigger_that_was_off_goes_on_as_it_stood() {
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1, "window_seconds": 10, "cooldown_seconds": 100,
                       "notify_resolved": true});
    let mut site = site(&[], &[json!([spike])]);
    assert_eq!(site.pageview(0, 1).len(), 1);
    let nothing = Rules::new([].into(), []);
    site.detector.adapt(&nothing);
    site.detector.adapt(&nothing);
    assert!(site.detector.tick(&nothing, START + 20).is_empty());
    site.detector.adapt(&site.rules);
    let over: Vec<_> = (21..40).flat_map(|second| site.detector.tick(&site.rules, START + second)).collect();
    assert_eq!(over.iter().map(|firing| firing.data.event_type().name()).collect::<Vec<_>>(), ["visitor_spike_resolved"]);
    assert_eq!(site.fired([50, 99, 100]), [100], "the cooldown goes on");
}

#[test]
fn what_was_taken_back_is_that_trigger_whatever_stands_in_its_place_by_now() {
    let of =
        |threshold: u32| json!({"type": "visitor_spike", "unit": "visitors", "threshold": threshold, "cooldown_seconds": 100});
    let mut before = site(&[], &[json!([of(1), of(2)])]);
    let firings = before.pageview(0, 1);
    // The first trigger stands second from now on, and the other where it was.
    let mut turned = site(&[], &[json!([of(1), of(2)])]);
    turned.rules.conditions = before.rules.conditions.iter().rev().cloned().collect();
    before.detector.adapt(&turned.rules);
    before.detector.take_back(&before.rules, &firings);
    let again = before.detector.tick(&turned.rules, START + 1);
    assert_eq!(again.iter().map(|firing| &firing.targets).collect::<Vec<_>>(), [&firings[0].targets]);
    assert!(before.detector.tick(&turned.rules, START + 2).is_empty());
}

#[test]
fn triggers_of_one_webhook_with_the_same_to_say_tell_it_once_and_fire_together() {
    let spike = |cooldown| json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1, "cooldown_seconds": cooldown});
    let mut site = site(&[], &[json!([spike(100), spike(200)])]);
    let firings = site.pageview(0, 1);
    assert_eq!((firings.len(), firings[0].told().count(), firings[0].targets.len()), (1, 1, 2));
    site.detector.take_back(&site.rules, &firings);
    assert_eq!(site.pageview(1, 2)[0].targets.len(), 2);
}

#[test]
fn a_quiet_site_is_forgotten_only_when_nothing_counts_any_more() {
    let buys = json!({"type": "goal_completion", "threshold": 2, "window_seconds": 20_000});
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1, "cooldown_seconds": 40_000});
    let mut site = site(&[json!({"event_name": "Buy"})], &[json!([spike, buys])]);
    assert_eq!(site.event(0, 1, json!({"n": "Buy"})).len(), 1);
    let is_over = |site: &Site, second: Second| site.detector.is_over(&site.rules, START + second);
    assert!(!is_over(&site, 40_001), "not everything is stored");
    site.detector.history.forget_before(u32::MAX);
    assert!(!is_over(&site, 40_001), "nor is every source");
    site.detector.forget_seen_sources(1);
    assert_eq!([10_000, 30_000, 40_001].map(|second| is_over(&site, second)), [false, false, true]);
    assert_eq!(site.event(19_999, 1, json!({"n": "Buy"})).len(), 1);
}

#[test]
fn changed_rules_keep_what_was_counted() {
    let buy = json!([{"type": "goal_completion", "threshold": 2}]);
    let mut site = site(&[json!({"event_name": "Buy"})], &[buy]);
    assert!(site.event(0, 1, json!({"n": "Buy"})).is_empty());
    site.detector.adapt(&site.rules);
    assert_eq!(site.event(1, 1, json!({"n": "Buy"})).len(), 1);
}

#[test]
fn a_clock_set_back_starts_anew_instead_of_standing_still() {
    let spike = json!([{"type": "visitor_spike", "unit": "visitors", "threshold": 2, "window_seconds": 10}]);
    let mut site = site(&[], &[spike]);
    site.detector.traffic.advance(START + 7_200);
    assert_eq!(site.fired([3_600, 3_620, 3_640]), [0; 0]);
    assert_eq!(site.detector.current_visitors(START + 3_640), 3);
    assert_eq!(site.fired([3_641]), [3_641]);
}
