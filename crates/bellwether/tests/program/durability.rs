//! What a 202 is worth: the server is killed again and again in the middle of a load, and everything it had answered arrives.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use bellwether_domain::signature::Secret;
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{Client, Home, is_signed, json, secret, within};

/// After how many answers the server is killed, round after round: at once, after the first few, in the thick of it.
const KILLED_AFTER: [usize; 40] = [
    0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 0, 300, 150, 75, 37, 18, 500, 250, 125, 62, 31, 0, 999, 400, 200,
    100, 50, 25, 12, 6, 700, 350, 175, 87, 43,
];
/// How many events are on their way at a time.
const CONNECTIONS: usize = 16;
/// How many webhooks of each round are refused, so that retries wait when the server is killed.
const REFUSED: usize = 5;

/// Events with numbers of their own, over all rounds.
#[derive(Default)]
struct Load {
    next: AtomicU64,
    unanswered: AtomicU64,
    answered: Mutex<BTreeSet<u64>>,
}

/// What has arrived, over all rounds.
struct Arrivals {
    secret: Secret,
    requests: usize,
    /// The webhook ids that each event has arrived under: one.
    ids: BTreeMap<u64, String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_that_was_answered_arrives_however_often_the_server_is_killed() {
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let client = home.client(&server).await;
    let webhook = client.set_up(&[json!({"event_name": "Signup"})], &receiver.url()).await;
    server.stop().await;

    let (load, mut arrivals, mut open_at_kills) = (Load::default(), Arrivals::new(secret(&webhook)), 0);
    for answers in KILLED_AFTER {
        receiver.behave_next([503; REFUSED]);
        let server = home.serve().await;
        let client = client.moved_to(server.address);
        let count = watch::Sender::new(0);
        let kill = async {
            within("the answers", count.subscribe().wait_for(|count| *count >= answers)).await.expect("a count");
            server.kill().await;
        };
        tokio::join!(kill, load.run(&client, &count));
        receiver.so_far().iter().for_each(|webhook| arrivals.add(webhook));
        open_at_kills += arrivals.missing(&load).len();
    }

    let server = home.serve().await;
    let client = client.moved_to(server.address);
    let delivered = client.settled(&webhook).await;
    receiver.so_far().iter().for_each(|webhook| arrivals.add(webhook));
    assert!(arrivals.missing(&load).is_empty(), "answered, but never arrived: {:?}", arrivals.missing(&load));
    assert_eq!(delivered, arrivals.ids.len() as u64);
    for status in ["failed", "cancelled"] {
        assert_eq!(client.count(&webhook, status).await, 0, "{status}");
    }
    server.stop().await;
    report(&load, &arrivals, open_at_kills);
    assert!(open_at_kills > 0, "no kill came between an answer and its arrival: this has shown nothing");
}

impl Load {
    /// Sends events until the server is gone; `count` tells how many were answered.
    async fn run(&self, client: &Client, count: &watch::Sender<usize>) {
        let connection = || async {
            loop {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                let event = json!({"n": "Signup", "p": {"number": number}});
                let Ok(status) = client.event(event).await else {
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                assert_eq!(status, StatusCode::ACCEPTED);
                self.answered.lock().expect("no panic").insert(number);
                count.send_modify(|count| *count += 1);
            }
        };
        let connections: [_; CONNECTIONS] = std::array::from_fn(|_| connection());
        futures_util::future::join_all(connections).await;
    }

    fn answered(&self) -> BTreeSet<u64> {
        self.answered.lock().expect("no panic").clone()
    }
}

impl Arrivals {
    fn new(secret: Secret) -> Self {
        Self { secret, requests: 0, ids: BTreeMap::new() }
    }

    /// What arrives again must bear the same id.
    fn add(&mut self, webhook: &Received) {
        assert!(is_signed(webhook, &self.secret), "{webhook:?}");
        let number = json(webhook)["data"]["props"]["number"].as_str().and_then(|number| number.parse().ok());
        let (number, id) = (number.expect("a number"), webhook.header("webhook-id").to_owned());
        self.requests += 1;
        let first = self.ids.entry(number).or_insert_with(|| id.clone());
        assert_eq!(*first, id, "the event {number} arrived under two ids");
    }

    /// Events that were answered and have not arrived.
    fn missing(&self, load: &Load) -> Vec<u64> {
        load.answered().into_iter().filter(|number| !self.ids.contains_key(number)).collect()
    }
}

fn report(load: &Load, arrivals: &Arrivals, open_at_kills: usize) {
    let ids: HashSet<_> = arrivals.ids.values().collect();
    assert_eq!(ids.len(), arrivals.ids.len(), "two events arrived under one id");
    let (kills, answered, arrived) = (KILLED_AFTER.len(), load.answered().len(), arrivals.ids.len());
    let unanswered = load.unanswered.load(Ordering::Relaxed);
    let again = arrivals.requests - arrived - kills * REFUSED;
    let share = 100.0 * again as f64 / arrived as f64;
    let line = format!(
        "durability: {kills} kills; {answered} events answered with 202, all arrived, {open_at_kills} of them still to come at a kill; \
         {unanswered} events unanswered at a kill, {} of which arrived; {again} arrived again under their id ({share:.1} %)",
        arrived - answered
    );
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
