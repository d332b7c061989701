//! Sites, and the visitors they have.

use std::time::Duration;

use axum::body::Body;
use bellwether_store::Role;
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::{Past, Server, id_of, numbered};

#[tokio::test]
async fn a_site_is_made_shown_changed_and_deleted() {
    let server = Server::start().await;
    let new = json!({"domain": "https://www.Example.com/", "name": "Example", "timezone": "Europe/Berlin"});
    let made = server.post("/api/sites", &new).await;
    assert_json_snapshot!(numbered(&made), @r#"
    {
      "site": {
        "id": "[id 1]",
        "domain": "example.com",
        "name": "Example",
        "timezone": "Europe/Berlin",
        "created_at": "2026-02-25T12:00:00.000Z",
        "updated_at": "2026-02-25T12:00:00.000Z"
      }
    }
    "#);
    let id = id_of(&made["site"]);
    let (by_id, by_domain) = (format!("/api/sites/{id}"), "/api/sites/example.com");
    assert_eq!(server.get(&by_id).await, made);
    assert_eq!(server.get(by_domain).await, made);

    server.clock.advance(Duration::from_millis(1_500));
    let changed = server.patch(by_domain, &json!({"name": "Renamed", "timezone": "America/New_York"})).await;
    assert_json_snapshot!(numbered(&changed), @r#"
    {
      "site": {
        "id": "[id 1]",
        "domain": "example.com",
        "name": "Renamed",
        "timezone": "America/New_York",
        "created_at": "2026-02-25T12:00:00.000Z",
        "updated_at": "2026-02-25T12:00:01.500Z"
      }
    }
    "#);
    assert_eq!(server.get(&by_id).await, changed);
    assert_json_snapshot!(numbered(&server.get("/api/sites").await), @r#"
    {
      "sites": [
        {
          "id": "[id 1]",
          "domain": "example.com",
          "name": "Renamed",
          "timezone": "America/New_York",
          "created_at": "2026-02-25T12:00:00.000Z",
          "updated_at": "2026-02-25T12:00:01.500Z"
        }
      ]
    }
    "#);

    server.delete(by_domain).await;
    assert_eq!(server.get("/api/sites").await, json!({"sites": []}));
    for (method, path) in [("GET", by_id.as_str()), ("GET", by_domain), ("PATCH", by_domain), ("DELETE", by_domain)] {
        server.call(method, path, &json!({})).await.problem(404);
    }
}

#[tokio::test]
async fn a_site_needs_only_its_domain() {
    let server = Server::start().await;
    assert_json_snapshot!(numbered(&server.post("/api/sites", &json!({"domain": "example.com"})).await), @r#"
    {
      "site": {
        "id": "[id 1]",
        "domain": "example.com",
        "name": "example.com",
        "timezone": "UTC",
        "created_at": "2026-02-25T12:00:00.000Z",
        "updated_at": "2026-02-25T12:00:00.000Z"
      }
    }
    "#);
}

#[tokio::test]
async fn sites_are_listed_by_domain() {
    let server = Server::start().await;
    for domain in ["c.example", "a.example", "b.example/blog"] {
        server.add_site(domain).await;
    }
    let sites = server.get("/api/sites").await;
    let domains: Vec<_> = sites["sites"].as_array().expect("sites").iter().map(|site| &site["domain"]).collect();
    assert_eq!(domains, ["a.example", "b.example/blog", "c.example"]);
}

#[tokio::test]
async fn a_domain_with_a_path_names_its_site_when_it_is_encoded() {
    let server = Server::start().await;
    let id = server.add_site("example.com/blog").await;
    assert_eq!(id_of(&server.get("/api/sites/example.com%2Fblog").await["site"]), id);
    server.call_raw("GET", "/api/sites/example.com", "").await.problem(404);
}

#[tokio::test]
async fn any_subset_of_a_site_can_be_changed() {
    let server = Server::start().await;
    let id = server.add_site("example.com").await;
    let path = format!("/api/sites/{id}");
    let subsets = [
        json!({}),
        json!({"name": "Example"}),
        json!({"timezone": "Asia/Tokyo"}),
        json!({"domain": "example.org"}),
        json!({"domain": "example.net", "name": "Other", "timezone": "UTC"}),
    ];
    for subset in subsets {
        let mut expected = server.get(&path).await;
        server.clock.advance(Duration::from_secs(1));
        let changed = server.patch(&path, &subset).await;
        for (name, value) in subset.as_object().expect("an object") {
            expected["site"][name] = value.clone();
        }
        assert_ne!(expected["site"]["updated_at"], changed["site"]["updated_at"], "{subset}");
        expected["site"]["updated_at"] = changed["site"]["updated_at"].clone();
        assert_eq!(changed, expected, "{subset}");
        assert_eq!(server.get(&path).await, changed, "{subset}");
    }
}

#[tokio::test]
async fn a_domain_is_free_again_after_its_site_was_renamed_or_deleted() {
    let server = Server::start().await;
    server.add_site("a.example").await;
    server.patch("/api/sites/a.example", &json!({"domain": "b.example"})).await;
    server.call_raw("GET", "/api/sites/a.example", "").await.problem(404);
    server.add_site("a.example").await;
    server.delete("/api/sites/b.example").await;
    server.add_site("b.example").await;
    assert_eq!(server.get("/api/sites").await["sites"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_deleted_site_takes_everything_of_it_along() {
    let server = Server::start().await;
    let id = server.add_site("example.com").await;
    let key = server.key(Some(&id), Role::Admin).await;
    let webhook = server.add_webhook(&id, &json!(["goal_completion"])).await;
    let delivery = server.record(&webhook, &Past::success("{}")).await;
    server.delete("/api/sites/example.com").await;
    for path in [&webhook, &format!("{webhook}/deliveries"), &format!("{webhook}/deliveries/{delivery}")] {
        server.call_raw("GET", path, "").await.problem(404);
    }
    server.call_as(Some(&format!("Bearer {key}")), "GET", "/api/sites", "").await.problem(401);
    server.add_site("example.com").await;
    assert_eq!(server.get("/api/sites/example.com/webhooks").await, json!({"webhooks": []}));
}

#[tokio::test]
async fn what_is_wrong_with_a_site_is_said_and_nothing_is_saved() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let long = "x".repeat(256);
    let letters = "only letters, numbers, slashes, colons, periods and hyphens allowed";
    let both = [
        (json!({"domain": ""}), "domain", "can't be blank"),
        (json!({"domain": "https://www./"}), "domain", "can't be blank"),
        (json!({"domain": 5}), "domain", "must be a text"),
        (json!({"domain": ["a.example"]}), "domain", "must be a text"),
        (json!({"domain": "exa mple.com"}), "domain", letters),
        (json!({"domain": "example.com?x"}), "domain", letters),
        (json!({"domain": "a\tb.example"}), "domain", "must not contain control characters"),
        (json!({"domain": &long[..254]}), "domain", "must be at most 253 characters"),
        (json!({"domain": "a.example", "name": long}), "name", "must be at most 255 characters"),
        (json!({"domain": "a.example", "name": true}), "name", "must be a text"),
        (json!({"domain": "a.example", "timezone": "Mars/Olympus"}), "timezone", "must be a time zone like Europe/Berlin"),
        (json!({"domain": "a.example", "timezone": ""}), "timezone", "must be a time zone like Europe/Berlin"),
        (json!({"domain": "a.example", "colour": "red"}), "colour", "is not a known field"),
        (json!({"domain": "a.example", "id": 5}), "id", "is not a known field"),
        (json!(["domain"]), "", "must be a JSON object"),
        (json!(null), "", "must be a JSON object"),
    ];
    server.assert_refusals("POST", "/api/sites", "/api/sites", &both).await;
    server.assert_refusals("PATCH", "/api/sites/example.com", "/api/sites", &both).await;
    let missing = [(json!({}), "domain", "is required"), (json!({"domain": null, "name": "A"}), "domain", "is required")];
    server.assert_refusals("POST", "/api/sites", "/api/sites", &missing).await;
}

#[tokio::test]
async fn every_mistake_is_said_at_once() {
    let server = Server::start().await;
    let body = json!({"domain": "a b", "name": 5, "timezone": "here", "colour": "red"});
    assert_json_snapshot!(server.call("POST", "/api/sites", &body).await.problem(422), @r#"
    {
      "type": "about:blank",
      "title": "Validation failed",
      "status": 422,
      "detail": "colour is not a known field; domain only letters, numbers, slashes, colons, periods and hyphens allowed; name must be a text; timezone must be a time zone like Europe/Berlin",
      "errors": {
        "colour": [
          "is not a known field"
        ],
        "domain": [
          "only letters, numbers, slashes, colons, periods and hyphens allowed"
        ],
        "name": [
          "must be a text"
        ],
        "timezone": [
          "must be a time zone like Europe/Berlin"
        ]
      }
    }
    "#);
}

#[tokio::test]
async fn a_domain_belongs_to_one_site() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    server.add_site("other.example").await;
    let sentence = "there is a site with this domain already";
    for domain in ["example.com", "www.example.com", "https://EXAMPLE.com"] {
        let body = json!({"domain": domain});
        server.assert_conflict("POST", "/api/sites", "/api/sites", (&body, sentence)).await;
        server.assert_conflict("PATCH", "/api/sites/other.example", "/api/sites", (&body, sentence)).await;
    }
    server.patch("/api/sites/example.com", &json!({"domain": "www.example.com"})).await;
}

#[tokio::test]
async fn of_many_sites_made_at_once_with_one_domain_one_is() {
    let server = Server::start().await;
    let statuses = server.call_at_once(5, "POST", "/api/sites", &json!({"domain": "example.com"})).await;
    assert_eq!(statuses, [201, 409, 409, 409, 409]);
    assert_eq!(server.get("/api/sites").await["sites"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn current_visitors_are_those_of_the_last_five_minutes() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let visitors = async || server.get("/api/sites/example.com/visitors").await;
    assert_eq!(visitors().await, json!({"current_visitors": 0, "window_seconds": 300}));
    visit(&server, "pageview", "Firefox/128.0").await;
    visit(&server, "Signup", "Firefox/128.0").await;
    assert_eq!(visitors().await["current_visitors"], 1);
    server.clock.advance(Duration::from_secs(299));
    visit(&server, "pageview", "Firefox/129.0").await;
    assert_eq!(visitors().await["current_visitors"], 2);
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(visitors().await["current_visitors"], 1);
    server.clock.advance(Duration::from_secs(300));
    assert_eq!(visitors().await["current_visitors"], 0);
}

async fn visit(server: &Server, name: &str, user_agent: &str) {
    let body: Value = json!({"n": name, "u": "https://example.com/"});
    let answer = server.event_with(&[("user-agent", user_agent)], Body::from(body.to_string())).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-plausible-dropped")), (202, None));
}
