//! Pages after a form: each can be loaded again, and what is shown only once goes there by no address.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::PAGES;
use crate::support::{Answer, Browser, NOWHERE, Server, fill};

/// What nobody is to see twice: what stands in the field of this id, if it is shown.
fn shown(page: &Answer, id: &str) -> Option<String> {
    let (_, rest) = page.html(200).split_once(&format!(r#"id="{id}" readonly value=""#))?;
    rest.split('"').next().map(str::to_owned)
}

#[tokio::test]
async fn secrets_and_links_are_shown_once_to_the_session_that_made_them() {
    let server = Server::start().await;
    let (browser, elsewhere) = (Browser::of_owner(&server).await, Browser::of_owner(&server).await);
    let site = format!("/sites/{}", server.add_site("example.com").await);
    let webhooks = format!("{site}/webhooks");
    let made = browser.post(&webhooks, &[("url", NOWHERE)]).await.location().to_owned();
    let webhook = made.split('?').next().expect("a path").to_owned();
    let rotation = format!("{webhook}/secret");
    let invitation = format!("{site}/people");
    let mut seen = Vec::new();
    for (form, fields, id) in [
        (&webhooks, ("url", NOWHERE), "secret"),
        (&rotation, ("grace_seconds", "3600"), "secret"),
        (&invitation, ("role", "viewer"), "link"),
    ] {
        let to = browser.post(form, &[fields]).await.location().to_owned();
        assert_eq!(shown(&elsewhere.get(&to).await, id), None, "{form}: another session");
        let text = shown(&browser.get(&to).await, id).unwrap_or_else(|| panic!("{form} shows nothing"));
        let end = text.rsplit('/').next().expect("an end").to_owned();
        assert!(!to.contains(&end) && !seen.contains(&text), "{form}: {to}");
        assert_eq!(shown(&browser.get(&to).await, id), None, "{form}: loaded again");
        seen.push(text);
    }
    assert_eq!(server.get(&format!("/api{webhooks}")).await["webhooks"].as_array().map(Vec::len), Some(2));
    let late = browser.post(&rotation, &[("grace_seconds", "0")]).await.location().to_owned();
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(shown(&browser.get(&late).await, "secret"), None, "a minute later");
}

#[tokio::test]
async fn a_test_is_sent_once_however_often_its_page_is_loaded() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    let api = server.add_webhook(&site, &json!([])).await;
    let path = api.strip_prefix("/api").expect("a path");
    let sent = browser.post(&format!("{path}/test"), &[]).await;
    let to = sent.location().to_owned();
    let deliveries = format!("{api}/deliveries");
    let id = server.get(&deliveries).await["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    sent.sent_to(&format!("{path}?test={id}#test"));
    for _ in 0..2 {
        let html = browser.get(&to).await.html(200).to_owned();
        let answer = html.split("id=\"test-answer\"").nth(1).and_then(|rest| rest.split("</div>").next()).expect("an answer");
        assert!(answer.contains("the name nowhere.example cannot be resolved") && answer.contains(&id), "{answer}");
        assert!(html.contains(&format!("data-page=\"{to}\"")), "it stays when the page is asked for again: {html}");
    }
    assert_eq!(server.get(&deliveries).await["pagination"]["total_count"], 1);

    let other = server.add_webhook(&site, &json!([])).await;
    let other = other.strip_prefix("/api").expect("a path");
    for nothing in [format!("{other}?test={id}"), format!("{path}?test=x"), path.to_owned()] {
        assert!(!browser.get(&nothing).await.html(200).contains("test-answer"), "{nothing}");
    }
}

#[tokio::test]
async fn whoever_opens_the_address_of_a_form_sees_a_page() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let id = server.add_site("example.com").await;
    let mut refused = 0;
    for (_, path, ..) in PAGES.into_iter().filter(|(method, ..)| *method == "POST") {
        let answer = browser.get(&fill(path, &[("site_id", &id)])).await;
        if answer.status == 405 {
            assert!(answer.html(405).contains("this cannot be done here"), "{path}");
            refused += 1;
        }
        assert!(answer.status == 303 || answer.header("content-type").is_some_and(|kind| kind.contains("html")), "{path}");
    }
    assert!(refused > 10, "{refused}");
    let deletion = Request::delete("/sites");
    browser.send(deletion, Body::empty()).await.html(405);
    server.call_raw("DELETE", "/api/event", "").await.problem(405);
}
