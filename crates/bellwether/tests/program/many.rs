//! Three servers on one database under load: each is killed, paused and cut off from the database in turn, and the database itself
//! crashes twice. Everything that was answered arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use bellwether_testkit::cable::Cable;
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;
use tokio_postgres::NoTls;

use crate::support::{Client, Home, SITE, is_signed, json, secret, within};

/// How long a server is paused or cut off: longer than it takes others to take over what it held.
const AWAY: Duration = Duration::from_secs(50);
/// Events of each connection follow each other in this time.
const PACE: Duration = Duration::from_millis(20);
const CONNECTIONS_PER_SERVER: usize = 2;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const RETRY_SECONDS: [u32; 20] = [1; 20];
/// How long everything may take to arrive, once all is well again: what was held by the dead waits for their leases.
const CALM: Duration = Duration::from_secs(100);

/// A PostgreSQL server of this test's own, which may crash.
struct Database {
    script: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Database {
    async fn start() -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-postgres");
        let mut script =
            Command::new(script).arg("--obey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a server");
        let (orders, answers) = (script.stdin.take().expect("an input"), script.stdout.take().expect("an output"));
        let (mut answers, mut url) = (BufReader::new(answers), String::new());
        within("the start of PostgreSQL", answers.read_line(&mut url)).await.expect("a line");
        let address = url.trim_end().strip_prefix("postgres://postgres@").and_then(|address| address.parse().ok());
        let database = Self { script, orders, answers, address: address.unwrap_or_else(|| panic!("{url:?} is no URL")) };
        let (client, connection) =
            tokio_postgres::connect(&url_of(database.address, "postgres"), NoTls).await.expect("PostgreSQL");
        let make = async { client.batch_execute("CREATE DATABASE bellwether").await.expect("a database") };
        tokio::select! {
            () = make => {}
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
        database
    }

    /// It ends without warning, and comes back.
    async fn crash(&mut self) {
        self.orders.write_all(b"crash\n").await.expect("an order");
        let mut answer = String::new();
        within("a crash", self.answers.read_line(&mut answer)).await.expect("a line");
        assert_eq!(answer, "done\n");
    }

    /// It is gone, with all its data.
    async fn end(mut self) {
        drop(self.orders);
        within("the end of PostgreSQL", self.script.wait()).await.expect("an end");
    }
}

fn url_of(address: SocketAddr, name: &str) -> String {
    format!("postgres://postgres@{address}/{name}?sslmode=disable")
}

/// What was answered, by all servers.
#[derive(Default)]
struct Load {
    next: AtomicU64,
    answered: Mutex<BTreeSet<u64>>,
    refused: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    /// Sends events to one server after the other, until it is over. What is not answered with 202 was not promised.
    async fn run(&self, client: &Client) {
        let mut pace = tokio::time::interval(PACE);
        while !self.is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            match client.event(json!({"n": "Signup", "p": {"number": number}})).await {
                Ok(StatusCode::ACCEPTED) => drop(self.answered.lock().expect("no panic").insert(number)),
                Ok(StatusCode::SERVICE_UNAVAILABLE) | Err(_) => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
                Ok(status) => panic!("an event was answered with {status}"),
            }
        }
    }
}

/// How often each event arrived, and under which id.
#[derive(Default)]
struct Arrivals(BTreeMap<u64, (String, usize)>);

impl Arrivals {
    fn add(&mut self, webhook: &Received) {
        let number = json(webhook)["data"]["props"]["number"].as_str().and_then(|number| number.parse().ok());
        let (number, id) = (number.expect("a number"), webhook.header("webhook-id"));
        let (known, times) = self.0.entry(number).or_insert_with(|| (id.to_owned(), 0));
        assert_eq!(known, id, "the event {number} arrived under two ids");
        *times += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_however_servers_and_their_database_fail() {
    let (mut database, mut receiver) = (Database::start().await, Receiver::start().await);
    let cable = Cable::lay(database.address).await;
    let direct = url_of(database.address, "bellwether");
    let homes = [Home::on(&direct), Home::on(&direct), Home::on(&url_of(cable.address(), "bellwether"))];
    let [killed, paused, cut] = [homes[0].serve().await, homes[1].serve().await, homes[2].serve().await];
    let client = homes[0].client(&killed).await;
    let webhook = json!({"url": receiver.url(), "triggers": ["goal_completion"], "retry_schedule": RETRY_SECONDS});
    let webhook = client.set_up_with(&[json!({"event_name": "Signup"})], webhook).await;
    let secret = secret(&webhook);
    let others = [&paused, &cut].map(|server| client.moved_to(server.address));
    knows_the_webhook(&others, &webhook).await;

    let load = Load::default();
    let clients = others.iter().chain([&client]);
    let connections =
        clients.flat_map(|client| std::iter::repeat_n(client, CONNECTIONS_PER_SERVER)).map(|client| load.run(client));
    let trouble = async {
        let begun = Instant::now();
        let at = |seconds| tokio::time::sleep_until(begun + Duration::from_secs(seconds));
        receiver.hold();
        at(1).await;
        killed.signal("KILL");
        receiver.release();
        let again = homes[0].serve().await;
        let moved = client.moved_to(again.address);
        let rest = async {
            // Something is under way, and more waits in memory, when it happens.
            receiver.hold();
            at(3).await;
            paused.signal("STOP");
            at(4).await;
            cable.cut();
            at(5).await;
            receiver.release();
            at(8).await;
            database.crash().await;
            at(3 + AWAY.as_secs()).await;
            paused.signal("CONT");
            at(4 + AWAY.as_secs()).await;
            cable.mend();
            at(8 + AWAY.as_secs()).await;
            database.crash().await;
            at(10 + AWAY.as_secs()).await;
            load.is_over.store(true, Ordering::Relaxed);
        };
        tokio::join!(rest, load.run(&moved));
        again
    };
    let (again, _) = tokio::join!(trouble, futures_util::future::join_all(connections));

    let client = client.moved_to(again.address);
    let calm = async {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        while client.count(&webhook, "pending").await + client.count(&webhook, "retrying").await > 0 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(CALM, calm).await.expect("the end of all deliveries");
    let mut arrivals = Arrivals::default();
    for webhook in receiver.so_far() {
        assert!(is_signed(&webhook, &secret), "{webhook:?}");
        arrivals.add(&webhook);
    }
    let answered = load.answered.lock().expect("no panic").clone();
    let lost: Vec<_> = answered.iter().filter(|number| !arrivals.0.contains_key(number)).collect();
    assert!(lost.is_empty(), "answered, but never arrived: {lost:?}");
    assert_eq!(client.count(&webhook, "success").await, arrivals.0.len() as u64);
    let ids: BTreeSet<_> = arrivals.0.values().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), arrivals.0.len(), "two events arrived under one id");
    let twice = arrivals.0.values().filter(|(_, times)| *times > 1).count();
    say(&format!(
        "many: {} events answered with 202, all arrived; {} were refused or not answered, {} of which arrived; {twice} arrived twice \
         or more, under the same id ({:.2} %)",
        answered.len(),
        load.refused.load(Ordering::Relaxed),
        arrivals.0.len() - answered.len(),
        100.0 * twice as f64 / arrivals.0.len() as f64,
    ));
    for server in [again, paused, cut] {
        server.stop().await;
    }
    database.end().await;
    for home in &homes[1..] {
        assert!(home.log().contains("others have taken this process for dead"), "{}", home.log());
    }
}

/// Waits until servers know what was configured through another.
async fn knows_the_webhook(clients: &[Client], webhook: &serde_json::Value) {
    let path = format!("/sites/{SITE}/webhooks/{}", webhook["id"].as_str().expect("an id"));
    for client in clients {
        let known = async {
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            while !client.finds(&path).await {
                looks.tick().await;
            }
        };
        within("word of the webhook", known).await;
    }
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
