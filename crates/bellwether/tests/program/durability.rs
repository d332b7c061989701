//! What a 202 is worth: the server is killed again and again in the middle of a load, and everything it had answered arrives, at a
//! webhook that gets each event by itself, and at another that gets them in batches.
//!
//! Two environment variables make more of it, as `scripts/soak` does: `SOAK_ROUNDS` is how often the server is killed, and
//! `SOAK_SEED` a number that the moments follow from.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use bellwether_domain::signature::Secret;
use bellwether_testkit::receiver::{Received, Receiver};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::support::{Client, Home, is_signed, json, secret, within};

/// Without `SOAK_ROUNDS`: as many as the tests have time for.
const ROUNDS: u64 = 40;
/// Without `SOAK_SEED`: the tests are the same each time.
const SEED: u64 = 1;
/// After how many answers the server is killed in the first rounds: at once, and after the first few.
const EARLY: [usize; 5] = [0, 1, 2, 3, 5];
/// At most so many answers are waited for.
const MAX_ANSWERS: f64 = 1_000.0;
/// How many of the kills come at a time, whatever the server does then. The others wait for answers.
const SHARE_AT_A_TIME: f64 = 0.25;
/// Such a kill comes within this time after the start.
const MAX_MILLISECONDS: f64 = 300.0;
/// How many events are on their way at a time.
const CONNECTIONS: usize = 16;
/// How many webhooks of each round are refused, every other one, so that retries wait when the server is killed.
const REFUSED: usize = 3;
/// So many retries that nothing is given up, although the same delivery may be refused in one round after the other.
const RETRY_SECONDS: [u32; 20] = [1; 20];
/// So few go into a batch, and wait for each other so long, that kills come before it is full, while it is sent, and after that.
const MAX_EVENTS: usize = 10;
const MAX_WAIT_SECONDS: usize = 1;
/// How often a long run tells how far it is.
const ROUNDS_PER_LINE: u64 = 50;

/// When the server is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// When so many events have been answered.
    Answers(usize),
    /// So long after its start. It may not even listen by then.
    Time(Duration),
}

/// Events with numbers of their own, over all rounds.
#[derive(Default)]
struct Load {
    next: AtomicU64,
    unanswered: AtomicU64,
    /// Since they were last counted.
    answered: Mutex<Vec<u64>>,
}

/// What was promised and what has arrived at a webhook, over all rounds.
struct Tally {
    secret: Secret,
    is_batched: bool,
    kills: u64,
    /// Those before the server listened.
    early_kills: u64,
    answered: usize,
    /// Events that were answered and have not arrived.
    open: BTreeSet<u64>,
    /// How many of all were so at a kill.
    open_at_kills: usize,
    arrived: BTreeMap<u64, Arrival>,
}

/// An event that has reached the receiver.
struct Arrival {
    /// Of the event, or of the batch that it came in.
    webhook_id: String,
    /// How often it was taken; a request that is refused is not.
    times: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_that_was_answered_arrives_however_often_the_server_is_killed() {
    let (rounds, seed) = (variable("SOAK_ROUNDS", ROUNDS), variable("SOAK_SEED", SEED));
    say(&format!("durability: {rounds} rounds, seed {seed}"));
    let (home, mut receiver) = (Home::new(), Receiver::start().await);
    let server = home.serve().await;
    let client = home.client(&server).await;
    let webhook = json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": RETRY_SECONDS});
    let webhook = client.set_up_with(&[json!({"event_name": "Signup"})], webhook).await;
    let mut together = Receiver::start().await;
    let batch = json!({"max_events": MAX_EVENTS, "max_wait_seconds": MAX_WAIT_SECONDS});
    let batched = client
        .create_webhook(
            json!({"url": together.url(), "triggers": ["goal_completion"], "retry_schedule": RETRY_SECONDS, "batch": batch}),
        )
        .await;
    server.stop().await;

    let (load, mut tally) = (Load::default(), Tally::new(secret(&webhook), false));
    let mut batches = Tally::new(secret(&batched), true);
    for moment in moments(seed).take(usize::try_from(rounds).expect("a number of rounds")) {
        for receiver in [&mut receiver, &mut together] {
            receiver.behave(200);
            receiver.behave_next([503, 200].repeat(REFUSED));
        }
        let has_listened = load.until(moment, &home, &client).await;
        let answered = load.take_answered();
        for (tally, receiver) in [(&mut tally, &mut receiver), (&mut batches, &mut together)] {
            tally.add_kill(has_listened);
            tally.add(&answered, receiver.so_far());
        }
        if tally.kills.is_multiple_of(ROUNDS_PER_LINE) {
            say(&format!("durability: {} kills, {} events answered", tally.kills, tally.answered));
        }
    }

    let server = home.serve().await;
    let client = client.moved_to(server.address);
    // What waits goes out in turn: with the batch of this one all that was kept before has gone out, whether it was answered or not.
    assert!(load.send(&client).await);
    let last = load.take_answered();
    tally.add(&last, Vec::new());
    batches.add(&last, Vec::new());
    while !batches.open.is_empty() {
        batches.add(&[], vec![together.next().await]);
    }
    for (webhook, tally, receiver) in [(&webhook, &mut tally, &mut receiver), (&batched, &mut batches, &mut together)] {
        let delivered = client.settled(webhook).await;
        tally.add(&[], receiver.so_far());
        assert!(tally.open.is_empty(), "answered, but never arrived: {:?} (seed {seed})", tally.open);
        assert_eq!(delivered, tally.ids().len() as u64);
        for status in ["failed", "cancelled"] {
            assert_eq!(client.count(webhook, status).await, 0, "{status}");
        }
    }
    server.stop().await;
    tally.report(&load, seed);
    batches.report(&load, seed);
}

/// When the server is killed, round after round.
fn moments(seed: u64) -> impl Iterator<Item = Moment> {
    let mut random = StdRng::seed_from_u64(seed);
    let later = std::iter::repeat_with(move || {
        // As often from 1 to 10 as from 10 to 100, since there is most to be hit in the beginning.
        let mut up_to = |most: f64| most.powf(random.random_range(0.0..1.0));
        let (answers, milliseconds) = (up_to(MAX_ANSWERS), up_to(MAX_MILLISECONDS));
        if random.random_bool(SHARE_AT_A_TIME) {
            Moment::Time(Duration::from_secs_f64(milliseconds / 1_000.0))
        } else {
            Moment::Answers(answers as usize)
        }
    });
    EARLY.map(Moment::Answers).into_iter().chain(later)
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}: {value:?} is no number")))
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}

impl Load {
    /// Starts the server, and sends it events until it is killed at that moment. Whether it listened by then.
    async fn until(&self, moment: Moment, home: &Home, client: &Client) -> bool {
        let (started, mut process) = (Instant::now(), home.launch(home.command(&["serve"])));
        let address = match moment {
            Moment::Answers(_) => Some(process.listens().await),
            Moment::Time(time) => timeout_at(started + time, process.listens()).await.ok(),
        };
        let Some(address) = address else {
            process.kill().await;
            return false;
        };
        let (client, count) = (client.moved_to(address), watch::Sender::new(0));
        let kill = async {
            match moment {
                Moment::Answers(answers) => has_come_to(answers, &count).await,
                Moment::Time(time) => sleep_until(started + time).await,
            }
            process.kill().await;
        };
        tokio::join!(kill, self.run(&client, &count));
        true
    }

    /// Sends events until the server is gone; `count` tells how many were answered.
    async fn run(&self, client: &Client, count: &watch::Sender<usize>) {
        let connection = || async {
            while self.send(client).await {
                count.send_modify(|count| *count += 1);
            }
        };
        let connections: [_; CONNECTIONS] = std::array::from_fn(|_| connection());
        futures_util::future::join_all(connections).await;
    }

    /// Sends an event. Whether it was answered.
    async fn send(&self, client: &Client) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let event = json!({"n": "Signup", "p": {"number": number}});
        let Ok(status) = client.event(event).await else {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        assert_eq!(status, StatusCode::ACCEPTED);
        self.answered.lock().expect("no panic").push(number);
        true
    }

    fn take_answered(&self) -> Vec<u64> {
        std::mem::take(&mut self.answered.lock().expect("no panic"))
    }
}

async fn has_come_to(answers: usize, count: &watch::Sender<usize>) {
    within("the answers", count.subscribe().wait_for(|count| *count >= answers)).await.expect("a count");
}

impl Tally {
    fn new(secret: Secret, is_batched: bool) -> Self {
        let (open, arrived) = (BTreeSet::new(), BTreeMap::new());
        Self { secret, is_batched, kills: 0, early_kills: 0, answered: 0, open, open_at_kills: 0, arrived }
    }

    fn add_kill(&mut self, has_listened: bool) {
        self.kills += 1;
        self.early_kills += u64::from(!has_listened);
    }

    /// Counts what was answered and what has arrived since the last time, after a kill.
    fn add(&mut self, answered: &[u64], webhooks: Vec<Received>) {
        webhooks.iter().for_each(|webhook| self.add_arrival(webhook));
        self.answered += answered.len();
        let newly_open: Vec<_> = answered.iter().copied().filter(|number| !self.has_arrived(*number)).collect();
        self.open_at_kills += newly_open.len();
        let still_open = std::mem::take(&mut self.open).into_iter().filter(|number| !self.has_arrived(*number));
        self.open = still_open.chain(newly_open).collect();
    }

    fn has_arrived(&self, number: u64) -> bool {
        self.arrived.get(&number).is_some_and(|arrival| arrival.times > 0)
    }

    /// What arrives again must bear the same id, and be in the same batch.
    fn add_arrival(&mut self, webhook: &Received) {
        assert!(is_signed(webhook, &self.secret), "{webhook:?}");
        let (body, id) = (json(webhook), webhook.header("webhook-id"));
        let events = if self.is_batched { body["events"].as_array().expect("events").clone() } else { vec![body] };
        assert!(events.len() <= MAX_EVENTS, "{} in a batch", events.len());
        for event in events {
            let number = event["data"]["props"]["number"].as_str().and_then(|number| number.parse().ok()).expect("a number");
            let arrival = self.arrived.entry(number).or_insert_with(|| Arrival { webhook_id: id.to_owned(), times: 0 });
            assert_eq!(arrival.webhook_id, id, "the event {number} arrived under two ids");
            arrival.times += usize::from(webhook.answered == Some(200));
        }
    }

    /// Of events, or of batches.
    fn ids(&self) -> HashSet<&str> {
        self.arrived.values().map(|arrival| arrival.webhook_id.as_str()).collect()
    }

    /// Tells what this has shown, once everything has arrived.
    fn report(&self, load: &Load, seed: u64) {
        let requests = self.ids().len();
        assert_eq!(requests < self.arrived.len(), self.is_batched, "two events arrived under one id, or none in a batch");
        let Self { kills, early_kills, answered, open_at_kills, .. } = self;
        let unanswered = load.unanswered.load(Ordering::Relaxed);
        let (arrived, again) = (self.arrived.len(), self.arrived.values().filter(|arrival| arrival.times > 1).count());
        let share = 100.0 * again as f64 / arrived as f64;
        say(&format!(
            "durability, under {requests} ids: {kills} kills, {early_kills} of them before the server listened; {answered} events answered with 202, all \
             arrived, {open_at_kills} of them still to come at a kill; {unanswered} events unanswered at a kill, {} of which \
             arrived; {again} arrived twice or more, under the same id ({share:.1} %); seed {seed}",
            arrived - answered
        ));
        assert!(*open_at_kills > 0, "no kill came between an answer and its arrival: this has shown nothing");
    }
}

#[test]
fn the_moments_of_a_seed_are_always_the_same_and_of_both_kinds() {
    let moments_of = |seed| moments(seed).take(200).collect::<Vec<_>>();
    assert_eq!(moments_of(7), moments_of(7));
    assert_ne!(moments_of(7), moments_of(8));
    let at_a_time = moments_of(7).iter().filter(|moment| matches!(moment, Moment::Time(_))).count();
    assert!((20..=80).contains(&at_a_time), "{at_a_time} of 200");
}
