//! Templates over the REST API: saved, refused with their places, tried, and seen in the history.

use serde_json::{Value, json};

use crate::support::{NOWHERE, Server, id_of};

const WEBHOOKS: &str = "/api/sites/example.com/webhooks";
const PREVIEW: &str = "/api/sites/example.com/webhooks/preview";

async fn server_with_site() -> Server {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    server.add_goal(&site, "Signup").await;
    server
}

async fn add(server: &Server, template: &Value) -> String {
    let new = json!({"url": NOWHERE, "triggers": ["goal_completion"], "template": template});
    format!("{WEBHOOKS}/{}", id_of(&server.post(WEBHOOKS, &new).await["webhook"]))
}

#[tokio::test]
async fn a_template_is_saved_changed_and_taken_away() {
    let server = server_with_site().await;
    let path = add(&server, &json!({"preset": "pagerduty", "parameters": {"routing_key": "sesame"}})).await;
    let template = async || server.get(&path).await["webhook"]["template"].clone();
    assert_eq!(template().await, json!({"preset": "pagerduty", "parameters": {"routing_key": null}}));
    let shown = template().await;
    server.patch(&path, &json!({"template": shown, "name": "Pager"})).await;
    assert_eq!(template().await, shown);
    server.patch(&path, &json!({"name": "Another"})).await;
    assert_eq!(template().await, shown);
    server.patch(&path, &json!({"template": {"body": "{{ message.text }}", "content_type": "text/plain"}})).await;
    let own = json!({"body": "{{ message.text }}", "content_type": "text/plain", "method": "POST", "parameters": {}});
    assert_eq!(template().await, own);
    server.patch(&path, &json!({"template": null})).await;
    assert_eq!(template().await, Value::Null);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_place() {
    let server = server_with_site().await;
    let with = |template: Value| json!({"url": NOWHERE, "template": template});
    let cases = [
        (
            with(json!({"body": "a\n{{ dta }}"})),
            "template.body",
            "line 2, column 4: there is no dta; there are event_id, event_type, site_id, site_domain, site_name, timestamp, data, message, parameters",
        ),
        (
            with(json!({"body": "{% for x in range(9) %}{% endfor %}"})),
            "template.body",
            "line 1, column 13: nothing can be called",
        ),
        (
            with(json!({"body": "{% include 'x' %}"})),
            "template.body",
            "line 1, column 4: cannot be read: unknown statement include",
        ),
        (
            with(json!({"body": "{{ 'x' * 1000000000 }}"})),
            "template.body",
            "line 1, column 4: * is not allowed: write one value behind the other",
        ),
        (
            with(json!({"body": "{% macro f() %}{% endmacro %}"})),
            "template.body",
            "line 1, column 4: cannot be read: unknown statement macro",
        ),
        (
            with(json!({"body": "{}", "content_type": "text/html"})),
            "template.content_type",
            "must be application/json, another application/…+json, text/plain or application/x-www-form-urlencoded",
        ),
        (with(json!({"body": "{}", "method": "GET"})), "template.method", "must be POST or PUT"),
        (
            with(json!({"preset": "fax"})),
            "template.preset",
            "must be one of slack, discord, teams, google_chat, mattermost, telegram, ntfy, pagerduty, opsgenie, plain",
        ),
        (with(json!({"preset": "telegram"})), "template.parameters.chat_id", "is required"),
        (
            with(json!({"preset": "telegram", "parameters": {"chat_id": null}})),
            "template.parameters.chat_id",
            "must have a value: there is none yet to keep",
        ),
        (with(json!("slack")), "template", "must be a JSON object"),
    ];
    server.assert_refusals("POST", WEBHOOKS, WEBHOOKS, &cases).await;
}

#[tokio::test]
async fn a_preview_shows_what_each_type_of_event_becomes() {
    let server = server_with_site().await;
    add(&server, &Value::Null).await;
    server.event(&json!({"n": "Signup", "u": "https://example.com/a"})).await;
    server.engine.drained().await;
    let template = json!({"body": "{\"text\": \"{{ message.title }}\", \"path\": {{ data.path }}}"});
    let shown = server.call("POST", PREVIEW, &json!({"template": template})).await.json(200);
    assert_eq!((&shown["content_type"], &shown["method"]), (&json!("application/json"), &json!("POST")));
    let bodies: Vec<_> =
        shown["previews"].as_array().expect("previews").iter().map(|one| (&one["is_example"], &one["body"])).collect();
    let expected = [
        (false, r#"{"text": "Goal completed: Signup", "path": "/a"}"#),
        (true, r#"{"text": "Visitors rush in on example.com", "path": null}"#),
        (true, r#"{"text": "Back to normal: visitors on example.com", "path": null}"#),
        (true, r#"{"text": "Visitors stay away from example.com", "path": null}"#),
        (true, r#"{"text": "Back to normal: visitors on example.com", "path": null}"#),
        (true, r#"{"text": "Goal rate below 2 %: Purchase", "path": null}"#),
        (true, r#"{"text": "Back to normal: rate of Purchase", "path": null}"#),
        (true, r#"{"text": "Unusual: visitors on example.com", "path": null}"#),
        (true, r#"{"text": "Back to normal: visitors on example.com", "path": null}"#),
        (true, r#"{"text": "10,000 pageviews on example.com", "path": null}"#),
        (true, r#"{"text": "New source on example.com: Hacker News", "path": null}"#),
        (true, r#"{"text": "Webhook switched off: Shop", "path": null}"#),
        (true, r#"{"text": "Test", "path": null}"#),
    ];
    let expected = expected.map(|(is_example, body)| (json!(is_example), json!(body)));
    assert!(bodies.into_iter().eq(expected.iter().map(|(is_example, body)| (is_example, body))));
    assert_eq!(shown["previews"][0]["event"]["data"]["goal_name"], "Signup");
}

#[tokio::test]
async fn a_preview_says_which_events_a_template_fails_for_and_where() {
    let server = server_with_site().await;
    let body = "{\"a\":\n  {{ data.current_visitors | round }}}";
    let shown = server.call("POST", PREVIEW, &json!({"template": {"body": body}})).await.json(200);
    assert_eq!(shown["previews"][1]["error"], Value::Null);
    assert_eq!(shown["previews"][0]["error"], json!({"message": "round is for numbers", "line": 2, "column": 30}));
    assert_eq!(shown["previews"][0]["body"], Value::Null);
    let shown = server.call("POST", PREVIEW, &json!({"template": {"body": "{{ site_domain }}}"}})).await.json(200);
    let error = &shown["previews"][0]["error"];
    let message = "makes no JSON: trailing characters at line 1 column 14 of the body";
    assert_eq!(error, &json!({"message": message, "line": null, "column": null}));
    let cases = [
        (json!({}), "template", "is required"),
        (
            json!({"template": {"body": "{{"}}),
            "template.body",
            "line 1, column 1: cannot be read: unexpected end of input, expected expression",
        ),
        (json!({"template": {"preset": "slack"}, "webhook_id": "x"}), "webhook_id", "must be the id of a webhook of the site"),
        (json!({"template": {"preset": "slack"}, "colour": "red"}), "colour", "is not a known field"),
    ];
    server.assert_refusals("POST", PREVIEW, WEBHOOKS, &cases).await;
}

#[tokio::test]
async fn a_preview_hides_parameters_given_and_kept() {
    let server = server_with_site().await;
    let path = add(&server, &json!({"preset": "telegram", "parameters": {"chat_id": "sesame"}})).await;
    let webhook = server.get(&path).await["webhook"]["id"].clone();
    for chat_id in [json!("sesame"), Value::Null] {
        let template = json!({"preset": "telegram", "parameters": {"chat_id": chat_id}});
        let answer = server.call("POST", PREVIEW, &json!({"template": template, "webhook_id": webhook})).await;
        answer.json(200);
        assert!(answer.text().contains(r#"\"chat_id\": \"hidden\""#) && !answer.text().contains("sesame"), "{}", answer.text());
    }
}

#[tokio::test]
async fn the_history_shows_what_was_sent_and_why_nothing_was() {
    let server = server_with_site().await;
    let template = json!({"body": "{{ data.path }}{{ parameters.token }}", "content_type": "text/plain", "method": "PUT",
                          "parameters": {"token": "sesame"}});
    let good = add(&server, &template).await;
    let bad = add(&server, &json!({"body": "{{ data.path | round }}"})).await;
    let usual = add(&server, &Value::Null).await;
    server.event(&json!({"n": "Signup", "u": "https://example.com/a"})).await;
    server.engine.drained().await;
    let latest = async |path: &str| {
        let id = id_of(&server.get(&format!("{path}/deliveries")).await["deliveries"][0]);
        server.get(&format!("{path}/deliveries/{id}")).await["delivery"].clone()
    };
    let shown = latest(&good).await;
    assert_eq!(shown["sent"], json!({"body": "/ahidden", "content_type": "text/plain", "method": "PUT", "is_exact": true}));
    assert_eq!(shown["payload"]["data"]["path"], "/a");
    assert_eq!(shown["request_headers"]["content-type"], "text/plain");
    server.patch(&good, &json!({"template": {"body": "new", "content_type": "text/plain"}})).await;
    assert_eq!(latest(&good).await["sent"]["is_exact"], false);
    let failed = latest(&bad).await;
    assert_eq!((&failed["status"], &failed["sent"]), (&json!("failed"), &Value::Null));
    assert_eq!(failed["error"], "the template cannot be rendered: line 1, column 16: round is for numbers");
    assert_eq!(latest(&usual).await["sent"], Value::Null);
}
