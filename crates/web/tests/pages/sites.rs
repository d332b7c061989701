//! What pages tell of what happens on a site: whether events arrive, how many visitors there are, how its webhooks and goals do.

use std::time::Duration;

use axum::body::Body;
use bellwether_engine::HourOfOutcomes;
use serde_json::{Value, json};

use crate::support::{Browser, Server, id_of};

/// So many failures in a row open a breaker.
const FAILURES: usize = 5;
const DAY: Duration = Duration::from_secs(86_400);

/// Something happens on `example.com`, done by one of many visitors.
async fn event(server: &Server, visitor: u8, name: &str) {
    let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:{visitor}.0) Gecko/20100101 Firefox/{visitor}.0");
    let body = json!({"n": name, "u": "https://example.com/", "d": "example.com"}).to_string();
    assert_eq!(server.event_with(&[("user-agent", &agent)], Body::from(body)).await.status, 202);
}

/// The card of a site in the list.
async fn card(browser: &Browser<'_>, domain: &str) -> String {
    let html = browser.get("/sites").await.html(200).to_owned();
    html.split("<li class=\"card\">").skip(1).find(|card| card.contains(domain)).expect("a card").to_owned()
}

#[tokio::test]
async fn events_that_arrive_are_told_of() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let path = format!("/sites/{}", server.add_site("example.com").await);
    assert!(browser.get(&path).await.html(200).contains("No event lately"));
    assert!(card(&browser, "example.com").await.contains("<strong>0</strong> current visitors"));
    event(&server, 1, "pageview").await;
    let html = browser.get(&path).await.html(200).to_owned();
    assert!(html.contains("Events arrive</span> 1 current visitor.") && !html.contains("No event lately"), "{html}");
    event(&server, 2, "pageview").await;
    assert!(card(&browser, "example.com").await.contains("<strong>2</strong> current visitors"));
    server.clock.advance(Duration::from_secs(300));
    assert!(browser.get(&path).await.html(200).contains("No event lately"));
}

#[tokio::test]
async fn the_list_of_sites_tells_how_their_webhooks_do() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    let states = async || {
        let card = card(&browser, "example.com").await;
        let has = |word: &str| card.contains(word);
        (has("1 failing</span>"), has("fine</span>"), has("1 off</span>"))
    };
    assert_eq!(states().await, (false, false, false));
    let first = server.add_webhook(&site, &json!([])).await;
    assert_eq!(states().await, (false, true, false));
    let second = server.add_webhook(&site, &json!([])).await;
    server.patch(&second, &json!({"enabled": false})).await;
    assert_eq!(states().await, (false, true, true));
    for _ in 0..FAILURES {
        server.call("POST", &format!("{first}/test"), &Value::Null).await;
        server.engine.drained().await;
    }
    assert_eq!(states().await, (true, false, true));
    assert!(card(&browser, "example.com").await.contains("2 webhooks"));
    let page = browser.get(&format!("/sites/{site}/webhooks")).await;
    assert!(page.html(200).contains("The endpoint fails at the moment."), "{}", page.text());
}

#[tokio::test]
async fn goals_tell_how_often_they_were_completed_within_a_day() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    server.add_goal(&site, "Signup").await;
    let number = async || {
        let html = browser.get(&format!("/sites/{site}/goals")).await.html(200).to_owned();
        let cell = html.split("<td class=\"number\">").nth(1).and_then(|rest| rest.split('<').next()).expect("a number");
        cell.to_owned()
    };
    assert_eq!(number().await, "0");
    event(&server, 1, "Signup").await;
    event(&server, 2, "Signup").await;
    assert_eq!(number().await, "2");
    server.clock.advance(DAY / 2);
    event(&server, 3, "Signup").await;
    assert_eq!(number().await, "3");
    server.clock.advance(DAY / 2 + Duration::from_secs(120));
    assert_eq!(number().await, "1");
}

#[tokio::test]
async fn the_chart_of_a_webhook_has_a_day_of_its_attempts() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    let api = server.add_webhook(&site, &json!([])).await;
    let id = id_of(&server.get(&api).await["webhook"]).parse().expect("an id");
    let now = u32::try_from(server.engine.ambient().now().as_seconds() / 3_600).expect("an hour");
    let hour = |ago, succeeded, failed| (id, HourOfOutcomes { hour: now - ago, succeeded, failed });
    server.engine.store().add_outcomes(vec![hour(24, 99, 99), hour(3, 7, 0), hour(0, 1, 2)]).await.expect("outcomes");
    for page in [format!("/sites/{site}/webhooks"), api.strip_prefix("/api").expect("a path").to_owned()] {
        let html = browser.get(&page).await.html(200).to_owned();
        assert!(html.contains("8 succeeded</span>") && html.contains("2 failed</span>"), "{html}");
        let bars = |class: &str| html.matches(&format!("<rect class=\"{class}\"")).count();
        assert_eq!((bars("good"), bars("bad")), (2, 1), "{page}");
    }
}
