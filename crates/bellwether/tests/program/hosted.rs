//! A server whose source is Plausible's hosted service: from its settings to a delivery, across a kill.

use axum::http::{Method, StatusCode};
use bellwether_testkit::ambient::manual;
use bellwether_testkit::hosted::{API_KEY, HostedService};
use bellwether_testkit::receiver::Receiver;
use serde_json::json;
use tokio::process::Command;

use crate::support::{Home, Output, SITE, is_signed, json, secret, within};

fn asking(home: &Home, arguments: &[&str], service: &HostedService, key: &str) -> Command {
    let mut command = home.command(arguments);
    command
        .env("BELLWETHER_SOURCE_PLAUSIBLE_API_BASE_URL", service.url())
        .env("BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY", key)
        .env("BELLWETHER_SOURCE_PLAUSIBLE_API_SITES", SITE);
    command
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
        while !is_so().await {
            looks.tick().await;
        }
    };
    within(what, waiting).await;
}

#[tokio::test]
async fn the_hosted_service_is_asked_from_its_settings_to_a_delivery() {
    let (home, mut receiver, (ambient, _clock)) = (Home::new(), Receiver::start().await, manual());
    let service = HostedService::start(&ambient).await;
    service.add_site(SITE, "Europe/Berlin");
    service.add_goal(SITE, "Signup");
    service.complete(SITE, "Signup", 40);
    service.set_visitors(SITE, 7);
    let server = home.start(asking(&home, &["serve"], &service, API_KEY)).await;
    let client = home.client(&server).await;
    let (site, goals) = (format!("/sites/{SITE}"), format!("/sites/{SITE}/goals"));
    until("the site", async || client.finds(&site).await).await;
    let webhook =
        client.create(&format!("{site}/webhooks"), json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    let secret = secret(&webhook["webhook"]);
    until("the goals", async || client.get(&goals).await["goals"][0]["display_name"] == "Signup").await;
    until("the first count", async || home.dump().iter().any(|row| row.contains(r#"Text("2026-02-25")"#))).await;

    // What is completed while it is gone is found afterwards, and nothing else is.
    server.signal("KILL");
    let _ = server.ended().await;
    service.complete(SITE, "Signup", 2);
    let server = home.start(asking(&home, &["serve"], &service, API_KEY)).await;
    let told = receiver.next().await;
    assert!(is_signed(&told, &secret));
    let data = &json(&told)["data"];
    assert_eq!((&data["goal_name"], &data["count"], &data["path"]), (&json!("Signup"), &json!(2), &json!(null)));

    let client = client.moved_to(server.address);
    until("the visitors", async || client.get(&format!("{site}/visitors")).await["current_visitors"] == 7).await;
    assert_eq!(client.event(json!({"n": "pageview"})).await.expect("an answer"), StatusCode::CONFLICT);
    client.ask(Method::POST, "/sites", Some(json!({"domain": "new.example"})), StatusCode::CONFLICT).await;
    client.refused(&site, json!({"name": "Another"}), StatusCode::CONFLICT).await;
    let other_window = json!({"type": "visitor_spike", "window_seconds": 600});
    let other_window = json!({"url": receiver.url(), "triggers": [other_window]});
    client.ask(Method::POST, &format!("{site}/webhooks"), Some(other_window), StatusCode::UNPROCESSABLE_ENTITY).await;
    server.stop().await;
    assert!(receiver.so_far().is_empty());
    let log = home.log();
    assert!(log.contains("Plausible's hosted service is asked so often about each site") && !log.contains(API_KEY), "{log}");
}

#[tokio::test]
async fn check_asks_the_hosted_service() {
    let (home, (ambient, _clock)) = (Home::new(), manual());
    let service = HostedService::start(&ambient).await;
    service.add_site(SITE, "UTC");
    let migrated = home.run(&["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    let checked = Output::of(asking(&home, &["check"], &service, API_KEY)).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let refused = Output::of(asking(&home, &["check"], &service, "hunter2")).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let sentence = format!(
        "Plausible's hosted service does not say how many visitors {SITE} has: it answered 401: it does not know the key, or the key may not see the site"
    );
    assert_eq!(refused.refusal(), sentence);
}
