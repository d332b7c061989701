//! What every route has in common when something is wrong: nothing is changed, and the answer is a problem as RFC 9457 has it.

use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body_util::{Full, Limited};
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::{Answer, Past, ROUTES, Server, fill, id_of};

const MAX_JSON_BYTES: usize = 256 * 1_024;
const NO_ID: &str = "0198c0de-0000-7000-8000-000000000000";

/// A server with a webhook on `example.com`, and every route of the REST API that takes JSON, with the webhook in its path.
async fn server_with_routes_that_write() -> (Server, Vec<(&'static str, String)>) {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    let id = id_of(&server.get(&webhook).await["webhook"]);
    let parameters = [("site_id", "example.com"), ("webhook_id", id.as_str())];
    let routes = ROUTES.into_iter().filter(|(_, path, _, body)| !body.is_empty() && *path != "/api/event");
    let routes = routes.map(|(method, path, ..)| (method, fill(path, &parameters))).collect();
    (server, routes)
}

async fn everything(server: &Server) -> [Value; 3] {
    let goals = server.get("/api/sites/example.com/goals").await;
    [server.get("/api/sites").await, goals, server.get("/api/sites/example.com/webhooks").await]
}

async fn send(server: &Server, method: &str, path: &str, content_type: Option<&str>, body: Body) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("authorization", server.authorization());
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    server.send(request.body(body).expect("a request")).await
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let (server, routes) = server_with_routes_that_write().await;
    let before = everything(&server).await;
    let deep = "[".repeat(10_000);
    let bodies = ["{", "url=https://nowhere.example", "{\"url\": \"a\",}", "{} {}", "NaN", "\u{feff}{}", deep.as_str()];
    for (method, path) in &routes {
        for body in bodies {
            let problem = server.call_raw(method, path, body).await.problem(400);
            assert_eq!(problem["detail"], "the body is not JSON", "{method} {path}");
        }
        let not_text = send(&server, method, path, Some("application/json"), Body::from(&b"{\"name\": \"\xff\"}"[..])).await;
        not_text.problem(400);
    }
    // Where every field may be left out, so may the body.
    let may_be_empty = |path: &str| path.ends_with("/secret") || path.ends_with("/replay");
    for (method, path) in routes.iter().filter(|(_, path)| !may_be_empty(path)) {
        server.call_raw(method, path, "").await.problem(400);
    }
    assert_eq!(everything(&server).await, before);
}

#[tokio::test]
async fn bodies_of_another_type_are_refused() {
    let (server, routes) = server_with_routes_that_write().await;
    let before = everything(&server).await;
    let types = [
        None,
        Some(""),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonp"),
        Some("text/json;application/json"),
    ];
    for (method, path) in &routes {
        for content_type in types {
            let answer = send(&server, method, path, content_type, Body::from(r#"{"domain": "a.example"}"#)).await;
            assert_eq!(answer.problem(415)["detail"], "the body must be sent as application/json", "{content_type:?}");
        }
    }
    assert_eq!(everything(&server).await, before);
    for content_type in ["application/json", "APPLICATION/JSON", "application/json ; charset=utf-8"] {
        let answer = send(&server, "PATCH", "/api/sites/example.com", Some(content_type), Body::from("{}")).await;
        answer.json(200);
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_whether_or_not_they_say_so() {
    let (server, routes) = server_with_routes_that_write().await;
    let before = everything(&server).await;
    let body = format!("{{\"name\": \"{}\"}}", "x".repeat(MAX_JSON_BYTES));
    for (method, path) in &routes {
        for body in [Body::from(body.clone()), of_unknown_length(&body)] {
            let answer = send(&server, method, path, Some("application/json"), body).await;
            assert_eq!(answer.problem(413)["detail"], "the body must be at most 262144 bytes", "{method} {path}");
        }
    }
    assert_eq!(everything(&server).await, before);
    let room = MAX_JSON_BYTES - r#"{"name": "A"}"#.len();
    let longest = format!(r#"{{"name": {}"A"}}"#, " ".repeat(room));
    assert_eq!(longest.len(), MAX_JSON_BYTES);
    send(&server, "PATCH", "/api/sites/example.com", Some("application/json"), Body::from(longest)).await.json(200);
}

#[tokio::test]
async fn bodies_that_break_off_are_refused() {
    let (server, routes) = server_with_routes_that_write().await;
    let before = everything(&server).await;
    for (method, path) in &routes {
        let body = Body::new(Limited::new(Full::new(Bytes::from("{}")), 1));
        let answer = send(&server, method, path, Some("application/json"), body).await;
        assert_eq!(answer.problem(400)["detail"], "the body did not arrive whole", "{method} {path}");
    }
    assert_eq!(everything(&server).await, before);
}

#[tokio::test]
async fn ids_that_are_no_ids_name_nothing() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let webhook = server.add_webhook("example.com", &json!(["goal_completion"])).await;
    server.record(&webhook, &Past::success("{}")).await;
    for id in ["x", "5", NO_ID, "%00", "%ff", "..", "' OR 1=1 --", "xn--", &"9".repeat(5_000)] {
        let id = id.replace(' ', "%20");
        let paths = [
            ("GET", format!("/api/sites/{id}")),
            ("GET", format!("/api/sites/{id}/webhooks")),
            ("DELETE", format!("/api/sites/example.com/goals/{id}")),
            ("GET", format!("/api/sites/example.com/webhooks/{id}")),
            ("PATCH", format!("/api/sites/example.com/webhooks/{id}")),
            ("DELETE", format!("/api/sites/example.com/webhooks/{id}")),
            ("GET", format!("/api/sites/example.com/webhooks/{id}/deliveries")),
            ("DELETE", format!("{webhook}/triggers/{id}")),
            ("GET", format!("{webhook}/deliveries/{id}")),
        ];
        for (method, path) in paths {
            let problem = server.call_raw(method, &path, "{}").await.problem(404);
            assert_eq!(problem["detail"], "there is nothing here", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn unknown_routes_are_not_found() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let paths = [
        "/api",
        "/api/",
        "/api/site",
        "/api/sites/",
        "/api/sites/example.com/",
        "/api/sites/example.com/goal",
        "/api/sites/example.com/webhooks/",
        "/api/events",
        "/healthz/",
        "//healthz",
    ];
    for path in paths {
        for method in ["GET", "POST"] {
            server.call_raw(method, path, "{}").await.problem(404);
        }
    }
    assert_json_snapshot!(server.call_raw("GET", "/api/unknown", "").await.problem(404), @r#"
    {
      "type": "about:blank",
      "title": "Not found",
      "status": 404,
      "detail": "there is nothing here"
    }
    "#);
}

#[tokio::test]
async fn unknown_methods_are_refused_with_those_there_are() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let cases = [
        ("PUT", "/api/sites", "GET,HEAD,POST"),
        ("DELETE", "/api/sites", "GET,HEAD,POST"),
        ("PUT", "/api/sites/example.com", "GET,HEAD,PATCH,DELETE"),
        ("POST", "/api/sites/example.com/visitors", "GET,HEAD"),
        ("GET", "/api/event", "POST,OPTIONS"),
        ("POST", "/healthz", "GET,HEAD"),
        ("BREW", "/readyz", "GET,HEAD"),
    ];
    for (method, path, allowed) in cases {
        let answer = server.call_raw(method, path, "{}").await;
        assert_eq!(answer.problem(405)["detail"], "this cannot be done here", "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    assert_json_snapshot!(server.call_raw("DELETE", "/api/event", "").await.problem(405), @r#"
    {
      "type": "about:blank",
      "title": "Method not allowed",
      "status": 405,
      "detail": "this cannot be done here"
    }
    "#);
}

#[tokio::test]
async fn the_server_says_that_it_lives_and_that_it_is_ready() {
    let server = Server::start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.call_as(None, "GET", path, "").await.json(200), json!({"status": "ok"}), "{path}");
    }
}

#[tokio::test]
async fn a_database_that_fails_is_no_fault_of_the_caller_who_is_told_nothing_of_it() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let webhook = server.add_webhook("example.com", &json!([])).await;
    let break_it = server.engine.store().write(|connection| connection.run_all("DROP TABLE deliveries"));
    break_it.await.expect("a broken database");
    let answer = server.call_raw("GET", &format!("{webhook}/deliveries"), "").await;
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_json_snapshot!(answer.problem(503), @r#"
    {
      "type": "about:blank",
      "title": "Service unavailable",
      "status": 503,
      "detail": "the database cannot be used at the moment; nothing was changed"
    }
    "#);
    assert_eq!(server.call_as(None, "GET", "/healthz", "").await.status, 200);
}

#[tokio::test]
async fn what_a_process_does_not_do_it_leaves_to_those_that_do() {
    let (web, ingest) = (Server::start_with_roles("web").await, Server::start_with_roles("ingest,dispatch").await);
    web.add_site("example.com").await;
    let elsewhere = |answer: Answer, role: &str| {
        let problem = answer.problem(404);
        assert_eq!(problem["detail"], format!("this process does not do that: ask one that has the role {role}"));
    };
    elsewhere(web.event(&json!({"n": "pageview", "u": "https://example.com/", "d": "example.com"})).await, "ingest");
    elsewhere(web.call_as(None, "OPTIONS", "/api/event", "").await, "ingest");
    for path in ["/api/sites", "/api/sites/example.com", "/api/openapi.json", "/", "/sign-in", "/assets/style.css", "/nowhere"] {
        elsewhere(ingest.call_as(None, "GET", path, "").await, "web");
    }
    elsewhere(ingest.call("POST", "/api/sites", &json!({"domain": "example.com"})).await, "web");
    let event = ingest.event(&json!({"n": "pageview", "u": "https://example.com/", "d": "example.com"})).await;
    assert_eq!(event.status, 202);
    for server in [web, ingest] {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(server.call_as(None, "GET", path, "").await.json(200), json!({"status": "ok"}), "{path}");
        }
    }
}

/// A body that comes in pieces and does not say how long it is.
fn of_unknown_length(text: &str) -> Body {
    Body::new(Limited::new(Full::new(Bytes::copy_from_slice(text.as_bytes())), usize::MAX))
}
