//! One request to one endpoint, whatever the endpoint and the names do.

use bellwether_domain::delivery::{MAX_RECORDED_BODY_BYTES, Status};
use bellwether_domain::webhook::WebhookChange;
use bellwether_engine::{ManageError, Settings};
use bellwether_testkit::receiver::{Answer, Behaviour, Receiver};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket};

use super::rig::{Rig, seconds, settings, strict_settings};

/// Addresses behind which nothing may be reached, as resolvers may give them.
const REFUSED: [&[&str]; 10] = [
    &["127.0.0.1"],
    &["8.8.8.8", "127.0.0.1"],
    &["127.0.0.1", "8.8.8.8"],
    &["10.0.0.1"],
    &["169.254.169.254"],
    &["0.0.0.0"],
    &["::1"],
    &["::ffff:127.0.0.1"],
    &["64:ff9b::7f00:1"],
    &["2606:4700::1111", "fd00::1"],
];

/// How the latest delivery of the only webhook ended: where it stands, its code, its error.
async fn ended(rig: &Rig) -> (Status, Option<u16>, String) {
    let webhook_id = rig.site().webhooks[0].webhook.id;
    let delivery = rig.latest(webhook_id).await.delivery;
    (delivery.status, delivery.response_code, delivery.error.unwrap_or_default())
}

fn is_a_sentence_for_people(error: &str) -> bool {
    error.len() < 200 && !error.contains(['\n', '{', '}']) && !error.contains("Error(")
}

#[tokio::test]
async fn what_breaks_is_explained_and_tried_again() {
    let cases = [
        (Behaviour::Reset, "the connection was reset"),
        (Behaviour::Close, "the connection was closed before an answer came"),
        (Behaviour::HalfAHead, "the connection was closed before an answer came"),
        (Behaviour::Gibberish, "the answer is no proper HTTP: invalid HTTP version parsed"),
        (Behaviour::EndlessHead, "the head of the answer is too large, or has more than 100 headers"),
    ];
    for (behaviour, expected) in cases {
        let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
        rig.hook(&receiver).await;
        receiver.behave(behaviour.clone());
        rig.complete().await;
        let (status, code, error) = ended(&rig).await;
        assert_eq!((status, code), (Status::Retrying, None), "{behaviour:?}");
        assert!(error.starts_with(expected) && is_a_sentence_for_people(&error), "{behaviour:?}: {error}");
        receiver.behave(200);
        rig.pass(seconds(2)).await;
        assert_eq!((ended(&rig).await.0, receiver.so_far().len()), (Status::Success, 2), "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_tried_again() {
    let rig = Rig::start().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let url = format!("http://{}/", socket.local_addr().expect("its number"));
    rig.webhook(json!({"url": url, "triggers": ["goal_completion"]})).await;
    rig.complete().await;
    let (status, code, error) = ended(&rig).await;
    assert_eq!((status, code), (Status::Retrying, None));
    assert!(error.starts_with("connecting failed: Connection refused") && is_a_sentence_for_people(&error), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_tried_again() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.webhook(json!({"url": receiver.url_at("hooks.example"), "triggers": ["goal_completion"]})).await;
    rig.complete().await;
    let expected = "the name hooks.example cannot be resolved: there is no such name";
    assert_eq!(ended(&rig).await, (Status::Retrying, None, expected.to_owned()));
    rig.names.set("hooks.example", &["127.0.0.1"]);
    rig.pass(seconds(2)).await;
    assert_eq!((ended(&rig).await.0, receiver.so_far().len()), (Status::Success, 1));
}

/// Lets real time pass for the sender, which has been asked to wait by then. Nothing else that runs minds.
async fn wait_in_vain() {
    tokio::time::pause();
    tokio::time::advance(seconds(16)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_given_up_after_15_seconds_and_tried_again() {
    for behaviour in [Behaviour::Hang, Behaviour::StallAfter(0), Behaviour::StallAfter(64 * 1024 - 1)] {
        let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
        rig.hook(&receiver).await;
        receiver.behave(behaviour.clone());
        rig.complete().await;
        receiver.next().await;
        wait_in_vain().await;
        let expected = "no complete answer within 15 s";
        assert_eq!(ended(&rig).await, (Status::Retrying, None, expected.to_owned()), "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_never_secured_is_given_up_after_5_seconds() {
    let rig = Rig::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}/", silent.local_addr().expect("its number"));
    rig.webhook(json!({"url": url, "triggers": ["goal_completion"]})).await;
    rig.complete().await;
    let (mut stream, _) = silent.accept().await.expect("a connection");
    stream.read_exact(&mut [0; 5]).await.expect("the begin of a handshake");
    wait_in_vain().await;
    assert_eq!(ended(&rig).await, (Status::Retrying, None, "no connection within 5 s".to_owned()));
}

#[tokio::test]
async fn a_name_that_is_never_answered_is_given_up_after_3_seconds() {
    let rig = Rig::start().await;
    rig.names.set("hooks.example", &["127.0.0.1"]);
    rig.webhook(json!({"url": "http://hooks.example/", "triggers": ["goal_completion"]})).await;
    rig.names.asked().await;
    rig.names.fall_silent();
    rig.complete().await;
    rig.names.asked().await;
    wait_in_vain().await;
    let expected = "the name hooks.example cannot be resolved: timed out";
    assert_eq!(ended(&rig).await, (Status::Retrying, None, expected.to_owned()));
}

#[tokio::test]
async fn a_body_is_read_up_to_64_kib_and_4096_bytes_of_it_are_kept() {
    let answer = |body: &[u8]| Behaviour::from(Answer { status: 200, body: body.to_vec(), ..Answer::default() });
    let cases = [
        (Behaviour::EndlessBody, Some("x".repeat(MAX_RECORDED_BODY_BYTES))),
        (Behaviour::StallAfter(64 * 1024), Some("x".repeat(MAX_RECORDED_BODY_BYTES))),
        (answer(&[b'y'; 5_000]), Some("y".repeat(MAX_RECORDED_BODY_BYTES))),
        (answer(b"fine"), Some("fine".to_owned())),
        (answer(b""), None),
        (answer(b"a\0b\xffc"), Some("a\u{fffd}b\u{fffd}c".to_owned())),
        (answer("ü".repeat(2_049).as_bytes()), Some("ü".repeat(2_048))),
        (answer(&[0xff; 5_000]), Some("\u{fffd}".repeat(MAX_RECORDED_BODY_BYTES / 3))),
    ];
    for (behaviour, expected) in cases {
        let (receiver, rig) = (Receiver::start().await, Rig::start().await);
        let webhook = rig.hook(&receiver).await;
        receiver.behave(behaviour);
        rig.complete().await;
        let detail = rig.latest(webhook).await;
        assert_eq!((detail.delivery.status, detail.delivery.response_code), (Status::Success, Some(200)));
        assert_eq!(detail.attempts[0].attempt.response_body, expected);
    }
}

#[tokio::test]
async fn a_success_that_breaks_off_is_none() {
    let (receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    receiver.behave(Behaviour::HalfABody);
    rig.complete().await;
    let (status, code, error) = ended(&rig).await;
    assert_eq!((status, code), (Status::Retrying, None));
    assert!(error.starts_with("the answer broke off: ") && is_a_sentence_for_people(&error), "{error}");
}

#[tokio::test]
async fn a_connection_is_used_again_and_replaced_when_it_is_gone() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave_next([Behaviour::from(200), Behaviour::from(200), Behaviour::Close, Behaviour::from(200)]);
    for expected in [Status::Success, Status::Success, Status::Retrying, Status::Success] {
        rig.clock.advance(std::time::Duration::from_millis(1));
        rig.complete().await;
        assert_eq!(rig.latest(webhook).await.delivery.status, expected);
    }
    assert_eq!(receiver.so_far().len(), 4);
}

#[tokio::test]
async fn https_with_an_extra_root_by_name_and_by_address() {
    let mut receiver = Receiver::start_tls().await;
    let extra_roots_pem = receiver.root_pem().map(|pem| pem.as_bytes().to_vec());
    let rig = Rig::start_with(Settings { extra_roots_pem, ..settings() }).await;
    rig.names.set("localhost", &["127.0.0.1"]);
    for host in ["localhost", "127.0.0.1"] {
        rig.webhook(json!({"url": receiver.url_at(host), "triggers": ["goal_completion"]})).await;
    }
    rig.complete().await;
    rig.engine.drained().await;
    assert_eq!((receiver.so_far().len(), rig.count(Status::Success).await), (2, 2));
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused() {
    let (mut receiver, plain) = (Receiver::start_tls().await, Receiver::start().await);
    let trusting = Settings { extra_roots_pem: receiver.root_pem().map(|pem| pem.as_bytes().to_vec()), ..settings() };
    let cases = [
        (settings(), receiver.url_at("localhost"), "TLS failed: nobody who is trusted vouches for the certificate; "),
        (trusting.clone(), receiver.url_at("hooks.example"), "TLS failed: the certificate is not good: "),
        (trusting, plain.url_at("localhost").replace("http:", "https:"), "TLS failed: "),
    ];
    for (settings, url, expected) in cases {
        let rig = Rig::start_with(settings).await;
        ["localhost", "hooks.example"].iter().for_each(|name| rig.names.set(name, &["127.0.0.1"]));
        rig.webhook(json!({"url": url, "triggers": ["goal_completion"]})).await;
        rig.complete().await;
        let (status, code, error) = ended(&rig).await;
        assert_eq!((status, code), (Status::Retrying, None), "{error}");
        assert!(error.starts_with(expected) && is_a_sentence_for_people(&error), "{error}");
    }
    assert!(receiver.so_far().is_empty());
}

#[tokio::test]
async fn a_refused_address_is_refused_when_a_webhook_is_saved() {
    let rig = Rig::start_with(strict_settings()).await;
    let saved = |url: String| {
        let (engine, site_id) = (rig.engine.clone(), rig.site_id);
        async move { engine.create_webhook(site_id, WebhookChange::read_new(&json!({"url": url}), engine.policy())?).await }
    };
    for literal in ["127.0.0.1", "0x7f.1", "2130706433", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        let refused = saved(format!("http://{literal}/")).await;
        assert!(matches!(&refused, Err(ManageError::Invalid(invalid)) if invalid.errors().contains_key("url")), "{literal}");
    }
    for addresses in REFUSED {
        rig.names.set("hooks.example", addresses);
        let refused = saved("http://hooks.example/".to_owned()).await;
        assert!(matches!(&refused, Err(ManageError::Invalid(invalid)) if invalid.errors().contains_key("url")), "{addresses:?}");
    }
    assert!(rig.site().webhooks.is_empty());
}

#[tokio::test]
async fn a_name_that_later_means_a_refused_address_is_a_dead_letter_that_reaches_nobody() {
    for addresses in REFUSED {
        let (mut receiver, rig) = (Receiver::start().await, Rig::start_with(strict_settings()).await);
        rig.names.set("hooks.example", &["8.8.8.8"]);
        rig.webhook(json!({"url": receiver.url_at("hooks.example"), "triggers": ["goal_completion"]})).await;
        rig.names.set("hooks.example", addresses);
        rig.complete().await;
        let (status, code, error) = ended(&rig).await;
        assert_eq!((status, code), (Status::Failed, None), "{addresses:?}");
        assert!(error.starts_with("the address ") && is_a_sentence_for_people(&error), "{error}");
        rig.pass(seconds(100)).await;
        let detail = rig.latest(rig.site().webhooks[0].webhook.id).await;
        assert_eq!((detail.attempts.len(), receiver.so_far().len()), (1, 0), "{addresses:?}");
    }
}

#[tokio::test]
async fn an_address_in_the_url_is_checked_again_when_it_is_sent_to() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    rig.settings = strict_settings();
    rig.restart().await;
    rig.complete().await;
    let expected = "the address 127.0.0.1 is loopback; BELLWETHER_ALLOW_NETWORKS can allow it";
    assert_eq!(ended(&rig).await, (Status::Failed, None, expected.to_owned()));
    assert!(receiver.so_far().is_empty());
}

#[tokio::test]
async fn too_many_addresses_are_not_trusted() {
    let rig = Rig::start().await;
    rig.names.set("hooks.example", &["127.0.0.1"; 17]);
    rig.webhook(json!({"url": "http://hooks.example/", "triggers": ["goal_completion"]})).await;
    rig.complete().await;
    let expected = "the name hooks.example cannot be resolved: it has more than 16 addresses";
    assert_eq!(ended(&rig).await, (Status::Retrying, None, expected.to_owned()));
}

#[tokio::test]
async fn the_next_address_is_tried_when_nobody_listens_at_the_first() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.names.set("hooks.example", &["127.0.0.2", "127.0.0.1"]);
    rig.webhook(json!({"url": receiver.url_at("hooks.example"), "triggers": ["goal_completion"]})).await;
    rig.complete().await;
    assert_eq!(ended(&rig).await.0, Status::Success);
    assert_eq!(receiver.so_far().len(), 1);
}

#[tokio::test]
async fn nobody_sets_a_header_that_is_sent_anyway() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    rig.complete().await;
    rig.engine.drained().await;
    let sent = receiver.so_far().remove(0).headers;
    assert!(sent.contains_key("x-webhook-version"));
    for name in sent.keys() {
        let fields = json!({"url": receiver.url(), "headers": {name.as_str(): "mine"}});
        let refused = WebhookChange::read_new(&fields, rig.engine.policy()).expect_err(name.as_str());
        assert_eq!(refused.to_string(), format!("headers.{name} is reserved and can't be set"));
    }
}
