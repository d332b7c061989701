//! What endpoints do wrong, and what that costs: each says its own in the history, and nobody else feels it.
//!
//! All of them get the same event from one server at the same time, so that this takes as long as its slowest.

use std::any::Any;
use std::time::Duration;

use axum::http::StatusCode;
use bellwether_domain::delivery::MAX_RECORDED_BODY_BYTES;
use bellwether_domain::time::Timestamp;
use bellwether_testkit::receiver::{Answer, Behaviour, Receiver};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};

use crate::support::{Client, Home, SITE, Server, within};

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How soon a webhook arrives where nothing is wrong, whatever others do.
const PROMPTLY: Duration = Duration::from_secs(5);
/// How long an attempt takes at most: the time limit of a whole answer, and some for a machine that is busy.
const MAX_DURATION_MS: u64 = 15_000 + 3_000;
/// What the server may have had in memory in the end. All that these endpoints send at once is far more.
const MAX_MEMORY_KIB: u64 = 150 * 1024;
/// When the next attempt comes where the endpoint does not say: long after the test.
const RETRY_SECONDS: u64 = 3_600;
/// How much longer the program may wait than it was told to, at random.
const JITTER: f64 = 0.2;
/// The first bytes of a gzip file. Every further byte of 0x55 makes 1,032 bytes of it.
const BOMB: [u8; 25] = [31, 139, 8, 0, 0, 0, 0, 0, 0, 255, 98, 0, 180, 3, 7, 2, 0, 0, 0, 0, 64, 254, 175, 141, 80];
const BOMB_BYTES: usize = 4 * 1024 * 1024;

/// Something that an endpoint does, and what the history says about it.
struct Fault {
    name: &'static str,
    endpoint: Endpoint,
    expected: Expected,
}

/// Who is behind a URL.
enum Endpoint {
    /// A receiver that does this with a request.
    Receiver(Behaviour),
    /// A receiver whose certificate nobody vouches for.
    Untrusted,
    /// A receiver that is addressed with `https` and speaks plain HTTP.
    SpokenToInTls,
    /// A receiver that is addressed with `http` and speaks TLS.
    SpokenToWithoutTls,
    /// Somebody who takes connections, and never says a word in the handshake.
    Silent,
    /// A port where nobody listens.
    Nobody,
    /// A name that nobody has. It is one of those that no resolver asks others about.
    NoName,
}

/// What the history says after the first attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    status: &'static str,
    code: Option<u16>,
    /// What follows `…` is left open.
    error: Option<&'static str>,
    /// When it is tried again, if it is.
    wait_seconds: Option<u64>,
    /// How the recorded body begins.
    body: &'static str,
}

/// A fault at work: an endpoint with a webhook of its own.
struct Trial {
    fault: &'static str,
    expected: Expected,
    path: String,
    /// The endpoint, as long as it is needed.
    _endpoint: Box<dyn Any + Send>,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_endpoints_do_is_recorded_and_nobody_else_feels_it() {
    let (home, mut well_behaved, mut elsewhere) = (Home::new(), Receiver::start().await, Receiver::start().await);
    let mut command = home.command(&["serve"]);
    command.env("BELLWETHER_MAX_WEBHOOKS_PER_SITE", "1000");
    let server = home.start(command).await;
    let client = home.client(&server).await;
    client.set_up(&[json!({"event_name": "Signup"}), json!({"event_name": "Purchase"})], &well_behaved.url()).await;
    let signup = client.get(&format!("/sites/{SITE}/goals")).await["goals"][0].take();
    assert_eq!(signup["event_name"], "Signup");
    let mut trials = Vec::new();
    for fault in faults(&elsewhere.url()) {
        trials.push(Trial::begin(fault, &client, &signup["id"]).await);
    }

    let open_files = server.open_files();
    arrives_promptly("Signup", &client, &mut well_behaved).await;
    let mut wrong = Vec::new();
    for trial in &trials {
        wrong.extend(trial.end(&client).await.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(elsewhere.so_far().is_empty(), "a redirect was followed");
    arrives_promptly("Purchase", &client, &mut well_behaved).await;
    // Endpoints that have answered close what is kept for the next request, and so does the client. The others would not: nothing
    // may be kept of them.
    trials.retain(|trial| trial.expected.code.is_none());
    drop(client);
    within("the end of the connections", has_no_more_open(open_files, &server)).await;
    let memory_kib = server.peak_memory_kib();
    assert!(memory_kib < MAX_MEMORY_KIB, "the server has had {memory_kib} KiB in memory");
    server.stop().await;
}

/// All of them. `elsewhere` is a URL that nothing may be sent to.
fn faults(elsewhere: &str) -> Vec<Fault> {
    let tables = [
        refusals(),
        retries_at_a_time(),
        redirects(elsewhere),
        heads(),
        bodies(),
        endless_answers(),
        slow_answers(),
        connections(),
    ];
    tables.into_iter().flatten().collect()
}

fn refusals() -> Vec<Fault> {
    vec![
        fault("answers 500", 500, retried(500, "the endpoint answered 500")),
        fault("answers 503", 503, retried(503, "the endpoint answered 503")),
        fault("answers 408", 408, retried(408, "the endpoint answered 408")),
        fault("answers 425", 425, retried(425, "the endpoint answered 425")),
        fault("answers 429", 429, retried(429, "the endpoint answered 429")),
        fault("answers 400", 400, failed(400, "the endpoint answered 400")),
        fault("answers 404", 404, failed(404, "the endpoint answered 404")),
        fault("answers 410", 410, failed(410, "the endpoint answered 410: it is gone")),
        fault("answers 999", 999, failed(999, "the endpoint answered 999")),
        fault("wants another protocol", 101, failed(101, "the endpoint answered 101")),
    ]
}

fn retries_at_a_time() -> Vec<Fault> {
    let later = |status, seconds: &str| Answer::with(status, "Retry-After", seconds);
    vec![
        fault("answers 429 with a time", later(429, "20000"), retried(429, "the endpoint answered 429").after(20_000)),
        fault("answers 503 with a time", later(503, "20000"), retried(503, "the endpoint answered 503").after(20_000)),
        fault("answers 503 with a year", later(503, "31536000"), retried(503, "the endpoint answered 503").after(86_400)),
        fault("answers 503 with less", later(503, "0"), retried(503, "the endpoint answered 503")),
        fault("answers 429 with no time", later(429, "in a while"), retried(429, "the endpoint answered 429")),
        fault("answers 500 with a time", later(500, "20000"), retried(500, "the endpoint answered 500")),
        fault("answers 404 with a time", later(404, "20000"), failed(404, "the endpoint answered 404")),
    ]
}

fn redirects(elsewhere: &str) -> Vec<Fault> {
    let to = |status| Answer::with(status, "Location", elsewhere);
    vec![
        fault("redirects with 301", to(301), failed(301, "the endpoint answered 301; redirects are not followed")),
        fault("redirects with 302", to(302), failed(302, "the endpoint answered 302; redirects are not followed")),
        fault("redirects with 303", to(303), failed(303, "the endpoint answered 303; redirects are not followed")),
        fault("redirects with 307", to(307), failed(307, "the endpoint answered 307; redirects are not followed")),
        fault("redirects with 308", to(308), failed(308, "the endpoint answered 308; redirects are not followed")),
        fault("has made something elsewhere", to(201), arrived(201)),
    ]
}

fn heads() -> Vec<Fault> {
    let with = |name, value: &str| Answer::with(200, name, value);
    let headers = |count| Answer { status: 200, headers: vec![("x-filler", "x".to_owned()); count], body: Vec::new() };
    vec![
        fault("resets the connection", Behaviour::Reset, unreached("the connection was reset")),
        fault("closes the connection", Behaviour::Close, unreached("the connection was closed before an answer came")),
        fault("breaks off in the head", Behaviour::HalfAHead, unreached("the connection was closed before an answer came")),
        fault(
            "speaks another protocol",
            Behaviour::Gibberish,
            unreached("the answer is no proper HTTP: invalid HTTP version parsed"),
        ),
        fault(
            "answers without a head",
            Behaviour::BodyWithoutHead,
            unreached("the answer is no proper HTTP: invalid HTTP version parsed"),
        ),
        fault(
            "has a header of a megabyte",
            with("x-filler", &"x".repeat(1_000_000)),
            unreached("the head of the answer is too large, or has more than 100 headers"),
        ),
        // With the length of the content there is one more.
        fault("has as many headers as it may", headers(99), arrived(200)),
        fault(
            "has too many headers",
            headers(100),
            unreached("the head of the answer is too large, or has more than 100 headers"),
        ),
        fault(
            "has two lengths",
            with("Content-Length", "5"),
            unreached("the answer is no proper HTTP: invalid content-length parsed"),
        ),
        fault(
            "has no number as its length",
            with("Content-Length", "-1"),
            unreached("the answer is no proper HTTP: invalid content-length parsed"),
        ),
        fault(
            "has a header without a name",
            with("", "x"),
            unreached("the answer is no proper HTTP: invalid HTTP header parsed"),
        ),
        fault(
            "has a NUL in its head",
            with("x-filler", "\0"),
            unreached("the answer is no proper HTTP: invalid HTTP header parsed"),
        ),
    ]
}

fn bodies() -> Vec<Fault> {
    let with = |body: &[u8]| Answer { status: 200, headers: Vec::new(), body: body.to_vec() };
    let chunked = |body: &[u8]| Answer { headers: vec![("Transfer-Encoding", "chunked".to_owned())], ..with(body) };
    let bomb = Answer { headers: vec![("Content-Encoding", "gzip".to_owned())], ..with(&bomb()) };
    vec![
        fault(
            "breaks off in the body",
            Behaviour::HalfABody,
            unreached("the answer broke off: the connection was closed before its end").with_body("half of"),
        ),
        fault("answers with a compressed bomb", bomb, arrived(200).with_body("\u{1f}\u{fffd}\u{8}\u{fffd}")),
        fault("answers with what is no text", with(b"a\0b\xffc"), arrived(200).with_body("a\u{fffd}b\u{fffd}c")),
        fault("answers with much of what is no text", with(&[0; 100_000]), arrived(200).with_body("\u{fffd}")),
        fault(
            "has a chunk whose length is no number",
            chunked(b"many\r\n"),
            unreached("the body of the answer is no proper HTTP: Invalid chunk size line: missing size digit"),
        ),
        fault(
            "has a chunk whose length is no length",
            chunked(b"fffffffffffffffff\r\n"),
            unreached("the body of the answer is no proper HTTP: invalid chunk size: overflow"),
        ),
        fault(
            "has a chunk that is longer than it says",
            chunked(b"2\r\nabc\r\n0\r\n\r\n"),
            unreached("the body of the answer is no proper HTTP: Invalid chunk body CR").with_body("ab"),
        ),
    ]
}

fn endless_answers() -> Vec<Fault> {
    vec![
        fault(
            "has a head without an end",
            Behaviour::EndlessHead,
            unreached("the head of the answer is too large, or has more than 100 headers"),
        ),
        fault(
            "says to go on without an end",
            Behaviour::EndlessContinue,
            unreached("the endpoint sent more than 16 answers of 1xx, and none that counts"),
        ),
        fault("has a body without an end", Behaviour::EndlessBody, arrived(200).with_body("xxx")),
        fault(
            "has a chunk's extension without an end",
            Behaviour::EndlessExtension,
            unreached("the body of the answer is no proper HTTP: chunk extensions over limit"),
        ),
        fault(
            "has trailers without an end",
            Behaviour::EndlessTrailers,
            unreached("the body of the answer is no proper HTTP: chunk trailers bytes over limit"),
        ),
    ]
}

/// These are given up after the time limit, so they say how long the test takes.
fn slow_answers() -> Vec<Fault> {
    let too_late = unreached("no complete answer within 15 s");
    let unfinished = |status, headers: &[(&'static str, &str)]| {
        let headers = [&[("Transfer-Encoding", "chunked")], headers].concat();
        let headers = headers.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        Answer { status, headers, body: b"4\r\nwait\r\n".to_vec() }
    };
    vec![
        fault("never answers", Behaviour::Hang, too_late),
        fault("sends a head a byte at a time", Behaviour::DrippingHead, too_late),
        fault("sends a body a byte at a time", Behaviour::DrippingBody, too_late),
        fault("stalls at once", Behaviour::StallAfter(0), too_late),
        fault("stalls just before enough is read", Behaviour::StallAfter(64 * 1024 - 1), too_late),
        fault("stalls when enough is read", Behaviour::StallAfter(64 * 1024), arrived(200).with_body("xxx")),
        // What the head says counts.
        fault("stalls in a refusal", unfinished(404, &[]), failed(404, "the endpoint answered 404")),
        fault(
            "stalls in a refusal with a time",
            unfinished(503, &[("Retry-After", "20000")]),
            retried(503, "the endpoint answered 503").after(20_000),
        ),
    ]
}

fn connections() -> Vec<Fault> {
    vec![
        fault("says nothing in the handshake", Endpoint::Silent, unreached("no connection within 5 s")),
        fault(
            "has a certificate that nobody vouches for",
            Endpoint::Untrusted,
            unreached("TLS failed: nobody who is trusted vouches for the certificate; BELLWETHER_CA_FILE can add who does"),
        ),
        fault("is spoken to in TLS and knows none", Endpoint::SpokenToInTls, unreached("TLS failed: …")),
        fault(
            "is spoken to without TLS and wants it",
            Endpoint::SpokenToWithoutTls,
            unreached("the answer is no proper HTTP: invalid HTTP version parsed"),
        ),
        fault("does not listen", Endpoint::Nobody, unreached("connecting failed: Connection refused…")),
        fault(
            "has a name that nobody has",
            Endpoint::NoName,
            unreached("the name nobody.invalid. cannot be resolved: there is no such name"),
        ),
    ]
}

fn fault(name: &'static str, endpoint: impl Into<Endpoint>, expected: Expected) -> Fault {
    Fault { name, endpoint: endpoint.into(), expected }
}

/// More than 4 GB, compressed.
fn bomb() -> Vec<u8> {
    [&BOMB[..], &[0x55; BOMB_BYTES]].concat()
}

fn arrived(code: u16) -> Expected {
    Expected { status: "success", code: Some(code), error: None, wait_seconds: None, body: "" }
}

/// A dead letter.
fn failed(code: u16, error: &'static str) -> Expected {
    Expected { status: "failed", error: Some(error), ..arrived(code) }
}

fn retried(code: u16, error: &'static str) -> Expected {
    Expected { status: "retrying", wait_seconds: Some(RETRY_SECONDS), ..failed(code, error) }
}

/// Tried again without having been answered.
fn unreached(error: &'static str) -> Expected {
    Expected { code: None, ..retried(0, error) }
}

impl Expected {
    fn after(self, wait_seconds: u64) -> Self {
        Self { wait_seconds: Some(wait_seconds), ..self }
    }

    fn with_body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    /// Whether a delivery says so, and its only attempt too.
    fn is_in(&self, delivery: &Value, attempt: &Value) -> bool {
        delivery["status"] == self.status
            && delivery["response_code"] == json!(self.code)
            && is_error(self.error, delivery["error"].as_str())
            && ["response_code", "error"].iter().all(|name| attempt[name] == delivery[name])
            && recorded_body(attempt).starts_with(self.body)
            && waits(self.wait_seconds, delivery, attempt)
    }
}

impl From<Behaviour> for Endpoint {
    fn from(behaviour: Behaviour) -> Self {
        Self::Receiver(behaviour)
    }
}

impl From<Answer> for Endpoint {
    fn from(answer: Answer) -> Self {
        Self::Receiver(answer.into())
    }
}

impl From<u16> for Endpoint {
    fn from(status: u16) -> Self {
        Self::Receiver(status.into())
    }
}

impl Endpoint {
    /// Its URL, and what it lives in.
    async fn open(self) -> (String, Box<dyn Any + Send>) {
        match self {
            Self::Receiver(behaviour) => {
                let receiver = Receiver::start().await;
                receiver.behave(behaviour);
                (receiver.url(), Box::new(receiver))
            }
            Self::Untrusted => kept(Receiver::start_tls().await, Receiver::url),
            Self::SpokenToInTls => kept(Receiver::start().await, |receiver| receiver.url().replace("http:", "https:")),
            Self::SpokenToWithoutTls => kept(Receiver::start_tls().await, |receiver| receiver.url().replace("https:", "http:")),
            Self::Silent => {
                let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                kept(socket, |socket| format!("https://{}/", socket.local_addr().expect("its number")))
            }
            Self::Nobody => {
                let socket = TcpSocket::new_v4().expect("a socket");
                socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
                kept(socket, |socket| format!("http://{}/", socket.local_addr().expect("its number")))
            }
            Self::NoName => ("http://nobody.invalid./".to_owned(), Box::new(())),
        }
    }
}

fn kept<T: Send + 'static>(it: T, url: impl FnOnce(&T) -> String) -> (String, Box<dyn Any + Send>) {
    (url(&it), Box::new(it))
}

impl Trial {
    /// Adds a webhook that hears of the goal.
    async fn begin(fault: Fault, client: &Client, goal_id: &Value) -> Self {
        let (url, endpoint) = fault.endpoint.open().await;
        let triggers = json!([{"type": "goal_completion", "goal_id": goal_id}]);
        let webhook = json!({"url": url, "name": fault.name, "triggers": triggers, "retry_schedule": [RETRY_SECONDS]});
        let webhook = client.create_webhook(webhook).await;
        let path = format!("/sites/{SITE}/webhooks/{}/deliveries", webhook["id"].as_str().expect("an id"));
        Self { fault: fault.name, expected: fault.expected, path, _endpoint: endpoint }
    }

    /// Waits for the first attempt; an error says what the history says instead of what it should.
    async fn end(&self, client: &Client) -> Result<(), String> {
        let delivery = within(self.fault, self.tried(client)).await;
        let is_right = match delivery["attempts"].as_array().expect("attempts").as_slice() {
            [attempt] => self.expected.is_in(&delivery, attempt) && is_bounded(attempt),
            _ => false,
        };
        let seen =
            ["status", "response_code", "error", "next_attempt_at", "attempts"].map(|name| format!("{name} {}", delivery[name]));
        if is_right { Ok(()) } else { Err(format!("{}: {:?}, but {}", self.fault, self.expected, seen.join(", "))) }
    }

    /// The only delivery, as soon as it has been tried.
    async fn tried(&self, client: &Client) -> Value {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            looks.tick().await;
            let page = client.get(&self.path).await;
            let tried = page["deliveries"].as_array().expect("deliveries").iter().find(|one| one["attempt_count"] != 0);
            if let Some(id) = tried.and_then(|delivery| delivery["id"].as_str()) {
                return client.get(&format!("{}/{id}", self.path)).await["delivery"].take();
            }
        }
    }
}

/// Whether that is the error, or how it begins where `…` follows.
fn is_error(expected: Option<&str>, error: Option<&str>) -> bool {
    match (expected.and_then(|expected| expected.strip_suffix('…')), error) {
        (Some(beginning), Some(error)) => error.starts_with(beginning),
        _ => expected == error,
    }
}

fn recorded_body(attempt: &Value) -> &str {
    attempt["response_body"].as_str().unwrap_or_default()
}

/// Whether an attempt took and kept no more than it may. Each character stands for at least a byte of the answer.
fn is_bounded(attempt: &Value) -> bool {
    let duration_ms = attempt["duration_ms"].as_u64().expect("a duration");
    duration_ms <= MAX_DURATION_MS && recorded_body(attempt).len() <= MAX_RECORDED_BODY_BYTES
}

/// Whether the next attempt comes so long after this one, or none comes.
fn waits(seconds: Option<u64>, delivery: &Value, attempt: &Value) -> bool {
    let time = |value: &Value| value.as_str().map(|time| time.parse::<Timestamp>().expect("a time"));
    let (started_at, next_at) = (time(&attempt["started_at"]).expect("a begin"), time(&delivery["next_attempt_at"]));
    match (seconds.map(Duration::from_secs), next_at.map(|next_at| next_at.since(started_at))) {
        (Some(expected), Some(wait)) => {
            (expected..=expected.mul_f64(1.0 + JITTER) + Duration::from_millis(MAX_DURATION_MS)).contains(&wait)
        }
        (expected, wait) => expected == wait,
    }
}

async fn has_no_more_open(files: usize, server: &Server) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    while server.open_files() > files {
        looks.tick().await;
    }
}

/// Sends an event, whose webhook arrives as if there were nobody else.
async fn arrives_promptly(event: &str, client: &Client, receiver: &mut Receiver) {
    assert_eq!(client.event(json!({"n": event})).await.expect("an answer"), StatusCode::ACCEPTED);
    let arrived = tokio::time::timeout(PROMPTLY, receiver.next()).await;
    arrived.unwrap_or_else(|_| panic!("the webhook of {event} takes longer than {PROMPTLY:?}"));
}
