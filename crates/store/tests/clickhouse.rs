//! The store in ClickHouse.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bellwether_domain::event::Revenue;
use bellwether_domain::goal::PathPattern;
use bellwether_domain::history::{Recorder, minute_of};
use bellwether_domain::id::{GoalId, SiteId};
use bellwether_domain::milestone::Stretch;
use bellwether_domain::segment::VisitsWithin;
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::traffic::{Share, Traffic, Visit};
use bellwether_domain::visitor::VisitorId;
use bellwether_store::Migration;
use bellwether_store::clickhouse::{ClickHouse, ClickHouseError, Completions, CountedEvent, SourceWindow, Views, Window};
use bellwether_testkit::clickhouse::ClickHouse as Temporary;

/// 2026-02-25 12:00:00, a noon.
const NOON: Second = 1_772_020_800;
const MIDNIGHT: Second = NOON + 12 * 3_600;

struct Rig {
    temporary: Temporary,
    clickhouse: ClickHouse,
}

impl Rig {
    async fn new() -> Self {
        let temporary = Temporary::temporary().await;
        let clickhouse = ClickHouse::new(&temporary.url().parse().expect("a URL"));
        clickhouse.open(Migration::Run).await.expect("a schema");
        temporary.keep_everything().await;
        Self { temporary, clickhouse }
    }

    async fn add(&self, events: &[CountedEvent]) {
        let token = format!("{events:?}").len().to_string();
        self.clickhouse.add_counted(events, &token).await.expect("events are kept");
    }

    async fn count(&self, windows: &[(SiteId, u32)], at: Second) -> Vec<(u32, u32)> {
        let windows: Vec<_> = windows
            .iter()
            .map(|(site, length_seconds)| Window { site: *site, visits: VisitsWithin::all(*length_seconds) })
            .collect();
        let counts = self.clickhouse.counted(&windows, at).await.expect("counts");
        counts.iter().map(|counts| (counts.current, counts.previous)).collect()
    }
}

fn site(number: u8) -> SiteId {
    SiteId::from_bytes([number; 16])
}

fn goal(number: u8) -> GoalId {
    GoalId::from_bytes([number; 16])
}

fn time(second: Second) -> Timestamp {
    Timestamp::EPOCH + Duration::from_secs(u64::from(second))
}

fn visit(second: Second, visitor: u64) -> CountedEvent {
    CountedEvent {
        site_id: site(1),
        time: time(second),
        name: "pageview".to_owned(),
        visitor: VisitorId(visitor),
        previous_visitor: None,
        source: None,
        page: "/".to_owned(),
        goals: Vec::new(),
        props: BTreeMap::new(),
        revenue: None,
    }
}

#[tokio::test]
async fn the_schema_is_brought_up_to_date_once_and_told_apart() {
    let temporary = Temporary::temporary().await;
    let clickhouse = ClickHouse::new(&temporary.url().parse().expect("a URL"));
    let refused = clickhouse.open(Migration::Require).await.expect_err("nothing is there");
    assert!(matches!(refused, ClickHouseError::OlderSchema { found: 0, .. }), "{refused}");
    let (one, other) = tokio::join!(clickhouse.open(Migration::Run), clickhouse.open(Migration::Run));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    clickhouse.open(Migration::Require).await.expect("it is up to date");
    temporary.execute("INSERT INTO schema_versions VALUES (1000)").await;
    let refused = clickhouse.open(Migration::Run).await.expect_err("it is newer");
    assert!(matches!(refused, ClickHouseError::NewerSchema { found: 1_000, .. }), "{refused}");
}

#[tokio::test]
async fn windows_are_counted_by_the_second() {
    let rig = Rig::new().await;
    let mut events: Vec<_> =
        [(0, 1), (299, 1), (299, 2), (300, 3), (301, 3), (599, 4)].map(|(second, visitor)| visit(NOON + second, visitor)).into();
    events.push(CountedEvent { name: "engagement".to_owned(), ..visit(NOON + 500, 5) });
    events.push(CountedEvent { site_id: site(2), ..visit(NOON + 500, 6) });
    rig.add(&events).await;
    let windows = [(site(1), 300), (site(1), 1), (site(2), 300), (site(3), 300), (site(1), 86_400)];
    assert_eq!(rig.count(&windows, NOON + 599).await, [(2, 2), (1, 0), (1, 0), (0, 0), (4, 0)]);
    assert_eq!(rig.count(&windows[..2], NOON + 598).await, [(3, 1), (0, 0)]);
    assert_eq!(rig.count(&windows[..2], NOON + 600).await, [(2, 3), (0, 1)]);
    assert_eq!(rig.count(&[], NOON).await, []);
}

#[tokio::test]
async fn sources_are_counted_by_window_and_known_by_day() {
    const DAY: Second = 86_400;
    let rig = Rig::new().await;
    let from = |source: &str, second, visitor| CountedEvent { source: Some(source.into()), ..visit(second, visitor) };
    let mut events: Vec<_> =
        [(0, 1), (0, 1), (1, 2), (2, 3)].map(|(second, visitor)| from("It's \\ A?", NOON + second, visitor)).into();
    events.extend([from("B", NOON, 4), from("B", NOON - 60, 5), visit(NOON, 6), visit(NOON, 7)]);
    events.push(CountedEvent { name: "engagement".to_owned(), ..from("B", NOON, 8) });
    events.push(CountedEvent { site_id: site(2), page: "/b".to_owned(), ..from("B", NOON, 9) });
    events.extend([3, 20].map(|days| from("B", NOON - days * DAY, 10)));
    // Who comes before midnight and after it is the same visitor.
    events.push(from("C", MIDNIGHT - 10, 11));
    events.push(CountedEvent { previous_visitor: Some(VisitorId(11)), ..from("C", MIDNIGHT + 10, 12) });
    rig.add(&events).await;
    let counted = async |windows: &[(SiteId, u32, u32)], at: Second| {
        let window = |(site, window_seconds, min_visitors): &(SiteId, u32, u32)| SourceWindow {
            site: *site,
            window_seconds: *window_seconds,
            min_visitors: *min_visitors,
        };
        let windows: Vec<_> = windows.iter().map(window).collect();
        let found = rig.clickhouse.counted_sources(&windows, at).await.expect("counts");
        found
            .into_iter()
            .map(|(index, count)| (index, count.source.to_string(), count.window_seconds, count.visitors))
            .collect::<Vec<_>>()
    };
    let all = [(site(1), 60, 1), (site(1), 61, 2), (site(2), 60, 1), (site(3), 60, 1), (site(1), 60, 3)];
    let [a, b] = ["It's \\ A?", "B"].map(str::to_owned);
    assert_eq!(
        counted(&all, NOON + 2).await,
        [(0, a.clone(), 60, 3), (0, b.clone(), 60, 1), (1, a.clone(), 61, 3), (2, b.clone(), 60, 1), (4, a.clone(), 60, 3)]
    );
    assert_eq!(counted(&all[1..2], NOON).await, [(0, b.clone(), 61, 2)], "what comes later is not there yet");
    assert_eq!(counted(&[(site(1), 60, 1)], MIDNIGHT + 10).await, [(0, "C".to_owned(), 60, 1)]);
    assert!(counted(&[], NOON).await.is_empty());

    let today = NOON / DAY;
    let pairs =
        [(site(1), a.as_str()), (site(1), "B"), (site(2), "B"), (site(2), "C")].map(|(site, source)| (site, source.into()));
    let days = async |from| {
        let mut days = rig.clickhouse.counted_days(&pairs, from..=today).await.expect("days");
        days.iter_mut().for_each(|days| days.sort_unstable());
        days
    };
    assert_eq!(days(today - 3).await, [vec![today], vec![today - 3, today], vec![today], vec![]]);
    assert_eq!(days(today - 20).await[1], [today - 20, today - 3, today]);
    assert!(rig.clickhouse.counted_days(&[], 0..=today).await.expect("none").is_empty());

    let window = (site(1), 60);
    let pages = rig.clickhouse.counted_pages_from(window, &a, NOON + 2).await.expect("pages");
    assert_eq!(pages, [Share { name: "/".into(), visitors: 3 }]);
    assert!(rig.clickhouse.counted_pages_from(window, "D", NOON + 2).await.expect("none").is_empty());
    let known = async |site, day| rig.clickhouse.counted_until(site, day).await.expect("an answer");
    assert_eq!((known(site(1), today - 20).await, known(site(1), today - 21).await), (true, false));
    assert_eq!((known(site(2), today).await, known(site(2), today - 1).await), (true, false));
    let hour = (today - 40) * 24 + 23;
    let hours = format!("INSERT INTO traffic_hours VALUES (toUUID('{}'), {hour}, 1, 1)", site(1));
    rig.temporary.execute(&hours).await;
    assert_eq!((known(site(1), today - 40).await, known(site(1), today - 41).await), (true, false), "hours are kept for longer");
}

/// A great many at a time are counted by several statements.
#[tokio::test]
async fn many_windows() {
    let rig = Rig::new().await;
    rig.add(&[visit(NOON, 1), CountedEvent { site_id: site(2), ..visit(NOON, 1) }]).await;
    let mut windows = vec![(site(1), 60); 1_500];
    windows.push((site(2), 60));
    assert_eq!(rig.count(&windows, NOON).await, vec![(1, 0); 1_501]);
}

#[tokio::test]
async fn a_session_that_goes_past_midnight_is_one_visitor() {
    let rig = Rig::new().await;
    let after = |second, visitor, previous| CountedEvent {
        previous_visitor: Some(VisitorId(previous)),
        ..visit(MIDNIGHT + second, visitor)
    };
    let before = |second, visitor| visit(MIDNIGHT - second, visitor);
    rig.add(&[before(60, 1), after(60, 11, 1), before(1_801, 2), after(1, 12, 2), visit(MIDNIGHT + 1_900, 11), after(70, 13, 3)])
        .await;
    assert_eq!(rig.count(&[(site(1), 86_400)], MIDNIGHT + 2_000).await, [(4, 0)], "1, 2, 12 and 13");
    assert_eq!(rig.count(&[(site(1), 120)], MIDNIGHT + 60).await, [(2, 1)]);
    assert_eq!(rig.count(&[(site(1), 60)], MIDNIGHT + 60).await, [(2, 0)]);
}

#[tokio::test]
async fn what_is_kept_again_under_its_token_is_there_once() {
    let rig = Rig::new().await;
    for token in ["a", "a", "b"] {
        rig.clickhouse.add_counted(&[visit(NOON, 1)], token).await.expect("it is kept");
    }
    assert_eq!(rig.temporary.texts("SELECT count() FROM events").await, ["2"]);
}

#[tokio::test]
async fn the_tops_of_a_window() {
    let rig = Rig::new().await;
    let from = |second, visitor, source: &str, page: &str| CountedEvent {
        source: Some(source.into()),
        page: page.to_owned(),
        ..visit(NOON + second, visitor)
    };
    rig.add(&[
        // Their session began before the window, elsewhere.
        from(0, 1, "Google", "/old"),
        from(1_700, 1, "Bing", "/a"),
        // One that was over.
        from(0, 2, "Google", "/old"),
        from(1_801, 2, "Bing", "/a"),
        from(1_802, 2, "Google", "/b"),
        from(1_850, 3, "Google", "/b?c"),
        from(1_850, 4, "", "/a"),
        CountedEvent { name: "engagement".to_owned(), ..from(1_850, 5, "Reddit", "/d") },
    ])
    .await;
    let tops =
        rig.clickhouse.counted_tops(&Window { site: site(1), visits: VisitsWithin::all(300) }, NOON + 1_900).await.expect("tops");
    let share = |name: &str, visitors| Share { name: name.into(), visitors };
    assert_eq!(tops.sources, [share("Google", 2), share("Bing", 1)]);
    assert_eq!(tops.pages, [share("/a", 3), share("/b", 1), share("/b?c", 1)]);
}

#[tokio::test]
async fn what_a_visitor_did_latest() {
    let rig = Rig::new().await;
    let from = |second, visitor, source: &str| CountedEvent { source: Some(source.into()), ..visit(NOON + second, visitor) };
    rig.add(&[from(0, 1, "Google"), from(60, 2, ""), from(120, 3, "Bing"), from(180, 1, "Bing")]).await;
    let visits = rig.clickhouse.latest_visits(site(1), &[VisitorId(1), VisitorId(2)], time(NOON + 179)).await.expect("visits");
    let shown: Vec<_> = visits.iter().map(|visit| (visit.second - NOON, visit.source.as_deref())).collect();
    assert_eq!(shown, [(60, None), (0, Some("Google"))]);
}

/// The same as what a process counts in its memory.
#[tokio::test]
async fn minutes_are_as_they_were_when_they_happened() {
    let rig = Rig::new().await;
    let (mut traffic, mut recorder, mut events) = (Traffic::new(NOON, NOON), Recorder::default(), Vec::new());
    for step in 0..400_u32 {
        // Some come back after a minute or so, some after long, and some never.
        let (second, visitor) = (NOON + step * 17, u64::from(step * step % 37));
        let name = if step % 5 == 0 { "Signup" } else { "pageview" };
        traffic.advance(second);
        let visit_of = Visit { visitor: VisitorId(visitor), previous: None, source: None, page: "/" };
        recorder.visit(traffic.record_visit(&visit_of), name == "pageview", second);
        events.push(CountedEvent { name: name.to_owned(), ..visit(second, visitor) });
    }
    events.push(CountedEvent { name: "engagement".to_owned(), ..visit(NOON + 30, 99) });
    events.push(CountedEvent { goals: vec![goal(1), goal(2)], ..visit(NOON + 6_000, 99) });
    rig.add(&events).await;
    let expected: Vec<_> = recorder.waiting().cloned().collect();
    let minutes = rig.clickhouse.counted_minutes(site(1), None, minute_of(NOON)..=u32::MAX / 60).await.expect("minutes");
    let of_event = minutes.iter().position(|minute| minute.minute == minute_of(NOON + 6_000)).expect("a minute");
    assert_eq!((minutes.len(), minutes[of_event].pageviews), (expected.len(), expected[of_event].pageviews + 1));
    assert!(minutes.iter().zip(&expected).enumerate().all(|(index, (one, other))| index == of_event || one == other));
    let some = minute_of(NOON) + 20..=minute_of(NOON) + 29;
    let some = rig.clickhouse.counted_minutes(site(1), None, some).await.expect("minutes");
    assert_eq!(some, minutes[20..30]);
    let completions = rig.clickhouse.counted_completions(site(1), minute_of(NOON)).await.expect("completions");
    assert_eq!(completions, HashMap::from([(goal(1), 1), (goal(2), 1)]));
}

/// Hours are the same before and after they are kept, and stay when their events are gone.
#[tokio::test]
async fn hours_outlive_their_events() {
    let rig = Rig::new().await;
    let at = |second| visit(NOON + second, u64::from(second) % 7);
    let mut events: Vec<_> = (0..40).map(|step| at(step * 300)).collect();
    events.push(CountedEvent { name: "Signup".to_owned(), goals: vec![goal(1), goal(2)], ..at(4_000) });
    events.push(CountedEvent { name: "engagement".to_owned(), goals: vec![goal(2)], ..at(4_001) });
    events.push(CountedEvent { site_id: site(2), ..at(10) });
    rig.add(&events).await;
    let noon = NOON / 3_600;
    let hours = |from, until| rig.clickhouse.counted_hours(site(1), from..until);
    let counted = hours(noon, noon + 4).await.expect("hours");
    let shown: Vec<_> = counted.iter().map(|hour| (hour.hour - noon, hour.pageviews, hour.visitors)).collect();
    assert_eq!(shown, [(0, 12, 7), (1, 12, 7), (2, 12, 7), (3, 4, 4)]);
    assert_eq!(counted[1].completions, [(goal(1), 1), (goal(2), 2)]);
    assert_eq!(rig.clickhouse.earliest_hour().await.expect("an hour"), Some(noon));
    assert_eq!(rig.clickhouse.latest_hour().await.expect("none"), None);
    for hour in [noon, noon + 1, noon + 1] {
        rig.clickhouse.keep_hour(hour).await.expect("kept");
        assert_eq!(hours(noon, noon + 4).await.expect("hours"), counted);
        assert_eq!(rig.clickhouse.latest_hour().await.expect("an hour"), Some(hour));
    }
    rig.clickhouse.keep_hour(noon + 2).await.expect("kept");
    rig.temporary.execute("TRUNCATE TABLE events").await;
    assert_eq!(hours(noon, noon + 4).await.expect("hours"), counted[..2], "the latest is made of the events");
    assert_eq!(hours(noon + 1, noon + 2).await.expect("hours"), counted[1..2]);
}

#[tokio::test]
async fn completions_are_counted_and_told() {
    let rig = Rig::new().await;
    let revenue = Some(Revenue { amount: "9.90".to_owned(), currency: "EUR".to_owned() });
    let props = BTreeMap::from([("plan".to_owned(), "it's ?".to_owned())]);
    let done = |second, goals: &[u8]| CountedEvent {
        goals: goals.iter().map(|number| goal(*number)).collect(),
        ..visit(NOON + second, 1)
    };
    let full = CountedEvent {
        revenue: revenue.clone(),
        props: props.clone(),
        source: Some("Google".into()),
        page: "/buy".to_owned(),
        ..done(2, &[1])
    };
    rig.add(&[visit(NOON, 1), done(0, &[1]), done(1, &[1, 2]), full, done(3, &[2])]).await;
    let list = |goal_id, after, until| Completions {
        site_id: site(1),
        goal_id,
        segment: None,
        after: time(NOON + after),
        until: time(NOON + until),
    };
    let lists = [list(Some(goal(1)), 0, 9), list(None, 0, 9), list(Some(goal(2)), 1, 2), list(Some(goal(3)), 0, 9)];
    assert_eq!(rig.clickhouse.count_completions(&lists).await.expect("counts"), [2, 4, 0, 0]);
    let told = rig.clickhouse.completions(&lists[0], 10).await.expect("completions");
    assert_eq!(told.iter().map(|one| one.time).collect::<Vec<_>>(), [time(NOON + 1), time(NOON + 2)]);
    assert_eq!((told[1].goal_id, told[1].page.as_str(), told[1].source.as_deref()), (goal(1), "/buy", Some("Google")));
    assert_eq!((&told[1].props, &told[1].revenue), (&props, &revenue));
    assert_eq!(rig.clickhouse.completions(&lists[1], 3).await.expect("completions").len(), 3);
}

#[tokio::test]
async fn a_server_that_is_away_is_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/stats", listener.local_addr().expect("an address"));
    drop(listener);
    let away = ClickHouse::new(&url.parse().expect("a URL")).check().await.expect_err("nobody is there");
    assert!(matches!(&away, ClickHouseError::Unreachable(_)), "{away}");
    let missing = Temporary::temporary().await;
    let url = format!("{}/nothing_of_the_name", missing.server());
    let error = ClickHouse::new(&url.parse().expect("a URL")).check().await.expect_err("there is no such database");
    assert!(matches!(&error, ClickHouseError::Failed(said) if said.contains("nothing_of_the_name")), "{error}");
}

#[tokio::test]
async fn views_of_pages_are_counted_by_the_stretch() {
    let rig = Rig::new().await;
    let on = |second, page: &str| CountedEvent { page: page.to_owned(), ..visit(second, 1) };
    let mut events =
        vec![on(NOON - 3_601, "/a"), on(NOON - 1, "/blog/%"), on(NOON, "/blog/b"), on(NOON + 9, "/a"), on(NOON + 10, "/a")];
    events.push(CountedEvent { name: "Signup".to_owned(), ..visit(NOON, 2) });
    events.push(CountedEvent { site_id: site(2), ..on(NOON + 5, "/blog/_c") });
    rig.add(&events).await;
    let views = |number, page: Option<&str>, since| Views {
        site: site(number),
        page: page.map(PathPattern::new),
        stretch: Stretch { since, settled: NOON, until: NOON + 10 },
    };
    let mut asked =
        vec![views(1, None, 0), views(1, Some("/blog/*"), 0), views(1, Some("/blog/%"), NOON - 1), views(2, Some("/blog/_*"), 0)];
    asked.extend(vec![views(1, None, NOON); 150]);
    asked.extend((0..120).map(|back| views(1, None, NOON - back)));
    let counted = rig.clickhouse.counted_views(&asked).await.expect("counts");
    assert_eq!(counted[..4], [(2, 2), (1, 1), (1, 0), (0, 1)]);
    assert_eq!(counted[4..154], [(0, 2); 150]);
    assert_eq!((counted[154], &counted[155..]), ((0, 2), &[(1, 2); 119][..]));
}

/// Hours are kept when the events are gone.
#[tokio::test]
async fn pageviews_before_an_hour_are_those_of_the_hours_that_are_kept_and_of_events() {
    let rig = Rig::new().await;
    let hour = NOON / 3_600;
    rig.add(&[visit(NOON - 1, 1), visit(NOON - 3_600, 1), visit(NOON - 3_601, 2), visit(NOON, 3)]).await;
    for hour in [hour - 2, hour - 1] {
        rig.clickhouse.keep_hour(hour).await.expect("an hour");
    }
    let earlier = format!("INSERT INTO traffic_hours SELECT toUUID('{}'), {}, 1000, 1", site(1), hour - 700);
    rig.temporary.execute(&earlier).await;
    let page = PathPattern::new("/");
    let mut counts = Vec::new();
    for hour in [hour - 700, hour - 1, hour, hour + 1] {
        let all = rig.clickhouse.pageviews_before(site(1), None, hour).await.expect("a count");
        counts.push((all, rig.clickhouse.pageviews_before(site(1), Some(&page), hour).await.expect("a count")));
    }
    assert_eq!(counts, [(0, 0), (1_001, 1), (1_003, 3), (1_004, 4)]);
}
