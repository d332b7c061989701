//! An existing Plausible as the source: its events, sites and goals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::WebhookId;
use bellwether_domain::webhook::WebhookChange;
use bellwether_engine::{ActiveSite, Counter, Engine, LookError, ManageError, Plausible, Settings, Workers};
use bellwether_testkit::ambient::{ManualClock, manual};
use bellwether_testkit::cable::Cable;
use bellwether_testkit::database::Database;
use bellwether_testkit::plausible::{Buffer, Plausible as Install, Row, Version};
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::detection::data;
use super::log::Log;
use super::milestones::{milestone, told};
use super::rig::{Names, goal_spec, seconds, settings, site_change, start};

/// What a completion says: the goal, the page, the second.
type Told = (String, String, String);

/// A Plausible with a site and goals, and an engine that watches it.
pub(crate) struct Rig {
    pub(crate) install: Install,
    pub(crate) settings: Settings,
    ambient: Ambient,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) names: Arc<Names>,
    pub(crate) database: Arc<Database>,
    pub(crate) engine: Engine,
    pub(crate) workers: Workers,
}

async fn source(clickhouse_url: &str, install: &Install) -> Settings {
    let (clickhouse, postgres) = (clickhouse_url.parse().expect("a URL"), install.postgres_url().parse().expect("a URL"));
    let plausible = Plausible::open(&clickhouse, postgres).await.expect("a Plausible");
    Settings { counter: Some(Counter::Plausible(plausible)), ..settings() }
}

impl Rig {
    /// The site is `example.com`, its goals `Purchase`, `Visit /buy*`, and `Read` from half of `/read` on.
    pub(crate) async fn start() -> Self {
        let install = Install::install(Version::Current).await;
        let settings = source(&install.clickhouse_url(), &install).await;
        Self::start_with(install, settings).await
    }

    async fn start_with(install: Install, settings: Settings) -> Self {
        let ((ambient, clock), names) = (manual(), Arc::new(Names::default()));
        let made_at = ambient.now().second() - 1_000;
        install.add_site(1, "example.com", made_at).await;
        install.add_goal(1, 1, made_at, ("event_name, display_name, currency", "'Purchase', 'Purchase', 'EUR'")).await;
        install.add_goal(2, 1, made_at, ("page_path, display_name", "'/buy*', 'Visit /buy*'")).await;
        install.add_goal(3, 1, made_at, ("page_path, display_name, scroll_threshold", "'/read', 'Read', 50")).await;
        let database = Arc::new(Database::temporary_on(crate::ENGINE).await);
        let (engine, workers) = start(&database, &ambient, &settings, &names).await.expect("an engine");
        assert_eq!(engine.find_site("example.com").expect("a site from the start").goals.len(), 3);
        let rig = Self { install, settings, ambient, clock, names, database, engine, workers };
        rig.look().await;
        rig
    }

    /// Stops the engine in good order, and starts another.
    async fn restart(&mut self) {
        self.workers.stop().await.expect("a clean stop");
        let started = start(&self.database, &self.ambient, &self.settings, &self.names).await;
        (self.engine, self.workers) = started.expect("an engine");
    }

    fn site(&self) -> Arc<ActiveSite> {
        self.engine.find_site("example.com").expect("the site")
    }

    pub(crate) async fn webhook(&self, fields: Value) -> WebhookId {
        let change = WebhookChange::read_new(&fields, self.engine.policy()).expect("fields of a webhook");
        self.engine.create_webhook(self.site().site.id, change).await.expect("a webhook").webhook.id
    }

    fn second(&self) -> u32 {
        self.ambient.now().second()
    }

    async fn look(&self) {
        self.engine.look().await.expect("a look");
    }

    /// A second passes, and it is looked at what is there then.
    async fn tick(&self) {
        self.clock.advance(seconds(1));
        self.engine.dispatch_due().await.expect("a tick");
        self.look().await;
    }

    async fn ticks(&self, count: usize) {
        for _ in 0..count {
            self.tick().await;
        }
        self.engine.drained().await;
    }

    pub(crate) async fn write(&self, rows: &[Row]) {
        self.install.write(rows).await;
    }

    /// What Plausible itself says.
    async fn visitors_by_a_direct_query(&self) -> u32 {
        let sql = format!(
            "SELECT uniqExact(user_id) FROM events_v2
             WHERE site_id = 1 AND name != 'engagement' AND toUnixTimestamp(timestamp) > {now} - 300
                   AND toUnixTimestamp(timestamp) <= {now}",
            now = self.second()
        );
        self.install.clickhouse().texts(&sql).await[0].parse().expect("a number")
    }
}

/// What is received of completions.
pub(crate) fn completions(receiver: &mut Receiver) -> Vec<Told> {
    let told = |body: Value| {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (text(&body["data"]["goal_name"]), text(&body["data"]["path"]), text(&body["timestamp"]))
    };
    receiver.so_far().into_iter().map(|request| told(serde_json::from_slice(&request.body).expect("JSON"))).collect()
}

fn counted<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    all.into_iter().for_each(|one| *counts.entry(one).or_insert(0) += 1);
    counts
}

/// The goals that a row completes, by their names.
fn completed(row: &Row) -> Option<&'static str> {
    match row.name {
        "Purchase" => Some("Purchase"),
        "pageview" if row.pathname.starts_with("/buy") => Some("Visit /buy*"),
        "engagement" if row.pathname == "/read" && (50..=100).contains(&row.scroll_depth) => Some("Read"),
        _ => None,
    }
}

/// A few rows of a second, some of which say the same.
fn some_rows(buffer: &mut Buffer, second: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    for _ in 0..buffer.random() % 4 {
        let (user, kind) = (buffer.random() % 40, buffer.random() % 7);
        let row = |pathname: &str| Row::pageview(1, second, user, pathname);
        let row = match kind {
            0 => Row { name: "Purchase", revenue: Some(("29.90", "EUR")), source: "Google", ..row("/buy/done") },
            1 => row("/buy/it"),
            2 => Row { name: "engagement", scroll_depth: 80, ..row("/read") },
            3 => Row { name: "engagement", scroll_depth: 20, ..row("/read") },
            4 => Row { site: 2, ..row("/buy/elsewhere") },
            5 => Row { name: "Other", ..row("/buy/other") },
            _ => row("/"),
        };
        rows.extend(vec![row; 1 + usize::try_from(buffer.random() % 2).unwrap_or(0)]);
    }
    rows
}

/// However late rows are there, and wherever the process is broken off: every completion is told once, and the visitors are those of
/// a direct query at every tick.
async fn everything_is_found_once(seed: u64, restarts: &[u32]) {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    let (mut buffer, mut expected) = (Buffer::new(seed), Vec::new());
    for tick in 0..60 {
        for row in some_rows(&mut buffer, rig.second()) {
            let time = bellwether_domain::time::Timestamp::from_micros(i64::from(row.second) * 1_000_000);
            let told = completed(&row).filter(|_| row.site == 1);
            expected.extend(told.map(|goal| (goal.to_owned(), row.pathname.clone(), time.to_string())));
            buffer.put(row);
        }
        rig.write(&buffer.flush(rig.second())).await;
        if restarts.contains(&tick) {
            // Somewhere between its first statement and its last.
            rig.clock.advance(seconds(1));
            let limit = Duration::from_micros(buffer.random() % 60_000);
            let _ = tokio::time::timeout(limit, rig.engine.look()).await;
            rig.restart().await;
        } else {
            rig.tick().await;
        }
        let visitors = rig.engine.current_visitors(&[rig.site()]).await.expect("a count");
        assert_eq!(visitors, [rig.visitors_by_a_direct_query().await], "tick {tick}");
    }
    rig.write(&buffer.flush(u32::MAX)).await;
    rig.ticks(30).await;
    assert!(expected.len() > 30, "{}", expected.len());
    assert_eq!(counted(completions(&mut receiver)), counted(expected));
}

#[tokio::test]
async fn every_completion_is_found_once_and_visitors_are_those_of_a_direct_query() {
    everything_is_found_once(1, &[]).await;
}

#[tokio::test]
async fn restarting_neither_misses_nor_repeats() {
    everything_is_found_once(2, &[3, 10, 11, 20, 31, 45, 59]).await;
}

#[tokio::test]
async fn what_is_told_of_a_completion() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    let bought = Row {
        name: "Purchase",
        revenue: Some(("29.90", "EUR")),
        source: "Google",
        props: vec![("plan", "pro")],
        ..Row::pageview(1, rig.second(), 1, "/buy/done")
    };
    rig.write(&[bought.clone(), Row { source: "Direct / None", revenue: Some(("1.50", "USD")), props: Vec::new(), ..bought }])
        .await;
    rig.ticks(1).await;
    let mut told = data(&mut receiver);
    told.sort_by_key(|data| data["source"].to_string());
    let goal_id = rig.site().goals.iter().find(|goal| goal.spec.display_name == "Purchase").expect("a goal").id;
    let completion = |source: Value, props, amount, currency| {
        json!({"goal_id": goal_id.to_string(), "goal_name": "Purchase", "goal_type": "event", "path": "/buy/done", "count": 1,
               "source": source, "props": props, "revenue": {"amount": amount, "currency": currency}})
    };
    let google = completion(json!("Google"), json!({"plan": "pro"}), "29.9", "EUR");
    assert_eq!(told, [google, completion(Value::Null, json!({}), "1.5", "USD")]);
}

/// While nothing can be read, nothing is lost, and what was there long ago is read in parts.
#[tokio::test]
async fn nothing_is_missed_while_clickhouse_is_away_or_nobody_looks() {
    let (mut receiver, install) = (Receiver::start().await, Install::install(Version::Current).await);
    let cable = Cable::lay(install.clickhouse().address()).await;
    let settings = source(&format!("http://{}/{}", cable.address(), install.clickhouse().name()), &install).await;
    let mut rig = Rig::start_with(install, settings).await;
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    cable.unplug();
    rig.write(&[Row::pageview(1, rig.second(), 1, "/buy/1")]).await;
    rig.clock.advance(seconds(5));
    assert!(matches!(rig.engine.look().await, Err(LookError::Count(_))));
    assert!(rig.engine.current_visitors(&[rig.site()]).await.is_err());
    rig.clock.advance(seconds(500));
    rig.write(&[Row::pageview(1, rig.second(), 1, "/buy/2")]).await;
    cable.mend();
    rig.ticks(3).await;
    let paths = |receiver: &mut Receiver| completions(receiver).into_iter().map(|(_, path, _)| path).collect::<Vec<_>>();
    assert_eq!(paths(&mut receiver), ["/buy/1", "/buy/2"]);

    rig.clock.advance(seconds(4 * 3_600));
    rig.write(&[Row::pageview(1, rig.second() - 3 * 3_600, 1, "/buy/3")]).await;
    rig.restart().await;
    rig.clock.advance(seconds(3 * 3_600));
    rig.write(&[Row::pageview(1, rig.second() - 9 * 3_600, 1, "/buy/old"), Row::pageview(1, rig.second() - 9, 1, "/buy/4")])
        .await;
    rig.ticks(80).await;
    assert_eq!(paths(&mut receiver), ["/buy/3", "/buy/4"]);
}

#[tokio::test]
async fn several_completions_fill_a_threshold_across_restarts() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let trigger = json!({"type": "goal_completion", "threshold": 3, "window_seconds": 60});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    rig.clock.advance(seconds(10));
    let bought = |late, page: &str| Row::pageview(1, rig.second() - late, 1, page);
    let (first, second) = ([bought(0, "/buy/1")], [bought(0, "/buy/3")]);
    let (third, rest) = ([bought(4, "/buy/2")], [bought(0, "/buy/4"), bought(0, "/buy/5")]);
    rig.write(&first).await;
    rig.ticks(1).await;
    rig.restart().await;
    rig.write(&second).await;
    rig.ticks(1).await;
    assert!(receiver.so_far().is_empty(), "two are not three");
    rig.restart().await;
    rig.write(&third).await;
    rig.ticks(1).await;
    let told: Vec<_> = data(&mut receiver).iter().map(|data| (data["path"].clone(), data["count"].clone())).collect();
    assert_eq!(told, [(json!("/buy/2"), json!(3))]);
    rig.restart().await;
    rig.write(&rest).await;
    rig.ticks(2).await;
    assert!(receiver.so_far().is_empty(), "it counts anew");
}

#[tokio::test]
async fn visitors_who_rush_in_are_told_of() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let trigger =
        json!({"type": "visitor_spike", "unit": "visitors", "threshold": 5, "window_seconds": 300, "cooldown_seconds": 0});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    let visits = |users: std::ops::Range<u64>| -> Vec<Row> {
        users.map(|user| Row { source: "Google", ..Row::pageview(1, rig.second(), user, "/a") }).collect()
    };
    rig.write(&visits(1..5)).await;
    rig.ticks(1).await;
    assert!(receiver.so_far().is_empty(), "four are not five");
    rig.write(&visits(4..7)).await;
    rig.ticks(5).await;
    let [spiked] = &data(&mut receiver)[..] else { panic!("one webhook") };
    assert_eq!(
        (&spiked["current_visitors"], &spiked["top_sources"][0]),
        (&json!(6), &json!({"source": "Google", "visitors": 6}))
    );
    assert_eq!(spiked["top_pages"], json!([{"page": "/a", "visitors": 6}]));
}

#[tokio::test]
async fn visitors_of_a_segment_are_counted_apart() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let trigger = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 3, "cooldown_seconds": 0, "page": "/a*",
                         "source": "Google"});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    let visits = |users: std::ops::Range<u64>, page: &str, source| -> Vec<Row> {
        users.map(|user| Row { source, ..Row::pageview(1, rig.second(), user, page) }).collect()
    };
    let others = [visits(1..3, "/a", "Google"), visits(3..9, "/b", "Google"), visits(9..20, "/a", "Bing")].concat();
    rig.write(&others).await;
    rig.ticks(5).await;
    assert!(receiver.so_far().is_empty(), "two are not three");
    rig.write(&visits(3..4, "/about", "Google")).await;
    rig.ticks(5).await;
    let [spiked] = &data(&mut receiver)[..] else { panic!("one webhook") };
    assert_eq!((&spiked["current_visitors"], &spiked["page"]), (&json!(3), &json!("/a*")));
    assert_eq!(spiked["top_pages"], json!([{"page": "/a", "visitors": 2}, {"page": "/about", "visitors": 1}]));
}

#[tokio::test]
async fn an_old_version_tells_what_it_knows() {
    let install = Install::install(Version::Old).await;
    let settings = source(&install.clickhouse_url(), &install).await;
    let ((ambient, clock), names) = (manual(), Arc::new(Names::default()));
    let made_at = ambient.now().second() - 1_000;
    install.add_site(1, "example.com", made_at).await;
    install.add_goal(1, 1, made_at, ("event_name", "'Purchase'")).await;
    install.add_goal(2, 1, made_at, ("page_path", "'/buy*'")).await;
    let database = Arc::new(Database::temporary_on(crate::ENGINE).await);
    let (engine, workers) = start(&database, &ambient, &settings, &names).await.expect("an engine");
    engine.mirror().await.expect("its sites");
    let rig = Rig { install, settings, ambient, clock, names, database, engine, workers };
    rig.look().await;
    let mut receiver = Receiver::start().await;
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    let row = Row::pageview(1, rig.second(), 1, "/buy/1");
    rig.write(&[row.clone(), Row { name: "Purchase", ..row }]).await;
    rig.ticks(1).await;
    let told = completions(&mut receiver).into_iter().map(|(goal, path, _)| (goal, path));
    let named = |goal: &str| ((goal.to_owned(), "/buy/1".to_owned()), 1);
    assert_eq!(counted(told), BTreeMap::from([named("Purchase"), named("Visit /buy*")]));
}

#[tokio::test]
async fn sites_and_goals_follow_what_changes_there() {
    let rig = Rig::start().await;
    let site = rig.site();
    let goals = |site: &ActiveSite| {
        let mut names: Vec<_> = site.goals.iter().map(|goal| goal.spec.display_name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(goals(&site), ["Purchase", "Read", "Visit /buy*"]);
    assert_eq!((&*site.site.name, &*site.site.timezone), ("example.com", "Europe/Berlin"));
    let by_goal = json!({"type": "goal_completion", "goal_id": site.goals[0].id.to_string()});
    let webhook = rig.webhook(json!({"url": "http://127.0.0.1:9/", "triggers": [by_goal, "visitor_spike"]})).await;
    let first = site.goals[0].spec.display_name.clone();
    rig.install.change(&format!("DELETE FROM goals WHERE display_name = '{first}'")).await;
    rig.install.change("UPDATE goals SET display_name = 'Renamed' WHERE id IN (SELECT max(id) FROM goals)").await;
    rig.install.add_goal(9, 1, rig.second(), ("event_name, display_name", "'New', 'New'")).await;
    rig.install.add_site(2, "other.example", rig.second()).await;
    rig.engine.mirror().await.expect("its sites");
    let changed = rig.site();
    assert!(goals(&changed).contains(&"New".to_owned()) && goals(&changed).contains(&"Renamed".to_owned()));
    assert!(!goals(&changed).contains(&first));
    assert_eq!(
        changed.webhook(webhook).expect("a webhook").webhook.triggers.len(),
        1,
        "what waited for the goal is gone with it"
    );

    // Two sites swap their domains.
    rig.install.change("UPDATE sites SET domain = 'a.example' WHERE id = 1").await;
    rig.install.change("UPDATE sites SET domain = 'example.com' WHERE id = 2").await;
    rig.install.change("UPDATE sites SET domain = 'other.example' WHERE id = 1").await;
    rig.engine.mirror().await.expect("its sites");
    assert_eq!(rig.engine.find_site("other.example").expect("a site").site.id, site.site.id);
    assert_ne!(rig.site().site.id, site.site.id);

    rig.install.change("DELETE FROM sites WHERE id = 1").await;
    rig.engine.mirror().await.expect("its sites");
    assert!(rig.engine.find_site("other.example").is_none() && rig.engine.sites().len() == 1);
    rig.install.change("DELETE FROM sites").await;
    rig.engine.mirror().await.expect("none");
    assert_eq!(rig.engine.sites().len(), 1, "an empty table deletes nothing");
}

/// The tables are away while Plausible is brought up to date, and whoever reads the log is told once.
#[tokio::test]
async fn it_is_said_once_that_sites_cannot_be_read() {
    let rig = Rig::start().await;
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    rig.install.change("ALTER TABLE goals RENAME TO goals_away").await;
    for _ in 0..3 {
        rig.engine.mirror().await.expect_err("no table");
    }
    assert_eq!(rig.site().goals.len(), 3, "as they were");
    rig.install.change("ALTER TABLE goals_away RENAME TO goals").await;
    for _ in 0..3 {
        rig.engine.mirror().await.expect("its sites");
    }
    let lines = ["sites and goals are as they were", "sites and goals follow Plausible again"].map(|line| log.lines(line).len());
    assert_eq!(lines, [1, 1]);
}

#[tokio::test]
async fn what_comes_from_plausible_is_not_changed_here() {
    let rig = Rig::start().await;
    let (id, goal) = (rig.site().site.id, rig.site().goals[0].id);
    let change = || site_change(&json!({"domain": "new.example"}));
    let is_refused = |result: Result<(), ManageError>| matches!(result, Err(ManageError::Conflict(_)));
    assert!(is_refused(rig.engine.create_site(change()).await.map(|_| ())));
    assert!(is_refused(rig.engine.update_site(id, change()).await.map(|_| ())));
    assert!(is_refused(rig.engine.create_goal(id, goal_spec(&json!({"event_name": "a"}))).await.map(|_| ())));
    assert!(is_refused(rig.engine.delete_goal(id, goal).await));
    assert!(is_refused(rig.engine.delete_site(id).await));
    assert!(!rig.engine.takes_events() && rig.engine.is_mirrored(&rig.site()));
}

#[tokio::test]
async fn a_source_that_plausible_has_not_seen_for_long_is_told_of_once() {
    const DAY: u32 = 86_400;
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let trigger = json!({"type": "new_source", "min_visitors": 3, "window_seconds": 60});
    rig.webhook(json!({"url": receiver.url(), "triggers": [trigger]})).await;
    let ambient = rig.ambient.clone();
    let from = |source: &'static str, days_ago: u32, user: u64| Row {
        source,
        ..Row::pageview(1, ambient.now().second() - days_ago * DAY, user, "/a")
    };
    let three = |source: &'static str, user: u64| [0, 1, 2].map(|number| from(source, 0, user + number));
    rig.write(&three("Hacker News", 10)).await;
    rig.ticks(2).await;
    assert!(data(&mut receiver).is_empty(), "it is not known for long enough");
    assert!(!rig.engine.knows_sources(&rig.site()).await.expect("an answer"));

    rig.write(&[from("Google", 90, 1), from("Google", 20, 1), from("Reddit", 34, 1)]).await;
    assert!(rig.engine.knows_sources(&rig.site()).await.expect("an answer"));
    for (source, user) in [("Google", 20), ("Reddit", 30), ("lobste.rs", 40), ("Direct / None", 50), ("", 60)] {
        rig.write(&three(source, user)).await;
    }
    rig.write(&three("few", 70)[..2]).await;
    rig.ticks(3).await;
    let mut told: Vec<_> =
        data(&mut receiver).iter().map(|data| (data["source"].clone(), data["last_seen_on"].is_null())).collect();
    told.sort_by_key(|(source, _)| source.to_string());
    assert_eq!(told, [(json!("Reddit"), false), (json!("lobste.rs"), true)]);
    rig.clock.advance(seconds(60));
    rig.restart().await;
    rig.write(&three("lobste.rs", 80)).await;
    rig.ticks(3).await;
    assert!(data(&mut receiver).is_empty(), "it was told of before");
}

/// Nothing in it is touched by anything that is done.
#[tokio::test]
async fn adding_it_changes_nothing_in_plausible() {
    let (receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion", "visitor_spike"]})).await;
    rig.write(&[Row::pageview(1, rig.second(), 1, "/buy/1")]).await;
    let before = rig.install.contents().await;
    rig.ticks(3).await;
    rig.restart().await;
    rig.engine.mirror().await.expect("its sites");
    rig.ticks(3).await;
    rig.engine.current_visitors(&[rig.site()]).await.expect("a count");
    assert_eq!(rig.install.contents().await, before);
}

/// Everything that there ever was of the site counts, and what comes late.
#[tokio::test]
async fn pageviews_reach_milestones_from_what_there_is() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let past = rig.second() - 400 * 86_400;
    let at = |second, page: &str| Row::pageview(1, second, 1, page);
    rig.write(&[at(past, "/blog/a"), at(past + 1, "/blog/b"), at(rig.second() - 3_700, "/"), at(rig.second() - 2, "/")]).await;
    rig.write(&[Row { name: "engagement", ..at(rig.second() - 1, "/") }, Row::pageview(2, rig.second(), 1, "/")]).await;
    let triggers = [
        json!({"threshold": 4}),
        json!({"threshold": 6}),
        json!({"threshold": 3, "repeat": true}),
        json!({"threshold": 3, "page": "/blog/*"}),
        json!({"threshold": 4, "period": "day"}),
    ];
    rig.webhook(json!({"url": receiver.url(), "triggers": triggers.map(milestone)})).await;
    rig.engine.start_milestones().await.expect("it is known");
    rig.ticks(6).await;
    assert_eq!(told(&mut receiver), []);
    rig.write(&[at(rig.second(), "/blog/c")]).await;
    rig.ticks(6).await;
    assert_eq!(told(&mut receiver), [(3, 3)]);
    rig.restart().await;
    rig.engine.look().await.expect("a look");
    // It happened a minute before it is there.
    rig.write(&[at(rig.second() - 60, "/")]).await;
    rig.ticks(6).await;
    let mut reached = told(&mut receiver);
    reached.sort_unstable();
    assert_eq!(reached, [(4, 4), (6, 6), (6, 6)], "of the day, in all, and with repeat");
    rig.restart().await;
    rig.ticks(6).await;
    assert_eq!(told(&mut receiver), []);
}
