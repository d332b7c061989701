//! What a webhook sends, in its form and in its history: presets, templates of one's own and what they make, without a script.

use serde_json::{Value, json};

use crate::support::{Browser, NOWHERE, Server, id_of};

/// A form with what it holds, and more.
fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [("url", NOWHERE), ("name", "Shop")].into_iter().chain(more.iter().copied()).collect()
}

async fn template(server: &Server, path: &str) -> Value {
    server.get(&format!("/api{path}")).await["webhook"]["template"].clone()
}

#[tokio::test]
async fn a_preset_is_chosen_tried_and_saved() {
    let server = Server::start().await;
    let (browser, site) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let new = format!("/sites/{site}/webhooks");
    let page = browser.get(&format!("{new}/new")).await;
    let html = page.html(200);
    assert!(html.contains(r#"<option value="pagerduty">PagerDuty</option>"#) && !html.contains("template-body"), "{html}");
    let page = browser.post(&new, &with(&[("payload", "slack"), ("preview", "yes")])).await;
    let html = page.html(200);
    assert!(html.contains(r#"<option value="slack" selected>"#) && html.contains("hooks.slack.com"), "{html}");
    assert!(html.contains("Goal completion (an example)") && html.contains("Purchase was completed on example.com"), "{html}");
    assert!(!html.contains("This would fail"), "{html}");
    let made = browser.post(&new, &with(&[("payload", "telegram"), ("parameter-chat_id", "5")])).await;
    let path = made.location().split('?').next().expect("a path").to_owned();
    assert_eq!(template(&server, &path).await, json!({"preset": "telegram", "parameters": {"chat_id": null}}));
    assert!(browser.get(&path).await.html(200).contains("the preset for Telegram"));
}

#[tokio::test]
async fn parameters_are_asked_for_kept_and_not_shown() {
    let server = Server::start().await;
    let (browser, site) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let new = format!("/sites/{site}/webhooks");
    let page = browser.post(&new, &with(&[("payload", "pagerduty")])).await;
    let html = page.html(422);
    assert!(html.contains(r#"id="parameter-routing_key-error">Integration key must have a value"#), "{html}");
    let made = browser.post(&new, &with(&[("payload", "pagerduty"), ("parameter-routing_key", "sesame")])).await;
    let path = made.location().split('?').next().expect("a path").to_owned();
    let page = browser.get(&format!("{path}/edit")).await;
    let html = page.html(200);
    assert!(!html.contains("sesame") && html.contains("The value that is there stays"), "{html}");
    browser.post(&format!("{path}/edit"), &with(&[("payload", "pagerduty"), ("parameter-routing_key", "")])).await.sent_to(&path);
    assert_eq!(template(&server, &path).await, json!({"preset": "pagerduty", "parameters": {"routing_key": null}}));
    browser.post(&format!("{path}/edit"), &with(&[("payload", "")])).await.sent_to(&path);
    assert_eq!(template(&server, &path).await, Value::Null);
}

#[tokio::test]
async fn a_template_of_ones_own_begins_with_a_preset_and_shows_mistakes_where_they_are() {
    let server = Server::start().await;
    let (browser, site) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let new = format!("/sites/{site}/webhooks");
    let turned = [("payload", "own"), ("payload-before", "discord"), ("template-body", ""), ("preview", "yes")];
    let page = browser.post(&new, &with(&turned)).await;
    assert!(page.html(200).contains("allowed_mentions"), "{}", page.text());
    let own = |body: &'static str| {
        with(&[
            ("payload", "own"),
            ("template-body", body),
            ("template-content_type", "text/plain; charset=utf-8"),
            ("template-method", "PUT"),
        ])
    };
    let page = browser.post(&new, &own("a\r\n{{ nobody }}")).await;
    let html = page.html(422);
    assert!(
        html.contains("The template line 2, column 4: there is no nobody") && html.contains("{{ nobody }}</textarea>"),
        "{html}"
    );
    let wanted = [own("{{ message.title }}<b>{{ parameters.token }}"), vec![("preview", "yes")]].concat();
    let page = browser.post(&new, &wanted).await;
    let html = page.html(200);
    assert!(html.contains(r#"name="parameter-token""#) && html.contains("Goal completed: Purchase&#60;b&#62;hidden"), "{html}");
    let failing = [own("{{ data.goal_name | round }}"), vec![("preview", "yes")]].concat();
    let page = browser.post(&new, &failing).await;
    assert!(page.html(200).contains("This would fail: line 1, column 21: round is for numbers."), "{}", page.text());
    let saved = [own("a\r\n{{ parameters.token }}"), vec![("parameter-token", "sesame")]].concat();
    let made = browser.post(&new, &saved).await;
    let path = made.location().split('?').next().expect("a path").to_owned();
    let expected = json!({"body": "a\n{{ parameters.token }}", "content_type": "text/plain; charset=utf-8", "method": "PUT",
                          "parameters": {"token": null}});
    assert_eq!(template(&server, &path).await, expected);
    let page = browser.get(&format!("{path}/edit")).await;
    assert!(page.html(200).contains(r#"<option value="PUT" selected>"#), "{}", page.text());
}

#[tokio::test]
async fn the_page_of_a_delivery_shows_what_was_sent() {
    let server = Server::start().await;
    let (browser, site) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let new = json!({"url": NOWHERE, "template": {"body": "<b>{{ message.title }}", "content_type": "text/plain"}});
    let webhook = id_of(&server.post(&format!("/api/sites/{site}/webhooks"), &new).await["webhook"]);
    let api = format!("/api/sites/{site}/webhooks/{webhook}");
    let test = server.call("POST", &format!("{api}/test"), &json!({})).await.json(202);
    server.engine.drained().await;
    let path = format!("/sites/{site}/webhooks/{webhook}/deliveries/{}", id_of(&test["delivery"]));
    let page = browser.get(&path).await;
    let html = page.html(200);
    assert!(html.contains("&#60;b&#62;Test") && html.contains("The template made it of the payload."), "{html}");
    server.patch(&api, &json!({"template": {"preset": "plain"}})).await;
    assert!(browser.get(&path).await.html(200).contains("this is what would be sent now"));
}
