//! A server whose source is an existing Plausible: from its settings to a delivery, across a kill.

use axum::http::{Method, StatusCode};
use bellwether_testkit::plausible::{Plausible, Row, Version};
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::json;
use tokio::process::Command;

use crate::support::{Client, Home, Output, SITE, is_signed, json, secret, within};

/// Seconds since 1970, by the clock that the server goes by too.
fn now() -> u32 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970");
    u32::try_from(since.as_secs()).expect("a second")
}

fn serve(home: &Home, install: &Plausible) -> Command {
    let mut command = home.command(&["serve"]);
    command
        .env("BELLWETHER_SOURCE_PLAUSIBLE_CLICKHOUSE_URL", install.clickhouse_url())
        .env("BELLWETHER_SOURCE_PLAUSIBLE_POSTGRES_URL", install.postgres_url());
    command
}

/// Waits until a path is found.
async fn appears(client: &Client, path: &str) {
    let found = async {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
        while !client.finds(path).await {
            looks.tick().await;
        }
    };
    within(path, found).await;
}

#[tokio::test]
async fn an_existing_plausible_is_watched_from_its_settings_to_a_delivery() {
    let (home, mut receiver, install) = (Home::new(), Receiver::start().await, Plausible::install(Version::Current).await);
    install.add_site(1, SITE, now() - 1_000).await;
    install.add_goal(1, 1, now() - 1_000, ("page_path, display_name", "'/buy*', 'Bought'")).await;
    let server = home.start(serve(&home, &install)).await;
    let client = home.client(&server).await;
    let site = format!("/sites/{SITE}");
    assert!(client.finds(&site).await, "it is there from the start");
    assert_eq!(client.get(&format!("{site}/goals")).await["goals"][0]["display_name"], "Bought");
    let webhook = json!({"url": receiver.url(), "triggers": ["goal_completion"]});
    let webhook = client.create(&format!("{site}/webhooks"), webhook).await["webhook"].clone();

    let row = |page: &str| Row { source: "Google", ..Row::pageview(1, now(), 1, page) };
    install.write(&[row("/buy/1")]).await;
    let paths = |received: &[Received]| -> Vec<_> { received.iter().map(|one| json(one)["data"]["path"].clone()).collect() };
    let first = receiver.next().await;
    assert!(is_signed(&first, &secret(&webhook)));
    assert_eq!(
        (&paths(&[first])[0], &client.get(&format!("{site}/visitors")).await["current_visitors"]),
        (&json!("/buy/1"), &json!(1))
    );

    // What comes while it is gone is found afterwards, and nothing else is.
    server.signal("KILL");
    let _ = server.ended().await;
    install.write(&[row("/buy/2"), row("/other")]).await;
    let server = home.start(serve(&home, &install)).await;
    install.write(&[row("/buy/3")]).await;
    let mut told = paths(&receiver.received(2).await);
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, [json!("/buy/2"), json!("/buy/3")]);

    let client = client.moved_to(server.address);
    assert_eq!(client.event(json!({"n": "pageview"})).await.expect("an answer"), StatusCode::CONFLICT);
    client.ask(Method::POST, "/sites", Some(json!({"domain": "new.example"})), StatusCode::CONFLICT).await;
    client.refused(&site, json!({"name": "Another"}), StatusCode::CONFLICT).await;
    install.change(&format!("UPDATE sites SET domain = 'renamed.example' WHERE domain = '{SITE}'")).await;
    appears(&client, "/sites/renamed.example").await;
    let mut check = home.command(&["check"]);
    check.envs(serve(&home, &install).as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    server.stop().await;
    assert!(receiver.so_far().is_empty());
    let checked = Output::of(check).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[tokio::test]
async fn what_is_no_plausible_is_refused_at_the_start() {
    let (home, install) = (Home::new(), Plausible::install(Version::Old).await);
    install.clickhouse().execute("DROP TABLE events_v2").await;
    let refused = Output::of(serve(&home, &install)).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.refusal().starts_with("BELLWETHER_SOURCE_PLAUSIBLE_CLICKHOUSE_URL: http://"), "{refused:?}");
    assert!(refused.refusal().ends_with("it has no column events_v2.timestamp"), "{refused:?}");
}
