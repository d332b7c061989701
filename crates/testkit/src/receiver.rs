//! A receiver of webhooks that can misbehave.
//!
//! A [`Receiver`] records each request when it has arrived whole, and then does what its script says. It speaks HTTP by itself,
//! since no library can be talked into breaking the protocol. Waiting for a request is waiting for the request itself. A payload that
//! is not as its schema has it fails the test, whether or not that looks at it.

mod connection;

use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::payload::faults;
use connection::{Identity, serve};

/// A test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a free port of 127.0.0.1, which ends when this is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    root_pem: Option<String>,
    requests: mpsc::UnboundedReceiver<Received>,
    shared: Shared,
    _end: DropGuard,
}

/// A request that arrived whole.
#[derive(Clone, Debug)]
pub struct Received {
    /// As in `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The status code that it is answered with, unless the receiver misbehaves.
    pub answered: Option<u16>,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// It is answered.
    Answer(Answer),
    /// It is answered as whoever serves it says.
    Serve(Responder),
    /// It is never answered.
    Hang,
    /// The connection is reset.
    Reset,
    /// The connection is closed.
    Close,
    /// The connection is closed in the middle of the answer's head.
    HalfAHead,
    /// The connection is closed in the middle of the body of a 200.
    HalfABody,
    /// The answer is no HTTP.
    Gibberish,
    /// The answer is a body without a head, as in HTTP/0.9.
    BodyWithoutHead,
    /// The head of the answer never ends.
    EndlessHead,
    /// The head of the answer comes a byte at a time, and never ends.
    DrippingHead,
    /// The sender is told to go on, over and over, and never answered.
    EndlessContinue,
    /// A 200 whose body never ends.
    EndlessBody,
    /// A 200 whose body comes a byte at a time, and never ends.
    DrippingBody,
    /// A 200 whose chunk bears an extension that never ends.
    EndlessExtension,
    /// A 200 whose trailers never end.
    EndlessTrailers,
    /// A 200 whose body stops after so many bytes, although more are announced.
    StallAfter(usize),
}

/// Says what is answered to a request.
#[derive(Clone)]
pub struct Responder(Arc<dyn Fn(&Received) -> Answer + Send + Sync>);

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers, beside `Content-Length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What the receiver shares with its connections.
#[derive(Clone, Debug)]
struct Shared {
    script: Arc<Mutex<Script>>,
    requests: mpsc::UnboundedSender<Received>,
    held: watch::Sender<bool>,
}

#[derive(Debug)]
struct Script {
    next: VecDeque<Behaviour>,
    then: Behaviour,
}

impl Responder {
    /// One that does what `respond` does.
    pub fn new(respond: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(respond))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

impl Behaviour {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer) => Some(answer.status),
            _ => None,
        }
    }
}

impl From<u16> for Behaviour {
    fn from(status: u16) -> Self {
        Answer { status, ..Answer::default() }.into()
    }
}

impl From<Answer> for Behaviour {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Answer {
    /// An answer with one header.
    pub fn with(status: u16, name: &'static str, value: impl Into<String>) -> Self {
        Self { status, headers: vec![(name, value.into())], body: Vec::new() }
    }
}

impl Received {
    /// A header's value; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Receiver {
    /// One that speaks `http`, and answers 200 until told otherwise.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// One that speaks `https`, with a certificate for `localhost` and 127.0.0.1 that only [`Receiver::root_pem`] vouches for.
    pub async fn start_tls() -> Self {
        Self::listen(Some(Identity::new())).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, by its address.
    pub fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// Its URL, by a name that a resolver knows.
    pub fn url_at(&self, host: &str) -> String {
        let scheme = if self.root_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{host}:{}/hook?from=bellwether", self.address.port())
    }

    /// The root of its certificate.
    pub fn root_pem(&self) -> Option<&str> {
        self.root_pem.as_deref()
    }

    /// What is done with every request from now on.
    pub fn behave(&self, behaviour: impl Into<Behaviour>) {
        let mut script = self.shared.script();
        script.next.clear();
        script.then = behaviour.into();
    }

    /// What is done with the next requests, one after the other, before going on as before.
    pub fn behave_next<B: Into<Behaviour>>(&self, behaviours: impl IntoIterator<Item = B>) {
        self.shared.script().next.extend(behaviours.into_iter().map(Into::into));
    }

    /// Lets requests arrive, but does nothing with them until [`Receiver::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Goes on with what was held.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Waits for the next request.
    #[expect(clippy::expect_used, reason = "the test has failed")]
    pub async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(PATIENCE, self.requests.recv()).await;
        checked(next.expect("a request, but none came").expect("a receiver that runs"))
    }

    /// Waits for so many requests.
    pub async fn received(&mut self, count: usize) -> Vec<Received> {
        let mut received = Vec::with_capacity(count);
        while received.len() < count {
            received.push(self.next().await);
        }
        received
    }

    /// What has arrived, without waiting for more.
    pub fn so_far(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).map(checked).collect()
    }

    #[expect(clippy::expect_used, reason = "a test without a port cannot go on")]
    async fn listen(identity: Option<Identity>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its number");
        let (sender, requests) = mpsc::unbounded_channel();
        let script = Script { next: VecDeque::new(), then: 200.into() };
        let shared = Shared { script: Arc::new(Mutex::new(script)), requests: sender, held: watch::Sender::new(false) };
        let root_pem = identity.as_ref().map(|identity| identity.root_pem.clone());
        let end = CancellationToken::new();
        TaskTracker::new().spawn(accept(listener, identity, shared.clone(), end.clone()));
        Self { address, root_pem, requests, shared, _end: end.drop_guard() }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.so_far();
        }
    }
}

/// A request whose payload, if it brings one, is as its schema has it.
fn checked(request: Received) -> Received {
    let faults = faults(&request);
    assert!(faults.is_empty(), "{faults:#?}\n{}", String::from_utf8_lossy(&request.body));
    request
}

impl Shared {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a request, and says what is done with it, once nothing is held.
    async fn take(&self, mut request: Received) -> Behaviour {
        let behaviour = {
            let mut script = self.script();
            match script.next.pop_front().unwrap_or_else(|| script.then.clone()) {
                Behaviour::Serve(Responder(respond)) => Behaviour::Answer(respond(&request)),
                behaviour => behaviour,
            }
        };
        request.answered = behaviour.status();
        // Nobody listens any more when the test is over.
        let _ = self.requests.send(request);
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        behaviour
    }
}

/// Until `end`, at which the connections end too.
async fn accept(listener: TcpListener, identity: Option<Identity>, shared: Shared, end: CancellationToken) {
    let tasks = TaskTracker::new();
    while let Some(Ok((stream, _))) = end.run_until_cancelled(listener.accept()).await {
        let acceptor = identity.as_ref().map(|identity| identity.acceptor.clone());
        let serving = serve(stream, acceptor, shared.clone());
        // A connection that ends early is what the test wants to see.
        tasks.spawn(end.clone().run_until_cancelled_owned(async move { serving.await.ok() }));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn connections_end_when_the_receiver_is_dropped() {
        let mut receiver = Receiver::start().await;
        receiver.behave(Behaviour::Hang);
        let mut stream = TcpStream::connect(receiver.address).await.expect("a connection");
        stream.write_all(b"POST /a HTTP/1.1\r\nContent-Length: 2\r\nX-A: b\r\n\r\n{}").await.expect("a request");
        let request = receiver.next().await;
        assert_eq!((request.path.as_str(), request.header("x-a"), &request.body[..]), ("/a", "b", &b"{}"[..]));
        drop(receiver);
        assert_eq!(stream.read(&mut [0]).await.expect("an end"), 0);
    }
}
