//! Several servers that count together in ClickHouse.

use std::time::Duration;

use axum::http::StatusCode;
use bellwether_testkit::clickhouse::ClickHouse;
use bellwether_testkit::database::{Database, Engine};
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use crate::support::{Client, Home, Output, SITE, Server, json as body, within};

/// Long enough for another server to look when the one that did is killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than the window: in between nobody is there.
const BETWEEN_RUSHES: Duration = Duration::from_millis(4_200);

/// Servers on one database that count at the same place.
struct Site {
    database: Database,
    clickhouse: ClickHouse,
}

impl Site {
    async fn new() -> Self {
        Self { database: Database::temporary_on(Engine::Postgres).await, clickhouse: ClickHouse::temporary().await }
    }

    async fn serve(&self) -> (Home, Server) {
        let home = Home::on(&self.database.url());
        let mut command = home.command(&["serve"]);
        command.env("BELLWETHER_CLICKHOUSE_URL", self.clickhouse.url()).env("BELLWETHER_TRUSTED_PROXIES", "127.0.0.1");
        let server = home.start(command).await;
        (home, server)
    }
}

/// They come again and again, until the receiver hears of it. A busy machine may look too late for one rush.
async fn rush(clients: &[&Client], receiver: &mut Receiver) -> Value {
    let rushing = async {
        let mut rushes = tokio::time::interval(BETWEEN_RUSHES);
        loop {
            rushes.tick().await;
            come(clients, 0..30, &json!({"n": "pageview"})).await;
            if let Some(webhook) = receiver.so_far().into_iter().next() {
                break body(&webhook);
            }
        }
    };
    tokio::time::timeout(PATIENCE, rushing).await.expect("a rush is told of")
}

/// Visitors come to one server after the other.
async fn come(clients: &[&Client], visitors: std::ops::Range<u8>, event: &Value) {
    let visits = visitors.zip(clients.iter().cycle()).map(|(visitor, client)| {
        let client = client.visiting_from(&format!("198.51.100.{visitor}"), "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0");
        async move { client.event(event.clone()).await.expect("an answer") }
    });
    let answers = futures_util::future::join_all(visits).await;
    assert!(answers.iter().all(|status| *status == StatusCode::ACCEPTED), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_are_counted_over_all_servers_whichever_of_them_is_killed() {
    let (mut receiver, site) = (Receiver::start().await, Site::new().await);
    let (home, first) = site.serve().await;
    let client = home.client(&first).await;
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 20, "window_seconds": 3, "cooldown_seconds": 0});
    let triggers = json!([spike, {"type": "goal_completion", "threshold": 4}]);
    let webhook =
        client.set_up_with(&[json!({"event_name": "Signup"})], json!({"url": receiver.url(), "triggers": triggers})).await;
    let (_home, second) = site.serve().await;
    let other = client.moved_to(second.address);
    assert!(other.finds(&format!("/sites/{SITE}/webhooks/{}", webhook["id"].as_str().expect("an id"))).await);

    let spiked = rush(&[&client, &other], &mut receiver).await;
    assert_eq!(spiked["event_type"], "visitor_spike");
    assert!(spiked["data"]["current_visitors"].as_u64() >= Some(20), "{spiked}");
    come(&[&client, &other], 0..4, &json!({"n": "Signup"})).await;
    let mut completed = body(&receiver.next().await);
    while completed["event_type"] == "visitor_spike" {
        completed = body(&receiver.next().await);
    }
    assert_eq!((&completed["data"]["goal_name"], &completed["data"]["count"]), (&json!("Signup"), &json!(4)));

    // The first one looks. After it is killed the other does, and goes on with what was kept.
    first.signal("KILL");
    let spiked = rush(&[&other], &mut receiver).await;
    assert_eq!(spiked["event_type"], "visitor_spike");
    second.stop().await;
    let of_a_day = "SELECT max(visitors) FROM (SELECT uniqExact(visitor) AS visitors FROM events GROUP BY toDate(time))";
    assert_eq!(site.clickhouse.texts(of_a_day).await, ["30"]);
}

#[tokio::test]
async fn a_server_that_would_count_by_itself_is_told_so_in_one_line() {
    let site = Site::new().await;
    let (_home, server) = site.serve().await;
    let alone = Home::on(&site.database.url());
    let refused = Output::of(alone.command(&["serve"])).await;
    let told = "other servers on this database count in ClickHouse, and this one would count in the memory of each: set BELLWETHER_CLICKHOUSE_URL as they have it";
    assert_eq!((refused.code, refused.refusal()), (Some(1), told));
    let sender = alone.start(alone.command(&["serve", "--roles", "dispatch"])).await;
    sender.stop().await;
    server.stop().await;
    alone.serve().await.stop().await;
}

#[tokio::test]
async fn a_clickhouse_that_cannot_be_used_is_said() {
    let (site, home) = (Site::new().await, Home::new());
    let with = |url: &str| {
        let mut command = home.command(&["serve"]);
        command.env("BELLWETHER_CLICKHOUSE_URL", url);
        command
    };
    let output = Output::of(with("tcp://127.0.0.1")).await;
    assert_eq!(output.code, Some(2));
    let expected =
        "BELLWETHER_CLICKHOUSE_URL: must be a URL like http://user:password@host:8123/name, where name is the database's";
    assert_eq!(output.refusal(), expected);
    let missing = format!("{}/nothing_of_the_name", site.clickhouse.server().replace("http://", "http://me:secret@"));
    let output = Output::of(with(&missing)).await;
    assert_eq!(output.code, Some(1));
    let refusal = output.refusal();
    assert!(refusal.starts_with("BELLWETHER_CLICKHOUSE_URL: http://127.0.0.1:") && !refusal.contains("secret"), "{refusal}");

    // `check` finds out what `migrate` mends.
    let url = site.clickhouse.url();
    let run = async |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("BELLWETHER_CLICKHOUSE_URL", &url);
        Output::of(command).await
    };
    assert_eq!(home.run(&["migrate"]).await.code, Some(0));
    let output = run(&["check"]).await;
    assert!(output.code == Some(1) && output.refusal().contains("run bellwether migrate"), "{output:?}");
    let output = run(&["migrate"]).await;
    assert!(output.code == Some(0) && output.stdout.contains(&format!("{url} is up to date")), "{output:?}");
    assert_eq!(within("check", run(&["check"])).await.code, Some(0));
}
