//! The REST API and the events API, as far as these tests need them.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::within;

/// The domain of the site that tests are about.
pub(crate) const SITE: &str = "shop.example";

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

/// Somebody who asks a server.
#[derive(Clone)]
pub(crate) struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    key: String,
    agent: String,
    /// The address it says that its events and forms come from.
    forwarded_for: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, key: String) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Self { http, address, key, agent: AGENT.to_owned(), forwarded_for: "198.51.100.1".to_owned() }
    }

    /// The same client, of the server after a restart.
    pub(crate) fn moved_to(&self, address: SocketAddr) -> Self {
        Self::new(address, self.key.clone())
    }

    /// The same client with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// The same client as another visitor.
    pub(crate) fn visiting_from(&self, address: &str, agent: &str) -> Self {
        Self { forwarded_for: address.to_owned(), agent: agent.to_owned(), ..self.clone() }
    }

    /// Sends an event as a tracker does; its fields are those of the events API, the site and a page are added. An error is that
    /// nothing was answered.
    pub(crate) async fn event(&self, mut event: Value) -> Result<StatusCode, legacy::Error> {
        event["d"] = json!(SITE);
        if event["u"].is_null() {
            event["u"] = json!(format!("https://{SITE}/"));
        }
        let request = Request::post(format!("http://{}/api/event", self.address))
            .header("content-type", "text/plain")
            .header("user-agent", &self.agent)
            .header("x-forwarded-for", &self.forwarded_for)
            .body(Full::from(event.to_string()));
        let answer = within("the answer to an event", self.http.request(request.expect("a request"))).await?;
        let status = answer.status();
        // Read, so that the connection can be used again.
        let _ = answer.into_body().collect().await;
        Ok(status)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, None, StatusCode::OK).await
    }

    /// What is at a path of the server, whatever it is.
    pub(crate) async fn look(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::default());
        let answer = within(path, self.http.request(request.expect("a request"))).await.expect("an answer");
        let status = answer.status();
        let body = within(path, answer.into_body().collect()).await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Whether there is something at a path.
    pub(crate) async fn finds(&self, path: &str) -> bool {
        let request = Request::get(format!("http://{}/api{path}", self.address))
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::default());
        let answer = within(path, self.http.request(request.expect("a request"))).await.expect("an answer");
        answer.status() == StatusCode::OK
    }

    pub(crate) async fn create(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, Some(body), StatusCode::CREATED).await
    }

    /// Tries to change something, and gets the status `expected`.
    pub(crate) async fn refused(&self, path: &str, change: Value, expected: StatusCode) {
        self.ask(Method::PATCH, path, Some(change), expected).await;
    }

    /// Asks the REST API; the answer must have the status `expected`.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>, expected: StatusCode) -> Value {
        let request = Request::builder()
            .method(&method)
            .uri(format!("http://{}/api{path}", self.address))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(body.map_or_else(Full::default, |body| Full::from(body.to_string())));
        let answer = within(path, self.http.request(request.expect("a request"))).await.expect("an answer");
        let status = answer.status();
        let body = within(path, answer.into_body().collect()).await.expect("a body").to_bytes();
        assert_eq!(status, expected, "{method} {path}: {}", String::from_utf8_lossy(&body));
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") }
    }

    /// Signs somebody in; answers the cookie.
    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> String {
        let answer = self.submit("/sign-in", &format!("email={email}&password={password}"), "").await;
        let cookie = answer.headers().get("set-cookie").expect("a cookie").to_str().expect("a text");
        cookie.split(';').next().expect("a name and a value").to_owned()
    }

    /// Sends a form of the pages as a browser with this cookie.
    pub(crate) async fn submit(&self, path: &str, form: &str, cookie: &str) -> Response<Bytes> {
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-forwarded-for", &self.forwarded_for)
            .header("cookie", cookie)
            .body(Full::from(form.to_owned()));
        let answer = within(path, self.http.request(request.expect("a request"))).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        Response::from_parts(parts, within(path, body.collect()).await.expect("a body").to_bytes())
    }

    /// Adds the site with these goals and a webhook to `url` that hears of all of them; answers the webhook.
    pub(crate) async fn set_up(&self, goals: &[Value], url: &str) -> Value {
        self.set_up_with(goals, json!({"url": url, "triggers": ["goal_completion"]})).await
    }

    /// As [`Client::set_up`], with a webhook of one's own.
    pub(crate) async fn set_up_with(&self, goals: &[Value], webhook: Value) -> Value {
        self.create("/sites", json!({"domain": SITE})).await;
        for goal in goals {
            self.create(&format!("/sites/{SITE}/goals"), goal.clone()).await;
        }
        self.create_webhook(webhook).await
    }

    /// Adds a webhook to the site; answers it.
    pub(crate) async fn create_webhook(&self, webhook: Value) -> Value {
        self.create(&format!("/sites/{SITE}/webhooks"), webhook).await["webhook"].take()
    }

    /// Waits until none of a webhook's deliveries is open any more; answers how many have succeeded.
    pub(crate) async fn settled(&self, webhook: &Value) -> u64 {
        let settled = async {
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            while self.count(webhook, "pending").await + self.count(webhook, "retrying").await > 0 {
                looks.tick().await;
            }
        };
        within("the end of all deliveries", settled).await;
        self.count(webhook, "success").await
    }

    /// How many of a webhook's deliveries have that status.
    pub(crate) async fn count(&self, webhook: &Value, status: &str) -> u64 {
        let id = webhook["id"].as_str().expect("an id");
        let page = self.get(&format!("/sites/{SITE}/webhooks/{id}/deliveries?limit=1&status={status}")).await;
        page["pagination"]["total_count"].as_u64().expect("a count")
    }
}
