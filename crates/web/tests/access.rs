//! Who may do what, on every route there is.

use std::collections::BTreeSet;

use bellwether_store::Role;
use serde_json::{Value, json};

use crate::support::{Needs, Past, ROUTES, Server, fill, id_of};

/// Where the routes are written down.
const SOURCE: &str = include_str!("../src/lib.rs");
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// No id is in use here.
const NO_ID: &str = "0198c0de-0000-7000-8000-000000000000";

/// Somebody who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Nobody,
    BadKey,
    AdminOfAnother,
    ViewerOfAnother,
    Viewer,
    ViewerOfAll,
    Admin,
    AdminOfAll,
}

const CALLERS: [Caller; 8] = [
    Caller::Nobody,
    Caller::BadKey,
    Caller::AdminOfAnother,
    Caller::ViewerOfAnother,
    Caller::Viewer,
    Caller::ViewerOfAll,
    Caller::Admin,
    Caller::AdminOfAll,
];

/// The status with which a caller is refused; none if they are not.
fn refusal(needs: Needs, caller: Caller) -> Option<u16> {
    use Caller::{Admin, AdminOfAll, AdminOfAnother, BadKey, Nobody, Viewer, ViewerOfAll, ViewerOfAnother};
    match (needs, caller) {
        (Needs::Nothing, _) => None,
        (_, Nobody | BadKey) => Some(401),
        (Needs::Key, _) | (Needs::AdminOfAll, AdminOfAll) | (Needs::ViewerOfAll, ViewerOfAll | AdminOfAll) => None,
        (Needs::AdminOfAll | Needs::ViewerOfAll, _) => Some(403),
        (Needs::Viewer | Needs::Admin, AdminOfAnother | ViewerOfAnother) => Some(404),
        (Needs::Viewer, _) | (Needs::Admin, Admin | AdminOfAll) => None,
        (Needs::Admin, Viewer | ViewerOfAll) => Some(403),
    }
}

/// A site with one of everything.
struct Subject {
    site: String,
    webhook: String,
    parameters: [(&'static str, String); 6],
}

impl Subject {
    async fn new(server: &Server, domain: &str) -> Self {
        let site = server.add_site(domain).await;
        let goal = server.add_goal(&site, "Signup").await;
        let webhook = server.add_webhook(&site, &json!(["goal_completion"])).await;
        let delivery = server.record(&webhook, &Past::success("{}")).await;
        let shown = server.get(&webhook).await;
        let (webhook_id, trigger) = (id_of(&shown["webhook"]), id_of(&shown["webhook"]["triggers"][0]));
        let parameters = [
            ("site_id", site.clone()),
            ("goal_id", goal),
            ("webhook_id", webhook_id),
            ("trigger_id", trigger),
            ("delivery_id", delivery),
            ("event_type", "goal_completion".to_owned()),
        ];
        Self { site, webhook, parameters }
    }

    fn path(&self, path: &str) -> String {
        fill(path, &self.parameters.each_ref().map(|(name, value)| (*name, value.as_str())))
    }

    /// Everything that is to be seen of all sites and of this one.
    async fn shown(&self, server: &Server) -> Value {
        let site = format!("/api/sites/{}", self.site);
        let paths =
            ["/api/sites", &format!("{site}/goals"), &format!("{site}/webhooks"), &format!("{}/deliveries", self.webhook)];
        let mut shown = Vec::new();
        for path in paths {
            shown.push(server.get(path).await);
        }
        Value::from(shown)
    }

    async fn authorization(&self, server: &Server, other_site: &str, caller: Caller) -> Option<String> {
        let (site_id, role) = match caller {
            Caller::Nobody => return None,
            Caller::BadKey => return Some(format!("Bearer bw_{}", "0".repeat(64))),
            Caller::AdminOfAll => return Some(server.authorization()),
            Caller::AdminOfAnother => (Some(other_site), Role::Admin),
            Caller::ViewerOfAnother => (Some(other_site), Role::Viewer),
            Caller::Viewer => (Some(self.site.as_str()), Role::Viewer),
            Caller::ViewerOfAll => (None, Role::Viewer),
            Caller::Admin => (Some(self.site.as_str()), Role::Admin),
        };
        Some(format!("Bearer {}", server.key(site_id, role).await))
    }
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let server = Server::start().await;
    let other = server.add_site("other.example").await;
    for (number, (method, path, needs, body)) in ROUTES.into_iter().enumerate() {
        for caller in CALLERS {
            let subject = Subject::new(&server, &format!("{number}-{caller:?}.example")).await;
            // Time has passed for the subject's past. A server that gave no sign of life meanwhile is not ready.
            server.engine.dispatch_due().await.expect("a sign of life");
            let authorization = subject.authorization(&server, &other, caller).await;
            let path = subject.path(path);
            let ask = async |body: &str| server.call_as(authorization.as_deref(), method, &path, body).await;
            match refusal(needs, caller) {
                None => {
                    let answer = ask(body).await;
                    assert!(answer.status.is_success(), "{method} {path} as {caller:?}: {}", answer.text());
                }
                Some(status) => {
                    let before = subject.shown(&server).await;
                    for body in [body, "{"] {
                        let answer = ask(body).await;
                        assert_eq!(answer.status.as_u16(), status, "{method} {path} {body} as {caller:?}: {}", answer.text());
                        answer.problem(status);
                        assert_eq!(answer.header("www-authenticate"), (status == 401).then_some("Bearer"));
                    }
                    assert_eq!(subject.shown(&server).await, before, "{method} {path} as {caller:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_table_has_every_route() {
    let server = Server::start().await;
    let ids = ["site_id", "goal_id", "webhook_id", "trigger_id", "delivery_id"].map(|name| (name, NO_ID));
    let parameters: Vec<_> = ids.into_iter().chain([("event_type", "goal_completion")]).collect();
    let mut found = BTreeSet::new();
    for path in paths_of_source() {
        for method in METHODS {
            let answer = server.call_as(None, method, &fill(&path, &parameters), "{}").await;
            if answer.status != 405 {
                found.insert((method.to_owned(), path.clone()));
            }
        }
    }
    let listed: BTreeSet<_> = ROUTES.map(|(method, path, ..)| (method.to_owned(), path.to_owned())).into();
    assert_eq!(listed.difference(&found).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "listed, but no route");
    assert_eq!(found.difference(&listed).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "a route, but not listed");
    assert_eq!(listed.len(), ROUTES.len(), "a route is listed twice");
}

/// The paths of every `.route("…", …)` in the source, below the path that its router is nested under, if it is.
fn paths_of_source() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for statement in SOURCE.split(';') {
        let name = statement.split_once(" = Router::new()").and_then(|(before, _)| before.rsplit(' ').next());
        let prefix = name.map_or("", prefix_of);
        for path in texts_after(statement, ".route(\"") {
            paths.insert(format!("{prefix}{path}").trim_end_matches('/').to_owned());
        }
    }
    assert_eq!(paths.len(), SOURCE.matches(".route(").count(), "each route has a path of its own, written out");
    paths
}

/// Where the router of a name is nested.
fn prefix_of(router: &str) -> &'static str {
    let nested = format!("\", {router})");
    let prefix = SOURCE.split(".nest(\"").skip(1).find_map(|rest| rest.split_once(&nested)).map(|(prefix, _)| prefix);
    prefix.filter(|prefix| !prefix.contains('"')).expect("a router with a name is nested under a path")
}

fn texts_after<'a>(text: &'a str, call: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(call).skip(1).filter_map(|rest| rest.split('"').next())
}

#[tokio::test]
async fn everybody_sees_the_sites_they_have_a_part_in() {
    let server = Server::start().await;
    let (a, b) = (server.add_site("a.example").await, server.add_site("b.example").await);
    let cases: [(Option<&str>, Role, &[&str]); 5] = [
        (Some(&a), Role::Viewer, &[&a]),
        (Some(&a), Role::Admin, &[&a]),
        (Some(&b), Role::Admin, &[&b]),
        (None, Role::Viewer, &[&a, &b]),
        (None, Role::Admin, &[&a, &b]),
    ];
    for (site, role, expected) in cases {
        let key = server.key(site, role).await;
        let sites = server.call_as(Some(&format!("Bearer {key}")), "GET", "/api/sites", "").await.json(200);
        let ids: Vec<_> = sites["sites"].as_array().expect("sites").iter().map(id_of).collect();
        assert_eq!(ids, expected, "{site:?} {role:?}");
    }
}

#[tokio::test]
async fn an_admin_of_one_site_moves_it_nowhere_and_makes_no_other() {
    let server = Server::start().await;
    let (own, _) = (server.add_site("own.example").await, server.add_site("other.example").await);
    let authorization = format!("Bearer {}", server.key(Some(&own), Role::Admin).await);
    let before = server.get("/api/sites").await;
    let ask = async |method: &str, path: &str| {
        server.call_as(Some(&authorization), method, path, r#"{"domain": "other.example"}"#).await
    };
    ask("POST", "/api/sites").await.problem(403);
    ask("PATCH", "/api/sites/own.example").await.problem(409);
    ask("PATCH", "/api/sites/other.example").await.problem(404);
    ask("DELETE", "/api/sites/other.example").await.problem(404);
    assert_eq!(server.get("/api/sites").await, before);
}

#[tokio::test]
async fn a_site_of_somebody_else_looks_like_one_that_does_not_exist() {
    let server = Server::start().await;
    let (own, other) = (server.add_site("own.example").await, server.add_site("other.example").await);
    let authorization = format!("Bearer {}", server.key(Some(&own), Role::Admin).await);
    let mut answers = Vec::new();
    for site in [other.as_str(), "other.example", NO_ID, "missing.example"] {
        let answer = server.call_as(Some(&authorization), "GET", &format!("/api/sites/{site}/webhooks"), "").await;
        answer.problem(404);
        answers.push((answer.headers, answer.body));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn looking_at_headers_is_looking() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    let viewer = format!("Bearer {}", server.key(Some(&site), Role::Viewer).await);
    for (authorization, status) in [(Some(viewer.as_str()), 200), (None, 401)] {
        let answer = server.call_as(authorization, "HEAD", "/api/sites/example.com/goals", "").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (status, ""));
    }
}

#[tokio::test]
async fn keys_are_read_from_the_authorization_header_only() {
    let server = Server::start().await;
    let key = server.key(None, Role::Viewer).await;
    let cases = [
        (Some(format!("Bearer {key}")), 200),
        (Some(format!("bearer {key}")), 200),
        (Some(format!("BEARER  {key} ")), 200),
        (None, 401),
        (Some(String::new()), 401),
        (Some("Bearer".to_owned()), 401),
        (Some("Bearer ".to_owned()), 401),
        (Some(key.clone()), 401),
        (Some(format!("Basic {key}")), 401),
        (Some(format!("Token {key}")), 401),
        (Some(format!("Bearer {key}x")), 401),
        (Some(format!("Bearer {}", &key[..key.len() - 1])), 401),
        (Some(format!("Bearer {}", key.to_uppercase())), 401),
        (Some(format!("Bearer {key}, Bearer {key}")), 401),
        (Some(format!("Bearer {}", "x".repeat(60_000))), 401),
        (Some("Bearer schlüssel".to_owned()), 401),
    ];
    for (authorization, status) in cases {
        let answer = server.call_as(authorization.as_deref(), "GET", "/api/sites", "").await;
        assert_eq!(answer.status.as_u16(), status, "{authorization:?}");
    }
    server.call_as(None, "GET", &format!("/api/sites?key={key}"), "").await.problem(401);
}
