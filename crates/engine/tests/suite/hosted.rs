//! Plausible's hosted service as the source: visitors and completions by asking, within its limit.

use std::sync::Arc;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::WebhookId;
use bellwether_domain::webhook::WebhookChange;
use bellwether_engine::{ActiveSite, ApiKey, Engine, HostedSettings, ManageError, Polled, Settings, Workers};
use bellwether_testkit::ambient::{ManualClock, manual, manual_of};
use bellwether_testkit::database::Database;
use bellwether_testkit::hosted::{API_KEY, HostedService};
use bellwether_testkit::receiver::{Answer, Behaviour, Receiver};
use serde_json::{Value, json};

use super::detection::data;
use super::log::Log;
use super::operation::Read;
use super::rig::{Names, goal_spec, seconds, settings, site_change, start};

const SITE: &str = "example.com";
/// Longer than a round of questions about a site that all are waited for.
const ROUND: u64 = 30;

/// The service, and an engine that asks it.
struct Rig {
    service: HostedService,
    settings: Settings,
    ambient: Ambient,
    clock: Arc<ManualClock>,
    names: Arc<Names>,
    database: Arc<Database>,
    engine: Engine,
    workers: Workers,
}

fn asking(service: &HostedService, api_key: &str, sites: &[&str]) -> Settings {
    let sites = sites.iter().map(|domain| Arc::from(*domain)).collect();
    let api_key = ApiKey::new(api_key).expect("a key");
    Settings { hosted: Some(HostedSettings { origin: service.url(), api_key, sites }), ..settings() }
}

impl Rig {
    /// One site in UTC, with the goals `Signup` and `Visit /a`.
    async fn start() -> Self {
        Self::start_in("UTC").await
    }

    async fn start_in(timezone: &str) -> Self {
        let (ambient, clock) = manual();
        let service = HostedService::start(&ambient).await;
        service.add_site(SITE, timezone);
        service.add_goal(SITE, "Signup");
        service.add_goal(SITE, "Visit /a");
        Self::start_with(service, (ambient, clock), &[SITE]).await
    }

    async fn start_with(service: HostedService, (ambient, clock): (Ambient, Arc<ManualClock>), sites: &[&str]) -> Self {
        let (settings, names) = (asking(&service, API_KEY, sites), Arc::new(Names::default()));
        let database = Arc::new(Database::temporary_on(crate::ENGINE).await);
        let (engine, workers) = start(&database, &ambient, &settings, &names).await.expect("an engine");
        let rig = Self { service, settings, ambient, clock, names, database, engine, workers };
        // Everything is asked once.
        rig.pass(7 * 3 * sites.len() as u64).await;
        rig
    }

    async fn start_again(&mut self) {
        let started = start(&self.database, &self.ambient, &self.settings, &self.names).await;
        (self.engine, self.workers) = started.expect("an engine");
    }

    /// Stops the engine in good order, and starts another after a while.
    async fn restart(&mut self, pause: u64) {
        self.workers.stop().await.expect("a clean stop");
        self.clock.advance(seconds(pause));
        self.start_again().await;
    }

    async fn look(&self) {
        self.engine.look().await.expect("a look");
    }

    /// Lets time pass, in which it is looked once a second.
    async fn pass(&self, time: u64) {
        for _ in 0..time {
            self.clock.advance(seconds(1));
            self.engine.dispatch_due().await.expect("a tick");
            self.look().await;
        }
        self.engine.drained().await;
    }

    fn site(&self) -> Arc<ActiveSite> {
        self.engine.find_site(SITE).expect("the site")
    }

    fn goal_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.site().goals.iter().map(|goal| goal.spec.display_name.clone()).collect();
        names.sort_unstable();
        names
    }

    async fn webhook(&self, fields: Value) -> WebhookId {
        let change = WebhookChange::read_new(&fields, self.engine.policy()).expect("fields of a webhook");
        self.engine.create_webhook(self.site().site.id, change).await.expect("a webhook").webhook.id
    }

    async fn visitors(&self) -> u32 {
        self.engine.current_visitors(&[self.site()]).await.expect("a count")[0]
    }
}

/// What is received of completions: goal and how often.
fn completions(receiver: &mut Receiver) -> Vec<(String, u64)> {
    let told = |data: Value| (data["goal_name"].as_str().expect("a name").to_owned(), data["count"].as_u64().expect("a count"));
    let mut told: Vec<_> = data(receiver).into_iter().map(told).collect();
    told.sort_unstable();
    told
}

fn told(goal: &str, count: u64) -> (String, u64) {
    (goal.to_owned(), count)
}

#[tokio::test]
async fn sites_and_goals_appear_by_themselves_and_follow() {
    let rig = Rig::start().await;
    assert_eq!(rig.goal_names(), ["Signup", "Visit /a"]);
    let signup = rig.site().goals.iter().find(|goal| goal.spec.display_name == "Signup").expect("the goal").id;
    rig.service.rename_goal(SITE, "Signup", "Joined");
    rig.service.remove_goal(SITE, "Visit /a");
    rig.service.add_goal(SITE, "Bought");
    rig.pass(310).await;
    assert_eq!(rig.goal_names(), ["Bought", "Joined"]);
    assert!(rig.site().goals.iter().any(|goal| goal.id == signup && goal.spec.display_name == "Joined"));

    // Nothing of it is changed here.
    let site = rig.site();
    assert!(rig.engine.is_mirrored(&site) && !rig.engine.takes_events());
    let (id, goal) = (site.site.id, goal_spec(&json!({"event_name": "Other"})));
    let refused = [
        rig.engine.create_site(site_change(&json!({"domain": "other.com"}))).await.err(),
        rig.engine.update_site(id, site_change(&json!({"name": "Other"}))).await.err(),
        rig.engine.create_goal(id, goal).await.err(),
        rig.engine.delete_goal(id, signup).await.err(),
        rig.engine.delete_site(id).await.err(),
    ];
    assert!(refused.iter().all(|error| matches!(error, Some(ManageError::Conflict(_)))), "{refused:?}");
}

#[tokio::test]
async fn completions_are_counted_differences() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.service.complete(SITE, "Signup", 9);
    rig.pass(310).await;
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    rig.pass(ROUND).await;
    assert!(receiver.so_far().is_empty(), "what was before is no news");

    rig.service.complete(SITE, "Signup", 2);
    rig.service.complete(SITE, "Visit /a", 1);
    rig.pass(ROUND).await;
    let mut events = data(&mut receiver);
    events.sort_by_key(|data| data["goal_name"].to_string());
    let [signup, visit] = &events[..] else { panic!("{events:?}") };
    let goal_id = rig.site().goals.iter().find(|goal| goal.spec.display_name == "Signup").expect("the goal").id;
    let expected = json!({"goal_id": goal_id, "goal_name": "Signup", "goal_type": "event", "path": null, "count": 2,
                          "source": null, "props": {}, "revenue": null});
    assert_eq!((signup, &visit["count"]), (&expected, &json!(1)));

    // What turns out to be none, and comes again, is told once.
    rig.service.forget(SITE, "Signup", 3);
    rig.pass(ROUND).await;
    rig.service.complete(SITE, "Signup", 3);
    rig.pass(ROUND).await;
    assert!(receiver.so_far().is_empty());
    rig.service.complete(SITE, "Signup", 1);
    rig.pass(ROUND).await;
    assert_eq!(completions(&mut receiver), [told("Signup", 1)]);
}

/// It is noon in UTC, and midnight is soon in Auckland: what is completed around it is told once, whether or not somebody looks then.
#[tokio::test]
async fn a_new_day_in_the_sites_time_zone() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start_in("Pacific/Auckland").await);
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    rig.pass(ROUND).await;
    for hours in 0..26 {
        rig.service.complete(SITE, "Signup", 1);
        rig.pass(ROUND).await;
        assert_eq!(completions(&mut receiver), [told("Signup", 1)], "after {hours} hours");
        // Between two questions come a completion, and sometimes midnight.
        rig.clock.advance(seconds(1_800));
        rig.service.complete(SITE, "Signup", 1);
        rig.clock.advance(seconds(1_740));
        rig.pass(ROUND).await;
        assert_eq!(completions(&mut receiver), [told("Signup", 1)], "after {hours} hours and a half");
    }
    for days in [1, 2, 5] {
        rig.service.complete(SITE, "Signup", 2);
        rig.restart(days * 86_400).await;
        rig.service.complete(SITE, "Signup", 3);
        rig.pass(3 * ROUND).await;
        assert_eq!(completions(&mut receiver), [told("Signup", 5)], "after {days} days");
    }
    rig.service.complete(SITE, "Signup", 2);
    rig.restart(8 * 86_400).await;
    rig.service.complete(SITE, "Signup", 3);
    rig.pass(3 * ROUND).await;
    assert_eq!(completions(&mut receiver), [told("Signup", 3)], "what is longer ago than a week is not asked for");
}

#[tokio::test]
async fn a_restart_neither_misses_nor_repeats() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let several = json!({"type": "goal_completion", "threshold": 4, "window_seconds": 86_400});
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    rig.webhook(json!({"url": receiver.url(), "triggers": [several]})).await;
    rig.pass(ROUND).await;
    rig.service.complete(SITE, "Signup", 3);
    rig.pass(ROUND).await;
    assert_eq!(completions(&mut receiver), [told("Signup", 3)]);
    rig.restart(100).await;
    rig.pass(ROUND).await;
    assert!(receiver.so_far().is_empty());
    rig.service.complete(SITE, "Signup", 6);
    rig.restart(100).await;
    rig.pass(ROUND).await;
    assert_eq!(completions(&mut receiver), [told("Signup", 6), told("Signup", 8)], "two times four, and one waits");
    // One that does not stop in good order leaves the look to itself for a while.
    rig.service.complete(SITE, "Signup", 3);
    let killed = std::mem::take(&mut rig.workers);
    killed.shutdown().cancel();
    rig.start_again().await;
    rig.pass(60).await;
    assert_eq!(completions(&mut receiver), [told("Signup", 3), told("Signup", 4)]);
}

#[tokio::test]
async fn goals_whose_list_the_key_may_not_see_are_known_by_their_names() {
    let (ambient, clock) = manual();
    let (mut receiver, service) = (Receiver::start().await, HostedService::start(&ambient).await);
    service.add_site(SITE, "UTC");
    service.list_goals(false);
    for name in ["Signup", "Visit /a"] {
        service.add_goal(SITE, name);
    }
    service.complete(SITE, "Visit /a", 3);
    let rig = Rig::start_with(service, (ambient, clock), &[SITE]).await;
    assert_eq!(rig.goal_names(), ["Visit /a"]);
    let goal = rig.site().goals[0].clone();
    assert_eq!(goal.spec.kind.name(), "page");
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    rig.pass(ROUND).await;
    rig.service.complete(SITE, "Visit /a", 2);
    rig.service.complete(SITE, "Signup", 1);
    rig.pass(ROUND).await;
    assert_eq!(completions(&mut receiver), [told("Visit /a", 2)], "nobody knows when the other was completed first");
    rig.service.complete(SITE, "Signup", 1);
    rig.pass(ROUND).await;
    assert_eq!(completions(&mut receiver), [told("Signup", 1)]);
    // The key may see it by now: it is the same goal.
    rig.service.list_goals(true);
    rig.pass(900).await;
    assert_eq!(rig.goal_names(), ["Signup", "Visit /a"]);
    assert!(rig.site().goals.iter().any(|known| known.id == goal.id));
}

#[tokio::test]
async fn rushes_of_visitors() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let rule = |unit: &str, threshold: u32| json!({"url": receiver.url(), "triggers": [{"type": "visitor_spike", "unit": unit, "threshold": threshold, "cooldown_seconds": 0}]});
    let (visitors, percent) = (rule("visitors", 50), rule("percent", 100));
    rig.webhook(visitors).await;
    rig.webhook(percent).await;
    rig.service.set_visitors(SITE, 20);
    rig.pass(400).await;
    assert_eq!((rig.visitors().await, receiver.so_far().len()), (20, 0));
    rig.service.set_visitors(SITE, 49);
    rig.pass(ROUND).await;
    let events = data(&mut receiver);
    let [spiked] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&spiked["current_visitors"], &spiked["previous_visitors"]), (&json!(49), &json!(20)));
    assert_eq!(
        (&spiked["change_percent"], &spiked["top_sources"], &spiked["top_pages"]),
        (&json!(145.0), &json!([]), &json!([]))
    );
    rig.service.set_visitors(SITE, 50);
    rig.pass(ROUND).await;
    let events = data(&mut receiver);
    assert_eq!(events.iter().map(|spiked| &spiked["unit"]).collect::<Vec<_>>(), ["visitors"]);
    rig.pass(400).await;
    assert!(receiver.so_far().is_empty(), "it stays above");
    rig.service.set_visitors(SITE, 10);
    rig.pass(ROUND).await;
    rig.service.set_visitors(SITE, 60);
    rig.pass(ROUND).await;
    assert_eq!(data(&mut receiver).len(), 1, "once more, and no rush: there were as many five minutes ago");
}

#[tokio::test]
async fn other_windows_and_segments_are_refused() {
    let rig = Rig::start().await;
    let (id, site) = (rig.site().site.id, rig.site());
    let window = "window_seconds must be 300: of visitors, Plausible's hosted service only tells how many there were in the last five minutes";
    let segment = "must be null: Plausible's hosted service only tells how many visitors all of the site has";
    for (trigger, sentence) in [
        (json!({"type": "visitor_spike", "unit": "percent", "window_seconds": 600}), window.to_owned()),
        (json!({"type": "visitor_spike", "unit": "visitors", "window_seconds": 600}), window.to_owned()),
        (json!({"type": "visitor_drop", "window_seconds": 300, "page": "/a"}), format!("page {segment}")),
        (json!({"type": "visitor_spike", "source": "Google"}), format!("source {segment}")),
    ] {
        let fields = json!({"url": "http://127.0.0.1/", "triggers": ["goal_completion", trigger]});
        let change = WebhookChange::read_new(&fields, rig.engine.policy()).expect("fields of a webhook");
        let Err(ManageError::Invalid(invalid)) = rig.engine.create_webhook(id, change).await else { panic!("{sentence}") };
        assert_eq!(invalid.to_string(), format!("triggers[1].{sentence}"));
    }
    assert!(rig.site().webhooks.is_empty() && site.webhooks.is_empty());
}

#[tokio::test]
async fn what_takes_sources_is_refused_by_name() {
    let rig = Rig::start().await;
    let fields = json!({"url": "http://127.0.0.1/", "triggers": ["goal_completion", "new_source"]});
    let change = WebhookChange::read_new(&fields, rig.engine.policy()).expect("fields of a webhook");
    let refused = rig.engine.create_webhook(rig.site().site.id, change).await.map(|_| ());
    let Err(ManageError::Invalid(invalid)) = refused else { panic!("{refused:?}") };
    let sentence = "triggers[1].type cannot be told: Plausible's hosted service does not tell where visitors come from";
    assert_eq!(invalid.to_string(), sentence);
    assert!(rig.site().webhooks.is_empty());
}

#[tokio::test]
async fn pageviews_are_refused() {
    let rig = Rig::start().await;
    let fields = json!({"url": "http://127.0.0.1/", "triggers": ["goal_completion", "pageview_milestone"]});
    let change = WebhookChange::read_new(&fields, rig.engine.policy()).expect("fields of a webhook");
    let refused = rig.engine.create_webhook(rig.site().site.id, change).await.map(|_| ());
    let sentence = "triggers[1].type cannot be told: Plausible's hosted service is not asked for pageviews";
    assert_eq!(refused.expect_err("a mistake").to_string(), sentence);
    assert!(rig.site().webhooks.is_empty());
}

/// Ten sites that wait for everything, and others who ask for the team too.
#[tokio::test]
async fn the_limit_is_kept_and_the_schedule_says_so() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (ambient, clock) = manual();
    let (receiver, service) = (Receiver::start().await, HostedService::start(&ambient).await);
    let domains: Vec<_> = (0..10).map(|number| format!("{number}.example.com")).collect();
    domains.iter().for_each(|domain| service.add_site(domain, "UTC"));
    let domains: Vec<_> = domains.iter().map(String::as_str).collect();
    let rig = Rig::start_with(service, (ambient, clock), &domains).await;
    for domain in &domains {
        let fields = json!({"url": receiver.url(), "triggers": ["goal_completion", "visitor_spike"]});
        let change = WebhookChange::read_new(&fields, rig.engine.policy()).expect("fields of a webhook");
        let site = rig.engine.find_site(domain).expect("the site");
        rig.engine.create_webhook(site.site.id, change).await.expect("a webhook");
    }
    rig.pass(3_600).await;
    let (asked, too_often) = rig.service.asked();
    assert!((470..=540).contains(&asked) && too_often == 0, "{asked} {too_often}");
    let polled = rig.engine.polled(&rig.engine.find_site(domains[0]).expect("the site")).expect("it is");
    assert_eq!(polled, Polled { completions_every_seconds: 143, visitors_every_seconds: 143 });
    let lines = log.lines("Plausible's hosted service is asked so often about each site");
    let said = lines.last().expect("a line");
    assert_eq!(
        (&said["for_triggers_every_seconds"], &said["requests_per_hour"], &said["sites"]),
        (&json!(143), &json!(514), &json!(10))
    );

    // Others take so much that it gets slower, as often as it is told, and faster when they have done.
    for round in [286, 574] {
        rig.service.ask_for_others(600);
        rig.pass(3_700).await;
        let lines = log.lines("Plausible's hosted service is asked so often about each site");
        assert!(
            lines.iter().any(|line| line["for_triggers_every_seconds"] == round || line["for_triggers_every_seconds"] == 287),
            "{lines:?}"
        );
    }
    let (_, too_often) = rig.service.asked();
    assert!(too_often <= 14, "it waits: {too_often}");
    rig.pass(4 * 3_600).await;
    let lines = log.lines("Plausible's hosted service is asked so often about each site");
    assert_eq!(lines.last().expect("a line")["for_triggers_every_seconds"], 143);
}

#[tokio::test]
async fn it_asks_again_when_it_is_told_to() {
    let rig = Rig::start().await;
    rig.service.say_when(true);
    rig.service.ask_for_others(600);
    rig.pass(400).await;
    assert_eq!(rig.service.asked().1, 1);
    assert_eq!(Read::now().of("bellwether_source_questions_total{outcome=\"rate_limited\"}"), 1.0);
    rig.pass(3_000).await;
    assert_eq!(rig.service.asked().1, 1, "it is not over yet");
    rig.service.set_visitors(SITE, 33);
    rig.pass(1_000).await;
    assert!(rig.service.asked().1 <= 3, "a few may ask again before all may");
    assert_eq!(rig.visitors().await, 33);
}

/// Whatever the service does, it is asked again later, and nothing is lost.
#[tokio::test]
async fn a_service_that_does_not_work() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion", {"type": "visitor_spike", "unit": "visitors"}]}))
        .await;
    rig.pass(ROUND).await;
    let text = |status, body: &str| Behaviour::Answer(Answer { status, headers: Vec::new(), body: body.as_bytes().to_vec() });
    let endless = Behaviour::EndlessBody;
    let cases = [
        (text(500, "oops"), "it answered 500"),
        (text(502, ""), "it answered 502"),
        (Answer::with(302, "Location", "https://example.org/").into(), "it answered 302; redirects are not followed"),
        (text(200, "<html>"), "the answer is not what the service gives: "),
        (text(200, "{\"error\": 5}"), "the answer is not what the service gives: "),
        (text(404, "{}"), "it answered 404: it knows of no such site"),
        (text(403, API_KEY), "it answered 403: it does not know the key, or the key may not see the site"),
        (Behaviour::Close, "the connection was closed before an answer came"),
        (Behaviour::Reset, "the connection was reset"),
        (Behaviour::HalfABody, "the answer broke off: the connection was closed before its end"),
        (Behaviour::Gibberish, "the answer is no proper HTTP: "),
        (endless, "the answer is longer than 4194304 bytes"),
    ];
    let before = Read::now();
    for (behaviour, reason) in cases {
        rig.service.receiver.behave(behaviour);
        rig.service.complete(SITE, "Signup", 1);
        rig.pass(ROUND).await;
        let lines = log.lines("Plausible's hosted service does not answer");
        let said = lines.last().and_then(|line| line["reason"].as_str()).unwrap_or_default();
        assert!(said.starts_with(reason), "{said:?} {reason:?}");
        rig.service.work();
        rig.pass(200).await;
        assert_eq!(completions(&mut receiver), [told("Signup", 1)], "{reason}");
    }
    assert!(!log.text().contains(API_KEY) && !format!("{:?}", rig.settings.hosted).contains(API_KEY), "the key shows itself");
    assert_eq!(log.lines("Plausible's hosted service answers again").len(), 12);
    let (after, unanswered) = (Read::now(), log.lines("Plausible's hosted service does not answer").len());
    let asked = |outcome| after.since(&before, &format!("bellwether_source_questions_total{{outcome=\"{outcome}\"}}"));
    assert_eq!(asked("refused") + asked("failed"), unanswered as f64);
    assert!(asked("refused") >= 4.0 && asked("failed") >= 8.0 && asked("answered") >= 12.0 && asked("rate_limited") == 0.0);
}

#[tokio::test]
async fn a_service_that_never_answers() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut rig = Rig::start().await;
    rig.clock.advance(seconds(310));
    rig.service.receiver.so_far();
    rig.service.receiver.behave(Behaviour::Hang);
    let (engine, receiver) = (rig.engine.clone(), &mut rig.service.receiver);
    let time_passes = async {
        receiver.next().await;
        tokio::time::pause();
        tokio::time::advance(seconds(21)).await;
        tokio::time::resume();
    };
    let (looked, ()) = tokio::join!(engine.look(), time_passes);
    looked.expect("a look");
    let lines = log.lines("Plausible's hosted service does not answer");
    assert_eq!(lines[0]["reason"], "no complete answer within 20 s");
}

#[tokio::test]
async fn the_service_must_be_who_it_says() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let (ambient, clock) = manual();
    let service = HostedService::start_tls(&ambient).await;
    service.add_site(SITE, "UTC");
    service.set_visitors(SITE, 3);
    let mut rig = Rig::start_with(service, (ambient, clock), &[SITE]).await;
    assert_eq!(rig.service.asked().0, 0);
    let lines = log.lines("Plausible's hosted service does not answer");
    let reason = "TLS failed: nobody who is trusted vouches for the certificate; BELLWETHER_CA_FILE can add who does";
    assert_eq!(lines[0]["reason"], reason);
    rig.workers.stop().await.expect("a clean stop");
    rig.settings.extra_roots_pem = rig.service.receiver.root_pem().map(|pem| pem.as_bytes().to_vec());
    rig.start_again().await;
    rig.pass(ROUND).await;
    assert_eq!(rig.visitors().await, 3);
}

#[tokio::test]
async fn a_site_that_is_refused_holds_up_no_other() {
    let (ambient, clock) = manual();
    let (mut receiver, service) = (Receiver::start().await, HostedService::start(&ambient).await);
    for domain in [SITE, "locked.example.com"] {
        service.add_site(domain, "UTC");
        service.add_goal(domain, "Signup");
    }
    let sites = [SITE, "locked.example.com", "unknown.example.com"];
    let rig = Rig::start_with(service, (ambient, clock), &sites).await;
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    rig.service.lock_site("locked.example.com", true);
    rig.pass(3_000).await;
    for _ in 0..3 {
        rig.service.complete(SITE, "Signup", 1);
        rig.pass(ROUND).await;
        assert_eq!(completions(&mut receiver), [told("Signup", 1)]);
    }
}

#[tokio::test]
async fn a_wrong_key() {
    let (log, subscriber) = Log::new();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut rig = Rig::start().await;
    rig.workers.stop().await.expect("a clean stop");
    rig.settings = asking(&rig.service, "another-key", &[SITE]);
    rig.start_again().await;
    rig.pass(3_600).await;
    let lines = log.lines("Plausible's hosted service does not answer");
    assert!((3..=20).contains(&lines.len()), "{}", lines.len());
    assert!(!log.text().contains("another-key"));
    rig.workers.stop().await.expect("a clean stop");
    rig.settings = asking(&rig.service, API_KEY, &[SITE]);
    rig.service.set_visitors(SITE, 5);
    rig.start_again().await;
    rig.pass(ROUND).await;
    assert_eq!(rig.visitors().await, 5);
}

/// Where several processes share a database one asks, and another goes on where it ended.
#[tokio::test]
async fn one_of_several_processes_asks() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    if !rig.engine.store().is_shared() {
        return;
    }
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion", {"type": "visitor_spike", "unit": "visitors"}]}))
        .await;
    let (ambient, clock) = manual_of(1);
    clock.advance(seconds(21));
    let (other, workers) = start(&rig.database, &ambient, &rig.settings, &rig.names).await.expect("another process");
    for _ in 0..60 {
        clock.advance(seconds(1));
        other.dispatch_due().await.expect("a tick");
        other.look().await.expect("a look");
        rig.pass(1).await;
    }
    let (asked, _) = rig.service.asked();
    assert!(asked <= 12, "one at a time: {asked}");
    rig.service.set_visitors(SITE, 7);
    rig.service.complete(SITE, "Signup", 2);
    rig.pass(ROUND).await;
    assert_eq!(completions(&mut receiver), [told("Signup", 2)]);
    assert_eq!(other.current_visitors(&[other.find_site(SITE).expect("the site")]).await.expect("a count"), [7]);
    rig.service.complete(SITE, "Signup", 3);
    std::mem::take(&mut rig.workers).stop().await.expect("a clean stop");
    for _ in 0..ROUND {
        clock.advance(seconds(1));
        rig.clock.advance(seconds(1));
        other.dispatch_due().await.expect("a tick");
        other.look().await.expect("a look");
    }
    other.drained().await;
    assert_eq!(completions(&mut receiver), [told("Signup", 3)]);
    workers.stop().await.expect("a clean stop");
}
