//! The description of the API: complete, and sound in itself. That answers are as it says is seen in all other tests.

use std::collections::BTreeSet;

use bellwether_domain::delivery::Contents;
use bellwether_domain::trigger::EventType;
use serde_json::{Value, json};

use crate::support::{Browser, DESCRIPTION, ROUTES, Server, assert_valid, resolved};

/// Every operation, with its method and path.
fn operations() -> impl Iterator<Item = (String, &'static str, &'static Value)> {
    let paths = DESCRIPTION["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

#[test]
fn it_has_every_route_and_no_other() {
    let described: BTreeSet<_> = operations().map(|(method, path, _)| (method, path.to_owned())).collect();
    let listed: BTreeSet<_> = ROUTES.map(|(method, path, ..)| (method.to_owned(), path.to_owned())).into();
    assert_eq!(described, listed);
}

#[test]
fn it_is_sound_in_itself() {
    let mut ids = BTreeSet::new();
    let tags: Vec<_> = DESCRIPTION["tags"].as_array().expect("tags").iter().map(|tag| &tag["name"]).collect();
    for (method, path, operation) in operations() {
        let what = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().expect("an id")), "{what}");
        assert!(operation["summary"].is_string() && operation["security"].is_array(), "{what}");
        assert!(tags.contains(&&operation["tags"][0]), "{what}");
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named: BTreeSet<_> = parameters
            .iter()
            .map(resolved)
            .filter(|one| one["in"] == "path")
            .map(|one| one["name"].as_str().expect("a name"))
            .collect();
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')).map(|part| part.trim_end_matches('}'));
        assert_eq!(named, in_path.collect(), "{what}");
    }
    let mut references = 0;
    every_reference(&DESCRIPTION, &mut |reference| {
        references += 1;
        assert!(DESCRIPTION.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    });
    assert!(references > 100, "{references}");
}

fn every_reference(value: &Value, look: &mut impl FnMut(&str)) {
    match value {
        Value::Object(object) => {
            object.get("$ref").and_then(Value::as_str).into_iter().for_each(&mut *look);
            object.values().for_each(|value| every_reference(value, look));
        }
        Value::Array(items) => items.iter().for_each(|value| every_reference(value, look)),
        _ => {}
    }
}

#[tokio::test]
async fn a_server_says_where_and_which_it_is_and_people_can_read_it() {
    let server = Server::start().await;
    let served = server.call_as(None, "GET", "/api/openapi.json", "").await.json(200);
    assert_eq!(served["servers"], json!([{"url": "http://127.0.0.1:8090"}]));
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
    let page = Browser::new(&server).get("/docs/api").await;
    let html = page.html(200);
    for (method, path, operation) in operations() {
        let summary = operation["summary"].as_str().expect("a summary").replace('\'', "&#39;");
        assert!(html.contains(&summary), "{method} {path}");
        assert!(html.contains(&format!(">{method}</span> <code>{path}</code>")), "{method} {path}");
    }
    for name in [
        "GoalCompletionPayload",
        "VisitorSpikePayload",
        "VisitorSpikeResolvedPayload",
        "WebhookDisabledPayload",
        "PageviewMilestonePayload",
        "WebhookTestPayload",
        "NewSourcePayload",
    ] {
        let fields = DESCRIPTION["components"]["schemas"][name]["properties"]["data"]["properties"].as_object().expect("fields");
        for name in fields.keys() {
            assert!(html.contains(&format!("<code>data.{name}</code>")), "{name}");
        }
    }
    assert!(html.contains("<code>events[].event_id</code>"));
}

#[tokio::test]
async fn the_schemas_of_payloads_are_served() {
    let server = Server::start().await;
    let listed = server.call_as(None, "GET", "/api/schemas", "").await.json(200);
    let listed = listed["schemas"].as_array().expect("schemas");
    assert_eq!(listed.len(), EventType::ALL.len() + 1);
    for (listed, contents) in listed.iter().zip(Contents::all()) {
        let name = contents.name();
        let path = format!("/api/schemas/v1/{name}");
        assert_eq!(listed, &json!({"event_type": name, "version": 1, "url": format!("http://127.0.0.1:8090{path}")}));
        let answer = server.call_as(None, "GET", &path, "").await;
        assert_eq!(answer.header("content-type"), Some("application/schema+json"));
        let schema: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(schema["$id"], format!("urn:bellwether:payload:1:{name}"));
        let described = &DESCRIPTION["webhooks"][name]["post"]["requestBody"]["content"]["application/json"];
        assert_eq!(resolved(&described["schema"]), &schema);
    }
    assert_eq!(server.call_as(None, "GET", "/api/schemas/v1/nothing", "").await.status, 404);
}

#[tokio::test]
async fn payloads_are_as_described() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    server.post("/api/sites/example.com/goals", &json!({"event_name": "Buy", "currency": "EUR"})).await;
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1});
    let webhook = server.add_webhook(&site, &json!(["goal_completion", spike])).await;
    server
        .event(&json!({"n": "Buy", "u": "https://example.com/?ref=x", "$": {"amount": 5, "currency": "EUR"}, "p": {"a": 1}}))
        .await;
    server.call("POST", &format!("{webhook}/test"), &json!({})).await.json(202);
    let mut seen = BTreeSet::new();
    for delivery in server.get(&format!("{webhook}/deliveries")).await["deliveries"].as_array().expect("deliveries") {
        let kind = delivery["event_type"].as_str().expect("a type");
        let id = delivery["id"].as_str().expect("an id");
        let payload = server.get(&format!("{webhook}/deliveries/{id}")).await["delivery"]["payload"].clone();
        let schema = &DESCRIPTION["webhooks"][kind]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_valid(kind, schema, &payload);
        seen.insert(kind.to_owned());
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}
