//! Where webhooks arrive: answers 204 at once and notes in a [`Journal`] when which number came.

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
use crate::template::NUMBER;

/// A receiver in this process, on a port of its own. It ends when it is dropped.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

/// When which number came first. What comes again is not counted twice.
pub(crate) struct Journal {
    first: u64,
    arrivals: Vec<OnceLock<Instant>>,
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
    journal: RwLock<Arc<Journal>>,
}

impl Receiver {
    /// Starts to listen.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { journal: RwLock::new(Arc::new(Journal::new(0..0))) });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, _accepting: accepting })
    }

    /// The URL that webhooks go to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on, notes only what has a number of the range.
    pub(crate) fn expect(&self, numbers: Range<u64>) -> Arc<Journal> {
        let journal = Arc::new(Journal::new(numbers));
        *self.shared.journal.write().unwrap_or_else(PoisonError::into_inner) = journal.clone();
        journal
    }
}

impl Journal {
    fn new(numbers: Range<u64>) -> Self {
        Self {
            first: numbers.start,
            missing: AtomicU64::new(numbers.end - numbers.start),
            arrivals: numbers.map(|_| OnceLock::new()).collect(),
            complete: Notify::new(),
            shape: OnceLock::new(),
        }
    }

    /// Waits until every number has come. For one waiter.
    pub(crate) async fn complete(&self, limit: Duration) -> Result<()> {
        if tokio::time::timeout(limit, self.complete.notified()).await.is_ok() {
            return Ok(());
        }
        let what =
            format!("the arrival of the last {} of {} webhooks", self.missing.load(Ordering::Acquire), self.arrivals.len());
        Err(Failure::TooLong { what, limit })
    }

    /// When a number came first.
    pub(crate) fn arrival(&self, number: u64) -> Option<Instant> {
        self.slot(number)?.get().copied()
    }

    /// How large the first of them was.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.shape.get().copied()
    }

    fn slot(&self, number: u64) -> Option<&OnceLock<Instant>> {
        self.arrivals.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn note(&self, number: u64, shape: Shape, now: Instant) {
        let first_time = self.slot(number).is_some_and(|slot| slot.set(now).is_ok());
        if !first_time {
            return;
        }
        self.shape.get_or_init(|| shape);
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete.notify_one();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves a connection until the other side ends it, in whatever way.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| receive(request, &shared));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn receive(request: Request<Incoming>, shared: &Shared) -> Result<Response<Empty<Bytes>>, Infallible> {
    let headers = request.headers().len();
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    match request.into_body().collect().await {
        Ok(body) => {
            let (body, now) = (body.to_bytes(), Instant::now());
            let journal = shared.journal.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(number) = number_of(&body) {
                journal.note(number, Shape { body_bytes: body.len(), headers }, now);
            }
        }
        Err(_) => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(answer)
}

/// The property `seq` that the event had.
fn number_of(body: &[u8]) -> Option<u64> {
    let (_, rest) = str::from_utf8(body).ok()?.split_once(r#""seq":""#)?;
    rest.get(..NUMBER.len())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_of_payloads() {
        assert_eq!(number_of(br#"{"data":{"props":{"seq":"0000000042"},"revenue":null}}"#), Some(42));
        for bad in [r#"{"data":{"props":{}}}"#, r#"{"seq":"12"}"#, r#"{"seq":"abcdefghij"}"#] {
            assert_eq!(number_of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_journal_is_complete_when_each_number_has_come() {
        let journal = Journal::new(5..7);
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
}
