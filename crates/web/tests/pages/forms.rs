//! Forms for what there is already: they hold the whole of it, so that a field that was cleared is not one that stays.

use serde_json::{Value, json};

use crate::support::{Browser, NOWHERE, Server};

#[tokio::test]
async fn a_site_loses_its_name_and_nothing_else_that_was_cleared() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let path = format!("/sites/{}", server.add_site("example.com").await);
    let whole = [("domain", "example.com"), ("name", "Shop"), ("timezone", "Europe/Berlin")];
    browser.post(&path, &whole).await;
    let shown = async || server.get(&format!("/api{path}")).await["site"].clone();
    let before = shown().await;
    for (field, sentence) in [("domain", "Domain is required."), ("timezone", "Time zone is required.")] {
        let page = browser.post(&path, &without(&whole, field)).await;
        let html = page.html(422);
        assert!(html.contains(sentence) && html.contains(r#"value="Shop""#), "{html}");
        assert_eq!(shown().await, before, "{field}");
    }
    browser.post(&path, &without(&whole, "name")).await;
    assert_eq!(shown().await["name"], "example.com");
}

#[tokio::test]
async fn a_webhook_loses_its_name_and_no_url_that_was_cleared() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    let api = server.add_webhook(&site, &json!(["goal_completion"])).await;
    let path = api.strip_prefix("/api").expect("a path").to_owned();
    let whole = [("url", NOWHERE), ("name", "Shop"), ("triggers-0-type", "webhook_disabled")];
    let edit = format!("{path}/edit");
    browser.post(&edit, &whole).await.sent_to(&path);
    let shown = async || server.get(&api).await["webhook"].clone();
    let before = shown().await;
    assert_eq!((&before["name"], &before["triggers"][0]["type"]), (&json!("Shop"), &json!("webhook_disabled")));
    let page = browser.post(&edit, &without(&whole, "url")).await;
    assert!(page.html(422).contains(r#"id="url-error">URL is required."#), "{}", page.text());
    assert_eq!(shown().await, before);
    browser.post(&edit, &without(&whole, "name")).await.sent_to(&path);
    assert_eq!(shown().await["name"], "nowhere.example");
    browser.post(&edit, &whole[..2]).await.sent_to(&path);
    assert_eq!(shown().await["triggers"], Value::Array(Vec::new()));
}

/// A form with a field that was cleared.
fn without<'a>(whole: &[(&'a str, &'a str)], cleared: &str) -> Vec<(&'a str, &'a str)> {
    whole.iter().map(|(name, value)| (*name, if *name == cleared { "" } else { value })).collect()
}
