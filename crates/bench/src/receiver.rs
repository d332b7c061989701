//! Where webhooks arrive: endpoints that answer 204 and note in a [`Journal`] when which delivery came, or behave badly.
//!
//! Each endpoint has a port of its own, since clients keep connections by host and port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::failure::{Failure, Result};
use crate::layout::Layout;
use crate::template::NUMBER;

/// Endpoints in this process. They end when it is dropped.
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

/// What an endpoint does with requests that it has read.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Answers 204 at once.
    Prompt,
    /// Answers 204 after this time. What is given up before did not come.
    Late(Duration),
    /// Answers 500 at once, as if nothing came.
    Refusing,
}

/// When which delivery came first. What comes again is not counted twice.
pub(crate) struct Journal {
    first: u64,
    /// None where nothing is expected.
    arrivals: Vec<Option<OnceLock<Instant>>>,
    expected: u64,
    missing: AtomicU64,
    complete: Notify,
    shape: OnceLock<Shape>,
}

/// How large a webhook is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Bytes of its body.
    pub(crate) body_bytes: usize,
    /// Headers, those of HTTP itself included.
    pub(crate) headers: usize,
}

struct Shared {
    layout: Layout,
    journal: RwLock<Arc<Journal>>,
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    address: SocketAddr,
    manner: RwLock<Manner>,
    requests: AtomicU64,
}

impl Receiver {
    /// Starts to listen, as the endpoints of a layout, all of them prompt.
    pub(crate) async fn start(layout: Layout) -> Result<Self> {
        let mut listeners = Vec::new();
        let mut endpoints = Vec::new();
        for _ in 0..layout.endpoints() {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            endpoints.push(Endpoint::new(listener.local_addr()?));
            listeners.push(listener);
        }
        let journal = RwLock::new(Arc::new(Journal::new(0..0, |_| false)));
        let shared = Arc::new(Shared { layout, journal, endpoints });
        let mut accepting = JoinSet::new();
        for (endpoint, listener) in listeners.into_iter().enumerate() {
            accepting.spawn(accept(listener, shared.clone(), endpoint));
        }
        Ok(Self { shared, _accepting: accepting })
    }

    /// The URL of an endpoint.
    pub(crate) fn url(&self, endpoint: usize) -> String {
        format!("http://{}/hook", self.shared.endpoints[endpoint].address)
    }

    /// From now on, each endpoint treats new requests in the manner that `of` says.
    pub(crate) fn behave(&self, of: impl Fn(usize) -> Manner) {
        for (number, endpoint) in self.shared.endpoints.iter().enumerate() {
            *endpoint.manner.write().unwrap_or_else(PoisonError::into_inner) = of(number);
        }
    }

    /// How many requests an endpoint has read so far.
    pub(crate) fn requests(&self, endpoint: usize) -> u64 {
        self.shared.endpoints[endpoint].requests.load(Ordering::Relaxed)
    }

    /// From now on, notes only deliveries of events with a number of the range.
    pub(crate) fn expect(&self, numbers: Range<u64>) -> Arc<Journal> {
        self.expect_where(numbers, |_| true)
    }

    /// From now on, notes only deliveries of events with a number of the range, and only those that `is_expected` says.
    pub(crate) fn expect_where(&self, numbers: Range<u64>, is_expected: impl Fn(u64) -> bool) -> Arc<Journal> {
        let journal = Arc::new(Journal::new(self.shared.layout.deliveries(numbers), is_expected));
        *self.shared.journal.write().unwrap_or_else(PoisonError::into_inner) = journal.clone();
        journal
    }
}

impl Journal {
    fn new(deliveries: Range<u64>, is_expected: impl Fn(u64) -> bool) -> Self {
        let first = deliveries.start;
        let arrivals: Vec<_> = deliveries.map(|delivery| is_expected(delivery).then(OnceLock::new)).collect();
        let expected = arrivals.iter().flatten().count() as u64;
        let (complete, shape) = (Notify::new(), OnceLock::new());
        Self { first, arrivals, expected, missing: AtomicU64::new(expected), complete, shape }
    }

    /// Waits until everything that is expected has come. For one waiter.
    pub(crate) async fn complete(&self, limit: Duration) -> Result<()> {
        if tokio::time::timeout(limit, self.complete.notified()).await.is_ok() {
            return Ok(());
        }
        let what = format!("the arrival of the last {} of {} webhooks", self.missing.load(Ordering::Acquire), self.expected);
        Err(Failure::TooLong { what, limit })
    }

    /// How many deliveries are expected in all.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// When a delivery came first.
    pub(crate) fn arrival(&self, delivery: u64) -> Option<Instant> {
        self.slot(delivery)?.get().copied()
    }

    /// How long a delivery took from `sent` on.
    pub(crate) fn time_to(&self, delivery: u64, sent: Instant) -> Result<Duration> {
        let arrival = self.arrival(delivery).ok_or_else(|| Failure::Void(format!("delivery {delivery} did not arrive")))?;
        Ok(arrival.saturating_duration_since(sent))
    }

    /// When the first and the last delivery came.
    pub(crate) fn span(&self) -> Result<(Instant, Instant)> {
        let arrivals = || self.arrivals.iter().flatten().filter_map(OnceLock::get).copied();
        arrivals().min().zip(arrivals().max()).ok_or_else(|| Failure::Void("no webhook came".to_owned()))
    }

    /// How large the first of them was.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.shape.get().copied()
    }

    fn slot(&self, delivery: u64) -> Option<&OnceLock<Instant>> {
        self.arrivals.get(usize::try_from(delivery.checked_sub(self.first)?).ok()?)?.as_ref()
    }

    fn note(&self, delivery: u64, shape: Shape, now: Instant) {
        let first_time = self.slot(delivery).is_some_and(|slot| slot.set(now).is_ok());
        if !first_time {
            return;
        }
        self.shape.get_or_init(|| shape);
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete.notify_one();
        }
    }
}

impl Endpoint {
    fn new(address: SocketAddr) -> Self {
        Self { address, manner: RwLock::new(Manner::Prompt), requests: AtomicU64::new(0) }
    }
}

impl Shared {
    /// Treats a webhook in the endpoint's manner, and answers with which status.
    async fn take(&self, endpoint: usize, body: &[u8], headers: usize) -> StatusCode {
        // The one of the time when it came: what is late does not reach into another measurement.
        let journal = self.journal.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Endpoint { manner, requests, .. } = &self.endpoints[endpoint];
        requests.fetch_add(1, Ordering::Relaxed);
        let manner = *manner.read().unwrap_or_else(PoisonError::into_inner);
        match manner {
            Manner::Prompt => {}
            Manner::Late(time) => tokio::time::sleep(time).await,
            Manner::Refusing => return StatusCode::INTERNAL_SERVER_ERROR,
        }
        let now = Instant::now();
        for delivery in numbers_of(body).filter_map(|number| self.layout.delivery(number, endpoint)) {
            journal.note(delivery, Shape { body_bytes: body.len(), headers }, now);
        }
        StatusCode::NO_CONTENT
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, endpoint: usize) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, shared.clone(), endpoint));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves a connection until the other side ends it, in whatever way.
async fn serve(stream: TcpStream, shared: Arc<Shared>, endpoint: usize) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| receive(request, &shared, endpoint));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn receive(request: Request<Incoming>, shared: &Shared, endpoint: usize) -> Result<Response<Empty<Bytes>>, Infallible> {
    let headers = request.headers().len();
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = match request.into_body().collect().await {
        Ok(body) => shared.take(endpoint, &body.to_bytes(), headers).await,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    Ok(answer)
}

/// The property `seq` that the event had, or each of those in a batch.
fn numbers_of(body: &[u8]) -> impl Iterator<Item = u64> {
    let rests = str::from_utf8(body).unwrap_or_default().split(r#""seq":""#).skip(1);
    rests.filter_map(|rest| rest.get(..NUMBER.len())?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[test]
    fn numbers_come_out_of_payloads() {
        let numbers = |body: &str| numbers_of(body.as_bytes()).collect::<Vec<_>>();
        assert_eq!(numbers(r#"{"data":{"props":{"seq":"0000000042"},"revenue":null}}"#), [42]);
        assert_eq!(numbers(r#"{"events":[{"seq":"0000000042"},{"seq":"0000000007"}]}"#), [42, 7]);
        for bad in [r#"{"data":{"props":{}}}"#, r#"{"seq":"12"}"#, r#"{"seq":"abcdefghij"}"#] {
            assert_eq!(numbers(bad), [0; 0], "{bad}");
        }
    }

    #[tokio::test]
    async fn a_journal_is_complete_when_each_number_has_come() {
        let journal = Journal::new(5..7, |_| true);
        let shape = Shape { body_bytes: 9, headers: 3 };
        let start = Instant::now();
        for (number, after_ms) in [(5, 1), (5, 2), (4, 3), (7, 4)] {
            journal.note(number, shape, start + Duration::from_millis(after_ms));
        }
        assert!(matches!(journal.complete(Duration::from_millis(1)).await, Err(Failure::TooLong { .. })));
        journal.note(6, shape, start);
        assert!(journal.complete(Duration::from_secs(1)).await.is_ok());
        assert_eq!(journal.arrival(5), Some(start + Duration::from_millis(1)));
        assert_eq!((journal.arrival(4), journal.arrival(7), journal.shape()), (None, None, Some(shape)));
    }

    #[tokio::test]
    async fn a_journal_is_complete_without_what_is_not_expected() {
        let journal = Journal::new(5..8, |delivery| delivery != 6);
        let shape = Shape { body_bytes: 9, headers: 3 };
        let start = Instant::now();
        assert!(journal.span().is_err());
        for (delivery, after_ms) in [(7, 4), (6, 9), (5, 2)] {
            journal.note(delivery, shape, start + Duration::from_millis(after_ms));
        }
        assert!(journal.complete(Duration::from_secs(1)).await.is_ok());
        let (first, last) = journal.span().expect("arrivals");
        assert_eq!((journal.expected(), journal.arrival(6), last - first), (2, None, Duration::from_millis(2)));
        assert_eq!(journal.time_to(7, start).expect("an arrival"), Duration::from_millis(4));
        assert!(journal.time_to(6, start).is_err());
    }

    #[tokio::test]
    async fn endpoints_behave_as_they_are_told() {
        let receiver = Receiver::start(Layout { sites: 3, webhooks_per_site: 1 }).await.expect("a receiver");
        receiver.behave(|endpoint| [Manner::Prompt, Manner::Late(Duration::from_secs(3_600)), Manner::Refusing][endpoint]);
        let journal = receiver.expect(0..3);
        let take = |endpoint: usize| {
            let body = format!(r#"{{"seq":"{endpoint:010}"}}"#);
            let shared = receiver.shared.clone();
            async move { shared.take(endpoint, body.as_bytes(), 3).await }
        };
        assert_eq!(take(0).await, StatusCode::NO_CONTENT);
        assert!(tokio::time::timeout(Duration::from_millis(10), take(1)).await.is_err());
        assert_eq!(take(2).await, StatusCode::INTERNAL_SERVER_ERROR);
        let arrivals = [0, 1, 2].map(|delivery| journal.arrival(delivery).is_some());
        assert_eq!((arrivals, [0, 1, 2].map(|endpoint| receiver.requests(endpoint))), ([true, false, false], [1, 1, 1]));
    }

    #[tokio::test]
    async fn what_is_late_belongs_to_the_journal_of_when_it_came() {
        let receiver = Receiver::start(Layout::SINGLE).await.expect("a receiver");
        receiver.behave(|_| Manner::Late(Duration::from_millis(5)));
        let before = receiver.expect(0..1);
        let mut late = pin!(receiver.shared.take(0, br#"{"seq":"0000000000"}"#, 3));
        assert!(poll_fn(|context| Poll::Ready(late.as_mut().poll(context).is_pending())).await);
        let after = receiver.expect(0..1);
        late.await;
        assert!(before.arrival(0).is_some() && after.arrival(0).is_none());
    }
}
