//! The history of a webhook: looked through by filters and in pages, and dead letters sent again from it.

use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, ReplayId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_domain::trigger::EventType;
use bellwether_store::{Replay, ReplayFilter};
use serde_json::json;

use crate::support::{Browser, Past, Server};

/// So many deliveries are on a page.
const LIMIT: usize = 25;

/// A webhook's history in front of somebody.
struct Scene<'a> {
    browser: Browser<'a>,
    server: &'a Server,
    api: String,
    /// The path of the history.
    path: String,
}

impl<'a> Scene<'a> {
    async fn set(server: &'a Server) -> Self {
        let browser = Browser::of_owner(server).await;
        let site = server.add_site("example.com").await;
        let api = server.add_webhook(&site, &json!(["goal_completion"])).await;
        let path = format!("{}/deliveries", api.strip_prefix("/api").expect("a path"));
        Self { browser, server, api, path }
    }

    async fn lost(&self, event_type: EventType) -> String {
        let past = Past { event_type, status: Status::Failed, codes: &[400], ..Past::success("{}") };
        self.server.record(&self.api, &past).await
    }

    async fn page(&self, query: &str) -> String {
        self.browser.get(&format!("{}{query}", self.path)).await.html(200).to_owned()
    }

    /// The ids of the deliveries on a page, in their order.
    async fn shown(&self, query: &str) -> Vec<String> {
        let beginning = format!("href=\"{}/", self.path);
        let page = self.page(query).await;
        page.split(&beginning).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
    }

    async fn count_lost(&self) -> u64 {
        let shown = self.server.get(&format!("{}/deliveries?status=failed", self.api)).await;
        shown["pagination"]["total_count"].as_u64().expect("a count")
    }

    fn webhook_id(&self) -> WebhookId {
        self.api.rsplit('/').next().expect("an id").parse().expect("an id")
    }
}

#[tokio::test]
async fn deliveries_are_found_by_status_trigger_and_time() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let begin = server.engine.ambient().now();
    let goal = server.record(&scene.api, &Past::success("{}")).await;
    let spike = server.record(&scene.api, &Past { event_type: EventType::VisitorSpike, ..Past::success("{}") }).await;
    let lost = scene.lost(EventType::GoalCompletion).await;
    let minute = |number: u32| {
        let moment = (begin + number * std::time::Duration::from_secs(60)).to_string();
        moment.get(..16).expect("a minute").replace(':', "%3A")
    };
    let cases = [
        (String::new(), vec![&lost, &spike, &goal]),
        ("?status=failed".to_owned(), vec![&lost]),
        ("?status=success&event_type=".to_owned(), vec![&spike, &goal]),
        ("?event_type=visitor_spike".to_owned(), vec![&spike]),
        ("?status=failed&event_type=visitor_spike".to_owned(), vec![]),
        (format!("?since={}", minute(1)), vec![&lost, &spike]),
        (format!("?until={}", minute(1)), vec![&goal]),
        (format!("?since={}&until={}", minute(1), minute(2)), vec![&spike]),
    ];
    for (query, expected) in cases {
        assert_eq!(scene.shown(&query).await.iter().collect::<Vec<_>>(), expected, "{query}");
    }
}

#[tokio::test]
async fn what_is_older_is_a_page_further_on_with_the_same_filter() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mut recorded = Vec::new();
    for _ in 0..=LIMIT {
        recorded.push(server.record(&scene.api, &Past::success("{}")).await);
    }
    recorded.reverse();
    let newest = scene.page("?status=success").await;
    let older = newest.split(r#"<a class="button" href=""#).nth(1).and_then(|rest| rest.split('"').next()).expect("a link");
    let older = older.replace("&#38;", "&");
    assert!(newest.contains(">Older</a>") && !newest.contains(">Newest</a>") && older.contains("status=success"), "{older}");
    assert_eq!(scene.shown("?status=success").await, recorded[..LIMIT]);
    let query = older.strip_prefix(&scene.path).expect("the same history");
    assert_eq!(scene.shown(query).await, recorded[LIMIT..]);
    let oldest = scene.page(query).await;
    assert!(oldest.contains(">Newest</a>") && !oldest.contains(">Older</a>"), "{oldest}");
    assert!(!oldest.contains(r#"id="deliveries" data-part"#), "what is older does not change by itself");
}

#[tokio::test]
async fn no_more_is_sent_again_than_was_asked_for() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let lost = scene.lost(EventType::GoalCompletion).await;
    scene.lost(EventType::VisitorSpike).await;
    const ALL: &str = "Send all of them again";
    assert!(scene.page("?status=failed").await.contains(ALL));
    assert!(!scene.page("?status=failed&event_type=visitor_spike").await.contains(ALL));
    let replay = scene.path.replace("/deliveries", "/replay");
    let (chosen, nobody) = (format!("delivery-{lost}"), lost.clone());
    let refused = [
        (vec![("until", "soon"), ("all", "yes")], "Until (UTC) must be a time"),
        (vec![("since", "2026-02-31"), (&*chosen, "on")], "From (UTC) must be a time"),
        (vec![("event_type", "visitor_spike"), ("all", "yes")], "look at those of all triggers and events first"),
        (vec![("event_id", &nobody), ("all", "yes")], "look at those of all triggers and events first"),
        (vec![("event_type", "nonsense"), ("all", "yes")], ""),
        (vec![("chosen", "yes")], "choose some first"),
    ];
    for (fields, sentence) in refused {
        let form: Vec<_> = [("status", "failed")].into_iter().chain(fields).collect();
        let page = scene.browser.post(&replay, &form).await;
        let html = page.html(422);
        assert!(html.contains(sentence), "{form:?}: {html}");
        assert!(html.contains(&format!("data-page=\"{}?status=failed", scene.path)), "where it goes on: {html}");
        assert!(server.engine.store().replays().await.expect("replays").is_empty(), "{form:?}");
        assert_eq!(scene.count_lost().await, 2, "{form:?}");
    }
    scene.browser.post(&replay, &[("status", "success"), ("all", "yes")]).await.html(400);
    let form = [("status", "failed"), ("event_type", "goal_completion"), (&*chosen, "on")];
    scene.browser.post(&replay, &form).await.sent_to(&format!("{}?status=failed&event_type=goal_completion", scene.path));
    assert_eq!(scene.count_lost().await, 1);
}

#[tokio::test]
async fn a_replay_tells_how_far_it_is_and_can_be_stopped() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let lost: DeliveryId = scene.lost(EventType::GoalCompletion).await.parse().expect("an id");
    assert!(!scene.page("").await.contains("<progress"));
    // Nobody is told of it, so that it waits.
    let filter = ReplayFilter {
        webhook_id: scene.webhook_id(),
        status: Status::Failed,
        since: Timestamp::EPOCH,
        until: server.engine.ambient().now(),
    };
    let id = ReplayId::new(server.engine.ambient());
    let replay = Replay { id, filter, after: DeliveryId::from_bytes([0; 16]), total: 3, done: 0 };
    server.engine.store().add_replay(replay, 1).await.expect("a replay");
    server.engine.store().revive(replay, vec![lost], server.engine.ambient().now()).await.expect("a delivery");
    let page = scene.page("?status=failed").await;
    assert!(page.contains(r#"<progress max="3" value="1""#) && page.contains("1 of 3"), "{page}");
    let stop = format!("{}/{id}/delete", scene.path.replace("/deliveries", "/replays"));
    assert!(page.contains(&format!("action=\"{stop}\"")), "{page}");
    scene.browser.post(&stop, &[]).await.sent_to(&format!("{}?status=failed", scene.path));
    assert!(!scene.page("?status=failed").await.contains("<progress"));
    scene.browser.post(&stop, &[]).await.html(404);
}
