//! A server without a network: the router over an engine on a temporary database, with a clock that stands still.
//!
//! Names are resolved by a table, and those that webhooks are sent to do not resolve at all, so nothing ever leaves. Times come
//! out the same in every run.

mod answer;
mod browser;
mod description;
mod history;
mod routes;
mod snapshot;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use axum::http::{Method, Request};
use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_domain::id::SiteId;
use bellwether_domain::roles::Roles;
use bellwether_engine::send::Resolve;
use bellwether_engine::{Engine, Settings, Workers, new_key};
use bellwether_store::Role;
use bellwether_testkit::ambient::{ManualClock, manual};
use bellwether_testkit::database::Database;
use bellwether_web::MetricsToken;
use futures_util::future::{BoxFuture, join_all};
use http_body_util::BodyExt as _;
use ipnet::IpNet;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) use answer::Answer;
pub(crate) use browser::{Browser, OWNER, PASSWORD};
pub(crate) use description::{DESCRIPTION, assert_valid, resolved};
pub(crate) use history::Past;
pub(crate) use routes::{Needs, ROUTES, fill};
pub(crate) use snapshot::numbered;

/// A person's browser.
pub(crate) const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
/// What reads the metrics.
pub(crate) const METRICS_TOKEN: &str = "a-token-of-these-tests";
/// Where nothing can be sent: the name does not resolve.
pub(crate) const NOWHERE: &str = "https://nowhere.example/hook";

const MAX_WEBHOOKS_PER_SITE: usize = 10;

/// Names that resolve. Only those of a webhook that nothing is sent to may have a public address.
const NAMES: [(&str, &[&str]); 5] = [
    ("public.example", &["8.8.8.8"]),
    ("private.example", &["10.0.0.1"]),
    ("metadata.example", &["fd00:ec2::254"]),
    ("one-bad.example", &["8.8.8.8", "2606:4700::1111", "192.168.1.1"]),
    ("localhost", &["127.0.0.1", "::1"]),
];

/// The router with everything behind it.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<ManualClock>,
    router: Router,
    admin: String,
    _database: Database,
}

impl Server {
    /// A server that nothing is configured on, but the key of an admin of all sites.
    pub(crate) async fn start() -> Self {
        Self::start_behind(&[]).await
    }

    /// A server that believes these proxies. Requests through the router come from nowhere, `0.0.0.0`.
    pub(crate) async fn start_behind(trusted_proxies: &[IpNet]) -> Self {
        Self::start_at("http://127.0.0.1:8090/", trusted_proxies).await
    }

    /// A server that browsers reach at this URL.
    pub(crate) async fn start_at(base_url: &str, trusted_proxies: &[IpNet]) -> Self {
        Self::start_as(Roles::ALL, base_url, trusted_proxies).await
    }

    /// A server that does only that much.
    pub(crate) async fn start_with_roles(roles: &str) -> Self {
        Self::start_as(roles.parse().expect("roles"), "http://127.0.0.1:8090/", &[]).await
    }

    async fn start_as(roles: Roles, base_url: &str, trusted_proxies: &[IpNet]) -> Self {
        let (database, (ambient, clock)) = (Database::temporary(), manual());
        let settings = Settings {
            policy: EndpointPolicy::default(),
            extra_roots_pem: None,
            max_webhooks_per_site: MAX_WEBHOOKS_PER_SITE,
            secret_key: [7; 32],
            former_secret_keys: Vec::new(),
            retention: std::time::Duration::from_secs(30 * 86_400),
            proxy: None,
            counter: None,
            roles,
            tracer: None,
            hosted: None,
        };
        let engine = Engine::start(database.store().await, ambient, settings, Arc::new(Names), &Workers::default()).await;
        let engine = engine.expect("an engine");
        let base_url = base_url.parse().expect("a URL");
        let metrics_token = MetricsToken::parse(METRICS_TOKEN).ok();
        let web_settings = bellwether_web::Settings { base_url, trusted_proxies: trusted_proxies.to_vec(), metrics_token };
        let router = bellwether_web::router(engine.clone(), web_settings);
        let admin = key(&engine, None, Role::Admin).await;
        Self { engine, clock, router, admin, _database: database }
    }

    /// A new API key.
    pub(crate) async fn key(&self, site_id: Option<&str>, role: Role) -> String {
        key(&self.engine, site_id.map(|id| id.parse().expect("an id")), role).await
    }

    /// Sends any request. Of a body that has no end, only the beginning is read.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (parts, mut body) = response.into_parts();
        let is_stream = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = match is_stream {
            true => body.frame().await.expect("a frame").expect("a body").into_data().expect("data"),
            false => body.collect().await.expect("a body").to_bytes(),
        };
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        description::check_answer(&method, &uri, &answer);
        answer
    }

    /// Sends a request with a JSON body to the REST API, with this `Authorization` header.
    pub(crate) async fn call_as(&self, authorization: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        let mut request = request(method, path, body).header(CONTENT_TYPE, "application/json; charset=utf-8");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answer = self.send(request).await;
        if answer.status.is_success() {
            description::check_request(&method, &uri, body);
        }
        answer
    }

    /// Sends a request to the REST API as the admin of all sites.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call_raw(method, path, &body.to_string()).await
    }

    /// Sends a request to the REST API as the admin of all sites, whose body may be anything.
    pub(crate) async fn call_raw(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call_as(Some(&self.authorization()), method, path, body).await
    }

    /// The `Authorization` header of the admin of all sites.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.admin)
    }

    /// What a path of the REST API shows.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call_raw("GET", path, "").await.json(200)
    }

    /// Adds something, and returns it.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", path, body).await.json(201)
    }

    /// Changes something, and returns it.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Value {
        self.call("PATCH", path, body).await.json(200)
    }

    /// Deletes something.
    pub(crate) async fn delete(&self, path: &str) {
        let answer = self.call_raw("DELETE", path, "").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (204, ""), "{path}");
    }

    /// Adds a site, and returns its id.
    pub(crate) async fn add_site(&self, domain: &str) -> String {
        id_of(&self.post("/api/sites", &json!({"domain": domain})).await["site"])
    }

    /// Adds a goal for a custom event to a site, and returns its id.
    pub(crate) async fn add_goal(&self, site: &str, event_name: &str) -> String {
        let goal = self.post(&format!("/api/sites/{site}/goals"), &json!({"event_name": event_name})).await;
        id_of(&goal["goal"])
    }

    /// Adds a webhook, which points nowhere, to a site, and returns its path.
    pub(crate) async fn add_webhook(&self, site: &str, triggers: &Value) -> String {
        let path = format!("/api/sites/{site}/webhooks");
        let webhook = self.post(&path, &json!({"url": NOWHERE, "triggers": triggers})).await;
        format!("{path}/{}", id_of(&webhook["webhook"]))
    }

    /// Sends an event as a browser does.
    pub(crate) async fn event(&self, body: &Value) -> Answer {
        self.event_with(&[(USER_AGENT.as_str(), BROWSER)], Body::from(body.to_string())).await
    }

    /// Sends an event with these headers.
    pub(crate) async fn event_with(&self, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::post("/api/event").header(CONTENT_TYPE, "text/plain");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body).expect("a request")).await
    }

    /// Sends the same request many times at once, and returns the answers' statuses, sorted.
    pub(crate) async fn call_at_once(&self, times: usize, method: &str, path: &str, body: &Value) -> Vec<u16> {
        let answers = join_all((0..times).map(|_| self.call(method, path, body))).await;
        let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        statuses
    }

    /// Refuses each of these bodies with its one sentence about its one field, while what `watched` shows stays as it is.
    pub(crate) async fn assert_refusals(&self, method: &str, path: &str, watched: &str, cases: &[(Value, &str, &str)]) {
        let before = self.get(watched).await;
        for (body, field, sentence) in cases {
            let problem = self.call(method, path, body).await.problem(422);
            assert_eq!(problem["errors"], json!({*field: [sentence]}), "{method} {path} {body}");
            assert_eq!(problem["detail"], format!("{field} {sentence}").trim_start(), "{method} {path} {body}");
            assert_eq!(self.get(watched).await, before, "{method} {path} {body}");
        }
    }

    /// Refuses this body as a duplicate, with this sentence, while what `watched` shows stays as it is.
    pub(crate) async fn assert_conflict(&self, method: &str, path: &str, watched: &str, (body, sentence): (&Value, &str)) {
        let before = self.get(watched).await;
        let problem = self.call(method, path, body).await.problem(409);
        assert_eq!(problem["detail"], sentence, "{method} {path} {body}");
        assert_eq!(self.get(watched).await, before, "{method} {path} {body}");
    }
}

/// The id of something that the API shows.
pub(crate) fn id_of(shown: &Value) -> String {
    shown["id"].as_str().expect("an id").to_owned()
}

async fn key(engine: &Engine, site_id: Option<SiteId>, role: Role) -> String {
    let (text, key) = new_key(engine.ambient(), "test".to_owned(), site_id, role);
    engine.store().add_key(key).await.expect("a key");
    text
}

fn request(method: &str, path: &str, body: &str) -> http::request::Builder {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    Request::builder().method(method).uri(path).header("content-length", body.len())
}

struct Names;

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let found = NAMES.iter().find(|(name, _)| *name == host.trim_end_matches('.'));
        let addresses = found.map(|(_, addresses)| addresses.iter().map(|text| text.parse().expect("an address")).collect());
        Box::pin(async move { addresses.ok_or_else(|| io::Error::other("there is no such name")) })
    }
}
