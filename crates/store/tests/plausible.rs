//! What is read of an install of Plausible.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bellwether_domain::event::Revenue;
use bellwether_domain::goal::{Goal, GoalKind, GoalSpec, PathPattern};
use bellwether_domain::history::{Minute, minute_of};
use bellwether_domain::id::GoalId;
use bellwether_domain::milestone::Stretch;
use bellwether_domain::plausible::{Listed, ListedGoal, PlausibleId, completions};
use bellwether_domain::reading::{Rows, Wanted};
use bellwether_domain::segment::{Segment, VisitsWithin};
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::visitor::VisitorId;
use bellwether_store::clickhouse::{ClickHouse, ClickHouseError, PlausibleEvents, SourceWindow, Views, Window};
use bellwether_store::{PlausibleTables, StoreError};
use bellwether_testkit::clickhouse::ClickHouse as Temporary;
use bellwether_testkit::database::{Database, Engine};
use bellwether_testkit::plausible::{Plausible, Row, Version};
use serde_json::json;

/// 2026-02-25 12:00:00, a noon.
const NOON: Second = 1_772_020_800;

async fn events(plausible: &Plausible) -> PlausibleEvents {
    let clickhouse = ClickHouse::new(&plausible.clickhouse_url().parse().expect("a URL"));
    PlausibleEvents::open(clickhouse).await.expect("its events")
}

async fn tables(plausible: &Plausible) -> PlausibleTables {
    PlausibleTables::open(plausible.postgres_url().parse().expect("a URL")).await.expect("its tables")
}

fn wanted(sites: &[u64], names: &[&str], seconds: std::ops::Range<Second>) -> Wanted {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Wanted { sites: sites.iter().copied().map(PlausibleId).collect(), names, seconds }
}

fn time(second: Second) -> Timestamp {
    Timestamp::from_micros(i64::from(second) * 1_000_000)
}

#[tokio::test]
async fn windows_and_tops_are_those_of_its_events() {
    let plausible = Plausible::install(Version::Current).await;
    let mut rows = Vec::new();
    for (site, second, user, pathname, source) in [
        (1, NOON, 1, "/", "Google"),
        (1, NOON, 1, "/a", "Google"),
        (1, NOON - 9, 2, "/", ""),
        (1, NOON - 9, 3, "/", "Direct / None"),
        (1, NOON - 10, 4, "/old", "Bing"),
        (1, NOON - 19, 2, "/old", "Bing"),
        (1, NOON - 20, 5, "/old", "Bing"),
        (1, NOON + 1, 6, "/new", "Bing"),
        (2, NOON, 7, "/", ""),
    ] {
        rows.push(Row { source, ..Row::pageview(site, second, user, pathname) });
    }
    rows.push(Row { name: "engagement", ..Row::pageview(1, NOON, 8, "/engaged") });
    plausible.write(&rows).await;
    let events = events(&plausible).await;
    let window = |site, length| Window { site: PlausibleId(site), visits: VisitsWithin::all(length) };
    let windows = [window(1, 10), window(2, 10), window(3, 10), window(1, 20)];
    let counts = events.counted(&windows, NOON).await.expect("counts");
    assert_eq!(
        counts.iter().map(|counts| (counts.current, counts.previous)).collect::<Vec<_>>(),
        [(3, 2), (1, 0), (0, 0), (4, 1)]
    );
    let tops = events.tops(&window(1, 10), NOON).await.expect("the tops");
    let named = |shares: &[bellwether_domain::traffic::Share]| {
        shares.iter().map(|share| (share.name.to_string(), share.visitors)).collect::<Vec<_>>()
    };
    assert_eq!(named(&tops.sources), [("Google".to_owned(), 1)]);
    assert_eq!(named(&tops.pages), [("/".to_owned(), 3), ("/a".to_owned(), 1)]);
}

#[tokio::test]
async fn sources_are_those_of_its_events() {
    const DAY: Second = 86_400;
    for version in [Version::Current, Version::Old] {
        let plausible = Plausible::install(version).await;
        let seen = [
            (1, NOON, 1, "It's"),
            (1, NOON, 1, "It's"),
            (1, NOON - 9, 2, "It's"),
            (1, NOON - 10, 3, "It's"),
            (1, NOON, 4, ""),
            (1, NOON, 5, "Direct / None"),
            (2, NOON - 50 * DAY, 6, "Bing"),
        ];
        let rows = seen.map(|(site, second, user, source)| Row { source, ..Row::pageview(site, second, user, "/a") });
        plausible.write(&rows).await;
        let (events, today) = (events(&plausible).await, NOON / DAY);
        let window =
            |(site, window_seconds, min_visitors)| SourceWindow { site: PlausibleId(site), window_seconds, min_visitors };
        let windows = [(1, 10, 3), (2, 10, 1), (1, 10, 2), (1, 20, 1)].map(window);
        let counts = events.sources(&windows, NOON).await.expect("counts");
        let counts: Vec<_> =
            counts.iter().map(|(index, count)| (*index, &*count.source, count.window_seconds, count.visitors)).collect();
        assert_eq!(counts, [(2, "It's", 10, 2), (3, "It's", 20, 3)], "{version:?}");
        let pairs = [(PlausibleId(1), "It's".into()), (PlausibleId(2), "Bing".into()), (PlausibleId(2), "It's".into())];
        let days = events.days_of_sources(&pairs, today - 50..=today).await.expect("days");
        assert_eq!(days, [vec![today], vec![today - 50], vec![]], "{version:?}");
        let pages = events.pages_from((PlausibleId(1), 20), "It's", NOON).await.expect("pages");
        assert_eq!(pages.iter().map(|page| (&*page.name, page.visitors)).collect::<Vec<_>>(), [("/a", 3)]);
        let known = async |site, day| events.knows(PlausibleId(site), day).await.expect("an answer");
        assert_eq!((known(1, today - 1).await, known(2, today - 50).await, known(2, today - 51).await), (false, true, false));
    }
}

#[tokio::test]
async fn rows_are_counted_by_the_second_and_read_with_how_often_they_are_there() {
    let plausible = Plausible::install(Version::Current).await;
    let bought = Row {
        name: "It's \\ bought?",
        props: vec![("plan", "pro"), ("a'", "\\")],
        revenue: Some(("29.90", "EUR")),
        source: "Google",
        ..Row::pageview(1, NOON, 1, "/buy")
    };
    let scrolled = Row { name: "engagement", scroll_depth: 90, ..Row::pageview(1, NOON + 1, 2, "/") };
    let others = [
        Row::pageview(1, NOON, 1, "/"),
        Row { site: 2, ..bought.clone() },
        Row { second: NOON - 1, ..bought.clone() },
        Row { second: NOON + 2, ..bought.clone() },
    ];
    plausible.write(&[bought.clone(), scrolled, bought.clone()]).await;
    plausible.write(&others).await;
    let before = plausible.contents().await;
    let events = events(&plausible).await;
    assert!(events.lacks().is_empty());
    let wanted = wanted(&[1], &["It's \\ bought?", "engagement"], NOON..NOON + 2);
    let counted = events.count_rows(&wanted).await.expect("counts");
    let rows = |second, rows| Rows { site: PlausibleId(1), second, rows };
    assert_eq!(counted, [rows(NOON, 2), rows(NOON + 1, 1)]);
    let mut read = events.rows(&wanted, &counted).await.expect("rows");
    read.sort_by_key(|row| row.second);
    let [bought, scrolled] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!((bought.copies, bought.second, bought.visitor, bought.pathname.as_str()), (2, NOON, VisitorId(1), "/buy"));
    assert_eq!(bought.source.as_deref(), Some("Google"));
    let prop = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(bought.props, BTreeMap::from([prop("plan", "pro"), prop("a'", "\\")]));
    assert_eq!(bought.revenue, Some(Revenue { amount: "29.9".to_owned(), currency: "EUR".to_owned() }));
    assert_eq!((bought.scroll_depth, scrolled.scroll_depth), (None, Some(90)));
    assert_eq!((scrolled.source.as_deref(), &scrolled.revenue, scrolled.copies), (None, &None, 1));
    assert_eq!(events.rows(&wanted, &counted[1..]).await.expect("rows"), std::slice::from_ref(scrolled));
    assert!(events.rows(&wanted, &[]).await.expect("none").is_empty());
    assert_eq!(plausible.contents().await, before, "it was only looked at");
}

#[tokio::test]
async fn what_a_version_lacks_is_found_out() {
    let plausible = Plausible::install(Version::Old).await;
    plausible.write(&[Row::pageview(1, NOON, 1, "/")]).await;
    plausible.add_site(1, "example.com", NOON).await;
    plausible.add_goal(1, 1, NOON, ("page_path", "'/'")).await;
    let (events, tables) = (events(&plausible).await, tables(&plausible).await);
    assert_eq!(events.lacks(), ["scroll_depth", "engagement_time", "revenue_source_amount", "revenue_source_currency"]);
    assert_eq!(tables.lacks(), ["goals.display_name", "goals.currency", "goals.scroll_threshold", "goals.custom_props"]);
    let wanted = wanted(&[1], &["pageview"], NOON..NOON + 1);
    let rows = events.rows(&wanted, &events.count_rows(&wanted).await.expect("counts")).await.expect("rows");
    assert_eq!(rows.iter().map(|row| (row.scroll_depth, row.revenue.clone())).collect::<Vec<_>>(), [(None, None)]);
    let listed = tables.listed().await.expect("a site");
    assert_eq!(listed[0].goals().iter().map(|goal| goal.spec.display_name.as_str()).collect::<Vec<_>>(), ["Visit /"]);
}

#[tokio::test]
async fn sites_and_goals_are_listed_by_an_account_that_may_only_read() {
    let plausible = Plausible::install(Version::Current).await;
    plausible.add_site(2, "other.example", NOON + 1).await;
    plausible.add_site(1, "example.com", NOON).await;
    plausible.add_goal(5, 1, NOON + 2, ("page_path, display_name, scroll_threshold", "'/a*', 'A', 50")).await;
    let columns = "event_name, display_name, currency, custom_props";
    plausible.add_goal(6, 1, NOON + 3, (columns, r#"'Purchase', 'Bought', 'EUR', '{"plan": "pro"}'"#)).await;
    let before = plausible.contents().await;
    let tables = tables(&plausible).await;
    assert!(tables.lacks().is_empty());
    let site = |id, domain: &str, goals, second| Listed {
        id: PlausibleId(id),
        domain: domain.to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        made_at: time(second),
        goals,
    };
    let goal = |id, second| ListedGoal {
        id,
        event_name: None,
        page_path: None,
        display_name: None,
        currency: None,
        scroll_threshold: -1,
        custom_props: "{}".to_owned(),
        made_at: time(second),
    };
    let text = |text: &str| Some(text.to_owned());
    let goals = vec![
        ListedGoal { page_path: text("/a*"), display_name: text("A"), scroll_threshold: 50, ..goal(5, NOON + 2) },
        ListedGoal {
            event_name: text("Purchase"),
            display_name: text("Bought"),
            currency: text("EUR"),
            custom_props: r#"{"plan": "pro"}"#.to_owned(),
            ..goal(6, NOON + 3)
        },
    ];
    let expected = [site(1, "example.com", goals, NOON), site(2, "other.example", Vec::new(), NOON + 1)];
    assert_eq!(tables.listed().await.expect("sites"), expected);
    assert_eq!(plausible.contents().await, before, "it was only looked at");
}

#[tokio::test]
async fn databases_without_a_plausible_are_refused() {
    let clickhouse = ClickHouse::new(&Temporary::temporary().await.url().parse().expect("a URL"));
    let refused = PlausibleEvents::open(clickhouse).await.err().expect("there are no events");
    assert!(matches!(refused, ClickHouseError::NotPlausible("timestamp")), "{refused}");
    let empty = Database::temporary_on(Engine::Postgres).await;
    let refused = PlausibleTables::open(empty.url().parse().expect("a URL")).await.err().expect("there are no sites");
    assert!(matches!(refused, StoreError::NotPlausible("sites.id")), "{refused}");
}

/// What the database counts is what the domain says of each row.
#[tokio::test]
async fn completions_are_counted_as_goals_have_it() {
    let plausible = Plausible::install(Version::Current).await;
    let goal = |id, spec: &serde_json::Value| Goal {
        id: GoalId::from_bytes([id; 16]),
        spec: GoalSpec::read(spec).expect("a goal"),
        created_at: Timestamp::EPOCH,
    };
    let goals = [
        goal(1, &json!({"event_name": "It's \\ bought?"})),
        goal(2, &json!({"page_path": "/a_b%/*"})),
        goal(3, &json!({"page_path": "/exact"})),
        goal(4, &json!({"page_path": "/read**", "scroll_threshold": 50})),
        goal(5, &json!({"event_name": "It's \\ bought?", "custom_props": {"plan": "p'ro", "b": "2"}})),
    ];
    let mut rows = Vec::new();
    for pathname in ["/a_b%/", "/a_b%/c\n/d", "/axb%/c", "/a_bc/c", "/exact", "/exact/", "/Exact", "/read/on"] {
        rows.push(Row::pageview(1, NOON, 1, pathname));
        for scroll_depth in [0, 49, 50, 100, 255] {
            rows.push(Row { name: "engagement", scroll_depth, ..Row::pageview(1, NOON, 1, pathname) });
        }
    }
    for props in [vec![], vec![("plan", "p'ro")], vec![("b", "2"), ("plan", "p'ro")], vec![("b", "1"), ("plan", "p'ro")]] {
        rows.push(Row { name: "It's \\ bought?", props, ..Row::pageview(1, NOON, 1, "/") });
    }
    rows.push(Row::pageview(1, NOON - 60, 1, "/exact"));
    rows.push(Row::pageview(2, NOON, 1, "/exact"));
    plausible.write(&rows).await;
    let events = events(&plausible).await;
    let counted = events.count_completions(PlausibleId(1), &goals, None, minute_of(NOON)).await.expect("counts");
    let names = goals.iter().map(|goal| match &goal.spec.kind {
        GoalKind::Event { name, .. } => name.as_str(),
        GoalKind::Page { .. } => "pageview",
        GoalKind::Scroll { .. } => "engagement",
    });
    let wanted = wanted(&[1], &names.collect::<Vec<_>>(), NOON..NOON + 1);
    let read = events.rows(&wanted, &events.count_rows(&wanted).await.expect("counts")).await.expect("rows");
    let mut expected: HashMap<_, u64> = goals.iter().map(|goal| (goal.id, 0)).collect();
    completions(&goals, &read).iter().for_each(|completion| *expected.entry(completion.goal.id).or_default() += 1);
    assert_eq!(counted, expected);
    let hours = events.hours(PlausibleId(1), &goals, NOON / 3_600 - 1..NOON / 3_600 + 1).await.expect("hours");
    let of_noon: HashMap<_, _> = hours[1].completions.iter().map(|(id, count)| (*id, u64::from(*count))).collect();
    assert_eq!((of_noon, hours[0].pageviews, hours[1].pageviews, hours[1].visitors), (expected, 1, 8, 1));
    assert_eq!([1, 2, 3, 4, 5].map(|id| counted[&GoalId::from_bytes([id; 16])]), [4, 2, 1, 2, 1]);
}

#[tokio::test]
async fn minutes_know_who_came_before() {
    let plausible = Plausible::install(Version::Current).await;
    let visit = |minute: u32, user| Row::pageview(1, NOON + 60 * minute, user, "/");
    plausible.write(&[visit(0, 1), visit(0, 1), visit(0, 2), visit(2, 1), visit(2, 3)]).await;
    let minutes =
        events(&plausible).await.minutes(PlausibleId(1), None, minute_of(NOON)..=minute_of(NOON) + 2).await.expect("minutes");
    let told = |minute: &Minute| (minute.minute - minute_of(NOON), minute.pageviews, minute.visitors[0], minute.visitors[2]);
    let seen: Vec<_> = minutes.iter().map(told).collect();
    assert_eq!(seen, [(0, 3, 2, 0), (2, 2, 1, 1)]);
}

/// Whatever segment is asked for, the server counts what [`Segment::contains`] says.
#[tokio::test]
async fn segments_are_what_the_domain_says() {
    let plausible = Plausible::install(Version::Current).await;
    let mut rows = Vec::new();
    for (number, pathname) in ["/a_b%/c", "/axb%/c", "/blog/it's", "/blog", "/Blog/x"].into_iter().enumerate() {
        for (index, source) in ["", "Direct / None", "Google", "google", "It's \\ me?"].into_iter().enumerate() {
            let user = u64::try_from(number * 10 + index).expect("a number");
            rows.push(Row { source, ..Row::pageview(1, NOON, user, pathname) });
        }
    }
    plausible.write(&rows).await;
    let events = events(&plausible).await;
    let segment = |page: Option<&str>, source: Option<&str>| {
        Arc::new(Segment { page: page.map(PathPattern::new), source: source.map(Arc::from) })
    };
    let segments = [
        segment(Some("/a_b%/*"), None),
        segment(Some("/blog/*"), Some("GOOGLE")),
        segment(Some("*it's*"), None),
        segment(None, Some("direct / none")),
        segment(None, Some("it's \\ ME?")),
        segment(Some("/nowhere"), None),
    ];
    let window = |segment: &Arc<Segment>| Window {
        site: PlausibleId(1),
        visits: VisitsWithin { segment: Some(segment.clone()), window_seconds: 60 },
    };
    let windows: Vec<_> = segments.iter().map(window).collect();
    let counts = events.counted(&windows, NOON).await.expect("counts");
    let counted: Vec<_> = counts.iter().map(|counts| counts.current).collect();
    let source = |row: &Row| (!["", "Direct / None"].contains(&row.source)).then_some(row.source);
    let belong = |segment: &Arc<Segment>| rows.iter().filter(|row| segment.contains(&row.pathname, source(row))).count();
    let expected: Vec<_> = segments.iter().map(belong).collect();
    assert_eq!(expected, [5, 2, 5, 10, 5, 0]);
    assert_eq!(counted.iter().map(|count| *count as usize).collect::<Vec<_>>(), expected);
    for (segment, expected) in segments.iter().zip(expected) {
        let minutes = events.minutes(PlausibleId(1), Some(segment), minute_of(NOON)..=minute_of(NOON)).await.expect("minutes");
        assert_eq!(minutes.iter().map(|minute| minute.distinct() as usize).sum::<usize>(), expected, "{segment:?}");
    }
    let tops = events.tops(&windows[1], NOON).await.expect("the tops");
    assert_eq!(tops.pages.iter().map(|share| (&*share.name, share.visitors)).collect::<Vec<_>>(), [("/blog/it's", 2)]);
}

#[tokio::test]
async fn views_of_pages_are_those_of_its_pageviews() {
    let plausible = Plausible::install(Version::Current).await;
    let mut rows: Vec<_> = [(1, NOON - 3_600, "/a"), (1, NOON - 1, "/blog/a"), (1, NOON, "/blog/b"), (2, NOON, "/blog/c")]
        .map(|(site, second, page)| Row::pageview(site, second, 1, page))
        .into();
    rows.push(Row { name: "engagement", ..Row::pageview(1, NOON, 8, "/blog/a") });
    plausible.write(&rows).await;
    let (events, site, page) = (events(&plausible).await, PlausibleId(1), PathPattern::new("/blog/*"));
    let stretch = Stretch { since: 0, settled: NOON, until: NOON + 1 };
    let views = |page| Views { site, page, stretch };
    let counted = events.views(&[views(None), views(Some(page.clone()))]).await.expect("counts");
    assert_eq!(counted, [(2, 1), (1, 1)]);
    let before = |page, hour| events.pageviews_before(site, page, hour);
    assert_eq!(before(None, NOON / 3_600).await.expect("a count"), 2);
    assert_eq!(before(Some(&page), NOON / 3_600).await.expect("a count"), 1);
    assert_eq!(before(Some(&page), NOON / 3_600 + 1).await.expect("a count"), 2);
}
