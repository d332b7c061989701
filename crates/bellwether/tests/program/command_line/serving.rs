//! `serve`: what it prints, how it stops, what survives, and what it never tells.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{Home, SITE, is_signed, json, secret, within};

const LOOK_INTERVAL: Duration = Duration::from_millis(5);

#[tokio::test]
async fn a_stop_lets_what_is_under_way_arrive() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    receiver.hold();
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let arrived = receiver.next().await;
    assert!(is_signed(&arrived, &secret(&webhook)));

    server.signal("TERM");
    let closed = async {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        while TcpStream::connect(server.address).await.is_ok() {
            looks.tick().await;
        }
    };
    within("the end of the listening", closed).await;
    receiver.release();
    let (status, printed) = server.ended().await;
    assert_eq!((status.code(), printed.as_str()), (Some(0), ""), "{}", home.log());

    let server = home.serve().await;
    let client = client.moved_to(server.address);
    assert_eq!(client.settled(&webhook).await, 1);
    let deliveries = client.get(&format!("/sites/{SITE}/webhooks/{}/deliveries", webhook["id"].as_str().expect("an id"))).await;
    assert_eq!(deliveries["deliveries"][0]["attempt_count"], 1, "{deliveries}");
    server.stop().await;
    assert!(receiver.so_far().is_empty());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_answer_to_a_test() {
    let (home, mut receiver, password) = (Home::new(), Receiver::start().await, "purple-otters-juggle-7");
    let server = home.serve().await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[], &receiver.url()).await;
    let create = ["user", "create", "--email", "ada@example.com", "--password-stdin", "--owner"];
    assert_eq!(home.run_with_input(&create, password).await.code, Some(0));
    let cookie = client.sign_in("ada@example.com", password).await;
    receiver.hold();
    let test = format!("/sites/{SITE}/webhooks/{}/test", webhook["id"].as_str().expect("an id"));
    let stop = async {
        receiver.next().await;
        server.signal("TERM");
    };
    let (answer, ()) = tokio::join!(client.submit(&test, "", &cookie), stop);
    let page = answer.headers()["location"].to_str().expect("text");
    assert!(answer.status() == 303 && page.contains("?test="), "{answer:?}");
    receiver.release();
    assert_eq!(server.ended().await.0.code(), Some(0));
    assert!(!home.log().contains("did not end in time"), "{}", home.log());
}

#[tokio::test]
async fn a_stop_keeps_what_could_not_go_out_for_the_next_start() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    receiver.behave_next([503]);
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let refused = receiver.next().await;
    server.stop().await;

    let server = home.serve().await;
    let again = receiver.next().await;
    assert_eq!((again.header("webhook-id"), &again.body), (refused.header("webhook-id"), &refused.body));
    assert_eq!(client.moved_to(server.address).settled(&webhook).await, 1);
    server.signal("INT");
    assert_eq!(server.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn edits_survive_a_restart() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let client = home.client(&server).await;
    let goals = [json!({"event_name": "Signup"}), json!({"page_path": "/blog/*", "scroll_threshold": 75})];
    let webhook = client.set_up(&goals, "http://127.0.0.1:9/before").await;
    let webhook_path = format!("/sites/{SITE}/webhooks/{}", webhook["id"].as_str().expect("an id"));
    let edits = [
        (format!("/sites/{SITE}"), json!({"name": "The shop", "timezone": "Europe/Berlin"})),
        (
            webhook_path.clone(),
            json!({"url": receiver.url(), "name": "Sales", "retry_schedule": [1, 60],
                   "triggers": ["goal_completion", {"type": "visitor_spike", "threshold": 20, "unit": "visitors"}]}),
        ),
    ];
    for (path, edit) in edits {
        client.ask(Method::PATCH, &path, Some(edit), StatusCode::OK).await;
    }
    let paths = ["/sites".to_owned(), format!("/sites/{SITE}/goals"), format!("/sites/{SITE}/webhooks"), webhook_path];
    let mut before: Vec<Value> = Vec::new();
    for path in &paths {
        before.push(client.get(path).await);
    }
    server.stop().await;

    let server = home.serve().await;
    let client = client.moved_to(server.address);
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(client.get(path).await, before, "{path}");
    }
    assert_eq!(client.event(json!({"n": "Signup"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let arrived = receiver.next().await;
    assert!(is_signed(&arrived, &secret(&webhook)));
    assert_eq!(json(&arrived)["site_name"], "The shop");
    server.stop().await;
}

#[tokio::test]
async fn neither_logs_nor_webhooks_nor_the_data_tell_who_a_visitor_is() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let mut command = home.command(&["serve"]);
    command.env("BELLWETHER_TRUSTED_PROXIES", "127.0.0.0/8").env("RUST_LOG", "trace");
    let server = home.start(command).await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"page_path": "/**"})], &receiver.url()).await;
    let (address, agent) = ("203.0.113.77", "Mozilla/5.0 (Unmistakable; rv:77) Gecko/20100101 Firefox/128.0");
    let visitor = client.visiting_from(address, agent);
    assert_eq!(visitor.event(json!({"n": "pageview"})).await.expect("an answer"), StatusCode::ACCEPTED);
    let guess = visitor.submit("/sign-in", "email=ada@example.com&password=wrong", "").await;
    assert_eq!(guess.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let arrived = receiver.next().await;
    assert_eq!(client.settled(&webhook).await, 1);
    let page = client.get(&format!("/sites/{SITE}/webhooks/{}/deliveries", webhook["id"].as_str().expect("an id"))).await;
    server.stop().await;

    let mut places = vec![("the log", home.log().into_bytes()), ("the webhook", format!("{arrived:?}").into_bytes())];
    places.push(("the API", page.to_string().into_bytes()));
    places.extend(home.files().into_values().map(|data| ("the data", data)));
    assert!(places.len() > 4 && home.log().contains("TRACE"), "there is something to look at");
    for (place, bytes) in places {
        for secret in [address, "Unmistakable", secret(&webhook).reveal()] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} is in {place}");
        }
    }
}
